"""Functions of a user over many positions at once: whether they are, and how those that are not are made to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from landscape.errors import ConfigError, ShapeError
from landscape.potentials.network.modes import called, plain_modes
from landscape.potentials.network.module_trials import close_to_rounding, undisturbed

__all__ = ["check_batched", "numpy_hint", "one_by_one", "over_positions", "trial_points"]


def numpy_hint(what: str, error: Exception) -> ConfigError | None:
    """What to do about a function that computes with NumPy, which torch cannot differentiate; None for other errors."""
    if "numpy" not in str(error).lower():
        return None
    return ConfigError(
        f"the {what} computes with NumPy, through which torch has no derivative ({error}): write it with torch "
        "operations, or give its derivative too, Function(energy, dim, gradient=...) with functions of "
        "position.numpy() that return tensors"
    )


def check_batched(
    what: str, function: Callable[..., Any], dim: int, bounds: Mapping[str, tuple[float, float]], *,
    vector: bool, arguments: int = 1, differentiable: bool = False, remedy: str = "Function(..., batched=False)",
) -> None:  # fmt: skip
    """Refuse a function that takes one position where several are given, found out by a trial with two or three.

    One that fails on a single position as well is left alone: its own error says more, when it is used.

    Parameters
    ----------
    what : str
        What it is, for the message.
    function : callable
        Of one or more tensors ``(n, dim)``.
    dim : int
        n is another number, so that no transposed answer has the right shape.
    bounds : mapping
        Boundaries, between which the trial stays.
    vector : bool
        Whether it gives ``(n, dim)`` or ``(n,)``.
    arguments : int
    differentiable : bool
        Whether torch is to differentiate it.
    remedy : str
        What else to give.

    Raises
    ------
    ShapeError
        If it works for one position only.
    ConfigError
        If its value at a position depends on the others, or it computes with NumPy and should be differentiated.

    Examples
    --------
    >>> check_batched("energy function", lambda x: x[0] ** 2 + x[1] ** 2, 2, {}, vector=False)
    Traceback (most recent call last):
    ...
    landscape.errors.ShapeError: the energy function takes one position (2,) but not several at once: for (3, 2) it \
returned shape (2,), expected (3,); reduce over the last dimension only (x[..., 0], .sum(-1)), or give \
Function(..., batched=False)
    """
    count = 3 if dim == 2 else 2
    points = [trial_points(count, dim, bounds).requires_grad_(differentiable) for _ in range(arguments)]

    def at(rows: int | slice) -> Any:
        return called(what, function, *(one[rows] for one in points))

    with plain_modes(), undisturbed(), torch.enable_grad():
        together, alone, error = None, None, None
        try:
            together = at(slice(None))
        except Exception as raised:  # whatever a function raises
            error = raised
        wanted = (count, dim) if vector else (count,)
        if isinstance(together, Tensor) and together.shape == wanted:
            _check_apart(what, at, together.detach())
            return
        try:
            alone = at(0)
        except Exception as raised:
            hint = numpy_hint(what, raised) if differentiable else None
            if hint is not None:
                raise hint from raised
            return
    if not isinstance(alone, Tensor) or alone.shape != wanted[1:]:
        return
    got = f"it raised {type(error).__name__}" if error is not None else f"it returned {_shape(together)}"
    raise ShapeError(
        f"the {what} takes one position ({dim},) but not several at once: for {(count, dim)} {got}, expected {wanted}; "
        f"reduce over the last dimension only (x[..., 0], .sum(-1)), or give {remedy}"
    ) from error


def _check_apart(what: str, at: Callable[[int | slice], Any], together: Tensor) -> None:
    """Refuse values that depend on what else is in the batch."""
    try:
        again, first = at(slice(None)), at(slice(0, 1))
    except Exception:  # one row alone is not what it takes: its own error comes when that is asked for
        return
    if not isinstance(first, Tensor) or first.shape != together[:1].shape:
        return
    scale = together.detach().clone()
    scale[0] = first.detach()[0].to(scale)
    if close_to_rounding(together, again.detach()) and not close_to_rounding(together, scale):
        raise ConfigError(
            f"the {what} at one position depends on the other positions of its batch, which are other chains: reduce "
            "over the last dimension only"
        )


def trial_points(count: int, dim: int, bounds: Mapping[str, tuple[float, float]]) -> Tensor:
    """Different positions ``(count, dim)`` between the boundaries."""
    points = 0.3 + 0.4 * torch.linspace(0.0, 1.0, count * dim, dtype=torch.float64).reshape(count, dim)
    for d, (low, high) in enumerate(bounds.values()) if len(bounds) == dim else ():
        if abs(low) < torch.inf and abs(high) < torch.inf:
            points[:, d] = low + (high - low) * points[:, d]
        elif abs(low) < torch.inf:
            points[:, d] += low
        elif abs(high) < torch.inf:
            points[:, d] -= 1.0 - high
    return points


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def over_positions(what: str, function: Callable[..., Tensor], *positions: Tensor) -> Tensor:
    """A function of one position at many ``(..., dim)``, by `torch.vmap`.

    Raises
    ------
    ConfigError
        If it cannot be batched.

    Examples
    --------
    >>> over_positions("energy function", lambda x: x[0] * x[1], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([ 2., 12.])
    """
    leading, dim = positions[0].shape[:-1], positions[0].shape[-1]
    if not leading:
        return function(*positions)
    try:
        found = torch.vmap(function)(*(one.reshape(-1, dim) for one in positions))
    except (RuntimeError, ValueError, TypeError) as error:
        hint = numpy_hint(what, error)
        if hint is not None:
            raise hint from error
        raise ConfigError(
            f"the {what} with batched=False cannot be taken over many positions ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}): it has to return a tensor, without .item(), float() or `if` on values "
            "(torch.where chooses); with gradient= as well positions are taken one by one, whatever it does"
        ) from error
    return found.reshape(*leading, *found.shape[1:])


def one_by_one(function: Callable[..., Tensor], *positions: Tensor) -> Any:
    """A function of one position at many ``(..., dim)``, one after the other.

    Examples
    --------
    >>> one_by_one(lambda x: x * float(x[0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[ 1.,  2.],
            [ 9., 12.]])
    """
    leading, dim = positions[0].shape[:-1], positions[0].shape[-1]
    rows = zip(*(one.reshape(-1, dim) for one in positions), strict=True)
    found = [torch.as_tensor(function(*row)).to(positions[0]) for row in rows]
    return torch.stack(found).reshape(*leading, *found[0].shape) if found else None
