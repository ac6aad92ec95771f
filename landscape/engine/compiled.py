"""What the two compiled engines share: the rule's numbers, flat memory, threads over blocks of chains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from landscape.engine.base import Engine, Plan, Settings, State, draws_between
from landscape.integrators.compiled_rule import SETTINGS, CompiledRule, rule_of
from landscape.integrators.masses import rows

__all__ = ["CompiledEngine"]


class CompiledEngine(Engine):
    """Blocks of chains, each advanced by a compiled loop that holds no lock; blocks run on threads."""

    def __init__(self, plan: Plan, state: State) -> None:
        super().__init__(plan, state)
        rule = rule_of(plan.integrator)
        if rule is None:
            raise TypeError(f"no compiled form of {type(plan.integrator).__name__}")
        self.rule: CompiledRule = rule
        self.settings = np.zeros((SETTINGS, plan.chains), self.real)
        for row, values in enumerate(self._numbers()):
            self.settings[row] = values
        if rule.mass is not None and not rule.proposes:
            mass = rows(rule.mass, plan.potential.dim)[:, None] + np.zeros((1, plan.chains))
            self.settings = np.concatenate([self.settings, 1.0 / mass, np.sqrt(mass)]).astype(self.real)
        noise = plan.integrator.thermal_noise
        self.noise_real = np.zeros(0, np.dtype(noise.precision))
        self.noise_type = np.zeros(0, np.uint32) if noise.signs else self.noise_real
        self.threads = max(1, min(int(numba.config.NUMBA_NUM_THREADS), plan.chains))
        self._pool: ThreadPoolExecutor | None = None
        self._constant: tuple[Settings, NDArray[np.float64]] | None = None

    def _numbers(self) -> list[Any]:
        """The rule's numbers, one or one per chain each."""
        plan, rule = self.plan, self.plan.integrator
        if self.rule.numbers is not None:
            return list(self.rule.numbers)
        if not rule.thermal_noise.white:
            settings, _ = plan.settings_of(self.state, 1)
            return list(rule.thermal_noise.numbers(settings.dt[0], settings.temperature[0], plan.settings))
        return [plan.settings[name] for name in rule.per_chain]

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Chains per block."""

    @abstractmethod
    def run_block(
        self, chains: slice, memory: dict[str, NDArray[Any]], settings: Settings, steps: int, records: Any
    ) -> None:
        """Advance one block; ``records`` = (cadences, steps made before, positions and energies of its rows)."""

    @property
    def real(self) -> np.dtype[Any]:
        """Type of the state."""
        return np.dtype(str(self.plan.dtype).removeprefix("torch."))

    def rule_memory(self, chains: slice) -> tuple[NDArray[Any], NDArray[Any]]:
        """The two arrays of the rule's memory, or scratch in their place."""
        rule = self.plan.integrator
        held = [self.state.memory[name].numpy() for name in (*rule.memory_names, *rule.thermal_noise.memory_names)]
        scratch = np.zeros_like(self.positions()[chains])
        m, v = ([array[chains] for array in held] + [scratch, scratch.copy()])[:2]
        return m, v

    def advance(self, steps: int) -> None:
        """Take `steps` steps."""
        self.advance_recording(steps, 0, position_every=0, energy_every=0)

    def advance_recording(
        self, steps: int, since: int, *, position_every: int, energy_every: int
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Take `steps` steps, recording inside the compiled loop."""
        return self.advance_blocks(
            self.run_block, self.blocks_of(self.block_size), steps, since, position_every, energy_every
        )

    def advance_blocks(
        self, run_block: Callable[..., None], blocks: list[slice], steps: int, since: int, position_every: int,
        energy_every: int,
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:  # fmt: skip
        """The same for given blocks and a given loop over each."""
        chains, dim = self.plan.chains, self.plan.potential.dim
        positions = np.empty((chains, draws_between(since, steps, position_every), dim), self.real)
        energies = np.empty((chains, draws_between(since, steps, energy_every)))
        memory = {name: value.numpy() for name, value in self.state.memory.items()}
        done = 0
        while done < steps:
            piece = self.piece(steps - done)
            settings, time = self._settings_of(piece)
            if self.rule.scale != 1.0:
                settings = replace(settings, amplitude=self.rule.scale * settings.amplitude)
            of_piece = [
                part[:, draws_between(since, done, every) : draws_between(since, done + piece, every)]
                for part, every in ((positions, position_every), (energies, energy_every))
            ]

            def block(chains: slice, settings: Settings = settings, piece: int = piece, at: int = since + done) -> None:
                parts = [part[chains] for part in of_piece]  # noqa: B023  # called before the next piece
                run_block(chains, memory, settings, piece, (position_every, energy_every, at, *parts))

            self._map(block, blocks)
            self.state.step += piece
            done += piece
            if self.plan.scheduled:
                self.state.time = time
        return positions, energies

    def _settings_of(self, steps: int) -> tuple[Settings, NDArray[np.float64]]:
        """Settings of the next steps, looked up once where they are the same for all."""
        plan = self.plan
        if plan.scheduled or plan.driven:
            return plan.settings_of(self.state, steps)
        if self._constant is None:
            self._constant = plan.settings_of(self.state, 1)
        return self._constant

    def piece(self, steps: int) -> int:
        """How many of the next `steps` steps one call of the kernel may take."""
        return next(self.plan.pieces(steps))

    def _map(self, function: Callable[[slice], None], blocks: list[slice]) -> None:
        if self.threads == 1 or len(blocks) == 1:
            for chains in blocks:
                function(chains)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="landscape")
        list(self._pool.map(function, blocks))

    def blocks_of(self, size: int, unit: int = 1) -> list[slice]:
        """All chains in blocks of about `size`, each of whole multiples of `unit` chains."""
        chains, units = self.plan.chains, self.plan.chains // unit
        count = -(-chains // size)
        if chains >= self.threads * 32:  # enough for every thread to have a block that is worth its while
            count = -(-count // self.threads) * self.threads
        edges = unit * np.linspace(0, units, count + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(edges) if b > a]

    def close(self) -> None:
        """Release the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
