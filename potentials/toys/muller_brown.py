"""The Muller-Brown surface: three wells on a curved path."""

from __future__ import annotations

import math

from landscape.common.arguments import guarded_class
from landscape.potentials.toys._plane import PlaneToy

__all__ = ["MullerBrown"]

# Mueller and Brown (1979), table: A_k, a_k, b_k, c_k and the centre of each term.
TERMS = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)


@guarded_class
class MullerBrown(PlaneToy):
    """Surface V(x, y) = sum_k A_k exp[a_k (x - X_k)^2 + b_k (x - X_k)(y - Y_k) + c_k (y - Y_k)^2], four terms.

    A = (-200, -100, -170, 15), a = (-1, -1, -6.5, 0.7), b = (0, 0, 11, 0.6), c = (-10, -10, -6.5, 0.7),
    X = (1, 0, -0.5, -1), Y = (0, 0.5, 1.5, 1). The path between the two deep minima A (-0.558, 1.442) and
    B (0.623, 0.028) bends through the shallow one, C (-0.050, 0.467); its highest point is the saddle between A and C
    at V = -40.664844.

    Notes
    -----
    Temperatures of 10 to 40 are usual. ln Z, <V>, its variance and mean curvature are quadratures over the plane, good
    to about 1e-12, a fraction of a second each.

    References
    ----------
    K. Mueller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979).

    Examples
    --------
    >>> surface = MullerBrown()
    >>> [round(float(v), 5) for v in surface.energy(surface.minima())]
    [-146.69952, -108.16672, -80.76782]
    >>> [round(float(v), 5) for v in surface.energy(surface.saddles())]
    [-72.24894, -40.66484]
    """

    _minima = ((-0.558224, 1.441726), (0.623499, 0.028038), (-0.050011, 0.466694))
    _saddles = ((0.212487, 0.292988), (-0.822002, 0.624313))

    def __init__(self) -> None:
        terms = [
            f"{A}*exp({a}*(x - {X})**2 + {b}*(x - {X})*(y - {Y}) + {c}*(y - {Y})**2)" for A, a, b, c, X, Y in TERMS
        ]
        super().__init__(" + ".join(terms), ["x", "y"])

    def _box(self, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
        # Only the last term is positive. Its quadratic form is at least 0.4 d^2 at distance d from (-1, 1), and the
        # others add up to no less than -470.
        reach = math.sqrt(math.log((height + 470.0) / 15.0) / 0.4)
        return (-1.0 - reach, -1.0 + reach), (1.0 - reach, 1.0 + reach)
