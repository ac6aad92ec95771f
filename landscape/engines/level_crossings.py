"""Levels of functions that absorb: how far a step is from them, and where on them a chain has left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from landscape import random
from landscape.bridges import Draws, first_crossing
from landscape.constraints import Level, Walls

__all__ = ["onto_level", "share_of_level"]

NEWTON = 8  # steps onto a level, from points that are off by the curvature over a step
STEEP = 0.5  # of the slope along the step, below which the gradient at an end says nothing of the way to the level

Metric = Callable[[Tensor], Tensor]


def _value(level: Level, walls: Walls, position: Tensor) -> tuple[Tensor, Tensor]:
    """q ``(n,)`` and its gradient ``(n, dim)`` of unfolded positions: those at their images in mirrors and periods."""
    folded, mirrored = walls.apply(position) if walls.folds else (position, None)
    q, slope = level.field.energy(folded), level.field.gradient(folded)
    return q.double(), (slope if mirrored is None else torch.where(mirrored, -slope, slope)).double()


def share_of_level(
    level: Level, walls: Walls, before: Tensor, after: Tensor, variance: Metric, draws: Draws,
    numbers: tuple[int, int], *, bridge: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """When within a step, and by which side, chains leave by a level; both ``(n,)``, 2 where they stay.

    Distances are |c - q| / |grad q| at both ends, or, where the gradient all but vanishes (the middle of a disk), by
    the slope along the step.

    Parameters
    ----------
    before, after : tensors ``(n, dim)``
    variance : callable
        g . C . g of vectors ``(n, dim)``, C the covariance of the noise of the step.
    draws : Draws
    numbers : (levels, number of this one)
    bridge : bool
        Whether paths are Brownian between the ends; else they are straight.
    """
    count, number = numbers
    (q0, g0), (q1, g1) = (_value(level, walls, at) for at in (before, after))
    way = (after - before).double().norm(dim=1)
    least = STEEP * (q1 - q0).abs() / way.clamp_min(1e-300)
    slopes = [torch.maximum(g.norm(dim=1), least).clamp_min(1e-300) for g in (g0, g1)]
    flat = slopes[0][:, None] > g0.norm(dim=1, keepdim=True)
    s2 = variance(
        torch.where(flat, (after - before).double() / way.clamp_min(1e-300)[:, None], g0 / slopes[0][:, None])
    )
    share, side = torch.full_like(q0, 2.0), torch.zeros_like(q0, dtype=torch.int64)
    own = Draws(draws.seed, draws.chains, draws.step, random.LEVEL_CROSSING)
    for k, c in level.ends:
        sign = 2 * k - 1
        near, far = sign * (c - q0) / slopes[0], sign * (c - q1) / slopes[1]
        wall = [(k, 0.0, 2 * number + k)]
        met, _ = first_crossing(-sign * near, -sign * far, s2, wall, own, (count, number), bridge=bridge)
        sooner = met < share
        share, side = torch.where(sooner, met, share), torch.where(sooner, k, side)
    return share, side


def onto_level(level: Level, walls: Walls, point: Tensor, side: Tensor, covary: Metric) -> Tensor:
    """Points ``(n, dim)`` moved onto the level of a side ``(n,)`` along C grad q, by Newton steps."""
    goal = torch.where(side == 1, level.above, level.below)
    for _ in range(NEWTON):
        q, slope = _value(level, walls, point)
        along = covary(slope)
        rise = (slope * along).sum(dim=1)
        move = torch.where(rise > 0, (goal - q) / rise, 0.0)[:, None] * along
        point = point + move.to(point)
    return point
