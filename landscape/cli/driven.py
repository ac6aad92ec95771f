"""Probes of driven runs: entropy production, current, and free energies from works."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from landscape.cli.console import console, no_overwrite
from landscape.cli.estimates import estimate_tables
from landscape.errors import ConfigError
from landscape.flags import remarks
from landscape.opening import open as open_run
from landscape.probes import fluctuations, free_energy
from landscape.storage.files import save

__all__ = ["probe_current", "probe_entropy_production", "probe_work"]


def probe_entropy_production(path: Path, output: Path | None, by: str, *, force: bool) -> None:
    """Print the rate of entropy production of a run that recorded it; store it if asked to."""
    target = None if output is None else no_overwrite(output, force=force)
    with open_run(path) as dataset:
        if "entropy_production" not in dataset:
            raise ConfigError(
                f'{str(path)!r} has no entropy production: record it, record.observables = ["entropy_production"], '
                "under forces that do not come from an energy (Drift)"
            )
        found = fluctuations.entropy_production(dataset.load(), by=by)
    for table in estimate_tables(found):
        console.print(table)
    if target is not None:
        save(found, target)
        console.print(f"wrote [bold]{target}[/bold]")


def probe_current(path: Path, output: Path | None, coordinates: list[str] | None, *, force: bool) -> None:
    """Store the stationary current of one or two coordinates of a run, and say whether it can be told."""
    target = no_overwrite(output or path.with_suffix(".current.nc"), force=force)
    with open_run(path) as dataset:
        found = fluctuations.current(dataset.load(), coordinates or None)
    for text in remarks(found):
        console.print(text)
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def probe_work(paths: list[Path], output: Path | None, temperature: float | None, *, force: bool) -> None:
    """Print and store the difference of free energies from driven runs, forward and, if there are, reverse ones."""
    if len(paths) > 2:
        raise ConfigError(f"--work takes the run forward and the reverse one, got {len(paths)} runs")
    target = no_overwrite(output or paths[0].with_suffix(".work.nc"), force=force)
    with ExitStack() as stack:
        found = free_energy.work_average(
            *(stack.enter_context(open_run(path)) for path in paths), temperature=temperature
        )
    for table in estimate_tables(found):
        console.print(table)
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")
