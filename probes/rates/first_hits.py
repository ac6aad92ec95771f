"""Many copies of a system, each followed until a function of its position reaches one of two values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape.boundaries.constraints import Absorb, Constraint
from landscape.boundaries.restraints import scalar_field
from landscape.dynamics.simulate import execute, simulate
from landscape.engine.base import Engine
from landscape.engine.choice import Backend
from landscape.engine.prepare import prepare
from landscape.errors import ConvergenceError
from landscape.integrators.base import Integrator
from landscape.potentials.base import Potential
from landscape.probes.estimation.series import BoolArray, FloatArray, IntArray
from landscape.recording.record import Record
from landscape.recording.series import Series

__all__ = ["FirstHits", "Swarm"]

FIRST_PIECE, LAST_PIECE = 128, 8192  # steps of a run, after which those that have arrived are taken out
SCANNED = 128  # steps whose positions are held at once


@dataclass(frozen=True, slots=True, eq=False)
class Swarm:
    """Copies of a system: positions ``(copy, dim)``, what their rule remembers, and a label of each, its replica."""

    position: FloatArray
    memory: Mapping[str, FloatArray]
    replica: IntArray

    def take(self, rows: Any) -> Swarm:
        """Some of the copies, or one several times."""
        memory = {name: values[rows] for name, values in self.memory.items()}
        return Swarm(self.position[rows], memory, self.replica[rows])

    @property
    def start(self) -> xr.Dataset:
        """What a run goes on from; its first step is not the very first, so that memories are kept."""
        held = {"last_position": self.position} | {f"last_{name}": one for name, one in self.memory.items()}
        variables = {name: (("chain", "coordinate"), values) for name, values in held.items()}
        return xr.Dataset(variables, attrs={"last_step": 1})


@dataclass(eq=False)
class FirstHits:
    """Runs of a rule that end, copy by copy, where q(x) times a sign first reaches a value.

    `calls` numbers their noise.
    """

    potential: Potential
    rule: Integrator
    coordinate: Any
    sign: float
    temperature: float
    constraint: list[Any]
    seed: int
    backend: Backend
    most_steps: int
    calls: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.q = scalar_field(self.potential, self.coordinate)
        names = self.potential.coordinates or ()
        self.wall = self.coordinate if isinstance(self.coordinate, str) and self.coordinate in names else None
        self.dt = float(np.asarray(self.rule.time_per_step(np.asarray(self.rule.step_size, dtype=float))))

    def fresh(self, position: FloatArray, replica: IntArray) -> Swarm:
        """Copies at these positions, with momenta from their stationary distribution."""
        run = self._run(position, 0, [], state="fresh")
        return Swarm(position, _memory(run), replica)

    def values(self, swarm: Swarm) -> FloatArray:
        """q of each copy."""
        return self._values(swarm.position)

    def until(self, swarm: Swarm, low: float, high: float) -> tuple[BoolArray, FloatArray, Swarm]:
        """Where each copy reached `high` before `low`, the time that it took, and the copies as they arrived.

        Copies that start at `high` or beyond have arrived.

        Raises
        ------
        ConvergenceError
            If some arrive nowhere within the most steps.
        """
        count = len(swarm.position)
        above, time = np.zeros(count, dtype=bool), np.zeros(count)
        ended = Swarm(swarm.position.copy(), {k: v.copy() for k, v in swarm.memory.items()}, swarm.replica)
        scans = self.wall is None and not swarm.memory
        above |= self.values(swarm) >= high  # a step that carried a path over two interfaces has crossed both
        left, piece, made = np.flatnonzero(~above), SCANNED if scans else FIRST_PIECE, 0
        while len(left):
            if made >= self.most_steps:
                raise ConvergenceError(
                    f"{len(left)} of {count} copies have reached neither {low:g} nor {high:g} after {made} steps: move "
                    "the boundaries, or raise most_steps",
                    estimate=self.values(ended.take(left)),
                )
            run, side, taken = self._piece(ended.take(left), low, high, piece)
            ended.position[left] = run.position
            for name, values in run.memory.items():
                ended.memory[name][left] = values  # type: ignore[index]
            above[left], gone = side > 0, side != 0
            time[left] += np.where(gone, taken, piece * self.dt)
            left, made, piece = left[~gone], made + piece, piece if scans else min(2 * piece, LAST_PIECE)
        return above, time, ended

    def highest(self, swarm: Swarm, low: float, high: float, steps: int | None = None) -> FloatArray:
        """Largest q of each copy before it reaches `low`, at most `high`; within so many steps if they are given."""
        top = self.values(swarm)
        left, made = np.arange(len(top)), 0
        while len(left) and made < (self.most_steps if steps is None else steps):
            piece = SCANNED if steps is None else min(SCANNED, steps - made)
            run = self._run(swarm, piece, [], every=1)
            path = self._values(run.position.values)
            alive = np.logical_and.accumulate((path > low) & (path < high), axis=1)
            seen = np.concatenate([np.ones((len(left), 1), dtype=bool), alive[:, :-1]], axis=1)  # the last step too
            top[left] = np.maximum(top[left], np.where(seen, path, -np.inf).max(axis=1))
            going = np.flatnonzero(alive[:, -1])
            swarm = Swarm(run.last_position.values, _memory(run), swarm.replica).take(going)
            left, made = left[going], made + piece
        return np.minimum(top, high)

    def reach(self, swarm: Swarm) -> float:
        """Root mean square of what q changes in a step."""
        path = self._values(self._run(swarm, SCANNED, [], every=1).position.values)
        return float(np.sqrt(np.mean(np.diff(path, axis=1) ** 2)))

    def _piece(self, swarm: Swarm, low: float, high: float, steps: int) -> tuple[Swarm, IntArray, FloatArray]:
        """Copies after some steps or where they arrived, by which side (0: not yet), and when."""
        if self.wall is not None:
            first, second = (None if np.isinf(end) else self.sign * end for end in (low, high))
            ends = (first, second) if self.sign > 0 else (second, first)
            run = self._run(swarm, steps, [Absorb({self.wall: ends})])
            after = Swarm(run.last_position.values, _memory(run), swarm.replica)
            return after, (self.sign * run.exit_side.values).astype(int), run.exit_time.values
        if not swarm.memory:
            return self._scanned(swarm, low, high, steps)
        watch = _Watch(self._values, low, high, len(swarm.position))
        plan, initial, spec = prepare(
            self.potential, self.rule, steps=steps, start=swarm.start, state="keep", temperature=self.temperature,
            record=Record(steps, []), constraint=self.constraint or None, seed=self._seed(),
        )  # fmt: skip
        run = execute(
            plan, initial, spec, Record(steps, []), steps=steps, backend=self.backend, progress=False,
            interventions=[watch],
        )  # fmt: skip
        after = Swarm(run.last_position.values, _memory(run), swarm.replica)
        for name, target in [("position", after.position), *after.memory.items()]:
            if name in watch.held:
                target[watch.gone] = watch.held[name][watch.gone]
        return after, watch.side, watch.steps * self.dt

    def _scanned(self, swarm: Swarm, low: float, high: float, steps: int) -> tuple[Swarm, IntArray, FloatArray]:
        """The same for a rule that remembers nothing but the position, which is looked for in a run's record."""
        path = self._run(swarm, steps, [], every=1).position.values
        value = self._values(path)
        outside = (value <= low) | (value >= high)
        gone = outside.any(axis=1)
        at = np.where(gone, outside.argmax(axis=1), steps - 1)
        rows = np.arange(len(at))
        side = np.where(value[rows, at] >= high, 1, -1) * gone
        return Swarm(path[rows, at], {}, swarm.replica), side, (at + 1.0) * self.dt

    def _run(self, start: Any, steps: int, walls: list[Constraint], *, every: int = 0, state: Any = "keep") -> Any:
        return simulate(
            self.potential, self.rule, steps=steps, start=start.start if isinstance(start, Swarm) else start,
            state=state, temperature=self.temperature, seed=self._seed(), backend=self.backend, progress=False,
            record=Record(every or max(steps, 1), ["position"] if every else []),
            constraint=[*self.constraint, *walls] or None,
        )  # fmt: skip

    def _seed(self) -> int:
        self.calls += 1
        return int(np.random.SeedSequence(self.seed, spawn_key=(self.calls,)).generate_state(1, np.uint64)[0])

    def _values(self, position: NDArray[Any]) -> FloatArray:
        with torch.no_grad():
            return self.sign * self.q.energy(torch.as_tensor(position)).cpu().numpy().astype(np.float64)  # type: ignore[no-any-return]


def _memory(run: xr.Dataset) -> dict[str, FloatArray]:
    """What the rule remembers of each copy."""
    names = [str(name) for name in run.data_vars if str(name).startswith("last_")]
    kept = {name.removeprefix("last_"): run[name] for name in names if name not in ("last_position", "last_winding")}
    return {name: np.array(one.values) for name, one in kept.items() if one.ndim == 2}


class _Watch:
    """Looks after each step whether q has reached a value, and keeps what the state was then."""

    every = 1
    series: Series | None = None

    def __init__(self, q: Callable[[Any], FloatArray], low: float, high: float, copies: int) -> None:
        self.q, self.low, self.high = q, low, high
        self.side, self.steps = np.zeros(copies, int), np.zeros(copies)
        self.gone = np.zeros(copies, dtype=bool)
        self.held: dict[str, NDArray[Any]] = {}
        self.made = 0

    def within(self, engine: Engine) -> None:
        """No engine has them in its loop."""

    def apply(self, engine: Engine) -> None:
        """Note who has arrived in this step."""
        self.made += 1
        state = engine.state
        value = self.q(state.position)
        new = ~self.gone & ((value <= self.low) | (value >= self.high))
        if not new.any():
            return
        for name, tensor in [("position", state.position), *state.memory.items()]:
            now = tensor.cpu().numpy()
            if name not in self.held:
                self.held[name] = np.zeros_like(now)
            self.held[name][new] = now[new]
        self.side[new] = np.where(value >= self.high, 1, -1)[new]
        self.steps[new] = self.made
        self.gone |= new

    def observables(self) -> dict[str, NDArray[Any]]:
        """Nothing."""
        return {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing that a run would be continued with."""
        return {}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Nothing to go on from."""
