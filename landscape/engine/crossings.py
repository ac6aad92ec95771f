"""Absorbing boundaries for states that live in torch: who crossed one during a step, where and when."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from landscape.boundaries.bridges import Draws, first_crossing, may_cross, pieces_of
from landscape.engine.base import Plan
from landscape.engine.level_crossings import onto_level, share_of_level
from landscape.integrators.base import Memory, StepContext
from landscape.noise.forms import Spread

__all__ = ["Crossings"]


CHANGING_PIECES = 8  # of a step whose length only the device knows: enough up to half of the way between two boundaries


class Crossings:
    """Marks chains that cross an absorbing boundary, and keeps them where they left.

    Of several boundaries the one counts that the path meets first, at a time drawn from its law (see `bridges`); where
    paths are not Brownian it is that of the straight line. Positions are those before mirrors fold them back, and the
    images of the boundaries in the mirrors are boundaries too.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        (walls, stays, sides), dim = plan.walls.exits, plan.potential.dim
        self.dim, self.stays, self.sides = dim, torch.as_tensor(stays), torch.as_tensor(sides)
        self.low, self.high = (torch.as_tensor(side, device=plan.device) for side in walls)
        self.walls = {
            int(d): [
                (k, float(walls[k, d]), 2 * int(d) + k + (2 * dim if sides[k, d] != 2 * k - 1 else 0))
                for k in (0, 1)
                if np.isfinite(walls[k, d])
            ]
            for d in np.flatnonzero(np.isfinite(walls).any(axis=0))
        }
        self.bridge = plan.integrator.brownian and plan.integrator.thermal_noise.white
        self._most: dict[int, int] = {}

    def apply(self, before: Tensor, after: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The positions after the step: of chains that left, those where they left."""
        gone = memory["exit_wall"] != 0
        start, end = before.double(), after.double()
        amplitude = at.amplitude.squeeze(1).double()
        draws = Draws(at.seed, at.chains, at.counter)
        first, wall = torch.full_like(gone, 2.0, dtype=torch.float64), memory["exit_wall"]
        stay = torch.zeros_like(first)
        spread = self._spread(before) if self.walls else None
        for d, walls in self.walls.items():
            variance = (amplitude.square() * (1.0 if spread is None else spread.along(d))).expand_as(first)
            share, side = self._first(d, walls, start[:, d], end[:, d], variance, draws, gone)
            new = ~gone & (share < first)
            first = torch.where(new, share, first)
            exits = self.sides[:, d].to(side.device)[side] * (d + 1)
            wall, stay = torch.where(new, exits, wall), torch.where(new, self.stays[:, d].to(side.device)[side], stay)
        levels, side_of = self.plan.walls.levels, torch.zeros_like(gone, dtype=torch.int64)
        for number, level in enumerate(levels):
            on = (~gone).nonzero()[:, 0]
            near, heat = before[on], amplitude.expand(len(gone))[on]
            share, side = torch.full_like(first, 2.0), torch.zeros_like(side_of)
            share[on], side[on] = share_of_level(
                level, self.plan.walls, near, after[on], partial(self._covaried, near), heat, draws.of(on),
                (len(levels), number), bridge=self.bridge,
            )  # fmt: skip
            new = ~gone & (share < first)
            first, side_of = torch.where(new, share, first), torch.where(new, side, side_of)
            wall = torch.where(new, (2.0 * side - 1.0) * (self.dim + 1 + number), wall)
        left = first <= 1.0
        memory["exit_step"] = torch.where(left, at.counter + first, memory["exit_step"])
        memory["exit_wall"] = wall
        rows = torch.arange(len(left), device=left.device) if self._replayed else left.nonzero()[:, 0]
        if len(rows):
            by_box = wall[rows].abs() <= self.dim
            point = self._point(before, start, end, amplitude, first.clamp(0.0, 1.0), wall, stay, draws, rows)
            for number, level in enumerate(levels):
                by = ~by_box & (wall[rows].abs() == self.dim + 1 + number)
                some, chosen = rows[by], side_of[rows[by]]
                if len(some):
                    near = before[some]
                    point[by] = onto_level(
                        level, self.plan.walls, point[by].to(before), chosen, partial(self._covaried, near)
                    ).to(point)
            after = after.index_copy(0, rows, torch.where(left[rows, None], point.to(after), after[rows]))
        return torch.where(gone.unsqueeze(1), before, after)

    @property
    def _replayed(self) -> bool:
        """Whether steps may be captured and replayed: then nothing may depend on how many chains leave."""
        return self.plan.device.type != "cpu"

    def _first(
        self, d: int, walls: list[tuple[int, float, int]], start: Tensor, end: Tensor, variance: Tensor, draws: Draws,
        gone: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """When and by which side a coordinate leaves: paths near a boundary alone are looked at, where that is known.

        Those that are gone rest on their boundary, and are not.
        """
        number, bridge = (self.dim, d), self.bridge
        if self._replayed:
            changing = self.plan.scheduled or not self.plan.integrator.thermal_noise.additive
            if d not in self._most:
                self._most[d] = CHANGING_PIECES if changing else pieces_of(variance, walls)
            most = self._most[d] if bridge else 1
            return first_crossing(start, end, variance, walls, draws, number, bridge=bridge, most=most)
        near = may_cross(start, end, variance if bridge else torch.zeros_like(variance), walls)
        rows = (near & ~gone).nonzero()[:, 0]
        share, side = torch.full_like(start, 2.0), torch.zeros_like(start, dtype=torch.int64)
        if len(rows):
            some = start[rows], end[rows], variance[rows]
            share[rows], side[rows] = first_crossing(*some, walls, draws.of(rows), number, bridge=bridge)
        return share, side

    def _point(
        self, before: Tensor, start: Tensor, end: Tensor, amplitude: Tensor, first: Tensor, wall: Tensor, stay: Tensor,
        draws: Draws, rows: Tensor,
    ) -> Tensor:  # fmt: skip
        """Where chains are when they leave, ``(rows, dim)``: on their boundary, elsewhere on the path at that time."""
        share = first[rows, None]
        box = wall[rows].abs() <= self.dim
        place = torch.where(box, wall[rows].abs().long() - 1, 0).clamp_min(0)
        point = start[rows] + share * (end[rows] - start[rows])
        if self.bridge:
            shaken = draws.of(rows).normals(self.dim) * (share * (1.0 - share)).sqrt()
            spread = self._spread(before[rows])
            heat = amplitude[rows, None]
            point = point + (heat * shaken if spread is None else spread.shake(shaken, heat))
            if spread is not None and spread.root is not None:  # given that this coordinate is on its boundary
                covariance = spread.covariance.to(shaken).expand(len(rows), -1, -1)
                each = torch.arange(len(rows), device=place.device)
                shared, own = covariance[each, place], covariance[each, place, place]
                miss = stay[rows] - point.gather(1, place[:, None])[:, 0]
                point = point + torch.where(box & (own > 0), miss / own, 0.0)[:, None] * shared
        low, high = self.low.to(point), self.high.to(point)
        stays = self.stays.to(point)
        point = torch.where(point < low, stays[0], torch.where(point > high, stays[1], point))
        return torch.where(box[:, None], point.scatter(1, place[:, None], stay[rows, None]), point)

    def _covaried(self, before: Tensor, vector: Tensor) -> Tensor:
        """C v, with the covariance C of the noise of a step in units of its amplitude squared, ``(n, dim)``."""
        spread = self._spread(before)
        return vector if spread is None else spread.times(vector)

    def freeze(self, former: Memory, memory: Memory) -> None:
        """Take back what a step did to the memory of chains that had left before it."""
        gone = memory["exit_wall"] != 0
        for name, value in memory.items():
            columns = gone.reshape(-1, *(1,) * (value.ndim - 1))
            memory[name] = torch.where(columns, former[name], value) if value.shape == former[name].shape else value

    def _spread(self, before: Tensor) -> Spread | None:
        return self.plan.integrator.spread(self.plan.potential, before)
