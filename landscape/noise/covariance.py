"""White noise whose coordinates are correlated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.positions import unmasked
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.base import Noise, check_precision, standard_normals
from landscape.noise.forms import CompiledNoise, Spread
from landscape.potentials.base import Potential
from landscape.random import Precision

__all__ = ["CovarianceNoise"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class CovarianceNoise(Noise):
    """White Gaussian noise of covariance 2 T dt C per step.

    dx = -grad V dt + sqrt(2 T) L dW with L L^T = C; the increment of a step is sqrt(2 T dt) L xi.

    Parameters
    ----------
    matrix : array ``(dim, dim)``
        C, symmetric and positive semidefinite, without unit.
    precision : {"float32", "float64"}
        Resolution of the variates.

    Raises
    ------
    ConfigError, ShapeError
        If C is not such a matrix, or does not fit the potential.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x + 0*y", ["x", "y"])
    >>> rule = ls.Diffusion(dt=0.5, noise=ls.CovarianceNoise([[1.0, 1.0], [1.0, 1.0]]))
    >>> run = ls.simulate(flat, rule, temperature=1.0, chains=10, steps=3)
    >>> bool((run.position[..., 0] == run.position[..., 1]).all())
    True
    """

    matrix: Any
    precision: Precision = "float32"

    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_precision(self.precision)
        try:
            matrix = np.array(unmasked(self.matrix, np.float64))
        except (TypeError, ValueError):
            raise ConfigError(f"the covariance must be a matrix of numbers, got {self.matrix!r}") from None
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(f"the covariance must be a square matrix, got shape {matrix.shape}")
        if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
            raise ConfigError("the covariance must be finite and symmetric")
        values = np.linalg.eigvalsh(matrix)
        if values[0] < -1e-12 * max(values[-1], 1e-300):
            raise ConfigError(f"the covariance must be positive semidefinite, its lowest eigenvalue is {values[0]:g}")
        object.__setattr__(self, "matrix", matrix)

    def __repr__(self) -> str:
        return f"CovarianceNoise(matrix={self.matrix.tolist()}, precision={self.precision!r})"

    @property
    def samples_boltzmann(self) -> bool:  # type: ignore[override]
        """Only where C is the unit matrix."""
        return bool(np.array_equal(self.matrix, np.eye(len(self.matrix))))

    @property
    def root(self) -> NDArray[np.float64]:
        """The symmetric L with L L = C."""
        values, vectors = np.linalg.eigh(self.matrix)
        root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T
        return root

    def check(self, potential: Potential) -> None:
        """Refuse a potential of another dimension."""
        if potential.dim != len(self.matrix):
            raise ShapeError(f"the covariance is {self.matrix.shape}, the potential has {potential.dim} coordinates")

    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Standard normal variates of one step, ``(chains, dim)``."""
        return standard_normals(seed, chains, step, dim, self.precision)

    def spread(self, potential: Potential, position: Tensor) -> Spread:
        """C."""
        device = position.device
        return Spread(torch.as_tensor(self.matrix, device=device), lambda: torch.as_tensor(self.root, device=device).mT)

    def compiled_form(self, formula: Potential) -> CompiledNoise | str:
        """L on the variates."""
        return CompiledNoise(matrix=self.root)

    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """sqrt(2 T dt) L xi."""
        if "covariance root" not in at.cache:
            at.cache["covariance root"] = torch.as_tensor(self.root).to(position)
        root: Tensor = at.cache["covariance root"]
        return at.amplitude * (at.noise() @ root)
