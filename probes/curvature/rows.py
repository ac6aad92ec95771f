"""Sums over vectors as long as a network has weights: short pieces in the vectors' own precision, added in float64.

A product with a curvature matrix costs as much as a few dozen passes over such a vector, so what is done between
products counts in passes: no copies in double precision, and Gram matrices instead of Householder's reflections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

__all__ = ["dot", "dots", "gram", "less", "orthonormal", "remove"]

_PIECE: Final = 2**17  # numbers of a piece of one sum: its rounding errors stay those of a short vector
_TILE: Final = 2**12  # columns of a piece of a Gram matrix, which fit into a cache for some dozen rows
_EVEN: Final = 100.0  # condition of a Gram matrix whose rows one round makes orthonormal to some hundred roundings
_SMALL: Final = 1e-24


def dot(first: Tensor, second: Tensor) -> float:
    """Scalar product of two vectors.

    Examples
    --------
    >>> dot(torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))
    6.0
    """
    if first.dtype == torch.float64 or first.device.type != "cpu":
        return float(_wide(first[None], second[None]) if first.dtype != torch.float64 else torch.dot(first, second))
    pieces = zip(first.split(_PIECE), second.split(_PIECE), strict=True)
    return sum(float(torch.dot(one, other)) for one, other in pieces)


def less(vector: Tensor, parts: Sequence[tuple[float, Tensor]], *, in_place: bool = False) -> tuple[Tensor, float]:
    """A vector less multiples of others, and the square of its length; piece by piece, in one pass.

    Examples
    --------
    >>> less(torch.tensor([3.0, 4.0]), [(1.0, torch.tensor([3.0, 0.0])), (2.0, torch.tensor([0.0, 1.0]))])
    (tensor([0., 2.]), 4.0)
    """
    rest = vector if in_place else vector.clone()
    step = _PIECE if vector.device.type == "cpu" else len(vector)
    square = 0.0
    others = [part.split(step) for _, part in parts]
    for number, own in enumerate(rest.split(step)):
        for (factor, _), pieces in zip(parts, others, strict=True):
            own.sub_(pieces[number], alpha=factor)
        square += dot(own, own)
    return rest, square


def dots(first: Tensor, second: Tensor) -> Tensor:
    """Scalar products of rows with rows of the same number, float64 ``(k,)`` on the CPU.

    Examples
    --------
    >>> dots(torch.eye(2), torch.tensor([[3.0, 0.0], [1.0, 4.0]])).tolist()
    [3.0, 4.0]
    """
    return torch.tensor([dot(one, other) for one, other in zip(first, second, strict=True)], dtype=torch.float64)


def gram(first: Tensor, second: Tensor) -> Tensor:
    """Scalar products of all rows ``(k, n)`` with all rows ``(m, n)``, float64 ``(k, m)`` on the device of the rows.

    Examples
    --------
    >>> gram(torch.eye(2), torch.tensor([[3.0, 5.0]])).tolist()
    [[3.0], [5.0]]
    """
    if first.dtype == torch.float64:
        return first @ second.T
    return _wide(first, second)


def _wide(first: Tensor, second: Tensor) -> Tensor:
    size = first.shape[1]
    whole = size // _TILE * _TILE
    total = first[:, whole:].double() @ second[:, whole:].double().T
    if whole:
        left = first[:, :whole].reshape(len(first), -1, _TILE).transpose(0, 1)
        right = second[:, :whole].reshape(len(second), -1, _TILE).permute(1, 2, 0)
        total = total + torch.bmm(left, right).sum(0, dtype=torch.float64)
    return total


def remove(vectors: Tensor, basis: Tensor, *, in_place: bool = False) -> Tensor:
    """Rows without their components along orthonormal rows; once more where little was left.

    Once suffices unless it cancels: what is left over along the basis is rounding of what was taken away (Kahan and
    Parlett's "twice is enough").

    Examples
    --------
    >>> remove(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])).tolist()
    [[0.0, 4.0]]
    """
    if not len(basis):
        return vectors
    inside = gram(vectors, basis)
    square = dots(vectors, vectors).to(inside.device)
    mixing = inside.to(vectors.dtype)
    left = vectors.addmm_(mixing, basis, alpha=-1.0) if in_place else torch.addmm(vectors, mixing, basis, alpha=-1.0)
    again = inside.square().sum(1) > 0.5 * square
    if bool(again.any()):
        rest = left[again]
        left[again] = torch.addmm(rest, gram(rest, basis).to(rest.dtype), basis, alpha=-1.0)
    return left


def orthonormal(rows: Tensor) -> Tensor:
    r"""Orthonormal rows that span the given ones, fewer where these depend on each other to rounding.

    With the Gram matrix G = V V^T = U L U^T the rows (L + s)^(-1/2) U^T V are orthonormal but for directions in which
    V is small. A shift s brings those up, and the next rounds do without it (Fukaya, Kannan, Nakatsukasa, Yamamoto,
    Yanagisawa 2020, shifted Cholesky QR). Rows that are not finite come back as they are.

    Examples
    --------
    >>> orthonormal(torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).abs().tolist()
    [[1.0, 0.0, 0.0]]
    """
    if not len(rows):
        return rows
    least = 10.0 * len(rows) * torch.finfo(rows.dtype).eps
    products = gram(rows, rows)
    if not _SMALL < float(products.diagonal().max()) < 1.0 / _SMALL:  # squares overflow or vanish
        scale = float(rows.abs().max())
        if not 0.0 < scale < float("inf"):
            return rows[:0] if scale == 0.0 else rows
        rows = rows / scale
        products = gram(rows, rows)
    values, vectors = torch.linalg.eigh(products)
    if float(values[-1]) > _EVEN * float(values[0]):
        values = values.clamp_min(0.0) + least * values[-1]
    for _ in range(3):
        rows = (vectors / values.sqrt()).T.to(rows.dtype) @ rows
        if float(values[-1]) <= _EVEN * float(values[0]):
            break
        values, vectors = torch.linalg.eigh(gram(rows, rows))
        kept = values > least * values[-1]
        values, vectors = values[kept], vectors[:, kept]
    return rows
