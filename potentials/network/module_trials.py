"""Whether a module is a function of its weights, and whether its samples keep to themselves: found out by trying."""

from __future__ import annotations

import random as python_random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ConfigError

__all__ = ["check_derivative", "check_function", "close_to_rounding", "samples_interact", "undisturbed"]


@contextmanager
def undisturbed() -> Iterator[None]:
    """The global random numbers of torch, NumPy and Python come back as they were."""
    states = python_random.getstate(), np.random.get_state()  # noqa: NPY002 - it is the global state that is kept
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        python_random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def check_function(losses: Callable[[], Tensor], buffers: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Compute losses twice, and name the buffers that the module writes to on the way.

    Parameters
    ----------
    losses : callable
    buffers : mapping
        The tensors that the module keeps, as it is called with them; they are put back if they were changed.

    Raises
    ------
    ConfigError
        If the two differ, with the cause.
    """
    kept = {name: value.clone() for name, value in buffers.items()}
    before = torch.get_rng_state()
    first = losses().detach()
    drawn = not torch.equal(before, torch.get_rng_state())
    second = losses().detach()
    changed = [name for name, value in buffers.items() if not _same(value, kept[name])]
    for name in changed:
        buffers[name].copy_(kept[name])
    if close_to_rounding(first, second):
        return tuple(changed)
    if changed:
        cause = f"its forward changes the buffers {changed[:3]}"
        advice = "make them constants, or leave their update out in evaluation mode"
    elif drawn:
        cause = "its forward draws random numbers in evaluation mode too"
        advice = "give functional.dropout its flag, training=self.training, and draw nothing in evaluation mode"
    else:
        cause = "its forward keeps something from call to call, or draws random numbers outside torch"
        advice = "make it depend on its weights and inputs alone"
    raise ConfigError(
        f"the module is no function of its weights: two energies at one position are {float(first.mean()):g} and "
        f"{float(second.mean()):g}, because {cause}; {advice}"
    )


def check_derivative(losses: Callable[[Mapping[str, Tensor]], Tensor], parameters: Mapping[str, Tensor]) -> None:
    """Refuse a module whose losses vary with weights that torch finds no derivative for, and would leave at rest.

    Parameters
    ----------
    losses : callable
        Of the weights by name.
    parameters : mapping

    Raises
    ------
    ConfigError
        As where its forward is within `torch.no_grad` or `torch.inference_mode`, detaches, or rounds.
    """
    with torch.enable_grad():
        leaves = {name: one.detach().clone().requires_grad_(True) for name, one in parameters.items()}
        found = losses(leaves)
        slopes: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if found.requires_grad:
            slopes = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)
        still = [name for name, slope in zip(leaves, slopes, strict=True) if slope is None]
        if not still:
            return
        moved = {name: 1.01 * one.detach() + 0.01 if name in still else one.detach() for name, one in leaves.items()}
        other = losses({name: one.requires_grad_(True) for name, one in moved.items()}).detach()
    if not close_to_rounding(found.detach(), other):
        raise ConfigError(
            f"the loss varies with {still[:3]}, for which torch finds no derivative: their forces would be zero. Take "
            "no_grad, inference_mode, detach() and .data out of the module's forward, or freeze these weights, "
            "requires_grad_(False)"
        )


def samples_interact(losses: Callable[[Tensor], Tensor], numbers: Tensor) -> bool:
    """Whether losses of the samples of these numbers differ when they are computed in two parts."""
    if len(numbers) < 2:
        return False
    half = len(numbers) // 2
    together = losses(numbers)
    try:
        apart = torch.cat([losses(numbers[:half]), losses(numbers[half:])])
    except (RuntimeError, ValueError, IndexError):  # it needs the others
        return True
    return apart.shape != together.shape or not close_to_rounding(together, apart)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.layout != torch.strided:  # an adjacency matrix
        one, other = one.to_dense(), other.to_dense()
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def close_to_rounding(one: Tensor, other: Tensor) -> bool:
    """Equal but for rounding, which depends on how much is computed at once."""
    if one.shape != other.shape:
        return False
    tolerance = torch.finfo(one.dtype).eps ** 0.6
    scale = float(one.abs().nan_to_num(0.0, 0.0, 0.0).max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
