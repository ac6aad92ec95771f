"""`landscape probe free-energy`: the profile of a stored run along one or two coordinates."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

from landscape.building import build_potential
from landscape.cli.console import console, measured, no_overwrite
from landscape.errors import ConfigError
from landscape.flags import remarks
from landscape.opening import open as open_run
from landscape.probes import free_energy
from landscape.storage.files import read_spec, save

__all__ = ["probe_free_energy", "profile_table"]

ROWS = 24  # of the table that is printed


def probe_free_energy(
    path: Path, output: Path | None, coordinates: list[str], *, temperature: float | None, bins: int, force: bool
) -> None:
    """Print and store the profile at one temperature, beside theory where the potential has a closed form."""
    target = no_overwrite(output or path.with_suffix(".free-energy.nc"), force=force)
    with open_run(path) as run:
        if "hills" in run:
            _of_hills(run.load(), target, coordinates, temperature, bins)
            return
        chosen, heat = _at_temperature(run, path, temperature)
        names = coordinates or [_only_coordinate(run, path)]
        if len(names) > 2:
            raise ConfigError(f"a profile is along one coordinate or two, got {', '.join(names)}")
        table = read_spec(run)["potential"]
        along = names[0] if len(names) == 1 else tuple(names)
        found = free_energy.profile(chosen, heat, coordinate=along, bins=bins, zero="mean")
    if len(names) == 1:
        console.print(profile_table(found, names[0], _theory(table, found, names[0], heat)))
    for text in remarks(found):
        console.print(text)
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _of_hills(
    run: xr.Dataset, target: Path, coordinates: list[str], temperature: float | None, bins: int
) -> None:  # fmt: skip
    """The same of a run with Metadynamics, along the coordinates of its hills."""
    found = free_energy.metadynamics(run, temperature, bins=bins)
    names = [str(name) for name in found.free_energy.dims]
    if coordinates and coordinates != names:
        raise ConfigError(f"the hills of this run are along {', '.join(names)}: leave --coordinate out")
    if len(names) == 1:
        theory = _theory(read_spec(run)["potential"], found, names[0], float(found.attrs["temperature"]))
        console.print(profile_table(found, names[0], theory))
    for text in remarks(found):
        console.print(text)
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _at_temperature(run: xr.Dataset, path: Path, temperature: float | None) -> tuple[xr.Dataset, float]:
    """The chains at the temperature asked for, or at the only one that there is."""
    if "position" not in run:
        raise ConfigError(f"{str(path)!r} has no positions: record them (record.observables), or probe another run")
    if run.temperature.dims != ("chain",):
        raise ConfigError("the temperature of this run changes with time: a profile belongs to one temperature")
    known = np.unique(run.temperature.values)
    if temperature is None and len(known) > 1:
        raise ConfigError(f"the run has {len(known)} temperatures, {known.tolist()}: choose one with --temperature")
    heat = float(known[0] if temperature is None else known[np.abs(known - temperature).argmin()])
    if temperature is not None and not np.isclose(heat, temperature):
        raise ConfigError(f"no chain has the temperature {temperature:g}; there are {known.tolist()}")
    return run.isel(chain=np.flatnonzero(run.temperature.values == heat)), heat


def _only_coordinate(run: xr.Dataset, path: Path) -> str:
    if "coordinate" not in run.coords:
        raise ConfigError(f"the coordinates of {str(path)!r} have no names: a profile needs one")
    names = [str(name) for name in run.coordinate.values]
    if len(names) > 1:
        raise ConfigError(f"choose one or two of the coordinates {', '.join(names)} with --coordinate")
    return names[0]


def _theory(table: dict[str, Any], found: xr.Dataset, name: str, temperature: float) -> xr.DataArray | None:
    """The closed form where the potential has one for this coordinate, from the same zero."""
    try:
        potential = build_potential(table)
        closed_form = potential.effective_potential
        settings = {"coordinate": name} if "coordinate" in inspect.signature(closed_form).parameters else {}
        if not settings and potential.coordinates != (name,) and getattr(potential, "slow_coordinate", None) != name:
            return None
        exact = closed_form(found[name].values, temperature, **settings)
    except (ConfigError, NotImplementedError):
        return None
    theory = xr.DataArray(np.asarray(exact), dims=name, coords={name: found[name]})
    return theory - theory.where(found.free_energy.notnull()).mean()


def profile_table(found: xr.Dataset, name: str, theory: xr.DataArray | None) -> Table:
    """Some of the bins, evenly spaced: coordinate, free energy with its error, theory."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (name, "free energy", *(["theory"] if theory is not None else [])):
        table.add_column(heading, no_wrap=True)
    for i in np.unique(np.linspace(0, found.sizes[name] - 1, ROWS).round().astype(int)):
        value, error = float(found.free_energy[i]), float(found.free_energy_stderr[i])
        cells = [f"{float(found[name][i]):.3g}", measured(value, error)]
        table.add_row(*cells, *([f"{float(theory[i]):.4g}"] if theory is not None else []))
    return table
