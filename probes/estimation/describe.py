"""Results as datasets: names, units and conventions that can be written to netCDF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.series import Groups, Series

__all__ = ["about", "annotate", "describe", "temporal_units", "with_error"]


def about(name: str, units: str = "1", text: str = "") -> dict[str, str]:
    """Attributes of a variable: what it is, by its name unless told, and its units.

    Examples
    --------
    >>> about("free_energy_stderr", "energy")
    {'long_name': 'standard error of the free energy', 'units': 'energy'}
    """
    base = text or name.removesuffix("_stderr").replace("_", " ")
    return {"long_name": f"standard error of the {base}" if name.endswith("_stderr") else base, "units": units}


def with_error(
    name: str, dims: Any, value: Any, error: Any, units: str = "1", text: str = ""
) -> dict[str, tuple[Any, Any, dict[str, str]]]:
    """A variable and its standard error."""
    pair = {name: value, f"{name}_stderr": error}
    return {key: (dims, values, about(key, units, text)) for key, values in pair.items()}


def temporal_units(series: Series) -> str:
    """Units of time of a series, those of its `time` coordinate or draws."""
    return series.time_units


def _units(pattern: str, energy: str, time: str) -> str:
    if energy == "1":
        special = {"{x}": "1", "{x2}": "1", "{x-1}": "1", "{t}": time}
    else:
        special = {"{x}": energy, "{x2}": f"({energy})^2", "{x-1}": f"({energy})^-1", "{t}": time}
    return special.get(pattern, pattern)


def annotate(
    dataset: xr.Dataset,
    energy_units: str = "1",
    time_units: str = "1",
    names: Mapping[str, tuple[str, str]] | None = None,
) -> xr.Dataset:
    """Give every variable and coordinate of a result its long name and units."""
    table = {**GLOSSARY["all"], **(names or {})}
    for key in dataset.variables:
        name = str(key)
        base, error = (name[: -len("_stderr")], True) if name.endswith("_stderr") else (name, False)
        long_name, units = table.get(base, (base.replace("_", " "), "1"))
        attributes = dataset[key].attrs
        text = f"standard error of {long_name}" if error else long_name
        attributes.setdefault("long_name", text)
        attributes.setdefault("units", _units(units, energy_units, time_units))
    return dataset


def describe(
    variables: Mapping[str, Any],
    groups: Groups,
    series: Series,
    *,
    title: str,
    conventions: str,
    cost: str,
    lag: np.ndarray | None = None,
) -> xr.Dataset:
    """A dataset over the groups; arrays of more than one dimension come as (dims, values)."""
    data = {name: v if isinstance(v, tuple) else ((groups.dim,), np.asarray(v)) for name, v in variables.items()}
    coords = {name: c for name, c in groups.coords.items() if name not in data}
    if lag is not None:
        coords["lag"] = lag
        equal = np.ptp(groups.spacing) <= 1e-9 * groups.spacing[0]
        elapsed = lag * groups.spacing[:, None]
        coords["lag_time"] = ("lag", elapsed[0]) if equal else ((groups.dim, "lag"), elapsed)
    dataset = xr.Dataset(data, coords=coords)
    dataset.attrs.update(title=title, conventions=conventions, cost=cost, observable=str(series.values.name or "x"))
    return annotate(dataset, series.units, series.time_units)
