"""What one step of an integrator may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from landscape import random
from landscape.potentials.base import Potential

__all__ = ["Memory", "StepContext"]

Memory: TypeAlias = dict[str, Tensor]


@dataclass(slots=True)
class StepContext:
    """What one step may use: gradient and noise of this step, and the settings as columns over chains.

    Attributes
    ----------
    number : int
        Number of the step, from 0; a rule asks for it as `step` or, for the first one alone, as `first`.
    counter : int, or int64 scalar on the device
        The same, where only tensors depend on it: a captured step is replayed with other values.
    numbered : bool
        Whether a rule has asked for `step`: it cannot be captured then.
    dt, temperature : tensors ``(chains, 1)``
        Step size (`dt` or `lr`) and temperature of this step.
    amplitude : tensor ``(chains, 1)``
        Standard deviation of the noise of this step, such as sqrt(2 T dt).
    settings : dict of tensors ``(chains, 1)``
        The integrator's settings that may differ by chain.
    potential : Potential
    gradient : callable
        Position -> gradient, on the minibatch of this step.
    increment : callable
        (position, memory) -> displacement by the noise of this step.
    draw : callable
        (seed, chains, step, dim) -> standard variates.
    fold : callable, or None without boundaries
        Positions folded back, and where they were mirrored, both ``(chains, dim)``.
    gradient_at_end : callable, or None where the energy does not change in time
        Like `gradient`, with the energy of the end of the step.
    turns : tensor ``(chains, dim)``, or None without periodic coordinates
        Periods by which `fold` has moved the coordinates in this step.
    outside : callable, or None without boundaries
        Which chains are beyond a reflecting boundary, ``(chains,)``.
    cache : dict
        Kept between the steps of a run, and emptied whenever the state is replaced from outside.
    """

    number: int
    counter: int | Tensor
    dt: Tensor
    temperature: Tensor
    amplitude: Tensor
    settings: dict[str, Tensor]
    potential: Potential
    gradient: Callable[[Tensor], Tensor]
    increment: Callable[[Tensor, Memory], Tensor]
    draw: Callable[[int, Tensor, int | Tensor, int], Tensor]
    seed: int
    chains: Tensor
    dtype: torch.dtype
    keys: Any = None
    fold: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    outside: Callable[[Tensor], Tensor] | None = None
    turns: Tensor | None = None
    gradient_at_end: Callable[[Tensor], Tensor] | None = None
    cache: dict[str, Any] = field(default_factory=dict)
    numbered: bool = False

    @property
    def step(self) -> int:
        """Number of the step, from 0, as a number of Python: a rule that reads it makes its steps one by one."""
        self.numbered = True
        return self.number

    @property
    def first(self) -> bool:
        """Whether this is step 0 of the run."""
        return self.number == 0

    def noise(self, offset: int = 0) -> Tensor:
        """Standard variates of step + offset in the state's dtype, ``(chains, variates * dim)``."""
        return self.draw(self.seed, self.chains, self.counter + offset, self.potential.dim).to(self.dtype)

    def uniform(self) -> Tensor:
        """One uniform variate per chain, float64 ``(chains,)``, for the acceptance of this step."""
        return random.uniforms(self.seed, self.chains, self.counter, stream=random.ACCEPTANCE)

    def energy(self, position: Tensor) -> Tensor:
        """Energy of every chain on all data, ``(chains,)``."""
        with torch.no_grad():
            return self.potential.energy(position)  # type: ignore[no-any-return]
