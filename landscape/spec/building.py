"""Objects from the tables of a specification: a kind, and the arguments of its constructor. `codec` goes back."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

import torch

from landscape import integrators, noise, observers, potentials
from landscape.boundaries.constraints import Absorb, Constraint, Periodic, Reflect
from landscape.boundaries.restraints import Restrain
from landscape.common import schedules
from landscape.dynamics.metadynamics import Metadynamics
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.paths.projection import ProjectOntoPath
from landscape.potentials import architectures, datasets, toys
from landscape.potentials.base import Potential
from landscape.recording.record import Record
from landscape.spec import plugins

__all__ = [
    "Table",
    "build",
    "build_constraint",
    "build_integrator",
    "build_potential",
    "build_record",
    "build_schedule",
    "is_known",
    "kinds",
    "suggest",
    "unknown_key",
]

Table = dict[str, Any]

# What the tables inside of tables are, by their key; any other table with a kind is a schedule.
_INSIDE: Final = {
    "noise": "noises", "inner": "integrators", "mobility": "mobilities", "potential": "potentials",
    "coordinate": "potentials", "walls": "potentials", "augment": "augmentations",
}  # fmt: skip
_OF_NETWORKS: Final = (
    "loss", "batch_size", "sampling", "shared_batches", "augment", "weight_decay", "batchnorm", "chunk_size", "dtype",
    "device",
)  # fmt: skip


@cache
def kinds(group: str) -> Mapping[str, Callable[..., Any]]:
    """What tables of a group may be: potentials, integrators, noises, observers, constraints, schedules, mobilities or
    augmentations of this package, by kind.
    """
    named: dict[str, tuple[Any, ...]] = {
        "potentials": (toys, *toys.__all__),
        "integrators": (integrators, *(set(integrators.__all__) - {"Integrator", "Mobility", "StepContext"})),
        "noises": (noise, *(set(noise.__all__) - {"Noise"})),
        "observers": (observers, *(set(observers.__all__) - {"Accumulator", "Observer"})),
        "schedules": (schedules, "ramp", "cycle", "piecewise", "cosine"),
        "mobilities": (integrators, "Mobility"),
        "augmentations": (datasets, "FlipCrop"),
    }
    if group == "constraints":
        constraints = (Reflect, Periodic, Absorb, ProjectOntoPath, Restrain, Metadynamics)
        return {one.__name__: one for one in constraints}
    package, *names = named[group]
    found = {name: getattr(package, name) for name in sorted(names)}
    if group == "potentials":
        found |= {"Expression": potentials.Expression, "Drift": potentials.Drift, "NetworkLoss": _network}
    return found


def build(table: Mapping[str, Any], group: str, where: str = "") -> Any:
    """The object of a table: a kind of ours, else one that another package registers in the group.

    Parameters
    ----------
    table : mapping
    group : str
        See `kinds`.
    where : str
        What to call it in messages.

    Raises
    ------
    ConfigError
        For a kind that nobody knows, an argument that it does not take or does not accept, and the name of an object
        that was given from Python.
    """
    options, where = dict(table), where or group.removesuffix("s")
    kind = options.pop("kind", None)
    if kind == "python":
        raise ConfigError(
            f"the {where} is the Python object {table.get('name')!r}, which plain data cannot rebuild: run it from "
            "Python"
        )
    make = _maker(kind, group, where)
    if make is _network:
        return _network(options, where)
    accepted = list(inspect.signature(make).parameters)
    for key in options:
        if key not in accepted:
            raise ConfigError(unknown_key(f"{where}.{key}", key, ["kind", *accepted]))
    try:
        return make(**{key: _inside(key, value, f"{where}.{key}") for key, value in options.items()})
    except TypeError as error:
        told = str(error).rpartition("__init__() ")[2]
        raise ConfigError(f"{where}: {kind} {told}") from None


def is_known(kind: Any, group: str) -> bool:
    """Whether a table of a group may be of this kind, of ours or of a plug-in."""
    return kind in kinds(group) or (group in plugins.GROUPS and plugins.find(group, kind) is not None)


def build_potential(table: Mapping[str, Any]) -> Potential:
    """A potential from its table."""
    potential: Potential = build(table, "potentials")
    return potential


def build_integrator(table: Mapping[str, Any]) -> Integrator:
    """An integrator from its table."""
    integrator: Integrator = build(table, "integrators")
    return integrator


def build_constraint(table: Mapping[str, Any]) -> Constraint | ProjectOntoPath | Restrain | Metadynamics:
    """A constraint from its table."""
    constraint: Constraint | ProjectOntoPath | Restrain | Metadynamics = build(table, "constraints")
    return constraint


def build_schedule(value: Any, where: str) -> Any:
    """The schedule that a table describes; anything but a table as it is."""
    return build(value, "schedules", where) if isinstance(value, Mapping) else value


def build_record(table: Mapping[str, Any]) -> Record:
    """A record from its table; observers are tables with their kind, in a list or by the names they are to have."""
    table = dict(table)
    given = table.get("observables")
    if isinstance(given, Mapping):
        table["observables"] = {name: _observer(one) for name, one in given.items()}
    elif given is not None:
        if any(isinstance(one, Mapping) and "name" in one for one in given):
            tables = [dict(one) if isinstance(one, Mapping) else {"name": one} for one in given]
            for one in tables:
                if one.get("kind") == "python":
                    _observer(one)  # refused by its name
            named = {one.pop("name", None): _observer(one) if one else None for one in tables}
            if None in named:
                raise ConfigError("record.observables: give all observers a name, or none")
            table["observables"] = named
        else:
            table["observables"] = [_observer(one) for one in given]
    return Record(**table)


def _observer(given: Any) -> Any:
    """The observer of a table; a name, a function and an observer as they are."""
    return build(given, "observers", "record.observables") if isinstance(given, Mapping) else given


def _maker(kind: Any, group: str, where: str) -> Callable[..., Any]:
    ours = kinds(group)
    if kind in ours:
        return ours[kind]
    of_others = group in plugins.GROUPS
    if kind is None:
        raise ConfigError(f'{where}: the table needs a kind, such as kind = "{next(iter(ours))}"')
    if of_others and (plugin := plugins.find(group, kind)) is not None:
        return plugin.load()
    known = [*ours, *(plugins.names(group) if of_others else ())]
    raise ConfigError(f"{where}: unknown kind {kind!r}; expected one of {', '.join(known)}{suggest(kind, known)}")


def _inside(key: str, value: Any, where: str) -> Any:
    """An argument, whose tables are objects too."""
    if not isinstance(value, Mapping):
        return value
    if "kind" not in value:
        return {name: _inside("", one, f"{where}.{name}") for name, one in value.items()}
    return build(value, _INSIDE.get(key, "schedules"), where)


def _network(options: Table, where: str) -> potentials.NetworkLoss:
    module, data = options.pop("module", None), options.pop("data", None)
    if not isinstance(module, Mapping) or not isinstance(data, Mapping):
        raise ConfigError("a NetworkLoss needs the tables `module` and `data`, each with its `kind`")
    if data.get("kind") == "shards":
        raise ConfigError(
            f"the data of this network were held by {len(data['parts'])} processes, each with its part: make the loss "
            "again on every one of them, and give it (resume takes it as potential=...)"
        )
    options.pop("evaluation", None)  # tensors, without which the energy is the same; `resume` asks for the loss
    for key in options:
        if key not in _OF_NETWORKS:
            raise ConfigError(unknown_key(f"{where}.{key}", key, ["module", "data", *_OF_NETWORKS]))
    if "dtype" in options:
        if options["dtype"] not in ("float32", "float64"):
            raise ConfigError(f'{where}.dtype must be "float32" or "float64", got {options["dtype"]!r}')
        options["dtype"] = getattr(torch, options["dtype"])
    if "augment" in options:
        options["augment"] = _inside("augment", options["augment"], f"{where}.augment")
    return potentials.NetworkLoss(architectures.from_spec(module), datasets.from_spec(data), **options)


def unknown_key(where: str, key: str, known: list[str]) -> str:
    """What to say of a key that nothing takes."""
    return f"unknown key {where!r}; expected one of {', '.join(known)}{suggest(key, known)}"


def suggest(word: Any, known: Iterable[str]) -> str:
    """The nearest of the names that there are, as a question; nothing where none is near."""
    close = difflib.get_close_matches(str(word), known, n=1)
    return f". Did you mean {close[0]!r}?" if close else ""
