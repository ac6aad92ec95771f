"""`landscape plot`: a picture of a stored run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.cli.console import console, no_overwrite
from landscape.errors import ConfigError
from landscape.opening import open as open_run
from landscape.probes import fluctuations
from landscape.probes.plotting.marks import BLUE

__all__ = ["plot_places", "plot_run"]


def plot_run(path: Path, output: Path | None, *, force: bool) -> None:
    """Energy against time and its distribution; for formulas the distribution of the first two coordinates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    target = no_overwrite(output or path.with_suffix(".png"), force=force)
    with open_run(path) as dataset:
        if "energy" not in dataset:
            raise ConfigError(f"{str(path)!r} has no energy to plot; expected a run")
        energy = dataset.energy.load()
        places = "position" in dataset and "draw" in dataset.position.dims
        figure = Figure(figsize=(14.5 if places else 10, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = np.atleast_1d(figure.subplots(1, 3 if places else 2))
        fluctuations.plot_energy_trace(energy, ax=axes[0])
        by = "temperature" if float(energy.temperature.min()) > 0 else "chain"
        if energy.sizes["draw"] >= 50:
            fluctuations.plot_energy_distribution(energy, fluctuations.summary(energy, by=by), ax=axes[1])
        else:
            axes[1].set_axis_off()
            axes[1].text(0.5, 0.5, "fewer than 50 draws:\nno distribution", ha="center", va="center")
        if places:
            plot_places(dataset.position.load(), ax=axes[2])
        figure.suptitle(dataset.attrs.get("title", path.name), fontsize=11)
        if target.suffix.lstrip(".") not in figure.canvas.get_supported_filetypes():
            raise ConfigError(f"a picture is .png, .pdf or .svg by its name, got {str(target)!r}")
        figure.savefig(target, dpi=130)
    console.print(f"wrote [bold]{target}[/bold]")


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
