"""`landscape probe rates`: rates between core sets of a stored run."""

from __future__ import annotations

from pathlib import Path

import xarray as xr
from rich.table import Table

from landscape.building import build_potential
from landscape.cli.console import console, measured, no_overwrite
from landscape.errors import ConfigError
from landscape.flags import estimate, remarks
from landscape.opening import open as open_run
from landscape.probes import rates
from landscape.storage.files import read_spec, save

__all__ = ["escape_table", "probe_forward_flux", "probe_rates", "rates_table"]


def probe_rates(path: Path, output: Path | None, quantity: str, cores: list[str], *, force: bool) -> None:
    """Print and store the rates between cores, followed on the way or found in what was recorded."""
    if quantity not in ("core_sets", "escape_rate"):
        raise ConfigError(f'--quantity must be "core_sets", "escape_rate" or "forward_flux", got {quantity!r}')
    target = no_overwrite(output or path.with_suffix(f".{quantity}.nc"), force=force)
    chosen = dict(_core(text) for text in cores)
    with open_run(path) as stored:
        run = stored.load()
    if quantity == "core_sets":
        found = rates.core_sets(run, chosen or None)
        console.print(rates_table(found))
    else:
        found = rates.escape_rate(run, chosen)
        console.print(escape_table(found))
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def probe_forward_flux(
    path: Path, output: Path | None, coordinate: str | None, a: float | None, b: float | None, *, copies: int,
    seed: int, force: bool,
) -> None:  # fmt: skip
    """Print and store the rate of a rare event in the dynamics of a run, by forward-flux sampling."""
    if coordinate is None or a is None or b is None:
        raise ConfigError("forward_flux needs --coordinate, --from and --to")
    target = no_overwrite(output or path.with_suffix(".forward_flux.nc"), force=force)
    with open_run(path) as stored:
        run = stored.load()
    potential = build_potential(read_spec(run)["potential"])
    found = rates.forward_flux(potential, run, coordinate, a, b, copies=copies, seed=seed)
    table = Table(coordinate, "reached from the first", "to the next", box=None, header_style="bold", pad_edge=False)
    for i in range(found.sizes["interface"]):
        one = found.isel(interface=i)
        names = ("cumulative_probability", "conditional_probability")
        cells = [measured(float(one[name]), float(one[f"{name}_stderr"])) for name in names]
        table.add_row(f"{float(one.interface):.4g}", *cells)
    console.print(table)
    console.print(f"rate {estimate(found, 'rate')}")
    if remarks(found):
        console.print("replicas scatter widely: take more --copies")
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def _core(text: str) -> tuple[str, str]:
    name, equal, condition = text.partition("=")
    if not equal or not name.strip() or not condition.strip():
        raise ConfigError(f'--core must be a name and a condition, such as --core "A=x < -0.8", got {text!r}')
    return name.strip(), condition.strip()


def rates_table(found: xr.Dataset) -> Table:
    """One row for each temperature and pair of cores."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("temperature", "from", "to", "rate", "95 % interval", "transitions", ""):
        table.add_column(heading, no_wrap=True)
    for heat in range(found.sizes["temperature"]):
        for core in found.core.to_numpy():
            for other in found.next_core.to_numpy():
                one = found.isel(temperature=heat).sel(core=core, next_core=other)
                if core == other:
                    continue
                table.add_row(
                    f"{float(one.temperature):.3g}", str(core), str(other),
                    measured(float(one.rate), float(one.rate_stderr)),
                    f"{float(one.rate_low):.3g} to {float(one.rate_high):.3g}",
                    str(int(one.transitions)), ", ".join(remarks(one)),
                )  # fmt: skip
    return table


def escape_table(found: xr.Dataset) -> Table:
    """One row for each temperature and estimator."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    cores = [str(core) for core in found.core.to_numpy()]
    for heading in ("temperature", "estimator", *(f"rate of leaving {core}" for core in cores), "slowest rate", ""):
        table.add_column(heading, no_wrap=True)
    for heat in range(found.sizes["temperature"]):
        for number, estimator in enumerate(found.estimator.to_numpy()):
            one = found.isel(temperature=heat, estimator=number)
            table.add_row(
                f"{float(one.temperature):.3g}", str(estimator),
                *(measured(float(one.rate.sel(core=core)), float(one.rate_stderr.sel(core=core))) for core in cores),
                measured(float(one.relaxation_rate), float(one.relaxation_rate_stderr)), ", ".join(remarks(one)),
            )  # fmt: skip
    return table
