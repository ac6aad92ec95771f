"""A flat valley whose width varies along its floor: the simplest entropic force."""

from __future__ import annotations

import sympy

from landscape.common.arguments import guarded_class
from landscape.errors import FormulaError
from landscape.potentials.base import Bounds
from landscape.potentials.expression.potential import Expression, timeless
from landscape.potentials.toys._closed_forms import entropic_force
from landscape.potentials.toys._entropic import EntropicToy, confinement_value

__all__ = ["Valley"]


@guarded_class
@entropic_force
class Valley(EntropicToy):
    r"""Valley V(x, y) = 1/2 g(y) x^2 + 1/2 confinement y^2 in coordinates x, y.

    The floor x = 0 is flat (without confinement), yet y drifts to where the valley is wide. Exactly, at any ratio of
    time scales,

        P(y) ~ g(y)^(-1/2) exp(-confinement y^2 / 2T),      V_eff(y) = (T/2) ln g(y) + 1/2 confinement y^2,

    and the mean force along y at fixed y is -(T/2) g'/g - confinement y. The equations (2) and (3) of Di Carlo et
    al. lack the factor 1/2: they print T ln g, which would mean P ~ 1/g. For g = 1 + y^2 and \|y\| < 3 the
    probability of \|y\| < 1 is 0.4847, not 0.629.

    Parameters
    ----------
    g : str or sympy.Expr
        Stiffness across the valley, a formula in y; energy per squared length. Positive between the boundaries.
    confinement : float, optional
        Stiffness along y, not negative.
    bounds : mapping of str to (low, high), optional
        Reflecting boundaries. Without a confinement closed forms need those on y wherever g^(-1/2) has no integral.
        Those on x are taken into account.

    Raises
    ------
    FormulaError
        If `g` has another symbol than y, or is not positive and finite between the boundaries (on a scan of 4001
        points; an open side to a distance of 10).
    ConfigError
        If the confinement is negative, or the bounds make no sense.

    Notes
    -----
    The slow coordinate is y. Each temperature costs a quadrature over y, good to about 1e-12.

    Examples
    --------
    >>> valley = Valley("1 + y**2", bounds={"y": (-3, 3)})
    >>> float(valley.energy([2.0, 1.0]))
    4.0
    >>> import math
    >>> round(valley.marginal(0.0, temperature=0.1) * 2 * math.asinh(3), 12)
    1.0
    >>> round(valley.effective_potential(2.0, temperature=0.1) / math.log(5), 12)
    0.05
    """

    def __init__(self, g: str | sympy.Expr, confinement: float = 0.0, bounds: Bounds | None = None) -> None:
        try:
            profile = timeless(Expression(g if isinstance(g, sympy.Expr) else str(g), ["y"]))
        except FormulaError as error:
            raise FormulaError(f"g must be a formula in y alone, got {str(g)!r}: {error}") from None
        self.g = g if isinstance(g, str) else profile.spec()["energy"]
        self._build(profile, ["x"], confinement_value(confinement), bounds)
