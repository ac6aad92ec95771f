"""Gradient descent, stochastic where the gradient is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_fraction, check_positive
from landscape.integrators.clipping import check_clipping, clipped
from landscape.integrators.compiled_rule import CompiledRule

__all__ = ["SGD"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class SGD(Integrator):
    """Gradient descent with momentum; its noise is that of the minibatches.

    g = grad V(x) + weight_decay x,  m' = momentum m + g,  x' = x - lr m'   (Nesterov: x - lr (g + momentum m'))

    with m = 0 at the start, as in torch.optim.SGD. Independent gradient noise of variance C gives a quadratic of
    stiffness k the variance <x^2> = lr C/[k (1 - momentum)(2 - lr k/(1 + momentum))].

    Parameters
    ----------
    lr : float, one per chain, or a schedule
        Learning rate.
    momentum : float, or one per chain
        In [0, 1).
    nesterov : bool
    weight_decay : float, or one per chain
        Added to the gradient; not together with a `NetworkLoss` that has its own.
    clip_norm, clip_value : float, optional
        Largest norm of a chain's gradient, and largest size of its entries, before weight decay is added: grad V is
        cut to the range, then g min(1, clip_norm/(|g| + 1e-6)), as ``torch.nn.utils.clip_grad_norm_`` does.

    Raises
    ------
    ConfigError
        If a setting is out of range, or Nesterov's rule has no momentum.

    Examples
    --------
    >>> import landscape as ls
    >>> bowl = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(bowl, ls.SGD(lr=0.5), start=[1.0], steps=3)
    >>> run.position.values.ravel()
    array([0.5 , 0.25 , 0.125])
    """

    lr: PerChain | Schedule
    momentum: PerChain = 0.0
    nesterov: bool = False
    weight_decay: PerChain = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None

    may_rest: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("momentum",)
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("momentum",)
    per_chain: ClassVar[tuple[str, ...]] = ("momentum", "weight_decay")
    capturable: ClassVar[bool] = True
    preconditionable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        check_fraction("momentum", self.momentum)
        if self.nesterov and not np.all(self.momentum):
            raise ConfigError("nesterov=True needs a momentum above 0")
        check_positive("weight_decay", self.weight_decay, zero=True)
        check_clipping(self.clip_norm, self.clip_value)

    def compiled_rule(self) -> CompiledRule | None:
        """The same, coordinate by coordinate; not with clipping, which looks at all."""
        if (self.clip_norm, self.clip_value) != (None, None):
            return None
        return NESTEROV_RULE if self.nesterov else RULE

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Heavy-ball or Nesterov step."""
        momentum = at.settings["momentum"]
        gradient = clipped(at.gradient(position), self.clip_norm, self.clip_value)
        if np.any(self.weight_decay):
            gradient = gradient + at.settings["weight_decay"] * position
        memory["momentum"] = momentum * memory["momentum"] + gradient
        direction = gradient + momentum * memory["momentum"] if self.nesterov else memory["momentum"]
        return position - at.dt * direction


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    for i in range(n):
        g = gradient[slope, i] + settings[1, i] * x[row, i]
        m[row, i] = settings[0, i] * m[row, i] + g
        x[row, i] = x[row, i] - dt[at, i] * m[row, i]


def _nesterov_stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    for i in range(n):
        g = gradient[slope, i] + settings[1, i] * x[row, i]
        m[row, i] = settings[0, i] * m[row, i] + g
        x[row, i] = x[row, i] - dt[at, i] * (g + settings[0, i] * m[row, i])


RULE, NESTEROV_RULE = CompiledRule(_stage), CompiledRule(_nesterov_stage)
