"""Matrices known by their products: sums, multiples, products and blocks of them, without an entry being computed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any, Final

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from landscape.checks import finite_number
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.network.modes import plain_modes
from landscape.probes.curvature.linear import as_linear

__all__ = ["Operator"]

_DENSE_BYTES: Final = 2**30  # largest matrix that is written out
_TOGETHER: Final = 2**24  # numbers in columns that are multiplied at once


class Operator(ABC):
    """A real matrix known by its products with vectors.

    ``A + B``, ``A - B``, ``2 * A``, ``A / 2``, ``A.shifted(0.1)``, ``A @ B``, ``A.T`` and ``A[:10, :10]`` are operators
    again, and B may be any matrix or object with `shape` and `@`. ``A @ x`` is a product with a vector or with the
    columns of a matrix, a few at once. Whatever estimates something of a matrix takes them.

    Attributes
    ----------
    shape : (int, int)
    dtype : torch.dtype
    device : torch.device
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    takes_matrices = True
    __array_ufunc__ = None  # numpy's numbers and arrays leave the arithmetic to this class

    @abstractmethod
    def _multiply(self, rows: Tensor) -> Tensor:
        """Products with the rows of ``(k, size)``."""

    @property
    def T(self) -> Operator:  # noqa: N802  # as of arrays
        """The transpose; a symmetric matrix is its own."""
        return self

    # -- products ------------------------------------------------------------------------------------------------------

    @plain_modes()
    def __matmul__(self, other: Any) -> Any:
        """Product with a vector ``(size,)`` or the columns of ``(size, k)``: a tensor for a tensor, else an array.

        With another operator, an operator.
        """
        if isinstance(other, Operator | LinearOperator) or _is_sparse(other):
            return Product(self, _operator(other, self))
        given = isinstance(other, Tensor)
        columns = other if given else torch.from_numpy(np.array(other, dtype=np.float64))
        if columns.ndim not in (1, 2) or len(columns) != self.shape[1]:
            raise ShapeError(
                f"with a matrix of shape {self.shape}: expected ({self.shape[1]},) or ({self.shape[1]}, k), "
                f"got {tuple(columns.shape)}"
            )
        if columns.is_complex():
            raise ShapeError(f"the matrix is real, got vectors of dtype {columns.dtype}")
        rows = columns.to(self.device, self.dtype)
        product = self._multiply(rows[None])[0] if columns.ndim == 1 else self._in_pieces(rows.T).T
        return product if given else product.cpu().numpy()

    def __rmatmul__(self, other: Any) -> Any:
        """Product with a row ``(size,)`` or rows ``(k, size)`` from the left."""
        if _is_sparse(other) or isinstance(other, LinearOperator):
            return Product(_operator(other, self), self)
        given = np.asarray(other)
        return (self.T @ given.T).T

    @plain_modes()
    def _in_pieces(self, rows: Tensor) -> Tensor:
        step = max(1, _TOGETHER // max(self.shape))
        if len(rows) <= step:
            return self._multiply(rows)
        product = rows.new_empty(len(rows), self.shape[0])
        for part, into in zip(rows.split(step), product.split(step), strict=True):
            into.copy_(self._multiply(part))
        return product

    # -- arithmetic ----------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Operator:
        """Sum with a matrix or operator of the same shape."""
        return Sum(self, _operator(other, self), 1.0, 1.0)

    def __radd__(self, other: Any) -> Operator:
        """Sum with a matrix on the left."""
        return Sum(_operator(other, self), self, 1.0, 1.0)

    def __sub__(self, other: Any) -> Operator:
        """Difference from a matrix or operator of the same shape."""
        return Sum(self, _operator(other, self), 1.0, -1.0)

    def __rsub__(self, other: Any) -> Operator:
        """Difference from a matrix on the left."""
        return Sum(_operator(other, self), self, 1.0, -1.0)

    def __mul__(self, factor: Any) -> Operator:
        """Multiple by a number."""
        return Affine(self, finite_number("factor", factor), 0.0)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Operator:
        """Fraction by a number other than 0."""
        number = finite_number("divisor", divisor)
        if number == 0.0:
            raise ConfigError("an operator cannot be divided by 0")
        return Affine(self, 1.0 / number, 0.0)

    def __neg__(self) -> Operator:
        """The negative."""
        return Affine(self, -1.0, 0.0)

    def shifted(self, by: float) -> Operator:
        """The matrix plus `by` times the identity."""
        if self.shape[0] != self.shape[1]:
            raise ShapeError(f"only a square matrix can be shifted, this one has shape {self.shape}")
        return Affine(self, 1.0, finite_number("by", by))

    def __getitem__(self, index: Any) -> Operator:
        """The block of two slices, ``A[first:last, first:last]``."""
        pair = index if isinstance(index, tuple) else (index,)
        if len(pair) != 2 or not all(isinstance(one, slice) for one in pair):
            raise ShapeError(
                "a block of an operator is taken by two slices, such as A[:10, :10]; its entries are not known"
            )
        rows, columns = (range(*one.indices(size)) for one, size in zip(pair, self.shape, strict=True))
        if not len(rows) or not len(columns):
            raise ShapeError(f"the block {pair} of a matrix of shape {self.shape} is empty")
        return Block(self, rows, columns)

    # -- as other things -----------------------------------------------------------------------------------------------

    def to_scipy(self) -> LinearOperator:
        """The same operator for `scipy.sparse.linalg`, in float64 on the CPU."""
        return LinearOperator(
            self.shape,
            matvec=lambda x: _columns(self, x),
            rmatvec=lambda x: _columns(self.T, x),
            matmat=lambda x: _columns(self, x),
            rmatmat=lambda x: _columns(self.T, x),
            dtype=np.float64,
        )

    def to_dense(self) -> Tensor:
        """All entries, by one product for each column.

        Raises
        ------
        ConfigError
            If they would take more than 1 GiB.
        """
        held = math.prod(self.shape) * self.dtype.itemsize
        if held > _DENSE_BYTES:
            raise ConfigError(
                f"the entries of a matrix of shape {self.shape} would take {held / 2**30:.3g} GiB: use its products, "
                "or a block of it"
            )
        return self._in_pieces(torch.eye(self.shape[1], dtype=self.dtype, device=self.device)).T


def _columns(operator: Operator, given: Any) -> np.ndarray:
    vectors = np.asarray(given)
    flat = vectors.reshape(-1) if vectors.ndim == 2 and vectors.shape[1] == 1 else vectors
    found = np.asarray(operator @ flat, dtype=np.float64)
    return found.reshape(-1, 1) if flat.ndim < vectors.ndim else found


def _is_sparse(thing: Any) -> bool:
    return bool(scipy.sparse.issparse(thing))


def _operator(thing: Any, beside: Operator) -> Operator:
    """Any matrix as an operator."""
    if isinstance(thing, Operator):
        return thing
    if isinstance(thing, Real) or (hasattr(thing, "ndim") and thing.ndim == 0):
        raise ConfigError("a number is no matrix: a multiple of the identity is added by `shifted`")
    return Given(thing, beside)


def _alike(first: Operator, second: Operator) -> None:
    if first.dtype != second.dtype or first.device != second.device:
        raise ConfigError(
            f"the operators are of {first.dtype} on {first.device} and of {second.dtype} on {second.device}: make both "
            "with the same dtype, on one device"
        )


class Given(Operator):
    """A square matrix of someone else's, at the precision and on the device of the operator beside it."""

    def __init__(self, thing: Any, beside: Operator) -> None:
        linear = as_linear(thing)
        self.shape, self.dtype, self.device = (linear.size, linear.size), beside.dtype, beside.device
        self._linear, self._thing = linear, thing

    def _multiply(self, rows: Tensor) -> Tensor:
        return self._linear(rows.to(self._linear.device, self._linear.dtype)).to(self.device, self.dtype)

    @property
    def T(self) -> Operator:  # noqa: N802
        return Given(self._thing.T, self) if hasattr(self._thing, "T") else self


class Sum(Operator):
    """a A + b B."""

    def __init__(self, first: Operator, second: Operator, a: float, b: float) -> None:
        if first.shape != second.shape:
            raise ShapeError(f"matrices of shapes {first.shape} and {second.shape} have no sum")
        _alike(first, second)
        self.shape, self.dtype, self.device = first.shape, first.dtype, first.device
        self._first, self._second, self._a, self._b = first, second, a, b

    def _multiply(self, rows: Tensor) -> Tensor:
        return self._a * self._first._multiply(rows) + self._b * self._second._multiply(rows)

    @property
    def T(self) -> Operator:  # noqa: N802
        return Sum(self._first.T, self._second.T, self._a, self._b)


class Affine(Operator):
    """a A + s I."""

    def __init__(self, operator: Operator, a: float, s: float) -> None:
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device
        self._operator, self._a, self._s = operator, a, s

    def _multiply(self, rows: Tensor) -> Tensor:
        product = self._a * self._operator._multiply(rows)
        return product.add_(rows, alpha=self._s) if self._s else product

    @property
    def T(self) -> Operator:  # noqa: N802
        return Affine(self._operator.T, self._a, self._s)


class Product(Operator):
    """A B."""

    def __init__(self, first: Operator, second: Operator) -> None:
        if first.shape[1] != second.shape[0]:
            raise ShapeError(f"matrices of shapes {first.shape} and {second.shape} have no product")
        _alike(first, second)
        self.shape, self.dtype, self.device = (first.shape[0], second.shape[1]), first.dtype, first.device
        self._first, self._second = first, second

    def _multiply(self, rows: Tensor) -> Tensor:
        return self._first._multiply(self._second._multiply(rows))

    @property
    def T(self) -> Operator:  # noqa: N802
        return Product(self._second.T, self._first.T)


class Block(Operator):
    """Some rows and columns of A, by products with all of A."""

    def __init__(self, operator: Operator, rows: range, columns: range) -> None:
        self.shape, self.dtype, self.device = (len(rows), len(columns)), operator.dtype, operator.device
        self._operator, self._rows, self._columns = operator, rows, columns

    def _multiply(self, rows: Tensor) -> Tensor:
        whole = rows.new_zeros(len(rows), self._operator.shape[1])
        whole[:, torch.tensor(self._columns, device=rows.device)] = rows
        found: Tensor = self._operator._multiply(whole)[:, torch.tensor(self._rows, device=rows.device)]
        return found

    @property
    def T(self) -> Operator:  # noqa: N802
        return Block(self._operator.T, self._columns, self._rows)
