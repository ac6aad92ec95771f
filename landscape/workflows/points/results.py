"""The files of a sweep as one Dataset."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import StorageError
from landscape.storage.files import inside, path_of
from landscape.storage.folder import INDEXES, of_today
from landscape.workflows.points.array import lazy_array
from landscape.workflows.points.survey import Survey

__all__ = ["FAILURES", "MANIFEST", "open_sweep", "read_manifest"]

MANIFEST: Final = INDEXES["sweep"]
FAILURES: Final = "failures.json"


def open_sweep(folder: str | os.PathLike[str]) -> xr.Dataset:
    """Everything that a sweep has finished so far, with the swept keys as dimensions.

    Only coordinates and shapes are read at once. The rest is read when it is asked for, and then only of the points
    asked for: ``open_sweep(folder).energy.isel(temperature=0).load()`` takes the memory of that row of the table.

    Parameters
    ----------
    folder : path
        The `output` of `landscape.sweep`.

    Returns
    -------
    xarray.Dataset
        The variables of the results, with the axes of the sweep before their own dimensions, and NaN (text: empty)
        where a point has no result or a shorter one, of fewer draws, iterations or pivots; ``failed`` over the axes.

        An axis is called by the last part of its key, or by the whole key where two keys end alike or the results have
        a dimension or variable of that name. Values that are lists or tables are labelled by their JSON. A coordinate
        of the results that is the same for all points stays as it is. One that would hide an axis is left out where it
        repeats the swept value; otherwise, and where points differ in the labels of a dimension, it becomes the
        variable ``run_<name>``. The attribute ``failures`` is a JSON list.

    Raises
    ------
    StorageError
        If the folder holds no sweep, or a file in it is damaged.
    ShapeError
        If the results of two points differ in shape otherwise.
    """
    folder = path_of(folder)
    manifest = read_manifest(folder)
    axes = manifest["axes"]
    shape = tuple(len(axis["values"]) for axis in axes)
    paths = [str(inside(folder, name)) for name in manifest["files"]]
    files = np.array([path if os.path.exists(path) else None for path in paths], dtype=object).reshape(shape)
    survey = Survey()
    for file, values in zip(files.flat, _points(axes), strict=True):
        if file is not None:
            survey.visit(file, values)
    labels = _labels(axes, survey)
    dims = tuple(axis["name"] or "_".join(labels[key] for key in axis["keys"]) for axis in axes)
    missing = np.array([file is None for file in files.flat]).reshape(shape)
    dataset = _table(axes, dims, labels, survey)
    dataset["failed"] = (dims, missing, {"long_name": "the point has no result", "units": "1"})
    for name, kind in survey.kinds.items():
        hidden = name in labels.values()
        if hidden and kind.repeats:
            continue
        new = f"run_{name}" if hidden else name
        if kind.common is not None and kind.count == survey.visited:
            dataset = dataset.assign_coords({new: kind.common})
            continue
        data = lazy_array(files, name, kind.shape, kind.dtype, gaps=kind.uneven or kind.count < files.size)
        new = f"run_{name}" if name in survey.sizes else new
        dataset[new] = data.variable((*dims, *kind.dims), kind.attrs)
    dataset.attrs = manifest["attributes"] | {"failures": json.dumps(_failures(folder))}
    return dataset


def _table(axes: list[dict[str, Any]], dims: tuple[str, ...], labels: Mapping[str, str], survey: Survey) -> xr.Dataset:
    """The swept values as coordinates."""
    coordinates = {}
    for axis, dim in zip(axes, dims, strict=True):
        for key, values in zip(axis["keys"], zip(*axis["values"], strict=True), strict=True):
            kind = survey.kinds.get(labels[key])
            about = kind.attrs if kind is not None and kind.repeats else {"long_name": key, "units": "1"}
            coordinates[labels[key]] = (dim, _coordinate(values), about | {"key": key})
    return xr.Dataset(coords=coordinates)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a sweep wrote about its table: ``attributes``, ``axes`` and ``files``.

    Raises
    ------
    StorageError
    """
    manifest = _read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not {"attributes", "axes", "files"} <= set(manifest):
        raise StorageError(f"{str(folder / MANIFEST)!r} is not the manifest of a sweep")
    return of_today(manifest, folder / MANIFEST)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"cannot read {str(path)!r} ({error}): expected the folder of a sweep. If the file is damaged, delete it "
            "and call the sweep again: finished points are kept"
        ) from error


def _failures(folder: Path) -> list[dict[str, Any]]:
    listed = _read_json(folder / FAILURES) if (folder / FAILURES).exists() else []
    return [{key: value for key, value in one.items() if key != "traceback"} for one in listed]


def _points(axes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Swept values of every point, by key."""
    keys = [key for axis in axes for key in axis["keys"]]
    for rows in itertools.product(*(axis["values"] for axis in axes)):
        yield dict(zip(keys, itertools.chain(*rows), strict=True))


def _labels(axes: list[dict[str, Any]], survey: Survey) -> dict[str, str]:
    """What each key is called: its last part where that is nobody else's name."""
    ends = {key: key.rpartition(".")[2] for axis in axes for key in axis["keys"]}
    taken = [*ends.values(), *survey.sizes, *(name for name, kind in survey.kinds.items() if not kind.is_coordinate)]
    return {key: end if taken.count(end) == 1 else key for key, end in ends.items()}


def _coordinate(values: Sequence[Any]) -> NDArray[Any]:
    """Swept values as labels: numbers or text as they are, anything else as JSON."""
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=np.str_)
    if all(isinstance(value, int | float) for value in values):
        return np.array(values)
    return np.array([json.dumps(value, sort_keys=True) for value in values], dtype=np.str_)
