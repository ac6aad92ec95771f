"""How much memory a graph of automatic differentiation holds, found by making one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["graph_bytes"]


def graph_bytes(make: Callable[[], object], apart_from: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that the graph of what `make` computes holds for its backward pass.

    Parameters
    ----------
    make : callable
        Called once, with gradients enabled; the graph must still be there when it returns.
    apart_from : iterable of tensors
        What is held anyway: the weights.

    Examples
    --------
    >>> weight = torch.ones(3, requires_grad=True)
    >>> graph_bytes(lambda: (weight * torch.ones(3)).exp(), [weight])  # the ones and the exponentials, 4 bytes each
    24
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in apart_from}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in own:
            held[storage] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        make()
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())
