"""Pictures of what confines dynamics to a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.probes.plotting.marks import BLUE, ORANGE, RULE, bars, curve, half_widths
from landscape.probes.plotting.picture import axes, finished, needed, picture, right_axis
from landscape.probes.plotting.rows import against_rows, by_temperature

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_along_path",
    "plot_barriers",
    "plot_drift",
    "plot_first_passage",
    "plot_instability",
    "plot_linear_connectivity",
    "plot_relaxation",
]

_CURVATURES = ("largest_eigenvalue", "trace", "log_determinant", "fisher_trace", "smallest_eigenvalue")


@picture("arc_length")
def plot_along_path(dataset: xr.Dataset, ax: Axes | None = None, *, quantity: str | None = None) -> Axes:
    """Energy (left axis) and a curvature (right axis) along a path, with errors.

    Parameters
    ----------
    quantity : str, optional
        What to draw against the right axis; by default the first curvature there is.
    """
    needed(dataset, *([quantity] if quantity else []))
    ax = axes(ax)
    second = quantity or next((name for name in _CURVATURES if name in dataset.data_vars), None)
    if "energy" in dataset:
        _along(ax, dataset, "energy", BLUE)
        ax.set_ylabel("energy", color=BLUE)
    if second is not None:
        text = str(dataset[second].attrs.get("long_name", second))
        right = right_axis(ax, text, ORANGE) if "energy" in dataset else ax
        right.set_ylabel(text, color=ORANGE)
        _along(right, dataset, second, ORANGE)
    return finished(ax, "arc length $s$", None)


def _along(ax: Axes, dataset: xr.Dataset, name: str, color: str) -> None:
    bars(ax, dataset.arc_length, dataset[name], half_widths(dataset, name), color=color, ls="-")


@picture("energetic_profile", "entropic_profile", "arc_length")
def plot_barriers(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Energetic and entropic part of the effective potential along a path, and their sum."""
    ax = axes(ax)
    s = dataset.arc_length
    laws = {"thermal": r"$\frac{T}{2}\,\log\det H_\perp$", "hessian": r"$\frac{T}{2}\,\mathrm{tr}\,H_\perp$"}
    entropic = laws.get(str(dataset.attrs.get("noise")), "entropic")
    ax.plot(s, dataset.energetic_profile, color=BLUE, label="energy $V$")
    curve(ax, s, dataset.entropic_profile, half_widths(dataset, "entropic_profile"), color=ORANGE, label=entropic)
    ax.plot(s, dataset.energetic_profile + dataset.entropic_profile, color="black", ls="--", label="sum")
    return finished(ax, "arc length $s$", "effective potential above the start")


@picture("velocity", "velocity_stderr")
def plot_drift(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Drift velocity against arc length at each temperature, with 95 % errors, and the energetic part."""
    ax = axes(ax)
    s = dataset.arc_length
    for one, color, name in by_temperature(dataset):
        bars(ax, s, one.velocity, half_widths(one, "velocity"), color=color, ls="-", ms=3, label=name)
    if np.isfinite(dataset.energetic_force).any():
        ax.plot(s, dataset.energetic_force, color="black", ls="--", lw=1, label="energetic part")
    ax.axhline(0.0, **RULE)
    return finished(ax, "arc length $s$", "drift velocity $v$")


@picture("relative_distance", "relaxation_time")
def plot_relaxation(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Relative distance from the target against time at each temperature, with 95 % bands, and 1/e."""
    ax = axes(ax)
    for one, color, name in by_temperature(dataset):
        curve(ax, one.time, one.relative_distance, half_widths(one, "relative_distance"), color=color, label=name)
        if bool(one.reached):
            time = float(one.relaxation_time)
            bars(ax, time, np.exp(-1), None, xerr=half_widths(one, "relaxation_time"), color=color)
    ax.axhline(np.exp(-1), ls=":", **RULE)
    ax.text(0.99, np.exp(-1), "1/e", color="0.4", ha="right", va="bottom", transform=ax.get_yaxis_transform())
    return finished(ax, "time", "relative distance from the target")


@picture("passage_time", "first_passage_time")
def plot_first_passage(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Fraction of the chains that have not reached the target, against time; the exponential one of the same mean."""
    ax = axes(ax)
    for one, color, name in by_temperature(dataset):
        times = dataset.passage_time.to_numpy()[dataset.chain_temperature.to_numpy() == float(one.temperature)]
        made = np.sort(times[np.isfinite(times)])
        left = 1 - np.arange(len(made) + 1) / max(len(times), 1)
        ax.step(np.r_[0, made], left, where="post", color=color, label=name)
        if len(made):
            grid, mean = np.linspace(0, made[-1], 200), float(one.first_passage_time)
            if mean > 0:
                ax.plot(grid, np.exp(-grid / mean), color=color, ls=":", lw=1)
    return finished(ax, "time", "fraction that has not arrived", logarithmic="y", title="dotted: exponential")


@picture("difference", "ratio")
def plot_instability(dataset: xr.Dataset, ax: Axes | None = None, *, against: str | None = None) -> Axes:
    """Difference (left axis) and, where it is defined, ratio (right axis) of lines.

    Parameters
    ----------
    against : str, optional
        A coordinate to draw them against, such as the epoch of the split; by default their number.
    """
    needed(dataset, *([against] if against else []))
    ax = axes(ax)
    x = against_rows(ax, dataset, dataset.difference, against, "line")
    sides = [(ax, "difference", BLUE, "o")]
    ax.set_ylabel("difference: maximum - mean of the ends", color=BLUE)
    if np.isfinite(dataset.ratio).any():
        sides.append((right_axis(ax, "ratio: maximum / minimum", ORANGE), "ratio", ORANGE, "s"))
    for axis, name, color, mark in sides:
        half = half_widths(dataset, name).ravel()
        bars(axis, x, dataset[name].to_numpy().ravel(), half, color=color, marker=mark, mfc="none")
    return ax


@picture()
def plot_linear_connectivity(dataset: xr.Dataset, ax: Axes | None = None, *, quantity: str | None = None) -> Axes:
    """A quantity on the straight lines between pairs: each thin, their mean thick.

    Parameters
    ----------
    quantity : str, optional
        By default the first one.

    Raises
    ------
    ConfigError
        If the dataset has no such quantity, or no `fraction`.
    """
    names = [str(name) for name in dataset.data_vars if dataset[name].dims == ("pair", "pivot")]
    name = quantity or (names[0] if names else "energy")
    needed(dataset, name, "fraction")
    ax = axes(ax)
    values = dataset[name].transpose("pair", "pivot").to_numpy()
    ax.plot(dataset.fraction, values.T, color=BLUE, lw=0.7, alpha=0.5)
    ax.plot(dataset.fraction, values.mean(axis=0), color="black", lw=2, label=f"mean of {len(values)} pairs")
    text = str(dataset[name].attrs.get("long_name", name))
    return finished(ax, "part of the way from one network to the other", text)
