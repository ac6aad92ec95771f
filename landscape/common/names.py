"""Names of coordinates and parameters: which spellings are one name, as the parser of formulas reads them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from landscape.errors import ConfigError

__all__ = ["check_different", "normalised", "spelled"]


def normalised(name: str) -> str:
    """The name as Python's parser sees it (NFKC: the micro sign becomes the Greek letter, a ligature its letters).

    Examples
    --------
    >>> normalised("\N{MICRO SIGN}") == "\N{GREEK SMALL LETTER MU}", normalised("\N{LATIN SMALL LIGATURE FI}t")
    (True, 'fit')
    """
    return unicodedata.normalize("NFKC", name)


def spelled(name: object, names: Iterable[str]) -> str | None:
    """How a name is spelled among others, None where it is not one of them.

    Examples
    --------
    >>> spelled("\N{MICRO SIGN}", ["x", "\N{GREEK SMALL LETTER MU}"]) == "\N{GREEK SMALL LETTER MU}"
    True
    """
    if not isinstance(name, str):
        return None
    return next((one for one in names if one == name or normalised(one) == normalised(name)), None)


def check_different(names: Iterable[str], what: str) -> None:
    """Refuse names that are given twice, also where their spellings differ.

    Raises
    ------
    ConfigError
    """
    known: dict[str, str] = {}
    for name in names:
        first = known.setdefault(normalised(name), name)
        if first != name:
            raise ConfigError(
                f"{first!r} and {name!r} are two spellings of one name, {normalised(name)!r} (Unicode NFKC), among "
                f"{what}: choose another for one of them"
            )
    listed = list(names)
    for name in listed:
        if listed.count(name) > 1:
            raise ConfigError(f"the name {name!r} is given more than once among {what}")
