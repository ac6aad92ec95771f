"""What the results of a sweep have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from landscape.errors import ShapeError
from landscape.sweeps.array import open_result

__all__ = ["Kind", "Survey"]


@dataclass(slots=True)
class Kind:
    """A variable as the results have it.

    Attributes
    ----------
    dims, shape, dtype, attrs
        Those of the variable.
    is_coordinate : bool
        In every result that has it.
    common : xarray.Variable or None
        Of a coordinate that is the same in all results that have it.
    repeats : bool
        Whether it is a coordinate that holds the swept value of its name, and nothing else.
    count : int
        Results that have it.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: dict[str, Any]
    is_coordinate: bool
    common: xr.Variable | None
    repeats: bool
    count: int = 0


@dataclass(slots=True)
class Survey:
    """Names and shapes of all that the results hold, and coordinates that agree.

    Attributes
    ----------
    kinds : dict
        The variables.
    sizes : dict
        Length of each dimension, and the swept values of the first result that has it.
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
                if known != size:
                    raise ShapeError(
                        f"the results do not agree in shape: {str(dim)!r} has length {known} at {there}, and {size} at "
                        f"{where}; open the files one by one, with landscape.open"
                    )
            for name, variable in dataset.variables.items():
                kind = self._kind(str(name), variable, name in dataset.coords)
                if kind.dims != variable.dims:
                    raise ShapeError(f"{name!r} has the dims {kind.dims}, and {variable.dims} at {where}")
                kind.count += 1
                kind.dtype = np.result_type(kind.dtype, variable.dtype)
                if kind.common is not None and not kind.common.equals(variable):  # type: ignore[no-untyped-call]
                    kind.common = None
                kind.repeats = kind.repeats and name in values and _holds(variable, values[str(name)])
        self.visited += 1

    def _kind(self, name: str, variable: xr.Variable, is_coordinate: bool) -> Kind:
        if name not in self.kinds:
            self.kinds[name] = Kind(
                dims=tuple(map(str, variable.dims)), shape=variable.shape, dtype=variable.dtype,
                attrs=dict(variable.attrs), is_coordinate=is_coordinate,
                common=variable.load() if is_coordinate else None, repeats=is_coordinate,
            )  # fmt: skip
        return self.kinds[name]


def _holds(variable: xr.Variable, value: Any) -> bool:
    return np.isscalar(value) and bool((variable.values == value).all())
