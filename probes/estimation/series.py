"""Reading an observable series: chains, spacing in time, groups of equal temperature, blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.pairs import refuse_pairs

__all__ = [
    "BoolArray",
    "Bundle",
    "FloatArray",
    "Groups",
    "IntArray",
    "Series",
    "as_series",
    "bundles",
    "check_own",
    "finite_chains",
    "first_kept",
    "grouping",
]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]
BoolArray: TypeAlias = NDArray[np.bool_]

# Elements per working array: 8 MiB in float64, small enough to stay in cache from one step to the next.
_BLOCK = 2**20
_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Series:
    """A checked series: values with dims ``(chain, draw)`` and what is known of its axes."""

    values: xr.DataArray
    spacing: FloatArray
    time_units: str
    temperature: FloatArray | None

    @property
    def chains(self) -> int:
        """Number of chains."""
        return int(self.values.sizes["chain"])

    @property
    def draws(self) -> int:
        """Number of draws of each chain."""
        return int(self.values.sizes["draw"])

    @property
    def units(self) -> str:
        """Units of the values."""
        return str(self.values.attrs.get("units", "1"))

    def read(self, chains: IntArray) -> FloatArray:
        """The chosen chains as a fresh float64 array; only these are loaded from a file."""
        if chains.size and (np.diff(chains) == 1).all():
            block = self.values.isel(chain=slice(int(chains[0]), int(chains[-1]) + 1))
        else:
            block = self.values.isel(chain=chains)
        return np.array(block.to_numpy(), dtype=np.float64, order="C")


@dataclass(frozen=True, slots=True)
class Groups:
    """Which chains are summarised together: ``members[g]`` are the chains of group g."""

    dim: str
    members: list[IntArray]
    coords: dict[str, Any]
    temperature: FloatArray | None
    spacing: FloatArray

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.members)


def as_series(
    x: Any, temperature: ArrayLike | None = None, *, variable: str = "energy", shortest: int = _SHORTEST
) -> Series:
    """Check a series and find its axes.

    Parameters
    ----------
    x : xarray.DataArray, xarray.Dataset or array
        Dims ``(chain, draw)`` or ``(draw,)``; of a Dataset its `variable` is taken.
    temperature : float or array, shape ``(chain,)``, optional
        Overrides the coordinate `temperature`.
    variable : str
        Name looked up in a Dataset.
    shortest : int
        Draws needed at least.

    Raises
    ------
    ShapeError, ConfigError
        If dimensions, dtype, times or temperatures make no sense.
    """
    values = _with_axes(x, variable)
    if values.dtype.kind not in "fiu":
        raise ShapeError(f"a series must hold real numbers, got dtype {values.dtype}")
    if values.sizes["draw"] < shortest or values.sizes["chain"] < 1:
        raise ShapeError(f"a series needs a chain and {shortest} draws at least, got {dict(values.sizes)}")
    spacing, units = _spacing(values)
    return Series(values, spacing, units, _temperatures(values, temperature))


def _with_axes(x: Any, variable: str) -> xr.DataArray:
    if isinstance(x, xr.Dataset):
        if variable not in x:
            raise ConfigError(f"the dataset has no variable {variable!r}; it has {sorted(map(str, x.data_vars))}")
        x = x[variable]
    if not isinstance(x, xr.DataArray):
        array = plain_array(x, "a series")
        if array.ndim not in (1, 2):
            raise ShapeError(f"got an array of shape {array.shape}; expected (chain, draw) or (draw,)")
        x = xr.DataArray(array, dims=("chain", "draw")[-array.ndim :])
    if "chain" not in x.dims and "draw" in x.dims:
        x = x.expand_dims("chain")
    if set(x.dims) != {"chain", "draw"}:
        raise ShapeError(f"got dims {x.dims}; expected ('chain', 'draw') or ('draw',)")
    values: xr.DataArray = x.transpose("chain", "draw")
    return values


def _spacing(values: xr.DataArray) -> tuple[FloatArray, str]:
    """Time between draws of each chain; one draw is the unit where there is no `time`."""
    chains = values.sizes["chain"]
    if "time" not in values.coords:
        return np.ones(chains), "draw"
    coordinate = values.coords["time"]
    if not {"draw"} <= set(coordinate.dims) <= {"chain", "draw"}:
        raise ShapeError(f"`time` has dims {coordinate.dims}; expected ('draw',) or ('chain', 'draw')")
    time = np.asarray(coordinate.transpose(..., "draw").to_numpy(), dtype=np.float64)
    if time.shape[-1] == 1:
        return np.ones(chains), str(coordinate.attrs.get("units", "1"))
    first, last = time[..., 0], time[..., -1]
    step = (last - first) / (time.shape[-1] - 1)
    if not np.all(np.isfinite(step) & (step > 0)):
        raise ConfigError("`time` must be finite and grow along `draw`")
    # Times are sums of many steps, often in float32 or rounded text: a thousandth of a spacing is not a schedule.
    for low in range(0, time.shape[-1] - 1, _BLOCK):
        gaps = np.diff(time[..., low : low + _BLOCK + 1], axis=-1)
        if np.any(np.abs(gaps - step[..., None]) > 1e-3 * step[..., None] + 4e-7 * np.abs(last)[..., None]):
            raise ConfigError("draws are not equally spaced in `time`: select a part of the run with one step size")
    return np.broadcast_to(step, (chains,)).astype(np.float64), str(coordinate.attrs.get("units", "1"))


def _temperatures(values: xr.DataArray, given: ArrayLike | None) -> FloatArray | None:
    if given is None:
        if "temperature" not in values.coords:
            return None
        coordinate = values.coords["temperature"]
        if "draw" in coordinate.dims:
            raise ConfigError("`temperature` changes along `draw`; select a part of the run at constant temperature")
        given = coordinate.to_numpy()
    elif "temperature" in values.coords and "draw" not in values.coords["temperature"].dims:
        check_own(values.coords["temperature"].to_numpy(), given)
    array = plain_array(given, "temperatures").astype(np.float64)
    if array.ndim > 1 or (array.ndim == 1 and array.size not in (1, values.sizes["chain"])):
        raise ShapeError(f"temperature has shape {array.shape}; expected one value or {values.sizes['chain']}")
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        raise ConfigError("temperatures must be finite and not negative")
    return np.broadcast_to(array.ravel() if array.ndim else array, (values.sizes["chain"],)).astype(np.float64)


def check_own(own: ArrayLike, given: ArrayLike) -> None:
    """Refuse a temperature that is not that of the run; one of 0 (noise of minibatches) is no temperature."""
    known, told = np.asarray(own, dtype=np.float64), plain_array(given, "temperatures").astype(np.float64)
    fits = told.ndim <= 1 and told.size in (1, known.size)  # else refused for its shape
    if fits and not np.all((known == 0) | np.isclose(known, told, rtol=1e-6)):
        raise ConfigError(
            f"temperature = {given!r}, but the run is at {np.unique(known).tolist()}: leave it out; another for the "
            'same energies needs energy.drop_vars("temperature")'
        )


def first_kept(discard: Any, draws: int, least: int) -> int:
    """First draw of those that are kept, where so many at least must be.

    Raises
    ------
    ConfigError
        If `discard` is neither a fraction in [0, 1) nor a number of draws, or leaves fewer.
    """
    whole = isinstance(discard, int | np.integer) and not isinstance(discard, bool)
    if not (isinstance(discard, float | np.floating) and 0.0 <= discard < 1.0) and not (whole and discard >= 0):
        raise ConfigError(f"got discard={discard!r}; expected a fraction in [0, 1) or a number of draws")
    start = int(discard) if whole else int(float(discard) * draws)
    if draws - start < least:
        raise ConfigError(f"discard={discard!r} leaves {draws - start} of {draws} draws; keep {least} at least")
    return start


def grouping(series: Series, by: str) -> Groups:
    """Group chains: each alone (``by="chain"``) or those of equal temperature (``by="temperature"``).

    Raises
    ------
    ConfigError
        If temperatures are needed and unknown, or chains to be pooled have different time steps.
    """
    if by == "chain":
        coords = {str(name): c for name, c in series.values.coords.items() if c.dims in (("chain",), ())}
        if series.temperature is not None:
            coords["temperature"] = xr.DataArray(series.temperature, dims="chain")
        members = list(np.arange(series.chains, dtype=np.intp)[:, None])
        return Groups("chain", members, coords, series.temperature, series.spacing)
    if by != "temperature":
        raise ConfigError(f"got by={by!r}; expected 'chain' or 'temperature'")
    refuse_pairs(series.values)
    if series.temperature is None:
        raise ConfigError("by='temperature' needs temperatures: pass `temperature` or give the chains that coordinate")
    unique, index = np.unique(series.temperature, return_inverse=True)
    members = [np.flatnonzero(index == g) for g in range(unique.size)]
    for value, chains in zip(unique, members, strict=True):
        steps = np.unique(series.spacing[chains])
        if np.ptp(steps) > 1e-6 * steps[0]:
            raise ConfigError(
                f"chains at temperature {value:g} record every {steps[0]:g} to {steps[-1]:g} in time; "
                "pool chains of one step size at a time, or use by='chain'"
            )
    spacing = np.array([series.spacing[chains[0]] for chains in members])
    return Groups("temperature", members, {"temperature": unique}, unique, spacing)


@dataclass(slots=True)
class Bundle:
    """Some groups that are worked on together, read in blocks of bounded size.

    Attributes
    ----------
    groups : array of int
        Their numbers.
    chains, owner : array of int
        Finite chains in order of group, and the place of each one's group in `groups`.
    dropped : array of int
        Chains of each group left out because a value is not finite.
    """

    series: Series
    groups: IntArray
    chains: IntArray
    owner: IntArray
    dropped: IntArray
    _cache: FloatArray | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Number of groups."""
        return int(self.groups.size)

    def members(self) -> IntArray:
        """Finite chains in each group."""
        return np.bincount(self.owner, minlength=self.size).astype(np.intp)

    def blocks(self) -> Iterator[tuple[slice, FloatArray, IntArray]]:
        """Rows (into `chains`), their values ``(row, draw)`` (not to be written to) and their owners."""
        rows = max(1, _BLOCK // self.series.draws)
        for low in range(0, self.chains.size, rows):
            part = slice(low, min(low + rows, self.chains.size))
            whole = part.stop - part.start == self.chains.size
            values = self._cache if self._cache is not None else self.series.read(self.chains[part])
            if whole:
                self._cache = values
            yield part, values, self.owner[part]

    def sum_by_group(self, owner: IntArray, rows: FloatArray, into: FloatArray) -> None:
        """Add rows to the groups that own them; owners are in ascending order."""
        if owner.size:
            first = np.flatnonzero(np.diff(owner, prepend=-1))
            if first.size == owner.size:
                into[owner] += rows
                return
            into[owner[first]] += np.add.reduceat(rows, first, axis=0)


def bundles(series: Series, groups: Groups) -> Iterator[Bundle]:
    """Split the groups so that a bundle of more than one fits into one block."""
    room = max(1, _BLOCK // series.draws)
    batch: list[int] = []
    held = 0
    for g, members in enumerate(groups.members):
        if batch and held + members.size > room:
            yield _bundle(series, groups, batch)
            batch, held = [], 0
        batch.append(g)
        held += members.size
    yield _bundle(series, groups, batch)


def finite_chains(series: Series, groups: Groups) -> Iterator[tuple[int, IntArray, int]]:
    """Number of each group, those of its chains that are finite, and how many are not."""
    for bundle in bundles(series, groups):
        for place, group in enumerate(bundle.groups):
            yield int(group), bundle.chains[bundle.owner == place], int(bundle.dropped[place])


def _bundle(series: Series, groups: Groups, batch: list[int]) -> Bundle:
    chains = np.concatenate([groups.members[g] for g in batch])
    owner = np.repeat(np.arange(len(batch)), [groups.members[g].size for g in batch])
    bundle = Bundle(series, np.array(batch), chains, owner, np.zeros(len(batch), dtype=np.intp))
    finite = np.ones(chains.size, dtype=bool)
    for rows, values, _ in bundle.blocks():
        finite[rows] = np.isfinite(values).all(axis=1)
    if finite.all():
        return bundle
    dropped = np.bincount(owner[~finite], minlength=len(batch)).astype(np.intp)
    return Bundle(series, np.array(batch), chains[finite], owner[finite], dropped)
