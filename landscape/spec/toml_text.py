"""A specification as the TOML that `landscape simulate` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from landscape.errors import ConfigError

__all__ = ["to_toml"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(table: Mapping[str, Any]) -> str:
    """Plain data as TOML: values first, then a section for each table; keys without a value are left out.

    Raises
    ------
    ConfigError
        For what TOML cannot say, such as None in a list.

    Examples
    --------
    >>> text = to_toml({"steps": 10, "potential": {"kind": "Valley", "bounds": {"y": [-3, 3.5]}}})
    >>> print(text)
    steps = 10
    <BLANKLINE>
    [potential]
    kind = "Valley"
    bounds = { y = [-3, 3.5] }
    """
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None}
    sections = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    blocks = ["\n".join(_lines(values))] if values else []
    blocks += ["\n".join([f"[{_key(key)}]", *_lines(section)]) for key, section in sections.items()]
    return "\n\n".join(blocks)


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None]


def _key(key: Any) -> str:
    return str(key) if _BARE.fullmatch(str(key)) else _value(str(key))


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case Mapping():
            return f"{{ {', '.join(_lines(value))} }}" if value else "{}"
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
    raise ConfigError(f"TOML has no word for {value!r}; expected text, numbers, lists and tables")
