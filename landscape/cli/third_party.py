"""What other packages register, on the command line: `landscape plugins` and `landscape probe NAME`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import xarray as xr
from rich.table import Table
from rich.text import Text

from landscape import plugins
from landscape.building import build_potential
from landscape.cli.console import console, no_overwrite
from landscape.cli.estimates import estimate_tables
from landscape.cli.messages import warn
from landscape.cli.simulating import assign
from landscape.errors import ConfigError
from landscape.opening import open as open_run
from landscape.storage.files import read_spec, save

__all__ = ["list_plugins", "run_probe"]


def run_probe(plugin: plugins.Plugin, path: Path, output: Path | None, assignments: list[str], *, force: bool) -> None:
    """Call a registered probe on a stored run, print its estimates and store its result.

    The first argument of a probe is the run; an argument called `potential` is the landscape of the run, built from its
    specification; all others are settings.
    """
    target = no_overwrite(output or path.with_suffix(f".{plugin.name}.nc"), force=force)
    function = plugin.load()
    settings: dict[str, Any] = {}
    for text in assignments:
        assign(settings, text)
    accepted = list(inspect.signature(function).parameters)[1:]
    if unknown := sorted(set(settings) - set(accepted)):
        raise ConfigError(
            f"{plugin.name} has no setting {unknown[0]!r}; expected one of {', '.join(accepted) or 'none'}"
        )
    with open_run(path) as dataset:
        run = dataset.load()
    if "potential" in accepted:
        settings["potential"] = build_potential(read_spec(run)["potential"])
    found = function(run, **settings)
    if not isinstance(found, xr.Dataset):
        raise ConfigError(f"the probe {plugin.name} returned {type(found).__name__}; expected an xarray.Dataset")
    for table in estimate_tables(found):
        console.print(table)
    save(found, target)
    console.print(f"wrote [bold]{target}[/bold]")


def list_plugins() -> None:
    """Print what is registered, and warn of what cannot be used."""
    table = Table(*("group", "name", "package", "about"), box=None, header_style="bold", pad_edge=False)
    broken = []
    for group in plugins.GROUPS:
        for plugin in plugins.installed(group):
            try:
                about = inspect.getdoc(plugin.load()) or ""
            except ConfigError as error:
                broken.append(str(error))
                continue
            table.add_row(group, *map(Text, (plugin.name, plugin.package, about.partition("\n")[0])))
    if table.row_count:
        console.print(table)
    else:
        console.print("no other package registers anything; CONTRIBUTING.md shows how one does")
    for message in broken:
        warn(message)
