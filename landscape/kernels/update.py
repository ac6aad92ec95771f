"""One step of each integrator on a row of coordinates: the same code for formulas and for networks.

A row is one coordinate of many chains, or all coordinates of one chain; every rule here works element by element.
"""

from __future__ import annotations

import math

import numpy as np

from landscape.kernels.compilation import exact

__all__ = ["ADAM", "DIFFUSION", "EULER_MARUYAMA", "LEIMKUHLER_MATTHEWS", "REFLECT", "SGD", "update", "wall"]

# Integrators by number.
EULER_MARUYAMA, LEIMKUHLER_MATTHEWS, DIFFUSION, SGD, ADAM = range(5)
# Kinds of wall.
OPEN, REFLECT, PERIODIC = range(3)


@exact
def update(scheme, x, gradient, noise, old_noise, dt, amplitude, settings, m, v, step):  # type: ignore[no-untyped-def]
    """Advance the row ``x`` by one step in place.

    ``dt`` and ``amplitude`` = sqrt(2 T dt) are rows too; ``noise`` is xi of this step. For the Leimkuhler-Matthews
    scheme ``noise`` is xi of the next step, ``old_noise`` that of this one, and ``amplitude`` is halved. ``m`` and
    ``v`` are rows of moments; ``settings`` has the dtype of ``x``.
    """
    n = x.size
    if scheme == EULER_MARUYAMA:
        for i in range(n):
            x[i] = x[i] - dt[i] * gradient[i] + amplitude[i] * noise[i]
    elif scheme == LEIMKUHLER_MATTHEWS:
        for i in range(n):
            x[i] = x[i] - dt[i] * gradient[i] + amplitude[i] * (old_noise[i] + noise[i])
            old_noise[i] = noise[i]
    elif scheme == DIFFUSION:
        for i in range(n):
            x[i] = x[i] + amplitude[i] * noise[i]
    elif scheme == SGD:
        momentum, nesterov, decay = settings[0], settings[1], settings[2]
        for i in range(n):
            g = gradient[i] + decay * x[i]
            m[i] = momentum * m[i] + g
            x[i] = x[i] - dt[i] * ((g + momentum * m[i]) if nesterov != 0.0 else m[i])
    elif scheme == ADAM:
        beta1, beta2, eps, decay = settings[0], settings[1], settings[2], settings[3]
        constants = np.empty(3, x.dtype)  # typed, or float32 rows would be computed in float64
        constants[0], constants[1], constants[2] = 1.0, 1.0 - beta1 ** (step + 1), math.sqrt(1.0 - beta2 ** (step + 1))
        one, bias1, bias2 = constants[0], constants[1], constants[2]
        for i in range(n):
            g = gradient[i]
            m[i] = beta1 * m[i] + (one - beta1) * g
            v[i] = beta2 * v[i] + (one - beta2) * g * g
            x[i] = x[i] * (one - dt[i] * decay)
            x[i] = x[i] - dt[i] * (m[i] / bias1) / (np.sqrt(v[i]) / bias2 + eps)


@exact
def wall(kind, x, low, high):  # type: ignore[no-untyped-def]
    """Fold a row back between its walls (reflecting) or around its period."""
    n, width = x.size, high - low
    if kind == REFLECT and math.isinf(low):
        for i in range(n):
            x[i] = x[i] if x[i] <= high else high - (x[i] - high)
    elif kind == REFLECT and math.isinf(high):
        for i in range(n):
            x[i] = x[i] if x[i] >= low else low + (low - x[i])
    elif kind == REFLECT:
        for i in range(n):
            y = (x[i] - low) / (2.0 * width)
            y = (y - math.floor(y)) * (2.0 * width)
            y = y if y <= width else 2.0 * width - y
            x[i] = x[i] if (x[i] >= low and x[i] <= high) else low + y
    elif kind == PERIODIC:
        for i in range(n):
            y = (x[i] - low) / width
            x[i] = x[i] if (x[i] >= low and x[i] < high) else low + (y - math.floor(y)) * width
