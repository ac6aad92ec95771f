"""What a run took of all that could be chosen, in one line."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np

from landscape.common.schedules import Schedule
from landscape.engine.base import Plan
from landscape.engine.choice import why_not_compiled

__all__ = ["LOG", "what_it_took"]

LOG: Final = logging.getLogger("landscape")


def what_it_took(plan: Plan, backend: str) -> str:
    """Integrator, potential, backend (and why not the compiled one), temperature with its noise, and batches.

    It is logged by "landscape" at level INFO, and shown above a progress bar.

    Examples
    --------
    >>> import landscape as ls
    >>> from landscape.engine.prepare import prepare
    >>> well = ls.potentials.Expression("x**2", ["x"])
    >>> what_it_took(prepare(well, ls.EulerMaruyama(dt=0.1), steps=1)[0], "compiled")
    'EulerMaruyama on Expression, 1 chain, compiled in float64 on cpu, T = 0: no noise'
    >>> what_it_took(prepare(well, ls.SGD(lr=0.1), steps=1, chains=2)[0], "batched")
    'SGD on Expression, 2 chains, batched in float64 on cpu, no thermal noise'
    """
    obstacle = why_not_compiled(plan) if backend == "batched" else None
    parts = [
        f"{type(plan.integrator).__name__} on {type(plan.potential).__name__}",
        f"{plan.chains} chain{'s' * (plan.chains != 1)}",
        f"{backend} in {str(plan.dtype).removeprefix('torch.')} on {plan.device}",
        _heat(plan),
    ]
    sampler = plan.potential.sampler
    if sampler is not None:
        parts.append(f"minibatches of {sampler.batch_size} ({sampler.sampling})")
    return ", ".join(parts) + (f" (not compiled: {obstacle})" if obstacle is not None else "")


def _heat(plan: Plan) -> str:
    if not plan.integrator.thermal:
        return "no thermal noise"
    noise = type(plan.integrator.thermal_noise).__name__
    if isinstance(plan.temperature, Schedule):
        return f"T by schedule ({noise})"
    low, high = float(np.min(plan.temperature)), float(np.max(plan.temperature))
    if high == 0:
        return "T = 0: no noise"
    return (f"T = {low:g}" if low == high else f"T = {low:g} to {high:g}") + f" ({noise})"
