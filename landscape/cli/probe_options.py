"""Options of a probe on the command line, from the signature and docstring of its function."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from landscape.cli.simulating import assign
from landscape.common.tables import put
from landscape.errors import ConfigError

__all__ = ["about", "described", "option", "read_settings"]

_ALSO = {
    # setting: further names of its option
    "a": ("--from",), "b": ("--to",), "coordinate": ("-c",), "coordinates": ("-c", "--coordinate"),
    "cores": ("--core",), "k": ("--pairs",), "observables": ("--observable",), "parameters": ("--parameter",),
    "quantities": ("-q", "--quantity"),
}  # fmt: skip
_PLURAL = ("coordinates", "observables", "quantities")  # lists, of a single entry too
_SECTION = re.compile(r"\n(?=[A-Z][A-Za-z ]+\n-{3,}\n)")


def about(function: Callable[..., Any]) -> str:
    """What a docstring says before its sections, as text."""
    head = _SECTION.split(inspect.getdoc(function) or "")[0].strip()
    return escape(re.sub(r"\.\. math::\s*", "", head).replace("``", "`"))


def described(function: Callable[..., Any]) -> dict[str, str]:
    """The parameters that a docstring in NumPy's style describes, each with kind and description.

    Examples
    --------
    >>> from landscape.probes import fluctuations
    >>> described(fluctuations.summary)["by"][:40]
    'One row per chain, or chains of equal te'
    """
    found: dict[str, str] = {}
    for section in _SECTION.split(inspect.getdoc(function) or ""):
        if not section.startswith("Parameters\n"):
            continue
        for entry in re.split(r"\n(?=\S)", section.split("\n", 2)[2]):
            names, _, rest = entry.partition(" : ")
            kind, _, text = rest.partition("\n")
            told = " ".join(text.split())
            found |= dict.fromkeys(names.split(", "), f"{told} ({kind})" if told else kind)
    return found


def option(parameter: inspect.Parameter, told: str) -> inspect.Parameter:
    """The option of the command line that gives a parameter of a probe."""
    name, default = parameter.name, parameter.default
    flag = isinstance(default, bool)
    needed = "needed" if default is parameter.empty else f"default: {default}"
    text = escape(f"{told.rstrip('.')}. [{needed}]" if told else f"[{needed}]")
    names = [f"--{name.replace('_', '-')}", *([f"--{name}"] if "_" in name else []), *_ALSO.get(name, ())]
    names = [f"{one}/--no-{one[2:]}" for one in names[:1]] if flag else names
    kind = (bool if flag else list[str]) | None
    made = Annotated[kind, typer.Option(*names, help=text, show_default=False)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=made)


def read_settings(
    given: Mapping[str, Any], assignments: Iterable[str], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """Settings from the texts of their options, and from ``key=value``.

    A text is read as TOML, or taken as it is; a name that ends in .nc is a stored file; a setting that is a table is
    given by entries ``name=value``.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> from landscape.probes.registry import registered
    >>> known = registered()["rates.core_sets"].settings
    >>> read_settings({"cores": ["A=x < -0.8", "B=x > 0.8"]}, [], known)
    {'cores': {'A': 'x < -0.8', 'B': 'x > 0.8'}}
    """
    found: dict[str, Any] = {}
    for name, texts in given.items():
        kind = str(parameters[name].annotation) if name in parameters else ""
        if texts is None or isinstance(texts, bool):
            found |= {} if texts is None else {name: texts}
        elif "Mapping" in kind:
            for text in texts:
                put(found, *_entry(name, text))
        else:
            values = [_value(text) for text in texts]
            several = len(values) > 1 or kind.startswith("Sequence") or name in _PLURAL
            put(found, name, values if several else values[0])
    for text in assignments:
        assign(found, text)
    return {name: {"file": one} if str(one).endswith(".nc") else one for name, one in found.items()}


def _entry(name: str, text: str) -> tuple[str, Any]:
    """Key and value of one entry of a setting that is a table."""
    parts = re.match(r"\s*([\w.]+)\s*=(?!=)\s*(.*\S)", text)
    if parts is None:
        raise ConfigError(f'--{name} must be name=value, such as --{name} "A=x < -0.8" or k=2.0, got {text!r}')
    return f"{name}.{parts[1]}", _value(parts[2])


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
