"""Where a series stops remembering its start."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from landscape.checks import one_of
from landscape.probes.estimation.correlation import fft_size, long_run, power, products
from landscape.probes.estimation.describe import describe
from landscape.probes.estimation.series import (
    BoolArray,
    Bundle,
    FloatArray,
    IntArray,
    as_series,
    bundles,
    first_kept,
    grouping,
)
from landscape.probes.registry import ENERGIES, probe
from landscape.statistics import student_factor

__all__ = ["equilibration", "starts"]

_MOST_BATCHES = 1000
_LEFT = 4
# Normal: 10 times the interquartile range is 13 standard deviations; no relaxation is judged by a catapult.
_CLIP = 10.0
_SIGNIFICANT = 3.0
_LATE = 0.95
_MANY = 8  # chains whose scatter is an error
_PARTS = (1, 4, 16)  # of the part cut off: a fast relaxation is lost in the mean of a long one


def starts(bundle: Bundle, discard: str | float | int) -> tuple[IntArray, BoolArray]:
    """First draw kept in each group, and whether the search ended before its limit.

    Raises
    ------
    ConfigError
        If `discard` is not "auto", a fraction in [0, 1) or a number of draws that leaves some.
    """
    draws = bundle.series.draws
    if isinstance(discard, str):
        one_of("discard, unless it is a fraction or a number of draws,", discard, ("auto",))
        return _search(bundle)
    first = first_kept(discard, draws, _LEFT)
    return np.full(bundle.size, first, dtype=np.intp), np.ones(bundle.size, dtype=bool)


def _search(bundle: Bundle) -> tuple[IntArray, BoolArray]:
    draws = bundle.series.draws
    width = -(-draws // _MOST_BATCHES)
    batches = draws // width
    sums = np.zeros((bundle.size, batches))
    zeros = np.zeros(bundle.size, dtype=np.intp)
    for _, values, owner in bundle.blocks():
        np.maximum.at(zeros, owner, (values != 0).argmax(axis=1))
        means = values[:, : batches * width].reshape(values.shape[0], batches, width).mean(axis=2)
        bundle.sum_by_group(owner, means, sums)
    ensemble = sums / np.maximum(bundle.members(), 1)[:, None]
    # The cube root of a Gamma variable is nearly normal (Wilson and Hilferty 1931): else every high first
    # excursion of a skewed energy would be cut away, and the rest would be biased.
    ensemble = np.where((ensemble > 0).all(axis=1, keepdims=True), np.cbrt(ensemble), ensemble)
    best, series = _marginal_standard_error(ensemble)
    best = np.where(_differs(series, best), best, 0)
    best = np.where(_every_chain_differs(bundle, best, width, batches), best, 0)
    # A run recorded from a minimum of energy 0 begins with zeros, which no Gamma distribution has.
    first = np.minimum(np.maximum(best * width, np.minimum(zeros, draws // 2)), draws - _LEFT)
    return first.astype(np.intp), best < max(_LATE * (batches // 2), 1)


def _differs(series: FloatArray, cut: IntArray) -> BoolArray:
    """Whether the mean of the part cut off, or of its beginning, is off the mean of the rest by 3 standard errors."""
    groups, batches = series.shape
    rows, index = np.arange(groups), np.arange(batches)
    left = batches - cut
    after = index >= cut[:, None]
    late = np.where(after, series, 0.0).sum(axis=1) / left
    residual = np.where(after, series - late[:, None], 0.0)
    # What still drifts must not count as noise, or a run that never settles would pass.
    line = np.where(after, index - 0.5 * (cut + batches - 1)[:, None], 0.0)
    residual -= line * ((residual * line).sum(axis=1) / (line**2).sum(axis=1))[:, None]
    size = fft_size(batches, batches // 4 + 1)
    sums = products(power(residual, size), size, batches // 4 + 1)
    run = long_run(sums, left, np.ones(groups, dtype=np.intp), removed=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        doubt = np.nan_to_num(run.time_error / run.time)
    total_error = run.total * (1.0 + doubt)
    total = np.cumsum(series, axis=1)
    found = np.zeros(groups, dtype=bool)
    for share in _PARTS:
        length = np.maximum(cut // share, 1)
        early = total[rows, length - 1] / length
        # No mean varies more than a single value, however correlated. Short series underestimate their correlations.
        variance = np.minimum(total_error / length, run.variance) + total_error / left
        found |= np.abs(early - late) > _SIGNIFICANT * np.sqrt(variance) * student_factor(run.degrees)
    return np.asarray(found & (cut > 0))


def _every_chain_differs(bundle: Bundle, cut: IntArray, width: int, batches: int) -> BoolArray:
    """The same of each chain by itself, as many of them scatter: no correlation time is needed for that.

    True for groups of fewer chains than tell, and where nothing is cut.
    """
    members = bundle.members()
    asked = (cut > 0) & (members >= _MANY)
    if not asked.any():
        return np.ones(bundle.size, dtype=bool)
    sums, squares = (np.zeros((bundle.size, len(_PARTS))) for _ in range(2))
    for _, values, owner in bundle.blocks():
        total = np.cumsum(values[:, : batches * width], axis=1)
        rows, end = np.arange(len(values)), cut[owner] * width
        before = np.where(end > 0, total[rows, np.maximum(end, 1) - 1], 0.0)
        late = (total[:, -1] - before) / (batches * width - end)
        lengths = np.stack([np.maximum(cut[owner] // share, 1) * width for share in _PARTS], axis=1)
        change = np.take_along_axis(total, lengths - 1, axis=1) / lengths - late[:, None]
        bundle.sum_by_group(owner, change, sums)
        bundle.sum_by_group(owner, change**2, squares)
    count = np.maximum(members, 2)[:, None]
    mean = sums / count
    error = np.sqrt(np.maximum(squares / count - mean**2, 0.0) / (count - 1.0)) * student_factor(count - 1.0)
    differs = (np.abs(mean) > _SIGNIFICANT * error).any(axis=1)
    return np.asarray(differs | ~asked)


def _marginal_standard_error(series: FloatArray) -> tuple[IntArray, FloatArray]:
    """The cut d <= half that minimises sum_{t >= d} (x_t - mean)^2 / (n - d)^2, for each row."""
    batches = series.shape[1]
    late = series[:, batches // 2 :]
    low, middle, high = np.quantile(late, [0.25, 0.5, 0.75], axis=1)[:, :, None]
    reach = _CLIP * (high - low)
    x = np.where(reach > 0, np.clip(series, middle - reach, middle + reach), series) - middle
    left = np.arange(batches, 0, -1)
    total = np.cumsum(x[:, ::-1], axis=1)[:, ::-1]
    square = np.cumsum(x[:, ::-1] ** 2, axis=1)[:, ::-1]
    criterion = (square - total**2 / left) / left**2
    return np.argmin(criterion[:, : batches // 2 + 1], axis=1).astype(np.intp), x


@probe("fluctuations.equilibration", ENERGIES)
def equilibration(x: Any, *, by: str = "chain", temperature: ArrayLike | None = None) -> xr.Dataset:
    r"""Draws to leave out because they still remember the start.

    The marginal standard error rule (MSER): keep what follows the cut d that minimises

    .. math:: g(d) = \frac{1}{(n - d)^2} \sum_{t \ge d} (x_t - \bar x_{\ge d})^2, \qquad d \le n / 2,

    the squared error of the mean as it would be for independent draws. The series is first averaged over batches
    (1000 at most) and, with ``by="temperature"``, over the chains of each temperature, which then share one start; the
    cube root of a positive series is taken, which makes a Gamma distribution nearly normal; batches are clipped at ten
    interquartile ranges of the second half, so that a rare spike is not taken for burn-in. A cut counts only if the
    mean before it, or of the first quarter or sixteenth of that part, is off the mean after it by more than 3 standard
    errors: else what fluctuates would be trimmed, and the rest be biased. From eight chains on the same must hold of
    the chains' own differences, as they scatter. Zeros at the very start are always left out.

    Parameters
    ----------
    by : {"chain", "temperature"}
        One start per chain, or one per temperature.

    Returns
    -------
    xarray.Dataset
        `start` (number of draws to leave out), `start_time` (in units of `time`), `reached` (False where the best cut
        is the last one allowed: the run is too short to tell).

    Raises
    ------
    ShapeError, ConfigError
        If the series or its temperatures make no sense.

    Notes
    -----
    Cost: two passes over the data. A cut is a decision, not an estimate, and has no standard error. A stationary run is
    cut in at most 2 % of cases with eight chains or more, whatever their length; of fewer chains in 4 % at 30
    relaxation times each, and of single ones in 5 % at 100 and 9 % at 11.

    References
    ----------
    K. P. White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69 (1997).

    Examples
    --------
    >>> import numpy as np
    >>> relaxing = 100.0 * np.exp(-np.arange(400) / 10.0) + np.sin(np.arange(400.0))
    >>> 40 < int(equilibration(relaxing).start[0]) < 80
    True
    """
    series = as_series(x, temperature)
    groups = grouping(series, by)
    start = np.zeros(groups.count, dtype=np.intp)
    reached = np.zeros(groups.count, dtype=bool)
    for bundle in bundles(series, groups):
        start[bundle.groups], reached[bundle.groups] = starts(bundle, "auto")
        reached[bundle.groups] &= bundle.members() > 0
    variables = {"start": start, "start_time": start * groups.spacing, "reached": reached}
    return describe(
        variables,
        groups,
        series,
        title="Equilibration",
        conventions="marginal standard error rule, at most half of the draws; start counts draws from 0",
        cost="two passes over the series; no gradients",
    )
