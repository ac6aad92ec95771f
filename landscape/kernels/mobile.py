"""Noise of a mobility that couples coordinates, and what its divergence drives: `integrators.mobility` compiled."""

from __future__ import annotations

import math

import numpy as np

from landscape.kernels.compilation import exact_inner

__all__ = ["stir"]

# as in `integrators.mobility`
_TINY, _FLAT, _ROUNDED = 1e-12, 1e-14, 1e-12


@exact_inner
def _factorise(i, dim, registers, entries, root):  # type: ignore[no-untyped-def]
    """Lower triangle ``root (dim, dim)`` with L L^T = M of one chain, as `integrators.mobility.root_of`."""
    for j in range(dim):
        own = registers[entries[j, j], i]
        pivot = own
        for k in range(j):
            pivot = pivot - root[j, k] * root[j, k]
        least = -_TINY * max(abs(own), 1.0)
        flat = pivot <= _FLAT * own
        root[j, j] = math.sqrt(0.0 if flat else pivot) if pivot >= least else np.nan
        for e in range(j + 1, dim):
            rest = registers[entries[e, j], i]
            for k in range(j):
                rest = rest - root[e, k] * root[j, k]
            if flat:
                room = max(abs(own * registers[entries[e, e], i]), _TINY)
                root[e, j] = 0.0 if rest * rest <= _ROUNDED * room else np.nan
            else:
                root[e, j] = rest / root[j, j]


@exact_inner
def stir(n, dim, registers, mobile, amplitude, at, noise):  # type: ignore[no-untyped-def]
    """Make L xi + (amplitude/2) c div M of a row of noise.

    ``mobile = (push, factors, entries, root, stirred)``: registers of c div M ``(dim,)``; of the roots of a diagonal M
    ``(dim,)``, or of M ``(dim, dim)``, the other of the two empty; scratch ``root (dim, dim)``; the result ``(dim,
    n)``.
    """
    push, factors, entries, root, stirred = mobile
    for d in range(dim):
        for i in range(n):
            stirred[d, i] = 0.5 * amplitude[at, i] * registers[push[d], i]
    if factors.size:
        for d in range(dim):
            for i in range(n):
                stirred[d, i] += registers[factors[d], i] * noise[d, i]
    else:
        for i in range(n):
            _factorise(i, dim, registers, entries, root)
            for d in range(dim):
                for e in range(d + 1):
                    stirred[d, i] += root[d, e] * noise[e, i]
