"""What an integrator is: settings, stated facts, and one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import ConfigError
from landscape.noise import ThermalNoise

__all__ = ["Integrator", "Memory", "PerChain", "StepContext"]

PerChain: TypeAlias = float | Sequence[float] | NDArray[Any]
Memory: TypeAlias = dict[str, Tensor]


@dataclass(slots=True)
class StepContext:
    """What one step may use: gradient and noise of this step, and the settings as columns over chains.

    Attributes
    ----------
    step : int
        Number of the step, from 0.
    dt : tensor ``(chains, 1)``
        Step size (`dt` or `lr`).
    amplitude : tensor ``(chains, 1)``
        sqrt(2 T dt).
    gradient : callable
        Position -> gradient, on the minibatch of this step.
    noise : callable
        ``noise(offset=0)``: standard normal variates ``(chains, dim)`` of step + offset, in the state's dtype.
    """

    step: int
    dt: Tensor
    amplitude: Tensor
    gradient: Callable[[Tensor], Tensor]
    noise: Callable[..., Tensor]


class Integrator(ABC):
    """A rule that takes a state one step further.

    Class facts
    -----------
    weak_order, stationary_order, strong_order : int or None
        Orders in the step size of averages at fixed time, of the stationary law, and of single trajectories at common
        noise; None where meaningless.
    gradients_per_step : int
    samples_boltzmann : bool
        Whether the stationary law tends to exp(-V/T) as the step size goes to 0.
    memory_names : tuple of str
        Arrays like the position that a state carries besides it.
    turned_by_walls : tuple of str
        Those among them that point along the coordinates: a reflecting wall changes their sign.
    """

    weak_order: ClassVar[int | None] = None
    stationary_order: ClassVar[int | None] = None
    strong_order: ClassVar[float | None] = None
    gradients_per_step: ClassVar[int] = 1
    samples_boltzmann: ClassVar[bool] = False
    thermal: ClassVar[bool] = False
    memory_names: ClassVar[tuple[str, ...]] = ()
    turned_by_walls: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def step_size(self) -> PerChain:
        """`dt` or `lr`, one value or one per chain."""

    @property
    def thermal_noise(self) -> ThermalNoise:
        """The noise that drives a thermal integrator."""
        return getattr(self, "noise", None) or ThermalNoise()

    @abstractmethod
    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The position ``(chains, dim)`` one step later; `memory` is updated in place."""

    def spec(self) -> dict[str, Any]:
        """Kind and settings as plain data."""
        spec: dict[str, Any] = {"kind": type(self).__name__}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, ThermalNoise):
                value = {"kind": "ThermalNoise", "precision": value.precision, "refinement": value.refinement}
            elif isinstance(value, np.ndarray | Tensor | list | tuple):
                value = np.asarray(value).tolist()
            if value is not None:
                spec[field.name] = value
        return spec


def check_positive(name: str, value: PerChain, *, zero: bool = False) -> None:
    """Refuse a step size or rate that is not positive and finite.

    Raises
    ------
    ConfigError
    """
    try:
        given = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value)
        numbers = given.astype(float) if given.dtype.kind in "fiu" else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None:
        raise ConfigError(f"{name} must be a number or one number per chain, got {value!r}")
    if numbers.ndim > 1 or not numbers.size:
        raise ConfigError(f"{name} must be a number or one number per chain, got an array of shape {numbers.shape}")
    if not np.all(np.isfinite(numbers)) or np.any(numbers < 0 if zero else numbers <= 0):
        bound = "not negative" if zero else "positive"
        raise ConfigError(f"{name} must be finite and {bound}, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Refuse what is not a number in [0, 1).

    Raises
    ------
    ConfigError
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < 1:
        raise ConfigError(f"{name} must be a number of at least 0 and below 1, got {value!r}")


def check_noise(noise: ThermalNoise | None) -> None:
    """Refuse what is not a noise.

    Raises
    ------
    ConfigError
    """
    if noise is not None and not isinstance(noise, ThermalNoise):
        raise ConfigError(f"noise must be a ThermalNoise, such as ThermalNoise(precision='float64'), got {noise!r}")
