"""Hamiltonian Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.compiled_rule import BACK, DRIFT, LAST_KICK, PROPOSE, CompiledRule
from landscape.integrators.masses import Mass, Stretch, check_mirrors, couples, lightest, stretch_of
from landscape.integrators.metropolis import accept, energy_and_gradient_here, slope_at
from landscape.noise.base import Noise
from landscape.potentials.base import Potential

__all__ = ["HMC"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class HMC(Integrator):
    """Hamiltonian (hybrid) Monte Carlo: fresh momenta, a stretch of mechanics, a Metropolis test.

    m ~ N(0, T M); `leapfrog_steps` times velocity Verlet of step dt with masses M (1 unless given); the end is taken
    with probability min(1, e^{-dH/T}), H = V + m M^-1 m/2, else x stays.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step of the mechanics; a step of the chain advances the time by ``leapfrog_steps * dt``.
    leapfrog_steps : int
    noise : ThermalNoise, optional
    mass : float, one per coordinate, or a matrix, optional
        M, 1 by default. The step is small against the fastest oscillation where dt^2 k/M < 4; best is an M near T
        times the inverse covariance of the positions, which `warm_up` finds.

    Raises
    ------
    ConfigError
        If the step is not positive, or the number of steps not a positive integer.

    Notes
    -----
    `leapfrog_steps` gradients and one energy a step, on all data. Reflecting boundaries mirror momentum and position at
    once, which leaves phase-space volume as it is. At T = 0 a step is taken if the energy does not rise.

    References
    ----------
    Duane, Kennedy, Pendleton, Roweth, "Hybrid Monte Carlo", Phys. Lett. B 195, 216 (1987).

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.HMC(dt=0.5, leapfrog_steps=3), temperature=1.0, chains=2000, steps=20, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1.0) < 0.15
    True
    """

    dt: PerChain | Schedule
    leapfrog_steps: int
    noise: Noise | None = None
    mass: Mass = None

    stationary_order: ClassVar[float | None] = math.inf
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    metropolis: ClassVar[bool] = True
    target_acceptance: ClassVar[float | None] = 0.8
    takes: ClassVar[tuple[str, ...]] = ("homogeneous", "white", "normal")

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        whole_number("leapfrog_steps", self.leapfrog_steps)

    def check_start(self, potential: Potential, position: Tensor, walls: Any) -> None:
        """Refuse mirrors beside a mass matrix, which mixes what a mirror turns round."""
        check_mirrors(self.mass, walls)

    @property
    def gradients_per_step(self) -> int:  # type: ignore[override]
        """One each leapfrog step."""
        return self.leapfrog_steps

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """Standard deviation of the momenta, sqrt(T)."""
        return temperature**0.5 + 0.0 * dt

    def reach(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(T/M) leapfrog_steps dt of the lightest coordinate."""
        return temperature**0.5 * self.time_per_step(dt) / lightest(self.mass) ** 0.5

    def time_per_step(self, dt: Any) -> Any:
        """leapfrog_steps dt."""
        return self.leapfrog_steps * dt

    def compiled_rule(self) -> CompiledRule | None:
        """The same, coordinate by coordinate; not with a mass matrix."""
        return None if couples(self.mass) else replace(RULE, stages=self.leapfrog_steps, mass=self.mass)

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Momenta, velocity Verlet, Metropolis test."""
        energy, gradient = energy_and_gradient_here(position, at)
        stretch: Stretch = stretch_of(self.mass, at, position)
        momentum = at.increment(position, memory)  # M^(-1/2) m, of unit mass
        before = 0.5 * momentum.square().sum(1)
        proposal, new_gradient, new_energy = position, gradient, energy
        momentum = momentum - 0.5 * at.dt * stretch.back(gradient)
        for number in range(1, self.leapfrog_steps + 1):
            proposal = proposal + at.dt * stretch.out(momentum)
            if at.fold is not None:
                proposal, mirrored = at.fold(proposal)
                momentum = torch.where(mirrored, -momentum, momentum)
            new_energy, new_gradient = slope_at(proposal, at, energy=number == self.leapfrog_steps)
            kick = 0.5 if number == self.leapfrog_steps else 1.0
            momentum = momentum - kick * at.dt * stretch.back(new_gradient)
        change = new_energy - energy + 0.5 * momentum.square().sum(1) - before
        temperature = at.temperature.squeeze(1)
        ratio = torch.where(
            temperature > 0, -change / temperature, torch.where(new_energy <= energy, math.inf, -math.inf)
        )
        return accept(ratio, position, proposal, (energy, new_energy), (gradient, new_gradient), memory, at)


def _stage(  # type: ignore[no-untyped-def]
    n, stage, x, row, kept, slopes, gradient, slope, noise, dt, amplitude, temperature, at, momentum, ratio, stretch
):
    if stage == PROPOSE:
        for i in range(n):
            momentum[row, i] = amplitude[at, i] * noise[row, i]
            ratio[i] += 0.5 * momentum[row, i] * momentum[row, i] / temperature[at, i]
            momentum[row, i] -= 0.5 * dt[at, i] * (slopes[row, i] * stretch[row])
    elif stage == DRIFT:
        for i in range(n):
            x[row, i] = x[row, i] + dt[at, i] * (momentum[row, i] * stretch[row])
    elif stage == BACK:
        for i in range(n):
            ratio[i] -= 0.5 * momentum[row, i] * momentum[row, i] / temperature[at, i]
    else:
        kick = 0.5 if stage == LAST_KICK else 1.0
        for i in range(n):
            momentum[row, i] -= kick * dt[at, i] * (gradient[slope, i] * stretch[row])


RULE = CompiledRule(_stage, proposes=True, folds=True)
