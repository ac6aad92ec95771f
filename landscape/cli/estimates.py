"""Any result as a table: values with their errors, one row per entry of its dimensions."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import xarray as xr
from rich.table import Table
from rich.text import Text

from landscape.cli.console import measured
from landscape.flags import flags, remarks

__all__ = ["estimate_tables"]

MOST_ROWS = 40


def estimate_tables(dataset: xr.Dataset) -> list[Table]:
    """Tables of all variables that have a standard error; of a result without any, of all its numbers.

    Variables of the same dimensions share a table, beside the coordinates of those dimensions; numbers without a
    dimension stand below each other. Where a flag is false, a last column says so. What is longer than 40 rows is cut,
    and says so.

    Examples
    --------
    >>> found = xr.Dataset({"mean": ("chain", [1.0, 2.0]), "mean_stderr": ("chain", [0.1, 0.2])})
    >>> [str(column.header) for column in estimate_tables(found)[0].columns]
    ['chain', 'mean']
    """
    told = flags(dataset)
    numbers = [str(name) for name, one in dataset.data_vars.items() if one.dtype.kind in "fiub" and one.size]
    names = [name for name in numbers if f"{name}_stderr" in dataset]
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
        cell = _cell(dataset, name, ())
        remark = [text if cell != "-" else ""] if any(against) else []
        table.add_row(Text(str(dataset[name].attrs.get("long_name", name))), cell, *remark)
    return table


def _table(dataset: xr.Dataset, dims: tuple[str, ...], names: list[str]) -> Table:
    shape = tuple(dataset.sizes[dim] for dim in dims)
    beside = [str(name) for name, one in dataset.coords.items() if len(one.dims) == 1 and one.dims[0] in dims]
    beside = [name for name in beside if name not in dims]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (*dims, *beside, *names):
        table.add_column(Text(heading.replace("_", " ")), no_wrap=True)
    flagged = bool(remarks(dataset, of=names))
    if flagged:
        table.add_column("", no_wrap=True)
    count = int(np.prod(shape))
    for flat in range(min(count, MOST_ROWS)):
        index = tuple(int(i) for i in np.unravel_index(flat, shape))
        at = dict(zip(dims, index, strict=True))
        places = [
            _label(dataset.coords[dim].values[at[dim]]) if dim in dataset.coords else str(at[dim]) for dim in dims
        ]
        places += [_label(dataset.coords[name].values[at[str(dataset.coords[name].dims[0])]]) for name in beside]
        cells = [_cell(dataset, name, index) for name in names]
        against = ", ".join(remarks(dataset, at, of=names)) if flagged and set(cells) != {"-"} else ""
        table.add_row(*map(Text, places), *cells, *([against] if flagged else []))
    if count > MOST_ROWS:
        table.add_row(f"and {count - MOST_ROWS} more rows")
    return table


def _cell(dataset: xr.Dataset, name: str, index: tuple[int, ...]) -> str:
    value = dataset[name].values[index]
    if value.dtype.kind == "b":
        return "yes" if value else "no"
    error = dataset[f"{name}_stderr"].values[index] if f"{name}_stderr" in dataset else np.nan
    return measured(float(value), float(error))


def _label(value: np.generic) -> str:
    return f"{value:.4g}" if value.dtype.kind == "f" else str(value)
