"""Datasets of chains, which their settings choose: ``run.sel(temperature=0.1)``, and a grid that prints as a table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.common.per_chain import numbers
from landscape.errors import ConfigError

__all__ = ["ByChain", "Grid", "by_chain", "grid"]

MOST_ROWS = 20  # of a grid that are printed


class ByChain(xr.Dataset):  # type: ignore[no-untyped-call]
    """A Dataset whose `sel` knows the settings of chains, such as ``temperature``, beside what has an index.

    Many chains have one temperature. Such a coordinate is no index of xarray's, which would align runs by it and
    refuse values that occur twice; it stays an ordinary coordinate, and `sel` looks into it.

    Examples
    --------
    >>> run = ByChain({"energy": ("chain", [1.0, 2.0, 3.0])}, {"temperature": ("chain", [0.1, 0.1, 0.2])})
    >>> run.sel(temperature=0.1).energy.values
    array([1., 2.])
    >>> run.sel(temperature=slice(0.15, None)).energy.values
    array([3.])
    """

    __slots__ = ()

    def sel(
        self, indexers: Mapping[Any, Any] | None = None, method: str | None = None, tolerance: Any = None,
        drop: bool = False, **named: Any,
    ) -> Any:  # fmt: skip
        """As `xarray.Dataset.sel`; of a setting of chains a value, a list of values, or a slice of them, ends included.

        The chains with these values are chosen, and `chain` stays a dimension. Two numbers are equal if they differ by
        rounding.

        Raises
        ------
        ConfigError
            If no chain has such a value, or it changes with time.
        """
        wanted = {**(indexers or {}), **named}
        settings = [name for name in wanted if name in self.variables and name not in self.xindexes]
        settings = [name for name in settings if name not in self.dims and "chain" in self.variables[name].dims]
        chosen: xr.Dataset = self
        for name in settings:
            chosen = chosen.isel(chain=_places(chosen[name], wanted.pop(name)))
        if not wanted:
            return chosen
        return xr.Dataset.sel(chosen, wanted, method, tolerance, drop)  # type: ignore[arg-type]


def _places(setting: xr.DataArray, wanted: Any) -> NDArray[np.intp]:
    if setting.dims != ("chain",):
        raise ConfigError(f"{setting.name!r} changes along {setting.dims}: choose with run.where(...)")
    values = setting.to_numpy()
    if isinstance(wanted, slice):
        low, high = wanted.start, wanted.stop
        found = np.ones(len(values), bool) if low is None else values >= low
        found = found if high is None else found & (values <= high)
    else:
        several = np.atleast_1d(np.asarray(wanted))
        equal = np.isclose if values.dtype.kind in "fiu" and several.dtype.kind in "fiu" else np.equal
        found = np.zeros(len(values), bool)
        for one in several:
            here = equal(values, one)
            if not here.any():
                raise ConfigError(f"no chain has {setting.name} = {one}; there are {np.unique(values).tolist()}")
            found |= here
    if not found.any():
        raise ConfigError(f"no chain has {setting.name} in {wanted}; there are {np.unique(values).tolist()}")
    return np.flatnonzero(found)


class Grid(ByChain):  # type: ignore[no-untyped-call]
    """Settings of each chain, printed as a table; ``**grid`` gives the settings, ``grid["replica"]`` the number."""

    __slots__ = ()

    def __repr__(self) -> str:
        if set(self.dims) != {"chain"} or "replica" not in self.coords:
            return super().__repr__()
        table = self.to_dataframe().reset_index()[["chain", "replica", *self.data_vars]]
        return str(table.to_string(index=False, max_rows=MOST_ROWS))

    def _repr_html_(self) -> str:
        return f"<pre>{self!r}</pre>"


@guarded
def grid(*, replicas: int = 1, **settings: Sequence[float]) -> Grid:
    """Per-chain settings for every combination of values, each `replicas` times.

    Parameters
    ----------
    replicas : int
        Chains per combination.
    **settings : sequences of numbers
        Such as ``temperature=[...]``, ``dt=[...]``; the last varies fastest.

    Returns
    -------
    xarray.Dataset
        Each setting on `chain`, and the coordinate ``replica``. It prints as a table; ``simulate(..., **grid)`` takes
        all settings, ``grid["dt"]`` is one of them, and ``grid.sel(temperature=0.1)`` chooses chains.

    Raises
    ------
    ConfigError
        If `replicas` is not a positive integer, a value is not finite, or there is no setting.
    ShapeError
        If a setting is not a sequence of numbers.

    Examples
    --------
    >>> g = grid(temperature=[0.1, 0.2], replicas=3)
    >>> g["temperature"].values, g["replica"].values
    (array([0.1, 0.1, 0.1, 0.2, 0.2, 0.2]), array([0, 1, 2, 0, 1, 2]))
    >>> grid(temperature=[0.1, 0.2], dt=[0.5])
     chain  replica  temperature  dt
         0        0          0.1 0.5
         1        0          0.2 0.5
    """
    whole_number("replicas", replicas)
    if not settings:
        raise ConfigError("grid needs at least one setting, such as temperature=[0.1, 0.2]")
    if "replica" in settings:
        raise ConfigError("'replica' numbers the chains of a combination: say replicas=n instead")
    values = [np.atleast_1d(numbers(name, value)) for name, value in settings.items()]
    for name, given in zip(settings, values, strict=True):
        if not np.isfinite(given).all():
            raise ConfigError(f"the values of {name} in a grid must be finite, got {given.tolist()}")
    table = np.array(list(itertools.product(*values, range(replicas))))
    columns = {name: ("chain", table[:, i]) for i, name in enumerate(settings)}
    numbering = {"chain": np.arange(len(table)), "replica": ("chain", table[:, -1].astype(int))}
    return Grid(columns, numbering)


def by_chain(dataset: xr.Dataset) -> xr.Dataset:
    """A Dataset of chains as one that `ByChain.sel` works on; anything else as it is."""
    if "chain" not in dataset.dims or isinstance(dataset, ByChain):
        return dataset
    found = ByChain(dataset.data_vars, dataset.coords, dataset.attrs)
    found.encoding = dataset.encoding
    found.set_close(dataset._close)
    return found
