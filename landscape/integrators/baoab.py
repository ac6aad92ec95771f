"""Underdamped Langevin dynamics by the BAOAB splitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_noise, check_positive
from landscape.noise.base import Noise
from landscape.schedules import Schedule

__all__ = ["BAOAB"]


@dataclass(frozen=True, slots=True, eq=False)
class BAOAB(Integrator):
    """Underdamped Langevin dynamics of unit mass, dx = m dt, dm = -grad V dt - friction m dt + sqrt(2 friction T) dW.

    m -= dt grad V(x);  x += (dt/2) m;  m = c m + sqrt(T (1 - c^2)) xi;  x += (dt/2) m,  c = exp(-friction dt)

    This is BAOAB seen just before the second half of its kick (B), which the next step takes together with its own
    first half; the very first kick is a half one. The positions are those of BAOAB: on a quadratic their stationary
    variance is T/k for every stable step (dt^2 k < 4). Momenta start from their law N(0, T).

    The observable ``"momentum"`` has both halves of its kick, m - (dt/2) grad V(x): on a quadratic it is independent of
    the position and has <m^2> = T (1 - dt^2 k/4). What the state carries, ``last_momentum``, lacks the second half.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time.
    friction : float, or one per chain
        Rate at which momentum decays; 0 gives the mechanics without a bath (velocity Verlet).
    noise : ThermalNoise, optional
        Or `TwoPointNoise`.

    References
    ----------
    Leimkuhler, Matthews, "Rational construction of stochastic numerical methods for molecular sampling", Appl. Math.
    Res. Express 2013, 34 (2013), section 3.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.BAOAB(dt=1.0, friction=1.0), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1.0) < 0.15
    True
    """

    dt: PerChain | Schedule
    friction: PerChain
    noise: Noise | None = None

    weak_order: ClassVar[int | None] = 2
    stationary_order: ClassVar[float | None] = 2
    strong_order: ClassVar[float | None] = 1
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("momentum",)
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("momentum",)
    per_chain: ClassVar[tuple[str, ...]] = ("friction",)

    def __post_init__(self) -> None:
        check_positive("dt", self.dt)
        check_positive("friction", self.friction, zero=True)
        check_noise(self.noise)

    @property
    def step_size(self) -> PerChain | Schedule:
        """`dt`."""
        return self.dt

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(T (1 - c^2))."""
        return (temperature * -np.expm1(-2.0 * settings["friction"] * dt)) ** 0.5

    @property
    def exit_ratio(self) -> float:
        """0.02: ways between two steps are nearly straight up to high friction."""
        return 0.02

    def reach(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(T) dt."""
        return temperature**0.5 * dt

    def half_kick(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """dt/2."""
        return {"momentum": 0.5 * dt}

    def exchanged(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """sqrt(T)."""
        return {"momentum": temperature**0.5}

    def kinetic_energy(self, memory: Memory) -> Tensor | None:
        """m^2/2."""
        return 0.5 * memory["momentum"].double().square().sum(dim=-1)

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """Momenta from N(0, T)."""
        return {"momentum": temperature.sqrt() * normals()}

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Kick, half a drift, friction and noise, half a drift."""
        kick = 0.5 if at.step == 0 else 1.0
        momentum = memory["momentum"] - kick * at.dt * at.gradient(position)
        position = position + 0.5 * at.dt * momentum
        decay = torch.exp(-at.settings["friction"] * at.dt)
        momentum = memory["momentum"] = decay * momentum + at.increment(position, memory)
        return position + 0.5 * at.dt * momentum
