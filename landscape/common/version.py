"""Which version is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["package_version"]


@cache
def package_version() -> str:
    """Version of the installed distribution."""
    try:
        return version("landscape-langevin")
    except PackageNotFoundError:
        return "0+unknown"


__version__ = package_version()
