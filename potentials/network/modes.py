"""Modes of torch that its user may be in, and that no number here may depend on.

Torch is imported where it is used: probes that know its modes are imported without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from landscape.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["called", "kept_modes", "out_of_inference", "plain_modes", "refuse_modes"]

_DEVICES = ("cpu", "cuda")


def _entered() -> list[str]:
    """Modes that change what is computed or forbid derivatives."""
    import torch

    found = ["torch.inference_mode()"] if torch.is_inference_mode_enabled() else []
    return found + [f"torch.autocast({kind!r})" for kind in _DEVICES if torch.is_autocast_enabled(kind)]


@contextmanager
def plain_modes() -> Iterator[None]:
    """Leave inference mode, in which nothing has a derivative, and autocast, which computes in half the digits.

    Both are as they were afterwards.

    Examples
    --------
    >>> import torch
    >>> with torch.inference_mode(), plain_modes():
    ...     torch.ones(1, requires_grad=True).exp().requires_grad
    True
    """
    import torch

    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for kind in _DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def kept_modes() -> Iterator[None]:
    """Around code of a user: what it does to the modes of torch for good is undone.

    Examples
    --------
    >>> import torch
    >>> with kept_modes():
    ...     _ = torch.set_grad_enabled(False)
    >>> torch.is_grad_enabled()
    True
    """
    import torch

    enabled = torch.is_grad_enabled()
    cast = {kind: torch.is_autocast_enabled(kind) for kind in _DEVICES}
    number = torch.get_default_dtype()
    strict = torch.get_deterministic_debug_mode()
    try:
        yield
    finally:
        torch.set_grad_enabled(enabled)
        for kind, was in cast.items():
            if torch.is_autocast_enabled(kind) != was:
                torch.set_autocast_enabled(kind, was)
        if torch.get_default_dtype() != number:
            torch.set_default_dtype(number)
        if torch.get_deterministic_debug_mode() != strict:
            torch.set_deterministic_debug_mode(strict)


def called(what: str, function: Callable[..., Any], *arguments: Tensor) -> Any:
    """Call a user's function of tensors, which has to leave them and the gradient mode as they are.

    Raises
    ------
    ConfigError
        If it writes into an argument, which is where a run is.
    """
    before = [_writes(one) for one in arguments]
    with kept_modes():
        found = function(*arguments)
    if [_writes(one) for one in arguments] != before:
        raise ConfigError(f"the {what} writes into its argument, which would move the run: work on position.clone()")
    return found


def _writes(tensor: Tensor) -> int:
    """How often it was written to; a tensor of inference mode does not count."""
    return 0 if tensor.is_inference() else tensor._version


def out_of_inference(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of one made in inference mode, which would have no derivatives anywhere.

    Examples
    --------
    >>> import torch
    >>> with torch.inference_mode():
    ...     made = torch.ones(1)
    >>> made.is_inference(), out_of_inference(made).is_inference()
    (True, False)
    """
    if not tensor.is_inference():
        return tensor
    with plain_modes():
        return tensor.clone()


def refuse_modes() -> None:
    """Refuse to start work of many steps within such a mode: its tensors would have no derivatives.

    Raises
    ------
    ConfigError
    """
    if modes := _entered():
        raise ConfigError(
            f"called within {' and '.join(modes)}, where forces would be zero or of fewer digits than the run says: "
            "call it outside of that block"
        )
