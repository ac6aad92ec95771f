"""What the driver knows of a backend: it advances a state by a number of steps, and can record on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.constraints import Walls
from landscape.integrators.base import Integrator, Memory
from landscape.potentials.base import Potential

__all__ = ["Engine", "Plan", "State"]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run with every setting resolved: one value per chain, walls per coordinate.

    Attributes
    ----------
    temperature, step_size : arrays of float64, shape ``(chains,)``
    data_seeds : tuple of (step, seeds or None)
        From which step on the minibatches are derived from which seeds, one per chain.
    """

    potential: Potential
    integrator: Integrator
    walls: Walls
    temperature: NDArray[np.float64]
    step_size: NDArray[np.float64]
    seed: int
    data_seeds: tuple[tuple[int, tuple[int, ...] | None], ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def chains(self) -> int:
        """Number of chains."""
        return len(self.temperature)

    @property
    def amplitude(self) -> NDArray[np.float64]:
        """Standard deviation sqrt(2 T dt) of a step's noise, zero for integrators without thermal noise."""
        scale = 1.0 if self.integrator.thermal else 0.0
        return scale * np.sqrt(2.0 * self.temperature * self.step_size)

    def keys_at(self, step: int) -> Any:
        """What the minibatches of a step are derived from."""
        seeds = [seeds for start, seeds in self.data_seeds if start <= step][-1]
        return self.potential.batch_keys(self.chains, self.seed, seeds)

    def next_change(self, step: int) -> int | None:
        """First later step at which the data seeds change."""
        return min((start for start, _ in self.data_seeds if start > step), default=None)


@dataclass(slots=True, eq=False)
class State:
    """Where the chains are: position and memory ``(chains, dim)``, and how many steps they have made."""

    position: Tensor
    memory: Memory
    step: int

    def copy(self) -> State:
        """An independent copy."""
        return State(self.position.clone(), {name: value.clone() for name, value in self.memory.items()}, self.step)


class Engine(ABC):
    """Advances a state. Bits depend on the plan and the state alone, never on how the steps are divided into calls."""

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        self.state = state

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take `steps` steps from the present state."""

    @abstractmethod
    def energies(self) -> NDArray[np.float64]:
        """Energy of every chain, ``(chains,)``."""

    def positions(self) -> NDArray[Any]:
        """Position of every chain, ``(chains, dim)``."""
        return self.state.position.cpu().numpy()

    def advance_recording(
        self, records: int, every: int, *, position: bool, energy: bool
    ) -> tuple[NDArray[Any] | None, NDArray[np.float64] | None]:
        """Take ``records * every`` steps and return positions ``(chains, records, dim)`` and energies on the way."""
        seen: list[NDArray[Any]] = []
        energies: list[NDArray[np.float64]] = []
        for _ in range(records):
            self.advance(every)
            if position:
                seen.append(self.positions().copy())
            if energy:
                energies.append(self.energies())
        return (
            np.stack(seen, axis=1) if position else None,
            np.stack(energies, axis=1) if energy else None,
        )

    def close(self) -> None:  # noqa: B027  # most engines hold nothing
        """Release threads."""
