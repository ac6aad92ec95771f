"""Variates for blocks of chains, made a tile at a time: along chains where these are many, else along steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import random
from landscape.kernels.compilation import exact_inline, exact_inner
from landscape.kernels.philox import fill_variates, fill_words, variate

__all__ = ["NARROW", "draw", "empty_rows", "rows_of"]

NARROW = 32  # fewer chains than this go one by one
LINE = 128  # bytes of two cache lines, which are fetched together
_NOISE = random.NOISE


def empty_rows(shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
    """Scratch in cache lines of its own: no vector straddles two, and no other thread writes to their neighbours."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + 2 * LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    rows: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return rows


def rows_of(
    n: int, places: NDArray[np.int64], drawn: np.dtype[Any], real: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.uint32], NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Scratch for `draw`: the tile ``(blocks, words, calls, n)``, a row of words, the variates made of them; the noise;
    where the tile starts, -1 for nowhere.

    `drawn` is the type of what is drawn (words where the variates are their bits), `real` that of the variates.
    """
    blocks, per_call = 1 if n >= NARROW else 64, 2 if drawn.itemsize == 8 else 4
    width = n if blocks == 1 else blocks
    noise = empty_rows((places.shape[1], n), real)
    noise[:] = 0.0
    tile = empty_rows((blocks, per_call, int(places[:, :, 1].max(initial=0)) + 1, n), drawn)
    return tile, empty_rows((4, width), np.uint32), empty_rows((per_call, width), drawn), noise, np.array([-1])


@exact_inner
def _fill_tile(tile, words, made, seed, chain, first, paired):  # type: ignore[no-untyped-def]
    """Variates ``tile (blocks, words, calls, n)`` of successive call blocks for chains, or for their pairs."""
    blocks, calls, n = tile.shape[0], tile.shape[2], tile.shape[3]
    along_chains, along_steps = (1, 0) if blocks == 1 else (0, 1)
    for call in range(calls):
        for row in range(1 if blocks == 1 else n):
            fill_words(words, seed, _NOISE, (chain + row) >> paired, first, call, along_chains, along_steps, 0)
            fill_variates(made, words)
            for w in range(tile.shape[1]):
                if blocks == 1 and paired:
                    for i in range(n):
                        tile[0, w, call, i] = made[w, ((chain + i) >> 1) - (chain >> 1)]
                elif blocks == 1:
                    for i in range(n):
                        tile[0, w, call, i] = made[w, i]
                else:
                    for b in range(blocks):
                        tile[b, w, call, row] = made[w, b]


@exact_inline
def draw(n, at, noise_settings, tile_start, drawn, chain):  # type: ignore[no-untyped-def]
    """Fill the rows of ``noise`` with the variates of step `at`; returns where the tile now starts."""
    seed, refinement, scale, paired, shift, places = noise_settings
    tile, words, made, noise, _ = drawn
    for fine in range(refinement):
        number = at * refinement + fine
        block, within = number >> shift, number & ((1 << shift) - 1)
        if tile_start < 0 or block < tile_start or block >= tile_start + tile.shape[0]:
            _fill_tile(tile, words, made, seed, chain, block, paired)
            tile_start = block
        b = block - tile_start
        for d in range(noise.shape[0]):
            w, call, bit = places[within, d, 0], places[within, d, 1], places[within, d, 2]
            if fine == 0:
                for i in range(n):
                    noise[d, i] = variate(tile, b, w, call, i, bit)
            else:
                for i in range(n):
                    noise[d, i] = noise[d, i] + variate(tile, b, w, call, i, bit)
    if refinement > 1:
        for d in range(noise.shape[0]):
            for i in range(n):
                noise[d, i] = noise[d, i] * scale
    if paired:
        for d in range(noise.shape[0]):
            for i in range(n):
                if (chain + i) & 1:
                    noise[d, i] = -noise[d, i]
    return tile_start
