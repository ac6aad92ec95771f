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
    interpolated: the fraction d1/(d1 + d2) of the step.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.walls = [
            (int(d), side, float(value))
            for d in range(plan.potential.dim)
            for side, value in ((-1, plan.walls.exit_lows[d]), (1, plan.walls.exit_highs[d]))
            if np.isfinite(value)
        ]
        self.bridge = plan.integrator.brownian and plan.integrator.thermal_noise.white

    def apply(self, before: Tensor, after: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The positions after the step: of chains that left, those where they left."""
        gone = memory["exit_wall"] != 0
        left = gone
        for d, side, value in self.walls:
            inside, beyond = side * (value - before[:, d]), side * (value - after[:, d])
            crossed = beyond <= 0
            if self.bridge:
                variance = at.amplitude.squeeze(1).square() * self._spread(before, d, at)
                chance = torch.exp(-2.0 * inside * beyond / variance)
                draw = random.uniforms(at.seed, at.chains, at.counter, stream=random.CROSSING, call=2 * d + (side > 0))
                moved = after[:, d] != before[:, d]  # not where a proposal was rejected
                crossed = crossed | (moved & (draw < chance))
            new = crossed & ~left
            fraction = inside / (inside + beyond.abs()).clamp_min(torch.finfo(inside.dtype).tiny)
            exit_step = at.counter + fraction.to(torch.float64)
            memory["exit_step"] = torch.where(new, exit_step, memory["exit_step"])
            memory["exit_wall"] = torch.where(new, side * (d + 1), memory["exit_wall"])
            after = after.clone()
            after[:, d] = torch.where(new, value, after[:, d])
            left = left | new
        return torch.where(gone.unsqueeze(1), before, after)

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
