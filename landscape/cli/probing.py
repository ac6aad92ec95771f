"""`landscape probe`: measurements on a stored run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

from landscape.building import build_potential
from landscape.cli.console import console, measured, no_overwrite
from landscape.cli.estimates import estimate_tables
from landscape.errors import ConfigError
from landscape.flags import estimate, remarks
from landscape.opening import open as open_run
from landscape.probes import curvature, fluctuations
from landscape.storage.files import read_spec, save

__all__ = ["curvature_table", "probe_curvature", "probe_diffusion", "probe_fluctuations", "summary_table"]

_CURVATURES = {
    # quantity: (variable, its error)
    "eigenvalues": ("eigenvalue", "eigenvalue_stderr"),
    "largest_eigenvalue": ("largest", "largest_residual"),
    "extreme_eigenvalues": ("smallest", "smallest_residual"),
    "top_eigenpairs": ("eigenvalue", "eigenvalue_stderr"),
    "trace": ("trace", "trace_stderr"),
    "fisher_trace": ("fisher_trace", "fisher_trace_stderr"),
    "diagonal": ("diagonal", "diagonal_stderr"),
    "sharpness": ("maximum", "maximum_stderr"),
    "score_singular_values": ("singular_value", "singular_value_stderr"),
}

_COLUMNS = {
    # heading: (variable, power of the temperature it is divided by)
    "mean/T": ("mean", 1),
    "variance/T^2": ("variance", 2),
    "alpha": ("gamma_shape", 0),
    "beta T": ("rate_times_temperature", 0),
    "half time": ("half_time", 0),
    "N_eff": ("effective_sample_size", 0),
}


def probe_diffusion(path: Path, output: Path | None, coordinates: list[str] | None, by: str, *, force: bool) -> None:
    """Print mean velocity and diffusion of the coordinates; store them, with displacements against lag, if asked to."""
    target = None if output is None else no_overwrite(output, force=force)
    with open_run(path) as dataset:
        one = coordinates[0] if coordinates and len(coordinates) == 1 else coordinates
        found = fluctuations.diffusion(dataset.load(), one, by=by)
    curves = [name for name in found.data_vars if "lag" in found[name].dims]
    for table in estimate_tables(found.drop_vars([*curves, "lag_time", "lag"])):
        console.print(table)
    if target is not None:
        save(found, target)
        console.print(f"wrote [bold]{target}[/bold]")


def probe_fluctuations(
    path: Path, output: Path | None, by: str, *, force: bool, quantity: str = "summary",
    coordinates: list[str] | None = None,
) -> None:  # fmt: skip
    """Print the summary (and the exponents where there are enough temperatures); store it if asked to."""
    if quantity != "summary":
        known = '"summary", "diffusion", "current" or "entropy_production"'
        raise ConfigError(f"--quantity must be {known}, got {quantity!r}")
    if coordinates:
        raise ConfigError("--coordinate says whose diffusion or current is wanted: give it with these quantities only")
    if by not in ("temperature", "chain"):
        raise ConfigError(f'--by must be "temperature" or "chain", got {by!r}')
    target = None if output is None else no_overwrite(output, force=force)
    with open_run(path) as dataset:
        if "energy" not in dataset:
            raise ConfigError(f"{str(path)!r} has no energy: record it, or probe another run")
        summary = fluctuations.summary(dataset.energy.load(), by=by)
    console.print(summary_table(summary))
    if by == "temperature" and summary.sizes["temperature"] > 1:
        try:
            scan = fluctuations.temperature_scan(summary)
        except ConfigError as error:
            console.print(f"exponents were not fitted: {error}")
        else:
            console.print(scan_table(scan))
    if target is not None:
        save(summary, target)
        console.print(f"wrote [bold]{target}[/bold]")


def summary_table(summary: xr.Dataset) -> Table:
    """One row per chain or temperature; energies in units of the temperature where there is one."""
    (row,) = summary["mean"].dims
    thermal = row == "temperature"
    headings = [name if thermal else name.partition("/")[0] for name in _COLUMNS]
    table = Table(str(row), box=None, header_style="bold", pad_edge=False)
    for heading in [*headings, ""]:
        table.add_column(heading, no_wrap=True)
    for i in range(summary.sizes[row]):
        one = summary.isel({row: i})
        cells = []
        for name, power in _COLUMNS.values():
            unit = float(one[row]) ** power if thermal else 1.0
            cells.append(measured(float(one[name]) / unit, float(one[f"{name}_stderr"]) / unit))
        table.add_row(f"{float(one[row]):.3g}", *cells, ", ".join(remarks(one)))
    return table


def scan_table(scan: xr.Dataset) -> Table:
    """Exponents of the temperature scan."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("quantity", "measured"):
        table.add_column(heading, no_wrap=True)
    for name, variable in scan.data_vars.items():
        if f"{name}_stderr" in scan and variable.ndim == 0:
            label = variable.attrs.get("long_name", str(name))
            table.add_row(label, estimate(scan, str(name)))
    return table


def probe_curvature(
    path: Path,
    output: Path | None,
    quantity: str,
    *,
    labels: str | None,
    snapshots: int | None,
    seed: int,
    force: bool,
    of: str | None = None,
    radius: float | None = None,
    adaptive: bool = False,
    k: int | None = None,
) -> None:
    """Measure the curvature at the snapshots of a run; print a summary and store the result."""
    if quantity not in _CURVATURES:
        raise ConfigError(f"--quantity must be one of {sorted(_CURVATURES)}, got {quantity!r}")
    if of is not None and quantity != "diagonal":
        raise ConfigError("--of is the matrix whose diagonal is taken: give it with --quantity diagonal only")
    if (quantity == "fisher_trace" or of == "fisher") != (labels is not None):
        raise ConfigError(
            '--labels "model", "sampled" or "empirical" has to be chosen for fisher_trace, or for a diagonal --of '
            "fisher, and only for them"
        )
    if k is not None and quantity != "top_eigenpairs":
        raise ConfigError("--pairs is a number of eigenpairs: give it with --quantity top_eigenpairs only")
    if (quantity == "sharpness") != (radius is not None) or (adaptive and quantity != "sharpness"):
        raise ConfigError("--radius has to be chosen for sharpness, and only for it; --adaptive belongs to it too")
    target = no_overwrite(output or path.with_suffix(f".{quantity}.nc"), force=force)
    with open_run(path) as dataset:
        positions = _positions(dataset, path, snapshots)
        potential = build_potential(read_spec(dataset)["potential"])
    settings: dict[str, Any] = {"labels": labels} if labels else {}
    if quantity not in ("eigenvalues", "score_singular_values"):
        settings["seed"] = seed
    settings |= {"of": of} if of else {}
    settings |= {"k": k} if k is not None else {}
    settings |= {"radius": radius, "adaptive": adaptive} if radius is not None else {}
    found: xr.Dataset = getattr(curvature, quantity)(potential, positions, **settings)
    console.print(curvature_table(found, *_CURVATURES[quantity]))
    if quantity == "eigenvalues":
        _print_scaling(found)
    console.print(f"cost: {found.attrs['cost']}")
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _positions(dataset: xr.Dataset, path: Path, snapshots: int | None) -> xr.DataArray:
    """Snapshots of a run, evenly thinned to so many; of a run without, where its chains ended."""
    name = next((name for name in ("snapshot", "last_position", "position") if name in dataset), None)
    if name is None:
        raise ConfigError(f"{str(path)!r} has no positions: record snapshots (record.snapshots), or probe another run")
    positions = dataset[name]
    if snapshots is not None and "snapshot" in positions.dims:
        count = positions.sizes["snapshot"]
        positions = positions.isel(
            snapshot=np.unique(np.linspace(0, count - 1, min(snapshots, count)).round().astype(int))
        )
    return positions.load()


def curvature_table(found: xr.Dataset, name: str, error: str) -> Table:
    """One row per chain (or entry of the first dim): median over all else, with its median error; ends of spectra."""
    values = found[name]
    dims = [str(dim) for dim in values.dims]
    spectrum = name in dims or "coordinate" in dims
    rows = dims[0] if dims and dims[0] not in (name, "coordinate") else None
    table = Table(rows or "", box=None, header_style="bold", pad_edge=False)
    thermal = rows is not None and "temperature" in found.coords and found.temperature.dims == (rows,)
    flagged = bool(remarks(found, of=[name]))
    for heading in (
        *(["temperature"] if thermal else []),
        *(["smallest", "median", "largest"] if spectrum else [name]),
        *([""] if flagged else []),
    ):
        table.add_column(heading, no_wrap=True)
    for i in range(found.sizes[rows] if rows else 1):
        one = found.isel({rows: i}) if rows else found
        cells = [f"{float(one.temperature):.3g}"] if thermal else []
        numbers = one[name].to_numpy()
        if spectrum:
            ends = (np.nanmin(numbers), np.nanmedian(numbers), np.nanmax(numbers)) if np.isfinite(numbers).any() else ()
            cells += [f"{value:.4g}" for value in ends]
        else:
            cells.append(measured(float(np.median(numbers)), float(np.median(one[error].to_numpy()))))
        table.add_row(str(i), *cells, *([", ".join(remarks(one, of=[name]))] if flagged else []))
    return table


def _print_scaling(found: xr.Dataset) -> None:
    """Exponent of the median eigenvalue and the collapse, where there are temperatures."""
    try:
        scaling = curvature.temperature_scaling(found)
    except ConfigError as error:
        console.print(f"no exponent: {error}")
        return
    console.print(f"median positive eigenvalue ~ T^p, p = {estimate(scaling, 'exponent')}")
    console.print(
        f"largest distance between distributions at different T: {float(scaling.scaled_distance):.3f} of lambda/T, "
        f"{float(scaling.distance):.3f} of lambda"
    )
