"""What runs say of core sets: followed while they went on, or read from what they recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import ConfigError
from landscape.observers import CoreSets
from landscape.probes.estimation.pairs import refuse_pairs
from landscape.probes.estimation.series import as_series

__all__ = ["Row", "by_temperature", "followed", "recorded", "stacked"]

Row: TypeAlias = dict[str, tuple[tuple[str, ...], Any]]

_MARK = "_coarse_transitions"  # what every result of CoreSets has, and nothing else


def followed(run: Any, cores: Any, of: Any = None) -> xr.Dataset:
    """The variables of `CoreSets`, under the name ``cores``, with dims ``(chain, core, next_core)``.

    Raises
    ------
    ConfigError
    """
    refuse_pairs(run)
    if isinstance(cores, Mapping):
        observer = CoreSets(cores) if of is None else CoreSets(cores, of=of)
        samples, spacing = recorded(run, observer)
        found, name = observer.apply(samples, spacing=spacing), observer.label
    else:
        if not isinstance(run, xr.Dataset):
            raise ConfigError(f"expected a run with core sets, or one and `cores`, got {type(run).__name__}")
        names = [str(one).removesuffix(_MARK) for one in run.data_vars if str(one).endswith(_MARK)]
        if cores is None and len(names) == 1:
            cores = names[0]
        if cores not in names:
            has = (
                f"has {names}: name one of them" if names else 'has none: give cores={"A": "x < -0.8", "B": "x > 0.8"}'
            )
            what = "no core sets" if cores is None else f"no core sets {cores!r}"
            raise ConfigError(f"{what} were followed in this run, it {has}, or record ls.CoreSets")
        name = str(cores)
        found = run[[one for one in run.data_vars if str(one).startswith(f"{name}_")]].load()
    labels = {f"{name}_{dim}": dim for dim in ("core", "next_core", "octave")}
    found = found.rename({old: new for old, new in labels.items() if old in found.dims})
    found = found.rename({one: str(one).replace(f"{name}_", "cores_", 1) for one in found.data_vars})
    return found.assign_coords(next_core=found.core.to_numpy())


def recorded(run: Any, observer: CoreSets) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Samples ``(chain, draw, column)`` that cores are about, and the time between them ``(chain,)``.

    Raises
    ------
    ConfigError
    """
    if callable(observer.of):
        raise ConfigError("cores of a callable have to be followed during the run: record ls.CoreSets")
    columns, spacing = [], np.ones(1)
    for name in observer.columns_read:
        series = as_series(_column(run, name), shortest=1)
        columns.append(series.read(np.arange(series.chains)))
        spacing = series.spacing
    return np.stack(columns, axis=-1), spacing


def _column(run: Any, name: str) -> xr.DataArray:
    if isinstance(run, xr.DataArray):
        if run.ndim > 2:
            raise ConfigError(f"expected a series (chain, draw), got {run.dims}: give the run")
        return run
    if isinstance(run, xr.Dataset):
        if name in run.data_vars:
            return run[name]
        if "position" in run and "coordinate" in run.coords and name in run.coordinate:
            column: xr.DataArray = run.position.sel(coordinate=name)
            return column
        raise ConfigError(f"the run has not recorded {name!r}: it has {sorted(map(str, run.data_vars))}")
    raise ConfigError(f"expected a run, or a series (chain, draw) of it, got {type(run).__name__}")


def by_temperature(found: Any, chains: int) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Temperatures, and the chains at each; NaN without any."""
    has = "temperature" in found.coords and found.temperature.dims == ("chain",)
    heat = np.asarray(found.temperature, dtype=float) if has else np.full(chains, np.nan)
    for value in np.unique(heat):
        yield float(value), np.flatnonzero((heat == value) | np.isnan(value))


def stacked(rows: list[tuple[float, Row]], coords: Mapping[str, Any]) -> xr.Dataset:
    """One dataset on `temperature` from variables ``name: (dims, values)`` at each."""
    first = rows[0][1]
    data = {
        name: (("temperature", *dims), np.stack([row[name][1] for _, row in rows])) for name, (dims, _) in first.items()
    }
    return xr.Dataset(data, {"temperature": [heat for heat, _ in rows], **coords})
