"""The figure of `landscape demo`: four panels, theory beside measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape import probes
from landscape.flags import estimate
from landscape.potentials import Valley

__all__ = ["draw_figure"]

THEORY = "#D55E00"


def draw_figure(
    path: Path,
    run: xr.Dataset,
    summary: xr.Dataset,
    scan: xr.Dataset | None,
    profile: xr.Dataset,
    valley: Valley,
    temperature: float,
    title: str,
) -> None:
    """Loss against time, its distributions, moments against T, and the valley's profile, as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    probes.fluctuations.plot_energy_trace(run.energy, ax=axes[0, 0])
    axes[0, 0].set_title("loss of the network against time", fontsize=10)
    _distributions(axes[0, 1], run.energy, summary)
    _moments(axes[1, 0], summary, scan)
    theory = np.asarray(valley.effective_potential(profile.y.values, temperature))
    probes.free_energy.plot_profile(profile, ax=axes[1, 1], theory=theory)
    printed = 2 * theory
    curve = printed + float((profile.free_energy - printed).mean())
    axes[1, 1].plot(profile.y, curve, ls=":", color="0.4", label="T ln g (as printed)")
    axes[1, 1].lines[1].set_label("(T/2) ln g")
    axes[1, 1].legend(frameon=False, fontsize=8)
    axes[1, 1].set_title(f"valley $\\frac{{1}}{{2}}(1 + y^2)\\,x^2$ at T = {temperature:g}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)


def _distributions(ax: Any, energy: xr.DataArray, summary: xr.Dataset) -> None:
    """Of the temperatures that are fitted; of all where there are none."""
    used = summary.temperature.values[_used(summary)]
    if len(used):
        energy = energy.isel(chain=np.isin(energy.temperature.values, used))
        summary = summary.sel(temperature=used)
    probes.fluctuations.plot_energy_distribution(energy, summary, ax=ax)
    ax.set_ylim(top=1.35 * ax.get_ylim()[1])  # room for the legend
    for text in ax.get_legend().get_texts():
        text.set_fontsize(8)
    ax.set_title("its distribution, and the fitted Gamma laws", fontsize=10)


def _used(summary: xr.Dataset) -> NDArray[np.bool_]:
    used: NDArray[np.bool_] = (summary.resolved & summary.stationary).values
    return used


def _moments(ax: Any, summary: xr.Dataset, scan: xr.Dataset | None) -> None:
    t = summary.temperature.values
    used = _used(summary)
    for name, value, error, marker, color in (
        ("mean", summary["mean"], summary.mean_stderr, "o", "#0072B2"),
        ("deviation", summary.variance**0.5, summary.variance_stderr / (2 * summary.variance**0.5), "s", "#009E73"),
    ):
        ax.errorbar(t[used], value.values[used], error.values[used], fmt=marker, ms=5, color=color, label=name)
        ax.errorbar(
            t[~used], value.values[~used], error.values[~used], fmt=marker, ms=5, color=color, mfc="none", alpha=0.6
        )
        exponent = None if scan is None else scan.get(f"{name}_exponent")
        if exponent is not None and used.sum() >= 2:
            text = f"{name} ~ T^a, a = {estimate(scan, f'{name}_exponent')}"  # type: ignore[arg-type]
            fit = np.exp(np.polyval(np.polyfit(np.log(t[used]), np.log(value.values[used]), 1), np.log(t)))
            ax.plot(t, fit, lw=0.8, color=color, ls="--", label=text)
    if used.any():
        directions = float((2 * summary["mean"].values[used] / t[used]).mean())
        ax.plot(t, directions * t / 2, color=THEORY, lw=1, label=f"equipartition, {directions:.0f} directions: N T/2")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("temperature T [energy]")
    ax.set_ylabel("mean and deviation of the loss [energy]")
    ax.set_title("mean and deviation; open symbols: too short or not stationary", fontsize=10)
    ax.legend(frameon=False, fontsize=8)
