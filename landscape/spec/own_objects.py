"""Objects of one's own inside a specification: a table that tells one from another, and the object it stands for.

A specification is plain data, and names what this package or a plug-in has. Anything else (a class of a notebook, a
function, an object of ours that holds a function) is carried beside it, in memory and between processes, never on disk:
what is read from a file cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from landscape.common.codec import name_of
from landscape.errors import ConfigError
from landscape.spec import plugins
from landscape.spec.carrying import arrived, packed

__all__ = ["OwnObjects", "fingerprint", "is_named", "mentions_python"]


class OwnObjects:
    """What the tables of a specification stand for that plain data cannot rebuild, by its fingerprint.

    It travels to worker processes by cloudpickle, so that classes and functions of a script or notebook go with it.

    Examples
    --------
    >>> own = OwnObjects()
    >>> table = own.table_of(abs)
    >>> table["kind"], table["name"], own.placed({"observables": {"size": table}})["observables"]["size"] is abs
    ('python', 'builtins:abs', True)
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def __getstate__(self) -> bytes:
        return packed(self._known)

    def __setstate__(self, state: bytes) -> None:
        self._known = arrived(state)

    def table_of(self, value: Any) -> Any:
        """An object as plain data: by its specification where that says all, else by a fingerprint beside it.

        Raises
        ------
        TypeError
            For what is neither a function nor an object with a specification.
        """
        if not hasattr(value, "spec"):
            if not callable(value):
                raise TypeError(f"{type(value).__name__} is none of these")
            return self._carried(value, {"kind": "python", "name": name_of(value)})
        try:
            table = json.loads(json.dumps(value.spec()))
        except (NotImplementedError, AttributeError):  # a class that keeps its arguments elsewhere
            return self._carried(value, {"kind": "python", "name": name_of(type(value))})
        if _parts(value):
            if not all(self._is_plain(one) for one in _parts(value)):
                return {name: one for name, one in _state(value).items() if one is not None}  # each part on its own
            return table
        if self._is_plain(value):
            return table
        if not is_named(value) and table.get("kind") != "python":
            table |= {"kind": "python", "name": name_of(type(value))}
        return self._carried(value, table)

    def _is_plain(self, value: Any) -> bool:
        """Whether a specification says all of a value, or of an object."""
        if hasattr(value, "spec"):
            return is_named(value) and not mentions_python(value.spec())
        return not callable(value)

    def _carried(self, value: Any, table: dict[str, Any]) -> dict[str, Any]:
        told = {key for key in table if not mentions_python(table[key])} - {"name", "kind", "sha256"}
        table = table | {"sha256": fingerprint(value, told)}
        self._known.setdefault(table["sha256"], (value, table))
        return table

    def placed(self, value: Any) -> Any:
        """Plain data with the objects in place of their tables, one with other settings where the table has others.

        Raises
        ------
        ConfigError
            If an object does not take the settings.
        """
        if isinstance(value, list):
            return [self.placed(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if value.get("sha256") in self._known:
            given, table = self._known[value["sha256"]]
            return _changed(given, {key: self.placed(one) for key, one in value.items() if table.get(key) != one})
        return {key: self.placed(one) for key, one in value.items()}


def is_named(value: Any) -> bool:
    """Whether a specification can name the class of an object: this package's own, or one of a plug-in."""
    kind = type(value)
    if kind.__module__.partition(".")[0] == "landscape":
        return True
    plugin = next((one for group in plugins.GROUPS if (one := plugins.find(group, kind.__name__)) is not None), None)
    return plugin is not None and not plugin.refused and plugin.load() is kind


def _changed(given: Any, settings: dict[str, Any]) -> Any:
    if not settings:
        return given
    try:
        if is_dataclass(given) and not isinstance(given, type):
            return replace(given, **settings)
        return type(given)(**(_state(given) | settings))
    except TypeError as error:
        raise ConfigError(f"{name_of(type(given))} cannot be made with {', '.join(settings)}: {error}") from None


def _parts(value: Any) -> list[Any]:
    """What a record observes; nothing of anything else."""
    given = getattr(value, "observables", None)
    if not hasattr(value, "snapshots") or given is None:
        return []
    return list(given.values() if isinstance(given, Mapping) else given)


def mentions_python(table: Any) -> bool:
    """Whether plain data name something that they cannot rebuild."""
    if isinstance(table, Mapping):
        return table.get("kind") == "python" or any(mentions_python(value) for value in table.values())
    return isinstance(table, list) and any(mentions_python(one) for one in table)


# -- what tells one object from another -------------------------------------------------------------------------------


def fingerprint(value: Any, told: set[str] | None = None) -> str:
    """SHA-256 of the code of an object and of its class, of the globals they use, and of what it holds.

    Parameters
    ----------
    value : Any
    told : set of str, optional
        Settings that do not count, since they are told beside the fingerprint.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> two, same, three = (fingerprint(SimpleNamespace(k=k)) for k in (2.0, 2.0, 3.0))
    >>> two == same, two == three
    (True, False)
    """
    digest, seen = hashlib.sha256(), dict[int, Any]()
    if isinstance(value, FunctionType | type):
        _feed(digest, value, seen)
    else:
        _feed(digest, type(value), seen)
        _feed(digest, {name: one for name, one in _state(value).items() if name not in (told or ())}, seen)
    return digest.hexdigest()


def _state(value: Any) -> dict[str, Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    return dict(getattr(value, "__dict__", {}))


def _feed(digest: Any, value: Any, seen: dict[int, Any]) -> None:
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes():
            digest.update(repr(value).encode())
            return
        case np.ndarray() | np.generic():
            digest.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
            return
        case Tensor():
            _feed(digest, value.detach().cpu().contiguous().numpy(), seen)
            return
    if id(value) in seen:
        return
    seen[id(value)] = value  # held, for a number is given again when its object has gone
    match value:
        case FunctionType():
            used = {name: value.__globals__[name] for name in _names_in(value.__code__) if name in value.__globals__}
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            digest.update(value.__qualname__.encode())
            if not _is_installed(value.__module__):
                for one in (value.__code__, value.__defaults__, value.__kwdefaults__, cells, used):
                    _feed(digest, one, seen)
        case CodeType():
            _feed(digest, (value.co_code, value.co_names, value.co_consts), seen)
        case ModuleType():
            digest.update(value.__name__.encode())
        case type():
            digest.update(name_of(value).encode())
            if not _is_installed(value.__module__):
                for one in (dict(vars(value)), value.__bases__):
                    _feed(digest, one, seen)
        case property():
            _feed(digest, (value.fget, value.fset), seen)
        case classmethod() | staticmethod():
            _feed(digest, value.__func__, seen)
        case Mapping():
            for name in sorted(map(str, value)):
                if name not in ("__dict__", "__weakref__", "__doc__", "__firstlineno__"):
                    digest.update(name.encode())
                    _feed(digest, {str(key): one for key, one in value.items()}[name], seen)
        case tuple() | list():
            for one in value:
                _feed(digest, one, seen)
        case set() | frozenset():
            for text in sorted(map(repr, value)):
                digest.update(text.encode())
        case _:
            digest.update(name_of(type(value)).encode())
            _feed(digest, type(value), seen)
            _feed(digest, _state(value), seen)


def _names_in(code: CodeType) -> set[str]:
    """Names that a function and those inside it look up."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return set(code.co_names).union(*(_names_in(one) for one in inner))


def _is_installed(module: str) -> bool:
    """Whether a module is of this package or of an installed one, which versions tell apart and not their code."""
    root = module.partition(".")[0]
    if module == "__main__":  # whatever started this process
        return False
    if root in sys.stdlib_module_names or root == "landscape":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    paths = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return file is not None and any(path in Path(file).resolve().parents for path in paths)
