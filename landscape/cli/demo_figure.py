"""The figure of `landscape demo`: four panels, theory beside measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape import probes
from landscape.potentials import Valley
from landscape.probes.plotting.marks import BAND, BLUE, GREEN, ORANGE, points
from landscape.probes.plotting.picture import finished

__all__ = ["draw_figure"]


def draw_figure(
    path: Path,
    energy: xr.DataArray,
    summary: xr.Dataset,
    weights: int,
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
    probes.fluctuations.plot_energy_trace(energy, ax=axes[0, 0])
    axes[0, 0].set_title("loss of the network above its minimum, against time", fontsize=10)
    _distributions(axes[0, 1], energy, summary)
    _moments(axes[1, 0], summary, weights)
    theory = np.asarray(valley.effective_potential(profile.y.values, temperature))
    probes.free_energy.plot_profile(profile, ax=axes[1, 1], theory=theory)
    printed = 2 * theory
    curve = printed + float((profile.free_energy - printed).mean())
    axes[1, 1].plot(profile.y, curve, ls=":", color="0.4", label="T ln g (as printed)")
    axes[1, 1].lines[1].set_label("(T/2) ln g")
    finished(axes[1, 1], None, None, fontsize=8)
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


def _moments(ax: Any, summary: xr.Dataset, weights: int) -> None:
    t = summary.temperature.values
    used = _used(summary)
    deviation = summary.variance**0.5
    for text, value, error, marker, color, theory, formula in (
        ("mean", summary["mean"], summary.mean_stderr, "o", BLUE, weights * t / 2, "N T / 2"),
        ("deviation", deviation, summary.variance_stderr / (2 * deviation), "s", GREEN, t * (weights / 2) ** 0.5,
         "T sqrt(N / 2)"),
    ):  # fmt: skip
        points(ax, t, value, BAND * error, used, color=color, marker=marker, label=text)
        ax.plot(t, theory, lw=1, color=ORANGE, ls="-" if marker == "o" else "--", label=f"theory, {formula}")
    note = "" if used.all() else "; open: too short or not stationary"
    ax.set_title(f"mean and deviation, N = {weights} weights{note}", fontsize=10)
    y = "mean and deviation of $L$ [energy]"
    finished(ax, "temperature $T$ [energy]", y, logarithmic="xy", fontsize=8)
