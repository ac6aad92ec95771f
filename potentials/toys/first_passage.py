"""Mean first-passage times in one dimension, by the exact double integral."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from landscape.errors import ConfigError, ConvergenceError
from landscape.potentials.expression.quadrature import Array, graded_edges

__all__ = ["mean_first_passage_time"]


def mean_first_passage_time(
    energy: Callable[[Array], Array],
    start: float,
    target: float,
    *,
    temperature: float,
    low: float = -math.inf,
    high: float = math.inf,
    points: Sequence[float] = (),
    rtol: float = 1e-10,
) -> float:
    """Mean time to reach `target` from `start` in dx = -V' dt + sqrt(2T) dW, reflected at `low` and `high`.

    For start < target, and mirrored otherwise,

        tau = (1/T) int_start^target dy e^{V(y)/T} int_low^y dz e^{-V(z)/T}.

    Parameters
    ----------
    energy : callable
        V in one dimension (or a free energy with diffusion coefficient T), from shape ``(n,)`` to shape ``(n,)``.
    start, target : float
    temperature : float
    low, high : float, optional
        Reflecting ends; a side may be open if exp(-V/T) can be integrated there.
    points : sequence of float, optional
        Minima and maxima of V.
    rtol : float, optional
        Relative change at the last halving of all cells.

    Returns
    -------
    float
        In units of time; infinite beyond 1e308.

    Raises
    ------
    ConfigError
        If `start` or `target` is not between the ends, or exp(-V/T) does not fall off at an open side.
    ConvergenceError
        If halving the cells does not settle the integral.

    References
    ----------
    C. Gardiner, Stochastic Methods, 4th ed. (2009), section 5.5.

    Examples
    --------
    Free diffusion with a mirror at 0 takes (target^2 - start^2) / (2T):

    >>> tau = mean_first_passage_time(np.zeros_like, 1.0, 3.0, temperature=0.5, low=0.0)
    >>> round(tau, 10)
    8.0
    """
    if not (low <= start <= high and low <= target <= high):
        raise ConfigError(f"start {start} and target {target} must lie between the ends {low} and {high}")
    if start == target:
        return 0.0
    if target < start:  # the same walk in a mirror
        mirrored: dict[str, float] = {"low": -high, "high": -low}
        return mean_first_passage_time(
            lambda x: energy(-x), -start, -target, temperature=temperature, points=[-p for p in points], **mirrored
        )
    edges = np.union1d(graded_edges(low, target, [start, *points]), np.linspace(start, target, 33))
    before = _passage(energy, edges, start, temperature, low)
    for _ in range(6):
        edges = np.sort(np.concatenate([edges, 0.5 * (edges[1:] + edges[:-1])]))
        after = _passage(energy, edges, start, temperature, low)
        if abs(after - before) <= rtol:
            return math.exp(after) if after < 709.0 else math.inf
        before = after
    raise ConvergenceError(
        f"the mean first-passage time from {start} to {target} did not settle to {rtol}: name the minima and maxima "
        "of the energy in `points`",
        estimate=math.exp(min(before, 709.0)),
    )


def _passage(energy: Callable[[Array], Array], edges: Array, start: float, temperature: float, low: float) -> float:
    """ln of the double integral on fixed cells."""
    x, w = np.polynomial.legendre.leggauss(16)
    half = 0.5 * np.diff(edges)
    y = edges[:-1, None] + half[:, None] * (x + 1.0)
    with np.errstate(over="ignore"):
        v = np.asarray(energy(y.ravel()), dtype=np.float64).reshape(y.shape) / temperature
        floor = v.min()
        cells = half * (np.exp(floor - v) @ w)
        if math.isinf(low) and cells[0] > 1e-12 * cells.sum():
            raise ConfigError("exp(-V/T) does not fall off towards the open side: give a reflecting end")
        outer = edges[:-1] >= start
        inner_half = half[outer, None] * 0.5 * (x + 1.0)
        z = edges[:-1][outer, None, None] + inner_half[..., None] * (x + 1.0)
        vz = np.asarray(energy(z.ravel()), dtype=np.float64).reshape(z.shape) / temperature
        below = np.concatenate([[0.0], np.cumsum(cells)[:-1]])
        inner = below[outer, None] + inner_half * (np.exp(floor - vz) @ w)
        ceiling = v[outer].max()
        total = float(half[outer] @ ((np.exp(v[outer] - ceiling) * inner) @ w))
    return math.log(total / temperature) + float(ceiling - floor)
