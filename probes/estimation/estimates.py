"""Steps shared by the fluctuation probes: moments, autocovariance, and the errors of correlation times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.signal

from landscape.probes.estimation.correlation import (
    LongRun,
    Variance,
    combine,
    fft_size,
    long_run,
    power,
    products,
    taper,
)
from landscape.probes.estimation.crossings import TIMES_PER_CROSSING, crossings
from landscape.probes.estimation.gamma import GammaFit, fit_gamma, tail_factor
from landscape.probes.estimation.influence import Influence, between_chains, masked
from landscape.probes.estimation.series import BoolArray, Bundle, FloatArray, IntArray
from landscape.statistics import widen

__all__ = [
    "Correlations",
    "HalfTime",
    "Moments",
    "autocovariance",
    "correlation_errors",
    "correlations",
    "fitted_gamma",
    "half_crossing",
    "halves",
    "interpolation_gap",
    "moments",
]

_LONGER_THAN = 50.0  # correlation times of all chains together
_EACH_LONGER_THAN = 20.0  # correlation times of each chain, if its own mean is to be known at all


@dataclass(frozen=True, slots=True)
class Moments:
    """Sample moments of each group over the draws kept; `chain_mean` has one value per chain of the bundle.

    `frozen` says that no chain of a group ever moved, `tied` that two of those that did not share their value, and
    `alike` that all rest at one.
    """

    start: IntArray
    draws: IntArray
    chains: IntArray
    mean: FloatArray
    variance: FloatArray
    fourth: FloatArray
    mean_log: FloatArray
    lowest: FloatArray
    chain_mean: FloatArray
    frozen: BoolArray
    tied: BoolArray
    alike: BoolArray


def moments(bundle: Bundle, start: IntArray, *, logarithm: bool = False) -> Moments:
    """Mean, variance (divided by N), fourth moment about chain means, mean logarithm and minimum from `start` on."""
    chains = bundle.chains.size
    average, square, fourth, logs, lowest, highest = (np.zeros(chains) for _ in range(6))
    kept = bundle.series.draws - start
    for rows, values, owner in bundle.blocks():
        count = kept[owner]
        after = np.arange(values.shape[1]) >= start[owner][:, None]
        average[rows] = np.where(after, values, 0.0).sum(axis=1) / count
        deviation = np.where(after, values - average[rows][:, None], 0.0) ** 2
        square[rows] = deviation.sum(axis=1) / count
        fourth[rows] = (deviation**2).sum(axis=1) / count
        lowest[rows] = np.where(after, values, np.inf).min(axis=1)
        highest[rows] = np.where(after, values, -np.inf).max(axis=1)
        if logarithm:
            with np.errstate(divide="ignore", invalid="ignore"):
                logs[rows] = np.where(after, np.log(values), 0.0).sum(axis=1) / count
    owner, size = bundle.owner, bundle.size
    members = bundle.members()
    safe = np.where(members > 0, members, np.nan)

    def pooled(weights: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return np.bincount(owner, weights=weights, minlength=size) / safe

    mean = pooled(average)
    minimum = np.full(size, np.inf)
    np.minimum.at(minimum, owner, lowest)
    variance = pooled(square + (average - mean[owner]) ** 2)
    still = _still(owner, lowest, highest, size)
    return Moments(start, kept, members, mean, variance, pooled(fourth), pooled(logs), minimum, average, *still)


def _still(
    owner: IntArray, lowest: FloatArray, highest: FloatArray, size: int
) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Groups none of whose chains moves, of whose resting chains two share their value, and all share one."""
    still = highest <= lowest
    count = np.bincount(owner, minlength=size)
    resting = np.bincount(owner[still], minlength=size)
    places = np.unique(np.stack([owner[still].astype(float), lowest[still]]), axis=1)
    different = np.bincount(places[0].astype(np.intp), minlength=size)
    frozen = (resting == count) & (count > 0)
    return frozen, resting > different, frozen & (different == 1)


def autocovariance(bundle: Bundle, m: Moments, max_lag: int) -> FloatArray:
    """Sums of products of deviations from each chain's mean, lags 0..max_lag, over the chains of each group."""
    size = fft_size(bundle.series.draws, max_lag)
    spectrum = np.zeros((bundle.size, size // 2 + 1))
    for rows, values, owner in bundle.blocks():
        centred = masked(values - m.chain_mean[rows][:, None], m.start[owner])
        bundle.sum_by_group(owner, power(centred, size), spectrum)
    return products(spectrum, size, max_lag)


@dataclass(frozen=True, slots=True)
class HalfTime:
    """Where the autocorrelation crosses 1/2, in draws, and its derivatives with respect to rho at lags k-1 and k."""

    value: FloatArray
    lag: IntArray
    left: FloatArray
    right: FloatArray


def half_crossing(rho: FloatArray) -> HalfTime:
    """First crossing of 1/2, linear in ln(rho) between draws: exact for an exponential at any spacing."""
    below = rho < 0.5
    found = below.any(axis=1)
    lag = np.maximum(np.where(found, below.argmax(axis=1), 1), 1)
    rows = np.arange(rho.shape[0])
    first, second = rho[rows, lag - 1], rho[rows, lag]
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = np.log(first) - np.log(second)
        part = (np.log(first) + np.log(2.0)) / fall
        left = (1.0 - part) / (first * fall)
        right = part / (second * fall)
    good = found & (first > 0) & (second > 0)
    value = np.where(good, lag - 1 + part, np.nan)
    return HalfTime(value, lag.astype(np.intp), np.where(lag > 1, left, 0.0), right)


def interpolation_gap(rho: FloatArray, half: HalfTime, stderr: FloatArray) -> FloatArray:
    """How far, in draws, the crossing may be off the chord along which it was interpolated; `stderr` is that of it.

    A correlation that is no single exponential bends between two draws. What relaxes without oscillating has a convex
    ln(rho): it is below the chord and above the lines through the two draws before it and the two after it. Where
    ln(rho) is concave it is the other way round, so that the nearer of the two crossings is a bound. Below the spacing
    of draws only the later line is left, and nothing but the spacing where noise hides it.
    """
    rows, here = np.arange(rho.shape[0]), half.lag
    before, after = here - 1, np.minimum(here + 1, rho.shape[1] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = stderr / np.abs(half.left + half.right)
        seen = (after > here) & (rho[rows, after] > 2.0 * noise)
        # One error is added: a value that comes out low would bring the line close to the chord.
        first, second = np.log(rho[rows, here]), np.log(np.where(seen, rho[rows, after] + noise, np.nan))
        later = here - (first + np.log(2.0)) / (second - first)
        first, second = np.log(rho[rows, np.maximum(here - 2, 0)]), np.log(rho[rows, before])
        earlier = np.where(here > 1, before - (second + np.log(2.0)) / (second - first), np.nan)
    lines = [np.clip(line, before, here) for line in (later, earlier)]
    nearest = np.fmin(*(np.abs(line - half.value) for line in lines))
    return np.where(np.isfinite(nearest), nearest, np.fmax(half.value - before, here - half.value))


@dataclass(frozen=True, slots=True)
class Correlations:
    """Autocorrelation of each group with what follows from it; times in draws.

    `correlation_times` is the length of all chains in correlation times, or as their crossings between two levels tell
    it where these are few.
    """

    run: LongRun
    half: HalfTime
    resolved: BoolArray
    correlation_times: FloatArray


def correlations(bundle: Bundle, m: Moments, max_lag: int | None = None) -> Correlations:
    """Autocorrelation, its integral and half-life, and whether the chains are long enough for them."""
    longest = int(m.draws.max()) // 4 + 1 if max_lag is None else max_lag
    run = long_run(autocovariance(bundle, m, longest), m.draws, np.maximum(m.chains, 1))
    half = half_crossing(run.correlation)
    # One standard error is added to the time, because short runs underestimate it and would let themselves pass.
    # What oscillates has to forget its phase as well.
    doubtful = np.maximum(run.time + run.time_error, run.envelope)
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = m.draws / doubtful
    resolved = run.closed & (lengths * m.chains > _LONGER_THAN) & (lengths > _EACH_LONGER_THAN) & (m.chains > 0)
    times = np.minimum(lengths * m.chains, TIMES_PER_CROSSING * crossings(bundle, resolved))
    return Correlations(run, half, resolved & (times >= _LONGER_THAN), times)


def longer_needed(times: FloatArray | float, chains: FloatArray | int) -> FloatArray:
    """How many times as long a run of so many correlation times in all has to be to be resolved; NaN if none is known.

    At least: short runs underestimate their correlation times.
    """
    times, chains = np.asarray(times, dtype=float), np.asarray(chains, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.maximum(_LONGER_THAN, _EACH_LONGER_THAN * chains) / times
    return np.where(times > 0, np.maximum(factor, 1.0), np.nan)


def fitted_gamma(bundle: Bundle, m: Moments, c: Correlations) -> tuple[GammaFit, FloatArray]:
    """Gamma estimates before bias correction, and the factor by which heavy tails shorten errors of second moments."""
    # The sample variance is about the sample mean: add that mean's own variance.
    between = between_chains(m.chain_mean, bundle.owner, bundle.size)
    own = np.where(c.resolved, c.run.total / np.maximum(m.draws * m.chains, 1), between)
    fit = fit_gamma(m.mean, m.variance + own, m.mean_log, m.lowest)
    return fit, tail_factor(fit, m.fourth)


def correlation_errors(bundle: Bundle, m: Moments, c: Correlations, factor: FloatArray) -> tuple[Variance, Variance]:
    """Errors of the integrated time and of the half-life, in draws; `factor` makes up for heavy tails.

    Both are functions of averages of x_t x_{t-k}, so their influence series are made of such products; no assumption
    is made on fourth moments, which for energies are far from those of a Gaussian process.
    """
    window, lag = c.run.window, c.half.lag
    integral = Influence(bundle, np.minimum(m.start + window, bundle.series.draws - 1))
    crossing = Influence(bundle, np.minimum(m.start + lag, bundle.series.draws - 1))
    for rows, values, owner in bundle.blocks():
        y = masked(values - m.chain_mean[rows][:, None], m.start[owner])
        integral.add(rows, _integral_series(y, owner, c.run), owner)
        crossing.add(rows, _crossing_series(y, owner, c), owner)
    time, half = integral.variance(c.resolved, m), crossing.variance(c.resolved, m)
    # With a fixed window the influence series misses that the window itself is chosen from the data.
    time_error = np.maximum(widen(c.run.time, factor * time.stderr), c.run.time_error)
    return replace(time, stderr=time_error), replace(half, stderr=widen(c.half.value, factor * half.stderr))


def _runs(owner: IntArray) -> Iterator[tuple[int, slice]]:
    """Stretches of equal owners; they are in ascending order."""
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    for low, high in zip(first, [*first[1:], owner.size], strict=True):
        yield int(owner[low]), slice(int(low), int(high))


def _integral_series(y: FloatArray, owner: IntArray, run: LongRun) -> FloatArray:
    out = np.zeros_like(y)
    for g, rows in _runs(owner):
        w, part = int(run.window[g]), y[rows]
        earlier = np.zeros_like(part)
        if run.envelope[g] > 0:
            earlier[:, 1:] = scipy.signal.fftconvolve(part, taper(w)[None], axes=1)[:, : part.shape[1] - 1]
        else:
            running = np.cumsum(part, axis=1)
            earlier[:, 1:] = running[:, :-1]
            earlier[:, w + 1 :] -= running[:, : -w - 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            out[rows] = part * (earlier - (run.time[g] - 0.5) * part) / run.variance[g]
    return out


def _crossing_series(y: FloatArray, owner: IntArray, c: Correlations) -> FloatArray:
    out = np.zeros_like(y)
    for g, rows in _runs(owner):
        k, part = int(c.half.lag[g]), y[rows]
        left, right = float(c.half.left[g]), float(c.half.right[g])
        if not np.isfinite(left + right) or k >= y.shape[1]:
            continue
        rho = c.run.correlation[g]
        shifted = -(left * rho[k - 1] + right * rho[k]) * part
        shifted[:, k:] += right * part[:, :-k]
        if k > 1:
            shifted[:, k - 1 :] += left * part[:, : -k + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            out[rows] = part * shifted / c.run.variance[g]
    return -out


def halves(bundle: Bundle, m: Moments) -> tuple[FloatArray, FloatArray]:
    """Mean of the second half minus mean of the first, and the standard error of that difference.

    Each half's error is that of what a straight line leaves, so that a drift does not hide in its own error bar.
    """
    middle = m.start + m.draws // 2
    first = Influence(bundle, m.start, middle, trend=True)
    second = Influence(bundle, middle, trend=True)
    for rows, values, owner in bundle.blocks():
        first.add(rows, values, owner)
        second.add(rows, values, owner)
    within, degrees = first.within(second)
    change = second.chain_means - first.chain_means
    members = bundle.members()
    with np.errstate(invalid="ignore"):
        drift = np.bincount(bundle.owner, weights=change, minlength=bundle.size) / np.where(members, members, np.nan)
    between = between_chains(change, bundle.owner, bundle.size)
    error = combine(4.0 * within, degrees, between, members)
    return drift, error.stderr
