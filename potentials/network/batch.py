"""Samples that are not one tensor: tuples and dicts of tensors that share their first axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from landscape.errors import ShapeError

__all__ = ["Batch", "Inputs", "as_tree", "batch_of", "unwrapped"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors in a tuple, list or dict, nested or not, that behave as one tensor along the axes that they share.

    Parameters
    ----------
    leaves : tuple of tensors
        Of equal length, in the order of `names`.
    structure : nested tuple, list or dict
        The arrangement, with the place of a leaf in `leaves` where the leaf stands.

    Examples
    --------
    >>> batch = batch_of({"ids": torch.arange(6).view(3, 2), "mask": torch.ones(3, 2)})
    >>> len(batch), batch[:2].tree()["ids"].tolist()
    (3, [[0, 1], [2, 3]])
    """

    leaves: tuple[Tensor, ...]
    structure: Any

    def tree(self) -> Any:
        """The tensors as they were arranged."""
        return _arranged(self.structure, self.leaves)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same arrangement of other tensors."""
        return Batch(tuple(function(leaf) for leaf in self.leaves), self.structure)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name, such as ``mask`` or ``0.ids``."""
        return zip(_names(self.structure), self.leaves, strict=True)

    # -- what a tensor of samples offers ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.leaves[0])

    def __getitem__(self, index: Any) -> Batch:
        return self.map(lambda leaf: leaf[index])

    @property
    def shape(self) -> torch.Size:
        """The axes that all tensors have in common."""
        shapes = [leaf.shape for leaf in self.leaves]
        shared = 0
        while all(len(shape) > shared and shape[shared] == shapes[0][shared] for shape in shapes):
            shared += 1
        return shapes[0][:shared]

    @property
    def ndim(self) -> int:
        """0: no rule for one tensor's shape applies."""
        return 0

    def split(self, size: int) -> tuple[Batch, ...]:
        """Pieces of `size` samples; the last may be shorter."""
        return tuple(self[start : start + size] for start in range(0, len(self), size))

    def unsqueeze(self, dim: int) -> Batch:
        """With an axis of length 1 more in every tensor."""
        return self.map(lambda leaf: leaf.unsqueeze(dim))

    def clone(self) -> Batch:
        """A copy."""
        return self.map(torch.clone)

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> Batch:
        """The same samples: the order of a tensor's axes in memory is left alone."""
        return self

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """On a device; floating-point tensors in another type, whole numbers and truth values as they are."""
        return self.map(lambda leaf: leaf.to(device, dtype if leaf.is_floating_point() else None))


Inputs: TypeAlias = Tensor | Batch


def batch_of(tree: Any) -> Batch:
    """A nested tuple, list or mapping of tensors as one batch; entries that are None are left out of mappings.

    Raises
    ------
    ShapeError
        If there is no tensor, something that is no tensor, or the lengths differ; the message names it.
    """
    leaves: list[Tensor] = []
    structure = _flattened(tree, leaves, "")
    if not leaves:
        raise ShapeError("the inputs hold no tensor")
    batch = Batch(tuple(leaves), structure)
    lengths = {name: len(leaf) if leaf.ndim else None for name, leaf in batch.items()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        raise ShapeError(f"the parts of the inputs hold different numbers of samples: {lengths}")
    return batch


def as_tree(inputs: Inputs) -> Any:
    """What a module is called with: the tensor, or the tensors as they were arranged."""
    return inputs if isinstance(inputs, Tensor) else inputs.tree()


def unwrapped(inputs: Inputs) -> tuple[tuple[Tensor, ...], Callable[[tuple[Tensor, ...]], Inputs]]:
    """The tensors of a batch, and the way back from tensors to what a network takes: what `torch.func.vmap` needs.

    Examples
    --------
    >>> leaves, back = unwrapped(torch.ones(2, 3))
    >>> back(leaves).shape
    torch.Size([2, 3])
    """
    if isinstance(inputs, Tensor):
        return (inputs,), lambda leaves: leaves[0]
    structure = inputs.structure
    return inputs.leaves, lambda leaves: Batch(tuple(leaves), structure)


def _flattened(tree: Any, leaves: list[Tensor], name: str) -> Any:
    if isinstance(tree, Tensor):
        leaves.append(tree)
        return len(leaves) - 1
    if isinstance(tree, Mapping):
        return {key: _flattened(value, leaves, f"{name}.{key}") for key, value in tree.items() if value is not None}
    if isinstance(tree, tuple | list):
        parts = [_flattened(value, leaves, f"{name}.{i}") for i, value in enumerate(tree)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    raise ShapeError(
        f"the part {name.removeprefix('.')!r} of the inputs is a {type(tree).__name__}: expected tensors of samples; "
        "give constants through `call`"
    )


def _arranged(structure: Any, leaves: tuple[Tensor, ...]) -> Any:
    if isinstance(structure, int):
        return leaves[structure]
    if isinstance(structure, dict):
        return {key: _arranged(part, leaves) for key, part in structure.items()}
    parts = [_arranged(part, leaves) for part in structure]
    return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)


def _names(structure: Any, name: str = "") -> Iterator[str]:
    if isinstance(structure, int):
        yield name.removeprefix(".")
        return
    parts = structure.items() if isinstance(structure, dict) else enumerate(structure)
    for key, part in parts:
        yield from _names(part, f"{name}.{key}")
