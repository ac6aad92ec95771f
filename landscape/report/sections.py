"""What a report says of a run, a path, a minimum, or the result of a probe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import rich.table
import xarray as xr

from landscape.cli.estimates import estimate_tables, pivot_table, summary_table
from landscape.cli.plotting import plot_places
from landscape.common.text import measured
from landscape.errors import ConfigError, LandscapeError, StorageError
from landscape.probes import confinement, fluctuations
from landscape.report.figures import picture, pictures
from landscape.report.page import Badge, Block, Code, Facts, Note, Section, Table
from landscape.spec.toml_text import to_toml
from landscape.statistics import standard_error
from landscape.storage.files import read_spec

__all__ = ["facts_of", "section_of", "specification_of", "table_of", "tables_of"]

LONGEST = 100  # rows of a table
FEWEST_DRAWS = 50  # for a distribution and correlation times
ELSEWHERE = ("title", "failures", "certificate", "spec", "layout", "references", "Conventions", "run_spec")
CHECKS = ("equipartition", "configurational_temperature", "dt_bias")


def section_of(name: str, dataset: xr.Dataset) -> Section:
    """The section of a stored Dataset; `name` is its file's."""
    blocks: list[Block] = [facts_of(dataset)]
    recorded = {key for key, one in dataset.data_vars.items() if {"chain", "draw"} <= set(one.dims)}
    if "last_position" in dataset or recorded & {"energy", "position"}:
        blocks += _of_run(dataset)
    elif "gradient_norm" in dataset and "converged" in dataset:
        blocks += _of_minimum(dataset)
    elif "pivots" in dataset:
        blocks += [
            table_of("The path", pivot_table(dataset)),
            picture("Energy along the path.", partial(confinement.plot_along_path, dataset)),
        ]
    else:
        blocks += [*tables_of("Results", dataset.drop_dims("draw", errors="ignore")), *pictures(dataset)]
    blocks += _reproduction(name, dataset)
    title = dataset.attrs.get("title")
    return Section(f"{name}: {title}" if title else name, blocks)


def table_of(caption: str, table: rich.table.Table) -> Table:
    """A table of the command line as one of a page."""
    columns = zip(*(column.cells for column in table.columns), strict=True)
    rows: list[list[str | Badge]] = [[str(cell).replace("+-", "±") for cell in row] for row in columns]
    if len(rows) > LONGEST:
        rows = [*rows[:LONGEST], [f"and {len(rows) - LONGEST} more rows"]]
    return Table(caption, [str(column.header) for column in table.columns], rows)


def tables_of(caption: str, dataset: xr.Dataset) -> list[Block]:
    """Tables of all estimates."""
    found = [table_of(caption, table) for table in estimate_tables(dataset)]
    return [
        one if one.headings[0] == "quantity" else replace(one, caption=f"{caption}, by {one.headings[0]}")
        for one in found
    ]


def facts_of(dataset: xr.Dataset) -> Facts:
    """What the attributes say, sizes and temperatures."""
    shown = {key: str(value) for key, value in dataset.attrs.items() if key not in ELSEWHERE}
    shown["sizes"] = ", ".join(f"{dim} {size}" for dim, size in dataset.sizes.items())
    if "temperature" in dataset.coords and dataset.temperature.size:
        low, high = float(dataset.temperature.min()), float(dataset.temperature.max())
        shown["temperature"] = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    order = ("temperature", "sizes", "seed", "status", "backend", "dtype", "source", "history")
    names = sorted(shown, key=lambda key: order.index(key) if key in order else len(order))
    return Facts([(name.replace("_", " "), shown[name]) for name in names])


# -- runs -------------------------------------------------------------------------------------------------------------


def _of_run(dataset: xr.Dataset) -> list[Block]:
    blocks = _certificate(dataset)
    if "energy" in dataset and {"chain", "draw"} <= set(dataset.energy.dims) and dataset.sizes["draw"]:
        blocks += _attempt("fluctuations of the energy", lambda: _energy(dataset))
    named = "coordinate" in dataset.coords
    if named and "position" in dataset and {"draw", "coordinate"} <= set(dataset.position.dims):
        blocks.append(picture("Where the first coordinates went.", partial(plot_places, dataset.position)))
    if "arc_length" in dataset and "projection" in dataset.dims:
        blocks += _attempt("drift along the path", lambda: _projected(dataset))
    if "exit_time" in dataset:
        blocks.append(_exits(dataset))
    others = [name for name in dataset.data_vars if f"{name}_stderr" in dataset and name not in CHECKS]
    if others:
        both = [one for name in others for one in (name, f"{name}_stderr")]
        blocks += tables_of("Summed up during the run", dataset[both])
    return blocks


def _attempt(what: str, blocks: Callable[[], Iterable[Block]]) -> list[Block]:
    """The blocks, or why this run has none."""
    try:
        return list(blocks())
    except LandscapeError as error:
        return [Note(f"No {what}: {error}")]


def _certificate(dataset: xr.Dataset) -> list[Block]:
    verdict = str(dataset.attrs.get("certificate", ""))
    if not verdict:
        return []
    word, _, why = verdict.partition(": ")
    tone = {"passed": "good", "failed": "bad"}.get(word, "open")
    checks = dataset[[name for check in CHECKS for name in (check, f"{check}_stderr") if name in dataset]]
    return [
        Note(why or "it samples the law it is meant to", Badge(f"Certificate: {word}", tone)),
        *tables_of("Certificate", checks),
    ]


def _energy(dataset: xr.Dataset) -> Iterable[Block]:
    energy = dataset.energy.load()
    yield picture(
        "Energy against time, one chain of each temperature.", partial(fluctuations.plot_energy_trace, energy)
    )
    if energy.sizes["draw"] < FEWEST_DRAWS:
        yield Note(f"Fewer than {FEWEST_DRAWS} draws: no distribution and no correlation times.")
        return
    by = "temperature" if "temperature" in energy.coords and float(energy.temperature.min()) > 0 else "chain"
    summary = fluctuations.summary(energy, by=by)
    yield table_of(f"Fluctuations of the energy by {by}", summary_table(summary))
    yield picture(
        "Distribution of the energy, and the Gamma law fitted to it.",
        partial(fluctuations.plot_energy_distribution, energy, summary),
    )
    if by == "temperature" and summary.sizes["temperature"] > 1:
        yield from pictures(summary)
        yield from _attempt("exponents of the temperature", lambda: _scan(summary))


def _scan(summary: xr.Dataset) -> Iterable[Block]:
    scan = fluctuations.temperature_scan(summary)
    yield from tables_of("Temperature scan", scan)
    yield from pictures(scan)


def _projected(dataset: xr.Dataset) -> Iterable[Block]:
    for found in (confinement.drift(dataset), confinement.relaxation(dataset)):
        yield from tables_of(str(found.attrs.get("title", "Along the path")), found)
        yield from pictures(found)


def _exits(dataset: xr.Dataset) -> Facts:
    times = dataset.exit_time.values
    left = times[np.isfinite(times)]
    mean = measured(float(left.mean()), float(standard_error(left))).replace("+-", "±") if left.size else "-"
    return Facts([("chains that left", f"{left.size} of {times.size}"), ("mean exit time of these", mean)])


def _of_minimum(dataset: xr.Dataset) -> list[Block]:
    names = ("energy", "gradient_norm")
    pairs = [(str(dataset[name].attrs.get("long_name", name)), f"{float(dataset[name]):.6g}") for name in names]
    return [Facts([*pairs, ("converged", "yes" if bool(dataset.converged) else "no")])]


# -- how to make it again ---------------------------------------------------------------------------------------------


def specification_of(spec: Mapping[str, Any], caption: str) -> list[Block]:
    """The specification as the text of a file, and what of it plain data cannot say."""
    try:
        code = Code(caption, to_toml(spec))
    except ConfigError:
        code = Code(f"{caption} (JSON)", json.dumps(spec, indent=1, sort_keys=True))
    objects = ", ".join(sorted(set(_python_objects(spec))))
    return [code, Note(f"Given from Python, and not to be had from plain data: {objects}.")] if objects else [code]


def _reproduction(name: str, dataset: xr.Dataset) -> list[Block]:
    """The specification and the command that takes it."""
    stem = name.rpartition("/")[2].removesuffix(".nc")
    try:
        blocks = specification_of(read_spec(dataset), f"Specification: {stem}.toml")
    except StorageError:  # the result of a probe
        return []
    if len(blocks) == 1:
        blocks.append(Code("How to make it again", f"landscape simulate {stem}.toml -o {stem}.nc"))
    return blocks


def _python_objects(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if value.get("kind") == "python":
            yield str(value.get("name"))
        if value.get("kind") in ("run", "given") and len(value) == 1:
            yield "the start"
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _python_objects(one)
