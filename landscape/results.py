"""A run as a labelled Dataset with CF attributes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.engines.base import Plan, State
from landscape.potentials.base import Potential
from landscape.record import OBSERVABLES

__all__ = ["build_dataset", "package_version"]

REFERENCES = (
    "Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural "
    "Networks; Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network "
    "Landscape with Thermal-Like Noise"
)


def package_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("landscape-langevin")
    except PackageNotFoundError:
        return "0+unknown"


def global_attributes(title: str, spec: dict[str, Any]) -> dict[str, Any]:
    """CF-1.11 attributes that every stored result carries."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "Conventions": "CF-1.11",
        "title": title,
        "source": f"landscape {package_version()}",
        "history": f"{now} {spec.get('task', 'simulate')}",
        "references": REFERENCES,
        "spec": json.dumps(spec, sort_keys=True),
    }


def build_dataset(
    plan: Plan,
    state: State,
    recorded: dict[str, NDArray[Any]],
    *,
    steps: NDArray[np.int64],
    first_step: int,
    snapshots: tuple[NDArray[Any], NDArray[np.int64]] | None,
    spec: dict[str, Any],
    backend: str,
) -> xr.Dataset:
    """Assemble observables, final state and coordinates.

    Parameters
    ----------
    recorded : dict of arrays ``(chains, draws, ...)``
    steps : array of int, shape ``(draws,)``
        Number of steps made at each draw, counted from the very first.
    """
    potential = plan.potential
    variables: dict[str, Any] = {}
    for name, values in recorded.items():
        long_name, units = OBSERVABLES.get(name, (name.replace("_", " "), "1"))
        variables[name] = (_dims(name, values, potential), values, {"long_name": long_name, "units": units})
    last = {"last_position": state.position} | {f"last_{name}": value for name, value in state.memory.items()}
    for name, tensor in last.items():
        label = f"{name.removeprefix('last_').replace('_', ' ')} after the last step"
        variables[name] = (("chain", "coordinate"), tensor.cpu().numpy().copy(), {"long_name": label, "units": "1"})
    coordinates = _coordinates(plan, steps, first_step)
    if snapshots is not None:
        values, at = snapshots
        attributes = {"long_name": "position at selected steps", "units": "1"}
        variables["snapshot"] = (("chain", "snapshot", "coordinate"), values, attributes)
        coordinates["snapshot_step"] = ("snapshot", at, {"long_name": "steps made at the snapshot", "units": "1"})
    attributes = global_attributes(f"{type(plan.integrator).__name__} on {type(potential).__name__}", spec) | {
        "seed": str(plan.seed),
        "backend": backend,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "last_step": state.step,
    }
    layout = getattr(potential, "layout", None)
    if layout is not None:
        slots = [{"name": slot.name, "shape": slot.shape, "offset": slot.offset} for slot in layout]
        attributes["layout"] = json.dumps(slots)
    return xr.Dataset(variables, coordinates, attributes)


def _dims(name: str, values: NDArray[Any], potential: Potential) -> tuple[str, ...]:
    dims: tuple[str, ...] = ("chain", "draw")
    if name in ("position", "momentum"):
        return (*dims, "coordinate")
    if name == "sample_energies":
        return (*dims, "sample")
    return dims + tuple(f"{name}_dim_{i}" for i in range(values.ndim - 2))


def _coordinates(plan: Plan, steps: NDArray[np.int64], first_step: int) -> dict[str, Any]:
    elapsed = (steps - first_step).astype(float)
    uniform = bool(np.all(plan.step_size == plan.step_size[0]))
    name = {"dt": "dt", "lr": "learning rate"}["lr" if hasattr(plan.integrator, "lr") else "dt"]
    time_attributes = {"long_name": f"time: sum of {name} over the steps of this run", "units": "time"}
    coordinates: dict[str, Any] = {
        "chain": ("chain", np.arange(plan.chains), {"long_name": "chain", "units": "1"}),
        "draw": ("draw", np.arange(len(steps)), {"long_name": "draw", "units": "1"}),
        "step": ("draw", steps, {"long_name": "steps made", "units": "1"}),
        "temperature": ("chain", plan.temperature, {"long_name": "temperature (k_B = 1)", "units": "energy"}),
        "dt": ("chain", plan.step_size, {"long_name": name, "units": "time"}),
    }
    if uniform:
        coordinates["time"] = ("draw", elapsed * plan.step_size[0], time_attributes)
    else:
        coordinates["time"] = (("chain", "draw"), np.outer(plan.step_size, elapsed), time_attributes)
    if plan.potential.coordinates is not None:
        labels = np.array(plan.potential.coordinates, dtype=np.str_)
        coordinates["coordinate"] = ("coordinate", labels, {"long_name": "coordinate"})
    return coordinates
