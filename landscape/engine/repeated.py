"""A step that is the same every time but for its number: captured once as a CUDA graph, then replayed.

Small kernels cost more to launch than to run; a graph launches a whole step at once. What a step may not do in a
capture (wait for the device, copy from the host) or what a replay would not repeat (Python numbers and state of its
own) is found by trying: such steps are made one by one, and one line says why.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from landscape.common.capabilities import speaks_for
from landscape.common.notices import warn
from landscape.engine.base import Plan, State
from landscape.integrators.step_context import StepContext

__all__ = ["LEAST_STEPS", "RepeatedStep", "repeats"]

MOST_NUMBERS = 1 << 22  # of a state: beyond it the kernels are large and launching them costs nothing
WARM_UP = 3  # steps before the capture, as graphs of autograd ask for
TRIAL = 2  # steps that are made both ways: what a rule keeps from one to the next shows in the second
LEAST_STEPS = 2 * (WARM_UP + 1 + 2 * TRIAL)  # of an engine: a capture costs half as many


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

    Bits are those of single steps: the same operations on the same numbers, which a trial confirms.
    """

    def __init__(self, engine: Steps) -> None:
        self._engine = weakref.ref(engine)  # it holds this: a graph and its memory go with their engine
        state = engine.state
        self.counter = torch.full((), state.step, dtype=torch.int64, device=state.position.device)
        self.buffers = {"": state.position.clone(), **{name: value.clone() for name, value in state.memory.items()}}
        self._adopt()
        self.graph: torch.cuda.CUDAGraph | None = None
        refusal = self._capture()
        if refusal is not None:
            self.graph = None
            warn(f"every step is launched by itself, not replayed from a CUDA graph: {refusal}")

    @property
    def engine(self) -> Steps:
        """Whose steps these are."""
        engine = self._engine()
        if engine is None:
            raise ReferenceError("the engine of this step has gone")
        return engine

    def fits(self, state: State) -> bool:
        """Whether a state has the buffers' names, shapes and types."""
        given = {"": state.position, **state.memory}
        return given.keys() == self.buffers.keys() and all(
            (given[name].shape, given[name].dtype) == (buffer.shape, buffer.dtype)
            for name, buffer in self.buffers.items()
        )

    def run(self, steps: int) -> bool:
        """So many steps from the engine's state; False where they are to be made one by one."""
        if self.graph is None:
            return False
        engine = self.engine
        self._adopt()
        self.counter.fill_(engine.state.step)
        for _ in range(steps):
            self.graph.replay()
        engine.state.step += steps
        return True

    def _capture(self) -> str | None:
        """Capture a step, and see that its replay is the single step bit for bit; else why not."""
        engine = self.engine
        state, at, device = engine.state, engine.context, engine.state.position.device
        kept = {name: value.clone() for name, value in self.buffers.items()}
        at.number, at.numbered = state.step, False
        try:
            with torch.cuda.device(device):
                stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                stream.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(stream):
                    for _ in range(WARM_UP):
                        self._once()
                torch.cuda.current_stream(device).wait_stream(stream)
                if at.numbered:
                    return "the rule reads the number of its step"
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, stream=stream):
                    self._once()
                replayed, single = (self._tried(kept, way) for way in (self.graph.replay, self._once))
        except Exception as error:  # whatever it is, a single step says it in its own place
            return next(iter(str(error).splitlines()), type(error).__name__)
        finally:
            self._restore(kept)
        if all(_same(value, single[name]) for name, value in replayed.items()):
            return None
        return "a replayed step is not the single step, bit for bit: something in it is not repeated"

    def _tried(self, kept: dict[str, Tensor], way: Callable[[], None]) -> dict[str, Tensor]:
        """What some steps make of the state, single or replayed."""
        self._restore(kept)
        at, first = self.engine.context, self.engine.state.step
        for k in range(TRIAL):
            at.number = first + k
            way()
        return {name: value.clone() for name, value in self.buffers.items()}

    def _once(self) -> None:
        """One step in place."""
        engine = self.engine
        state, engine.context.counter = engine.state, self.counter
        engine.transition()
        made: dict[str, Tensor] = {"": state.position, **state.memory}
        for name, buffer in self.buffers.items():
            buffer.copy_(made[name])
        self._place()
        self.counter += 1

    def _restore(self, kept: dict[str, Tensor]) -> None:
        for name, value in kept.items():
            self.buffers[name].copy_(value)
        self.counter.fill_(self.engine.state.step)
        self._place()

    def _adopt(self) -> None:
        """Take over a state that was replaced from outside."""
        state = self.engine.state
        for name, value in {"": state.position, **state.memory}.items():
            if value is not self.buffers[name]:
                self.buffers[name].copy_(value)
        self._place()

    def _place(self) -> None:
        """The engine's state lives in the buffers."""
        state = self.engine.state
        state.position = self.buffers[""]
        state.memory = {name: buffer for name, buffer in self.buffers.items() if name}


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, NaN being equal to NaN."""
    return bool(((one == other) | ((one != one) & (other != other))).all())
