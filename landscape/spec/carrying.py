"""Classes and functions of a script on their way to its own worker processes, and never to or from a file.

The only place of this package that unpickles; what it is given comes out of the pipe between a sweep and the workers
that it has started, or of an executor that pickles by itself.
"""

from __future__ import annotations

from typing import Any

import cloudpickle

__all__ = ["arrived", "packed"]


def packed(value: Any) -> bytes:
    """The value, with the code of what no other process can import."""
    return cloudpickle.dumps(value)  # type: ignore[no-any-return]


def arrived(content: bytes) -> Any:
    """What was packed by the process that started this one."""
    return cloudpickle.loads(content)
