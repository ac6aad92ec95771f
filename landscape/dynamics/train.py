"""`train`: minibatch dynamics counted in epochs, whose children share their history up to a branch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from landscape.boundaries.constraints import listed
from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.common.codec import plain
from landscape.common.notices import warn
from landscape.dynamics.simulate import simulate
from landscape.engine.prepare import spec_of_start
from landscape.engine.progress import progress_bar
from landscape.errors import CheckpointError, ConfigError
from landscape.integrators.base import Integrator
from landscape.paths.projection import separate
from landscape.potentials.base import has_samples
from landscape.potentials.network.potential import NetworkLoss
from landscape.random import check_seed
from landscape.recording.record import Record
from landscape.storage.interruption import told
from landscape.storage.training_folder import Stretch, TrainingFolder, as_trained

__all__ = ["open_training", "train"]

Schedule = Callable[[int], float] | Mapping[int, float]


@guarded
def train(
    loss: NetworkLoss,
    integrator: Integrator,
    *,
    epochs: int,
    schedule: Schedule | None = None,
    split_epoch: int | None = None,
    siblings: int = 1,
    seed: int = 0,
    record: Record | None = None,
    start: Any = None,
    output: str | os.PathLike[str] | TrainingFolder | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Train a network: a run of minibatch dynamics whose rate may change from epoch to epoch.

    Parameters
    ----------
    loss : NetworkLoss
        With a `batch_size`; without one an epoch is one full-batch step.
    integrator : Integrator
        Such as ``SGD(lr=0.1, momentum=0.9)``; its rate is multiplied by the schedule.
    epochs : int
    schedule : mapping of epoch to factor, or callable of the epoch, optional
        Factor on the rate; a mapping holds each factor until the next epoch it names.
    split_epoch : int, optional
        The branch epoch: until then there is one network, of which all children take over weights, momenta and
        statistics; afterwards each has its own order of minibatches (and thermal noise). None gives each its own from
        the start. Children whose settings or starts differ see the same minibatches until then.
    siblings : int
        Number of children: networks trained side by side from the same start.
    seed : int
        Of minibatches (and of thermal noise, where the integrator has some).
    record : Record, optional
        In steps; by default once an epoch.
    start : optional
        As for `simulate`.
    output, checkpoint_every : optional
        A folder that the training is written to as it goes on, and steps between checkpoints; as for `simulate`.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.
    **settings
        Further arguments of `simulate`, such as `backend` or `temperature`.

    Returns
    -------
    xarray.Dataset
        As from `simulate`, with the factor in force as ``rate_factor (draw)``.

    Warns
    -----
    UserWarning
        If the module has dropout, which is off here.

    Raises
    ------
    ConfigError
    StorageError, CheckpointError
        If `output` cannot be written, or holds something else.

    Examples
    --------
    >>> import torch, landscape as ls
    >>> x = torch.linspace(-1, 1, 32)[:, None]
    >>> loss = ls.potentials.NetworkLoss(torch.nn.Linear(1, 1), x, 3 * x, loss="mse", batch_size=8)
    >>> run = ls.train(loss, ls.SGD(lr=0.5), epochs=40, schedule={0: 1.0, 30: 0.1})
    >>> float(run.energy[0, -1]) < 1e-3
    True
    """
    if not has_samples(loss):
        raise ConfigError(f"train takes a NetworkLoss, got {type(loss).__name__}; use simulate for other potentials")
    if not isinstance(integrator, Integrator):
        raise ConfigError(f"train takes an Integrator such as SGD(lr=0.1) after the loss, got {integrator!r}")
    if record is not None and not isinstance(record, Record):
        raise ConfigError(f"record must be a Record, got {type(record).__name__}")
    for name, value, least in (("epochs", epochs, 1), ("siblings", siblings, 1), ("split_epoch", split_epoch, 0)):
        if value is None and name == "split_epoch":
            continue
        whole_number(name, value, least=least)
    if split_epoch is not None and siblings == 1:
        raise ConfigError("split_epoch needs siblings: give siblings=2 or more")
    check_seed(seed)
    taken = sorted({"steps", "chains", "data_seed", "state"} & set(settings))
    if taken:
        raise ConfigError(f"train sets {', '.join(taken)} itself: say epochs, siblings, split_epoch and seed")
    _warn_of_dropout(loss)
    per_epoch = loss.sampler.steps_per_epoch if loss.sampler is not None else 1
    record = record or Record(every=per_epoch)
    data_seed = _sibling_seeds(seed, siblings, None if split_epoch is None else split_epoch * per_epoch)
    factors = _factors(schedule, epochs)
    # one network until the split: rows of a batch round differently, and training makes that grow
    together = min(split_epoch or 0, epochs) if _alike(integrator, start, settings) else 0
    stretches = [
        Stretch(first, last, factors[first], last <= together)
        for first, last in _stretches(factors, epochs, record.every, per_epoch, together)
    ]
    if 0 in factors and not integrator.may_rest:
        raise ConfigError(f"the schedule reaches 0, which {type(integrator).__name__} does not allow")
    rules = {factor: integrator if factor == 1 else integrator.scaled(factor) for factor in set(factors)}
    if len(stretches) > 1 and separate(settings.get("constraint"))[1] is not None:
        raise ConfigError("a path to project onto needs one rate throughout: leave the schedule out, or use simulate")
    further = {name: _plain(name, value) for name, value in settings.items() if value is not None}
    spec: dict[str, Any] = {
        "task": "train",
        "potential": loss.spec(),
        "integrator": integrator.spec(),
        "epochs": epochs,
        "siblings": siblings,
        "seed": seed,
        "record": record.spec(),
    }
    if schedule is not None:
        spec["schedule"] = {str(epoch): factors[epoch] for epoch in _changes(factors)}
    if split_epoch is not None:
        spec["split_epoch"] = split_epoch
    folder = output if output is None or isinstance(output, TrainingFolder) else TrainingFolder(output)
    if folder is not None:
        folder.begin({
            "spec": spec, "settings": further, "start": spec_of_start(loss, start), "siblings": siblings,
            "stretches": [list(astuple(one)) for one in stretches], "data_seed": _table(data_seed),
        })  # fmt: skip
    elif checkpoint_every is not None:
        raise ConfigError("checkpoint_every needs a folder for the checkpoints: give output")
    pieces: list[xr.Dataset] = []
    state: Any = start
    with (
        nullcontext() if folder is None else told(folder.way_on),
        nullcontext() if folder is None else closing(folder),
        progress_bar(epochs, "training", show=progress) as report,
    ):
        for number, stretch in enumerate(stretches):
            one = stretch.together
            with nullcontext() if folder is None else closing(folder.stretch(number)) as kept:
                piece = simulate(
                    loss, rules[stretch.factor], steps=(stretch.last - stretch.first) * per_epoch,
                    start=state.isel(chain=[0]) if one and pieces else state, chains=1 if one else siblings,
                    record=record, seed=seed, data_seed={0: [seed]} if one else data_seed, progress=False,
                    state="keep" if pieces else "fresh", output=kept, checkpoint_every=checkpoint_every, **settings,
                )  # fmt: skip
            state = as_trained(piece, stretch, siblings)
            pieces.append(state)
            report(stretch.last)
    return _described(pieces, further | spec, _table(data_seed))


def open_training(folder: Path) -> xr.Dataset:
    """What a training in a folder has committed so far.

    Raises
    ------
    CheckpointError
    """
    kept = TrainingFolder(folder)
    content, pieces = kept.read(), list(kept.pieces())
    if not pieces:
        raise CheckpointError(f"the training in {str(folder)!r} has committed nothing yet")
    return _described(pieces, content["settings"] | content["spec"], content["data_seed"])


def _warn_of_dropout(loss: NetworkLoss) -> None:
    """Say once that layers which drop units when torch trains them do not here."""
    found = [
        f"{name or type(layer).__name__} ({type(layer).__name__})"
        for name, layer in loss.dynamics_module().named_modules()
        if (getattr(layer, "p", 0.0) if isinstance(layer, nn.modules.dropout._DropoutNd) else _drops(layer)) > 0
    ]
    if found:
        listed = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        warn(
            f"dropout is off: {listed} drop units while torch trains, and do not here: an energy is a function of "
            "the weights alone"
        )


def _drops(layer: nn.Module) -> float:
    """Dropout that a layer does by itself: attention, recurrent layers."""
    own = getattr(layer, "dropout", 0.0)
    return float(own) if isinstance(own, int | float) else 0.0


def _plain(name: str, value: Any) -> Any:
    """A further setting as a specification has it."""
    if name in ("dtype", "device"):
        return str(value).removeprefix("torch.")
    return plain(listed(value) if name == "constraint" else value)


def _table(data_seed: Mapping[int, Any]) -> list[Any]:
    return [[step, seeds] for step, seeds in data_seed.items()]


def _described(pieces: list[xr.Dataset], spec: dict[str, Any], data_seed: list[Any]) -> xr.Dataset:
    """The stretches as one run, which says how it came about."""
    run, first = _joined(pieces), json.loads(pieces[0].attrs["spec"])
    spec = spec | {key: first[key] for key in ("backend", "start") if key in first}
    # [step, seeds of the children] from that step on
    return run.assign_attrs(spec=json.dumps(spec, sort_keys=True), data_seed=json.dumps(data_seed))


def _sibling_seeds(seed: int, siblings: int, split_step: int | None) -> Any:
    own = [seed + 1 + i for i in range(siblings)]
    if siblings == 1:
        return {0: [seed]}
    if split_step is None or split_step == 0:
        return {0: own}
    return {0: [seed] * siblings, split_step: own}


def _alike(integrator: Integrator, start: Any, settings: Mapping[str, Any]) -> bool:
    """Whether the children differ in nothing but their random numbers."""
    rule = getattr(integrator, "inner", integrator)
    values = [integrator.step_size, settings.get("temperature", 0.0), *(getattr(rule, n) for n in integrator.per_chain)]
    positions = start["last_position" if "last_position" in start else "position"] if _stored(start) else start
    several = positions is not None and np.ndim(positions) == 2 and len(positions) > 1
    return not several and "constraint" not in settings and all(np.ndim(value) == 0 for value in values)


def _stored(start: Any) -> bool:
    return isinstance(start, xr.Dataset) and bool({"last_position", "position"} & set(start))


def _factors(schedule: Schedule | None, epochs: int) -> list[float]:
    if schedule is None:
        return [1.0] * epochs
    if isinstance(schedule, Mapping):
        if 0 not in schedule:
            raise ConfigError(f"a schedule must begin at epoch 0, got epochs {list(schedule)}")
        for epoch, factor in schedule.items():
            if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
                raise ConfigError(f"the keys of a schedule are epochs, whole numbers of 0 or more, got {epoch!r}")
            if isinstance(factor, bool) or not isinstance(factor, int | float):
                raise ConfigError(f"the factors of a schedule must be positive numbers, got {factor!r}")
        table = sorted(schedule.items())
        factors = [[value for at, value in table if at <= epoch][-1] for epoch in range(epochs)]
    elif not callable(schedule):
        raise ConfigError(
            f"schedule must map epochs to factors or be callable, got {type(schedule).__name__} {schedule!r}"
        )
    else:
        factors = [float(schedule(epoch)) for epoch in range(epochs)]
    if not all(0 <= factor < np.inf for factor in factors):
        raise ConfigError(f"the factors of a schedule must be 0 or more, got {sorted(set(factors))[:5]}")
    return factors


def _changes(factors: list[float]) -> list[int]:
    """Epochs at which the factor is new, 0 among them."""
    return [0] + [e for e in range(1, len(factors)) if factors[e] != factors[e - 1]]


def _stretches(factors: list[float], epochs: int, every: int, per_epoch: int, split: int) -> list[tuple[int, int]]:
    """Runs of epochs of equal factor, on one side of the split."""
    edges = sorted({*_changes(factors), split, epochs})
    if any(edge * per_epoch % every for edge in edges[1:-1]):
        raise ConfigError(
            f"with a schedule or a split, Record(every={every}) must divide the steps up to each change of the rate "
            f"and up to the split; use a divisor of the {per_epoch} steps per epoch"
        )
    return list(pairwise(edges))


def _joined(pieces: list[xr.Dataset]) -> xr.Dataset:
    """One run: draws in a row with time going on, the final state of the last piece."""
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    draws = [name for name, variable in last.variables.items() if "draw" in variable.dims and name != "draw"]
    parts = []
    for piece in pieces:
        part = piece[[name for name in draws if name in piece.data_vars]].reset_coords(drop=True)
        part = part.assign({name: piece[name].variable for name in ("step", "time")})
        parts.append(part.drop_vars("draw", errors="ignore"))
    joined = xr.concat(parts, dim="draw", data_vars="all").set_coords(["step", "time"])
    rest = last.drop_vars([*draws, "draw"], errors="ignore").drop_dims("snapshot", errors="ignore")
    result = rest.merge(joined).assign_coords(draw=np.arange(joined.sizes["draw"]))
    for name in draws:
        result[name].attrs.update(last[name].attrs)
    result["draw"].attrs.update(last["draw"].attrs)
    result.attrs = dict(last.attrs)
    return result
