"""The loop over pieces: advance to the next stop, keep what is to be kept, check that it is finite."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.common.schedules import Schedule
from landscape.engine.base import Engine, State
from landscape.engine.pace import Pace
from landscape.errors import NonFiniteError
from landscape.integrators.base import Integrator
from landscape.observers.base import Accumulator, Observer, Variables
from landscape.recording.energetics import begin
from landscape.recording.record import Observable, Record, columns_of, observe, sampled_as
from landscape.recording.series import Series

__all__ = ["Driver", "Intervention", "Sink", "snapshot_steps"]

NATIVE = ("position", "energy")  # what engines record on the way
PIECE_BYTES = 1 << 25

Advance = Callable[..., tuple[NDArray[Any], NDArray[np.float64]]]


def snapshot_steps(steps: int, count: int | None) -> NDArray[np.int64]:
    """Steps at which snapshots are due: evenly spaced, the last at the end."""
    if count is None or not steps:
        return np.zeros(0, np.int64)
    count = min(count, steps)
    return np.unique(np.arange(1, count + 1) * steps // count)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Values ``(chains, ticks, ...)`` at some steps of the run ``(ticks,)``, evenly spaced."""

    steps: NDArray[np.int64]
    values: NDArray[Any]

    def every(self, cadence: int) -> Samples:
        """Those at multiples of a cadence."""
        due = np.flatnonzero(self.steps % cadence == 0)
        if not len(due):
            return self.upto(0)
        stride = int(due[1] - due[0]) if len(due) > 1 else 1
        chosen = slice(int(due[0]), int(due[-1]) + 1, stride)
        return Samples(self.steps[chosen], self.values[:, chosen])

    def upto(self, step: int) -> Samples:
        """Those before a step."""
        count = int(np.searchsorted(self.steps, step))
        return Samples(self.steps[:count], self.values[:, :count])


class Intervention(Protocol):
    """Something that changes the state whenever the number of steps made is a multiple of `every`.

    It comes after what is due at that step was recorded.

    Attributes
    ----------
    series : Series or None
        What it records of itself.
    """

    every: int
    series: Series | None

    def apply(self, engine: Engine) -> None:
        """Change ``engine.state`` in place."""

    def within(self, engine: Engine) -> Advance | None:
        """`advance_recording` with the interventions that come before its last step; None where there is no such."""

    def observables(self) -> Mapping[str, NDArray[Any]]:
        """Values ``(chains,)`` of every draw of the last piece, or of each ``(chains, draws)``."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All it remembers besides the series."""

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` returned."""


class Sink(Protocol):
    """Where a run goes that is not only in memory."""

    def due(self, driver: Driver) -> bool:
        """Whether something is to be written now."""

    def stop(self, driver: Driver) -> int:
        """Steps of this run at which something will be due, next after those made."""

    def commit(self, driver: Driver) -> None:
        """Write what there is."""


@dataclass(eq=False)
class Driver:
    """One run: an engine, what to record, and what was recorded so far.

    Attributes
    ----------
    replica : callable
        Makes a fresh engine for a state: used to find the exact step at which a run diverged.
    observables : dict of name to callable or None
        What is recorded at every draw; None for built-in ones.
    observers : list of (name, Observer)
        What is summed up on the way.
    drop : bool
        Whether a chain that diverges is masked instead of ending the run.
    sink : Sink, optional
        Where the run is written while it goes on.
    part_draws, part_snapshots : int, optional
        How many of them make a part; None keeps all in memory.
    """

    engine: Engine
    replica: Callable[[State], Engine]
    record: Record
    observables: dict[str, Observable | None]
    steps: int
    drop: bool
    observers: Sequence[tuple[str, Observer]] = ()
    interventions: Sequence[Intervention] = ()
    sink: Sink | None = None
    part_draws: int | None = None
    part_snapshots: int | None = None

    def __post_init__(self) -> None:
        plan = self.engine.plan
        self.first_step = self.engine.state.step
        self.first_time = self.engine.state.time.copy()
        self.start = plan.unwrapped(self.engine.state).clone()
        self.snapshot_at = snapshot_steps(self.steps, self.record.snapshots)
        chains, dim = self.start.shape
        dtype = np.dtype(str(plan.dtype).removeprefix("torch."))
        self.draws = Series("draw", self.steps // self.record.every, self.part_draws)
        self.snapshots = Series("snapshot", len(self.snapshot_at), self.part_snapshots)
        self.snapshots.declare("snapshot", chains, (dim,), dtype)
        for name, function in self.observables.items():
            if function is None and name in NATIVE:
                of_position = name == "position"
                self.draws.declare(name, chains, (dim,) if of_position else (), dtype if of_position else np.float64)
        self.dropped_step = np.full(chains, -1, np.int64)
        self.accumulators: dict[int, Accumulator] = {}
        self._sources: dict[Hashable, Observable | None] = {name: self.observables[name] for name in self.observables}
        cadence: dict[Hashable, int] = dict.fromkeys(self.observables, self.record.every)
        for _, observer in self.observers:
            key, function = sampled_as(observer, plan)
            self._sources[key] = function
            cadence[key] = gcd(cadence.get(key, 0), observer.every or self.record.every)
        self._cadence = cadence
        self._inner: Intervention | None = None
        self._advance_inner: Advance | None = None
        for one in self.interventions:
            if self._inner is None and (advance := one.within(self.engine)) is not None:
                self._inner, self._advance_inner = one, advance
        self._most_steps: int | None = None
        self._inline = [key for key in cadence if key in NATIVE and self._sources[key] is None]
        self._pace = Pace()

    def times(self, steps: NDArray[Any]) -> NDArray[np.float64]:
        """Times ``(n, chains)`` at steps of this run, for a constant step size."""
        return self.engine.plan.time_after(self.first_step, self.first_time, steps)

    @property
    def done(self) -> int:
        """Steps made by this run."""
        return self.engine.state.step - self.first_step

    def run(self, report: Callable[[int], None]) -> None:
        """All steps.

        Raises
        ------
        NonFiniteError
            If a chain diverges and is not to be dropped; ``draw`` then counts what is good.
        """
        if not self.done:
            self._check_start()
            begin(self.engine)
        if self.sink is not None:
            self.sink.commit(self)
        while self.done < self.steps:
            before = self.engine.state.copy()
            held = {} if self._inner is None else self._inner.arrays()
            began = time.perf_counter()
            samples = self._advance()
            seconds = max(time.perf_counter() - began, 1e-9)
            made = self.engine.state.step - before.step
            self._pace.learn(made, seconds)
            if self._check(before, samples, held):
                continue
            self._keep(samples)
            self._note_exits(before)
            for intervention in self.interventions:
                if self.engine.state.step % intervention.every == 0:
                    intervention.apply(self.engine)
                    self.engine.replaced()
            report(self.done)
            if self.sink is not None and self.sink.due(self):
                self.sink.commit(self)

    @property
    def series(self) -> list[Series]:
        """All that grows with the steps."""
        own = [one.series for one in self.interventions if one.series is not None]
        return [self.draws, self.snapshots, *own]

    def results(self, spacing: Callable[[int], NDArray[np.float64]]) -> Variables:
        """What the observers have; ``spacing(every)`` is the time ``(chains,)`` between their samples."""
        results: Variables = {}
        for number, accumulator in sorted(self.accumulators.items()):
            name, observer = self.observers[number]
            results |= accumulator.result(name, spacing(observer.every or self.record.every))
        return results

    # -- one piece ------------------------------------------------------------------------------------------------

    def _next_stop(self) -> int:
        """The next step at which something is due that engines do not do on the way."""
        done, step = self.done, self.engine.state.step
        cadences = [every for key, every in self._cadence.items() if key not in self._inline]
        stops = [(done // every + 1) * every for every in cadences]
        # counted from the very first step, so that a run in two parts is the whole run
        stops += [done + one.every - step % one.every for one in self.interventions if one is not self._inner]
        if isinstance(self.engine.plan.step_size, Schedule):
            stops.append((done // self.record.every + 1) * self.record.every)  # only the engine knows the time then
        stops.append((self.draws.count + max(self.draws.room, 1)) * self.record.every)  # a part ends there
        if self.sink is not None:
            stops.append(self.sink.stop(self))
        later = np.searchsorted(self.snapshot_at, done, side="right")
        return min([*stops, *map(int, self.snapshot_at[later : later + 1]), self.steps])

    def _advance(self) -> dict[Hashable, Samples]:
        """One piece, and what was sampled on the way and at its end."""
        since, chains, dim = self.done, *self.start.shape
        cadences = {name: self._cadence[name] if name in self._inline else 0 for name in NATIVE}
        cadenced = [*cadences.values(), self.record.every if self._inner is not None else 0]
        densest = min((every for every in cadenced if every), default=PIECE_BYTES)
        most = next(self.engine.plan.pieces(self._pace.steps))  # of which the times may have to be known
        steps = min(self._next_stop() - since, most, densest * max(1, PIECE_BYTES // (8 * chains * (dim + 1))))
        advance = self._advance_inner or self.engine.advance_recording
        values = advance(
            min(steps, self._most_steps or steps), since, position_every=cadences["position"],
            energy_every=cadences["energy"],
        )  # fmt: skip
        samples: dict[Hashable, Samples] = {}
        for name, block in zip(NATIVE, values, strict=True):
            if every := cadences[name]:
                samples[name] = Samples(every * np.arange(since // every + 1, self.done // every + 1), block)
        for key, every in self._cadence.items():
            if key not in self._inline and self.done % every == 0:
                value = observe(key, self._sources[key], self.engine, self.start)
                samples[key] = Samples(np.array([self.done]), value[:, None])
        return samples

    def _keep(self, samples: dict[Hashable, Samples]) -> None:
        """Store samples and feed observers."""
        every, known, made = self.record.every, self.draws.count, self.done // self.record.every
        if isinstance(self.engine.plan.step_size, Schedule) and made > known:
            self.draws.put("time", made - 1, self.engine.state.time[:, None])
        for name in self.observables:
            if name in samples:
                due = samples[name].every(every)
                if len(due.steps):
                    self.draws.put(name, int(due.steps[0]) // every - 1, due.values)
        for one in self.interventions:
            for name, value in one.observables().items():
                of_draws = value if value.ndim == 2 else np.repeat(value[:, None], made - known, axis=1)
                self.draws.put(name, known, of_draws[:, : made - known])
        self.draws.count = made
        potential = self.engine.plan.potential
        for number, (_, observer) in enumerate(self.observers):
            key, _ = sampled_as(observer, self.engine.plan)
            if key not in samples:
                continue
            due = samples[key].every(observer.every or self.record.every)
            if len(due.steps):
                block = columns_of(observer.of, due.values, potential)
                if number not in self.accumulators:
                    self.accumulators[number] = observer.accumulator(block.shape[0], block.shape[2])
                self.accumulators[number].update(block)
        if np.searchsorted(self.snapshot_at, self.done, side="right") > self.snapshots.count:
            self.snapshots.put("snapshot", self.snapshots.count, self.engine.positions()[:, None])
            self.snapshots.count += 1

    def _note_exits(self, before: State) -> None:
        """Times of the exits of this piece, interpolated within their steps."""
        plan, state = self.engine.plan, self.engine.state
        if not plan.walls.absorbs:
            return
        new = (state.memory["exit_wall"] != 0) & torch.isnan(state.memory["exit_time"])
        chains = np.flatnonzero(new.cpu().numpy())
        at = state.memory["exit_step"].cpu().numpy()[chains]
        if isinstance(plan.step_size, Schedule):
            times, _ = plan.clock(before, state.step - before.step)
            whole = np.minimum(np.floor(at).astype(np.int64), state.step - 1)  # at the end of the last step
            start, end = times[whole - before.step, chains], times[whole + 1 - before.step, chains]
            exits = start + (at - whole) * (end - start)
        else:
            origin, advance = plan.clock_of(self.first_step, self.first_time)
            exits = origin[chains] + at * advance[chains]
        state.memory["exit_time"][chains] = torch.as_tensor(exits, device=plan.device)

    # -- divergence -----------------------------------------------------------------------------------------------

    def _check_start(self) -> None:
        if self.engine.plan.potential.sampler is not None:
            return  # all data may be many times what a step looks at; a bad start shows at the first step
        if not self.engine.plan.potential.has_energy:
            self._check_force()
            return
        energies = self.engine.energies()
        bad = np.flatnonzero(~np.isfinite(energies))
        if len(bad):
            chain = int(bad[0])
            raise NonFiniteError(
                f"the energy at the start of chain {chain} is {energies[chain]}; expected a finite one: give another "
                "start",
                step=0,
                chain=chain,
            )

    def _check_force(self) -> None:
        bad = torch.nonzero(~torch.isfinite(self.engine.gradient()).all(dim=1))
        if len(bad):
            chain = int(bad[0])
            raise NonFiniteError(
                f"the force at the start of chain {chain} is not finite: give another start", step=0, chain=chain
            )

    def _check(self, before: State, samples: dict[Hashable, Samples], held: Mapping[str, NDArray[Any]]) -> bool:
        """Find chains that diverged since `before`; one that was dropped already does not count.

        Returns whether the piece was taken back for it, since interventions within made other chains of the chains.
        """
        alive = self.dropped_step < 0
        finite = torch.isfinite(self.engine.state.position).all(dim=1).cpu().numpy()
        inline = [samples[name] for name in self._inline]
        for one in inline:
            finite &= np.isfinite(one.values).all(axis=tuple(range(1, one.values.ndim)))
        bad = np.flatnonzero(~finite & alive)
        if not len(bad):
            return False
        end = self.engine.state.step
        if self._inner is not None and (end - 1) // self._inner.every > before.step // self._inner.every:
            self._most_steps = max(1, (end - before.step) // 2)  # until none lies within
            self.engine.state = before
            self.engine.replaced()
            self._inner.load(held)
            return True
        found = {int(chain): self._locate(before, int(chain), inline) for chain in bad}
        stuck = self._stuck(before, found)
        if self.drop and not stuck:
            for chain, (step, _) in found.items():
                self._mask(chain, step, samples)
            return False
        worst = {chain: found[chain] for chain in stuck} or found
        chain, (step, coordinate) = min(worst.items(), key=lambda item: (item[1][0], item[0]))
        state = self._replay(before, step - 1)  # the last good state
        self.engine.state = state
        self.engine.replaced()
        self._keep({key: one.upto(step - self.first_step) for key, one in samples.items()})
        where = f"coordinate {coordinate!r}" if coordinate is not None else "the energy"
        if stuck:
            raise NonFiniteError(
                f"chain {chain} cannot go on after step {step - 1}: {stuck[chain]}",
                step=step,
                chain=chain,
                coordinate=coordinate,
            )
        raise NonFiniteError(
            f"{where} of chain {chain} is not finite after step {step}: the run diverged. The {self.draws.count} draws "
            'before it are kept in the error\'s `dataset`; try a smaller step size, or on_nonfinite="drop" to go on '
            "without that chain",
            step=step,
            chain=chain,
            coordinate=coordinate,
        )

    def _stuck(self, before: State, found: Mapping[int, tuple[int, Any]]) -> dict[int, str]:
        """Chains from whose last good position the rule cannot go on, with the reason."""
        plan = self.engine.plan
        if type(plan.integrator).obstacle is Integrator.obstacle:
            return {}
        last = {chain: self._replay(before, step - 1).position[chain] for chain, (step, _) in found.items()}
        reasons = {chain: plan.integrator.obstacle(plan.potential, at[None]) for chain, at in last.items()}
        return {chain: reason for chain, reason in reasons.items() if reason is not None}

    def _locate(self, before: State, chain: int, inline: list[Samples]) -> tuple[int, str | int | None]:
        """First bad step of a chain, and the coordinate concerned (None if only the energy is bad)."""
        recorded = []
        for one in inline:
            good = np.isfinite(one.values[chain]).all(axis=tuple(range(1, one.values.ndim - 1)))
            recorded += [self.first_step + int(step) for step in one.steps[~good][:1]]
        step, coordinate = self._first_bad_position(before, chain)
        if step is None or (recorded and min(recorded) < step):
            return min(recorded), None
        return step, coordinate

    def _first_bad_position(self, before: State, chain: int) -> tuple[int | None, str | int | None]:
        """By bisection, with the same noise again from `before`: NaN and infinity stay."""
        low, high = before.step, self.engine.state.step  # finite at low, not at high
        values = self.engine.state.position[chain]
        if bool(torch.isfinite(values).all()):
            return None, None
        while high - low > 1:
            middle = (low + high) // 2
            at_middle = self._replay(before, middle).position[chain]
            if bool(torch.isfinite(at_middle).all()):
                low = middle
            else:
                high, values = middle, at_middle
        index = int(torch.nonzero(~torch.isfinite(values))[0])
        names = self.engine.plan.potential.coordinates
        return high, (names[index] if names is not None else index)

    def _replay(self, before: State, step: int) -> State:
        engine = self.replica(before.copy())
        try:
            engine.advance(step - before.step)
        finally:
            engine.close()
        return engine.state

    def _mask(self, chain: int, step: int, samples: dict[Hashable, Samples]) -> None:
        self.dropped_step[chain] = step
        self.engine.state.position[chain] = np.nan
        for one in samples.values():
            if one.values.dtype.kind == "f":
                one.values[chain, len(one.upto(step - self.first_step).steps) :] = np.nan
