"""How often chains went between two levels that their slow averages show, such as those of two wells.

A correlation time says how many independent draws a run is worth only where one time is all there is to know. A chain
that spends nine tenths of its time in one well, and went to the other once, looks as if it had forgotten everything
many times over; but of its slowest motion it has seen one event.
"""

from __future__ import annotations

import numpy as np

from landscape.probes.estimation.series import BoolArray, Bundle, FloatArray

__all__ = ["TIMES_PER_CROSSING", "crossings"]

# Of two wells of equal weight: n crossings in time t are 1/tau = 2 n/t. Twenty are 50 correlation times.
TIMES_PER_CROSSING = 2.5
FEW = 20
_APART = 4.0  # standard deviations of the wider level between the two; of skewed series of 250 times 1 in 80 has them
_LONG = 3  # blocks of a visit, below which its scatter is not known
_COARSE, _FINE = 32, 1024  # blocks of a chain
_MOST = 2**17  # blocks of a group


def crossings(bundle: Bundle, asked: BoolArray) -> FloatArray:
    """Crossings between two levels, all chains of a group together; infinite where there are not two, or many.

    Averages over blocks, from 1/32 of a chain to 1/1024, are divided in two where the variance between the parts is
    largest (Otsu 1979). The parts are two levels where their means are four standard deviations of the wider one apart
    and a visit lasts three blocks or more. A crossing goes all the way from beyond one quarter of that distance to
    beyond the other. A level that was never visited cannot be known of.

    Parameters
    ----------
    bundle : Bundle
    asked : array of bool, shape ``(group,)``
        Groups that are looked at.

    References
    ----------
    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9, 62 (1979).
    """
    found = np.full(bundle.size, np.inf)
    members = bundle.members()
    draws = bundle.series.draws
    wanted = asked & (members > 0) & (members * _COARSE <= _MOST) & (draws >= _COARSE)
    if not wanted.any():
        return found
    finest = min(_FINE, draws)
    fine = np.zeros((bundle.chains.size, 1 << (finest.bit_length() - 1)))
    for rows, values, _ in bundle.blocks():
        fine[rows] = _blocks(values, fine.shape[1])
    for count in np.unique(members[wanted]):
        groups = np.flatnonzero(wanted & (members == count))
        averages = fine[np.isin(bundle.owner, groups)].reshape(len(groups), count, -1)
        found[groups] = _fewest(averages)
    return found


def _blocks(values: FloatArray, count: int) -> FloatArray:
    """Averages over so many equal stretches of each row, to its end."""
    width = values.shape[1] // count
    return np.asarray(values[:, values.shape[1] - count * width :].reshape(len(values), count, width).mean(axis=2))


def _fewest(averages: FloatArray) -> FloatArray:
    """The least crossings of ``(group, chain, block)`` on any scale that shows two levels."""
    found = np.full(len(averages), np.inf)
    blocks = averages.shape[2]
    while blocks * averages.shape[1] > _MOST:
        blocks //= 2
    while blocks >= _COARSE:
        coarse = averages.reshape(*averages.shape[:2], blocks, -1).mean(axis=3)
        found = np.fmin(found, _between_levels(coarse))
        blocks //= 2
    return found


def _between_levels(blocks: FloatArray) -> FloatArray:
    """Crossings between the two levels of averages ``(group, chain, block)``, infinite where there is one."""
    ordered = np.sort(blocks.reshape(len(blocks), -1), axis=1)
    middle = ordered.mean(axis=1)
    ordered -= middle[:, None]
    rows, total = np.arange(len(ordered)), ordered.shape[1]
    below = np.arange(1, total)
    sums, squares = np.cumsum(ordered, axis=1), np.cumsum(ordered**2, axis=1)
    at = (sums[:, :-1] ** 2 * (1.0 / below + 1.0 / (total - below))).argmax(axis=1)
    count = at + 1
    low, high = sums[rows, at] / count, -sums[rows, at] / (total - count)
    wide = np.maximum(
        squares[rows, at] / count - low**2, (squares[:, -1] - squares[rows, at]) / (total - count) - high**2
    )
    apart = high - low
    # Rounding: what never moves has one level.
    two = (apart > _APART * np.sqrt(np.maximum(wide, 0.0))) & (apart > 1e-9 * (np.abs(middle) + apart))
    centre, reach = middle + 0.5 * (low + high), 0.25 * apart
    level = np.where(blocks > (centre + reach)[:, None, None], 1, 0)
    level -= blocks < (centre - reach)[:, None, None]
    last = np.maximum.accumulate(np.where(level != 0, np.arange(blocks.shape[2]), 0), axis=2)
    level = np.take_along_axis(level, last, axis=2)
    crossed = (level[:, :, 1:] * level[:, :, :-1] < 0).sum(axis=(1, 2)).astype(float)
    # Chains that stay apart from each other do not agree, which is said elsewhere.
    two &= crossed > 0
    visits = np.maximum(1.0, 0.5 * crossed)
    return np.where(two & (np.minimum(count, total - count) >= _LONG * visits), crossed, np.inf)
