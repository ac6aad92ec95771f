"""All chains as one tensor: any potential, any integrator, any device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.engine.base import Engine, Plan, State, draws_between
from landscape.engine.crossings import Crossings
from landscape.engine.repeated import LEAST_STEPS, RepeatedStep, repeats
from landscape.integrators.step_context import StepContext
from landscape.recording.dissipation import DISSIPATED, add_step

__all__ = ["BatchedEngine"]


class BatchedEngine(Engine):
    """Steps of an integrator on a ``(chains, dim)`` tensor. Nothing leaves the device between records."""

    def __init__(self, plan: Plan, state: State) -> None:
        super().__init__(plan, state)
        empty = torch.zeros(0, dtype=plan.dtype, device=plan.device)
        walls, self.followed = plan.walls, self.landscape().followed
        self.context = StepContext(
            number=state.step, counter=state.step, dt=empty, temperature=empty, amplitude=empty,
            settings={name: self._column(values) for name, values in plan.settings.items()},
            potential=self.followed, gradient=_weakly(self._gradient), increment=_weakly(self._increment),
            draw=plan.integrator.thermal_noise.draw, seed=plan.seed,
            chains=torch.arange(plan.chains, device=plan.device), dtype=plan.dtype,
            fold=_weakly(self._fold) if walls.any else None, outside=walls.beyond if walls.any else None,
            gradient_at_end=_weakly(self._gradient_at_end) if plan.driven else None,
        )  # fmt: skip
        self._constant: list[Tensor] | None = None
        self._numbers: Tensor | None = None
        self._repeated: RepeatedStep | None = None
        self._launched = 0  # steps that were asked for before one was captured
        # on a device numbers of Python are not what scalars of the device are, to the last bit: every step takes these
        on_device = plan.device.type == "cuda"
        self._counter = torch.zeros((), dtype=torch.int64, device=plan.device) if on_device else None
        self.crossings = Crossings(plan) if walls.absorbs else None

    def advance(self, steps: int) -> None:
        """Take `steps` steps."""
        self._advance(steps)
        self.plan.integrator.settle(self.state.memory, self.context.cache)

    def _advance(self, steps: int) -> None:
        with torch.no_grad():
            for piece in self.plan.pieces(steps):
                rows = self._rows(piece)
                if self.state.step > 0 and self._replays(rows, piece):
                    continue
                for k in range(piece):
                    self._step(rows, k)

    def _rows(self, steps: int) -> list[Tensor]:
        """Columns over chains for the next steps, ``(1 or steps, chains, 1)``, moved to the device at once."""
        if self._constant is not None:
            return self._constant
        settings, time = self.plan.settings_of(self.state, steps)
        rows = [self._column(part) for part in (settings.dt, settings.temperature, settings.amplitude)]
        if self.plan.driven and settings.numbers is not None:
            self._numbers = torch.as_tensor(settings.numbers, device=self.plan.device)
        if self.plan.scheduled:
            self.state.time = time
        elif not self.plan.driven:
            self._constant = rows
        return rows

    def _replays(self, rows: list[Tensor], steps: int) -> bool:
        """Whether steps that differ in their number alone were made, by replaying one that was captured."""
        if self._repeated is None or not self._repeated.fits(self.state):
            self._launched += steps
            if self._launched < LEAST_STEPS or not repeats(self.plan):
                return False
            self.context.dt, self.context.temperature, self.context.amplitude = (row[0] for row in rows)
            self._repeated = RepeatedStep(self)
        return self._repeated.run(steps)

    def _step(self, rows: list[Tensor], k: int) -> None:
        plan, state, at = self.plan, self.state, self.context
        if at.keys is None or any(start == state.step for start, _ in plan.data_seeds):
            at.keys = plan.keys_at(state.step)
        at.number, at.counter = state.step, state.step if self._counter is None else self._counter.fill_(state.step)
        at.dt, at.temperature, at.amplitude = (row[min(k, len(row) - 1)] for row in rows)
        if self._numbers is None:
            self.transition()
        else:
            self._ends = self._numbers[k], self._numbers[k + 1]
            self.held.hold(self._ends[0])
            gone = state.memory.get("exit_wall")
            self.transition()
            if "work" in state.memory:
                work = self.held.work(state.position, self._ends[1])
                work = work if gone is None else torch.where(gone == 0, work, 0.0)
                state.memory["work"] = state.memory["work"] + work
        state.step += 1

    def transition(self) -> None:
        """One step of rule, crossings and boundaries, with the settings and the number that the context has."""
        plan, state, at = self.plan, self.state, self.context
        before = state.position
        dissipates = DISSIPATED in state.memory
        there = (plan.unwrapped(state).double(), self._gradient(before)) if dissipates else None
        at.turns = torch.zeros_like(before, dtype=torch.float64) if plan.walls.winds else None
        if self.crossings is None:
            state.position = plan.integrator.step(before, state.memory, at)
        else:
            former = {name: value.clone() for name, value in state.memory.items()}
            after = plan.integrator.step(before, state.memory, at)
            self.crossings.freeze(former, state.memory)
            state.position = self.crossings.apply(before, after, state.memory, at)
        if plan.walls.winds:
            state.memory["winding"] = state.memory["winding"] + plan.walls.turns(state.position)
        if plan.walls.folds:
            state.position, mirrored = plan.walls.apply(state.position)
            for name in plan.integrator.flips_on_reflection:
                value = state.memory[name]
                state.memory[name] = torch.where(mirrored, -value, value)
        if there is not None:
            add_step(plan, state, there, self._gradient(state.position), at.temperature)

    def advance_recording(
        self, steps: int, since: int, *, position_every: int, energy_every: int
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Records stay on the device until all are made."""
        chains, dim = self.state.position.shape
        positions = self.state.position.new_empty((chains, draws_between(since, steps, position_every), dim))
        energies = self.state.position.new_empty(
            (chains, draws_between(since, steps, energy_every)), dtype=torch.float64
        )
        cadences = [every for every in (position_every, energy_every) if every]
        position_draw, energy_draw, at, end = 0, 0, since, since + steps
        while at < end:
            stop = min([(at // every + 1) * every for every in cadences] + [end])
            self._advance(stop - at)
            at = stop
            if position_every and at % position_every == 0:
                positions[:, position_draw] = self.state.position
                position_draw += 1
            if energy_every and at % energy_every == 0:
                energies[:, energy_draw] = self._energy()
                energy_draw += 1
        self.plan.integrator.settle(self.state.memory, self.context.cache)
        return positions.cpu().numpy(), energies.cpu().numpy()

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain."""
        return self._energy().to("cpu", torch.float64).numpy()

    def replaced(self) -> None:
        """Forget what was kept of the former state."""
        self.context.cache.clear()
        self.context.keys = None
        self._repeated = None

    def _energy(self) -> Tensor:
        with torch.no_grad():
            return self.landscape().potential.energy(self.state.position)  # type: ignore[no-any-return]

    def _gradient(self, position: Tensor) -> Tensor:
        at = self.context
        return self.followed.step_gradient(position, step=at.number, keys=at.keys)

    def _gradient_at_end(self, position: Tensor) -> Tensor:
        """The gradient with the numbers of the energy that it has after this step."""
        start, end = self._ends
        self.held.hold(end)
        gradient = self._gradient(position)
        self.held.hold(start)
        return gradient

    def _fold(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Walls within a step, whose windings count if its proposal is taken."""
        walls, at = self.plan.walls, self.context
        if at.turns is not None:
            at.turns = at.turns + walls.turns(position)
        return walls.apply(position)

    def _increment(self, position: Tensor, memory: dict[str, Tensor]) -> Tensor:
        return self.plan.integrator.thermal_noise.increment(position, memory, self.context)

    def _column(self, values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=self.plan.dtype, device=self.plan.device).unsqueeze(-1)


def _weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method for the context of its own engine, which goes, with its graph, as soon as nobody else holds it."""
    held = weakref.WeakMethod(method)

    def called(*arguments: Any) -> Any:
        return held()(*arguments)  # type: ignore[misc]

    return called
