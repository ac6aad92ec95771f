"""One point of a sweep as a task that may run anywhere, and any number of times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
import torch
import xarray as xr
from threadpoolctl import threadpool_limits

from landscape.errors import StorageError
from landscape.spec.own_objects import OwnObjects
from landscape.storage.files import open_file, save
from landscape.storage.run_reader import OF_FOLDERS
from landscape.workflows.points.engines import Failure, describe
from landscape.workflows.specification import STEPWISE, build

__all__ = ["is_complete", "one_thread", "run_point"]


def run_point(spec: str, target: str, *, checkpoints: bool = False, own: OwnObjects | None = None) -> Failure | None:
    """Run a specification and write its file, unless that is there.

    The file depends on the specification alone: it holds no clock, and one thread makes it, so that any engine gives
    the same bytes.

    Parameters
    ----------
    spec : str
        JSON.
    target : str
        Absolute path.
    checkpoints : bool
        Whether the run goes to a folder beside the target first, in which it goes on if it was interrupted; tasks that
        write no folder run as without.
    own : OwnObjects, optional
        What tables of the specification stand for that plain data cannot rebuild.

    Returns
    -------
    dict or None
        What went wrong: ``error``, ``message`` and ``traceback``. Text, for not every exception survives the way
        between processes.
    """
    try:
        if not is_complete(Path(target)):
            table, folder = json.loads(spec), Path(target).with_suffix("")
            streamed = checkpoints and table.get("task", "simulate") in STEPWISE
            with one_thread():
                dataset = build(table, own).call(output=folder if streamed else None, progress=False)
            save(_canonical(dataset), target)
            if streamed:
                shutil.rmtree(folder)
    except Exception as error:
        return describe(error)
    return None


def _canonical(dataset: xr.Dataset) -> xr.Dataset:
    """The same result in the same order, however it came about."""
    data, coordinates = (
        {name: table[name].variable for name in sorted(table, key=str)} for table in (dataset.data_vars, dataset.coords)
    )
    about = dataset.attrs | {"history": "landscape.workflows.sweep"}
    attributes = {key: about[key] for key in sorted(about) if key not in OF_FOLDERS}
    return xr.Dataset(data, coordinates, attributes).drop_encoding()


def is_complete(path: Path) -> bool:
    """Whether a result is there and readable: files appear whole or not at all, but a disk may damage them later."""
    if not path.exists():
        return False
    try:
        with open_file(path):
            return True
    except StorageError:
        return False


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for each of BLAS, OpenMP, torch and the compiled loops: a worker for each core is enough."""
    torch_threads, compiled_threads = torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS
    with threadpool_limits(limits=1):
        torch.set_num_threads(1)
        numba.config.NUMBA_NUM_THREADS = 1
        try:
            yield
        finally:
            torch.set_num_threads(torch_threads)
            numba.config.NUMBA_NUM_THREADS = compiled_threads
