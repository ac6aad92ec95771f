"""Whether a band came to rest: what its last cycle changed, and how far its pivots could still fall."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from landscape.boundaries.domain import Domain
from landscape.paths.evaluation import batch_of, energies_at
from landscape.paths.history import History
from landscape.paths.tangents import improved_tangents, perpendicular
from landscape.potentials.base import Potential

__all__ = ["remaining_fall", "why_not_converged"]

SHARE: Final = 0.02  # of the scale of energies, by which a path at rest may still fall
LAST: Final = 0.05  # of it, by which its last cycle may have lowered it
HIGH: Final = 10.0  # times the energy of the ends: a path so high has to be at rest ten times better
REACH: Final = 1e-2  # of a chord, over which the curvature across the path is taken


def remaining_fall(potential: Potential, domain: Domain, pivots: Tensor, pivots_at_once: int | None) -> Tensor:
    r"""Energy by which each inner pivot could still fall across the path, ``(P - 2,)``, float64.

    |g|^2 / (2 k), with g the gradient across the path and k the curvature along it, and |g| times the mean chord where
    that is less or the curvature is not positive. Of a quadratic energy whose curvature across is everywhere the same
    it is exact; in a narrow valley it does not see the fall along the valley. Costs two gradients per pivot.
    """
    across, chord = _across(potential, domain, pivots, pivots_at_once), pivots.diff(dim=0).norm(dim=-1).mean()
    steepness = across.norm(dim=-1, keepdim=True)
    direction = across / steepness.clamp(min=torch.finfo(pivots.dtype).tiny)
    ahead = domain.inside(pivots[1:-1] + REACH * chord * direction)
    change = _gradients(potential, ahead, pivots_at_once) - _gradients(potential, pivots[1:-1], pivots_at_once)
    curvature = (change * direction).sum(-1).double() / (REACH * chord.double())
    steep = steepness[:, 0].double()
    linear = steep * chord.double()
    return torch.where(curvature > 0, (steep.square() / (2 * curvature)).minimum(linear), linear)


def why_not_converged(
    potential: Potential, domain: Domain, pivots: Tensor, history: History, pivots_at_once: int | None
) -> str | None:
    """What shows that a band has not come to rest, if anything does.

    Its last cycle lowered the highest energy by more than a twentieth of the scale of energies; or a pivot could still
    fall by more than a fiftieth (a five-hundredth, where the path is more than ten times as high as ends of positive
    energy). The scale is the barrier on the straight line, but at least the path's own and at most ten times that.
    """
    t = torch.linspace(0, 1, 11, dtype=pivots.dtype, device=pivots.device)[:, None]
    line = energies_at(potential, domain.inside(torch.lerp(pivots[:1], pivots[-1:], t)), pivots_at_once)
    energies = energies_at(potential, pivots, pivots_at_once)
    higher, highest = float(line[[0, -1]].max()), history.lowest
    barrier = highest - higher if highest > higher else float(energies.max() - energies.min())
    scale = max(barrier, min(float(line.max()) - higher, 10 * barrier))
    heights = history.highest
    if len(heights) > 1 and heights[-2] - heights[-1] > LAST * scale:
        return f"its last cycle still lowered the highest energy from {heights[-2]:.4g} to {heights[-1]:.4g}"
    high = 0 < HIGH * higher < highest
    fall = remaining_fall(potential, domain, pivots, pivots_at_once)
    worst = int(fall.argmax())
    if float(fall[worst]) > (SHARE / 10 if high else SHARE) * scale:
        times = f" ({highest / higher:.3g} times the energy of the ends)" if high else ""
        return (
            f"pivot {worst + 1} could still fall by about {float(fall[worst]):.3g} across the path, whose highest "
            f"energy is {highest:.4g}{times}"
        )
    return None


def _across(potential: Potential, domain: Domain, pivots: Tensor, pivots_at_once: int | None) -> Tensor:
    """Gradient on all data perpendicular to the path, at the inner pivots and within boundaries."""
    gradients = domain.inward(pivots, _gradients(potential, pivots, pivots_at_once))
    energies = energies_at(potential, pivots, pivots_at_once).to(pivots)
    return domain.inward(pivots[1:-1], perpendicular(gradients[1:-1], improved_tangents(pivots, energies)))


def _gradients(potential: Potential, points: Tensor, pivots_at_once: int | None) -> Tensor:
    parts = points.split(batch_of(potential, len(points), pivots_at_once))
    return torch.cat([potential.gradient(part) for part in parts]).to(points)
