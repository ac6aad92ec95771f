"""Settings and data of a network's loss: checked, and placed where the network lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from landscape.checks import finite_number
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials.losses import SampleLoss, check_targets
from landscape.potentials.network.batch import Batch, Inputs
from landscape.potentials.network.batches import check_sampling
from landscape.potentials.network.samples import Samples

__all__ = ["check_dtype", "check_settings", "checked_call", "fitting_data"]


def check_settings(*, dropout: str, weight_decay: Any, augment: Any, call: Any, sampling: str, dtype: Any) -> None:
    """Refuse settings of a network's loss that make no sense.

    Raises
    ------
    ConfigError
    """
    if dropout != "off":
        raise ConfigError(f'dropout must be "off", got {dropout!r}: a random energy is no landscape')
    finite_number("weight_decay", weight_decay, least=0)
    if augment is not None and not callable(augment):
        raise ConfigError(f"augment must be a callable (inputs, words) -> inputs, got {augment!r}")
    if call is not None and not callable(call):
        raise ConfigError(f"call must be a callable (module, inputs) -> outputs, got {call!r}")
    check_sampling(sampling)
    check_dtype(dtype)


def check_dtype(dtype: Any) -> None:
    """Refuse what is neither None nor a floating-point type.

    Raises
    ------
    ConfigError
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigError(f"dtype must be a floating-point type of torch, such as torch.float64, got {dtype!r}")


def fitting_data(
    data: Samples, run: Callable[[Inputs], Any], loss: SampleLoss, *, dtype: torch.dtype, device: torch.device
) -> Samples:
    """Data on the device and in the dtype of a network, tried on it.

    Parameters
    ----------
    data : Samples
    run : callable
        The network, inputs to outputs.
    loss : callable
    dtype : torch.dtype
        Floating-point type of inputs and values. Whole numbers and truth values stay as they are, unless the network
        takes them as floating-point numbers only, and then if the type holds them exactly.
    device : torch.device

    Returns
    -------
    Samples

    Raises
    ------
    ShapeError
        If the network cannot take the inputs, or the targets do not fit its outputs.
    """
    placed = data.to(device, dtype)
    try:
        outputs = _try(run, placed.inputs)
    except ShapeError:
        floating = _as_floating(placed, dtype)
        if floating is None:
            raise
        placed = floating
        outputs = _try(run, placed.inputs)
    placed = _with_labels(placed)
    check_targets(outputs, placed.targets, loss)
    if placed.evaluation is not None:
        check_targets(_try(run, placed.evaluation.inputs), placed.evaluation.targets, loss)
    return placed


def _with_labels(data: Samples) -> Samples:
    """Whole numbers among the targets as int64."""
    kept = data.targets.is_floating_point() or data.targets.dtype == torch.bool
    held_out = None if data.evaluation is None else _with_labels(data.evaluation)
    return Samples(data.inputs, data.targets if kept else data.targets.to(torch.int64), held_out, data.spec)


def _as_floating(data: Samples, dtype: torch.dtype) -> Samples | None:
    """Inputs of whole numbers as floating-point ones, or None if that would change anything, or there are none."""
    if isinstance(data.inputs, Batch) or data.inputs.is_floating_point():
        return None
    inputs = data.inputs.to(dtype)
    if not torch.equal(inputs.to(data.inputs.dtype), data.inputs):
        return None
    held_out = None if data.evaluation is None else _as_floating(data.evaluation, dtype) or data.evaluation
    return Samples(inputs, data.targets, held_out, data.spec)


def _try(run: Callable[[Inputs], Any], inputs: Inputs) -> Any:
    few = inputs[:2]
    with checked_call(inputs):
        outputs = run(few)
    if isinstance(outputs, Tensor) and outputs.shape[:1] != few.shape[:1]:
        raise ShapeError(
            f"of {len(few)} samples of the inputs {_described(inputs)} the module makes outputs of shape "
            f"{tuple(outputs.shape)}: expected the samples in front"
        )
    return outputs


@contextmanager
def checked_call(inputs: Inputs) -> Iterator[None]:
    """What a module raises that is called with inputs, as an error that says so.

    Raises
    ------
    ShapeError
    """
    try:
        yield
    except LandscapeError:
        raise
    except Exception as error:  # modules raise whatever they like
        raise ShapeError(
            f"the module cannot take inputs of shape {_described(inputs)} ({len(inputs)} samples): "
            f"{type(error).__name__}: {error}"
        ) from error


def _described(inputs: Inputs) -> str:
    parts = [("", inputs)] if isinstance(inputs, Tensor) else [(f"{name} ", part) for name, part in inputs.items()]
    return ", ".join(f"{name}{tuple(part.shape)} of {part.dtype}" for name, part in parts)
