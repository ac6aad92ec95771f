"""A circular valley whose stiffness depends on the angle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy
from scipy.special import ndtr
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.errors import FormulaError
from landscape.potentials.expression.potential import Expression, timeless
from landscape.potentials.expression.quadrature import Array, average
from landscape.potentials.toys._closed_forms import (
    Law,
    Toy,
    check_positive,
    entropic_force,
    of_temperature,
    of_values,
    one_temperature,
    per_temperature,
    per_value,
    symbol,
)
from landscape.potentials.toys._entropic import check_profile

__all__ = ["Ring"]

_X, _Y = symbol("x"), symbol("y")
_ORIGIN: Any = sympy.Eq(_X**2 + _Y**2, 0)  # type: ignore[no-untyped-call]


@guarded_class
@entropic_force
class Ring(Toy):
    """Ring V = 1/2 k(theta) (r - R)^2 in coordinates x = r cos(theta), y = r sin(theta).

    The floor r = R is flat, yet the angle drifts to where the ring is soft. With s^2 = T/k(theta) and the Jacobian r,

        P(theta) ~ int_0^inf r exp(-(r - R)^2 / 2 s^2) dr = s^2 exp(-R^2 / 2 s^2) + sqrt(2 pi) s R Phi(R/s),

    which tends to k^(-1/2) for s << R, that is V_eff = (T/2) ln k (Di Carlo et al. print T ln k; the factor 1/2
    belongs there). The Jacobian also pushes the mean radius out, by s^2 / R to leading order.

    Parameters
    ----------
    stiffness : str or sympy.Expr, optional
        k(theta) > 0, a formula in theta, the same at -pi and pi; energy per squared length.
    radius : float, optional
        R > 0.

    Raises
    ------
    FormulaError
        If the stiffness has another symbol than theta, is not positive, or jumps between pi and -pi.
    ConfigError
        If the radius is not positive.

    Notes
    -----
    At the origin the gradient has no limit; it is 0 there by convention, and the energy is 1/2 k(0) R^2. Where k
    varies the force grows as 1/r towards the origin, so no time step is right once the origin is visited: above T of
    about k R^2 / 10, k at the softest angle, trust closed forms only. For the same reason the mean curvature is
    infinite unless k is constant.

    The slow coordinate of `marginal` is theta, in radians, from -pi to pi. `effective_potential` is normalised to
    (T/2) ln k at low temperature. Runs start at (R, 0).

    Examples
    --------
    >>> ring = Ring()
    >>> soft, stiff = ring.marginal([math.pi, 0.0], temperature=0.1)
    >>> round(float(soft / stiff), 4)
    3.0
    >>> round(ring.mean_radius(1.0, theta=math.pi), 4)
    1.0999
    >>> ring.gradient([0.0, 0.0])
    array([0., 0.])
    """

    def __init__(self, stiffness: str | sympy.Expr = "50*(1 + 0.8*cos(theta))", radius: float = 1.0) -> None:
        check_positive("Ring", radius=radius)
        try:
            given = stiffness if isinstance(stiffness, sympy.Expr) else str(stiffness)
            self.profile = timeless(Expression(given, ["theta"]))
        except FormulaError as error:
            raise FormulaError(f"stiffness must be a formula in theta alone, got {str(stiffness)!r}: {error}") from None
        check_profile(self.profile, -math.pi, math.pi, name="k")
        behind = self._k(np.array([-math.pi, math.pi]))
        if abs(behind[1] - behind[0]) > 1e-9 * behind.max():
            raise FormulaError(
                f"the stiffness {self.profile.expression} jumps from {behind[1]:.6g} at theta = pi to {behind[0]:.6g} "
                "at -pi; it must be the same at both"
            )
        self.radius = float(radius)
        self.stiffness = stiffness if isinstance(stiffness, str) else self.profile.spec()["energy"]
        angle = sympy.atan2(_Y, _X)
        around = self.profile.expression.subs(symbol("theta"), angle)
        r, length = (_X**2 + _Y**2) ** sympy.Rational(1, 2), symbol("radius")
        self._elsewhere = around * (r - length) ** 2 / 2
        middle = self.profile.expression.subs(symbol("theta"), 0) * length**2 / 2
        energy = _piecewise(middle, self._elsewhere)
        super().__init__(energy, ["x", "y"], {"radius": self.radius})

    def _gradient_expressions(self) -> list[sympy.Expr]:
        return [_piecewise(0, self._elsewhere.diff(axis)) for axis in (_X, _Y)]

    def _k(self, theta: Array) -> Array:
        k: Array = self.profile.energy(theta[:, None])
        return k

    def _log_weight(self, theta: Array, temperature: float) -> Array:
        """ln of the radial integral."""
        return np.log(_radial_integrals(self._k(theta), self.radius, temperature)[0])

    def _average(self, temperature: float, observables: Any = None) -> tuple[float, Array]:
        def weight(theta: Array) -> Array:
            return self._log_weight(theta, temperature)

        return average(weight, observables, low=-math.pi, high=math.pi)

    def _law(self, temperature: float) -> Law:
        def energies(theta: Array) -> tuple[Array, Array]:
            norm, first, second, *_ = _radial_integrals(self._k(theta), self.radius, temperature)
            return first / norm, second / norm

        log_partition, (mean, square) = self._average(temperature, energies)
        return Law(log_partition, float(mean), float(square - mean**2))

    def mean_curvature(self, temperature: Any) -> Any:
        """<k (2 - R/r)> for a constant stiffness: 2k - k R <1/r>.

        Raises
        ------
        NotImplementedError
            If k depends on theta: k'' (r - R)^2 / 2 r^2 then has no integral at the origin.
        """
        k = self._k(np.linspace(-math.pi, math.pi, 101))
        if np.ptp(k) > 1e-12 * k[0]:
            raise NotImplementedError(
                "the mean curvature of a ring with varying stiffness is infinite: the Laplacian has a term "
                "k''(theta) (r - R)^2 / 2 r^2, which no integral over the origin survives"
            )

        def curvature(t: float) -> float:
            norm, _, _, _, line = _radial_integrals(k[:1], self.radius, t)
            return float(2.0 * k[0] - k[0] * self.radius * line[0] / norm[0])

        return per_temperature(curvature, temperature)

    def _density(self, values: Array, temperature: float) -> Array:
        log_norm, _ = self._average(temperature)
        return np.exp(self._log_weight(values, temperature) - log_norm)

    def _effective(self, values: Array, temperature: float) -> Array:
        unit = 0.5 * math.log(2.0 * math.pi * temperature) + math.log(self.radius)
        return -temperature * (self._log_weight(values, temperature) - unit)

    @of_values
    def radial_marginal(self, values: Any, temperature: float) -> Any:
        """Density of the radius, P(r) ~ r int exp(-k(theta) (r - R)^2 / 2T) dtheta; zero for r < 0.

        Parameters
        ----------
        values : array, xarray.DataArray or tensor
            Radii r, in units of length.

        Notes
        -----
        Costs one quadrature over theta per radius.

        Examples
        --------
        >>> round(Ring("50", 2.0).radial_marginal(2.0, 0.1) * math.sqrt(2 * math.pi * 0.1 / 50), 10)
        1.0
        """
        t = one_temperature(temperature)
        log_partition, _ = self._average(t)

        def density(r: float) -> float:
            if not r > 0.0:
                return 0.0 if r <= 0.0 else r
            energy = 0.5 * (r - self.radius) ** 2 / t
            log_circle, _ = average(lambda theta: -energy * self._k(theta), low=-math.pi, high=math.pi)
            return r * math.exp(log_circle - log_partition)

        return per_value(lambda radii: np.array([density(float(r)) for r in radii]), values)

    @of_temperature
    def mean_radius(self, temperature: Any, theta: float | None = None) -> Any:
        """Boltzmann average <r>, over the ring or at one angle.

        Parameters
        ----------
        theta : float, optional
            Angle in radians; None averages over all.

        Examples
        --------
        The Jacobian adds s^2 / R, here T/(k R) = 0.1:

        >>> round(Ring("1").mean_radius(0.001, theta=0.0), 9)
        1.001
        """

        def mean(t: float) -> float:
            def radius(angle: Array) -> list[Array]:
                norm, _, _, third, _ = _radial_integrals(self._k(angle), self.radius, t)
                return [third / norm]

            if theta is not None:
                return float(radius(np.array([float(theta)]))[0][0])
            return float(self._average(t, radius)[1][0])

        return per_temperature(mean, temperature)

    def default_start(self) -> Tensor:
        """(R, 0), a point of the floor."""
        return self._rows([self.radius, 0.0])[0]

    def minima(self) -> Tensor:
        """None is isolated.

        Raises
        ------
        NotImplementedError
            Always: every point of the circle r = R is a minimum.
        """
        raise NotImplementedError("Ring has a circle of minima, r = radius at any angle; none is isolated")

    def saddles(self) -> Tensor:
        """None: shape ``(0, 2)``."""
        return self._rows([])


def _piecewise(middle: Any, elsewhere: Any) -> Any:
    """One expression at the origin, another everywhere else."""
    return sympy.Piecewise((middle, _ORIGIN), (elsewhere, True))  # type: ignore[no-untyped-call]


def _radial_integrals(k: Array, radius: float, temperature: float) -> tuple[Array, Array, Array, Array, Array]:
    """Integrals over r from 0 of w r, w r V, w r V^2, w r^2 and w, with w = exp(-k (r - R)^2 / 2T).

    With r = R + s u, s^2 = T/k and I_n = int_{-R/s}^inf u^n exp(-u^2/2) du, by recursion in n.
    """
    s = np.sqrt(temperature / k)
    ratio = radius / s
    edge = np.exp(-0.5 * ratio**2)
    moments = [math.sqrt(2.0 * math.pi) * ndtr(ratio), edge]
    for n in range(2, 6):
        moments.append((n - 1) * moments[n - 2] + (-ratio) ** (n - 1) * edge)
    i0, i1, i2, i3, i4, i5 = moments
    norm = s**2 * (ratio * i0 + i1)
    energy = 0.5 * temperature * s**2 * (ratio * i2 + i3)
    square = 0.25 * temperature**2 * s**2 * (ratio * i4 + i5)
    return norm, energy, square, s**3 * (ratio**2 * i0 + 2.0 * ratio * i1 + i2), s * i0
