"""Layers made of plain operations, where torch's fused ones have no derivatives of some order, or wrong ones.

A function here takes the arguments of the one that it stands for, and returns None where the fused one will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from landscape.errors import ConfigError

__all__ = ["COMPOSED", "COMPOSED_THRICE"]


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """g v / |v|: the backward of the fused kernel leaves out how its own norms change (torch 2.14)."""
    norm = torch.norm_except_dim(v, 2, dim)
    return v * (g.reshape(norm.shape) / norm)


def _hardsigmoid(inputs: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6, whose backward torch does not differentiate."""
    outputs = functional.relu6(inputs + 3.0) / 6.0
    return inputs.copy_(outputs) if inplace else outputs


def _check_table(scale_grad_by_freq: bool) -> None:
    """Refuse what makes the gradient of an embedding another thing than a gradient."""
    if scale_grad_by_freq:
        raise ConfigError(
            "an embedding with scale_grad_by_freq=True has slopes that are no derivatives of the energy: make it with "
            "scale_grad_by_freq=False"
        )


def _embedding(
    ids: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor | None:
    """Rows of a table, with dense slopes."""
    _check_table(scale_grad_by_freq)
    return functional.embedding(ids, weight, padding_idx, max_norm, norm_type) if sparse else None


def _embedding_bag(
    ids: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor | None:
    """Sum, mean or maximum over each bag of the rows of a table; an empty bag gives zeros."""
    _check_table(scale_grad_by_freq)
    if not isinstance(ids, Tensor) or ids.ndim == 0 or (ids.ndim == 1) != (offsets is not None):
        return None  # torch says what is wrong
    if offsets is None:
        inside = torch.ones_like(ids, dtype=torch.bool)
    else:
        places, inside = _bags(offsets, len(ids), include_last_offset)
        ids = ids[places] if len(ids) else places
        per_sample_weights = None if per_sample_weights is None else per_sample_weights[places]
    if padding_idx is not None:
        inside = inside & (ids != padding_idx % len(weight))
    rows = functional.embedding(ids, weight, None, max_norm, norm_type)
    if mode == "max":
        if not rows.shape[1]:
            return rows.new_zeros(len(ids), weight.shape[1])
        best = rows.masked_fill(~inside[..., None], -torch.inf).argmax(1, keepdim=True)
        return rows.gather(1, best)[:, 0] * inside.any(1)[:, None]
    shares = inside.to(rows.dtype)
    if per_sample_weights is not None:
        shares = shares * per_sample_weights
    if mode == "mean":
        shares = shares / inside.sum(1, keepdim=True).clamp_min(1)
    return torch.einsum("bk,bkd->bd", shares, rows)


def _bags(offsets: Tensor, count: int, include_last_offset: bool) -> tuple[Tensor, Tensor]:
    """Places of the members of each bag ``(bags, longest)``, and which of them there are."""
    ends = offsets[1:] if include_last_offset else torch.cat([offsets[1:], offsets.new_full((1,), count)])
    starts = offsets[: len(ends)]
    longest = int((ends - starts).max()) if len(ends) else 0
    places = starts[:, None] + torch.arange(longest, device=offsets.device)
    inside = places < ends[:, None]
    return torch.where(inside, places, torch.zeros_like(places)), inside


# -- layers whose second derivatives are right, and higher ones are not: those of derivatives taken in forward ---------


def _layer_norm(
    inputs: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Its third derivatives take the statistics for constants (torch 2.14)."""
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(_normalised(inputs, dims, eps), weight, bias)


def _rms_norm(inputs: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """The fused kernel of graphics processors is made as that of `_layer_norm`."""
    dims = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(inputs.dtype).eps if eps is None else eps
    return _scaled(inputs * (inputs.square().mean(dims, keepdim=True) + eps).rsqrt(), weight, None)


def _group_norm(
    inputs: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    apart = inputs.reshape(len(inputs), num_groups, -1)
    outputs = _normalised(apart, (-1,), eps).reshape(inputs.shape)
    return _scaled(outputs, *(_by_channel(one, inputs.ndim) for one in (weight, bias)))


def _batch_norm(
    inputs: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    """With the statistics of the batch: torch refuses third derivatives."""
    if not training and running_mean is not None:
        return None
    dims = (0, *range(2, inputs.ndim))
    return _scaled(_normalised(inputs, dims, eps), *(_by_channel(one, inputs.ndim) for one in (weight, bias)))


def _instance_norm(
    inputs: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not use_input_stats:
        return None
    dims = tuple(range(2, inputs.ndim))
    return _scaled(_normalised(inputs, dims, eps), *(_by_channel(one, inputs.ndim) for one in (weight, bias)))


def _normalised(inputs: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = inputs - inputs.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()


def _by_channel(values: Tensor | None, dimensions: int) -> Tensor | None:
    return None if values is None else values.reshape(-1, *(1,) * (dimensions - 2))


def _scaled(outputs: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    outputs = outputs if weight is None else outputs * weight
    return outputs if bias is None else outputs + bias


# -- recurrent layers: cuDNN's have no second derivatives, and none at all in evaluation mode --------------------------


def _without_cudnn(function: Callable[..., Any]) -> Callable[..., Any]:
    def composed(*args: Any, **options: Any) -> Any:
        if not any(isinstance(one, Tensor) and one.is_cuda for one in args):
            return None
        with torch.backends.cudnn.flags(enabled=False):
            return function(*args, **options)

    return composed


COMPOSED: Final[Mapping[Callable[..., Any], Callable[..., Any]]] = {
    torch._weight_norm: _weight_norm,
    functional.hardsigmoid: _hardsigmoid,
    functional.embedding: _embedding,
    functional.embedding_bag: _embedding_bag,
    **{one: _without_cudnn(one) for one in (torch.rnn_tanh, torch.rnn_relu, torch.gru, torch.lstm)},
}
"""What any derivative needs."""

COMPOSED_THRICE: Final[Mapping[Callable[..., Any], Callable[..., Any]]] = {
    **COMPOSED,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    functional.group_norm: _group_norm,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
}
"""What derivatives of derivatives that are taken in a forward pass need."""
