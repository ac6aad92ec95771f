"""The door between this package and the disk: every file that is written or read goes through it.

A file is written whole or not at all, in place of an older one whose mode it keeps, and behind a link that the user
made. Each chunk of a variable has a checksum, against which it is held when it is read. ``~`` is the user's home.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from landscape.common.arguments import guarded
from landscape.common.provenance import read_spec, signed
from landscape.errors import ConfigError, StorageError
from landscape.storage.file_times import clear_times
from landscape.storage.lazy import FileArray
from landscape.storage.library import one_thread

__all__ = [
    "CHECKED", "inside", "open_file", "opened", "path_of", "read_spec", "replacing", "save", "serialise",
    "write_atomically",
]  # fmt: skip

CHECKED: Final = {"fletcher32": True}  # a checksum of each chunk


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
    their JSON text, such as ``"null"``, ``"true"`` and ``'{"a": 1}'``, and come back as that text. What the
    dataset does not say itself of its `source`, `history` and `Conventions` is added to the file.

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
    write_atomically(target, serialise(signed(dataset)))
    return target


def serialise(dataset: xr.Dataset, *, compress: bool = True) -> bytes:
    """A Dataset as the bytes of a netCDF-4 file: written by the library, a full disk would only be an "HDF error".

    Uncompressed, it has no checksums of its own.
    """
    dataset = _with_plain_attributes(dataset)
    settings = {"zlib": True, "complevel": 1, "shuffle": True} | CHECKED if compress else {}
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
    """A path that a file or folder can have, whether it is there or not; a ``~`` at its beginning is the user's home.

    Raises
    ------
    ConfigError
        If it is none.
    StorageError
        If it cannot be looked at.
    """
    try:
        path = Path(os.path.expanduser(given))  # type: ignore[call-overload]
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


def inside(folder: Path, name: str) -> Path:
    """A file of a folder by its name.

    Raises
    ------
    StorageError
        If the name leads out of the folder, by itself or by a link.
    """
    path = folder / name
    if os.path.realpath(path) != f"{os.path.realpath(folder)}{os.sep}{name}":
        raise StorageError(f"{str(path)!r} leads out of its folder: a stored folder holds its own files and no links")
    return path


def write_atomically(target: Path, content: bytes, *, follow: bool = True) -> None:
    """Temporary file beside the target, fsync, rename; see `replacing`.

    Raises
    ------
    StorageError
    """
    try:
        with replacing(target, follow=follow) as temporary, open(temporary, "wb") as file:
            file.write(content)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {len(content)} bytes to {str(target)!r}: {error.strerror or error}; what was there "
            "before is unchanged. Free some space or choose another path"
        ) from error


@contextmanager
def replacing(target: Path, *, follow: bool = True) -> Iterator[Path]:
    """A name to write to; the file takes the target's place when the context ends well, and goes when not.

    Parameters
    ----------
    target : Path
    follow : bool
        Whether a link there is the user's, who wants the file at its other end; else it is replaced itself.
    """
    if follow and target.is_symlink():
        target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        os.chmod(temporary, _mode_for(target))
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _mode_for(target: Path) -> int:
    """That of the file which is replaced, or that of a new one."""
    if target.is_file() and not target.is_symlink():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, last through a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def opened(source: str | os.PathLike[str] | bytes, otherwise: str) -> xr.Dataset:
    """A netCDF-4 file, or the bytes of one, as the library has it; `otherwise` is what to do about a damaged one.

    Raises
    ------
    StorageError
    """
    try:
        with one_thread:
            return xr.open_dataset(source, engine="netcdf4", cache=False)
    except Exception as error:
        name = "a committed file" if isinstance(source, bytes) else repr(os.fspath(source))
        raise StorageError(
            f"{name} is not a readable netCDF-4 file ({type(error).__name__}: {error}); it is damaged, or something "
            f"else. {otherwise}"
        ) from error


def open_file(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a netCDF file lazily; what is read later is held against its checksums then.

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
    dataset = opened(source, "Run the simulation again or restore the file")
    checked = {
        name: FileArray(str(source), name, variable).variable(variable.dims, variable.attrs, kept=True)
        for name, variable in dataset.variables.items()
        if name not in dataset.indexes
    }
    for name, variable in checked.items():  # a truncated file opens, and fails only when it is read
        variable.encoding = dataset.variables[name].encoding
        variable[tuple(slice(-1, None) for _ in variable.dims)].load() if variable.size else None
    result = dataset.assign({name: one for name, one in checked.items() if name in dataset.data_vars})
    result = result.assign_coords({name: one for name, one in checked.items() if name in dataset.coords})
    result.set_close(dataset.close)
    return result
