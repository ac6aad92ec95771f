"""Himmelblau's function: four minima of equal depth."""

from __future__ import annotations

import math

from landscape.common.arguments import guarded_class
from landscape.potentials.toys._plane import PlaneToy

__all__ = ["Himmelblau"]


@guarded_class
class Himmelblau(PlaneToy):
    """Surface V(x, y) = (x^2 + y - 11)^2 + (x + y^2 - 7)^2.

    Four minima with V = 0, of different curvature: at low temperature each is occupied in proportion to
    det(H)^(-1/2), which only entropy decides. Four saddles, and a maximum of 181.6 near (-0.27, -0.92).

    Notes
    -----
    Runs start at (3, 2). ln Z, <V>, its variance and mean curvature are quadratures over the plane, good to about
    1e-12.

    References
    ----------
    D. M. Himmelblau, Applied Nonlinear Programming (1972).

    Examples
    --------
    >>> surface = Himmelblau()
    >>> surface.energy([3.0, 2.0])
    array(0.)
    >>> surface.minima().shape, surface.saddles().shape
    (torch.Size([4, 2]), torch.Size([4, 2]))
    """

    _minima = ((3.0, 2.0), (-2.805118, 3.131313), (-3.77931, -3.283186), (3.584428, -1.848127))
    _saddles = ((0.086678, 2.884255), (3.385154, 0.073852), (-3.073026, -0.081353), (-0.127961, -1.953715))

    def __init__(self) -> None:
        super().__init__("(x**2 + y - 11)**2 + (x + y**2 - 7)**2", ["x", "y"])

    def _box(self, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
        # On the edge |x| = d >= |y| the first bracket is at least d^2 - d - 11, and alike for the second on |y| = d.
        reach = 0.5 + math.sqrt(11.25 + math.sqrt(height))
        return (-reach, reach), (-reach, reach)
