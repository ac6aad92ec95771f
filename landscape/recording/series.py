"""What a run records along one dimension: in memory as a whole, or part by part where parts go to disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Series"]


class Series:
    """Arrays that grow along one dimension, of which those entries are held that are not on disk yet.

    Parameters
    ----------
    dim : str
        The dimension along which they grow: the second of arrays ``(chains, n, ...)``, the only one of arrays ``(n,)``.
    total : int
        Entries that the run will make.
    part : int, optional
        Entries of a part; None holds them all.

    Attributes
    ----------
    first, count : int
        Entries on disk, and entries made.
    """

    def __init__(self, dim: str, total: int, part: int | None = None) -> None:
        self.dim, self.total, self.part = dim, total, total if part is None else part
        self.first, self.count = 0, 0
        self.arrays: dict[str, NDArray[Any]] = {}

    def declare(self, name: str, chains: int, width: tuple[int, ...], dtype: Any) -> None:
        """Make room for values ``(chains, n, *width)``."""
        self.arrays[name] = np.empty((chains, min(self.part, self.total - self.first), *width), dtype)

    def put(self, name: str, start: int, values: NDArray[Any]) -> None:
        """Set the entries from `start` on to values ``(chains, n, ...)``, all within the present part."""
        if name not in self.arrays:
            self.declare(name, values.shape[0], values.shape[2:], values.dtype)
        self.arrays[name][:, start - self.first : start - self.first + values.shape[1]] = values

    @property
    def held(self) -> dict[str, NDArray[Any]]:
        """The entries in memory."""
        return {name: array[:, : self.count - self.first] for name, array in self.arrays.items()}

    @property
    def full(self) -> bool:
        """Whether a part is complete."""
        return 0 < self.part == self.count - self.first

    @property
    def room(self) -> int:
        """Entries until the part is complete."""
        return self.part - (self.count - self.first)

    def release(self) -> None:
        """Forget a part that is on disk."""
        self.first = self.count

    def load(self, first: int, count: int, held: dict[str, NDArray[Any]]) -> None:
        """Go on from a state of which `held` was in memory."""
        self.first, self.count = first, count
        for name, array in held.items():
            self.declare(name, array.shape[0], array.shape[2:], array.dtype)
            self.arrays[name][:, : array.shape[1]] = array
