"""The loop over proposals and their Metropolis tests for formulas."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from landscape import random
from landscape.integrators.compiled_rule import BACK, DRIFT, KICK, LAST_KICK, PROPOSE, Stage
from landscape.kernels.compilation import exact, exact_inline, exact_inner
from landscape.kernels.crossing import absorb
from landscape.kernels.formula import keep, made_by, until_next
from landscape.kernels.noise_rows import draw
from landscape.kernels.philox import fill_words, uniform
from landscape.kernels.tape import execute
from landscape.kernels.update import PERIODIC, REFLECT, propose, wall, with_stage

__all__ = ["loop_of", "passes", "run_metropolis"]

_ACCEPTANCE = random.ACCEPTANCE


@exact_inline
def _remember(n, dim, outputs, registers, kept, slopes, energy):  # type: ignore[no-untyped-def]
    """Remember position, gradient and energy of the present state."""
    for d in range(dim):
        for i in range(n):
            kept[d, i] = registers[d, i]
            slopes[d, i] = registers[outputs[d], i]
    for i in range(n):
        energy[i] = registers[outputs[dim], i]


@exact_inner
def _gradients(n, code, library, registers):  # type: ignore[no-untyped-def]
    execute(n, code, library, registers)


@exact_inline
def passes(rise, ratio, temperature, words, i):  # type: ignore[no-untyped-def]
    """The Metropolis test of a proposal by a word of chance: whether log u < ratio - rise/T; at T = 0, of no rise."""
    if temperature > 0.0:
        return np.log(uniform(words, i)) < ratio - rise / temperature
    return rise <= 0.0


@exact_inner
def _propose(  # type: ignore[no-untyped-def]
    n, dim, rule, program, registers, walls, noise, rows, at, momentum, kept, slopes, energy, ratio, words, accepted,
    turns,
):  # fmt: skip
    """One proposal, taken or not; ``kept``, ``slopes`` and ``energy`` are those of the present state.

    ``turns (dim, n)`` then tells by how many periods each chain went round.
    """
    (gradients, folds, stretch), (code, library, outputs) = rule, program
    (dt, amplitude, temperature), (kinds, lows, highs) = rows, walls
    for i in range(n):
        ratio[i] = 0.0
    for d in range(dim):
        for i in range(n):
            turns[d, i] = 0.0
        propose(
            n, PROPOSE, registers, d, kept, slopes, registers, outputs[d], noise, dt, amplitude, temperature,
            at, momentum, ratio, stretch,
        )  # fmt: skip
    for made in range(gradients):
        for d in range(dim):
            propose(
                n, DRIFT, registers, d, kept, slopes, registers, outputs[d], noise, dt, amplitude, temperature,
                at, momentum, ratio, stretch,
            )  # fmt: skip
            if kinds[d] == PERIODIC or (folds and kinds[d] == REFLECT):
                wall(n, kinds[d], registers, d, lows[d], highs[d], momentum, turns)
        _gradients(n, code, library, registers)
        kick = LAST_KICK if made == gradients - 1 else KICK
        for d in range(dim):
            propose(
                n, kick, registers, d, kept, slopes, registers, outputs[d], noise, dt, amplitude, temperature,
                at, momentum, ratio, stretch,
            )  # fmt: skip
    for d in range(dim):
        propose(
            n, BACK, registers, d, kept, slopes, registers, outputs[d], noise, dt, amplitude, temperature, at,
            momentum, ratio, stretch,
        )  # fmt: skip
    for i in range(n):
        taken = passes(registers[outputs[dim], i] - energy[i], ratio[i], temperature[at, i], words, i)
        for d in range(dim):
            if kinds[d] == REFLECT and (registers[d, i] < lows[d] or registers[d, i] > highs[d]):
                taken = False
        for d in range(dim):
            if taken:
                kept[d, i] = registers[d, i]
                slopes[d, i] = registers[outputs[d], i]
            else:
                registers[d, i] = kept[d, i]
                turns[d, i] = 0.0
        if taken:
            energy[i] = registers[outputs[dim], i]
            accepted[i] += 1.0


@partial(exact, _nrt=False)
def run_metropolis(  # type: ignore[no-untyped-def]
    dim, program, registers, drawing, drawn, shaping, rows, walls, exits, rule, scratch, when, records
):
    """Advance a block of chains by `steps` proposals, with the arguments of `formula.run_block`.

    The program gives the gradient and then the energy; ``rule = ((gradients, folds, stretch), accepted)``, of
    which ``accepted (n,)`` counts and ``stretch (dim,)`` is 1/sqrt(M); ``rows = (dt, amplitude, temperature)``; ``walls
    = (kinds, lows, highs, winding)``, of which the last ``(dim, n)`` counts periods; ``scratch`` are four arrays
    ``(dim, n)``, three ``(n,)``, and words ``(4, n)``.
    """
    n = registers.shape[1]
    code, library, outputs = program
    (dt, amplitude, _), (kinds, lows, highs, winding) = rows, walls
    (how, accepted), (chain, first_step, steps) = rule, when
    (often, seldom), (origin, since), (kept, also_kept) = records
    seed, noise = drawing[0], drawn[3]
    present, slopes, momentum, turns, counted, energy, ratio, chance = scratch
    _gradients(n, code, library, registers)
    _remember(n, dim, outputs, registers, present, slopes, energy)
    to_keep, to_keep_also = until_next(often, since), until_next(seldom, since)
    draws, also_draws = made_by(often, origin, since), made_by(seldom, origin, since)
    tile_start, at = drawn[4][0], 0
    for k in range(steps):
        step = first_step + k
        if dt.shape[0] > 1:
            at = k
        tile_start = draw(n, step, drawing, tile_start, drawn, chain)
        if exits is not None:
            crossing, (gone, _) = exits
            before = crossing[4]
            for i in range(n):
                counted[i], gone[i] = accepted[i], crossing[3][i]
            for d in range(dim):
                for i in range(n):
                    before[d, i] = registers[d, i]
        fill_words(chance, seed, _ACCEPTANCE, chain, step, 0, 1, 0, 0)
        _propose(
            n, dim, how, program, registers, (kinds, lows, highs), noise, rows, at, momentum, present, slopes, energy,
            ratio, chance, accepted, turns,
        )  # fmt: skip
        if exits is not None:
            absorb(n, dim, registers, crossing, shaping, amplitude, at, seed, chain, step)
            for i in range(n):
                if gone[i] != 0.0:
                    accepted[i] = counted[i]
                for d in range(dim):
                    turns[d, i] = 0.0 if gone[i] != 0.0 else turns[d, i]
                    present[d, i] = registers[d, i]
        for d in range(dim):
            for i in range(n):
                winding[d, i] += turns[d, i]
        to_keep -= 1
        if to_keep == 0:
            keep(n, dim, registers, kept, draws)
            draws, to_keep = draws + 1, often
        to_keep_also -= 1
        if to_keep_also == 0:
            keep(n, dim, registers, also_kept, also_draws)
            also_draws, to_keep_also = also_draws + 1, seldom
    drawn[4][0] = tile_start


@cache
def loop_of(stage: Stage) -> Any:
    """`run_metropolis` for the rule of a stage."""
    proposal = with_stage(_propose, stage, propose=exact_inline(stage))
    return with_stage(run_metropolis, stage, _propose=proposal)
