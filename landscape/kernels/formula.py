"""The loop over steps for formulas: blocks of chains held as rows of registers."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from numba import int64

from landscape.integrators.compiled_rule import Stage
from landscape.kernels.compilation import exact, exact_inline, exact_inner
from landscape.kernels.crossing import absorb
from landscape.kernels.dissipation import depart, dissipate
from landscape.kernels.mobile import stir
from landscape.kernels.noise_rows import draw
from landscape.kernels.tape import execute
from landscape.kernels.update import OPEN, update, wall, with_stage

__all__ = ["keep", "loop_of", "made_by", "perform", "put", "run_block", "until_next"]


@exact_inner
def _shape(n, dim, registers, shaping, noise):  # type: ignore[no-untyped-def]
    """Give the noise of a step its covariance: by factors on the tape, or by a matrix."""
    factors, isotropic, mixing, mixed = shaping
    if factors.size:
        for d in range(dim):
            for i in range(n):
                noise[d, i] = noise[d, i] * (registers[factors[d], i] if factors[d] >= 0 else isotropic)
    if mixing.size:
        for d in range(dim):
            for i in range(n):
                mixed[d, i] = 0.0
            for e in range(dim):
                for i in range(n):
                    mixed[d, i] += mixing[d, e] * noise[e, i]
        for d in range(dim):
            for i in range(n):
                noise[d, i] = mixed[d, i]


@exact_inline
def keep(n, dim, registers, positions, draw):  # type: ignore[no-untyped-def]
    """Record the positions at a draw."""
    for d in range(dim):
        for i in range(n):
            positions[i, draw, d] = registers[d, i]


@exact_inline
def put(n, first, registers, numbers, at):  # type: ignore[no-untyped-def]
    """Write the numbers of a time to their registers."""
    for j in range(numbers.shape[1]):
        if numbers.shape[2] == 1:
            for i in range(n):
                registers[first + j, i] = numbers[at, j, 0]
        else:
            for i in range(n):
                registers[first + j, i] = numbers[at, j, i]


@exact_inner
def perform(n, dim, registers, numbers, k, code, library, outputs, scratch, total, gone):  # type: ignore[no-untyped-def]
    """Add the work of step `k`: what the energy rises by as its numbers change where the chains are, if they are."""
    for d in range(dim):
        for i in range(n):
            scratch[d, i] = registers[d, i]
    put(n, dim, scratch, numbers, k)
    put(n, dim + numbers.shape[1], scratch, numbers, k + 1)
    execute(n, code, library, scratch)
    if gone is None:
        for i in range(n):
            total[i] += scratch[outputs[0], i]
    else:
        for i in range(n):
            total[i] += scratch[outputs[0], i] if gone[i] == 0.0 else 0.0


@exact_inline
def until_next(every, since):  # type: ignore[no-untyped-def]
    """Steps until a record is due that is made after each `every` steps; -1 for never."""
    return every - since % every if every > 0 else -1


@exact_inline
def made_by(every, origin, since):  # type: ignore[no-untyped-def]
    """Records that were made in the steps from `origin` to `since`."""
    return since // every - origin // every if every > 0 else int64(0)


@partial(exact, _nrt=False)
def run_block(  # type: ignore[no-untyped-def]
    chains, dim, program, registers, memory, drawing, drawn, shaping, rows, walls, exits, rule, when, records, numbers,
    work, mobile, flux,
):  # fmt: skip
    """Advance a block of chains in place.

    What is None leaves no trace in the compiled loop, which is compiled for each such case when it first occurs.

    Parameters
    ----------
    chains : int or None
        Number of chains `n`. None says to the compiler that it is one, so that loops over chains vanish.
    dim : int
        Coordinates.
    program : (instructions, library, outputs)
        Tape of the gradient, then of the factors that the noise needs; see `tape.code_of`.
    registers : array ``(r, n)``
        Its rows: positions, numbers that change in time or differ by chain, constants, scratch.
    memory : (first, second) or None
        Memory of the rule, ``(dim, n)`` twice.
    drawing : (seed, refinement, scale, paired, shift, places)
        `paired` is 1 where the chains of a pair ride opposite noise, else 0; ``places (steps, variates, 3)`` says where
        in a block of 2^shift steps a variate lies.
    drawn : (tile, words, made, noise, tile_start)
        Scratch of `noise_rows.rows_of`: a later call goes on with what is left of the tile.
    shaping : (factors, isotropic, mixing, scratch) or None
        ``factors`` are registers of factors on the noise of each coordinate (-1: `isotropic`), ``mixing`` a matrix on
        it; either may be empty. The scratch is ``(dim, n)``.
    rows : (dt, amplitude)
        Arrays ``(1 or steps, n)``.
    walls : (kinds, lows, highs, turned, turns) or None
        `turned` is what mirrors turn round, the first memory or scratch; ``turns (dim, n)`` counts periods.
    exits : (walls, bridge, exit_step, exit_wall, before, word), (gone, held) or None
        Absorbing walls ``(3, 2, dim)``, see `absorb`; `bridge` tests for crossings between steps. ``exit_step`` and
        ``exit_wall (n,)``; scratch ``before (dim, n)``, ``word (4, 1)``, ``pair (2, 1)``, ``shaken (dim,)``, ``gone
        (n,)``, ``held (2, dim, n)``.
    rule : ((stages, ahead, forceless), settings, typed)
        See `CompiledRule`.
    when : (chain, first_step, steps)
        Number of the first chain and of the first step, how many steps.
    records : (every, (origin, since), positions)
        Two cadences, the steps made before the first draw and before this call, and two arrays ``(n, draws, dim)`` that
        the positions go to after each so many steps (never if 0).
    numbers : array ``(steps + 1, numbers, 1 or n)``, or None
        Rows of the registers after the positions, at the start of each step and after the last.
    work : ((instructions, library, outputs), registers, total) or None
        Tape of E(x, later numbers) - E(x, numbers) in positions, numbers and later numbers, its ``registers (r, n)``,
        and the sum ``(n,)`` over steps.
    mobile : (push, factors, entries, root, stirred) or None
        See `mobile.stir`; the outputs of the program then are M grad V.
    flux : (slopes, scratch, temperature, sums) or None
        See `dissipation.dissipate`.
    """
    n = int64(1) if chains is None else chains
    code, library, outputs = program
    (dt, amplitude), ((stages, ahead, forceless), settings, typed) = rows, rule
    seed, noise = drawing[0], drawn[3]
    chain, first_step, steps = when
    (often, seldom), (origin, since), (kept, also_kept) = records
    moved = 0  # a sum of integers, which vectorises
    for k in range(amplitude.shape[0]):
        for i in range(n):
            moved += amplitude[k, i] != 0.0
        if moved:
            break
    noisy = moved > 0
    tape = forceless == 0 or shaping is not None
    tile_start = drawn[4][0]
    to_keep, to_keep_also = until_next(often, since), until_next(seldom, since)
    draws, also_draws = made_by(often, origin, since), made_by(seldom, origin, since)
    at, inside = 0, n
    # the very first step of the scheme averages its noise with that of the next: a step -1 only draws
    for k in range(-1 if ahead and first_step == 0 and noisy else 0, steps):
        step = first_step + k
        if noisy:
            tile_start = draw(n, step + ahead, drawing, tile_start, drawn, chain)
        if memory is not None and k < 0:
            first, _ = memory
            for d in range(dim):
                for i in range(n):
                    first[d, i] = noise[d, i]
            continue
        if dt.shape[0] > 1:
            at = k
        if exits is not None:
            crossing, (gone, held) = exits
            before = crossing[4]
            for i in range(n):
                gone[i] = crossing[3][i]
            for d in range(dim):
                for i in range(n):
                    before[d, i] = registers[d, i]
            if memory is not None:
                first, second = memory
                for d in range(dim):
                    for i in range(n):
                        held[0, d, i], held[1, d, i] = first[d, i], second[d, i]
        for stage in range(stages):
            if numbers is not None:
                put(n, dim, registers, numbers, k + stage)
            if tape:
                execute(n, code, library, registers)
            if mobile is not None:
                stir(n, dim, registers, mobile, amplitude, at, noise)
            elif shaping is not None and noisy and stage == 0:
                _shape(n, dim, registers, shaping, noise)
            if flux is not None and stage == 0:
                depart(n, dim, registers, walls, flux)
            if memory is None:
                for d in range(dim):
                    if mobile is not None:
                        update(
                            n, stage, registers, d, registers, outputs[d], mobile[4], d, dt, amplitude, at,
                            settings, typed, registers, registers, step,
                        )  # fmt: skip
                    else:
                        update(
                            n, stage, registers, d, registers, outputs[d], noise, d, dt, amplitude, at,
                            settings, typed, registers, registers, step,
                        )  # fmt: skip
            else:
                first, second = memory
                for d in range(dim):
                    update(
                        n, stage, registers, d, registers, outputs[d], noise, d, dt, amplitude, at, settings,
                        typed, first, second, step,
                    )  # fmt: skip
        if exits is not None:
            inside = absorb(n, dim, registers, crossing, shaping, amplitude, at, seed, chain, step)
            if memory is not None:
                first, second = memory
                for d in range(dim):
                    for i in range(n):
                        if gone[i] != 0.0:
                            first[d, i], second[d, i] = held[0, d, i], held[1, d, i]
        if walls is not None:
            kinds, lows, highs, turned, turns = walls
            for d in range(dim):
                if kinds[d] != OPEN:
                    wall(n, kinds[d], registers, d, lows[d], highs[d], turned, turns)
        if flux is not None:
            if numbers is not None:
                put(n, dim, registers, numbers, k)
            execute(n, code, library, registers)
            dissipate(n, dim, registers, walls, flux, at)
        if work is not None:
            jump, jump_registers, total = work
            if exits is not None:
                perform(n, dim, registers, numbers, k, *jump, jump_registers, total, exits[1][0])
            else:
                perform(n, dim, registers, numbers, k, *jump, jump_registers, total, None)
        to_keep -= 1
        if to_keep == 0:
            keep(n, dim, registers, kept, draws)
            draws, to_keep = draws + 1, often
        to_keep_also -= 1
        if to_keep_also == 0:
            keep(n, dim, registers, also_kept, also_draws)
            also_draws, to_keep_also = also_draws + 1, seldom
        if inside == 0:
            break
    drawn[4][0] = tile_start
    # where all chains have left before the end, they stay where they are
    if exits is not None:
        for late in range(draws, kept.shape[1]):
            keep(n, dim, registers, kept, late)
        for late in range(also_draws, also_kept.shape[1]):
            keep(n, dim, registers, also_kept, late)


@cache
def loop_of(stage: Stage) -> Any:
    """`run_block` for the rule of a stage."""
    return with_stage(run_block, stage, update=exact_inline(stage))
