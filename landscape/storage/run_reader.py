"""A run folder as one Dataset, whose draws are read from their parts when they are looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.common.notices import warn
from landscape.errors import CheckpointError
from landscape.recording.by_chain import by_chain
from landscape.storage.files import opened
from landscape.storage.folder import Entry, read_entry
from landscape.storage.lazy import LazyArray
from landscape.storage.library import one_thread
from landscape.storage.manifest import Manifest, generations

__all__ = ["OF_FOLDERS", "open_folder"]

OF_FOLDERS = ("status", "steps_done", "steps_total")  # attributes that say how far a run is

ADVICE = "Resume the run, which goes back to what can be read"
ATTEMPTS = 5  # the writer may replace a generation while it is being read


def open_folder(folder: Path) -> xr.Dataset:
    """Everything that a run has committed so far; what is recorded per draw is read when it is looked at.

    Raises
    ------
    CheckpointError
        If no generation can be read, with the names of the damaged files.
    """
    before = None
    for left in reversed(range(ATTEMPTS)):
        problems: list[str] = []
        for manifest in generations(folder):
            try:
                dataset = _assemble(folder, manifest)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if problems and problems != before and left:
                break  # the writer may have replaced these files meanwhile: damage is what a second look finds too
            if problems:
                text = f"{'; '.join(problems)}: showing the run as it was at step {manifest.done}"
                warn(text)
            return by_chain(dataset)
        before = problems
    raise CheckpointError("; ".join(problems))


def _assemble(folder: Path, manifest: Manifest) -> xr.Dataset:
    dataset = _decoded(read_entry(folder, manifest.state))
    for dim, entries in manifest.series.items():
        if entries:
            variables, coordinates = _series(folder, dim, entries)
            dataset = dataset.assign(variables).set_coords(coordinates)
    if manifest.certificate is not None:
        checks = _decoded(read_entry(folder, manifest.certificate))
        dataset = dataset.merge(checks).assign_attrs(checks.attrs)
    return dataset.assign_attrs(
        spec=json.dumps(manifest.spec, sort_keys=True),
        history=f"{manifest.spec.get('task', 'simulate')}, written as it went on",
        status=manifest.status,
        steps_done=manifest.done,
        steps_total=manifest.steps,
    )


def _series(folder: Path, dim: str, entries: list[Entry]) -> tuple[dict[str, Any], list[str]]:
    """Variables along `dim`, and which of them are coordinates.

    The last part tells their shapes and types; it stays in memory, since the writer replaces it while it grows.
    """
    last = _decoded(read_entry(folder, entries[-1]))
    total = sum(entry.entries for entry in entries)
    variables: dict[str, Any] = {}
    for name, variable in last.variables.items():
        if variable.dims == (dim,) and name == dim:
            variables[dim] = xr.Variable(dim, np.arange(total), variable.attrs)
        else:
            rows = _Rows(folder, entries, str(name), variable, dim)
            variables[str(name)] = rows.variable(variable.dims, variable.attrs)
    return variables, [str(name) for name in last.coords]


class _Rows(LazyArray):
    """One variable over all parts: an index is answered from the parts that it touches."""

    def __init__(self, folder: Path, entries: list[Entry], name: str, last: xr.Variable, dim: str) -> None:
        self.folder, self.entries, self.name, self.last, self.dim = folder, entries, name, last, dim
        self.axis = last.dims.index(dim)
        self.edges = np.cumsum([0, *(entry.entries for entry in entries)])
        total = int(self.edges[-1])
        super().__init__((*last.shape[: self.axis], total, *last.shape[self.axis + 1 :]), last.dtype)
        self._checked: set[str] = set()

    def read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """From the parts, each of which is held against its checksum when it is first read."""
        wanted = np.atleast_1d(np.arange(self.shape[self.axis])[key[self.axis]])
        others = {dim: key[axis] for axis, dim in enumerate(self.last.dims) if axis != self.axis}
        low, high = (int(wanted.min()), int(wanted.max()) + 1) if len(wanted) else (0, 0)
        numbers = np.arange(*np.searchsorted(self.edges, [low + 1, high]) - [1, 0]) if high else [len(self.entries) - 1]
        blocks = []
        for number in numbers:
            start = self.edges[number]
            part = slice(int(max(low - start, 0)), int(max(min(high, self.edges[number + 1]) - start, 0)))
            blocks.append(self._values(int(number), {self.dim: part, **others}))
        axis = self.axis - sum(isinstance(index, int | np.integer) for index in key[: self.axis])
        found = np.concatenate(blocks, axis=axis)
        if isinstance(key[self.axis], slice):
            return np.take(found, wanted - low, axis=axis)
        return np.asarray(np.take(found, 0, axis=axis))

    def _values(self, number: int, where: dict[Any, Any]) -> NDArray[Any]:
        if number == len(self.entries) - 1:
            return np.asarray(self.last.isel(where).values)
        entry = self.entries[number]
        if entry.name not in self._checked:
            read_entry(self.folder, entry)
            self._checked.add(entry.name)
        with opened(self.folder / entry.name, ADVICE) as dataset:
            return np.asarray(dataset[self.name].variable.isel(where).values)


def _decoded(content: bytes) -> xr.Dataset:
    with one_thread, opened(content, ADVICE) as dataset:
        return dataset.load()
