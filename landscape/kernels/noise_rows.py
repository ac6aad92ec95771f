"""Variates for blocks of chains, made a tile at a time: along chains where these are many, else along steps."""

from __future__ import annotations

import numpy as np

from landscape import random
from landscape.kernels.compilation import exact, exact_inline
from landscape.kernels.philox import fill_variates, fill_words, variate

__all__ = ["NARROW", "draw", "tile_of"]

NARROW = 32  # fewer chains than this go one by one
_NOISE = random.NOISE


@exact
def tile_of(n, places, noise_type):  # type: ignore[no-untyped-def]
    """Scratch for `draw`: the tile ``(blocks, words, calls, n)``, a row of words, the variates made of them."""
    blocks = 1 if n >= NARROW else 64
    per_call, calls = 2 if noise_type.itemsize == 8 else 4, 1
    for within in range(places.shape[0]):
        for d in range(places.shape[1]):
            calls = max(calls, places[within, d, 1] + 1)
    width = n if blocks == 1 else blocks
    tile = np.empty((blocks, per_call, calls, n), noise_type.dtype)
    return tile, np.empty((4, width), np.uint32), np.empty((per_call, width), noise_type.dtype)


@exact
def _fill_tile(tile, words, made, seed, chain, first):  # type: ignore[no-untyped-def]
    """Variates ``tile (blocks, words, calls, n)`` of successive call blocks for a block of chains."""
    blocks, calls, n = tile.shape[0], tile.shape[2], tile.shape[3]
    for call in range(calls):
        if blocks == 1:
            fill_words(words, seed, _NOISE, chain, first, call, 1, 0, 0)
            fill_variates(made, words)
            for w in range(tile.shape[1]):
                for i in range(n):
                    tile[0, w, call, i] = made[w, i]
        else:
            for i in range(n):
                fill_words(words, seed, _NOISE, chain + i, first, call, 0, 1, 0)
                fill_variates(made, words)
                for w in range(tile.shape[1]):
                    for b in range(blocks):
                        tile[b, w, call, i] = made[w, b]


@exact_inline
def draw(n, at, noise_settings, tile_start, drawn, chain):  # type: ignore[no-untyped-def]
    """Fill the rows of ``noise`` with the variates of step `at`; returns where the tile now starts."""
    seed, refinement, scale, shift, places = noise_settings
    tile, words, made, noise = drawn
    for fine in range(refinement):
        number = at * refinement + fine
        block, within = number >> shift, number & ((1 << shift) - 1)
        if tile_start < 0 or block < tile_start or block >= tile_start + tile.shape[0]:
            _fill_tile(tile, words, made, seed, chain, block)
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
    return tile_start
