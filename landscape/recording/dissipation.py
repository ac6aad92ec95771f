"""Work of the force along a run, and the entropy that the heat bath takes up: summed over every step."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.common.schedules import Schedule
from landscape.engine.base import Plan, State
from landscape.errors import ConfigError
from landscape.integrators.base import Memory, described

__all__ = ["DISSIPATED", "ENTROPY", "SUMS", "add_step", "begin_sums", "check_sums"]

DISSIPATED, ENTROPY = "dissipated", "entropy_production"
SUMS = (DISSIPATED, ENTROPY)


def begin_sums(plan: Plan, start: xr.Dataset | None) -> Memory:
    """The sums ``(chains,)`` at the start of a run: 0, or those of the run that it goes on from."""
    memory = {}
    for name in SUMS:
        kept = 0.0 if start is None or f"last_{name}" not in start else start[f"last_{name}"].values
        row = np.array(np.broadcast_to(kept, plan.chains), dtype=np.float64)
        memory[name] = torch.as_tensor(row, device=plan.device)
    return memory


def check_sums(plan: Plan, *, entropy: bool) -> None:
    """Refuse sums of f o dx along paths that are not those of a force in a heat bath.

    Raises
    ------
    ConfigError
    """
    rule = plan.integrator
    if not (rule.brownian and rule.gradients_per_step and not rule.metropolis and rule.thermal_noise.white):
        raise ConfigError(
            f'"{DISSIPATED}" and "{ENTROPY}" are sums along overdamped paths, which {described(rule)} does not make: '
            "use EulerMaruyama or Heun"
        )
    if plan.potential.sampler is not None:
        raise ConfigError("minibatches do work too: give loss.full_batch()")
    if not entropy:
        return
    if not rule.obeys_boltzmann:
        raise ConfigError(f'"{ENTROPY}" is that of one heat bath, whose noise {described(rule)} does not have')
    if not isinstance(plan.temperature, Schedule) and not (plan.temperature > 0).all():
        raise ConfigError(f'"{ENTROPY}" is heat over temperature, which must be above 0')


def add_step(plan: Plan, state: State, before: tuple[Tensor, Tensor], gradient: Tensor, temperature: Tensor) -> None:
    """Add -(1/2) [grad V(x) + grad V(x')] . (x' - x) of a step to the sums.

    Parameters
    ----------
    before : (position, gradient)
        Unwrapped position and gradient at the start of the step.
    gradient : tensor ``(chains, dim)``
        At its end, with the numbers of the energy that the step had.
    temperature : tensor ``(chains, 1)``
    """
    origin, slope = before
    moved = plan.unwrapped(state).double() - origin
    total = -0.5 * ((slope.double() + gradient.double()) * moved).sum(dim=1)
    heat = temperature.double().squeeze(1)
    state.memory[DISSIPATED] = state.memory[DISSIPATED] + total
    state.memory[ENTROPY] = state.memory[ENTROPY] + torch.where(heat > 0, total / heat, 0.0)
