"""How much a quantity rises between two ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.describe import annotate
from landscape.probes.registry import probe, result_of

__all__ = ["instability"]


@probe("confinement.instability", result_of("confinement.along_path", "energy"))
def instability(values: Any, dim: str = "pivot", *, stderr: Any = None) -> xr.Dataset:
    r"""Instability of a quantity along a path or a straight line, as a difference and as a ratio.

    difference = max_i q_i - (q_first + q_last)/2,   ratio = max_i q_i / min_i q_i.

    Parameters
    ----------
    values : DataArray or array
        q, with the dim; of an array the last dim is meant.
    dim : str
    stderr : DataArray or array, optional
        Standard errors of the values, taken as independent.

    Returns
    -------
    xarray.Dataset
        `difference`, `ratio` and `mean` along the dim, on the other dims, each with its `_stderr` where errors were
        given, with what noise is likely to have lifted the maximum by; `highest`, the coordinate at the maximum.

    Notes
    -----
    The ratio, which is what Di Carlo et al. use, grows without bound as q goes to 0: of a loss that interpolates it
    compares noise. It is NaN where q changes sign. The maximum of noisy values is biased upwards,
    by about what its error adds for it.

    References
    ----------
    Frankle, Dziugaite, Roy, Carbin (2020), Linear mode connectivity and the lottery ticket hypothesis (difference).
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks
    (ratio).

    Examples
    --------
    >>> found = instability([1.0, 4.0, 2.0])
    >>> float(found.difference), float(found.ratio), int(found.highest)
    (2.5, 4.0, 1)
    """
    if isinstance(values, xr.Dataset):
        raise ShapeError("instability takes one quantity, such as profile.energy, not a whole Dataset")
    q = _labelled(values, dim)
    error = None if stderr is None else _labelled(stderr, dim)
    if error is not None and dict(error.sizes) != dict(q.sizes):
        raise ShapeError(f"the errors have sizes {dict(error.sizes)}, the values {dict(q.sizes)}")
    if q.sizes[dim] < 2:
        raise ShapeError(f"{dim!r} has {q.sizes[dim]} entries: a line has 2 at least")
    top, low = q.argmax(dim), q.argmin(dim)
    ends = q.isel({dim: [0, -1]}, drop=True)
    one_sign = (q > 0).all(dim) | (q < 0).all(dim)
    highest, lowest = q.isel({dim: top}, drop=True), q.isel({dim: low}, drop=True)
    place = q[dim] if dim in q.coords else xr.DataArray(np.arange(q.sizes[dim]), dims=dim)
    found = {
        "difference": highest - ends.mean(dim),
        "ratio": (highest / lowest).where(one_sign),
        "mean": q.mean(dim),
        "highest": place.isel({dim: top}, drop=True).drop_vars(dim, errors="ignore"),
    }
    if error is not None:
        weight = (xr.DataArray(np.arange(q.sizes[dim]), dims=dim) == top) * 1.0
        weight[{dim: 0}] -= 0.5
        weight[{dim: -1}] -= 0.5
        lifted, lowered = _chosen(q, error, top, dim), _chosen(q, error, low, dim)
        found["difference_stderr"] = (((weight * error) ** 2).sum(dim) + lifted**2) ** 0.5
        above, below = (error.isel({dim: at}, drop=True) for at in (top, low))
        squares = (above**2 + lifted**2) / highest**2 + (below**2 + lowered**2) / lowest**2
        found["ratio_stderr"] = abs(found["ratio"]) * squares**0.5
        found["mean_stderr"] = (error**2).sum(dim) ** 0.5 / q.sizes[dim]
    units = str(q.attrs.get("units", "1"))
    names = {
        "difference": ("maximum minus mean of the ends", units),
        "ratio": ("maximum divided by minimum", "1"),
        "mean": ("mean along the line", units),
        "highest": (f"{dim} of the maximum", "1"),
    }
    about = {"title": "Instability", "quantity": str(q.attrs.get("long_name", q.name or "values"))}
    dataset = xr.Dataset(found).assign_attrs(**about, conventions="difference: max - mean of ends; ratio: max/min")
    for variable in dataset.data_vars.values():
        variable.attrs.clear()
    return annotate(dataset, names=names)


def _chosen(q: xr.DataArray, error: xr.DataArray, at: xr.DataArray, dim: str) -> xr.DataArray:
    """How far noise has carried a value that was chosen for being extreme: by what others are likely to be beyond it.

    The sum of the mean excess of each over it, s phi(g/s) - g Phi(-g/s) of a gap g with the error s.
    """
    extreme, own = (one.isel({dim: at}, drop=True) for one in (q, error))
    gap, scatter = abs(extreme - q), (error**2 + own**2) ** 0.5
    others = (xr.DataArray(np.arange(q.sizes[dim]), dims=dim) != at) & (scatter > 0)
    far = gap / scatter.where(others, 1.0)
    excess = scatter * np.exp(-0.5 * far**2) / (2.0 * np.pi) ** 0.5 - gap * ndtr(-far)
    carried: xr.DataArray = excess.where(others, 0.0).sum(dim)
    return carried


def _labelled(values: Any, dim: str) -> xr.DataArray:
    if not isinstance(values, xr.DataArray):
        array = plain_array(values, "values")
        if array.ndim == 0 or array.dtype.kind not in "fiu":
            raise ShapeError(f"expected real numbers along a line, got shape {array.shape} of {array.dtype}")
        values = xr.DataArray(array, dims=(*(f"axis_{i}" for i in range(array.ndim - 1)), dim))
    if dim not in values.dims:
        raise ConfigError(f"the values have dims {values.dims}, without {dim!r}: name the one along the line")
    found: xr.DataArray = values.astype(float)
    return found.assign_attrs(values.attrs)
