"""What commands print and where they may write."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from landscape.common.text import measured
from landscape.errors import ConfigError, StorageError
from landscape.storage.files import path_of

__all__ = ["console", "measured", "no_overwrite"]

# a pipe or a file has no width of its own: leave room for a whole row
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def no_overwrite(target: Path, *, force: bool) -> Path:
    """The target, if it may be written; with a home in place of a ``~``.

    Raises
    ------
    ConfigError
        If it exists and was not to be replaced.
    StorageError
        If its folder does not exist.
    """
    target = path_of(target)
    if target.exists() and not force:
        raise ConfigError(f"{str(target)!r} is there already: give --force to replace it, or another --output")
    if not target.parent.is_dir():
        raise StorageError(f"the folder {str(target.parent)!r} does not exist: make it, or give another --output")
    return target
