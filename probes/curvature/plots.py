"""Pictures of curvature: along a path, as distributions over a run, as a density with its outliers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError
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
)
from landscape.probes.curvature.scaling import ROUNDING

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

_MOST_LINES = 8
_OUTLIER_RESIDUAL = 1e-2  # of the range: a node that close to an eigenvalue is drawn as one
_GAP = 2.0  # of the widest gap of the bulk, beyond which what follows is outside


@guarded
@flagged
def plot_largest_eigenvalue(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Largest eigenvalue along a path or run, with its residual as a bar; hollow where it has not converged.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `largest_eigenvalue` or `extreme_eigenvalues`.

    Raises
    ------
    ConfigError
        If the dataset has no such variable.
    """
    return _lines(dataset, {"largest": "largest"}, r"eigenvalue $\lambda$ of the Hessian", ax)


@guarded
@flagged
def plot_extreme_eigenvalues(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Largest and smallest eigenvalue along a path or run, with their residuals as bars.

    Raises
    ------
    ConfigError
        If the dataset has no such variables.
    """
    ax = _lines(dataset, {"largest": "largest", "smallest": "smallest"}, r"eigenvalue $\lambda$ of the Hessian", ax)
    ax.axhline(0.0, color="0.6", lw=0.8)
    return ax


@guarded
@flagged
def plot_trace(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Trace of the Hessian along a path or run, with 95 % bars.

    Raises
    ------
    ConfigError
        If the dataset has no such variable.
    """
    return _lines(dataset, {"trace": "trace"}, r"trace of the Hessian $\mathrm{tr}\,H$", ax)


@guarded
@flagged
def plot_fisher_trace(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Trace of the Fisher matrix along a path or run, with 95 % bars; the axis says which labels.

    Raises
    ------
    ConfigError
        If the dataset has no such variable.
    """
    text = rf"trace of the Fisher matrix $\mathrm{{tr}}\,F$, labels: {dataset.attrs.get('labels', '?')}"
    return _lines(dataset, {"fisher_trace": "fisher_trace"}, text, ax)


@guarded
@flagged
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
    _need(dataset, "eigenvalue")
    ax = axes(ax)
    groups = _spectra(dataset)
    thermal = [t is not None and t > 0 for _, t, _ in groups]
    scaled = all(thermal) and len(groups) > 1 if scaled is None else scaled
    if scaled and not all(thermal):
        raise ConfigError("scaled=True needs a coordinate `temperature` above 0: the dataset has none")
    hidden = 0.0
    for color, (name, temperature, values) in zip(shades(len(groups)), groups, strict=True):
        positive = values[values > ROUNDING * values.max(initial=0.0)]
        x = np.sort(positive) / (temperature if scaled and temperature else 1.0)
        hidden = max(hidden, 1 - x.size / max(values.size, 1))
        ax.plot(x, np.arange(x.size, 0, -1) / max(values.size, 1), color=color, lw=1.4, label=name, drawstyle="steps")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(r"$\lambda / T$" if scaled else r"eigenvalue $\lambda$")
    ax.set_ylabel(r"share of eigenvalues above")
    title = f"not positive: up to {100 * hidden:.0f} %" if hidden else None
    ax.legend(frameon=False, fontsize="small", title=title, title_fontsize="small")
    return ax


@guarded
@flagged
def plot_score_singular_values(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Singular values of the score matrix against their rank, a line for each pivot or snapshot.

    Values below their rounding error are left out.

    Raises
    ------
    ConfigError
        If the dataset has no singular values.
    """
    _need(dataset, "singular_value")
    ax = axes(ax)
    values = dataset["singular_value"].to_numpy()
    errors = dataset["singular_value_stderr"].to_numpy().reshape(-1, values.shape[-1])
    dims = [str(d) for d in dataset["singular_value"].dims[:-1]]
    rows = values.reshape(-1, values.shape[-1])
    kept = chosen(len(rows), _MOST_LINES)
    for color, row in zip(shades(len(kept)), kept, strict=True):
        good = rows[row] > errors[row]
        ax.plot(1 + np.flatnonzero(good), rows[row][good], color=color, lw=1.3, label=_entry(dataset, dims, row))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("rank")
    ax.set_ylabel("singular value of the score matrix")
    if dims:
        ax.legend(frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_spectral_density(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Density of eigenvalues on a logarithmic axis with a 95 % band over probes; outliers as sticks.

    A stick stands where a node of every probe has converged to an eigenvalue outside the bulk; its height is the
    density of one eigenvalue broadened like the rest.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `spectral_density`; at several positions, a few of them.

    Raises
    ------
    ConfigError
        If the dataset has no density.
    """
    _need(dataset, "density")
    ax = axes(ax)
    dims = [str(d) for d in dataset["density"].dims[:-1]]
    stacked = dataset.stack(at=dims) if dims else dataset.expand_dims("at")
    kept = chosen(stacked.sizes["at"], 4)
    floor, roof = np.inf, 0.0
    for i, row in enumerate(kept):
        one, color = stacked.isel(at=int(row)), OKABE_ITO[i]
        x, y = one["eigenvalue"].to_numpy(), one["density"].to_numpy()
        half = 1.96 * one["density_stderr"].to_numpy()
        ax.plot(x, y, color=color, lw=1.4, label=_entry(dataset, dims, int(row)) or "density")
        ax.fill_between(x, np.maximum(y - half, 1e-300), y + half, color=color, alpha=0.25, lw=0)
        places = _outliers(one)
        height = np.interp(places, x, y)
        ax.plot(places, height, "v", color=color, ms=5, label=f"{places.size} outliers" if places.size else None)
        weight = one["weight"].to_numpy()
        floor = min(floor, float(weight[weight > 1e-12].min()) / float(one["width"]) / 30)
        roof = max(roof, float((y + half).max()))
    ax.set_yscale("log")
    ax.set_ylim(floor, 3 * roof)
    ax.set_xlabel(r"eigenvalue $\lambda$ of the Hessian")
    ax.set_ylabel("density")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _need(dataset: xr.Dataset, *names: str) -> None:
    missing = [name for name in names if name not in dataset]
    if missing:
        raise ConfigError(f"the dataset has no {missing}; it has {sorted(map(str, dataset.data_vars))}")


def _lines(dataset: xr.Dataset, names: dict[str, str], text: str, ax: Axes | None) -> Axes:
    """Values against the last dim, a line for each entry of the others; points beside each other where it has names."""
    _need(dataset, *names)
    ax = axes(ax)
    dims = [str(d) for d in dataset[next(iter(names))].dims]
    x, name = _path(dataset, dims)
    ticks = names_along(dataset, dims[-1]) if dims else None
    several = len(names) > 1
    for i, (key, own) in enumerate(names.items()):
        values = np.atleast_1d(dataset[key].to_numpy()).reshape(-1, x.size)
        if f"{key}_stderr" in dataset:
            half = 1.96 * dataset[f"{key}_stderr"].to_numpy()
        else:
            half = dataset[f"{key}_residual"].to_numpy()
        half, good = half.reshape(values.shape), dataset["converged"].to_numpy().reshape(values.shape)
        kept = chosen(len(values), _MOST_LINES)
        colors = [OKABE_ITO[i]] * len(kept) if several else [OKABE_ITO[j % len(OKABE_ITO)] for j in range(len(kept))]
        for number, (color, row) in enumerate(zip(colors, kept, strict=True)):
            entry = _entry(dataset, dims[:-1], int(row))
            legend = ", ".join(filter(None, [own if several else "", entry]))
            at = x + beside(number, len(kept)) if ticks else x
            ax.plot(at, values[row], "o" if ticks else "-", ms=4, color=color, lw=1.2, label=legend or None)
            for part, face in ((good[row], color), (~good[row], "white")):
                ax.errorbar(
                    at[part], values[row][part], half[row][part],
                    fmt="o", ms=4, color=color, mfc=face, elinewidth=0.9, capsize=2, lw=0,
                )  # fmt: skip
    along(ax, name, logarithmic=False, whole=x.dtype.kind == "i")
    if ticks:
        name_ticks(ax, ticks)
    ax.set_ylabel(text)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small")
    return ax


def _path(dataset: xr.Dataset, dims: list[str]) -> tuple[np.ndarray, str]:
    """What the last dim is drawn against: arc length, numbers, or where there is none, a single place."""
    if not dims:
        return np.zeros(1, dtype=int), ""
    dim = dims[-1]
    for key in ("arc_length", "snapshot_step", dim):
        if key in dataset.coords and dataset.coords[key].dims == (dim,) and dataset.coords[key].dtype.kind in "fi":
            about: dict[str, Any] = dataset.coords[key].attrs
            return dataset.coords[key].to_numpy(), label(str(about.get("long_name", key)), str(about.get("units", "1")))
    return np.arange(dataset.sizes[dim]), dim


def _entry(dataset: xr.Dataset, dims: list[str], row: int) -> str:
    """Name of one combination of leading dims."""
    if not dims:
        return ""
    where = np.unravel_index(row, [dataset.sizes[d] for d in dims])
    texts = []
    for dim, i in zip(dims, where, strict=True):
        value = dataset.coords[dim].to_numpy()[i] if dim in dataset.coords else i
        texts.append(f"{dim} {value:.3g}" if isinstance(value, float) else f"{dim} {value}")
    return ", ".join(texts)


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
            groups.append((f"T = {level:.3g}", float(level), values[np.isfinite(values)]))
        return groups
    rows = found.to_numpy().reshape(-1, found.shape[-1])
    kept = chosen(len(rows), _MOST_LINES)
    return [(_entry(dataset, leading, int(row)) or "spectrum", None, rows[row][np.isfinite(rows[row])]) for row in kept]


def _outliers(one: xr.Dataset) -> np.ndarray:
    """Nodes that are eigenvalues in all probes, beyond a gap from the bulk; they may be close to one another.

    A node has converged where its residual is a tenth of the distance to its neighbours or less: of the bulk a node
    stands for many eigenvalues, and is not. The bulk reaches from what has not converged outwards, until a gap is
    longer than two widths, at which the drawn curve has a minimum, and than twice any before.
    """
    probes = [_converged(*row) for row in zip(one["node"].to_numpy(), one["residual"].to_numpy(), strict=True)]
    nodes, good = probes[0]
    if nodes.size < 2:
        return np.empty(0)
    for other, settled in probes[1:]:
        near = np.abs(other - nodes[:, None]).argmin(axis=1)
        good &= settled[near] & (np.abs(other[near] - nodes) < _OUTLIER_RESIDUAL * np.ptp(nodes))
    weight = one["weight"].to_numpy()[0][np.argsort(one["node"].to_numpy()[0])][: nodes.size]
    middle = int(np.searchsorted(np.cumsum(weight), 0.5 * weight.sum()))
    rest = np.flatnonzero(~good)
    first, last = int(min([middle, *rest])), int(max([middle, *rest]))
    gaps = np.diff(nodes)
    widest = float(gaps[~good[1:] & ~good[:-1]].max(initial=2.0 * float(one["width"]) / _GAP))
    upper, lower = gaps[last:], gaps[:first][::-1]
    end, start = last + _reach(upper, widest), first - _reach(lower, widest)
    outside = np.ones(nodes.size, dtype=bool)
    outside[start : end + 1] = False
    return np.asarray(nodes[outside & good])


def _converged(nodes: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite nodes of one probe in ascending order, and whether each is an eigenvalue."""
    order = np.argsort(nodes)[: int(np.isfinite(nodes).sum())]
    ordered = nodes[order]
    gaps = np.concatenate([[np.inf], np.diff(ordered), [np.inf]])
    limit = np.fmin(0.1 * np.minimum(gaps[1:], gaps[:-1]), _OUTLIER_RESIDUAL * np.ptp(ordered))
    return ordered, residuals[order] < limit


def _reach(gaps: np.ndarray, widest: float) -> int:
    """Gaps that belong to the bulk, from its inside outwards."""
    for number, gap in enumerate(gaps):
        if gap > _GAP * widest:
            return number
        widest = max(widest, float(gap))
    return len(gaps)
