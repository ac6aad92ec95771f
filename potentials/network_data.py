"""Settings and data of a network's loss: checked, and placed where the network lives."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import ConfigError, ShapeError
from landscape.potentials.losses import SampleLoss, check_targets
from landscape.potentials.samples import Samples

__all__ = ["check_count", "check_dtype", "check_settings", "fitting_data"]


def check_settings(*, module: Any, dropout: str, weight_decay: Any, augment: Any, sampling: str, dtype: Any) -> None:
    """Refuse settings of a network's loss that make no sense.

    Raises
    ------
    ConfigError
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if dropout != "off":
        raise ConfigError(f'dropout must be "off", got {dropout!r}: a random energy is no landscape')
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, int | float) or not 0 <= weight_decay < inf:
        raise ConfigError(f"weight_decay must be a finite number of 0 or more, got {weight_decay!r}")
    if augment is not None and not callable(augment):
        raise ConfigError(f"augment must be a callable (inputs, words) -> inputs, got {augment!r}")
    if sampling not in ("epoch", "replacement"):
        raise ConfigError(f'sampling must be "epoch" or "replacement", got {sampling!r}')
    check_dtype(dtype)


def check_dtype(dtype: Any) -> None:
    """Refuse what is neither None nor a floating-point type.

    Raises
    ------
    ConfigError
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigError(f"dtype must be a floating-point type of torch, such as torch.float64, got {dtype!r}")


def check_count(name: str, value: int | None) -> int | None:
    """A positive integer or None, as it is.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> check_count("chunk_size", 64)
    64
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name} must be a positive integer or None, got {value!r}")
    return value


def fitting_data(
    data: Samples, run: Callable[[Tensor], Tensor], loss: SampleLoss, *, dtype: torch.dtype, device: torch.device
) -> Samples:
    """Data on the device and in the dtype of a network, tried on it.

    Parameters
    ----------
    data : Samples
    run : callable
        The network, inputs to outputs.
    loss : callable
    dtype : torch.dtype
        Floating-point type of inputs and values. Whole numbers that the network takes only as they are (the indices
        of an embedding) stay whole.
    device : torch.device

    Returns
    -------
    Samples

    Raises
    ------
    ShapeError
        If the network cannot take the inputs, or the targets do not fit its outputs.
    """
    placed = _placed(data, dtype, device, whole=False)
    try:
        outputs = _try(run, placed.inputs)
    except ShapeError:
        if data.inputs.is_floating_point():
            raise
        placed = _placed(data, dtype, device, whole=True)
        outputs = _try(run, placed.inputs)
    check_targets(outputs, placed.targets, loss)
    if placed.evaluation is not None:
        check_targets(_try(run, placed.evaluation.inputs), placed.evaluation.targets, loss)
    return placed


def _placed(data: Samples, dtype: torch.dtype, device: torch.device, *, whole: bool) -> Samples:
    """Inputs in the floating type unless `whole`, labels as int64."""
    kind = dtype if data.targets.is_floating_point() else torch.int64
    targets = data.targets if data.targets.dtype == torch.bool else data.targets.to(kind)
    inputs = data.inputs.to(device) if whole else data.inputs.to(device, dtype)
    held_out = None if data.evaluation is None else _placed(data.evaluation, dtype, device, whole=whole)
    return Samples(inputs, targets.to(device), held_out, data.spec)


def _try(run: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            return run(inputs[:2])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ShapeError(
            f"the module cannot take inputs of shape {tuple(inputs.shape)} ({len(inputs)} samples): {error}"
        ) from error
