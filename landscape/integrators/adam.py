"""Adam and AdamW."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_fraction, check_positive
from landscape.integrators.clipping import check_clipping, clipped
from landscape.integrators.compiled_rule import CompiledRule

__all__ = ["Adam", "AdamW"]


class _Moments(Integrator):
    """The step that Adam and AdamW share."""

    lr: PerChain | Schedule
    betas: tuple[float, float]
    eps: float
    clip_norm: float | None
    clip_value: float | None

    may_rest: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("first_moment", "second_moment")
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("first_moment",)
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ConfigError(f"betas must be two numbers of at least 0 and below 1, got {self.betas!r}")
        for beta in self.betas:
            check_fraction(f"betas = {self.betas!r}: each", beta)
        object.__setattr__(self, "betas", tuple(self.betas))
        check_positive("eps", self.eps)
        check_positive("weight_decay", self.decay, zero=True)
        check_clipping(self.clip_norm, self.clip_value)

    @property
    def decay(self) -> float:
        """Decoupled weight decay."""
        return 0.0

    def compiled_rule(self) -> CompiledRule | None:
        """The same, coordinate by coordinate; not with clipping, which looks at all."""
        if (self.clip_norm, self.clip_value) != (None, None):
            return None
        return replace(RULE, numbers=(*self.betas, self.eps, self.decay))

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Bias-corrected moments, then a step of about lr in every coordinate."""
        gradient = clipped(at.gradient(position), self.clip_norm, self.clip_value)
        beta1, beta2 = self.betas
        m = memory["first_moment"] = beta1 * memory["first_moment"] + (1 - beta1) * gradient
        v = memory["second_moment"] = beta2 * memory["second_moment"] + (1 - beta2) * gradient.square()
        made = at.counter + 1
        made = made.double() if isinstance(made, Tensor) else made  # a power of integers would be in float32
        bias1, bias2 = 1 - beta1**made, (1 - beta2**made) ** 0.5
        decayed = position * (1 - at.dt * self.decay)
        return decayed - at.dt * (m / bias1) / (v.sqrt() / bias2 + self.eps)


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Adam(_Moments):
    """Adam (Kingma and Ba 2015, algorithm 1).

    m' = b1 m + (1 - b1) g,  v' = b2 v + (1 - b2) g^2,  x' = x - lr m'/(1 - b1^n) / (sqrt(v'/(1 - b2^n)) + eps)

    Parameters
    ----------
    lr : float, one per chain, or a schedule
        Learning rate.
    betas : (float, float)
        Decay of the moments per step.
    eps : float
    clip_norm, clip_value : float, optional
        As in `SGD`: of the gradient that the moments are made of.

    Examples
    --------
    >>> import landscape as ls
    >>> bowl = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(bowl, ls.Adam(lr=0.1), start=[1.0], steps=1)  # the first step has length lr
    >>> round(float(run.last_position[0, 0]), 6)
    0.9
    """

    lr: PerChain | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = None
    clip_value: float | None = None


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class AdamW(_Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    x' = (1 - lr weight_decay) x - (Adam's step)

    Parameters
    ----------
    lr : float, one per chain, or a schedule
    betas : (float, float)
    eps : float
    weight_decay : float
    clip_norm, clip_value : float, optional
        As in `SGD`: of the gradient that the moments are made of.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> run = ls.simulate(flat, ls.AdamW(lr=0.1, weight_decay=0.5), start=[1.0], steps=1)
    >>> round(float(run.last_position[0, 0]), 6)
    0.95
    """

    lr: PerChain | Schedule = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip_norm: float | None = None
    clip_value: float | None = None

    @property
    def decay(self) -> float:
        """Decoupled weight decay."""
        return self.weight_decay


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
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


RULE = CompiledRule(_stage)
