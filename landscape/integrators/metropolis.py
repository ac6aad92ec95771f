"""The Metropolis test that `MALA` and `HMC` share."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.integrators.base import Memory, StepContext

__all__ = ["accept", "energy_and_gradient_here", "slope_at"]


def slope_at(position: Tensor, at: StepContext, *, energy: bool = True) -> tuple[Tensor, Tensor]:
    """Energy ``(chains,)`` (NaN unless asked for) and gradient ``(chains, dim)``."""
    return (at.energy(position) if energy else position.new_full(position.shape[:1], torch.nan)), at.gradient(position)


def energy_and_gradient_here(position: Tensor, at: StepContext) -> tuple[Tensor, Tensor]:
    """Those of the present state: kept from the last step, computed at the first."""
    if "here" not in at.cache:
        at.cache["here"] = slope_at(position, at)
    energy, gradient = at.cache["here"]
    return energy, gradient


def accept(
    log_ratio: Tensor, position: Tensor, proposal: Tensor, energies: tuple[Tensor, Tensor],
    gradients: tuple[Tensor, Tensor], memory: Memory, at: StepContext,
) -> Tensor:  # fmt: skip
    """The proposal with probability min(1, exp(log_ratio)), else the present position; NaN rejects."""
    taken = at.uniform().log() < log_ratio
    memory["accepted"] += taken
    column = taken.unsqueeze(1)
    if at.turns is not None:
        memory["winding"] = memory["winding"] + torch.where(column, at.turns, 0.0)
    at.cache["here"] = (torch.where(taken, energies[1], energies[0]), torch.where(column, gradients[1], gradients[0]))
    return torch.where(column, proposal, position)
