"""White Gaussian noise of a heat bath."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape.checks import true_or_false, whole_number
from landscape.common.arguments import guarded_class
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.base import Noise, check_precision, standard_normals
from landscape.noise.forms import CompiledNoise
from landscape.potentials.base import Potential
from landscape.random import Precision

__all__ = ["ThermalNoise"]


@guarded_class
@dataclass(frozen=True, slots=True)
class ThermalNoise(Noise):
    """White Gaussian noise of covariance 2 T dt per step, keyed by (seed, chain, step).

    Parameters
    ----------
    precision : {"float32", "float64"}
        Resolution of the variates, whatever the dtype of the state: one random word each and truncated at 6.76
        standard deviations, or two and truncated at 8.65.
    refinement : int
        Number of Brownian substeps: each increment is the sum of that many finer ones. ``dt`` with ``refinement=4``
        rides the same Brownian path as ``dt/4`` with ``refinement=1``.
    antithetic : bool
        Chains 2j and 2j + 1 get opposite variates, those of chain j without pairs. Where the two start alike, all that
        is odd in the noise cancels in their mean: it is as right as that of two independent chains and scatters far
        less wherever a drift is small beside the diffusion. The run then has a coordinate ``pair (chain)``, and an
        error bar is one over pairs, not over chains.

    Raises
    ------
    ConfigError
        If the precision is unknown, the refinement not a positive integer, or `antithetic` not a bool.

    References
    ----------
    Hammersley, Morton, "A new Monte Carlo technique: antithetic variates", Math. Proc. Camb. Phil. Soc. 52, 449 (1956).

    Examples
    --------
    >>> import torch
    >>> coarse, fine = ThermalNoise(refinement=2), ThermalNoise()
    >>> chains = torch.arange(3)
    >>> sum_of_fine = (fine.draw(1, chains, 6, 4) + fine.draw(1, chains, 7, 4)) / 2**0.5
    >>> torch.allclose(coarse.draw(1, chains, 3, 4), sum_of_fine)
    True

    A drift of 1e-3 under a diffusion a thousand times as large:

    >>> import landscape as ls
    >>> slope = ls.potentials.Expression("-0.001*x", ["x"])
    >>> rule = ls.EulerMaruyama(dt=0.1, noise=ThermalNoise(antithetic=True))
    >>> run = ls.simulate(slope, rule, temperature=1.0, chains=4, steps=10, record=ls.Record(10))
    >>> run.position[:, -1, 0].groupby("pair").mean().values.round(9)  # time is 1
    array([0.001, 0.001])
    """

    precision: Precision = "float32"
    refinement: int = 1
    antithetic: bool = False

    samples_boltzmann: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_precision(self.precision)
        whole_number("refinement", self.refinement)
        true_or_false("antithetic", self.antithetic)

    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Standard normal variates of one step, ``(chains, dim)``."""
        first = step * self.refinement
        keys = chains >> 1 if self.antithetic else chains
        total = standard_normals(seed, keys, first, dim, self.precision)
        for j in range(1, self.refinement):
            total = total + standard_normals(seed, keys, first + j, dim, self.precision)
        if self.refinement > 1:
            total = total * (1.0 / self.refinement**0.5)
        return total * (1 - 2 * (chains & 1)).to(total.dtype)[:, None] if self.antithetic else total

    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """sqrt(2 T dt) xi."""
        return at.amplitude * at.noise()

    def compiled_form(self, formula: Potential) -> CompiledNoise | str:
        """The variates as they are."""
        return CompiledNoise()
