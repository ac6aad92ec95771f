"""The table of a sweep: every point a complete specification, with its own seed and the name of its file."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.common.tables import put
from landscape.errors import ConfigError
from landscape.random import check_seed
from landscape.spec.own_objects import OwnObjects
from landscape.workflows.specification import TASKS

__all__ = ["Axis", "Point", "SweepTable", "flatten", "make_table", "point_seed"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of the table.

    Attributes
    ----------
    keys : tuple of str
        Dotted keys of the specification; several change together.
    values : tuple of tuples
        One row for each place on the axis, with one value for each key.
    name : str, optional
        Of the dimension, where it is not that of its keys.
    """

    keys: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the table.

    Attributes
    ----------
    index : int
        Place in the table; the last axis varies fastest.
    values : dict
        What was swept, by key.
    text : str
        The specification as canonical JSON: sorted keys, no spaces.
    """

    index: int
    values: dict[str, Any]
    text: str

    @property
    def file(self) -> str:
        """Name of the file of its result: SHA-256 of the canonical specification."""
        return hashlib.sha256(self.text.encode()).hexdigest() + ".nc"


@dataclass(frozen=True, slots=True)
class SweepTable:
    """What is common to the points, the axes, the points, and the objects that their tables stand for."""

    spec: dict[str, Any]
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    own: OwnObjects


def make_table(spec: Mapping[str, Any], over: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> SweepTable:
    """All combinations of the swept values.

    Parameters
    ----------
    spec, over
        See `landscape.sweep`.

    Returns
    -------
    SweepTable

    Raises
    ------
    ConfigError
        For empty or repeated values, keys that lead through a value, and what is neither plain data nor an object that
        a run takes.

    Examples
    --------
    >>> table = make_table({"task": "minimize"}, {"lr": [0.1, 0.2], "potential.kind": ["Valley", "Ring"]})
    >>> [point.values["lr"] for point in table.points]
    [0.1, 0.1, 0.2, 0.2]
    >>> table.points[1].text
    '{"lr":0.1,"potential":{"kind":"Ring"},"task":"minimize"}'
    """
    if not isinstance(spec, Mapping):
        raise ConfigError(f"a sweep varies a specification, which is a table of keys, got {type(spec).__name__}")
    own = OwnObjects()
    common = _plain("the specification", dict(spec), own)
    axes = _axes(over, own)
    keys = [key for axis in axes for key in axis.keys]
    points = []
    for index, rows in enumerate(itertools.product(*(axis.values for axis in axes))):
        values = dict(zip(keys, itertools.chain(*rows), strict=True))
        one = copy.deepcopy(common)
        for key, value in values.items():
            put(one, key, value)
        if "seed" not in keys:
            _give_seed(one, index)
        points.append(Point(index, values, _canonical(one)))
    return SweepTable(common, axes, tuple(points), own)


def flatten(over: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Swept values by dotted key: tables inside tables are longer keys.

    Examples
    --------
    >>> flatten({"temperature": [0.1], "integrator": {"dt": [1e-3, 1e-2]}})
    {'temperature': [0.1], 'integrator.dt': [0.001, 0.01]}
    """
    flat: dict[str, Any] = {}
    for key, value in over.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def point_seed(seed: int, index: int) -> int:
    """The seed of a point: 63 bits of numpy's ``SeedSequence(seed, spawn_key=(index,))``.

    Examples
    --------
    >>> point_seed(1, 0) != point_seed(1, 1) != point_seed(2, 1)
    True
    """
    sequence = np.random.SeedSequence(check_seed(seed), spawn_key=(index,))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _give_seed(spec: dict[str, Any], index: int) -> None:
    task = TASKS.get(str(spec.get("task", "simulate")))
    if task is not None and "seed" in task.model_fields:
        spec["seed"] = point_seed(spec.get("seed", task.model_fields["seed"].default), index)


def _axes(over: Mapping[str, Any] | Sequence[Mapping[str, Any]], own: OwnObjects) -> tuple[Axis, ...]:
    if isinstance(over, Mapping):
        split = [(tuple(part.strip() for part in key.split(",")), given) for key, given in flatten(over).items()]
        axes = [Axis(keys, _rows(keys, given, own)) for keys, given in split]
    elif isinstance(over, Sequence) and over and all(isinstance(one, Mapping) for one in over):
        keys = tuple(over[0])
        for one in over:
            if set(one) != set(keys):
                raise ConfigError(f"all points of a sweep name the same keys; got {sorted(keys)} and {sorted(one)}")
        rows = [one[keys[0]] if len(keys) == 1 else [one[key] for key in keys] for one in over]
        axes = [Axis(keys, _rows(keys, rows, own), "point")]
    else:
        raise ConfigError(f'over is a table such as {{"temperature": [0.1, 0.2]}}, or a list of points; got {over!r}')
    named = [key for axis in axes for key in axis.keys]
    if not named or len(set(named)) < len(named):
        raise ConfigError(f"over must name each key to sweep once, and at least one; got {named}")
    return tuple(axes)


def _rows(keys: tuple[str, ...], given: Any, own: OwnObjects) -> tuple[tuple[Any, ...], ...]:
    where = f"over[{','.join(keys)!r}]"
    if isinstance(given, str | bytes | Set) or not isinstance(given, Iterable) or getattr(given, "shape", None) == ():
        raise ConfigError(f"{where} must be a list of values, got {given!r}")
    values = _plain(where, list(given), own)
    if not values:
        raise ConfigError(f"{where} is an empty list: give at least one value, or leave the key out")
    for value in values:
        if len(keys) > 1 and (not isinstance(value, list) or len(value) != len(keys)):
            raise ConfigError(f"{where} must be a list of rows of {len(keys)} values, got the row {value!r}")
    if len({_canonical(value) for value in values}) < len(values):
        raise ConfigError(
            f"{where} has a value twice, in {values}; for runs that differ by their noise, sweep the seed"
        )
    return tuple((value,) if len(keys) == 1 else tuple(value) for value in values)


def _plain(where: str, value: Any, own: OwnObjects) -> Any:
    """A copy in numbers, text, lists and tables alone, arrays as lists, objects as their tables."""

    def told(one: Any) -> Any:
        return one.tolist() if hasattr(one, "tolist") else own.table_of(one)

    try:
        return json.loads(json.dumps(value, default=told))
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{where} must be plain data, or objects that a run takes ({error}): numbers, text, lists and tables; a "
            'stored run or minimum as {"file": "minimum.nc"}'
        ) from None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
