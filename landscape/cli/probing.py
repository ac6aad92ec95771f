"""`landscape probe`: measurements on stored runs, printed and stored."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.cli.console import console, no_overwrite
from landscape.cli.estimates import estimate_tables, pivot_table, summary_table
from landscape.cli.probe_options import read_settings
from landscape.cli.short_probes import Short
from landscape.common.flags import remarks
from landscape.common.provenance import run_spec
from landscape.errors import ConfigError, LandscapeError
from landscape.probes.registry import Probe
from landscape.spec.building import build_potential
from landscape.storage.files import save
from landscape.workflows.opening import open as open_run
from landscape.workflows.probing import named_probe, probe

__all__ = ["run_probe", "theory_of"]


def run_probe(
    probes: Sequence[Probe],
    short: Short,
    given: dict[str, Any],
    *,
    files: list[Path],
    output: Path | None,
    force: bool,
    variable: str | None,
    snapshots: int | None,
    setting: list[str] | None,
) -> None:
    """Ask the first of the probes that the files suit, print what it finds and store it."""
    with ExitStack() as stack:
        runs = [stack.enter_context(open_run(path)) for path in files]
        known = next((one for one in probes if one.reads.fits(runs[0])), None)
        if known is None:
            expected = " or ".join(one.reads.about for one in probes)
            raise ConfigError(f"{str(files[0])!r} is not what is measured here: expected {expected}")
        target = None
        if output is not None or short.stored:
            ending = short.ending or known.name.rpartition(".")[2]
            target = no_overwrite(output or files[0].with_suffix(f".{ending}.nc"), force=force)
        then = named_probe(short.then[known.name]) if known.name in short.then else None
        takes = known.settings | (then.settings if then is not None else {})
        settings = read_settings(
            {short.options.get(name, name): one for name, one in given.items()}, setting or [], takes
        )
        settings = {name: one for name, one in short.settings.items() if name in takes} | settings
        own = {name: one for name, one in settings.items() if name in known.settings or then is None}
        if known.reads.thinned:
            runs = [_thinned(run, snapshots) for run in runs]
            ended = variable is None and "snapshot" not in runs[0] and "last_position" in runs[0]
            variable = "last_position" if ended else variable
        found = probe(None, runs, probe=known.name, variable=variable, settings=own).load()
        show(found)
        if then is not None:
            found = _with_more(found, runs, then, {name: settings[name] for name in then.settings if name in settings})
    if target is not None:
        save(found, target)
        console.print(f"wrote [bold]{target}[/bold]")


def _thinned(run: xr.Dataset, snapshots: int | None) -> xr.Dataset:
    """A run with fewer snapshots, evenly chosen."""
    if snapshots is not None and "snapshot" in run.dims:
        count = run.sizes["snapshot"]
        run = run.isel(snapshot=np.unique(np.linspace(0, count - 1, min(snapshots, count)).round().astype(int)))
    return run


def _with_more(found: xr.Dataset, runs: Sequence[xr.Dataset], then: Probe, settings: dict[str, Any]) -> xr.Dataset:
    """A result beside what another probe says of it, or of the same runs, where that can be told."""
    if any(one.default is one.empty and name not in settings for name, one in then.settings.items()):
        return found
    try:
        more = probe(None, found if then.reads.of_result else list(runs), probe=then.name, settings=settings)
    except LandscapeError as error:
        console.print(f"no {then.name.rpartition('.')[2].replace('_', ' ')}: {error}", markup=False)
        return found
    show(more)
    both = found.assign_coords({name: one for name, one in more.coords.items() if name not in found.variables})
    both = both.assign({name: one for name, one in more.data_vars.items() if name not in found.variables})
    return both.assign_attrs(more.attrs | found.attrs | {"probe": f"{found.attrs['probe']} {then.name}"})


def show(found: xr.Dataset) -> None:
    """Print the estimates of a result, with their errors and what speaks against them."""
    tables = estimate_tables(found)
    if found.attrs.get("probe") == "fluctuations.summary":
        tables = [summary_table(found)]
    elif "pivot" in found.dims:
        tables = [pivot_table(found)]
    theory = theory_of(found)
    if theory is not None:
        tables = estimate_tables(found.assign(theory=theory), of=["free_energy", "theory"])
    for table in tables:
        console.print(table)
    for text in remarks(found) if not tables else ():
        console.print(text)
    if "cost" in found.attrs:
        console.print(f"cost: {found.attrs['cost']}", markup=False)


def theory_of(found: xr.Dataset) -> xr.DataArray | None:
    """The closed form of a free energy along one coordinate, where the landscape of its run has one, from its zero."""
    profile = found.get("free_energy")
    if profile is None or profile.ndim != 1 or "temperature" not in found.attrs:
        return None
    (name,) = map(str, profile.dims)
    try:
        potential = build_potential(run_spec(found)["potential"])
        closed_form = potential.effective_potential
        settings = {"coordinate": name} if "coordinate" in inspect.signature(closed_form).parameters else {}
        if not settings and potential.coordinates != (name,) and getattr(potential, "slow_coordinate", None) != name:
            return None
        exact = closed_form(found[name].values, float(found.attrs["temperature"]), **settings)
    except (LandscapeError, KeyError, NotImplementedError):
        return None
    theory = xr.DataArray(np.asarray(exact), dims=name, coords={name: found[name]})
    return theory - (theory - profile).where(profile.notnull()).mean()
