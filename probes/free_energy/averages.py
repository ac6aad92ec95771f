"""Averages over chains with errors, and integrals of such averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.interpolate import CubicSpline

from landscape.errors import ConfigError, ConvergenceError, ShapeError
from landscape.probes._correlation import student_factor
from landscape.probes._estimation import correlations, moments
from landscape.probes._series import BoolArray, FloatArray, Groups, IntArray, as_series, bundles

__all__ = [
    "Averages",
    "averages",
    "check_temperature",
    "chosen_values",
    "clusters",
    "curve",
    "integrate",
    "refuse_still",
    "resolution",
]

FEWEST_CHAINS = 8  # whose scatter is an error
FEWEST_TIMES = 50.0  # correlation times of all chains together, below which no error is given


@dataclass(frozen=True, slots=True)
class Averages:
    """Means over chains and draws of each window, arrays ``(window,)``."""

    mean: FloatArray
    stderr: FloatArray
    resolved: BoolArray
    correlation_times: FloatArray


def averages(values: FloatArray) -> Averages:
    """Averages of ``(window, chain, draw)`` with errors from the scatter between chains.

    The error is NaN where all chains of a window together are shorter than 50 correlation times; `resolved` is also
    False where each of them is shorter than 20.
    """
    windows, chains, _ = values.shape
    if chains < FEWEST_CHAINS:
        raise ConfigError(f"errors come from the scatter between chains: give at least {FEWEST_CHAINS}, got {chains}")
    of_chain = values.mean(axis=2)
    stderr = of_chain.std(axis=1, ddof=1) / np.sqrt(chains) * student_factor(np.array(chains - 1.0))
    resolved, times = resolution(values.reshape(windows * chains, -1), np.repeat(np.arange(windows), chains))
    exact = values.reshape(windows, -1).std(axis=1) == 0.0  # an integrand that is constant has no error
    stderr = np.where((times >= FEWEST_TIMES) | exact, stderr, np.nan)
    return Averages(of_chain.mean(axis=1), stderr, resolved | exact, times)


def resolution(values: FloatArray, owner: IntArray) -> tuple[BoolArray, FloatArray]:
    """Whether the chains of each group are long against their correlation time, and how long in such times.

    Zero times stand for chains of which no correlation time can be told.
    """
    count = int(owner.max()) + 1
    series = as_series(values, shortest=1)
    members = [np.flatnonzero(owner == group) for group in range(count)]
    groups = Groups("group", members, {}, None, np.ones(count))
    resolved, times = np.zeros(count, dtype=bool), np.zeros(count)
    for bundle in bundles(series, groups):
        start = np.zeros(bundle.size, dtype=np.intp)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = correlations(bundle, moments(bundle, start))
        closed = found.run.closed & np.isfinite(found.correlation_times)
        resolved[bundle.groups] = found.resolved
        times[bundle.groups] = np.where(closed, found.correlation_times, 0.0)
    return resolved, times


def clusters(influence: FloatArray) -> FloatArray:
    """Standard error of a sum of independent contributions ``(chain, ...)``, widened by Student's factor."""
    chains = influence.shape[0]
    scatter = influence - influence.mean(axis=0)
    variance = (scatter**2).sum(axis=0) * chains / max(chains - 1.0, 1.0)
    return np.asarray(np.sqrt(variance) * student_factor(np.array(chains - 1.0)))


def integrate(at: FloatArray, slope: FloatArray, stderr: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Integral from the first point of a slope known at some, its error, and what the spacing may cost.

    The integral is that of the cubic spline through the means, linear in them: F = W f, var F = W^2 var f. The last
    figure is the difference to the spline through every second point (and the last), which exceeds the true one by far.
    """
    weights = _weights(at)
    value, error = weights @ slope, np.sqrt(weights**2 @ stderr**2)
    if len(at) < 7:
        return value, error, np.full(len(at), np.nan)
    coarse = np.unique([*range(0, len(at), 2), len(at) - 1])
    spline = CubicSpline(at[coarse], slope[coarse]).antiderivative()
    return value, error, np.abs(spline(at) - value)


def _weights(at: FloatArray) -> FloatArray:
    """Matrix from values at the points to integrals of the spline from the first point to each."""
    spline = CubicSpline(at, np.eye(len(at))).antiderivative()
    return np.asarray(spline(at))


def curve(at: FloatArray, name: str, variables: dict[str, Any], attributes: dict[str, Any]) -> xr.Dataset:
    """Estimates on points, with names and units."""
    dataset = xr.Dataset(coords={name: (name, at, {"long_name": name, "units": "1"})}, attrs=attributes)
    for key, value in variables.items():
        values, units = value if isinstance(value, tuple) else (value, "1")
        base = key.removesuffix("_stderr").replace("_", " ")
        text = f"standard error of the {base}" if key.endswith("_stderr") else base
        dataset[key] = (name if np.ndim(values) else (), values, {"long_name": text, "units": units})
    return dataset


def check_temperature(temperature: Any) -> float:
    """One positive temperature."""
    try:
        value = float(temperature)
    except (TypeError, ValueError):
        value = float("nan")
    if not (np.isfinite(value) and value > 0):
        raise ConfigError(f"temperature must be one positive number, got {temperature!r}")
    return value


def chosen_values(name: str, values: Any, *, least: int = 2) -> FloatArray:
    """Points in ascending order."""
    at = np.asarray(values, dtype=float)
    if at.ndim != 1 or len(at) < least or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
        raise ShapeError(f"{name} must be at least {least} finite numbers in ascending order, got {values!r}")
    return at


def refuse_still(values: FloatArray, name: str) -> None:
    """Refuse samples of a coordinate that never moves.

    Raises
    ------
    ConvergenceError
    """
    if (np.ptp(values, axis=-1) == 0).all():
        raise ConvergenceError(f"{name} never moves in any chain: no free energy can be seen in it")
