"""Diagonals of matrices known by their products: all of it, or from random signs with an error for every entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from landscape.probes.curvature.linear import LinearMap, sign_probes, uniform_probes
from landscape.statistics import student_factor

__all__ = ["Diagonal", "diagonal_of_products", "sign_diagonal"]

VECTOR_BYTES: Final = 2**26  # vectors multiplied at once
_ROUNDINGS: Final = 10.0  # of the size of a term: the least error that is claimed
_WATCHED: Final = 201  # purpose of random vectors apart from those of the probes


@dataclass(frozen=True, slots=True)
class Diagonal:
    """A diagonal ``(size,)`` in float64, and its errors, widened so that +- 1.96 of them is a 95 % interval."""

    value: Tensor
    stderr: Tensor


def diagonal_of_products(linear: LinearMap) -> Diagonal:
    """All entries, from a product with every axis, after three with random vectors that symmetry shows with.

    Examples
    --------
    >>> import numpy as np
    >>> from landscape.probes.curvature.linear import as_linear
    >>> diagonal_of_products(as_linear(np.array([[1.0, 2.0], [2.0, -3.0]]))).value.tolist()
    [1.0, -3.0]
    """
    linear(uniform_probes(linear, 3, 0, purpose=_WATCHED))
    value = torch.empty(linear.size, dtype=torch.float64, device=linear.device)
    at_once = _at_once(linear)
    for start in range(0, linear.size, at_once):
        stop = min(start + at_once, linear.size)
        axes = torch.zeros(stop - start, linear.size, dtype=linear.dtype, device=linear.device)
        axes[:, start:stop].fill_diagonal_(1.0)
        value[start:stop] = linear(axes)[:, start:stop].diagonal().double()
    return Diagonal(value, torch.zeros_like(value))


def sign_diagonal(linear: LinearMap, probes: int, seed: int) -> Diagonal:
    r"""H_jj ~ sum_i z_ij (H z_i)_j / sum_i z_ij^2 = (1/m) sum_i z_ij (H z_i)_j with random signs z_ij.

    Unbiased; its variance is (1/m) sum_{k != j} H_jk^2, and the scatter of the m terms is the error of each entry.
    (Bekas, Kokiopoulou, Saad 2007, eq. 2.)

    Examples
    --------
    >>> import numpy as np
    >>> from landscape.probes.curvature.linear import as_linear
    >>> sign_diagonal(as_linear(np.diag([1.0, 2.0, 4.0])), 5, seed=0).value.tolist()  # exact for a diagonal
    [1.0, 2.0, 4.0]
    """
    first, total, squares = (torch.zeros(linear.size, dtype=torch.float64, device=linear.device) for _ in range(3))
    at_once = _at_once(linear)
    for number in range(0, probes, at_once):
        z = sign_probes(linear, min(at_once, probes - number), seed, first=number)
        products = linear(z)
        terms = (z * products).double()
        if number == 0:
            first.copy_(terms[0])
        # differences from one of the terms: the scatter of equal terms is exactly zero
        terms -= first
        total += terms.sum(0)
        squares += terms.square().sum(0)
    mean = total / probes
    variance = (squares / probes - mean.square()).clamp_min(0.0) / (probes - 1)
    spread = variance.sqrt() * float(student_factor(probes - 1.0))
    rounding = _ROUNDINGS * torch.finfo(linear.dtype).eps * (first.abs() + variance.sqrt())
    return Diagonal(first + mean, torch.hypot(spread, rounding))


def _at_once(linear: LinearMap) -> int:
    return max(2, VECTOR_BYTES // (8 * linear.size))
