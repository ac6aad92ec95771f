"""Whatever can be multiplied with a vector, as one kind of thing that counts its products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from landscape import random
from landscape.errors import ShapeError

__all__ = [
    "LinearMap",
    "as_linear",
    "at_once",
    "gaussian_probes",
    "pieces",
    "settled",
    "sign_probes",
    "started_from",
    "uniform_probes",
]

_RANDOM_SHARE: Final = 0.5  # of a warm start: an eigenvalue that has overtaken is found in a few products more
_TOGETHER: Final = 2**20  # numbers: what stays in the caches of a processor; a graphics processor takes more


@dataclass(slots=True)
class LinearMap:
    """A symmetric matrix known by its products.

    Attributes
    ----------
    size : int
        Its order.
    dtype, device
        Of the vectors that it takes.
    products : int
        How many vectors have been multiplied.
    makes_new : bool
        Whether nobody else holds a product, so that it may be overwritten.
    """

    size: int
    dtype: torch.dtype
    device: torch.device
    multiply: Callable[[Tensor], Tensor]
    products: int = 0
    makes_new: bool = False

    def __call__(self, vectors: Tensor) -> Tensor:
        """Products with the rows of ``(k, size)``, of the same shape."""
        self.products += len(vectors)
        return self.multiply(vectors)

    def one(self, vector: Tensor) -> Tensor:
        """Product with one vector ``(size,)``."""
        return self(vector[None])[0]


def as_linear(operator: Any) -> LinearMap:
    """A matrix, sparse matrix, linear operator, or any object with `shape` and `@`.

    Raises
    ------
    ShapeError
        If it has no shape, is not square, or has entries that are not real numbers.

    Examples
    --------
    >>> as_linear(np.diag([1.0, 2.0])).one(torch.ones(2, dtype=torch.float64)).tolist()
    [1.0, 2.0]
    """
    shape = tuple(getattr(operator, "shape", ()))
    if len(shape) != 2 or shape[0] != shape[1] or not hasattr(operator, "__matmul__"):
        raise ShapeError(
            f"got {type(operator).__name__} of shape {shape or None}; expected a potential, or a square matrix or "
            "operator with `shape` and `@`"
        )
    if shape[0] == 0:
        raise ShapeError("the matrix has no rows")
    dtype = getattr(operator, "dtype", None)
    if isinstance(dtype, torch.dtype):
        if not dtype.is_floating_point:
            operator, dtype = operator.to(torch.float64), torch.float64
        device = torch.device(getattr(operator, "device", "cpu"))
        whole = isinstance(operator, Tensor) or getattr(operator, "takes_matrices", False)
        own = bool(getattr(operator, "makes_new", False))
        return LinearMap(int(shape[0]), dtype, device, _in_torch(operator, whole=whole), makes_new=own)
    if dtype is not None and np.dtype(dtype).kind not in "fiu":
        raise ShapeError(f"the matrix must hold real numbers, got dtype {dtype}")
    whole = isinstance(operator, np.ndarray | LinearOperator) or scipy.sparse.issparse(operator)
    return LinearMap(int(shape[0]), torch.float64, torch.device("cpu"), _in_numpy(operator, whole=whole))


def _in_torch(operator: Any, *, whole: bool) -> Callable[[Tensor], Tensor]:
    def multiply(vectors: Tensor) -> Tensor:
        if whole:
            product: Tensor = (operator @ vectors.T).T
            return product
        return torch.stack([operator @ vector for vector in vectors])

    return multiply


def _in_numpy(operator: Any, *, whole: bool) -> Callable[[Tensor], Tensor]:
    def multiply(vectors: Tensor) -> Tensor:
        rows = vectors.numpy()
        product = (operator @ rows.T).T if whole else np.stack([np.asarray(operator @ row) for row in rows])
        return torch.from_numpy(np.ascontiguousarray(product, dtype=np.float64))

    return multiply


def at_once(linear: LinearMap) -> int:
    """How many vectors to make, multiply and forget together: more would only take memory."""
    return max(1, (_TOGETHER if linear.device.type == "cpu" else 64 * _TOGETHER) // linear.size)


def pieces(linear: LinearMap, count: int, least: int = 1) -> Iterator[tuple[int, int]]:
    """First number and length of each piece of so many vectors, of at least so many vectors each.

    Examples
    --------
    >>> list(pieces(as_linear(np.eye(2)), 5))
    [(0, 5)]
    """
    step = max(at_once(linear), least)
    return ((first, min(step, count - first)) for first in range(0, count, step))


# -- probe vectors: pure functions of seed, purpose and number, the same on every device -------------------------------


def sign_probes(linear: LinearMap, count: int, seed: int, *, purpose: int = 0, first: int = 0) -> Tensor:
    """Vectors of random signs ``(count, size)``: a pure function of seed, purpose and number (`first` and up).

    One bit each, so that they cost little beside a product.

    Examples
    --------
    >>> linear = as_linear(np.eye(100))
    >>> bool((sign_probes(linear, 5, seed=3)[2:] == sign_probes(linear, 3, seed=3, first=2)).all())
    True
    """
    probes = torch.empty(count, linear.size, dtype=linear.dtype, device=linear.device)
    for row, number in zip(probes, range(first, first + count), strict=True):
        words = _words(seed, purpose, number, -(-linear.size // 64))
        bits = torch.from_numpy(np.unpackbits(words.view(np.uint8), count=linear.size, bitorder="little"))
        row.copy_(bits.view(torch.int8).mul_(-2).add_(1))
    return probes


def uniform_probes(linear: LinearMap, count: int, seed: int, *, purpose: int = 0, first: int = 0) -> Tensor:
    """Vectors of numbers spread evenly between -sqrt(3) and sqrt(3), as `sign_probes`.

    A start that is to have a part along every eigenvector cannot be made of signs, to which a vector like (1, -1, 0,
    0, ...) is orthogonal half of the time; 16 bits a number are enough.
    """
    probes = torch.empty(count, linear.size, dtype=linear.dtype, device=linear.device)
    for row, number in zip(probes, range(first, first + count), strict=True):
        whole = _words(seed, purpose, number, -(-linear.size // 4)).view("<i2")[: linear.size]
        row.copy_(torch.from_numpy(whole.astype(np.int16, copy=False))).add_(0.5).mul_(3.0**0.5 * 2.0**-15)
    return probes


def started_from(linear: LinearMap, known: Tensor, seed: int) -> Tensor | None:
    """A known vector and a random one of half its length; None where it is zero."""
    length = torch.linalg.vector_norm(known)
    if not bool(length > 0):
        return None
    random = uniform_probes(linear, 1, seed)[0]
    start: Tensor = known / length + _RANDOM_SHARE * random / torch.linalg.vector_norm(random)
    return start


def settled(residuals: Any, scale: Any, rtol: float, rounding: float = 0.0) -> Any:
    """Whether residuals |H v - theta v| are small: at most rtol times their `scale`, or rounding. NaN is not.

    The one test behind every `converged` that stands beside a residual: an eigenvalue lies as close as that to theta.

    Examples
    --------
    >>> settled(np.array([1e-4, 0.1, np.nan]), 5.0, 1e-3).tolist()
    [True, False, False]
    """
    return np.asarray(residuals) <= np.maximum(rtol * np.abs(scale), rounding)


def gaussian_probes(linear: LinearMap, count: int, seed: int, *, purpose: int = 0) -> Tensor:
    """Standard normal vectors ``(count, size)``, as `sign_probes`; a hundred times as expensive."""
    numbers = torch.arange(count, device=linear.device)
    normal = random.normals(seed, numbers, purpose, linear.size, precision="float64", stream=random.PROBES)
    return normal.to(linear.dtype)


def _words(seed: int, purpose: int, number: int, count: int) -> np.ndarray:
    """Random words of 64 bits, little-endian: Philox with the seed as key and the rest in its counter.

    That of NumPy, whose stream is promised never to change, makes the bits of a vector ten times as fast as torch.
    """
    philox = np.random.Philox(key=seed | random.PROBES << 64, counter=number << 128 | purpose << 192)
    return philox.random_raw(count).astype("<u8", copy=False)
