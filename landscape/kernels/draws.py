"""Normal variates on the CPU for states that live in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import random
from landscape.kernels.compilation import exact
from landscape.kernels.philox import fill_normals, fill_words
from landscape.random import Precision

__all__ = ["draw_normals"]


@exact
def _draw(seed, chains, block, shift, per_call, words, made, out):  # type: ignore[no-untyped-def]
    calls, dim = words.shape[1], out.shape[1]
    for c in range(chains.size):
        fill_words(words, seed, 0, chains[c], block, 0, 0, 0, 1)
        fill_normals(made, words)
        flat = made.reshape(per_call * calls)
        for d in range(dim):
            out[c, d] = flat[shift + d]


def draw_normals(seed: int, chains: NDArray[Any], step: int, dim: int, precision: Precision) -> NDArray[Any]:
    """The same variates as `landscape.random.normals`, ``(chains, dim)``."""
    dtype = np.dtype(precision)
    per_call = 4 if precision == "float32" else 2
    steps, calls = random.steps_per_call(dim, precision), random.calls_per_step(dim, precision)
    out = np.empty((len(chains), dim), dtype)
    words, made = np.empty((4, calls), np.uint32), np.empty((per_call, calls), dtype)
    _draw(np.uint64(seed), chains, step // steps, step % steps * dim, per_call, words, made, out)
    return out
