"""Variables whose values are read when they are looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from landscape.errors import StorageError

__all__ = ["FileArray", "LazyArray"]


class LazyArray(BackendArray):  # type: ignore[misc]
    """An array of which subclasses read what is asked for.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self.read)

    @abstractmethod
    def read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """The values at an index of whole numbers and slices."""

    def variable(self, dims: tuple[Hashable, ...], attrs: Mapping[Any, Any], *, kept: bool = False) -> xr.Variable:
        """As a variable, which keeps in memory what it has read if it is `kept`."""
        data: Any = indexing.LazilyIndexedArray(self)
        if kept:
            data = indexing.MemoryCachedArray(indexing.CopyOnWriteArray(data))  # type: ignore[no-untyped-call]
        return xr.Variable(dims, data, dict(attrs))


class FileArray(LazyArray):
    """A variable of an open file, of which the library checks each chunk against its checksum."""

    def __init__(self, file: str, name: Hashable, stored: xr.Variable) -> None:
        super().__init__(stored.shape, stored.dtype)
        self.file, self.name, self.stored = file, name, stored

    def read(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """The values there.

        Raises
        ------
        StorageError
            If what is in the file is not what was written.
        """
        try:
            return np.asarray(self.stored[key].values)
        except (RuntimeError, OSError) as error:
            raise StorageError(
                f"{self.file!r} is damaged: {str(self.name)!r} cannot be read ({error}). Run the simulation again or "
                "restore the file"
            ) from error
