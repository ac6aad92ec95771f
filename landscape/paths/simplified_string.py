"""The simplified string method."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from landscape.common.arguments import guarded
from landscape.paths.curve import respace
from landscape.paths.path import Path
from landscape.paths.relaxation import one_cycle
from landscape.paths.search import SharedSettings, begin_search, with_settings
from landscape.paths.tangents import spline_tangents
from landscape.potentials.base import Potential

__all__ = ["string"]


@guarded
@with_settings(SharedSettings)
def string(
    potential: Potential,
    start: Any,
    end: Any = None,
    *,
    pivots: int | None = None,
    steps: int,
    lr: float,
    **settings: Unpack[SharedSettings],
) -> Path:
    """A minimum-energy path by the simplified string method [1]_: full-gradient steps and re-spacing in turn.

    p_i <- p_i - lr grad V(p_i) at the inner pivots, then all pivots move along the natural spline through them to equal
    chords. At convergence the gradient is along the path everywhere: it is a minimum-energy path, and its highest point
    a saddle.

    Parameters
    ----------
    potential : Potential
    start, end : tensor or array ``(dim,)``, or a minimum or run of one chain as a Dataset
        Two minima, which stay. A Path as `start` stands for both, and is where the string begins.
    pivots : int
        Three or more, the ends among them. Left out with a Path: as many as it has.
    steps : int
    lr : float
        Stable below 2/(largest curvature on the path).
    momentum : float
        Heavy ball, velocity <- momentum velocity + gradient.
    tolerance : float
        Stops when the gradient perpendicular to the path is no longer than this at every pivot; 0 never stops.
    seed : int
        Of the minibatches, where the potential has some.
    own_batches : bool
        Each pivot draws its own minibatch; else all share that of the step.
    pivots_at_once : int, optional
        Pivots evaluated as one batch; by default all of a small potential, one by one of a large network.
    end_tolerance : float
        A gradient at an end longer than this is warned of.
    constraint : Reflect, Periodic, or a sequence of them
        Boundaries instead of the potential's bounds, which hold for every other coordinate, and periods. Pivots stay
        within boundaries; at a boundary they feel no force into it. Along a periodic coordinate the path takes the
        short way (half a period: as given) and is unfolded: its pivots may lie beyond the period, which the energy has
        to have.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.

    Returns
    -------
    Path
        A polyline with `energies` on all data, `buffers` and `history`; `.spline` for the curve the method works on.

    Raises
    ------
    ConfigError, ShapeError, NonFiniteError

    Notes
    -----
    Costs one gradient per pivot and step. Where the minimum-energy path is curved, the string comes to rest O(lr)
    beside it (the error of an explicit step; none at minima and saddles, where the gradient is 0), so that the
    perpendicular gradient falls to O(lr), not to 0. Pivots may sit on both sides of a saddle: `Path.highest` finds the
    highest point between them. The polyline stays within boundaries; the spline between pivots at a boundary may reach
    beyond.

    References
    ----------
    .. [1] E, Ren, Vanden-Eijnden (2007), J. Chem. Phys. 126, 164103.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2 + 4*(y - 1 + x**2)**2", ["x", "y"])  # saddle at (0, 1)
    >>> path = string(well, [-1.0, 0.0], [1.0, 0.0], pivots=11, steps=300, lr=0.02)
    >>> round(float(path.pivots[5, 1]), 6), round(float(path.energies.max()), 6)
    (1.0, 1.0)
    """
    search = begin_search(potential, start, end, pivots, steps, lr, settings)
    equal = torch.linspace(0, 1, len(search.pivots), dtype=torch.float64, device=search.pivots.device)

    def spacing(pivots: Tensor) -> Tensor:
        return respace(pivots, equal, spline=True)

    return one_cycle(search, _full_gradient, spline_tangents, spacing, method="string")


def _full_gradient(pivots: Tensor, energies: Tensor, gradients: Tensor, progress: float) -> Tensor:
    return gradients[1:-1]
