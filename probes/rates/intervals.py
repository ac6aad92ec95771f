"""Errors of rates from counts, and of fractions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from landscape.statistics import NORMAL

__all__ = ["fraction_interval", "overdispersion", "rate_interval"]

_TAIL = 0.025

_LARGER = 0.8  # scatter that chance exceeds in one of five cases is taken for what it is

FloatArray = NDArray[np.float64]


def rate_interval(events: Any, time: Any, spread: Any = 1.0) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Rate, standard error, and the ends of the 95 % interval, of events in a time.

    The ends are those of Garwood (1936), from the Gamma distribution, which cover for any number of events; with a
    `spread` s of the counts beyond Poisson's, those of events/s in time/s. The error is a quarter of 3.92 of the
    interval. Without events the rate is NaN, and the upper end 3.69/time.
    """
    n, t, s = np.broadcast_arrays(*(np.asarray(one, dtype=float) for one in (events, time, spread)))
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(n > 0, scipy.stats.gamma.ppf(_TAIL, np.maximum(n, 1e-9) / s) * s / t, 0.0)
        high = scipy.stats.gamma.ppf(1.0 - _TAIL, n / s + 1.0) * s / t
        known = (n > 0) & (t > 0)
        rate = np.where(known, n / t, np.nan)
    high = np.where(t > 0, high, np.inf)
    return rate, np.where(known, (high - low) / (2.0 * NORMAL), np.nan), low, high


def overdispersion(events: FloatArray, time: FloatArray) -> FloatArray:
    """Scatter of counts ``(chain, ...)`` over chains beyond Poisson's of one rate, 1 where chance explains it."""
    total, watched = events.sum(axis=0), time.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = time * (total / watched)
        squares = np.where(time > 0, (events - expected) ** 2 / expected, 0.0).sum(axis=0)
    freedom = np.maximum((time > 0).sum(axis=0) - 1, 1)
    ratio = squares / freedom
    larger = squares > scipy.stats.chi2.ppf(_LARGER, freedom)
    return np.where((total > 1) & ((time > 0).sum(axis=0) > 1) & larger, np.maximum(ratio, 1.0), 1.0)


def fraction_interval(hits: Any, trials: Any) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Fraction of hits, standard error, and the ends of Jeffreys' 95 % interval; 0 and 1 are its ends without misses.

    The error reaches to the farther end with 1.96 of it, and does not vanish where all trials agree.
    """
    k, n = np.broadcast_arrays(np.asarray(hits, dtype=float), np.asarray(trials, dtype=float))
    law = scipy.stats.beta(k + 0.5, n - k + 0.5)
    low = np.where(k > 0, law.ppf(_TAIL), 0.0)
    high = np.where(k < n, law.ppf(1.0 - _TAIL), 1.0)
    some = n > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(some, k / n, np.nan)
    with np.errstate(invalid="ignore"):
        error = np.where(some, np.fmax(high - value, value - low) / NORMAL, np.nan)
    return value, error, np.where(some, low, np.nan), np.where(some, high, np.nan)
