"""The netCDF library, which is not made for several threads: one of them is in it at a time."""

from __future__ import annotations

import os
import threading

__all__ = ["one_thread"]


class _OneThread:
    """A lock that a thread may take again, and that a forked process finds open."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *unused: object) -> None:
        self._lock.release()


one_thread = _OneThread()
