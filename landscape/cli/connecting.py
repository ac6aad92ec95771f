"""`landscape connect`: a path between two stored minima."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import xarray as xr

from landscape.cli.console import console, no_overwrite
from landscape.cli.simulating import assign, keeping_in
from landscape.common.tables import without_seed
from landscape.errors import ConfigError
from landscape.storage.files import read_spec, save
from landscape.workflows.opening import open as open_run
from landscape.workflows.specification import build

__all__ = ["connect_minima"]


def connect_minima(
    start: Path, end: Path | None, output: Path, method: str, assignments: list[str], *, force: bool
) -> None:
    """Join two stored minima, or go on from a stored path, on the landscape that the first file names.

    An automated band that was killed goes on from its last checkpoint; a band of one rate, and a curve, is kept where
    it was.
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

    def way_on(inside: str, reached: xr.Dataset | None) -> str:
        where = inside.partition(";")[0] or "interrupted"
        if method == "auto_neb":
            return f"{where}; the same command goes on from {str(unfinished)!r}"
        if reached is None:
            return f"{where} before the first step: nothing was written"
        if method in ("neb", "string"):
            return f"{where}; go on with `{_onward(unfinished, output, method, assignments, reached)}`"
        return f"{where}; the curve as it was is kept in {str(unfinished)!r}"

    with keeping_in(unfinished, way_on):
        path = build(spec).call()
    save(path, target)
    unfinished.unlink(missing_ok=True)
    heights = path.energy.values
    console.print(
        f"wrote [bold]{target}[/bold]: {path.sizes['pivot']} pivots, length {float(path.arc_length[-1]):.4g}; energy "
        f"{heights[0]:.4g} and {heights[-1]:.4g} at the ends, {heights.max():.4g} at the highest pivot"
    )


def _onward(unfinished: Path, output: Path, method: str, assignments: list[str], band: xr.Dataset) -> str:
    """The command that makes the rest of the steps from a band that was stored."""
    rest = [text for text in assignments if text.partition("=")[0].strip() not in ("steps", "pivots")]
    settings = read_spec(band)["settings"]
    rest.append(f"steps={int(settings['steps']) - int(band['cycle_steps'].sum())}")
    told = " ".join(f"--set {shlex.quote(text)}" for text in rest)
    return f"landscape connect {shlex.quote(str(unfinished))} -o {shlex.quote(str(output))} --method {method} {told}"


def _landscape(path: Path) -> dict[str, Any]:
    with open_run(path) as dataset:
        potential = read_spec(dataset).get("potential") if "spec" in dataset.attrs else None
    if not isinstance(potential, dict):
        raise ConfigError(f"{str(path)!r} does not say which landscape it lives on: expected a minimum, run or path")
    return potential
