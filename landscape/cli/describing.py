"""`landscape info`: what a stored run holds."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from landscape.cli.console import console
from landscape.storage.files import read_spec
from landscape.workflows.opening import open as open_run

__all__ = ["describe_run"]


def describe_run(path: Path) -> None:
    """Print dimensions, variables with units, and the specification."""
    with open_run(path) as dataset:
        attributes = dataset.attrs
        console.print(f"[bold]{attributes.get('title', path.name)}[/bold]  ({_size(path) / 2**20:.3g} MiB)")
        if "steps_done" in attributes:
            done, total = attributes["steps_done"], attributes["steps_total"]
            console.print(f"  {done} of {total} steps committed: {attributes['status']}")
        for key in ("source", "history", "backend", "dtype", "seed", "last_step", "certificate"):
            if key in attributes:
                console.print(f"  {key}: {attributes[key]}")
        sizes = ", ".join(f"{name} {size}" for name, size in dataset.sizes.items())
        console.print(f"  sizes: {sizes}")
        table = Table("variable", "dims", "units", "long name", box=None, header_style="bold", pad_edge=False)
        for name, variable in dataset.variables.items():
            about = variable.attrs
            table.add_row(
                str(name), ", ".join(map(str, variable.dims)), about.get("units", ""), about.get("long_name", "")
            )
        console.print(table)
        if "spec" in attributes:
            console.print("[bold]specification[/bold]")
            console.print_json(json.dumps(read_spec(dataset)))


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in path.rglob("*")) if path.is_dir() else path.stat().st_size
