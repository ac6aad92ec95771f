"""Levels of functions that absorb: how far a step is from them, and where on them a chain has left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from landscape import random
from landscape.boundaries.bridges import Draws, first_crossing
from landscape.boundaries.walls import Level, Walls

__all__ = ["onto_level", "share_of_level"]

NEWTON = 8  # steps onto a level, from points that are off by the curvature over a step
SECANTS = 4  # towards a level along the normal: for a circle at half of its radius off by less than 1e-3 of it
REACH = 40.0  # distances of which product over s^2 are looked at closely: beyond, a crossing has a chance below 1e-8
TINY = 1e-300
STEEP = 0.5  # of the slope along the step, below which the gradient at an end says nothing of the way to the level

Metric = Callable[[Tensor], Tensor]


def _value_alone(level: Level, walls: Walls, position: Tensor) -> Tensor:
    """q ``(n,)`` of unfolded positions."""
    q: Tensor = level.field.energy(walls.apply(position)[0] if walls.folds else position)
    return q.double()


def _value(level: Level, walls: Walls, position: Tensor) -> tuple[Tensor, Tensor]:
    """q ``(n,)`` and its gradient ``(n, dim)`` of unfolded positions: those at their images in mirrors and periods."""
    folded, mirrored = walls.apply(position) if walls.folds else (position, None)
    q, slope = level.field.energy(folded), level.field.gradient(folded)
    return q.double(), (slope if mirrored is None else torch.where(mirrored, -slope, slope)).double()


def share_of_level(
    level: Level, walls: Walls, before: Tensor, after: Tensor, covary: Metric, amplitude: Tensor, draws: Draws,
    numbers: tuple[int, int], *, bridge: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """When within a step, and by which side, chains leave by a level; both ``(n,)``, 2 where they stay.

    Distances are those along u = C grad q / sqrt(grad q . C grad q), whose noise in a step is `amplitude`: where the
    level is in reach they solve q(x + d u) = c, elsewhere d = (c - q) / sqrt(grad q . C grad q). Where the gradient all
    but vanishes (the middle of a disk) the slope is that along the step.

    Parameters
    ----------
    before, after : tensors ``(n, dim)``
    covary : callable
        C v of vectors ``(n, dim)``, C the covariance of the noise of the step over `amplitude` squared.
    amplitude : tensor ``(n,)``
    draws : Draws
    numbers : (levels, number of this one)
    bridge : bool
        Whether paths are Brownian between the ends; else they are straight.
    """
    count, number = numbers
    ends = [before.double(), after.double()]
    found = [_value(level, walls, at) for at in (before, after)]
    (q0, _), (q1, _) = found
    step = ends[1] - ends[0]
    way = step.norm(dim=1).clamp_min(TINY)
    covaried = covary(step / way[:, None]) if bridge else step / way[:, None]
    along = (step * covaried).sum(dim=1).clamp_min(0.0).div(way).sqrt()  # noise along the step over the amplitude
    least = STEEP * (q1 - q0).abs() / way * along
    slopes, normals = [], []
    for _, g in found:
        covaried = covary(g) if bridge else g
        slope = (g * covaried).sum(dim=1).clamp_min(0.0).sqrt()
        slopes.append(torch.maximum(slope, least).clamp_min(TINY))
        normals.append(torch.where(slope >= least, 1.0 / slope.clamp_min(TINY), 0.0)[:, None] * covaried)
    share, side = torch.full_like(q0, 2.0), torch.zeros_like(q0, dtype=torch.int64)
    own = Draws(draws.seed, draws.chains, draws.step, random.LEVEL_CROSSING)
    s2 = amplitude.square()
    for k, c in level.ends:
        near, far = ((c - q) / slope for (q, _), slope in zip(found, slopes, strict=True))
        if bridge:
            rows = (near * far < REACH * s2).nonzero()[:, 0]
            for distance, (q, _), at, normal in zip((near, far), found, ends, normals, strict=True):
                distance[rows] = _solved(level, walls, c, distance[rows], q[rows], at[rows], normal[rows], before.dtype)
        wall = [(k, 0.0, 2 * number + k)]
        met, _ = first_crossing(-near, -far, s2, wall, own, (count, number), bridge=bridge)
        sooner = met < share
        share, side = torch.where(sooner, met, share), torch.where(sooner, k, side)
    return share, side


def _solved(
    level: Level, walls: Walls, c: float, guess: Tensor, q: Tensor, at: Tensor, normal: Tensor, dtype: torch.dtype
) -> Tensor:
    """d with q(x + d u) = c by secants from a guess, which stands where they do not get there."""
    former, off, d = torch.zeros_like(guess), q - c, guess.clone()
    for _ in range(SECANTS):
        new = _value_alone(level, walls, (at + d[:, None] * normal).to(dtype)) - c
        rise = new - off
        move = torch.where(rise != 0, -new * (d - former) / torch.where(rise != 0, rise, 1.0), 0.0)
        former, off, d = d, new, d + move.clamp(-guess.abs(), guess.abs())
    there = (off.abs() <= 0.05 * (q - c).abs()) & (d * guess >= 0)
    return torch.where(there, d, guess)


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
