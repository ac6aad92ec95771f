"""Inner loops of the accumulators: one sample after the other, so that blocks leave no trace in the bits."""

from __future__ import annotations

import numpy as np

from landscape.kernels.compilation import exact, exact_inline

__all__ = [
    "correlate",
    "count_one",
    "count_two",
    "follow_cores",
    "follow_visits",
    "pair_products",
    "pair_squares",
]


@exact
def pair_squares(block, samples, origin, pending, products):  # type: ignore[no-untyped-def]
    """Merge each column's x and q = (x - origin)^2 into blocks of 2, 4, 8, ... samples.

    Whenever two neighbouring blocks of 2^level samples are complete, the products of their differences d are added to
    ``products[chain, level, column]`` = sums of d_x d_x, d_q d_x, d_q d_q, and the average of the two is handed on to
    the next level. ``pending[chain, level, column]`` holds x and q of a block that waits for its neighbour.
    """
    chains, records, width = block.shape
    for c in range(chains):
        for j in range(width):
            for r in range(records):
                x = np.float64(block[c, r, j])
                q = (x - origin[c, j]) * (x - origin[c, j])
                n, level = samples + r, 0
                while n & 1:
                    dx = x - pending[c, level, j, 0]
                    dq = q - pending[c, level, j, 1]
                    products[c, level, j, 0] += dx * dx
                    products[c, level, j, 1] += dq * dx
                    products[c, level, j, 2] += dq * dq
                    x = 0.5 * (x + pending[c, level, j, 0])
                    q = 0.5 * (q + pending[c, level, j, 1])
                    n >>= 1
                    level += 1
                pending[c, level, j, 0] = x
                pending[c, level, j, 1] = q


@exact
def pair_products(block, samples, origin, left, right, pending, products):  # type: ignore[no-untyped-def]
    """`pair_squares` for pairs of columns x, y and q = (x - origin_x)(y - origin_y).

    ``products[chain, level, pair]`` = sums of d_x d_y, d_q d_x, d_q d_y, d_q d_q.
    """
    chains, records, _ = block.shape
    for c in range(chains):
        for p in range(left.size):
            i, j = left[p], right[p]
            for r in range(records):
                x, y = np.float64(block[c, r, i]), np.float64(block[c, r, j])
                q = (x - origin[c, i]) * (y - origin[c, j])
                n, level = samples + r, 0
                while n & 1:
                    dx = x - pending[c, level, p, 0]
                    dy = y - pending[c, level, p, 1]
                    dq = q - pending[c, level, p, 2]
                    products[c, level, p, 0] += dx * dy
                    products[c, level, p, 1] += dq * dx
                    products[c, level, p, 2] += dq * dy
                    products[c, level, p, 3] += dq * dq
                    x = 0.5 * (x + pending[c, level, p, 0])
                    y = 0.5 * (y + pending[c, level, p, 1])
                    q = 0.5 * (q + pending[c, level, p, 2])
                    n >>= 1
                    level += 1
                pending[c, level, p, 0] = x
                pending[c, level, p, 1] = y
                pending[c, level, p, 2] = q


@exact_inline
def bin_of(x, edges, scale):  # type: ignore[no-untyped-def]
    """Number of the bin that holds x: 0 below the first edge, ``edges.size`` above the last, which is inside."""
    bins = edges.size - 1
    if x < edges[0]:
        return 0
    if x > edges[bins]:
        return bins + 1
    i = min(int((x - edges[0]) * scale), bins - 1)
    # the product may round across an edge
    if x < edges[i]:
        i -= 1
    elif x >= edges[i + 1] and i + 1 < bins:
        i += 1
    return i + 1


@exact
def count_one(block, edges, scale, counts):  # type: ignore[no-untyped-def]
    """Add samples to ``counts[chain, bin]``; NaN is left out."""
    chains, records, _ = block.shape
    for c in range(chains):
        for r in range(records):
            x = np.float64(block[c, r, 0])
            if not np.isnan(x):
                counts[c, bin_of(x, edges, scale)] += 1


@exact
def count_two(block, x_edges, x_scale, y_edges, y_scale, counts):  # type: ignore[no-untyped-def]
    """Add samples to ``counts[chain, x bin, y bin]``; NaN is left out."""
    chains, records, _ = block.shape
    for c in range(chains):
        for r in range(records):
            x, y = np.float64(block[c, r, 0]), np.float64(block[c, r, 1])
            if not (np.isnan(x) or np.isnan(y)):
                counts[c, bin_of(x, x_edges, x_scale), bin_of(y, y_edges, y_scale)] += 1


@exact
def correlate(block, begin, end, samples, stretch, origin, window, sums):  # type: ignore[no-untyped-def]
    """Add the products of each of the records begin ... end - 1 with those before it, on every level of averaging.

    ``window[chain, column, level]`` holds the last `points` averages of 2^level samples twice over, so that those
    before a place stand behind it without a gap. ``sums[chain, column, stretch, :, slot]`` are the sums of x_t x_{t-k}
    and x_t + x_{t-k} with slot = level points/2 + k.
    """
    chains, _, width = block.shape
    levels, points = window.shape[2], window.shape[3] // 2
    half = points // 2
    local = np.empty(sums.shape[3:])
    for c in range(chains):
        for j in range(width):
            local[:] = sums[c, j, stretch]
            recent = window[c, j]
            for r in range(begin, end):
                x = np.float64(block[c, r, j]) - origin[c, j]
                n, level = samples + r - begin, 0
                while True:
                    place = points - 1 - n % points
                    recent[level, place] = x
                    recent[level, place + points] = x
                    first = half if level else 0
                    shift = level * half
                    for k in range(first, min(n, points - 1) + 1):
                        earlier = recent[level, place + k]
                        local[0, shift + k] += x * earlier
                        local[1, shift + k] += x + earlier
                    if n % 2 == 0 or level == levels - 1:
                        break
                    x = 0.5 * (x + recent[level, place + 1])
                    n >>= 1
                    level += 1
            sums[c, j, stretch] = local


@exact
def follow_visits(  # type: ignore[no-untyped-def]
    block, edges, cell, length, spent, start_cell, exited, transitions, visits, mean, scatter
):
    """Follow each chain from cell to cell; NaN is left out.

    ``cell`` is where a chain is (-1 before its first sample) and ``length`` for how many samples; ``exited`` the length
    of its first visit (-1 while that lasts), which has no known beginning and is not counted among the ``visits``, of
    whose lengths ``mean`` and ``scatter`` (sum of squared deviations) are kept [1].

    References
    ----------
    .. [1] B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4
       (1962).
    """
    chains, records, _ = block.shape
    for c in range(chains):
        for r in range(records):
            x = np.float64(block[c, r, 0])
            if np.isnan(x):
                continue
            now, before = 0, cell[c]
            while now < edges.size and x >= edges[now]:
                now += 1
            spent[c, now] += 1
            if now == before:
                length[c] += 1
                continue
            if before >= 0:
                transitions[c, before, now] += 1
                if exited[c] < 0:
                    exited[c] = length[c]
                else:
                    visits[c, before] += 1
                    deviation = length[c] - mean[c, before]
                    mean[c, before] += deviation / visits[c, before]
                    scatter[c, before] += deviation * (length[c] - mean[c, before])
            else:
                start_cell[c] = now
            cell[c], length[c] = now, 1


@exact
def follow_cores(  # type: ignore[no-untyped-def]
    labels, samples, core, coarse_core, length, left, first_core, first_sample, spent, transitions, coarse, ended,
    watched,
):  # fmt: skip
    """Follow each chain from core to core by the labels ``(chain, record)`` of its samples; below -1 they are left out.

    ``core`` is the one it was in last (-1 before the first), ``length`` for how many samples, and ``left`` how many
    cores it has left. Of dwells with a known beginning, ``ended`` counts those that ended at an age of 2^k to 2^(k+1)
    samples, and ``watched`` the samples at such an age. ``coarse_core`` and ``coarse`` are of every second sample.
    """
    chains, records = labels.shape
    for c in range(chains):
        for r in range(records):
            label = labels[c, r]
            if label < -1:
                continue
            before = core[c]
            if label >= 0 and label != before:
                if before >= 0:
                    transitions[c, before, label] += 1
                    if left[c] > 0:
                        octave = 0
                        while octave < ended.shape[2] - 1 and length[c] >> (octave + 1):
                            watched[c, before, octave] += 1 << octave
                            octave += 1
                        watched[c, before, octave] += length[c] - (1 << octave) + 1
                        ended[c, before, octave] += 1
                    left[c] += 1
                else:
                    first_core[c], first_sample[c] = label, samples + r
                core[c], length[c] = label, 0
            if core[c] >= 0:
                spent[c, core[c]] += 1
                length[c] += 1
            if (samples + r) & 1 and label >= 0:
                if coarse_core[c] >= 0 and coarse_core[c] != label:
                    coarse[c, coarse_core[c], label] += 1
                coarse_core[c] = label
