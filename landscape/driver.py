"""The loop over chunks: advance to the next stop, keep what is to be kept, check that it is finite."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.engines.base import Engine, State
from landscape.errors import NonFiniteError
from landscape.record import Observable, Record, observe

__all__ = ["Driver", "snapshot_steps"]

NATIVE = ("position", "energy")
PIECE_SECONDS = 0.25
NEVER = np.iinfo(np.int64).max


def snapshot_steps(steps: int, count: int | None) -> NDArray[np.int64]:
    """Steps at which snapshots are due: evenly spaced, the last at the end."""
    if count is None or not steps:
        return np.zeros(0, np.int64)
    count = min(count, steps)
    return np.unique(np.arange(1, count + 1) * steps // count)


@dataclass(eq=False)
class Driver:
    """One run: an engine, what to record, and what was recorded so far.

    Attributes
    ----------
    replica : callable
        Makes a fresh engine for a state: used to find the exact step at which a run diverged.
    drop : bool
        Whether a chain that diverges is masked instead of ending the run.
    """

    engine: Engine
    replica: Callable[[State], Engine]
    record: Record
    observables: dict[str, Observable | None]
    steps: int
    drop: bool

    def __post_init__(self) -> None:
        self.first_step = self.engine.state.step
        self.start = self.engine.state.position.clone()
        self.draws = self.steps // self.record.every
        self.draw = 0
        self.snapshot_at = snapshot_steps(self.steps, self.record.snapshots)
        chains, dim = self.start.shape
        dtype = np.dtype(str(self.engine.plan.dtype).removeprefix("torch."))
        self.snapshots = np.empty((chains, len(self.snapshot_at), dim), dtype)
        shapes = {"position": (chains, self.draws, dim), "energy": (chains, self.draws)}
        self.recorded: dict[str, NDArray[Any]] = {
            name: np.empty(shapes[name], dtype if name == "position" else np.float64)
            for name, function in self.observables.items()
            if function is None and name in shapes
        }
        self.native = all(function is None and name in NATIVE for name, function in self.observables.items())
        self.dropped_step = np.full(chains, -1, np.int64)
        self._piece = 1

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
        every = self.record.every
        self._check_start()
        while self.done < self.steps:
            before = self.engine.state.copy()
            first_draw = self.draw
            boundary = min((int(s) for s in self.snapshot_at if s > self.done), default=self.steps)
            whole = (boundary - self.done) // every if self.done % every == 0 else 0
            if whole and self.native:
                self._advance_recording(min(whole, self._piece))
            else:
                target = min((self.done // every + 1) * every, boundary)
                self.engine.advance(target - self.done)
                if self.done % every == 0:
                    self._record_one()
            if self.done in self.snapshot_at:
                self.snapshots[:, np.searchsorted(self.snapshot_at, self.done)] = self.engine.positions()
            self._check(before, first_draw)
            report(self.done)

    def _advance_recording(self, records: int) -> None:
        began = time.perf_counter()
        position, energy = (name in self.observables for name in NATIVE)
        positions, energies = self.engine.advance_recording(
            records, self.record.every, position=position, energy=energy
        )
        for name, values in (("position", positions), ("energy", energies)):
            if values is not None:
                self._store(name, values)
        self.draw += records
        seconds = max(time.perf_counter() - began, 1e-9)
        self._piece = max(1, min(int(records * PIECE_SECONDS / seconds), 4 * records))

    def _record_one(self) -> None:
        for name, function in self.observables.items():
            self._store(name, observe(name, function, self.engine, self.start)[:, None])
        self.draw += 1

    def _store(self, name: str, values: NDArray[Any]) -> None:
        if name not in self.recorded:
            self.recorded[name] = np.empty((values.shape[0], self.draws, *values.shape[2:]), values.dtype)
        self.recorded[name][:, self.draw : self.draw + values.shape[1]] = values

    # -- divergence -----------------------------------------------------------------------------------------------

    def _check_start(self) -> None:
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

    def _check(self, before: State, first_draw: int) -> None:
        """Find chains that diverged since `before`; one that was dropped already does not count."""
        alive = self.dropped_step < 0
        finite = torch.isfinite(self.engine.state.position).all(dim=1).cpu().numpy()
        for name in NATIVE:
            if name in self.recorded:
                rows = self.recorded[name][:, first_draw : self.draw]
                finite &= np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        bad = np.flatnonzero(~finite & alive)
        if not len(bad):
            return
        found = {int(chain): self._locate(before, int(chain), first_draw) for chain in bad}
        if self.drop:
            for chain, (step, _) in found.items():
                self._mask(chain, step)
            return
        chain, (step, coordinate) = min(found.items(), key=lambda item: (item[1][0], item[0]))
        self.draw = min(self.draw, (step - 1 - self.first_step) // self.record.every)
        self.engine.state = self._replay(before, step - 1)  # the last good state
        where = f"coordinate {coordinate!r}" if coordinate is not None else "the energy"
        raise NonFiniteError(
            f"{where} of chain {chain} is not finite after step {step}: the run diverged. The {self.draw} draws before "
            'it are kept in the error\'s `dataset`; try a smaller step size, or on_nonfinite="drop" to go on without '
            "that chain",
            step=step,
            chain=chain,
            coordinate=coordinate,
        )

    def _locate(self, before: State, chain: int, first_draw: int) -> tuple[int, str | int | None]:
        """First bad step of a chain, and the coordinate concerned (None if only the energy is bad)."""
        step, coordinate = self._first_bad_position(before, chain)
        recorded = self._first_bad_record(chain, first_draw)
        return (recorded, None) if recorded < step else (step, coordinate)

    def _first_bad_record(self, chain: int, first_draw: int) -> int:
        rows = [self.recorded[name][chain, first_draw : self.draw] for name in NATIVE if name in self.recorded]
        good = [np.isfinite(row.reshape(len(row), -1)).all(axis=1) for row in rows]
        bad = np.flatnonzero(~np.all(good, axis=0)) if good else np.zeros(0, int)
        return self.first_step + (first_draw + int(bad[0]) + 1) * self.record.every if len(bad) else NEVER

    def _first_bad_position(self, before: State, chain: int) -> tuple[int, str | int | None]:
        """By bisection, with the same noise again from `before`: NaN and infinity stay."""
        low, high = before.step, self.engine.state.step  # finite at low, not at high
        values = self.engine.state.position[chain]
        if bool(torch.isfinite(values).all()):
            return NEVER, None
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

    def _mask(self, chain: int, step: int) -> None:
        self.dropped_step[chain] = step
        self.engine.state.position[chain] = np.nan
        first = (step - 1 - self.first_step) // self.record.every
        for values in self.recorded.values():
            if values.dtype.kind == "f":
                values[chain, first : self.draw] = np.nan
        late = self.snapshot_at + self.first_step >= step
        self.snapshots[chain, late] = np.nan
