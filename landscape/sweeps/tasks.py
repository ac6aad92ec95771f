"""One point of a sweep as a task that may run anywhere, and any number of times."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
import torch
from threadpoolctl import threadpool_limits

from landscape.errors import StorageError
from landscape.specification import run
from landscape.storage import open as open_run
from landscape.storage import save
from landscape.sweeps.engines import Failure, describe

__all__ = ["is_complete", "one_thread", "run_point"]

# Points may run on threads of one process, which the netCDF library cannot serve at the same time.
_FILES = threading.Lock()


def run_point(spec: str, target: str) -> Failure | None:
    """Run a specification and write its file, unless that is there.

    The file depends on the specification alone: it holds no clock, and one thread makes it, so that any engine gives
    the same bytes.

    Parameters
    ----------
    spec : str
        JSON.
    target : str
        Absolute path.

    Returns
    -------
    dict or None
        What went wrong: ``error``, ``message`` and ``traceback``. Text, for not every exception survives the way
        between processes.
    """
    try:
        if not is_complete(Path(target)):
            with one_thread():
                dataset = run(json.loads(spec), progress=False)
            dataset.attrs["history"] = "landscape.sweep"
            with _FILES:
                save(dataset, target)
    except Exception as error:
        return describe(error)
    return None


def is_complete(path: Path) -> bool:
    """Whether a result is there and readable: files appear whole or not at all, but a disk may damage them later."""
    if not path.exists():
        return False
    try:
        with _FILES, open_run(path):
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
