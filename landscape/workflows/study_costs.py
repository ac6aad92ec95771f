"""What the stages of a study will cost, from one measured step of each landscape."""

from __future__ import annotations

import inspect
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from landscape.common.tables import without_seed
from landscape.paths.automated_band import BETWEEN, CYCLES, FIRST_PIVOTS, auto_neb, cycles_of, rate_and_steps
from landscape.potentials.base import Potential
from landscape.recording.observables import OBSERVABLES
from landscape.spec.building import Table, build_integrator, build_potential
from landscape.workflows.study import Stage

__all__ = ["Cost", "costs"]

# In gradients, for reverse-mode differentiation: a gradient is three evaluations, a product with the Hessian three
# gradients (both measured, for residual networks on a CPU).
ENERGY: Final = 1 / 3
PRODUCT: Final = 3.0
LANCZOS: Final = 10  # products until the largest eigenvalue of a network is known to 1e-3, roughly
PROBES: Final = 30  # of a trace, unless told otherwise


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage will take: `seconds` on this machine, at most, and `bytes` of memory of the whole process.

    `recorded` are those of them, where they are known, that go to the disk.
    """

    name: str
    task: str
    seconds: float
    bytes: int
    recorded: int = 0


@dataclass(frozen=True, slots=True)
class _Prices:
    """Measured on a landscape: seconds of a gradient on a minibatch, and of one on all data."""

    potential: Potential
    step: float
    full: float


def costs(stages: Iterable[Stage]) -> Iterator[Cost]:
    """Estimates for the stages of a study, none of which is run.

    The time of one step on a minibatch and on a chunk of the data is measured, for every landscape of the study; the
    rest is arithmetic: a gradient as three energies, a product with the Hessian as three gradients, 10 products for a
    largest eigenvalue. The memory is the peak of the process after these steps, with the positions of the stage. For
    formulas, which run compiled, the time is far too large.

    Examples
    --------
    >>> from landscape.workflows.study import stages_of
    >>> stage = {"name": "left", "task": "minimize", "potential": {"kind": "DoubleWell"}, "steps": 100}
    >>> [(cost.name, cost.seconds > 0) for cost in costs(stages_of({"stage": [stage]}))]
    [('left', True)]
    """
    measured: dict[str, _Prices] = {}
    known: dict[str, Stage] = {}
    for stage in stages:
        known[stage.name] = stage
        table = stage.spec.get("potential")
        if table is None:
            yield Cost(stage.name, stage.spec["task"], 0.0, _peak())
            continue
        key = json.dumps(without_seed(table), sort_keys=True)
        if key not in measured:
            measured[key] = _measured(build_potential(table))
        prices = measured[key]
        seconds, positions = _WORK[stage.spec["task"]](stage.spec, prices, known)
        size = torch.empty(0, dtype=prices.potential.dtype).element_size()
        yield Cost(stage.name, stage.spec["task"], seconds, _peak() + positions * prices.potential.dim * size)


def _measured(potential: Any) -> _Prices:
    at = torch.as_tensor(potential.default_start())
    if not potential.samples:
        once = _timed(lambda: potential.gradient(at))
        return _Prices(potential, once, once)

    def on(samples: int) -> float:
        batch = (potential.inputs[None, :samples], potential.targets[None, :samples])
        return _timed(lambda: potential.energy_and_gradient_on([batch], at[None]))

    chunk = min(potential.chunk_size or potential.samples, potential.samples)
    full = on(chunk) * potential.samples / chunk
    return _Prices(potential, full if potential.sampler is None else on(potential.sampler.batch_size), full)


def _timed(step: Callable[[], Any]) -> float:
    """Seconds; a first step that is over in less than one warms up, and is measured again."""
    for _ in range(2):
        began = time.perf_counter()
        step()
        elapsed = time.perf_counter() - began
        if elapsed > 1.0:
            break
    return elapsed


def _peak() -> int:
    """The largest resident memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# -- work of each task: seconds, and how many positions are held at once ----------------------------------------------


def _of_train(spec: Table, prices: _Prices, known: dict[str, Stage]) -> tuple[float, int]:
    loss, networks = prices.potential, spec["siblings"]
    per_epoch = loss.sampler.steps_per_epoch if loss.sampler is not None else 1
    gradients = per_epoch * build_integrator(spec["integrator"]).gradients_per_step
    return spec["epochs"] * networks * (gradients * prices.step + ENERGY * prices.full), 4 * networks


def _of_simulate(spec: Table, prices: _Prices, known: dict[str, Stage]) -> tuple[float, int]:
    chains = spec.get("chains") or len(spec.get("temperatures", ())) or _chains(spec.get("start"))
    gradients = spec["steps"] * build_integrator(spec["integrator"]).gradients_per_step
    draws, observed = spec["steps"] // spec["record"]["every"], spec["record"].get("observables")
    names = prices.potential.recorded if observed is None else [one for one in observed if one in tuple(OBSERVABLES)]
    each = sum(OBSERVABLES[name].cost for name in names)
    return chains * (gradients * prices.step + draws * each * prices.full), 4 * chains


def _of_minimize(spec: Table, prices: _Prices, known: dict[str, Stage]) -> tuple[float, int]:
    each = 1 + ENERGY if spec["method"] == "lbfgs" else 1.0
    return spec.get("steps", 20_000) * each * prices.full, 24


def _of_connect(spec: Table, prices: _Prices, known: dict[str, Stage]) -> tuple[float, int]:
    settings = spec["settings"]
    if spec["method"] != "auto_neb":
        images = settings.get("pivots", 3)
        return settings["steps"] * images * prices.step, 4 * images
    seconds, pivots = 0.0, FIRST_PIVOTS + 2
    cycles = cycles_of(prices.potential, settings.get("cycles"))
    for lr, steps in (rate_and_steps(prices.potential, cycle) for cycle in cycles):
        del lr
        seconds += pivots * steps * prices.step + (pivots - 1) * (BETWEEN + 1) * ENERGY * prices.full
        pivots += _inserted(settings)
    return seconds, 4 * pivots


def _of_probe(spec: Table, prices: _Prices, known: dict[str, Stage]) -> tuple[float, int]:
    settings = spec["settings"]
    name = spec["probe"].rpartition(".")[2]
    quantities = settings.get("quantities", ["energy", "largest_eigenvalue", "trace"]) if "path" in name else [name]
    options = settings.get("settings", {}) if "path" in name else {name: settings}
    each = sum(_products(quantity, prices.potential, options.get(quantity, {})) for quantity in quantities)
    points = 1
    if name == "along_path":
        segments = _pivots(known.get(spec["run"].get("stage", ""))) - 1
        points = segments * (settings.get("between", 0) + 1) + 1
    return points * each * prices.full, points + 2 * LANCZOS


def _products(quantity: str, potential: Potential, options: Table) -> float:
    """Gradients on all data that a quantity takes at one point."""
    if quantity in ("energy", "norm", "accuracy", "evaluation_energy"):
        return ENERGY
    if quantity == "gradient_norm":
        return 1.0
    if quantity in ("largest_eigenvalue", "extreme_eigenvalues", "smallest_eigenvalue"):
        return LANCZOS * PRODUCT
    if quantity in ("trace", "fisher_trace"):
        return float(options.get("probes", PROBES) * PRODUCT)
    return potential.dim * PRODUCT if quantity in ("eigenvalues", "log_determinant") else 0.0


def _chains(start: Any) -> int:
    replicas = 1
    if isinstance(start, dict):
        start, replicas = start.get("at"), start.get("replicas", 1)
    return replicas * (len(start) if isinstance(start, list) else 1)


def _inserted(settings: Table) -> int:
    return int(settings.get("insert", inspect.signature(auto_neb).parameters["insert"].default))


def _pivots(stage: Stage | None) -> int:
    """Of a path that an earlier stage will find."""
    if stage is None or stage.spec["task"] != "connect":
        return FIRST_PIVOTS + 2
    settings = stage.spec["settings"]
    if stage.spec["method"] != "auto_neb":
        return int(settings.get("pivots", FIRST_PIVOTS + 2))
    return FIRST_PIVOTS + 2 + _inserted(settings) * (len(settings.get("cycles", CYCLES)) - 1)


_WORK: Final[dict[str, Callable[[Table, _Prices, dict[str, Stage]], tuple[float, int]]]] = {
    "train": _of_train, "simulate": _of_simulate, "minimize": _of_minimize, "connect": _of_connect,
    "probe": _of_probe, "replica_exchange": _of_simulate,
}  # fmt: skip
