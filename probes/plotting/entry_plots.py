"""Pictures of single entries: first eigenvalues, diagonals, the rise of the energy within a ball."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.probes.plotting.marks import OKABE_ITO, RULE, curve, half_widths, points
from landscape.probes.plotting.picture import axes, finished, label, needed, picture
from landscape.probes.plotting.rows import Abscissa, chosen, entry, few

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_diagonal", "plot_sharpness", "plot_top_eigenpairs"]

_MOST_POSITIONS = 4
_RISES = {"maximum": "maximum", "first_order": "after one step along the gradient", "mean": "mean"}
_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@picture("eigenvalue", "residual", "converged")
def plot_top_eigenpairs(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """First eigenvalues in their order, with residuals as bars; hollow where a pair has not converged.

    At several positions, a few of them.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from landscape.probes.curvature import top_eigenpairs
    >>> plot_top_eigenpairs(top_eigenpairs(np.diag([3.0, 1.0]), k=2)).get_xlabel()
    'number'
    """
    ax = axes(ax)
    dataset = dataset.transpose(..., "eigenvalue")
    dims = [str(dim) for dim in dataset["eigenvalue"].dims[:-1]]
    rows, errors, good = (
        dataset[name].to_numpy().reshape(-1, dataset.sizes["eigenvalue"])
        for name in ("eigenvalue", "residual", "converged")
    )
    numbers = np.arange(1, rows.shape[1] + 1)
    for color, row in zip(OKABE_ITO, chosen(len(rows), _MOST_POSITIONS), strict=False):
        ax.plot(numbers, rows[row], color=color, lw=1.0, label=entry(dataset, dims, int(row)))
        points(ax, numbers, rows[row], errors[row], good[row], color=color)
    ax.axhline(0.0, **RULE)
    return finished(ax, "number", r"eigenvalue $\lambda$ of the Hessian")


@picture("diagonal", "diagonal_stderr")
def plot_diagonal(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Entries of a diagonal: of a network their distribution in each layer, else in descending order.

    A dot is the median of a layer, thick bars hold half of its entries and thin ones nine tenths. In descending order
    a 95 % band is drawn where the entries are estimates. Where entries are zero or negative the axis is linear around
    zero, logarithmic beyond.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `diagonal`; at several positions, a few of them.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from landscape.potentials import Quadratic
    >>> from landscape.probes.curvature import diagonal
    >>> plot_diagonal(diagonal(Quadratic([3.0, 1.0]), [0.0, 0.0])).get_ylabel()
    'diagonal of the Hessian'
    """
    ax = axes(ax)
    dataset = dataset.transpose(..., "coordinate")
    found = dataset["diagonal"]
    dims = [str(dim) for dim in found.dims[:-1]]
    rows, half = (
        np.reshape(one, (-1, found.shape[-1])) for one in (found.to_numpy(), half_widths(dataset, "diagonal"))
    )
    layers = "layer" in dataset.coords and np.unique(dataset.coords["layer"]).size > 1
    drawn = list(few(len(rows), _MOST_POSITIONS))
    for i, (row, color) in enumerate(drawn):
        name = entry(dataset, dims, row)
        if layers:
            _by_layer(ax, dataset, rows[row], (i, len(drawn)), color, name)
        else:
            order = np.argsort(-rows[row])
            marker = "." if order.size < 50 else None
            half_row = half[row][order] if half[row].any() else np.full(order.size, np.nan)
            curve(
                ax, np.arange(1, order.size + 1), rows[row][order], half_row, color=color, label=name, marker=marker
            )  # fmt: skip
            ax.set_xlabel("rank")
    entries = rows[[row for row, _ in drawn]]
    _scale(ax, entries[np.isfinite(entries)])
    return finished(ax, None, str(found.attrs.get("long_name", "diagonal")))


@picture("converged")
def plot_sharpness(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Largest and mean rise of the energy within a ball, against its radius or along a path; hollow: not converged.

    Bars of the mean are 95 % intervals. Those of the maximum, a lower bound, go upwards.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `sharpness`, a maximum or a mean; of several positions and radii, the first few positions.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from landscape.potentials import Quadratic
    >>> from landscape.probes.curvature import sharpness
    >>> plot_sharpness(sharpness(Quadratic([3.0, 1.0]), [0.0, 0.0], radius=[0.1, 0.2])).get_xlabel()
    'radius of the ball'
    """
    names = [name for name in _RISES if name in dataset and f"{name}_stderr" in dataset] or ["maximum"]
    needed(dataset, *names)
    ax = axes(ax)
    several = "radius" in dataset.dims
    dims = [str(dim) for dim in dataset[names[0]].dims if dim != "radius"]
    if several:
        radius, dataset = dataset.coords["radius"], dataset.transpose(*dims, "radius", ...)
        at, lines = Abscissa(radius.to_numpy(), label("radius of the ball", radius)), dims
    else:
        at, lines = Abscissa.of_path(dataset, dims), dims[:-1]
    good = dataset["converged"].to_numpy().reshape(-1, at.values.size)
    kept = chosen(len(good), _MOST_POSITIONS)
    for place, (color, name) in enumerate(zip(OKABE_ITO, names, strict=False)):
        values, half = (np.reshape(one, good.shape) for one in (dataset[name].to_numpy(), half_widths(dataset, name)))
        for line, row in zip(("-", "--", "-.", ":"), kept, strict=False):
            text = ", ".join(filter(None, [_RISES[name], entry(dataset, lines, int(row))]))
            x = at.aside(place, len(names)) if at.names else at.values
            style: dict[str, Any] = {"ls": "none", "marker": "o"} if at.names else {"ls": line}
            ax.plot(x, values[row], ms=4, color=color, lw=1.2, label=text, **style)
            if name == "maximum":
                points(ax, x, values[row], np.stack([0.0 * half[row], half[row]]), good[row], color=color)
            else:
                points(ax, x, values[row], half[row], np.isfinite(half[row]), color=color)
    if "first_order" in dataset:
        values = dataset["first_order"].to_numpy().reshape(good.shape)
        for number, row in enumerate(kept):
            ax.plot(at.values, values[row], "x", color="0.35", ms=5, label=None if number else _RISES["first_order"])
    at.set_up(ax)
    heights = np.concatenate([dataset[name].to_numpy().ravel() for name in names])
    wide = several and at.values.max() > 20 * at.values.min() and bool((heights[np.isfinite(heights)] > 0).all())
    return finished(ax, None, r"rise of the energy $V(x + e) - V(x)$", logarithmic="xy" if wide else "")


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
    ax.axhline(0.0, **RULE)


def _by_layer(
    ax: Axes, dataset: xr.Dataset, row: np.ndarray, place: tuple[int, int], color: object, name: str | None
) -> None:
    layer = dataset.coords["layer"]
    numbers = layer.to_numpy()
    texts = str(layer.attrs.get("flag_meanings", "")).split()
    known = np.unique(numbers)
    quantiles = np.array([np.nanquantile(row[numbers == number], _SHARES) for number in known]).T
    at = Abscissa(np.arange(len(known)), "layer", names=[texts[n] if n < len(texts) else str(n) for n in known])
    x = at.aside(*place)
    ax.vlines(x, quantiles[0], quantiles[4], color=color, lw=1.0)
    ax.vlines(x, quantiles[1], quantiles[3], color=color, lw=4.0)
    ax.plot(x, quantiles[2], "o", color=color, mec="white", ms=6, label=name)
    at.set_up(ax)
