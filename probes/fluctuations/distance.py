"""How far positions are from a reference point."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from landscape.common.positions import alike, labelled, plain_array, stored
from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.describe import annotate
from landscape.probes.registry import probe
from landscape.statistics import error_of_mean

__all__ = ["distance", "unwrapped_points"]

_BLOCK = 2**22


@probe("fluctuations.distance")
def distance(position: Any, reference: Any) -> xr.Dataset:
    r"""Euclidean distance |x - x_0| from a reference point.

    For free diffusion from x_0 the mean square is 2 T n t in n dimensions.

    Parameters
    ----------
    position : DataArray, Dataset or array, shape ``(..., coordinate)``
        Positions; of a Dataset its `unwrapped`, else its `position`, else its `snapshot`.
    reference : DataArray, Dataset or array, shape ``(coordinate,)`` or broadcasting against `position`
        The point x_0, for example a minimum.

    Returns
    -------
    xarray.Dataset
        `distance` with the dims of `position` without `coordinate`: a value of each position, without error. With a
        dim `chain`, also `mean_distance` over chains and `mean_distance_stderr` from the scatter between them,
        lengthened where they are few or skewed (NaN for one chain), for each temperature on `scan_temperature` where
        chains have temperatures. The distance of a position that is not finite (a chain that was dropped) is NaN:
        means are over the others, and the attribute `dropped_chains` counts the chains that have such positions.

    Raises
    ------
    ShapeError
        If the numbers of coordinates differ or positions are not real numbers.
    ConfigError
        If positions are those of a run with a periodic coordinate: where they are after some periods is not known. The
        observable ``"unwrapped"`` tells (`landscape.Periodic`).

    Notes
    -----
    The error of the mean supposes that chains are independent. Cost: one pass; no gradients.

    Examples
    --------
    >>> import numpy as np
    >>> distance(np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros(2)).distance.values
    array([5., 0.])
    """
    points = unwrapped_points(position)
    if wrapped := points.attrs.get("wrapped"):
        raise ConfigError(
            f"the position is wrapped along {wrapped!r}, so that distances over more than half a period are not known: "
            'record "unwrapped", Record(every, ["unwrapped"]), and give that'
        )
    origin = _points(reference, ("position", "last_position"))
    if points.sizes["coordinate"] != origin.sizes["coordinate"]:
        raise ShapeError(
            f"positions have {points.sizes['coordinate']} coordinates, the reference {origin.sizes['coordinate']}"
        )
    origin = alike(origin, points)
    if not set(origin.dims) <= set(points.dims):
        raise ShapeError(f"the reference has dims {origin.dims}, which are not all among {points.dims}")
    other = [str(dim) for dim in origin.dims if origin.sizes[dim] != points.sizes[dim]]
    if other:
        raise ShapeError(f"positions have sizes {dict(points.sizes)}, the reference {dict(origin.sizes)}")
    origin = origin.drop_vars(list(origin.coords))
    values = _norm(points, origin)
    dataset = xr.Dataset({"distance": values})
    if "chain" in values.dims:
        dataset = dataset.merge(_mean_over_chains(values), compat="no_conflicts")
    if "chain" in values.dims:
        bad = values.isnull().any([name for name in values.dims if name != "chain"])
        dataset.attrs["dropped_chains"] = int(bad.sum())
    dataset.attrs.update(
        title="Distance from a reference",
        conventions="Euclidean norm; errors of means from the scatter between chains",
        cost="one pass over the positions; no gradients",
    )
    units = str(points.attrs.get("units", "1"))
    names = {
        "distance": ("Euclidean distance from the reference", units),
        "mean_distance": ("distance from the reference, averaged over chains", units),
    }
    time = values.coords["time"].attrs.get("units", "1") if "time" in values.coords else "1"
    return annotate(dataset, "1", str(time), names)


def unwrapped_points(given: Any) -> xr.DataArray:
    """Positions ``(..., coordinate)``: of a run its `unwrapped`, else `position`, else `snapshot`.

    Raises
    ------
    ShapeError
    """
    return _points(given, ("unwrapped", "position", "snapshot"))


def _points(given: Any, names: tuple[str, ...]) -> xr.DataArray:
    given = stored(given, names) if isinstance(given, xr.Dataset) else given
    points = labelled(given)
    if points is None:
        array = plain_array(given)
        leading = {1: (), 2: ("chain",), 3: ("chain", "draw")}
        if array.ndim not in leading:
            raise ShapeError(f"got positions of shape {array.shape}; expected ([chain,] [draw,] coordinate)")
        points = xr.DataArray(array, dims=(*leading[array.ndim], "coordinate"))
    if points.dtype.kind not in "fiu":
        raise ShapeError(f"positions must be real numbers, got dtype {points.dtype}")
    return points


def _norm(points: xr.DataArray, origin: xr.DataArray) -> xr.DataArray:
    """Norms, computed along the first dim in blocks so that no second copy of the positions is held."""
    coords = {name: c for name, c in points.coords.items() if "coordinate" not in c.dims}
    if points.ndim == 1:
        return xr.DataArray(
            float(np.linalg.norm(points.to_numpy().astype(np.float64) - origin.to_numpy())), coords=coords
        )
    first = points.dims[0]
    rows = max(1, _BLOCK // max(1, points.size // points.shape[0]))
    parts = []
    for low in range(0, points.shape[0], rows):
        part = points.isel({first: slice(low, low + rows)})
        start = origin.isel({first: slice(low, low + rows)}) if first in origin.dims else origin
        difference = part.astype(np.float64).variable - start.astype(np.float64).variable
        parts.append(np.sqrt((difference**2).sum("coordinate", skipna=False).transpose(*points.dims[:-1]).to_numpy()))
    return xr.DataArray(np.concatenate(parts), dims=points.dims[:-1], coords=coords)


def _mean_over_chains(values: xr.DataArray) -> xr.Dataset:
    """Averages over the chains of each temperature, or over all where temperatures are unknown."""
    temperature = values.coords.get("temperature")
    if temperature is None or temperature.dims != ("chain",):
        return _mean(values)
    per_chain = temperature.to_numpy()
    unique = np.unique(per_chain)
    parts = [_mean(values.drop_vars("temperature").isel(chain=np.flatnonzero(per_chain == t))) for t in unique]
    # On an axis of its own: `distance` keeps `temperature` as a coordinate of its chains.
    joined = xr.concat(parts, "scan_temperature")
    return joined.assign_coords(scan_temperature=unique)


def _mean(values: xr.DataArray) -> xr.Dataset:
    array = values.transpose("chain", ...).to_numpy()
    array = np.where(np.isfinite(array), array, np.nan)
    finite = np.isfinite(array)
    count = finite.sum(axis=0)
    mean = np.where(count > 0, np.nansum(array, axis=0) / np.maximum(count, 1), np.nan)
    flat, kept = array.reshape(len(array), -1).T, finite.reshape(len(array), -1).T
    errors = np.full(len(flat), np.nan)
    for which in np.unique(kept, axis=0):  # the same chains at a time
        rows = (kept == which).all(axis=1)
        errors[rows] = error_of_mean(flat[rows][:, which], positive=True, least=2)
    error = errors.reshape(mean.shape)
    dims = tuple(d for d in values.dims if d != "chain")
    coords = {name: c for name, c in values.coords.items() if "chain" not in c.dims}
    counts = {"chains_used": (dims, count), "chains_dropped": (dims, len(array) - count)}
    return xr.Dataset({"mean_distance": (dims, mean), "mean_distance_stderr": (dims, error)} | counts, coords=coords)
