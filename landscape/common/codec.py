"""Objects as plain tables: a kind, and the arguments of its constructor under their names. `building` goes back."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np

__all__ = ["Described", "code_fingerprint", "name_of", "plain", "python_object"]


class Described:
    """An object that keeps the arguments of its constructor as attributes of the same names.

    Whoever keeps one elsewhere, or leaves one out, says so in `arguments`; the rest is done here.
    """

    __slots__ = ()

    @property
    def kind(self) -> str:
        """What a table calls it."""
        return type(self).__name__

    def arguments(self) -> dict[str, Any]:
        """What the constructor was given, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def spec(self) -> dict[str, Any]:
        """Kind and arguments as plain data (JSON types only), without those that are None or empty mappings.

        A callable is named, with a fingerprint of its code, and cannot be rebuilt from that.
        """
        table = {name: plain(value) for name, value in self.arguments().items()}
        return {"kind": self.kind} | {name: one for name, one in table.items() if one not in (None, {})}


def plain(value: Any) -> Any:
    """A value as plain data: objects as their tables, arrays as lists, callables by name.

    Examples
    --------
    >>> plain({"a": np.arange(2), "b": (1, None)})
    {'a': [0, 1], 'b': [1, None]}
    >>> plain(np.cos)["name"]
    'numpy:cos'
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if callable(getattr(value, "spec", None)):
        return value.spec()
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(getattr(value, "tolist", None)):  # arrays, tensors
        return value.tolist()
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    return python_object(value) if callable(value) else str(value)


def python_object(thing: Any) -> dict[str, Any]:
    """The table of what plain data can tell from another, and cannot rebuild."""
    return {"kind": "python", "name": name_of(thing), "sha256": code_fingerprint(thing)}


def name_of(thing: Any) -> str:
    """Where to find a callable or a class.

    Examples
    --------
    >>> name_of(Described)
    'landscape.common.codec:Described'
    """
    module = getattr(thing, "__module__", None) or "?"
    return f"{module}:{getattr(thing, '__qualname__', None) or getattr(thing, '__name__', type(thing).__qualname__)}"


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
    _feed(digest, function, set())
    return digest.hexdigest()


def _feed(digest: Any, value: Any, seen: set[int]) -> None:
    if isinstance(value, FunctionType | type):  # what may hold itself
        if id(value) in seen:
            return
        seen.add(id(value))
    match value:
        case FunctionType():
            cells = [_content(cell) for cell in value.__closure__ or ()]
            _feed(digest, (value.__code__, value.__defaults__, cells), seen)
        case type():
            digest.update(f"{value.__module__}:{value.__qualname__}".encode())
            package = value.__module__.partition(".")[0]
            for owner in value.__mro__:
                if owner.__module__.partition(".")[0] == package and package not in ("builtins", "landscape", "torch"):
                    methods = [one for _, one in sorted(vars(owner).items()) if isinstance(one, FunctionType)]
                    _feed(digest, methods, seen)
        case CodeType():
            _feed(digest, (value.co_code, value.co_names, value.co_consts), seen)
        case tuple() | list():
            for one in value:
                _feed(digest, one, seen)
        case np.ndarray():
            digest.update(np.ascontiguousarray(value).tobytes())
        case _ if hasattr(type(value), "detach"):  # a tensor
            _feed(digest, value.numpy(force=True), seen)
        case None | bool() | int() | float() | complex() | str() | bytes():
            digest.update(repr(value).encode())
        case _:
            digest.update(f"{type(value).__module__}:{type(value).__qualname__}".encode())


def _content(cell: Any) -> Any:
    """What a function closes over, None where that is not there yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
