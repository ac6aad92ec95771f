"""Exchanges of neighbours within the compiled loop over formulas."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.engine.base import Ladders
from landscape.kernels.exchange import loop_of
from landscape.kernels.noise_rows import NARROW, empty_rows
from landscape.kernels.tape import code_of

__all__ = ["CompiledExchanger", "exchanger_of"]


def exchanger_of(engine: Any) -> CompiledExchanger | None:
    """That of an engine, if the numbers of its energy and of its rule are the same at all times and for all chains."""
    plan = engine.plan
    if plan.numbers is not None or plan.scheduled or len(plan.integrator.memory_names) > 1:
        return None
    return CompiledExchanger(engine)


class CompiledExchanger:
    """An `Exchanger` for a `CompiledFormula`; its blocks are whole ladders, so that none waits for another."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.tape = engine, engine.formula.energy_tape
        plan, names = engine.plan, engine.plan.integrator.memory_names
        rule, self.momenta = plan.integrator, [np.zeros(plan.chains), np.ones(plan.chains)] if names else []
        for row, facts in zip(self.momenta, (rule.half_kick, rule.exchanged), strict=False):
            for column in plan.columns(facts, engine.state).values():
                row[:] = column[:, 0].numpy()

    def advance(
        self, ladders: Ladders, walkers: NDArray[np.int64], steps: int, since: int, *, position_every: int,
        energy_every: int, walker_every: int,
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:  # fmt: skip
        """Take `steps` steps with the exchanges that come before the last one."""
        first = self.engine.state.step
        exchanging = partial(self._loop, ladders, walkers, walker_every, False)
        recorded: tuple[NDArray[Any], NDArray[np.float64]] = self.engine.advance_blocks(
            partial(self.engine.run_block, loop=exchanging), self._blocks(ladders), steps, since, position_every,
            energy_every,
        )  # fmt: skip
        self._count(ladders, (first + steps - 1) // ladders.every - first // ladders.every)
        return recorded

    def exchange(self, ladders: Ladders) -> None:
        """The exchange after the last step."""
        engine, dim = self.engine, self.engine.plan.potential.dim
        settings, _ = engine.plan.settings_of(engine.state, 1)
        memory = {name: value.numpy() for name, value in engine.state.memory.items()}
        loop = partial(self._loop, ladders, np.empty((engine.plan.chains, 0), np.int64), 1, True)
        for chains in self._blocks(ladders):
            n = chains.stop - chains.start
            nothing = 0, 0, 0, np.empty((n, 0, dim)), np.empty((n, 0))
            engine.run_block(chains, memory, settings, 0, nothing, loop=loop)
        self._count(ladders, 1)

    def _count(self, ladders: Ladders, rounds: int) -> None:
        """All pairs of a round are tried."""
        for number in (ladders.number, ladders.number + 1):
            ladders.tried += (rounds + 1 - number + ladders.number) // 2 * ladders.first[number % 2]
        ladders.number += rounds

    def _blocks(self, ladders: Ladders) -> list[slice]:
        size = max(self.engine.block_size, ladders.rungs, NARROW)
        blocks: list[slice] = self.engine.blocks_of(size, unit=ladders.rungs)
        return blocks

    def _loop(
        self, ladders: Ladders, walkers: NDArray[np.int64], walker_every: int, last: bool, flow: Any, proposals: Any,
        when: Any, records: Any, system: Any, first: NDArray[np.float64], turns: NDArray[np.float64] | None,
    ) -> None:  # fmt: skip
        """One block: what its exchanges need, and the loop."""
        n, rungs = first.shape[1], ladders.rungs
        chains = slice(when[0], when[0] + n)
        code, constants = code_of(self.tape), self.tape.constants
        registers = empty_rows((self.tape.registers, n))
        registers[self.tape.inputs : self.tape.inputs + len(constants)] = constants[:, None]
        pairs = n if rungs % 2 else n // 2
        scratch = np.empty((4, pairs), np.uint32), np.empty(pairs), np.empty(pairs, np.int64)
        gaps = np.where(ladders.first[:, chains], ladders.gaps[chains], np.nan)
        counts = ladders.made[chains], ladders.last_end[chains], ladders.half_trips[chains]
        rule = self.engine.rule
        loop_of(rule.stage, rule.proposes)(
            flow, proposals, when, records, system, (ladders.every, ladders.number, last), (rungs, gaps),
            (*code, self.tape.outputs, registers, *scratch),
            (first, *(row[chains] for row in self.momenta)) if self.momenta else None, turns,
            (ladders.walker[None, chains], *counts), (walker_every, walkers[chains]),
        )  # fmt: skip
