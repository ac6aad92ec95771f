"""Operations taken apart where their fused forms lack derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from landscape.potentials.composed import COMPOSED, COMPOSED_THRICE

__all__ = ["Composite", "composite_attention"]

_make_dual = getattr(torch, "_make_dual", None)  # what begins a derivative in forward mode


@contextmanager
def composite_attention(*, nested: bool = False) -> Iterator[None]:
    """Attention as plain products: its fused forms lack second derivatives, or cannot be batched over chains.

    Parameters
    ----------
    nested : bool
        Whether derivatives are taken within the context, so that a gradient is a second derivative or a higher one:
        then all other layers are taken apart too, as by `Composite`.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        layers = Composite(nested=True) if nested else nullcontext()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), layers:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class Composite(TorchFunctionMode):
    """Within this context layers whose fused forms have missing or wrong derivatives are made of plain operations.

    Weight norm, whose second derivatives torch gets wrong; hard sigmoids, bags of embeddings, and recurrent layers on
    graphics processors, which have none. The values and first slopes are the same up to rounding.

    Parameters
    ----------
    nested : bool
        Whether derivatives are taken within the context already. Then normalisation layers are taken apart too: what
        is a second derivative of the network's outputs with respect to its weights is a third one of those layers,
        where torch takes their statistics for constants.
    others : mapping, optional
        Further functions of torch and what stands for them; as of the former, None from it means the function itself.
        Not used where derivatives are nested.

    Attributes
    ----------
    differentiated : bool
        Whether a derivative was taken within the context. If so, it is to be run again with ``nested=True``.

    Examples
    --------
    >>> v, g = torch.tensor([[3.0, 4.0]]), torch.ones(1, 1)
    >>> with Composite():
    ...     torch._weight_norm(v, g, 0)  # what torch.nn.utils.parametrizations.weight_norm calls
    tensor([[0.6000, 0.8000]])
    """

    def __init__(
        self, *, nested: bool = False, others: Mapping[Callable[..., Any], Callable[..., Any]] | None = None
    ) -> None:
        super().__init__()
        self.differentiated = False
        self._layers = COMPOSED_THRICE if nested else COMPOSED
        self._others = {} if nested or others is None else others

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The layer as it is made here, or as it is."""
        options = kwargs or {}
        own = self._layers.get(function)
        if own is None and not self.differentiated:
            own = self._others.get(function)
            if own is not None and _transformed():
                self.differentiated, own = True, None
        if own is None:
            self.differentiated |= function is torch.autograd.grad or function is _make_dual
        found = None if own is None else own(*args, **options)
        return function(*args, **options) if found is None else found


def _transformed() -> bool:
    """Whether a transform of `torch.func` is active, or forward mode, which know plain operations only."""
    forward = torch.autograd.forward_ad._current_level >= 0
    return forward or torch._C._functorch.peek_interpreter_stack() is not None
