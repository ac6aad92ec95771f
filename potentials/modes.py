"""Modes of torch that its user may be in, and that no number here may depend on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from landscape.errors import ConfigError

__all__ = ["plain_modes", "refuse_modes"]

_DEVICES = ("cpu", "cuda")


def _entered() -> list[str]:
    """Modes that change what is computed or forbid derivatives."""
    found = ["torch.inference_mode()"] if torch.is_inference_mode_enabled() else []
    return found + [f"torch.autocast({kind!r})" for kind in _DEVICES if torch.is_autocast_enabled(kind)]


@contextmanager
def plain_modes() -> Iterator[None]:
    """Leave inference mode, in which nothing has a derivative, and autocast, which computes in half the digits.

    Both are as they were afterwards.

    Examples
    --------
    >>> with torch.inference_mode(), plain_modes():
    ...     torch.ones(1, requires_grad=True).exp().requires_grad
    True
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for kind in _DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


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
