"""White Gaussian noise of a heat bath."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from landscape.errors import ConfigError
from landscape.noise.base import Noise, check_precision, standard_normals
from landscape.random import Precision
from landscape.step_context import Memory, StepContext

__all__ = ["ThermalNoise"]


@dataclass(frozen=True, slots=True)
class ThermalNoise(Noise):
    """White Gaussian noise of covariance 2 T dt per step, keyed by (seed, chain, step).

    Parameters
    ----------
    precision : {"float32", "float64"}
        Resolution of the variates, whatever the dtype of the state: one random word each and truncated at 6.76
        standard deviations, or two and truncated at 8.65.
    refinement : int
        Each increment is the sum of that many finer ones: ``dt`` with ``refinement=4`` rides the same Brownian path
        as ``dt/4`` with ``refinement=1``.

    Raises
    ------
    ConfigError
        If the precision is unknown, or the refinement not a positive integer.

    Examples
    --------
    >>> import torch
    >>> coarse, fine = ThermalNoise(refinement=2), ThermalNoise()
    >>> chains = torch.arange(3)
    >>> sum_of_fine = (fine.draw(1, chains, 6, 4) + fine.draw(1, chains, 7, 4)) / 2**0.5
    >>> torch.allclose(coarse.draw(1, chains, 3, 4), sum_of_fine)
    True
    """

    precision: Precision = "float32"
    refinement: int = 1

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if (
            isinstance(self.refinement, bool)
            or not isinstance(self.refinement, int | np.integer)
            or self.refinement < 1
        ):
            raise ConfigError(f"refinement must be a positive integer, got {self.refinement!r}")

    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Standard normal variates of one step, ``(chains, dim)``."""
        first = step * self.refinement
        total = standard_normals(seed, chains, first, dim, self.precision)
        for j in range(1, self.refinement):
            total = total + standard_normals(seed, chains, first + j, dim, self.precision)
        return total if self.refinement == 1 else total * (1.0 / self.refinement**0.5)

    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """sqrt(2 T dt) xi."""
        return at.amplitude * at.noise()
