"""`simulate`: dynamics of many chains on a landscape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import psutil
import torch
import xarray as xr
from torch import Tensor

from landscape.certificate import certify as certificate
from landscape.certificate import check_certifiable, halved_step, with_samples
from landscape.constraints import Constraint
from landscape.driver import Driver, Intervention, snapshot_steps
from landscape.engines.base import Plan, State
from landscape.engines.choice import Backend, make_engine
from landscape.errors import ConfigError, NonFiniteError
from landscape.integrators.base import Integrator
from landscape.potentials.base import Potential
from landscape.potentials.network import NetworkLoss
from landscape.prepare import prepare
from landscape.progress import progress_bar
from landscape.projection import ProjectOntoPath, Projector, separate
from landscape.record import Record
from landscape.restraints import Restrain, take_restraints
from landscape.results import build_dataset

__all__ = ["simulate"]


def simulate(
    potential: Potential,
    integrator: Integrator,
    *,
    steps: int,
    start: Any = None,
    chains: int | None = None,
    temperature: Any = 0.0,
    record: Record | None = None,
    constraint: Constraint
    | Restrain
    | ProjectOntoPath
    | Sequence[Constraint | Restrain | ProjectOntoPath]
    | None = None,
    seed: int = 0,
    data_seed: Any = None,
    state: Literal["fresh", "keep"] = "fresh",
    backend: Backend = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
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
    chains : int, optional
        Number of chains; by default what `start`, `temperature` or the step size give one value each for, else 1.
    temperature : float, one per chain, or a schedule
        T in dx = -grad V dt + sqrt(2T) dW (k_B = 1), in units of energy. A schedule is `ramp`, `cycle`, `piecewise`,
        `cosine` or a callable of the time at the start of a step; the integrator's step size may be one too.
    record : Record, optional
        What to keep and how often; by default every step.
    constraint : Reflect, Periodic, Absorb, Restrain, ProjectOntoPath, or a sequence of them
        Walls besides (or instead of) the potential's bounds; springs; and a path that chains are put back on.
    seed : int
        Of the noise, and of minibatches unless `data_seed` is given.
    data_seed : int, one per chain, or a mapping of step to either
        Chains with the same value see the same minibatches; the mapping changes it from that step on.
    state : {"fresh", "keep"}
        Whether a run given as `start` also hands on its memory (momenta, moments) and its step count.
    backend : {"auto", "compiled", "batched"}
        Compiled loops for formulas and plain MLPs on the CPU; torch tensors for everything, anywhere.
    dtype, device
        Of the state; the potential's own unless given.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.
    on_nonfinite : {"raise", "drop"}
        What to do with a chain that diverges.
    certify : bool
        Whether to check that the run samples the Boltzmann law: ``equipartition``, ``configurational_temperature`` and
        ``dt_bias`` with their errors, and the verdict as the attribute `certificate`. Runs again at half the step
        size, which takes twice as long as the run itself.

    Returns
    -------
    xarray.Dataset
        ``energy (chain, draw)``, ``position (chain, draw, coordinate)`` and other observables; ``last_position
        (chain, coordinate)`` and the rest of the final state; coordinates ``chain``, ``draw``, ``step (draw)``,
        ``time``, ``temperature (chain)``, ``dt (chain)`` (of a schedule ``(chain, draw)``); the specification as the
        attribute `spec`. `MALA` and `HMC` add ``acceptance (chain)``, `Absorb` ``exit_time (chain)`` with its side and
        coordinate, observers their results.

    Raises
    ------
    ConfigError, ShapeError
        For settings that make no sense or do not fit each other.
    NonFiniteError
        If the start or a chain is not finite, with step, chain, coordinate and what was recorded before.

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
    if on_nonfinite not in ("raise", "drop"):
        raise ConfigError(f'on_nonfinite must be "raise" or "drop", got {on_nonfinite!r}')
    record = record if record is not None else Record()
    walls, projection = separate(constraint)
    if certify:
        check_certifiable(integrator, temperature, steps, record)
        if projection is not None or take_restraints(walls)[0]:
            raise ConfigError("certify=True compares with the Boltzmann law, which springs and projections do not keep")
        record = with_samples(record, isinstance(potential, NetworkLoss))
    plan, initial, spec = prepare(
        potential, integrator, steps=steps, start=start, chains=chains, temperature=temperature, record=record,
        constraint=walls or None, seed=seed, data_seed=data_seed, state=state, dtype=dtype, device=device,
    )  # fmt: skip
    if on_nonfinite != "raise":
        spec["on_nonfinite"] = on_nonfinite
    settings: dict[str, Any] = {}
    if projection is not None:
        spec["constraint"] = [*spec.get("constraint", []), projection.spec()]
        projector = Projector(projection, plan, initial, start if state == "keep" else None, steps)
        settings = {"interventions": [projector], "complete": projector.complete}
    run = execute(
        plan, initial, spec, record, steps=steps, backend=backend, progress=progress, drop=on_nonfinite == "drop",
        **settings,
    )  # fmt: skip
    if not certify:
        return run
    finer = replace(record, every=2 * record.every, observables=["energy"], snapshots=None)
    halved = simulate(
        potential, halved_step(integrator), steps=2 * steps, start=start, chains=plan.chains, temperature=temperature,
        record=finer, constraint=constraint, seed=(seed + 2**63) % 2**64, data_seed=data_seed, backend=backend,
        dtype=dtype, device=device, progress=progress, on_nonfinite=on_nonfinite,
    )  # fmt: skip
    return certificate(run, halved, potential, plan.walls, plan.seed)


def execute(
    plan: Plan, initial: State, spec: dict[str, Any], record: Record, *, steps: int, backend: Backend = "auto",
    progress: bool | None = None, drop: bool = False, interventions: Sequence[Intervention] = (),
    complete: Callable[[xr.Dataset], xr.Dataset] = lambda dataset: dataset,
) -> xr.Dataset:  # fmt: skip
    """Run a plan from a state and collect the Dataset; an error of divergence carries what was recorded.

    `complete` adds to the Dataset what interventions have seen.
    """
    observables = record.resolve(plan.potential, tuple(initial.memory))
    check_memory(plan, record, observables, steps)
    engine, backend_name = make_engine(plan, initial, backend)
    driver = Driver(
        engine=engine,
        replica=lambda at: make_engine(plan, at, backend)[0],
        record=record,
        observables=observables,
        observers=record.observers(plan.potential),
        interventions=interventions,
        steps=steps,
        drop=drop,
    )
    failure: NonFiniteError | None = None
    try:
        with progress_bar(steps, f"{type(plan.potential).__name__}, {plan.chains} chains", show=progress) as report:
            driver.run(report)
    except NonFiniteError as error:
        failure = error
    finally:
        engine.close()
    dataset = complete(build_dataset(driver, spec | {"backend": backend_name}, backend_name))
    if isinstance(plan.potential, NetworkLoss) and plan.potential.batchnorm in ("batch", "reestimate"):
        for name, values in _final_buffers(plan.potential, engine.state.position).items():
            dims = ("chain", *(f"{name}_dim_{i}" for i in range(values.ndim - 1)))
            attributes = {"long_name": f"buffer {name} re-estimated at the last position", "units": "1"}
            dataset[f"buffer_{name.replace('.', '_')}"] = (dims, values, attributes)
    if failure is not None:
        failure.dataset = dataset
        raise failure
    return dataset


def check_memory(plan: Plan, record: Record, observables: Mapping[str, Any], steps: int) -> int:
    """Bytes that the records of a run will take.

    Raises
    ------
    ConfigError
        If that is more than half of the free memory.
    """
    itemsize = torch.empty(0, dtype=plan.dtype).element_size()
    draws, dim = steps // record.every, plan.potential.dim
    per_draw = {"position": dim * itemsize, "momentum": dim * itemsize, "energy": 8}
    per_draw["sample_energies"] = getattr(plan.potential, "samples", 0) * itemsize
    size = plan.chains * draws * sum(per_draw.get(name, 8) for name in observables)
    size += plan.chains * len(snapshot_steps(steps, record.snapshots)) * dim * itemsize
    free = psutil.virtual_memory().available
    if size > free // 2:
        raise ConfigError(
            f"the run would record {size / 2**30:.3g} GiB ({plan.chains} chains, {draws} draws), more than half of the "
            f"{free / 2**30:.3g} GiB of free memory: raise Record(every=...), or name fewer observables"
        )
    return int(size)


def _final_buffers(potential: NetworkLoss, position: Tensor) -> dict[str, Any]:
    rows = [potential.buffers_at(vector) for vector in position]
    return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in rows[0]}
