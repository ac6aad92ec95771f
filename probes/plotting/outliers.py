"""Eigenvalues outside the bulk of a spectrum, read from the nodes of a spectral density."""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["outliers"]

_OUTLIER_RESIDUAL = 1e-2  # of the range: a node that close to an eigenvalue is drawn as one
_GAP = 2.0  # of the widest gap of the bulk, beyond which what follows is outside


def outliers(one: xr.Dataset) -> np.ndarray:
    """Nodes that are eigenvalues in all probes, beyond a gap from the bulk; they may be close to one another.

    A node has converged where its residual is a tenth of the distance to its neighbours or less: of the bulk a node
    stands for many eigenvalues, and is not. The bulk reaches from what has not converged outwards, until a gap is
    longer than two widths, at which the drawn curve has a minimum, and than twice any before.
    """
    probes = [_converged(*row) for row in zip(one["node"].to_numpy(), one["residual"].to_numpy(), strict=True)]
    nodes, good = probes[0]
    if nodes.size < 2:
        return np.empty(0)
    for other, settled in probes[1:]:
        near = np.abs(other - nodes[:, None]).argmin(axis=1)
        good &= settled[near] & (np.abs(other[near] - nodes) < _OUTLIER_RESIDUAL * np.ptp(nodes))
    weight = one["weight"].to_numpy()[0][np.argsort(one["node"].to_numpy()[0])][: nodes.size]
    middle = int(np.searchsorted(np.cumsum(weight), 0.5 * weight.sum()))
    rest = np.flatnonzero(~good)
    first, last = int(min([middle, *rest])), int(max([middle, *rest]))
    gaps = np.diff(nodes)
    widest = float(gaps[~good[1:] & ~good[:-1]].max(initial=2.0 * float(one["width"]) / _GAP))
    upper, lower = gaps[last:], gaps[:first][::-1]
    end, start = last + _reach(upper, widest), first - _reach(lower, widest)
    outside = np.ones(nodes.size, dtype=bool)
    outside[start : end + 1] = False
    return np.asarray(nodes[outside & good])


def _converged(nodes: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite nodes of one probe in ascending order, and whether each is an eigenvalue."""
    order = np.argsort(nodes)[: int(np.isfinite(nodes).sum())]
    ordered = nodes[order]
    gaps = np.concatenate([[np.inf], np.diff(ordered), [np.inf]])
    limit = np.fmin(0.1 * np.minimum(gaps[1:], gaps[:-1]), _OUTLIER_RESIDUAL * np.ptp(ordered))
    return ordered, residuals[order] < limit


def _reach(gaps: np.ndarray, widest: float) -> int:
    """Gaps that belong to the bulk, from its inside outwards."""
    for number, gap in enumerate(gaps):
        if gap > _GAP * widest:
            return number
        widest = max(widest, float(gap))
    return len(gaps)
