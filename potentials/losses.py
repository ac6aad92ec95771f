"""Per-sample losses of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from landscape.errors import ConfigError, ShapeError

__all__ = ["SampleLoss", "cross_entropy", "named_loss", "squared_error"]

SampleLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy -log p_y per sample, accurate also where it is far below the rounding error of the logits.

    With logits z and label y it is softplus(s), s = log sum_{j != y} exp(z_j - z_y); subtracting the largest logit,
    as usual, would lose every loss below 1e-7 in float32, and those are what a network at its minimum is made of.

    Parameters
    ----------
    outputs : tensor, shape ``(samples, classes)`` or ``(samples, classes, ...)``
    targets : int64 tensor, shape ``(samples,)`` or ``(samples, ...)``

    Returns
    -------
    tensor, shape ``(samples,)``; further dimensions are averaged.

    Examples
    --------
    >>> float(cross_entropy(torch.tensor([[40.0, 0.0]]), torch.tensor([0])))  # exp(-40)
    4.24...e-18
    """
    if outputs.ndim > 2:
        return functional.cross_entropy(outputs, targets, reduction="none").flatten(1).mean(1)
    label = targets.unsqueeze(-1)
    margins = outputs - outputs.gather(-1, label)
    # scatter of -inf removes the label itself from the sum; its gradient is zero, as it has to be
    others = margins.scatter(-1, label, float("-inf"))
    return -functional.logsigmoid(-torch.logsumexp(others, dim=-1))


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error per sample, averaged over outputs: (1/K) sum_k (f_k - y_k)^2.

    Parameters
    ----------
    outputs, targets : tensors of the same shape ``(samples, ...)``
        Targets ``(samples,)`` may stand for ``(samples, 1)``.
    """
    if targets.ndim == outputs.ndim - 1 and outputs.shape[-1] == 1:
        targets = targets.unsqueeze(-1)
    return (outputs - targets).square().flatten(1).mean(1)


_NAMED: dict[str, SampleLoss] = {"cross_entropy": cross_entropy, "mse": squared_error}


def named_loss(loss: str | SampleLoss) -> SampleLoss:
    """The loss of a name, or the callable itself."""
    if callable(loss):
        return loss
    if loss not in _NAMED:
        raise ConfigError(f"unknown loss {loss!r}; expected one of {sorted(_NAMED)} or a callable (outputs, targets)")
    return _NAMED[loss]


def check_targets(outputs: Tensor, targets: Tensor, loss: SampleLoss) -> None:
    """Refuse targets that do not fit the outputs, with a message that says how.

    Raises
    ------
    ShapeError
    """
    if loss is cross_entropy:
        if outputs.ndim < 2:
            raise ShapeError(f"cross-entropy needs outputs (samples, classes), the module gives {tuple(outputs.shape)}")
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise ShapeError(f"cross-entropy needs integer labels, got targets of dtype {targets.dtype}")
        if targets.shape[1:] != outputs.shape[2:]:
            raise ShapeError(
                f"cross-entropy needs one label per sample {tuple(outputs.shape[2:])}, got targets of shape "
                f"{tuple(targets.shape[1:])} each; one-hot targets: give targets.argmax(1)"
            )
        classes, low, high = outputs.shape[1], int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            raise ShapeError(
                f"labels run from {low} to {high}, but the module has {classes} outputs (0 to {classes - 1})"
            )
    if loss is squared_error and targets.shape[1:] != outputs.shape[1:]:
        alone = targets.ndim == outputs.ndim - 1 and outputs.shape[-1] == 1
        if not alone:
            raise ShapeError(
                f"the squared error needs targets like the outputs {tuple(outputs.shape[1:])} of a sample, "
                f"got {tuple(targets.shape[1:])}"
            )
