"""Several eigenpairs from products alone, in bounded memory: block Lanczos that restarts from what it has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from landscape.probes.curvature.linear import LinearMap, settled, uniform_probes
from landscape.probes.curvature.rows import gram, orthonormal, remove

__all__ = ["Pairs", "Which", "dense_pairs", "top_pairs"]

Which = Literal["largest", "smallest", "magnitude"]
Order = Callable[[np.ndarray], np.ndarray]

_FEWEST: Final = 5  # products before a residual is believed
_SPARE: Final = 10  # vectors beyond twice the wanted ones that a basis holds at least, and four times as many where
_MEMORY: Final = 2**20  # numbers hold them
_ROUNDINGS: Final = 10.0  # of the largest value: no residual is asked to be smaller
_NEAR: Final = 0.1  # of the distance to the wanted ones: a residual that shows that a value stays outside
_ORDERS: Final[dict[str, Order]] = {"largest": np.negative, "smallest": np.positive, "magnitude": lambda x: -np.abs(x)}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Eigenpairs in the order that was asked for.

    Attributes
    ----------
    values, residuals : array, shape ``(k,)``
        Rayleigh quotients of the unit vectors, and |H v - theta v| by an actual product. NaN where nothing was found.
    rounding : float
        Of a value.
    converged : array of bool, shape ``(k,)``
    vectors : tensor, shape ``(k, size)``
    """

    values: np.ndarray
    residuals: np.ndarray
    rounding: float
    converged: np.ndarray
    vectors: Tensor


def dense_pairs(matrix: Tensor, k: int, which: Which) -> Pairs:
    """Of a matrix that is written out."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    order = np.argsort(_ORDERS[which](values.cpu().numpy()), kind="stable")[:k]
    rows = vectors.T[torch.as_tensor(order.copy(), device=matrix.device)]
    own = values.cpu().numpy()[order]
    rest = rows @ matrix.T - torch.as_tensor(own).to(matrix)[:, None] * rows
    residuals = torch.linalg.vector_norm(rest, dim=1).cpu().double().numpy()
    rounding = torch.finfo(matrix.dtype).eps * float(values.abs().max())
    return Pairs(own, residuals, rounding, np.isfinite(own), rows)


def top_pairs(
    linear: LinearMap, k: int, which: Which, *, rtol: float, limit: int, start: Tensor | None, seed: int, block: int
) -> Pairs:
    """The first k eigenpairs of a symmetric matrix in an order.

    Lanczos finds one vector of an eigenvalue, however many there are. So once k pairs have converged they are set
    aside and a random vector without any part along them starts anew: only where it leads to none that should come
    before the k-th have the pairs converged. Values that come again are found that way, one for each vector of a
    block. At the end the vectors are multiplied once more: values and residuals are those of these products.

    Parameters
    ----------
    linear : LinearMap
    k : int
        Fewer than the order of the matrix.
    which : {"largest", "smallest", "magnitude"}
    rtol : float
        A pair has converged once its residual is at most rtol |theta|, or rounding.
    limit : int
        Most products.
    start : tensor, shape ``(size,)``, optional
        Close to a combination of the vectors.
    seed : int
        Of the random starts.
    block : int
        Vectors multiplied at once.

    References
    ----------
    Wu, Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix Anal. Appl.
    22, 602.
    """
    search = _Search(linear, k, which, rtol, limit - k, seed, block)
    certain = search.find(start)
    found = search.vectors(k)
    unknown = np.full(k, np.nan)
    if not len(found) or not bool(torch.isfinite(found).all()):
        return Pairs(unknown, unknown, np.nan, np.zeros(k, dtype=bool), linear_zeros(linear, k))
    return _verified(linear, found, k, which, rtol, certain, search.scale)


def linear_zeros(linear: LinearMap, k: int) -> Tensor:
    """So many vectors of zeros."""
    return torch.zeros(k, linear.size, dtype=linear.dtype, device=linear.device)


def _verified(
    linear: LinearMap, found: Tensor, k: int, which: Which, rtol: float, certain: bool, scale: float
) -> Pairs:
    """Rayleigh-Ritz within the span of what was found, by products with it."""
    found = orthonormal(found)
    images = linear(found)
    within = gram(found, images).cpu()
    values, mixing = np.linalg.eigh((within + within.T).numpy() / 2)
    order = np.argsort(_ORDERS[which](values), kind="stable")
    values, turn = values[order], torch.as_tensor(mixing[:, order].T.copy()).to(found)
    vectors, images = turn @ found, turn @ images
    rest = images - torch.as_tensor(values).to(found)[:, None] * vectors
    residuals = torch.linalg.vector_norm(rest, dim=1).cpu().double().numpy()
    rounding = torch.finfo(linear.dtype).eps * scale
    converged = settled(residuals, values, rtol, _ROUNDINGS * rounding) & certain
    missing = k - len(values)
    return Pairs(
        np.pad(values, (0, missing), constant_values=np.nan),
        np.pad(residuals, (0, missing), constant_values=np.nan),
        rounding,
        np.pad(converged, (0, missing)),
        torch.cat([vectors, linear_zeros(linear, missing)]) if missing else vectors,
    )


class _Search:
    """Pairs that were set aside, and a Krylov space without them."""

    def __init__(self, linear: LinearMap, k: int, which: Which, rtol: float, limit: int, seed: int, block: int) -> None:
        self.linear, self.k, self.rtol, self.limit, self.seed, self.block = linear, k, rtol, limit, seed, block
        self.order = _ORDERS[which]
        self.aside = linear_zeros(linear, 0)
        self.values = np.zeros(0)
        self.scale = 0.0
        self.spare = min(max(_SPARE, _MEMORY // linear.size), 4 * _SPARE)
        self._random = 0

    def find(self, start: Tensor | None) -> bool:
        """Whether k pairs have converged, and none is missing among them."""
        first = self._fresh(self.block, self.aside) if start is None else self._beside(start)
        wanted = self.k
        while True:
            values, vectors, done = self._run(first, wanted)
            self.aside = torch.cat([self.aside, vectors])
            self.values = np.concatenate([self.values, values])
            if not done:
                return False
            if not len(values) or len(self.values) == self.linear.size:
                return len(self.values) >= self.k
            wanted = max(1, self.k - len(self.values))
            first = self._fresh(self.block, self.aside)

    def vectors(self, k: int) -> Tensor:
        """The first k of what was found."""
        order = np.argsort(self.order(self.values), kind="stable")[:k]
        return self.aside[torch.as_tensor(order.copy(), device=self.aside.device)]

    def _worst(self) -> float:
        """Order of the k-th value that is known; whatever comes before it has been missed."""
        known = np.sort(self.order(self.values))
        return float(known[self.k - 1]) if len(known) >= self.k else np.inf

    def _tolerance(self, values: np.ndarray) -> np.ndarray:
        rounding = _ROUNDINGS * torch.finfo(self.linear.dtype).eps * self.scale
        return np.asarray(np.maximum(0.5 * self.rtol * np.abs(values), rounding))

    # -- one Krylov space ----------------------------------------------------------------------------------------------

    def _run(self, first: Tensor, wanted: int) -> tuple[np.ndarray, Tensor, bool]:
        """Values and vectors that belong among the first k, and whether all there are have converged."""
        most = min(2 * self.k + self.spare + self.block, self.linear.size - len(self.aside))
        basis, nexts = first[:0], first[:most]
        within, leading = np.zeros((0, 0)), np.zeros((0, len(nexts)))
        spent = 0
        while True:
            images = self.linear(nexts)
            spent += len(nexts)
            basis = torch.cat([basis, nexts])
            shares = gram(basis, images).cpu().numpy()
            own = shares[-len(nexts) :]
            within = np.block([[within, leading], [leading.T, (own + own.T) / 2]])
            if not np.isfinite(within).all():
                return np.zeros(0), basis[:0], False
            values, mixing = np.linalg.eigh(within)
            self.scale = max(self.scale, float(np.abs(values).max()))
            rest = remove(remove(images, self.aside), basis)
            following, step = self._followed(rest, basis)
            leading = np.concatenate([np.zeros((len(basis) - len(nexts), len(following))), step])
            order = np.argsort(self.order(values), kind="stable")
            values, mixing = values[order], mixing[:, order]
            residuals = np.linalg.norm(mixing.T @ leading, axis=1)
            full = len(basis) + len(self.aside) == self.linear.size
            inside, done = self._settled(values, residuals, wanted, enough=spent >= _FEWEST or full)
            if done or full or self.linear.products + self.block > self.limit:
                keep = np.flatnonzero(inside)
                return values[keep], self._mixed(mixing[:, keep], basis), bool(done or full)
            if len(basis) + max(len(following), 1) > most:
                kept = min(wanted + max(self.block, (most - wanted) // 2), len(basis) - 1, most - self.block)
                basis = self._mixed(mixing[:, :kept], basis)
                within, leading = np.diag(values[:kept]), mixing[:, :kept].T @ leading
            if not len(following):  # an invariant subspace: what there is beside it is found from a new vector only
                following = self._fresh(min(self.block, most - len(basis)) or 1, torch.cat([self.aside, basis]))
                leading = np.zeros((len(basis), len(following)))
            nexts = following

    def _settled(
        self, values: np.ndarray, residuals: np.ndarray, wanted: int, *, enough: bool
    ) -> tuple[np.ndarray, bool]:
        """Which of the values belong among the first k, and whether it is clear that there are no others here."""
        limit, tolerance = self._worst(), self._tolerance(values)
        if not np.isfinite(limit):  # not k of them yet
            inside = np.arange(len(values)) < wanted
            return inside, enough and len(values) >= wanted and bool((residuals <= tolerance)[inside].all())
        # as good as the k-th to within rounding is no better than it
        ahead = limit - self.order(values)
        inside = ahead > tolerance
        if inside[0]:
            return inside & (residuals <= tolerance), enough and bool((residuals <= tolerance)[inside].all())
        return inside, enough and bool(residuals[0] <= max(tolerance[0], _NEAR * -ahead[0]))

    def _followed(self, rest: Tensor, basis: Tensor) -> tuple[Tensor, np.ndarray]:
        """Orthonormal rows that span what is left of a block of products, and the coefficients ``(rows, new)``."""
        products = gram(rest, rest)
        values, vectors = torch.linalg.eigh(products)
        least = _ROUNDINGS * torch.finfo(rest.dtype).eps * self.scale * max(1.0, self.linear.size**0.5 / 10)
        kept = values.clamp_min(0.0).sqrt() > max(least, 1e-300)
        if not bool(kept.any()):
            return rest[:0], np.zeros((len(rest), 0))
        rows = (vectors[:, kept] / values[kept].sqrt()).T.to(rest.dtype) @ rest
        rows = orthonormal(remove(remove(rows, self.aside), basis))
        return rows, gram(rest, rows).cpu().numpy()

    def _mixed(self, mixing: np.ndarray, basis: Tensor) -> Tensor:
        return torch.as_tensor(mixing.T.copy()).to(basis) @ basis

    def _fresh(self, count: int, beside: Tensor) -> Tensor:
        """Random orthonormal rows without a part along others; none where these fill the space."""
        count = min(count, self.linear.size - len(beside))
        rows = uniform_probes(self.linear, count, self.seed, first=self._random)
        self._random += count
        return orthonormal(remove(remove(rows, beside), beside)) if count else rows

    def _beside(self, start: Tensor) -> Tensor:
        rows = torch.cat([start[None], uniform_probes(self.linear, self.block - 1, self.seed, first=1)])
        self._random = self.block
        return orthonormal(rows)
