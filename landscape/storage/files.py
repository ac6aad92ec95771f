"""Runs on disk: netCDF-4 files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.errors import ConfigError, StorageError
from landscape.storage.file_times import clear_times
from landscape.storage.library import one_thread

__all__ = ["open_file", "path_of", "read_spec", "replacing", "save", "serialise", "write_atomically"]


@guarded
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
    ConfigError
        If an attribute cannot be written; the message names it.
    StorageError
        If the file cannot be written; the message names path and bytes.

    Notes
    -----
    netCDF knows text and numbers: attributes that are None, true or false, dictionaries or nested lists are written as
    their JSON text, such as ``"null"``, ``"true"`` and ``'{"a": 1}'``, and come back as that text.

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
    target = path_of(path)
    write_atomically(target, serialise(dataset))
    return target


def serialise(dataset: xr.Dataset, *, compress: bool = True) -> bytes:
    """A Dataset as the bytes of a netCDF-4 file: written by the library, a full disk would only be an "HDF error"."""
    dataset = _with_plain_attributes(dataset)
    settings = {"zlib": True, "complevel": 1, "shuffle": True} if compress else {}
    encoding = {
        name: settings
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "fiu" and variable.size > 1
    }
    with one_thread:
        content = bytearray(dataset.to_netcdf(engine="netcdf4", format="NETCDF4", encoding=encoding))  # type: ignore[arg-type]
    clear_times(content)
    return bytes(content)


def _with_plain_attributes(dataset: xr.Dataset) -> xr.Dataset:
    """The same Dataset with attributes that netCDF can hold; itself where they are already."""
    owners: dict[Any, Any] = {None: dataset.attrs} | {name: one.attrs for name, one in dataset.variables.items()}
    plain = {
        name: {key: _plain(value, key, name) for key, value in attributes.items()}
        for name, attributes in owners.items()
    }
    if all(plain[name][key] is value for name, attributes in owners.items() for key, value in attributes.items()):
        return dataset
    copy = dataset.copy(deep=False)
    for name, attributes in plain.items():
        if name is None:
            copy.attrs = attributes
        else:
            copy[name].attrs = attributes
    return copy


def _plain(value: Any, key: Any, name: Any) -> Any:
    """The value of an attribute, or its JSON text where netCDF has no such kind.

    Raises
    ------
    ConfigError
    """
    where = f"attribute {key!r} of {'the dataset' if name is None else repr(name)}"
    if not isinstance(key, str):
        raise ConfigError(f"the name of {where} must be text")
    if isinstance(value, str | bytes) or (
        isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_ | complex)
    ):
        return value
    if isinstance(value, np.ndarray | list | tuple):
        try:
            kind, depth = np.asarray(value).dtype.kind, np.ndim(value)
        except ValueError:  # ragged
            kind, depth = "O", 2
        if kind in "fiu" and depth <= 1:
            return value
        if kind == "U" and depth == 1:
            return value
    try:
        return json.dumps(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{where} cannot be stored, got {type(value).__name__}: give text, a number, or what JSON can hold"
        ) from None


def path_of(given: object) -> Path:
    """A path that a file or folder can have, whether it is there or not.

    Raises
    ------
    ConfigError
        If it is none.
    StorageError
        If it cannot be looked at.
    """
    try:
        path = Path(given)  # type: ignore[arg-type]
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise StorageError(f"cannot look at {str(given)!r}: {error.strerror or error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"expected the path of a file or folder, got {given!r}") from error
    if given == "":
        raise ConfigError("expected the path of a file or folder, got ''")
    return path


def write_atomically(target: Path, content: bytes) -> None:
    """Temporary file beside the target, fsync, rename.

    Raises
    ------
    StorageError
    """
    try:
        with replacing(target) as temporary, open(temporary, "wb") as file:
            file.write(content)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {len(content)} bytes to {str(target)!r}: {error.strerror or error}; what was there "
            "before is unchanged. Free some space or choose another path"
        ) from error


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A name to write to; the file takes the target's place when the context ends well, and goes when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, last through a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_file(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a netCDF file lazily.

    Raises
    ------
    StorageError
        If the file is missing, is not netCDF-4 or is damaged.
    """
    source = path_of(path)
    if not source.exists():
        raise StorageError(f"there is no file {str(source)!r}: expected a run saved as netCDF (.nc)")
    if source.is_dir():
        raise StorageError(f"{str(source)!r} is a folder; expected a netCDF file (.nc)")
    try:
        with one_thread:
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
