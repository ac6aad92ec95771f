"""`landscape probe`: measurements on a stored run."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from rich.table import Table

from landscape.cli.console import console, measured, no_overwrite
from landscape.errors import ConfigError
from landscape.probes import fluctuations
from landscape.storage import open as open_run
from landscape.storage import save

__all__ = ["probe_fluctuations", "summary_table"]

_COLUMNS = {
    # heading: (variable, power of the temperature it is divided by)
    "mean/T": ("mean", 1),
    "variance/T^2": ("variance", 2),
    "alpha": ("gamma_shape", 0),
    "beta T": ("rate_times_temperature", 0),
    "half time": ("half_time", 0),
    "N_eff": ("effective_sample_size", 0),
}


_REMARKS = {"resolved": "too short", "stationary": "not stationary", "chains_agree": "chains disagree"}


def probe_fluctuations(path: Path, output: Path | None, by: str, *, force: bool) -> None:
    """Print the summary (and the exponents where there are enough temperatures); store it if asked to."""
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
            console.print(f"no exponents: {error}")
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
        remarks = [text for flag, text in _REMARKS.items() if not bool(one[flag])]
        table.add_row(f"{float(one[row]):.3g}", *cells, ", ".join(remarks))
    return table


def scan_table(scan: xr.Dataset) -> Table:
    """Exponents of the temperature scan."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("quantity", "measured"):
        table.add_column(heading, no_wrap=True)
    for name, variable in scan.data_vars.items():
        if f"{name}_stderr" in scan and variable.ndim == 0:
            label = variable.attrs.get("long_name", str(name))
            table.add_row(label, measured(float(variable), float(scan[f"{name}_stderr"])))
    return table
