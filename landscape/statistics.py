"""Independent numbers: errors of means of few, Student's factor, skewness, scales whose logarithm is nearly normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

__all__ = [
    "NORMAL", "Line", "equal_rows", "error_of_mean", "lengthen", "pseudo_values", "standard_error", "student_factor",
    "weighted_line", "widen",
]  # fmt: skip

NORMAL = 1.959963984540054  # 97.5 % quantile of the normal distribution

FloatArray = NDArray[np.float64]


def student_factor(degrees: ArrayLike) -> FloatArray:
    """How much wider than normal a 95 % interval is whose variance has so many degrees of freedom."""
    return np.asarray(stdtrit(np.maximum(degrees, 1.0), 0.975) / NORMAL)


def standard_error(values: ArrayLike, axis: int = 0) -> FloatArray:
    r"""Standard error of means of independent values along an axis, :math:`(s / \sqrt n) \, t_{0.975}(n - 1) / 1.96`.

    s^2 has the divisor n - 1. NaN for fewer than two values. Of few that are skewed `error_of_mean` says more.

    Examples
    --------
    >>> round(float(standard_error([1.0, 2.0, 3.0])), 4)  # 2.195 / sqrt(3)
    1.2674
    """
    x = np.asarray(values, dtype=np.float64)
    count = x.shape[axis]
    if count < 2:
        return np.full(np.delete(x.shape, axis), np.nan)
    return np.asarray(x.std(axis=axis, ddof=1) / np.sqrt(count) * student_factor(count - 1.0))


def pseudo_values(whole: ArrayLike, less: ArrayLike) -> FloatArray:
    """The jackknife's, whose scatter is that of an estimate: from the `whole`, and `less` one at a time ``(n, ...)``.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> pseudo_values(x.mean(), (x.sum() - x) / 2.0)  # of a mean: the values themselves
    array([1., 2., 6.])
    """
    others = np.asarray(less, dtype=np.float64)
    return np.asarray(len(others) * np.asarray(whole) - (len(others) - 1.0) * others)


def equal_rows(*columns: ArrayLike) -> list[tuple[tuple[float, ...], NDArray[np.intp]]]:
    """What stands in several rows alike, in rising order, and which rows: chains of one temperature, say.

    Examples
    --------
    >>> equal_rows([0.2, 0.1, 0.2])
    [((0.1,), array([1])), ((0.2,), array([0, 2]))]
    """
    found, which = np.unique(np.stack([np.asarray(one) for one in columns], axis=1), axis=0, return_inverse=True)
    return [(tuple(row.tolist()), np.flatnonzero(which.ravel() == number)) for number, row in enumerate(found)]


@dataclass(frozen=True, slots=True)
class Line:
    """Weighted least squares y = level + slope (x - middle): the two are independent, of variance 1/total, 1/spread."""

    level: FloatArray
    slope: FloatArray
    middle: FloatArray
    total: FloatArray
    spread: FloatArray
    chi_square: FloatArray


def weighted_line(x: FloatArray, y: FloatArray, weight: FloatArray) -> Line:
    """The line through points on the first axis, of weight 1/sigma^2 (0: left out), for each column.

    Examples
    --------
    >>> line = weighted_line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]), np.ones(3))
    >>> float(line.slope), float(line.level - line.slope * line.middle)
    (2.0, 1.0)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weight.sum(axis=0)
        middle = (weight * x).sum(axis=0) / total
        away = x - middle
        spread = (weight * away**2).sum(axis=0)
        slope = (weight * away * y).sum(axis=0) / spread
        level = (weight * y).sum(axis=0) / total
        chi_square = (weight * (y - level - slope * away) ** 2).sum(axis=0)
    return Line(level, slope, middle, total, spread, chi_square)


def widen(estimate: FloatArray, stderr: FloatArray, share: float = 1.0) -> FloatArray:
    """Standard error of a scale whose error is a factor rather than a sum.

    A scale that comes out low comes out with a low error. If its logarithm is normal with standard deviation r =
    stderr / estimate, the upper end of the 95 % interval is a factor exp(1.96 r) away, and that distance is taken;
    for small r this changes nothing. `share` is the part of the lengthening that is applied.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        longer = np.where(estimate > 0, estimate * np.expm1(NORMAL * stderr / estimate) / NORMAL, stderr)
    return np.asarray(stderr + share * (longer - stderr))


def lengthen(estimate: FloatArray, stderr: FloatArray) -> FloatArray:
    """Standard error of the mean of positive values whose skewness was not kept, such as squares or waiting times.

    By 1 + r with the relative error r, somewhat less than exponential values would have it from their skewness of
    2 (`error_of_mean`), and as for a scale (`widen`); five times at most, where r is 0.6 and says enough.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(estimate > 0, stderr / estimate, 0.0)
        known = np.clip(relative, 1e-9, 0.6)
        factor = widen(np.ones_like(known), known * (1.0 + known)) / known
    return np.asarray(stderr * np.where(estimate > 0, factor, 1.0))


def error_of_mean(values: Any, *, positive: bool = False, least: int = 3) -> FloatArray:
    r"""Standard error of the mean of independent values on the last axis, +- 1.96 of which hold 95 % for few of them.

    .. math:: \frac{s}{\sqrt n} \, \frac{t_{0.975}(n - 1)}{1.96}
              \left( 1 + |g| \frac{1 + 2 z^2}{3 z \sqrt n} \right), \qquad z = 1.96 ,

    with s^2 of divisor n - 1. A mean of skewed values that comes out low comes out with a low scatter: with skewness g
    the far end of Student's interval lies a factor 1 + g (1 + 2 z^2) / (6 z sqrt(n)) further out [1, 2], and twice that
    is taken, for the skewness comes out low too. The mean of `positive` values is lengthened as a scale besides
    (`widen`). NaN for fewer than `least` values; of two, where they will do, twice Student's error is given.

    References
    ----------
    .. [1] N. J. Johnson, "Modified t tests and confidence intervals for asymmetrical populations", J. Am. Stat. Assoc.
       73, 536 (1978).
    .. [2] P. Hall, "On the removal of skewness by transformation", J. R. Stat. Soc. B 54, 221 (1992).

    Examples
    --------
    >>> round(float(error_of_mean([1.0, 2.0, 3.0])), 4)  # no skewness: 2.195 / sqrt(3)
    1.2674
    """
    x = np.asarray(values, dtype=np.float64)
    count = x.shape[-1]
    if count < max(least, 2):
        return np.full(x.shape[:-1], np.nan)
    mean, spread = x.mean(axis=-1), x.std(axis=-1, ddof=1)
    longer = np.full(spread.shape, 2.0)  # of two values nothing is known
    if count > 2:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            cubes = (((x - mean[..., None]) / spread[..., None]) ** 3).sum(axis=-1)
        skewness = np.where(spread > 0, np.nan_to_num(cubes), 0.0) * count / ((count - 1.0) * (count - 2.0))
        longer = 1.0 + np.abs(skewness) * (1.0 + 2.0 * NORMAL**2) / (3.0 * NORMAL * count**0.5)
    error = spread / count**0.5 * student_factor(count - 1.0) * longer
    return widen(mean, error) if positive else np.asarray(error)
