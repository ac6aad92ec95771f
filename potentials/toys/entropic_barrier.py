"""A barrier made of entropy alone: two wide basins joined by a narrow gorge at the same energy."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.potentials.base import Bounds
from landscape.potentials.expression.potential import Expression
from landscape.potentials.toys._closed_forms import check_positive, entropic_force
from landscape.potentials.toys._entropic import EntropicToy
from landscape.potentials.toys.quadratic import stiff_names

__all__ = ["EntropicBarrier"]


@guarded_class
@entropic_force
class EntropicBarrier(EntropicToy):
    """Gorge V = 1/2 g(y) sum_i x_i^2 with g(y) = 1 + amplitude exp(-y^2 / (2 width^2)) and n stiff coordinates x_i.

    The energy of the floor is 0 everywhere, but with n = `stiff` directions that narrow together,

        P(y) ~ g(y)^(-n/2),      V_eff(y) = (n T/2) ln g(y),      <V> = n T/2,

    so that the barrier is F(0) - F(far) = (n T/2) ln(1 + amplitude), proportional to the temperature: the time to
    cross is proportional to 1/T and not to exp(1/T). (Di Carlo et al. print T ln g for n = 1; the factor 1/2 belongs
    there.)

    Parameters
    ----------
    amplitude : float, optional
        A > -1; negative makes the middle the wide place.
    width : float, optional
        w > 0.
    stiff : int, optional
        n >= 1. The coordinates are x, y for one and x0, x1, ..., y for more.
    bounds : mapping of str to (low, high), optional
        Reflecting boundaries; by default -1.5 and 1.5 for y. An empty mapping takes them away, and with them the
        distribution of y.

    Raises
    ------
    ConfigError
        If amplitude <= -1, width <= 0 or stiff < 1.

    Notes
    -----
    The slow coordinate is y. Runs start on the floor at the lower boundary of y (at y = 0 if it is open).

    Examples
    --------
    >>> import math
    >>> gorge = EntropicBarrier(stiff=4)
    >>> barrier = gorge.effective_potential(0.0, 0.1) - gorge.effective_potential(1.5, 0.1)
    >>> round(barrier / (0.2 * math.log(10)), 4)
    1.0
    >>> round(0.1 * gorge.mean_first_passage_time(-1.5, 1.5, 0.1), 6)
    45.641502
    """

    def __init__(
        self, amplitude: float = 9.0, width: float = 0.3, stiff: int = 1, bounds: Bounds | None = None
    ) -> None:
        check_positive("EntropicBarrier", width=width)
        if isinstance(stiff, bool) or not isinstance(stiff, int | np.integer) or stiff < 1:
            raise ConfigError(f"EntropicBarrier needs a whole number of stiff directions, at least 1, got {stiff!r}")
        profile = Expression("1 + amplitude*exp(-y**2/(2*width**2))", ["y"], {"amplitude": amplitude, "width": width})
        if profile.parameters["amplitude"] <= -1.0:
            raise ConfigError(f"amplitude must be above -1 so that 1 + amplitude > 0, got {amplitude!r}")
        walls = {"y": (-1.5, 1.5)} if bounds is None else bounds
        self._build(profile, stiff_names(int(stiff)), 0.0, walls)

    def default_start(self) -> Tensor:
        """On the floor, x = 0, at the lower boundary of y."""
        start = super().default_start()
        low, _ = self._interval
        if np.isfinite(low):
            start[-1] = low
        return start
