"""What a report of several runs says first: where they differ, and their numbers side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from landscape.cli.estimates import MOST_ROWS
from landscape.common.flags import flags
from landscape.common.text import measured
from landscape.errors import ConfigError, LandscapeError, StorageError
from landscape.probes import fluctuations
from landscape.report.figures import picture
from landscape.report.page import Badge, Block, Note, Section, Table
from landscape.report.sections import FEWEST_DRAWS, tables_of
from landscape.report.sweeps import SHOWN, energies_of_points
from landscape.storage.files import read_spec
from landscape.workflows.points.table import flatten
from landscape.workflows.specification import resolve

__all__ = ["comparison"]

MOST_CURVES, MOST_PICTURES = 8, 4
BINS = 60


def comparison(sources: Mapping[str, xr.Dataset]) -> Section:
    """The section that compares runs, sweeps and results by their names."""
    blocks = [*_settings(sources), *_energies(sources), *_estimates(sources)]
    curves = {name: one for name, one in sources.items() if _is_series(one) and one.sizes["draw"] >= FEWEST_DRAWS}
    if len(curves) > 1:
        chosen = dict(list(curves.items())[:MOST_CURVES])
        blocks.append(picture("Distributions of the energy, all chains of a run together.", partial(_draw, chosen)))
    return Section("Comparison", blocks)


def _is_series(dataset: xr.Dataset) -> bool:
    return "energy" in dataset and set(dataset["energy"].dims) == {"chain", "draw"} and dataset.sizes["draw"] > 0


# -- settings ---------------------------------------------------------------------------------------------------------


def _settings(sources: Mapping[str, xr.Dataset]) -> Iterator[Block]:
    """A row for each key of the specifications, or fact of the runs, that is not the same for all."""
    rows: list[list[str | Badge]] = []
    keys, facts = [_keys(one) for one in sources.values()], [_facts(one) for one in sources.values()]
    for told in (keys, facts):
        for key in dict.fromkeys(key for one in told for key in one):
            row = [one.get(key, "-") for one in told]
            if len(set(row)) > 1:
                rows.append([key, *row])
    if rows:
        yield Table("Where they differ", ["key", *sources], rows)
    elif any(keys):
        yield Note("The specifications agree in every key.")


def _keys(dataset: xr.Dataset) -> dict[str, str]:
    """The specification by dotted key, defaults filled in, and the lists of what a sweep varies."""
    try:
        spec = read_spec(dataset)
    except StorageError:  # the result of a probe
        return {}
    with suppress(ConfigError):  # of an earlier version, or another program
        spec = resolve(spec).model_dump(exclude_none=True, mode="json")
    swept = {one.attrs["key"]: one.values.tolist() for one in dataset.coords.values() if "key" in one.attrs}
    keys = flatten(spec) | swept
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in keys.items()}


def _facts(dataset: xr.Dataset) -> dict[str, str]:
    status = dataset.attrs.get("status", "complete")
    told = {"certificate": dataset.attrs.get("certificate"), "status": None if status == "complete" else status}
    return {key: str(value) for key, value in told.items() if value is not None}


# -- energies ---------------------------------------------------------------------------------------------------------


def _energies(sources: Mapping[str, xr.Dataset]) -> Iterator[Block]:
    """Fluctuations of the energy of every run and temperature, and how far the means are from those of the first."""
    found: list[xr.Dataset] = []
    for name, dataset in sources.items():
        try:
            rows = _rows(name, dataset)
        except LandscapeError as error:
            yield Note(f"No fluctuations of the energy of {name}: {error}")
        else:
            found += [rows] if rows is not None else []
    if not found:
        return
    columns = sorted(set.intersection(*(set(map(str, one.data_vars)) for one in found)))
    together = xr.concat([one[columns] for one in found], "run", coords="minimal", compat="override")
    shown = [name for name in SHOWN if name in together and bool(together[name].notnull().any())]
    both = [key for name in shown for key in (name, f"{name}_stderr")]
    yield from tables_of("Energy", together[[*both, *flags(together, shown)]])
    if len(found) > 1:
        differences = list(_differences(found))
        headings = ["run", "temperature", "mean energy less that of", "difference", "in standard errors"]
        if differences:
            yield Table("Mean energies, as of independent runs", headings, differences[:MOST_ROWS])


def _rows(name: str, dataset: xr.Dataset) -> xr.Dataset | None:
    """The summary of one source on the dimension ``run``; None of what has no energies."""
    if "failed" in dataset and "energy" in dataset:
        points = energies_of_points(dataset)
        if not points.data_vars:
            return None
        labels = [str(key) for key in points.coords if str(key) != "temperature"]
        flat = points.stack(run=list(points.dims), create_index=False)
        which = [", ".join(f"{key}={flat[key].values[i]}" for key in labels) for i in range(flat.sizes["run"])]
        found = flat.drop_vars(labels)
    elif _is_series(dataset):
        energy = dataset["energy"].load()
        thermal = "temperature" in energy.coords and bool((energy["temperature"] > 0).all())
        found = fluctuations.summary(energy, by="temperature" if thermal else "chain")
        (row,) = found["mean"].dims
        which = [""] * found.sizes[row] if thermal else [f"chain {one}" for one in found[row].values]
        found = found.rename_dims({row: "run"}).reset_index(row) if row in found.indexes else found
        found = found.rename({row: "run"}) if row in found.dims else found
    else:
        return None
    heat = found["temperature"].values if "temperature" in found.coords else np.nan
    heat = np.broadcast_to(np.asarray(heat, dtype=float), found.sizes["run"])
    found = found.drop_vars(list(found.coords))
    names = [f"{name} {text}".strip() for text in which]
    return found.assign_coords(run=("run", names), temperature=("run", heat))


def _differences(found: list[xr.Dataset]) -> Iterator[list[str | Badge]]:
    first, *others = found
    for one in others:
        for i, heat in enumerate(one["temperature"].values):
            same = np.flatnonzero(np.isclose(first["temperature"].values, heat, rtol=1e-9, atol=0.0))
            if same.size != 1:  # no partner, or several that differ in another key
                continue
            (j,) = same
            change = float(one["mean"][i] - first["mean"][j])
            error = float(np.hypot(one["mean_stderr"][i], first["mean_stderr"][j]))
            ratio = f"{change / error:+.1f}" if error > 0 else "-"
            number = measured(change, error).replace("+-", "±")
            yield [str(one["run"].values[i]), f"{heat:.4g}", str(first["run"].values[j]), number, ratio]


# -- results ----------------------------------------------------------------------------------------------------------


def _estimates(sources: Mapping[str, xr.Dataset]) -> Iterator[Block]:
    """What several results, or runs, have measured: side by side where the grid is the same, and as curves."""
    own = {name: one for name, one in sources.items() if "failed" not in one}
    names = [name for name in map(str, next(iter(own.values()), xr.Dataset()).data_vars) if _everywhere(name, own)]
    if len(own) < 2 or not names:
        return
    kept = [one for name in names for one in (name, f"{name}_stderr")]
    kept += [one for one in flags(next(iter(own.values())), names) if all(one in other for other in own.values())]
    with suppress(ValueError):  # where labels of the grids differ
        together = xr.concat([one[kept] for one in own.values()], "of", join="exact", combine_attrs="drop_conflicts")
        yield from tables_of("Estimates", together.assign_coords(of=list(own)).transpose(..., "of"))
    lines = [name for name in names if all(_is_line(one[name]) for one in own.values())]
    for name in lines[:MOST_PICTURES]:
        text = f"{name.replace('_', ' ').capitalize()} of each, with 95 % intervals."
        yield picture(text, partial(_draw_lines, name, dict(list(own.items())[:MOST_CURVES])))


def _everywhere(name: str, own: Mapping[str, xr.Dataset]) -> bool:
    """Whether all have an estimate of that name on the same dimensions, not of the chains of each."""
    if not all({name, f"{name}_stderr"} <= set(one.data_vars) for one in own.values()):
        return False
    dims = {one[name].dims for one in own.values()}
    return len(dims) == 1 and "chain" not in dims.pop()


def _is_line(values: xr.DataArray) -> bool:
    return (
        values.ndim == 1
        and values.size > 2
        and values.dims[0] in values.indexes
        and values[values.dims[0]].dtype.kind in "iuf"
    )


def _draw_lines(name: str, own: Mapping[str, xr.Dataset], ax: Any) -> None:
    for title, one in own.items():
        at = one[name].dims[0]
        ax.errorbar(one[at], one[name], 1.96 * one[f"{name}_stderr"], fmt=".-", lw=0.8, capsize=1.5, label=title)
        ax.set_xlabel(str(at))
    ax.set_ylabel(name.replace("_", " "))
    ax.legend(fontsize="x-small")


def _draw(curves: Mapping[str, xr.Dataset], ax: Any) -> None:
    values = {name: one["energy"].to_numpy().ravel() for name, one in curves.items()}
    values = {name: one[np.isfinite(one)] for name, one in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), BINS)
    for name, one in values.items():
        ax.hist(one, bins=edges, density=True, histtype="step", label=name)
    ax.set_xlabel("energy")
    ax.set_ylabel("probability density")
    ax.legend(fontsize="x-small")
