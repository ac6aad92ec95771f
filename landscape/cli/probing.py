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
    "mean": "mean",
    "variance": "variance",
    "gamma_shape": "alpha",
    "rate_times_temperature": "beta T",
    "half_time": "half time",
    "effective_sample_size": "N_eff",
}


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
    """One row per chain or temperature."""
    (row,) = summary["mean"].dims
    table = Table(str(row), *_COLUMNS.values(), "", box=None, header_style="bold", pad_edge=False)
    for i in range(summary.sizes[row]):
        one = summary.isel({row: i})
        cells = [measured(float(one[name]), float(one.get(f"{name}_stderr", float("nan")))) for name in _COLUMNS]
        remarks = []
        if not bool(one.resolved):
            remarks.append("too short")
        if not bool(one.stationary):
            remarks.append("not stationary")
        table.add_row(f"{float(one[row]):.3g}", *cells, ", ".join(remarks))
    return table


def scan_table(scan: xr.Dataset) -> Table:
    """Exponents of the temperature scan."""
    table = Table("quantity", "measured", box=None, header_style="bold", pad_edge=False)
    for name, variable in scan.data_vars.items():
        if f"{name}_stderr" in scan and variable.ndim == 0:
            label = variable.attrs.get("long_name", str(name))
            table.add_row(label, measured(float(variable), float(scan[f"{name}_stderr"])))
    return table
