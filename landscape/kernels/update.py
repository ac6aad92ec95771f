"""One step of each integrator on a row of coordinates: the same code for formulas and for networks.

A row is one coordinate of many chains, or all coordinates of one chain; every rule here works element by element.
"""

from __future__ import annotations

import math

import numpy as np

from landscape.kernels.compilation import exact_inline

__all__ = ["ADAM", "DIFFUSION", "EULER_MARUYAMA", "LEIMKUHLER_MATTHEWS", "REFLECT", "SGD", "update", "wall"]

# Integrators by number.
EULER_MARUYAMA, LEIMKUHLER_MATTHEWS, DIFFUSION, SGD, ADAM = range(5)
# Kinds of wall.
OPEN, REFLECT, PERIODIC = range(3)


@exact_inline
def update(scheme, x, row, gradient, slope, noise, draw, dt, amplitude, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    """Advance ``x[row]`` by one step in place.

    Arrays are two-dimensional and rows are named by number, because a view of a row would cost more than a short row
    itself: ``gradient[slope]``, ``noise[draw]``, ``m[row]``, ``v[row]``. ``dt`` and ``amplitude`` = sqrt(2 T dt) are
    single rows. ``noise`` is xi of this step; for the Leimkuhler-Matthews scheme it is xi of the next step, ``m`` holds
    that of this one, and ``amplitude`` is halved. ``settings`` and the scratch
    ``typed (3)`` have the dtype of ``x``.
    """
    n = x.shape[1]
    if scheme == EULER_MARUYAMA:
        for i in range(n):
            x[row, i] = x[row, i] - dt[i] * gradient[slope, i] + amplitude[i] * noise[draw, i]
    elif scheme == LEIMKUHLER_MATTHEWS:
        for i in range(n):
            pair = m[row, i] + noise[draw, i]
            x[row, i] = x[row, i] - dt[i] * gradient[slope, i] + amplitude[i] * pair
            m[row, i] = noise[draw, i]
    elif scheme == DIFFUSION:
        for i in range(n):
            x[row, i] = x[row, i] + amplitude[i] * noise[draw, i]
    elif scheme == SGD:
        momentum, nesterov, decay = settings[0], settings[1], settings[2]
        for i in range(n):
            g = gradient[slope, i] + decay * x[row, i]
            m[row, i] = momentum * m[row, i] + g
            x[row, i] = x[row, i] - dt[i] * ((g + momentum * m[row, i]) if nesterov != 0.0 else m[row, i])
    elif scheme == ADAM:
        beta1, beta2, eps, decay = settings[0], settings[1], settings[2], settings[3]
        # by way of an array of the row's type: as scalars they would make float32 rows compute in float64
        typed[0], typed[1], typed[2] = 1.0, 1.0 - beta1 ** (step + 1), math.sqrt(1.0 - beta2 ** (step + 1))
        one, bias1, bias2 = typed[0], typed[1], typed[2]
        for i in range(n):
            g = gradient[slope, i]
            m[row, i] = beta1 * m[row, i] + (one - beta1) * g
            v[row, i] = beta2 * v[row, i] + (one - beta2) * g * g
            decayed = x[row, i] * (one - dt[i] * decay)
            x[row, i] = decayed - dt[i] * (m[row, i] / bias1) / (np.sqrt(v[row, i]) / bias2 + eps)


@exact_inline
def wall(kind, x, row, low, high, m):  # type: ignore[no-untyped-def]
    """Fold a row back between its walls (reflecting) or around its period.

    ``m[row]`` points along the coordinate (a momentum, a mean gradient, noise still to come): a mirror turns it round.
    """
    n, width = x.shape[1], high - low
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
            x[row, i] = x[row, i] if inside else low + (y - math.floor(y)) * width
