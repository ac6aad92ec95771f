"""Many copies of states, run until each has reached a core."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.integrators.base import Integrator
from landscape.observers import CoreSets
from landscape.potentials.base import Potential
from landscape.record import Record
from landscape.simulate import simulate

__all__ = ["first_cores"]

FIRST_STEPS = 256  # of the first round; each next one is twice as long


def first_cores(
    potential: Potential, integrator: Integrator, start: NDArray[np.float64], cores: CoreSets, *, steps: int, **run: Any
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Number of the first core that each chain reaches, -1 for those that have not within the steps, and when.

    Chains that have arrived are not followed any further.
    """
    arrived = np.full(len(start), -1, np.int64)
    times = np.full(len(start), np.nan)
    alive, done, state = np.arange(len(start)), 0, "fresh"
    here: Any = start
    elapsed = np.zeros(len(start))
    while len(alive) and done < steps:
        count = min(max(done, FIRST_STEPS), steps - done)
        found: xr.Dataset = simulate(
            potential, integrator, steps=count, start=here, chains=len(alive), state=state,  # type: ignore[arg-type]
            record=Record(count, {"energy": None, "cores": cores}), progress=False, **run,
        )  # fmt: skip
        core, since = found.cores_first_core.to_numpy(), found.cores_first_time.to_numpy()
        arrived[alive], times[alive] = core, np.where(core >= 0, elapsed[alive] + since, np.nan)
        elapsed[alive] = found.last_time.to_numpy()
        left = np.flatnonzero(core < 0)
        here, alive, done, state = found.isel(chain=left), alive[left], done + count, "keep"
        run = {key: value for key, value in run.items() if key != "momentum"}
    return arrived, times
