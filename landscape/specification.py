"""Runs as plain data: the same table in a TOML file, in a Python dict and inside every stored run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from landscape import integrators, noise, observers, potentials, schedules
from landscape.constraints import Absorb, Periodic, Reflect
from landscape.errors import ConfigError, StorageError
from landscape.integrators.base import Integrator
from landscape.minimize import minimize
from landscape.paths.connection import connect
from landscape.potentials import architectures, datasets, toys
from landscape.potentials.base import Potential
from landscape.projection import ProjectOntoPath
from landscape.record import Record
from landscape.simulate import simulate
from landscape.storage import open as open_run
from landscape.train import train

__all__ = ["Prepared", "build", "resolve", "run"]

Table = dict[str, Any]
Number = StrictInt | StrictFloat


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class RecordSpec(_Strict):
    """`[record]`"""

    every: StrictInt = 1
    observables: list[str | Table] | None = None
    snapshots: StrictInt | None = None


class SimulateSpec(_Strict):
    """``task = "simulate"``: the arguments of `landscape.simulate`."""

    task: Literal["simulate"] = "simulate"
    potential: Table
    integrator: Table
    steps: StrictInt
    chains: StrictInt | None = None
    temperature: Number | list[Number] | Table = 0.0
    record: RecordSpec = Field(default_factory=RecordSpec)
    constraint: list[Table] | Table | None = None
    start: Table | list[float] | list[list[float]] | None = None
    seed: StrictInt = 0
    data_seed: StrictInt | list[StrictInt] | list[tuple[int, Any]] | None = None
    backend: Literal["auto", "compiled", "batched"] = "auto"
    dtype: Literal["float32", "float64"] | None = None
    device: str | None = None
    on_nonfinite: Literal["raise", "drop"] = "raise"
    certify: bool = False


class MinimizeSpec(_Strict):
    """``task = "minimize"``: the arguments of `landscape.minimize`."""

    task: Literal["minimize"]
    potential: Table
    start: Table | list[float] | None = None
    method: Literal["adam", "lbfgs", "gd"] = "adam"
    tolerance: Number = 1e-6
    steps: StrictInt | None = None
    lr: Number | None = None


class TrainSpec(_Strict):
    """``task = "train"``: the arguments of `landscape.train`."""

    task: Literal["train"]
    potential: Table
    integrator: Table
    epochs: StrictInt
    schedule: dict[str, float] | None = None
    split_epoch: StrictInt | None = None
    siblings: StrictInt = 1
    start: Table | list[float] | None = None
    record: RecordSpec | None = None
    seed: StrictInt = 0
    backend: Literal["auto", "compiled", "batched"] = "auto"


class ConnectSpec(_Strict):
    """``task = "connect"``: a path between two minima; `settings` are further arguments of the method."""

    task: Literal["connect"]
    potential: Table
    start: Table | list[float]
    end: Table | list[float] | None = None
    method: Literal["auto_neb", "neb", "string", "bezier", "polychain"] = "auto_neb"
    settings: Table = Field(default_factory=dict)


_TASKS: dict[str, type[_Strict]] = {
    "simulate": SimulateSpec,
    "minimize": MinimizeSpec,
    "train": TrainSpec,
    "connect": ConnectSpec,
}


class Prepared:
    """A specification turned into a call.

    Attributes
    ----------
    spec : dict
        Every key, defaults filled in.
    function : callable
        `simulate`, `minimize`, `train` or `connect`.
    arguments : tuple
        Potential, and the integrator where there is one.
    settings : dict
        Keyword arguments; `start` and `end` are still recipes until `call`.
    """

    def __init__(self, spec: Table, function: Callable[..., xr.Dataset], arguments: tuple[Any, ...], settings: Table):
        self.spec, self.function, self.arguments, self.settings = spec, function, arguments, settings

    def call(self, *, progress: bool | None = None) -> xr.Dataset:
        """Run it; the result carries the specification."""
        import json

        settings = dict(self.settings)
        for name in {"start", "end"} & set(settings):
            settings[name] = _start(self.arguments[0], settings[name], progress)
        dataset = self.function(*self.arguments, **settings, progress=progress)
        dataset.attrs["spec"] = json.dumps(self.spec, sort_keys=True)
        return dataset


def run(spec: Mapping[str, Any], *, progress: bool | None = None) -> xr.Dataset:
    """Run a specification.

    Parameters
    ----------
    spec : mapping
        ``task`` ("simulate" unless given, "minimize", "train" or "connect"), ``potential`` and ``integrator`` tables
        with their ``kind``, and the arguments of that function.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    ConfigError
        For unknown or missing keys and values of the wrong type, each named.

    Examples
    --------
    >>> spec = {
    ...     "potential": {"kind": "Quadratic", "stiffness": [1.0, 4.0]},
    ...     "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
    ...     "steps": 10, "chains": 3, "temperature": 0.5, "seed": 1,
    ... }
    >>> run(spec).sizes["draw"]
    10
    """
    return build(spec).call(progress=progress)


def resolve(spec: Mapping[str, Any]) -> _Strict:
    """The specification with types checked and defaults filled in.

    Raises
    ------
    ConfigError
    """
    if not isinstance(spec, Mapping):
        raise ConfigError(f"a specification is a table of keys, got {type(spec).__name__}")
    task = spec.get("task", "simulate")
    if task not in _TASKS:
        raise ConfigError(f"unknown task {task!r}; expected one of {sorted(_TASKS)}")
    try:
        return _TASKS[task].model_validate(dict(spec))
    except ValidationError as error:
        raise ConfigError(_explain(error, _TASKS[task])) from None


def build(spec: Mapping[str, Any]) -> Prepared:
    """Objects and arguments for a specification, ready to run.

    Raises
    ------
    ConfigError
    """
    checked = resolve(spec)
    settings = checked.model_dump(exclude={"task", "potential", "integrator"}, exclude_none=True)
    full = checked.model_dump(exclude_none=True, mode="json")
    potential = build_potential(checked.potential)  # type: ignore[attr-defined]
    if isinstance(checked, MinimizeSpec):
        return Prepared(full, minimize, (potential,), settings)
    if isinstance(checked, ConnectSpec):
        return Prepared(full, connect, (potential,), settings)
    integrator = build_integrator(checked.integrator)  # type: ignore[attr-defined]
    if "record" in settings:
        settings["record"] = _record(settings["record"])
    if isinstance(checked, TrainSpec):
        if checked.schedule is not None:
            settings["schedule"] = {_epoch(key): value for key, value in checked.schedule.items()}
        return Prepared(full, train, (potential, integrator), settings)
    if "constraint" in settings:
        tables = settings["constraint"] if isinstance(settings["constraint"], list) else [settings["constraint"]]
        settings["constraint"] = [
            _construct(
                table, {kind.__name__: kind for kind in (Reflect, Periodic, Absorb, ProjectOntoPath)}, "constraint"
            )
            for table in tables
        ]
    settings["temperature"] = _scheduled(settings["temperature"], "temperature")
    if "dtype" in settings:
        settings["dtype"] = getattr(torch, settings["dtype"])
    seeds = settings.get("data_seed")
    if isinstance(seeds, list) and seeds and isinstance(seeds[0], tuple | list):
        settings["data_seed"] = dict(seeds)
    return Prepared(full, simulate, (potential, integrator), settings)


def build_potential(table: Table) -> Potential:
    """A potential from its table."""
    kinds: dict[str, Callable[..., Any]] = {name: getattr(toys, name) for name in toys.__all__}
    kinds["Expression"] = potentials.Expression
    if table.get("kind") == "NetworkLoss":
        return _network(table)
    if table.get("kind") == "python":
        raise ConfigError(
            f"the potential is the Python object {table.get('name')!r}, which plain data cannot rebuild: run it from "
            "Python"
        )
    potential: Potential = _construct(table, kinds, "potential", extra=("NetworkLoss",))
    return potential


def build_integrator(table: Table) -> Integrator:
    """An integrator from its table."""
    kinds = {
        name: getattr(integrators, name)
        for name in integrators.__all__
        if name not in ("Integrator", "StepContext", "Optimizer")
    }
    table = {
        key: _scheduled(value, f"integrator.{key}") if key in ("dt", "lr") else value for key, value in table.items()
    }
    if isinstance(table.get("inner"), Mapping):
        table["inner"] = build_integrator(table["inner"])
    if isinstance(table.get("noise"), Mapping):
        noises = {name: getattr(noise, name) for name in noise.__all__ if name != "Noise"}
        table["noise"] = _construct(dict(table["noise"]), noises, "integrator.noise")
    if isinstance(table.get("betas"), list):
        table["betas"] = tuple(table["betas"])
    integrator: Integrator = _construct(table, kinds, "integrator", extra=("Optimizer (from Python only)",))
    return integrator


def _scheduled(value: Any, where: str) -> Any:
    """The schedule that a table describes; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    table = dict(value)
    if table.get("kind") == "piecewise" and isinstance(table.get("table"), Mapping):
        table["table"] = {_time(key): one for key, one in table["table"].items()}
    kinds = {name: getattr(schedules, name) for name in ("ramp", "cycle", "piecewise", "cosine")}
    return _construct(table, kinds, where)


def _record(table: Table) -> Record:
    table = dict(table)
    given = table.get("observables")
    if given is not None:
        kinds = {name: getattr(observers, name) for name in ("Moments", "Histogram", "Autocorrelation", "Residence")}
        if any(isinstance(one, Mapping) and "name" in one for one in given):
            tables = [{"name": one} if isinstance(one, str) else dict(one) for one in given]
            named = {
                one.pop("name", None): _construct(one, kinds, "record.observables") if one else None for one in tables
            }
            if None in named:
                raise ConfigError("record.observables: give all observers a name, or none")
            table["observables"] = named
        else:
            table["observables"] = [
                one if isinstance(one, str) else _construct(one, kinds, "record.observables") for one in given
            ]
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
            raise ConfigError(_unknown(f"potential.{key}", key, ["module", "data", *plain]))
    if "dtype" in options:
        if options["dtype"] not in ("float32", "float64"):
            raise ConfigError(f'potential.dtype must be "float32" or "float64", got {options["dtype"]!r}')
        options["dtype"] = getattr(torch, options["dtype"])
    if isinstance(options.get("augment"), Mapping):
        options["augment"] = _construct(options["augment"], {"FlipCrop": datasets.FlipCrop}, "potential.augment")
    return potentials.NetworkLoss(architectures.from_spec(module), datasets.from_spec(data), **options)


def _start(potential: Potential, start: Any, progress: bool | None) -> Any:
    if not isinstance(start, Mapping):
        return None if start is None else np.asarray(start, dtype=float)
    table = dict(start)
    if "file" in table:
        if len(table) > 1:
            raise ConfigError(f"start.file stands alone, got also {sorted(set(table) - {'file'})}")
        try:
            return open_run(table["file"]).load()
        except StorageError as error:
            raise ConfigError(f"start.file: {error}") from error
    if table.pop("kind", None) != "minimum":
        raise ConfigError(
            'start must be positions, {kind = "minimum", method = "adam"} or {file = "run.nc"}; got '
            f"{dict(start)!r}. The start of this run was given from Python: give a file instead"
        )
    accepted = ["method", "tolerance", "steps", "lr"]
    for key in table:
        if key not in accepted:
            raise ConfigError(_unknown(f"start.{key}", key, ["kind", *accepted]))
    return minimize(potential, **table, progress=progress)


def _construct(
    table: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]], where: str = "", extra: tuple[str, ...] = ()
) -> Any:
    options = dict(table)
    kind = options.pop("kind", None)
    if kind not in kinds:
        known = [*kinds, *extra]
        raise ConfigError(f"{where}: unknown kind {kind!r}; expected one of {', '.join(known)}{_suggest(kind, known)}")
    accepted = list(inspect.signature(kinds[kind]).parameters)
    for key in options:
        if key not in accepted:
            raise ConfigError(_unknown(f"{where}.{key}", key, ["kind", *accepted]))
    try:
        return kinds[kind](**options)
    except TypeError as error:
        raise ConfigError(f"{where}: {kind} {error}".replace("__init__() ", "")) from None


def _unknown(where: str, key: str, known: list[str]) -> str:
    return f"unknown key {where!r}; expected one of {', '.join(known)}{_suggest(key, known)}"


def _suggest(word: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def _time(key: Any) -> float:
    try:
        return float(key)
    except (TypeError, ValueError):
        raise ConfigError(f"the keys of a piecewise schedule are times, got {key!r}") from None


def _epoch(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise ConfigError(f"the keys of schedule are epochs, got {key!r}") from None


def _explain(error: ValidationError, model: type[_Strict]) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            inner = RecordSpec if problem["loc"][0] == "record" else model
            lines.append(_unknown(where, str(problem["loc"][-1]), list(inner.model_fields)))
        elif problem["type"] == "missing":
            lines.append(f"the key {where!r} is missing")
        else:
            lines.append(f"{where}: {problem['msg']}, got {problem.get('input')!r}")
    return "; ".join(dict.fromkeys(lines))
