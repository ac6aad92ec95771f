"""A curve through pivots: position, tangent, arc length and nearest point, in float64 on the pivots' device.

Both kinds of curve are linear in the pivots, c(u) = sum_j w_j(u) p_j, where u is the sum of the chords before: hat
functions give the polyline, and a cubic correction the natural spline. The curve lies in the affine span of its P
pivots, so nearest points are looked for in at most P dimensions, whatever the number N of coordinates.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Curve", "chord_knots", "respace"]

NODES: Final = 32  # of the arc-length table per segment of a spline: cubic interpolation is then good to about 1e-8
CHORDS: Final = 8  # per segment of a spline, among which the search for the nearest point begins
NEWTON_STEPS: Final = 8
NEARBY: Final = 1  # segments on either side that a local search looks at
BLOCK: Final = 2**24  # numbers held at once in a projection


class Curve:
    """Polyline, or natural cubic spline over the chord lengths, through pivots ``(P, N)``.

    Parameters
    ----------
    pivots : tensor, float64, shape ``(P, N)``
        No two neighbours may coincide.
    spline : bool

    Examples
    --------
    >>> corner = Curve(torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]], dtype=torch.float64), spline=False)
    >>> s, distance = corner.nearest(torch.tensor([[2.0, 1.0]], dtype=torch.float64))
    >>> s.tolist(), distance.tolist(), corner.at(s).tolist()
    ([2.0], [1.0], [[1.0, 1.0]])
    """

    def __init__(self, pivots: Tensor, *, spline: bool) -> None:
        self.pivots = pivots
        self.knots = chord_knots(pivots)
        self.moments = _moments(self.knots) if spline else None

    # -- position along the curve ---------------------------------------------------------------------------------

    def segment(self, u: Tensor) -> Tensor:
        """Number of the segment that holds u; a pivot belongs to the segment after it."""
        return _interval(self.knots, u)

    def weights(self, u: Tensor, derivative: int = 0) -> Tensor:
        """Weights w_j(u) of the pivots, or a derivative of theirs, for u ``(B,)``: shape ``(B, P)``."""
        i, factors = self._factors(u)
        left, right, bend_left, bend_right = factors[derivative]
        weights = u.new_zeros(len(u), len(self.knots))
        weights.scatter_(1, i[:, None], left).scatter_(1, i[:, None] + 1, right)
        if self.moments is not None:
            weights += bend_left * self.moments[i] + bend_right * self.moments[i + 1]
        return weights

    def _factors(self, u: Tensor) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        """Segment, and what its two pivots and their second derivatives are multiplied by: value, slope, bend."""
        i = self.segment(u)
        h = (self.knots[i + 1] - self.knots[i])[:, None]
        b = (u - self.knots[i])[:, None] / h
        a = 1.0 - b
        return i, (
            (a, b, (a**3 - a) * h**2 / 6, (b**3 - b) * h**2 / 6),
            (-1 / h, 1 / h, (1 - 3 * a**2) * h / 6, (3 * b**2 - 1) * h / 6),
            (torch.zeros_like(a), torch.zeros_like(a), a, b),
        )

    def at(self, s: Tensor) -> Tensor:
        """Positions ``(B, N)`` at arc lengths ``(B,)``, which are cut off at the ends."""
        return self.weights(self._parameter(s)) @ self.pivots

    def tangent(self, s: Tensor) -> Tensor:
        """Unit tangents ``(B, N)``; those of a polyline at a pivot are of the segment after it."""
        direction = self.weights(self._parameter(s), 1) @ self.pivots
        return functional.normalize(direction, dim=-1)

    # -- arc length -----------------------------------------------------------------------------------------------

    @property
    def arc_length(self) -> Tensor:
        """Arc length at the pivots, ``(P,)``."""
        return self.knots if self.moments is None else self._table[1][::NODES]

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes u, arc lengths s(u) and speeds ds/du: every `NODES`-th node is a pivot."""
        if self.moments is None:
            return self.knots, self.knots, torch.ones_like(self.knots)
        inner = torch.arange(NODES, dtype=torch.float64, device=self.knots.device) / NODES
        starts = self.knots[:-1, None] + inner * self.knots.diff()[:, None]
        nodes = torch.cat([starts.flatten(), self.knots[-1:]])
        x, w = (torch.from_numpy(part).to(nodes) for part in np.polynomial.legendre.leggauss(5))
        half = nodes.diff()[:, None] / 2
        speeds = self._speed((nodes[:-1, None] + half * (1 + x)).flatten()).view(len(half), -1)
        lengths = (half * w * speeds).sum(1)
        return nodes, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), self._speed(nodes)

    def _speed(self, u: Tensor) -> Tensor:
        speed: Tensor = (self.weights(u, 1) @ self._reduced).norm(dim=-1)
        return speed

    def _parameter(self, s: Tensor) -> Tensor:
        """The inverse of `_arc`."""
        if self.moments is None:
            return s.clamp(min=0.0).minimum(self.knots[-1])
        nodes, arcs, speeds = self._table
        s = s.clamp(min=0.0).minimum(arcs[-1])
        k = _interval(arcs, s)
        t = (s - arcs[k]) / (arcs[k + 1] - arcs[k])
        h = nodes[k + 1] - nodes[k]
        for _ in range(4):  # quadratic convergence from an error of about 1e-3
            value, slope = _hermite(t, arcs[k], arcs[k + 1], h * speeds[k], h * speeds[k + 1])
            t = (t - (value - s) / slope).clamp(0.0, 1.0)
        return torch.lerp(nodes[k], nodes[k + 1], t)

    def _arc(self, u: Tensor) -> Tensor:
        """Arc length s(u), cubic between the nodes of the table."""
        if self.moments is None:
            return u
        nodes, arcs, speeds = self._table
        k = _interval(nodes, u)
        h = nodes[k + 1] - nodes[k]
        return _hermite((u - nodes[k]) / h, arcs[k], arcs[k + 1], h * speeds[k], h * speeds[k + 1])[0]

    # -- nearest point --------------------------------------------------------------------------------------------

    @cached_property
    def _frame(self) -> tuple[Tensor, Tensor | None]:
        """Pivots relative to the first in an orthonormal frame of their span, ``(P, r)``, and the frame ``(N, r)``."""
        relative = self.pivots - self.pivots[0]
        if relative.shape[1] <= relative.shape[0]:
            return relative, None
        frame, triangle = torch.linalg.qr(relative.T)
        return triangle.T, frame

    @property
    def _reduced(self) -> Tensor:
        return self._frame[0]

    @cached_property
    def _reduced_moments(self) -> Tensor:
        return torch.zeros_like(self._reduced) if self.moments is None else self.moments @ self._reduced

    def nearest(self, position: Tensor, near: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Arc length and distance of the nearest point for positions ``(B, N)``; both ``(B,)``.

        With `near` ``(B,)`` only the segment at that arc length and its neighbours are searched.
        """
        rows = max(1, BLOCK // max(position.shape[1], len(self._table[0])))
        found = []
        blocks = position.split(rows)
        nears = [None] * len(blocks) if near is None else near.split(rows)
        for block, start in zip(blocks, nears, strict=True):
            block = block.to(self.pivots.dtype)
            s = self._arc(self._nearest_parameter(block, start))
            found.append((s, (block - self.at(s)).norm(dim=-1)))
        return torch.cat([s for s, _ in found]), torch.cat([d for _, d in found])

    @cached_property
    def _chords(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the search begins: nodes u, points there, chords between them and their squared lengths."""
        nodes = self.knots if self.moments is None else self._table[0][:: NODES // CHORDS]
        points = self._reduced if self.moments is None else self.weights(nodes) @ self._reduced
        chords = points.diff(dim=0)
        return nodes, points, chords, chords.square().sum(-1)

    def _nearest_parameter(self, position: Tensor, near: Tensor | None) -> Tensor:
        _, frame = self._frame
        y = position - self.pivots[0]
        y = y if frame is None else y @ frame
        nodes, points, chords, squares = self._chords
        # |y - p - t c|^2 without |y|^2, from inner products alone: memory (B, nodes), not (B, nodes, r)
        inner = y @ points.T
        along = inner.diff(dim=1) - (points[:-1] * chords).sum(-1)
        t = (along / squares).clamp(0.0, 1.0)
        distance = points[:-1].square().sum(-1) - 2 * inner[:, :-1] + t * (t * squares - 2 * along)
        if near is not None:
            segments = torch.arange(len(chords), device=y.device) // (1 if self.moments is None else CHORDS)
            apart = (segments - self.segment(self._parameter(near))[:, None]).abs()
            distance = distance.masked_fill(apart > NEARBY, torch.inf)
        k = distance.argmin(dim=1)
        t = (((y - points[k]) * chords[k]).sum(-1) / squares[k]).clamp(0.0, 1.0)
        u = torch.lerp(nodes[k], nodes[k + 1], t)
        if self.moments is None:
            return u
        return self._polish(y, u, nodes[(k - 1).clamp(min=0)], nodes[(k + 2).clamp(max=len(nodes) - 1)])

    def _polish(self, y: Tensor, u: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Newton's method for (c(u) - y) . c'(u) = 0, kept inside a shrinking bracket."""
        pivots, bends = self._reduced, self._reduced_moments
        for _ in range(NEWTON_STEPS):
            i, factors = self._factors(u)
            corners = torch.stack([pivots[i], pivots[i + 1], bends[i], bends[i + 1]])
            value, first, second = ((torch.stack(row) * corners).sum(0) for row in factors)
            slope = ((value - y) * first).sum(-1)
            curvature = (first.square() + (value - y) * second).sum(-1)
            low, high = torch.where(slope < 0, u, low), torch.where(slope > 0, u, high)
            downhill = torch.where(curvature > 0, u - slope / curvature, (low + high) / 2)
            u = downhill.maximum(low).minimum(high)
        return u


def chord_knots(pivots: Tensor) -> Tensor:
    """Sum of the chords before each pivot, float64 ``(P,)``."""
    chords = pivots.diff(dim=0).norm(dim=-1).double()
    return torch.cat([chords.new_zeros(1), chords.cumsum(0)])


def respace(pivots: Tensor, fractions: Tensor, *, spline: bool) -> Tensor:
    """Pivots moved along their curve to given fractions of the summed chords; the ends stay, to the bit.

    Parameters
    ----------
    pivots : tensor, shape ``(P, N)``
    fractions : tensor, float64, shape ``(M,)``
        Rising from 0 to 1.
    spline : bool
        Along the spline, which does not cut the corners that a polyline has at its pivots.

    Returns
    -------
    tensor, shape ``(M, N)``

    Examples
    --------
    >>> line = torch.tensor([[0.0], [1.0], [4.0]], dtype=torch.float64)
    >>> respace(line, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), spline=False).flatten().tolist()
    [0.0, 2.0, 4.0]
    """
    curve = Curve(pivots, spline=spline)
    inner = curve.weights(fractions[1:-1] * curve.knots[-1]).to(pivots.dtype) @ pivots
    return torch.cat([pivots[:1], inner, pivots[-1:]])


def _moments(knots: Tensor) -> Tensor:
    """The matrix that takes pivots to second derivatives of the natural spline at them, ``(P, P)``."""
    h = knots.diff()
    none, one = h.new_zeros(1), h.new_ones(1)
    system = torch.diag(torch.cat([one, 2 * (h[:-1] + h[1:]), one]))
    system += torch.diag(torch.cat([h[:-1], none]), -1) + torch.diag(torch.cat([none, h[1:]]), 1)
    before, after = torch.cat([6 / h[:-1], none]), torch.cat([none, 6 / h[1:]])
    bends = torch.diag(before, -1) + torch.diag(after, 1)
    bends -= torch.diag(bends.sum(1))
    moments: Tensor = torch.linalg.solve(system, bends)
    return moments


def _interval(edges: Tensor, x: Tensor) -> Tensor:
    found = torch.searchsorted(edges, x.contiguous(), right=True) - 1
    return found.clamp(0, len(edges) - 2)


def _hermite(t: Tensor, start: Tensor, end: Tensor, slope_0: Tensor, slope_1: Tensor) -> tuple[Tensor, Tensor]:
    """Cubic with given ends and end slopes, and its derivative; exact at t = 0 and 1."""
    rise = t**2 * (3 - 2 * t)
    value = (1 - rise) * start + rise * end + t * (1 - t) ** 2 * slope_0 + t**2 * (t - 1) * slope_1
    slope = 6 * t * (1 - t) * (end - start) + (1 - t) * (1 - 3 * t) * slope_0 + t * (3 * t - 2) * slope_1
    return value, slope
