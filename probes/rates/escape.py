"""The rate of escape between two states, from dwell times and from the slowest decay of correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import ConfigError
from landscape.observers import CoreSets
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.needed import Length, every_needed, in_units
from landscape.probes.rates.counts import core_sets
from landscape.probes.rates.followed import Row, by_temperature, recorded, stacked
from landscape.probes.registry import probe
from landscape.statistics import pseudo_values, standard_error, widen

__all__ = ["escape_rate"]

HIGH, MIDDLE, LOW = 0.8, 0.55, 0.38  # correlations between which the decay is read; 1/e is a factor 2 below the first
BLOCKS = 16
LAGS = 48
LEAST = 10  # transitions, for an error from correlations
AGREE = 3.0  # standard errors

FloatArray = NDArray[np.float64]


@probe("rates.escape_rate")
def escape_rate(run: Any, cores: Mapping[str, Any], *, of: Any = None) -> xr.Dataset:
    r"""Rates of two states in two ways that agree where there are rates.

    **survival**: events over time, k_A = N_AB / t_A, as `core_sets` has it; the survival of a state is to be
    exponential. **autocovariance**: with u = 1 while the chain belongs to B (it was there last), the correlation

    .. math:: \rho(t) = P(B, t | B, 0) - P(B, t | A, 0) \to a e^{-\lambda t}, \qquad \lambda = k_{AB} + k_{BA},

    lambda the slowest rate of the dynamics, read between rho = 0.8 and 0.38, and k_AB = lambda p_B, k_BA = lambda p_A
    with the fractions of time p. It forgets fast returns, such as those of a chain that crosses at low friction and
    comes back at once, which survival counts.

    Parameters
    ----------
    run : xarray.Dataset
        With recorded positions (or what the cores are about), at least some ten draws in 1/lambda.

    Returns
    -------
    xarray.Dataset
        ``rate (temperature, estimator, core)`` of leaving each, ``relaxation_rate (temperature, estimator)`` = lambda,
        with errors; ``agree (temperature)``: the two lambda differ by less than 3 errors; ``exponential (temperature,
        estimator)``: of survival as `core_sets` has it, of the correlation that both halves of its decay give one
        lambda; ``correlation (temperature, lag)`` at ``lag_time``, and its error; ``resolved (temperature,
        estimator)``: of survival as `core_sets` has it, of the autocovariance whether it has an error, with
        ``steps_needed`` where ten transitions were not seen; ``fine (temperature, estimator)``, False where samples,
        or draws of the correlation, are too far apart, with ``every_needed``.

    Raises
    ------
    ConfigError, FormulaError

    Notes
    -----
    Where the run followed cores of the same names (`landscape.CoreSets`), survival is taken from there. `agree` and
    `exponential` are False, too, where too little was seen to say so. The errors of the autocovariance come from
    leaving out chains one by one, or sixteenths of the run where there are fewer than eight chains, with Student's
    factor; they are NaN with fewer than 10 transitions, or draws too far apart. No gradients.

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.DoubleWell()
    >>> run = ls.simulate(well, ls.EulerMaruyama(dt=0.01), temperature=0.5, chains=32, steps=20_000,
    ...                   record=ls.Record(10, ["position"]))
    >>> found = escape_rate(run, {"A": "x < -0.7", "B": "x > 0.7"}).isel(temperature=0)
    >>> bool(found.agree)
    True
    """
    observer = CoreSets(cores) if of is None else CoreSets(cores, of=of)
    if len(observer.cores) != 2:
        raise ConfigError(f"escape_rate takes two cores, got {list(observer.cores)}: core_sets takes more")
    try:
        counts = core_sets(run)
        counts = counts if list(counts.core.to_numpy()) == list(observer.cores) else core_sets(run, cores, of=of)
    except ConfigError:
        counts = core_sets(run, cores, of=of)
    samples, spacing = recorded(run, observer)
    state = _last_core(observer.labels(samples))
    columns = {str(name): counts[name].to_numpy() for name in counts.data_vars}
    rows: list[tuple[float, Row]] = []
    length = Length.of(run)
    for number, (heat, own) in enumerate(by_temperature(run, len(state))):
        if np.ptp(spacing[own] if len(spacing) > 1 else spacing) > 1e-9 * spacing.max():
            raise ConfigError(
                f"chains at temperature {heat:g} have different times between draws: give one kind at once"
            )
        step = float(spacing[own[0]] if len(spacing) > 1 else spacing[0])
        rows.append((heat, _both({name: values[number] for name, values in columns.items()}, state[own], step, length)))
    coords = {"estimator": ["survival", "autocovariance"], "core": counts.core.to_numpy(), "lag": _lags(state.shape[1])}
    dataset = stacked(rows, coords).set_coords("lag_time")
    dataset.attrs = {
        "title": "Escape rates",
        "conventions": "rho(t) = P(B, t | B, 0) - P(B, t | A, 0), a chain belonging to the core that it was in last",
        "cost": "no gradients",
    }
    return in_units(annotate(dataset, time_units="time", names=GLOSSARY["core_sets"] | GLOSSARY["escape_rate"]), length)


def _last_core(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The core that each chain was in last, -1 before the first and from the first missing sample on."""
    draws = np.arange(labels.shape[1])
    last = np.maximum.accumulate(np.where(labels >= 0, draws, -1), axis=1)
    state = np.where(last >= 0, np.take_along_axis(labels, np.maximum(last, 0), axis=1), -1)
    return np.where(np.cumsum(labels < -1, axis=1) > 0, -1, state)


def _both(counts: Mapping[str, NDArray[Any]], state: NDArray[np.int64], step: float, length: Length) -> Row:
    """Both methods for the chains of one temperature."""
    lags = _lags(state.shape[1])
    blocks = _blocks(state, lags)
    rho, error = _jackknife(_slope, blocks)
    exits, errors = counts["exit_rate"], counts["exit_rate_stderr"]
    rate, stderr = np.full((2, 2), np.nan), np.full((2, 2), np.nan)
    slow, slow_error = np.full(2, np.nan), np.full(2, np.nan)
    single = False
    rate[0], stderr[0] = exits, errors
    slow[0], slow_error[0] = exits.sum(), np.hypot(*errors)
    chosen, enough = _window(rho), int(counts["transitions"].sum()) >= LEAST
    error = np.where(enough, error, np.nan)
    if chosen is not None and enough:
        part = blocks[:, chosen]
        times = lags[chosen] * step
        found, scatter = _jackknife(lambda sums: _decay(sums, times), part)
        scatter = widen(np.abs(found), scatter)
        rate[1], stderr[1] = found[:2], scatter[:2]
        slow[1], slow_error[1] = found[2], scatter[2]
        single = bool(abs(found[3]) <= AGREE * scatter[3] + 0.05 * abs(found[2]))
    seen = int(counts["transitions"].sum())
    # Three lags of a decay that falls to 0.38: the first is one draw, at which no more than to 0.8 is to be lost.
    coarse = chosen is None and bool(np.isfinite(rho[0])) and rho[0] <= HIGH and seen >= LEAST
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(HIGH) / np.log(max(float(rho[0]), 1e-3)) if coarse else np.nan
    longer = length.count * LEAST / seen if seen else np.inf
    close = abs(slow[1] - slow[0]) <= AGREE * float(np.hypot(*slow_error))
    return {
        "rate": (("estimator", "core"), rate),
        "rate_stderr": (("estimator", "core"), stderr),
        "relaxation_rate": (("estimator",), slow),
        "relaxation_rate_stderr": (("estimator",), slow_error),
        "agree": ((), bool(close)),
        "exponential": (("estimator",), [bool(counts["exponential"].all()), single]),
        "resolved": (("estimator",), [bool(counts["resolved"]), bool(np.isfinite(stderr[1]).all())]),
        "steps_needed": (("estimator",), [float(counts["steps_needed"]), longer if seen < LEAST else np.nan]),
        "fine": (("estimator",), [bool(counts["fine"]), not coarse]),
        "every_needed": (
            ("estimator",),
            [float(counts["every_needed"]), float(every_needed(not coarse, ratio, length))],
        ),
        "correlation": (("lag",), rho),
        "correlation_stderr": (("lag",), error),
        "lag_time": (("lag",), lags * step),
    }


def _lags(draws: int) -> NDArray[np.int64]:
    """Lags in draws, evenly spread in their logarithm."""
    return np.unique(np.geomspace(1, max(draws // 2, 1), LAGS).round().astype(np.int64))


def _blocks(state: NDArray[np.int64], lags: NDArray[Any]) -> FloatArray:
    """Pairs, their first in B, their second in B, and both, ``(block, lag, 4)``: of each chain, or of parts of few."""
    chains, draws = state.shape
    parts = 1 if chains >= 8 else min(-(-BLOCKS // chains), draws)
    owner = np.minimum(np.arange(draws) * parts // draws, parts - 1)
    inside, valid = (state == 1).astype(float), (state >= 0).astype(float)
    sums = np.zeros((chains, parts, len(lags), 4))
    starts = np.searchsorted(owner, np.arange(parts))
    for number, lag in enumerate(lags):
        first, second = slice(0, draws - lag), slice(lag, draws)
        pair = valid[:, first] * valid[:, second]
        columns = (pair, pair * inside[:, first], pair * inside[:, second], inside[:, first] * inside[:, second] * pair)
        for column, values in enumerate(columns):
            if parts == 1:
                sums[:, 0, number, column] = values.sum(axis=1)
                continue
            whole = np.zeros((chains, draws))
            whole[:, first] = values
            sums[:, :, number, column] = np.add.reduceat(whole, starts, axis=1)
    return sums.reshape(chains * parts, len(lags), 4)


def _slope(sums: FloatArray) -> FloatArray:
    """P(B, t | B, 0) - P(B, t | A, 0) from sums ``(..., lag, 4)``."""
    pairs, first, second, both = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(both / first - (second - both) / (pairs - first))


def _window(rho: FloatArray) -> NDArray[np.intp] | None:
    """Lags near the three correlations, or None where the decay was not seen."""
    if not np.isfinite(rho[0]) or rho[0] <= MIDDLE or not (rho < LOW).any():
        return None
    end = int(np.argmax(rho < LOW))
    found = [
        int(np.argmax(rho[: end + 1] < level)) if (rho[: end + 1] < level).any() else 0 for level in (HIGH, MIDDLE)
    ]
    return np.array([*found, end]) if found[0] < found[1] < end else None


def _decay(sums: FloatArray, times: NDArray[Any]) -> FloatArray:
    """Rates of leaving A and B, lambda, and the difference between the halves of the decay; ``(..., 4)``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = -np.log(_slope(sums))
        slow = (fall[..., 2] - fall[..., 0]) / (times[2] - times[0])
        halves = np.diff(fall, axis=-1) / np.diff(times)
        inside = sums[..., 0, 1] / sums[..., 0, 0]
    return np.stack([slow * inside, slow * (1.0 - inside), slow, halves[..., 1] - halves[..., 0]], axis=-1)


def _jackknife(function: Any, blocks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Value of all blocks, and its standard error from leaving out one at a time."""
    total, count = blocks.sum(axis=0), len(blocks)
    value = function(total)
    if count < 4:
        return value, np.full_like(value, np.nan)
    return value, standard_error(pseudo_values(value, function(total - blocks)))
