"""What the loops over steps do to a row of coordinates: a stage of a rule, and walls.

A loop is compiled for each rule that is run, with the rule's stage (`CompiledRule.stage`) in the place of `update` or
`propose`.
"""

from __future__ import annotations

import math
from types import FunctionType
from typing import Any

import numpy as np
from numba.extending import overload

from landscape.common.codec import code_fingerprint
from landscape.integrators import compiled_rule
from landscape.integrators.compiled_rule import Stage
from landscape.kernels import tape
from landscape.kernels.compilation import copied, exact_inline

__all__ = ["propose", "update", "wall", "with_stage"]

OPEN, REFLECT, PERIODIC = range(3)  # kinds of wall


def with_stage(loop: Any, stage: Stage, **replaced: Any) -> Any:
    """A loop, or part of one, for the rule of a stage: with other functions in place of those that it calls."""
    stamp = _stamp(stage)
    name = f"{stage.__module__.rpartition('.')[2]}_{stage.__name__}_{code_fingerprint(stage)[:8]}"
    return copied(loop, name, stamp, **replaced)


def _stamp(function: Any) -> str:
    """Of a function that is to be compiled, with the numbers and functions that it finds in its module."""
    function = getattr(function, "py_func", function)
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    found = [one if isinstance(one, int | float) else _stamp(one) for one in named if _counts(one, function)]
    return f"{code_fingerprint(function)} {found}"


def _counts(value: Any, function: Any) -> bool:
    return isinstance(value, int | float) or isinstance(getattr(value, "py_func", value), FunctionType)


@overload(compiled_rule.exponential, jit_options={"forceinline": True, "error_model": "numpy"})
def _exponential(x):  # type: ignore[no-untyped-def]
    return lambda x: tape.exponential(x)


@exact_inline
def update(  # type: ignore[no-untyped-def]
    n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step
):
    """The place of a stage that advances ``x[row]``."""


@exact_inline
def propose(  # type: ignore[no-untyped-def]
    n, stage, x, row, kept, slopes, gradient, slope, noise, dt, amplitude, temperature, at, momentum, ratio, stretch
):
    """The place of a stage of a proposal."""


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
