"""Work and heat of a run: the first law, step by step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.engine.base import Engine

__all__ = ["begin", "heat", "total_energy"]


def total_energy(engine: Engine) -> NDArray[np.float64]:
    """E = V + springs + kinetic energy of every chain at the present time, ``(chains,)``."""
    plan, state, energy = engine.plan, engine.state, engine.energies()
    with torch.no_grad():
        if plan.restraints is not None:
            springs = engine.landscape().springs(state.position)
            energy = energy + springs.to("cpu", torch.float64).numpy()
        if "momentum" in plan.integrator.memory_names:
            kinetic = plan.integrator.kinetic_energy(engine.full_step_memory())
            energy = energy + torch.as_tensor(kinetic).to("cpu", torch.float64).numpy()
    return energy


def begin(engine: Engine) -> None:
    """Note the energies of chains whose heat begins to count."""
    start = engine.state.memory.get("start_energy")
    if start is not None and bool(torch.isnan(start).any()):
        now = torch.as_tensor(total_energy(engine), device=start.device)
        engine.state.memory["start_energy"] = torch.where(torch.isnan(start), now, start)


def heat(engine: Engine) -> NDArray[np.float64]:
    """Q = E - E(start) - W of every chain, ``(chains,)``."""
    memory = engine.state.memory
    since, work = (memory[name].cpu().numpy() for name in ("start_energy", "work"))
    found: NDArray[np.float64] = total_energy(engine) - since - work
    return found
