"""Connected autocorrelation and the time at which it has fallen to one half."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from landscape.checks import whole_number
from landscape.probes.estimation.correlation import combine, long_run, products
from landscape.probes.estimation.describe import describe
from landscape.probes.estimation.estimates import (
    Correlations,
    Moments,
    correlation_errors,
    correlations,
    fitted_gamma,
    interpolation_gap,
    moments,
)
from landscape.probes.estimation.influence import between_chains, masked
from landscape.probes.estimation.needed import Length, every_needed, in_units, steps_needed
from landscape.probes.estimation.series import BoolArray, Bundle, FloatArray, IntArray, as_series, bundles, grouping
from landscape.probes.fluctuations.equilibration import starts
from landscape.probes.registry import ENERGIES, probe
from landscape.statistics import NORMAL

__all__ = ["autocorrelation", "half_time", "half_time_columns"]

_DEFAULT_LAGS = 10_000
_BINS = 128
_ROOM = 2**21
_EACH_LONGER_THAN = 10.0  # correlation times, for errors from the scatter between chains


@probe("fluctuations.autocorrelation", ENERGIES)
def autocorrelation(
    x: Any,
    max_lag: int | None = None,
    *,
    by: str = "chain",
    temperature: ArrayLike | None = None,
    discard: str | float | int = 0,
) -> xr.Dataset:
    r"""Connected autocorrelation of a series,

    .. math:: \rho_k = \frac{\langle (x_t - \bar x)(x_{t+k} - \bar x) \rangle}{\langle (x_t - \bar x)^2 \rangle} ,

    with the mean of each chain subtracted and the bias C/n of that (n draws, long-run variance C) put back.

    For the energy of a quadratic with stiffnesses k_i under overdamped dynamics, rho(t) = (1/N_c) sum_i exp(-2 k_i t):
    with a factor 2, which Jules et al. leave out in their main text.

    Parameters
    ----------
    max_lag : int, optional
        Largest number of draws between; half of those kept, 10,000 at most, unless told otherwise.
    by : {"chain", "temperature"}
        One function per chain, or chains of equal temperature averaged.
    discard : "auto", float in [0, 1) or int
        Draws left out at the start, as in `summary`; none by default.

    Returns
    -------
    xarray.Dataset
        `autocorrelation` and `autocorrelation_stderr` with dims ``(chain or temperature, lag)``; coordinates `lag`
        (draws) and `lag_time` (in units of `time`); `resolved` as in `summary`. The error is NaN where that is False,
        unless there are four chains or more, each longer than 10 correlation times.

    Raises
    ------
    ShapeError, ConfigError
        If the series, its times, `max_lag`, `discard` or `by` make no sense.

    Notes
    -----
    Errors come from the products x_t x_{t-k} themselves, summed over 128 stretches of the run and correlated; no
    assumption of a Gaussian process is made. Errors at neighbouring lags are strongly correlated. Cost: a few FFTs of
    the series' length for every 100 lags or every stretch, whichever is longer.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.signal import lfilter
    >>> noise = np.random.default_rng(0).standard_normal((8, 4000))
    >>> x = lfilter([1.0], [1.0, -0.9], noise, axis=-1)
    >>> result = autocorrelation(x, 5, temperature=1.0, by="temperature")
    >>> z = (result.autocorrelation[0, 1:] - 0.9 ** np.arange(1, 6)) / result.autocorrelation_stderr[0, 1:]
    >>> bool((abs(z) < 4.5).all())
    True
    """
    series = as_series(x, temperature)
    groups = grouping(series, by)
    if max_lag is not None:
        whole_number("max_lag", max_lag, most=series.draws - 1)
    values, errors, resolved, needed = [], [], np.zeros(groups.count, dtype=bool), np.full(groups.count, np.nan)
    length = Length.of(series.values)
    lags: int | None = max_lag
    for bundle in bundles(series, groups):
        start, _ = starts(bundle, discard)
        m = moments(bundle, start, logarithm=True)
        if lags is None:
            lags = min(_DEFAULT_LAGS, series.draws // 2)
        c = correlations(bundle, m, max(lags, series.draws // 4 + 1))
        _, factor = fitted_gamma(bundle, m, c)
        known = np.arange(lags + 1) < m.draws[:, None]
        values.append(np.where(known, c.run.correlation[:, : lags + 1], np.nan))
        known &= np.isfinite(values[-1])
        # The mean of a chain that is short against its correlations takes them along, which no scatter shows.
        with np.errstate(invalid="ignore"):
            known &= (c.correlation_times > _EACH_LONGER_THAN * m.chains)[:, None]
        errors.append(np.where(known, factor[:, None] * _errors(bundle, m, c, lags), np.nan))
        resolved[bundle.groups] = c.resolved
        needed[bundle.groups] = steps_needed(c.resolved, c.correlation_times, length, m.chains)
    lag = np.arange(values[0].shape[1])
    dims = (groups.dim, "lag")
    dataset = describe(
        {
            "autocorrelation": (dims, np.concatenate(values)),
            "autocorrelation_stderr": (dims, np.concatenate(errors)),
            "resolved": resolved,
            "steps_needed": needed,
        },
        groups,
        series,
        title="Autocorrelation",
        conventions="connected, normalised to 1 at lag 0; mean of each chain subtracted, bias of that corrected",
        cost="FFTs of the series; no gradients",
        lag=lag,
    )
    return in_units(dataset, length)


def _errors(bundle: Bundle, m: Moments, c: Correlations, lags: int) -> FloatArray:
    """Standard error of rho_k from the scatter and correlation of its contributions from stretches of the run."""
    draws = bundle.series.draws
    bins = min(_BINS, draws // 4)
    width = draws // bins
    step = int(min(max(width, 128), lags))
    out = np.zeros((bundle.size, lags + 1))
    low_edge = draws - bins * width + width * np.arange(bins)
    for first in range(1, lags + 1, step):
        span = np.arange(first, min(first + step, lags + 1))
        valid = low_edge[:, None] >= m.start[:, None, None] + span
        out[:, span] = _span_errors(bundle, m, c, width, span, valid)
    return out


def _span_errors(
    bundle: Bundle, m: Moments, c: Correlations, width: int, span: IntArray, valid: BoolArray
) -> FloatArray:
    """`_errors` for a few lags; `valid (group, bin, lag)` marks stretches whose earlier partners exist."""
    bins, count = valid.shape[1], span.size
    size = int(scipy.fft.next_fast_len(width + count, real=True))
    padded = int(scipy.fft.next_fast_len(bins + bins // 4 + 2, real=True))
    spectrum = np.zeros((bundle.size, padded // 2 + 1, count))
    means = np.zeros((bundle.chains.size, count))
    stretches = np.maximum(valid.sum(axis=1), 1)
    for rows, values, owner in bundle.blocks():
        room = max(1, _ROOM // (bins * (size + count)))
        for low in range(0, owner.size, room):
            part = slice(rows.start + low, min(rows.start + low + room, rows.stop))
            own = owner[low : low + room]
            y = masked(values[low : low + room] - m.chain_mean[part][:, None], m.start[own])
            lagged, square = _lagged_products(y, bins, width, span, size)
            with np.errstate(divide="ignore", invalid="ignore"):
                u = (lagged - c.run.correlation[own][:, None, span] * square[:, :, None]) / c.run.variance[own][
                    :, None, None
                ]
            u = np.where(valid[own], u, 0.0)
            means[part] = u.sum(axis=1) / stretches[own]
            centred = np.where(valid[own], u - means[part][:, None, :], 0.0)
            transform = scipy.fft.rfft(centred, n=padded, axis=1)
            bundle.sum_by_group(own, transform.real**2 + transform.imag**2, spectrum)
    sums = products(np.moveaxis(spectrum, 1, 2).reshape(bundle.size * count, -1), padded, bins // 4 + 1)
    members = bundle.members()
    run = long_run(sums, stretches.ravel(), np.repeat(np.maximum(members, 1), count))
    within = np.where(run.closed, run.total / (stretches.ravel() * np.repeat(np.maximum(members, 1), count)), np.nan)
    within = np.where(np.repeat(c.resolved, count), within, np.nan)
    between = np.stack([between_chains(column, bundle.owner, bundle.size) for column in means.T], axis=1)
    return combine(within, run.degrees, between.ravel(), np.repeat(members, count)).stderr.reshape(bundle.size, count)


def _lagged_products(y: FloatArray, bins: int, width: int, span: IntArray, size: int) -> tuple[FloatArray, FloatArray]:
    """Means over each stretch of y_t y_{t-k}, dims ``(row, bin, lag)``, and of y_t^2."""
    draws, last = y.shape[1], int(span[-1])
    offset = draws - bins * width
    stretches = y[:, offset:].reshape(y.shape[0], bins, width)
    padded = np.concatenate([np.zeros((y.shape[0], last)), y], axis=1)
    earlier = np.lib.stride_tricks.sliding_window_view(padded, width + span.size - 1, axis=1)
    earlier = earlier[:, offset : offset + (bins - 1) * width + 1 : width]
    product = scipy.fft.rfft(earlier, n=size, axis=-1) * scipy.fft.rfft(stretches, n=size, axis=-1).conj()
    lagged = scipy.fft.irfft(product, n=size, axis=-1)[..., : span.size][..., ::-1]
    return np.asarray(lagged / width), np.asarray((stretches**2).mean(axis=2))


def half_time_columns(
    bundle: Bundle, m: Moments, c: Correlations, factor: FloatArray, spacing: FloatArray
) -> dict[str, NDArray[Any]]:
    """Integrated and half-life with errors, in units of time; NaN where the run is too short for them.

    `fine` is False where the correlation falls to one half before the next draw. What would be needed is beside it.
    """
    length = Length.of(bundle.series.values)
    time_error, half_error = correlation_errors(bundle, m, c, factor)
    half = np.where(c.resolved, c.half.value, np.nan)
    # Below the spacing of draws a half-life rests on rho_1 alone, which must then stand out of its own noise.
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = half_error.stderr / np.abs(c.half.right)
    below = (c.half.lag == 1) & (c.run.correlation[:, 1] < 0.5)
    half = np.where(below & ~(c.run.correlation[:, 1] > 2.0 * noise), np.nan, half)
    # Below the spacing all that may happen between two draws has to be held; further on it is half of that at most.
    gap = interpolation_gap(c.run.correlation, c.half, half_error.stderr)
    error = np.where(below, half_error.stderr + gap / NORMAL, np.hypot(half_error.stderr, 0.5 * gap))
    return {
        "autocorrelation_time": np.where(c.resolved, c.run.time, np.nan) * spacing,
        "autocorrelation_time_stderr": np.where(c.resolved, time_error.stderr, np.nan) * spacing,
        "half_time": half * spacing,
        "half_time_stderr": np.where(np.isfinite(half), error, np.nan) * spacing,
        "resolved": c.resolved,
        "steps_needed": steps_needed(c.resolved, c.correlation_times, length, m.chains),
        "fine": ~below,
        "every_needed": every_needed(~below, 0.5 * half, length),
        "correlation_times": c.correlation_times,
    }


@probe("fluctuations.half_time", ENERGIES)
def half_time(
    x: Any, *, by: str = "chain", temperature: ArrayLike | None = None, discard: str | float | int = 0
) -> xr.Dataset:
    r"""Time at which the connected autocorrelation has fallen to 1/2.

    The first crossing, linear in ln(rho) between draws, so that it is exact for an exponential at any spacing: for
    the energy of one direction of stiffness k, rho = exp(-2 k t) and the half-life is ln(2) / (2 k). What else
    ln(rho) may do between draws, as the draws before and after bound it, is part of the error.

    Parameters
    ----------
    by, temperature, discard
        As in `autocorrelation`; nothing is discarded unless told so.

    Returns
    -------
    xarray.Dataset
        `half_time` and `autocorrelation_time` with their errors, in units of the coordinate `time` (draws without
        it); `resolved`; `correlation_times`, the length of the run in autocorrelation times; `steps_needed` where it is
        not resolved. `fine` is False where the half-life is below the spacing of draws: its error then holds all that
        an autocorrelation may do between two draws, and `every_needed` are the steps between draws that would do. Times
        are NaN where `resolved` is False, and the half-life where it is not `fine` and lost in noise.

    Raises
    ------
    ShapeError, ConfigError
        If the series, its times, `discard` or `by` make no sense.

    Notes
    -----
    Cost: three passes over the data and two FFTs of each chain's length. No gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.signal import lfilter
    >>> x = lfilter([1.0], [1.0, -np.exp(-0.1)], np.random.default_rng(0).standard_normal((8, 9000)), axis=-1)
    >>> result = half_time(x, temperature=1.0, by="temperature")
    >>> bool(abs(result.half_time[0] - 10 * np.log(2)) < 4.5 * result.half_time_stderr[0])
    True
    """
    series = as_series(x, temperature)
    groups = grouping(series, by)
    columns: dict[str, NDArray[Any]] = {}
    for bundle in bundles(series, groups):
        start, _ = starts(bundle, discard)
        m = moments(bundle, start, logarithm=True)
        c = correlations(bundle, m)
        _, factor = fitted_gamma(bundle, m, c)
        found = half_time_columns(bundle, m, c, factor, groups.spacing[bundle.groups])
        for name, values in found.items():
            columns.setdefault(name, np.full(groups.count, np.nan))[bundle.groups] = values
    return in_units(
        describe(
            columns | {name: columns[name].astype(bool) for name in ("resolved", "fine")},
            groups,
            series,
            title="Half time",
            conventions="first crossing of 1/2 of the connected autocorrelation; tau = spacing * (1/2 + sum_k rho_k)",
            cost="three passes over the series, two FFTs of each chain; no gradients",
        ),
        Length.of(series.values),
    )
