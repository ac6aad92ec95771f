"""Pictures of series: energies in time, their distribution, burn-in, spikes, distances, gradient noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import gammaln

from landscape.arguments import guarded
from landscape.errors import ConfigError
from landscape.probes._plot_style import OKABE_ITO, abscissa, along, axes, chosen, flagged, label, legend, shades
from landscape.probes._series import FloatArray, Series, as_series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_distance",
    "plot_effective_temperature",
    "plot_energy_distribution",
    "plot_energy_trace",
    "plot_equilibration",
    "plot_spikes",
]

_CURVES = 7
_PIXELS = 600
_BAND = 1.96


def _times(series: Series, chain: int) -> FloatArray:
    if "time" in series.values.coords:
        time = series.values.coords["time"]
        return np.asarray((time.isel(chain=chain) if "chain" in time.dims else time).to_numpy(), dtype=np.float64)
    return np.arange(series.draws, dtype=np.float64)


def _representatives(series: Series) -> tuple[np.ndarray, list[str]]:
    """One chain per temperature, or a few chains, with their labels."""
    if series.temperature is None:
        rows = chosen(series.chains, _CURVES)
        return rows, [f"chain {r}" for r in rows]
    _, first = np.unique(series.temperature, return_index=True)
    rows = first[chosen(first.size, _CURVES)]
    return rows, [f"$T$ = {series.temperature[r]:.3g}" for r in rows]


def _trace(ax: Axes, time: FloatArray, values: FloatArray, color: Any, text: str) -> None:
    """A long series as its mean and range in as many stretches as can be seen."""
    width = max(1, values.size // _PIXELS)
    count = values.size // width
    parts = values[: count * width].reshape(count, width)
    at = time[: count * width].reshape(count, width).mean(axis=1)
    ax.plot(at, parts.mean(axis=1), color=color, lw=1.0, label=text)
    if width > 1:
        ax.fill_between(at, parts.min(axis=1), parts.max(axis=1), color=color, alpha=0.25, lw=0)


@guarded
@flagged
def plot_energy_trace(energy: Any, ax: Axes | None = None) -> Axes:
    """Energy against time, one chain of each temperature: mean and range of stretches too short to be told apart.

    Parameters
    ----------
    energy : DataArray, Dataset or array, dims ``(chain, draw)``
        The series.
        With a logarithmic energy axis where no energy is negative.
    """
    series = as_series(energy)
    ax = axes(ax)
    rows, texts = _representatives(series)
    lowest = np.inf
    for row, text, color in zip(rows, texts, shades(rows.size), strict=True):
        values = series.read(np.array([row]))[0]
        lowest = min(lowest, float(np.min(values, initial=np.inf, where=np.isfinite(values))))
        _trace(ax, _times(series, int(row)), values, color, text)
    if lowest >= 0:
        ax.set_yscale("log", nonpositive="mask")
    ax.set_xlabel(label("time $t$", series.time_units))
    ax.set_ylabel(label("energy $L$", series.units))
    legend(ax, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


@guarded
@flagged
def plot_energy_distribution(energy: Any, summary: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Histograms of energy / T with the Gamma law fitted to each.

    Parameters
    ----------
    energy : DataArray, Dataset or array, dims ``(chain, draw)``
        The series, with temperatures (energy / mean is drawn without).
    summary : xarray.Dataset
        Its summary, by temperature or by chain.

    Raises
    ------
    ConfigError
        If the summary does not belong to the energies.
    """
    series = as_series(energy)
    if "gamma_shape" not in summary:
        raise ConfigError("the second argument must be a result of `summary`")
    dim = str(summary["gamma_shape"].dims[0])
    x, _, _ = abscissa(summary, dim)
    if dim == "chain" and x.size != series.chains:
        raise ConfigError(f"the summary has {x.size} chains, the energies {series.chains}")
    ax = axes(ax)
    rows = chosen(x.size, _CURVES)
    known = "temperature" in summary.coords
    for row, color in zip(rows, shades(rows.size), strict=True):
        unit = float(summary.coords["temperature"][row]) if known else float(summary["mean"][row])
        members = _members(series, summary, dim, int(row))
        kept = series.read(members)[:, int(summary["discarded"][row]) :].ravel() / unit
        kept = kept[np.isfinite(kept)]
        if not (kept.size and unit > 0):
            continue
        # The last bins of a heavy tail would squeeze all others.
        counts, edges = np.histogram(kept, bins=60, range=(kept.min(), np.quantile(kept, 0.9995)))
        ax.stairs(counts / (kept.size * np.diff(edges)), edges, color=color, fill=True, alpha=0.3)
        text = f"$T$ = {unit:.3g}" if known else f"chain {row}"
        shape, rate = float(summary["gamma_shape"][row]), float(summary["gamma_rate"][row]) * unit
        u = np.linspace(max(edges[0], 1e-3 * edges[-1]), edges[-1], 300)
        law = np.exp(shape * np.log(rate) + (shape - 1) * np.log(u) - rate * u - gammaln(shape))
        ax.plot(u, law, color=color, lw=1.6, label=rf"{text}: $\alpha$ = {shape:.3g}, $\beta T$ = {rate:.3g}")
    ax.set_xlabel("energy / temperature, $L/T$" if known else "energy / mean")
    ax.set_ylabel("probability density")
    ax.set_ylim(bottom=0.0)
    legend(ax, frameon=False, fontsize="small", title="lines: fitted Gamma law")
    return ax


def _members(series: Series, summary: xr.Dataset, dim: str, row: int) -> np.ndarray:
    if dim == "chain":
        return np.array([row])
    if series.temperature is None:
        raise ConfigError("the summary is by temperature, and the energies have none")
    members = np.flatnonzero(series.temperature == float(summary.coords["temperature"][row]))
    if members.size == 0:
        raise ConfigError(f"no chain has the summary's temperature {float(summary.coords['temperature'][row]):g}")
    return members


@guarded
@flagged
def plot_equilibration(dataset: xr.Dataset, ax: Axes | None = None, *, energy: Any = None) -> Axes:
    """Time left out at the start of each chain or temperature, or the series with that time marked.

    Parameters
    ----------
    energy : DataArray, Dataset or array, optional
        The series: drawn as by `plot_energy_trace`, with a dot where each starts to count.
    """
    dim = str(dataset["start_time"].dims[0])
    x, name, logarithmic = abscissa(dataset, dim)
    start = dataset["start_time"].to_numpy()
    units = str(dataset["start_time"].attrs.get("units", "1"))
    if energy is None:
        ax = axes(ax)
        reached = dataset["reached"].to_numpy()
        for mask, face, text in ((reached, OKABE_ITO[0], "equilibrium reached"), (~reached, "white", "not reached")):
            if mask.any():
                ax.plot(x[mask], start[mask], "o", color=OKABE_ITO[0], mfc=face, label=text)
        along(ax, name, logarithmic, whole=x.dtype.kind == "i")
        ax.set_ylim(bottom=0.0)
        ax.set_ylabel(label("time left out", units))
        legend(ax, frameon=False, fontsize="small")
        return ax
    series = as_series(energy)
    ax = plot_energy_trace(series.values, ax)
    rows, _ = _representatives(series)
    for row, color in zip(rows, shades(rows.size), strict=True):
        where = (
            row if dim == "chain" or series.temperature is None else int(np.argmin(np.abs(x - series.temperature[row])))
        )
        first = int(dataset["start"][where])
        level = float(series.read(np.array([row]))[0, first:].mean())
        ax.plot(_times(series, int(row))[first], level, "o", color=color, mec="black", ms=7, zorder=5)
    ax.plot([], [], "o", color="white", mec="black", ms=7, label="starts to count")
    legend(ax, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


@guarded
@flagged
def plot_spikes(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Fraction of draws inside a spike with 95 % bars; arrows where there was none and only a bound is known."""
    ax = axes(ax)
    x, name, logarithmic = abscissa(dataset, "chain")
    fraction, error = dataset["fraction"].to_numpy(), dataset["fraction_stderr"].to_numpy()
    some, none = dataset["count"].to_numpy() > 0, dataset["count"].to_numpy() == 0
    if some.any():
        low = np.minimum(_BAND * error[some], 0.9 * fraction[some])
        bars = np.stack([low, _BAND * error[some]])
        ax.errorbar(x[some], fraction[some], yerr=bars, fmt="o", color=OKABE_ITO[1], capsize=2, label="spikes found")
    if none.any():
        bound = _BAND * error[none]
        ax.errorbar(
            x[none], bound, yerr=0.4 * bound, uplims=True, fmt="none", color=OKABE_ITO[0], label="none: upper bound"
        )
    along(ax, name, logarithmic, whole=x.dtype.kind == "i")
    ax.set_yscale("log")
    ax.set_ylabel("fraction of draws inside a spike")
    legend(ax, frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_distance(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Callable[[np.ndarray], Any] | None = None
) -> Axes:
    """Distance from the reference against time: averages over chains with 95 % bands, logarithmic axes.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `distance` with a dim `draw` or `snapshot`; without chains the distance itself is drawn.
    theory : callable, optional
        Function of time, drawn beside the measurement, for example ``lambda t: np.sqrt(2 * T * dim * t)``.

    Raises
    ------
    ConfigError
        If the distances have no dim `draw` or `snapshot`.
    """
    found = [d for d in ("draw", "snapshot") if d in dataset["distance"].dims]
    if not found:
        raise ConfigError(f"distances have dims {dataset['distance'].dims}; expected `draw` or `snapshot` among them")
    axis = found[0]
    ax = axes(ax)
    averaged = "mean_distance" in dataset
    value = dataset["mean_distance" if averaged else "distance"].transpose(..., axis)
    rows = np.atleast_2d(value.to_numpy())
    error = np.atleast_2d(dataset["mean_distance_stderr"].transpose(..., axis).to_numpy()) if averaged else 0.0 * rows
    time = dataset.coords.get("time")
    usable = time is not None and time.dims == (axis,)
    x = time.to_numpy() if time is not None and usable else np.arange(rows.shape[1]) + 1
    units = str(time.attrs.get("units", "1")) if time is not None and usable else "1"
    labels = (
        [f"$T$ = {float(t):.3g}" for t in dataset["scan_temperature"]] if "scan_temperature" in dataset.coords else None
    )
    picks = chosen(rows.shape[0], _CURVES)
    for row, color in zip(picks, shades(picks.size), strict=True):
        ax.plot(x, rows[row], color=color, lw=1.6, label=labels[row] if labels else "measured")
        low = np.maximum(rows[row] - _BAND * np.nan_to_num(error[row]), 1e-3 * rows[row])
        ax.fill_between(x, low, rows[row] + _BAND * np.nan_to_num(error[row]), color=color, alpha=0.25, lw=0)
    if theory is not None:
        ax.plot(x, theory(np.asarray(x)), "--", color="black", lw=1.3, label="theory")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(label("time $t$", units) if usable else f"{axis} number")
    ax.set_ylabel(label("distance from the reference", str(dataset["distance"].attrs.get("units", "1"))))
    legend(ax, frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_effective_temperature(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Effective temperature of each position against the alignment of its noise with the Hessian, 95 % bars."""
    ax = axes(ax)
    t, alignment = (np.atleast_1d(dataset[name].to_numpy()).ravel() for name in ("temperature", "alignment"))
    t_error, alignment_error = (
        _BAND * np.nan_to_num(np.atleast_1d(dataset[f"{name}_stderr"].to_numpy()).ravel())
        for name in ("temperature", "alignment")
    )
    ax.errorbar(alignment, t, xerr=alignment_error, yerr=t_error, fmt="o", color=OKABE_ITO[0], capsize=2)
    ax.axvline(1.0, color="0.5", ls="--", lw=1.0, label="noise shaped like the Hessian")
    ax.set_xlabel(r"alignment $\mathrm{tr}(CH)\,/\,|C|\,|H|$")
    ax.set_ylabel(label(r"effective temperature $T_\mathrm{eff}$", str(dataset["temperature"].attrs.get("units", "1"))))
    legend(ax, frameon=False, fontsize="small")
    return ax
