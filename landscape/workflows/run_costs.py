"""What a run will cost, from a short pilot of it: time, and what it records."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import psutil

from landscape.dynamics.simulate import check_memory, simulate
from landscape.engine.prepare import prepare
from landscape.errors import LandscapeError
from landscape.recording.record import Record
from landscape.spec.building import Table
from landscape.workflows.specification import Prepared, build, resolve
from landscape.workflows.study import Stage
from landscape.workflows.study_costs import Cost, costs

__all__ = ["costs_of_points", "of_simulation", "on_workers"]

PILOT_SECONDS: Final = 1.0
MOST_PILOTS: Final = 8
# Keys that leave the time of a step as it is; all numbers of rule and formula do too.
FREE: Final = ("seed", "data_seed", "steps", "temperature", "start", "momentum", "on_nonfinite", "certify")


def of_simulation(prepared: Prepared, per_step: float | None = None) -> tuple[float, int, int]:
    """Seconds, bytes of the records and number of chains of a run; the time of a step is measured unless it is given.

    The start is left out, which may take a minimisation, and so is the first compilation.

    Raises
    ------
    ConfigError
        If the run makes no sense, or its records do not fit into the memory.
    """
    settings = dict(prepared.settings)
    settings.pop("start", None)
    backend = settings.pop("backend", "auto")
    for name in ("on_nonfinite", "certify"):
        settings.pop(name, None)
    plan, _, _ = prepare(*prepared.arguments, **settings)
    record = settings.get("record", Record())
    potential, rule = prepared.arguments
    observables = record.resolve(potential, (*rule.memory_names, *rule.counters))
    size = check_memory(plan, record, observables, settings["steps"])
    if per_step is None:
        per_step = _pilot(prepared, settings, plan.chains, backend)
    times = 4 if prepared.settings.get("certify") else 1  # a second run has twice the steps, and starts and ends too
    return times * per_step * float(settings["steps"]), size, plan.chains


def _pilot(prepared: Prepared, settings: dict[str, Any], chains: int, backend: Any) -> float:
    """Seconds of a step, from a pilot that is made longer until it takes long enough to be timed."""
    observed = ["energy" if getattr(prepared.arguments[0], "has_energy", True) else "position"]
    options = {key: value for key, value in settings.items() if key not in ("steps", "record", "data_seed")}
    options |= {"chains": chains, "backend": backend, "on_nonfinite": "drop", "progress": False}
    steps = 1
    simulate(*prepared.arguments, steps=1, record=Record(1, observed), **options)  # compiles
    while True:
        began = time.perf_counter()
        simulate(*prepared.arguments, steps=steps, record=Record(steps, observed), **options)
        elapsed = time.perf_counter() - began
        if elapsed > PILOT_SECONDS or steps >= settings["steps"]:
            return elapsed / steps
        steps = min(4 * steps, settings["steps"])


def costs_of_points(texts: Iterable[str]) -> tuple[list[Cost], int, int]:
    """What the points of a sweep cost, each the JSON of a specification, and how many of how many kinds were timed.

    Points that differ in numbers only (seed, steps, temperature, settings of the rule and of the landscape) are of one
    kind, of which one pilot is run; of more kinds than 8 the rest are taken for as fast as those. The memory of a
    point is that of the process with its records. Of a point that would fail the time is NaN.
    """
    tables = [resolve(json.loads(text)).model_dump(exclude_none=True, mode="json") for text in texts]
    base, known, found = psutil.Process().memory_info().rss, dict[str, float](), list[Cost]()
    kinds = {_kind(table) for table in tables}
    for i, table in enumerate(tables):
        name, task, kind = str(i), table.get("task", "simulate"), _kind(table)
        if task != "simulate":
            found += costs([Stage(name, table, "")])
            continue
        guess = known.get(kind)
        if guess is None and len(known) >= MOST_PILOTS:
            guess = sum(known.values()) / len(known)
        try:
            prepared = build(table)
            seconds, size, _ = of_simulation(prepared, guess)
        except LandscapeError:
            found.append(Cost(name, task, float("nan"), 0))
            continue
        if guess is None:
            known[kind] = seconds / max(prepared.settings["steps"], 1)
        found.append(Cost(name, task, seconds, base + size, size))
    return found, len(known), len(kinds)


def _kind(table: Table) -> str:
    return json.dumps({key: _shape(value) for key, value in table.items() if key not in FREE}, sort_keys=True)


def _shape(value: Any) -> Any:
    """Plain data with a mark in place of each real number."""
    if isinstance(value, dict):
        return {key: _shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shape(one) for one in value]
    return "number" if isinstance(value, float) else value


def on_workers(points: Sequence[Cost], workers: int) -> tuple[float, int]:
    """Seconds of a sweep on so many workers, which take points in turn, and bytes of memory if the largest meet.

    Examples
    --------
    >>> on_workers([Cost("0", "simulate", 3.0, 10), Cost("1", "simulate", 1.0, 20), Cost("2", "simulate", 1.0, 5)], 2)
    (3.0, 30)
    """
    free = [0.0] * workers
    for point in points:
        heapq.heapreplace(free, free[0] + point.seconds)
    return max(free), sum(heapq.nlargest(workers, (point.bytes for point in points)))
