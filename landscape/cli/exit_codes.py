"""Exit codes, and which error leads to which."""

from __future__ import annotations

import signal
from typing import Final

from landscape import errors
from landscape.storage.interruption import CODES

__all__ = [
    "DIVERGED",
    "DONE",
    "INPUT_OUTPUT",
    "INTERRUPTED",
    "MISMATCH",
    "POINTS_FAILED",
    "TERMINATED",
    "UNEXPECTED",
    "USAGE",
    "code_of",
]

DONE: Final = 0
UNEXPECTED: Final = 1
USAGE: Final = 2
DIVERGED: Final = 3
INPUT_OUTPUT: Final = 4
MISMATCH: Final = 5
POINTS_FAILED: Final = 6  # of a sweep
INTERRUPTED: Final = CODES[signal.SIGINT]
TERMINATED: Final = CODES[signal.SIGTERM]


def code_of(error: BaseException) -> int:
    """Exit code of an error: 2 usage, 3 diverged or not converged, 4 input/output, 5 checkpoint, else 1."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED
        case errors.NonFiniteError() | errors.ConvergenceError():
            return DIVERGED
        case errors.CheckpointError():
            return MISMATCH
        case errors.ConfigError() | errors.ShapeError() | errors.FormulaError():
            return USAGE
        case OSError():  # StorageError and DatasetNotFound among them
            return INPUT_OUTPUT
    return UNEXPECTED
