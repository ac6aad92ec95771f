"""Free diffusion: noise without force, the control of every entropic effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.compiled_rule import CompiledRule
from landscape.noise.base import Noise

__all__ = ["Diffusion"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Diffusion(Integrator):
    """Free diffusion dx = sqrt(2T) dW: the landscape is looked at, never felt.

    x' = x + sqrt(2 T dt) xi

    so that <|x(t) - x(0)|^2> = 2 dim T t exactly.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time.
    noise : Noise, optional
        Any; `ThermalNoise` by default.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> run = ls.simulate(flat, ls.Diffusion(dt=0.1), temperature=2.0, chains=4000, steps=10, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 2 * 2.0 * 1.0) < 0.5
    True
    """

    dt: PerChain | Schedule
    noise: Noise | None = None

    gradients_per_step: ClassVar[int] = 0
    thermal: ClassVar[bool] = True
    brownian: ClassVar[bool] = True
    capturable: ClassVar[bool] = True

    def compiled_rule(self) -> CompiledRule | None:
        """The same, coordinate by coordinate; not of noise with a memory."""
        return RULE if self.thermal_noise.white else None

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """x + sqrt(2 T dt) xi."""
        return position + at.increment(position, memory)


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    for i in range(n):
        x[row, i] = x[row, i] + amplitude[at, i] * noise[draw, i]


RULE = CompiledRule(_stage, forceless=True, remembers=False)
