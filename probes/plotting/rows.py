"""Rows of a result: which of many are drawn, in which colour, under what name, and against what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from landscape.probes.plotting.marks import shades
from landscape.probes.plotting.picture import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FEW",
    "Abscissa",
    "against_rows",
    "by_temperature",
    "chosen",
    "entry",
    "few",
    "first_dim",
    "first_temperature",
    "name_ticks",
    "trust",
    "value_text",
]

FEW: Final = 7  # curves that one picture can hold


def chosen(count: int, most: int = FEW) -> np.ndarray:
    """At most so many indices, evenly spread, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def few(count: int, most: int = FEW) -> Iterator[tuple[int, Any]]:
    """Each chosen index with its colour, dark to light."""
    rows = chosen(count, most)
    yield from zip(map(int, rows), shades(rows.size), strict=True)


def by_temperature(dataset: xr.Dataset) -> Iterator[tuple[xr.Dataset, Any, str]]:
    """A few temperatures of a result: what was found at each, its colour and its name."""
    for row, color in few(dataset.sizes["temperature"]):
        one = dataset.isel(temperature=row)
        yield one, color, value_text("temperature", one.temperature.item())


def first_dim(dataset: xr.Dataset, variable: str) -> str:
    """The dim of the rows of a result."""
    return str(dataset[variable].dims[0])


def first_temperature(dataset: xr.Dataset) -> xr.Dataset:
    """What was found at the first of several temperatures."""
    return dataset.isel(temperature=0) if "temperature" in dataset.dims else dataset


def value_text(dim: str, value: Any) -> str:
    """Name of one entry of a dimension."""
    if dim == "temperature":
        return f"$T$ = {value:.3g}"
    if dim == "coordinate":
        return str(value)
    return f"{dim} {value:.3g}" if isinstance(value, float) else f"{dim} {value}"


def entry(dataset: xr.Dataset, dims: Sequence[str], row: int) -> str | None:
    """Name of one combination of leading dims; None where there are none."""
    if not dims:
        return None
    where = np.unravel_index(row, [dataset.sizes[dim] for dim in dims])
    return ", ".join(
        value_text(dim, dataset.coords[dim].to_numpy()[i] if dim in dataset.coords else i)
        for dim, i in zip(dims, where, strict=True)
    )


def trust(dataset: xr.Dataset, count: int) -> np.ndarray:
    """Rows that are resolved and stationary, as far as the result knows; of a scan those that it used."""
    good = np.ones(count, dtype=bool)
    for flag in ("used",) if "used" in dataset else ("resolved", "stationary"):
        if flag in dataset:
            good &= dataset[flag].to_numpy().astype(bool)
    return good


@dataclass(frozen=True, slots=True)
class Abscissa:
    """What is on the abscissa: values, their label, and names in their place where entries have names alone."""

    values: np.ndarray
    text: str
    logarithmic: bool = False
    names: list[str] | None = None

    @classmethod
    def of_dim(cls, dataset: xr.Dataset, dim: str) -> Abscissa:
        """Rows of a result: their temperature where it varies, else their number."""
        if "temperature" in dataset.coords and dataset.coords["temperature"].dims == (dim,):
            t = dataset.coords["temperature"]
            values = t.to_numpy().astype(float)
            if np.unique(values).size > 1 or dim == "temperature":
                return cls(values, label("temperature $T$", t), bool(np.all(values > 0)))
        return cls(np.arange(dataset.sizes[dim]), dim)

    @classmethod
    def of_path(cls, dataset: xr.Dataset, dims: Sequence[str]) -> Abscissa:
        """The last dim of a result along a path or run: arc length, steps or numbers; one place where there is none."""
        if not dims:
            return cls(np.zeros(1, dtype=int), "")
        dim, names = dims[-1], None
        for key in ("arc_length", "snapshot_step", dim):
            if key not in dataset.coords or dataset.coords[key].dims != (dim,):
                continue
            found = dataset.coords[key]
            if found.dtype.kind in "fi":
                return cls(found.to_numpy(), label(str(found.attrs.get("long_name", key)), found))
            if found.dtype.kind in "OSU":
                names = [str(value) for value in found.to_numpy()]
        return cls(np.arange(dataset.sizes[dim]), dim, names=names)

    def texts(self) -> list[str]:
        """Names of the rows."""
        dim = "temperature" if self.values.dtype.kind == "f" else self.text
        return [value_text(dim, value) for value in self.values]

    def aside(self, number: int, count: int) -> np.ndarray:
        """The values for one of several kinds of points, which would lie upon each other."""
        shift = number - 0.5 * (count - 1)
        if self.names:
            return self.values + 0.6 * shift / count
        if self.logarithmic:
            return np.asarray(self.values * 1.025**shift)
        return self.values + 0.12 * shift if self.values.dtype.kind == "i" else self.values

    def set_up(self, ax: Axes) -> None:
        """Label and scale: logarithmic for temperatures, whole numbers for chains, names for layers."""
        if self.logarithmic:
            ax.set_xscale("log")
        elif self.values.dtype.kind == "i":
            from matplotlib.ticker import MaxNLocator

            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if self.names:
            name_ticks(ax, self.names)
        ax.set_xlabel(self.text)


def name_ticks(ax: Axes, names: Sequence[str]) -> None:
    """Names at 0, 1, 2, ... of the abscissa, slanted where they are many or long."""
    slanted = len(names) > 6 or sum(map(len, names)) > 60
    ax.set_xticks(
        np.arange(len(names)), list(names), rotation=45 if slanted else 0, ha="right" if slanted else "center",
    )  # fmt: skip
    ax.set_xlim(-0.6, len(names) - 0.4)


def against_rows(ax: Axes, dataset: xr.Dataset, values: xr.DataArray, against: str | None, counted: str) -> np.ndarray:
    """Values of a coordinate at each entry of a result, or their numbers, which are called so; sets up the abscissa."""
    if against is None:
        found = Abscissa(np.arange(values.size), counted)
    else:
        found = Abscissa(dataset[against].broadcast_like(values).transpose(*values.dims).to_numpy().ravel(), against)
    found.set_up(ax)
    return found.values
