"""`landscape probe free-energy --mbar`: stored runs combined, and what they say of states that were not simulated."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table

from landscape.cli.console import console, measured, no_overwrite
from landscape.errors import ConfigError
from landscape.flags import remarks
from landscape.opening import open as open_run
from landscape.probes import free_energy
from landscape.storage.files import save

__all__ = ["probe_mbar"]

ROWS = 24  # of a profile that are printed


def probe_mbar(
    paths: list[Path], output: Path | None, coordinates: list[str], observables: list[str], parameters: list[str], *,
    temperature: float | None, bins: int, force: bool,
) -> None:  # fmt: skip
    """Print free energies of the states, averages and a profile at the target, and store them."""
    target = no_overwrite(output or paths[0].with_suffix(".mbar.nc"), force=force)
    settings: dict[str, Any] = {"temperature": temperature, "observables": observables or None}
    settings["parameters"] = dict(_number(one) for one in parameters) or None
    if coordinates:
        settings |= {"coordinate": coordinates[0] if len(coordinates) == 1 else tuple(coordinates), "at": bins}
    with ExitStack() as stack:
        found = free_energy.mbar([stack.enter_context(open_run(path)) for path in paths], **settings)
    console.print(_states_table(found))
    console.print(f"overlap {float(found.overlap):.3f}: 1 - the second eigenvalue of the overlap matrix")
    for i, name in enumerate(observables):
        value = measured(float(found.expectation[i]), float(found.expectation_stderr[i]))
        console.print(f"<{name}> = {value}", markup=False)
    if "profile" in found and found.profile.ndim == 1:
        console.print(_profile_table(found))
    if not bool(found.resolved.all()) or not bool(found.get("target_resolved", True)):
        console.print("not resolved: runs are short, or too few samples carry a state; more draws or states are needed")
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _number(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise ConfigError(f"--parameter must be name=number, such as k=2.0, got {text!r}") from None


def _states_table(found: xr.Dataset) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("state", "reduced free energy", "effective samples", ""):
        table.add_column(heading, no_wrap=True)
    for i in range(found.sizes["state"]):
        one = found.isel(state=i)
        value = measured(float(one.reduced_free_energy), float(one.reduced_free_energy_stderr))
        against = ", ".join(remarks(one, of=["reduced_free_energy"]))
        table.add_row(str(one.label.item()), value, f"{float(one.effective_samples):.0f}", against)
    return table


def _profile_table(found: xr.Dataset) -> Table:
    name = str(found.profile.dims[0])
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (name, "free energy"):
        table.add_column(heading, no_wrap=True)
    for i in np.unique(np.linspace(0, found.sizes[name] - 1, ROWS).round().astype(int)):
        value = measured(float(found.profile[i]), float(found.profile_stderr[i]))
        table.add_row(f"{float(found[name][i]):.3g}", value)
    return table
