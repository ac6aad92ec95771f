"""Warnings that point at the line which called the package, however deep inside they arise."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_PASSED_OVER = ("landscape", "contextlib", "torch")  # the package itself, and what wraps its functions
_USERS = "landscape.examples"


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest caller outside of the package.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("a step is long")
    >>> str(caught[0].message)
    'a step is long'
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _within(str(frame.f_globals.get("__name__", ""))):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _within(module: str) -> bool:
    inside = any(module == name or module.startswith(f"{name}.") for name in _PASSED_OVER)
    return inside and not module.startswith(_USERS)
