"""What a run that resolves nothing would need: so many steps, or draws so close to each other.

Results hold it as `steps_needed` beside `resolved`, and as `every_needed` beside `fine`; `remarks` of
`landscape.common.flags` puts it into words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from landscape.probes.estimation.estimates import longer_needed
from landscape.probes.estimation.series import FloatArray

__all__ = ["Length", "every_needed", "in_units", "steps_needed", "with_steps_needed"]


@dataclass(frozen=True, slots=True)
class Length:
    """Steps of a run, or draws where it does not know its steps; and how many of them are between two draws."""

    count: float
    units: str = "steps"
    between: float = 1.0

    @classmethod
    def of(cls, run: Any) -> Length:
        """Of a run, of a series of it, or of the first of several."""
        if isinstance(run, Mapping) and not isinstance(run, xr.Dataset):
            run = next(iter(run.values()), None)
        while isinstance(run, tuple | list) and len(run):
            run = run[0]
        step = getattr(run, "coords", {}).get("step")
        if step is not None and step.dims == ("draw",) and step.size and step.dtype.kind in "iuf":
            steps = step.to_numpy().astype(float)
            return cls(float(steps[-1]), "steps", float(np.diff(steps).min()) if step.size > 1 else float(steps[-1]))
        sizes = getattr(run, "sizes", {})
        shape = np.shape(run) if not sizes else ()
        return cls(float(sizes.get("draw", shape[-1] if shape else np.nan)), "draws")


def steps_needed(resolved: ArrayLike, times: ArrayLike, length: Length, chains: ArrayLike = 1) -> FloatArray:
    """Steps of each chain after which all together have 50 correlation times, and each has 20.

    NaN where they are resolved, or have as many and lack something else; infinite where the correlation time is not
    known. Runs that are too short underestimate their correlation times: it may take more.

    Examples
    --------
    >>> steps_needed([True, False, False], [80.0, 10.0, 0.0], Length(1000))
    array([  nan, 5000.,   inf])
    """
    longer = longer_needed(np.asarray(times, dtype=float), np.asarray(chains, dtype=float))
    steps = length.count * np.where(np.isnan(longer), np.inf, longer)
    return np.asarray(np.where(np.asarray(resolved, dtype=bool) | (longer == 1.0), np.nan, steps))


def every_needed(fine: ArrayLike, ratio: ArrayLike, length: Length) -> FloatArray:
    """Steps between draws that are close enough, where they are to be `ratio` times as far apart as they are.

    NaN where they are `fine`, or the ratio is not known; 0 where every single step is too coarse.

    Examples
    --------
    >>> every_needed([True, False, False], [2.0, 0.35, 0.01], Length(1000, between=10))
    array([nan,  3.,  0.])
    """
    between = length.between * np.asarray(ratio, dtype=float)
    with np.errstate(invalid="ignore"):
        between = np.where(between < 1.0, 0.0, np.floor(between)) if length.units == "steps" else between
    return np.asarray(np.where(np.asarray(fine, dtype=bool), np.nan, between))


def with_steps_needed(dataset: xr.Dataset, length: Length, chains: ArrayLike | None = None) -> xr.Dataset:
    """A result that has `resolved` and `correlation_times` with its `steps_needed`."""
    flag = dataset["resolved"]
    used = (dataset["chains_used"].to_numpy() if "chains_used" in dataset else 1) if chains is None else chains
    found = steps_needed(flag.to_numpy(), dataset["correlation_times"].to_numpy(), length, used)
    about = {"long_name": "steps of each chain that would be needed, or more", "units": length.units}
    return dataset.assign(steps_needed=(flag.dims, found, about))


def in_units(dataset: xr.Dataset, length: Length) -> xr.Dataset:
    """The same result, which says whether what is needed is steps or draws."""
    for name in ("steps_needed", "every_needed"):
        if name in dataset:
            dataset[name].attrs["units"] = length.units
    return dataset
