"""Formulas on the CPU: the tape interpreter inside a compiled loop over steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray

from landscape import random
from landscape.engine.base import Plan, Settings, State
from landscape.engine.compiled import CompiledEngine
from landscape.engine.compiled_exchange import CompiledExchanger, exchanger_of
from landscape.engine.varying import work_tape
from landscape.integrators.masses import rows as rows_of_mass
from landscape.kernels import formula, metropolis
from landscape.kernels.noise_rows import NARROW, empty_rows, rows_of
from landscape.kernels.tape import code_of, evaluate
from landscape.noise.base import Noise
from landscape.noise.forms import CompiledNoise, form_of
from landscape.potentials.expression.potential import Expression
from landscape.potentials.expression.tape import Tape
from landscape.recording.dissipation import DISSIPATED, SUMS

__all__ = ["CompiledFormula"]

CACHE_BYTES = 1 << 16  # what the rows of a block may take: they should stay close to the core


class CompiledFormula(CompiledEngine):
    """Chains of an `Expression`, in float64."""

    def __init__(self, plan: Plan, state: State, formula: Expression) -> None:
        super().__init__(plan, state)
        noise = plan.integrator.thermal_noise
        form = form_of(noise, formula) if plan.integrator.thermal else CompiledNoise()
        if isinstance(form, str):
            raise TypeError(form)
        chosen, factors = list(form.factors), list(form.factors.values())
        metropolis, springs = plan.integrator.metropolis, plan.restraints
        mobility, self.dissipates = plan.integrator.mobility, DISSIPATED in state.memory
        self.mobility: Any = None if mobility is None else mobility.of(formula)
        if self.mobility is not None:
            if springs is None:
                program = formula._tape(self._mobile_outputs(formula._gradient_expressions()))
            else:
                program = springs.tape(formula, [], energy=False, mixed=self._mobile_outputs)
        elif springs is None:
            program = formula.tape_with([formula.expression] if metropolis else factors)
        else:
            program = springs.tape(formula, factors, energy=metropolis)
        self.inputs = program.inputs
        self.jump = work_tape(formula, springs) if plan.driven and "work" in state.memory else None
        rows = np.full(formula.dim if chosen else 0, -1)
        rows[chosen] = program.outputs[formula.dim :][: len(chosen)]
        self.program, self.formula = _arrays(program), formula
        self.layout = _layout(noise, noise.variates * formula.dim)
        mixing = np.zeros((0, 0)) if form.matrix is None else form.matrix
        self.shaping = None if form.plain else (rows, form.others, mixing)
        self.bridge = plan.integrator.brownian and noise.white
        self.slopes = np.asarray(program.outputs[: formula.dim])
        if self.mobility is not None:
            self._take_mobility(program.outputs[formula.dim :])

    def _mobile_outputs(self, slopes: Sequence[sympy.Expr]) -> list[sympy.Expr]:
        """M grad V, c div M, what the noise needs, and the gradient itself where its sum is asked for."""
        field = self.mobility
        needed = field.roots if field.diagonal else [entry for row in field.entries for entry in row]
        return [*field.mixed(slopes), *field.push, *needed, *(slopes if self.dissipates else ())]

    def _take_mobility(self, outputs: NDArray[np.int32]) -> None:
        """Registers of the terms of a mobility."""
        dim, field = self.plan.potential.dim, self.mobility
        push, rest = outputs[:dim].astype(np.int64), outputs[dim:].astype(np.int64)
        self.entries = np.zeros((0, 0), np.int64) if field.diagonal else rest[: dim * dim].reshape(dim, dim)
        self.push, self.roots = push, np.array(rest[: dim if field.diagonal else 0])
        if field.diagonal:
            self.shaping = self.roots, 0.0, np.zeros((0, 0))  # for walls
        if self.dissipates:
            self.slopes = np.array(rest[-dim:])

    @property
    def block_size(self) -> int:
        """As many chains as keep the registers in the cache; few chains go one by one."""
        if self.plan.chains < NARROW:
            return 1
        rows = self.program[3] + 2 * self.plan.potential.dim
        return int(np.clip(CACHE_BYTES // (8 * rows), NARROW, 512))

    def run_block(
        self, chains: slice, memory: dict[str, NDArray[Any]], settings: Settings, steps: int, records: Any,
        loop: Callable[..., None] | None = None,
    ) -> None:  # fmt: skip
        """Advance one block, held as rows ``(coordinates, chains)``; `loop` is told what there is besides the steps."""
        plan, x = self.plan, self.positions()[chains]
        n, dim = x.shape
        code, constants, outputs, count = self.program
        registers = empty_rows((count, n))
        registers[:dim] = x.T
        registers[self.inputs : self.inputs + len(constants)] = constants[:, None]
        numbers = _of_block(settings.numbers, chains)
        if numbers is not None:
            registers[dim : self.inputs] = numbers[0]
        drawn = rows_of(n, self.layout[1], self.noise_type.dtype, self.noise_real.dtype)
        noise = plan.integrator.thermal_noise
        scale = self.noise_real.dtype.type(1.0 / np.sqrt(noise.refinement))
        drawing = np.uint64(plan.seed), noise.refinement, scale, int(noise.antithetic), *self.layout
        shaping = None if self.shaping is None else (*self.shaping, np.empty((dim, n)))
        walls = plan.walls.kinds, plan.walls.lows, plan.walls.highs
        turns = empty_rows((dim, n))
        turns[:] = 0.0
        if plan.walls.winds:
            turns[:] = memory["winding"][chains].T
        dt, temperature, amplitude = (
            np.ascontiguousarray(part[:, chains]) for part in (settings.dt, settings.temperature, settings.amplitude)
        )
        when = chains.start, self.state.step, steps
        every, energy_every, since, positions, energies = records
        # energies come afterwards, from the positions at which they are wanted
        apart = energy_every != every
        visited = np.empty((n, energies.shape[1] if apart else 0, dim))
        kept = (every, energy_every if apart else 0), (since, since), (positions, visited)
        program = *code, outputs
        noises: Any = (drawing, drawn, shaping)
        flow: Any = None
        proposals: Any = None
        first, second, idle = (empty_rows((dim, n)) for _ in range(3))
        m, v = self.rule_memory(chains)
        first[:], second[:] = m.T, v.T
        if plan.integrator.metropolis:
            stretch = 1.0 / np.sqrt(rows_of_mass(self.rule.mass, dim))
            counting = (self.rule.stages, int(self.rule.folds), stretch), memory["accepted"][chains]
            rows = dt, amplitude, temperature
            exits = self._exits(chains, memory)
            scratch = *(empty_rows((dim, n)) for _ in range(4)), *(np.empty(n) for _ in range(3))
            proposals = (
                dim, program, registers, *noises, rows, (*walls, turns), exits, counting,
                (*scratch, np.empty((4, n), np.uint32)),
            )  # fmt: skip
        else:
            turned = first if plan.integrator.flips_on_reflection else idle
            facts = self.rule.stages, int(self.rule.ahead), int(self.rule.forceless)
            rule = facts, np.ascontiguousarray(self.settings[:, chains]), np.empty(3)
            memories = (first, second) if self.rule.remembers else None
            before = (
                n if n > 1 else None, dim, program, registers, memories, *noises, (dt, amplitude),
                (*walls, turned, turns) if plan.walls.folds else None, self._exits(chains, memory), rule,
            )  # fmt: skip
            after = (
                numbers if plan.driven else None, self._work(chains, memory), self._mobile(dim, n),
                self._flux(chains, memory, temperature),
            )  # fmt: skip
            flow = before, after
        if loop is not None:
            system = dim, program, registers, drawing[0]
            loop(flow, proposals, when, kept, system, first, turns if plan.walls.winds else None)
        elif flow is not None:
            formula.loop_of(self.rule.stage)(*flow[0], when, kept, *flow[1])
        else:
            metropolis.loop_of(self.rule.stage)(*proposals, when, kept)
        if not plan.integrator.metropolis:
            m[:], v[:] = first.T, second.T
        x[:] = registers[:dim].T
        if plan.walls.winds:
            memory["winding"][chains] = turns.T
        if energy_every:
            points = visited if apart else positions
            draws = range(energy_every - since % energy_every, steps + 1, energy_every)
            points = self._with_numbers(points, numbers, draws if plan.driven else None)
            flat = points.reshape(-1, points.shape[-1])
            energies[:] = evaluate(self.formula.energy_tape, flat).reshape(energies.shape)

    def _with_numbers(self, points: Any, numbers: Any, rows: Any = None) -> NDArray[np.float64]:
        """Positions ``(n, draws, dim)`` with the potential's numbers, those of a row of the table for each draw."""
        own = len(self.plan.potential.varying)
        if not own:
            return points  # type: ignore[no-any-return]
        table = numbers[:1, :own] if rows is None else numbers[list(rows), :own]  # (1 or draws, own, 1 or n)
        beside = np.broadcast_to(table.transpose(2, 0, 1), (*points.shape[:2], own))
        return np.concatenate([points, beside], axis=2)

    def _work(self, chains: slice, memory: dict[str, NDArray[Any]]) -> Any:
        """What the kernel sums the work with; None where none is asked for."""
        if self.jump is None:
            return None
        code, constants, outputs, count = _arrays(self.jump)
        total = memory["work"][chains]
        registers = empty_rows((count, len(total)))
        registers[self.jump.inputs : self.jump.inputs + len(constants)] = constants[:, None]
        return (*code, outputs), registers, total

    def _mobile(self, dim: int, n: int) -> Any:
        """What the kernel mixes the noise with where there is a mobility, else None."""
        if self.mobility is None:
            return None
        return self.push, self.roots, self.entries, np.zeros((dim, dim)), empty_rows((dim, n))

    def _flux(self, chains: slice, memory: dict[str, NDArray[Any]], temperature: NDArray[np.float64]) -> Any:
        """What the kernel sums the work of the force with; None where it is not asked for."""
        if not self.dissipates:
            return None
        totals = tuple(memory[name][chains] for name in SUMS)
        scratch = tuple(empty_rows((self.plan.potential.dim, len(totals[0]))) for _ in range(3))
        return self.slopes.astype(np.int64), scratch, temperature, totals

    def _exits(self, chains: slice, memory: dict[str, NDArray[Any]]) -> Any:
        """Absorbing walls, who crossed them, and scratch; None where there are no such walls."""
        if "exit_wall" not in memory:
            return None
        walls, step, wall = self.plan.walls, memory["exit_step"][chains], memory["exit_wall"][chains]
        dim, n = self.plan.potential.dim, len(wall)
        scratch = np.empty((dim, n)), np.empty((4, 1), np.uint32), np.empty((2, 1)), np.empty(dim)
        crossing = walls.exits, bool(self.bridge), step, wall, *scratch
        return crossing, (np.empty(n), np.empty((2, dim, n)))

    @cached_property
    def exchanger(self) -> CompiledExchanger | None:  # type: ignore[override]
        """Exchanges within the loop, where the energy is the same for all chains at all times."""
        return exchanger_of(self)

    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain, by the same operations as inside the loop."""
        numbers = self.plan.settings_of(self.state, 1)[0].numbers
        points = self._with_numbers(self.positions()[:, None], numbers)
        return evaluate(self.formula.energy_tape, points[:, 0])[:, 0]


def _of_block(table: NDArray[np.float64] | None, chains: slice) -> NDArray[np.float64] | None:
    """The numbers of the energy ``(steps, numbers, 1 or n)`` for a block of chains."""
    return table if table is None or table.shape[2] == 1 else np.ascontiguousarray(table[:, :, chains])


def _layout(noise: Noise, width: int) -> tuple[int, NDArray[np.int64]]:
    """How the variates of 2^shift steps lie in a block: shift, and word, call, bit of each ``(2^shift, width, 3)``."""
    if noise.signs:
        per_call = random.signs_per_call(width)
        flat = np.arange(per_call)[:, None] * width + np.arange(width)
        places = np.stack([flat % 128 // 32, flat // 128, flat % 32], axis=-1)
    else:
        per_call = random.steps_per_call(width, noise.precision)
        calls = random.calls_per_step(width, noise.precision)
        per_call = 1 << (per_call.bit_length() - 1)
        flat = np.arange(per_call)[:, None] * width + np.arange(width)
        places = np.stack([flat // calls, flat % calls, np.zeros_like(flat)], axis=-1)
    return per_call.bit_length() - 1, np.ascontiguousarray(places, dtype=np.int64)


def _arrays(tape: Tape) -> tuple[Any, Any, Any, int]:
    return code_of(tape), tape.constants, tape.outputs, tape.registers
