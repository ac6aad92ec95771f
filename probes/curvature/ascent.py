"""The largest energy inside a ball, by projected gradient ascent from many points at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from landscape.potentials import Potential
from landscape.probes.curvature.ball import Ball

__all__ = ["SLIGHT", "Climbed", "Landscape", "climb"]

ROW_BYTES: Final = 2**26  # of the positions that are climbed from at once
SLIGHT: Final = 0.01  # of what V varies by: a rise below it counts as that much where shares of it are asked for
_MEMORY: Final = 5  # energies that a step may fall back behind: Birgin, Martinez, Raydan (2000), section 2
_RISE: Final = 1e-4  # share of the rise to first order that a step has to bring
_LONGEST: Final = 10.0  # step, in radii: nearly a right angle along the sphere
_TRIALS: Final = 5  # steps tried, each a quarter of the one before
_ROUNDINGS: Final = 10.0


@dataclass(slots=True)
class Landscape:
    """Energies and gradients at rows of positions, counted.

    Attributes
    ----------
    potential : Potential
    dtype, device
        Of the positions.
    energies, gradients : int
        How many have been computed.
    """

    potential: Potential
    dtype: torch.dtype
    device: torch.device
    energies: int = field(default=0, init=False)
    gradients: int = field(default=0, init=False)

    def energy(self, positions: Tensor) -> Tensor:
        """Energies in float64, ``(n,)``."""
        self.energies += len(positions)
        with torch.no_grad():
            found: Tensor = self.potential.energy(positions)
        return found.detach().double()

    def gradient(self, positions: Tensor) -> Tensor:
        """Gradients ``(n, dim)``."""
        self.gradients += len(positions)
        found: Tensor = self.potential.gradient(positions)
        return found.detach()

    def rounding(self, energy: Any) -> Any:
        """What rounding may do to an energy."""
        return _ROUNDINGS * torch.finfo(self.dtype).eps * abs(energy)


@dataclass(frozen=True, slots=True)
class Climbed:
    """Where each of n climbs has been highest.

    Attributes
    ----------
    u : tensor, shape ``(n, dim)``
        In the unit ball.
    energy, promise, missing : float64 tensors, shape ``(n,)``
        The energy, and what `Ball.promise` and `Ball.missing` say.
    varied : float64 tensor, shape ``(n,)``
        |V(start) - V(center)|.
    """

    u: Tensor
    energy: Tensor
    promise: Tensor
    missing: Tensor
    varied: Tensor


def climb(
    landscape: Landscape,
    center: Tensor,
    scale: Tensor,
    u: Tensor,
    ball: Ball,
    *,
    base: Tensor,
    steps: int,
    rtol: float,
) -> Climbed:
    r"""Maximise V(center + scale * u) over the unit ball, from every row of u.

    A step goes along the gradient that is left of g (d V / d u) once its part out of the ball is taken away, and back
    into the ball. Its length is that of Barzilai and Borwein, |s|^2 / (s y), s and y the last changes of u and (with
    the opposite sign) of that gradient; it is quartered until the energy is above the least of the last five. On the
    sphere of a quadratic V the first step is one of the power iteration.

    Parameters
    ----------
    landscape : Landscape
    center : tensor, shape ``(n, dim)``
    scale : tensor, shape ``(n, 1)`` or ``(n, dim)``
    u : tensor, shape ``(n, dim)``
        Starts, inside the ball.
    ball : Ball
    base : float64 tensor, shape ``(n,)``
        V(center).
    steps : int
        Most gradients from each start.
    rtol : float
        A climb ends where the first order promises at most so much of V - V(center) more, or of a hundredth of what V
        varied by from the centre to the start: a rise may be none at all.

    References
    ----------
    Birgin, Martinez, Raydan (2000), Nonmonotone spectral projected gradient methods on convex sets, SIAM J. Optim. 10,
    1196.
    """
    at_once = max(1, ROW_BYTES // (landscape.dtype.itemsize * u.shape[1]))
    parts = zip(*(rows.split(at_once) for rows in (center, scale, u, base)), strict=True)
    found = [_climb(landscape, ball, *part, steps=steps, rtol=rtol) for part in parts]
    names = ("u", "energy", "promise", "missing", "varied")
    return Climbed(*(torch.cat([getattr(one, name) for one in found]) for name in names))


def _climb(
    landscape: Landscape, ball: Ball, center: Tensor, scale: Tensor, u: Tensor, base: Tensor, *, steps: int, rtol: float
) -> Climbed:
    u = u.clone()
    energy = landscape.energy(center + scale * u)
    gradient = scale * landscape.gradient(center + scale * u)
    varied = (energy - base).abs()
    best = Climbed(u.clone(), energy.clone(), ball.promise(u, gradient), ball.missing(u, gradient), varied)
    memory = energy[:, None].repeat(1, _MEMORY)
    reduced = ball.reduced(u, gradient)
    length = _first(u, gradient, reduced)
    rows = torch.arange(len(u), device=u.device)  # that still climb
    for number in range(1, steps):
        enough = rtol * (best.energy - base).abs().maximum(SLIGHT * varied) + landscape.rounding(best.energy)
        promise = ball.promise(u, gradient)
        rows = rows[(promise[rows] > enough[rows]) & energy[rows].isfinite()]
        if not len(rows):
            break
        before, slope = u[rows], reduced[rows]
        reference = memory[rows].amin(1) - landscape.rounding(energy[rows])
        moved, reached = _step(landscape, center[rows], scale[rows], before, slope, length[rows], reference, ball)
        fresh = scale[rows] * landscape.gradient(center[rows] + scale[rows] * moved)
        u[rows], energy[rows], gradient[rows] = moved, reached, fresh
        reduced[rows] = ball.reduced(moved, fresh)
        memory[rows, number % _MEMORY] = reached
        length[rows] = _spectral(moved - before, slope - reduced[rows], reduced[rows])
        higher = rows[reached > best.energy[rows]]
        best.u[higher], best.energy[higher] = u[higher], energy[higher]
        best.promise[higher] = ball.promise(u[higher], gradient[higher])
        best.missing[higher] = ball.missing(u[higher], gradient[higher])
    return best


def _step(
    landscape: Landscape,
    center: Tensor,
    scale: Tensor,
    u: Tensor,
    slope: Tensor,
    length: Tensor,
    reference: Tensor,
    ball: Ball,
) -> tuple[Tensor, Tensor]:
    """Points that are high enough, and their energies; where none is found, the last that was tried."""
    moved, reached = u.clone(), reference.clone()
    left, length = torch.arange(len(u), device=u.device), length.clone()
    for _ in range(_TRIALS):
        trial = ball.project(u[left] + length[left, None] * slope[left])
        moved[left], reached[left] = trial, landscape.energy(center[left] + scale[left] * trial)
        rise = _RISE * (slope[left] * (trial - u[left])).sum(1, dtype=torch.float64)
        left = left[~(reached[left] >= reference[left] + rise)]
        if not len(left):
            break
        length[left] /= 4
    return moved, reached


def _first(u: Tensor, gradient: Tensor, reduced: Tensor) -> Tensor:
    """To the farthest point along the gradient, where u is on the sphere; else a few radii."""
    pressure = (gradient * u).sum(1)
    tiny = torch.finfo(u.dtype).tiny
    return torch.where(pressure > 0, 1 / pressure.clamp_min(tiny), torch.inf).minimum(_longest(reduced))


def _spectral(s: Tensor, y: Tensor, reduced: Tensor) -> Tensor:
    """|s|^2 / (s y) where V is curved downwards along the step, else the longest step."""
    tiny = torch.finfo(s.dtype).tiny
    curvature = (s * y).sum(1)
    length = torch.where(curvature > 0, s.square().sum(1) / curvature.clamp_min(tiny), torch.inf)
    return length.minimum(_longest(reduced))


def _longest(reduced: Tensor) -> Tensor:
    sizes: Tensor = torch.linalg.vector_norm(reduced, dim=1)
    return _LONGEST / sizes.clamp_min(torch.finfo(reduced.dtype).tiny ** 0.5)
