"""Constrained mean force: the derivative of the free energy, with the coordinate held where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape import random
from landscape.boundaries.restraints import scalar_field
from landscape.checks import finite_number, whole_number
from landscape.errors import ConfigError
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.potentials.network.modes import plain_modes
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.free_energy.averages import averages, chosen_values, curve
from landscape.probes.free_energy.quadrature import bends, integrate
from landscape.probes.free_energy.sampling import REACHED, inside, onto, origin_of, place
from landscape.probes.registry import LANDSCAPE, probe

__all__ = ["SurfaceWalk", "mean_force"]

ADAPT_EVERY = 8
GOAL = 0.65  # accepted fraction aimed at
CHANGES_EVERY = 8  # steps; how the force changes along q varies less than the force
SHIFT = 1e-4  # of the least spacing, by which q is moved to see that change
ROUNDING = 64.0 * np.finfo(np.float64).eps  # of the terms that are added to a force


@probe("free_energy.mean_force", LANDSCAPE)
@plain_modes()
def mean_force(
    potential: Potential, coordinate: Any, at: Any, temperature: float, *, chains: int = 200, steps: int = 400,
    dt: float = 0.01, start: Any = None, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    r"""Derivative of the free energy along q(x), sampled with q frozen, and its integral.

    .. math:: F'(z) = \Big\langle \frac{\nabla q \cdot \nabla V}{|\nabla q|^2}
        - T \, \nabla \cdot \frac{\nabla q}{|\nabla q|^2} \Big\rangle_{q = z}

    in the conditional Boltzmann distribution, of density exp(-V/T) / \|grad q\| on the surface q = z. The second term
    is that of the Jacobian: it is zero for Cartesian coordinates, and -T/r for the radius in the plane. With f for what
    is averaged and v = grad q / \|grad q\|^2, its derivative is

    .. math:: F''(z) = \langle v \cdot \nabla f \rangle - \frac{1}{T} \mathrm{var} f ,

    and F is the integral of the cubic with these values and derivatives on each interval.

    Parameters
    ----------
    at : array
        Values z, ascending or descending.
    temperature : float
    chains : int
        For each value; 8 at least.
    steps : int
        After a quarter as many for equilibration, in which the step size is found.
    seed : int
        All noise is a function of it, the value, the chain and the step.

    Returns
    -------
    xarray.Dataset
        On the values: ``mean_force`` = F'(z) (the force on q is its negative), ``free_energy`` from the first value on,
        with standard errors; ``integration_error``, what the spacing of the values may cost, which is part of the
        standard error of F; ``acceptance``, ``resolved``, ``correlation_times``,
        ``chains_agree``.

    Raises
    ------
    ConfigError, ShapeError
    ConvergenceError
        If a value of q is not reached from the start.

    Notes
    -----
    Steps are Langevin steps in the tangent plane, put back on the surface along the gradient of q, and taken by a
    Metropolis test that includes the way back [1]_: there is no error of the step size. Errors come from the scatter
    between chains, NaN below 50 correlation times. Where V separates into one part in q and one in the rest, every
    sample has the same force to rounding: its error is zero to rounding, however short the chains. Costs 2
    gradients of V, about 4 of q and one Laplacian of q per
    step and chain. Positions beyond boundaries are never taken.

    References
    ----------
    .. [1] E. Zappa, M. Holmes-Cerfon, J. Goodman, "Monte Carlo on manifolds: sampling densities and integrating
       functions", Comm. Pure Appl. Math. 71, 2609 (2018).
    .. [2] G. Ciccotti, T. Lelievre, E. Vanden-Eijnden, "Projection of diffusions on submanifolds: application to mean
       force computation", Comm. Pure Appl. Math. 61, 371 (2008), eq. (1.6).

    Examples
    --------
    >>> from landscape import potentials
    >>> valley = potentials.Valley("1 + y**2")
    >>> found = mean_force(valley, "y", [0.0, 0.5, 1.0, 1.5, 2.0], 0.1, chains=100, steps=200)
    >>> theory = 0.1 * found.y / (1 + found.y**2)  # (T/2) g'/g
    >>> z = ((found.mean_force - theory) / found.mean_force_stderr)[1:]  # at y = 0 it is exactly 0
    >>> bool((abs(z) < 4.5).all())
    True
    """
    t, at = finite_number("temperature", temperature, above=0), chosen_values("at", at, falling=True)
    whole_number("chains", chains, least=8)
    whole_number("steps", steps, least=8)
    needs_energy("mean_force", potential)
    q = scalar_field(potential, coordinate)
    origin = origin_of(potential, start)
    points = place(q, origin.to(torch.float64), at).repeat_interleave(chains, dim=0)
    if not bool(inside(potential, points).all()):
        raise ConfigError("a value of the coordinate lies beyond the walls")
    walk = SurfaceWalk(
        potential, q, torch.as_tensor(np.repeat(at, chains)).to(points), t, chains, random.check_seed(seed)
    )
    walk.settle(points, dt, max(steps // 4, 25 * ADAPT_EVERY))
    reach = SHIFT * float(np.abs(np.diff(at)).min())
    forces, changes = [], []
    for number in range(steps):
        forces.append(walk.step().cpu().numpy())
        if number % CHANGES_EVERY == 0:
            changes.append(walk.change(reach).cpu().numpy())
    force, change = (np.stack(part, axis=-1).reshape(len(at), chains, -1) for part in (forces, changes))
    found = averages(force, walk.rounding.reshape(len(at), chains).amax(dim=1).cpu().numpy())
    whole = integrate(at, force.mean(axis=2), bends(force, change, t), found.known)
    name = coordinate if isinstance(coordinate, str) and coordinate.isidentifier() else "q"
    dataset = curve(
        at,
        name,
        {
            "mean_force": (found.mean, "energy"),
            "mean_force_stderr": (found.stderr, "energy"),
            "free_energy": (whole.value, "energy"),
            "free_energy_stderr": (whole.stderr, "energy"),
            "integration_error": (whole.spacing, "energy"),
            "acceptance": walk.accepted.reshape(len(at), chains).mean(dim=1).cpu().numpy() / steps,
            "resolved": found.resolved & found.agree,
            "correlation_times": found.correlation_times,
            "chains_agree": found.agree,
        },
        {"temperature": t, "method": "mean force at frozen coordinate", "zero": "first value", "seed": seed},
    )
    return with_steps_needed(dataset, Length(steps), chains)


@dataclass(eq=False)
class SurfaceWalk:
    """Metropolis-corrected Langevin steps on surfaces q = target, one target per chain."""

    potential: Potential
    surface: Potential
    target: Tensor
    temperature: float
    chains: int
    seed: int
    accepted: Tensor = field(init=False)
    rounding: Tensor = field(init=False)  # what the forces seen may be off by, of each chain

    def settle(self, position: Tensor, dt: float, steps: int) -> None:
        """Find a step size for each target, and forget the start."""
        self.number, self.walkers = 0, torch.arange(len(position), device=position.device)
        self.position, self.dt = position, torch.full_like(self.target, dt)
        self.here = self._at(position)
        for number in range(steps):
            if number % ADAPT_EVERY == 0:
                self.accepted, self.rounding = torch.zeros_like(self.target), torch.zeros_like(self.target)
            self.step()
            if (number + 1) % ADAPT_EVERY == 0 and number < 0.8 * steps:
                fraction = self.accepted.reshape(-1, self.chains).mean(dim=1) / ADAPT_EVERY
                factor = torch.exp((fraction - GOAL).clamp(-0.5, 0.3) * 1.5)
                self.dt = self.dt * factor.repeat_interleave(self.chains)
        self.accepted, self.rounding = torch.zeros_like(self.target), torch.zeros_like(self.target)

    def step(self) -> Tensor:
        """One proposal for every chain, taken or not; the local mean force at where the chains then are."""
        spread = torch.sqrt(2.0 * self.temperature * self.dt)[:, None]
        normal, slope, energy, *_ = self.here
        drift = -self.dt[:, None] * slope
        at = self.seed, self.walkers, self.number
        noise = random.normals(*at, self.position.shape[1], precision="float64", stream=random.NOISE)
        tangent = drift + spread * across(noise, normal)
        proposal, reached = onto(self.surface, self.position + tangent, self.target, normal)
        there = self._at(proposal)
        back = across(self.position - proposal, there[0])
        returned, returns = onto(self.surface, proposal + back, self.target, there[0])
        same = (returned - self.position).abs().amax(dim=-1) < 1e-7
        odds = ((tangent - drift) ** 2).sum(dim=-1) - ((back + self.dt[:, None] * there[1]) ** 2).sum(dim=-1)
        odds = odds / (2.0 * spread[:, 0] ** 2) - (there[2] - energy) / self.temperature
        chance = random.uniforms(*at, stream=random.ACCEPTANCE)
        taken = reached & returns & same & inside(self.potential, proposal) & (torch.log(chance) < odds)
        self.position = torch.where(taken[:, None], proposal, self.position)
        self.here = tuple(_where(taken, new, old) for new, old in zip(there, self.here, strict=True))
        self.rounding = torch.maximum(self.rounding, self.here[4])
        self.accepted += taken
        self.number += 1
        return self.here[3]

    def change(self, reach: float) -> Tensor:
        """v . grad f of the local mean force f with v = grad q / |grad q|^2, by central differences of +-reach in q."""
        gradient = self.surface.gradient(self.position)
        along = reach * gradient / (gradient**2).sum(dim=-1, keepdim=True)
        ahead, behind = (self._at(self.position + sign * along)[3] for sign in (1.0, -1.0))
        found = (ahead - behind) / (2.0 * reach)
        self.rounding = torch.maximum(self.rounding, REACHED * (1.0 + self.target.abs()) * found.abs())
        return found

    def _at(self, position: Tensor) -> tuple[Tensor, ...]:
        """Unit normal, slope of V in the tangent plane, V + T ln|grad q|, the local mean force and its rounding."""
        gradient, slope = self.surface.gradient(position), self.potential.gradient(position)
        square = (gradient**2).sum(dim=-1)
        normal = gradient / square.sqrt()[:, None]
        energy = self.potential.energy(position) + 0.5 * self.temperature * torch.log(square)
        divergence = self.temperature * self._divergence(position, gradient, square)
        force = (gradient * slope).sum(dim=-1) / square - divergence
        terms = (gradient * slope).abs().sum(dim=-1) / square + divergence.abs()
        return normal, across(slope, normal), energy, force, ROUNDING * terms

    def _divergence(self, position: Tensor, gradient: Tensor, square: Tensor) -> Tensor:
        """Divergence of grad q / |grad q|^2."""
        hessian = self.surface.hessian(position)
        laplacian = hessian.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        bend = torch.einsum("ci,cij,cj->c", gradient, hessian, gradient)
        divergence: Tensor = laplacian / square - 2.0 * bend / square**2
        return divergence


def across(vector: Tensor, normal: Tensor) -> Tensor:
    """Component in the tangent plane."""
    return vector - (vector * normal).sum(dim=-1, keepdim=True) * normal


def _where(taken: Tensor, new: Tensor, old: Tensor) -> Any:
    return torch.where(taken[:, None] if new.ndim == 2 else taken, new, old)
