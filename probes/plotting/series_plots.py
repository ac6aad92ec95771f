"""Pictures of series: energies in time, their distribution, burn-in, spikes, distances, displacements, noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import gammaln

from landscape.errors import ConfigError
from landscape.probes.estimation.series import FloatArray, Series, as_series
from landscape.probes.plotting.marks import BLUE, ORANGE, RULE, Theory, bars, curve, half_widths, theory_line
from landscape.probes.plotting.picture import axes, finished, label, needed, picture
from landscape.probes.plotting.rows import Abscissa, few, first_dim, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_current",
    "plot_diffusion",
    "plot_distance",
    "plot_effective_temperature",
    "plot_energy_distribution",
    "plot_energy_trace",
    "plot_equilibration",
    "plot_spikes",
]

_PIXELS = 600


def _times(series: Series, chain: int) -> FloatArray:
    if "time" in series.values.coords:
        time = series.values.coords["time"]
        return np.asarray((time.isel(chain=chain) if "chain" in time.dims else time).to_numpy(), dtype=np.float64)
    return np.arange(series.draws, dtype=np.float64)


def _representatives(series: Series) -> Iterator[tuple[int, Any, str]]:
    """One chain per temperature, or a few chains, with colour and name."""
    if series.temperature is None:
        yield from ((row, color, value_text("chain", row)) for row, color in few(series.chains))
        return
    _, first = np.unique(series.temperature, return_index=True)
    for number, color in few(first.size):
        row = int(first[number])
        yield row, color, value_text("temperature", series.temperature[row])


def _trace(ax: Axes, time: FloatArray, values: FloatArray, color: Any, text: str) -> None:
    """A long series as its mean and range in as many stretches as can be seen."""
    width = max(1, values.size // _PIXELS)
    count = values.size // width
    parts = values[: count * width].reshape(count, width)
    at = time[: count * width].reshape(count, width).mean(axis=1)
    ax.plot(at, parts.mean(axis=1), color=color, lw=1.0, label=text)
    if width > 1:
        ax.fill_between(at, parts.min(axis=1), parts.max(axis=1), color=color, alpha=0.25, lw=0)


@picture()
def plot_energy_trace(energy: Any, ax: Axes | None = None) -> Axes:
    """Energy against time, one chain of each temperature: mean and range of stretches too short to be told apart.

    Parameters
    ----------
    energy : DataArray, Dataset or array, dims ``(chain, draw)``
        The series; the energy axis is logarithmic where none is negative.
    """
    series = as_series(energy)
    ax = axes(ax)
    lowest = np.inf
    for row, color, text in _representatives(series):
        values = series.read(np.array([row]))[0]
        lowest = min(lowest, float(np.min(values, initial=np.inf, where=np.isfinite(values))))
        _trace(ax, _times(series, row), values, color, text)
    if lowest >= 0:
        ax.set_yscale("log", nonpositive="mask")
    return _beside(ax, label("time $t$", series.time_units), label("energy $L$", series.units))


def _beside(ax: Axes, x: str | None = None, y: str | None = None) -> Axes:
    """With the legend at the right of the picture, which curves fill."""
    return finished(ax, x, y, loc="center left", bbox_to_anchor=(1.0, 0.5))


@picture()
def plot_energy_distribution(energy: Any, summary: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Histograms of energy / T with the Gamma distribution fitted to each.

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
    needed(summary, "gamma_shape")
    dim = first_dim(summary, "gamma_shape")
    rows = summary.sizes[dim]
    if dim == "chain" and rows != series.chains:
        raise ConfigError(f"the summary has {rows} chains, the energies {series.chains}")
    ax = axes(ax)
    known = "temperature" in summary.coords
    for row, color in few(rows):
        unit = float(summary.coords["temperature"][row]) if known else float(summary["mean"][row])
        members = _members(series, summary, dim, row)
        kept = series.read(members)[:, int(summary["discarded"][row]) :].ravel() / unit
        kept = kept[np.isfinite(kept)]
        if not (kept.size and unit > 0):
            continue
        # The last bins of a heavy tail would squeeze all others.
        counts, edges = np.histogram(kept, bins=60, range=(kept.min(), np.quantile(kept, 0.9995)))
        ax.stairs(counts / (kept.size * np.diff(edges)), edges, color=color, fill=True, alpha=0.3)
        text = value_text("temperature", unit) if known else value_text("chain", row)
        shape, rate = float(summary["gamma_shape"][row]), float(summary["gamma_rate"][row]) * unit
        u = np.linspace(max(edges[0], 1e-3 * edges[-1]), edges[-1], 300)
        law = np.exp(shape * np.log(rate) + (shape - 1) * np.log(u) - rate * u - gammaln(shape))
        ax.plot(u, law, color=color, lw=1.6, label=rf"{text}: $\alpha$ = {shape:.3g}, $\beta T$ = {rate:.3g}")
    ax.set_ylim(bottom=0.0)
    x = "energy / temperature, $L/T$" if known else "energy / mean"
    return finished(ax, x, "probability density", title="lines: fitted Gamma law")


def _members(series: Series, summary: xr.Dataset, dim: str, row: int) -> np.ndarray:
    if dim == "chain":
        return np.array([row])
    if series.temperature is None:
        raise ConfigError("the summary is by temperature, and the energies have none")
    members = np.flatnonzero(series.temperature == float(summary.coords["temperature"][row]))
    if members.size == 0:
        raise ConfigError(f"no chain has the summary's temperature {float(summary.coords['temperature'][row]):g}")
    return members


@picture("start_time")
def plot_equilibration(dataset: xr.Dataset, ax: Axes | None = None, *, energy: Any = None) -> Axes:
    """Time left out at the start of each chain or temperature, or the series with that time marked.

    Parameters
    ----------
    energy : DataArray, Dataset or array, optional
        The series: drawn as by `plot_energy_trace`, with a dot where each starts to count.
    """
    dim = first_dim(dataset, "start_time")
    at = Abscissa.of_dim(dataset, dim)
    if energy is None:
        ax = axes(ax)
        start, reached = dataset["start_time"], dataset["reached"].to_numpy()
        for mask, face, text in ((reached, BLUE, "equilibrium reached"), (~reached, "white", "not reached")):
            if mask.any():
                ax.plot(at.values[mask], start[mask], "o", color=BLUE, mfc=face, label=text)
        at.set_up(ax)
        ax.set_ylim(bottom=0.0)
        return finished(ax, None, label("time left out", start))
    series = as_series(energy)
    ax = plot_energy_trace(series.values, ax)
    for row, color, _ in _representatives(series):
        t = None if dim == "chain" or series.temperature is None else series.temperature[row]
        where = row if t is None else int(np.argmin(np.abs(at.values - t)))
        first = int(dataset["start"][where])
        level = float(series.read(np.array([row]))[0, first:].mean())
        ax.plot(_times(series, row)[first], level, "o", color=color, mec="black", ms=7, zorder=5)
    ax.plot([], [], "o", color="white", mec="black", ms=7, label="starts to count")
    return _beside(ax)


@picture("fraction", "count")
def plot_spikes(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Fraction of draws inside a spike with 95 % bars; arrows where there was none and only a bound is known."""
    ax = axes(ax)
    at = Abscissa.of_dim(dataset, "chain")
    fraction, half = dataset["fraction"].to_numpy(), half_widths(dataset, "fraction")
    some, none = dataset["count"].to_numpy() > 0, dataset["count"].to_numpy() == 0
    if some.any():
        both = np.stack([np.fmin(half, 0.9 * fraction), half])[:, some]  # the axis is logarithmic
        bars(ax, at.values[some], fraction[some], both, color=ORANGE, label="spikes found")
    if none.any():
        bound = half[none]
        text = "none: upper bound"
        bars(ax, at.values[none], bound, 0.4 * bound, color=BLUE, marker="none", uplims=True, capsize=0, label=text)
    at.set_up(ax)
    return finished(ax, None, "fraction of draws inside a spike", logarithmic="y")


@picture("distance")
def plot_distance(dataset: xr.Dataset, ax: Axes | None = None, *, theory: Theory | None = None) -> Axes:
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
    ax, axis = axes(ax), found[0]
    dataset = dataset.transpose(..., axis)
    averaged = "mean_distance" in dataset
    rows = np.atleast_2d(dataset["mean_distance" if averaged else "distance"].to_numpy())
    half = np.atleast_2d(half_widths(dataset, "mean_distance")) if averaged else 0.0 * rows
    time = dataset.coords.get("time")
    usable = time is not None and time.dims == (axis,)
    x = time.to_numpy() if time is not None and usable else np.arange(rows.shape[1]) + 1
    for row, color in few(len(rows)):
        scan = dataset.coords.get("scan_temperature")
        text = "measured" if scan is None else value_text("temperature", scan[row].item())
        curve(ax, x, rows[row], half[row], color=color, label=text, least=1e-3)
    if theory is not None:
        theory_line(ax, x, theory(np.asarray(x)))
    return finished(
        ax, label("time $t$", time) if time is not None and usable else f"{axis} number",
        label("distance from the reference", dataset["distance"]), logarithmic="xy",
    )  # fmt: skip


@picture("current", "density")
def plot_current(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Current of one coordinate with its 95 % band; of two as arrows over the density, pale within 95 % of none."""
    ax, current = axes(ax), dataset["current"]
    names = [str(dim) for dim in current.dims if dim != "component"]
    if len(names) == 1:
        x, half = dataset[names[0]], half_widths(dataset, "current")
        curve(ax, x, current, half, color=BLUE, label="current", band="95 % band")
        ax.axhline(0.0, **RULE)
        return finished(ax, names[0], label("current $j$", current))
    first, second = (dataset[name].to_numpy() for name in names)
    density = dataset["density"].transpose(*names)
    density = density.where(dataset["count"].transpose(*names) > 0)
    shown = ax.pcolormesh(first, second, density.T, cmap="Blues", shading="nearest")
    ax.figure.colorbar(shown, ax=ax, label=label("density $p$", density))
    arrows = current.transpose("component", *names).to_numpy()
    sure = (np.abs(arrows) > half_widths(dataset.transpose("component", *names), "current")).any(axis=0)
    longest = np.nanmax(np.hypot(*arrows), initial=0.0) or 1.0
    cell = min(abs(along[-1] - along[0]) / max(len(along) - 1, 1) for along in (first, second)) or 1.0
    x, y = np.meshgrid(first, second, indexing="ij")
    for chosen, color in ((~sure, "0.75"), (sure, ORANGE)):
        u, v = (part[chosen] for part in arrows)
        ax.quiver(
            x[chosen], y[chosen], u, v, color=color, angles="xy", scale_units="xy", scale=longest / (2.0 * cell),
            width=4e-3,
        )  # fmt: skip
    return finished(ax, names[0], names[1])


@picture("displacement_variance", "diffusion")
def plot_diffusion(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Variance of the displacement against lag with 95 % bands, logarithmic; 2 D t + c where D is resolved (dashed)."""
    ax = axes(ax)
    outer = [str(dim) for dim in dataset.displacement_variance.dims if dim != "lag"]
    rows = dataset.stack(_row=outer)
    for number, color in few(rows.sizes["_row"]):
        one = rows.isel(_row=number)
        time, variance = one.lag_time.to_numpy(), one.displacement_variance.to_numpy()
        text = ", ".join(value_text(dim, one[dim].item()) for dim in outer)
        curve(ax, time, variance, half_widths(one, "displacement_variance"), color=color, label=text, least=1e-3)
        if bool(one.resolved):
            start = np.abs(time - float(one.fit_start)).argmin()
            beyond = time[start:]
            theory_line(ax, beyond, variance[start] + 2.0 * float(one.diffusion) * (beyond - time[start]), None)
    ax.set_yscale("log", nonpositive="mask")
    y = label(r"$\langle\Delta x^2\rangle - \langle\Delta x\rangle^2$", dataset.displacement_variance)
    return finished(ax, label("lag $t$", dataset.lag_time), y, logarithmic="x")


@picture("temperature", "alignment")
def plot_effective_temperature(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Effective temperature of each position against the alignment of its noise with the Hessian, 95 % bars."""
    ax = axes(ax)
    y, x = (np.ravel(dataset[name].to_numpy()) for name in ("temperature", "alignment"))
    dy, dx = (np.ravel(half_widths(dataset, name)) for name in ("temperature", "alignment"))
    bars(ax, x, y, dy, xerr=dx, color=BLUE)
    ax.axvline(1.0, ls="--", label="noise shaped like the Hessian", **RULE)
    t = label(r"effective temperature $T_\mathrm{eff}$", dataset["temperature"])
    return finished(ax, r"alignment $\mathrm{tr}(CH)\,/\,|C|\,|H|$", t)
