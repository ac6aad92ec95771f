"""Overdamped Langevin dynamics by the Euler-Maruyama scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_noise, check_positive
from landscape.noise.base import Noise
from landscape.schedules import Schedule

__all__ = ["EulerMaruyama"]


@dataclass(frozen=True, slots=True, eq=False)
class EulerMaruyama(Integrator):
    """Overdamped Langevin dynamics dx = -grad V dt + sqrt(2T) dW, by Euler-Maruyama.

    x' = x - dt grad V(x) + sqrt(2 T dt) xi,  xi ~ N(0, 1)

    Its stationary law is exp(-V_dt/T), V_dt = V - (dt/4)|grad V|^2 + (dt T/2) lap V + O(dt^2). On a quadratic of
    stiffness k: <x^2> = T/[k (1 - dt k/2)] exactly; stable for dt k < 2.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time.
    noise : Noise, optional
        Any: `ThermalNoise` by default, `TwoPointNoise`, `CovarianceNoise`, `ColoredNoise`, `HessianNoise`.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.EulerMaruyama(dt=0.5), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1 / (1 - 0.5 / 2)) < 0.2
    True
    """

    dt: PerChain | Schedule
    noise: Noise | None = None

    weak_order: ClassVar[int | None] = 1
    stationary_order: ClassVar[float | None] = 1
    strong_order: ClassVar[float | None] = 1  # additive noise
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    brownian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("dt", self.dt)
        check_noise(self.noise, (Noise,))

    @property
    def step_size(self) -> PerChain | Schedule:
        """`dt`."""
        return self.dt

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """x - dt grad V(x) + sqrt(2 T dt) xi."""
        return position - at.dt * at.gradient(position) + at.increment(position, memory)
