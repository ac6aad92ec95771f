"""`landscape reproduce`: the figures of the papers, as scripts."""

from __future__ import annotations

import importlib
from pathlib import Path

import landscape
from landscape.errors import ConfigError

__all__ = ["reproduce_figures", "titles"]

_FOLDER = Path(landscape.__path__[0]) / "examples"
_INSTALLED = "landscape.examples"


def titles() -> dict[str, str]:
    """Names of the scripts and the first line of each, without importing any."""
    scripts = sorted(path for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))
    return {path.stem: _first_line(path) for path in scripts}


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().lstrip("r").strip('"')


def reproduce_figures(name: str, output: Path | None, *, size: str, seed: int) -> None:
    """Run one script, or all of them one after the other, each into a folder of its own name."""
    from matplotlib import pyplot

    from landscape.cli.console import console
    from landscape.workflows.reproduction import carry_out

    known = titles()
    if name != "all" and name not in known:
        raise ConfigError(f"there is no reproduction {name!r}; there are {', '.join(known)} and all")
    folder = output or Path("landscape-reproduction")
    for each in known if name == "all" else [name]:
        console.print(f"[bold]{each}[/bold]: {known[each]}")
        script = importlib.import_module(f"{_INSTALLED}.{each}")
        found = carry_out(
            script.reproduce,
            folder if output and name != "all" else folder / each,
            size=size,
            seed=seed,
            console=console,
        )
        pyplot.close(found.figure)
