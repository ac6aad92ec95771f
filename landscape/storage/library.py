"""The netCDF library, which is not made for several threads: one of them is in it at a time."""

from __future__ import annotations

import os
import threading
from typing import Any

from xarray.backends import locks

__all__ = ["one_thread"]


class _OneThread:
    """A lock that a thread may take again, and that a forked process finds open."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock, self._taken = threading.RLock(), 0

    def acquire(self, *arguments: Any, **named: Any) -> bool:
        """Wait for it."""
        mine = self._lock.acquire(*arguments, **named)
        self._taken += mine
        return mine

    def release(self) -> None:
        """Let others have it."""
        self._taken -= 1
        self._lock.release()

    def locked(self) -> bool:
        """Whether a thread has it."""
        return self._taken > 0

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *unused: object) -> None:
        self.release()


one_thread = _OneThread()

# xarray reads later what was opened before, and closes it, under locks of its own: they become this one
for _lock in (locks.HDF5_LOCK, locks.NETCDFC_LOCK):
    if hasattr(_lock, "lock"):
        _lock.lock = one_thread  # type: ignore[assignment]
