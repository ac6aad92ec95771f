"""Pictures of curvature: along a path, as distributions over a run, as a density with its outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.errors import ConfigError
from landscape.probes.curvature.scaling import ROUNDING
from landscape.probes.plotting.marks import OKABE_ITO, RULE, curve, half_widths, points
from landscape.probes.plotting.outliers import outliers
from landscape.probes.plotting.picture import axes, finished, picture
from landscape.probes.plotting.rows import Abscissa, chosen, entry, few, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_eigenvalues",
    "plot_extreme_eigenvalues",
    "plot_fisher_trace",
    "plot_largest_eigenvalue",
    "plot_score_singular_values",
    "plot_spectral_density",
    "plot_trace",
]


@picture("largest")
def plot_largest_eigenvalue(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Largest eigenvalue along a path or run, with its residual as a bar; hollow where it has not converged.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `largest_eigenvalue` or `extreme_eigenvalues`.
    """
    return _lines(dataset, ["largest"], r"eigenvalue $\lambda$ of the Hessian", ax)


@picture("largest", "smallest")
def plot_extreme_eigenvalues(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Largest and smallest eigenvalue along a path or run, with their residuals as bars."""
    ax = axes(ax)
    ax.axhline(0.0, **RULE)
    return _lines(dataset, ["largest", "smallest"], r"eigenvalue $\lambda$ of the Hessian", ax)


@picture("trace")
def plot_trace(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Trace of the Hessian along a path or run, with 95 % bars."""
    return _lines(dataset, ["trace"], r"trace of the Hessian $\mathrm{tr}\,H$", ax)


@picture("fisher_trace")
def plot_fisher_trace(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Trace of the Fisher matrix along a path or run, with 95 % bars; the axis says which labels."""
    text = rf"trace of the Fisher matrix $\mathrm{{tr}}\,F$, labels: {dataset.attrs.get('labels', '?')}"
    return _lines(dataset, ["fisher_trace"], text, ax)


@picture("eigenvalue")
def plot_eigenvalues(dataset: xr.Dataset, ax: Axes | None = None, *, scaled: bool | None = None) -> Axes:
    """Share of the positive eigenvalues above lambda, one line a temperature; they collapse in lambda / T.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `eigenvalues`. Chains of equal `temperature` and all other dims are pooled; without temperatures
        there is a line for each entry of the last leading dim.
    scaled : bool, optional
        Whether to divide by the temperature: by default where there are several.

    Raises
    ------
    ConfigError
        If the dataset has no eigenvalues, or is to be scaled without temperatures.
    """
    ax = axes(ax)
    groups = _spectra(dataset)
    thermal = [t is not None and t > 0 for _, t, _ in groups]
    scaled = all(thermal) and len(groups) > 1 if scaled is None else scaled
    if scaled and not all(thermal):
        raise ConfigError("scaled=True needs a coordinate `temperature` above 0: the dataset has none")
    hidden = 0.0
    for (name, temperature, values), (_, color) in zip(groups, few(len(groups), len(groups)), strict=True):
        positive = values[values > ROUNDING * values.max(initial=0.0)]
        x = np.sort(positive) / (temperature if scaled and temperature else 1.0)
        hidden = max(hidden, 1 - x.size / max(values.size, 1))
        ax.plot(x, np.arange(x.size, 0, -1) / max(values.size, 1), color=color, lw=1.4, label=name, drawstyle="steps")
    return finished(
        ax, r"$\lambda / T$" if scaled else r"eigenvalue $\lambda$", "share of eigenvalues above", logarithmic="xy",
        title=f"not positive: up to {100 * hidden:.0f} %" if hidden else None,
    )  # fmt: skip


@picture("singular_value")
def plot_score_singular_values(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Singular values of the score matrix against their rank, a line for each pivot or snapshot.

    Values below their rounding error are left out.
    """
    ax = axes(ax)
    values = dataset["singular_value"].to_numpy()
    errors = dataset["singular_value_stderr"].to_numpy().reshape(-1, values.shape[-1])
    dims = [str(d) for d in dataset["singular_value"].dims[:-1]]
    rows = values.reshape(-1, values.shape[-1])
    for row, color in few(len(rows)):
        good = rows[row] > errors[row]
        ax.plot(1 + np.flatnonzero(good), rows[row][good], color=color, lw=1.3, label=entry(dataset, dims, row))
    return finished(ax, "rank", "singular value of the score matrix", logarithmic="xy")


@picture("density")
def plot_spectral_density(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Density of eigenvalues on a logarithmic axis with a 95 % band over probes; outliers as sticks.

    A stick stands where a node of every probe has converged to an eigenvalue outside the bulk; its height is the
    density of one eigenvalue broadened like the rest.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `spectral_density`; at several positions, a few of them.
    """
    ax = axes(ax)
    dims = [str(d) for d in dataset["density"].dims[:-1]]
    stacked = dataset.stack(at=dims) if dims else dataset.expand_dims("at")
    floor, roof = np.inf, 0.0
    for row, color in zip(chosen(stacked.sizes["at"], 4), OKABE_ITO, strict=False):
        one = stacked.isel(at=int(row))
        x, y = one["eigenvalue"].to_numpy(), one["density"].to_numpy()
        half = half_widths(one, "density")
        curve(ax, x, y, half, color=color, label=entry(dataset, dims, int(row)) or "density", least=0.0)
        nodes = outliers(one)
        height = np.interp(nodes, x, y)
        ax.plot(nodes, height, "v", color=color, ms=5, label=f"{nodes.size} outliers" if nodes.size else None)
        weight = one["weight"].to_numpy()
        floor = min(floor, float(weight[weight > 1e-12].min()) / float(one["width"]) / 30)
        roof = max(roof, float((y + np.nan_to_num(half)).max()))
    ax.set_yscale("log")
    ax.set_ylim(floor, 3 * roof)
    return finished(ax, r"eigenvalue $\lambda$ of the Hessian", "density")


def _lines(dataset: xr.Dataset, names: list[str], text: str, ax: Axes | None) -> Axes:
    """Values against the last dim, a line for each entry of the others; points beside each other where it has names."""
    ax = axes(ax)
    dims = [str(dim) for dim in dataset[names[0]].dims]
    at = Abscissa.of_path(dataset, dims)
    several = len(names) > 1
    for i, key in enumerate(names):
        rows, half, good = (
            np.asarray(one).reshape(-1, at.values.size)
            for one in (dataset[key], half_widths(dataset, key), dataset["converged"])
        )
        kept = chosen(len(rows))
        for number, row in enumerate(kept):
            color = OKABE_ITO[i if several else number]
            told = ", ".join(filter(None, [key if several else None, entry(dataset, dims[:-1], int(row))]))
            x = at.aside(number, len(kept)) if at.names else at.values
            ax.plot(x, rows[row], "o" if at.names else "-", ms=4, color=color, lw=1.2, label=told or None)
            points(ax, x, rows[row], half[row], good[row], color=color)
    at.set_up(ax)
    return finished(ax, None, text)


def _spectra(dataset: xr.Dataset) -> list[tuple[str, float | None, np.ndarray]]:
    """Name, temperature and finite eigenvalues of each line."""
    found = dataset["eigenvalue"]
    leading = [str(d) for d in found.dims[:-1]]
    temperature = dataset.coords.get("temperature")
    if temperature is not None and temperature.ndim == 1 and temperature.dims[0] in leading:
        dim, levels = str(temperature.dims[0]), temperature.to_numpy()
        groups: list[tuple[str, float | None, np.ndarray]] = []
        for level in np.unique(levels):
            values = found.isel({dim: np.flatnonzero(levels == level)}).to_numpy().ravel()
            groups.append((value_text("temperature", level), float(level), values[np.isfinite(values)]))
        return groups
    rows = found.to_numpy().reshape(-1, found.shape[-1])
    kept = map(int, chosen(len(rows)))
    return [(entry(dataset, leading, row) or "spectrum", None, rows[row][np.isfinite(rows[row])]) for row in kept]
