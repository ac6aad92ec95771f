"""Two wells and a barrier of energy: the standard test of activated crossing."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from scipy.special import ive
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.potentials.expression.quadrature import Array, average
from landscape.potentials.toys._closed_forms import (
    Law,
    Toy,
    check_positive,
    of_temperature,
    one_temperature,
    passage,
    per_temperature,
)
from landscape.potentials.toys.first_passage import mean_first_passage_time
from landscape.potentials.toys.kramers import energy_diffusion, spatial_diffusion, turnover

__all__ = ["DoubleWell"]


@guarded_class
class DoubleWell(Toy):
    """Double well V(x) = height ((x/width)^2 - 1)^2.

    Minima at -width and width with V = 0 and V'' = 8 height/width^2, barrier `height` at 0. With A = height/(2T) and
    modified Bessel functions I,

        Z = (pi/2) width exp(-A) [I_{1/4}(A) + I_{-1/4}(A)],
        <V>/height + <x^2>/width^2 = 1 + T/(4 height);

    the moments themselves are quadratures, good to about 1e-12.

    Parameters
    ----------
    height : float, optional
        Barrier, > 0.
    width : float, optional
        Distance of the minima from the barrier, > 0.

    Raises
    ------
    ConfigError
        If one of them is not positive.

    Notes
    -----
    Runs start in the left well, x = -width.

    Examples
    --------
    >>> well = DoubleWell()
    >>> round(well.mean_energy(0.25) + well.mean_square(0.25), 12)
    1.0625
    >>> round(well.mean_first_passage_time(-1.0, 0.0, temperature=0.25), 6)
    33.945744
    """

    def __init__(self, height: float = 1.0, width: float = 1.0) -> None:
        check_positive("DoubleWell", height=height, width=width)
        self.height, self.width = float(height), float(width)
        super().__init__("height*((x/width)**2 - 1)**2", ["x"], {"height": self.height, "width": self.width})

    def _average(self, temperature: float, observables: Any) -> tuple[float, Array]:
        """Over u = x/width, V/height and T/height: one law for every height and width."""
        t = temperature / self.height
        return average(lambda u: -((u - 1.0) ** 2) * (u + 1.0) ** 2 / t, observables, points=[-1.0, 0.0, 1.0])

    def _law(self, temperature: float) -> Law:
        half = 0.5 * self.height / temperature
        # Scaled Bessel functions: exp(-A) I(A) at any temperature.
        z = 0.5 * math.pi * self.width * float(ive(0.25, half) + ive(-0.25, half))

        def moments(u: Array) -> list[Array]:
            energy = (u - 1.0) ** 2 * (u + 1.0) ** 2
            return [energy, energy**2]

        _, (mean, square) = self._average(temperature, moments)
        return Law(
            log_partition=math.log(z),
            mean=self.height * float(mean),
            variance=self.height**2 * float(square - mean**2),
        )

    def _curvature(self, temperature: float) -> float:
        _, (bend,) = self._average(temperature, lambda u: [3.0 * u**2 - 1.0])
        return 4.0 * self.height / self.width**2 * float(bend)

    @of_temperature
    def mean_square(self, temperature: Any) -> Any:
        """Boltzmann average <x^2>.

        Examples
        --------
        >>> round(DoubleWell().mean_square(1.0), 10)
        0.8327454871
        """
        return per_temperature(lambda t: self.width**2 * float(self._average(t, lambda u: [u**2])[1][0]), temperature)

    @passage
    def mean_first_passage_time(self, start: float, target: float, temperature: float) -> float:
        """Mean time to reach `target` from `start` in dx = -V' dt + sqrt(2T) dW.

        For start < target, and mirrored otherwise,

            tau = (1/T) int_{start}^{target} dy exp(V(y)/T) int_{-inf}^y dz exp(-V(z)/T).

        For T << height, tau(-width -> width) is near Kramers' pi width^2 exp(height/T) / (2 sqrt(2) height).

        Examples
        --------
        >>> round(DoubleWell().mean_first_passage_time(-1.0, 1.0, temperature=1.0), 8)
        3.56943416
        """
        t = one_temperature(temperature)
        return mean_first_passage_time(
            self._line, float(start), float(target), temperature=t, points=[-self.width, 0.0, self.width]
        )

    def kramers_rate(
        self,
        temperature: float,
        friction: float | None = None,
        *,
        regime: Literal["turnover", "spatial", "energy"] = "turnover",
    ) -> float:
        r"""Rate from one well to the other to leading order in T/height.

        Overdamped, dx = -V' dt + sqrt(2T) dW, with w_0^2 = 8 height/width^2 and w_b^2 = 4 height/width^2,

            k = w_0 w_b / (2 pi) exp(-height/T);

        with a friction that of unit mass, the orbit at the barrier having the action S = (8/3) width sqrt(height).

        Parameters
        ----------
        temperature : float
        friction : float, optional
            Of dx = p dt, dp = -V' dt - friction p dt + sqrt(2 friction T) dW; left out, the motion is overdamped.
        regime : {"turnover", "spatial", "energy"}
            Mel'nikov's and Meshkov's expression, which holds at any friction; Kramers' at high; and his at low
            friction, k = (friction S/T) w_0/(4 pi) exp(-height/T), half of those that cross coming back.

        Returns
        -------
        float
            Per unit of time; half the slowest rate of relaxation.

        Raises
        ------
        ConfigError

        Examples
        --------
        >>> well = DoubleWell()
        >>> round(well.kramers_rate(0.25), 9)
        0.016489869
        >>> round(1e4 * well.kramers_rate(0.25, friction=1e4), 5)
        0.01649
        >>> [round(well.kramers_rate(0.25, friction=g), 5) for g in (0.01, 0.5, 20.0)]
        [0.00037, 0.00591, 0.00082]
        """
        t = one_temperature(temperature)
        well, barrier = math.sqrt(8.0 * self.height) / self.width, math.sqrt(4.0 * self.height) / self.width
        action = 8.0 / 3.0 * self.width * math.sqrt(self.height)
        if regime not in ("turnover", "spatial", "energy"):
            raise ConfigError(f'regime must be "turnover", "spatial" or "energy", got {regime!r}')
        if friction is None:
            if regime == "energy":
                raise ConfigError('regime="energy" is one of low friction: give a friction')
            return well * barrier / (2.0 * math.pi) * math.exp(-self.height / t)
        if regime == "spatial":
            return spatial_diffusion(self.height, well, barrier, t, friction)
        if regime == "energy":
            return 0.5 * energy_diffusion(self.height, well, action, t, friction)
        return turnover(self.height, well, barrier, action, t, friction)

    def _density(self, values: Array, temperature: float) -> Array:
        return np.exp(-self._line(values) / temperature - self._law(temperature).log_partition)

    def _effective(self, values: Array, temperature: float) -> Array:
        return self._line(values)

    def default_start(self) -> Tensor:
        """The left minimum, x = -width."""
        return self._rows([-self.width])[0]

    def minima(self) -> Tensor:
        """-width and width, shape ``(2, 1)``."""
        return self._rows([-self.width, self.width])

    def saddles(self) -> Tensor:
        """The top of the barrier, x = 0, shape ``(1, 1)``."""
        return self._rows([0.0])
