"""Docstrings that tell what is particular to a function; what its family shares is added once, in its place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["completed", "documented"]

F = TypeVar("F", bound=Callable[..., Any])

_ORDER = ("Parameters", "Attributes", "Returns", "Raises", "Warns", "Notes", "References", "Examples")


def completed(function: Callable[..., Any], parameters: Mapping[str, str], sections: Mapping[str, str]) -> str:
    """The docstring of a function with the entries and sections that it has not of its own.

    Parameters
    ----------
    function : callable
    parameters : mapping of str to str
        Entries ``"name : kind\\n    text"`` by name; those of the function's own parameters are taken, in their order.
    sections : mapping of str to str
        Texts by heading.

    Returns
    -------
    str

    Examples
    --------
    >>> def half(number, digits=2):
    ...     '''A half.
    ...
    ...     Parameters
    ...     ----------
    ...     number : float
    ...     '''
    >>> print(completed(half, {"digits": "digits : int", "seed": "seed : int"}, {"Returns": "float"}))
    A half.
    <BLANKLINE>
    Parameters
    ----------
    number : float
    digits : int
    <BLANKLINE>
    Returns
    -------
    float
    <BLANKLINE>
    """
    head, *parts = re.split(r"\n\n(?=[A-Z][a-z]+\n-+\n)", (inspect.getdoc(function) or "").rstrip())
    own = {title: text for title, _, text in (part.split("\n", 2) for part in parts)}
    entries = dict(parameters)
    for entry in re.split(r"\n(?=\S)", own.get("Parameters", "")):
        entries |= dict.fromkeys(entry.partition(" : ")[0].partition("\n")[0].split(", "), entry)
    told = dict.fromkeys(entries[name] for name in inspect.signature(function).parameters if name in entries)
    found = {**sections, **own} | ({"Parameters": "\n".join(told)} if told else {})
    titles = sorted(found, key=lambda title: _ORDER.index(title) if title in _ORDER else len(_ORDER))
    return "\n\n".join([head, *(f"{title}\n{'-' * len(title)}\n{found[title]}" for title in titles)]) + "\n"


def documented(parameters: Mapping[str, str], **sections: str) -> Callable[[F], F]:
    """A decorator that completes the docstring of a function.

    Examples
    --------
    >>> @documented({"x": "x : float"}, Returns="float")
    ... def same(x):
    ...     '''What was given.'''
    ...     return x
    >>> "x : float" in same.__doc__
    True
    """

    def decorated(function: F) -> F:
        function.__doc__ = completed(function, parameters, sections)
        return function

    return decorated
