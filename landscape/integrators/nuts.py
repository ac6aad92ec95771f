"""The No-U-Turn sampler: Hamiltonian Monte Carlo that finds the length of its trajectories itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape import random
from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.masses import Mass, Stretch, check_mirrors, lightest, stretch_of
from landscape.integrators.metropolis import energy_and_gradient_here, slope_at
from landscape.noise.base import Noise
from landscape.potentials.base import Potential

__all__ = ["NUTS"]

DIVERGENT = 1000.0  # temperatures by which the energy may rise along a trajectory (Stan's bound)


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class NUTS(Integrator):
    """The No-U-Turn sampler: trajectories of mechanics that double until they turn, and a draw along them.

    m ~ N(0, T M). A trajectory of velocity Verlet steps is doubled, forwards or backwards in time with equal chance,
    until its ends z-, z+ turn towards each other: rho M^-1 m(z-) <= 0 or rho M^-1 m(z+) <= 0, rho the sum of the
    momenta along it; the same holds for each of its halves, quarters and so on. The next position is drawn with the
    weights e^{-H/T} of its points, H = V + m M^-1 m/2, from the later doublings with preference.

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step of the mechanics; `warm_up` finds it. A step of the chain counts as `dt` in time.
    max_tree_depth : int
        Doublings at most: a step takes up to 2^max_tree_depth - 1 gradients.
    noise : ThermalNoise, optional
    mass : float, one per coordinate, or a matrix, optional
        M, 1 by default.

    Raises
    ------
    ConfigError
        If a number makes no sense; when a run starts, at temperature 0.

    Notes
    -----
    On the batched backend: all chains double together, as long as one of them goes on. A trajectory along which H rises
    by more than 1000 T has diverged, and ends; then the step is too long for what is there. The observables
    ``"tree_depth"`` and ``"divergent"`` are those of the last step, and a run has ``divergences (chain)`` and
    ``gradients (chain)``, their numbers, and as ``acceptance`` the mean of min(1, e^{-dH/T}) along trajectories.

    References
    ----------
    Hoffman, Gelman, "The No-U-Turn sampler", J. Mach. Learn. Res. 15, 1593 (2014). Betancourt, "A conceptual
    introduction to Hamiltonian Monte Carlo", arXiv:1701.02434 (2017), appendix A (multinomial weights, criterion by
    rho). Phan, Pradhan, Jankowiak, arXiv:1912.11554 (2019), algorithm 2 (doubling without recursion).

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.NUTS(dt=0.8), temperature=1.0, chains=2000, steps=5, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1.0) < 0.15
    True
    """

    dt: PerChain | Schedule
    max_tree_depth: int = 10
    noise: Noise | None = None
    mass: Mass = None

    stationary_order: ClassVar[float | None] = math.inf
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    metropolis: ClassVar[bool] = True
    target_acceptance: ClassVar[float | None] = 0.8
    counters: ClassVar[tuple[str, ...]] = ("tree_depth", "divergent", "divergences", "gradients")
    takes: ClassVar[tuple[str, ...]] = ("homogeneous", "white", "normal")

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        whole_number("max_tree_depth", self.max_tree_depth, most=20)

    def check_start(self, potential: Potential, position: Tensor, walls: Any) -> None:
        """Refuse mirrors beside a mass matrix, and boundaries that absorb."""
        check_mirrors(self.mass, walls)
        if walls.absorbs:
            raise ConfigError("NUTS has no absorbing walls: its steps jump along trajectories. Use BAOAB")

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """Standard deviation of the momenta of unit mass, sqrt(T)."""
        if not np.all(np.asarray(temperature) > 0):
            raise ConfigError("NUTS draws from e^(-H/T) along a trajectory and needs a temperature above 0")
        return temperature**0.5 + 0.0 * dt

    def reach(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(T/M) dt of the lightest coordinate."""
        return temperature**0.5 * dt / lightest(self.mass) ** 0.5

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Double until all chains have turned; the draw that was made on the way."""
        energy, gradient = energy_and_gradient_here(position, at)
        momentum = at.increment(position, memory)
        here = _Point(position, momentum, gradient, energy, _turns(position, at))
        tree = _Tree(here, self.max_tree_depth, stretch_of(self.mass, at, position), at)
        for depth in range(self.max_tree_depth):
            if not bool(tree.going.any()):
                break
            tree.double(depth)
        memory["accepted"] += tree.acceptance / tree.leaves.clamp_min(1.0)
        memory["gradients"] += tree.leaves
        memory["divergences"] += tree.diverged
        memory["tree_depth"], memory["divergent"] = tree.depth, tree.diverged.to(torch.float64)
        drawn = tree.drawn
        at.cache["here"] = (drawn.energy, drawn.gradient)
        if at.turns is not None and drawn.turns is not None:
            memory["winding"] = memory["winding"] + drawn.turns
            at.turns = torch.zeros_like(drawn.turns)
        return drawn.position


def _turns(position: Tensor, at: StepContext) -> Tensor | None:
    return None if at.turns is None else torch.zeros_like(position, dtype=torch.float64)


@dataclass(slots=True)
class _Point:
    """Where chains are in phase space; momenta are those of unit mass, `turns` the periods gone round on the way."""

    position: Tensor
    momentum: Tensor
    gradient: Tensor
    energy: Tensor
    turns: Tensor | None

    def where(self, chosen: Tensor, other: _Point) -> _Point:
        """This point for the chosen chains ``(chains,)``, the other for the rest."""
        column = chosen.unsqueeze(1)
        turns = None
        if self.turns is not None and other.turns is not None:
            turns = torch.where(column, self.turns, other.turns)
        return _Point(
            torch.where(column, self.position, other.position),
            torch.where(column, self.momentum, other.momentum),
            torch.where(column, self.gradient, other.gradient),
            torch.where(chosen, self.energy, other.energy),
            turns,
        )


@dataclass(slots=True)
class _Tree:
    """The trajectories of all chains.

    Attributes
    ----------
    ends : [backward, forward]
    total : tensor ``(chains, dim)``
        Sum of the momenta along it.
    weight : tensor ``(chains,)``
        Logarithm of the sum of e^{-(H - H0)/T}.
    drawn : _Point
    going : tensor of bool ``(chains,)``
        Who doubles on.
    """

    start: _Point
    most: int
    stretch: Stretch
    at: StepContext
    ends: list[_Point] = field(init=False)
    total: Tensor = field(init=False)
    weight: Tensor = field(init=False)
    drawn: _Point = field(init=False)
    going: Tensor = field(init=False)
    diverged: Tensor = field(init=False)
    acceptance: Tensor = field(init=False)
    leaves: Tensor = field(init=False)
    depth: Tensor = field(init=False)
    draws: int = 0

    def __post_init__(self) -> None:
        start = self.start
        zeros = torch.zeros(len(start.position), dtype=torch.float64, device=start.position.device)
        self.ends, self.drawn, self.total, self.weight = [start, start], start, start.momentum, zeros
        self.going, self.diverged = zeros == 0, zeros != 0
        self.acceptance, self.leaves, self.depth = zeros.clone(), zeros.clone(), zeros.clone()

    def uniform(self) -> Tensor:
        """Fresh uniform variates ``(chains,)``, a function of seed, chain, step and how many were drawn in it."""
        self.draws += 1
        at = self.at
        return random.uniforms(at.seed, at.chains, at.counter, stream=random.ACCEPTANCE, call=self.draws)

    def double(self, depth: int) -> None:
        """Add a subtree of 2^depth points at one end; chains that turned in it keep what they had."""
        going, forward = self.going, self.uniform() < 0.5
        end = self.ends[1].where(forward, self.ends[0])
        sign = torch.where(forward, 1.0, -1.0).to(end.position)[:, None]
        total, weight, drawn = torch.zeros_like(self.total), torch.full_like(self.weight, -math.inf), end
        alive = going
        marks: list[tuple[Tensor, Tensor]] = [(total, total)] * max(depth, 1)
        for leaf in range(2**depth):
            if not bool(alive.any()):
                break
            end = self._leapfrog(end, sign).where(alive, end)
            change = self._change(end)
            self.acceptance += torch.where(alive & ~change.isnan(), (-change).clamp_max(0.0).exp(), 0.0)
            self.leaves += alive
            burst = alive & ~(change < DIVERGENT)  # not a number: diverged
            self.diverged, alive = self.diverged | burst, alive & ~burst
            new = torch.where(alive, -change, -math.inf)
            weight = torch.where(alive, torch.logaddexp(weight, new), weight)
            taken = alive & (self.uniform().log() < new - weight)
            drawn = end.where(taken, drawn)
            total = torch.where(alive[:, None], total + end.momentum, total)
            alive = alive & ~self._turned(leaf, end.momentum, total, marks)
        whole = alive  # built to its end without a turn
        taken = whole & (self.uniform().log() < weight - self.weight)
        self.drawn = drawn.where(taken, self.drawn)
        self.weight = torch.where(whole, torch.logaddexp(self.weight, weight), self.weight)
        self.total = torch.where(whole[:, None], self.total + total, self.total)
        self.ends[1] = end.where(whole & forward, self.ends[1])
        self.ends[0] = end.where(whole & ~forward, self.ends[0])
        self.depth = self.depth + going
        self.going = whole & ~_turns_back(self.total, self.ends[0].momentum, self.ends[1].momentum)

    def _leapfrog(self, point: _Point, sign: Tensor) -> _Point:
        at, step = self.at, sign * self.at.dt
        momentum = point.momentum - 0.5 * step * self.stretch.back(point.gradient)
        position, turns = point.position + step * self.stretch.out(momentum), point.turns
        if at.fold is not None:
            before = at.turns
            position, mirrored = at.fold(position)
            momentum = torch.where(mirrored, -momentum, momentum)
            if turns is not None and before is not None and at.turns is not None:
                turns = turns + at.turns - before
        energy, gradient = slope_at(position, at)
        return _Point(position, momentum - 0.5 * step * self.stretch.back(gradient), gradient, energy, turns)

    def _change(self, point: _Point) -> Tensor:
        """(H - H0)/T, float64."""
        kinetic = 0.5 * (point.momentum.double().square().sum(1) - self.start.momentum.double().square().sum(1))
        rise = point.energy.double() - self.start.energy.double()
        return (rise + kinetic) / self.at.temperature.squeeze(1).double()

    def _turned(self, leaf: int, momentum: Tensor, total: Tensor, marks: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Whether one of the balanced parts that end at this leaf turns; `marks` are the first leaves of open parts."""
        place = (leaf >> 1).bit_count()
        if leaf % 2 == 0:
            marks[place] = (momentum, total)
            return torch.zeros_like(self.going)
        parts = (~leaf & (leaf + 1)).bit_length() - 1  # how many end here: ones at the end of the number
        found = torch.zeros_like(self.going)
        for mark in range(place, place - parts, -1):
            first, until = marks[mark]
            found = found | _turns_back(total - until + first, first, momentum)
        return found


def _turns_back(total: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Whether the sum of the momenta points against that at one end."""
    return ((total * first).sum(1) <= 0) | ((total * last).sum(1) <= 0)
