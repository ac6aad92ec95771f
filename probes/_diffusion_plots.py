"""Picture of displacements: their variance against lag, and the diffusion that it tends to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError
from landscape.probes._plot_style import axes, chosen, flagged, label, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_diffusion"]

_CURVES = 7
_BAND = 1.96


@guarded
@flagged
def plot_diffusion(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Variance of the displacement against lag with 95 % bands, logarithmic; 2 D t + c where D is resolved (dashed).

    Raises
    ------
    ConfigError
        If the dataset is not a result of `diffusion`.
    """
    if "displacement_variance" not in dataset or "diffusion" not in dataset:
        raise ConfigError(f"expected a result of `diffusion`, got a dataset of {sorted(map(str, dataset.data_vars))}")
    ax = axes(ax)
    outer = [dim for dim in dataset.displacement_variance.dims if dim != "lag"]
    rows = dataset.stack(_row=outer)
    picks = chosen(rows.sizes["_row"], _CURVES)
    for number, color in zip(picks, shades(picks.size), strict=True):
        one = rows.isel(_row=number)
        time, variance = one.lag_time.to_numpy(), one.displacement_variance.to_numpy()
        error = np.nan_to_num(one.displacement_variance_stderr.to_numpy())
        ax.plot(time, variance, color=color, lw=1.6, label=", ".join(_label(one, str(dim)) for dim in outer))
        ax.fill_between(
            time, np.maximum(variance - _BAND * error, 1e-3 * variance), variance + _BAND * error, color=color,
            alpha=0.25, lw=0,
        )  # fmt: skip
        if bool(one.resolved):
            at = np.abs(time - float(one.fit_start)).argmin()
            beyond = time[at:]
            line = variance[at] + 2.0 * float(one.diffusion) * (beyond - time[at])
            ax.plot(beyond, line, "--", color="black", lw=1.1)
    ax.set_xscale("log")
    ax.set_yscale("log", nonpositive="mask")
    ax.set_xlabel(label("lag $t$", str(dataset.lag_time.attrs.get("units", "1"))))
    units = str(dataset.displacement_variance.attrs.get("units", "1"))
    ax.set_ylabel(label(r"$\langle\Delta x^2\rangle - \langle\Delta x\rangle^2$", units))
    ax.legend(frameon=False, fontsize="small")
    return ax


def _label(one: xr.Dataset, dim: str) -> str:
    if dim == "temperature":
        return f"$T$ = {float(one.temperature):.3g}"
    return f"{dim} {one[dim].item()}" if dim != "coordinate" else str(one[dim].item())
