"""Chains that cross absorbing walls within a step: which wall first, when, and where they then are."""

from __future__ import annotations

import math

from landscape import random
from landscape.boundaries.bridges import MOST_PIECES, PIECES
from landscape.kernels.compilation import exact_inline, exact_inner
from landscape.kernels.philox import fill_normals, fill_words, uniform
from landscape.kernels.tape import exponential

__all__ = ["absorb"]

_CROSSING = random.CROSSING
_EXIT_POINT = random.EXIT_POINT
_TINY = 1e-100


@exact_inline
def _other_uniform(words):  # type: ignore[no-untyped-def]
    """The uniform variate of the two words that `uniform` leaves."""
    return uniform(words[2:], 0)


@exact_inline
def _when(near, far, variance, normal, chance):  # type: ignore[no-untyped-def]
    """The fraction of a step at which a Brownian path meets a wall that it meets: see `bridges.when`."""
    near, far = max(near, _TINY), max(far, _TINY)
    w = normal * normal * variance / (near * far)
    r = 1.0 / (1.0 + 0.5 * w + math.sqrt(w) * math.sqrt(1.0 + 0.25 * w))
    if chance * (1.0 + r) > 1.0:
        r = 1.0 / r
    return near * r / (far + near * r)


@exact_inner
def _first(dim, d, walls, bridge, start, end, variance, seed, chain, step, word, pair):  # type: ignore[no-untyped-def]
    """When (2 for never) and by which side the path of one coordinate first leaves: see `bridges.first_crossing`."""
    width, pieces = walls[0, 1, d] - walls[0, 0, d], 1
    if bridge and start != end and PIECES * variance > width * width:
        pieces = int(min(math.ceil(PIECES * variance / (width * width)), MOST_PIECES))
    share, x = variance / pieces, start
    for j in range(pieces):
        left, y = pieces - j, end
        if left > 1:
            fill_words(word, seed, _CROSSING, chain, step, 4 * dim * (3 * j + 2) + d, 0, 0, 0)
            fill_normals(pair, word)
            y = x + (end - x) / left + math.sqrt(share * (left - 1) / left) * pair[0, 0]
        first, side = 2.0, -1
        for k in range(2):
            value, sign = walls[0, k, d], 2 * k - 1
            if math.isinf(value):
                continue
            near, far = sign * (value - x), sign * (value - y)
            crossed = far <= 0.0 or near < 0.0
            near = max(near, 0.0)
            call = 4 * dim * 3 * j + (2 * dim if sign != walls[2, k, d] else 0) + 2 * d + k
            if bridge and not crossed and x != y and 2.0 * near * far < 40.0 * share:
                fill_words(word, seed, _CROSSING, chain, step, call, 0, 0, 0)
                crossed = uniform(word, 0) < exponential(-2.0 * near * far / share)
            if not crossed:
                continue
            far = abs(far)
            if bridge:
                fill_words(word, seed, _CROSSING, chain, step, call + 4 * dim, 0, 0, 0)
                fill_normals(pair, word)
                normal = pair[0, 0]
                fill_words(word, seed, _CROSSING, chain, step, call, 0, 0, 0)
                fraction = _when(near, far, share, normal, _other_uniform(word))
            else:
                fraction = near / max(near + far, 1e-300)
            if fraction < first:
                first, side = fraction, k
        if side >= 0:
            return (j + first) / pieces, side
        x = y
    return 2.0, -1


@exact_inline
def _variance(d, i, registers, shaping, amplitude, at):  # type: ignore[no-untyped-def]
    """Variance of the noise of a step along one coordinate."""
    spread = amplitude[at, i] * amplitude[at, i]
    if shaping is not None:
        factors, isotropic, mixing, _ = shaping
        if factors.size:
            factor = registers[factors[d], i] if factors[d] >= 0 else isotropic
            spread *= factor * factor
        if mixing.size:
            total = 0.0
            for e in range(mixing.shape[0]):
                total += mixing[d, e] * mixing[d, e]
            spread *= total
    return spread


@exact_inner
def _leave(dim, i, place, end, first, registers, exits, shaping, amplitude, at, seed, chain, step):  # type: ignore[no-untyped-def]
    """Put a chain where it meets a wall: on the wall, the other coordinates where they are at that time."""
    walls, bridge, _, _, before, word, pair, shaken = exits
    for e in range(dim):
        shaken[e] = 0.0
        if bridge:
            fill_words(word, seed, _EXIT_POINT, chain, step, e, 0, 0, 0)
            fill_normals(pair, word)
            shaken[e] = pair[0, 0] * math.sqrt(first * (1.0 - first))
    miss, own = 0.0, 0.0
    if shaping is not None and bridge and shaping[2].size:  # correlated: given that this one is on its wall
        mixing, moved = shaping[2], 0.0
        for f in range(dim):
            moved += mixing[place, f] * shaken[f]
            own += mixing[place, f] * mixing[place, f]
        travelled = before[place, i] + first * (registers[place, i] - before[place, i])
        miss = end - travelled - amplitude[at, i] * moved
    for e in range(dim):
        if e == place:
            continue
        step_of_noise = 0.0
        if bridge and shaping is not None and shaping[2].size:
            mixing, shared = shaping[2], 0.0
            for f in range(dim):
                step_of_noise += mixing[e, f] * shaken[f]
                shared += mixing[e, f] * mixing[place, f]
            step_of_noise = amplitude[at, i] * step_of_noise + (shared / own * miss if own > 0.0 else 0.0)
        elif bridge:
            step_of_noise = math.sqrt(_variance(e, i, registers, shaping, amplitude, at)) * shaken[e]
        x = before[e, i] + first * (registers[e, i] - before[e, i]) + step_of_noise
        low, high = walls[0, 0, e], walls[0, 1, e]
        registers[e, i] = walls[1, 0, e] if x < low else walls[1, 1, e] if x > high else x
    registers[place, i] = end


@exact_inner
def absorb(n, dim, registers, exits, shaping, amplitude, at, seed, chain, step):  # type: ignore[no-untyped-def]
    """Mark chains that crossed an absorbing wall in this step, keep them where they left; returns how many stay.

    ``exits = (walls, bridge, exit_step, exit_wall, before, word, pair, shaken)``, the last four scratch; ``walls (3, 2,
    dim)`` are those of `walls.Walls.exits`: mirrors come later, and their images are walls too.
    """
    walls, bridge, exit_step, exit_wall, before, word, pair, _ = exits
    inside = 0
    for i in range(n):
        if exit_wall[i] != 0.0:
            for d in range(dim):
                registers[d, i] = before[d, i]
            continue
        first, place, end = 2.0, 0, 0.0
        for d in range(dim):
            if math.isinf(walls[0, 0, d]) and math.isinf(walls[0, 1, d]):
                continue
            variance = _variance(d, i, registers, shaping, amplitude, at)
            fraction, k = _first(
                dim, d, walls, bridge, before[d, i], registers[d, i], variance, seed, chain + i, step, word, pair
            )
            if fraction < first:
                first, place, end = fraction, d, walls[1, k, d]
                exit_wall[i] = walls[2, k, d] * (d + 1.0)
        if exit_wall[i] == 0.0:
            inside += 1
            continue
        exit_step[i] = step + first
        _leave(dim, i, place, end, first, registers, exits, shaping, amplitude, at, seed, chain + i, step)
    return inside
