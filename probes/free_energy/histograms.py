"""Free energy along one or two coordinates, from samples or from counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ConvergenceError, ShapeError
from landscape.potentials import Expression
from landscape.probes.estimation.describe import about, with_error
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.pairs import refuse_pairs
from landscape.probes.estimation.series import FloatArray
from landscape.probes.fluctuations.balance import refuse_biased, refuse_driven
from landscape.probes.free_energy.averages import (
    FEWEST_CHAINS,
    FEWEST_TIMES,
    by_correlations,
    forgotten,
    own_temperature,
    refuse_still,
    resolution,
)
from landscape.probes.registry import Reading, probe
from landscape.statistics import standard_error

__all__ = ["bin_edges", "limits_of_run", "places_of", "profile", "turning", "zero_of"]

STRETCHES, ROOM = 4096, 2**24  # of each chain, where correlations tell the errors of few; numbers held of all bins
FEWEST_DRAWS = 20  # of few chains

EACH_TIMES = 20.0  # correlation times of each chain

Limits: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Counts:
    """Fractions of samples of each chain in each bin ``(chain, *bins)``, and what is known of them.

    Of few chains also ``stretches (chain, stretch, *bins)``, the same along each. So many draws were `discarded`.
    """

    fractions: FloatArray
    total: NDArray[np.int64]
    edges: list[FloatArray]
    names: list[str]
    resolved: bool
    times: float
    agree: bool
    stretches: FloatArray | None = None
    discarded: int = 0


@probe("free_energy.profile", Reading("a run", one_temperature=True))
def profile(
    samples: Any,
    temperature: float | None = None,
    *,
    coordinate: Any = None,
    bins: int | Sequence[int] = 60,
    range: Any = None,
    zero: Literal["minimum", "mean"] | float | Sequence[float] = "minimum",
    bounds: Any = None,
    periods: Any = None,
) -> xr.Dataset:
    r"""Free energy along one or two coordinates from a histogram of samples,

    .. math:: F(q) = -T \ln P(q) + \mathrm{const.}

    Parameters
    ----------
    samples : DataArray or array, dims ``(chain, draw)``; a pair of them; counts; or a run
        Values of a coordinate, such as ``run.position.sel(coordinate="y")``; of two coordinates; counts
        ``(chain, bin)`` or ``(chain, bin, bin)`` of a streamed `landscape.Histogram`, such as ``run.y_count``; or a
        whole run, with `coordinate`; of a run without positions the counts of this coordinate are taken.
    temperature : float, optional
        In units of energy, k_B = 1. Needed of samples that know of none; of a run its own, and no other: `mbar`
        reweights to others.
    coordinate : name, formula, callable, or a pair of them, optional
        Of a run: a coordinate's name, a formula of names such as ``"atan2(y, x)"`` (called ``q`` in the result), or any
        function of position, ``(..., dim)`` tensor -> ``(...)``.
    range : (low, high), or one pair for each coordinate, optional
        Edges of the histogram; samples outside count in the normalisation (of counts, which do not hold them, the
        density is that within the range). By default the extremes of the samples, or a whole period.
    zero : "minimum", "mean", float or pair of floats
        Where F = 0: at the lowest bin, at the average of F over bins with samples, or in the bin that holds this
        point. The lowest bin is chosen by its own noise: comparison with theory uses "mean".
    bounds : (low, high), or one pair for each coordinate, optional
        Boundaries: a bin that they cut counts with its width inside. Of a run and the name of a coordinate they are
        known; samples and counts alone do not tell theirs.
    periods : (low, high), or one pair (or None) for each coordinate, optional
        Of periodic coordinates, as for `landscape.Periodic`: samples are wrapped into the range. Known of a run, too.

    Returns
    -------
    xarray.Dataset
        ``free_energy`` (of differences to the zero), ``density`` and ``count`` with standard errors, on bin centres
        named after the coordinates (of bins that are cut: of the part inside); ``resolved`` and ``correlation_times``
        of all chains together, and the ``steps_needed`` where they are too few; ``chains_agree``, whether they scatter
        no more than correlations allow (of counts: each is longer than 20 correlation times as they scatter). Empty
        bins are NaN. Errors are NaN below 50 correlation times.

    Raises
    ------
    ShapeError, ConfigError
        Also if the run has another temperature, or chains of several.
        Also for a run with restraints or hills, whose law is not that of the potential: `mbar` and `metadynamics` take
        them out.
    ConvergenceError
        If a coordinate never moves.

    Notes
    -----
    Errors come from the scatter between chains, taken as independent; with fewer than 8 from the correlations of each
    bin along the chains, and from their scatter where it is larger (4 chains or more) or contradicts them; 2 or 3
    chains that do not agree have none. `resolved` says that each chain is longer than 20 correlation times, all are
    longer than 50, and they agree. Of counts, and of 8 chains or more that are too short to tell, the number of
    correlation times follows from the scatter between chains, which cannot tell chains that stay near a common start:
    of samples it is not believed where chains still spread or drift, and draws before a common start is forgotten are
    left out, in twice the time that spread and mean need to become those of the second half (`discarded` among the
    attributes).
    A bin gives the average of the density over its width w: F is off by about w^2 (F'^2/T - F'')/24. No gradients.

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
    t = own_temperature(temperature, *(samples if isinstance(samples, tuple | list) else [samples]))
    for one in samples if isinstance(samples, tuple | list) else [samples]:
        refuse_pairs(one)
        refuse_driven("profile", one)
        refuse_biased("profile", one)
    values, known_bounds, known_periods = _values(samples, coordinate)
    width = values[0].ndim - 1 if _is_counts(values) else len(values)
    wraps = _pairs("periods", periods, width, known_periods)
    if not all(pair is None or np.isfinite(pair).all() for pair in wraps):
        raise ConfigError(f"periods must be finite, got {periods!r}")
    walls = [wall or period for wall, period in zip(_pairs("bounds", bounds, width, known_bounds), wraps, strict=True)]
    counts = _streamed(values[0]) if _is_counts(values) else _binned(values, bins, range, wraps)
    shape = counts.fractions.shape[1:]
    fraction = counts.fractions.reshape(len(counts.fractions), -1)
    mean = fraction.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        volume, centres = _inside(counts.edges, walls if _is_counts(values) else _walls_only(walls, wraps))
        free_energy = -t * np.log(np.where(mean > 0, mean / (volume / volume.max()), np.nan))
        # dF = -T dP/P to first order, chain by chain, so that the zero's own error is in the difference
        slopes = -t * (fraction - mean) / np.where(mean > 0, mean, np.nan)
    reference, reference_slopes = zero_of(zero, free_energy, slopes, counts.edges)
    known = 1.0 if counts.times >= FEWEST_TIMES else np.nan
    if counts.stretches is None:
        errors = standard_error(slopes - reference_slopes[:, None]), standard_error(fraction)
    else:
        pieces = counts.stretches.reshape(*counts.stretches.shape[:2], -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            along = -t * (pieces - mean) / np.where(mean > 0, mean, np.nan)
        lowest = zero_of(zero, free_energy, along.reshape(-1, along.shape[2]), counts.edges)[1]
        believed = bool(counts.agree and known == 1.0)
        errors = (
            by_correlations(along - lowest.reshape(*along.shape[:2], 1), believed),
            by_correlations(pieces, believed),
        )
    density = np.divide(mean, volume, out=np.full_like(mean, np.nan), where=volume > 0)
    density_error = known * errors[1] / np.where(volume > 0, volume, np.nan)
    columns = with_error("free_energy", counts.names, free_energy - reference, known * errors[0], "energy")
    columns |= with_error("density", counts.names, density, density_error, text="probability density")
    columns["count"] = (counts.names, counts.total, about("count", text="samples in the bin"))
    columns = {key: (dims, values.reshape(shape), told) for key, (dims, values, told) in columns.items()}
    alike = "chains longer than 50 correlation times, and alike"
    columns |= {
        "resolved": ((), counts.resolved & counts.agree, about("", text=alike)),
        "chains_agree": ((), counts.agree, about("chains_agree", text="chains scatter as correlations allow")),
        "correlation_times": ((), counts.times, about("", text="length of all chains in correlation times")),
    }
    attributes = {"temperature": t, "zero": str(zero), "method": "histogram", "groups": len(fraction),
                  "discarded": counts.discarded}  # fmt: skip
    axes = {name: (name, centre, about(name, text=name)) for name, centre in zip(counts.names, centres, strict=True)}
    return with_steps_needed(xr.Dataset(columns, axes, attributes), Length.of(samples), len(fraction))


def _values(
    samples: Any, coordinate: Any
) -> tuple[list[xr.DataArray], list[Limits | None] | None, list[Limits | None] | None]:
    """One array or two, of samples or of counts; boundaries and periods where a run knows them."""
    if isinstance(samples, xr.Dataset):
        if coordinate is None:
            raise ShapeError('profile takes one coordinate, such as coordinate="y", not a whole run')
        chosen = coordinate if isinstance(coordinate, tuple | list) else [coordinate]
        if len(chosen) not in (1, 2):
            raise ConfigError(f"a profile is along one coordinate or two, got {coordinate!r}")
        walls, periods = limits_of_run(samples)
        known = [[of.get(one) if isinstance(one, str) else None for one in chosen] for of in (walls, periods)]
        count = "_".join(map(str, chosen)) + "_count"
        if "position" in samples:
            return [_along(samples.position, one) for one in chosen], known[0], known[1]
        if count not in samples:
            raise ConfigError("the run has no positions: record them, or stream a Histogram of the coordinate")
        return [_labelled(samples[count])], known[0], known[1]
    if coordinate is not None:
        raise ConfigError("coordinate chooses from a run: give the run, or the values of the coordinate alone")
    pair = isinstance(samples, tuple | list) and len(samples) == 2 and getattr(samples[0], "ndim", 0) == 2
    return [_labelled(one) for one in (samples if pair else [samples])], None, None


def limits_of_run(run: xr.Dataset) -> tuple[dict[str, Limits], dict[str, Limits]]:
    """Walls and periods of a run's coordinates, from what it was made of."""
    try:
        spec = json.loads(run.attrs["spec"])
        bounds, given = spec["potential"].get("bounds") or {}, spec.get("constraint") or []
        walls = {name: _open(pair) for name, pair in bounds.items()}
        periods: dict[str, Limits] = {}
        for one in given if isinstance(given, list) else [given]:
            walls_of = one.get("walls")
            for name, pair in walls_of.items() if isinstance(walls_of, dict) else ():  # or a function and its levels
                low, high = _open(pair)
                before = walls.get(name, (-np.inf, np.inf))
                walls[name] = (max(low, before[0]), min(high, before[1]))
            periods |= {name: _open(pair) for name, pair in (one.get("periods") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError):  # runs of other makes know of none
        return {}, {}
    return walls, periods


def _open(pair: Sequence[float | None]) -> Limits:
    low, high = pair
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


def _pairs(name: str, given: Any, width: int, known: list[Limits | None] | None) -> list[Limits | None]:
    """One (low, high) or None for each coordinate.

    Raises
    ------
    ConfigError
    """
    if given is None:
        return known or [None] * width
    try:
        flat = width == 1 and len(given) == 2 and not any(isinstance(part, Sequence | np.ndarray) for part in given)
        each = [None if pair is None else _open(pair) for pair in ([given] if flat else given)]
        if len(each) != width or any(pair is not None and not pair[0] < pair[1] for pair in each):
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name} must be (low, high) with low < high, one pair for each of {width} coordinates, got {given!r}"
        ) from None
    return each


def _walls_only(walls: list[Limits | None], periods: list[Limits | None]) -> list[Limits | None]:
    """Walls without the ends of periods: samples were wrapped into the range."""
    return [None if period is not None else wall for wall, period in zip(walls, periods, strict=True)]


def _inside(edges: list[FloatArray], walls: list[Limits | None]) -> tuple[FloatArray, list[FloatArray]]:
    """Volume of each bin between the boundaries, flat, and the middles of what is inside (of whole bins beyond)."""
    widths, centres = [], []
    for along, pair in zip(edges, walls, strict=True):
        cut = along if pair is None else np.clip(along, *pair)
        width, whole = np.diff(cut), np.diff(along)
        width = np.where(np.abs(width - whole) <= 1e-9 * whole, whole[0], width)
        middle = 0.5 * (cut[1:] + cut[:-1])
        widths.append(width)
        centres.append(np.where((width > 0) & (width != whole[0]), middle, 0.5 * (along[1:] + along[:-1])))
    volume = widths[0] if len(widths) == 1 else np.multiply.outer(*widths)
    return volume.ravel(), centres


def _function_of(coordinate: Any, names: list[Any]) -> Any:
    """A callable as it is, a formula in the names of coordinates as a function of position.

    Raises
    ------
    ConfigError, FormulaError
    """
    if callable(coordinate):
        return coordinate
    if not isinstance(coordinate, str) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"no coordinate {coordinate!r} among {names}; a callable of position may stand for one")
    if coordinate.isidentifier():
        raise ConfigError(f"no coordinate {coordinate!r} among {names}; a formula of these may stand for one")
    return Expression(coordinate, names).energy


def _along(position: xr.DataArray, coordinate: Any) -> xr.DataArray:
    names = position.coordinate.values.tolist()
    if isinstance(coordinate, str) and coordinate in names:
        return _labelled(position.sel(coordinate=coordinate))
    points = torch.as_tensor(position.transpose("chain", "draw", "coordinate").to_numpy())
    values = _function_of(coordinate, names)(points)
    if values.shape != points.shape[:-1]:
        raise ShapeError(f"the function of position gave {tuple(values.shape)}, expected {tuple(points.shape[:-1])}")
    name = "q" if isinstance(coordinate, str) else getattr(coordinate, "__name__", "q")
    return xr.DataArray(values.cpu().numpy(), dims=("chain", "draw"), name=name if name.isidentifier() else "q")


def _labelled(samples: Any) -> xr.DataArray:
    if not isinstance(samples, xr.DataArray):
        array = plain_array(samples, "samples").astype(float)
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
    agree = times >= EACH_TIMES * len(array)
    return _Counts(fractions, array.sum(axis=0), edges, names, times >= FEWEST_TIMES * 2, times, agree)


def _times_from_scatter(fractions: FloatArray, draws: float) -> float:
    """Length of all chains in correlation times: N/(2 tau) of N samples are independent, as chains scatter."""
    mean = fractions.mean(axis=0)
    independent = (mean * (1.0 - mean)).sum() / max(float(fractions.var(axis=0, ddof=1).sum()), 1e-300)
    return float(2.0 * min(float(independent), draws) * len(fractions))


def _binned(values: list[xr.DataArray], bins: Any, limits: Any, periods: list[Limits | None]) -> _Counts:
    """Samples in bins, by chains, and along them where these are few."""
    names = [str(one.name or "x") for one in values]
    columns = [np.asarray(one.to_numpy(), dtype=float) for one in values]
    for column in columns:
        if column.ndim != 2 or column.shape != columns[0].shape or not column.size:
            raise ShapeError(f"samples must be (chain, draw), got shape {column.shape}: choose one coordinate")
    finite = np.all([np.isfinite(column).all(axis=1) for column in columns], axis=0)
    columns = [column[finite] for column in columns]
    if not len(columns[0]):
        raise ShapeError("no chain has finite samples only")
    chains, draws = columns[0].shape
    edges = bin_edges(columns, bins, limits, periods)
    columns = [_wrapped(*each) for each in zip(names, columns, edges, periods, strict=True)]
    for name, column in zip(names, columns, strict=True):
        refuse_still(column, name)
    whole, owner = turning(columns, periods), np.zeros(chains, dtype=np.intp)
    checks = [resolution(column, owner) for column in whole]
    start = max(forgotten(column) for column in whole) if any(float(one.times[0]) == 0.0 for one in checks) else 0
    if start:  # the scatter between chains is an error once their common start is forgotten
        columns, draws = [column[:, start:] for column in columns], draws - start
        checks = [resolution(column[:, start:], owner) for column in whole]
    shape = tuple(len(along) - 1 for along in edges)
    places = places_of(columns, edges)
    counts = np.stack([np.bincount(row[row >= 0], minlength=int(np.prod(shape))) for row in places])
    resolved, times = all(bool(one.resolved[0]) for one in checks), min(float(one.times[0]) for one in checks)
    agree = all(bool(one.agree[0]) for one in checks)
    stretches = None
    if chains < FEWEST_CHAINS:
        if draws < FEWEST_DRAWS:
            raise ShapeError(
                f"{chains} chains of {draws} draws are too few for errors: give 8 chains or {FEWEST_DRAWS} draws"
            )
        stretches = _along_chains(places, int(np.prod(shape)))
    fractions = (counts / draws).reshape(chains, *shape)
    total = counts.sum(axis=0).reshape(shape).astype(np.int64)
    return _Counts(fractions, total, edges, names, resolved, times, agree, stretches, start)


def _wrapped(name: str, column: FloatArray, edges: FloatArray, period: Limits | None) -> FloatArray:
    """Samples of a periodic coordinate, put into the range."""
    if period is None:
        return column
    length, reach = period[1] - period[0], float(edges[-1] - edges[0])
    if not np.isfinite(length) or reach > length * (1.0 + 1e-9):
        raise ConfigError(f"the range of {name} is {reach:g} long, more than its period {length:g}")
    return np.asarray(edges[0] + np.mod(column - edges[0], length))


def turning(columns: list[FloatArray], periods: list[Limits | None]) -> list[FloatArray]:
    """Series whose correlations count: those of sine and cosine where a coordinate is periodic."""
    series = []
    for column, period in zip(columns, periods, strict=True):
        if period is None:
            series.append(column)
        else:
            angle = 2.0 * np.pi / (period[1] - period[0]) * column
            series += [np.cos(angle), np.sin(angle)]
    return series


def places_of(columns: list[FloatArray], edges: list[FloatArray]) -> NDArray[np.intp]:
    """Flat number of the bin of each sample ``(chain, draw)``, -1 outside; the last bin holds its upper edge."""
    flat, outside = np.zeros(columns[0].shape, dtype=np.intp), np.zeros(columns[0].shape, dtype=bool)
    for column, along in zip(columns, edges, strict=True):
        place = np.searchsorted(along, column, side="right") - 1
        place = np.where(column == along[-1], len(along) - 2, place)
        outside |= (place < 0) | (place > len(along) - 2)
        flat = flat * (len(along) - 1) + place
    return np.where(outside, -1, flat)


def _along_chains(places: NDArray[np.intp], bins: int) -> FloatArray:
    """Fractions in each bin of stretches of each chain, ``(chain, stretch, bin)``."""
    chains, draws = places.shape
    count = int(min(draws, STRETCHES, max(ROOM // (chains * bins), 64)))
    length = draws // count
    count = draws // length
    kept = places[:, draws - count * length :]
    owner = np.arange(chains)[:, None] * count + np.arange(count * length) // length
    numbers = (owner * bins + kept)[kept >= 0]
    found = np.bincount(numbers, minlength=chains * count * bins)
    return np.asarray(found.reshape(chains, count, bins) / length)


def bin_edges(columns: list[FloatArray], bins: Any, limits: Any, periods: list[Limits | None]) -> list[FloatArray]:
    """Edges of the bins of each coordinate, by default between the extremes of the samples.

    Raises
    ------
    ConfigError
    """
    counts = list(bins) if np.ndim(bins) else [bins] * len(columns)
    pairs = [period or (column.min(), column.max()) for column, period in zip(columns, periods, strict=True)]
    if limits is not None:
        given = plain_array(limits, "range")
        if given.shape[-1:] != (2,):
            raise ConfigError(f"range must be (low, high), or one such pair for each coordinate, got {limits!r}")
        pairs = [(low, high) for low, high in (given if given.ndim == 2 else [given] * len(columns))]
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


def zero_of(
    zero: Any, free_energy: FloatArray, slopes: FloatArray, edges: list[FloatArray]
) -> tuple[float, FloatArray]:
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
