r"""Errors of averages over correlated samples, from averages over blocks of 1, 2, 4, 8, ... samples.

With n_l blocks of B = 2^l samples, whose averages are b, the variance of the average over all is estimated by

.. math:: s_l^2 = \frac{1}{n_l (n_l - 1)} \sum_b (b - \bar b)^2 ,

which grows with l until blocks are independent [1].

References
----------
.. [1] H. Flyvbjerg, H. G. Petersen, "Error estimates on averages of correlated data", J. Chem. Phys. 91, 461 (1989).
.. [2] R. M. Lee, G. J. Conduit, N. Nemec, P. Lopez Rios, N. D. Drummond, "Strategies for improving the efficiency of
   quantum Monte Carlo calculations", Phys. Rev. E 83, 066706 (2011), section IV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.statistics import student_factor

if TYPE_CHECKING:  # torch is heavy, and who only averages does not need it
    from landscape.observers.base import FloatArray

__all__ = ["LEAST_TIMES", "level_sums", "standard_error"]

_LEAST_BLOCKS = 4
LEAST_TIMES = 50  # integrated correlation times, below which no estimate is to be trusted


def level_sums(samples: int, pending: FloatArray, products: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Averages, and sums over blocks of products of deviations on every level.

    Two blocks a, b of one level that make a block of the next have, around any centre, a a' + b b' = (a - b)(a' - b')/2
    + 2 m m' with m = (a + b)/2. So from the top, where at most one block is left, the sums S of a level follow from
    those of the next and the differences of pairs: S_l = 2 S_{l+1} + (1/2) sum (a - b)(a' - b'), and a last block p
    without partner adds k/(k+1) (p - m)(p' - m') to those of k others around m. Nothing cancels.

    Parameters
    ----------
    samples : int
    pending : array, shape ``(chain, level, pair, 3)``
        x, y and q of the last block where their number is odd.
    products : array, shape ``(chain, level, pair, 4)``
        Sums of products of differences: xy, qx, qy, qq.

    Returns
    -------
    mean : array, shape ``(chain, pair, 3)``
    sums : array, shape ``(level, chain, pair, 4)``
    """
    levels = max(samples.bit_length(), 1)
    mean = np.full((pending.shape[0], *pending.shape[2:]), 0.0 if samples else np.nan)
    sums = np.zeros((levels, products.shape[0], *products.shape[2:]))
    total = np.zeros(sums.shape[1:])
    for level in reversed(range(levels)):
        total = 2.0 * total + 0.5 * products[:, level]
        blocks = samples >> level
        if blocks % 2:
            x, y, q = np.moveaxis(pending[:, level] - mean, -1, 0)
            total = total + (blocks - 1) / blocks * np.stack([x * y, q * x, q * y, q * q], axis=-1)
            mean = mean + (pending[:, level] - mean) / blocks
        sums[level] = total
    return mean, sums


def standard_error(samples: int, sums: FloatArray) -> FloatArray:
    """Standard error of an average, from the least blocks that are long enough.

    These are the first with B^3 > 2 n (s_l / s_0)^4 [2]: bias, which falls as 1/B, and noise, which grows as
    sqrt(B/n), are then of one size. Widened by Student's factor at the degrees of freedom of that level.

    Parameters
    ----------
    samples : int
    sums : array, shape ``(level, ...)``
        Sums over blocks of squared deviations.

    Returns
    -------
    array, shape ``(...)``
        NaN where no level of 4 blocks or more is long enough, or the integrated correlation time that the error
        implies, s_l^2 / (2 s_0^2) samples, is above a fiftieth of the run: it is too short to tell.
    """
    blocks = np.array(
        [samples >> level for level in range(len(sums)) if samples >> level >= _LEAST_BLOCKS], dtype=float
    )
    if not len(blocks):
        return np.full(sums.shape[1:], np.nan)
    shape = (-1, *np.ones(sums.ndim - 1, dtype=int))
    variance = sums[: len(blocks)] / (blocks * (blocks - 1.0)).reshape(shape)
    cubed = (8.0 ** np.arange(len(blocks))).reshape(shape)
    enough = cubed * variance[0] ** 2 >= 2.0 * samples * variance**2
    level = enough.argmax(axis=0)
    chosen = np.take_along_axis(variance, level[None], axis=0)[0]
    error = np.sqrt(np.maximum(chosen, 0.0)) * student_factor(blocks - 1.0)[level]
    long_enough = samples * variance[0] >= 0.5 * LEAST_TIMES * chosen
    return np.where(enough.any(axis=0) & long_enough, error, np.nan)
