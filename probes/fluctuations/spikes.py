"""Catapults: rare excursions of the energy far above what equilibrium allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import gammaincinv

from landscape.checks import finite_number
from landscape.probes.estimation.describe import describe
from landscape.probes.estimation.series import FloatArray, IntArray, as_series, bundles, grouping
from landscape.probes.registry import ENERGIES, probe

__all__ = ["spikes"]

_CHANCE = 1e-3  # expected number of draws per chain above the law's own quantile
_SHAPES = np.geomspace(0.02, 1e4, 200)


@probe("fluctuations.spikes", ENERGIES)
def spikes(x: Any, *, factor: float = 2.0) -> xr.Dataset:
    r"""Find spikes: stretches of draws far above what the bulk of the series leads one to expect.

    The bulk is described by a Gamma distribution with the quartiles of the series, which spikes cannot move: its shape
    from q75/q25, its scale from the median. The threshold is `factor` times the level which that law exceeds in one of
    a thousand runs of this length. A series that is not positive has median + `factor` times 10 (q75 - median), that is
    13 standard deviations of a normal distribution with the default. A new spike begins only after the series has been
    below its median.

    Parameters
    ----------
    factor : float
        Threshold in units of the level expected; at least 1.

    Returns
    -------
    xarray.Dataset
        On `chain`: `count` of spikes with its Poisson error, `fraction` of draws above the threshold with its error
        (spikes taken as independent), `threshold`, `largest`. A chain with a value that is not finite has count -1
        and NaN.

    Raises
    ------
    ShapeError, ConfigError
        If the series or `factor` makes no sense.

    Notes
    -----
    Quartiles are those of the whole series: leave burn-in out first. Errors reach to the upper end of the exact
    Poisson interval, so that none found means less than 3.7 spikes; the error of the fraction then takes each as one
    draw. Cost: one pass and one sort of the data.

    Examples
    --------
    >>> import numpy as np
    >>> energy = np.random.default_rng(0).gamma(5.0, 0.1, 1000)
    >>> energy[300:310] = 50.0
    >>> result = spikes(energy)
    >>> int(result["count"][0]), float(result.fraction[0])
    (1, 0.01)
    """
    series = as_series(x)
    finite_number("factor", factor, least=1)
    groups = grouping(series, "chain")
    columns = {name: np.full(series.chains, np.nan) for name in _COLUMNS}
    columns["count"][:] = -1.0
    for bundle in bundles(series, groups):
        for _, values, owner in bundle.blocks():
            chains = bundle.groups[owner]
            for name, column in _find(values, float(factor)).items():
                columns[name][chains] = column
    variables = {**columns, "count": columns["count"].astype(np.int64)}
    return describe(
        variables,
        groups,
        series,
        title="Spikes",
        conventions=f"above {float(factor):g} times the level that a Gamma law with the series' quartiles exceeds in "
        "one of 1000 runs",
        cost="one pass and one sort of the series; no gradients",
    )


_COLUMNS = ("count", "count_stderr", "fraction", "fraction_stderr", "threshold", "largest")


def _find(values: FloatArray, factor: float) -> dict[str, FloatArray]:
    draws = values.shape[1]
    threshold, median = _threshold(values, factor)
    above = values > threshold[:, None]
    # 1 above the threshold, -1 below the median, 0 between; what is between belongs to what came before.
    state = above.astype(np.int8) - (values < median[:, None])
    latest = np.maximum.accumulate(np.where(state != 0, np.arange(draws), 0), axis=1)
    state = np.take_along_axis(state, latest, axis=1)
    begins = state == 1
    begins[:, 1:] &= state[:, :-1] != 1
    count = begins.sum(axis=1)
    inside = above.sum(axis=1)
    number = np.cumsum(begins, axis=1)
    squares = np.array([(np.bincount(n[a]).astype(np.float64) ** 2).sum() for n, a in zip(number, above, strict=True)])
    return {
        "count": count.astype(np.float64),
        "count_stderr": _poisson_error(count),
        "fraction": inside / draws,
        "fraction_stderr": _poisson_error(count) * np.sqrt(np.maximum(squares, 1.0) / np.maximum(count, 1.0)) / draws,
        "threshold": threshold,
        "largest": values.max(axis=1),
    }


def _poisson_error(count: IntArray) -> FloatArray:
    """Distance to the upper end of the exact 95 % interval of a Poisson mean, in units of 1.96."""
    return np.asarray((gammaincinv(count + 1.0, 0.975) - count) / 1.959963984540054)


def _threshold(values: FloatArray, factor: float) -> tuple[FloatArray, FloatArray]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1)
    ratios = gammaincinv(_SHAPES, 0.75) / gammaincinv(_SHAPES, 0.25)
    positive = (values > 0).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(positive, high / low, 2.0)
        # Ratios fall with the shape, and np.interp wants them ascending.
        shape = np.exp(np.interp(-np.log(ratio), -np.log(ratios), np.log(_SHAPES)))
    tail = 1.0 - _CHANCE / values.shape[1]
    level = median * gammaincinv(shape, tail) / gammaincinv(shape, 0.5)
    plain = median + factor * 10.0 * (high - median)
    return np.where(positive, factor * level, plain), median
