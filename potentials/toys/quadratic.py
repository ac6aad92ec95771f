"""Independent springs: every thermal quantity in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
import torch
from scipy.special import gammaincinv
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.positions import unmasked
from landscape.errors import ConfigError
from landscape.potentials.expression.quadrature import Array
from landscape.potentials.toys._closed_forms import Law, Toy, of_temperature, per_temperature, per_value, symbol

__all__ = ["Quadratic"]


@guarded_class
class Quadratic(Toy):
    r"""Springs V(x) = 1/2 sum_i k_i x_i^2 in coordinates x0, x1, ... (x if there is one).

    With N_c the number of stiff directions (k_i > 0), the energy at temperature T follows the Gamma distribution of
    shape N_c/2 and rate 1/T, whatever the k_i:

        <V> = N_c T/2,    var V = N_c T^2/2,    C = N_c/2,    ln Z = sum_i 1/2 ln(2 pi T/k_i),

    and in overdamped dynamics its autocorrelation is (1/N_c) sum_i exp(-2 k_i |t|). Jules et al. print
    exp(-k_i |t|) in the text; the factor 2 of their supplement, S6, is the right one.

    Parameters
    ----------
    stiffness : sequence of float
        k_i >= 0, at least one positive; energy per squared length. A zero is a flat direction: the energy's law
        stays, while ln Z and what follows from it do not exist.

    Raises
    ------
    ConfigError
        If a stiffness is negative or not finite, or none is positive.

    Notes
    -----
    The slow coordinate of `marginal` is the softest one (the first of several). Gradient and Hessian-vector product
    cost one multiplication per coordinate, in any dimension.

    References
    ----------
    Jules et al. (2023), Charting the Topography of the Neural Network Landscape with Thermal-Like Noise.

    Examples
    --------
    >>> springs = Quadratic([1.0, 10.0, 100.0])
    >>> springs.energy([1.0, 1.0, 0.0])
    array(5.5)
    >>> springs.mean_energy(0.1), springs.heat_capacity(0.1), springs.mean_curvature(0.1)  # doctest: +ELLIPSIS
    (0.15..., ...1.5..., 111.0)
    """

    def __init__(self, stiffness: Sequence[float]) -> None:
        self.stiffness = _check_stiffness(stiffness)
        names = stiff_names(len(self.stiffness))
        constants = [f"k{i}" for i in range(len(names))]
        terms = [symbol(k) * symbol(x) ** 2 / 2 for k, x in zip(constants, names, strict=True)]
        super().__init__(sympy.Add(*terms), names, dict(zip(constants, self.stiffness, strict=True)))

    def _gradient_expressions(self) -> list[sympy.Expr]:
        return [symbol(k) * x for k, x in zip(self.parameters, self._symbols(), strict=True)]

    # Vectorised over coordinates: a tape would take one operation for each of them.

    def _springs(self, like: Tensor) -> Tensor:
        return torch.tensor(list(self.parameters.values()), dtype=like.dtype, device=like.device)

    def compiled_form(self) -> Quadratic:
        """Itself: the matrix product is the formula."""
        return self

    def _energy(self, position: Tensor) -> Tensor:
        return 0.5 * (self._springs(position) * position**2).sum(dim=-1)

    def _gradient(self, position: Tensor) -> Tensor:
        return self._springs(position) * position

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        return self._springs(position) * vector

    def _hessian(self, position: Tensor) -> Tensor:
        matrix = torch.diag(self._springs(position))
        return matrix.expand(*position.shape[:-1], self.dim, self.dim).clone()

    @property
    def constrained(self) -> int:
        """Number N_c of stiff directions."""
        return sum(k > 0.0 for k in self.stiffness)

    def _law(self, temperature: float) -> Law:
        n = self.constrained
        log_partition = math.nan
        if n == self.dim:
            log_partition = 0.5 * sum(math.log(2.0 * math.pi * temperature / k) for k in self.stiffness)
        return Law(log_partition, 0.5 * n * temperature, 0.5 * n * temperature**2)

    def _curvature(self, temperature: float) -> float:
        return sum(self.stiffness)

    def log_partition_function(self, temperature: Any) -> Any:
        """ln Z = sum_i 1/2 ln(2 pi T/k_i).

        Raises
        ------
        ConfigError
            If a direction is flat: Z is then infinite.
        """
        if self.constrained < self.dim:
            raise ConfigError(
                f"Z is infinite: {self.dim - self.constrained} of {self.dim} stiffnesses are 0; give positive ones"
            )
        return super().log_partition_function(temperature)

    def _density(self, values: Array, temperature: float) -> Array:
        softest = min(self.stiffness)
        if softest == 0.0:
            raise ConfigError("the softest direction is flat and has no Boltzmann density; give positive stiffnesses")
        width = temperature / softest
        density: Array = np.exp(-0.5 * values**2 / width) / math.sqrt(2.0 * math.pi * width)
        return density

    def _effective(self, values: Array, temperature: float) -> Array:
        return 0.5 * min(self.stiffness) * values**2

    @of_temperature
    def energy_quantile(self, probability: float, temperature: Any) -> Any:
        """Energy below which the Boltzmann distribution has this probability: the quantile of Gamma(N_c/2, rate 1/T).

        Parameters
        ----------
        probability : float
            Between 0 and 1.

        Examples
        --------
        Two springs: the energy is exponential, with median T ln 2.

        >>> round(Quadratic([1.0, 5.0]).energy_quantile(0.5, 0.1) / math.log(2), 12)
        0.1
        """
        if not 0.0 <= probability < 1.0:
            raise ConfigError(f"a probability is at least 0 and below 1, got {probability!r}")
        quantile = float(gammaincinv(0.5 * self.constrained, probability))
        return per_temperature(lambda t: t * quantile, temperature)

    def energy_autocorrelation(self, lag: Any) -> Any:
        """Normalised autocorrelation of the energy in overdamped dynamics, (1/N_c) sum_i exp(-2 k_i |t|).

        Parameters
        ----------
        lag : float, array or DataArray
            Time lag t. The temperature does not matter.

        Returns
        -------
        of `lag`'s kind and shape

        Examples
        --------
        >>> round(Quadratic([1.0]).energy_autocorrelation(0.5) * math.e, 12)
        1.0
        """
        stiff = np.array([k for k in self.stiffness if k > 0.0])
        return per_value(lambda t: np.exp(-2.0 * stiff * np.abs(t)[:, None]).mean(axis=1), lag)

    def minima(self) -> Tensor:
        """The origin, shape ``(1, dim)``; with flat directions, one point of many."""
        return self._rows(np.zeros(self.dim))

    def saddles(self) -> Tensor:
        """None: shape ``(0, dim)``."""
        return self._rows([])


def stiff_names(count: int) -> list[str]:
    """Names of `count` like coordinates: x, or x0, x1, ..."""
    return ["x"] if count == 1 else [f"x{i}" for i in range(count)]


def _check_stiffness(stiffness: Any) -> tuple[float, ...]:
    values = unmasked(stiffness)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "fiu":
        raise ConfigError(f"stiffness must be a sequence of at least one number, got {stiffness!r}")
    if not np.all(np.isfinite(values) & (values >= 0.0)) or not np.any(values > 0.0):
        raise ConfigError(
            f"stiffnesses must be finite and not negative, and one of them positive, got {stiffness!r}; "
            "a negative one has no Boltzmann law: build it with Expression"
        )
    return tuple(float(k) for k in values)
