"""Specifications as tables of tables: how two differ, one laid over another, one key set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from landscape.errors import ConfigError

__all__ = ["differences", "overlaid", "put", "without_seed"]

_ADDED: Final = frozenset({"evaluation"})  # keys that older tables lack


def differences(
    stored: Mapping[str, Any], given: Mapping[str, Any], *, ignored: Collection[str] = (), prefix: str = ""
) -> list[str]:
    """What was and what is now, for each key that differs.

    Parameters
    ----------
    stored, given : mapping
        Tables of tables.
    ignored : collection of str
        Keys of the outermost table that do not count.

    Examples
    --------
    >>> differences({"steps": 10, "integrator": {"lr": 0.1}}, {"steps": 10, "integrator": {"lr": 0.2}})
    ['integrator.lr was 0.1, is now 0.2']
    """
    found = []
    for key in sorted({*stored, *given} - set(ignored)):
        old, new = stored.get(key), given.get(key)
        if _same(old, new) or (old is None and key in _ADDED):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, prefix=f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key} was {_short(old)}, is now {_short(new)}")
    return found


def _same(old: Any, new: Any) -> bool:
    """Whether a stored value is that of now, also where it says less than is said now of objects from Python."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    if isinstance(new, Mapping) and isinstance(old, str):  # only its name, or how it is written
        written = ", ".join(f"{key}={value!r}" for key, value in new.items() if key != "kind")
        return old in (new.get("name"), f"{new.get('kind')}({written})")
    if isinstance(new, Mapping) and isinstance(old, Mapping) and new.get("kind") == old.get("kind") == "python":
        former, name = str(old.get("name")), str(new.get("name"))
        named = former == (name if ":" in former else name.rpartition(":")[2])
        rest = {*old, *new} - {"kind", "name"} - ({"sha256"} if "sha256" not in old else set())
        return named and all(_same(old.get(key), new.get(key)) for key in rest)
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return all(_same(old.get(key), new.get(key)) for key in {*old, *new} - _ADDED)
    return bool(old == new)


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one, table by table, where `above` counts; a table of another ``kind`` replaces the whole one.

    Examples
    --------
    >>> overlaid({"integrator": {"kind": "SGD", "lr": 0.1}, "steps": 5}, {"integrator": {"lr": 0.2}})
    {'integrator': {'kind': 'SGD', 'lr': 0.2}, 'steps': 5}
    >>> overlaid({"integrator": {"kind": "SGD", "lr": 0.1}}, {"integrator": {"kind": "HMC", "dt": 0.2}})
    {'integrator': {'kind': 'HMC', 'dt': 0.2}}
    """
    found = dict(below)
    for key, value in above.items():
        former = found.get(key)
        if isinstance(value, Mapping) and isinstance(former, Mapping) and _of_one_kind(former, value):
            found[key] = overlaid(former, value)
        else:
            found[key] = value
    return found


def put(table: dict[str, Any], key: str, value: Any) -> None:
    """Set what a dotted key names; tables on the way that are missing are made.

    Raises
    ------
    ConfigError
        If something on the way is a value.

    Examples
    --------
    >>> spec = {"integrator": {"dt": 0.1}}
    >>> put(spec, "integrator.dt", 0.2)
    >>> put(spec, "record.every", 10)
    >>> spec
    {'integrator': {'dt': 0.2}, 'record': {'every': 10}}
    """
    *parents, last = key.split(".")
    for name in parents:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"cannot set {key!r}: the specification has the value {table!r} for {name!r}, which is not a table"
            )
    table[last] = value


def without_seed(potential: dict[str, Any]) -> dict[str, Any]:
    """The table of a landscape without the seed of its network: minima from different initial weights lie on one.

    Examples
    --------
    >>> without_seed({"kind": "NetworkLoss", "module": {"kind": "mlp", "seed": 3}})
    {'kind': 'NetworkLoss', 'module': {'kind': 'mlp'}}
    """
    module = potential.get("module")
    if not isinstance(module, dict):
        return potential
    return potential | {"module": {key: value for key, value in module.items() if key != "seed"}}


def _of_one_kind(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return "kind" not in above or above["kind"] == below.get("kind")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
