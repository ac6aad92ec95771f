"""Noise of two values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape import random
from landscape.common.arguments import guarded_class
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.base import Noise
from landscape.noise.forms import CompiledNoise
from landscape.potentials.base import Potential

__all__ = ["TwoPointNoise"]


@guarded_class
@dataclass(frozen=True, slots=True)
class TwoPointNoise(Noise):
    """Increments sqrt(2 T dt) xi with xi = +1 or -1, each with probability 1/2.

    The first three moments of xi are those of a normal variate, so that averages stay right to weak order 1 (the
    stationary distribution too), at one random bit a variate. Paths are those of a random walk: no strong order.

    References
    ----------
    Kloeden, Platen, Numerical Solution of Stochastic Differential Equations (1992), section 14.1.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> rule = ls.EulerMaruyama(dt=0.5, noise=ls.TwoPointNoise())
    >>> run = ls.simulate(flat, rule, temperature=1.0, chains=100, steps=1)  # sqrt(2 T dt) = 1
    >>> sorted(set(run.last_position.values.ravel()))
    [np.float64(-1.0), np.float64(1.0)]
    """

    samples_boltzmann: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    signs: ClassVar[bool] = True

    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Signs of one step, ``(chains, dim)``."""
        return random.signs(seed, chains, step, dim)

    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """sqrt(2 T dt) xi."""
        return at.amplitude * at.noise()

    def compiled_form(self, formula: Potential) -> CompiledNoise | str:
        """The variates as they are."""
        return CompiledNoise()
