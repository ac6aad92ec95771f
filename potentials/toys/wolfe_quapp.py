"""The Wolfe-Quapp surface: two deep wells, a shallow one, and a path that bends."""

from __future__ import annotations

import math

from landscape.common.arguments import guarded_class
from landscape.potentials.toys._plane import PlaneToy

__all__ = ["WolfeQuapp"]


@guarded_class
class WolfeQuapp(PlaneToy):
    """Surface V(x, y) = x^4 + y^4 - 2 x^2 - 4 y^2 + x y + 0.3 x + 0.1 y.

    Minima near (-1.17, 1.48), (1.12, -1.49) and (-0.82, -1.37). Neither coordinate alone is a good one for the
    transition between the deep wells, which makes the surface a usual test of free energies along a chosen coordinate.

    Notes
    -----
    ln Z, <V>, its variance and mean curvature are quadratures over the plane, good to about 1e-12.

    References
    ----------
    W. Quapp, J. Chem. Phys. 122, 174106 (2005).

    Examples
    --------
    >>> surface = WolfeQuapp()
    >>> round(float(surface.energy(surface.default_start())), 4)
    -6.7625
    """

    _minima = ((-1.174056, 1.477087), (1.124102, -1.485274), (-0.821908, -1.36673))
    _saddles = ((-0.303211, -1.401338), (-1.022244, -0.116062), (0.940969, 0.131252))

    def __init__(self) -> None:
        super().__init__("x**4 + y**4 - 2*x**2 - 4*y**2 + x*y + 0.3*x + 0.1*y", ["x", "y"])

    def _box(self, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
        # On |x| = d >= |y| and on |y| = d >= |x|: V >= d^4 - 5 d^2 - 0.4 d - 4 >= (d^2 - 3)^2 - 13 for d > 2.
        reach = math.sqrt(3.0 + math.sqrt(height + 13.0))
        return (-reach, reach), (-reach, reach)
