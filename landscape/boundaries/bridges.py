"""Brownian paths between two known points: whether, when and where they meet a boundary. Pure functions of counters.

Between distances n and f inside a boundary a path whose steps have the variance s^2 has met it with probability exp(-2
n f/s^2). Given that it has (or that it ends f beyond the boundary), the share t of the step after which it first does
has the density

    t^(-3/2) (1 - t)^(-1/2) exp[-n^2/(2 s^2 t) - f^2/(2 s^2 (1 - t))],

so that u = t/(1 - t) is inverse Gaussian of mean n/f and shape n^2/s^2, which one normal and one uniform variate draw
exactly (Michael, Schucany, Haas, The American Statistician 30, 88 (1976)). Between two boundaries the step is divided
until a piece is so short that no path meets both. `kernels.crossing` is the compiled form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from landscape import random

__all__ = ["MOST_PIECES", "PIECES", "Draws", "first_crossing", "may_cross", "pieces_of", "when"]

# A piece's s is at most a sixth of the distance of two boundaries: exp(-6^2/2) = 2e-8 bounds the chance to meet both.
PIECES: Final = 36.0
MOST_PIECES: Final = 4096  # for steps of ten times the distance: by then nobody is left inside
TINY: Final = 1e-100


@dataclass(frozen=True, slots=True)
class Draws:
    """Variates of one step for some chains."""

    seed: int
    chains: Tensor
    step: int | Tensor
    stream: int = random.CROSSING

    def of(self, rows: Tensor) -> Draws:
        """Those of some of the chains."""
        return Draws(self.seed, self.chains[rows], self.step, self.stream)

    def uniform(self, call: int, *, second: bool = False) -> Tensor:
        """Uniform variates in (0, 1), ``(n,)``."""
        return random.uniforms(self.seed, self.chains, self.step, stream=random.CROSSING, call=call, second=second)

    def normal(self, call: int) -> Tensor:
        """Standard normal variates, ``(n,)``."""
        calls = torch.full((1,), call, dtype=torch.int64, device=self.chains.device)
        return random.normals_of_calls(self.seed, self.chains, self.step, calls, stream=self.stream)[:, 0]

    def normals(self, dim: int) -> Tensor:
        """Standard normal variates for the point of the exit, ``(n, dim)``."""
        calls = torch.arange(dim, device=self.chains.device)
        return random.normals_of_calls(self.seed, self.chains, self.step, calls, stream=random.EXIT_POINT)


def when(near: Tensor, far: Tensor, variance: Tensor, normal: Tensor, chance: Tensor) -> Tensor:
    """The share of a step after which a path first meets a boundary that it meets, in [0, 1], ``(n,)``.

    Parameters
    ----------
    near, far : float64 tensors ``(n,)``
        Distances of start and end from the boundary, on whichever side the end is.
    variance : tensor ``(n,)``
        s^2 of the step.
    normal, chance : tensors ``(n,)``
        Standard normal and uniform variates.

    Examples
    --------
    From 1 to -1 in a step of variance 1 the first passage of 0 is in the first half with probability 1/2 + e^2 Phi(-2):

    >>> generator = torch.Generator().manual_seed(0)
    >>> normal, chance = torch.randn(20000, generator=generator).double(), torch.rand(20000, generator=generator)
    >>> one = torch.ones(20000, dtype=torch.float64)
    >>> share = when(one, one, one, normal, chance)
    >>> abs(float((share < 0.5).double().mean()) - 0.6681) < 0.015
    True
    """
    near, far = near.clamp_min(TINY), far.clamp_min(TINY)
    w = normal * normal * variance / (near * far)
    r = 1.0 / (1.0 + 0.5 * w + w.sqrt() * (1.0 + 0.25 * w).sqrt())
    r = torch.where(chance * (1.0 + r) > 1.0, 1.0 / r, r)
    return near * r / (far + near * r)


def first_crossing(
    start: Tensor, end: Tensor, variance: Tensor, walls: list[tuple[int, float, int]], draws: Draws,
    numbers: tuple[int, int], *, bridge: bool, most: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """When and by which boundary a coordinate leaves within a step; both ``(n,)``.

    Parameters
    ----------
    start, end, variance : float64 tensors ``(n,)``
        The coordinate before and after the step, and the variance of its noise.
    walls : list of (side, value, call)
        Side 0 for a boundary below, 1 above; the number of its variates, below 4 `dim`.
    draws : Draws
    numbers : (dim, d)
        Coordinates, and which it is: they keep the variates of coordinates apart.
    bridge : bool
        Whether paths are Brownian between start and end; else they are straight.
    most : int, optional
        Pieces that no step needs more of; without it they are counted.

    Returns
    -------
    share : tensor
        Of the step, 2 where the path stays.
    side : int64 tensor
    """
    dim, d = numbers
    share, side = torch.full_like(start, 2.0), torch.zeros_like(start, dtype=torch.int64)
    pieces = torch.ones_like(start)
    if bridge and len(walls) == 2:
        pieces = torch.where(start != end, _pieces(variance, walls), 1.0)
        most = int(pieces.max()) if most is None else most
    variance, x = variance / pieces, start
    for j in range(most or 1):
        left = pieces - j
        on = (share > 1.0) & (left >= 1)
        y = end.clone()
        rows = _some(on & (left > 1))
        if j + 1 < (most or 1) and len(rows):
            fewer = left[rows].clamp_min(1.0)
            spread = (variance[rows] * (fewer - 1) / fewer).sqrt()
            shift = (end[rows] - x[rows]) / fewer + spread * draws.of(rows).normal(4 * dim * (3 * j + 2) + d)
            y[rows] = torch.where(left[rows] > 1, x[rows] + shift, end[rows])
        first, at = torch.full_like(start, 2.0), torch.zeros_like(side)
        for k, value, number in walls:
            sign, call = 2 * k - 1, 4 * dim * 3 * j + number
            near, far = sign * (value - x), sign * (value - y)
            crossed = on & ((far <= 0) | (near < 0))
            near = near.clamp_min(0.0)
            if bridge:
                rows = _some(on & ~crossed & (x != y) & (2.0 * near * far < 40.0 * variance))
                chance = torch.exp(-2.0 * near[rows] * far[rows] / variance[rows])
                met = draws.of(rows).uniform(call) < chance
                crossed[rows] |= met & on[rows] & (x[rows] != y[rows])
                rows, fraction = _some(crossed), torch.full_like(start, 2.0)
                drawn = draws.of(rows)
                variates = drawn.normal(call + 4 * dim), drawn.uniform(call, second=True)
                fraction[rows] = when(near[rows], far[rows].abs(), variance[rows], *variates)
            else:
                fraction = near / (near + far.abs()).clamp_min(1e-300)
            sooner = crossed & (fraction < first)
            first, at = torch.where(sooner, fraction, first), torch.where(sooner, k, at)
        new = on & (first <= 1.0)
        share, side = torch.where(new, (j + first) / pieces, share), torch.where(new, at, side)
        x = y
        if _on_host(start) and not bool(((share > 1.0) & (left > 1)).any()):
            break
    return share, side


def _some(which: Tensor) -> Tensor:
    """Numbers of those for which it holds; of all on an accelerator, where steps are captured and replayed."""
    return which.nonzero()[:, 0] if _on_host(which) else torch.arange(len(which), device=which.device)


def _on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _pieces(variance: Tensor, walls: list[tuple[int, float, int]]) -> Tensor:
    return torch.ceil(PIECES * variance / _squared_width(walls)).clamp(1, MOST_PIECES)


def _squared_width(walls: list[tuple[int, float, int]]) -> float:
    width = walls[1][1] - walls[0][1]
    return width * width  # infinite between walls 1e300 apart, where ** would raise an error


def pieces_of(variance: Tensor, walls: list[tuple[int, float, int]]) -> int:
    """Pieces of the longest step."""
    return int(_pieces(variance, walls).max()) if len(walls) == 2 else 1


def may_cross(start: Tensor, end: Tensor, variance: Tensor, walls: list[tuple[int, float, int]]) -> Tensor:
    """Which paths may meet a boundary, those with a chance below exp(-40) left out, ``(n,)``."""
    found = torch.zeros_like(start, dtype=torch.bool)
    for k, value, _ in walls:
        near, far = (2 * k - 1) * (value - start), (2 * k - 1) * (value - end)
        found |= (far <= 0) | (near < 0) | (2.0 * near * far < 40.0 * variance)
    if len(walls) == 2:
        found |= PIECES * variance > _squared_width(walls)
    return found
