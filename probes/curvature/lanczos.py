"""Both ends of a spectrum from products alone: Lanczos with full re-orthogonalisation, and power iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from landscape.probes.curvature.linear import LinearMap

_FEWEST = 5  # products before a residual is believed

__all__ = ["Ends", "Tridiagonal", "lanczos_ends", "power_end", "tridiagonalise"]


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of a spectrum.

    Attributes
    ----------
    largest, smallest : float
        Ritz values (NaN where not computed).
    largest_residual, smallest_residual : float
        |H v - theta v| of the unit Ritz vectors v: an eigenvalue lies that close.
    converged : bool
    products : int
        Products spent.
    vectors : tensor, shape ``(2, size)``
        Ritz vectors of largest and smallest.
    """

    largest: float
    smallest: float
    largest_residual: float
    smallest_residual: float
    converged: bool
    products: int
    vectors: Tensor


class Tridiagonal:
    """A growing orthonormal Krylov basis Q with Q^T H Q = T tridiagonal.

    Each new vector is made orthogonal to all before it, twice, so that no eigenvalue comes back as a ghost.
    """

    def __init__(self, linear: LinearMap, start: Tensor, limit: int) -> None:
        self.linear = linear
        self.limit = min(limit, linear.size)
        self.basis = start.new_empty(self.limit, linear.size)
        self.diagonal: list[float] = []
        self.below: list[float] = []  # the last entry leads out of the basis: it makes the residuals
        self._next = start / torch.linalg.vector_norm(start)
        self.scale = 0.0
        self.ended = False

    def step(self) -> None:
        """One product more."""
        count = len(self.diagonal)
        self.basis[count] = self._next
        product = self.linear.one(self._next)
        self.diagonal.append(float(self._next.double() @ product.double()))
        held = self.basis[: count + 1]
        for _ in range(2):
            product = product - held.T @ (held @ product)
        beta = float(torch.linalg.vector_norm(product))
        self.below.append(beta)
        self.scale = max(self.scale, abs(self.diagonal[-1]) + beta)
        rounding = torch.finfo(product.dtype).eps * self.scale * self.linear.size**0.5
        # an invariant subspace, or all of space: what is left is rounding
        self.ended = not beta > rounding or count + 1 == self.linear.size or not np.isfinite(self.diagonal[-1])
        if not self.ended:
            self._next = product / beta

    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values ascending, the weights of their vectors in the basis (columns), and their residuals."""
        values, vectors = scipy.linalg.eigh_tridiagonal(self.diagonal, self.below[:-1])
        out = 0.0 if len(self.diagonal) == self.linear.size else self.below[-1]
        return values, vectors, np.abs(out * vectors[-1])

    def combine(self, weights: np.ndarray) -> Tensor:
        """Vectors ``(k, size)`` from columns of weights in the basis."""
        held = self.basis[: len(self.diagonal)]
        return torch.as_tensor(weights.T.copy()).to(held) @ held


def tridiagonalise(linear: LinearMap, start: Tensor, steps: int) -> Tridiagonal:
    """So many steps, or fewer where the Krylov space ends."""
    krylov = Tridiagonal(linear, start, steps)
    while len(krylov.diagonal) < krylov.limit and not krylov.ended:
        krylov.step()
    return krylov


def lanczos_ends(
    linear: LinearMap, start: Tensor, *, rtol: float, limit: int, which: Literal["largest", "both"]
) -> Ends:
    """Ritz values of both ends, tested after every product.

    Parameters
    ----------
    linear : LinearMap
    start : tensor, shape ``(size,)``
    rtol : float
        Stop once the residual is at most rtol |theta| for `which="largest"`, and for both ends at most rtol times the
        larger of the two |theta|.
    limit : int
        Most products.
    which : {"largest", "both"}
        The ends that have to converge.
    """
    krylov = Tridiagonal(linear, start, limit)
    done = False
    while not done and len(krylov.diagonal) < krylov.limit and not krylov.ended:
        krylov.step()
        if not np.isfinite(krylov.diagonal[-1]):
            return _nothing(linear, start, len(krylov.diagonal))
        values, weights, residuals = krylov.eigen()
        scale = max(abs(values[0]), abs(values[-1]))
        rounding = torch.finfo(start.dtype).eps * scale
        if which == "largest":
            done = residuals[-1] <= max(rtol * abs(values[-1]), rounding)
        else:
            done = max(residuals[0], residuals[-1]) <= max(rtol * scale, rounding)
        # a start close to one eigenvector has to show that it does not hide a larger one
        done = (done and len(values) >= _FEWEST) or krylov.ended
    ends = krylov.combine(weights[:, [-1, 0]])
    return Ends(values[-1], values[0], residuals[-1], residuals[0], bool(done), len(krylov.diagonal), ends)


def power_end(linear: LinearMap, start: Tensor, *, rtol: float, limit: int, shift: float = 0.0) -> tuple[Any, ...]:
    """Power iteration on H - shift: Rayleigh quotient (with its sign), residual, whether it settled, vector, products.

    Stops once the quotient changes by at most rtol of itself.
    """
    vector = following = start / torch.linalg.vector_norm(start)
    quotient, residual, settled, count = np.nan, np.nan, False, 0
    while count < limit and not settled:
        vector = following
        product = linear.one(vector) - shift * vector
        count += 1
        before, quotient = quotient, float(vector.double() @ product.double())
        residual = float(torch.linalg.vector_norm(product - quotient * vector))
        settled = abs(quotient - before) <= rtol * abs(quotient)
        norm = float(torch.linalg.vector_norm(product))
        if not norm > 0 or not np.isfinite(norm):
            return quotient + shift, residual, norm == 0, vector, count
        following = product / norm
    return quotient + shift, residual, settled, vector, count


def _nothing(linear: LinearMap, start: Tensor, products: int) -> Ends:
    return Ends(np.nan, np.nan, np.nan, np.nan, False, products, start.new_zeros(2, linear.size))
