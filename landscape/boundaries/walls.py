"""Boundaries of a run as arrays: what folds coordinates back, where chains leave, and levels that absorb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape import random
from landscape.potentials.base import Potential

__all__ = ["OPEN", "PERIODIC", "REFLECT", "SEAM_SHARE", "Level", "Walls", "seam_rises"]

OPEN, REFLECT, PERIODIC = range(3)
TURNS, NEWTON = 8, 12  # points on a level where its curvature is looked at, and the steps onto it
FEW = 32  # coordinates, which are folded one by one
SEAM_SHARE = 1e-3  # of T, by which the energy may differ between the ends of a period: the law is off by as much


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A function of position whose levels absorb, an open side infinite, and what an exit by it is called."""

    field: Potential
    below: float
    above: float
    name: str

    @property
    def ends(self) -> list[tuple[int, float]]:
        """(0, below) and (1, above), those that there are."""
        return [(k, c) for k, c in enumerate((self.below, self.above)) if np.isfinite(c)]

    def width(self, position: Tensor) -> float:
        """Least distance between two levels as it is at some positions, infinite where there is one."""
        slope = self.field.gradient(position).norm(dim=-1)
        return float(((self.above - self.below) / slope[slope > 0]).min()) if bool((slope > 0).any()) else np.inf

    def turn(self, position: Tensor, way: float) -> float:
        """By how much the normal turns over a way along the level near some positions, at most; s/R of a circle.

        In d dimensions it is the root mean square of d - 1 ways: s sqrt(d - 1)/R of a sphere.
        """
        shifts = random.normals(0, torch.arange(2 * TURNS), 0, position.shape[1], precision="float64").to(position)
        most = 0.0
        for _, c in self.ends:
            point = position[torch.arange(TURNS) % len(position)] + way * shifts[:TURNS]
            for _ in range(NEWTON):
                q, slope = self.field.energy(point), self.field.gradient(point)
                point = point + ((c - q) / slope.square().sum(dim=-1).clamp_min(1e-30))[:, None] * slope
            q, slope = self.field.energy(point), self.field.gradient(point)
            steep = slope.norm(dim=-1, keepdim=True)
            normal = slope / steep.clamp_min(1e-30)
            tangent = shifts[TURNS:] - (shifts[TURNS:] * normal).sum(-1, keepdim=True) * normal
            tangent = tangent * (way / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-30))
            change = self.field.gradient(point + tangent) - self.field.gradient(point - tangent)
            turns = (change * tangent).sum(-1).abs() / (2.0 * way * steep[:, 0].clamp_min(1e-30))
            there = (q - c).abs() < 1e-3 * (1.0 + abs(c))
            if bool(there.any()) and position.shape[1] > 1:
                most = max(most, float(turns[there].median()) * (position.shape[1] - 1) ** 0.5)
        return most


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """Walls of every coordinate as arrays ``(dim,)``: what folds it back, and where chains leave.

    Attributes
    ----------
    kinds, lows, highs : arrays
        OPEN, REFLECT or PERIODIC, and its two sides; an open side is infinite.
    exit_lows, exit_highs : arrays
        Absorbing boundaries, infinite where there are none.
    levels : tuple of Level
        Functions of which levels absorb.
    """

    kinds: NDArray[np.int64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    exit_lows: NDArray[np.float64]
    exit_highs: NDArray[np.float64]
    levels: tuple[Level, ...] = ()

    @property
    def any(self) -> bool:
        """Whether any coordinate has boundaries."""
        return self.folds or self.absorbs

    @property
    def folds(self) -> bool:
        """Whether any coordinate is mirrored or periodic."""
        return bool(self.kinds.any())

    @property
    def mirrors(self) -> bool:
        """Whether there are reflecting boundaries."""
        return bool((self.kinds == REFLECT).any())

    @property
    def absorbs(self) -> bool:
        """Whether chains may leave."""
        return bool(self.levels or np.isfinite(self.exit_lows).any() or np.isfinite(self.exit_highs).any())

    @property
    def winds(self) -> bool:
        """Whether any coordinate is periodic."""
        return bool((self.kinds == PERIODIC).any())

    @property
    def periods(self) -> NDArray[np.float64]:
        """Length of the period of each coordinate, 0 of those that have none."""
        periodic = self.kinds == PERIODIC
        return np.subtract(self.highs, self.lows, out=np.zeros(len(self.kinds)), where=periodic)

    @property
    def exits(self) -> NDArray[np.float64]:
        """Where chains leave, ``(3, 2, dim)``, on the low and the high side of each coordinate.

        The boundary on the unfolded path (infinite where there is none), where a chain then stays, and the side of the
        absorbing boundary. A mirror opposite to an absorbing boundary shows its image, by which paths leave that have
        been to the mirror.
        """
        absorbing = np.stack([self.exit_lows, self.exit_highs])
        walls, stays = absorbing.copy(), absorbing.copy()
        sides = np.repeat([[-1.0], [1.0]], len(self.kinds), axis=1)
        for side, mirror in enumerate((self.lows, self.highs)):
            opposite = absorbing[1 - side]
            shown = (self.kinds == REFLECT) & np.isfinite(mirror) & np.isfinite(opposite)
            walls[side, shown] = 2.0 * mirror[shown] - opposite[shown]
            stays[side, shown], sides[side, shown] = opposite[shown], -sides[side, shown]
        return np.stack([walls, stays, sides])

    def exit_name(self, number: int, potential: Potential) -> str:
        """What an exit by the boundary of a number is called: coordinates from 1, then levels; nothing at 0."""
        dim = len(self.kinds)
        if number > dim:
            return self.levels[number - dim - 1].name
        return potential.coordinate_name(number - 1) if number else ""

    def exit_number(self, name: str, potential: Potential) -> int:
        """The number of a boundary by its name."""
        names = [level.name for level in self.levels]
        if name in names:
            return len(self.kinds) + 1 + names.index(name)
        return potential.coordinate_index(name) + 1 if name else 0

    @property
    def exit_widths(self) -> NDArray[np.float64]:
        """Distance between the two boundaries (or their images) at which chains leave, infinite where there is one."""
        low, high = self.exits[0]
        return np.asarray(high - low)

    @property
    def free(self) -> NDArray[np.int64]:
        """Numbers of the coordinates without any boundary."""
        exits = np.isfinite(self.exit_lows) | np.isfinite(self.exit_highs)
        return np.flatnonzero((self.kinds == OPEN) & ~exits)

    def apply(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Positions folded back, and where a coordinate was mirrored an odd number of times; both ``(..., dim)``."""
        if len(self.kinds) > FEW:
            return self._apply_to_many(position)
        columns = list(position.unbind(-1))
        mirrored = [torch.zeros_like(column, dtype=torch.bool) for column in columns]
        for d in np.flatnonzero(self.kinds):
            low, high = float(self.lows[d]), float(self.highs[d])
            if self.kinds[d] == REFLECT:
                columns[d], mirrored[d] = _reflect(columns[d], low, high)
            elif self.kinds[d] == PERIODIC:
                columns[d] = _wrap(columns[d], low, high)
        return torch.stack(columns, dim=-1), torch.stack(mirrored, dim=-1)

    def _apply_to_many(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """`apply` for all coordinates of a kind at once."""
        position, mirrored = position.clone(), torch.zeros_like(position, dtype=torch.bool)
        for kind in (REFLECT, PERIODIC):
            (chosen,) = np.nonzero(self.kinds == kind)
            for open_sides in np.unique(self._open_sides[chosen]):
                some = torch.as_tensor(chosen[self._open_sides[chosen] == open_sides], device=position.device)
                low, high = (torch.as_tensor(side).to(position)[some] for side in (self.lows, self.highs))
                x = position[..., some]
                if kind == REFLECT:
                    position[..., some], mirrored[..., some] = _reflect(x, low, high)
                else:
                    position[..., some] = _wrap(x, low, high)
        return position, mirrored

    @property
    def _open_sides(self) -> NDArray[np.int64]:
        """For each coordinate 1 where its low side is open, plus 2 where its high side is."""
        return np.asarray(np.isinf(self.lows) + 2 * np.isinf(self.highs), dtype=np.int64)

    def turns(self, position: Tensor) -> Tensor:
        """Periods by which `apply` moves the coordinates ``(..., dim)``, whole numbers in float64."""
        counts = torch.zeros_like(position, dtype=torch.float64)
        for d in np.flatnonzero(self.kinds == PERIODIC):
            low, high = float(self.lows[d]), float(self.highs[d])
            x = position[..., d]
            counts[..., d] = torch.where((x >= low) & (x < high), 0.0, ((x - low) / (high - low)).floor()).double()
        return counts

    def outside(self, position: NDArray[Any]) -> NDArray[np.bool_]:
        """Where coordinates lie beyond a reflecting or absorbing boundary, same shape."""
        beyond: NDArray[np.bool_] = (self.kinds == REFLECT) & ((position < self.lows) | (position > self.highs))
        return beyond | (position < self.exit_lows) | (position > self.exit_highs)

    def escaped(self, position: Tensor) -> tuple[int, str] | None:
        """The first of positions ``(chains, dim)`` that is not between the levels, and why."""
        for level in self.levels:
            q = level.field.energy(position)
            low, high = (c - 1e-6 * (1.0 + abs(c)) * side for side, c in ((1, level.below), (-1, level.above)))
            gone = torch.nonzero(~((q >= low) & (q <= high)))  # who has left before rests on the level, to rounding
            if len(gone):
                chain = int(gone[0])
                return chain, f"{level.name} = {float(q[chain]):g}, beyond ({level.below:g}, {level.above:g})"
        return None

    def beyond(self, position: Tensor) -> Tensor:
        """Which positions ``(..., dim)`` lie beyond a reflecting boundary, ``(...)``."""
        beyond = torch.zeros_like(position[..., 0], dtype=torch.bool)
        for d in np.flatnonzero(self.kinds == REFLECT):
            beyond |= (position[..., d] < float(self.lows[d])) | (position[..., d] > float(self.highs[d]))
        return beyond


def _open(side: float | Tensor) -> bool:
    """Whether there is no boundary on a side, which is open for all coordinates or for none."""
    return bool(torch.isinf(side).any()) if isinstance(side, Tensor) else bool(np.isinf(side))


def _reflect(x: Tensor, low: float | Tensor, high: float | Tensor) -> tuple[Tensor, Tensor]:
    if _open(low):
        return torch.where(x > high, high - (x - high), x), x > high
    if _open(high):
        return torch.where(x < low, low + (low - x), x), x < low
    width = high - low
    y = (x - low) / (2.0 * width)
    y = (y - y.floor()) * (2.0 * width)
    outside, odd = (x < low) | (x > high), y > width
    return torch.where(outside, low + torch.where(odd, 2.0 * width - y, y), x), outside & odd


def _wrap(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    y = (x - low) / (high - low)
    return torch.where((x >= low) & (x < high), x, low + (y - y.floor()) * (high - low))


def seam_rises(potential: Potential, walls: Walls, position: Tensor) -> dict[int, Tensor]:
    """V at the low end of each period less V at its high end, by coordinate, for the others as in ``(n, dim)``."""
    rises = {}
    for d in np.flatnonzero(walls.kinds == PERIODIC):
        ends = []
        for end in (walls.lows[d], walls.highs[d]):
            at = position.clone()
            at[:, d] = float(end)
            with torch.no_grad():
                ends.append(potential.energy(at))
        rises[int(d)] = ends[0] - ends[1]
    return rises
