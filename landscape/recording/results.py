"""A run as a labelled Dataset with CF attributes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.common.provenance import global_attributes
from landscape.common.schedules import Schedule
from landscape.engine.driver import Driver
from landscape.recording.by_chain import ByChain
from landscape.recording.dissipation import SUMS
from landscape.recording.observables import OBSERVABLES

__all__ = ["build_dataset"]


def build_dataset(driver: Driver, spec: dict[str, Any], backend: str) -> xr.Dataset:
    """Assemble observables, observers' results, final state and coordinates of a run: of draws those in memory."""
    plan, state = driver.engine.plan, driver.engine.state
    potential = plan.potential
    end = state.time if isinstance(plan.step_size, Schedule) else driver.times(np.array([driver.done]))[0]
    variables: dict[str, Any] = {}
    wrapped = _wrapped(driver)
    for name, values in driver.draws.held.items():
        if name == "time":
            continue
        known = OBSERVABLES.get(name)
        named = (name.replace("_", " "), "1") if known is None else (known.long_name, known.units)
        attributes = dict(zip(("long_name", "units"), named, strict=True)) | (wrapped if name == "position" else {})
        variables[name] = (_dims(name, values), values, attributes)
    coordinates = _coordinates(driver)
    step_time = (end - driver.first_time) / max(driver.done, 1)
    if not isinstance(plan.step_size, Schedule):
        step_time = plan.integrator.time_per_step(plan.step_size)
    variables |= driver.results(lambda every: step_time * every)
    last = {"last_position": state.position} | {
        f"last_{name}": value for name, value in state.memory.items() if value.ndim == state.position.ndim
    }
    half_kicks = plan.integrator.half_kick(np.ones(1), np.ones(1), plan.settings)
    for name, tensor in last.items():
        label = f"{name.removeprefix('last_').replace('_', ' ')} after the last step"
        if name.removeprefix("last_") in half_kicks:
            label += ", before the second half of its kick"
        second = "coordinate" if tensor.is_floating_point() else f"{name.removeprefix('last_')}_byte"
        about = {"long_name": label, "units": "1"} | (wrapped if name == "last_position" else {})
        variables[name] = (("chain", second), tensor.cpu().numpy().copy(), about)
    about = {"long_name": "time after the last step", "units": "time"}
    variables["last_time"] = ("chain", end, about)
    variables |= _of_each_chain(driver)
    if driver.record.snapshots is not None:
        held = slice(driver.snapshots.first, driver.snapshots.count)
        about = {"long_name": "position at selected steps", "units": "1"} | wrapped
        variables["snapshot"] = (("chain", "snapshot", "coordinate"), driver.snapshots.held["snapshot"], about)
        about = {"long_name": "steps made at the snapshot", "units": "1"}
        coordinates["snapshot_step"] = ("snapshot", driver.snapshot_at[held] + driver.first_step, about)
    if not potential.conservative:
        driven = {"driven": "by forces that are the gradient of no energy"}
        variables = {name: (dims, values, about | driven) for name, (dims, values, about) in variables.items()}
    if plan.restraints is not None:
        biased = {"biased": "by restraints"}
        variables = {name: (dims, values, about | biased) for name, (dims, values, about) in variables.items()}
    attributes = global_attributes(f"{type(plan.integrator).__name__} on {type(potential).__name__}", spec) | {
        "seed": str(plan.seed),
        "backend": backend,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "last_step": state.step,
    }
    steps: dict[str, Any] = {}
    ratio = plan.exit_ratio(driver.steps)
    if ratio is not None:  # a step over the distance between absorbing boundaries, and how far it may go
        steps = {"exit_step_ratio": ratio, "exit_step_ratio_bound": plan.integrator.exit_ratio}
    layout = potential.layout
    if layout is not None:
        slots = [{"name": slot.name, "shape": slot.shape, "offset": slot.offset} for slot in layout]
        attributes["layout"] = json.dumps(slots)
    return ByChain(variables, coordinates, attributes | steps)


def _wrapped(driver: Driver) -> dict[str, str]:
    """The coordinates of which a position is known up to periods only."""
    plan = driver.engine.plan
    names = [plan.potential.coordinate_name(int(d)).replace(" ", "") for d in np.flatnonzero(plan.walls.periods)]
    return {"wrapped": " ".join(names)} if names else {}


def _of_each_chain(driver: Driver) -> dict[str, Any]:
    """Acceptance, exits and dropped chains."""
    memory = driver.engine.state.memory
    found: dict[str, Any] = {}
    if "accepted" in memory:
        about = {"long_name": "fraction of the proposals of this run that were accepted", "units": "1"}
        found["acceptance"] = ("chain", memory["accepted"].cpu().numpy() / max(driver.done, 1), about)
    for name, text in (("divergences", "steps whose trajectory diverged"), ("gradients", "gradients taken")):
        if name in memory:
            found[name] = ("chain", memory[name].cpu().numpy().copy(), {"long_name": text, "units": "1"})
    if "exit_wall" in memory:
        wall = memory["exit_wall"].cpu().numpy()
        exit_time = memory["exit_time"].cpu().numpy()
        plan = driver.engine.plan
        crossed = [plan.walls.exit_name(int(number), plan.potential) for number in np.abs(wall).astype(np.int64)]
        found["exit_time"] = ("chain", exit_time, {"long_name": "time of exit; NaN: stayed", "units": "time"})
        about = {"long_name": "wall of the exit: -1 low or below, 1 high or above, 0 stayed", "units": "1"}
        found["exit_side"] = ("chain", np.sign(wall).astype(np.int8), about)
        about = {"long_name": "coordinate of the exit; empty: stayed"}
        found["exit_coordinate"] = ("chain", np.array(crossed, dtype=np.str_), about)
    for name in SUMS:
        if name in memory:
            about = {
                "long_name": f"{OBSERVABLES[name].long_name}, after the last step",
                "units": OBSERVABLES[name].units,
            }
            found[f"last_{name}"] = ("chain", memory[name].cpu().numpy().copy(), about)
    if "work" in memory:
        about = {"long_name": "work after the last step", "units": "energy"}
        found["last_work"] = ("chain", memory["work"].cpu().numpy().copy(), about)
        about = {"long_name": "energy, springs and kinetic energy included, that heat counts from", "units": "energy"}
        found["start_energy"] = ("chain", memory["start_energy"].cpu().numpy().copy(), about)
    if (driver.dropped_step >= 0).any():
        about = {"long_name": "step after which the chain was not finite and was dropped; -1: never", "units": "1"}
        found["dropped_step"] = ("chain", driver.dropped_step, about)
    return found


def _dims(name: str, values: NDArray[Any]) -> tuple[str, ...]:
    known = OBSERVABLES[name].dim if name in OBSERVABLES else None
    own = (known,) if known is not None else tuple(f"{name}_dim_{i}" for i in range(values.ndim - 2))
    return ("chain", "draw", *own)


def _coordinates(driver: Driver) -> dict[str, Any]:
    plan, every = driver.engine.plan, driver.record.every
    draws = np.arange(driver.draws.first, driver.draws.count, dtype=np.int64)
    since = (draws + 1) * every
    scheduled = isinstance(plan.step_size, Schedule)
    if not scheduled:
        at_draws = driver.times(since)
    else:
        at_draws = driver.draws.held["time"].T if len(draws) else np.empty((0, plan.chains))
    made = since + driver.first_step
    name = "learning rate" if hasattr(plan.integrator, "lr") else "dt"
    coordinates: dict[str, Any] = {
        "chain": ("chain", np.arange(plan.chains), {"long_name": "chain", "units": "1"}),
        "draw": ("draw", draws, {"long_name": "draw", "units": "1"}),
        "step": ("draw", made, {"long_name": "steps made", "units": "1"}),
    }
    if plan.integrator.thermal and plan.integrator.thermal_noise.antithetic:
        about = {"long_name": "pair of chains with opposite noise", "units": "1"}
        coordinates["pair"] = ("chain", np.arange(plan.chains) // 2, about)
    about = {"long_name": "temperature (k_B = 1)", "units": "energy"}
    if isinstance(plan.temperature, Schedule):
        coordinates["temperature"] = (("chain", "draw"), plan.temperature.at(at_draws, plan.chains, step=made).T, about)
    else:
        coordinates["temperature"] = ("chain", plan.temperature, about)
    about = {"long_name": name, "units": "time"}
    if isinstance(plan.step_size, Schedule):
        coordinates["dt"] = (("chain", "draw"), plan.step_size.at(at_draws, plan.chains, step=made).T, about)
    else:
        coordinates["dt"] = ("chain", plan.step_size, about)
    about = {"long_name": f"time: sum of {name} over the steps", "units": "time"}
    if _equal_times(driver):
        coordinates["time"] = ("draw", at_draws[:, 0], about)
    else:
        coordinates["time"] = (("chain", "draw"), at_draws.T, about)
    if plan.potential.coordinates is not None:
        labels = np.array(plan.potential.coordinates, dtype=np.str_)
        coordinates["coordinate"] = ("coordinate", labels, {"long_name": "coordinate"})
    return coordinates


def _equal_times(driver: Driver) -> bool:
    """Whether all chains share one time."""
    size, start = driver.engine.plan.step_size, driver.first_time
    equal_steps = size.length() is None if isinstance(size, Schedule) else bool((size == size[0]).all())
    return equal_steps and bool((start == start[0]).all())
