"""Energies and gradients at the pivots: as one batch where the potential is small, pivot by pivot where it is large."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.potentials.base import Potential

__all__ = ["Slopes", "buffers_at", "energies_at", "working_dtype"]


def working_dtype(potential: Potential) -> torch.dtype:
    """The type in which pivots move: a network's own, else float64."""
    return potential.dtype


def batch_of(potential: Potential, points: int, pivots_at_once: int | None) -> int:
    """How many positions are evaluated at once."""
    if pivots_at_once is not None:
        return pivots_at_once
    large = potential.one_at_a_time
    return 1 if large else points


def energies_at(potential: Potential, points: Tensor, pivots_at_once: int | None) -> Tensor:
    """Energies on all data at points ``(points, dim)``, float64."""
    parts = points.split(batch_of(potential, len(points), pivots_at_once))
    with torch.no_grad():
        return torch.cat([potential.energy(part).detach().double() for part in parts]).to(points.device)


def buffers_at(potential: Potential, points: Tensor) -> dict[str, Tensor]:
    """Batch-normalisation statistics re-estimated at every point; empty where there are none."""
    rows = [potential.statistics(point) for point in points]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


class Slopes:
    """Energy and gradient at every pivot on the minibatch of a step.

    Parameters
    ----------
    potential : Potential
    seed : int
        Of the minibatches.
    own_batches : bool
        Whether every pivot draws its own minibatch; else all share that of the step.
    pivots_at_once : int, optional
    """

    def __init__(self, potential: Potential, *, seed: int, own_batches: bool, pivots_at_once: int | None) -> None:
        self.potential, self.seed, self.own_batches, self.pivots_at_once = potential, seed, own_batches, pivots_at_once

    def __call__(self, pivots: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Energies ``(P,)`` and gradients ``(P, N)`` of pivots ``(P, N)``."""
        size = batch_of(self.potential, len(pivots), self.pivots_at_once)
        parts = [self._batch(part, i * size, step) for i, part in enumerate(pivots.split(size))]
        return torch.cat([energy for energy, _ in parts]), torch.cat([gradient for _, gradient in parts])

    def _batch(self, pivots: Tensor, first: int, step: int) -> tuple[Tensor, Tensor]:
        count = len(pivots)
        seeds = tuple(self.seed + first + i if self.own_batches else self.seed for i in range(count))
        keys = self.potential.batch_keys(count, self.seed, seeds)
        return self.potential.batch_energy_and_gradient(pivots, step=step, keys=keys)
