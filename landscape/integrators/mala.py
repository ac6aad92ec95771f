"""Langevin proposals with a Metropolis test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_noise, check_positive
from landscape.integrators.masses import Mass, check_dim, check_mass, stretch_of
from landscape.integrators.metropolis import accept, energy_and_gradient_here, slope_at
from landscape.noise.base import Noise
from landscape.noise.thermal import ThermalNoise
from landscape.potentials.base import Potential
from landscape.schedules import Schedule

__all__ = ["MALA"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class MALA(Integrator):
    """The Metropolis-adjusted Langevin algorithm: Euler-Maruyama steps as proposals, so that the law is Boltzmann's.

    y = x - dt M^-1 grad V(x) + sqrt(2 T dt) M^(-1/2) xi, taken with probability min(1, e^A), else x stays;
    A = -[V(y) - V(x)]/T - |x - y + dt M^-1 grad V(y)|^2/(4 T dt) + |y - x + dt M^-1 grad V(x)|^2/(4 T dt),
    with |a|^2 = a M a, and M = 1 unless given

    A proposal beyond a reflecting boundary is rejected, so is one whose energy is not a number. At T = 0 a step is
    taken if the energy does not rise.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time; an acceptance near 0.57 is most efficient in high dimension.
    noise : ThermalNoise, optional
    mass : float, one per coordinate, or a matrix, optional
        M, 1 by default: the inverse of the mobility. Best is an M near T times the inverse covariance of the positions,
        which `warm_up` finds.

    Notes
    -----
    One gradient and one energy a step, on all data. As dynamics it has weak order 1 and strong order 3/4: rejections,
    of probability dt^(3/2), hold it back. The run reports ``acceptance (chain)``.

    References
    ----------
    Roberts, Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations", Bernoulli
    2, 341 (1996). Bou-Rabee, Vanden-Eijnden, "Pathwise accuracy and ergodicity of metropolized integrators for SDEs",
    Comm. Pure Appl. Math. 63, 655 (2010) (strong order 3/4).

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.MALA(dt=1.0), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1.0) < 0.15  # T/k, at any step size
    True
    """

    dt: PerChain | Schedule
    noise: Noise | None = None
    mass: Mass = None

    weak_order: ClassVar[int | None] = 1
    stationary_order: ClassVar[float | None] = math.inf
    strong_order: ClassVar[float | None] = 0.75
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    metropolis: ClassVar[bool] = True
    target_acceptance: ClassVar[float | None] = 0.574
    brownian: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("dt", self.dt)
        check_noise(self.noise, (ThermalNoise,))
        check_mass(self.mass, matrix=True)

    def check(self, potential: Potential) -> None:
        """Refuse masses of another number of coordinates."""
        check_dim(self.mass, potential)

    def check_start(self, potential: Potential, position: Tensor, walls: Any) -> None:
        """Refuse absorbing boundaries beside masses: crossings between steps are tested for a diffusion of one size."""
        if self.mass is not None and walls.absorbs:
            raise ConfigError("MALA with masses has no absorbing walls: leave mass out, or use BAOAB")

    @property
    def step_size(self) -> PerChain | Schedule:
        """`dt`."""
        return self.dt

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Propose, and accept or stay."""
        energy, gradient = energy_and_gradient_here(position, at)
        stretch = stretch_of(self.mass, at, position)
        slope = stretch.back(gradient)
        move = at.increment(position, memory) - at.dt * slope  # M^(1/2) (y - x)
        proposal = position + stretch.out(move)
        outside = None if at.outside is None else at.outside(proposal)
        if at.fold is not None:
            proposal, _ = at.fold(proposal)
        new_energy, new_gradient = slope_at(proposal, at)
        forward = (move + at.dt * slope).square().sum(1)
        backward = (at.dt * stretch.back(new_gradient) - move).square().sum(1)
        spread = 2 * at.amplitude.square().squeeze(1)  # 4 T dt
        temperature = at.temperature.squeeze(1)
        ratio = torch.where(
            temperature > 0,
            (energy - new_energy) / temperature + (forward - backward) / spread,
            torch.where(new_energy <= energy, math.inf, -math.inf),
        )
        if outside is not None:
            ratio = torch.where(outside, -math.inf, ratio)
        return accept(ratio, position, proposal, (energy, new_energy), (gradient, new_gradient), memory, at)
