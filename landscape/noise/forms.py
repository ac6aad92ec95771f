"""What is known of a noise without drawing it: its covariance at a position, and how the compiled loops make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.common.capabilities import speaks_for

__all__ = ["CompiledNoise", "Spread", "form_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Covariance C of the noise of a step, in units of its amplitude squared, at some positions.

    Attributes
    ----------
    covariance : tensor
        Its diagonal ``(n, dim)`` where coordinates are independent, else ``(n, dim, dim)``, or ``(dim, dim)`` where it
        is the same everywhere.
    root : callable
        L with L L^T = C, of that shape; None for a diagonal.
    """

    covariance: Tensor
    root: Callable[[], Tensor] | None = None

    def along(self, d: int) -> Tensor:
        """Variance of one coordinate, ``(n,)`` or a number."""
        return self.covariance[:, d] if self.root is None else self.covariance[..., d, d].clamp_min(0.0)

    def times(self, vector: Tensor) -> Tensor:
        """C v of vectors ``(n, dim)``."""
        matrix = self.covariance.to(vector)
        return vector * matrix if self.root is None else _products(matrix, vector)

    def shake(self, variates: Tensor, amplitude: Tensor) -> Tensor:
        """amplitude L xi of standard variates ``(n, dim)`` and amplitudes ``(n, 1)``."""
        if self.root is None:
            return amplitude * self.covariance.to(variates).sqrt() * variates
        return amplitude * _products(self.root().to(variates), variates)


def _products(matrix: Tensor, vector: Tensor) -> Tensor:
    return vector @ matrix.mT if matrix.ndim == 2 else torch.einsum("nij,nj->ni", matrix, vector)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledNoise:
    """How the compiled loops make the noise of a step of standard variates: by factors, or by a matrix.

    Attributes
    ----------
    factors : mapping of int to expression
        Factor on the variate of each coordinate that has one, a formula of the position.
    others : float
        Factor on those of the other coordinates, where some have their own.
    matrix : array ``(dim, dim)``, optional
        Constant matrix on the variates.
    """

    factors: Mapping[int, Any] = field(default_factory=dict)
    others: float = 1.0
    matrix: NDArray[np.float64] | None = None

    @property
    def plain(self) -> bool:
        """Whether it leaves the variates as they are."""
        return not self.factors and self.matrix is None


def form_of(noise: Any, formula: Any) -> CompiledNoise | str:
    """How the compiled loops make a noise, or why they do not; not one that changes what its class tells."""
    if not speaks_for(noise, "compiled_form", "draw", "increment"):
        return f"it does not have the noise {type(noise).__name__}"
    form: CompiledNoise | str = noise.compiled_form(formula)
    return form
