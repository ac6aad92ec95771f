"""Checks of plain arguments, with messages that say what was given, what was expected and what to do."""

from __future__ import annotations

import inspect
import math
import operator
import os
import reprlib
from collections.abc import Callable, Collection, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from landscape.errors import ConfigError

__all__ = ["an_instance", "file_path", "finite_number", "known_options", "one_of", "true_or_false", "whole_number"]


def whole_number(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """`value` as an int, refused unless it is a whole number with ``least <= value <= most``.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : int
        Any integer type; a bool is not one.
    least, most : int
        Smallest and largest value; None = no upper limit.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        If it is not such a number.

    Examples
    --------
    >>> whole_number("width", 16)
    16
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        wanted = "a positive whole number" if least == 1 else f"a whole number, {least} or more"
        wanted = wanted if most is None else f"a whole number from {least} to {most}"
        raise ConfigError(f"{name} = {value!r} is not {wanted}: change {name}")
    return number


def finite_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """`value` as a float, refused unless it is one finite number within the bounds.

    Parameters
    ----------
    name : str
        What the value is, for the message.
    value : float
        Any real type, or an array or tensor of one number without dims; a bool is none.
    least, above, most, below : float, optional
        Bounds; `least` and `most` are allowed themselves.

    Raises
    ------
    ConfigError
        If it is not such a number.

    Examples
    --------
    >>> finite_number("dt", 1, above=0)
    1.0
    """
    number = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    bounds = {"of at least": least, "above": above, "of at most": most, "below": below}
    known = {word: bound for word, bound in bounds.items() if bound is not None}
    fits = {"of at least": operator.ge, "above": operator.gt, "of at most": operator.le, "below": operator.lt}
    if (
        isinstance(number, bool)
        or not isinstance(number, Real)
        or not math.isfinite(number)
        or not all(fits[word](number, bound) for word, bound in known.items())
    ):
        limits = " and ".join(f"{word} {bound:g}" for word, bound in known.items())
        wanted = "a positive number" if limits == "above 0" else f"a finite number {limits}".rstrip()
        raise ConfigError(f"{name} = {value!r} is not {wanted}: change {name}")
    return float(number)


def file_path(given: str | os.PathLike[str]) -> Path:
    """A path, refused where no file can be called so; a ``~`` at its beginning is the user's home.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> file_path("data").name
    'data'
    """
    path = Path(os.path.expanduser(given))
    if "\0" in str(path):
        raise ConfigError(f"{given!r} is no path: there is a null character in it")
    return path


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """`value`, refused unless it is one of `choices`.

    Raises
    ------
    ConfigError
        If it is not.

    Examples
    --------
    >>> one_of("norm", "batch", ("batch", "none"))
    'batch'
    """
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(f"{name} = {value!r} is unknown: choose one of {sorted(choices)}")
    return value


def an_instance(name: str, value: Any, kind: Any, called: str | None = None) -> Any:
    """`value`, refused unless it is of that kind, or of what it is `called` in the message.

    Raises
    ------
    ConfigError
        If it is not.

    Examples
    --------
    >>> an_instance("file", Path("data"), Path).name
    'data'
    """
    if not isinstance(value, kind):
        raise ConfigError(
            f"{name} must be a {called or kind.__name__}, got {reprlib.repr(value)} ({type(value).__name__})"
        )
    return value


def true_or_false(name: str, value: Any) -> bool:
    """`value`, refused unless it is True or False.

    Raises
    ------
    ConfigError
        If it is not.

    Examples
    --------
    >>> true_or_false("bias", True)
    True
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} = {value!r} is not True or False: give one of the two")
    return value


def known_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` as a dict, refused unless they are arguments of `function` and none that it needs is missing.

    Raises
    ------
    ConfigError
        If there are others, or some are missing.

    Examples
    --------
    >>> known_options("one_of", one_of, {"name": "n", "value": "a", "choices": ["a"]})
    {'name': 'n', 'value': 'a', 'choices': ['a']}
    """
    parameters = inspect.signature(function).parameters
    for option in options:
        if option not in parameters:
            raise ConfigError(f"{name} has no option {option!r}: remove it, or use one of {list(parameters)}")
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise ConfigError(f"{name} needs {option!r}, got only {sorted(options)}: add it")
    return dict(options)
