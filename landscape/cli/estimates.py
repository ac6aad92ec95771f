"""Any result as a table: values with their errors, one row per entry of its dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table
from rich.text import Text

from landscape.cli.console import measured
from landscape.common.flags import flags, remarks

__all__ = ["MOST_ROWS", "estimate_tables", "pivot_table", "summary_table"]

MOST_ROWS = 40
_SUMMARY = {
    # heading: (variable, power of the temperature it is divided by)
    "mean/T": ("mean", 1),
    "variance/T^2": ("variance", 2),
    "alpha": ("gamma_shape", 0),
    "beta T": ("rate_times_temperature", 0),
    "half time": ("half_time", 0),
    "N_eff": ("effective_sample_size", 0),
}


def estimate_tables(dataset: xr.Dataset, of: Iterable[str] | None = None) -> list[Table]:
    """Tables of all variables that have a standard error; of a result without any, of all its numbers.

    Variables of the same dimensions share a table, beside the coordinates of those dimensions; numbers without a
    dimension stand below each other. Where a flag is false, a last column says so, and where an interval is known its
    ends stand behind the value. Of more than 40 rows of one dimension 40 are shown; of several dimensions the smallest,
    the median and the largest for each entry of the first.

    Parameters
    ----------
    dataset : xarray.Dataset
    of : iterable of str, optional
        Variables to show instead.

    Examples
    --------
    >>> found = xr.Dataset({"mean": ("chain", [1.0, 2.0]), "mean_stderr": ("chain", [0.1, 0.2])})
    >>> [str(column.header) for column in estimate_tables(found)[0].columns]
    ['chain', 'mean']
    """
    told = flags(dataset)
    numbers = [
        str(name)
        for name, one in dataset.variables.items()
        if one.dtype.kind in "fiub" and one.size and (name in dataset.data_vars or f"{name}_stderr" in dataset)
    ]
    names = [name for name in numbers if f"{name}_stderr" in dataset] if of is None else list(of)
    names = names or [name for name in numbers if not name.endswith("_stderr") and name not in told] or list(told)
    names.sort(key=lambda name: (len(dataset[name].dims), [str(dim) for dim in dataset[name].dims]))
    return [
        _table(dataset, dims, list(same)) if dims else _list(dataset, list(same))
        for dims, same in groupby(names, key=lambda name: tuple(str(dim) for dim in dataset[name].dims))
    ]


def _list(dataset: xr.Dataset, names: list[str]) -> Table:
    against = [", ".join(remarks(dataset, of=[name])) for name in names]
    table = Table("quantity", "value", *([""] if any(against) else []), box=None, header_style="bold", pad_edge=False)
    for name, text in zip(names, against, strict=True):
        cell = _cell(dataset, name)
        remark = [text if cell != "-" else ""] if any(against) else []
        table.add_row(Text(str(dataset[name].attrs.get("long_name", name))), cell, *remark)
    return table


def _table(dataset: xr.Dataset, dims: tuple[str, ...], names: list[str]) -> Table:
    count = int(np.prod([dataset.sizes[dim] for dim in dims]))
    along = dims if count <= MOST_ROWS or len(dims) == 1 else dims[:1]
    shape = tuple(dataset.sizes[dim] for dim in along)
    rows = int(np.prod(shape))
    beside = [str(name) for name, one in dataset.coords.items() if len(one.dims) == 1 and one.dims[0] in along]
    beside = [name for name in beside if name not in dims]
    table = Table(box=None, header_style="bold", pad_edge=False)
    several = [f"{end} {name}" for name in names for end in ("smallest", "median", "largest")]
    for heading in (*along, *beside, *(names if along == dims else several)):
        table.add_column(Text(heading.replace("_", " ")), no_wrap=True)
    flagged = bool(remarks(dataset, of=names))
    if flagged:
        table.add_column("", no_wrap=True)
    for flat in np.unique(np.linspace(0, rows - 1, min(rows, MOST_ROWS)).round().astype(int)):
        at = dict(zip(along, (int(i) for i in np.unravel_index(flat, shape)), strict=True))
        one = dataset.isel(at)
        labels = {dim: dataset.coords[dim] for dim in along if dim in dataset.coords and dataset[dim].dims == (dim,)}
        places = [_label(labels[dim].values[at[dim]]) if dim in labels else str(at[dim]) for dim in along]
        places += [_label(one.coords[name].values) for name in beside]
        cells = (
            [_cell(one, name) for name in names] if along == dims else [c for name in names for c in _ends(one, name)]
        )
        against = ", ".join(remarks(dataset, at, of=names)) if flagged and set(cells) != {"-"} else ""
        table.add_row(*map(Text, places), *cells, *([against] if flagged else []))
    if rows > MOST_ROWS:
        table.add_row(f"and {rows - MOST_ROWS} more rows")
    return table


def _ends(one: xr.Dataset, name: str) -> list[str]:
    """Smallest, median and largest of the finite values."""
    values = one[name].to_numpy().astype(float)
    values = values[np.isfinite(values)]
    return [f"{value:.4g}" for value in (values.min(), np.median(values), values.max())] if values.size else ["-"] * 3


def _cell(one: xr.Dataset, name: str) -> str:
    value = one[name].values
    if value.dtype.kind == "b":
        return "yes" if value else "no"
    error = float(one[f"{name}_stderr"].values) if f"{name}_stderr" in one else np.nan
    beside = [one.get(f"{name}_{end}") for end in ("low", "high")]
    ends = [float(end) for end in beside if end is not None and not end.ndim]
    return measured(float(value), error) + (f" [{ends[0]:.3g}, {ends[1]:.3g}]" if len(ends) == 2 else "")


def _label(value: Any) -> str:
    return f"{value:.4g}" if value.dtype.kind == "f" else str(value)


def pivot_table(dataset: xr.Dataset) -> Table:
    """What is known at each point of a path: energies too, which have no errors."""
    names = [str(name) for name, values in dataset.data_vars.items() if values.dims == ("pivot",)]
    left_out = ("_stderr", "_residual", "_converged")
    return _table(dataset, ("pivot",), [name for name in names if name != "is_pivot" and not name.endswith(left_out)])


def summary_table(summary: xr.Dataset) -> Table:
    """One row per chain or temperature; energies in units of the temperature where there is one."""
    (row,) = summary["mean"].dims
    thermal = row == "temperature"
    headings = [name if thermal else name.partition("/")[0] for name in _SUMMARY]
    table = Table(str(row), box=None, header_style="bold", pad_edge=False)
    for heading in [*headings, ""]:
        table.add_column(heading, no_wrap=True)
    for i in range(summary.sizes[row]):
        one = summary.isel({row: i})
        cells = []
        for name, power in _SUMMARY.values():
            unit = float(one[row]) ** power if thermal else 1.0
            cells.append(measured(float(one[name]) / unit, float(one[f"{name}_stderr"]) / unit))
        table.add_row(f"{float(one[row]):.3g}", *cells, ", ".join(remarks(one)))
    return table
