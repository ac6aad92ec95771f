"""What a report says of a sweep: its table of points, each with its energy, and the points that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.cli.estimates import MOST_ROWS
from landscape.common.flags import flags
from landscape.errors import LandscapeError
from landscape.probes import fluctuations
from landscape.report.figures import pictures
from landscape.report.page import Badge, Block, Code, Note, Section, Table
from landscape.report.sections import facts_of, specification_of, tables_of
from landscape.storage.files import read_spec

__all__ = ["SHOWN", "energies_of_points", "sweep_section"]

SHOWN = ("mean", "variance", "heat_capacity", "autocorrelation_time", "effective_sample_size")


def sweep_section(name: str, dataset: xr.Dataset) -> Section:
    """The section of a sweep as `landscape.workflows.points.results.open_sweep` returns it."""
    done = int((~dataset.failed).sum())
    blocks: list[Block] = [facts_of(dataset), Note(f"{done} of {dataset.failed.size} points have a result.")]
    blocks += _failures(str(dataset.attrs.get("failures", "[]")))
    if "energy" in dataset and {"chain", "draw"} <= set(dataset.energy.dims):
        found = energies_of_points(dataset)
        if "mean" in found:
            shown = [key for one in SHOWN for key in (one, f"{one}_stderr")]
            blocks += tables_of("Energy", found[[*shown, *flags(found)]])
        if found.sizes and found["mean"].dims == ("temperature",):
            blocks += pictures(found)
    swept = {one.attrs["key"]: one.values.tolist() for one in dataset.coords.values() if "key" in one.attrs}
    stem = name.rpartition("/")[2]
    again = Code("How to make it again", f"landscape sweep {stem}.toml -o {stem}")
    blocks += [*specification_of(read_spec(dataset) | {"over": swept}, f"Specification: {stem}.toml"), again]
    return Section(f"{name}: {dataset.attrs.get('title', 'sweep')}", blocks)


def energies_of_points(dataset: xr.Dataset) -> xr.Dataset:
    """Fluctuations of the energy on the axes of the sweep, the chains of a point pooled; missing without a result."""
    axes, shape = dataset.failed.dims, dataset.failed.shape
    coordinates = {str(name): one for name, one in dataset.coords.items() if one.dims and set(one.dims) <= set(axes)}
    found: dict[str, NDArray[Any]] = {}
    for index in list(np.ndindex(shape))[:MOST_ROWS]:
        for name, variable in _at(dataset.isel(dict(zip(axes, index, strict=True)))).items():
            missing = np.nan if variable.dtype.kind == "f" else 0
            found.setdefault(str(name), np.full(shape, missing, variable.dtype))[index] = variable.item()
    return xr.Dataset({name: (axes, values) for name, values in found.items()}, coordinates)


def _at(point: xr.Dataset) -> xr.Dataset:
    """The summary of one point; empty where there is none."""
    energy = point.energy.drop_vars("temperature", errors="ignore").load()
    if "time" in point:
        energy = energy.assign_coords(time=point["time"])
    heat = np.broadcast_to(point["temperature"], energy.sizes["chain"]) if "temperature" in point else np.zeros(1)
    try:
        found = (
            fluctuations.summary(energy, heat, by="temperature") if (heat > 0).all() else fluctuations.summary(energy)
        )
    except LandscapeError:
        return xr.Dataset()
    return found.isel({str(found["mean"].dims[0]): 0}, drop=True)


def _failures(text: str) -> Iterator[Block]:
    listed = json.loads(text)
    if listed:
        headings = list(dict.fromkeys(key for one in listed for key in one))
        rows: list[list[str | Badge]] = [[str(one.get(key, "")) for key in headings] for one in listed]
        yield Note(f"{len(listed)} points", Badge("Failed:", "bad"))
        yield Table("Points that failed", headings, rows)
