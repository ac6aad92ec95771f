"""Pictures of summaries, correlations and temperature scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError
from landscape.probes._plot_style import OKABE_ITO, abscissa, along, axes, chosen, flagged, label, legend, shades, trust
from landscape.text import measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_autocorrelation",
    "plot_fluctuation_relation",
    "plot_half_time",
    "plot_participation_ratio",
    "plot_summary",
    "plot_temperature_scan",
]

_BAND = 1.96
_CURVES = 7


def _row_dim(dataset: xr.Dataset, variable: str) -> str:
    if variable not in dataset:
        raise ConfigError(f"the dataset has no {variable!r}; it has {sorted(map(str, dataset.data_vars))}")
    return str(dataset[variable].dims[0])


def _points(
    ax: Axes, x: np.ndarray, y: Any, error: Any, good: np.ndarray, *, color: str, marker: str, text: str
) -> None:
    """Measured points with 95 % bars; hollow where the run is not to be trusted."""
    y, bar = np.asarray(y, dtype=float), _BAND * np.nan_to_num(np.asarray(error, dtype=float))
    drawn = False
    for mask, face in ((good, color), (~good, "white")):
        if np.any(mask & np.isfinite(y)):
            ax.errorbar(
                x[mask], y[mask], yerr=bar[mask], fmt=marker, color=color, mfc=face, ms=5.5, capsize=2, lw=1.2,
                label=None if drawn else text,
            )  # fmt: skip
            drawn = True


def _limit(ax: Axes, values: list[Any], errors: list[Any]) -> None:
    """Let points whose bar is longer than themselves run out of the picture instead of squeezing the others."""
    value, bar = (np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in many]) for many in (values, errors))
    bar = _BAND * np.nan_to_num(bar)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(value) & (bar < np.abs(value))
    if known.sum() > 1 and not known[np.isfinite(value)].all():
        low, high = (value - bar)[known].min(), (value + bar)[known].max()
        room = 0.1 * (high - low)
        ax.set_ylim(low - room, high + room)


def _note_hollow(ax: Axes, good: np.ndarray, x: np.ndarray) -> None:
    if not good.all():
        ax.plot(x[:0], x[:0], "o", color="0.4", mfc="white", label="not resolved or not stationary")


@guarded
@flagged
def plot_summary(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Four estimates of the number of constrained directions, which agree for a quadratic.

    2 alpha by maximum likelihood and by moments, 2 <L> / T and 2 var(L) / T^2, with 95 % bars, against temperature or
    chain; hollow where the run is not resolved or not stationary.

    Raises
    ------
    ConfigError
        If the dataset is no summary.
    """
    dim = _row_dim(dataset, "constrained_directions")
    ax = axes(ax)
    x, name, logarithmic = abscissa(dataset, dim)
    good = trust(dataset, x.size)
    estimates = [
        (dataset["constrained_directions"], dataset["constrained_directions_stderr"], r"$2\alpha$, maximum likelihood"),
        (2 * dataset["gamma_shape_moments"], 2 * dataset["gamma_shape_moments_stderr"], r"$2\alpha$, moments"),
        (2 * dataset["heat_capacity"], 2 * dataset["heat_capacity_stderr"], r"$2\,\mathrm{var}(L)/T^2$"),
    ]
    if "temperature" in dataset.coords:
        t = dataset.coords["temperature"].where(dataset.coords["temperature"] > 0)
        estimates.insert(2, (2 * dataset["mean"] / t, 2 * dataset["mean_stderr"] / t, r"$2\langle L\rangle/T$"))
    for i, (value, error, text) in enumerate(estimates):
        shift = i - 0.5 * (len(estimates) - 1)
        at = x * 1.025**shift if logarithmic else x + 0.12 * shift
        _points(ax, at, value, error, good, color=OKABE_ITO[i], marker="osD^"[i], text=text)
    _note_hollow(ax, good, x)
    along(ax, name, logarithmic, whole=x.dtype.kind == "i")
    ax.set_ylabel("number of constrained directions")
    _limit(ax, [e[0] for e in estimates], [e[1] for e in estimates])
    legend(ax, frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_autocorrelation(
    dataset: xr.Dataset, ax: Axes | None = None, *, theory: Callable[[np.ndarray], Any] | None = None
) -> Axes:
    """Connected autocorrelation against time on a logarithmic axis, with 95 % bands.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `autocorrelation`; seven curves at most are drawn, evenly chosen.
    theory : callable, optional
        Function of the time between draws, drawn beside the measurement.

    Raises
    ------
    ConfigError
        If the dataset has no autocorrelation.
    """
    dim = _row_dim(dataset, "autocorrelation")
    ax = axes(ax)
    rho, error = dataset["autocorrelation"].to_numpy(), dataset["autocorrelation_stderr"].to_numpy()
    time = np.broadcast_to(dataset["lag_time"].to_numpy(), rho.shape)
    rows = chosen(rho.shape[0], _CURVES)
    x, _, _ = abscissa(dataset, dim)
    by_temperature = x.dtype.kind == "f"
    for row, color in zip(rows, shades(rows.size), strict=True):
        text = f"$T$ = {x[row]:.3g}" if by_temperature else f"chain {x[row]}"
        ax.plot(time[row, 1:], rho[row, 1:], color=color, lw=1.6, label=text)
        ax.fill_between(
            time[row, 1:], (rho - _BAND * error)[row, 1:], (rho + _BAND * error)[row, 1:], color=color, alpha=0.25, lw=0
        )
    if theory is not None:
        span = np.geomspace(time[rows, 1].min(), time[rows, -1].max(), 300)
        ax.plot(span, theory(span), "--", color="black", lw=1.3, label="theory")
    ax.axhline(0.5, color="0.5", lw=0.8, ls=":")
    ax.axhline(0.0, color="0.5", lw=0.8)
    ax.set_xscale("log")
    ax.set_ylim(-0.2, 1.05)
    ax.set_xlabel(label("time between draws $t$", str(dataset["lag_time"].attrs.get("units", "1"))))
    ax.set_ylabel(r"connected autocorrelation $\chi_L(t)$")
    legend(ax, frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_half_time(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Half time of the autocorrelation with 95 % bars, against temperature or chain.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `half_time`, `summary` or `temperature_scan`; of the last the fitted power law is drawn too.

    Raises
    ------
    ConfigError
        If the dataset has no half time.
    """
    dim = _row_dim(dataset, "half_time")
    ax = axes(ax)
    x, name, logarithmic = abscissa(dataset, dim)
    value, error = dataset["half_time"].to_numpy(), dataset["half_time_stderr"].to_numpy()
    good = dataset["used"].to_numpy() if "used" in dataset else trust(dataset, x.size)
    _points(ax, x, value, error, good, color=OKABE_ITO[0], marker="o", text="measured")
    if "half_time_exponent" in dataset:
        _power_line(ax, dataset, "half_time", x, OKABE_ITO[0])
    along(ax, name, logarithmic, whole=x.dtype.kind == "i")
    if np.any(np.isfinite(value)):
        ax.set_yscale("log")
    ax.set_ylabel(label(r"half time $\tau_{1/2}$", str(dataset["half_time"].attrs.get("units", "1"))))
    legend(ax, frameon=False, fontsize="small")
    return ax


def _power_line(ax: Axes, scan: xr.Dataset, name: str, x: np.ndarray, color: str) -> None:
    exponent, error = float(scan[f"{name}_exponent"]), float(scan[f"{name}_exponent_stderr"])
    if not np.isfinite(exponent):
        return
    span = np.geomspace(x[x > 0].min(), x.max(), 50)
    line = float(scan[f"{name}_prefactor"]) * (span / float(scan["reference_temperature"])) ** exponent
    ax.plot(span, line, color=color, lw=1.2, label=f"fit, exponent {measured(exponent, error, sign='±')}")


@guarded
@flagged
def plot_temperature_scan(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Mean and standard deviation of the energy against temperature with their power laws, logarithmic axes.

    Dashed lines are proportional to T, the law of a quadratic. Hollow points were left out of the fits.

    Raises
    ------
    ConfigError
        If the dataset is no scan.
    """
    _row_dim(dataset, "deviation")
    ax = axes(ax)
    x, name, _ = abscissa(dataset, "temperature")
    used = dataset["used"].to_numpy()
    span = np.array([x[x > 0].min(), x.max()])
    for i, (key, text) in enumerate((("mean", r"mean $\mu$"), ("deviation", r"standard deviation $\sigma$"))):
        color = OKABE_ITO[i]
        _points(ax, x, dataset[key], dataset[f"{key}_stderr"], used, color=color, marker="os"[i], text=text)
        _power_line(ax, dataset, key, x, color)
        anchor = float(dataset[f"{key}_prefactor"]) / float(dataset["reference_temperature"])
        ax.plot(span, anchor * span, "--", color="0.55", lw=1.0, label=r"$\propto T$ (quadratic)" if i else None)
    _note_hollow(ax, used, x)
    along(ax, name, logarithmic=True, whole=False)
    ax.set_yscale("log")
    ax.set_ylabel(label("energy", str(dataset["mean"].attrs.get("units", "1"))))
    legend(ax, frameon=False, fontsize="small")
    return ax


@guarded
@flagged
def plot_fluctuation_relation(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Variance over T^2 d mean / dT, which is 1 in equilibrium, and beta T, which is 1 for a quadratic only.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `temperature_scan`.

    Raises
    ------
    ConfigError
        If the dataset is no scan.
    """
    _row_dim(dataset, "fluctuation_relation")
    ax = axes(ax)
    x, name, logarithmic = abscissa(dataset, "temperature")
    used = dataset["used"].to_numpy()
    texts = (r"$\sigma^2 / (T^2\,d\mu/dT)$", r"$\beta T$ of the Gamma law")
    for i, key in enumerate(("fluctuation_relation", "rate_times_temperature")):
        at = x * 1.03 ** (i - 0.5) if logarithmic else x
        _points(ax, at, dataset[key], dataset[f"{key}_stderr"], used, color=OKABE_ITO[i], marker="os"[i], text=texts[i])
    _note_hollow(ax, used, x)
    ax.axhline(1.0, color="black", lw=1.0, ls="--", label=r"1: equilibrium; $\beta T$ if quadratic")
    along(ax, name, logarithmic, whole=x.dtype.kind == "i")
    ax.set_ylabel("ratio")
    keys = ("fluctuation_relation", "rate_times_temperature")
    _limit(ax, [dataset[k] for k in keys], [dataset[f"{k}_stderr"] for k in keys])
    p = float(dataset["fluctuation_relation_p_value"])
    title = None if np.isnan(p) else f"fluctuation relation: p = {p:.2g}"
    legend(ax, frameon=False, fontsize="small", title=title)
    return ax


@guarded
@flagged
def plot_participation_ratio(dataset: xr.Dataset, ax: Axes | None = None, *, summary: xr.Dataset | None = None) -> Axes:
    """Participation ratio against the shape alpha of the energy's Gamma law, or against temperature or chain.

    Parameters
    ----------
    summary : xarray.Dataset, optional
        Result of `summary` for the same chains or temperatures: its `gamma_shape` becomes the abscissa, and
        phi = n r / (1 + r), r = alpha / n, and phi = alpha are drawn beside.

    Raises
    ------
    ConfigError
        If the dataset has no participation ratio or the summary has other rows.
    """
    dim = _row_dim(dataset, "participation_ratio")
    ax = axes(ax)
    x, name, logarithmic = abscissa(dataset, dim)
    good = trust(dataset, x.size)
    if summary is not None:
        if summary.sizes.get(dim) != x.size:
            raise ConfigError(
                f"the summary has {dict(summary.sizes)} rows, the participation ratio {x.size} on {dim!r}"
            )
        x, name, logarithmic = summary["gamma_shape"].to_numpy(), r"shape $\alpha$ of the Gamma law", True
        samples = float(dataset.attrs["samples"])
        span = np.geomspace(0.7 * np.nanmin(x), 1.4 * np.nanmax(x), 200)
        ax.plot(span, span / (1 + span / samples), color="black", lw=1.2, label=r"$n r/(1+r),\ r=\alpha/n$")
        ax.plot(span, span, "--", color="0.5", lw=1.0, label=r"$\phi=\alpha$")
        ax.set_yscale("log")
    value, error = dataset["participation_ratio"], dataset["participation_ratio_stderr"]
    _points(ax, x, value, error, good, color=OKABE_ITO[0], marker="o", text="measured")
    _note_hollow(ax, good, x)
    along(ax, name, logarithmic, whole=x.dtype.kind == "i")
    ax.set_ylabel(r"participation ratio $\phi$")
    legend(ax, frameon=False, fontsize="small")
    return ax
