"""Vectors of weights and their parts by parameter, and vector-Jacobian products of many vectors at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

__all__ = ["columns", "flat", "parts"]

# functions, so that a product which is kept does not refer to who keeps it


def flat(leaves: Sequence[Tensor], gradients: Sequence[Tensor | None], count: int) -> Tensor:
    """Rows ``(count, size)`` from their parts by leaf."""
    parts = [
        leaf.new_zeros(count, leaf.numel()) if gradient is None else gradient.reshape(count, leaf.numel())
        for gradient, leaf in zip(gradients, leaves, strict=True)
    ]
    return torch.cat(parts, dim=-1)


def parts(leaves: Sequence[Tensor], vectors: Tensor) -> list[Tensor]:
    """Parts by leaf ``(k, *shape)`` of rows ``(k, size)``."""
    split = vectors.split([leaf.numel() for leaf in leaves], dim=1)
    shaped = [part.reshape(len(vectors), *leaf.shape) for part, leaf in zip(split, leaves, strict=True)]
    # pairs that may be seen as complex numbers lie at even places only
    return [part.clone() if part.shape[-1] == 2 and part.ndim > 1 else part for part in shaped]


def columns(
    outputs: Sequence[Tensor | None], leaves: Sequence[Tensor], vectors: Sequence[Tensor]
) -> list[Tensor | None]:
    """Vector-Jacobian products of `outputs` with each of `vectors` ``(k, ...)``, by leaf; the graph stays."""
    pairs = [(one, along) for one, along in zip(outputs, vectors, strict=True) if one is not None]
    pairs = [(one, along) for one, along in pairs if one.requires_grad]
    if not pairs:
        return [None] * len(leaves)
    ends, along = [one for one, _ in pairs], [one for _, one in pairs]
    if len(vectors[0]) > 1:
        try:
            return list(_pulled(ends, leaves, along, is_grads_batched=True))
        except RuntimeError:  # operations that cannot be batched, or not in this memory
            pass
    found = [_pulled(ends, leaves, [one[k] for one in along]) for k in range(len(vectors[0]))]
    if len(found) == 1:
        return [None if part is None else part.unsqueeze(0) for part in found[0]]
    return [None if parts[0] is None else torch.stack(parts) for parts in zip(*found, strict=True)]


_pulled = partial(torch.autograd.grad, retain_graph=True, allow_unused=True)
