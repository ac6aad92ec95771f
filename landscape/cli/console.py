"""What commands print and where they may write."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from rich.console import Console

from landscape.errors import ConfigError, StorageError

__all__ = ["console", "measured", "no_overwrite"]

# a pipe or a file has no width of its own: leave room for a whole row
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def no_overwrite(target: Path, *, force: bool) -> Path:
    """The target, if it may be written.

    Raises
    ------
    ConfigError
        If it exists and was not to be replaced.
    StorageError
        If its folder does not exist.
    """
    if target.exists() and not force:
        raise ConfigError(f"{str(target)!r} is there already: give --force to replace it, or another --output")
    if not target.parent.is_dir():
        raise StorageError(f"the folder {str(target.parent)!r} does not exist: make it, or give another --output")
    return target


def measured(value: float, error: float) -> str:
    """A value with its error, two digits of the error.

    Examples
    --------
    >>> measured(0.0804719, 0.00123), measured(1234.5, 56.0), measured(2.0e-7, 3e-9), measured(1.0, float("nan"))
    ('0.0805 +- 0.0012', '1234 +- 56', '(2.000 +- 0.030)e-07', '1')
    """
    if not math.isfinite(value):
        return "-"
    if not (math.isfinite(error) and error > 0):
        return f"{value:.3g}"
    if not 1e-3 <= abs(value) < 1e5:
        power = math.floor(math.log10(abs(value) if value else error))
        return f"({_fixed(value / 10**power, error / 10**power)})e{power:+03d}"
    return _fixed(value, error)


def _fixed(value: float, error: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} +- {error:.{digits}f}"
