"""The door through which positions and other arrays come in: masks are obeyed, labels are aligned, rows are equal.

Whatever has labels is read by its labels: an array with a dimension ``coordinate`` may have its dimensions and its
coordinates in any order, and one whose labels are others than the landscape's is refused. What has none is read as it
lies. A masked entry is a number that is not known: NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.common.names import spelled
from landscape.errors import ConfigError, ShapeError

__all__ = [
    "aligned",
    "alike",
    "array_dims",
    "check_dense",
    "labelled",
    "one_position",
    "ordered",
    "plain_array",
    "stored",
    "unmasked",
]


Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)


def check_dense(tensor: Any, what: str = "positions") -> None:
    """Refuse a tensor that does not hold all its numbers in rows, or holds none.

    Raises
    ------
    ShapeError
    """
    if tensor.is_meta:
        raise ShapeError(f"{what} must be numbers, got a tensor on the device meta, which holds none")
    if "sparse" in str(tensor.layout):
        raise ShapeError(f"{what} must be a dense tensor, got the layout {tensor.layout}: give tensor.to_dense()")


def plain_array(values: Any, what: str = "positions") -> NDArray[Any]:
    """Real numbers as a NumPy array, with NaN for what is masked.

    Parameters
    ----------
    values : array, tensor, DataArray, or sequence
    what : str
        Their name in messages.

    Raises
    ------
    ShapeError
        If they are not real numbers in rows of equal length.

    Examples
    --------
    >>> plain_array(np.ma.masked_equal([1, 2, 3], 2))
    array([ 1., nan,  3.])
    >>> plain_array([[1.0, 2.0], [3.0]])
    Traceback (most recent call last):
    ...
    landscape.errors.ShapeError: positions must be real numbers in rows of equal length
    """
    try:
        found = values.detach().cpu().numpy() if hasattr(values, "detach") else unmasked(values)
    except (TypeError, ValueError, NotImplementedError, OverflowError, RuntimeError):  # ragged, sparse, without data
        raise ShapeError(f"{what} must be real numbers in rows of equal length") from None
    if found.dtype.kind not in "fiu":
        raise ShapeError(f"{what} must be real numbers, got dtype {found.dtype}")
    return found if min(found.strides, default=0) >= 0 else found.copy()  # torch takes no negative strides


def unmasked(values: Any, dtype: Any = None) -> NDArray[Any]:
    """Values as a NumPy array, with NaN for what is masked, which settings and data are then refused for.

    Raises
    ------
    ConfigError
        For records: NumPy takes those of one field for numbers in some places and not in others.

    Examples
    --------
    >>> unmasked(np.ma.masked_array([1, 2], mask=[False, True])), unmasked([1, 2])
    (array([ 1., nan]), array([1, 2]))
    """
    fields = getattr(getattr(values, "dtype", None), "names", None)
    if fields:
        raise ConfigError(f"got records with the fields {list(fields)}: give the numbers of one field")
    parts = values if isinstance(values, list | tuple) else [values]
    if not any(np.ma.isMaskedArray(one) for one in parts):
        return np.asarray(values, dtype=dtype)
    masked: Any = np.ma.array(values)
    if not np.ma.is_masked(masked):
        return np.asarray(masked.data, dtype=dtype)
    whole = masked if masked.dtype.kind == "f" else masked.astype(np.float64)
    return np.asarray(whole.filled(np.nan), dtype=dtype)


def array_dims(array: xr.DataArray) -> tuple[str, ...]:
    """Names of dimensions; of one that nobody named, as xarray makes them up, nothing."""
    return tuple("" if str(dim) == f"dim_{i}" else str(dim) for i, dim in enumerate(array.dims))


def labelled(values: Any) -> xr.DataArray | None:
    """What has labels as a DataArray whose last dimension is ``coordinate``; None of what has none.

    A table of pandas with names as columns has its coordinates there, a series in its index.

    Raises
    ------
    ShapeError
        If the dimensions have names and none is ``coordinate``.
    """
    names = getattr(values, "columns", None) if not isinstance(values, xr.DataArray | xr.Dataset) else None
    if names is None and hasattr(values, "index") and hasattr(values, "to_numpy"):
        names = values.index
    if names is not None and not callable(names) and all(isinstance(name, str) for name in names):
        array = np.asarray(values)
        lead = tuple(f"axis_{i}" for i in range(array.ndim - 1))
        return xr.DataArray(array, dims=(*lead, "coordinate"), coords={"coordinate": [str(name) for name in names]})
    if not isinstance(values, xr.DataArray) or not any(array_dims(values)):
        return None
    if "coordinate" not in values.dims:
        raise ShapeError(f"got dims {values.dims}; expected `coordinate` among them")
    return values.transpose(..., "coordinate")


def aligned(array: Labelled, names: Sequence[str] | None, dim: int | None = None) -> Labelled:
    """An array in the order of the coordinates of a landscape.

    Parameters
    ----------
    array : DataArray or Dataset with dimension ``coordinate``
    names : sequence of str, or None
        The coordinates of the landscape; None where they have no names, but numbers.
    dim : int, optional
        Their number.

    Raises
    ------
    ShapeError
        If the labels of the array are others, or some of them twice.

    Examples
    --------
    >>> array = xr.DataArray([2.0, 1.0], dims="coordinate", coords={"coordinate": ["y", "x"]})
    >>> aligned(array, ["x", "y"]).values
    array([1., 2.])
    """
    size = len(names) if dim is None and names is not None else dim
    labels = array.coords.get("coordinate")
    if labels is None or (size is not None and array.sizes["coordinate"] != size):  # a wrong number: for the caller
        return array
    own = labels.to_numpy()
    if own.dtype.kind not in "iu" and names is None:  # names of what has none
        return array
    by_number = own.dtype.kind in "iu" and not all(isinstance(name, int) for name in names or ())
    wanted: list[Any] = list(range(len(own))) if by_number or names is None else list(names)
    known = [one.item() if hasattr(one, "item") else one for one in own]
    known = [spelled(one, map(str, wanted)) or one for one in known]
    if known == wanted:
        return array
    if sorted(map(str, known)) != sorted(map(str, wanted)):
        raise ShapeError(
            f"the coordinates are labelled {known}, those of the landscape are {wanted}: give each of them once, or "
            'take the labels off, array.drop_vars("coordinate"), if the order is the right one'
        )
    return array.isel(coordinate=[known.index(name) for name in wanted])


def alike(array: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """An array in the order of the labels of another; as it lies where one of them has none.

    Raises
    ------
    ShapeError
        If they are labelled differently.

    Examples
    --------
    >>> first = xr.DataArray([1.0, 2.0], dims="coordinate", coords={"coordinate": ["x", "y"]})
    >>> alike(first[::-1], first).values
    array([1., 2.])
    """
    if "coordinate" not in other.coords or "coordinate" not in array.coords:
        return array
    return aligned(array, other.coordinate.to_numpy().tolist())


def stored(dataset: xr.Dataset, names: Sequence[str]) -> xr.DataArray:
    """The first of some variables that a stored result has.

    Raises
    ------
    ShapeError
        If it has none of them.
    """
    for name in names:
        if name in dataset:
            return dataset[name]
    raise ShapeError(f"the dataset has none of {list(names)}; it has {sorted(map(str, dataset.data_vars))}")


def ordered(values: Any, names: Sequence[str] | None, dim: int | None = None, what: str = "positions") -> NDArray[Any]:
    """Real numbers as an array ``(..., dim)`` in the order of a landscape's coordinates: `labelled`, then `aligned`.

    Raises
    ------
    ShapeError

    Examples
    --------
    >>> columns = xr.DataArray([[1.0, 2.0], [3.0, 4.0]], dims=("coordinate", "chain"))
    >>> ordered(columns, ["x", "y"])
    array([[1., 3.],
           [2., 4.]])
    """
    array = labelled(values)
    return plain_array(values if array is None else aligned(array, names, dim).to_numpy(), what)


def one_position(given: Any, names: Sequence[str] | None, dim: int) -> NDArray[np.float64]:
    """One position ``(dim,)`` in float64: of a minimum its `position`, of a run of one chain where it ended.

    Raises
    ------
    ShapeError
    """
    if isinstance(given, xr.Dataset):
        given = stored(given, ("last_position", "position"))
        given = given.isel(chain=0) if given.sizes.get("chain") == 1 else given
    found = ordered(given, names, dim, "a position").astype(np.float64)
    if found.shape != (dim,):
        raise ShapeError(f"expected one position of shape ({dim},), got {found.shape}")
    return found
