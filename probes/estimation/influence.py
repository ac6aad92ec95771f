"""Errors of estimates from the series of their influence functions.

An estimate that is smooth in averages moves, to first order, by the mean of a series u_t, its influence function: the
error of the variance comes from (x_t - mean)^2 and its own correlation time, not from that of x_t. Long series are
averaged over bins first, which leaves their long-run variance as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import scipy.special

from landscape.probes.estimation.correlation import LongRun, Variance, combine, fft_size, long_run, power, products
from landscape.probes.estimation.series import BoolArray, Bundle, FloatArray, IntArray

__all__ = ["Influence", "between_chains", "binned", "masked"]

_MOST_BINS = 2**15  # enough for 2 % of the variance even where draws are independent


def masked(values: FloatArray, start: IntArray) -> FloatArray:
    """Set what lies before each row's start to zero, in place."""
    if np.any(start > 0):
        values[np.arange(values.shape[1]) < start[:, None]] = 0.0
    return values


def binned(values: FloatArray) -> tuple[FloatArray, int]:
    """Means over bins of equal width, aligned to the end of each row, and that width."""
    draws = values.shape[1]
    width = max(1, draws // _MOST_BINS)
    if width == 1:
        return values, 1
    bins = draws // width
    return values[:, draws - bins * width :].reshape(values.shape[0], bins, width).mean(axis=2), width


def between_chains(means: FloatArray, owner: IntArray, groups: int) -> FloatArray:
    """Variance of the mean of each group's chain means, from their scatter; 0 where there is one chain."""
    count = np.bincount(owner, minlength=groups)
    safe = np.maximum(count, 1)
    centre = np.bincount(owner, weights=means, minlength=groups) / safe
    spread = np.bincount(owner, weights=(means - centre[owner]) ** 2, minlength=groups)
    return np.asarray(spread / np.maximum(count - 1, 1) / safe)


class Still(Protocol):
    """Which groups of chains rest, `_estimation.Moments` for one."""

    @property
    def frozen(self) -> BoolArray:
        """No chain of the group moves."""

    @property
    def tied(self) -> BoolArray:
        """Two that do not move share their value."""

    @property
    def alike(self) -> BoolArray:
        """All rest at one value."""


def _apart(chains: IntArray, groups: int) -> FloatArray:
    """Ratio of the variance of means to that within chains beyond which chains are in different places (1 % of all)."""
    freedom = np.maximum(chains - 1.0, 1.0)
    return np.asarray(scipy.special.fdtri(freedom, freedom, 1.0 - 0.01 / groups))


class Influence:
    """Collects one influence series block by block, then gives the variance of its mean per group.

    Parameters
    ----------
    bundle : Bundle
        The groups.
    start, stop : array of int, shape ``(group,)``
        Draws between which the series is valid; bins that straddle an end are left out.
    trend : bool
        Also remove a straight line from each chain before correlating.
    """

    def __init__(self, bundle: Bundle, start: IntArray, stop: IntArray | None = None, *, trend: bool = False) -> None:
        draws = bundle.series.draws
        self._bundle = bundle
        self._trend = trend
        self._width = max(1, draws // _MOST_BINS)
        self._bins = draws // self._width
        offset = draws - self._bins * self._width
        end = np.full(bundle.size, draws) if stop is None else stop
        self._low = np.clip(-((offset - start) // self._width), 0, self._bins - 1)
        self._high = np.clip((end - offset) // self._width, self._low + 1, self._bins)
        self._whole = bool(np.all(self._low == 0) and np.all(self._high == self._bins))
        self._size = fft_size(self._bins, self._bins // 4 + 1)
        self._spectrum = np.zeros((bundle.size, self._size // 2 + 1))
        self.chain_means = np.zeros(bundle.chains.size)

    def add(self, rows: slice, values: FloatArray, owner: IntArray) -> None:
        """Take one block of the series, shape ``(row, draw)`` or already ``(row, bin)``."""
        bins = values if values.shape[1] == self._bins else binned(values)[0]
        index = np.arange(self._bins)
        if self._whole and not self._trend:
            means = bins.mean(axis=1)
            centred = bins - means[:, None]
        else:
            inside = (index >= self._low[owner][:, None]) & (index < self._high[owner][:, None])
            means = np.where(inside, bins, 0.0).sum(axis=1) / inside.sum(axis=1)
            centred = np.where(inside, bins - means[:, None], 0.0)
        self.chain_means[rows] = means
        if self._trend:
            centre = 0.5 * (self._low + self._high - 1)[owner][:, None]
            line = np.where(inside, index - centre, 0.0)
            scale = np.maximum((line**2).sum(axis=1), 1.0)
            centred -= line * ((centred * line).sum(axis=1) / scale)[:, None]
        self._bundle.sum_by_group(owner, power(centred, self._size), self._spectrum)

    def within(self, other: Influence | None = None) -> tuple[FloatArray, FloatArray]:
        """Variance of the pooled mean from correlations within chains (NaN if unresolved), degrees of freedom.

        With an `other` series of the same length, that of the mean over both, which are taken to share one law.
        """
        run, count = self._long_run(other)
        return np.where(run.closed, run.total * (1.0 + run.tail) / count, np.nan), run.degrees

    def _long_run(self, other: Influence | None = None) -> tuple[LongRun, FloatArray]:
        spectrum, segments = self._spectrum, np.maximum(self._bundle.members(), 1)
        if other is not None:
            spectrum, segments = spectrum + other._spectrum, 2 * segments
        count = self._high - self._low
        sums = products(spectrum, self._size, self._bins // 4 + 1)
        return long_run(sums, count, segments, removed=2 if self._trend else 1), np.asarray(
            count * segments, dtype=np.float64
        )

    def variance(self, known: BoolArray, still: Still | None = None, groups: int = 1) -> Variance:
        """Variance of the estimate; where `known` is false only the scatter between chains is used.

        Chains that stay where they began have no scatter that would be an error: `still` says which groups are
        `frozen`, which have chains `tied` to one value, and which rest all `alike`. Chains that each explore less than
        their means are apart do not agree. With `groups` of one result its tests are so much stricter.
        """
        run, count = self._long_run()
        within = np.where(run.closed & known, run.total * (1.0 + run.tail) / count, np.nan)
        between = between_chains(self.chain_means, self._bundle.owner, self._bundle.size)
        members = self._bundle.members()
        found = combine(within, run.degrees, between, members, groups)
        apart = ~np.isfinite(within) & (members > 1) & (members * between > self._explored() * _apart(members, groups))
        if still is None:
            return replace(found, agree=found.agree & ~apart)
        agree = np.where(still.frozen, still.alike | (members < 2), found.agree & ~apart)
        lost = still.tied & ~np.isfinite(within)
        return replace(found, agree=agree, stderr=np.where(lost, np.nan, found.stderr))

    def _explored(self) -> FloatArray:
        """Variance about the chains' own means."""
        square = products(self._spectrum, self._size, 0)[:, 0]
        return np.asarray(np.maximum(square, 0.0) / ((self._high - self._low) * np.maximum(self._bundle.members(), 1)))
