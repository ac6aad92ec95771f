"""The loop over steps of MALA and HMC for formulas."""

from __future__ import annotations

from functools import partial

import numpy as np

from landscape import random
from landscape.kernels.compilation import exact, exact_inline, exact_inner
from landscape.kernels.crossing import absorb
from landscape.kernels.formula import keep, made_by, until_next
from landscape.kernels.noise_rows import draw
from landscape.kernels.philox import fill_words, uniform
from landscape.kernels.tape import execute
from landscape.kernels.update import MALA, PERIODIC, REFLECT, wall

__all__ = ["run_metropolis"]

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


@exact_inner
def _propose(  # type: ignore[no-untyped-def]
    n, dim, scheme, leapfrog, code, library, outputs, registers, walls, lows, highs, noise, dt, amplitude, temperature,
    at, momentum, kept, slopes, energy, ratio, uniforms, accepted, turns, stretch,
):  # fmt: skip
    """One proposal of MALA or HMC, taken or not; ``kept``, ``slopes`` and ``energy`` are those of the present state.

    ``turns (dim, n)`` then tells by how many periods each chain went round. ``stretch (dim,)`` is 1/sqrt(M): momenta
    are those of unit mass.
    """
    for i in range(n):
        ratio[i] = 0.0
    for d in range(dim):
        for i in range(n):
            turns[d, i] = 0.0
    if scheme == MALA:
        for d in range(dim):
            for i in range(n):
                move = amplitude[at, i] * noise[d, i] - dt[at, i] * (slopes[d, i] * stretch[d])
                momentum[d, i] = move
                registers[d, i] = kept[d, i] + move * stretch[d]
                ratio[i] += 0.5 * float(noise[d, i]) * float(noise[d, i])
            if walls[d] == PERIODIC:
                wall(n, walls[d], registers, d, lows[d], highs[d], momentum, turns)
        _gradients(n, code, library, registers)
        for d in range(dim):
            for i in range(n):
                back = dt[at, i] * (registers[outputs[d], i] * stretch[d]) - momentum[d, i]
                ratio[i] -= back * back / (2.0 * amplitude[at, i] * amplitude[at, i])
    else:
        for d in range(dim):
            for i in range(n):
                momentum[d, i] = amplitude[at, i] * noise[d, i]
                ratio[i] += 0.5 * momentum[d, i] * momentum[d, i] / temperature[at, i]
                momentum[d, i] -= 0.5 * dt[at, i] * (slopes[d, i] * stretch[d])
        for number in range(leapfrog):
            for d in range(dim):
                for i in range(n):
                    registers[d, i] = registers[d, i] + dt[at, i] * (momentum[d, i] * stretch[d])
                if walls[d] == REFLECT or walls[d] == PERIODIC:
                    wall(n, walls[d], registers, d, lows[d], highs[d], momentum, turns)
            _gradients(n, code, library, registers)
            kick = 0.5 if number == leapfrog - 1 else 1.0
            for d in range(dim):
                for i in range(n):
                    momentum[d, i] -= kick * dt[at, i] * (registers[outputs[d], i] * stretch[d])
        for d in range(dim):
            for i in range(n):
                ratio[i] -= 0.5 * momentum[d, i] * momentum[d, i] / temperature[at, i]
    for i in range(n):
        rise = registers[outputs[dim], i] - energy[i]
        if temperature[at, i] > 0.0:
            taken = np.log(uniforms[i]) < ratio[i] - rise / temperature[at, i]
        else:
            taken = rise <= 0.0
        for d in range(dim):
            if walls[d] == REFLECT and (registers[d, i] < lows[d] or registers[d, i] > highs[d]):
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

    The program gives the gradient and then the energy; ``rule = (scheme, leapfrog, accepted, stretch)``, of which
    ``accepted (n,)`` counts and ``stretch (dim,)`` is 1/sqrt(M); ``rows = (dt, amplitude, temperature)``; ``walls =
    (kinds, lows, highs, winding)``, of which the last ``(dim, n)`` counts periods; ``scratch`` are four arrays ``(dim,
    n)``, four ``(n,)``, and words ``(4, n)``.
    """
    n = registers.shape[1]
    code, library, outputs = program
    (dt, amplitude, temperature), (kinds, lows, highs, winding) = rows, walls
    (scheme, leapfrog, accepted, stretch), (chain, first_step, steps) = rule, when
    (often, seldom), (origin, since), (kept, also_kept) = records
    seed, noise = drawing[0], drawn[3]
    present, slopes, momentum, turns, counted, energy, ratio, uniforms, chance = scratch
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
        for i in range(n):
            uniforms[i] = uniform(chance, i)
        _propose(
            n, dim, scheme, leapfrog, code, library, outputs, registers, kinds, lows, highs, noise, dt, amplitude,
            temperature, at, momentum, present, slopes, energy, ratio, uniforms, accepted, turns, stretch,
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
