"""Pictures of summaries, correlations and temperature scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from landscape.common.text import measured
from landscape.errors import ConfigError
from landscape.probes.plotting.marks import OKABE_ITO, RULE, Theory, curve, half_widths, points, theory_line
from landscape.probes.plotting.picture import axes, finished, label, needed, picture
from landscape.probes.plotting.rows import Abscissa, few, first_dim, trust

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


def _estimates(
    ax: Axes,
    at: Abscissa,
    good: np.ndarray,
    many: list[tuple[Any, Any, str]],
    *,
    aside: bool = True,
    limit: bool = True,
) -> None:
    """Values with their bars under their names, beside each other; hollow, and said so, where they cannot be trusted.

    Points whose bar is longer than themselves may run out of the picture instead of squeezing the others.
    """
    for i, (value, half, text) in enumerate(many):
        x = at.aside(i, len(many)) if aside else at.values
        points(ax, x, value, half, good, color=OKABE_ITO[i], marker="osD^"[i], label=text)
    if not good.all():
        ax.plot([], [], "o", color="0.4", mfc="white", label="not resolved or not stationary")
    at.set_up(ax)
    value, half = (np.concatenate([np.ravel(np.asarray(one[i], dtype=float)) for one in many]) for i in (0, 1))
    half = np.nan_to_num(half)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(value) & (half < np.abs(value))
    if limit and known.sum() > 1 and not known[np.isfinite(value)].all():
        low, high = (value - half)[known].min(), (value + half)[known].max()
        room = 0.1 * (high - low)
        ax.set_ylim(low - room, high + room)


@picture("constrained_directions")
def plot_summary(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Four estimates of the number of constrained directions, which agree for a quadratic.

    2 alpha by maximum likelihood and by moments, 2 <L> / T and 2 var(L) / T^2, with 95 % bars, against temperature or
    chain; hollow where the run is not resolved or not stationary.
    """
    ax = axes(ax)
    at = Abscissa.of_dim(dataset, first_dim(dataset, "constrained_directions"))
    kinds: list[tuple[str, Any, str]] = [
        ("constrained_directions", 1, r"$2\alpha$, maximum likelihood"),
        ("gamma_shape_moments", 2, r"$2\alpha$, moments"),
        ("heat_capacity", 2, r"$2\,\mathrm{var}(L)/T^2$"),
    ]
    if "temperature" in dataset.coords:
        t = dataset.coords["temperature"]
        kinds.insert(2, ("mean", (2 / t.where(t > 0)).to_numpy(), r"$2\langle L\rangle/T$"))
    estimates = [(factor * dataset[key], factor * half_widths(dataset, key), text) for key, factor, text in kinds]
    _estimates(ax, at, trust(dataset, at.values.size), estimates)
    return finished(ax, None, "number of constrained directions")


@picture("autocorrelation")
def plot_autocorrelation(dataset: xr.Dataset, ax: Axes | None = None, *, theory: Theory | None = None) -> Axes:
    """Connected autocorrelation against time on a logarithmic axis, with 95 % bands.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `autocorrelation`; seven curves at most are drawn, evenly chosen.
    theory : callable, optional
        Function of the time between draws, drawn beside the measurement.
    """
    ax = axes(ax)
    rho, half = dataset["autocorrelation"].to_numpy(), half_widths(dataset, "autocorrelation")
    time = np.broadcast_to(dataset["lag_time"].to_numpy(), rho.shape)
    texts = Abscissa.of_dim(dataset, first_dim(dataset, "autocorrelation")).texts()
    for row, color in few(len(rho)):
        curve(ax, time[row, 1:], rho[row, 1:], half[row, 1:], color=color, label=texts[row])
    if theory is not None:
        drawn = [row for row, _ in few(len(rho))]
        span = np.geomspace(time[drawn, 1].min(), time[drawn, -1].max(), 300)
        theory_line(ax, span, theory(span))
    ax.axhline(0.5, ls=":", **RULE)
    ax.axhline(0.0, **RULE)
    ax.set_ylim(-0.2, 1.05)
    text = label("time between draws $t$", dataset["lag_time"])
    return finished(ax, text, r"connected autocorrelation $\chi_L(t)$", logarithmic="x")


@picture("half_time")
def plot_half_time(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Half-life of the autocorrelation with 95 % bars, against temperature or chain.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `half_time`, `summary` or `temperature_scan`; of the last the fitted power law is drawn too.
    """
    ax = axes(ax)
    at = Abscissa.of_dim(dataset, first_dim(dataset, "half_time"))
    value = dataset["half_time"]
    points(
        ax, at.values, value, half_widths(dataset, "half_time"), trust(dataset, value.size), color=OKABE_ITO[0],
        label="measured",
    )  # fmt: skip
    if "half_time_exponent" in dataset:
        _power_line(ax, dataset, "half_time", at.values, OKABE_ITO[0])
    at.set_up(ax)
    scale = "y" if np.any(np.isfinite(value)) else ""
    return finished(ax, None, label(r"half-life $\tau_{1/2}$", value), logarithmic=scale)


def _power_line(ax: Axes, scan: xr.Dataset, name: str, x: np.ndarray, color: str) -> None:
    exponent, error = float(scan[f"{name}_exponent"]), float(scan[f"{name}_exponent_stderr"])
    if not np.isfinite(exponent):
        return
    span = np.geomspace(x[x > 0].min(), x.max(), 50)
    line = float(scan[f"{name}_prefactor"]) * (span / float(scan["reference_temperature"])) ** exponent
    ax.plot(span, line, color=color, lw=1.2, label=f"fit, exponent {measured(exponent, error, sign='±')}")


@picture("deviation")
def plot_temperature_scan(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Mean and standard deviation of the energy against temperature with their power laws, logarithmic axes.

    Dashed lines are proportional to T, the law of a quadratic. Hollow points were left out of the fits.
    """
    ax = axes(ax)
    at = Abscissa.of_dim(dataset, "temperature")
    kinds = (("mean", r"mean $\mu$"), ("deviation", r"standard deviation $\sigma$"))
    _estimates(
        ax, at, dataset["used"].to_numpy(), [(dataset[key], half_widths(dataset, key), text) for key, text in kinds],
        aside=False, limit=False,
    )  # fmt: skip
    span = np.array([at.values[at.values > 0].min(), at.values.max()])
    for i, (key, _) in enumerate(kinds):
        _power_line(ax, dataset, key, at.values, OKABE_ITO[i])
        anchor = float(dataset[f"{key}_prefactor"]) / float(dataset["reference_temperature"])
        ax.plot(span, anchor * span, "--", color="0.55", lw=1.0, label=r"$\propto T$ (quadratic)" if i else None)
    return finished(ax, None, label("energy", dataset["mean"]), logarithmic="xy")


@picture("fluctuation_relation")
def plot_fluctuation_relation(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Variance over T^2 d mean / dT, which is 1 in equilibrium, and beta T, which is 1 for a quadratic only.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `temperature_scan`.
    """
    ax = axes(ax)
    kinds = {
        "fluctuation_relation": r"$\sigma^2 / (T^2\,d\mu/dT)$", "rate_times_temperature": r"$\beta T$ of the Gamma law"
    }  # fmt: skip
    _estimates(
        ax, Abscissa.of_dim(dataset, "temperature"), dataset["used"].to_numpy(),
        [(dataset[key], half_widths(dataset, key), text) for key, text in kinds.items()],
    )  # fmt: skip
    ax.axhline(1.0, color="black", lw=1.0, ls="--", label=r"1: equilibrium; $\beta T$ if quadratic")
    p = float(dataset["fluctuation_relation_p_value"])
    return finished(ax, None, "ratio", title=None if np.isnan(p) else f"fluctuation relation: p = {p:.2g}")


@picture("participation_ratio")
def plot_participation_ratio(dataset: xr.Dataset, ax: Axes | None = None, *, summary: xr.Dataset | None = None) -> Axes:
    """Participation ratio against the shape alpha of the energy's Gamma distribution, or against temperature or chain.

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
    ax = axes(ax)
    dim = first_dim(dataset, "participation_ratio")
    at = Abscissa.of_dim(dataset, dim)
    if summary is not None:
        needed(summary, "gamma_shape")
        if summary.sizes.get(dim) != at.values.size:
            raise ConfigError(
                f"the summary has {dict(summary.sizes)} rows, the participation ratio {at.values.size} on {dim!r}"
            )
        at = Abscissa(summary["gamma_shape"].to_numpy(), r"shape $\alpha$ of the Gamma law", logarithmic=True)
        samples = float(dataset.attrs["samples"])
        span = np.geomspace(0.7 * np.nanmin(at.values), 1.4 * np.nanmax(at.values), 200)
        ax.plot(span, span / (1 + span / samples), color="black", lw=1.2, label=r"$n r/(1+r),\ r=\alpha/n$")
        ax.plot(span, span, "--", color="0.5", lw=1.0, label=r"$\phi=\alpha$")
    ratio = (dataset["participation_ratio"], half_widths(dataset, "participation_ratio"), "measured")
    _estimates(ax, at, trust(dataset, at.values.size), [ratio], limit=False)
    return finished(ax, None, r"participation ratio $\phi$", logarithmic="" if summary is None else "y")
