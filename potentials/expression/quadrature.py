"""Integrals of Boltzmann weights to about twelve digits, for closed forms that end in a quadrature.

Weights are given by their logarithm, so that neither exp(-V/T) at low temperature nor a long tail overflows. Intervals
and boxes are cut into cells that shrink geometrically towards known peaks, and every cell is halved until its
Gauss-Legendre sum stops changing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from landscape.common.docstrings import documented
from landscape.errors import ConfigError, ConvergenceError

__all__ = ["average", "average_in_box", "find_peaks", "graded_edges", "truncated_gaussian"]

Array: TypeAlias = NDArray[np.float64]

REACH = 1e30  # an open side is integrated this far: a tail |x|^-p is then complete to REACH**(1 - p)
RATIO = 4.0  # growth of cells away from a peak; 16 nodes then resolve a singularity at the peak's distance to 1e-15
MAX_HALVINGS = 60


def graded_edges(
    low: float, high: float, points: Sequence[float] = (), *, finest: float = 1e-15, ends: bool = True
) -> Array:
    """Cell edges between `low` and `high`, geometrically finer towards `points` and finite ends.

    Parameters
    ----------
    low, high : float
        The interval; an infinite side is cut at 1e30.
    points : sequence of float, optional
        Where cells are finest; those outside the interval are dropped.
    finest : float, optional
        Smallest cell, in units of the interval's length (of 1 if a side is open).
    ends : bool, optional
        Whether cells shrink towards finite ends as well.

    Returns
    -------
    array of float64, shape (n + 1,), ascending, from `low` to `high`.

    Examples
    --------
    >>> graded_edges(0.0, 1.0, [0.0], finest=0.25).tolist()[:3]
    [0.0, 0.0625, 0.125]
    """
    bounded = math.isfinite(low) and math.isfinite(high)
    named = (low, high, *points) if ends else tuple(points)
    centres = [p for p in named if math.isfinite(p) and low <= p <= high] or [0.0]
    span = high - low if bounded else 1.0
    outermost = span if bounded else REACH
    steps = np.arange(math.floor(math.log(finest, RATIO)), math.ceil(math.log(outermost / span, RATIO)) + 1)
    offsets = span * RATIO**steps
    start, stop = max(low, -REACH), min(high, REACH)
    parts = [np.array([start, stop, *centres]), *(c + sign * offsets for c in centres for sign in (-1, 1))]
    if bounded:
        parts.append(np.linspace(low, high, 17))
    edges: Array = np.unique(np.concatenate(parts))
    return edges[(edges >= start) & (edges <= stop)]


def find_peaks(log_weight: Callable[[Array], Array], low: float, high: float, *, count: int = 32) -> list[float]:
    """Highest local maxima of a weight on a scan of some thousand points, for `graded_edges`.

    A peak narrower than about 1/4000 of a bounded interval, or 0.01 near the origin of an open one, can be missed.

    Parameters
    ----------
    log_weight : callable
        Logarithm of the weight, from shape ``(n,)`` to shape ``(n,)``.
    low, high : float
        The interval.
    count : int, optional
        At most so many.

    Returns
    -------
    list of float

    Examples
    --------
    >>> find_peaks(lambda x: -((x - 1.0) ** 2), -4.0, 4.0)
    [1.0]
    """
    if math.isfinite(low) and math.isfinite(high):
        grid = np.linspace(low, high, 4097)
    else:
        tail = np.geomspace(1e-6, REACH, 1500)
        grid = np.unique(np.concatenate([-tail, np.linspace(-20.0, 20.0, 4001), tail]))
        grid = grid[(grid >= low) & (grid <= high)]
    with np.errstate(all="ignore"):
        height = np.nan_to_num(np.asarray(log_weight(grid), dtype=np.float64), nan=-np.inf, posinf=np.inf)
    padded = np.concatenate([[-np.inf], height, [-np.inf]])
    peak = (height >= padded[:-2]) & (height > padded[2:]) & (height > height.max() - 60.0)
    best = np.flatnonzero(peak)
    best = best[np.argsort(-height[best], kind="stable")][:count]
    return [_vertex(grid[max(i - 1, 0) : i + 2], height[max(i - 1, 0) : i + 2]) for i in best]


def _vertex(x: Array, height: Array) -> float:
    """Top of the parabola through a peak and its two neighbours on the grid; at an end, the peak itself."""
    if len(x) < 3 or not np.all(np.isfinite(height)):
        return float(x[np.argmax(height)])
    left, right = (x[1] - x[0]) * (height[1] - height[2]), (x[2] - x[1]) * (height[1] - height[0])
    if left + right <= 0.0:  # a plateau
        return float(x[1])
    return float(x[1] + 0.5 * ((x[2] - x[1]) * right - (x[1] - x[0]) * left) / (left + right))


_averaging = documented(
    {"rtol": "rtol : float, optional\n    Largest change of a cell at its last halving, relative to the integral."},
    Returns="log_norm : float\naverages : array of float64, shape ``(m,)``",
    Raises="ConvergenceError\n    If the integrand has a singularity that cannot be integrated.",
)


@_averaging
def average(
    log_weight: Callable[[Array], Array],
    observables: Callable[[Array], Sequence[Array]] | None = None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    points: Sequence[float] = (),
    rtol: float = 1e-13,
) -> tuple[float, Array]:
    """ln of the integral of w and the averages ``int w f / int w`` over an interval, w = exp(log_weight).

    Parameters
    ----------
    log_weight : callable
        From shape ``(n,)`` to shape ``(n,)``; minus infinity where the weight vanishes.
    observables : callable, optional
        From shape ``(n,)`` to a sequence of m arrays of that shape.
    low, high : float, optional
        The interval; either side may be infinite.
    points : sequence of float, optional
        Peaks and kinks of the weight. Peaks wide enough for `find_peaks` need not be named.

    Raises
    ------
    ConfigError
        If the weight, or weight times observable, does not fall off towards an infinite side.
    ConvergenceError
        If the integrand has a singularity that cannot be integrated.

    Notes
    -----
    Costs some ten thousand evaluations of the weight.

    Examples
    --------
    >>> log_norm, (second,) = average(lambda x: -x**2 / 2, lambda x: [x**2])
    >>> round(log_norm - math.log(2 * math.pi) / 2, 12), round(float(second), 12)
    (0.0, 1.0)
    """
    edges = graded_edges(low, high, [*points, *find_peaks(log_weight, low, high)])

    def weight(x: Array) -> Array:
        return log_weight(x[:, 0])

    def values(x: Array, log_weight: Array) -> Sequence[Array]:
        return observables(x[:, 0]) if observables else ()

    rule = _Rule(weight, values, dim=1, order=16)
    log_scale, sums = _integrate(rule, edges[:-1, None], edges[1:, None], rtol=rtol, prune=0.0)
    size = np.abs(sums).sum(axis=1)
    for end, cell in ((low, 0), (high, -1)):
        if math.isinf(end) and np.any(np.abs(sums[:, cell]) > 100 * rtol * size):
            raise ConfigError(
                f"the weight does not fall off fast enough towards {end}: its integral does not converge. "
                "Give walls with `bounds`, or a term that confines"
            )
    total = sums.sum(axis=1)
    return log_scale + math.log(total[0]), total[1:] / total[0]


@_averaging
def average_in_box(
    log_weight: Callable[[Array], Array],
    observables: Callable[[Array, Array], Sequence[Array]],
    edges: Sequence[Array],
    *,
    rtol: float = 1e-13,
) -> tuple[float, Array]:
    """`average` over a box in d dimensions: ln of the integral of w, and averages.

    Parameters
    ----------
    log_weight : callable
        From positions of shape ``(n, d)`` to shape ``(n,)``.
    observables : callable
        From positions ``(n, d)`` and their log weights ``(n,)`` to a sequence of m arrays of shape ``(n,)``.
    edges : sequence of d arrays
        Cell edges along each axis, fine enough that every peak of the weight is seen (`graded_edges`).

    Examples
    --------
    >>> grid = np.linspace(-10.0, 10.0, 9)
    >>> log_norm, (r2,) = average_in_box(lambda x: -(x**2).sum(-1) / 2, lambda x, w: [-2 * w], [grid, grid])
    >>> round(log_norm - math.log(2 * math.pi), 12), round(float(r2), 12)
    (0.0, 2.0)
    """
    low = np.stack(np.meshgrid(*(e[:-1] for e in edges), indexing="ij"), axis=-1).reshape(-1, len(edges))
    high = np.stack(np.meshgrid(*(e[1:] for e in edges), indexing="ij"), axis=-1).reshape(-1, len(edges))
    rule = _Rule(log_weight, observables, dim=len(edges), order=10)
    log_scale, sums = _integrate(rule, low, high, rtol=rtol, prune=1e-18)
    total = sums.sum(axis=1)
    return log_scale + math.log(total[0]), total[1:] / total[0]


def truncated_gaussian(low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Mass and moments of the standard normal distribution between `low` and `high`.

    Parameters
    ----------
    low, high : array of float64, shape ``(n,)``
        Ends, possibly infinite, low < high.

    Returns
    -------
    log_mass : array, shape ``(n,)``
        ln[Phi(high) - Phi(low)].
    second, fourth : array, shape ``(n,)``
        <z^2> and <z^4> given low < z < high.

    Examples
    --------
    >>> log_mass, second, fourth = truncated_gaussian(np.array([0.0]), np.array([np.inf]))
    >>> [round(float(x[0]), 12) for x in (np.exp(log_mass), second, fourth)]
    [0.5, 1.0, 3.0]
    """
    x, w = np.polynomial.legendre.leggauss(56)  # exact to 1e-15 for exp(-z^2/2) over |z| < 10
    nearest = np.clip(0.0, low, high)  # where the density is largest
    # Beyond this distance from the largest density, exp(-z^2/2) has fallen by more than exp(-50).
    reach = 100.0 / (np.abs(nearest) + np.sqrt(nearest**2 + 100.0))
    start, stop = np.maximum(low, nearest - reach), np.minimum(high, nearest + reach)
    half = 0.5 * (stop - start)
    z = start[:, None] + half[:, None] * (x + 1.0)
    density = np.exp(0.5 * (nearest[:, None] - z) * (nearest[:, None] + z)) * w
    mass = density.sum(axis=1)
    log_mass = np.log(half * mass) - 0.5 * nearest**2 - 0.5 * math.log(2.0 * math.pi)
    return log_mass, (density * z**2).sum(axis=1) / mass, (density * z**4).sum(axis=1) / mass


class _Rule:
    """Tensor-product Gauss-Legendre sums over many cells at once."""

    def __init__(
        self,
        log_weight: Callable[[Array], Array],
        observables: Callable[[Array, Array], Sequence[Array]],
        dim: int,
        order: int,
    ) -> None:
        self.log_weight, self.observables, self.dim = log_weight, observables, dim
        x, w = np.polynomial.legendre.leggauss(order)
        self.nodes = np.array(list(product(0.5 * (x + 1.0), repeat=dim)))
        self.weights = np.prod(np.array(list(product(0.5 * w, repeat=dim))), axis=1)
        self.corners = np.array(list(product((0.0, 1.0), repeat=dim)))

    def pieces(self, low: Array, high: Array) -> Iterator[tuple[slice, Array]]:
        """Positions of the nodes, some cells at a time so that they stay in the cache."""
        step = max(1, 8192 // len(self.nodes))
        for start in range(0, len(low), step):
            part = slice(start, start + step)
            cells = low[part, None, :] + (high[part] - low[part])[:, None, :] * self.nodes
            yield part, cells.reshape(-1, self.dim)

    def log_weights(self, low: Array, high: Array) -> Array:
        """At every node, shape ``(cells, nodes)``."""
        parts = [np.asarray(self.log_weight(at), dtype=np.float64) for _, at in self.pieces(low, high)]
        return np.concatenate(parts).reshape(len(low), -1)

    def sums(self, low: Array, high: Array, log_weights: Array, log_scale: float) -> Array:
        """Integrals of w / scale and w f / scale over each cell, shape ``(1 + m, cells)``."""
        parts = []
        for part, at in self.pieces(low, high):
            logs = log_weights[part].ravel()
            weight = np.exp(logs - log_scale)
            # An observable may overflow where the weight is exactly zero.
            rows = [weight, *(np.where(weight > 0.0, weight * f, 0.0) for f in self.observables(at, logs))]
            parts.append(np.stack(rows).reshape(len(rows), -1, len(self.nodes)) @ self.weights)
        result: Array = np.concatenate(parts, axis=1) * np.prod(high - low, axis=1)
        return result

    def halve(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The 2^d children of each cell, next to each other."""
        size = 0.5 * (high - low)
        child_low = (low[:, None, :] + self.corners * size[:, None, :]).reshape(-1, self.dim)
        return child_low, child_low + np.repeat(size, len(self.corners), axis=0)


def _integrate(rule: _Rule, low: Array, high: Array, *, rtol: float, prune: float) -> tuple[float, Array]:
    """Integrals of w / scale and of w f / scale over every cell: ln(scale) and an array ``(1 + m, cells)``."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        log_weights = rule.log_weights(low, high)
        log_scale = float(np.max(log_weights))
        if not math.isfinite(log_scale):
            raise ConvergenceError(f"the largest logarithm of the weight is {log_scale}, which cannot be integrated")
        coarse = rule.sums(low, high, log_weights, log_scale)
        total = np.zeros_like(coarse)
        root = np.arange(len(low))
        for _ in range(MAX_HALVINGS):
            scale = np.abs(total).sum(axis=1) + np.abs(coarse).sum(axis=1)
            small = np.all(np.abs(coarse) <= prune * scale[:, None], axis=0)
            _add(total, root[small], coarse[:, small])
            low, high, coarse, root = low[~small], high[~small], coarse[:, ~small], root[~small]
            if len(low) == 0:
                return log_scale, total
            ends = rule.halve(low, high)
            child = rule.sums(*ends, rule.log_weights(*ends), log_scale)
            fine = child.reshape(len(child), len(low), -1).sum(axis=2)
            if not np.all(np.isfinite(fine)):
                break
            scale = np.abs(total).sum(axis=1) + np.abs(fine).sum(axis=1)
            settled = np.all(np.abs(fine - coarse) <= rtol * scale[:, None], axis=0)
            _add(total, root[settled], fine[:, settled])
            if np.all(settled):
                return log_scale, total
            too_small = high - low <= 8.0 * np.finfo(np.float64).eps * np.abs(low)
            again = np.repeat(~settled, len(rule.corners))
            low, high, coarse = ends[0][again], ends[1][again], child[:, again]
            root = np.repeat(root[~settled], len(rule.corners))
            if np.any(too_small[~settled]):
                break
    raise ConvergenceError(
        f"{len(low)} cells of the integral still change after the last halving, the first near {low[0]}: the weight "
        "has a singularity there that cannot be integrated to the tolerance",
        estimate=log_scale + math.log(abs(total[0].sum() + coarse[0].sum())),
    )


def _add(total: Array, root: NDArray[np.intp], part: Array) -> None:
    """Add what halved cells hold to the cells that they come from."""
    for row, values in zip(total, part, strict=True):
        row += np.bincount(root, weights=values, minlength=len(row))
