"""A step that is the same every time but for its number: captured once as a CUDA graph, then replayed.

Small kernels cost more to launch than to run; a graph launches a whole step at once.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from landscape.common.capabilities import speaks_for
from landscape.engine.base import Plan, State
from landscape.integrators.step_context import StepContext

__all__ = ["RepeatedStep", "repeats"]

MOST_NUMBERS = 1 << 22  # of a state: beyond it the kernels are large and launching them costs nothing
WARM_UP = 3  # steps before the capture, as graphs of autograd ask for


class Steps(Protocol):
    """An engine that can make one step at the number its context has."""

    plan: Plan
    state: State
    context: StepContext

    def transition(self) -> None:
        """One step."""


def repeats(plan: Plan) -> bool:
    """Whether the steps of a plan differ in their number alone, and are worth capturing."""
    noise = plan.integrator.thermal_noise
    return (
        plan.device.type == "cuda"
        and plan.integrator.capturable
        and speaks_for(plan.integrator, "capturable", "step")
        and noise.capturable
        and speaks_for(noise, "capturable", "increment")
        and not plan.scheduled
        and not plan.driven
        and plan.restraints is None
        and not plan.walls.levels
        and plan.potential.sampler is None
        and plan.potential.ranks == 1
        and plan.chains * plan.potential.dim <= MOST_NUMBERS
    )


class RepeatedStep:
    """One step in buffers of its own, with the step's number as a scalar on the device.

    Bits are those of single steps: the same operations on the same numbers.
    """

    def __init__(self, engine: Steps, *, capture: bool = True) -> None:
        self.engine = engine
        state, at = engine.state, engine.context
        state.position = state.position.clone()
        state.memory = {name: value.clone() for name, value in state.memory.items()}
        self.counter = torch.full((), state.step, dtype=torch.int64, device=state.position.device)
        self.buffers = {"": state.position, **state.memory}
        self.graph = None
        if capture:
            at.counter = self.counter
            kept = {name: value.clone() for name, value in self.buffers.items()}
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self.once()
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.once()
            for name, value in kept.items():
                self.buffers[name].copy_(value)

    def once(self) -> None:
        """One step in place."""
        state = self.engine.state
        self.engine.transition()
        made: dict[str, Tensor] = {"": state.position, **state.memory}
        for name, buffer in self.buffers.items():
            buffer.copy_(made[name])
        state.position = self.buffers[""]
        state.memory = {name: buffer for name, buffer in self.buffers.items() if name}
        self.counter += 1

    def run(self, steps: int) -> None:
        """So many steps from the engine's state."""
        state = self.engine.state
        self.counter.fill_(state.step)
        self.engine.context.counter = self.counter
        self.engine.context.step = state.step
        for _ in range(steps):
            if self.graph is None:
                self.once()
            else:
                self.graph.replay()
        state.step += steps
