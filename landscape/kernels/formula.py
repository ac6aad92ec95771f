"""The loop over steps for formulas: blocks of chains held as rows of registers."""

from __future__ import annotations

import numpy as np

from landscape.kernels.compilation import exact
from landscape.kernels.philox import fill_normals, fill_words
from landscape.kernels.tape import execute
from landscape.kernels.update import DIFFUSION, LEIMKUHLER_MATTHEWS, OPEN, update, wall

__all__ = ["run_formula"]

_NOISE = 0  # stream of landscape.random
_WIDE = 32  # from this many chains on, random numbers are made along chains; below it, along steps


@exact
def _fill_tile(tile, words, made, seed, chain, first):  # type: ignore[no-untyped-def]
    """Variates ``tile (blocks, words, calls, n)`` of successive call blocks for a block of chains."""
    blocks, calls, n = tile.shape[0], tile.shape[2], tile.shape[3]
    for call in range(calls):
        if blocks == 1:
            fill_words(words, seed, _NOISE, chain, first, call, 1, 0, 0)
            fill_normals(made, words)
            for w in range(tile.shape[1]):
                tile[0, w, call, :] = made[w]
        else:
            for i in range(n):
                fill_words(words, seed, _NOISE, chain + i, first, call, 0, 1, 0)
                fill_normals(made, words)
                for w in range(tile.shape[1]):
                    tile[:, w, call, i] = made[w]


@exact
def run_formula(  # type: ignore[no-untyped-def]
    gradient, energy, x, m, v, noise_type, seed, refinement, chain, first_step, steps, scheme, settings, dt, amplitude,
    walls, lows, highs, every, positions, energies,
):  # fmt: skip
    """Advance the chains ``x (n, dim)`` by `steps` in place.

    ``gradient`` and ``energy`` are (instructions, constants, outputs, registers) of their tapes. After each `every`
    steps the state goes to ``positions (n, records, dim)`` and its energy to ``energies (n, records)``, where those
    arrays have room.
    """
    code, constants, outputs, count = gradient
    energy_code, energy_constants, energy_outputs, energy_count = energy
    n, dim = x.shape
    per_call = 4 if noise_type.itemsize == 4 else 2
    steps_per_call, calls = max(1, per_call // dim), (dim + per_call - 1) // per_call
    shift = 2 if steps_per_call == 4 else steps_per_call - 1  # it is 1, 2 or 4: divisions would cost more than a step
    word_at, call_at = np.empty((steps_per_call, dim), np.int64), np.empty((steps_per_call, dim), np.int64)
    for within in range(steps_per_call):
        for d in range(dim):
            word_at[within, d] = (within * dim + d) // calls
            call_at[within, d] = (within * dim + d) % calls
    blocks = 1 if n >= _WIDE else 64
    width = n if blocks == 1 else blocks

    registers = np.empty((count, n))
    for d in range(dim):
        registers[d, :] = x[:, d]
    for k in range(constants.size):
        registers[dim + k, :] = constants[k]
    energy_registers = np.empty((energy_count if energies.shape[1] else 0, n))
    if energies.shape[1]:
        for k in range(energy_constants.size):
            energy_registers[dim + k, :] = energy_constants[k]
    first_moment, second_moment = np.ascontiguousarray(m.T), np.ascontiguousarray(v.T)

    words = np.empty((4, width), np.uint32)
    made = np.empty((per_call, width), noise_type.dtype)
    tile = np.empty((blocks, per_call, calls, n), noise_type.dtype)
    tile_start = -1
    noise = np.zeros((dim, n), noise_type.dtype)
    scale = np.full(1, 1.0 / np.sqrt(refinement)).astype(noise_type.dtype)[0]
    noisy = np.any(amplitude != 0.0)
    ahead = 1 if scheme == LEIMKUHLER_MATTHEWS else 0
    typed = np.empty(3, settings.dtype)
    record = 0

    for k in range(-1 if ahead and first_step == 0 else 0, steps):
        if noisy:
            for fine in range(refinement):
                at = (first_step + k + ahead) * refinement + fine
                block, within = at >> shift, at & (steps_per_call - 1)
                if tile_start < 0 or block >= tile_start + blocks:
                    _fill_tile(tile, words, made, seed, chain, block)
                    tile_start = block
                for d in range(dim):
                    b, w, call = block - tile_start, word_at[within, d], call_at[within, d]
                    if fine == 0:
                        for i in range(n):
                            noise[d, i] = tile[b, w, call, i]
                    else:
                        for i in range(n):
                            noise[d, i] = noise[d, i] + tile[b, w, call, i]
            if refinement > 1:
                for d in range(dim):
                    for i in range(n):
                        noise[d, i] = noise[d, i] * scale
        if k < 0:  # the very first step of the scheme: the variate that it averages with the next
            for d in range(dim):
                for i in range(n):
                    first_moment[d, i] = noise[d, i]
            continue
        if scheme != DIFFUSION:
            execute(code, registers)
        for d in range(dim):
            update(
                scheme, registers, d, registers, outputs[d], noise, d, dt, amplitude, settings, typed,
                first_moment, second_moment, first_step + k,
            )  # fmt: skip
            if walls[d] != OPEN:
                wall(walls[d], registers, d, lows[d], highs[d], first_moment)
        if (k + 1) % every == 0:
            if positions.shape[1]:
                for d in range(dim):
                    for i in range(n):
                        positions[i, record, d] = registers[d, i]
            if energies.shape[1]:
                energy_registers[:dim] = registers[:dim]
                execute(energy_code, energy_registers)
                for i in range(n):
                    energies[i, record] = energy_registers[energy_outputs[0], i]
            record += 1

    for d in range(dim):
        x[:, d] = registers[d]
        m[:, d] = first_moment[d]
        v[:, d] = second_moment[d]
