"""The three-hole surface: two routes between two wells, one of them through a third."""

from __future__ import annotations

from landscape.common.arguments import guarded_class
from landscape.potentials.toys._plane import PlaneToy

__all__ = ["ThreeHole"]


@guarded_class
class ThreeHole(PlaneToy):
    """Surface with two deep wells, and two routes between them: a direct one and one through a shallow third well.

        V(x, y) = 3 exp[-x^2 - (y - 1/3)^2] - 3 exp[-x^2 - (y - 5/3)^2] - 5 exp[-(x - 1)^2 - y^2]
                  - 5 exp[-(x + 1)^2 - y^2] + 0.2 x^4 + 0.2 (y - 1/3)^4.

    The deep wells are near (-1, 0) and (1, 0), the shallow one near (0, 1.5). The direct route is shorter but has the
    higher saddle (-1.385 against -1.647), so that the transitions change over from one to the other with temperature:
    by way of the third well at T = 0.15, mostly direct at T = 0.6.

    Notes
    -----
    Runs start in the left well. ln Z, <V>, its variance and mean curvature are quadratures over the plane, good to
    about 1e-12.

    References
    ----------
    P. Metzner, C. Schuette, E. Vanden-Eijnden, J. Chem. Phys. 125, 084110 (2006).

    Examples
    --------
    >>> surface = ThreeHole()
    >>> [round(float(v), 4) for v in surface.energy(surface.minima())]
    [-3.9949, -3.9949, -2.1722]
    """

    _minima = ((-1.048055, -0.042094), (1.048055, -0.042094), (0.0, 1.537082))
    _saddles = ((-0.617272, 1.102735), (0.617272, 1.102735), (0.0, -0.315827))

    def __init__(self) -> None:
        super().__init__(
            "3*exp(-x**2 - (y - 1/3)**2) - 3*exp(-x**2 - (y - 5/3)**2)"
            " - 5*exp(-(x - 1)**2 - y**2) - 5*exp(-(x + 1)**2 - y**2) + 0.2*x**4 + 0.2*(y - 1/3)**4",
            ["x", "y"],
        )

    def _box(self, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
        # The exponentials add up to no less than -13, the rest to 0.2 d^4 at a distance d along either axis.
        reach = ((height + 13.0) / 0.2) ** 0.25
        return (-reach, reach), (1.0 / 3.0 - reach, 1.0 / 3.0 + reach)
