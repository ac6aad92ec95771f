"""Pictures of what confines dynamics to a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError
from landscape.probes._plot_style import OKABE_ITO, axes, chosen, flagged, shades

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

_BLUE, _ORANGE, _GREEN = OKABE_ITO[:3]
_CURVATURES = ("largest_eigenvalue", "trace", "log_determinant", "fisher_trace", "smallest_eigenvalue")
_MOST_LINES = 8


@guarded
@flagged
def plot_along_path(dataset: xr.Dataset, ax: Axes | None = None, *, quantity: str | None = None) -> Axes:
    """Energy (left axis) and a curvature (right axis) along a path, with errors.

    Parameters
    ----------
    quantity : str, optional
        What to draw against the right axis; by default the first curvature there is.
        The left ones.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "arc_length")
    drawn = [name for name in ([quantity] if quantity else _CURVATURES) if name in dataset.data_vars]
    if quantity is not None:
        _need(dataset, quantity)
    ax = axes(ax)
    s = dataset.arc_length.to_numpy()
    ax.set_xlabel("arc length $s$")
    if "energy" in dataset:
        _line(ax, s, dataset, "energy", _BLUE)
        ax.set_ylabel("energy", color=_BLUE)
    if drawn:
        right = ax.twinx() if "energy" in dataset else ax
        _line(right, s, dataset, drawn[0], _ORANGE)
        right.set_ylabel(str(dataset[drawn[0]].attrs.get("long_name", drawn[0])), color=_ORANGE)
    return ax


@guarded
@flagged
def plot_barriers(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Energetic and entropic part of the effective potential along a path, and their sum.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "energetic_profile", "entropic_profile", "arc_length")
    ax = axes(ax)
    s = dataset.arc_length.to_numpy()
    total = dataset.energetic_profile + dataset.entropic_profile
    laws = {"thermal": r"$\frac{T}{2}\,\log\det H_\perp$", "hessian": r"$\frac{T}{2}\,\mathrm{tr}\,H_\perp$"}
    entropic = laws.get(str(dataset.attrs.get("noise")), "entropic")
    ax.plot(s, dataset.energetic_profile, color=_BLUE, label="energy $V$")
    half = 1.96 * dataset.entropic_profile_stderr
    ax.fill_between(s, dataset.entropic_profile - half, dataset.entropic_profile + half, color=_ORANGE, alpha=0.3, lw=0)
    ax.plot(s, dataset.entropic_profile, color=_ORANGE, label=entropic)
    ax.plot(s, total, color="black", ls="--", label="sum")
    ax.set_xlabel("arc length $s$")
    ax.set_ylabel("effective potential above the start")
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
def plot_drift(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Drift velocity against arc length at each temperature, with 95 % errors, and the energetic part.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "velocity", "velocity_stderr")
    ax = axes(ax)
    s = dataset.arc_length.to_numpy()
    rows = chosen(dataset.sizes["temperature"], _MOST_LINES)
    for color, row in zip(shades(len(rows)), rows, strict=True):
        one = dataset.isel(temperature=int(row))
        ax.errorbar(
            s, one.velocity, 1.96 * one.velocity_stderr, fmt="o-", ms=3, lw=1, elinewidth=0.9, capsize=2, color=color,
            label=f"T = {float(one.temperature):.3g}",
        )  # fmt: skip
    if np.isfinite(dataset.energetic_force).any():
        ax.plot(s, dataset.energetic_force, color="black", ls="--", lw=1, label="energetic part")
    ax.axhline(0.0, color="0.6", lw=0.8, zorder=0)
    ax.set_xlabel("arc length $s$")
    ax.set_ylabel("drift velocity $v$")
    ax.legend(frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_relaxation(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Relative distance from the target against time at each temperature, with 95 % bands, and 1/e.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "relative_distance", "relaxation_time")
    ax = axes(ax)
    rows = chosen(dataset.sizes["temperature"], _MOST_LINES)
    for color, row in zip(shades(len(rows)), rows, strict=True):
        one = dataset.isel(temperature=int(row))
        time, curve, half = one.time, one.relative_distance, 1.96 * one.relative_distance_stderr
        ax.fill_between(time, curve - half, curve + half, color=color, alpha=0.3, lw=0)
        ax.plot(time, curve, color=color, lw=1.2, label=f"T = {float(one.temperature):.3g}")
        if bool(one.reached):
            ax.errorbar(
                float(one.relaxation_time), np.exp(-1), xerr=1.96 * float(one.relaxation_time_stderr), fmt="o", ms=5,
                color=color, capsize=3,
            )  # fmt: skip
    ax.axhline(np.exp(-1), color="0.6", lw=0.8, ls=":", zorder=0)
    ax.text(0.99, np.exp(-1), "1/e", color="0.4", ha="right", va="bottom", transform=ax.get_yaxis_transform())
    ax.set_xlabel("time")
    ax.set_ylabel("relative distance from the target")
    ax.legend(frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_first_passage(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Fraction of the chains that have not reached the target, against time; the exponential law of the same mean.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "passage_time", "first_passage_time")
    ax = axes(ax)
    rows = chosen(dataset.sizes["temperature"], _MOST_LINES)
    for color, row in zip(shades(len(rows)), rows, strict=True):
        one = dataset.isel(temperature=int(row))
        times = dataset.passage_time.to_numpy()[dataset.chain_temperature.to_numpy() == float(one.temperature)]
        made = np.sort(times[np.isfinite(times)])
        left = 1 - np.arange(len(made) + 1) / max(len(times), 1)
        ax.step(np.r_[0, made], left, where="post", color=color, label=f"T = {float(one.temperature):.3g}")
        if len(made):
            grid, mean = np.linspace(0, made[-1], 200), float(one.first_passage_time)
            if mean > 0:
                ax.plot(grid, np.exp(-grid / mean), color=color, ls=":", lw=1)
    ax.set_yscale("log")
    ax.set_xlabel("time")
    ax.set_ylabel("fraction that has not arrived")
    ax.legend(frameon=False, fontsize="small", title="dotted: exponential", title_fontsize="small")
    return ax


@guarded
@flagged
def plot_instability(dataset: xr.Dataset, ax: Axes | None = None, *, against: str | None = None) -> Axes:
    """Difference (left axis) and, where it is defined, ratio (right axis) of lines.

    Parameters
    ----------
    against : str, optional
        A coordinate to draw them against, such as the epoch of the split; by default their number.
        The left ones.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "difference", "ratio")
    if against is not None:
        _need(dataset, against)
    ax = axes(ax)
    count = dataset.difference.size
    x = np.arange(count) if against is None else np.broadcast_to(dataset[against], dataset.difference.shape).ravel()
    sides = [(ax, "difference", _BLUE, "o")]
    ax.set_ylabel("difference: maximum - mean of the ends", color=_BLUE)
    if np.isfinite(dataset.ratio).any():
        right = ax.twinx()
        right.set_ylabel("ratio: maximum / minimum", color=_ORANGE)
        sides.append((right, "ratio", _ORANGE, "s"))
    for axis, name, color, mark in sides:
        half = dataset.get(f"{name}_stderr")
        bar = None if half is None else 1.96 * half.to_numpy().ravel()
        axis.errorbar(x, dataset[name].to_numpy().ravel(), bar, fmt=mark, ms=5, color=color, capsize=2, mfc="none")
    if against is None:
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(against or "line")
    return ax


@guarded
@flagged
def plot_linear_connectivity(dataset: xr.Dataset, ax: Axes | None = None, *, quantity: str | None = None) -> Axes:
    """A quantity on the straight lines between pairs: each thin, their mean thick.

    Parameters
    ----------
    quantity : str, optional
        By default the first one.

    Raises
    ------
    ConfigError
    """
    names = [str(name) for name in dataset.data_vars if dataset[name].dims == ("pair", "pivot")]
    name = quantity or (names[0] if names else "energy")
    _need(dataset, name, "fraction")
    ax = axes(ax)
    a = dataset.fraction.to_numpy()
    values = dataset[name].transpose("pair", "pivot").to_numpy()
    ax.plot(a, values.T, color=_BLUE, lw=0.7, alpha=0.5)
    ax.plot(a, values.mean(axis=0), color="black", lw=2, label=f"mean of {len(values)} pairs")
    ax.set_xlabel("part of the way from one network to the other")
    ax.set_ylabel(str(dataset[name].attrs.get("long_name", name)))
    ax.legend(frameon=False)
    return ax


def _need(dataset: xr.Dataset, *names: str) -> None:
    missing = [name for name in names if name not in dataset.variables]
    if missing:
        raise ConfigError(f"the dataset has no {missing}; it has {sorted(map(str, dataset.variables))}")


def _line(ax: Axes, s: np.ndarray, dataset: xr.Dataset, name: str, color: Any) -> None:
    error = dataset.get(f"{name}_stderr")
    half = dataset.get(f"{name}_residual") if error is None else 1.96 * error
    ax.errorbar(s, dataset[name], half, fmt="o-", ms=4, lw=1.2, elinewidth=0.9, capsize=2, color=color)
