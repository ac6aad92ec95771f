"""The unit ball of a norm: projections onto it, what is left to gain inside it, and points drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from landscape import random

__all__ = ["Ball"]

_UNIFORM: Final = 2**20  # step of the draws of lengths, apart from those of directions


@dataclass(frozen=True, slots=True)
class Ball:
    """All u with |u| <= 1, |u| the Euclidean norm (``box=False``) or the largest |u_j|. Vectors are rows ``(n, dim)``.

    Examples
    --------
    >>> Ball().project(torch.tensor([[3.0, 4.0], [0.1, 0.0]])).tolist()
    [[0.6..., 0.8...], [0.1..., 0.0]]
    """

    box: bool = False

    def project(self, u: Tensor) -> Tensor:
        """The nearest points of the ball."""
        if self.box:
            return u.clamp(-1.0, 1.0)
        lengths: Tensor = torch.linalg.vector_norm(u, dim=1, keepdim=True)
        return u / lengths.clamp_min(1.0)

    def edge(self, v: Tensor) -> Tensor:
        """The points of the ball that are farthest along v; 0 for v = 0."""
        if self.box:
            return v.sign()
        lengths: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True)
        return torch.where(lengths > 0, v / lengths.clamp_min(torch.finfo(v.dtype).tiny), 0.0)

    def reduced(self, u: Tensor, g: Tensor) -> Tensor:
        """Of the gradient g at u what does not point out of the ball: zero where u is stationary.

        On the sphere that is g - m u with the multiplier m = max(0, g u).
        """
        near = 100 * torch.finfo(u.dtype).eps
        if self.box:
            held = ((u >= 1 - near) & (g > 0)) | ((u <= near - 1) & (g < 0))
            return torch.where(held, 0.0, g)
        outside = torch.linalg.vector_norm(u, dim=1, keepdim=True) >= 1 - near
        pressure = (g * u).sum(1, keepdim=True).clamp_min(0.0)
        return torch.where(outside, g - pressure * u, g)

    def promise(self, u: Tensor, g: Tensor) -> Tensor:
        """Most that V can grow by within the ball to first order, max_w g (w - u), float64 ``(n,)``."""
        norms: Tensor = g.abs().sum(1, dtype=torch.float64) if self.box else torch.linalg.vector_norm(g.double(), dim=1)
        return (norms - (g * u).sum(1, dtype=torch.float64)).clamp_min(0.0)

    def missing(self, u: Tensor, g: Tensor) -> Tensor:
        """What may be missing to the maximum nearby, float64 ``(n,)``: 0 where u is stationary.

        Of the ball half the length of the reduced gradient r. At an angle a from the maximum of a quadratic V with
        curvatures m and m (1 - c) it is m a^2 c / 2 that is missing, and r = m a c; for nearly equal curvatures
        (c < a) that is below m c / 2, and else below r / 2. Of the box what the first order promises.
        """
        if self.box:
            return self.promise(u, g)
        lengths: Tensor = torch.linalg.vector_norm(self.reduced(u, g).double(), dim=1)
        return 0.5 * lengths

    def drawn(self, seed: int, numbers: Tensor, moving: Tensor, *, sphere: bool, dtype: torch.dtype) -> Tensor:
        """Points uniform in the ball, or on the sphere: a pure function of seed and number.

        Parameters
        ----------
        seed : int
        numbers : int64 tensor, shape ``(n,)``
        moving : bool tensor, shape ``(dim,)``
            The coordinates that the ball extends along; the others are zero.
        sphere : bool
            On the sphere.
        dtype : torch.dtype
        """
        normal = _normals(seed, numbers, 1, len(moving), dtype)
        if self.box:
            return torch.where(moving, 2 * torch.special.ndtr(normal) - 1, 0.0)
        points = self.edge(torch.where(moving, normal, 0.0))
        if sphere:
            return points
        uniform = random.uniforms(seed, numbers, _UNIFORM, stream=random.BALL)
        lengths = uniform ** (1.0 / max(1, int(moving.sum())))
        return points * lengths[:, None].to(points)

    def starts(self, seed: int, count: int, moving: Tensor, dtype: torch.dtype) -> Tensor:
        """So many random points on the edge: a pure function of seed and number."""
        numbers = torch.arange(count, device=moving.device)
        return self.edge(torch.where(moving, _normals(seed, numbers, 0, len(moving), dtype), 0.0))


def _normals(seed: int, numbers: Tensor, step: int, dim: int, dtype: torch.dtype) -> Tensor:
    # half the random words where the result has half the digits
    precision: random.Precision = "float64" if dtype == torch.float64 else "float32"
    return random.normals(seed, numbers, step, dim, precision=precision, stream=random.BALL).to(dtype)
