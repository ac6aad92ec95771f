"""A reader of pickled arrays, lists and dicts that has no way of calling anything.

A pickle is a program for a small stack machine, and the standard reader lets that program call any function. This
machine knows the instructions that build plain values and the few functions by which numpy arrays are written, which
it recognises by name and carries out itself. Everything else is refused.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from landscape.errors import StorageError

__all__ = ["read_pickled"]

_LARGEST = 2**29  # bytes; the largest file of this kind, the training part of CIFAR-100, has 1.6e8
_PUSH = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FUNCTIONS = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "numpy.core.numeric _frombuffer": "buffer",
    "numpy._core.numeric _frombuffer": "buffer",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "bytes",
    "__builtin__ bytes": "empty",
    "builtins bytes": "empty",
}


def read_pickled(content: bytes, where: str) -> Any:
    """The value in a pickle made of numbers, texts, bytes, lists, tuples, dicts and numeric numpy arrays.

    Parameters
    ----------
    content : bytes
        The pickle, of any protocol.
    where : str
        What the messages call it.

    Returns
    -------
    object

    Raises
    ------
    StorageError
        If it is damaged, too large, or names any other function or class. None is ever imported or called.

    Examples
    --------
    >>> read_pickled(b"\\x80\\x02}U\\x01aK\\x05s.", "example")
    {'a': 5}
    """
    if len(content) > _LARGEST:
        raise StorageError(
            f"{where} has {len(content)} bytes, at most {_LARGEST} are read: it is not a batch of images"
        )
    machine = _Machine(where)
    try:
        for code, argument, _ in pickletools.genops(content):
            machine.step(code.name, argument)
        (value,) = machine.stack
        return _plain(value)
    except StorageError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        raise StorageError(f"{where} is damaged or not a batch of images ({error}): fetch it again") from error


class _Held:
    """An array or a number type, which the file completes after it has been referred to."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


class _Function:
    """The name of one of `_FUNCTIONS`."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Machine:
    """The stack machine; `step` carries out one instruction."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _PUSH:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "GLOBAL":
            self.stack.append(self.function(argument))
        elif name in _BUILDERS:
            _BUILDERS[name](self)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise StorageError(f"{self.where} asks to run code (instruction {name}) and was not read: do not use it")

    def function(self, name: str) -> _Function:
        """The function called `name`, "module name", if it is a known one."""
        if name not in _FUNCTIONS:
            raise StorageError(f"{self.where} asks to run {name.replace(' ', '.')} and was not read: do not use it")
        return _Function(_FUNCTIONS[name])

    def since_mark(self) -> list[Any]:
        """Everything above the last mark, taken off."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def take(self, count: int) -> list[Any]:
        """The top `count` values, taken off."""
        if count > len(self.stack):
            raise ValueError("too few values")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def append(self, values: list[Any]) -> None:
        """Append to the list on top."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("not a list")
        self.stack[-1].extend(values)

    def set_items(self, flat: list[Any]) -> None:
        """Set items of the dict on top."""
        if not isinstance(self.stack[-1], dict):
            raise ValueError("not a dict")
        self.stack[-1].update(_dict(flat))

    def call(self) -> None:
        """Carry out a known function on its arguments."""
        function, arguments = self.take(2)
        if not isinstance(function, _Function):
            raise ValueError("a call of something that is not a function")
        self.stack.append(_CALLS[function.name](*arguments))

    def fill(self) -> None:
        """Give an array or a number type its state."""
        state = self.take(1)[0]
        target = self.stack[-1]
        if not isinstance(target, _Held):
            raise ValueError("a state for something that has none")
        if isinstance(target.value, np.dtype):
            if state[1] not in ("<", ">", "|", "="):
                raise ValueError("unknown byte order")
            target.value = target.value.newbyteorder(state[1])
        else:
            _, shape, dtype, fortran, content = state
            target.value = _shaped(content, dtype, shape, "F" if fortran else "C").value


def _dict(flat: list[Any]) -> dict[Any, Any]:
    keys = flat[::2]
    if len(flat) % 2 or not all(isinstance(key, str | bytes | int) for key in keys):
        raise ValueError("keys of a dict must be texts or integers")
    return dict(zip(keys, flat[1::2], strict=True))


def _number_type(text: Any, *_: Any) -> _Held:
    if not isinstance(text, str) or re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", text) is None:
        raise ValueError(f"arrays of type {text!r} are not numbers")
    return _Held(np.dtype(text))


def _shaped(content: Any, dtype: Any, shape: Any, order: Any) -> _Held:
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin-1")
    known = isinstance(content, bytes | bytearray) and isinstance(dtype, _Held) and isinstance(dtype.value, np.dtype)
    if not known or order not in ("C", "F"):
        raise ValueError("not the content of an array of numbers")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return _Held(np.frombuffer(content, dtype.value).reshape(shape, order=order))


def _scalar(dtype: Any, content: Any) -> Any:
    return _shaped(content, dtype, (), "C").value.item()


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"encoding {encoding!r} is not latin1")
    return text.encode("latin-1")


def _plain(value: Any) -> Any:
    """`value` with arrays in place of what held them; values of a dict are searched, as deep as data sets go."""
    if isinstance(value, dict):
        return {key: item if isinstance(item, dict) else _plain(item) for key, item in value.items()}
    if isinstance(value, _Function):
        raise ValueError("a function in place of a value")
    return value.value if isinstance(value, _Held) else value


_CALLS: dict[str, Callable[..., Any]] = {
    "array": lambda *_: _Held(),
    "empty": lambda: b"",
    "scalar": _scalar,
    "buffer": _shaped,
    "dtype": _number_type,
    "bytes": _encoded,
}

_BUILDERS: dict[str, Callable[[_Machine], None]] = {
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "LIST": lambda m: m.stack.append(m.since_mark()),
    "DICT": lambda m: m.stack.append(_dict(m.since_mark())),
    "TUPLE": lambda m: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m: m.stack.append(tuple(m.take(3))),
    "APPEND": lambda m: m.append(m.take(1)),
    "APPENDS": lambda m: m.append(m.since_mark()),
    "SETITEM": lambda m: m.set_items(m.take(2)),
    "SETITEMS": lambda m: m.set_items(m.since_mark()),
    "STACK_GLOBAL": lambda m: m.stack.append(m.function(" ".join(m.take(2)))),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.fill,
}
