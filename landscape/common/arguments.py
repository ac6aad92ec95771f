"""The door of public functions: a wrong argument that slips past their own checks is named, whatever it led to.

Functions check values where they use them, and say what is wrong best. What is of another kind altogether, a word for
a number or a list for a landscape, comes to grief anywhere. Then, and only then, the arguments are held against the
annotations of the function, and one that does not fit is what is reported. An error while all of them fit is left as
it is: it is not the caller's.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import itertools
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, Final, Literal, ParamSpec, TypeVar, Union

from landscape.errors import ConfigError, LandscapeError, ShapeError

__all__ = ["guarded", "guarded_class"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

_MOST_ELEMENTS: Final = 1000  # of a sequence that are looked at


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose arguments are held against its annotations if it fails otherwise than by an error of ours.

    Raises
    ------
    ConfigError
        Naming the first argument that does not fit.
    ShapeError
        Naming the variable that a given Dataset lacks.

    Examples
    --------
    >>> @guarded
    ... def twice(number: float) -> float:
    ...     return 2 / number * number**2
    >>> twice(2)
    4.0
    >>> twice("two")
    Traceback (most recent call last):
    ...
    landscape.errors.ConfigError: twice takes number as float, got 'two'
    """
    door: Callable[P, R] = _guard(function, explained)
    return door


def guarded_class(made: C) -> C:
    """A class whose constructor is `guarded`."""
    initialise = _guard(made.__init__, functools.partial(explained, called=made.__name__))  # type: ignore[misc]
    made.__init__ = initialise  # type: ignore[misc]
    return made


def _guard(function: Any, explain: Callable[..., LandscapeError | None]) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        arguments, named = settled(function, arguments, named)
        try:
            return function(*arguments, **named)
        except own:
            raise
        except any_other as error:
            ours = explain(function, arguments, named, error)
            if ours is None:
                raise
            raise ours from error

    own, any_other, settled = LandscapeError, Exception, _settled
    # with the globals of the module that it is written in, or doctest takes it for one of another module
    home = inspect.unwrap(function).__globals__
    twin = types.FunctionType(call.__code__, home, function.__name__, None, call.__closure__)
    return functools.update_wrapper(twin, function)


def _settled(
    function: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, but for those over which nothing would come to grief: no word or flag where one is meant, which
    passes for a true flag, and several numbers, or one in a list of its own, where one is meant.

    NumPy's integers, which overflow, become Python's. Which words there are the function itself says.

    Raises
    ------
    ConfigError
    """
    for name, (place, hint, kinds) in _choices(function).items():
        value = named.get(name, arguments[place] if place < len(arguments) else None)
        if value is None or type(value) in kinds:
            continue
        if kinds <= {int, float}:  # words for a number and the like are found out where it is used
            if getattr(value, "shape", ()):
                raise ConfigError(f"{name} = {_shown(value)} of shape {tuple(value.shape)} is not one number")
            if isinstance(value, Integral) and not isinstance(value, int):
                named = {**named, name: int(value)} if name in named else named
                arguments = arguments if name in named else (*arguments[:place], int(value), *arguments[place + 1 :])
        elif not any(_plain(value, kind) for kind in kinds):
            wanted = "True or False" if hint is bool else _in_words(hint)
            raise ConfigError(f"{name} = {_shown(value)} is not {wanted}")
    return arguments, named


@functools.cache
def _choices(function: Any) -> dict[str, tuple[int, Any, frozenset[type]]]:
    """Arguments that are words, flags or one number: their place, annotation and the kinds of value that they take."""
    found = {}
    hints = _hints(function)
    for place, name in enumerate(inspect.signature(function).parameters):
        kinds = _kinds(hints.get(name, Any))
        if kinds is not None:
            found[name] = place, hints[name], frozenset(kinds)
    return found


def _kinds(hint: Any) -> set[type] | None:
    """Of an annotation made of words and flags, or of numbers, and None: which of these; None for others."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint in (str, bool, int, float) or hint is type(None):
        return {hint} - {type(None)}
    if origin is Literal:
        kinds = {type(one) for one in inside} - {type(None)}
        return kinds if kinds <= {str, bool} else None
    if origin in (Union, types.UnionType):
        parts = [_kinds(one) for one in inside]
        kinds = set() if None in parts else set().union(*parts)  # type: ignore[arg-type]
        return kinds if kinds and (kinds <= {str, bool} or kinds <= {int, float}) else None
    return None


def explained(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: Mapping[str, Any],
    error: Exception,
    called: str = "",
) -> LandscapeError | None:
    """What is wrong with the arguments of a call that failed; None if all of them fit."""
    signature = inspect.signature(function)
    try:
        given = signature.bind(*arguments, **named).arguments
    except TypeError:  # names that it does not know: Python's own message says so
        return None
    hints, called = _hints(function), called or function.__name__
    for name, value in given.items():
        parameter, hint = signature.parameters[name], hints.get(name, Any)
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and not fits(value, hint):
            return ConfigError(f"{called} takes {name} as {_in_words(hint)}, got {_shown(value)}")
    return _lacking(called, [*arguments, *named.values()], error)


def _lacking(called: str, values: Iterable[Any], error: Exception) -> ShapeError | None:
    """Of a name that was looked up in a Dataset which has it not."""
    wanted = error.name if isinstance(error, AttributeError) else error.args[0] if isinstance(error, KeyError) else None
    if not isinstance(wanted, str):
        return None
    xarray: Any = sys.modules.get("xarray")
    wanted = wanted.split("'")[1] if wanted.startswith("No variable named '") else wanted
    for value in values:
        if xarray is not None and isinstance(value, xarray.Dataset) and wanted not in value:
            return ShapeError(
                f"{called} needs {wanted!r}, and the dataset has only {sorted(map(str, value.variables))}: give it the "
                "result that it is made for"
            )
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that an annotation names; true where the annotation does not tell.

    Examples
    --------
    >>> fits(3, int), fits(True, int), fits("3", float | None), fits(None, float | None)
    (True, False, False, True)
    >>> fits([1.0, 2.0], collections.abc.Sequence[float]), fits((0.0, "a"), tuple[float, float])
    (True, False)
    """
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin is Literal:
        return isinstance(value, str | int | bool | None) and value in inside
    if hint is None or hint is type(None):
        return value is None
    if hint in (bool, int, float, str):
        return _plain(value, hint)
    if origin is tuple and Ellipsis not in inside:
        return _listed(value) and len(value) == len(inside) and all(map(fits, value, inside))
    if origin in (list, tuple, collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable):
        return _listed(value) and all(fits(one, inside[0]) for one in _elements(value))
    if origin in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping) and all(
            fits(key, inside[0]) and fits(one, inside[1]) for key, one in value.items()
        )
    if origin is collections.abc.Callable:
        return callable(value)
    if origin is os.PathLike:
        return isinstance(value, os.PathLike)
    kind = origin or hint
    try:
        return isinstance(value, kind) if isinstance(kind, type) else True
    except TypeError:  # a protocol that cannot be asked
        return True


def _plain(value: Any, hint: type) -> bool:
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ == "bool"  # NumPy's
    if hint is str or isinstance(value, bool):
        return hint is str and isinstance(value, str)
    return isinstance(value, Integral if hint is int else Real)


def _listed(value: Any) -> bool:
    axes = getattr(value, "ndim", 0)
    return isinstance(value, list | tuple | range) or (isinstance(axes, int) and axes > 0)


def _elements(value: Any) -> list[Any]:
    """The first of a sequence; of a tensor that cannot be walked through itself, which is no element."""
    try:
        return list(itertools.islice(value, _MOST_ELEMENTS))
    except (RuntimeError, TypeError):
        return [value]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types; what is imported for the type checker alone is anything, unless it is loaded."""
    known: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(inspect.unwrap(function), localns=known)
        except NameError as error:
            if not error.name or error.name in known:
                return {}
            known[error.name] = getattr(sys.modules.get("matplotlib.axes"), error.name, Any)
        except TypeError:  # an annotation that only a type checker reads
            return {}


def _in_words(hint: Any) -> str:
    """An annotation as one would write it, without the modules that its names come from.

    Examples
    --------
    >>> _in_words(collections.abc.Sequence[float] | Literal["a", "b"] | None)
    "Sequence[float] | 'a' | 'b' | None"
    >>> _in_words(typing.Annotated[dict["Path", int], "by file"]), _in_words(collections.abc.Callable[[int], str])
    ('dict[Path, int]', 'callable')
    """
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, str | typing.ForwardRef):
        return hint if isinstance(hint, str) else hint.__forward_arg__
    if origin is typing.Annotated:
        return _in_words(inside[0])
    if origin is Literal:
        return " | ".join(map(repr, inside))
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(_in_words, inside)))
    if hint is collections.abc.Callable or origin is collections.abc.Callable:
        return "callable"
    name = getattr(origin or hint, "__name__", None) or str(hint)
    if name == "ndarray" or (name.startswith("_") and getattr(origin or hint, "__module__", "").startswith("numpy.")):
        return "array"  # or one of the protocols that make up ArrayLike
    return f"{name}[{', '.join('...' if one is ... else _in_words(one) for one in inside)}]" if inside else name


def _shown(value: Any) -> str:
    plain = isinstance(value, str | bytes | int | float | complex | None)
    text = repr(value) if plain else f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return text if len(text) <= 80 else f"{text[:76]} ..."
