"""One writer for one folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from landscape.errors import StorageError

__all__ = ["locked"]


def locked(folder: Path, name: str) -> IO[bytes]:
    """The folder's lock, made if need be and held until it is closed; the system takes it back when the process ends.

    Raises
    ------
    StorageError
        If another process holds it, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        lock = open(handle, "r+b")  # noqa: SIM115  # held beyond this function
    except OSError as error:
        raise StorageError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StorageError(
            f"another process is writing to {str(folder)!r}: wait for it, or give another folder"
        ) from None
    return lock
