"""Runs as plain data: the same table in a TOML file, in a Python dict and inside every stored run."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.dynamics.minimize import minimize
from landscape.dynamics.replica_exchange import replica_exchange
from landscape.dynamics.simulate import simulate
from landscape.dynamics.train import train
from landscape.dynamics.warm_up import warm_up
from landscape.errors import ConfigError
from landscape.paths.connection import connect
from landscape.paths.path import Path
from landscape.potentials.base import Potential
from landscape.spec.building import (  # fmt: skip
    Table,
    build_constraint,
    build_integrator,
    build_potential,
    build_record,
    build_schedule,
    unknown_key,
)
from landscape.spec.own_objects import OwnObjects, mentions_python
from landscape.storage.run_folder import RunFolder
from landscape.storage.training_folder import TrainingFolder
from landscape.workflows.opening import stored_at
from landscape.workflows.probing import named_probe, probe

__all__ = ["STEPWISE", "TASKS", "Prepared", "build", "resolve", "run"]

Number = StrictInt | StrictFloat


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class RecordSpec(_Strict):
    """`[record]`"""

    every: StrictInt = 1
    observables: list[str | Table] | dict[str, Table | None] | None = None
    snapshots: StrictInt | None = None


class WarmUpSpec(_Strict):
    """`[warm_up]`: arguments of `landscape.warm_up`; `tuned` is the integrator that it found, in stored runs."""

    steps: StrictInt = 1000
    target: Number | None = None
    mass: Literal["diagonal", "dense", "none"] = "diagonal"
    tuned: Table | None = None


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
    momentum: list[float] | list[list[float]] | None = None
    seed: StrictInt = 0
    data_seed: StrictInt | list[StrictInt] | list[tuple[int, Any]] | None = None
    backend: Literal["auto", "compiled", "batched"] = "auto"
    dtype: Literal["float32", "float64"] | None = None
    device: str | None = None
    on_nonfinite: Literal["raise", "drop"] = "raise"
    certify: bool = False
    warm_up: WarmUpSpec | None = None


class ReplicaExchangeSpec(_Strict):
    """``task = "replica_exchange"``: the arguments of `landscape.replica_exchange`."""

    task: Literal["replica_exchange"]
    potential: Table
    integrator: Table
    temperatures: list[Number]
    steps: StrictInt
    swap_every: StrictInt
    ladders: StrictInt = 1
    record: RecordSpec = Field(default_factory=RecordSpec)
    constraint: list[Table] | Table | None = None
    start: Table | list[float] | list[list[float]] | None = None
    seed: StrictInt = 0
    backend: Literal["auto", "compiled", "batched"] = "auto"
    dtype: Literal["float32", "float64"] | None = None
    device: str | None = None


class ProbeSpec(_Strict):
    """``task = "probe"``: what a probe says of stored runs; `settings` are further arguments of the probe."""

    task: Literal["probe"]
    probe: str
    run: Table | list[Table]
    variable: str | None = None
    potential: Table | None = None
    settings: Table = Field(default_factory=dict)


class MinimizeSpec(_Strict):
    """``task = "minimize"``: the arguments of `landscape.minimize`."""

    task: Literal["minimize"]
    potential: Table
    start: Table | list[float] | None = None
    method: Literal["adam", "lbfgs", "gd", "newton"] = "adam"
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
    temperature: Number | list[Number] | Table | None = None
    constraint: list[Table] | Table | None = None
    momentum: list[float] | list[list[float]] | None = None
    seed: StrictInt = 0
    backend: Literal["auto", "compiled", "batched"] = "auto"
    dtype: Literal["float32", "float64"] | None = None
    device: str | None = None
    on_nonfinite: Literal["raise", "drop"] | None = None


class ConnectSpec(_Strict):
    """``task = "connect"``: a path between two minima; `settings` are further arguments of the method."""

    task: Literal["connect"]
    potential: Table
    start: Table | list[float]
    end: Table | list[float] | None = None
    method: Literal["auto_neb", "neb", "string", "bezier", "polychain"] = "auto_neb"
    settings: Table = Field(default_factory=dict)


STEPWISE: Final = ("simulate", "train", "replica_exchange")  # tasks that keep their state in a folder
TAKE_OBJECTS: Final = ("potential", "integrator", "record", "constraint", "temperature", "temperatures", "settings")
TASKS: dict[str, type[_Strict]] = {
    "simulate": SimulateSpec,
    "replica_exchange": ReplicaExchangeSpec,
    "minimize": MinimizeSpec,
    "train": TrainSpec,
    "connect": ConnectSpec,
    "probe": ProbeSpec,
}


class Prepared:
    """A specification turned into a call.

    Attributes
    ----------
    spec : dict
        Every key, defaults filled in.
    function : callable
        `simulate`, `replica_exchange`, `minimize`, `train`, `connect` or `probe`.
    arguments : tuple
        Potential, and where there are some the integrator and the temperatures.
    settings : dict
        Keyword arguments; `start`, `end` and `run` are still recipes until `call`.
    warm_up : dict, optional
        Arguments of the warm-up before the run.
    own : bool
        Whether objects were given that plain data cannot rebuild.
    """

    def __init__(
        self, spec: Table, function: Callable[..., xr.Dataset], arguments: tuple[Any, ...], settings: Table,
        warm_up: Table | None = None,
    ) -> None:  # fmt: skip
        self.spec, self.function, self.arguments, self.settings = spec, function, arguments, settings
        self.warm_up = warm_up
        self.own = False

    def call(
        self,
        *,
        output: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        progress: bool | None = None,
        resumed: bool = False,
    ) -> xr.Dataset:
        """Run it; the result carries the specification.

        With `resumed` the start is that of what is stored in `output`, where something is, whatever it is called now.
        """
        with ExitStack() as stack:
            settings = dict(self.settings)
            starts = {name: settings.pop(name) for name in ("start", "end") if name in settings}
            if output is not None:
                folder = self._folder(output, resumed)
                settings |= {"output": folder, "checkpoint_every": checkpoint_every}
                if isinstance(folder, RunFolder):
                    stack.callback(folder.close)  # whatever a start turns out to be
                    starts = {} if folder.manifest is not None else starts  # the checkpoint has it
            for name, start in starts.items():
                settings[name] = _start(self.arguments[0], start, progress)
            if "run" in settings:
                settings["run"] = _stored_runs(settings["run"])
            arguments = self.arguments
            if self.warm_up is not None:
                arguments, settings = self._warmed(settings)
            dataset = self.function(*arguments, **settings, progress=progress)
            if not self.own or "spec" not in dataset.attrs:
                dataset.attrs["spec"] = json.dumps(self.spec, sort_keys=True)
        return dataset

    def _warmed(self, settings: Table) -> tuple[tuple[Any, ...], Table]:
        """Arguments and settings after the warm-up, what it found noted; a run in a folder has made it already."""
        potential, folder = self.arguments[0], settings.get("output")
        if folder is not None and folder.manifest is not None:
            tuned = folder.manifest.spec.get("warm_up", {}).get("tuned", self.spec["integrator"])
            rule = build_integrator(tuned)
        else:
            passed = ("start", "chains", "temperature", "constraint", "seed", "backend", "dtype", "device")
            shared = {name: settings[name] for name in passed if name in settings}
            first = self.arguments[1] if self.own else build_integrator(self.spec["integrator"])
            rule, start, _ = warm_up(potential, first, **shared, **(self.warm_up or {}))
            settings, tuned = settings | {"start": start}, rule.spec()
        self.spec["warm_up"]["tuned"] = json.loads(json.dumps(tuned))
        if folder is not None:
            folder.spec = self.spec
        return (potential, rule), settings

    def _folder(self, output: str | os.PathLike[str], resumed: bool) -> RunFolder | TrainingFolder:
        if self.spec["task"] not in STEPWISE:
            raise ConfigError(f"{self.spec['task']} writes no folder: leave output out, and store the result by save")
        if self.function is train:
            return TrainingFolder(output, resumed=resumed)
        return RunFolder(output, spec=None if self.own else self.spec, resumed=resumed)


@guarded
def run(
    spec: Mapping[str, Any],
    *,
    output: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Run a specification.

    Parameters
    ----------
    spec : mapping
        ``task`` ("simulate" unless given, "replica_exchange", "minimize", "train", "connect" or "probe"),
        ``potential`` and ``integrator`` tables with their ``kind``, and the arguments of that function.
    output : path, optional
        A folder that a run is written to as it goes on, and goes on in; see `simulate`.
    checkpoint_every, progress : optional
        As for `simulate`.

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
    return build(spec).call(output=output, checkpoint_every=checkpoint_every, progress=progress)


def resolve(spec: Mapping[str, Any]) -> _Strict:
    """The specification with types checked and defaults filled in.

    Raises
    ------
    ConfigError
    """
    if not isinstance(spec, Mapping):
        raise ConfigError(f"a specification is a table of keys, got {type(spec).__name__}")
    task = spec.get("task", "simulate")
    if task not in TASKS:
        raise ConfigError(f"unknown task {task!r}; expected one of {sorted(TASKS)}")
    try:
        return TASKS[task].model_validate(dict(spec))
    except ValidationError as error:
        raise ConfigError(_explain(error, TASKS[task])) from None


def build(
    spec: Mapping[str, Any], own: OwnObjects | None = None, *, given: Mapping[str, Any] | None = None
) -> Prepared:
    """Objects and arguments for a specification, ready to run.

    Parameters
    ----------
    spec : mapping
    own : OwnObjects, optional
        What tables stand for that plain data cannot rebuild; the result then says of them what `simulate` says.
    given : mapping, optional
        Objects by the names of arguments, of whose tables nothing is made.

    Raises
    ------
    ConfigError
    """
    checked = resolve(spec)
    settings = checked.model_dump(exclude={"task", "potential", "integrator"}, exclude_none=True)
    full = checked.model_dump(exclude_none=True, mode="json")
    placed = own.placed if own else _as_it_is
    for name, value in settings.items():
        if name not in TAKE_OBJECTS and mentions_python(value):
            raise ConfigError(f"{name} must be plain data, got a Python object; objects are {', '.join(TAKE_OBJECTS)}")
    given = given or {}
    plain = {name: placed(one) for name, one in settings.items() if name not in given}
    prepared = _built(checked, plain, full, lambda name: given.get(name, placed(getattr(checked, name))))
    prepared.settings.update({name: one for name, one in given.items() if name not in ("potential", "integrator")})
    prepared.own = bool(own)
    return prepared


def _as_it_is(value: Any) -> Any:
    return value


def _built(checked: _Strict, settings: Table, full: Table, placed: Callable[[str], Any]) -> Prepared:
    if isinstance(checked, ProbeSpec):
        needed = named_probe(checked.probe).landscape is not None and checked.potential is not None
        return Prepared(full, probe, (_made(build_potential, placed("potential")) if needed else None,), settings)
    potential = _made(build_potential, placed("potential"))
    if isinstance(checked, MinimizeSpec):
        return Prepared(full, minimize, (potential,), settings)
    if isinstance(checked, ConnectSpec):
        if "constraint" in settings.get("settings", {}):
            own = settings["settings"]
            settings["settings"] = own | {"constraint": _constraints(own["constraint"])}
        return Prepared(full, connect, (potential,), settings)
    integrator = _made(build_integrator, placed("integrator"))
    if "record" in settings:
        settings["record"] = build_record(settings["record"])
    if "constraint" in settings:
        settings["constraint"] = _constraints(settings["constraint"])
    if "temperature" in settings:
        settings["temperature"] = build_schedule(settings["temperature"], "temperature")
    if "dtype" in settings:
        settings["dtype"] = getattr(torch, settings["dtype"])
    if isinstance(checked, TrainSpec):
        if checked.schedule is not None:
            settings["schedule"] = {_epoch(key): value for key, value in checked.schedule.items()}
        return Prepared(full, train, (potential, integrator), settings)
    seeds = settings.get("data_seed")
    if isinstance(seeds, list) and seeds and isinstance(seeds[0], tuple | list):
        settings["data_seed"] = dict(seeds)
    if isinstance(checked, ReplicaExchangeSpec):
        return Prepared(full, replica_exchange, (potential, integrator, settings.pop("temperatures")), settings)
    warming = settings.pop("warm_up", None)
    if warming is not None:
        if warming.get("tuned") is not None:
            integrator = build_integrator(warming["tuned"])
        warming = {key: value for key, value in warming.items() if key != "tuned"}
        warming["mass"] = None if warming["mass"] == "none" else warming["mass"]
    return Prepared(full, simulate, (potential, integrator), settings, warming)


def _made(build: Callable[[Table], Any], given: Any) -> Any:
    """The object of a table; an object as it is."""
    return build(dict(given)) if isinstance(given, Mapping) else given


def _start(potential: Potential, start: Any, progress: bool | None) -> Any:
    if not isinstance(start, Mapping):
        return None if start is None else np.asarray(start, dtype=float)
    table = dict(start)
    if "file" in table:
        if set(table) - {"file", "at", "replicas"}:
            raise ConfigError(
                "beside start.file there may be `at` and `replicas`, got also "
                f"{sorted(set(table) - {'file', 'at', 'replicas'})}"
            )
        stored = stored_at("start.file", table["file"])
        if table.get("at") is not None:
            return _on_path(stored, table["at"], table.get("replicas", 1))
        if "replicas" in table:
            raise ConfigError("start.replicas multiplies the points of start.at, and there are none")
        return stored
    if table.pop("kind", None) != "minimum":
        raise ConfigError(
            'start must be positions, {kind = "minimum", method = "adam"} or {file = "run.nc"}; got '
            f"{dict(start)!r}. The start of this run was given from Python: give a file instead"
        )
    accepted = ["method", "tolerance", "steps", "lr"]
    for key in table:
        if key not in accepted:
            raise ConfigError(unknown_key(f"start.{key}", key, ["kind", *accepted]))
    return minimize(potential, **table, progress=progress)


def _on_path(stored: xr.Dataset, at: Any, replicas: Any) -> Any:
    """Points of a stored path, by their fractions of its length, each so many times."""
    whole_number("start.replicas", replicas)
    try:
        fraction = np.asarray(at, dtype=float)
    except (TypeError, ValueError):
        fraction = np.array(np.nan)
    if fraction.ndim > 1 or not ((fraction >= 0) & (fraction <= 1)).all():
        raise ConfigError(f"start.at must be fractions of the path's length, 0 to 1, got {at!r}")
    path = Path.from_dataset(stored).spline
    return path.at((fraction if replicas == 1 else np.repeat(fraction, replicas)) * path.length)


def _stored_runs(run: Any) -> Any:
    if isinstance(run, list):
        return [_stored_runs(one) for one in run]
    if set(run) != {"file"}:
        raise ConfigError(f'run must be {{file = "run.nc"}}, or a list of such tables, got {run!r}')
    return stored_at("run.file", run["file"])


def _constraints(tables: Any) -> list[Any]:
    return [_made(build_constraint, table) for table in (tables if isinstance(tables, list) else [tables])]


def _epoch(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise ConfigError(f"the keys of schedule are epochs, got {key!r}") from None


_UNIONS: Final = {
    "temperature": "a number in units of energy (k_B = 1), a list of them, one per chain, or a table of a schedule",
    "start": "a list of numbers, a list of such lists, or a table such as { file = 'minimum.nc' }",
}


_EXPECTED: Final = {
    "dict_type": 'a table, such as { kind = "Quadratic", stiffness = [1.0] }',
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
}


def _as_meant(kind: str, given: Any) -> str:
    """How to write what was probably meant."""
    if kind == "int_type" and isinstance(given, float) and given.is_integer():
        return f": write {int(given)}"
    if kind == "list_type" and isinstance(given, str):
        return f": write [{given!r}]"
    return ""


def _explain(error: ValidationError, model: type[_Strict]) -> str:
    lines, wrong = [], error.errors()
    kinds = Counter(problem["loc"][0] for problem in wrong if problem["loc"])
    for problem in wrong:
        given = problem.get("input")
        if kinds[problem["loc"][0]] > 1 and problem["type"] not in ("extra_forbidden", "missing"):
            takes = _UNIONS.get(str(problem["loc"][0]))
            if takes is not None and not isinstance(given, Mapping | list):
                lines.append(f"{problem['loc'][0]}: expected {takes}, got {given!r}")
                continue
        if problem["loc"][:2] == ("record", "observables") and not isinstance(given, Mapping | list):
            meant = _as_meant("list_type", given)
            lines.append(f"record.observables: expected a list of names and tables, got {given!r}{meant}")
            continue
        if problem["type"] == "dict_type" and problem["loc"][0] in _UNIONS and isinstance(given, list):
            continue  # what is wrong with the list is said
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in _EXPECTED:
            wanted = _EXPECTED[problem["type"]]
            lines.append(f"{where}: expected {wanted}, got {given!r}{_as_meant(problem['type'], given)}")
        elif problem["type"] == "extra_forbidden":
            inner = RecordSpec if problem["loc"][0] == "record" else model
            lines.append(unknown_key(where, str(problem["loc"][-1]), list(inner.model_fields)))
        elif problem["type"] == "missing":
            lines.append(f"the key {where!r} is missing")
        else:
            told = problem["msg"].replace("Input should be", "expected")
            lines.append(f"{where}: {told}, got {given!r}{_as_meant(problem['type'], given)}")
    return "; ".join(dict.fromkeys(lines))
