"""Formulas on the CPU: the tape interpreter inside a compiled loop over steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray

from landscape import random
from landscape.engines.base import Plan, Settings, State
from landscape.engines.compiled import CompiledEngine
from landscape.kernels.formula import run_block
from landscape.kernels.metropolis import run_metropolis
from landscape.kernels.noise_rows import NARROW
from landscape.kernels.tape import evaluate
from landscape.noise.base import Noise
from landscape.noise.covariance import CovarianceNoise
from landscape.noise.hessian import HessianNoise
from landscape.noise.two_point import TwoPointNoise
from landscape.potentials.expression import Expression
from landscape.potentials.formula import absolute
from landscape.potentials.tape import Tape

__all__ = ["CompiledFormula", "uncoupled"]

CACHE_BYTES = 1 << 16  # what the rows of a block may take: they should stay close to the core


class CompiledFormula(CompiledEngine):
    """Chains of an `Expression`, in float64."""

    def __init__(self, plan: Plan, state: State) -> None:
        if not isinstance(plan.potential, Expression):
            raise TypeError("compiled loops run formulas")
        super().__init__(plan, state)
        formula, noise = plan.potential, plan.integrator.thermal_noise
        factors: list[sympy.Expr] = []
        rows = np.zeros(0, np.int64)
        if isinstance(noise, HessianNoise) and plan.integrator.thermal:
            chosen = noise.indices(formula)
            factors, rows = _noise_factors(formula, noise, chosen), np.full(formula.dim, -1)
        metropolis, springs = plan.integrator.metropolis, plan.restraints
        if springs is None:
            program = formula.tape_with([formula.expression] if metropolis else factors)
        else:
            program = springs.tape(formula, factors, energy=metropolis)
        self.springs = np.zeros((0, plan.chains)) if springs is None else springs.numbers
        self.own = slice(program.parameters - len(self.springs), program.parameters)
        if len(rows):
            rows[chosen] = program.outputs[formula.dim :]
        self.program, self.energy_tape = _arrays(program), formula.energy_tape
        mixing = noise.root if isinstance(noise, CovarianceNoise) else np.zeros((0, 0))
        self.noise_settings = (
            np.uint64(plan.seed), getattr(noise, "refinement", 1), *_layout(noise, noise.variates * plan.potential.dim),
            rows, np.sqrt(getattr(noise, "isotropic", 0.0)), mixing,
        )  # fmt: skip
        walls = plan.walls
        self.wall_settings = (walls.kinds, walls.lows, walls.highs, bool(plan.integrator.turned_by_walls))
        self.exit_settings = (walls.exit_lows, walls.exit_highs, plan.integrator.brownian and noise.white)

    @property
    def block_size(self) -> int:
        """As many chains as keep the registers in the cache; few chains go one by one."""
        if self.plan.chains < NARROW:
            return 1
        rows = self.program[3] + 2 * self.plan.potential.dim
        return int(np.clip(CACHE_BYTES // (8 * rows), NARROW, 512))

    def _blocks(self) -> Iterator[slice]:
        """Blocks of chains on the same springs, of which the numbers are constants of their program."""
        changes = np.flatnonzero((self.springs[:, 1:] != self.springs[:, :-1]).any(axis=0)) + 1
        for block in super()._blocks():
            inside = changes[(changes > block.start) & (changes < block.stop)].tolist()
            yield from (slice(a, b) for a, b in pairwise([block.start, *inside, block.stop]))

    def _program_of(self, chains: slice) -> tuple[Any, Any, Any, int]:
        """The program with the springs of a block."""
        code, constants, outputs, registers = self.program
        constants = constants.copy()
        constants[self.own] = self.springs[:, chains.start]
        return code, constants, outputs, registers

    def run_block(
        self, chains: slice, memory: dict[str, NDArray[Any]], settings: Settings, steps: int, records: Any
    ) -> None:
        """Advance one block."""
        m, v = self.rule_memory(chains)
        program = self._program_of(chains)
        rows = tuple(
            np.ascontiguousarray(part[:, chains]) for part in (settings.dt, settings.amplitude, settings.temperature)
        )
        noise_types, energy_program = (self.noise_type, self.noise_real), _arrays(self.energy_tape)
        x, step = self.positions()[chains], self.state.step
        none = np.zeros(0)
        left = tuple(memory[name][chains] if name in memory else none for name in ("exit_step", "exit_wall"))
        exits = (*self.exit_settings, *left)
        if self.plan.integrator.metropolis:
            run_metropolis(
                program, energy_program, x, noise_types, self.noise_settings, rows, self.wall_settings, exits,
                self.scheme, self.leapfrog, memory["accepted"][chains], chains.start, step, steps, records,
            )  # fmt: skip
            return
        lanes = len(x) if len(x) > 1 else (1,)
        run_block(
            lanes, program, energy_program, x, m, v, noise_types, self.noise_settings, rows, self.wall_settings,
            exits, self.scheme, np.ascontiguousarray(self.settings[:, chains]), chains.start, step, steps, records,
        )  # fmt: skip

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain, by the same operations as inside the loop."""
        return evaluate(self.energy_tape, self.positions())[:, 0]


def uncoupled(formula: Expression, noise: HessianNoise) -> bool:
    """Whether the noise of each coordinate is its own: the chosen block of the Hessian is diagonal."""
    chosen = noise.indices(formula)
    return all(formula.second_derivative(i, j) == 0 for i in chosen for j in chosen if i < j)


def _noise_factors(formula: Expression, noise: HessianNoise, chosen: list[int]) -> list[sympy.Expr]:
    """Square roots of the curvatures along the chosen coordinates, negative ones as `noise` says."""
    stretch = absolute if noise.negative == "absolute" else (lambda e: sympy.Max(e, 0))
    return [sympy.sqrt(stretch(formula.second_derivative(d, d))) for d in chosen]


def _layout(noise: Noise, width: int) -> tuple[int, NDArray[np.int64]]:
    """How the variates of 2^shift steps lie in a block: shift, and word, call, bit of each ``(2^shift, width, 3)``."""
    if isinstance(noise, TwoPointNoise):
        per_call = random.signs_per_call(width)
        flat = np.arange(per_call)[:, None] * width + np.arange(width)
        places = np.stack([flat % 128 // 32, flat // 128, flat % 32], axis=-1)
    else:
        precision = noise.precision  # type: ignore[attr-defined]
        per_call, calls = random.steps_per_call(width, precision), random.calls_per_step(width, precision)
        per_call = 1 << (per_call.bit_length() - 1)
        flat = np.arange(per_call)[:, None] * width + np.arange(width)
        places = np.stack([flat // calls, flat % calls, np.zeros_like(flat)], axis=-1)
    return per_call.bit_length() - 1, np.ascontiguousarray(places, dtype=np.int64)


def _arrays(tape: Tape) -> tuple[Any, Any, Any, int]:
    return tape.instructions, tape.constants, tape.outputs, tape.registers
