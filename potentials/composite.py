"""Operations taken apart where their fused forms lack derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["composite_attention"]


@contextmanager
def composite_attention() -> Iterator[None]:
    """Attention as plain products: its fused forms lack second derivatives, or cannot be batched over chains."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
