"""One wall of a cross-entropy landscape: a loss that falls exponentially and never reaches its minimum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import exp1
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.potentials.expression.quadrature import Array, average
from landscape.potentials.toys._closed_forms import Law, Toy, check_positive, of_temperature, per_temperature

__all__ = ["ExponentialWall"]

EULER_GAMMA = 0.57721566490153286


@guarded_class
class ExponentialWall(Toy):
    """Wall V(x) = log(1 + B exp(a x)), or B exp(a x), with a hard wall at x = -cutoff.

    The loss of one sample along its margin. Without the cutoff there is no Boltzmann distribution, since the loss goes
    on falling for ever; with it, and z0 = V(-cutoff)/T, the exponential form has exactly

        Z = E1(z0)/a,    <V> = T exp(-z0)/E1(z0),    var V = T^2 (1 + z0) exp(-z0)/E1(z0) - <V>^2,
        <V''> = a^2 <V>,

    and for z0 << 1, with L = a cutoff + ln(T/B) - gamma (Euler's), <V> = T/L and var V = T^2 (L - 1)/L^2.
    Compared with Jules et al.: S19 has the wrong overall sign; S20 prints this variance as <V^2>; S21 has the wrong
    lower limit and lacks B; S24 is the leading order only, which needs z0 << 1 and not just T << 1; S27 lacks a
    factor 1/2.

    The softplus form differs by O(T). In terms of the energy u, dx = du / [a (1 - exp(-u))], so its averages are those
    of the exponential form plus an integral of the smooth 1/(1 - exp(-u)) - 1/u, done by quadrature to about 1e-12
    at any temperature.

    Parameters
    ----------
    a : float, optional
        Inverse length of the wall, > 0.
    prefactor : float, optional
        B > 0, an energy.
    cutoff : float, optional
        Distance x* of the hard wall, which stands at x = -cutoff; finite, of either sign. The unit of length in ln Z
        and in the entropy is 1.
    form : {"softplus", "exponential"}, optional

    Raises
    ------
    ConfigError
        If a or the prefactor is not positive, the cutoff not finite, or the form unknown.

    Notes
    -----
    The energy has no stationary point: its lowest value is at the hard wall, where runs start.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise, S19 to S27.

    Examples
    --------
    >>> wall = ExponentialWall(cutoff=20.0, form="exponential")
    >>> z0 = math.exp(-20.0) / 1e-3
    >>> round(wall.mean_energy(1e-3) * float(exp1(z0)) / math.exp(-z0), 12)
    0.001
    >>> round(math.exp(wall.log_partition_function(1e-3)), 7)
    12.5150311
    """

    def __init__(self, a: float = 1.0, prefactor: float = 1.0, cutoff: float = 20.0, form: str = "softplus") -> None:
        check_positive("ExponentialWall", a=a, prefactor=prefactor)
        formulas = {"softplus": "softplus(a*x + log(prefactor))", "exponential": "prefactor*exp(a*x)"}
        if form not in formulas:
            raise ConfigError(f"form must be one of {list(formulas)}, got {form!r}")
        try:
            self.cutoff = float(cutoff)
        except (TypeError, ValueError):
            self.cutoff = math.nan
        if not math.isfinite(self.cutoff):
            raise ConfigError(f"cutoff must be a finite number, got {cutoff!r}: the wall stands at x = -cutoff")
        self.form = form
        super().__init__(formulas[form], ["x"], {"a": a, "prefactor": prefactor}, {"x": (-self.cutoff, None)})

    @property
    def _log_lowest(self) -> float:
        """ln V(-cutoff), which stays finite where V(-cutoff) underflows."""
        exponent = math.log(self.parameters["prefactor"]) - self.parameters["a"] * self.cutoff
        if self.form == "exponential" or exponent < -40.0:
            return exponent
        return math.log(math.log1p(math.exp(-abs(exponent))) + max(exponent, 0.0))

    def _law(self, temperature: float) -> Law:
        lowest, norm, first, second = self._moments(temperature)
        mean = lowest + temperature * first / norm
        variance = temperature**2 * (second / norm - (first / norm) ** 2)
        return Law(math.log(norm / self.parameters["a"]) - lowest / temperature, mean, variance)

    def _curvature(self, temperature: float) -> float:
        lowest, norm, first, _ = self._moments(temperature)
        a = self.parameters["a"]
        if self.form == "exponential":
            return float(a**2 * (lowest + temperature * first / norm))
        # V'' = a^2 exp(-V) (1 - exp(-V)): the second factor cancels that of dx, and the integral is elementary.
        return float(a**2 * temperature * math.exp(-lowest) / ((1.0 + temperature) * norm))

    def _moments(self, temperature: float) -> tuple[float, float, float, float]:
        """V(-cutoff), and integrals of v^n exp(-v) a dx/dv over v = (V - V(-cutoff))/T for n = 0, 1, 2."""
        log_z0 = self._log_lowest - math.log(temperature)
        lowest = math.exp(self._log_lowest) if self._log_lowest < 700.0 else math.inf
        if not math.isfinite(lowest):
            raise ConfigError(f"the energy at the wall overflows (its logarithm is {self._log_lowest:.6g})")
        norm, first, second = _exponential_moments(log_z0)
        if self.form == "softplus":
            extra = _softplus_moments(lowest, temperature)
            norm, first, second = (m + temperature * e for m, e in zip((norm, first, second), extra, strict=True))
        return lowest, norm, first, second

    @of_temperature
    def mean_log_energy(self, temperature: Any) -> Any:
        """Boltzmann average <ln V>, which a maximum-likelihood fit of a Gamma distribution to the energy needs.

        Notes
        -----
        One quadrature over s = ln V per temperature.

        Examples
        --------
        For the exponential form ln V = ln B + a x:

        >>> wall = ExponentialWall(a=2.0, form="exponential", cutoff=5.0)
        >>> _, (mean_x,) = average(lambda x: -np.exp(2 * x) / 0.1, lambda x: [x], low=-5.0, high=3.0)
        >>> round(wall.mean_log_energy(0.1) - 2 * float(mean_x), 10)
        0.0
        """
        low = self._log_lowest

        def mean(t: float) -> float:
            def log_weight(s: Array) -> Array:  # s = ln V - ln V(-cutoff)
                energy = np.exp(low + s)
                excess = -energy * np.expm1(-s) / t
                if self.form == "exponential":
                    return -excess
                # dx = u ds / [a (1 - exp(-u))]; the quotient is 1 + u/2 where the energy u is tiny.
                stretch = np.where(energy > 1e-8, energy / -np.expm1(-energy), 1.0 + 0.5 * energy)
                return np.log(stretch) - excess

            span = math.log1p(60.0 * t * math.exp(-low)) if low > -600.0 else math.log(60.0 * t) - low
            _, (log_ratio,) = average(log_weight, lambda s: [s], low=0.0, high=span, points=[math.log(t) - low, -low])
            return low + float(log_ratio)

        return per_temperature(mean, temperature)

    def _density(self, values: Array, temperature: float) -> Array:
        log_density = -self._line(values) / temperature - self._law(temperature).log_partition
        return np.where(values < -self.cutoff, 0.0, np.exp(log_density))

    def _effective(self, values: Array, temperature: float) -> Array:
        return np.where(values < -self.cutoff, np.inf, self._line(values))

    def default_start(self) -> Tensor:
        """The hard wall, x = -cutoff, where the energy is lowest."""
        return self._rows([-self.cutoff])[0]

    def minima(self) -> Tensor:
        """None: shape ``(0, 1)``. The energy is lowest at the hard wall, where its gradient is not zero."""
        return self._rows([])

    def saddles(self) -> Tensor:
        """None: shape ``(0, 1)``."""
        return self._rows([])


def _exponential_moments(log_z: float) -> tuple[float, float, float]:
    """Integrals of v^n exp(-v)/(z + v) over v > 0 for n = 0, 1, 2; the first is exp(z) E1(z)."""
    if log_z < -700.0:  # z is subnormal or zero; E1(z) = -gamma - ln z + O(z)
        return -EULER_GAMMA - log_z, 1.0, 1.0
    z = math.exp(log_z)
    if z < 50.0:
        norm = math.exp(z) * float(exp1(z))
        first = 1.0 - z * norm
        return norm, first, 1.0 - z * first
    # Asymptotic series; its smallest term is below 1e-17, where E1 itself would underflow from z = 740 on.
    k = np.arange(40)
    terms = np.cumprod(np.concatenate([[1.0], -(k[1:26] / z)]))
    norm = float(terms.sum()) / z
    first = float((terms * (k[:26] + 1)).sum()) / z
    second = float((terms * (k[:26] + 1) * (k[:26] + 2)).sum()) / z
    return norm, first, second


def _softplus_moments(lowest: float, temperature: float) -> tuple[float, float, float]:
    """Integrals of v^n exp(-v) h(V(-cutoff) + T v) over v > 0, n = 0, 1, 2, with h(u) = 1/(1 - exp(-u)) - 1/u."""

    def log_weight(v: Array) -> Array:
        return -v + np.log(_smooth_part(lowest + temperature * v))

    log_norm, (first, second) = average(
        log_weight, lambda v: [v, v**2], low=0.0, high=math.inf, points=[1.0 / temperature]
    )
    norm = math.exp(log_norm)
    return norm, norm * float(first), norm * float(second)


def _smooth_part(u: Array) -> Array:
    """h(u) = 1/(1 - exp(-u)) - 1/u, which rises from 1/2 to 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        direct = -1.0 / np.expm1(-u) - 1.0 / u
    # Below 0.1 the difference cancels; the series with Bernoulli numbers is exact to 1e-17 there.
    series = 0.5 + u / 12.0 - u**3 / 720.0 + u**5 / 30240.0 - u**7 / 1209600.0
    return np.where(u < 0.1, series, direct)
