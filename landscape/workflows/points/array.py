"""One variable of all results of a sweep as one array, which reads the files of the points that are indexed."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.storage.files import opened
from landscape.storage.lazy import FileArray, LazyArray

__all__ = ["lazy_array", "open_result"]


def lazy_array(
    files: NDArray[np.object_], name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, gaps: bool
) -> LazyArray:
    """The values of the variable `name` in all files: along the axes of the table, then its own.

    Parameters
    ----------
    files : array of str, shape of the table
        None where a point has no result.
    shape : tuple of int
        Of the variable in one file.
    gaps : bool
        Whether some files lack it or have less of it: then whole numbers and booleans become float64, and NaN says so
        (text: empty).
    """
    if dtype.kind in "iub" and gaps:
        dtype = np.dtype(np.float64)
    return _TableArray(files, name, shape, dtype)


def open_result(file: str) -> xr.Dataset:
    """One file, lazily.

    Raises
    ------
    StorageError
    """
    return opened(file, "Call the sweep again, which replaces damaged results")


class _TableArray(LazyArray):
    def __init__(self, files: NDArray[np.object_], name: str, inner: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__((*files.shape, *inner), dtype)
        self.files, self.name, self.inner = files, name, inner

    def read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """From the files of the points that are indexed."""
        axes = self.files.ndim
        chosen, inside = np.asarray(self.files[key[:axes]], dtype=object), key[axes:]
        result = self._missing((*chosen.shape, *np.broadcast_to(0, self.inner)[inside].shape))
        for place, file in np.ndenumerate(chosen):
            if file is not None:
                with open_result(file) as dataset:
                    if self.name in dataset.variables:
                        result[place] = self._values(file, dataset.variables[self.name], inside)
        return result

    def _values(self, file: str, variable: xr.Variable, inside: tuple[int | slice, ...]) -> NDArray[Any]:
        stored = FileArray(file, self.name, variable)
        if variable.shape == self.inner:
            return stored.read(inside)
        full = self._missing(self.inner)
        full[tuple(map(slice, variable.shape))] = stored.read(())
        return full[inside]

    def _missing(self, shape: tuple[int, ...]) -> NDArray[Any]:
        value = "" if self.dtype.kind in "OSUT" else np.nan if self.dtype.kind in "fc" else 0
        return np.full(shape, value, self.dtype)
