"""Studies that come with the package, as TOML files: the chain from minima to projected dynamics, small and large."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from landscape.common.arguments import guarded
from landscape.common.tables import overlaid
from landscape.errors import ConfigError

__all__ = ["complete", "load", "names"]


@guarded
def names() -> list[str]:
    """The presets, in alphabetical order.

    Examples
    --------
    >>> "cifar10-reduced" in names()
    True
    """
    files = [file.name for file in resources.files(__name__).iterdir() if file.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in files if not name.startswith("_"))


@guarded
def load(name: str) -> dict[str, Any]:
    """The specification of a study by its name.

    Raises
    ------
    ConfigError
        If there is no preset of that name.

    Examples
    --------
    >>> load("resnet-20-cifar10")["defaults"]["train"]["integrator"]["momentum"]
    0.9
    """
    if name not in (*names(), "_paper"):
        raise ConfigError(f"there is no preset {name!r}: expected one of {', '.join(names())}, or a TOML file")
    text = resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return complete(tomllib.loads(text))


@guarded
def complete(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A study with all that its ``base``, the name of a preset, says and it does not.

    Examples
    --------
    >>> spec = complete({"base": "cifar10-reduced", "defaults": {"train": {"epochs": 2}}})
    >>> spec["defaults"]["train"]["epochs"], spec["stage"][0]["name"]
    (2, 'train-a')
    """
    own = dict(spec)
    base = own.pop("base", None)
    return own if base is None else overlaid(load(base), own)
