"""Whatever can be multiplied with a vector, as one kind of thing that counts its products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from landscape import random
from landscape.errors import ShapeError

__all__ = ["LinearMap", "as_linear", "gaussian_probes", "sign_probes"]


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
    """

    size: int
    dtype: torch.dtype
    device: torch.device
    multiply: Callable[[Tensor], Tensor]
    products: int = 0

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
        return LinearMap(int(shape[0]), dtype, device, _in_torch(operator, whole=whole))
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


def gaussian_probes(linear: LinearMap, count: int, seed: int, *, purpose: int = 0) -> Tensor:
    """Standard normal vectors ``(count, size)``: a pure function of seed, purpose and number."""
    numbers = torch.arange(count, device=linear.device)
    normal = random.normals(seed, numbers, purpose, linear.size, precision="float64", stream=random.PROBES)
    return normal.to(linear.dtype)


def sign_probes(linear: LinearMap, count: int, seed: int, *, purpose: int = 0) -> Tensor:
    """Vectors of random signs ``(count, size)``: a pure function of seed, purpose and number."""
    return torch.where(gaussian_probes(linear, count, seed, purpose=purpose) < 0, -1.0, 1.0).to(linear.dtype)
