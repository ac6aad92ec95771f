"""What was stored, whether it is a file or a folder that is still being written."""

from __future__ import annotations

import os

import xarray as xr

from landscape.common.arguments import guarded
from landscape.dynamics.train import open_training
from landscape.errors import ConfigError, StorageError
from landscape.recording.by_chain import by_chain
from landscape.storage.files import open_file, path_of
from landscape.storage.folder import kind_of
from landscape.storage.run_reader import open_folder
from landscape.workflows.points.results import open_sweep

__all__ = ["open", "stored_at"]


@guarded
def open(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a stored run, sweep or result of a probe, lazily; a context manager too.

    Parameters
    ----------
    path : path
        A netCDF file; or the folder of a run that is written as it goes on (``simulate(..., output=folder)``), of a
        training or of a sweep: then everything that is there so far. Attributes `steps_done`, `steps_total` and
        `status` say how far a run is. A part is checked against its checksum when it is first read.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    StorageError
        If there is no such file or folder, or a file is not netCDF-4 or is damaged.
    CheckpointError
        If a file of the folder is damaged, which is named.

    Examples
    --------
    >>> import landscape as ls, tempfile
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=30, output=folder)
    ...     ls.open(folder).attrs["steps_done"]
    30
    """
    source = path_of(path)
    if not source.is_dir():
        return by_chain(open_file(source))
    kind = kind_of(source)
    if kind is None:
        raise StorageError(
            f"{str(source)!r} is a folder without a run; expected one that simulate(output=...) wrote, or a netCDF file"
        )
    return by_chain({"sweep": open_sweep, "training": open_training, "run": open_folder}[kind](source))


def stored_at(where: str, path: str | os.PathLike[str]) -> xr.Dataset:
    """What is stored there, read whole, for a key of a specification; `where` names the key.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        with open(path) as dataset:
            return dataset.load()
    except (StorageError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error
