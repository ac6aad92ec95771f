"""`landscape plot`: a picture of a stored run or result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.cli.console import console, no_overwrite
from landscape.errors import ConfigError
from landscape.probes import fluctuations
from landscape.probes.plotting.marks import BLUE
from landscape.report.figures import plots_of
from landscape.workflows.opening import open as open_run

__all__ = ["plot_places", "plot_run"]


def plot_run(path: Path, output: Path | None, *, force: bool) -> None:
    """Of a result what its probe draws; of a run energy against time, its distribution, and where coordinates went."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = no_overwrite(output or path.with_suffix(".png"), force=force)
    with open_run(path) as dataset:
        panels = _of_result(dataset.load()) if "probe" in dataset.attrs else _of_run(dataset, path)
        figure = Figure(figsize=(5.0 * max(len(panels), 1), 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        for panel, ax in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
            panel(ax=ax)
        figure.suptitle(dataset.attrs.get("title", path.name), fontsize=11)
        if target.suffix.lstrip(".") not in figure.canvas.get_supported_filetypes():
            raise ConfigError(f"a picture is .png, .pdf or .svg by its name, got {str(target)!r}")
        figure.savefig(target, dpi=130)
    console.print(f"wrote [bold]{target}[/bold]")


def _of_result(found: xr.Dataset) -> list[Callable[..., Any]]:
    plots = plots_of(found)
    if not plots:
        raise ConfigError(f"results of {found.attrs['probe']} have no picture of their own: use their numbers")
    return [partial(plot, found) for plot in plots]


def _of_run(dataset: xr.Dataset, path: Path) -> list[Callable[..., Any]]:
    if "energy" not in dataset:
        raise ConfigError(f"{str(path)!r} has no energy to plot; expected a run")
    energy = dataset.energy.load()
    panels: list[Callable[..., Any]] = [partial(fluctuations.plot_energy_trace, energy), partial(_distribution, energy)]
    if "position" in dataset and "draw" in dataset.position.dims:
        panels.append(partial(plot_places, dataset.position.load()))
    return panels


def _distribution(energy: xr.DataArray, ax: Any) -> None:
    if energy.sizes["draw"] < 50:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "fewer than 50 draws:\nno distribution", ha="center", va="center")
        return
    by = "temperature" if float(energy.temperature.min()) > 0 else "chain"
    fluctuations.plot_energy_distribution(energy, fluctuations.summary(energy, by=by), ax=ax)


def plot_places(position: xr.DataArray, ax: Any) -> None:
    """Probability density of the first coordinate, or of the first two."""
    names = [str(name) for name in position.coordinate.values[:2]]
    columns = [position.isel(coordinate=i).values.ravel() for i in range(len(names))]
    columns = [column[np.isfinite(column)] for column in columns]
    if len(columns) == 1:
        ax.hist(columns[0], bins=80, density=True, color=BLUE)
        ax.set_ylabel("probability density")
    else:
        least = np.finfo(float).tiny  # leaves out empty bins
        image = ax.hist2d(*columns, bins=100, cmin=least, cmap="cividis", density=True)[3]
        ax.figure.colorbar(image, ax=ax, label="probability density")
        ax.set_ylabel(names[1])
    ax.set_xlabel(names[0])
