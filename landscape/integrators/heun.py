"""Overdamped Langevin dynamics by the stochastic Heun scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.compiled_rule import CompiledRule
from landscape.noise.base import Noise

__all__ = ["Heun"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Heun(Integrator):
    """Overdamped Langevin dynamics dx = -grad V dt + sqrt(2T) dW, by the stochastic Heun (trapezoidal) scheme.

    y = x - dt grad V(x) + sqrt(2 T dt) xi,  x' = x - (dt/2) [grad V(x) + grad V(y)] + sqrt(2 T dt) xi

    Weak order 2, as the noise is additive. On a quadratic of stiffness k, with h = dt k, the stationary variance is
    <x^2> = (T/k) 2h (1 - h/2)^2 / [1 - (1 - h + h^2/2)^2]; stable for h < 2.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time.
    noise : ThermalNoise, optional
        Or `TwoPointNoise`, or `ColoredNoise`, whose integral over the step stands for sqrt(2 T dt) xi in both stages.

    Notes
    -----
    Two gradients a step. The first stage is not folded back at boundaries: the potential is looked at where it lands.

    References
    ----------
    Kloeden, Platen, Numerical Solution of Stochastic Differential Equations (1992), section 15.1.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.Heun(dt=0.5), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 2 * 0.5 * 0.75**2 / (1 - 0.625**2)) < 0.15
    True
    """

    dt: PerChain | Schedule
    noise: Noise | None = None

    weak_order: ClassVar[int | None] = 2
    stationary_order: ClassVar[float | None] = 2
    strong_order: ClassVar[float | None] = 1
    gradients_per_step: ClassVar[int] = 2
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    brownian: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    preconditionable: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("homogeneous",)

    def compiled_rule(self) -> CompiledRule:
        """The same, coordinate by coordinate."""
        return RULE if self.thermal_noise.white else REMEMBERING_RULE

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Predict with the slope here, correct with the mean of the slopes at both ends."""
        noise = at.increment(position, memory)
        here = at.gradient(position)
        there = (at.gradient_at_end or at.gradient)(position - at.dt * here + noise)
        return position - 0.5 * at.dt * (here + there) + noise


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
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


def _remembering_stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    if stage == 0:  # `m` is the noise, `v` holds what the second stage starts from
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


RULE, REMEMBERING_RULE = CompiledRule(_stage, stages=2), CompiledRule(_remembering_stage, stages=2)
