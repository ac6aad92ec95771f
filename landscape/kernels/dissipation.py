"""What the force does along the way, summed over the steps of compiled loops: the integral of f o dx."""

from __future__ import annotations

from landscape.kernels.compilation import exact_inner
from landscape.kernels.update import PERIODIC

__all__ = ["depart", "dissipate"]


@exact_inner
def depart(n, dim, registers, walls, flux):  # type: ignore[no-untyped-def]
    """Note where chains are before a step, and the gradient there, which the registers have."""
    slopes, (before, origin, wound), _, _ = flux
    for d in range(dim):
        for i in range(n):
            before[d, i], origin[d, i] = registers[slopes[d], i], registers[d, i]
    if walls is not None:
        turns = walls[4]
        for d in range(dim):
            for i in range(n):
                wound[d, i] = turns[d, i]


@exact_inner
def dissipate(n, dim, registers, walls, flux, at):  # type: ignore[no-untyped-def]
    """Add -(1/2) [grad V(x) + grad V(x')] . (x' - x) of a step, and that over T; registers have the gradient at x'.

    ``flux = (slopes, (before, origin, wound), temperature, (dissipated, entropy))``: registers of the gradient
    ``(dim,)``, scratch ``(dim, n)``, temperatures ``(1 or steps, n)`` and the sums ``(n,)``.
    """
    slopes, (before, origin, wound), temperature, (dissipated, entropy) = flux
    for i in range(n):
        total = 0.0
        for d in range(dim):
            moved = registers[d, i] - origin[d, i]
            if walls is not None:
                kinds, lows, highs, turns = walls[0], walls[1], walls[2], walls[4]
                if kinds[d] == PERIODIC:
                    moved += (turns[d, i] - wound[d, i]) * (highs[d] - lows[d])
            total -= 0.5 * (before[d, i] + registers[slopes[d], i]) * moved
        dissipated[i] += total
        if temperature[at, i] > 0.0:
            entropy[i] += total / temperature[at, i]
