"""What a noise is: standard variates keyed by (seed, chain, step), and the displacement of a step made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape import random
from landscape.checks import one_of
from landscape.common.codec import Described
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.forms import CompiledNoise, Spread
from landscape.potentials.base import Potential
from landscape.random import Precision

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
    homogeneous : bool
        Whether the displacement is `amplitude` times a variate of its own along every coordinate, wherever that is.
    signs : bool
        Whether the variates are +1 or -1, else they are normal.
    additive : bool
        Whether its covariance is the same everywhere.
    capturable : bool
        Whether a step may be captured once and replayed on the device: its operations are always the same.
    precision, refinement, antithetic
        How variates are drawn, see `ThermalNoise`.
    samples_boltzmann : bool
        Whether it is that of a heat bath, of covariance 2 T dt along every coordinate: then a rule that samples the
        Boltzmann distribution does so with it.
    """

    memory_names: ClassVar[tuple[str, ...]] = ()
    variates: ClassVar[int] = 1
    white: ClassVar[bool] = True
    per_chain: ClassVar[tuple[str, ...]] = ()
    samples_boltzmann: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    signs: ClassVar[bool] = False
    additive: ClassVar[bool] = True
    capturable: ClassVar[bool] = False
    precision: Precision = "float32"
    refinement: int = 1
    antithetic: bool = False

    @property
    def normal(self) -> bool:
        """Whether the variates are normal."""
        return not self.signs

    @abstractmethod
    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Variates of mean 0 and variance 1 of one step, ``(chains, variates * dim)``."""

    @abstractmethod
    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The displacement of a step, ``(chains, dim)``; `memory` is updated in place."""

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """Memory at the start of a run. ``normals()`` gives fresh standard normal variates ``(chains, dim)``."""
        return {name: torch.zeros_like(position) for name in self.memory_names}

    def spread(self, potential: Potential, position: Tensor) -> Spread | None:
        """Covariance of the displacement at positions ``(n, dim)``; None where all are alike and independent."""
        return None

    def compiled_form(self, formula: Potential) -> CompiledNoise | str:
        """How the compiled loops make it of the variates of `draw`; text says why they do not."""
        return f"it does not have the noise {type(self).__name__}"

    def numbers(self, dt: Any, temperature: Any, settings: Mapping[str, Any]) -> list[NDArray[np.float64]]:
        """Of a noise with a memory, (a, b, c, d, e) per chain: m' = a m + d xi1 + e xi2, and the step b m + c xi1."""
        return []

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
    one_of("precision", precision, ("float32", "float64"))
