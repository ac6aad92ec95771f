"""Many copies of states, run until each has reached a core."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.common.per_chain import length_of
from landscape.common.schedules import as_schedule
from landscape.dynamics.simulate import simulate
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.observers import CoreSets
from landscape.potentials.base import Potential
from landscape.recording.record import Record

__all__ = ["check_rule", "first_cores"]

FIRST_STEPS = 256  # of the first round; each next one is twice as long


def check_rule(integrator: Any) -> None:
    """Refuse what is no integrator, and one with a setting for each of a number of chains.

    Raises
    ------
    ConfigError
    """
    if not isinstance(integrator, Integrator):
        raise ConfigError(f"expected an Integrator such as BAOAB(dt=0.05, friction=1.0), got {integrator!r}")
    settings = {name: getattr(integrator, name, 0.0) for name in integrator.per_chain} | {"dt": integrator.step_size}
    for name, value in settings.items():
        if as_schedule(name, value) is None and length_of(name, value) is not None:
            raise ConfigError(f"all shots follow one rule, and {name} has {np.size(value)} values: give one")


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
