"""Autocorrelation over many decades of time by a multiple-tau correlator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.observers.base import (
    Accumulator,
    FloatArray,
    Observer,
    Source,
    Variables,
    check_observer,
    units_of,
)
from landscape.observers.blocking import LEAST_TIMES
from landscape.statistics import student_factor

__all__ = ["Autocorrelation"]

_STRETCHES = 32


@guarded_class
@dataclass(frozen=True, slots=True)
class Autocorrelation(Observer):
    r"""Connected autocorrelation of each column, by a multiple-tau correlator [1].

    With the mean of each chain subtracted, C(k) is the average of the products of n - k pairs,

    .. math:: C(k) = \frac{1}{n - k} \sum_{t = k}^{n - 1} (x_t - \bar x)(x_{t-k} - \bar x) ,
        \qquad \rho(k) = C(k) / C(0) .

    So it is on level 0, for lags k = 0 ... p - 1. On level l the samples are averages of B = 2^l successive ones, and
    their lags p/2 ... p - 1 are B times longer: (levels + 1) p/2 lags in all, up to (p - 1) 2^(levels - 1) samples.
    Averaging raises exp(-k/tau) by a factor 1 + (B/tau)^2 / 12, for p = 16 by less than 0.001 C(0) at any lag.

    Parameters
    ----------
    of : str, sequence of str, or callable
        See `Observer`. Periodic coordinates are unwrapped: position plus the periods that the chain went round.
    points : int
        Points p of a level, even.
    levels : int
    every : int, optional
        Steps between samples; the cadence of the record unless given.

    Returns
    -------
    Variables named after what is observed, here x:
        ``x_autocorrelation (chain, x_lag)``, rho; ``x_autocovariance (chain, x_lag)``, C; ``x_raw_variance (chain)``,
        C(0), divisor n; each with ``_stderr``. Coordinate ``x_lag``, in samples, and ``x_lag_time (chain, x_lag)``.
        Several columns have a dimension of their own before the lag. Lags as long as the run are NaN.

    Raises
    ------
    ConfigError
        If a setting makes no sense.

    Notes
    -----
    Subtracting the mean of n samples lowers C(k) by the square of the error of the mean, to leading order the same at
    all lags; it is not put back. Errors come from the scatter of 16 to 32 equal stretches of the run and the
    correlation between neighbours. They are NaN at lags as long as a stretch, with fewer stretches, and in runs below
    50 integrated correlation times. Memory: 0.3 (points)(levels) kilobytes per chain and column. No gradients.

    References
    ----------
    .. [1] J. Ramirez, S. K. Sukumaran, B. Vorselaars, A. E. Likhtman, "Efficient on the fly calculation of time
       correlation functions in computer simulations", J. Chem. Phys. 133, 154103 (2010).

    Examples
    --------
    >>> from scipy.signal import lfilter
    >>> noise = np.random.default_rng(0).standard_normal((1, 40_000))
    >>> x = lfilter([1.0], [1.0, -0.9], noise, axis=-1)
    >>> found = Autocorrelation("x", points=8, levels=3).apply(x).isel(chain=0)
    >>> found.x_lag.values.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28]
    >>> z = (found.x_autocorrelation - 0.9**found.x_lag)[1:8] / found.x_autocorrelation_stderr[1:8]
    >>> bool((abs(z) < 4.5).all())
    True
    """

    of: Source = "energy"
    points: int = 16
    levels: int = 12
    every: int | None = None

    unwraps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_observer(self)
        whole_number("points", self.points, least=2)
        whole_number("levels", self.levels, most=40)  # lags of 2^40 samples
        if self.points % 2:
            raise ConfigError(f"Autocorrelation(points=...) must be even, got {self.points}: half of them repeat")

    @property
    def lags(self) -> NDArray[np.int64]:
        """Lags in samples, ascending."""
        lags: NDArray[np.int64] = self._shifts << self._level
        return lags

    @property
    def _level(self) -> NDArray[np.int64]:
        half = self.points // 2
        return np.repeat(np.arange(self.levels), [self.points] + [half] * (self.levels - 1))

    @property
    def _shifts(self) -> NDArray[np.int64]:
        """Lags in averages of their own level."""
        half = self.points // 2
        return np.concatenate([np.arange(half), np.tile(np.arange(half, self.points), self.levels)])

    def pairs(self, first: int, last: int) -> NDArray[np.int64]:
        """Pairs at each lag whose later member is complete after sample `first` and by sample `last`."""
        found: NDArray[np.int64] = np.maximum((last >> self._level) - np.maximum(first >> self._level, self._shifts), 0)
        return found

    def accumulator(self, chains: int, width: int) -> AutocorrelationAccumulator:
        """An empty accumulator for samples of so many columns."""
        return AutocorrelationAccumulator(self, chains, width)


class AutocorrelationAccumulator(Accumulator):
    """Sums of `Autocorrelation` over stretches of the run.

    When all stretches are full, neighbours are merged and the rest go on twice as long.
    """

    def __init__(self, observer: Autocorrelation, chains: int, width: int) -> None:
        self.observer = observer
        state = {
            "origin": np.zeros((chains, width)),
            "window": np.zeros((chains, width, observer.levels, 2 * observer.points)),
            "sums": np.zeros((chains, width, _STRETCHES, 2, len(observer.lags))),
        }
        super().__init__(chains, width, state)

    def _update(self, block: NDArray[Any]) -> None:
        from landscape.observers import kernels  # compiled: only where samples arrive

        state, begin = self.state, 0
        if not self.samples:
            state["origin"][:] = block[:, 0]
        while begin < block.shape[1]:
            samples = self.samples + begin
            length = self._length(samples)
            end = min(begin + length - samples % length, block.shape[1])
            place = samples // length
            kernels.correlate(block, begin, end, samples, place, state["origin"], state["window"], state["sums"])
            if self.samples + end == _STRETCHES * length:
                sums = state["sums"]
                sums[:, :, : _STRETCHES // 2] = sums[:, :, 0::2] + sums[:, :, 1::2]
                sums[:, :, _STRETCHES // 2 :] = 0.0
            begin = end

    def _length(self, samples: int) -> int:
        """Length of a stretch after so many samples."""
        length = self.observer.points
        while samples >= _STRETCHES * length:
            length *= 2
        return length

    def result(self, name: str, spacing: ArrayLike) -> Variables:
        """Autocorrelation, autocovariance and variance, their errors, and the lags in time."""
        of, lag = self.observer.of, f"{name}_lag"
        columns, variables = self.observer.columns(name, self.width)
        estimates = self._estimates()
        for kind, long_name, units in (
            ("autocorrelation", f"connected autocorrelation of {name}", "1"),
            ("autocovariance", f"connected autocovariance of {name}", units_of(of, 2)),
            ("raw_variance", f"variance of {name}, divisor n", units_of(of, 2)),
        ):
            dims = ("chain", *columns, *((lag,) if kind != "raw_variance" else ()))
            about = {"long_name": long_name, "units": units}, {"long_name": f"standard error of the {long_name}"}
            for suffix, values, attributes in zip(("", "_stderr"), estimates[kind], about, strict=True):
                values = values if columns else values[:, 0]
                variables[f"{name}_{kind}{suffix}"] = (dims, values, {"units": units} | attributes)
        times = self.observer.lags * self._spacing(spacing)[:, None]
        variables[lag] = ((lag,), self.observer.lags, {"long_name": f"lag of {name} in samples", "units": "1"})
        variables[f"{lag}_time"] = (("chain", lag), times, {"long_name": f"lag of {name} in time", "units": "time"})
        return variables

    def _estimates(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Values and errors, ``(chain, column, lag)`` or ``(chain, column)``."""
        samples, sums = self.samples, self.state["sums"]
        length = self._length(samples)
        stretches = samples // length
        with np.errstate(divide="ignore", invalid="ignore"):
            total = sums.sum(axis=2)
            mean = 0.5 * total[:, :, 1, 0] / samples if samples else np.full(sums.shape[:2], np.nan)
            covariance = _connected(total, self.observer.pairs(0, samples), mean)
            variance = covariance[..., 0]
            correlation = covariance / variance[..., None]
            starts = range(0, stretches * length, length)
            pairs = np.reshape([self.observer.pairs(at, at + length) for at in starts], (stretches, sums.shape[-1]))
            parts = _connected(sums[:, :, :stretches], pairs, mean[..., None])
            weights = pairs * stretches / pairs.sum(axis=0)
            deviations = parts - correlation[:, :, None] * parts[..., :1]
            # the integrated correlation time is (n/2) (error of the mean)^2 / variance
            mean_error = _scatter(0.5 * sums[:, :, :stretches, 1, :1] / length)
            resolved = np.where(0.5 * LEAST_TIMES * mean_error**2 <= variance[..., None], 1.0, np.nan)
            correlation_error = _scatter(weights * deviations) / variance[..., None] * resolved
            covariance_error = _scatter(weights * parts) * resolved
        return {
            "autocorrelation": (correlation, correlation_error),
            "autocovariance": (covariance, covariance_error),
            "raw_variance": (variance, covariance_error[..., 0]),
        }


def _connected(sums: FloatArray, pairs: NDArray[np.int64], mean: FloatArray) -> FloatArray:
    """Average of (x_t - m)(x_{t-k} - m) from sums ``(..., 2, lag)`` over so many pairs; NaN where there are none."""
    products, both = np.moveaxis(sums, -2, 0)
    m = mean[..., None]
    return np.asarray((products - m * both) / np.where(pairs > 0, pairs, np.nan) + m * m)


def _scatter(parts: FloatArray) -> FloatArray:
    """Standard error of the average over stretches, ``(chain, column, stretch, lag)``.

    Neighbours may share what happens at their common end: their covariance is added where it is positive.
    """
    count = parts.shape[2]
    if count < _STRETCHES // 2:
        return np.full((*parts.shape[:2], parts.shape[3]), np.nan)
    deviation = parts - parts.mean(axis=2, keepdims=True)
    own = (deviation**2).sum(axis=2)
    shared = (deviation[:, :, 1:] * deviation[:, :, :-1]).sum(axis=2)
    variance = (own + 2.0 * np.maximum(shared, 0.0)) / (count * (count - 1.0))
    return np.asarray(np.sqrt(variance) * student_factor(count - 1.0))
