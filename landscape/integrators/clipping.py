"""Gradients cut to a length or to a range, before an optimiser's rule sees them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from landscape.integrators.base import check_positive

__all__ = ["check_clipping", "clipped"]

_TINY = 1e-6  # torch's own: it keeps a vanishing gradient from being divided by 0


def check_clipping(clip_norm: Any, clip_value: Any) -> None:
    """Refuse bounds that are not positive.

    Raises
    ------
    ConfigError
    """
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None:
            check_positive(name, bound)


def clipped(gradient: Tensor, clip_norm: float | None, clip_value: float | None) -> Tensor:
    """Gradients ``(chains, dim)``: each entry within +-`clip_value`, then each chain's norm at most `clip_norm`.

    g min(1, clip_norm/(|g| + 1e-6)), as ``torch.nn.utils.clip_grad_norm_`` has it.
    """
    if clip_value is not None:
        gradient = gradient.clamp(-float(clip_value), float(clip_value))
    if clip_norm is not None:
        norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
        gradient = gradient * (clip_norm / (norm + _TINY)).clamp(max=1.0)
    return gradient
