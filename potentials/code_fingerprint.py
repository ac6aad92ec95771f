"""What tells one callable from another: its code, its defaults and what it closes over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["code_fingerprint"]


def code_fingerprint(function: Callable[..., Any]) -> str:
    """SHA-256 of a callable: of a function its bytecode, constants, defaults and closure; of a class those of its
    methods; else the class by name.

    Examples
    --------
    >>> def scaled(k):
    ...     return lambda x: k * x**2
    >>> code_fingerprint(scaled(2.0)) == code_fingerprint(scaled(2.0))
    True
    >>> code_fingerprint(scaled(2.0)) == code_fingerprint(scaled(3.0))
    False
    """
    digest = hashlib.sha256()
    _feed(digest, function)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    match value:
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            _feed(digest, (value.__code__, value.__defaults__, cells))
        case type():
            digest.update(f"{value.__module__}:{value.__qualname__}".encode())
            for owner in value.__mro__:
                if owner.__module__.partition(".")[0] not in ("builtins", "abc", "landscape", "torch"):
                    _feed(digest, [one for _, one in sorted(vars(owner).items()) if isinstance(one, FunctionType)])
        case CodeType():
            _feed(digest, (value.co_code, value.co_names, value.co_consts))
        case tuple() | list():
            for one in value:
                _feed(digest, one)
        case np.ndarray():
            digest.update(np.ascontiguousarray(value).tobytes())
        case Tensor():
            _feed(digest, value.detach().cpu().numpy())
        case None | bool() | int() | float() | complex() | str() | bytes():
            digest.update(repr(value).encode())
        case _:
            digest.update(f"{type(value).__module__}:{type(value).__qualname__}".encode())
