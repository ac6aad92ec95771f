"""`landscape watch`: follow a run while it is being written."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import xarray as xr
from rich.live import Live

from landscape.cli.console import console
from landscape.storage.manifest import CURRENT
from landscape.workflows.opening import open as open_run
from landscape.workflows.watching import frame, progress

__all__ = ["watch_run"]


def watch_run(path: Path, *, every: float, once: bool) -> None:
    """Show the run, and again after each commit, until it ends or the user has seen enough."""
    now, seen = _look(path), time.monotonic()
    before: xr.Dataset | None = None
    seconds: float | None = None
    with Live(frame(now, age=_age(path)), console=console, auto_refresh=False) as live:
        while not once and now.attrs.get("status") == "running":
            try:
                time.sleep(every)
            except KeyboardInterrupt:
                return
            later = _look(path)
            if progress(later).done != progress(now).done:
                before, seconds, seen = now, time.monotonic() - seen, time.monotonic()
            now = later
            live.update(frame(now, before, seconds=seconds, age=_age(path)), refresh=True)


def _look(path: Path) -> xr.Dataset:
    with warnings.catch_warnings():  # a commit while we read shows the one before, which is soon put right
        warnings.simplefilter("ignore", UserWarning)
        return open_run(path)


def _age(path: Path) -> float | None:
    """Seconds since the last commit of a run folder."""
    manifest = path / CURRENT
    return max(0.0, time.time() - manifest.stat().st_mtime) if manifest.is_file() else None
