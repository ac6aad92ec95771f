"""The loop over steps of MALA and HMC for formulas."""

from __future__ import annotations

import numpy as np
from numba import int64

from landscape import random
from landscape.kernels.compilation import exact, exact_inline
from landscape.kernels.formula import absorb, keep_energies, keep_positions, until_next
from landscape.kernels.noise_rows import draw, tile_of
from landscape.kernels.philox import fill_words, uniform
from landscape.kernels.tape import execute_block
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


@exact
def _propose(  # type: ignore[no-untyped-def]
    n, dim, scheme, leapfrog, code, outputs, registers, walls, lows, highs, noise, dt, amplitude, temperature, at,
    momentum, kept, slopes, energy, ratio, uniforms, accepted,
):  # fmt: skip
    """One proposal of MALA or HMC, taken or not; ``kept``, ``slopes`` and ``energy`` are those of the present state."""
    for i in range(n):
        ratio[i] = 0.0
    if scheme == MALA:
        for d in range(dim):
            for i in range(n):
                move = amplitude[at, i] * noise[d, i] - dt[at, i] * slopes[d, i]
                momentum[d, i] = move
                registers[d, i] = kept[d, i] + move
                ratio[i] += 0.5 * float(noise[d, i]) * float(noise[d, i])
            if walls[d] == PERIODIC:
                wall(n, walls[d], registers, d, lows[d], highs[d], momentum)
        execute_block(code, registers)
        for d in range(dim):
            for i in range(n):
                back = dt[at, i] * registers[outputs[d], i] - momentum[d, i]
                ratio[i] -= back * back / (2.0 * amplitude[at, i] * amplitude[at, i])
    else:
        for d in range(dim):
            for i in range(n):
                momentum[d, i] = amplitude[at, i] * noise[d, i]
                ratio[i] += 0.5 * momentum[d, i] * momentum[d, i] / temperature[at, i]
                momentum[d, i] -= 0.5 * dt[at, i] * slopes[d, i]
        for number in range(leapfrog):
            for d in range(dim):
                for i in range(n):
                    registers[d, i] = registers[d, i] + dt[at, i] * momentum[d, i]
                if walls[d] == REFLECT or walls[d] == PERIODIC:
                    wall(n, walls[d], registers, d, lows[d], highs[d], momentum)
            execute_block(code, registers)
            kick = 0.5 if number == leapfrog - 1 else 1.0
            for d in range(dim):
                for i in range(n):
                    momentum[d, i] -= kick * dt[at, i] * registers[outputs[d], i]
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
        if taken:
            energy[i] = registers[outputs[dim], i]
            accepted[i] += 1.0


@exact
def run_metropolis(  # type: ignore[no-untyped-def]
    program, energy_program, x, noise_types, noise_settings, rows, wall_settings, exits, scheme, leapfrog, accepted,
    chain, first_step, steps, records,
):  # fmt: skip
    """Advance the chains ``x (n, dim)`` by `steps` proposals, as `formula.run_block` does; `program` gives the gradient
    and then the energy. ``accepted (n,)`` counts.
    """
    code, constants, outputs, count = program
    energy_code, energy_constants, energy_outputs, energy_count = energy_program
    seed, refinement, shift, places, factors, isotropic, mixing = noise_settings
    noise_type, noise_real = noise_types
    dt, amplitude, temperature = rows
    walls, lows, highs, _ = wall_settings
    absorbing, before, word = exits[4].size > 0, np.empty((x.shape[1], x.shape[0])), np.empty((4, 1), np.uint32)
    counted, gone = accepted.copy(), exits[4].copy()
    position_every, energy_every, since, positions, energies = records
    n, dim = x.shape
    tile, words, made = tile_of(n, places, noise_type)
    scale = np.full(1, 1.0 / np.sqrt(refinement)).astype(noise_real.dtype)[0]
    noise = np.zeros((dim, n), noise_real.dtype)
    drawing, drawn = (seed, refinement, scale, shift, places), (tile, words, made, noise)
    registers = np.empty((count, n))
    energy_registers = np.empty((energy_count if energies.shape[1] else 0, n))
    for d in range(dim):
        registers[d, :] = x[:, d]
    for k in range(constants.size):
        registers[dim + k, :] = constants[k]
    for k in range(energy_constants.size if energies.shape[1] else 0):
        energy_registers[dim + k, :] = energy_constants[k]
    kept, slopes, momentum = np.empty((dim, n)), np.empty((dim, n)), np.empty((dim, n))
    energy, ratio, uniforms, chance = np.empty(n), np.empty(n), np.empty(n), np.empty((4, n), np.uint32)
    execute_block(code, registers)
    _remember(n, dim, outputs, registers, kept, slopes, energy)
    to_position, to_energy = until_next(position_every, since), until_next(energy_every, since)
    tile_start, position_draw, energy_draw, at = int64(-1), 0, 0, 0
    for k in range(steps):
        step = first_step + k
        if dt.shape[0] > 1:
            at = k
        tile_start = draw(n, step, drawing, tile_start, drawn, chain)
        before[:] = registers[:dim]
        counted[:], gone[:] = accepted, exits[4]
        fill_words(chance, seed, _ACCEPTANCE, chain, step, 0, 1, 0, 0)
        for i in range(n):
            uniforms[i] = uniform(chance, i)
        _propose(
            n, dim, scheme, leapfrog, code, outputs, registers, walls, lows, highs, noise, dt, amplitude, temperature,
            at, momentum, kept, slopes, energy, ratio, uniforms, accepted,
        )  # fmt: skip
        if absorbing:
            absorb(n, dim, registers, before, exits, factors, isotropic, mixing, amplitude, at, seed, chain, step, word)
            for i in range(n):
                if gone[i] != 0.0:
                    accepted[i] = counted[i]
                for d in range(dim):
                    kept[d, i] = registers[d, i]
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
    for d in range(dim):
        x[:, d] = registers[d]
