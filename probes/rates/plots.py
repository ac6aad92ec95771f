"""Pictures of rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError
from landscape.probes._plot_style import OKABE_ITO, axes, flagged
from landscape.text import measured

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

_BLUE, _ORANGE = OKABE_ITO[:2]
_Z = 1.96


@guarded
@flagged
def plot_core_sets(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Fraction of the dwells that last longer than a time, of each core, and the exponential of the same mean dwell.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `core_sets`; the first temperature of several.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "survival", "exit_rate")
    ax = axes(ax)
    one = dataset.isel(temperature=0) if "temperature" in dataset.dims else dataset
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
    ax.set_yscale("log")
    if last:
        ax.set_xlim(0.0, last)
        ax.set_ylim(np.exp(-5.0), 1.3)
    ax.set_xlabel("age of a dwell")
    ax.set_ylabel("fraction that lasts longer")
    ax.legend(frameon=False, title="core")
    return ax


@guarded
@flagged
def plot_escape_rate(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Correlation of the state against time with 95 % errors, and the exponentials of both methods.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `escape_rate`; the first temperature of several.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "correlation", "relaxation_rate")
    ax = axes(ax)
    one = dataset.isel(temperature=0) if "temperature" in dataset.dims else dataset
    lag, value, half = one.lag_time.to_numpy(), one.correlation.to_numpy(), _Z * one.correlation_stderr.to_numpy()
    ax.errorbar(lag, value, half, fmt="o", ms=3, lw=1, color="0.3", label="correlation of the state")
    slowest = np.nanmin(one.relaxation_rate.to_numpy())
    end = min(lag[-1], 4.0 / slowest) if np.isfinite(slowest) else lag[-1]
    time = np.linspace(0.0, end, 200)
    for color, style, name in zip((_BLUE, _ORANGE), ("-", "--"), one.estimator.to_numpy(), strict=True):
        rate, error = (float(one[key].sel(estimator=name)) for key in ("relaxation_rate", "relaxation_rate_stderr"))
        if np.isfinite(rate):
            label = rf"{name}, $\lambda$ = {measured(rate, error, sign='±')}"
            ax.plot(time, np.exp(-rate * time), style, color=color, lw=1.4, label=label)
    ax.set_yscale("log")
    ax.set_xlim(0.0, end)
    ax.set_ylim(0.5 * np.exp(-4.0), 1.3)
    ax.set_xlabel("time $t$")
    ax.set_ylabel(r"$\rho(t)$")
    ax.legend(frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_committor(dataset: xr.Dataset, ax: Axes | None = None, *, against: str | None = None) -> Axes:
    """Committor with its 95 % interval at each position.

    Parameters
    ----------
    against : str, optional
        Coordinate of the dataset for the abscissa; by default the number of the position.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "committor", "committor_low", "committor_high")
    if against is not None:
        _need(dataset, against)
    ax = axes(ax)
    value, low, high = (dataset[f"committor{end}"].to_numpy().ravel() for end in ("", "_low", "_high"))
    x = (
        np.arange(len(value))
        if against is None
        else dataset[against].broadcast_like(dataset.committor).to_numpy().ravel()
    )
    spread = np.maximum([value - low, high - value], 0.0)
    ax.errorbar(x, value, spread, fmt="o", ms=4, lw=1, capsize=2, color=_BLUE)
    ax.axhline(0.5, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("position" if against is None else against)
    ax.set_ylabel("committor")
    return ax


@guarded
@flagged
def plot_committor_test(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Histogram of committors at one value of a reaction coordinate.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "count", "mean")
    ax = axes(ax)
    width = 1.0 / dataset.sizes["committor"]
    ax.bar(dataset.committor, dataset["count"], width=0.95 * width, color=_BLUE, alpha=0.8)
    ax.axvline(float(dataset["mean"]), color=_ORANGE, lw=1.4, label="mean")
    ax.set_xlim(0.0, 1.0)
    ax.set_xlabel("fraction of the shots that reach the second core first")
    ax.set_ylabel("positions")
    text = rf"deviation {float(dataset.spread):.2f} of one that says nothing"
    ax.set_title(
        text if np.isfinite(float(dataset.spread)) else "no spread beyond the noise of shots", fontsize="medium"
    )
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
def plot_forward_flux(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Probability to reach each interface from the first, and that to reach the next, with 95 % errors.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "conditional_probability", "cumulative_probability", "rate")
    ax = axes(ax)
    levels = np.append(dataset.interface.to_numpy(), dataset.attrs["b"])
    reached = [
        np.append(dataset[f"cumulative_probability{end}"], dataset[f"probability{end}"]) for end in ("", "_stderr")
    ]
    half = np.minimum(_Z * reached[1], 0.9 * reached[0])  # the axis is logarithmic
    ax.errorbar(levels, reached[0], half, fmt="o-", ms=4, lw=1.2, capsize=2, color=_BLUE, label="from the first")
    next_one, error = dataset.conditional_probability.to_numpy(), dataset.conditional_probability_stderr.to_numpy()
    middle = 0.5 * (levels[1:] + levels[:-1])
    ax.errorbar(middle, next_one, _Z * error, fmt="s", ms=4, lw=1, capsize=2, color=_ORANGE, label="to the next")
    ax.set_yscale("log")
    ax.set_xlabel(str(dataset.attrs.get("coordinate", "q")))
    ax.set_ylabel("probability to get there before A")
    found = measured(float(dataset.rate), float(dataset.rate_stderr), sign="±")
    ax.set_title(f"rate {found}", fontsize="medium")
    ax.legend(frameon=False)
    return ax


@guarded
@flagged
def plot_reactive_flux(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Transmission coefficient against time (of overdamped motion the flux) with 95 % errors, and the plateau.

    Raises
    ------
    ConfigError
    """
    _need(dataset, "rate_at", "rate")
    ax = axes(ax)
    inertial = "transmission_at" in dataset
    curve, level = ("transmission_at", "transmission") if inertial else ("rate_at", "rate")
    time, value, half = dataset.time, dataset[curve], _Z * dataset[f"{curve}_stderr"]
    ax.fill_between(time, value - half, value + half, color=_BLUE, alpha=0.25, lw=0)
    ax.plot(time, value, color=_BLUE, lw=1.4, label=r"$\kappa(t)$" if inertial else "$k(t)$")
    found, error = float(dataset[level]), float(dataset[f"{level}_stderr"])
    ax.axhline(found, color=_ORANGE, lw=1.2, ls="--", label=f"{level} {measured(found, error, sign='±')}")
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(left=0.0)
    ax.set_xlabel("time $t$")
    ax.set_ylabel("transmission coefficient" if inertial else "reactive flux")
    ax.legend(frameon=False)
    return ax


def _need(dataset: xr.Dataset, *names: str) -> None:
    missing = [name for name in names if name not in dataset]
    if missing:
        raise ConfigError(f"the dataset has no {missing}: give what the probe of the same name returns")
