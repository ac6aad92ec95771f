"""The nudged elastic band with climbing image."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from landscape.checks import finite_number, true_or_false
from landscape.common.arguments import guarded
from landscape.paths.path import Path
from landscape.paths.relaxation import Rule, one_cycle
from landscape.paths.search import SharedSettings, begin_search, with_settings
from landscape.paths.tangents import improved_tangents, perpendicular
from landscape.potentials.base import Potential

__all__ = ["neb"]


@guarded
@with_settings(SharedSettings)
def neb(
    potential: Potential,
    start: Any,
    end: Any = None,
    *,
    pivots: int | None = None,
    steps: int,
    lr: float,
    spring: float | None = None,
    climbing: bool = True,
    **settings: Unpack[SharedSettings],
) -> Path:
    """A minimum-energy path by the nudged elastic band, whose highest image climbs to the saddle.

    p_i <- p_i + lr F_i,  F_i = -[g_i - (g_i . t_i) t_i] + k (|p_{i+1} - p_i| - |p_i - p_{i-1}|) t_i

    with the improved tangent t_i of [2]_. In the second half of the steps the highest image, if it is higher than its
    neighbours, feels no spring and climbs along the path [1]_: F = -g + 2 (g . t) t.

    Parameters
    ----------
    potential, start, end, pivots, steps, lr
        As for `string`.
    spring : float, optional
        The constant k, energy per squared length; 0.1/lr unless given (stable below 0.5/lr).
    climbing : bool
    momentum, tolerance, seed, own_batches, pivots_at_once, end_tolerance, constraint, progress
        As for `string`.

    Returns
    -------
    Path
        A polyline with `energies` on all data, `buffers` and `history`. With a climbing image its highest pivot is the
        saddle.

    Raises
    ------
    ConfigError, ShapeError, NonFiniteError

    Notes
    -----
    Costs one gradient per pivot and step. The improved tangent, and so the path, has an error of first order in the
    distance of the pivots; the climbing image has none.

    References
    ----------
    .. [1] Henkelman, Uberuaga, Jonsson (2000), J. Chem. Phys. 113, 9901, eq. 5.
    .. [2] Henkelman, Jonsson (2000), J. Chem. Phys. 113, 9978.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.Expression("(x**2 - 1)**2*(1 + 0.3*x) + 4*(y - 1 + x**2)**2", ["x", "y"])
    >>> path = neb(well, [-1.0, 0.0], [1.0, 0.0], pivots=9, steps=1000, lr=0.02)
    >>> saddle = path.pivots[path.energies.argmax()]  # 1.5 x^2 + 4 x - 0.3 = 0 there
    >>> bool(well.gradient(saddle).norm() < 1e-6), round(float(saddle[0]), 5)
    (True, 0.073)
    """
    true_or_false("climbing", climbing)
    search = begin_search(potential, start, end, pivots, steps, lr, settings)
    stiffness = finite_number("spring", 0.1 / lr if spring is None else spring, least=0.0)
    return one_cycle(
        search, _nudged(stiffness, climbing), improved_tangents, lambda pivots: pivots, method="neb",
        spring=stiffness, climbing=climbing,
    )  # fmt: skip


def _nudged(spring: float, climbing: bool) -> Rule:
    def minus_force(pivots: Tensor, energies: Tensor, gradients: Tensor, progress: float) -> Tensor:
        inner, tangents = gradients[1:-1], improved_tangents(pivots, energies)
        chords = pivots.diff(dim=0).norm(dim=-1, keepdim=True)
        nudged: Tensor = perpendicular(inner, tangents) - spring * (chords[1:] - chords[:-1]) * tangents
        if not climbing or progress < 0.5:
            return nudged
        # compared on the device: to ask for the number of the highest image would wait for it at every step
        top = (torch.arange(len(energies), device=energies.device) == energies.argmax())[1:-1, None]
        climb: Tensor = inner - 2 * (inner * tangents).sum(-1, keepdim=True) * tangents
        return torch.where(top, climb, nudged)

    return minus_force
