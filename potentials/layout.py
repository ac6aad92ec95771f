"""The trainable parameters of a module as one flat vector."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.errors import ConfigError

__all__ = ["Layout", "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one parameter lies in the flat vector."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Names, shapes and offsets of the trainable parameters, in the module's order; tied weights appear once.

    Examples
    --------
    >>> layout = Layout.of(nn.Linear(3, 2))
    >>> [(slot.name, slot.shape, slot.offset) for slot in layout]
    [('weight', (2, 3), 0), ('bias', (2,), 6)]
    """

    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Layout of the parameters of `module` that require gradients.

        Raises
        ------
        ConfigError
            If there are none.
        """
        slots, offset = [], 0
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                slots.append(Slot(name, tuple(parameter.shape), offset))
                offset += parameter.numel()
        if not slots:
            raise ConfigError("the module has no trainable parameters: set requires_grad on those that should move")
        return cls(tuple(slots))

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def dim(self) -> int:
        """Length of the flat vector."""
        return self.slots[-1].offset + self.slots[-1].size

    def flatten(self, module: nn.Module) -> Tensor:
        """The module's own values as one vector (a copy)."""
        parameters = dict(module.named_parameters())
        return torch.cat([parameters[slot.name].detach().reshape(-1) for slot in self.slots])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of a vector by parameter name."""
        return {slot.name: vector[slot.offset : slot.offset + slot.size].view(slot.shape) for slot in self.slots}

    def stacked(self, positions: Tensor) -> dict[str, Tensor]:
        """Parameters of many vectors ``(n, dim)`` by name, each ``(n, *shape)``; copies where they cannot be views."""
        return {
            slot.name: positions[:, slot.offset : slot.offset + slot.size].reshape(len(positions), *slot.shape)
            for slot in self.slots
        }

    def write(self, module: nn.Module, vector: Tensor) -> None:
        """Copy a vector into the module's parameters."""
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for name, value in self.unflatten(vector).items():
                parameters[name].copy_(value)
