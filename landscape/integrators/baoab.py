"""Underdamped Langevin dynamics by the BAOAB splitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_positive
from landscape.integrators.compiled_rule import SETTINGS, CompiledRule, exponential
from landscape.integrators.masses import Mass, inverse_mass, lightest, rows
from landscape.noise.base import Noise

__all__ = ["BAOAB"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class BAOAB(Integrator):
    """Underdamped Langevin dynamics, dx = M^-1 m dt, dm = -grad V dt - friction m dt + sqrt(2 friction T M) dW.

    m -= dt grad V(x);  x += (dt/2) M^-1 m;  m = c m + sqrt(T M (1 - c^2)) xi;  x += (dt/2) M^-1 m,
    c = exp(-friction dt), M = 1 unless given

    This is BAOAB seen just before the second half of its kick (B), which the next step takes together with its own
    first half; the very first kick is a half one. The positions are those of BAOAB: on a quadratic their stationary
    variance is T/k for every stable step (dt^2 k/M < 4). Momenta start from their law N(0, T M).

    The observable ``"momentum"`` has both halves of its kick, m - (dt/2) grad V(x): on a quadratic it is independent of
    the position and has <m^2> = T M (1 - dt^2 k/(4 M)); ``"kinetic_energy"`` is m M^-1 m/2. What the state carries,
    ``last_momentum``, lacks the second half.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time.
    friction : float, or one per chain
        Rate at which momentum decays; 0 gives the mechanics without a bath (velocity Verlet).
    noise : ThermalNoise, optional
        Or `TwoPointNoise`.
    mass : float, or one per coordinate, optional
        M, 1 by default: sqrt(M) is time in units of energy and length. Friction is a rate whatever the mass.

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
    mass: Mass = None

    weak_order: ClassVar[int | None] = 2
    stationary_order: ClassVar[float | None] = 2
    strong_order: ClassVar[float | None] = 1
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("momentum",)
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("momentum",)
    per_chain: ClassVar[tuple[str, ...]] = ("friction",)
    capturable: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("homogeneous", "white")

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        check_positive("friction", self.friction, zero=True)

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(T (1 - c^2))."""
        return (temperature * -np.expm1(-2.0 * settings["friction"] * dt)) ** 0.5

    @property
    def exit_ratio(self) -> float:
        """0.02: ways between two steps are nearly straight up to high friction."""
        return 0.02

    def reach(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(T/M) dt of the lightest coordinate."""
        return temperature**0.5 * dt / lightest(self.mass) ** 0.5

    def half_kick(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """dt/2."""
        return {"momentum": 0.5 * dt}

    def exchanged(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """sqrt(T)."""
        return {"momentum": temperature**0.5}

    def kinetic_energy(self, memory: Memory) -> Tensor | None:
        """m M^-1 m/2."""
        momentum = memory["momentum"].double()
        if self.mass is None:
            return 0.5 * momentum.square().sum(dim=-1)
        return 0.5 * (momentum.square() / torch.as_tensor(rows(self.mass, momentum.shape[1])).to(momentum)).sum(dim=-1)

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """Momenta from N(0, T M)."""
        momentum = temperature.sqrt() * normals()
        if self.mass is not None:
            momentum = momentum * torch.as_tensor(rows(self.mass, position.shape[1])).sqrt().to(position)
        return {"momentum": momentum}

    def compiled_rule(self) -> CompiledRule:
        """The same, coordinate by coordinate."""
        return RULE if self.mass is None else replace(MASSIVE_RULE, mass=self.mass)

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Kick, half a drift, friction and noise, half a drift."""
        kick = 0.5 if at.first else 1.0
        inverse, root = inverse_mass(self.mass, at, position)
        momentum = memory["momentum"] - kick * at.dt * at.gradient(position)
        position = position + 0.5 * at.dt * (momentum * inverse)
        decay = torch.exp(-at.settings["friction"] * at.dt)
        momentum = memory["momentum"] = decay * momentum + root * at.increment(position, memory)
        moved: Tensor = position + 0.5 * at.dt * (momentum * inverse)
        return moved


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    typed[0], typed[1] = 0.5, 0.5 if step == 0 else 1.0
    half, kick = typed[0], typed[1]
    for i in range(n):
        m[row, i] = m[row, i] - kick * dt[at, i] * gradient[slope, i]
        x[row, i] = x[row, i] + half * dt[at, i] * m[row, i]
        m[row, i] = exponential(-settings[0, i] * dt[at, i]) * m[row, i] + amplitude[at, i] * noise[draw, i]
        x[row, i] = x[row, i] + half * dt[at, i] * m[row, i]


def _massive_stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    kick = 0.5 if step == 0 else 1.0
    lightness, root = SETTINGS + row, SETTINGS + m.shape[0] + row
    for i in range(n):
        m[row, i] = m[row, i] - kick * dt[at, i] * gradient[slope, i]
        x[row, i] = x[row, i] + 0.5 * dt[at, i] * (m[row, i] * settings[lightness, i])
        push = settings[root, i] * (amplitude[at, i] * noise[draw, i])
        m[row, i] = exponential(-settings[0, i] * dt[at, i]) * m[row, i] + push
        x[row, i] = x[row, i] + 0.5 * dt[at, i] * (m[row, i] * settings[lightness, i])


RULE, MASSIVE_RULE = CompiledRule(_stage), CompiledRule(_massive_stage)
