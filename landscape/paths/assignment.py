"""Assignments of units to units, where a group normalisation may keep some of them together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

__all__ = ["best_assignment"]


def best_assignment(gain: NDArray[np.float64], blocks: Sequence[int] = ()) -> NDArray[np.int64]:
    """The order of units with the largest sum of gains, among those that move blocks as a whole.

    order = argmax sum_i gain[i, order[i]]

    Parameters
    ----------
    gain : array, shape ``(n, n)``
        Gain if column j comes to row i.
    blocks : sequence of int
        Sizes of blocks, rising, each a divisor of the next and of n. Units of one block stay together, in any order
        among themselves.

    Returns
    -------
    array of int, shape ``(n,)``

    Notes
    -----
    Exact: the best order inside each pair of blocks is found first, and gives the gain of bringing one to the other.

    Examples
    --------
    >>> best_assignment(np.array([[0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 8.0, 0.0], [7.0, 0.0, 0.0, 0.0], np.zeros(4)]))
    array([1, 2, 0, 3])
    >>> best_assignment(np.array([[0, 9, 0, 0], [0, 0, 8, 0], [7, 0, 0, 0], [0, 0, 0, 0]], float), [2])
    array([3, 2, 0, 1])
    """
    if not blocks:
        order: NDArray[np.int64] = scipy.optimize.linear_sum_assignment(gain, maximize=True)[1]
        return order
    n, size = len(gain), 1
    inner = {(i, j): np.array([j]) for i in range(n) for j in range(n)}
    for block in (*blocks, n):
        ratio, count = block // size, n // block
        larger, merged = np.empty((count, count)), {}
        for i, j in itertools.product(range(count), repeat=2):
            part = gain[i * ratio : (i + 1) * ratio, j * ratio : (j + 1) * ratio]
            rows, columns = scipy.optimize.linear_sum_assignment(part, maximize=True)
            larger[i, j] = part[rows, columns].sum()
            pairs = zip(rows + i * ratio, columns + j * ratio, strict=True)
            merged[i, j] = np.concatenate([inner[pair] for pair in pairs])
        gain, inner, size = larger, merged, block
    return inner[0, 0]
