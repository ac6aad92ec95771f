"""All chains as one tensor: any potential, any integrator, any device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.engines.base import Engine, Plan, State
from landscape.integrators.base import StepContext

__all__ = ["BatchedEngine"]


class BatchedEngine(Engine):
    """Steps of an integrator on a ``(chains, dim)`` tensor."""

    def __init__(self, plan: Plan, state: State) -> None:
        super().__init__(plan, state)
        self.chains = torch.arange(plan.chains, device=plan.device)
        self.dt = _column(plan.step_size, plan)
        self.amplitude = _column(plan.amplitude, plan)

    def advance(self, steps: int) -> None:
        """Take `steps` steps."""
        plan, state = self.plan, self.state
        noise = plan.integrator.thermal_noise
        keys = plan.keys_at(state.step)
        for step in range(state.step, state.step + steps):
            if any(start == step for start, _ in plan.data_seeds):
                keys = plan.keys_at(step)

            def gradient(position: Tensor, step: int = step, keys: object = keys) -> Tensor:
                return plan.potential.step_gradient(position, step=step, keys=keys)

            def draw(offset: int = 0, step: int = step) -> Tensor:
                return noise.draw(plan.seed, self.chains, step + offset, plan.potential.dim).to(plan.dtype)

            at = StepContext(step, self.dt, self.amplitude, gradient, draw)
            with torch.no_grad():
                state.position = plan.integrator.step(state.position, state.memory, at)
                if plan.walls.any:
                    state.position, mirrored = plan.walls.apply(state.position)
                    for name in plan.integrator.turned_by_walls:
                        value = state.memory[name]
                        state.memory[name] = torch.where(mirrored, -value, value)
        state.step += steps

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain."""
        with torch.no_grad():
            energy: Tensor = self.plan.potential.energy(self.state.position)
        return energy.to("cpu", torch.float64).numpy()


def _column(values: NDArray[np.float64], plan: Plan) -> Tensor:
    return torch.as_tensor(values, dtype=plan.dtype, device=plan.device).unsqueeze(1)
