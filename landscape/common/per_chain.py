"""Settings that may be one value or one per chain, and how many chains that makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.checks import whole_number
from landscape.common.positions import plain_array, unmasked
from landscape.errors import ConfigError, ShapeError

__all__ = ["count_chains", "numbers", "per_chain"]


def per_chain(name: str, value: Any, chains: int) -> NDArray[np.float64]:
    """The setting as an array ``(chains,)``."""
    array = numbers(name, value)
    if array.ndim and len(array) != chains:
        raise ShapeError(f"{name} has {len(array)} values for {chains} chains: give one value, or one per chain")
    return np.array(np.broadcast_to(array, (chains,)))


def count_chains(chains: int | None, **lengths: Any) -> int:
    """The number of chains that all settings agree on.

    Raises
    ------
    ShapeError
        If two of them disagree; the message lists them.
    """
    if chains is not None:
        whole_number("chains", chains)
    found = {name: length for name, length in lengths.items() if length is not None}
    if chains is not None:
        found["chains"] = int(chains)
    if len(set(found.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in found.items())
        raise ShapeError(f"the settings do not agree on the number of chains ({listed})")
    return next(iter(found.values()), 1)


def length_of(name: str, value: Any) -> int | None:
    """Number of chains that a setting has values for, None if it is one value."""
    array = numbers(name, value)
    return len(array) if array.ndim else None


def numbers(name: str, value: Any) -> NDArray[np.float64]:
    """One number or a list of numbers as an array of floats.

    Raises
    ------
    ConfigError, ShapeError
    """
    if isinstance(value, torch.Tensor):
        value = plain_array(value, name)
    if isinstance(value, Mapping | str | bytes):
        raise ConfigError(f"{name} must be a number or one number per chain, got {value!r}")
    try:
        array = unmasked(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} must be a number or one number per chain, got {value!r}") from None
    if array.ndim > 1 or (array.ndim == 1 and not len(array)):
        raise ShapeError(f"{name} must be a number or a list of numbers, got an array of shape {array.shape}")
    return array
