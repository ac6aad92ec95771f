"""`landscape probe fluctuations --quantity entropy_production` and `current`: driven runs."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from landscape.cli.console import console, no_overwrite
from landscape.cli.estimates import estimate_tables
from landscape.opening import open as open_run
from landscape.probes import fluctuations
from landscape.storage.files import save

__all__ = ["probe_current", "probe_entropy_production"]


def probe_entropy_production(path: Path, output: Path | None, by: str, *, force: bool) -> None:
    """Print the rate of entropy production of a run that recorded it; store it if asked to."""
    target = None if output is None else no_overwrite(output, force=force)
    with open_run(path) as dataset:
        found = fluctuations.entropy_production(dataset.load(), by=by)
    for table in estimate_tables(found):
        console.print(table)
    _remark(found, {"stationary": "not stationary"})
    if target is not None:
        save(found, target)
        console.print(f"wrote [bold]{target}[/bold]")


def probe_current(path: Path, output: Path | None, coordinates: list[str] | None, *, force: bool) -> None:
    """Store the stationary current of one or two coordinates of a run, and say whether it can be told."""
    target = no_overwrite(output or path.with_suffix(".current.nc"), force=force)
    with open_run(path) as dataset:
        found = fluctuations.current(dataset.load(), coordinates or None)
    errors = {"resolved": "too short", "chains_agree": "chains disagree", "fine": "draws too far apart"}
    _remark(found, errors)
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _remark(found: xr.Dataset, flags: dict[str, str]) -> None:
    for flag, text in flags.items():
        if not bool(found[flag].all()):
            console.print(f"{int((~found[flag]).sum())} of {found[flag].size}: {text}")
