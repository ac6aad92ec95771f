"""Both ends of a spectrum from products alone: Lanczos with partial re-orthogonalisation, and power iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from landscape.probes.curvature.linear import LinearMap, settled
from landscape.probes.curvature.rows import dot, dots, less

_FEWEST = 5  # products before a residual is believed
_ALWAYS: Final = 2**14  # order up to which every vector is made orthogonal to all before it: that costs nothing there
_BLOCK: Final = 16  # basis vectors that memory is taken for at once
_TINY: Final = 1e-30  # squares of what is smaller vanish in float32
_GHOST: Final = 1e2  # roundings of the largest value within which Ritz values are copies of one eigenvalue

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
        Ritz vectors of largest and smallest; without rows where they were not wanted.
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

    Rounding makes a new vector lose its orthogonality to the old ones once a Ritz pair has converged. How far is
    known from T alone (Simon's recurrence), and where it reaches the square root of the machine epsilon two vectors
    in a row are made orthogonal to all before them: T is then as exact as with orthogonality in full, and no
    eigenvalue comes back as a ghost. Small matrices have all their vectors made orthogonal, twice.

    Parameters
    ----------
    linear : LinearMap
    start : tensor, shape ``(size,)``
    limit : int
        Most steps.
    keep : bool
        Whether the basis is held. Without it there are no vectors, and ghosts come back; `eigen` joins them with the
        eigenvalue they are copies of, which leaves every quadrature as it is (Greenbaum 1989).

    References
    ----------
    Simon (1984), The Lanczos algorithm with partial reorthogonalization, Math. Comp. 42, 115. Greenbaum (1989),
    Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences, Linear Algebra Appl. 113, 7.
    """

    def __init__(self, linear: LinearMap, start: Tensor, limit: int, *, keep: bool = True) -> None:
        self.linear = linear
        self.limit = min(limit, linear.size)
        self.diagonal: list[float] = []
        self.below: list[float] = []  # the last entry leads out of the basis: it makes the residuals
        self.scale = 0.0
        self.ended = False
        self._keep = keep
        self._always = linear.size <= _ALWAYS
        self._precision = torch.finfo(start.dtype).eps
        self._blocks: list[Tensor] = []
        self._last: Tensor | None = None
        self._lost = [np.zeros(0), np.zeros(0)]  # overlaps of the last two vectors with all before, as estimated
        self._once_more = False
        self._next = self._placed(start, _length(start, dot(start, start)))

    def step(self) -> None:
        """One product more."""
        count = len(self.diagonal)
        own = self._next
        product = self.linear.one(own)
        self.diagonal.append(dot(own, product))
        before = [] if self._last is None else [(self.below[-1], self._last)]
        rest, square = less(product, [(self.diagonal[-1], own), *before], in_place=self.linear.makes_new)
        if self._keep and self._always:
            for _ in range(2):
                self._orthogonalise(rest)
            square = dot(rest, rest)
        beta = _length(rest, square)
        if self._keep and not self._always and self._needs(beta):
            self._orthogonalise(rest)
            beta = _length(rest, dot(rest, rest))
        self.below.append(beta)
        self.scale = max(self.scale, abs(self.diagonal[-1]) + beta)
        rounding = self._precision * self.scale * self.linear.size**0.5
        # an invariant subspace, or all of space: what is left is rounding
        self.ended = not beta > rounding or count + 1 == self.linear.size or not np.isfinite(self.diagonal[-1])
        self._last = own
        if not self.ended:
            self._next = self._placed(rest, beta)

    def eigen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values ascending, the weights of their vectors in the basis (columns), and their residuals."""
        if not np.isfinite([self.diagonal[-1], self.below[-1]]).all():
            unknown = np.full(len(self.diagonal), np.nan)
            return unknown, np.full((len(unknown), len(unknown)), np.nan), unknown
        values, vectors = scipy.linalg.eigh_tridiagonal(self.diagonal, self.below[:-1])
        out = 0.0 if len(self.diagonal) == self.linear.size else self.below[-1]
        residuals = np.abs(out * vectors[-1])
        if self._keep:
            return values, vectors, residuals
        near = _GHOST * self._precision * self.scale
        return _without_ghosts(values, vectors, residuals, near, self._precision**2)

    def combine(self, weights: np.ndarray) -> Tensor:
        """Unit vectors ``(k, size)`` from columns of weights in the basis."""
        mixing = torch.as_tensor(weights.T.copy()).to(self._blocks[0])
        filled = self._filled()
        starts = np.cumsum([0] + [len(block) for block in filled])
        found = mixing.new_zeros(len(mixing), self.linear.size)
        for start, block in zip(starts, filled, strict=False):
            found.addmm_(mixing[:, start : start + len(block)], block)
        return found / dots(found, found).sqrt().to(found)[:, None]

    # -- the basis, in blocks: only those that are used take memory ----------------------------------------------------

    def _placed(self, vector: Tensor, norm: float) -> Tensor:
        """The next vector, of unit norm, in its place in the basis."""
        count = len(self.diagonal)
        if not self._keep or count == self.limit:
            return vector.div_(norm) if count else vector / norm
        if count % _BLOCK == 0:
            self._blocks.append(vector.new_empty(min(_BLOCK, self.limit - count), self.linear.size))
        return torch.div(vector, norm, out=self._blocks[-1][count % _BLOCK])

    def _filled(self) -> list[Tensor]:
        count = len(self.diagonal)
        return [block[: count - _BLOCK * number] for number, block in enumerate(self._blocks)]

    def _orthogonalise(self, vector: Tensor) -> None:
        for block in self._filled():
            vector.addmv_(block.T, block @ vector, alpha=-1.0)

    def _needs(self, beta: float) -> bool:
        """Whether the vector that is about to follow has to be made orthogonal, by Simon's recurrence."""
        before, now = self._lost
        a, b = np.array(self.diagonal), np.array(self.below)
        count = len(a)
        noise = 2.0 * self._precision * (self.scale + abs(a[-1]) + beta)
        following = np.zeros(count)
        if count > 1:
            k = np.arange(count - 1)
            right = np.append(now[1:], 1.0)[: count - 1]  # overlap with the next one; with itself 1
            left = np.concatenate([[0.0], now[:-1]])[: count - 1]
            past = np.append(before, 1.0)[: count - 1]
            lower = np.concatenate([[0.0], b[:-1]])[: count - 1]
            found = b[k] * right + (a[k] - a[-1]) * now[: count - 1] + lower * left - b[-1] * past
            following[: count - 1] = (found + np.copysign(noise, found)) / max(beta, 1e-300)
        following[-1] = noise / max(beta, 1e-300)
        needed = self._once_more or bool(np.abs(following).max() > self._precision**0.5)
        self._once_more = needed and not self._once_more
        if needed:
            following = np.full(count, 2.0 * self._precision)
        self._lost = [now, following]
        return needed


def _length(vector: Tensor, square: float) -> float:
    """Norm of a vector. Torch's own is off by 4e-4 in float32 for some million numbers, and T would be as much."""
    return square**0.5 if square > _TINY else float(torch.linalg.vector_norm(vector))


def tridiagonalise(linear: LinearMap, start: Tensor, steps: int) -> Tridiagonal:
    """So many steps, or fewer where the Krylov space ends. For a quadrature: of long vectors no basis is held."""
    krylov = Tridiagonal(linear, start, steps, keep=linear.size <= _ALWAYS)
    while len(krylov.diagonal) < krylov.limit and not krylov.ended:
        krylov.step()
    return krylov


def lanczos_ends(
    linear: LinearMap,
    start: Tensor,
    *,
    rtol: float,
    limit: int,
    which: Literal["largest", "both"],
    vectors: bool = True,
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
    vectors : bool
        Whether Ritz vectors are wanted, a pass over the basis.
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
            done = bool(settled(residuals[-1], values[-1], rtol, rounding))
        else:
            done = bool(settled(max(residuals[0], residuals[-1]), scale, rtol, rounding))
        # a start close to one eigenvector has to show that it does not hide a larger one
        done = (done and len(values) >= _FEWEST) or krylov.ended
    ends = krylov.combine(weights[:, [-1, 0]]) if vectors else start.new_zeros(0, linear.size)
    return Ends(values[-1], values[0], residuals[-1], residuals[0], bool(done), len(krylov.diagonal), ends)


def _without_ghosts(
    values: np.ndarray, vectors: np.ndarray, residuals: np.ndarray, near: float, lightest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values that agree as one, with the sum of their weights in the start; none that the start does not see."""
    first = np.flatnonzero(np.concatenate([[True], np.diff(values) > near]))
    best = np.array([low + np.argmin(residuals[low:high]) for low, high in zip(first, [*first[1:], None], strict=True)])
    weights = np.add.reduceat(vectors[0] ** 2, first)
    joined = vectors[:, best]
    joined[0] = np.sqrt(weights)
    seen = weights > lightest
    return values[best][seen], joined[:, seen], np.maximum(residuals[best][seen], near)


def power_end(linear: LinearMap, start: Tensor, *, rtol: float, limit: int, shift: float = 0.0) -> tuple[Any, ...]:
    """Power iteration on H - shift: Rayleigh quotient (with its sign), residual, whether it settled, vector, products.

    Stops once the residual is at most rtol times the value of H, or `shift` where that is larger. A quotient that no
    longer changes says nothing: between eigenvalues of equal size and opposite sign it stands still anywhere.
    """
    vector = following = start / torch.linalg.vector_norm(start)
    quotient, residual, done, count = np.nan, np.nan, False, 0
    rounding = torch.finfo(start.dtype).eps
    while count < limit and not done:
        vector = following
        product = linear.one(vector) - shift * vector
        count += 1
        quotient = float(vector.double() @ product.double())
        residual = float(torch.linalg.vector_norm(product - quotient * vector))
        norm = float(torch.linalg.vector_norm(product))
        scale = max(abs(quotient + shift), abs(shift))
        done = bool(settled(residual, scale, rtol, rounding * max(norm, abs(shift))))
        if not norm > 0 or not np.isfinite(norm):
            return quotient + shift, residual, norm == 0, vector, count
        following = product / norm
    return quotient + shift, residual, done, vector, count


def _nothing(linear: LinearMap, start: Tensor, products: int) -> Ends:
    return Ends(np.nan, np.nan, np.nan, np.nan, False, products, start.new_zeros(2, linear.size))
