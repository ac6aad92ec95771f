"""`simulate`: dynamics of many chains on a landscape."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import xarray as xr
from torch import Tensor

from landscape.boundaries.constraints import Constraint
from landscape.boundaries.restraints import Restrain, take_restraints
from landscape.checks import one_of, whole_number
from landscape.common.arguments import guarded
from landscape.dynamics.diagnostics import certify as certificate
from landscape.dynamics.diagnostics import check_certifiable, with_samples
from landscape.dynamics.metadynamics import Hills, Metadynamics, take_metadynamics
from landscape.dynamics.taken import LOG, what_it_took
from landscape.engine.base import Plan, State
from landscape.engine.choice import Backend, make_engine
from landscape.engine.driver import Driver, Intervention, snapshot_steps
from landscape.engine.pace import Clock
from landscape.engine.prepare import prepare
from landscape.engine.progress import progress_bar
from landscape.errors import ConfigError, NonFiniteError
from landscape.integrators.base import Integrator
from landscape.paths.projection import ROW_BYTES, ProjectOntoPath, Projector, separate
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.recording.observables import OBSERVABLES
from landscape.recording.record import Observable, Record
from landscape.recording.results import build_dataset
from landscape.storage.buffers import stored_buffers
from landscape.storage.interruption import told
from landscape.storage.run_folder import PART_BYTES, RunFolder
from landscape.storage.run_reader import open_folder

__all__ = ["simulate"]


@guarded
def simulate(
    potential: Potential,
    integrator: Integrator,
    *,
    steps: int,
    start: Any = None,
    momentum: Any = None,
    chains: int | None = None,
    temperature: Any = 0.0,
    record: Record | None = None,
    constraint: Constraint
    | Restrain
    | ProjectOntoPath
    | Metadynamics
    | Sequence[Constraint | Restrain | ProjectOntoPath | Metadynamics]
    | None = None,
    seed: int = 0,
    data_seed: Any = None,
    state: Literal["fresh", "keep"] = "fresh",
    backend: Backend = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    output: str | os.PathLike[str] | RunFolder | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
    on_nonfinite: Literal["raise", "drop"] = "raise",
    certify: bool = False,
) -> xr.Dataset:
    """Run the dynamics of an integrator on a potential, for many chains at once.

    Noise and minibatches are functions of (seed, chain, step): the same call gives the same bits, however it is divided
    into calls with ``state="keep"``; on the compiled backend also for any number of chains and threads.

    Parameters
    ----------
    potential : Potential
    integrator : Integrator
        With its step size `dt` or `lr`, one value or one per chain.
    steps : int
    start : optional
        None for ``potential.default_start()``, a position ``(dim,)`` for all chains, positions ``(chain, dim)``, or a
        run or minimum.
    momentum : array, optional
        Momenta of the first step, ``(dim,)`` for all chains or ``(chain, dim)``; by default the integrator's own start,
        such as the Maxwell distribution N(0, T) of `BAOAB`. Many chains from one state are shots from it.
    chains : int, optional
        Number of chains; by default what `start`, `temperature` or the step size give one value each for, else 1.
    temperature : float, one per chain, or a schedule
        T in dx = -grad V dt + sqrt(2T) dW (k_B = 1), in units of energy. A schedule is `ramp`, `cycle`, `piecewise`,
        `cosine` or a callable of the time at the start of a step; the integrator's step size may be one too.
    record : Record, optional
        What to keep and how often; by default every step.
    constraint : Reflect, Periodic, Absorb, Restrain, Metadynamics, ProjectOntoPath, or a sequence of them
        Boundaries besides (or instead of) the potential's bounds; springs; hills that fill wells; and a path that
        chains are put back on.
    seed : int
        Seed of the noise, and of the minibatches unless `data_seed` is given.
    data_seed : int, one per chain, or a mapping of step to either
        Chains with the same value see the same minibatches; the mapping changes it from that step on.
    state : {"fresh", "keep"}
        Whether a run given as `start` also hands on its memory (momenta, moments) and its step count.
    backend : {"auto", "compiled", "batched"}
        Compiled loops for formulas and plain MLPs on the CPU; torch tensors for everything, anywhere.
    dtype, device
        Of the state; the potential's own unless given.
    output : path, optional
        A folder that the run is written to as it goes on: parts of what is recorded, and checkpoints. If the process
        is killed, the same call or `landscape.resume` goes on from the last checkpoint to the same bits; if the folder
        holds the whole run already, it is returned. Memory does not grow with the steps, and SIGINT and SIGTERM leave
        a checkpoint.
    checkpoint_every : int, optional
        Steps between checkpoints; by default there is one every minute. What is written in the end does not depend on
        it.
    progress : bool, optional
        Whether to show a progress bar, below a line with what the run took (integrator, backend and why, temperature,
        noise, minibatches); None shows it on a terminal. The logger "landscape" gets that line at level INFO.
    on_nonfinite : {"raise", "drop"}
        What to do with a chain that diverges.
    certify : bool
        Whether to check that the run samples the Boltzmann distribution: ``equipartition``,
        ``configurational_temperature`` and ``dt_bias`` with their errors, and the verdict as the attribute
        `certificate`. Runs again at half the step size, which takes twice as long as the run itself.

    Returns
    -------
    xarray.Dataset
        ``energy (chain, draw)``, ``position (chain, draw, coordinate)`` and other observables; ``last_position
        (chain, coordinate)`` and the rest of the final state; coordinates ``chain``, ``draw``, ``step (draw)``,
        ``time``, ``temperature (chain)``, ``dt (chain)`` (of a schedule ``(chain, draw)``); the specification as the
        attribute `spec`. With `output`, the folder as `landscape.open` shows it, which reads what is recorded when it
        is looked at. `MALA` and `HMC` add ``acceptance (chain)``, `Absorb` ``exit_time (chain)`` with its side and
        coordinate, observers their results.

    Raises
    ------
    ConfigError, ShapeError
        For settings that make no sense or do not fit each other.
    NonFiniteError
        If the start or a chain is not finite, with step, chain, coordinate and what was recorded before.
    StorageError
        If `output` cannot be written, or another process writes there.
    CheckpointError
        If `output` holds a run of another specification; the message names the keys.

    Notes
    -----
    Costs ``integrator.gradients_per_step`` gradients per chain and step, plus an energy per draw.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("k*x**2/2", ["x"], {"k": 2.0})
    >>> run = ls.simulate(spring, ls.EulerMaruyama(dt=0.1), temperature=0.5, chains=500, steps=400, seed=1)
    >>> variance = float(run.position[:, 100:].var())
    >>> abs(variance - 0.5 / (2.0 * (1 - 0.1 * 2.0 / 2))) < 0.01  # T / [k (1 - dt k/2)]
    True
    """
    one_of("on_nonfinite", on_nonfinite, ("raise", "drop"))
    record = record if record is not None else Record()
    walls, projection = separate(constraint)
    metadynamics, walls = take_metadynamics(walls)
    if certify:
        needs_energy("certify=True", potential)
        check_certifiable(integrator, temperature, steps, record)
        if projection is not None or metadynamics is not None or take_restraints(walls)[0]:
            raise ConfigError(
                "certify=True compares with the Boltzmann law, which springs, hills and projections do not keep"
            )
        if integrator.thermal_noise.antithetic:
            raise ConfigError("certify=True takes chains for independent, and those of a pair ride opposite noise")
        record = with_samples(record, potential)
    plan, initial, spec = prepare(
        potential, integrator, steps=steps, start=start, momentum=momentum, chains=chains, temperature=temperature,
        record=record, constraint=walls or None, seed=seed, data_seed=data_seed, state=state, dtype=dtype,
        device=device,
    )  # fmt: skip
    if on_nonfinite != "raise":
        spec["on_nonfinite"] = on_nonfinite
    settings: dict[str, Any] = {}
    if projection is not None:
        spec["constraint"] = [*spec.get("constraint", []), projection.spec()]
        part = None if output is None else max(1, PART_BYTES // (ROW_BYTES * plan.chains))
        projector = Projector(projection, plan, initial, start if state == "keep" else None, steps, part)
        settings = {"interventions": [projector], "complete": projector.complete}
    if metadynamics is not None:
        if projection is not None:
            raise ConfigError("a run has hills or a path that it is put back on, not both")
        spec["constraint"] = [*spec.get("constraint", []), metadynamics.spec()]
        hills = Hills(metadynamics, plan, start if state == "keep" else None)
        plan = replace(plan, bias=hills.bias)
        settings = {"interventions": [hills], "complete": hills.complete, "also": hills.observed()}
    with claimed(output, checkpoint_every) as folder:
        run = execute(
            plan, initial, spec, record, steps=steps, backend=backend, progress=progress, drop=on_nonfinite == "drop",
            folder=folder, **settings,
        )  # fmt: skip
        if not certify or "certificate" in run.attrs:
            return run
        aside = None if folder is None else folder.path / "half-step"
        finer = replace(record, every=2 * record.every, observables=["energy"], snapshots=None)
        halved = simulate(
            potential, integrator.scaled(0.5), steps=2 * steps, start=start, momentum=momentum, chains=plan.chains,
            temperature=temperature, record=finer, constraint=constraint, seed=(seed + 2**63) % 2**64,
            data_seed=data_seed, backend=backend, dtype=dtype, device=device, output=aside,
            checkpoint_every=checkpoint_every, progress=progress, on_nonfinite=on_nonfinite,
        )  # fmt: skip
        checked = certificate(run, halved, potential, plan.walls, plan.seed)
        if folder is None or aside is None:
            return checked
        folder.certify(checked[[name for name in checked.variables if name not in run.variables]])
        shutil.rmtree(aside)
        return open_folder(folder.path)


@contextmanager
def claimed(output: Any, checkpoint_every: int | None) -> Iterator[RunFolder | None]:
    """The folder that a run is to be written to, closed to other processes meanwhile; None where there is none.

    Raises
    ------
    ConfigError, StorageError, CheckpointError
    """
    if output is None:
        if checkpoint_every is not None:
            raise ConfigError("checkpoint_every needs a folder for the checkpoints: give output")
        yield None
        return
    every = None if checkpoint_every is None else whole_number("checkpoint_every", checkpoint_every)
    folder = output if isinstance(output, RunFolder) else RunFolder(output)
    try:
        folder.clock = Clock(every)
        yield folder
    finally:
        folder.close()


def execute(
    plan: Plan, initial: State, spec: dict[str, Any], record: Record, *, steps: int, backend: Backend = "auto",
    progress: bool | None = None, drop: bool = False, interventions: Sequence[Intervention] = (),
    complete: Callable[[xr.Dataset], xr.Dataset] = lambda dataset: dataset, folder: RunFolder | None = None,
    also: Mapping[str, Observable] | None = None,
) -> xr.Dataset:  # fmt: skip
    """Run a plan from a state and collect the Dataset; an error of divergence carries what was recorded.

    `complete` adds to the Dataset what interventions have seen, `also` are observables besides those of the
    record. With a folder the run is written there, and goes on from what the folder holds.
    """
    observables = record.resolve(plan.potential, tuple(initial.memory)) | dict(also or {})
    check_memory(plan, record, observables, steps, None if folder is None else folder.path)
    if folder is not None and folder.manifest is not None:
        folder.compare(spec, ignored=("steps", "backend"))
        backend = folder.manifest.backend if backend == "auto" else backend  # type: ignore[assignment]
    engine, backend_name = make_engine(plan, initial, backend)
    spec = spec | {"backend": backend_name}
    part_draws, part_snapshots = (
        (None, None) if folder is None else (max(1, PART_BYTES // size) for size in record_bytes(plan, observables))
    )
    driver = Driver(
        engine=engine,
        replica=lambda at: make_engine(plan, at, backend)[0],
        record=record,
        observables=observables,
        observers=record.observers(plan.potential),
        interventions=interventions,
        steps=steps,
        drop=drop,
        sink=folder,
        part_draws=part_draws,
        part_snapshots=part_snapshots,
    )

    def describe(driver: Driver, final: bool) -> xr.Dataset:
        dataset = complete(build_dataset(driver, spec, backend_name))
        return dataset.assign(_final_buffers(plan.potential, driver.engine.state.position)) if final else dataset

    failure: NonFiniteError | None = None
    try:
        if folder is not None:
            folder.begin(spec, steps, describe)
            folder.restore(driver)
        title = f"{type(plan.potential).__name__}, {plan.chains} chains"
        LOG.info(line := what_it_took(plan, backend_name))
        with (
            told(folder.way_on) if folder else nullcontext(),
            progress_bar(steps, title, show=progress, above=line) as report,
            folder.interruption if folder else nullcontext(),
        ):
            if folder is None or not folder.complete:
                driver.run(report)
    except NonFiniteError as error:
        failure = error
    finally:
        engine.close()
    if folder is None:
        dataset = describe(driver, True)
    else:
        if not folder.complete:
            folder.write(driver, "complete" if failure is None else "diverged")
        dataset = open_folder(folder.path)
    if failure is not None:
        failure.dataset = dataset
        raise failure
    return dataset


def record_bytes(plan: Plan, observables: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes of a draw and of a snapshot of all chains."""
    itemsize = torch.empty(0, dtype=plan.dtype).element_size()
    lengths = {"coordinate": plan.potential.dim, "sample": plan.potential.samples}
    dims = [OBSERVABLES[name].dim if name in OBSERVABLES else None for name in observables]
    per_draw = plan.chains * sum(8 if dim is None else lengths[dim] * itemsize for dim in dims)
    return max(per_draw, 1), plan.chains * plan.potential.dim * itemsize


def check_memory(
    plan: Plan, record: Record, observables: Mapping[str, Any], steps: int, folder: Path | None = None
) -> int:
    """Bytes that the records of a run will take, on disk if there is a folder.

    Raises
    ------
    ConfigError
        If that is more than half of the free memory, or of the free space of the disk.
    """
    per_draw, per_snapshot = record_bytes(plan, observables)
    draws = steps // record.every
    size = (draws * per_draw if observables else 0) + len(snapshot_steps(steps, record.snapshots)) * per_snapshot
    free = psutil.virtual_memory().available if folder is None else shutil.disk_usage(folder).free
    if size > free // 2:
        where, hint = ("memory", ", or give output to write to disk") if folder is None else ("disk space", "")
        raise ConfigError(
            f"the run would record {size / 2**30:.3g} GiB ({plan.chains} chains, {draws} draws), more than half of the "
            f"{free / 2**30:.3g} GiB of free {where}: raise Record(every=...), or name fewer observables{hint}"
        )
    return int(size)


def _final_buffers(potential: Potential, position: Tensor) -> dict[str, Any]:
    """Statistics of normalisation layers at the last position, where they are not constants."""
    rows = [potential.statistics(vector) for vector in position]
    found = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return stored_buffers(found, "last position", "chain")
