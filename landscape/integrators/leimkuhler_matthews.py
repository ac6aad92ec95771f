"""Overdamped Langevin dynamics with the averaged noise of Leimkuhler and Matthews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.compiled_rule import CompiledRule
from landscape.noise.base import Noise

__all__ = ["LeimkuhlerMatthews"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class LeimkuhlerMatthews(Integrator):
    """Overdamped Langevin dynamics with a stationary distribution right to second order in dt, for one gradient a step.

    x' = x - dt grad V(x) + sqrt(2 T dt) (xi_n + xi_{n+1})/2

    On a quadratic the stationary variance T/k is exact for any stable step. The state carries xi_n, the half of the
    noise that is still to come; a reflecting boundary turns it round with the position. It is the momentum of `BAOAB`
    at infinite friction, before the second half of its kick: xi_n - sqrt(dt/(2T)) grad V(x_n) is independent of x_n on
    a quadratic, with variance 1 - dt k/2 at any temperature.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time; stable for dt k < 2.
    noise : ThermalNoise, optional
        Or `TwoPointNoise`.

    References
    ----------
    Leimkuhler, Matthews, "Rational construction of stochastic numerical methods for molecular sampling", Appl. Math.
    Res. Express 2013, 34 (2013), eq. 1.4.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.LeimkuhlerMatthews(dt=0.5), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1.0) < 0.2
    True
    """

    dt: PerChain | Schedule
    noise: Noise | None = None

    weak_order: ClassVar[int | None] = 1
    stationary_order: ClassVar[float | None] = 2
    strong_order: ClassVar[float | None] = 0.5  # the averaged noise lags the Brownian path by half a step
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("pending_noise",)
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("pending_noise",)
    capturable: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("homogeneous", "white")

    def half_kick(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """sqrt(dt/(2T)); 0 without noise."""
        with np.errstate(divide="ignore"):
            return {"pending_noise": np.where(temperature > 0, np.sqrt(dt / (2.0 * temperature)), 0.0)}

    def compiled_rule(self) -> CompiledRule:
        """The same, coordinate by coordinate."""
        return RULE

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """x - dt grad V(x) + sqrt(2 T dt) (xi_n + xi_{n+1})/2."""
        pending = at.noise() if at.first else memory["pending_noise"]
        memory["pending_noise"] = coming = at.noise(offset=1)
        return position - at.dt * at.gradient(position) + 0.5 * at.amplitude * (pending + coming)


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    for i in range(n):
        pair = m[row, i] + noise[draw, i]
        x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + amplitude[at, i] * pair
        m[row, i] = noise[draw, i]


RULE = CompiledRule(_stage, ahead=True, scale=0.5)
