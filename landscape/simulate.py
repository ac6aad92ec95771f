"""`simulate`: dynamics of many chains on a landscape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import psutil
import torch
import xarray as xr
from torch import Tensor

from landscape.constraints import Constraint, Walls, resolve_walls
from landscape.driver import Driver, snapshot_steps
from landscape.engines.base import Plan, State
from landscape.engines.choice import Backend, make_engine
from landscape.errors import ConfigError, NonFiniteError, ShapeError
from landscape.integrators.base import Integrator
from landscape.per_chain import count_chains, length_of, per_chain
from landscape.potentials.base import Potential, check_device
from landscape.potentials.network import NetworkLoss
from landscape.progress import progress_bar
from landscape.random import check_seed
from landscape.record import Record
from landscape.results import build_dataset

__all__ = ["simulate"]

MOST_IN_SPEC = 4096  # numbers of a start that a specification holds


def simulate(
    potential: Potential,
    integrator: Integrator,
    *,
    steps: int,
    start: Any = None,
    chains: int | None = None,
    temperature: Any = 0.0,
    record: Record | None = None,
    constraint: Constraint | Sequence[Constraint] | None = None,
    seed: int = 0,
    data_seed: Any = None,
    state: Literal["fresh", "keep"] = "fresh",
    backend: Backend = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    on_nonfinite: Literal["raise", "drop"] = "raise",
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
    temperature : float, or one per chain
        T in dx = -grad V dt + sqrt(2T) dW (k_B = 1), in units of energy.
    record : Record, optional
        What to keep and how often; by default every step.
    constraint : Reflect, Periodic, or a sequence of them
        Walls besides (or instead of) the potential's bounds.
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

    Returns
    -------
    xarray.Dataset
        ``energy (chain, draw)``, ``position (chain, draw, coordinate)`` and other observables; ``last_position
        (chain, coordinate)`` and the rest of the final state; coordinates ``chain``, ``draw``, ``step (draw)``,
        ``time``, ``temperature (chain)``, ``dt (chain)``; the specification as the attribute `spec`.

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
    plan, initial, spec = prepare(
        potential, integrator, steps=steps, start=start, chains=chains, temperature=temperature, record=record,
        constraint=constraint, seed=seed, data_seed=data_seed, state=state, dtype=dtype, device=device,
    )  # fmt: skip
    record = record or Record()
    if on_nonfinite not in ("raise", "drop"):
        raise ConfigError(f'on_nonfinite must be "raise" or "drop", got {on_nonfinite!r}')
    observables = record.resolve(potential, integrator.memory_names)
    check_memory(plan, record, observables, steps)
    engine, backend_name = make_engine(plan, initial, backend)
    driver = Driver(
        engine=engine,
        replica=lambda at: make_engine(plan, at, backend)[0],
        record=record,
        observables=observables,
        steps=steps,
        drop=on_nonfinite == "drop",
    )
    failure: NonFiniteError | None = None
    try:
        with progress_bar(steps, f"{type(potential).__name__}, {plan.chains} chains", show=progress) as report:
            driver.run(report)
    except NonFiniteError as error:
        failure = error
    finally:
        engine.close()
    spec |= {"backend": backend_name}
    if on_nonfinite != "raise":
        spec["on_nonfinite"] = on_nonfinite
    dataset = _collect(driver, spec, backend_name)
    if failure is not None:
        failure.dataset = dataset
        raise failure
    return dataset


def prepare(
    potential: Potential,
    integrator: Integrator,
    *,
    steps: int,
    start: Any = None,
    chains: int | None = None,
    temperature: Any = 0.0,
    record: Record | None = None,
    constraint: Constraint | Sequence[Constraint] | None = None,
    seed: int = 0,
    data_seed: Any = None,
    state: Literal["fresh", "keep"] = "fresh",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Plan, State, dict[str, Any]]:
    """Check every setting of `simulate` and resolve it: the plan, the initial state and the specification."""
    if not isinstance(potential, Potential):
        raise ConfigError(f"expected a Potential first, got {type(potential).__name__}")
    if not isinstance(integrator, Integrator):
        hint = f": write {integrator.__name__}(...)" if isinstance(integrator, type) else ""
        raise ConfigError(f"expected an Integrator such as EulerMaruyama(dt=1e-3), got {integrator!r}{hint}")
    if isinstance(steps, bool) or not hasattr(steps, "__index__") or int(steps) < 0:
        raise ConfigError(f"steps must be a whole number, 0 or more, got {steps!r}")
    if record is not None and not isinstance(record, Record):
        raise ConfigError(f"record must be a Record, such as Record(every=10), got {type(record).__name__}")
    if state not in ("fresh", "keep"):
        raise ConfigError(f'state must be "fresh" or "keep", got {state!r}')
    _check_decay(potential, integrator)
    positions = _start_positions(potential, start)
    seeds = _data_seed_table(data_seed)
    count = count_chains(
        chains,
        start=len(positions) if positions.ndim == 2 else None,
        temperature=length_of("temperature", temperature),
        step_size=length_of("the step size", integrator.step_size),
        data_seed=next((len(value) for _, value in seeds if isinstance(value, tuple)), None),
    )
    temperatures = per_chain("temperature", temperature, count)
    if not np.isfinite(temperatures).all() or (temperatures < 0).any():
        raise ConfigError(f"temperature must be finite and not negative, got {temperature!r}")
    if not integrator.thermal and temperatures.any():
        raise ConfigError(
            f"{type(integrator).__name__} has no thermal noise, so temperature must be 0, got {temperature!r}; "
            "use EulerMaruyama for Langevin dynamics"
        )
    walls = resolve_walls(potential, constraint)
    dtype = dtype or (potential.dtype if isinstance(potential, NetworkLoss) else potential.default_dtype)
    place = check_device(device) if device is not None else getattr(potential, "device", torch.device("cpu"))
    _check_placement(potential, dtype, place)
    plan = Plan(
        potential=potential,
        integrator=integrator,
        walls=walls,
        temperature=temperatures,
        step_size=per_chain("the step size", integrator.step_size, count),
        seed=check_seed(seed),
        data_seeds=tuple((at, (value,) * count if isinstance(value, int) else value) for at, value in seeds),
        dtype=dtype,
        device=place,
    )
    position = positions.to(place, dtype).expand(count, potential.dim).clone().contiguous()
    _check_start(position, walls, potential)
    initial = State(position, _initial_memory(integrator, position, start, state), 0)
    if state == "keep" and isinstance(start, xr.Dataset):
        initial.step = int(start.attrs.get("last_step", 0))
    spec = _spec(
        potential,
        integrator,
        plan,
        steps,
        temperature,
        record or Record(),
        constraint,
        data_seed,
        start,
        positions,
        state == "keep",
    )
    return plan, initial, spec


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


def _collect(driver: Driver, spec: dict[str, Any], backend: str) -> xr.Dataset:
    engine, draws = driver.engine, driver.draw
    steps = driver.first_step + np.arange(1, draws + 1, dtype=np.int64) * driver.record.every
    snapshots = None
    if driver.record.snapshots is not None:
        made = driver.snapshot_at <= driver.done
        snapshots = (driver.snapshots[:, made], driver.snapshot_at[made] + driver.first_step)
    dataset = build_dataset(
        engine.plan,
        engine.state,
        {name: values[:, :draws] for name, values in driver.recorded.items()},
        steps=steps,
        first_step=driver.first_step,
        snapshots=snapshots,
        spec=spec,
        backend=backend,
    )
    if (driver.dropped_step >= 0).any():
        attributes = {"long_name": "step after which the chain was not finite and was dropped; -1: never", "units": "1"}
        dataset["dropped_step"] = ("chain", driver.dropped_step, attributes)
    potential = engine.plan.potential
    if isinstance(potential, NetworkLoss) and potential.batchnorm in ("batch", "reestimate"):
        for name, values in _final_buffers(potential, engine.state.position).items():
            dims = ("chain", *(f"{name}_dim_{i}" for i in range(values.ndim - 1)))
            attributes = {"long_name": f"buffer {name} re-estimated at the last position", "units": "1"}
            dataset[f"buffer_{name.replace('.', '_')}"] = (dims, values, attributes)
    return dataset


def _final_buffers(potential: NetworkLoss, position: Tensor) -> dict[str, Any]:
    rows = [potential.buffers_at(vector) for vector in position]
    return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in rows[0]}


def _start_positions(potential: Potential, start: Any) -> Tensor:
    """``(dim,)`` or ``(chain, dim)``."""
    if start is None:
        return potential.default_start().detach()
    if isinstance(start, xr.Dataset):
        for name in ("last_position", "position"):
            if name in start and "draw" not in start[name].dims:
                start = start[name].values
                break
        else:
            raise ConfigError("the Dataset given as start has no last_position: expected a run or a minimum")
    if isinstance(start, xr.DataArray):
        start = start.values
    tensor, _ = potential._tensor(start)
    if not tensor.numel():
        raise ShapeError(f"start holds no positions: its shape is {tuple(tensor.shape)}")
    if tensor.ndim > 2:
        raise ShapeError(
            f"start must be ({potential.dim},) or (chain, {potential.dim}), got shape {tuple(tensor.shape)}"
        )
    return tensor.detach()


def _check_start(position: Tensor, walls: Walls, potential: Potential) -> None:
    values = position.cpu().numpy()
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        chain, index = (int(i) for i in bad[0])
        name = potential.coordinates[index] if potential.coordinates is not None else index
        raise NonFiniteError(
            f"coordinate {name!r} of the start of chain {chain} is {values[chain, index]}; expected finite numbers",
            step=0,
            chain=chain,
            coordinate=name,
        )
    outside = np.argwhere(walls.outside(values))
    if len(outside):
        chain, index = (int(i) for i in outside[0])
        raise ConfigError(
            f"the start of chain {chain} has {(potential.coordinates or ())[index]} = {values[chain, index]:g}, beyond "
            f"the wall ({walls.lows[index]:g}, {walls.highs[index]:g}): give a start inside"
        )


def _initial_memory(integrator: Integrator, position: Tensor, start: Any, state: str) -> dict[str, Tensor]:
    memory = {name: torch.zeros_like(position) for name in integrator.memory_names}
    if state == "fresh":
        return memory
    if not isinstance(start, xr.Dataset):
        raise ConfigError('state="keep" needs a run as start: its Dataset, not only its positions')
    for name, zeros in memory.items():
        kept = start.get(f"last_{name}")
        if kept is None:
            raise ConfigError(
                f'state="keep": the run given as start has no {name!r}, which {type(integrator).__name__} needs; '
                'use state="fresh"'
            )
        if kept.shape != zeros.shape:
            raise ShapeError(f"the kept {name} has shape {kept.shape}, expected {tuple(zeros.shape)}")
        memory[name] = torch.as_tensor(np.array(kept.values)).to(zeros)
    return memory


def _data_seed_table(data_seed: Any) -> list[tuple[int, Any]]:
    if data_seed is None:
        return [(0, None)]
    table = data_seed if isinstance(data_seed, Mapping) else {0: data_seed}
    if 0 not in table:
        raise ConfigError(f"a schedule of data seeds must begin at step 0, got steps {sorted(table)}")
    rows: list[tuple[int, Any]] = []
    if any(isinstance(step, bool) or not isinstance(step, int) or step < 0 for step in table):
        raise ConfigError(f"a schedule of data seeds is keyed by steps, whole numbers of 0 or more, got {list(table)}")
    for step in sorted(table):
        value = table[step]
        if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
            rows.append((int(step), tuple(check_seed(int(one), "data_seed") for one in value)))
        else:
            rows.append((int(step), check_seed(value, "data_seed")))
    return rows


def _check_decay(potential: Potential, integrator: Integrator) -> None:
    own = getattr(potential, "weight_decay", 0.0)
    other = getattr(integrator, "weight_decay", 0.0)
    if own and other:
        raise ConfigError(
            f"weight decay stands twice: {own:g} in the loss and {other:g} in {type(integrator).__name__}; keep one"
        )


def _check_placement(potential: Potential, dtype: torch.dtype, device: torch.device) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise ShapeError(f"dtype must be a floating-point type, torch.float32 or torch.float64, got {dtype!r}")
    if isinstance(potential, NetworkLoss) and (dtype != potential.dtype or device != potential.device):
        raise ConfigError(
            f"the network lives on {potential.device} in {potential.dtype}, the run is to use {device} and {dtype}: "
            "give dtype and device to NetworkLoss"
        )


def _spec(
    potential: Potential, integrator: Integrator, plan: Plan, steps: int, temperature: Any, record: Record,
    constraint: Any, data_seed: Any, start: Any, positions: Tensor, kept: bool,
) -> dict[str, Any]:  # fmt: skip
    spec: dict[str, Any] = {
        "task": "simulate",
        "potential": _spec_of(potential),
        "integrator": integrator.spec(),
        "steps": int(steps),
        "chains": plan.chains,
        "temperature": float(plan.temperature[0]) if np.ndim(temperature) == 0 else plan.temperature.tolist(),
        "record": record.spec(),
        "seed": plan.seed,
    }
    if constraint is not None:
        constraints = [constraint] if not isinstance(constraint, Sequence) else constraint
        spec["constraint"] = [one.spec() for one in constraints]
    if data_seed is not None:
        spec["data_seed"] = [[at, list(seeds) if seeds else None] for at, seeds in plan.data_seeds]
    if start is not None:
        spec["start"] = _spec_of_start(positions, kept)
    return spec


def _spec_of_start(positions: Tensor, kept: bool) -> Any:
    """The positions themselves while they are few; a run that is continued has more to it than positions."""
    if kept:
        return {"kind": "run"}
    return positions.tolist() if positions.numel() <= MOST_IN_SPEC else {"kind": "given"}


def _spec_of(potential: Potential) -> dict[str, Any]:
    try:
        return potential.spec()
    except NotImplementedError:
        return {"kind": "python", "name": f"{type(potential).__module__}:{type(potential).__qualname__}"}
