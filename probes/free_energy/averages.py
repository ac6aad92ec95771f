"""Averages over chains with errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import xarray as xr

from landscape.checks import finite_number
from landscape.errors import ConfigError, ConvergenceError, ShapeError
from landscape.probes.estimation.correlation import combine, fft_size, long_run, power, products
from landscape.probes.estimation.describe import about
from landscape.probes.estimation.estimates import correlations, moments
from landscape.probes.estimation.influence import Influence
from landscape.probes.estimation.series import BoolArray, FloatArray, Groups, IntArray, as_series, bundles
from landscape.statistics import standard_error, student_factor

__all__ = [
    "Averages",
    "Resolution",
    "averages",
    "by_correlations",
    "chosen_values",
    "clusters",
    "curve",
    "forgotten",
    "own_temperature",
    "refuse_still",
    "resolution",
]

FEWEST_CHAINS = 8  # whose scatter is an error
FEWEST_TIMES = 50.0  # correlation times of all chains together, below which no error is given


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whether chains of each group are long against their correlation time, how long all are, and whether they agree.

    Zero times stand for chains of which no correlation time can be told.
    """

    resolved: BoolArray
    times: FloatArray
    agree: BoolArray


@dataclass(frozen=True, slots=True)
class Averages:
    """Means over chains and draws of each window, arrays ``(window,)``."""

    mean: FloatArray
    stderr: FloatArray
    resolved: BoolArray
    correlation_times: FloatArray
    agree: BoolArray

    @property
    def known(self) -> FloatArray:
        """1 where there is an error, else NaN."""
        return np.where(np.isfinite(self.stderr), 1.0, np.nan)


def averages(values: FloatArray, rounding: FloatArray | float = 0.0) -> Averages:
    """Averages of ``(window, chain, draw)`` with errors from the scatter between chains.

    The error is NaN where all chains of a window together are shorter than 50 correlation times; `resolved` is also
    False where each of them is shorter than 20. Values that scatter by no more than rounding are a constant, which
    needs no time to be known, and whose error is their range: by 16 units in the last place of the largest, or by
    `rounding` ``(window,)``, what each value itself may be off by.
    """
    windows, chains, _ = values.shape
    if chains < FEWEST_CHAINS:
        raise ConfigError(f"errors come from the scatter between chains: give at least {FEWEST_CHAINS}, got {chains}")
    of_chain = values.mean(axis=2)
    stderr = standard_error(of_chain, axis=1)
    found = resolution(values.reshape(windows * chains, -1), np.repeat(np.arange(windows), chains))
    flat = values.reshape(windows, -1)
    digits = 16.0 * np.finfo(np.float64).eps * np.abs(flat).max(axis=1)
    span = np.ptp(flat, axis=1)
    exact = span <= np.maximum(digits, rounding)
    stderr = np.where(exact, span, np.where(found.times >= FEWEST_TIMES, stderr, np.nan))
    return Averages(of_chain.mean(axis=1), stderr, found.resolved | exact, found.times, found.agree | exact)


def resolution(values: FloatArray, owner: IntArray) -> Resolution:
    """Length of the chains of each group ``(chain, draw)`` in correlation times of all, and whether they agree.

    Where chains are too short for their correlations, the scatter between eight or more of them tells how many
    independent samples they hold, unless they are still spreading or drifting from a common start. Chains agree where
    the scatter of their means, and of their means of squares, is no larger than correlations allow (F tests, 1 % of all
    groups together).
    """
    count = int(owner.max()) + 1
    series = as_series(values, shortest=1)
    members = [np.flatnonzero(owner == group) for group in range(count)]
    groups = Groups("group", members, {}, None, np.ones(count))
    resolved, agree, times = np.zeros(count, dtype=bool), np.ones(count, dtype=bool), np.zeros(count)
    for bundle in bundles(series, groups):
        start = np.zeros(bundle.size, dtype=np.intp)
        with np.errstate(divide="ignore", invalid="ignore"):
            m = moments(bundle, start)
            found = correlations(bundle, m)
        closed = found.run.closed & np.isfinite(found.correlation_times)
        resolved[bundle.groups] = found.resolved
        times[bundle.groups] = np.where(closed, found.correlation_times, 0.0)
        first, second = Influence(bundle, start), Influence(bundle, start)
        for rows, x, own in bundle.blocks():
            deviation = x - m.mean[own][:, None]
            first.add(rows, deviation, own)
            second.add(rows, deviation**2, own)
        with np.errstate(divide="ignore", invalid="ignore"):
            tests = [one.variance(found.resolved, m, count).agree for one in (first, second)]
        agree[bundle.groups] = tests[0] & tests[1]
    for group in np.flatnonzero(times == 0.0):
        times[group] = _times_by_scatter(values[members[group]])
    return Resolution(resolved, times, agree)


def _times_by_scatter(values: FloatArray) -> float:
    """Length of chains ``(chain, draw)`` together in correlation times, as their means scatter.

    N/(2 tau) samples are independent; one standard error is added to tau. 0 where nothing can be said: of few chains,
    of chains that rest, and of those that spread from a common start (F test at 1 %) or drift (3 standard errors).
    """
    chains, draws = values.shape
    if chains < FEWEST_CHAINS or draws < 2 or (np.ptp(values, axis=1) == 0.0).any():
        return 0.0
    freedom = chains - 1.0
    begin, end = values[:, 0].var(ddof=1), values[:, -1].var(ddof=1)
    if end > begin * scipy.special.fdtri(freedom, freedom, 0.99):
        return 0.0
    change = values[:, draws // 2 :].mean(axis=1) - values[:, : draws // 2].mean(axis=1)
    drift = 3.0 * float(standard_error(change))
    if abs(change.mean()) > drift:
        return 0.0
    between = float(values.mean(axis=1).var(ddof=1))
    whole = float(values.var(axis=1).mean()) + between
    independent = whole / max(between * (1.0 + np.sqrt(2.0 / freedom)), 1e-300)
    return float(2.0 * chains * min(independent, draws))


def forgotten(values: FloatArray) -> int:
    """First draw of chains ``(chain, draw)`` from which nothing is left of a common start, 0 where that is never seen.

    Twice the time that the variance between the chains needs to reach 3/4 of that of their second half, and their mean
    to come within 3 standard errors of its own there: what is left then has fallen by its square. 0 as well for fewer
    than eight chains, and where it is more than a third of the run: while chains spread like free ones, it is all of
    it.
    """
    chains, draws = values.shape
    if chains < FEWEST_CHAINS or draws < 4:
        return 0
    spread, mean = values.var(axis=0, ddof=1), values.mean(axis=0)
    late, goal = spread[draws // 2 :].mean(), mean[draws // 2 :].mean()
    near = np.abs(mean - goal) <= 3.0 * np.sqrt(late / chains) * student_factor(chains - 1.0)
    found = (spread >= 0.75 * late) & near
    start = 2 * int(found.argmax())
    return start if found.any() and start <= draws // 3 else 0


def clusters(influence: FloatArray) -> FloatArray:
    """Standard error of a sum of independent contributions ``(chain, ...)``, widened by Student's factor."""
    chains = influence.shape[0]
    scatter = influence - influence.mean(axis=0)
    variance = (scatter**2).sum(axis=0) * chains / max(chains - 1.0, 1.0)
    return np.asarray(np.sqrt(variance) * student_factor(chains - 1.0))


def by_correlations(values: FloatArray, believed: bool) -> FloatArray:
    """Standard errors of the means of columns ``(chain, stretch, column)`` from correlations along few chains.

    From their scatter alone where correlations are not to be believed: NaN for fewer than four chains.
    """
    chains, count, _ = values.shape
    means = values.mean(axis=1)
    size, lags = fft_size(count, count // 4 + 1), count // 4 + 1
    sums = np.array([products(power(column.T, size).sum(axis=0), size, lags) for column in (values - means[:, None]).T])
    each = np.full(len(sums), count, dtype=np.intp), np.full(len(sums), chains, dtype=np.intp)
    with np.errstate(divide="ignore", invalid="ignore"):
        run = long_run(sums, *each)
        within = np.where(run.closed & believed, run.total * (1.0 + run.tail) / (count * chains), np.nan)
    between = means.var(axis=0, ddof=1) / chains if chains > 1 else np.zeros(len(sums))
    error = combine(within, run.degrees, between, each[1]).stderr
    exact = (np.ptp(values, axis=(0, 1)) == 0.0) & believed  # the zero itself
    return np.asarray(np.where(exact, 0.0, error))


def curve(at: FloatArray, name: str, variables: dict[str, Any], attributes: dict[str, Any]) -> xr.Dataset:
    """Estimates on points, with names and units."""
    dataset = xr.Dataset(coords={name: (name, at, {"long_name": name, "units": "1"})}, attrs=attributes)
    for key, value in variables.items():
        values, units = value if isinstance(value, tuple) else (value, "1")
        dataset[key] = (name if np.ndim(values) else (), values, about(key, units))
    return dataset


def own_temperature(given: Any, *samples: Any) -> float:
    """The one temperature of the runs that samples are of, or the one given for samples that know of none.

    A run at temperature 0 (whose noise is that of minibatches, say) knows of none.

    Raises
    ------
    ConfigError
        If the run has another one than the one given, or its chains have several.
    """
    own: set[float] = set()
    for one in samples:
        known = getattr(one, "coords", {}).get("temperature")
        if known is not None and known.size and known.dtype.kind in "fiu":
            own |= set(np.unique(known.to_numpy().astype(float)).tolist())
    heats = sorted(heat for heat in own if heat != 0.0)
    if not heats:
        return finite_number("temperature", given, above=0)
    if not np.allclose(heats, heats[0], rtol=1e-6, atol=0.0) or 0.0 in own:
        raise ConfigError(
            f"the samples are of several temperatures, {sorted(own)}: take the chains of one, run.sel(temperature=T), "
            "or weigh them together with free_energy.mbar"
        )
    t = finite_number("temperature", heats[0] if given is None else given, above=0)
    if not np.isclose(t, heats[0], rtol=1e-6, atol=0.0):
        raise ConfigError(
            f"temperature = {t:g}, but the samples are of a run at {heats[0]:g}: leave it out, or reweight them to "
            f"another one, free_energy.mbar([run], temperature={t:g}, ...)"
        )
    return t


def chosen_values(name: str, values: Any, *, least: int = 2, falling: bool = False) -> FloatArray:
    """Points in ascending order, or, where allowed, in descending order."""
    try:
        at = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        at = np.empty((0, 0))
    steps = np.diff(at) if at.ndim else at
    ordered = bool((steps > 0).all() or (falling and (steps < 0).all()))
    if at.ndim != 1 or len(at) < least or not np.isfinite(at).all() or not ordered:
        order = "ascending or descending" if falling else "ascending"
        raise ShapeError(f"{name} must be at least {least} finite numbers in {order} order, got {values!r}")
    return at


def refuse_still(values: FloatArray, name: str) -> None:
    """Refuse samples of a coordinate that never moves.

    Raises
    ------
    ConvergenceError
    """
    if (np.ptp(values, axis=-1) == 0).all():
        raise ConvergenceError(f"{name} never moves in any chain: no free energy can be seen in it")
