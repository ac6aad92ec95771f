"""Every setting of a run checked and resolved: the plan, the initial state, the specification."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape import random
from landscape.boundaries.constraints import Constraint, listed, resolve_walls
from landscape.boundaries.restraints import Restrain, resolve_restraints, restraint_lengths, take_restraints
from landscape.boundaries.walls import SEAM_SHARE, Walls, seam_rises
from landscape.checks import an_instance, one_of, whole_number
from landscape.common.codec import plain
from landscape.common.notices import warn
from landscape.common.per_chain import count_chains, length_of, per_chain
from landscape.common.positions import aligned
from landscape.common.schedules import Schedule, in_time, length_in_time
from landscape.engine.base import CLOCK_ORIGIN, Plan, State
from landscape.engine.momenta import given_momenta
from landscape.engine.varying import landscapes_of, numbers_of, varying_lengths
from landscape.errors import ConfigError, NonFiniteError, ShapeError
from landscape.integrators.base import Integrator, Memory
from landscape.potentials.base import Potential, check_device
from landscape.potentials.conservative import needs_energy
from landscape.potentials.network.modes import refuse_modes
from landscape.random import check_seed
from landscape.recording.dissipation import ENTROPY, SUMS, begin_sums, check_sums
from landscape.recording.record import Record

__all__ = ["check_seam", "prepare", "spec_of_start"]

SEAM_POINTS = 16  # positions at which the ends of a period are compared
MOST_TURN = 0.34  # of the normal of a level that absorbs over a step: times of exits are right to half a percent
MOST_IN_SPEC = 4096  # numbers of a start that a specification holds


def prepare(
    potential: Potential,
    integrator: Integrator,
    *,
    steps: int,
    start: Any = None,
    momentum: Any = None,
    chains: int | None = None,
    temperature: Any = 0.0,
    record: Record | None = None,
    constraint: Constraint | Restrain | Sequence[Constraint | Restrain] | None = None,
    seed: int = 0,
    data_seed: Any = None,
    state: Literal["fresh", "keep"] = "fresh",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Plan, State, dict[str, Any]]:
    """Check every setting of `simulate` and resolve it: the plan, the initial state and the specification."""
    refuse_modes()
    an_instance("potential", potential, Potential)
    if not isinstance(integrator, Integrator):
        hint = f": write {integrator.__name__}(...)" if isinstance(integrator, type) else ""
        raise ConfigError(f"expected an Integrator such as EulerMaruyama(dt=1e-3), got {integrator!r}{hint}")
    whole_number("steps", steps, least=0)
    if record is not None and not isinstance(record, Record):
        raise ConfigError(f"record must be a Record, such as Record(every=10), got {type(record).__name__}")
    one_of("state", state, ("fresh", "keep"))
    _check_decay(potential, integrator)
    if isinstance(start, xr.Dataset) and "coordinate" in start.dims:  # momenta and the rest go with the positions
        start = aligned(start.transpose(..., "coordinate"), potential.coordinates, potential.dim)
    positions = _start_positions(potential, start)
    momenta = None if momentum is None else given_momenta(potential, integrator, momentum, keep=state == "keep")
    seeds = _data_seed_table(data_seed)
    springs, boundaries = take_restraints(constraint)
    count = count_chains(
        chains,
        start=len(positions) if positions.ndim == 2 and len(positions) > 1 else None,  # one is the start of all
        **{"the momenta": len(momenta) if momenta is not None and momenta.ndim == 2 and len(momenta) > 1 else None},
        temperature=length_in_time("temperature", temperature),
        step_size=length_in_time("the step size", integrator.step_size),
        **varying_lengths(potential),
        **{name: length_of(name, value) for name, value in _chain_settings(integrator).items()},
        **restraint_lengths(springs),
        data_seed=next((len(value) for _, value in seeds if isinstance(value, tuple)), None),
    )
    temperatures = _check_temperature(integrator, temperature, count)
    walls = resolve_walls(potential, boundaries)
    dtype = dtype or potential.dtype
    place = check_device(device) if device is not None else potential.device
    _check_placement(potential, dtype, place)
    if integrator.thermal:
        integrator.thermal_noise.check(potential)
    _check_batches(potential, integrator)
    integrator.check(potential)
    position = positions.to(place, dtype).expand(count, potential.dim).clone().contiguous()
    restraints = resolve_restraints(potential, springs, count, walls, _seam_points(walls, position))
    plan = Plan(
        potential=potential,
        integrator=integrator,
        walls=walls,
        chains=count,
        temperature=temperatures,
        step_size=in_time("the step size", integrator.step_size, count),
        settings={name: per_chain(name, value, count) for name, value in _chain_settings(integrator).items()},
        seed=check_seed(seed),
        data_seeds=tuple((at, (value,) * count if isinstance(value, int) else value) for at, value in seeds),
        dtype=dtype,
        device=place,
        restraints=restraints,
        numbers=numbers_of(potential, restraints, count),
    )
    _check_start(position, walls, potential)
    integrator.check_start(potential, position, walls)
    if integrator.metropolis:
        needs_energy(type(integrator).__name__, potential, per_chain=True)
        if plan.driven:
            raise ConfigError(f"{type(integrator).__name__} samples the law of one energy, and springs move: use BAOAB")
        check_seam(plan, position, type(integrator).__name__)
    _check_exits(plan, steps, position)
    counts_work = record is not None and record.wants("work", "heat")
    if record is not None and counts_work:
        _check_work(plan, position, steps, of_heat=record.wants("heat"))
    if record is not None and record.wants("kinetic_energy") and not _has_kinetic_energy(integrator):
        name = type(integrator).__name__
        raise ConfigError(f'"kinetic_energy" is that of momenta in mechanics, such as those of BAOAB: {name} has none')
    initial = _initial_state(plan, position, start, state == "keep", counts_work)
    if record is not None and record.wants(*SUMS):
        check_sums(plan, entropy=record.wants(ENTROPY))
        initial.memory |= begin_sums(plan, start if state == "keep" else None)
    if momenta is not None:
        initial.memory["momentum"] = momenta.to(place, dtype).expand(count, potential.dim).clone().contiguous()
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
    if momenta is not None:
        spec["momentum"] = _spec_of_positions(momenta)
    return plan, initial, spec


def _check_temperature(integrator: Integrator, temperature: Any, chains: int) -> NDArray[np.float64] | Schedule:
    resolved = in_time("temperature", temperature, chains)
    if not isinstance(resolved, Schedule) and (not np.isfinite(resolved).all() or (resolved < 0).any()):
        raise ConfigError(f"temperature must be finite and not negative, got {temperature!r}")
    if not integrator.thermal and (isinstance(resolved, Schedule) or resolved.any()):
        raise ConfigError(
            f"{type(integrator).__name__} has no thermal noise, so temperature must be 0, got {temperature!r}; "
            "use EulerMaruyama for Langevin dynamics"
        )
    return resolved


def _initial_state(plan: Plan, position: Tensor, start: Any, keep: bool, counts_work: bool) -> State:
    state = State(position, {}, 0, np.zeros(plan.chains))
    if keep:
        if not isinstance(start, xr.Dataset):
            raise ConfigError('state="keep" needs a run as start: its Dataset, not only its positions')
        state.step = int(start.attrs.get("last_step", 0))
        if "last_time" in start:
            state.time = np.array(np.broadcast_to(start.last_time.values, (plan.chains,)), dtype=np.float64)
    clock = {}
    if plan.driven and not isinstance(plan.step_size, Schedule):
        origin, _ = plan.clock_of(state.step, state.time)
        clock = {CLOCK_ORIGIN: torch.as_tensor(np.broadcast_to(origin, plan.chains).copy(), device=plan.device)}
    fresh = _fresh_memory(plan, state)
    state.memory = _kept_memory(fresh, start, type(plan.integrator).__name__) if keep else fresh
    state.memory |= clock
    if plan.integrator.metropolis:
        for name in ("accepted", *plan.integrator.counters):
            state.memory[name] = torch.zeros(plan.chains, dtype=torch.float64, device=plan.device)
    if counts_work:
        state.memory |= _work(plan, start if keep else None)
    if plan.walls.absorbs:
        state.memory |= _exits(plan, start if keep else None)
    if plan.walls.winds:
        state.memory["winding"] = _winding(plan, start if keep else None)
    return state


def _fresh_memory(plan: Plan, state: State) -> Memory:
    chains = torch.arange(plan.chains, device=plan.device)
    now = np.array(plan.temperature_at(state.time[None], np.array([state.step]))[0])
    heat = torch.as_tensor(now, dtype=plan.dtype, device=plan.device)[:, None]
    draws = iter(range(100))

    def normals() -> Tensor:
        variates = random.normals(plan.seed, chains, next(draws), plan.potential.dim, stream=random.INITIAL)
        return variates.to(plan.dtype)

    memory = plan.integrator.start_memory(state.position, heat, normals)
    if plan.integrator.thermal:
        memory |= plan.integrator.thermal_noise.start_memory(state.position, heat, normals)
    return memory


def _kept_memory(fresh: Memory, start: xr.Dataset, integrator: str) -> Memory:
    memory = {}
    for name, value in fresh.items():
        kept = start.get(f"last_{name}")
        if kept is None:
            raise ConfigError(
                f'state="keep": the run given as start has no {name!r}, which {integrator} needs; use state="fresh"'
            )
        if kept.shape[:1] == (1,):  # one chain is the start of all
            memory[name] = torch.as_tensor(np.array(kept.values)).to(value).expand(len(value), -1).clone()
            if kept.shape[1:] == value.shape[1:] or not value.numel():
                continue
        if kept.shape != value.shape and value.numel():  # what has no elements yet may come in any length
            raise ShapeError(f"the kept {name} has shape {kept.shape}, expected {tuple(value.shape)}")
        memory[name] = torch.as_tensor(np.array(kept.values)).to(value)
    return memory


def _exits(plan: Plan, start: xr.Dataset | None) -> Memory:
    """Which chains have left by which boundary (the coordinate's number from 1, the side as its sign), and when."""
    wall, time = np.zeros(plan.chains), np.full(plan.chains, np.nan)
    if start is not None and "exit_side" in start:
        number_of = plan.walls.exit_number
        numbers = [number_of(str(name), plan.potential) for name in start.exit_coordinate.values]
        wall = np.array(np.broadcast_to(start.exit_side.values * np.array(numbers, dtype=np.float64), plan.chains))
        time = np.array(np.broadcast_to(start.exit_time.values, plan.chains))
    return {
        "exit_time": torch.as_tensor(time, device=plan.device),
        "exit_step": torch.full((plan.chains,), torch.nan, dtype=torch.float64, device=plan.device),
        "exit_wall": torch.as_tensor(wall, device=plan.device),
    }


def _work(plan: Plan, start: xr.Dataset | None) -> Memory:
    """The work since the first step, and the energy there: NaN until it is known."""
    kept = {"work": 0.0, "start_energy": np.nan}
    if start is not None and "last_work" in start:
        kept = {"work": start.last_work.values, "start_energy": start.start_energy.values}
    return {
        name: torch.as_tensor(np.array(np.broadcast_to(value, plan.chains)), device=plan.device)
        for name, value in kept.items()
    }


def _check_work(plan: Plan, position: Tensor, steps: int, *, of_heat: bool) -> None:
    """Refuse work and heat where there is no first law, or no energy that goes on.

    Raises
    ------
    ConfigError
    """
    if not (plan.potential.has_energy and plan.potential.conservative):
        raise ConfigError('"work" and "heat" need forces of an energy: a drift does work of its own')
    if of_heat and plan.walls.absorbs:
        raise ConfigError('"heat" is that of chains that stay: record "work" alone where walls absorb')
    rule = plan.integrator
    if of_heat and "momentum" in rule.memory_names and not _has_kinetic_energy(rule):
        raise ConfigError(f'"heat" needs a kinetic energy, which {type(rule).__name__} does not have: use BAOAB')
    check_seam(plan, position, 'recording "work" or "heat"', steps)


def _has_kinetic_energy(rule: Integrator) -> bool:
    return type(rule).kinetic_energy is not Integrator.kinetic_energy


def _winding(plan: Plan, start: xr.Dataset | None) -> Tensor:
    """How often each coordinate went round its period since the first step, ``(chains, dim)``."""
    shape = (plan.chains, plan.potential.dim)
    kept = np.zeros(shape) if start is None or "last_winding" not in start else start.last_winding.values
    return torch.as_tensor(np.array(np.broadcast_to(kept, shape)), dtype=torch.float64, device=plan.device)


def _start_positions(potential: Potential, start: Any) -> Tensor:
    """``(dim,)`` or ``(chain, dim)``."""
    if start is None:
        return potential.default_start().detach()
    if isinstance(start, xr.Dataset):
        for name in ("last_position", "position"):
            if name in start and "draw" not in start[name].dims:
                start = start[name]
                break
        else:
            raise ConfigError("the Dataset given as start has no last_position: expected a run or a minimum")
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
        name = index if potential.coordinates is None else potential.coordinate_name(index)
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
            f"the start of chain {chain} has {potential.coordinate_name(index)} = {values[chain, index]:g}, beyond "
            f"the wall ({walls.lows[index]:g}, {walls.highs[index]:g}): give a start inside"
        )
    found = walls.escaped(position)
    if found is not None:
        raise ConfigError(f"the start of chain {found[0]} has {found[1]}, where it has left: give a start inside")


def check_seam(plan: Plan, position: Tensor, who: str, steps: int = 0) -> None:
    """Refuse energies that are not periodic where a coordinate is, for those who compare energies.

    One that changes in time is looked at in a few places of a run of so many steps.

    Raises
    ------
    ConfigError
        If V differs between the ends of a period by more than a thousandth of the lowest temperature.
    """
    if not plan.walls.winds:
        return
    points = _seam_points(plan.walls, position)
    heat = plan.temperature_at(np.zeros((1, plan.chains)), np.zeros(1))
    rises = (
        (landscape, d, rise)
        for landscape in landscapes_of(plan.potential, plan.numbers, _times(plan, steps))
        for d, rise in seam_rises(landscape, plan.walls, points).items()
    )
    for landscape, d, rise in rises:
        finite = rise[torch.isfinite(rise)].double()
        scale = float(landscape.energy(points).abs().nan_to_num(0.0, 0.0, 0.0).max())
        if len(finite) and float(finite.abs().max()) > SEAM_SHARE * float(heat.min()) + 1e-9 * scale:
            (low, high), name = (plan.walls.lows[d], plan.walls.highs[d]), plan.potential.coordinate_name(d)
            worst = float(finite[finite.abs().argmax()])
            raise ConfigError(
                f"V({low:g}) - V({high:g}) = {worst:.6g} along the periodic coordinate {name!r}: {who} compares "
                "energies, and the law that it would sample is cut at the seam. Give an energy that has the period "
                f"{high - low:g}, or a rule that follows the force alone, such as EulerMaruyama, which is right for a "
                "tilted washboard"
            )


def _times(plan: Plan, steps: int) -> NDArray[np.float64]:
    """Times ``(n, chains)`` at a few places of a run; its first alone where the energy does not change."""
    state = State(torch.empty(0), {}, 0, np.zeros(plan.chains))
    _, dt = plan.clock(state, 1)
    span = steps * plan.integrator.time_per_step(dt)
    shares: NDArray[np.float64] = np.array([0.0, 0.13, 0.29, 0.47, 0.71, 1.0])[:, None] * span
    return shares if plan.driven else shares[:1]


def _seam_points(walls: Walls, position: Tensor) -> Tensor:
    """Some starts, and others nearby: where the ends of periods are compared."""
    some = position[:SEAM_POINTS]
    if not walls.winds:
        return some
    lows, highs = (torch.as_tensor(ends) for ends in (walls.lows, walls.highs))
    shift = random.normals(0, torch.arange(SEAM_POINTS), 0, position.shape[1], precision="float64")
    more = some.double().cpu()[torch.arange(SEAM_POINTS) % len(some)] + shift
    return torch.cat([some, torch.minimum(torch.maximum(more, lows), highs).to(some)])


def _check_exits(plan: Plan, steps: int, position: Tensor) -> None:
    """Warn where steps are not small against the distance between boundaries that absorb."""
    width = min((level.width(position) for level in plan.walls.levels), default=np.inf)
    if np.isfinite(width) and plan.integrator.thermal:
        ratio, most = plan.way(steps) / width, min(plan.integrator.exit_ratio, 1.0 / 6.0)
        if ratio > most:
            warn(
                f"a step goes {ratio:.3g} of the way between two levels that absorb, more than {most:.3g}: shares and "
                "times of exits may be off. Lower the step size"
            )
    if plan.walls.levels and plan.integrator.thermal:
        turn = max(level.turn(position, plan.way(steps)) for level in plan.walls.levels)
        most = min(2.0 * plan.integrator.exit_ratio, MOST_TURN)
        if turn > most:
            warn(
                f"the normal of a level that absorbs turns by {turn:.3g} over a step, more than {most:.3g}: shares and "
                "times of exits may be off by some percent. Lower the step size"
            )
    share, bound = plan.exit_ratio(steps), plan.integrator.exit_ratio
    if share is not None and share > bound:
        warn(
            f"a step goes {share:.3g} of the way between the walls that absorb (their images in mirrors included), "
            f"more than {bound:g}: mean exit times may be off by more than 2 %. Lower the step size"
        )


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
        if np.ndim(value):
            rows.append((int(step), tuple(check_seed(int(one), "data_seed") for one in value)))
        else:
            rows.append((int(step), check_seed(value, "data_seed")))
    return rows


def _check_decay(potential: Potential, integrator: Integrator) -> None:
    own = potential.weight_decay
    other = getattr(integrator, "weight_decay", 0.0)
    if own and other:
        raise ConfigError(
            f"weight decay stands twice: {own:g} in the loss and {other:g} in {type(integrator).__name__}; keep one"
        )


def _check_batches(potential: Potential, integrator: Integrator) -> None:
    if integrator.metropolis and potential.sampler is not None:
        raise ConfigError(
            f"{type(integrator).__name__} compares energies of all data and cannot follow minibatches: give "
            "loss.full_batch(), or use SGLD"
        )


def _chain_settings(integrator: Integrator) -> dict[str, Any]:
    """Settings of rule and noise that may be one value or one per chain."""
    rule, noise = getattr(integrator, "inner", integrator), integrator.thermal_noise
    settings = {name: getattr(rule, name) for name in integrator.per_chain}
    return settings | ({name: getattr(noise, name) for name in noise.per_chain} if integrator.thermal else {})


def _check_placement(potential: Potential, dtype: torch.dtype, device: torch.device) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise ShapeError(f"dtype must be a floating-point type, torch.float32 or torch.float64, got {dtype!r}")
    if potential.placed and (dtype != potential.dtype or device != potential.device):
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
        "potential": potential.spec(),
        "integrator": integrator.spec(),
        "steps": int(steps),
        "chains": plan.chains,
        "temperature": plain(temperature),
        "record": record.spec(),
        "seed": plan.seed,
    }
    if constraint is not None:
        spec["constraint"] = plain(listed(constraint))
    if data_seed is not None:
        spec["data_seed"] = [[at, list(seeds) if seeds else None] for at, seeds in plan.data_seeds]
    if start is not None:
        spec["start"] = {"kind": "run"} if kept else _spec_of_positions(positions)
    if plan.dtype != potential.dtype:
        spec["dtype"] = str(plan.dtype).removeprefix("torch.")
    if plan.device.type != "cpu":
        spec["device"] = str(plan.device)
    return spec


def spec_of_start(potential: Potential, start: Any) -> Any:
    """The positions that a run starts from, or what tells them apart."""
    return None if start is None else _spec_of_positions(_start_positions(potential, start))


def _spec_of_positions(positions: Tensor) -> Any:
    """The positions themselves while they are few."""
    if positions.numel() <= MOST_IN_SPEC:
        return positions.tolist()
    content = positions.cpu().contiguous().numpy().tobytes()
    return {"kind": "given", "sha256": hashlib.sha256(content).hexdigest()}
