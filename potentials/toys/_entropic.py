"""Stiff directions whose stiffness varies along a slow coordinate: the entropic force in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import sympy
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import ConfigError, FormulaError
from landscape.potentials.base import Bounds
from landscape.potentials.expression.potential import Expression
from landscape.potentials.expression.quadrature import Array, average, truncated_gaussian
from landscape.potentials.toys._closed_forms import Law, Toy, one_temperature, passage, per_temperature, symbol
from landscape.potentials.toys.first_passage import mean_first_passage_time

__all__ = ["EntropicToy", "check_profile"]


class EntropicToy(Toy):
    """V = 1/2 g(y) sum_i x_i^2 + 1/2 kappa y^2 with n stiff coordinates x_i and a slow one, y, the last.

    Given y the x_i are Gaussian with variance T/g(y), whatever the ratio of time scales, so that

        P(y) ~ g(y)^(-n/2) exp(-kappa y^2 / 2T),      V_eff(y) = (n T/2) ln g(y) + 1/2 kappa y^2.

    A boundary across x_i multiplies P(y) by the Gaussian mass between the boundaries; all closed forms include it.
    """

    slow_coordinate: ClassVar[str | None] = "y"
    profile: Expression

    def _build(self, profile: Expression, stiff: Sequence[str], confinement: float, bounds: Bounds | None) -> None:
        """Set up energy and boundaries from g(y)."""
        self.profile = profile
        self.stiff = len(stiff)
        square = sum(symbol(name) ** 2 for name in stiff)
        energy = profile.expression * square / 2
        parameters = dict(profile.parameters)
        if confinement:
            energy += symbol("confinement") * symbol("y") ** 2 / 2
            parameters["confinement"] = confinement
        Expression.__init__(self, energy, [*stiff, "y"], parameters, bounds)
        check_profile(profile, *self._interval)
        # Symbolic, so that ln exp(-y) stays -y where exp(-y) underflows.
        log_profile = sympy.expand_log(sympy.log(profile.expression))  # type: ignore[no-untyped-call]
        self._log_profile = Expression(log_profile, profile.coordinates or (), profile.parameters)

    @property
    def confinement(self) -> float:
        """Stiffness kappa of the spring along y."""
        return self.parameters.get("confinement", 0.0)

    @property
    def _interval(self) -> tuple[float, float]:
        return self.bounds.get("y", (-math.inf, math.inf))

    def _g(self, y: Array) -> Array:
        g: Array = self.profile.energy(y[:, None])
        return g

    def _stiff_moments(self, y: Array, temperature: float) -> tuple[Array, Array, Array]:
        """Summed over x_i given y: ln of the mass between boundaries, <g x^2 / T>, and the variance of g x^2 / T."""
        scale = np.sqrt(self._g(y) / temperature)
        log_mass, second, spread = (np.zeros_like(y) for _ in range(3))
        for name in (self.coordinates or ())[:-1]:
            low, high = self.bounds.get(name, (-math.inf, math.inf))
            if math.isinf(low) and math.isinf(high):
                second += 1.0
                spread += 2.0
                continue
            mass, m2, m4 = truncated_gaussian(low * scale, high * scale)
            log_mass += mass
            second += m2
            spread += m4 - m2**2
        return log_mass, second, spread

    def _log_weight(self, y: Array, temperature: float) -> Array:
        """ln P(y) up to a constant; with (2 pi T)^(n/2) it integrates to Z."""
        log_weight = -0.5 * self.stiff * self._log_profile.energy(y[:, None])
        if self.confinement:
            # Where g has underflowed the spring has long won.
            log_weight = np.where(log_weight == np.inf, -np.inf, log_weight)
            log_weight = log_weight - 0.5 * self.confinement / temperature * y**2
        if len(self.bounds) > ("y" in self.bounds):
            log_weight = log_weight + self._stiff_moments(y, temperature)[0]
        result: Array = log_weight
        return result

    def _average(self, temperature: float, observables: Any = None) -> tuple[float, Array]:
        low, high = self._interval
        weight = partial(self._log_weight, temperature=temperature)
        return average(weight, observables, low=low, high=high, points=[min(max(0.0, low), high)])

    def _law(self, temperature: float) -> Law:
        def along(y: Array) -> tuple[Array, Array]:
            _, second, spread = self._stiff_moments(y, temperature)
            energy = 0.5 * temperature * second + 0.5 * self.confinement * y**2
            return energy, 0.25 * temperature**2 * spread

        log_norm, (mean, within) = self._average(temperature, along)
        # A second pass about the mean: no cancellation where the mean exceeds the spread.
        _, (between,) = self._average(temperature, lambda y: [(along(y)[0] - mean) ** 2])
        return Law(self._log_partition(log_norm, temperature), float(mean), float(within + between))

    def _log_partition(self, log_norm: float, temperature: float) -> float:
        return log_norm + 0.5 * self.stiff * math.log(2.0 * math.pi * temperature)

    def _curvature(self, temperature: float) -> float:
        def trace(y: Array) -> list[Array]:
            second = self._stiff_moments(y, temperature)[1]
            bend: Array = self.profile.hessian(y[:, None])[:, 0, 0]
            g = self._g(y)
            return [self.stiff * g + self.confinement + 0.5 * temperature * second * bend / g]

        return float(self._average(temperature, trace)[1][0])

    def log_partition_function(self, temperature: Any) -> Any:
        """ln Z = (n/2) ln(2 pi T) + ln of the integral of g^(-n/2) exp(-kappa y^2 / 2T) over y.

        Raises
        ------
        ConfigError
            If the integral over y does not converge: give boundaries or a confinement.
        """
        return per_temperature(lambda t: self._log_partition(self._average(t)[0], t), temperature)

    def _inside(self, y: Array) -> NDArray[np.bool_]:
        low, high = self._interval
        inside: NDArray[np.bool_] = (y >= low) & (y <= high)
        return inside

    def _density(self, values: Array, temperature: float) -> Array:
        log_norm, _ = self._average(temperature)
        with np.errstate(invalid="ignore", divide="ignore"):
            density = np.exp(self._log_weight(values, temperature) - log_norm)
        return np.where(np.isnan(values) | self._inside(values), density, 0.0)

    def _effective(self, values: Array, temperature: float) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            free_energy = -temperature * self._log_weight(values, temperature)
        return np.where(np.isnan(values) | self._inside(values), free_energy, np.inf)

    @passage
    def mean_first_passage_time(self, start: float, target: float, temperature: float) -> float:
        """Mean time for y to get from `start` to `target`, in the limit where the x_i relax at once.

        The reduced motion dy = -V_eff' dt + sqrt(2T) dW, reflected at the boundaries of y:

            tau = (1/T) int dy exp(V_eff(y)/T) int dz exp(-V_eff(z)/T).

        Without confinement T tau depends on g alone. The motion in all coordinates takes longer by a term of order T.

        Raises
        ------
        ConfigError
            If a value is outside the boundaries, or the law of y has no integral beyond `start`.
        """
        t = one_temperature(temperature)
        low, high = self._interval
        return mean_first_passage_time(
            lambda y: self._effective(y, t), float(start), float(target), temperature=t, low=low, high=high
        )

    def default_start(self) -> Tensor:
        """The origin, or the nearest point inside the boundaries: the minimum where there is a confinement."""
        walls = (self.bounds.get(name, (-math.inf, math.inf)) for name in self.coordinates or ())
        return self._rows([min(max(0.0, low), high) for low, high in walls])[0]

    def minima(self) -> Tensor:
        """The origin, shape ``(1, dim)``.

        Raises
        ------
        NotImplementedError
            Without confinement every point of the valley floor is a minimum; with boundaries that exclude the origin
            the lowest point lies on a boundary.
        """
        if not self.confinement:
            raise NotImplementedError(f"{type(self).__name__} has a line of minima, x = 0 at any y; none is isolated")
        if self.default_start().any():
            raise NotImplementedError(f"the walls {self.bounds} exclude the only stationary point, the origin")
        return self._rows(np.zeros(self.dim))

    def saddles(self) -> Tensor:
        """None: shape ``(0, dim)``."""
        return self._rows([])


def check_profile(profile: Expression, low: float, high: float, *, name: str = "g") -> None:
    """Refuse a stiffness that is not positive and finite on a scan of the interval.

    4001 points, then closer about the lowest of them; an open side is scanned over at least 10 units of length.

    Raises
    ------
    FormulaError
        Naming the first place where the stiffness is not positive.
    """
    (variable,) = profile.coordinates or ("y",)
    start = low if math.isfinite(low) else min(-10.0, high - 20.0)
    stop = high if math.isfinite(high) else max(10.0, low + 20.0)
    grid = np.linspace(start, stop, 4001)
    beside = math.inf
    for _ in range(8):
        values = np.asarray(profile.energy(grid[:, None]))
        lowest = int(np.argmin(np.where(np.isnan(values), -np.inf, values)))
        near = slice(max(lowest - 1, 0), lowest + 2)
        beside = min(beside, float(values[near].max()))
        # Beside a zero that no grid point hits, the values fall without end as the grid closes in.
        if not (np.all(np.isfinite(values)) and values[lowest] > 1e-9 * beside):
            bad = ~np.isfinite(values) | (values <= 1e-9 * beside)
            at, value = grid[bad][0], values[bad][0]
            raise FormulaError(
                f"the stiffness {name} = {profile.expression} is {value:.3g} at {variable} = {at:.6g}; it must be "
                f"positive and finite between {low} and {high}: change the formula, or keep {variable} away with bounds"
            )
        grid = np.linspace(grid[near][0], grid[near][-1], 101)


def confinement_value(confinement: Any) -> float:
    """A confinement that is a finite number and not negative."""
    try:
        value = float(confinement)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0.0):
        raise ConfigError(f"confinement must be a finite number and not negative, got {confinement!r}")
    return value
