"""Results as datasets: names, units and conventions that can be written to netCDF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from landscape.probes._series import Groups, Series

__all__ = ["annotate", "describe", "temporal_units"]

# name: (long name, units), with {x} the units of the series, {t} those of time.
_NAMES: dict[str, tuple[str, str]] = {
    "mean": ("mean", "{x}"),
    "variance": ("variance", "{x2}"),
    "gamma_shape": ("shape alpha of the Gamma law, maximum likelihood", "1"),
    "gamma_rate": ("rate beta of the Gamma law, maximum likelihood", "{x-1}"),
    "gamma_shape_moments": ("shape of the Gamma law from moments, mean^2 / variance", "1"),
    "constrained_directions": ("number of constrained directions, 2 alpha", "1"),
    "heat_capacity": ("heat capacity, variance / temperature^2", "1"),
    "rate_times_temperature": ("rate of the Gamma law times temperature", "1"),
    "autocorrelation_time": ("integrated autocorrelation time", "{t}"),
    "half_time": ("time at which the connected autocorrelation is 1/2", "{t}"),
    "effective_sample_size": ("effective number of independent draws", "1"),
    "drift": ("mean of the second half minus mean of the first", "{x}"),
    "resolved": ("run longer than 50 autocorrelation times", "1"),
    "stationary": ("halves agree within 3 standard errors", "1"),
    "chains_agree": ("scatter between chains explained by correlations within them", "1"),
    "correlation_times": ("length of the run in autocorrelation times", "1"),
    "fine": ("draws closer to each other than the half-life", "1"),
    "steps_needed": ("steps of each chain that would be needed, or more", "1"),
    "every_needed": ("steps between draws that would be close enough", "1"),
    "length": ("total time kept, over chains", "{t}"),
    "discarded": ("draws left out at the start of each chain", "1"),
    "chains_used": ("number of chains used", "1"),
    "chains_dropped": ("number of chains left out because a value is not finite", "1"),
    "mean_variance_correlation": ("correlation of the errors of mean and variance", "1"),
    "start": ("draws to leave out at the start", "1"),
    "start_time": ("time to leave out at the start", "{t}"),
    "reached": ("equilibrium found in the first half of the run", "1"),
    "autocorrelation": ("connected autocorrelation", "1"),
    "participation_ratio": ("participation ratio of the samples' losses", "1"),
    "participating_fraction": ("participation ratio divided by the number of samples", "1"),
    "distance": ("Euclidean distance from the reference", "1"),
    "mean_distance": ("distance from the reference, averaged over chains", "1"),
    "count": ("number of spikes", "1"),
    "fraction": ("fraction of draws inside a spike", "1"),
    "threshold": ("level above which a draw belongs to a spike", "{x}"),
    "largest": ("largest value", "{x}"),
    "temperature": ("temperature", "{x}"),
    "lag_time": ("time between draws", "{t}"),
    "lag": ("number of draws between", "1"),
    "chain": ("chain", "1"),
    "time": ("time", "{t}"),
}


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
    table = {**_NAMES, **(names or {})}
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
