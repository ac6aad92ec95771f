"""One step of each integrator on a row of coordinates: the same code for formulas and for networks.

A row is one coordinate of many chains, or all coordinates of one chain; every rule here works element by element.
Arrays are two-dimensional and rows are named by number: a view of a row would cost more than a short row itself.
The number of elements `n` is an argument so that the compiler can know it where it is 1.
"""

from __future__ import annotations

import math

import numpy as np

from landscape.kernels.compilation import exact_inline
from landscape.kernels.tape import exponential

__all__ = ["MEMORYLESS", "stages_of", "update", "wall", "wander"]

# Integrators by number. MALA and HMC have kernels of their own steps; the others are `update`.
(
    EULER_MARUYAMA, LEIMKUHLER_MATTHEWS, DIFFUSION, SGD, NESTEROV, ADAM, HEUN, BAOAB, SGHMC, COLORED, MALA, HMC,
    COLORED_HEUN, MASSIVE_BAOAB, MASSIVE_SGHMC,
) = range(15)  # fmt: skip
MEMORYLESS = (EULER_MARUYAMA, DIFFUSION)
SETTINGS = 5  # rows of numbers besides step size and noise; after them 1/M and sqrt(M) of each coordinate
# Kinds of wall.
OPEN, REFLECT, PERIODIC = range(3)


@exact_inline
def stages_of(scheme):  # type: ignore[no-untyped-def]
    """Gradients that a step of `update` takes."""
    return 2 if scheme in (HEUN, COLORED_HEUN) else 1


@exact_inline
def wander(n, scheme, x, row, gradient, slope, noise, draw, dt, amplitude, at):  # type: ignore[no-untyped-def]
    """`update` for the rules without a memory."""
    if scheme == EULER_MARUYAMA:
        for i in range(n):
            x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + amplitude[at, i] * noise[draw, i]
    else:
        for i in range(n):
            x[row, i] = x[row, i] + amplitude[at, i] * noise[draw, i]


@exact_inline
def update(  # type: ignore[no-untyped-def]
    n, scheme, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step
):
    """Advance ``x[row]`` by one stage in place.

    ``gradient[slope]`` and ``noise[draw]`` are those of this step; ``dt[at]`` and ``amplitude[at]`` its step size and
    the standard deviation of its noise; ``settings[j]`` what else may differ by element. ``m[row]`` and ``v[row]`` are
    the rule's memory (or, for Heun's, scratch). For the Leimkuhler-Matthews scheme the noise is xi of the next step,
    ``m`` holds that of this one, and the amplitude is halved. ``settings`` and the scratch ``typed (3)`` have the dtype
    of ``x``.
    """
    if scheme in MEMORYLESS:
        wander(n, scheme, x, row, gradient, slope, noise, draw, dt, amplitude, at)
    elif scheme == LEIMKUHLER_MATTHEWS:
        for i in range(n):
            pair = m[row, i] + noise[draw, i]
            x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + amplitude[at, i] * pair
            m[row, i] = noise[draw, i]
    elif scheme == HEUN:
        if stage == 0:
            for i in range(n):
                m[row, i] = gradient[slope, i]
                v[row, i] = x[row, i]
                x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + amplitude[at, i] * noise[draw, i]
        else:
            typed[0] = 0.5
            half = typed[0]
            for i in range(n):
                mean = half * (m[row, i] + gradient[slope, i])
                x[row, i] = v[row, i] - dt[at, i] * mean + amplitude[at, i] * noise[draw, i]
    elif scheme == BAOAB:
        typed[0], typed[1] = 0.5, 0.5 if step == 0 else 1.0
        half, kick = typed[0], typed[1]
        for i in range(n):
            m[row, i] = m[row, i] - kick * dt[at, i] * gradient[slope, i]
            x[row, i] = x[row, i] + half * dt[at, i] * m[row, i]
            m[row, i] = exponential(-settings[0, i] * dt[at, i]) * m[row, i] + amplitude[at, i] * noise[draw, i]
            x[row, i] = x[row, i] + half * dt[at, i] * m[row, i]
    elif scheme == SGHMC:
        typed[0] = 1.0
        one = typed[0]
        for i in range(n):
            kept = (one - settings[0, i]) * m[row, i]
            m[row, i] = kept - dt[at, i] * gradient[slope, i] + amplitude[at, i] * noise[draw, i]
            x[row, i] = x[row, i] + m[row, i]
    elif scheme == MASSIVE_BAOAB:
        kick = 0.5 if step == 0 else 1.0
        lightness, root = SETTINGS + row, SETTINGS + m.shape[0] + row
        for i in range(n):
            m[row, i] = m[row, i] - kick * dt[at, i] * gradient[slope, i]
            x[row, i] = x[row, i] + 0.5 * dt[at, i] * (m[row, i] * settings[lightness, i])
            push = settings[root, i] * (amplitude[at, i] * noise[draw, i])
            m[row, i] = exponential(-settings[0, i] * dt[at, i]) * m[row, i] + push
            x[row, i] = x[row, i] + 0.5 * dt[at, i] * (m[row, i] * settings[lightness, i])
    elif scheme == MASSIVE_SGHMC:
        lightness, root = SETTINGS + row, SETTINGS + m.shape[0] + row
        for i in range(n):
            push = settings[root, i] * (amplitude[at, i] * noise[draw, i])
            m[row, i] = (1.0 - settings[0, i]) * m[row, i] - dt[at, i] * gradient[slope, i] + push
            x[row, i] = x[row, i] + m[row, i] * settings[lightness, i]
    elif scheme == COLORED:  # noise rows draw and draw + dim, dim being the rows of x
        other = draw + m.shape[0]
        for i in range(n):
            shift = settings[1, i] * m[row, i] + settings[2, i] * noise[draw, i]
            m[row, i] = settings[0, i] * m[row, i] + settings[3, i] * noise[draw, i] + settings[4, i] * noise[other, i]
            x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + shift
    elif scheme == COLORED_HEUN:  # `m` is the noise, `v` holds what the second stage starts from
        if stage == 0:
            other = draw + m.shape[0]
            for i in range(n):
                shift = settings[1, i] * m[row, i] + settings[2, i] * noise[draw, i]
                kept = settings[0, i] * m[row, i]
                m[row, i] = kept + settings[3, i] * noise[draw, i] + settings[4, i] * noise[other, i]
                v[row, i] = x[row, i] - 0.5 * dt[at, i] * gradient[slope, i] + shift
                x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + shift
        else:
            for i in range(n):
                x[row, i] = v[row, i] - 0.5 * dt[at, i] * gradient[slope, i]
    elif scheme in (SGD, NESTEROV):
        for i in range(n):
            g = gradient[slope, i] + settings[1, i] * x[row, i]
            m[row, i] = settings[0, i] * m[row, i] + g
            x[row, i] = x[row, i] - dt[at, i] * ((g + settings[0, i] * m[row, i]) if scheme == NESTEROV else m[row, i])
    elif scheme == ADAM:
        beta1, beta2, eps, decay = settings[0, 0], settings[1, 0], settings[2, 0], settings[3, 0]
        # by way of an array of the row's type: as scalars they would make float32 rows compute in float64
        typed[0], typed[1], typed[2] = 1.0, 1.0 - beta1 ** (step + 1), math.sqrt(1.0 - beta2 ** (step + 1))
        one, bias1, bias2 = typed[0], typed[1], typed[2]
        for i in range(n):
            g = gradient[slope, i]
            m[row, i] = beta1 * m[row, i] + (one - beta1) * g
            v[row, i] = beta2 * v[row, i] + (one - beta2) * g * g
            decayed = x[row, i] * (one - dt[at, i] * decay)
            x[row, i] = decayed - dt[at, i] * (m[row, i] / bias1) / (np.sqrt(v[row, i]) / bias2 + eps)


@exact_inline
def wall(n, kind, x, row, low, high, m, turns):  # type: ignore[no-untyped-def]
    """Fold a row back between its walls (reflecting) or around its period.

    ``m[row]`` points along the coordinate (a momentum, a mean gradient, noise still to come): a mirror turns it round.
    ``turns[row]`` counts the periods.
    """
    width = high - low
    if kind == REFLECT and math.isinf(low):
        for i in range(n):
            m[row, i] = -m[row, i] if x[row, i] > high else m[row, i]
        for i in range(n):
            x[row, i] = high - (x[row, i] - high) if x[row, i] > high else x[row, i]
    elif kind == REFLECT and math.isinf(high):
        for i in range(n):
            m[row, i] = -m[row, i] if x[row, i] < low else m[row, i]
        for i in range(n):
            x[row, i] = low + (low - x[row, i]) if x[row, i] < low else x[row, i]
    elif kind == REFLECT:
        for i in range(n):
            y = (x[row, i] - low) / (2.0 * width)
            y = (y - math.floor(y)) * (2.0 * width)
            outside = x[row, i] < low or x[row, i] > high
            m[row, i] = -m[row, i] if (outside and y > width) else m[row, i]
            y = 2.0 * width - y if y > width else y
            x[row, i] = low + y if outside else x[row, i]
    elif kind == PERIODIC:
        for i in range(n):
            y = (x[row, i] - low) / width
            inside = x[row, i] >= low and x[row, i] < high
            turns[row, i] += 0.0 if inside else np.floor(y)
            x[row, i] = x[row, i] if inside else low + (y - math.floor(y)) * width
