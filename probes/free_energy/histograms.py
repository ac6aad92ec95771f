"""Free energy along one or two coordinates, from samples or from counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import ConfigError, ConvergenceError, ShapeError
from landscape.probes._correlation import student_factor
from landscape.probes._pairs import refuse_pairs
from landscape.probes._series import FloatArray
from landscape.probes.free_energy.averages import (
    FEWEST_CHAINS,
    FEWEST_TIMES,
    check_temperature,
    refuse_still,
    resolution,
)

__all__ = ["profile"]

BLOCKS = 20  # per chain, where there are too few chains to take errors from


@dataclass(frozen=True, slots=True)
class _Counts:
    """Fractions of samples of each group in each bin ``(group, *bins)``, and what is known of them."""

    fractions: FloatArray
    total: NDArray[np.int64]
    edges: list[FloatArray]
    names: list[str]
    resolved: bool
    times: float


def profile(
    samples: Any,
    temperature: float,
    *,
    coordinate: Any = None,
    bins: int | Sequence[int] = 60,
    range: Any = None,
    zero: Literal["minimum", "mean"] | float | Sequence[float] = "minimum",
) -> xr.Dataset:
    r"""Free energy along one or two coordinates from a histogram of samples,

    .. math:: F(q) = -T \ln P(q) + \mathrm{const.}

    Parameters
    ----------
    samples : DataArray or array, dims ``(chain, draw)``; a pair of them; counts; or a run
        Values of a coordinate, such as ``run.position.sel(coordinate="y")``; of two coordinates; counts
        ``(chain, bin)`` or ``(chain, bin, bin)`` of a streamed `landscape.Histogram`, such as ``run.y_count``; or a
        whole run, with `coordinate`.
    temperature : float
        In units of energy, k_B = 1.
    coordinate : name, callable, or a pair of them, optional
        Of a run: a coordinate's name, or any function of position, ``(..., dim)`` tensor -> ``(...)``.
    bins : int, or one for each coordinate
    range : (low, high), or one pair for each coordinate, optional
        Edges of the histogram; samples outside count in the normalisation (of counts, which do not hold them, the
        density is that within the range). By default the extremes of the samples.
    zero : "minimum", "mean", float or pair of floats
        Where F = 0: at the lowest bin, at the average of F over bins with samples, or in the bin that holds this
        point. The lowest bin is chosen by its own noise: comparison with theory uses "mean".

    Returns
    -------
    xarray.Dataset
        ``free_energy`` (of differences to the zero), ``density`` and ``count`` with standard errors, on bin centres
        named after the coordinates; ``resolved`` and ``correlation_times`` of all chains together. Empty bins are NaN.
        Errors are NaN below 50 correlation times.

    Raises
    ------
    ShapeError, ConfigError
    ConvergenceError
        If a coordinate never moves.

    Notes
    -----
    Errors come from the scatter between chains, taken as independent; with fewer than 8 chains from 20 blocks of each,
    which must then be much longer than the correlation time. `resolved` says that each chain is longer than 20
    correlation times and all are longer than 50; of counts, and of 50 short chains or more, the number of correlation
    times follows from the scatter between chains, which cannot tell chains that stay near a common start. A bin gives
    the average of the density over its width w: F is off by about w^2 (F'^2/T - F'')/24. No gradients.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = xr.DataArray(rng.normal(size=(100, 1000)), dims=("chain", "draw"))
    >>> f = profile(y, 0.1, bins=20, range=(-2, 2), zero="mean")  # F = T y^2/2 + const
    >>> theory = 0.05 * f.x**2
    >>> z = (f.free_energy - (theory - theory.mean())) / f.free_energy_stderr
    >>> bool(abs(z).max() < 4.5)
    True
    """
    t = check_temperature(temperature)
    for one in samples if isinstance(samples, tuple | list) else [samples]:
        refuse_pairs(one)
    values = _values(samples, coordinate)
    counts = _streamed(values[0]) if _is_counts(values) else _binned(values, bins, range)
    shape = counts.fractions.shape[1:]
    fraction = counts.fractions.reshape(len(counts.fractions), -1)
    mean = fraction.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = -t * np.log(np.where(mean > 0, mean, np.nan))
        # dF = -T dP/P to first order, chain by chain, so that the zero's own error is in the difference
        slopes = -t * (fraction - mean) / np.where(mean > 0, mean, np.nan)
    reference, reference_slopes = _zero(zero, free_energy, slopes, counts.edges)
    known = 1.0 if counts.times >= FEWEST_TIMES else np.nan
    volume = np.prod([along[1] - along[0] for along in counts.edges])
    columns = {
        "free_energy": (free_energy - reference, "free energy", "energy"),
        "free_energy_stderr": (known * _stderr(slopes - reference_slopes[:, None]), "free energy", "energy"),
        "density": (mean / volume, "probability density", "1"),
        "density_stderr": (known * _stderr(fraction) / volume, "probability density", "1"),
        "count": (counts.total.ravel(), "samples in the bin", "1"),
    }
    dataset = xr.Dataset(
        {
            key: (
                counts.names,
                array.reshape(shape),
                {"long_name": ("standard error of the " if "stderr" in key else "") + text, "units": units},
            )
            for key, (array, text, units) in columns.items()
        },
        {
            name: (name, 0.5 * (along[1:] + along[:-1]), {"long_name": name, "units": "1"})
            for name, along in zip(counts.names, counts.edges, strict=True)
        },
        {"temperature": t, "zero": str(zero), "method": "histogram", "groups": len(fraction)},
    )
    dataset["resolved"] = ((), counts.resolved, {"long_name": "chains longer than 50 correlation times", "units": "1"})
    about = {"long_name": "length of all chains in correlation times", "units": "1"}
    dataset["correlation_times"] = ((), counts.times, about)
    return dataset


def _values(samples: Any, coordinate: Any) -> list[xr.DataArray]:
    """One array or two, of samples or of counts."""
    if isinstance(samples, xr.Dataset):
        if coordinate is None:
            raise ShapeError('profile takes one coordinate, such as coordinate="y", not a whole run')
        if "position" not in samples:
            raise ConfigError("the run has no positions: record them, or stream a Histogram and give its counts")
        chosen = coordinate if isinstance(coordinate, tuple | list) else [coordinate]
        return [_along(samples.position, one) for one in chosen]
    if coordinate is not None:
        raise ConfigError("coordinate chooses from a run: give the run, or the values of the coordinate alone")
    pair = isinstance(samples, tuple | list) and len(samples) == 2 and np.ndim(samples[0]) == 2
    return [_labelled(one) for one in (samples if pair else [samples])]


def _along(position: xr.DataArray, coordinate: Any) -> xr.DataArray:
    if not callable(coordinate):
        if coordinate not in position.coordinate.values:
            raise ConfigError(f"no coordinate {coordinate!r} among {position.coordinate.values.tolist()}")
        return _labelled(position.sel(coordinate=coordinate))
    points = torch.as_tensor(position.transpose("chain", "draw", "coordinate").to_numpy())
    values = coordinate(points)
    if values.shape != points.shape[:-1]:
        raise ShapeError(f"the function of position gave {tuple(values.shape)}, expected {tuple(points.shape[:-1])}")
    name = getattr(coordinate, "__name__", "q")
    return xr.DataArray(values.numpy(), dims=("chain", "draw"), name=name if name.isidentifier() else "q")


def _labelled(samples: Any) -> xr.DataArray:
    if not isinstance(samples, xr.DataArray):
        array = np.asarray(samples, dtype=float)
        array = array[None] if array.ndim == 1 else array
        if array.ndim != 2 or not array.size:
            raise ShapeError(f"samples must be (chain, draw), got shape {array.shape}: choose one coordinate")
        return xr.DataArray(array, dims=("chain", "draw"), name="x")
    if "chain" not in samples.dims:
        samples = samples.expand_dims("chain")
    label = samples.coords.get("coordinate")
    if label is not None and label.ndim == 0:
        samples = samples.rename(str(label.item()))
    ordered: xr.DataArray = samples.transpose("chain", *(["draw"] if "draw" in samples.dims else []), ...)
    return ordered


def _is_counts(values: list[xr.DataArray]) -> bool:
    return (
        len(values) == 1 and "draw" not in values[0].dims and values[0].ndim in (2, 3) and values[0].dtype.kind == "i"
    )


def _streamed(counts: xr.DataArray) -> _Counts:
    """Counts of a streamed histogram."""
    array, dims = counts.to_numpy(), [str(dim) for dim in counts.dims[1:]]
    if len(array) < FEWEST_CHAINS:
        raise ShapeError(
            f"counts carry errors from {FEWEST_CHAINS} chains on, got {len(array)}: record samples instead"
        )
    flat = array.reshape(len(array), -1)
    if (flat.max(axis=1) == flat.sum(axis=1)).all():
        raise ConvergenceError("every chain stays in one bin: there is no free energy to be seen", estimate=None)
    draws = float(flat.sum(axis=1).mean())  # the same for all, so that chains often beyond the range count less
    edges = []
    for dim in dims:
        centres = counts[dim].to_numpy()
        half = 0.5 * (centres[1] - centres[0])
        edges.append(np.append(centres - half, centres[-1] + half))
    fractions = array / draws
    times = _times_from_scatter(fractions, draws)
    names = [dim.removesuffix("_bin") for dim in dims] if len(dims) == 1 else [dim.split("_")[-1] for dim in dims]
    return _Counts(fractions, array.sum(axis=0), edges, names, times >= FEWEST_TIMES * 2, times)


def _times_from_scatter(fractions: FloatArray, draws: float) -> float:
    """Length of all chains in correlation times: N/(2 tau) of N samples are independent, as chains scatter."""
    mean = fractions.mean(axis=0)
    independent = (mean * (1.0 - mean)).sum() / max(float(fractions.var(axis=0, ddof=1).sum()), 1e-300)
    return float(2.0 * min(float(independent), draws) * len(fractions))


def _binned(values: list[xr.DataArray], bins: Any, limits: Any) -> _Counts:
    """Samples in bins, by chains, or by blocks of them where these are few."""
    names = [str(one.name or "x") for one in values]
    columns = [np.asarray(one.to_numpy(), dtype=float) for one in values]
    for column in columns:
        if column.ndim != 2 or column.shape != columns[0].shape or not column.size:
            raise ShapeError(f"samples must be (chain, draw), got shape {column.shape}: choose one coordinate")
    finite = np.all([np.isfinite(column).all(axis=1) for column in columns], axis=0)
    columns = [column[finite] for column in columns]
    if not len(columns[0]):
        raise ShapeError("no chain has finite samples only")
    edges = _edges(columns, bins, limits)
    for name, column in zip(names, columns, strict=True):
        refuse_still(column, name)
    one_group = np.zeros(len(columns[0]), dtype=np.intp)
    checks = [resolution(column, one_group) for column in columns]
    groups = [_groups(column) for column in columns]
    if len(edges) == 1:
        counts = np.stack([np.histogram(row, edges[0])[0] for row in groups[0]])
    else:
        counts = np.stack([np.histogram2d(x, y, edges)[0] for x, y in zip(*groups, strict=True)])
    resolved, times = all(bool(check[0][0]) for check in checks), min(float(check[1][0]) for check in checks)
    fractions = counts / groups[0].shape[1]
    if times == 0.0 and len(columns[0]) >= FEWEST_TIMES:  # too short to tell chain by chain, but each counts once
        times = _times_from_scatter(fractions, float(groups[0].shape[1]))
    return _Counts(fractions, counts.sum(axis=0).astype(np.int64), edges, names, resolved, times)


def _edges(columns: list[FloatArray], bins: Any, limits: Any) -> list[FloatArray]:
    counts = list(bins) if np.ndim(bins) else [bins] * len(columns)
    pairs = [(column.min(), column.max()) for column in columns]
    if limits is not None:
        pairs = list(limits) if np.ndim(limits) == 2 else [limits] * len(columns)
    if len(counts) != len(columns) or len(pairs) != len(columns):
        raise ConfigError(f"give bins and range once, or once for each of {len(columns)} coordinates")
    edges = []
    for count, (low, high) in zip(counts, pairs, strict=True):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 2:
            raise ConfigError(f"bins must be an integer of at least 2, got {count!r}")
        if not float(low) < float(high):
            raise ConfigError(f"range must be (low, high) with low < high, got ({low}, {high})")
        edges.append(np.linspace(float(low), float(high), int(count) + 1))
    return edges


def _groups(values: FloatArray) -> FloatArray:
    chains, draws = values.shape
    if chains >= FEWEST_CHAINS:
        return values
    length = draws // BLOCKS
    if not length:
        raise ShapeError(f"{chains} chains of {draws} draws are too few for errors: give 8 chains or {BLOCKS} draws")
    return values[:, : length * BLOCKS].reshape(chains * BLOCKS, length)


def _stderr(deviations: FloatArray) -> FloatArray:
    groups = len(deviations)
    return np.asarray(deviations.std(axis=0, ddof=1) / np.sqrt(groups) * student_factor(np.array(groups - 1.0)))


def _zero(zero: Any, free_energy: FloatArray, slopes: FloatArray, edges: list[FloatArray]) -> tuple[float, FloatArray]:
    """F at the zero, and its deviations by group."""
    seen = np.isfinite(free_energy)
    if isinstance(zero, str) and zero == "mean":
        return float(free_energy[seen].mean()), slopes[:, seen].mean(axis=1)
    if isinstance(zero, str):
        if zero != "minimum":
            raise ConfigError(f'zero must be "minimum", "mean" or a point, got {zero!r}')
        at = int(np.nanargmin(free_energy))
    else:
        point = np.atleast_1d(np.asarray(zero, dtype=float))
        if point.shape != (len(edges),) or any(not e[0] <= p <= e[-1] for e, p in zip(edges, point, strict=True)):
            raise ConfigError(f"zero = {zero!r} is outside the range")
        places = [min(int(np.searchsorted(e, p, "right")) - 1, len(e) - 2) for e, p in zip(edges, point, strict=True)]
        at = int(np.ravel_multi_index(places, [len(e) - 1 for e in edges]))
        if not seen[at]:
            raise ConfigError(f"the bin of zero = {zero!r} has no samples")
    return float(free_energy[at]), slopes[:, at]
