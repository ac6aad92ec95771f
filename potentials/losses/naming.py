"""Losses by name, by table, or as a user's own; on the device and in the type of a network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from landscape.common.arguments import guarded
from landscape.errors import ConfigError
from landscape.potentials.losses.base import NamedLoss, SampleLoss
from landscape.potentials.losses.labelled import CrossEntropy, NegativeLogLikelihood
from landscape.potentials.losses.valued import BinaryCrossEntropy, Huber, SquaredError

__all__ = ["check_targets", "cross_entropy", "named_loss", "placed_loss", "squared_error", "takes_tensor"]

cross_entropy = CrossEntropy()
squared_error = SquaredError()
_NAMED: dict[str, NamedLoss] = {
    loss.name: loss
    for loss in (cross_entropy, squared_error, BinaryCrossEntropy(), NegativeLogLikelihood(), Huber())
}  # fmt: skip


@guarded
def named_loss(loss: str | Mapping[str, Any] | SampleLoss) -> SampleLoss:
    """The loss of a name or of a table ``{"kind": name, ...}``, or the callable itself.

    Raises
    ------
    ConfigError
        For unknown names and settings.

    Examples
    --------
    >>> named_loss({"kind": "huber", "delta": 0.5})
    Huber(delta=0.5)
    """
    if isinstance(loss, Mapping):
        settings = dict(loss)
        kind: Any = named_loss(settings.pop("kind", ""))
        known = [field.name for field in dataclasses.fields(kind)]
        for key in settings:
            if key not in known:
                raise ConfigError(f"the loss {kind.name!r} has no setting {key!r}; it has {known}")
        return named_loss(type(kind)(**settings))
    if isinstance(loss, NamedLoss):
        return next((one for one in _NAMED.values() if one == loss), loss)
    if callable(loss):
        return loss
    if loss not in _NAMED:
        raise ConfigError(
            f"unknown loss {loss!r}; expected one of {sorted(_NAMED)}, one of potentials.losses, or a callable "
            "(outputs, targets)"
        )
    return _NAMED[loss]


def placed_loss(loss: SampleLoss, device: torch.device, dtype: torch.dtype) -> SampleLoss:
    """A loss whose tensors, if it is a module and has some, are copies on a device and in a floating-point type."""
    return copy.deepcopy(loss).to(device, dtype) if isinstance(loss, nn.Module) else loss


def takes_tensor(loss: SampleLoss) -> bool:
    """Whether a loss is one of a tensor of outputs, not of whatever a module returns."""
    home = loss if hasattr(loss, "__name__") else type(loss)
    return isinstance(loss, NamedLoss) or str(getattr(home, "__module__", "")).startswith("torch.nn.")


def check_targets(outputs: Any, targets: Tensor, loss: SampleLoss) -> None:
    """Refuse targets that do not fit the outputs, with a message that says how.

    Raises
    ------
    ShapeError
    """
    if isinstance(loss, NamedLoss):
        loss.check(outputs, targets)
