"""Errors raised on bad input, divergence and damaged files.

Every error is a `LandscapeError` and a standard exception as well, so `except ValueError` keeps working.
A message says what was given, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ConvergenceError",
    "DatasetNotFound",
    "FormulaError",
    "LandscapeError",
    "NonFiniteError",
    "OverlapError",
    "ShapeError",
    "StorageError",
]


class LandscapeError(Exception):
    """Root of all errors of this package."""


class ShapeError(LandscapeError, ValueError):
    """An array has the wrong shape, dtype or length."""


class ConfigError(LandscapeError, ValueError):
    """A setting, or a combination of settings, makes no sense."""


class FormulaError(LandscapeError, ValueError):
    """A formula has an unknown symbol or function, or is not a real, finite expression."""


class NonFiniteError(LandscapeError, FloatingPointError):
    """A position, energy or gradient became NaN or infinite.

    Attributes
    ----------
    step : int or None
        First step after which the value was not finite (0 = the start).
    chain : int or None
        Index of the first chain concerned.
    coordinate : str or int or None
        Name (formulas) or index (networks) of the first coordinate concerned.
    dataset : xarray.Dataset or None
        What was recorded before that step.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int | None = None,
        chain: int | None = None,
        coordinate: str | int | None = None,
        dataset: Any = None,
    ) -> None:
        super().__init__(message)
        self.step = step
        self.chain = chain
        self.coordinate = coordinate
        self.dataset = dataset


class CheckpointError(LandscapeError, RuntimeError):
    """A checkpoint is damaged or belongs to another specification."""


class StorageError(LandscapeError, OSError):
    """A file could not be read or written."""


class ConvergenceError(LandscapeError, RuntimeError):
    """An iteration stopped short of its tolerance; `estimate` holds what it had reached."""

    def __init__(self, message: str, *, estimate: Any = None) -> None:
        super().__init__(message)
        self.estimate = estimate


class OverlapError(LandscapeError, RuntimeError):
    """Neighbouring sampling windows do not overlap."""


class DatasetNotFound(LandscapeError, FileNotFoundError):  # noqa: N818  # the public name
    """A data set is not where it was looked for."""
