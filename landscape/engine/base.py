"""What the driver knows of a backend: it advances a state by a number of steps, and can record on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.boundaries.restraints import Restraints
from landscape.boundaries.walls import Walls
from landscape.common.schedules import Schedule
from landscape.engine.varying import Held, Numbers
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory
from landscape.potentials.base import Potential

__all__ = ["CLOCK_ORIGIN", "Engine", "Exchanger", "Ladders", "Plan", "Settings", "State", "draws_between"]

PIECE_NUMBERS = 1 << 20  # settings of scheduled steps that are held at once
CLOCK_ORIGIN = "clock_origin"  # in the memory: times ``(chains,)`` of step 0, where step sizes are constant


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """Step size, temperature and noise amplitude of some steps, arrays ``(1 or steps, chains)``.

    ``numbers (1 or steps + 1, numbers, 1 or chains)`` are those of the energy at the start of each step and after the
    last, None where it has none that change in time or differ by chain.
    """

    dt: NDArray[np.float64]
    temperature: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    numbers: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run with every setting resolved: one value per chain, boundaries per coordinate.

    Attributes
    ----------
    temperature, step_size : arrays of float64 ``(chains,)``, or schedules
    settings : dict of arrays of float64 ``(chains,)``
        The integrator's other numbers that may differ by chain.
    data_seeds : tuple of (step, seeds or None)
        From which step on the minibatches are derived from which seeds, one per chain.
    restraints : Restraints, optional
        Springs that the steps follow and recorded energies leave out.
    numbers : Numbers, optional
        Those of potential and springs that change in time or differ by chain.
    bias : Bias, optional
        Hills that the steps follow and recorded energies leave out.
    """

    potential: Potential
    integrator: Integrator
    walls: Walls
    chains: int
    temperature: NDArray[np.float64] | Schedule
    step_size: NDArray[np.float64] | Schedule
    settings: dict[str, NDArray[np.float64]]
    seed: int
    data_seeds: tuple[tuple[int, tuple[int, ...] | None], ...]
    dtype: torch.dtype
    device: torch.device
    restraints: Restraints | None = None
    numbers: Numbers | None = None
    bias: Any = None

    def exit_ratio(self, steps: int) -> float | None:
        """Largest way of a step of this run over the distance of the absorbing boundaries; None where one is alone.

        A schedule of the temperature is looked at in 64 places, one of the step size at the start.
        """
        width = float(self.walls.exit_widths.min(initial=np.inf))
        if not np.isfinite([width, self.integrator.exit_ratio]).all() or not self.integrator.thermal:
            return None
        return self.way(steps) / width

    def way(self, steps: int) -> float:
        """Largest root mean square way of a step of this run by heat; schedules are looked at as in `exit_ratio`."""
        made, times = np.zeros(1), np.zeros((1, self.chains))
        if isinstance(self.step_size, Schedule):
            dt = self.step_size.at(times, self.chains, step=made)
        else:
            dt, made = self.step_size[None], np.linspace(0.0, steps, 64)
            times = made[:, None] * self.integrator.time_per_step(dt)
        reach = self.integrator.reach(self.temperature_at(times, made), dt, self.settings)
        return float(np.max(reach))

    def unwrapped(self, state: State) -> Tensor:
        """Positions without the wrapping of periodic coordinates, ``(chains, dim)``."""
        if not self.walls.winds:
            return state.position
        periods = torch.as_tensor(self.walls.periods, device=state.position.device)
        return (state.position + state.memory["winding"] * periods).to(state.position.dtype)

    @property
    def scheduled(self) -> bool:
        """Whether temperature or step size change in time."""
        return isinstance(self.temperature, Schedule) or isinstance(self.step_size, Schedule)

    @property
    def driven(self) -> bool:
        """Whether the energy changes in time."""
        return self.numbers is not None and self.numbers.changes

    def pieces(self, steps: int) -> Iterator[int]:
        """`steps` divided so that the settings of a piece fit in memory."""
        wide = self.chains * (len(self.numbers.rows) if self.numbers is not None and self.driven else 1)
        most = max(1, PIECE_NUMBERS // wide) if self.scheduled or self.driven else steps
        while steps > 0:
            yield min(steps, most)
            steps -= most

    def settings_of(self, state: State, steps: int) -> tuple[Settings, NDArray[np.float64]]:
        """Settings of the next steps, and the time ``(chains,)`` after them.

        A step uses the values at the time at its start. Without a schedule there is one row for all steps.
        """
        times, dt = self.clock(state, steps if self.scheduled or self.driven else 1)
        temperature = self.temperature_at(times[:-1], state.step + np.arange(len(times) - 1))
        amplitude = self.integrator.amplitude(temperature, dt, self.settings)
        dt, temperature, amplitude = (
            np.array(np.broadcast_to(p, amplitude.shape)) for p in (dt, temperature, amplitude)
        )
        numbers = None if self.numbers is None else self.numbers.at(times if self.driven else times[:1])
        return Settings(dt, temperature, amplitude, numbers), times[-1]

    def columns(self, facts: Callable[..., Mapping[str, Any]], state: State) -> dict[str, Tensor]:
        """Numbers that the integrator states of its memory for the next step, by name, as columns ``(chains, 1)``."""
        settings, _ = self.settings_of(state, 1)
        found = facts(settings.temperature[0], settings.dt[0], self.settings)
        rows = {name: np.array(np.broadcast_to(value, (self.chains,))) for name, value in found.items()}
        return {name: torch.as_tensor(row).to(state.position)[:, None] for name, row in rows.items()}

    def temperature_at(self, times: NDArray[np.float64], steps: NDArray[Any]) -> NDArray[np.float64]:
        """Temperatures ``(1 or n, chains)`` at times ``(n, chains)`` and after steps ``(n,)``."""
        if isinstance(self.temperature, Schedule):
            return self.temperature.at(times, self.chains, step=steps)
        return self.temperature[None]

    def time_after(self, step: int, time: NDArray[np.float64], steps: NDArray[Any]) -> NDArray[np.float64]:
        """Times ``(n, chains)`` at `steps` more than `step`, where it was `time`, for a constant step size.

        Counted from step 0, so that a run in two parts has the times of the whole.
        """
        origin, advance = self.clock_of(step, time)
        times: NDArray[np.float64] = origin + np.multiply.outer(step + np.asarray(steps), advance)
        return times

    def clock_of(self, step: int, time: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times ``(chains,)`` at step 0, and of a step, for a constant step size and `time` at `step`."""
        advance = self.integrator.time_per_step(np.asarray(self.step_size))
        origin = time - step * advance
        return np.where(np.abs(origin) > 1e-9 * time, origin, 0.0), advance

    def clock(self, state: State, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Times ``(steps + 1, chains)`` before and after each step, and step sizes ``(1 or steps, chains)``.

        They do not depend on how the steps are divided into calls: scheduled step sizes are added one by one, and where
        the energy changes in time the memory keeps the time of step 0.
        """
        if not isinstance(self.step_size, Schedule):
            after = np.arange(steps + 1)
            if CLOCK_ORIGIN not in state.memory:
                return self.time_after(state.step, state.time, after), self.step_size[None]
            advance = self.integrator.time_per_step(self.step_size)
            origin = state.memory[CLOCK_ORIGIN].cpu().numpy()
            return origin + np.multiply.outer(state.step + after, advance), self.step_size[None]
        times, sizes = np.empty((steps + 1, self.chains)), np.empty((steps, self.chains))
        times[0] = state.time
        for k in range(steps):
            sizes[k] = self.step_size.at(times[k : k + 1], self.chains, step=np.array([state.step + k]))[0]
            if not (sizes[k] > 0).all() and not (self.integrator.may_rest and (sizes[k] == 0).any()):
                raise ConfigError(f"the schedule of the step size gives {sizes[k].min():g} at time {times[k].min():g}")
            times[k + 1] = times[k] + self.integrator.time_per_step(sizes[k])
        return times, sizes

    def keys_at(self, step: int) -> Any:
        """What the minibatches of a step are derived from."""
        seeds = [seeds for start, seeds in self.data_seeds if start <= step][-1]
        return self.potential.batch_keys(self.chains, self.seed, seeds)

    def next_change(self, step: int) -> int | None:
        """First later step at which the data seeds change."""
        return min((start for start, _ in self.data_seeds if start > step), default=None)


@dataclass(slots=True, eq=False)
class State:
    """Where the chains are.

    Attributes
    ----------
    position : tensor ``(chains, dim)``
    memory : dict of tensors
        What integrator, noise and constraints carry: ``(chains, dim)``, or ``(chains,)`` for what is one per chain.
    step : int
        Steps made, counted from the very first.
    time : array ``(chains,)``
        Sum of their step sizes, which engines keep only where it decides the settings: under a schedule.
    """

    position: Tensor
    memory: Memory
    step: int
    time: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def copy(self) -> State:
        """An independent copy."""
        memory = {name: value.clone() for name, value in self.memory.items()}
        return State(self.position.clone(), memory, self.step, self.time.copy())


def draws_between(since: int, steps: int, every: int) -> int:
    """How many multiples of `every` lie in (since, since + steps]; none if it is 0."""
    return (since + steps) // every - since // every if every else 0


class Ladders(Protocol):
    """Ladders of chains whose neighbours exchange configurations after each `every` steps, and what became of it.

    Arrays ``(chains,)`` that are counted up in place.

    Attributes
    ----------
    every, rungs, number : int
        Cadence, chains of a ladder, exchanges made; the even pairs of neighbours have the even numbers.
    gaps : array of float64
        1/T less that of the next chain.
    first : array of bool ``(2, chains)``
        Which are the first of the even pairs, and which of the odd ones.
    walker, tried, made : arrays of int64
        Configuration that each chain holds; exchanges with the next chain that were tried and made.
    last_end, half_trips : arrays of int64
        Of each configuration: the end of the ladder that it saw last (-1: none), and how often it went across.
    """

    every: int
    rungs: int
    number: int
    gaps: NDArray[np.float64]
    first: NDArray[np.bool_]
    walker: NDArray[np.int64]
    tried: NDArray[np.int64]
    made: NDArray[np.int64]
    last_end: NDArray[np.int64]
    half_trips: NDArray[np.int64]


class Exchanger(Protocol):
    """An engine's loop that exchanges configurations of neighbours."""

    def advance(
        self, ladders: Ladders, walkers: NDArray[np.int64], steps: int, since: int, *, position_every: int,
        energy_every: int, walker_every: int,
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:  # fmt: skip
        """`Engine.advance_recording` with the exchanges before the last step; fills ``walkers (chains, draws)``."""

    def exchange(self, ladders: Ladders) -> None:
        """The exchange that is due now."""


class Engine(ABC):
    """Advances a state. Bits depend on the plan and the state alone, never on how the steps are divided into calls."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        self.state = state
        self.held = Held(plan.potential, plan.restraints, plan.bias)

    def landscape(self) -> Held:
        """V, and V with springs, as of the present time."""
        plan = self.plan
        if plan.numbers is not None:
            times, _ = plan.clock(self.state, 1)
            self.held.hold(torch.as_tensor(plan.numbers.at(times[:1])[0], device=plan.device))
        return self.held

    @property
    def exchanger(self) -> Exchanger | None:
        """What makes exchanges of neighbours within the loop; None where they are made from outside."""
        return None

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take `steps` steps from the present state."""

    @abstractmethod
    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain, ``(chains,)``."""

    def positions(self) -> NDArray[Any]:
        """Position of every chain, ``(chains, dim)``."""
        return self.state.position.cpu().numpy()

    def gradient(self) -> Tensor:
        """What the next step follows at the present positions, ``(chains, dim)``."""
        plan, state = self.plan, self.state
        with torch.no_grad():
            followed = self.landscape().followed
            return followed.step_gradient(state.position, step=state.step, keys=plan.keys_at(state.step))

    def full_step_memory(self) -> Memory:
        """The memory as of the present positions: that of rules that lag by half a kick, with it."""
        lacking = self.plan.columns(self.plan.integrator.half_kick, self.state)
        if not lacking or self.state.step == 0:  # the very first kick is a half one
            return self.state.memory
        gradient, memory = self.gradient(), self.state.memory
        return memory | {name: memory[name] - factor * gradient for name, factor in lacking.items()}

    def replaced(self) -> None:  # noqa: B027  # only engines that keep something between steps care
        """Told when the state was changed from outside."""

    @abstractmethod
    def advance_recording(
        self, steps: int, since: int, *, position_every: int, energy_every: int
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Take `steps` steps; positions ``(chains, draws, dim)`` and energies ``(chains, draws)`` on the way.

        Each is recorded whenever `since` + the steps of this call is a multiple of its cadence; never if that is 0.
        """

    def close(self) -> None:  # noqa: B027  # most engines hold nothing
        """Release threads."""
