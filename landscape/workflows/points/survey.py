"""What the results of a sweep have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from landscape.errors import ShapeError
from landscape.workflows.points.array import open_result

__all__ = ["Kind", "Survey"]


@dataclass(slots=True)
class Kind:
    """A variable as the results have it.

    Attributes
    ----------
    dims, attrs
        Those of the variable.
    shape : tuple of int
        The largest; see `Survey`.
    dtype : numpy.dtype
        That holds the values of all.
    is_coordinate : bool
    common : xarray.Variable or None
        Of a coordinate on which all results agree as far as they go: the longest.
    repeats : bool
        Whether it is a coordinate that holds the swept value of its name, and nothing else.
    uneven : bool
        Whether it is shorter in some results.
    count : int
        Results that have it.
    """

    dims: tuple[str, ...]
    attrs: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_coordinate: bool
    common: xr.Variable | None
    repeats: bool
    uneven: bool = False
    count: int = 0


@dataclass(slots=True)
class Survey:
    """Names and shapes of all that the results hold, and coordinates that agree.

    Results may differ in how many draws, iterations or pivots they have, that is along dimensions that are numbered by
    an integer coordinate; they may not differ in shape otherwise.

    Attributes
    ----------
    kinds : dict
        The variables.
    sizes : dict
        Largest length of each dimension, and the swept values of the result that has it.
    visited : int
        Results seen.
    """

    kinds: dict[str, Kind] = field(default_factory=dict)
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    visited: int = 0

    def visit(self, file: str, swept: Mapping[str, Any]) -> None:
        """Take a result into account; `swept` are its values by dotted key.

        Raises
        ------
        ShapeError
            If it does not have the shape of the others.
        StorageError
            If the file is damaged.
        """
        where = ", ".join(f"{key}={value}" for key, value in swept.items())
        values = {key.rpartition(".")[2]: value for key, value in swept.items()}
        with open_result(file) as dataset:
            for dim, size in dataset.sizes.items():
                known, there = self.sizes.setdefault(str(dim), (size, where))
                if known != size and not _numbered(dataset, str(dim)):
                    raise ShapeError(
                        f"the results do not agree in shape: {str(dim)!r} has length {known} at {there}, and {size} at "
                        f"{where}; open the files one by one, with landscape.open"
                    )
                self.sizes[str(dim)] = max((known, there), (size, where))
            for name, variable in dataset.variables.items():
                kind = self._kind(str(name), variable, name in dataset.coords)
                if kind.dims != variable.dims:
                    raise ShapeError(f"{name!r} has the dims {kind.dims}, and {variable.dims} at {where}")
                _merge(kind, variable)
                kind.repeats = kind.repeats and name in values and _holds(variable, values[str(name)])
        self.visited += 1

    def _kind(self, name: str, variable: xr.Variable, is_coordinate: bool) -> Kind:
        if name not in self.kinds:
            self.kinds[name] = Kind(
                dims=tuple(map(str, variable.dims)), attrs=dict(variable.attrs), shape=variable.shape,
                dtype=variable.dtype, is_coordinate=is_coordinate,
                common=variable.load() if is_coordinate else None, repeats=is_coordinate,
            )  # fmt: skip
        return self.kinds[name]


def _merge(kind: Kind, variable: xr.Variable) -> None:
    """Count one more result with this variable."""
    kind.count += 1
    kind.dtype = np.result_type(kind.dtype, variable.dtype)
    kind.uneven = kind.uneven or kind.shape != variable.shape
    if kind.common is not None:
        both = tuple(slice(min(sizes)) for sizes in zip(kind.shape, variable.shape, strict=True))
        agree = kind.common[both].equals(variable[both])  # type: ignore[no-untyped-call]
        longest = max(kind.common, variable, key=lambda one: one.shape)
        kind.common = longest.load() if agree else None
    kind.shape = tuple(map(max, kind.shape, variable.shape))
    if kind.common is not None and kind.common.shape != kind.shape:
        kind.common = None


def _numbered(dataset: xr.Dataset, dim: str) -> bool:
    return dim in dataset.coords and dataset[dim].dtype.kind == "i"


def _holds(variable: xr.Variable, value: Any) -> bool:
    return np.isscalar(value) and bool((variable.values == value).all())
