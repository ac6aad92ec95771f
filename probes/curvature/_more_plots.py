"""Pictures of diagonals and of the rise of the energy within a ball."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.probes._plot_style import (
    OKABE_ITO,
    along,
    axes,
    beside,
    chosen,
    flagged,
    label,
    name_ticks,
    names_along,
    shades,
)  # fmt: skip
from landscape.probes.curvature.plots import _entry, _need, _path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_diagonal", "plot_sharpness"]

_MOST_POSITIONS = 4
_RISES = {"maximum": "maximum", "first_order": "after one step along the gradient", "mean": "mean"}
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@guarded
@flagged
def plot_diagonal(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Entries of a diagonal: of a network their distribution in each layer, else in descending order.

    A dot is the median of a layer, thick bars hold half of its entries and thin ones nine tenths. In descending order
    a 95 % band is drawn where the entries are estimates. Where entries are zero or negative the axis is linear around
    zero, logarithmic beyond.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `diagonal`; at several positions, a few of them.

    Raises
    ------
    ConfigError
        If the dataset has no diagonal.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from landscape.potentials import Quadratic
    >>> from landscape.probes.curvature import diagonal
    >>> plot_diagonal(diagonal(Quadratic([3.0, 1.0]), [0.0, 0.0])).get_ylabel()
    'diagonal of the Hessian'
    """
    _need(dataset, "diagonal", "diagonal_stderr")
    ax = axes(ax)
    found = dataset["diagonal"].transpose(..., "coordinate")
    dims = [str(dim) for dim in found.dims[:-1]]
    rows = found.to_numpy().reshape(-1, found.shape[-1])
    errors = dataset["diagonal_stderr"].transpose(..., "coordinate").to_numpy().reshape(rows.shape)
    kept = chosen(len(rows), _MOST_POSITIONS)
    layers = "layer" in dataset.coords and np.unique(dataset.coords["layer"]).size > 1
    for i, (color, row) in enumerate(zip(shades(len(kept)), kept, strict=True)):
        name = _entry(dataset, dims, int(row)) or None
        if layers:
            _by_layer(ax, dataset, rows[row], beside(i, len(kept)), color, name)
        else:
            _in_order(ax, rows[row], errors[row], color, name)
    _scale(ax, rows[kept][np.isfinite(rows[kept])])
    ax.set_ylabel(str(found.attrs.get("long_name", "diagonal")))
    if dims:
        ax.legend(frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_sharpness(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Largest and mean rise of the energy within a ball, against its radius or along a path; hollow: not converged.

    Bars of the mean are 95 % intervals. Those of the maximum, a lower bound, go upwards.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `sharpness`; of several positions and radii, the first few positions.

    Raises
    ------
    ConfigError
        If the dataset has neither maximum nor mean.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from landscape.potentials import Quadratic
    >>> from landscape.probes.curvature import sharpness
    >>> plot_sharpness(sharpness(Quadratic([3.0, 1.0]), [0.0, 0.0], radius=[0.1, 0.2])).get_xlabel()
    'radius of the ball'
    """
    names = [name for name in _RISES if name in dataset and f"{name}_stderr" in dataset] or ["maximum"]
    _need(dataset, *names, "converged")
    ax = axes(ax)
    several = "radius" in dataset.dims
    dims = [str(dim) for dim in dataset[names[0]].dims if dim != "radius"]
    if several:
        about = dataset.coords["radius"].attrs
        x, text = dataset.coords["radius"].to_numpy(), label("radius of the ball", str(about.get("units", "1")))
        order, lines = (*dims, "radius"), dims
    else:
        (x, text), order, lines = _path(dataset, dims), tuple(dims), dims[:-1]
    ticks = names_along(dataset, dims[-1]) if dims and not several else None
    good = dataset["converged"].transpose(*order).to_numpy().reshape(-1, x.size)
    kept = chosen(len(good), _MOST_POSITIONS)
    for place, (color, name) in enumerate(zip(OKABE_ITO, names, strict=False)):
        values = dataset[name].transpose(*order).to_numpy().reshape(-1, x.size)
        errors = 1.96 * dataset[f"{name}_stderr"].transpose(*order).to_numpy().reshape(-1, x.size)
        for line, row in zip(("-", "--", "-.", ":"), kept, strict=False):
            legend = ", ".join(filter(None, [_RISES[name], _entry(dataset, lines, int(row))]))
            trusted = good[row] if name == "maximum" else np.isfinite(errors[row])
            at = x + beside(place, len(names)) if ticks else x
            style = "none" if ticks else line
            _rise(ax, at, values[row], errors[row], trusted, color, style, legend, upwards=name == "maximum")
    if "first_order" in dataset:
        values = dataset["first_order"].transpose(*order).to_numpy().reshape(-1, x.size)
        for number, row in enumerate(kept):
            ax.plot(x, values[row], "x", color="0.35", ms=5, label=_RISES["first_order"] if number == 0 else None)
    along(ax, text, logarithmic=False, whole=x.dtype.kind == "i")
    if ticks:
        name_ticks(ax, ticks)
    heights = [dataset[name].to_numpy() for name in names]
    if several and x.max() > 20 * x.min() and all((values[np.isfinite(values)] > 0).all() for values in heights):
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.set_ylabel(r"rise of the energy $V(x + e) - V(x)$")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _rise(
    ax: Axes,
    x: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray,
    good: np.ndarray,
    color: str,
    style: str,
    legend: str,
    *,
    upwards: bool,
) -> None:
    ax.plot(x, values, ls=style, marker="o" if style == "none" else None, ms=4, color=color, lw=1.2, label=legend)
    for part, face in ((good, color), (~good, "white")):
        below = np.zeros_like(errors) if upwards else errors
        ax.errorbar(
            x[part], values[part], np.stack([below, errors])[:, part],
            fmt="o", ms=4, color=color, mfc=face, elinewidth=0.9, capsize=2, lw=0,
        )  # fmt: skip


def _scale(ax: Axes, entries: np.ndarray) -> None:
    if not entries.size or not entries.any():
        return
    if (entries > 0).all():
        ax.set_yscale("log")
        return
    # below a thousandth of the larger entries nothing is worth a decade
    sizes = np.abs(entries)
    ax.set_yscale("symlog", linthresh=1e-3 * float(np.quantile(sizes, 0.9) or sizes.max()))
    if (entries >= 0).all():
        ax.set_ylim(bottom=-ax.get_ylim()[1] * 1e-5)
    ax.axhline(0.0, color="0.6", lw=0.8)


def _by_layer(ax: Axes, dataset: xr.Dataset, row: np.ndarray, shift: float, color: object, name: str | None) -> None:
    layer = dataset.coords["layer"]
    numbers = layer.to_numpy()
    texts = str(layer.attrs.get("flag_meanings", "")).split()
    known = np.unique(numbers)
    quantiles = np.array([np.nanquantile(row[numbers == number], _SHARES) for number in known]).T
    x = np.arange(len(known)) + shift
    ax.vlines(x, quantiles[0], quantiles[4], color=color, lw=1.0)
    ax.vlines(x, quantiles[1], quantiles[3], color=color, lw=4.0)
    ax.plot(x, quantiles[2], "o", color=color, mec="white", ms=6, label=name)
    name_ticks(ax, [texts[number] if number < len(texts) else str(number) for number in known])
    ax.set_xlabel("layer")


def _in_order(ax: Axes, row: np.ndarray, errors: np.ndarray, color: object, name: str | None) -> None:
    order = np.argsort(-row)
    rank, values, half = np.arange(1, row.size + 1), row[order], 1.96 * errors[order]
    ax.plot(rank, values, ".-" if row.size < 50 else "-", color=color, lw=1.2, label=name)
    if half.any():
        ax.fill_between(rank, values - half, values + half, color=color, alpha=0.25, lw=0)
    ax.set_xlabel("rank")
