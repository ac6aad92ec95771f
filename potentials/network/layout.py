"""The trainable parameters of a module as one flat vector."""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import ConfigError

__all__ = ["Layout", "Slot"]

_ENTRY = re.compile(r"(.+)\[([\d, ]*)\]")  # the name of one entry


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one parameter lies in the flat vector.

    Attributes
    ----------
    name : str
    shape : tuple of int
        As real numbers: of a complex parameter the last axis holds real and imaginary parts.
    offset : int
    is_complex : bool
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    is_complex: bool = False

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Names, shapes and offsets of the trainable parameters, in the module's order; tied weights appear once.

    Complex parameters are pairs of real numbers throughout: real and imaginary part of every entry in turn.

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
                pairs = (2,) if parameter.is_complex() else ()
                slots.append(Slot(name, (*parameter.shape, *pairs), offset, bool(pairs)))
                offset += slots[-1].size
        if not offset:
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

    def entries(self, pattern: str) -> list[int]:
        """Numbers of all entries of the parameters whose name is, or matches, a pattern such as ``"*.weight"``.

        Raises
        ------
        ConfigError
            If there are none.

        Examples
        --------
        >>> Layout.of(nn.Linear(3, 2)).entries("b*")
        [6, 7]
        """
        if _ENTRY.fullmatch(pattern):
            return [self.index(pattern)]
        names = [slot.name for slot in self]
        chosen = {pattern} if pattern in names else set(fnmatch.filter(names, pattern))
        if not chosen:
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f". Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"no parameter is called {pattern!r}; the network has {', '.join(names)}{hint}")
        return [index for slot in self if slot.name in chosen for index in range(slot.offset, slot.offset + slot.size)]

    def index(self, name: str) -> int:
        """Number of the entry of that name, the inverse of `entry`.

        Raises
        ------
        ConfigError
            If there is none.
        """
        found = _ENTRY.fullmatch(name)
        for slot in self:
            if found is not None and slot.name == found[1]:
                place = tuple(int(number) for number in found[2].split(",") if number.strip())
                if len(place) == len(slot.shape) and all(at < size for at, size in zip(place, slot.shape, strict=True)):
                    return slot.offset + int(np.ravel_multi_index(place, slot.shape)) if place else slot.offset
        names = ", ".join(f"{slot.name} {slot.shape}" for slot in self)
        raise ConfigError(f"no entry {name!r}; expected one such as {self.entry(0)!r}, of {names}")

    def entry(self, index: int) -> str:
        """Name of an entry.

        Examples
        --------
        >>> Layout.of(nn.Linear(3, 2)).entry(4)
        'weight[1, 1]'
        """
        slot = next(slot for slot in self if index < slot.offset + slot.size)
        places = ", ".join(map(str, map(int, np.unravel_index(index - slot.offset, slot.shape)))) if slot.shape else ""
        return f"{slot.name}[{places}]"

    def flatten(self, module: nn.Module) -> Tensor:
        """The module's own values as one vector (a copy)."""
        parameters = dict(module.named_parameters())
        return torch.cat([_as_real(parameters[slot.name].detach()).reshape(-1) for slot in self.slots])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Parts of a vector by parameter name, as real numbers: views, where a module could not tell."""
        return {slot.name: _readable(vector[slot.offset : slot.offset + slot.size].view(slot.shape)) for slot in self}

    def stacked(self, positions: Tensor) -> dict[str, Tensor]:
        """Parameters of many vectors ``(n, dim)`` by name, each ``(n, *shape)``; copies where they cannot be views."""
        return {
            slot.name: _readable(
                positions[:, slot.offset : slot.offset + slot.size].reshape(len(positions), *slot.shape)
            )
            for slot in self.slots
        }

    def as_parameters(self, real: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What the module calls its parameters, of real ones by name: complex where they are."""
        if not any(slot.is_complex for slot in self.slots):
            return real
        pairs = {slot.name for slot in self.slots if slot.is_complex}
        return {
            name: torch.complex(value[..., 0], value[..., 1]) if name in pairs else value
            for name, value in real.items()
        }

    def write(self, module: nn.Module, vector: Tensor) -> None:
        """Copy a vector into the module's parameters."""
        parameters = dict(module.named_parameters())
        # what was made in inference mode can be written to within it only
        within = any(parameters[slot.name].is_inference() for slot in self)
        with torch.inference_mode(within or torch.is_inference_mode_enabled()), torch.no_grad():
            for name, value in self.as_parameters(self.unflatten(vector)).items():
                parameters[name].copy_(value)


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _readable(part: Tensor) -> Tensor:
    """A part that a module may read as complex numbers, which torch does at even offsets only."""
    return part.clone() if part.ndim and part.shape[-1] == 2 else part
