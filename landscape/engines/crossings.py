"""Absorbing walls for states that live in torch: who crossed one during a step, where and when."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from landscape import random
from landscape.engines.base import Plan
from landscape.integrators.base import Memory, StepContext
from landscape.noise.covariance import CovarianceNoise
from landscape.noise.hessian import HessianNoise

__all__ = ["Crossings"]


class Crossings:
    """Marks chains that cross an absorbing wall, and keeps them where they left.

    Between two points at distances d1 and d2 inside a wall a Brownian path of variance s^2 per step has crossed it with
    probability exp(-2 d1 d2/s^2), which is exp(-d1 d2/(T dt)) for thermal noise. The time of the crossing is
    interpolated: the fraction d1/(d1 + d2) of the step. Positions are those before mirrors fold them back, and the
    images of the walls in the mirrors are walls too.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        (walls, stays, sides), dim = plan.walls.exits, plan.potential.dim
        self.walls = [
            (int(d), k, float(walls[k, d]), float(stays[k, d]), int(sides[k, d]))
            for d in range(dim)
            for k in (0, 1)
            if np.isfinite(walls[k, d])
        ]
        self.bridge = plan.integrator.brownian and plan.integrator.thermal_noise.white

    def apply(self, before: Tensor, after: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The positions after the step: of chains that left, those where they left."""
        gone = memory["exit_wall"] != 0
        end = after.clone()
        first = torch.full_like(gone, 2.0, dtype=torch.float64)
        wall, stays = memory["exit_wall"], torch.zeros_like(after[:, 0])
        for d, k, value, stay, exit_side in self.walls:
            side = 2 * k - 1
            inside, beyond = side * (value - before[:, d]), side * (value - after[:, d])
            crossed = (beyond <= 0) | (inside < 0)
            inside = inside.clamp_min(0.0)
            end[:, d] = torch.where(beyond < 0, stay, end[:, d])  # where it may have met another wall first
            if self.bridge:
                variance = at.amplitude.squeeze(1).square() * self._spread(before, d, at)
                chance = torch.exp(-2.0 * inside * beyond / variance)
                call = 2 * d + k + (2 * after.shape[1] if side != exit_side else 0)
                draw = random.uniforms(at.seed, at.chains, at.counter, stream=random.CROSSING, call=call)
                moved = after[:, d] != before[:, d]  # not where a proposal was rejected
                crossed = crossed | (moved & (draw < chance))
            fraction = (inside / (inside + beyond.abs()).clamp_min(torch.finfo(inside.dtype).tiny)).to(torch.float64)
            new = crossed & ~gone & (fraction < first)
            first = torch.where(new, fraction, first)
            wall, stays = torch.where(new, exit_side * (d + 1), wall), torch.where(new, stay, stays)
        left = first <= 1.0
        memory["exit_step"] = torch.where(left, at.counter + first, memory["exit_step"])
        memory["exit_wall"] = wall
        for d in {d for d, *_ in self.walls}:
            end[:, d] = torch.where(left & (wall.abs() == d + 1), stays, end[:, d])
        return torch.where(gone.unsqueeze(1), before, torch.where(left.unsqueeze(1), end, after))

    def freeze(self, former: Memory, memory: Memory) -> None:
        """Take back what a step did to the memory of chains that had left before it."""
        gone = memory["exit_wall"] != 0
        for name, value in memory.items():
            columns = gone.reshape(-1, *(1,) * (value.ndim - 1))
            memory[name] = torch.where(columns, former[name], value) if value.shape == former[name].shape else value

    def _spread(self, before: Tensor, d: int, at: StepContext) -> Tensor | float:
        noise = self.plan.integrator.thermal_noise
        if isinstance(noise, CovarianceNoise):
            return float(noise.matrix[d, d])
        if isinstance(noise, HessianNoise):
            if d not in noise.indices(self.plan.potential):
                return noise.isotropic
            return self.plan.potential.hessian(before)[:, d, d].clamp_min(0.0)  # type: ignore[no-any-return]
        return 1.0
