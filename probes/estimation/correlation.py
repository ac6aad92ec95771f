r"""Long-run variances: what an average over correlated draws is worth.

The variance of the mean of N draws of a stationary series is C/N with

.. math:: C = \sum_{k=-\infty}^{\infty} \gamma_k = 2 \tau \gamma_0, \qquad \tau = \tfrac12 + \sum_{k \ge 1} \rho_k ,

so N draws are worth N_eff = N / (2 tau) independent ones. For rho_k = exp(-k / t) with t >> 1, tau = t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.special

from landscape.probes.estimation.series import BoolArray, FloatArray, IntArray
from landscape.statistics import student_factor

__all__ = [
    "LongRun",
    "Variance",
    "combine",
    "fft_size",
    "long_run",
    "power",
    "products",
    "taper",
]

_SOKAL = 5.0  # Sokal (1997), section 3: the window is the least W with W >= 5 tau(W)
_SIGNIFICANT = 0.99
_LARGER = 0.8
_ROUNDS = 3
_NEGATIVE = 5.0  # standard errors (Bartlett's) below zero from which a correlation changes sign
_DEEP = 0.6  # correlation below which it does whatever its noise: few periods make much of it
_ENVELOPE = 8.0  # integrals of |rho| summed then: exp(-k/t) |cos| has 2 t/pi, of whose end a part of exp(-5) is left


def fft_size(draws: int, max_lag: int) -> int:
    """A fast length that keeps lags up to `max_lag` free of wrap-around."""
    return int(scipy.fft.next_fast_len(draws + max_lag + 1, real=True))


def power(series: FloatArray, size: int) -> FloatArray:
    """Squared modulus of the Fourier transform of each row, zero-padded to `size`."""
    transform = scipy.fft.rfft(series, n=size, axis=-1)
    return np.asarray(transform.real**2 + transform.imag**2)


def products(spectrum: FloatArray, size: int, max_lag: int) -> FloatArray:
    """Sums over t of x_t x_{t+k} for k = 0..max_lag from (sums of) power spectra."""
    return np.asarray(scipy.fft.irfft(spectrum, n=size, axis=-1)[..., : max_lag + 1])


@dataclass(frozen=True, slots=True)
class LongRun:
    """Per group: long-run variance, integrated time in draws, and how they were cut off.

    Attributes
    ----------
    total : array
        C, corrected for the mean that was subtracted from each chain.
    variance : array
        gamma_0, corrected alike.
    time : array
        tau = C / (2 gamma_0).
    window : array of int
        Last lag summed.
    degrees : array
        Degrees of freedom of C as an estimate: N / (2 W + 1).
    closed : array of bool
        Whether the window ended before the last lag allowed.
    tail : array
        What a slow tail beyond the window may add to tau, as a fraction of it.
    correlation : array, shape ``(group, lag)``
        rho_k, corrected alike.
    envelope : array
        1/2 + sum |rho_k| beyond noise where rho changes sign, which says how long a chain has to be; else 0.
    """

    total: FloatArray
    variance: FloatArray
    time: FloatArray
    window: IntArray
    degrees: FloatArray
    closed: BoolArray
    tail: FloatArray
    correlation: FloatArray
    envelope: FloatArray

    @property
    def time_error(self) -> FloatArray:
        """Standard error of tau: that of a windowed sum, 4 (W + 1/2 - tau) tau^2 / N [Wolff, eq. 42], and the tail."""
        draws = np.maximum(self.degrees * (2.0 * self.window + 1.0), 1.0)
        terms = np.maximum(self.window + 0.5 - self.time, 0.5)
        return np.asarray(self.time * np.hypot(2.0 * np.sqrt(terms / draws), self.tail))


def long_run(sums: FloatArray, draws: IntArray, chains: IntArray, *, removed: int = 1) -> LongRun:
    r"""Sum the autocovariance of pooled chains up to a window that it sets itself.

    The window is the larger of two: Sokal's least W >= 5 tau(W), and the last lag before a pair rho_{2m} +
    rho_{2m+1} turns negative (Geyer's initial positive sequence, valid for reversible dynamics). Sokal's alone
    cuts off the tail of spectra that span decades: the error bar of the energy of 20 directions with stiffness
    spread over a factor 100 would be 10 % too small. Where the correlation changes sign (some rho_k is 5 of Bartlett's
    standard errors below zero) neither knows: the window is then the least W >= 8 (1/2 + sum |rho_k|), noise
    subtracted, and the lags are weighted with (1 + cos(pi k/(W + 1)))/2, without which what oscillates would leak into
    the sum. Subtracting the mean of n draws lowers every autocovariance by
    C/n, so the sum is divided by 1 - (2W + 1)/n [1].

    Parameters
    ----------
    sums : array, shape ``(group, lag)``
        Sums over draws and chains of products of deviations from each chain's own mean.
    draws, chains : array of int, shape ``(group,)``
        Draws per chain and chains.
    removed : int
        Parameters fitted to each chain: 1 for its mean, 2 for its mean and slope.

    References
    ----------
    .. [1] U. Wolff, "Monte Carlo errors with less errors", Comput. Phys. Commun. 156 (2004), eq. 49.
    """
    groups, lags = sums.shape
    lag = np.arange(lags)
    # Beyond a quarter of a chain the estimates are noise, and the mean-subtraction bias is no longer small.
    last = np.minimum(np.maximum(draws // 4, 1), lags - 1)
    counts = np.maximum(draws[:, None] - lag, 1) * np.maximum(chains, 1)[:, None]
    raw = sums / counts
    gamma = raw
    # Without the correction the tail turns negative too early, hence the window is looked for again with it.
    for _ in range(_ROUNDS):
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = gamma / gamma[:, :1]
            time = 0.5 + np.cumsum(rho[:, 1:], axis=1)
        window, closed, envelope = _window(rho, time, last, draws * np.maximum(chains, 1))
        terms = 2.0 * window + 1.0
        plain = raw[:, 0] + 2.0 * np.cumsum(raw[:, 1:], axis=1)[np.arange(groups), window - 1]
        for row in np.flatnonzero(envelope > 0):
            weight = taper(int(window[row]))
            plain[row] = raw[row, 0] + 2.0 * float(weight @ raw[row, 1 : window[row] + 1])
            terms[row] = 2.0 * weight.sum() + 1.0
        shrink = 1.0 - np.minimum(removed * terms / np.maximum(draws, 1), 0.6)
        # Noise can bring the sum below zero; a tenth of white noise is the floor, a thousandth where signs change.
        floor = np.where(envelope > 0, 0.001, 0.1)
        total = np.maximum(plain, floor * raw[:, 0]) / shrink
        gamma = raw + (removed * total / np.maximum(draws, 1))[:, None]
    variance = gamma[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        corrected = gamma / variance[:, None]
        time_corrected = 0.5 * total / variance
    summed = 2.0 * window + 1.0
    for row in np.flatnonzero(envelope > 0):
        summed[row] = 2.0 * float((taper(int(window[row])) ** 2).sum()) + 1.0
    degrees = draws * chains / summed
    closed = closed & np.isfinite(time_corrected)
    tail = np.where(envelope > 0, 0.0, _tail(corrected, window))
    return LongRun(total, variance, time_corrected, window, degrees, closed, tail, corrected, envelope)


def taper(window: int) -> FloatArray:
    """Weights (1 + cos(pi k/(W + 1)))/2 of lags 1..W: an abrupt end would let in what oscillates (von Hann)."""
    return np.asarray(0.5 * (1.0 + np.cos(np.pi * np.arange(1, window + 1) / (window + 1.0))))


def _tail(rho: FloatArray, window: IntArray) -> FloatArray:
    """What the tail beyond the window may hold, judged by the last third of the window.

    A single exponential of integral tau leaves a known part of it to lags beyond 2W/3. What is found there in excess
    belongs to slower parts, of which the window, set by the noise, may have cut off up to twice as much.
    """
    rows = np.arange(rho.shape[0])
    time = np.cumsum(rho[:, 1:], axis=1) + 0.5
    whole = np.maximum(time[rows, window - 1], 0.05)
    near = np.maximum(2 * window // 3, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        exponential = np.exp(-near / whole) - np.exp(-window / whole)
        excess = (whole - time[rows, near - 1]) / whole - exponential
    return np.asarray(np.nan_to_num(2.0 * np.maximum(excess, 0.0)))


def _window(
    rho: FloatArray, time: FloatArray, last: IntArray, draws: IntArray
) -> tuple[IntArray, BoolArray, FloatArray]:
    lag = np.arange(1, rho.shape[1])
    allowed = lag[None, :] <= last[:, None]
    enough = (lag >= _SOKAL * time) & allowed
    sokal = np.where(enough.any(axis=1), enough.argmax(axis=1) + 1, last)
    even = rho.shape[1] // 2 * 2
    pairs = rho[:, 0:even:2] + rho[:, 1:even:2]
    negative = pairs <= 0
    positive = np.where(negative.any(axis=1), 2 * negative.argmax(axis=1) - 1, last)
    window = np.clip(np.maximum(sokal, positive), 1, np.maximum(last, 1))
    closed, envelope = np.asarray(enough.any(axis=1)), np.zeros(len(rho))
    # A correlation that is clearly below zero somewhere may come back: the sum goes on until its size has decayed.
    with np.errstate(invalid="ignore"):
        noise = np.sqrt((1.0 + 2.0 * np.where(allowed, rho[:, 1:] ** 2, 0.0).sum(axis=1)) / np.maximum(draws, 1))
        below = (rho[:, 1:] < -_NEGATIVE * noise[:, None]) | (rho[:, 1:] < -_DEEP)
        turning = (below & allowed).any(axis=1)
    for row in np.flatnonzero(turning):
        size = 0.5 + np.cumsum(np.maximum(np.abs(rho[row, 1:]) - noise[row], 0.0))
        decayed = (lag >= _ENVELOPE * size) & allowed[row]
        closed[row] = decayed.any()
        window[row] = max(int(decayed.argmax()) + 1 if closed[row] else int(last[row]), 1)
        envelope[row] = size[window[row] - 1]
    return window.astype(np.intp), closed, envelope


@dataclass(frozen=True, slots=True)
class Variance:
    """Variance of a pooled estimate, and whether the chains contradict each other."""

    value: FloatArray
    stderr: FloatArray
    agree: BoolArray
    excess: FloatArray


def combine(
    within: FloatArray, degrees: FloatArray, between: FloatArray, chains: IntArray, groups: int = 1
) -> Variance:
    """Put together what correlations within chains and the scatter between chains say of an error.

    From four chains on the scatter is taken where it is the larger of the two by more than chance explains in four of
    five cases; for two or three chains only where an F test at 1 % rejects that they are equal. The standard error is
    widened so that +-1.96 of it covers 95 % although its variance is itself an estimate: by Student's factor at the
    degrees of freedom of the correlations, or, where the test rejects, of the scatter.

    Parameters
    ----------
    within, degrees : array, shape ``(group,)``
        Variance of the estimate from correlation times, NaN where these are not known, and its degrees of freedom.
    between : array, shape ``(group,)``
        Variance over chains of the chain estimates, divided by the number of chains.
    chains : array of int, shape ``(group,)``
    groups : int
        Among so many one that disagrees by chance is to be found in 1 % of all results.
    """
    known = np.isfinite(within)
    freedom = np.maximum(chains - 1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = between / within
    limit = scipy.special.fdtri(freedom, np.maximum(degrees, 1.0), _SIGNIFICANT)
    disagree = known & (chains >= 2) & (ratio > limit)
    only_between = ~known & (chains >= 4)
    larger = known & (chains >= 4) & (ratio > scipy.special.fdtri(freedom, np.maximum(degrees, 1.0), _LARGER))
    value = np.where(disagree | only_between | larger, between, within)
    dof = np.where(disagree | only_between, freedom, degrees)
    stderr = np.sqrt(np.maximum(value, 0.0)) * student_factor(dof)
    surely = scipy.special.fdtri(freedom, np.maximum(degrees, 1.0), 1.0 - (1.0 - _SIGNIFICANT) / groups)
    return Variance(value, stderr, ~(disagree & (ratio > surely)), np.where(disagree, ratio, 1.0))
