"""Potentials, integrators, observers, noises and probes of other packages, found by entry point.

A package registers an object by a line of its metadata, such as

    [project.entry-points."landscape.potentials"]
    Morse = "morse_landscape:Morse"

after which a specification may say ``kind = "Morse"``. Only the metadata of installed packages decides what a name
stands for, and an object is imported when its name is asked for: a specification or a stored run can name what is
registered, and nothing else.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from landscape import integrators, noise, observers, potentials
from landscape.errors import ConfigError

__all__ = ["GROUPS", "Plugin", "find", "installed", "names", "own"]

GROUPS = ("potentials", "integrators", "observers", "noises", "probes")
_OWN = {
    "potentials": ("python", *potentials.__all__),
    "integrators": tuple(integrators.__all__),
    "observers": tuple(observers.__all__),
    "noises": tuple(noise.__all__),
    "probes": ("confinement", "curvature", "fluctuations", "free-energy", "free_energy", "rates"),
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """An object that another package registers.

    Attributes
    ----------
    group : str
        One of `GROUPS`.
    name : str
        The ``kind`` of a specification, or the command after ``landscape probe``.
    entry : importlib.metadata.EntryPoint
        Where the object is.
    refused : str
        Why the name cannot be used; empty where it can.
    """

    group: str
    name: str
    entry: EntryPoint
    refused: str = ""

    @property
    def package(self) -> str:
        """Distribution and version that it comes from."""
        found = self.entry.dist
        return "an unnamed package" if found is None or not found.name else f"{found.name} {found.version}"

    def load(self) -> Callable[..., Any]:
        """Import the object.

        Raises
        ------
        ConfigError
            If its name was refused, its module fails on import, or it is not what its group needs; the message names
            the plug-in, its package and the cause.
        """
        if self.refused:
            raise ConfigError(f"{self._title} is refused: {self.refused}")
        try:
            made = self.entry.load()
        except Exception as error:  # whatever another package raises while it is imported
            raise ConfigError(
                f"{self._title} cannot be loaded from {self.entry.value!r} ({type(error).__name__}: {error}): update "
                "or remove that package"
            ) from error
        if not callable(made):
            raise ConfigError(f"{self._title} is {type(made).__name__} {made!r}; expected a class or a function")
        # a stored run names the class of what made it
        if self.group != "probes" and inspect.isclass(made) and made.__name__ != self.name:
            raise ConfigError(f"{self._title} is the class {made.__name__}: register it under that name")
        return made  # type: ignore[no-any-return]

    @property
    def _title(self) -> str:
        return f"{self.name!r} ({self.group[:-1]} of {self.package})"


def installed(group: str) -> list[Plugin]:
    """What other packages register in a group, by name; nothing is imported.

    Names of this package's own objects are refused, and so are names that two packages give.

    Parameters
    ----------
    group : str
        One of `GROUPS`.

    Returns
    -------
    list of Plugin

    Raises
    ------
    ConfigError
        If there is no such group.

    Examples
    --------
    >>> all(plugin.group == "potentials" for plugin in installed("potentials"))
    True
    """
    if group not in GROUPS:
        raise ConfigError(f"there is no group {group!r}; expected one of {', '.join(GROUPS)}")
    entries = sorted(entry_points(group=f"landscape.{group}"), key=lambda entry: (entry.name, entry.value))
    count = Counter(entry.name for entry in entries)
    found = []
    for entry in entries:
        refused = ""
        if entry.name in _OWN[group] or (group == "probes" and entry.name.partition(".")[0] in _OWN[group]):
            refused = "landscape has one of that name itself"
        elif count[entry.name] > 1:
            refused = "several packages register that name"
        found.append(Plugin(group, entry.name, entry, refused))
    return found


def own(group: str) -> tuple[str, ...]:
    """Names of this package's objects in a group."""
    return _OWN[group]


def names(group: str) -> list[str]:
    """Names that can be used, of what other packages register in a group."""
    return [plugin.name for plugin in installed(group) if not plugin.refused]


def find(group: str, name: str) -> Plugin | None:
    """The plug-in of that name; None where no package registers one."""
    return next((plugin for plugin in installed(group) if plugin.name == name), None)
