"""`landscape sweep`: a table of runs from one TOML file."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.markup import escape
from rich.table import Table

from landscape.cli.console import console
from landscape.cli.simulating import assign, read_config
from landscape.common.text import duration
from landscape.errors import ConfigError
from landscape.workflows.points.table import SweepTable, flatten, make_table
from landscape.workflows.points.tasks import one_thread
from landscape.workflows.run_costs import costs_of_points, on_workers
from landscape.workflows.sweep import check_points, missing_points, sweep

__all__ = ["read_values", "run_sweep"]

ROWS_SHOWN = 30


def run_sweep(
    config: Path,
    output: Path | None,
    swept: list[str],
    assignments: list[str],
    *,
    workers: int | None,
    scheduler: str | None,
    checkpoints: bool,
    dry_run: bool,
) -> int:
    """Run the table of a configuration file, or show it; how many points failed."""
    spec = read_config(config)
    over = spec.pop("over", {})
    for text in assignments:
        assign(spec, text)
    if swept:
        if not isinstance(over, dict):
            raise ConfigError("--over adds to a table [over], and this configuration lists its points one by one")
        over = flatten(over) | dict(map(read_values, swept))
    if not over:
        raise ConfigError("nothing to sweep: give a table [over] in the configuration, or --over temperature=0.1,0.2")
    folder = output or config.with_suffix("")
    if folder.is_file():
        raise ConfigError(f"{str(folder)!r} is a file: the output of a sweep is a folder, give another --output")
    if dry_run:
        _show_plan(make_table(spec, over), folder, workers or 1)
        return 0
    if workers is not None and scheduler is not None:
        raise ConfigError("--workers and --scheduler are two ways to run a sweep: give one of them")
    with _executor(workers, scheduler) as executor:
        dataset = sweep(spec, over, executor=executor, output=folder, checkpoints=checkpoints)
    failures = json.loads(dataset.attrs["failures"])
    console.print(f"{int((~dataset.failed).sum())} of {dataset.failed.size} results in [bold]{folder}[/bold]")
    if failures:
        console.print(_table_of_failures(failures))
        console.print(f"tracebacks: {folder / 'failures.json'}; the same command runs only what is missing")
    return len(failures)


def read_values(text: str) -> tuple[str, Any]:
    """Key and values of ``key=first,second``: each a value as in TOML, or text.

    Examples
    --------
    >>> read_values("temperature=0.1,0.2"), read_values("start=[[0.0], [1.0]]"), read_values("backend=compiled,batched")
    (('temperature', [0.1, 0.2]), ('start', [[0.0], [1.0]]), ('backend', ['compiled', 'batched']))
    """
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--over takes key=values, such as --over temperature=0.1,0.2; got {text!r}")
    for attempt in (values, f"[{values}]"):
        try:
            parsed = tomllib.loads(f"values = {attempt}")["values"]
        except tomllib.TOMLDecodeError:
            continue
        if isinstance(parsed, list):
            return key.strip(), parsed
    return key.strip(), [value.strip() for value in values.split(",")]


@contextmanager
def _executor(workers: int | None, scheduler: str | None) -> Iterator[Executor | int | None]:
    if scheduler is None:
        yield workers
        return
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError('--scheduler needs Dask: python -m pip install "landscape-langevin[dask]"') from None
    where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
    with Client(**where) as client:
        yield client.get_executor()


def _show_plan(table: SweepTable, folder: Path, workers: int) -> None:
    check_points(table.points, table.own)
    missing = missing_points(table, folder)
    with one_thread():
        found, timed, kinds = costs_of_points(point.text for point in missing)
    known = {point.index: cost for point, cost in zip(missing, found, strict=True)}
    keys = list(table.points[0].values)
    shown = Table("point", *keys, "seed", "file", "state", "time", "memory")
    for point in table.points[:ROWS_SHOWN]:
        seed, cost = json.loads(point.text).get("seed", ""), known.get(point.index)
        values = (escape(str(value)) for value in point.values.values())
        told = ("done", "", "")
        if cost is not None:
            fails = math.isnan(cost.seconds)
            told = ("fails", "", "") if fails else ("missing", duration(cost.seconds), _size(cost.bytes))
        shown.add_row(str(point.index), *values, str(seed), f"{point.file[:12]}...", *told)
    console.print(shown)
    if len(table.points) > ROWS_SHOWN:
        console.print(f"... and {len(table.points) - ROWS_SHOWN} more")
    console.print(f"{len(table.points)} points, {len(missing)} of them to run, results in [bold]{folder}[/bold]")
    found = [cost for cost in found if not math.isnan(cost.seconds)]
    if not found:
        return
    seconds, memory = on_workers(found, workers)
    here = "in this process" if workers == 1 else f"on {workers} workers"
    console.print(
        f"about {duration(seconds)} {here}, without starts and the first compilation; {_size(memory)} of memory, "
        f"{_size(sum(cost.recorded for cost in found))} on the disk at most"
    )
    if timed < kinds:
        console.print(f"{timed} of {kinds} kinds of points were timed; the others are taken for as fast")
    free = psutil.virtual_memory().available
    if memory > free:
        console.print(f"that is more than the {_size(free)} of memory that are free: take fewer workers")


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.3g} MiB"


def _table_of_failures(failures: list[dict[str, Any]]) -> Table:
    shown = Table("point", *failures[0]["values"], "error", "message")
    for failure in failures:
        told = [*failure["values"].values(), failure["error"], failure["message"]]
        shown.add_row(str(failure["index"]), *(escape(str(cell)) for cell in told))
    return shown
