"""The loop over steps for formulas: blocks of chains held as rows of registers."""

from __future__ import annotations

import math

import numpy as np
from numba import int64, types
from numba.extending import overload

from landscape import random
from landscape.kernels.compilation import exact, exact_inline
from landscape.kernels.noise_rows import draw, tile_of
from landscape.kernels.philox import fill_words, uniform
from landscape.kernels.tape import execute, execute_block, exponential
from landscape.kernels.update import DIFFUSION, LEIMKUHLER_MATTHEWS, OPEN, stages_of, update, wall

__all__ = ["absorb", "keep_energies", "keep_positions", "run_block", "until_next"]

_CROSSING = random.CROSSING


@exact_inline
def _shape(n, dim, registers, factors, isotropic, mixing, noise, mixed):  # type: ignore[no-untyped-def]
    """Give the noise of a step its covariance: by factors on the tape, or by a matrix."""
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


@exact
def absorb(  # type: ignore[no-untyped-def]
    n, dim, registers, before, exits, factors, isotropic, mixing, amplitude, at, seed, chain, step, word
):  # fmt: skip
    """Mark chains that crossed an absorbing wall in this step, keep them where they left; returns how many stay."""
    lows, highs, bridge, exit_step, exit_wall = exits
    inside = 0
    for i in range(n):
        if exit_wall[i] != 0.0:
            for d in range(dim):
                registers[d, i] = before[d, i]
            continue
        for d in range(dim):
            spread = amplitude[at, i] * amplitude[at, i]
            if factors.size:
                factor = registers[factors[d], i] if factors[d] >= 0 else isotropic
                spread *= factor * factor
            if mixing.size:
                total = 0.0
                for e in range(dim):
                    total += mixing[d, e] * mixing[d, e]
                spread *= total
            for side in range(-1, 2, 2):
                value = lows[d] if side < 0 else highs[d]
                if math.isinf(value) or exit_wall[i] != 0.0:
                    continue
                near, far = side * (value - before[d, i]), side * (value - registers[d, i])
                crossed = far <= 0.0
                if bridge and not crossed and near != far and 2.0 * near * far < 40.0 * spread:
                    fill_words(word, seed, _CROSSING, chain + i, step, 2 * d + (1 if side > 0 else 0), 0, 0, 0)
                    draw = uniform(word, 0)
                    crossed = draw < exponential(-2.0 * near * far / spread)
                if crossed:
                    exit_step[i] = step + near / max(near + abs(far), 1e-300)
                    exit_wall[i] = side * (d + 1.0)
                    registers[d, i] = value
        if exit_wall[i] == 0.0:
            inside += 1
    return inside


@exact
def keep_positions(n, dim, registers, positions, first, last):  # type: ignore[no-untyped-def]
    """Record the positions at draws `first` to `last` (excluded)."""
    for d in range(dim):
        for i in range(n):
            for r in range(first, last):
                positions[i, r, d] = registers[d, i]


@exact
def keep_energies(n, dim, registers, code, output, energy_registers, energies, first, last):  # type: ignore[no-untyped-def]
    """Record the energies at draws `first` to `last` (excluded)."""
    for d in range(dim):
        for i in range(n):
            energy_registers[d, i] = registers[d, i]
    execute_block(code, energy_registers)
    for i in range(n):
        for r in range(first, last):
            energies[i, r] = energy_registers[output, i]


@exact_inline
def until_next(every, since):  # type: ignore[no-untyped-def]
    """Steps until a record is due that is made after each `every` steps; -1 for never."""
    return every - since % every if every > 0 else -1


def _count(lanes):  # type: ignore[no-untyped-def]
    return lanes if isinstance(lanes, int) else len(lanes)


@overload(_count)
def _compile_count(lanes):  # type: ignore[no-untyped-def]
    if isinstance(lanes, types.BaseTuple):
        return lambda lanes: 1
    return lambda lanes: lanes


@exact
def run_block(  # type: ignore[no-untyped-def]
    lanes, program, energy_program, x, m, v, noise_types, noise_settings, rows, wall_settings, exits, scheme, settings,
    chain, first_step, steps, records,
):  # fmt: skip
    """Advance the chains ``x (n, dim)`` by `steps` in place; chain numbers begin at `chain`.

    Parameters
    ----------
    lanes : int, or the tuple (1,)
        Number of chains; the tuple tells the compiler that it is one, so that loops over chains vanish.
    program, energy_program : (instructions, constants, outputs, registers)
        Tapes. The first gives the gradient, then the factors that the noise needs.
    m, v : arrays like x
        Memory of the rule.
    noise_types : (array, array)
        Of the dtypes of what is drawn (words where the variates are their bits) and of the variates.
    noise_settings : (seed, refinement, shift, places, factors, isotropic, mixing)
        ``places (steps, variates, 3)`` says where in a block of 2^shift steps a variate lies; ``factors`` are registers
        of factors on the noise of each coordinate (-1: `isotropic`), ``mixing`` a matrix on it; both may be empty.
    rows : (dt, amplitude, temperature)
        Arrays ``(1 or steps, n)``.
    wall_settings : (kinds, lows, highs, turns)
        `turns` says whether mirrors turn `m` round.
    exits : (lows, highs, bridge, exit_step, exit_wall)
        Absorbing walls; `bridge` tests for crossings between steps. The last two are arrays ``(n,)``, or empty where
        there are no such walls.
    records : (position_every, energy_every, since, positions, energies)
        After each so many steps (never if 0), `since` of them made before, the state goes to ``positions (n, draws,
        dim)`` and its energy to ``energies (n, draws)``.
    """
    n, dim = _count(lanes), x.shape[1]
    code, constants, outputs, count = program
    energy_code, energy_constants, energy_outputs, energy_count = energy_program
    seed, refinement, shift, places, factors, isotropic, mixing = noise_settings
    noise_type, noise_real = noise_types
    dt, amplitude, _ = rows
    walls, lows, highs, turns = wall_settings
    position_every, energy_every, since, positions, energies = records
    absorbing, noisy = exits[4].size > 0, np.any(amplitude != 0.0)

    registers, energy_registers = np.empty((count, n)), np.empty((energy_count if energies.shape[1] else 0, n))
    first, second, idle = np.empty((dim, n)), np.empty((dim, n)), np.zeros((dim, n))
    before, mixed = np.empty((dim if absorbing else 0, n)), np.empty((dim if mixing.size else 0, n))
    held, gone = np.empty((2, dim if absorbing else 0, n)), np.empty(n if absorbing else 0)
    word, typed = np.empty((4, 1), np.uint32), np.empty(3)
    tile, words, made = tile_of(n, places, noise_type)
    noise = np.zeros((places.shape[1], n), noise_real.dtype)
    scale = np.full(1, 1.0 / np.sqrt(refinement)).astype(noise_real.dtype)[0]
    turned = first if turns else idle

    for d in range(dim):
        for i in range(n):
            registers[d, i] = x[i, d]
            first[d, i] = m[i, d]
            second[d, i] = v[i, d]
    for k in range(constants.size):
        for i in range(n):
            registers[dim + k, i] = constants[k]
    for k in range(energy_constants.size if energies.shape[1] else 0):
        for i in range(n):
            energy_registers[dim + k, i] = energy_constants[k]
    tape = scheme != DIFFUSION or factors.size > 0
    ahead = 1 if scheme == LEIMKUHLER_MATTHEWS else 0
    drawing, drawn = (seed, refinement, scale, shift, places), (tile, words, made, noise)
    tile_start = int64(-1)
    to_position, to_energy = until_next(position_every, since), until_next(energy_every, since)
    position_draw, energy_draw, at, inside = 0, 0, 0, n
    # the very first step of the scheme averages its noise with that of the next: a step -1 only draws
    for k in range(-1 if ahead and first_step == 0 and noisy else 0, steps):
        step = first_step + k
        if noisy:
            tile_start = draw(n, step + ahead, drawing, tile_start, drawn, chain)
        if k < 0:
            for d in range(dim):
                for i in range(n):
                    first[d, i] = noise[d, i]
            continue
        if dt.shape[0] > 1:
            at = k
        if absorbing:
            gone[:] = exits[4]
            for d in range(dim):
                for i in range(n):
                    before[d, i], held[0, d, i], held[1, d, i] = registers[d, i], first[d, i], second[d, i]
        for stage in range(stages_of(scheme)):
            if tape:
                execute(n, code, registers)
            if noisy and stage == 0:
                _shape(n, dim, registers, factors, isotropic, mixing, noise, mixed)
            for d in range(dim):
                update(
                    n, scheme, stage, registers, d, registers, outputs[d], noise, d, dt, amplitude, at, settings, typed,
                    first, second, step,
                )  # fmt: skip
        if absorbing:
            inside = absorb(
                n, dim, registers, before, exits, factors, isotropic, mixing, amplitude, at, seed, chain, step, word
            )
            for d in range(dim):
                for i in range(n):
                    if gone[i] != 0.0:
                        first[d, i], second[d, i] = held[0, d, i], held[1, d, i]
        for d in range(dim):
            if walls[d] != OPEN:
                wall(n, walls[d], registers, d, lows[d], highs[d], turned)
        to_position -= 1
        if to_position == 0:
            keep_positions(n, dim, registers, positions, position_draw, position_draw + 1)
            position_draw, to_position = position_draw + 1, position_every
        to_energy -= 1
        if to_energy == 0:
            keep_energies(
                n, dim, registers, energy_code, energy_outputs[0], energy_registers, energies, energy_draw,
                energy_draw + 1,
            )  # fmt: skip
            energy_draw, to_energy = energy_draw + 1, energy_every
        if inside == 0:
            break
    # where all chains have left before the end, they stay where they are
    if position_draw < positions.shape[1]:
        keep_positions(n, dim, registers, positions, position_draw, positions.shape[1])
    if energy_draw < energies.shape[1]:
        keep_energies(
            n, dim, registers, energy_code, energy_outputs[0], energy_registers, energies, energy_draw,
            energies.shape[1],
        )  # fmt: skip
    for d in range(dim):
        for i in range(n):
            x[i, d] = registers[d, i]
            m[i, d] = first[d, i]
            v[i, d] = second[d, i]
