"""How much memory a graph of automatic differentiation holds, found by making one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["graph_bytes"]


def graph_bytes(make: Callable[[], object], apart_from: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that the graph of what `make` computes holds for its backward pass.

    Where `make` takes derivatives by `torch.func`, which does not say what it saves, all that is computed counts.

    Parameters
    ----------
    make : callable
        Called once, or twice, with gradients enabled; the graph must still be there when it returns.
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
        storage = _storage(tensor)
        if storage is not None and storage not in own:
            held[storage] = tensor
        return tensor

    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            make()
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        with torch.enable_grad(), _Computed() as computed:
            make()
        return int(computed.bytes)
    return sum(tensor.untyped_storage().nbytes() for tensor in held.values())


def _storage(tensor: Tensor) -> int | None:
    """Where its memory is, if it has any to speak of: sparse constants do not count, nor zeros that are not stored."""
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (RuntimeError, NotImplementedError):
        return None


class _Computed(TorchDispatchMode):
    """Adds up the sizes of all results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it torch would first import its compiler, for seconds

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        self.bytes += sum(one.numel() * one.element_size() for one in tree_leaves(found) if isinstance(one, Tensor))
        return found
