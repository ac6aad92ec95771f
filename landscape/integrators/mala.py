"""Langevin proposals with a Metropolis test."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.compiled_rule import BACK, DRIFT, PROPOSE, CompiledRule
from landscape.integrators.masses import Mass, couples, stretch_of
from landscape.integrators.metropolis import accept, energy_and_gradient_here, slope_at
from landscape.noise.base import Noise
from landscape.potentials.base import Potential

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
    takes: ClassVar[tuple[str, ...]] = ("homogeneous", "white", "normal")

    def check_start(self, potential: Potential, position: Tensor, walls: Any) -> None:
        """Refuse absorbing boundaries beside masses: crossings between steps are tested for a diffusion of one size."""
        if self.mass is not None and walls.absorbs:
            raise ConfigError("MALA with masses has no absorbing walls: leave mass out, or use BAOAB")

    def compiled_rule(self) -> CompiledRule | None:
        """The same, coordinate by coordinate; not with a mass matrix."""
        return None if couples(self.mass) else replace(RULE, mass=self.mass)

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


def _stage(  # type: ignore[no-untyped-def]
    n, stage, x, row, kept, slopes, gradient, slope, noise, dt, amplitude, temperature, at, momentum, ratio, stretch
):
    if stage == PROPOSE:
        for i in range(n):
            momentum[row, i] = amplitude[at, i] * noise[row, i] - dt[at, i] * (slopes[row, i] * stretch[row])
            ratio[i] += 0.5 * float(noise[row, i]) * float(noise[row, i])
    elif stage == DRIFT:
        for i in range(n):
            x[row, i] = kept[row, i] + momentum[row, i] * stretch[row]
    elif stage == BACK:
        for i in range(n):
            back = dt[at, i] * (gradient[slope, i] * stretch[row]) - momentum[row, i]
            ratio[i] -= back * back / (2.0 * amplitude[at, i] * amplitude[at, i])


RULE = CompiledRule(_stage, proposes=True)
