"""`landscape connect`: a path between two stored minima."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscape.cli.console import console, no_overwrite
from landscape.cli.simulating import assign
from landscape.errors import ConfigError
from landscape.opening import open as open_run
from landscape.specification import build
from landscape.storage.files import read_spec, save
from landscape.storage.interruption import told
from landscape.tables import without_seed

__all__ = ["connect_minima"]


def connect_minima(
    start: Path, end: Path | None, output: Path, method: str, assignments: list[str], *, force: bool
) -> None:
    """Join two stored minima, or go on from a stored path, on the landscape that the first file names.

    An automated band that was killed goes on from its last checkpoint.
    """
    spec: dict[str, Any] = {"task": "connect", "method": method, "start": {"file": str(start)}, "settings": {}}
    spec["potential"] = _landscape(start)
    if end is not None:
        spec["end"] = {"file": str(end)}
        if without_seed(_landscape(end)) != without_seed(spec["potential"]):
            raise ConfigError(
                f"{str(start)!r} and {str(end)!r} are minima of different landscapes: network, data and settings of "
                "the loss have to agree; only the seed of the network may differ"
            )
    for text in assignments:
        key, dot, _ = text.partition("=")[0].strip().partition(".")
        assign(spec, text if dot and key == "potential" else f"settings.{text}")
    target = no_overwrite(output, force=force)
    unfinished = target.with_suffix(".unfinished.nc")
    if method == "auto_neb":
        spec["settings"].setdefault("checkpoint", str(unfinished))
    keeps = method == "auto_neb"
    with told(lambda inside: _way_on(inside, f"the same command goes on from {str(unfinished)!r}" if keeps else "")):
        path = build(spec).call()
    save(path, target)
    unfinished.unlink(missing_ok=True)
    heights = path.energy.values
    console.print(
        f"wrote [bold]{target}[/bold]: {path.sizes['pivot']} pivots, length {float(path.arc_length[-1]):.4g}; energy "
        f"{heights[0]:.4g} and {heights[-1]:.4g} at the ends, {heights.max():.4g} at the highest pivot"
    )


def _way_on(inside: str, kept: str) -> str:
    where = inside.partition(";")[0] or "interrupted"
    return f"{where}; {kept or 'only auto_neb keeps a path that is not finished'}"


def _landscape(path: Path) -> dict[str, Any]:
    with open_run(path) as dataset:
        potential = read_spec(dataset).get("potential")
    if not isinstance(potential, dict):
        raise ConfigError(f"{str(path)!r} does not say which landscape it lives on: expected a minimum, run or path")
    return potential
