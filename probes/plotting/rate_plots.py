"""Pictures of rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.common.text import measured
from landscape.probes.plotting.marks import BLUE, OKABE_ITO, ORANGE, RULE, bars, curve, half_widths
from landscape.probes.plotting.picture import axes, finished, needed, picture
from landscape.probes.plotting.rows import against_rows, first_temperature

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_committor",
    "plot_committor_test",
    "plot_core_sets",
    "plot_escape_rate",
    "plot_forward_flux",
    "plot_reactive_flux",
]


@picture("survival", "exit_rate")
def plot_core_sets(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Fraction of the dwells that last longer than a time, of each core, and the exponential of the same mean dwell.

    Of several temperatures the first is drawn.
    """
    ax, one = axes(ax), first_temperature(dataset)
    time = one.survival_time.to_numpy()
    last = 0.0
    for color, core in zip(OKABE_ITO * 8, one.core.to_numpy(), strict=False):
        row = one.sel(core=core)
        known = np.isfinite(row.survival.to_numpy()) & (row.survival.to_numpy() > 0)
        ax.plot(time[known], row.survival.to_numpy()[known], "o", ms=4, color=color, label=f"{core}")
        rate = float(row.exit_rate)
        if np.isfinite(rate):
            last = max(last, 5.0 / rate)
            ages = np.linspace(0.0, 5.0 / rate, 100)
            ax.plot(ages, np.exp(-rate * ages), color=color, lw=1, ls="--")
    if last:
        ax.set_xlim(0.0, last)
        ax.set_ylim(np.exp(-5.0), 1.3)
    return finished(ax, "age of a dwell", "fraction that lasts longer", logarithmic="y", title="core")


@picture("correlation", "relaxation_rate")
def plot_escape_rate(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Correlation of the state against time with 95 % errors, and the exponentials of both methods.

    Of several temperatures the first is drawn.
    """
    ax, one = axes(ax), first_temperature(dataset)
    lag = one.lag_time.to_numpy()
    bars(ax, lag, one.correlation, half_widths(one, "correlation"), ms=3, color="0.3", label="correlation of the state")
    slowest = np.nanmin(one.relaxation_rate.to_numpy())
    end = min(lag[-1], 4.0 / slowest) if np.isfinite(slowest) else lag[-1]
    time = np.linspace(0.0, end, 200)
    for color, style, name in zip((BLUE, ORANGE), ("-", "--"), one.estimator.to_numpy(), strict=True):
        rate, error = (float(one[key].sel(estimator=name)) for key in ("relaxation_rate", "relaxation_rate_stderr"))
        if np.isfinite(rate):
            text = rf"{name}, $\lambda$ = {measured(rate, error, sign='±')}"
            ax.plot(time, np.exp(-rate * time), style, color=color, lw=1.4, label=text)
    ax.set_xlim(0.0, end)
    ax.set_ylim(0.5 * np.exp(-4.0), 1.3)
    return finished(ax, "time $t$", r"$\rho(t)$", logarithmic="y")


@picture("committor", "committor_low", "committor_high")
def plot_committor(dataset: xr.Dataset, ax: Axes | None = None, *, against: str | None = None) -> Axes:
    """Committor with its 95 % interval at each position.

    Parameters
    ----------
    against : str, optional
        Coordinate of the dataset for the abscissa; by default the number of the position.
    """
    needed(dataset, *([against] if against else []))
    ax = axes(ax)
    x = against_rows(ax, dataset, dataset.committor, against, "position")
    value, low, high = (dataset[f"committor{end}"].to_numpy().ravel() for end in ("", "_low", "_high"))
    bars(ax, x, value, np.maximum([value - low, high - value], 0.0), color=BLUE)
    ax.axhline(0.5, ls=":", **RULE)
    ax.set_ylim(-0.03, 1.03)
    return finished(ax, None, "committor")


@picture("count", "mean")
def plot_committor_test(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Histogram of committors at one value of a reaction coordinate."""
    ax = axes(ax)
    width = 1.0 / dataset.sizes["committor"]
    ax.bar(dataset.committor, dataset["count"], width=0.95 * width, color=BLUE, alpha=0.8)
    ax.axvline(float(dataset["mean"]), color=ORANGE, lw=1.4, label="mean")
    ax.set_xlim(0.0, 1.0)
    spread = float(dataset.spread)
    text = rf"deviation {spread:.2f} of one that says nothing"
    ax.set_title(text if np.isfinite(spread) else "no spread beyond the noise of shots", fontsize="medium")
    return finished(ax, "fraction of the shots that reach the second core first", "positions")


@picture("conditional_probability", "cumulative_probability", "rate")
def plot_forward_flux(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Probability to reach each interface from the first, and that to reach the next, with 95 % errors."""
    ax = axes(ax)
    levels = np.append(dataset.interface.to_numpy(), dataset.attrs["b"])
    kinds = ("cumulative_probability", "probability")
    reached = np.concatenate([np.ravel(dataset[kind].to_numpy()) for kind in kinds])
    half = np.concatenate([np.ravel(half_widths(dataset, kind)) for kind in kinds])
    half = np.fmin(half, 0.9 * reached)  # the axis is logarithmic
    bars(ax, levels, reached, half, ls="-", color=BLUE, label="from the first")
    half = half_widths(dataset, "conditional_probability")
    middle = 0.5 * (levels[1:] + levels[:-1])
    bars(ax, middle, dataset.conditional_probability, half, marker="s", color=ORANGE, label="to the next")
    ax.set_title(f"rate {measured(float(dataset.rate), float(dataset.rate_stderr), sign='±')}", fontsize="medium")
    text = str(dataset.attrs.get("coordinate", "q"))
    return finished(ax, text, "probability to get there before A", logarithmic="y")


@picture("rate_at", "rate")
def plot_reactive_flux(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Transmission coefficient against time (of overdamped motion the flux) with 95 % errors, and the plateau."""
    ax = axes(ax)
    inertial = "transmission_at" in dataset
    name, level = ("transmission_at", "transmission") if inertial else ("rate_at", "rate")
    text = r"$\kappa(t)$" if inertial else "$k(t)$"
    curve(ax, dataset.time, dataset[name], half_widths(dataset, name), color=BLUE, label=text)
    found, error = float(dataset[level]), float(dataset[f"{level}_stderr"])
    ax.axhline(found, color=ORANGE, lw=1.2, ls="--", label=f"{level} {measured(found, error, sign='±')}")
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(left=0.0)
    return finished(ax, "time $t$", "transmission coefficient" if inertial else "reactive flux")
