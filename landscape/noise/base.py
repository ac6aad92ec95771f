"""What a noise is: standard variates keyed by (seed, chain, step), and the displacement of a step made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from landscape import random
from landscape.codec import Described
from landscape.errors import ConfigError
from landscape.potentials.base import Potential
from landscape.random import Precision
from landscape.step_context import Memory, StepContext

__all__ = ["Noise", "check_precision", "standard_normals"]


class Noise(Described, ABC):
    """Random displacements of a step, apart from the integrator: the same path can be replayed at two step sizes.

    Attributes
    ----------
    memory_names : tuple of str
        Arrays like the position that the noise carries from step to step.
    variates : int
        Standard variates per coordinate and step.
    white : bool
        Whether the displacements of successive steps are independent, so that the path between steps is Brownian.
    per_chain : tuple of str
        Settings that may be one value or one per chain.
    samples_boltzmann : bool
        Whether it is that of a heat bath, of covariance 2 T dt along every coordinate: then a rule that samples the
        Boltzmann distribution does so with it.
    """

    memory_names: ClassVar[tuple[str, ...]] = ()
    variates: ClassVar[int] = 1
    white: ClassVar[bool] = True
    per_chain: ClassVar[tuple[str, ...]] = ()
    samples_boltzmann: ClassVar[bool] = False

    @abstractmethod
    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Variates of mean 0 and variance 1 of one step, ``(chains, variates * dim)``."""

    @abstractmethod
    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The displacement of a step, ``(chains, dim)``; `memory` is updated in place."""

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """Memory at the start of a run. ``normals()`` gives fresh standard normal variates ``(chains, dim)``."""
        return {name: torch.zeros_like(position) for name in self.memory_names}

    def check(self, potential: Potential) -> None:  # most noises fit every potential
        """Refuse a potential that this noise does not fit."""


def standard_normals(seed: int, chains: Tensor, step: int | Tensor, dim: int, precision: Precision) -> Tensor:
    """Standard normal variates ``(chains, dim)``, made where `chains` lives."""
    if chains.device.type != "cpu" or isinstance(step, Tensor):
        return random.normals(seed, chains, step, dim, precision=precision)
    from landscape.kernels.draws import draw_normals  # compiled: only where a run draws on the CPU

    return torch.from_numpy(draw_normals(seed, chains.numpy(), step, dim, precision))


def check_precision(precision: str) -> None:
    """Refuse an unknown resolution.

    Raises
    ------
    ConfigError
    """
    if precision not in ("float32", "float64"):
        raise ConfigError(f'precision must be "float32" or "float64", got {precision!r}')
