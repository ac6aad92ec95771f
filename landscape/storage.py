"""Runs on disk: netCDF-4 files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import xarray as xr

from landscape.errors import ConfigError, StorageError

__all__ = ["open", "save"]


def save(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a Dataset as netCDF-4. The file appears complete or not at all; an older one of that name is replaced.

    Parameters
    ----------
    dataset : xarray.Dataset
    path : path ending in ``.nc``

    Returns
    -------
    pathlib.Path

    Raises
    ------
    StorageError
        If the file cannot be written; the message names path and bytes.

    Examples
    --------
    >>> import landscape as ls, tempfile, os
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = ls.save(run, os.path.join(folder, "run.nc"))
    ...     with ls.open(path) as same:
    ...         bool((same.position == run.position).all())
    True
    """
    if not isinstance(dataset, xr.Dataset):
        raise ConfigError(f"save takes an xarray.Dataset, such as a run, got {type(dataset).__name__}")
    target = Path(path)
    encoding = {
        name: {"zlib": True, "complevel": 1, "shuffle": True}
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "fiu" and variable.size > 1
    }
    # Serialise to memory and write the bytes ourselves: the library reports a full disk only as "HDF error".
    content = bytes(dataset.to_netcdf(engine="netcdf4", format="NETCDF4", encoding=encoding))  # type: ignore[arg-type]
    write_atomically(target, content)
    return target


def write_atomically(target: Path, content: bytes) -> None:
    """Temporary file beside the target, fsync, rename.

    Raises
    ------
    StorageError
    """
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise StorageError(
            f"cannot write {len(content)} bytes to {str(target)!r}: {error.strerror or error}; what was there "
            "before is unchanged. Free some space or choose another path"
        ) from error


def open(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a stored run or probe result, lazily; a context manager too.

    Raises
    ------
    StorageError
        If the file is missing, is not netCDF-4 or is damaged.
    """
    source = Path(path)
    if not source.exists():
        raise StorageError(f"there is no file {str(source)!r}: expected a run saved as netCDF (.nc)")
    if source.is_dir():
        raise StorageError(f"{str(source)!r} is a folder; expected a netCDF file (.nc)")
    try:
        dataset = xr.open_dataset(source, engine="netcdf4")
        for variable in dataset.variables.values():  # a truncated file opens, and fails only when it is read
            variable[tuple(slice(-1, None) for _ in variable.dims)].load() if variable.size else None
    except Exception as error:
        raise StorageError(
            f"{str(source)!r} is not a readable netCDF-4 file ({type(error).__name__}: {error}); it is damaged, or "
            "something else. Run the simulation again or restore the file"
        ) from error
    return dataset


def read_spec(dataset: xr.Dataset) -> dict[str, Any]:
    """The specification stored in a run."""
    import json

    try:
        spec = json.loads(dataset.attrs["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError("the file carries no specification: it was not written by landscape") from error
    if not isinstance(spec, dict):
        raise StorageError("the specification in the file is not a table")
    return spec
