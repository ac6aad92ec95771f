"""All that going on with a run needs, to the bit: whole numbers, and arrays in groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray

from landscape.engine.base import State
from landscape.engine.driver import Driver
from landscape.errors import CheckpointError

__all__ = ["Arrays", "capture", "encode", "read_arrays", "restore"]

Arrays: TypeAlias = dict[str, NDArray[Any]]


def capture(driver: Driver) -> tuple[dict[str, Any], Arrays]:
    """Where a driver is: numbers for JSON, and arrays by ``group/name``."""
    state = driver.engine.state
    groups: dict[str, Mapping[str, Any]] = {
        "": {
            "position": state.position, "time": state.time, "start": driver.start, "first_time": driver.first_time,
            "dropped_step": driver.dropped_step,
        },
        "memory": state.memory,
    }  # fmt: skip
    groups |= {f"series/{series.dim}": series.held for series in driver.series}
    groups |= {f"observer/{number}": one.arrays() for number, one in driver.accumulators.items()}
    groups |= {f"intervention/{number}": one.arrays() for number, one in enumerate(driver.interventions)}
    arrays = {f"{group}/{name}": _array(value) for group, table in groups.items() for name, value in table.items()}
    numbers = {
        "step": state.step,
        "first_step": driver.first_step,
        "series": {series.dim: [series.first, series.count, list(series.held)] for series in driver.series},
        "snapshot_at": driver.snapshot_at[: driver.snapshots.count].tolist(),
        "observers": {str(number): one.width for number, one in driver.accumulators.items()},
    }
    return numbers, arrays


def restore(driver: Driver, numbers: Mapping[str, Any], arrays: Arrays) -> None:
    """Put a driver where `capture` found another one of the same run.

    Raises
    ------
    KeyError, IndexError, ValueError, TypeError
        If they do not fit.
    CheckpointError
        If the run has its snapshots at other steps.
    """
    groups, engine = _grouped(arrays), driver.engine
    own, memory = groups[""], groups.get("memory", {})
    for name in {"winding"} & (set(engine.state.memory) - set(memory)):  # older runs did not count
        memory = memory | {name: np.full(tuple(engine.state.memory[name].shape), np.nan)}
    if set(memory) != set(engine.state.memory):
        raise ValueError(f"its memory is {sorted(memory)}, not {sorted(engine.state.memory)}")
    engine.state = State(
        _like(own["position"], engine.state.position, "position"),
        {name: _like(memory[name], value, name) for name, value in engine.state.memory.items()},
        int(numbers["step"]),
        own["time"],
    )
    engine.replaced()
    driver.first_step, driver.first_time = int(numbers["first_step"]), own["first_time"]
    driver.start, driver.dropped_step = _like(own["start"], driver.start, "start"), own["dropped_step"]
    for series in driver.series:
        first, count, names = numbers["series"][series.dim]
        held = groups.get(f"series/{series.dim}", {})
        series.load(int(first), int(count), {name: held[name] for name in names})
    for number, width in numbers["observers"].items():
        accumulator = driver.observers[int(number)][1].accumulator(len(driver.start), int(width))
        accumulator.load(groups[f"observer/{number}"])
        driver.accumulators[int(number)] = accumulator
    for number, one in enumerate(driver.interventions):
        one.load(groups[f"intervention/{number}"])
    due = driver.snapshot_at[driver.snapshot_at <= driver.done].tolist()
    if due != list(numbers["snapshot_at"]):
        raise CheckpointError(
            f"the snapshots of a run of {driver.steps} steps lie at other steps than those that were taken: give the "
            "former number of steps, or begin anew"
        )


def encode(arrays: Arrays) -> bytes:
    """As safetensors."""
    return safetensors.numpy.save(arrays)


def read_arrays(content: bytes, path: Path) -> Arrays:
    """The arrays of a checkpoint, which may be written to.

    Raises
    ------
    CheckpointError
        If it is none.
    """
    try:
        loaded = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{str(path)!r} is no checkpoint: {error}") from error
    return {name: array.copy() for name, array in loaded.items()}


def _array(value: Any) -> NDArray[Any]:
    array = value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return np.ascontiguousarray(array)


def _grouped(arrays: Arrays) -> dict[str, Arrays]:
    groups: dict[str, Arrays] = {}
    for key, array in arrays.items():
        group, _, name = key.rpartition("/")
        groups.setdefault(group, {})[name] = array
    return groups


def _like(array: NDArray[Any], tensor: torch.Tensor, name: str) -> torch.Tensor:
    found = torch.from_numpy(array)
    if found.dtype != tensor.dtype or (found.ndim, found.shape[0]) != (tensor.ndim, tensor.shape[0]):
        raise ValueError(f"{name} is {found.dtype} {tuple(found.shape)}, not {tensor.dtype} {tuple(tensor.shape)}")
    if found.shape != tensor.shape and tensor.numel():  # what has no elements yet may come in any length
        raise ValueError(f"{name} has the shape {tuple(found.shape)}, not {tuple(tensor.shape)}")
    return found.to(tensor.device)
