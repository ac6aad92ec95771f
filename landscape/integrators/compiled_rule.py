"""How the compiled loops take a step of an integrator: a function of rows of numbers, beside its step in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from landscape.common.capabilities import speaks_for
from landscape.integrators.masses import Mass

__all__ = [
    "BACK",
    "DRIFT",
    "KICK",
    "LAST_KICK",
    "PROPOSE",
    "SETTINGS",
    "CompiledRule",
    "Stage",
    "exponential",
    "rule_of",
]

Stage: TypeAlias = Callable[..., None]
SETTINGS = 5  # rows of numbers besides step size and noise
PROPOSE, DRIFT, KICK, LAST_KICK, BACK = range(5)  # stages of a proposal


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """What the compiled loops run in place of `Integrator.step`.

    A row is one coordinate of `n` chains, or all `n` coordinates of one chain; rows are named by number, as a view of a
    row would cost more than a short row itself. A stage is a plain function of arithmetic and loops over ``range(n)``,
    which the kernels compile by Numba where they first need it:

    ``stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step)``

    advances ``x[row]`` in place. ``gradient[slope]`` is that of this stage, ``noise[draw]`` that of this step, made
    where it starts; ``dt[at]`` and ``amplitude[at]`` its step size and the standard deviation of its noise;
    ``settings[j]`` the rule's numbers by row (those that may differ by chain, in the order of `per_chain`, unless
    `numbers` are given). ``m[row]`` and ``v[row]`` are the two arrays of memory, or scratch; ``typed (3)`` is scratch
    in the dtype of ``x``, by way of which constants get it. `step` is the number of the step.

    For proposals that a Metropolis test follows it is

    ``stage(n, stage, x, row, kept, slopes, gradient, slope, noise, dt, amplitude, temperature, at, momentum, ratio,
    stretch)``

    with the stages `PROPOSE`; then, as often as there are gradients, `DRIFT` before and `KICK` (the last time
    `LAST_KICK`) after each; `BACK`. ``kept`` and ``slopes`` are position and gradient of the present state; ``noise``
    has the row's number; ``ratio`` is what is added to -dV/T, ``stretch[row]`` 1/sqrt(M).

    Attributes
    ----------
    stage : callable
    stages : int
        Gradients of a step: the stage is called after each, with its number from 0.
    forceless : bool
        Whether it never looks at the gradient.
    ahead : bool
        Whether its noise is that of the next step; the first memory holds that of this one.
    remembers : bool
        Whether it uses ``m`` and ``v``.
    scale : float
        Factor on the amplitude.
    numbers : tuple, optional
        Rows of `settings`, a number or one per chain each.
    mass : mass, optional
        Rows of 1/M and sqrt(M), one of each per coordinate, follow after `SETTINGS` rows of settings.
    proposes : bool
        Whether its steps are proposals, of the other kind of stage.
    folds : bool
        Of proposals: whether mirrors turn its momenta on the way; else proposals beyond a wall are rejected.
    """

    stage: Stage
    stages: int = 1
    forceless: bool = False
    ahead: bool = False
    remembers: bool = True
    scale: float = 1.0
    numbers: tuple[Any, ...] | None = None
    mass: Mass = None
    proposes: bool = False
    folds: bool = False


def exponential(x: float) -> float:
    """exp(x); the kernels put in arithmetic of their own, which vectorises and has the same bits everywhere."""
    return math.exp(x)


def rule_of(integrator: Any) -> CompiledRule | None:
    """What the compiled loops run of an integrator; None if it has no such rule, or one that its `step` has left."""
    return integrator.compiled_rule() if speaks_for(integrator, "compiled_rule", "step") else None
