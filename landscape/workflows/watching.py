"""A running simulation as a picture in the terminal: how far it is, how fast, and where its energy goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from landscape.common.text import duration, measured
from landscape.statistics import equal_rows, standard_error

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["ChainGroup", "Progress", "chain_groups", "frame", "progress", "sparkline"]

RECENT = 2000  # draws that are looked at: a frame costs the same however long the run is
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps made, steps in all, steps per second and seconds left; NaN where a speed is not known yet."""

    done: int
    total: int
    speed: float
    left: float


@dataclass(frozen=True, slots=True)
class ChainGroup:
    """Chains of equal temperature and step size.

    Attributes
    ----------
    temperature, dt : float
        At the last draw.
    chains : int
    energy, stderr : float
        Mean over the last quarter of the recent draws, and its error from the scatter between chains.
    series : array, shape ``(draw,)``
        Energy averaged over the chains; empty where none was recorded.
    """

    temperature: float
    dt: float
    chains: int
    energy: float
    stderr: float
    series: NDArray[np.float64]


def progress(now: xr.Dataset, before: xr.Dataset | None = None, *, seconds: float | None = None) -> Progress:
    """How far a run is, and how fast it went between two looks at it.

    Parameters
    ----------
    now, before : Dataset
        The run as it is, and as it was so many seconds ago.
    seconds : float, optional

    Returns
    -------
    Progress

    Examples
    --------
    >>> earlier, later = (xr.Dataset(attrs={"steps_done": n, "steps_total": 1000}) for n in (200, 400))
    >>> progress(later, earlier, seconds=4.0)
    Progress(done=400, total=1000, speed=50.0, left=12.0)
    """
    done = _steps(now)
    total = int(now.attrs.get("steps_total", done))
    made = 0 if before is None else done - _steps(before)
    speed = made / seconds if seconds and made > 0 else math.nan
    return Progress(done, total, speed, (total - done) / speed)


def _steps(run: xr.Dataset) -> int:
    return int(run.attrs.get("steps_done", run.attrs.get("last_step", 0)))


def chain_groups(now: xr.Dataset) -> list[ChainGroup]:
    """Chains of equal temperature and step size together, coldest first, with their energies of late."""
    recorded = "energy" in now and now.energy.dims == ("chain", "draw")
    energy = now.energy.isel(draw=slice(-RECENT, None)).values if recorded else np.empty((now.sizes["chain"], 0))
    groups = []
    for (temperature, dt), chains in equal_rows(_last(now, "temperature"), _last(now, "dt")):
        series = energy[chains].astype(float)
        mean, error = _late(series)
        groups.append(ChainGroup(temperature, dt, len(series), mean, error, series.mean(axis=0)))
    return groups


def _last(now: xr.Dataset, name: str) -> NDArray[np.float64]:
    """A setting of each chain; of a schedule its last value."""
    setting = now.coords.get(name)
    if setting is None or not setting.size:
        return np.full(now.sizes["chain"], np.nan)
    return np.asarray(setting.isel(draw=-1) if "draw" in setting.dims else setting, dtype=float)


def _late(series: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the last quarter, and its error from the scatter between chains."""
    if not series.shape[1]:
        return math.nan, math.nan
    means = series[:, -max(1, series.shape[1] // 4) :].mean(axis=1)
    means = means[np.isfinite(means)]
    return float(means.mean()) if len(means) else math.nan, float(standard_error(means))


def sparkline(values: ArrayLike, width: int = 32) -> str:
    """Numbers as a row of bars between their least and their greatest; a gap where none is finite.

    Examples
    --------
    >>> sparkline([0.0, 1.0, 2.0, 3.0]), sparkline([5.0, 5.0]), sparkline([])
    ('▁▃▆█', '▁▁', '')
    """
    given = np.asarray(values, dtype=float)
    if not given.size:
        return ""
    columns = [part[np.isfinite(part)] for part in np.array_split(given, min(width, given.size))]
    means = np.array([part.mean() if part.size else np.nan for part in columns])
    if not np.isfinite(means).any():
        return " " * len(means)
    low, span = np.nanmin(means), np.ptp(means[np.isfinite(means)]) or 1.0
    return "".join(BARS[round((x - low) / span * (len(BARS) - 1))] if np.isfinite(x) else " " for x in means)


def frame(
    now: xr.Dataset, before: xr.Dataset | None = None, *, seconds: float | None = None, age: float | None = None
) -> RenderableType:
    """One picture of a run: progress, speed, time left, and a row for each group of chains.

    Parameters
    ----------
    now, before : Dataset
        The run as it is committed, and as it was at the commit before.
    seconds : float, optional
        Between these two.
    age : float, optional
        Seconds since the last commit.

    Returns
    -------
    rich renderable
    """
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    made = progress(now, before, seconds=seconds)
    status = str(now.attrs.get("status", "complete"))
    title = Text.assemble((str(now.attrs.get("title", "a run")), "bold"), f"  {status}")
    share = 100 * made.done / made.total if made.total else 100.0
    bar = Table.grid(padding=(0, 2))
    steps = Text(f"{made.done:,} of {made.total:,} steps, {share:.1f} %")
    bar.add_row(ProgressBar(total=max(made.total, 1), completed=made.done, width=32), steps)
    table = Table(*_headings(now), box=None, header_style="bold", pad_edge=False)
    for row in _rows(chain_groups(now)):
        table.add_row(*(Text(cell, no_wrap=True) for cell in row))
    return Group(title, bar, Text(_speed(made, now.sizes["chain"], status, age)), Text(), table)


def _speed(made: Progress, chains: int, status: str, age: float | None) -> str:
    if status != "running":
        return {"complete": "done"}.get(status, "landscape resume goes on from here")
    since = "" if age is None else f"; last checkpoint {duration(age)} ago"
    if not math.isfinite(made.speed):
        return f"speed known after the next checkpoint{since}"
    return f"{made.speed:,.3g} steps/s of {chains} chains; about {duration(made.left)} left{since}"


def _headings(now: xr.Dataset) -> Sequence[str]:
    recent = "" if now.sizes.get("draw", 0) <= RECENT else f", last {RECENT} draws"
    return "temperature", "dt", "chains", "energy", f"mean energy of the chains{recent}"


def _rows(groups: list[ChainGroup]) -> list[list[str]]:
    return [
        [
            f"{one.temperature:.4g}",
            f"{one.dt:.4g}",
            str(one.chains),
            measured(one.energy, one.stderr),
            sparkline(one.series),
        ]
        for one in groups
    ]
