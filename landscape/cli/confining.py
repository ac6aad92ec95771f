"""`landscape probe confinement`: curvature along a stored path, or the drift of a run projected onto one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

from landscape.building import build_potential
from landscape.cli.console import console, measured, no_overwrite
from landscape.errors import ConfigError
from landscape.flags import estimate, remarks
from landscape.opening import open as open_run
from landscape.probes import confinement
from landscape.progress import progress_bar
from landscape.storage.files import read_spec, save

__all__ = ["path_table", "probe_confinement"]


def probe_confinement(
    path: Path, output: Path | None, quantities: list[str], *, between: int, temperature: float | None,
    labels: str | None, epsilon: float, bins: int, seed: int, force: bool,
) -> None:  # fmt: skip
    """Measure what a path or a projected run says of confinement; print tables and store the result."""
    target = no_overwrite(output or path.with_suffix(".confinement.nc"), force=force)
    with open_run(path) as opened:
        dataset = opened.load()
    if "pivots" in dataset:
        found = _of_path(dataset, quantities, between, temperature, labels, epsilon, seed)
    elif "arc_length" in dataset and "projection" in dataset.dims:
        found = _of_run(dataset, bins)
    else:
        raise ConfigError(
            f"{str(path)!r} is neither a path nor a run projected onto one: give what `landscape connect` wrote, or a "
            "run with the constraint ProjectOntoPath"
        )
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _of_path(
    dataset: xr.Dataset, quantities: list[str], between: int, temperature: float | None, labels: str | None,
    epsilon: float, seed: int,
) -> xr.Dataset:  # fmt: skip
    names = quantities or ["energy", "largest_eigenvalue", "trace"]
    if ("fisher_trace" in names) != (labels is not None):
        raise ConfigError(
            '--labels "model", "sampled" or "empirical" has to be chosen for fisher_trace, and only for it'
        )
    potential = build_potential(read_spec(dataset)["potential"])
    settings: dict[str, Any] = {"fisher_trace": {"labels": labels}} if labels else {}
    found = xr.Dataset()
    with progress_bar(len(names), "along the path") as report:
        for done, name in enumerate(names, start=1):
            one = confinement.along_path(
                potential, dataset, [name], between=between, epsilon=epsilon, settings=settings, seed=seed
            )
            found = found.assign_coords(one.coords).assign(one.data_vars).assign_attrs(one.attrs)
            report(done)
    console.print(path_table(found))
    for name in names:
        if name in found and found[name].dims == ("pivot",):
            line = confinement.instability(found[name])
            rise, ratio = line.difference.item(), line.ratio.item()
            console.print(f"{name}: maximum - mean of the ends {rise:.4g}, maximum/minimum {ratio:.4g}")
    if temperature is not None:
        barriers = confinement.barriers(found, temperature)
        console.print(barrier_table(barriers))
        found = found.assign_coords(end=barriers.end).assign(barriers.data_vars).assign_attrs(noise=barriers.noise)
    return found


def _of_run(dataset: xr.Dataset, bins: int) -> xr.Dataset:
    drift = confinement.drift(dataset, bins)
    relaxation = confinement.relaxation(dataset)
    table = Table("temperature", box=None, header_style="bold", pad_edge=False)
    for heading in ("arc length", "velocity", "diffusion", *([""] if remarks(drift) else [])):
        table.add_column(heading, no_wrap=True)
    for one in (drift.isel(temperature=i, arc_length=j) for i, j in np.ndindex(drift.velocity.shape)):
        cells = (measured(float(one[name]), float(one[f"{name}_stderr"])) for name in ("velocity", "diffusion"))
        against = [", ".join(remarks(one))] if remarks(drift) else []
        table.add_row(f"{float(one.temperature):.3g}", f"{float(one.arc_length):.4g}", *cells, *against)
    console.print(table)
    for i in range(relaxation.sizes["temperature"]):
        one = relaxation.isel(temperature=i)
        if bool(one.reached):
            time = estimate(one, "relaxation_time")
            console.print(
                f"T = {float(one.temperature):.3g}: distance from {float(one.target):.4g} falls by e in {time}"
            )
        else:
            console.print(f"T = {float(one.temperature):.3g}: distance from {float(one.target):.4g} did not fall by e")
    stuck = float(dataset.at_vertex.mean()) if "at_vertex" in dataset else 0.0
    console.print(f"projections that ended exactly on a vertex: {100 * stuck:.3g} %")
    return drift.assign_coords(time=relaxation.time).assign(relaxation.data_vars)


def path_table(found: xr.Dataset) -> Table:
    """One row per point of the path, with errors where there are some."""
    names = [str(name) for name, values in found.data_vars.items() if values.dims == ("pivot",)]
    names = [name for name in names if not name.endswith(("_stderr", "_residual", "_converged")) and name != "is_pivot"]
    table = Table("pivot", "arc length", box=None, header_style="bold", pad_edge=False)
    flagged = bool(remarks(found, of=names))
    for name in [*names, *([""] if flagged else [])]:
        table.add_column(name, no_wrap=True)
    for i in range(found.sizes["pivot"]):
        one = found.isel(pivot=i)
        errors = [float(one[f"{name}_stderr"]) if f"{name}_stderr" in one else np.nan for name in names]
        cells = [measured(float(one[name]), error) for name, error in zip(names, errors, strict=True)]
        against = [", ".join(remarks(one, of=names))] if flagged else []
        table.add_row(f"{float(one.pivot):g}", f"{float(one.arc_length):.4g}", *cells, *against)
    return table


def barrier_table(found: xr.Dataset) -> Table:
    """Energetic and entropic barriers from both ends."""
    table = Table("seen from", box=None, header_style="bold", pad_edge=False)
    for name in ("energetic", "entropic", "total"):
        table.add_column(f"{name} barrier", no_wrap=True)
    for end in found.end.values:
        one = found.sel(end=end)
        cells = [estimate(one, name) for name in ("energetic", "entropic", "total")]
        table.add_row(str(end), *cells)
    return table
