"""Objects from the tables of a specification: a table has a `kind`, and the arguments of that constructor."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from landscape import integrators, noise, observers, plugins, potentials, schedules
from landscape.constraints import Absorb, Constraint, Periodic, Reflect
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.metadynamics import Metadynamics
from landscape.potentials import architectures, datasets, toys
from landscape.potentials.base import Potential
from landscape.projection import ProjectOntoPath
from landscape.record import Record
from landscape.restraints import Restrain

__all__ = [
    "Table",
    "build_constraint",
    "build_integrator",
    "build_potential",
    "build_record",
    "build_schedule",
    "unknown_key",
]

Table = dict[str, Any]


def build_potential(table: Table) -> Potential:
    """A potential from its table."""
    kinds: dict[str, Callable[..., Any]] = {name: getattr(toys, name) for name in toys.__all__}
    kinds |= {"Expression": potentials.Expression, "Drift": potentials.Drift}
    if table.get("kind") == "NetworkLoss":
        return _network(table)
    if isinstance(table.get("potential"), Mapping):
        table = table | {"potential": build_potential(dict(table["potential"]))}
    if table.get("kind") == "python":
        raise ConfigError(
            f"the potential is the Python object {table.get('name')!r}, which plain data cannot rebuild: run it from "
            "Python"
        )
    if isinstance(table.get("parameters"), Mapping):
        table = dict(table) | {"parameters": _schedules(table["parameters"], "potential.parameters")}
    potential: Potential = _construct(table, kinds, "potential", extra=("NetworkLoss",), group="potentials")
    return potential


def build_integrator(table: Table) -> Integrator:
    """An integrator from its table."""
    kinds = {
        name: getattr(integrators, name)
        for name in integrators.__all__
        if name not in ("Integrator", "Mobility", "StepContext")
    }
    table = {
        key: build_schedule(value, f"integrator.{key}") if key in ("dt", "lr") else value
        for key, value in table.items()
    }
    if isinstance(table.get("inner"), Mapping):
        table["inner"] = build_integrator(table["inner"])
    if isinstance(table.get("noise"), Mapping):
        noises = {name: getattr(noise, name) for name in noise.__all__ if name != "Noise"}
        table["noise"] = _construct(dict(table["noise"]), noises, "integrator.noise", group="noises")
    if isinstance(table.get("mobility"), Mapping):
        table["mobility"] = _construct(
            dict(table["mobility"]), {"Mobility": integrators.Mobility}, "integrator.mobility"
        )
    if isinstance(table.get("betas"), list):
        table["betas"] = tuple(table["betas"])
    integrator: Integrator = _construct(table, kinds, "integrator", group="integrators")
    return integrator


def build_schedule(value: Any, where: str) -> Any:
    """The schedule that a table describes; anything but a table as it is."""
    if not isinstance(value, Mapping):
        return value
    table = dict(value)
    if table.get("kind") == "piecewise" and isinstance(table.get("table"), Mapping):
        table["table"] = {_time(key): one for key, one in table["table"].items()}
    kinds = {name: getattr(schedules, name) for name in ("ramp", "cycle", "piecewise", "cosine")}
    return _construct(table, kinds, where)


def _schedules(table: Mapping[str, Any], where: str) -> Table:
    """A table with schedules in place of the tables that describe them."""
    return {key: build_schedule(value, f"{where}.{key}") for key, value in table.items()}


def build_record(table: Table) -> Record:
    """A record from its table; observers are tables with their kind, and a name if they are to have one."""
    table = dict(table)
    given = table.get("observables")
    if given is not None:
        kinds = {
            name: getattr(observers, name) for name in observers.__all__ if name not in ("Accumulator", "Observer")
        }
        build = partial(_construct, kinds=kinds, where="record.observables", group="observers")
        if any(isinstance(one, Mapping) and "name" in one for one in given):
            tables = [{"name": one} if isinstance(one, str) else dict(one) for one in given]
            named = {one.pop("name", None): build(one) if one else None for one in tables}
            if None in named:
                raise ConfigError("record.observables: give all observers a name, or none")
            table["observables"] = named
        else:
            table["observables"] = [one if isinstance(one, str) else build(one) for one in given]
    return Record(**table)


def _network(table: Table) -> potentials.NetworkLoss:
    options = dict(table)
    options.pop("kind")
    module, data = options.pop("module", None), options.pop("data", None)
    if not isinstance(module, Mapping) or not isinstance(data, Mapping):
        raise ConfigError("a NetworkLoss needs the tables `module` and `data`, each with its `kind`")
    accepted = inspect.signature(potentials.NetworkLoss.__init__).parameters
    plain = ("loss", "batch_size", "sampling", "shared_batches", "augment", "weight_decay", "batchnorm", "chunk_size",
             "dtype", "device")  # fmt: skip
    for key in options:
        if key not in plain or key not in accepted:
            raise ConfigError(unknown_key(f"potential.{key}", key, ["module", "data", *plain]))
    if "dtype" in options:
        if options["dtype"] not in ("float32", "float64"):
            raise ConfigError(f'potential.dtype must be "float32" or "float64", got {options["dtype"]!r}')
        options["dtype"] = getattr(torch, options["dtype"])
    if isinstance(options.get("augment"), Mapping):
        options["augment"] = _construct(options["augment"], {"FlipCrop": datasets.FlipCrop}, "potential.augment")
    return potentials.NetworkLoss(architectures.from_spec(module), datasets.from_spec(data), **options)


def build_constraint(table: Table) -> Constraint | ProjectOntoPath | Restrain | Metadynamics:
    """A constraint from its table."""
    kinds = {kind.__name__: kind for kind in (Reflect, Periodic, Absorb, ProjectOntoPath, Restrain, Metadynamics)}
    if table.get("kind") == "Restrain":
        table = _schedules(table, "constraint")
    constraint: Constraint | ProjectOntoPath | Restrain | Metadynamics = _construct(table, kinds, "constraint")
    return constraint


def _construct(
    table: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]], where: str = "", extra: tuple[str, ...] = (),
    group: str | None = None,
) -> Any:  # fmt: skip
    """The object of a table: one of ours, else one that another package registers in the group."""
    options = dict(table)
    kind = options.pop("kind", None)
    if kind in kinds:
        make = kinds[kind]
    elif group is not None and (plugin := plugins.find(group, kind)) is not None:
        make = plugin.load()
    else:
        known = [*kinds, *extra, *(plugins.names(group) if group else ())]
        raise ConfigError(f"{where}: unknown kind {kind!r}; expected one of {', '.join(known)}{_suggest(kind, known)}")
    accepted = list(inspect.signature(make).parameters)
    for key in options:
        if key not in accepted:
            raise ConfigError(unknown_key(f"{where}.{key}", key, ["kind", *accepted]))
    try:
        return make(**options)
    except TypeError as error:
        raise ConfigError(f"{where}: {kind} {error}".replace("__init__() ", "")) from None


def unknown_key(where: str, key: str, known: list[str]) -> str:
    """What to say of a key that nothing takes."""
    return f"unknown key {where!r}; expected one of {', '.join(known)}{_suggest(key, known)}"


def _suggest(word: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def _time(key: Any) -> float:
    try:
        return float(key)
    except (TypeError, ValueError):
        raise ConfigError(f"the keys of a piecewise schedule are times, got {key!r}") from None
