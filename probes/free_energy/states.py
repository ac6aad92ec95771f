"""Runs as samples of thermodynamic states: which chain has which temperature, springs and landscape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr

from landscape.boundaries.constraints import resolve_walls
from landscape.boundaries.restraints import resolve_restraints, take_restraints
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.potentials.function import Function
from landscape.probes.estimation.pairs import refuse_pairs
from landscape.probes.estimation.series import BoolArray, FloatArray, Groups, IntArray, as_series, bundles
from landscape.probes.fluctuations.balance import refuse_driven
from landscape.probes.fluctuations.equilibration import starts
from landscape.probes.free_energy.multistate import FEWEST_DRAWS, Block
from landscape.probes.free_energy.sampling import inside
from landscape.probes.free_energy.smoothing import nearest_image
from landscape.spec.building import build_constraint, build_integrator, build_potential
from landscape.storage.files import read_spec

__all__ = ["Samples", "Spring", "State", "samples_of"]

POINTS = 64  # at which periods of restrained coordinates are found out
BEYOND = 1e4  # reduced energy behind a boundary, more than that of any sample


@dataclass(frozen=True, slots=True)
class Spring:
    """k (q - c)^2 / 2 on the function of that number, minimum image."""

    number: int
    center: float
    stiffness: float
    period: float


@dataclass(frozen=True, slots=True)
class State:
    """What a chain samples: exp(-(V + springs)/T) on the landscape of that number."""

    temperature: float
    landscape: int
    springs: tuple[Spring, ...]


@dataclass(slots=True, eq=False)
class Samples:
    """All runs, block by block and chain by chain: states, and arrays ``(sample, ...)``."""

    states: list[State] = field(default_factory=list)
    landscapes: list[Potential] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    functions: list[Potential] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    columns: dict[str, FloatArray] = field(default_factory=dict)
    landscape_keys: list[str] = field(default_factory=list)
    function_keys: list[Any] = field(default_factory=list)

    @property
    def temperatures(self) -> FloatArray:
        """Of the states."""
        return np.array([state.temperature for state in self.states])

    @property
    def position(self) -> FloatArray:
        """Positions ``(sample, dim)``.

        Raises
        ------
        ConfigError
        """
        if "position" not in self.columns:
            raise ConfigError("the runs have no positions, which this needs: record them (record.observables)")
        return self.columns["position"]

    def on(self, function: Potential) -> FloatArray:
        """A function of position at all samples."""
        with torch.no_grad():
            values = function.energy(torch.as_tensor(self.position)).double().cpu().numpy()
        return np.asarray(values)

    def potential(self, landscape: Potential) -> FloatArray:
        """Energies on a landscape at all samples, infinite beyond boundaries; recorded ones where they are of it."""
        if len(self.landscapes) == 1 and landscape is self.landscapes[0] and "energy" in self.columns:
            return self.columns["energy"]
        if isinstance(landscape, Unknown):
            raise ConfigError(
                f"the landscape is the Python object {landscape.name!r}, which plain data cannot rebuild: give it as "
                "potential=, one for all runs or one for each"
            )
        allowed = inside(landscape, torch.as_tensor(self.position)).cpu().numpy()
        return np.where(allowed, self.on(landscape), np.inf)

    def energies(self) -> FloatArray:
        """Reduced energies ``(state, sample)``."""
        seen: dict[int, FloatArray] = {}
        values = [self.on(function) for function in self.functions]
        rows = []
        for state in self.states:
            if state.landscape not in seen:
                seen[state.landscape] = self.potential(self.landscapes[state.landscape])
            energy = seen[state.landscape]
            for spring in state.springs:
                apart = nearest_image(values[spring.number] - spring.center, spring.period)
                energy = energy + 0.5 * spring.stiffness * apart**2
            rows.append(energy / state.temperature)
        return bounded(np.stack(rows))

    def labels(self) -> list[str]:
        """What tells the states apart, in words."""
        told: list[list[str]] = [[] for _ in self.states]
        for name, values in self.coordinates().items():
            shown = [f"{name} {value:.6g}" for value in np.asarray(values, dtype=float)]
            if len(set(shown)) > 1:
                free = [bool(np.isnan(value)) for value in values]
                for words, text, none in zip(told, shown, free, strict=True):
                    words += [] if text.startswith("stiffness") and text.endswith(" 0") else \
                        ["no restraint" if none else text]  # fmt: skip
        return [", ".join(words) or str(number) for number, words in enumerate(told)]

    def coordinates(self) -> dict[str, FloatArray]:
        """Temperature, centers, stiffnesses, and parameters that differ, ``(state,)`` each."""
        found = {"temperature": self.temperatures}
        for number in range(len(self.functions)):
            mine = [[one for one in state.springs if one.number == number][:1] for state in self.states]
            suffix = f"_{number}" if len(self.functions) > 1 else ""
            found[f"center{suffix}"] = np.array([one[0].center if one else np.nan for one in mine])
            found[f"stiffness{suffix}"] = np.array([one[0].stiffness if one else 0.0 for one in mine])
        given = [getattr(landscape, "parameters", {}) for landscape in self.landscapes]
        for name in given[0] if len(given) > 1 else ():
            values = [one.get(name, np.nan) for one in given]
            if len(set(values)) > 1:
                found[name] = np.array([values[state.landscape] for state in self.states], dtype=float)
        return found


class Unknown(Function):
    """In place of a landscape that plain data cannot rebuild: it has names and boundaries, and no energies."""

    def __init__(self, table: Mapping[str, Any], run: xr.Dataset) -> None:
        names = run.coordinate.values.tolist() if "coordinate" in run.coords else None
        dim = len(names) if names is not None else run.sizes.get("coordinate", 1)
        super().__init__(lambda x: 0.0 * x[..., 0], dim, coordinates=names, bounds=_bounds(table))
        self.name = str(table.get("name", table.get("kind")))


def bounded(energies: FloatArray) -> FloatArray:
    """Infinite energies as ones beyond all others, of no weight.

    Raises
    ------
    ConfigError
        If an energy is not a number.
    """
    if np.isnan(energies).any() or (energies == -np.inf).any():
        raise ConfigError("energies must be numbers: some are NaN, or minus infinity")
    far = np.isinf(energies)
    return np.where(far, energies[~far].max(initial=0.0) + BEYOND, energies) if far.any() else energies


def samples_of(runs: Sequence[Any], potential: Any, constraint: Any, discard: Any) -> Samples:
    """Samples of runs; `potential` and `constraint` as they were handed to each, where that cannot be rebuilt.

    Raises
    ------
    ConfigError, ShapeError
    """
    found = Samples()
    given = potential if isinstance(potential, Sequence) else [potential] * len(runs)
    held = constraint if isinstance(constraint, Sequence) and len(runs) > 1 else [constraint] * len(runs)
    if len(given) != len(runs) or len(held) != len(runs):
        raise ShapeError(f"give potential and constraint once, or once for each of {len(runs)} runs")
    names = set.intersection(*({str(n) for n, v in _check(run).data_vars.items() if _is_series(v)} for run in runs))
    pieces: dict[Any, list[tuple[IntArray, IntArray, dict[str, FloatArray]]]] = {}
    units = 0
    for run, own, springs in zip(runs, given, held, strict=True):
        state = _states(found, run, own, springs, alone=len(runs) == 1)
        columns = {name: run[name].transpose("chain", "draw", ...).to_numpy().astype(float) for name in sorted(names)}
        good = np.all([np.isfinite(c).reshape(len(state), -1).all(axis=1) for c in columns.values()], axis=0)
        unit = run.ladder.to_numpy() if "ladder" in run.coords else np.arange(len(state))
        if "ladder" in run.coords:
            good &= ~np.isin(unit, unit[~good])
        if not good.any():
            raise ShapeError("a run has no chain with finite samples only")
        key = (run.sizes["draw"], "ladder" in run.coords)
        kept = {name: values[good] for name, values in columns.items()}
        pieces.setdefault(key, []).append((state[good], unit[good].astype(np.intp) + units, kept))
        units += int(unit.max()) + 1
    whole = []
    for (draws, together), parts in pieces.items():
        state, unit = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        columns = {name: np.concatenate([part[2][name] for part in parts]) for name in sorted(names)}
        whole.append((Block(state, unit, draws), together, columns))
    _finish(found, whole, discard)
    return found


def _check(run: Any) -> xr.Dataset:
    if not isinstance(run, xr.Dataset):
        raise ConfigError(f"mbar takes runs (Datasets of simulate or replica_exchange), got {type(run).__name__}")
    refuse_pairs(run)
    refuse_driven("mbar", run)
    spec = read_spec(run)
    if spec.get("task", "simulate") not in ("simulate", "replica_exchange") or not {"chain", "draw"} <= set(run.dims):
        raise ConfigError(f"mbar takes runs of simulate or replica_exchange, got one of {spec.get('task')!r}")
    if "exit_time" in run or "projection" in run:
        raise ConfigError("the chains of a run leave it or are projected: they have no Boltzmann law to be reweighted")
    if run.temperature.dims != ("chain",) or not (run.temperature > 0).all():
        raise ConfigError("mbar needs one positive temperature for each chain, which does not change with time")
    try:
        rule = build_integrator(spec["integrator"])
    except ConfigError:  # of another make
        return run
    if not rule.obeys_boltzmann:
        raise ConfigError(f"{spec['integrator'].get('kind')} with its noise does not sample the Boltzmann law")
    return run


def _is_series(variable: xr.DataArray) -> bool:
    dims = variable.dims
    numeric = variable.dtype.kind in "fiu"
    return numeric and (set(dims) == {"chain", "draw"} or (variable.name == "position" and "draw" in dims))


def _states(found: Samples, run: xr.Dataset, potential: Any, constraint: Any, *, alone: bool) -> IntArray:
    """Numbers of the states of the chains of a run; new ones are added."""
    spec = read_spec(run)
    table, number = spec["potential"], run.chain.to_numpy().astype(int)
    if potential is None and table.get("kind") == "python" and not alone:
        raise ConfigError(
            f"the landscape of several runs is the Python object {table.get('name')!r}: give potential=, one for all "
            "runs or one for each"
        )
    here = potential
    if not isinstance(here, Potential | None):
        raise ConfigError(f"potential must be one, for all runs or one for each, got {here!r}")
    if here is None:
        try:
            here = build_potential(table)
        except ConfigError:
            here = Unknown(table, run)
    tables = spec.get("constraint") or []
    given = [build_constraint(one) for one in (tables if isinstance(tables, list) else [tables])] \
        if constraint is None else constraint  # fmt: skip
    springs, boundaries = take_restraints(given)
    chains = int(spec.get("chains") or number.max() + 1)
    rows: list[list[Spring]] = [[] for _ in number]
    if springs:
        points = torch.as_tensor(_some(run))
        walls = resolve_walls(here, boundaries)
        resolved = resolve_restraints(here, springs, chains, walls, points)
        if resolved is None or not all(isinstance(row, np.ndarray) for row in resolved.rows):
            raise ConfigError("a restraint of this run changes with time: mbar needs one that does not")
        for i, (spring, function) in enumerate(zip(springs, resolved.fields, strict=True)):
            q = spring.coordinate
            key = q if callable(q) or isinstance(q, Potential) else json.dumps(np.asarray(q).tolist())
            place = _numbered(found.function_keys, found.functions, key, function)
            for row, chain in zip(rows, number, strict=True):
                center, k = float(resolved.centers[i][chain]), float(resolved.stiffnesses[i][chain])
                if k > 0.0:
                    row.append(Spring(place, center, k, float(resolved.periods[i])))
    state = []
    for row, chain, heat in zip(rows, number, run.temperature.to_numpy(), strict=True):
        landscape, key = _of_chain(here, table if potential is None else {"given": id(potential)}, int(chain))
        place = _numbered(found.landscape_keys, found.landscapes, key, landscape)
        one = State(float(heat), place, tuple(row))
        if one not in found.states:
            found.states.append(one)
        state.append(found.states.index(one))
    return np.array(state, dtype=np.intp)


def _of_chain(potential: Potential, table: Mapping[str, Any], chain: int) -> tuple[Potential, str]:
    """The landscape that a chain is on, and what tells it from others."""
    varying = getattr(potential, "varying", {})
    if not varying:
        return potential, json.dumps(table, sort_keys=True)
    if not all(isinstance(value, np.ndarray) for value in varying.values()):
        raise ConfigError("the landscape of this run changes with time: mbar needs one that does not")
    own = {name: float(np.asarray(value)[chain if len(value) > 1 else 0]) for name, value in varying.items()}
    return potential.at(0.0, chain=chain), json.dumps([table, own], sort_keys=True)  # type: ignore[attr-defined]


def _numbered(keys: list[Any], values: list[Any], key: Any, value: Any) -> int:
    if key not in keys:
        keys.append(key)
        values.append(value)
    return keys.index(key)


def _some(run: xr.Dataset) -> FloatArray:
    """Positions at which periods are found out."""
    if "position" not in run:
        raise ConfigError("a run with restraints needs its positions: record them (record.observables)")
    flat = run.position.isel(draw=slice(None, None, max(run.sizes["draw"] // 8, 1))).transpose(..., "coordinate")
    points = flat.to_numpy().reshape(-1, flat.shape[-1])
    points = points[np.isfinite(points).all(axis=1)]
    return np.asarray(points[:: max(len(points) // POINTS, 1)], dtype=float)


def _bounds(table: Mapping[str, Any]) -> dict[str, tuple[float, float]] | None:
    sides = {
        name: (-np.inf if low is None else low, np.inf if high is None else high)
        for name, (low, high) in (table.get("bounds") or {}).items()
    }
    return sides or None


# -- equilibration --------------------------------------------------------------------------------------------------


def _finish(found: Samples, whole: list[tuple[Block, bool, dict[str, FloatArray]]], discard: Any) -> None:
    """Blocks and columns without what each state needs to forget its start; of exchanging chains all of a block."""
    cuts = []
    for block, together, columns in whole:
        cut = _starts(found, block, columns, discard)
        cuts.append(np.full_like(cut, cut.max()) if together else cut)
    parts: dict[str, list[FloatArray]] = {name: [] for name in whole[0][2]}
    found.blocks = []
    for (block, _, columns), cut in zip(whole, cuts, strict=True):
        for start in np.unique(cut):
            rows: BoolArray = cut == start
            found.blocks.append(Block(block.state[rows], block.unit[rows], block.draws - int(start)))
            for name, values in columns.items():
                kept = values[rows, start:]
                parts[name].append(kept.reshape(-1, *kept.shape[2:]))
    found.columns = {name: np.concatenate(values) for name, values in parts.items()}


def _starts(found: Samples, block: Block, columns: dict[str, FloatArray], discard: Any) -> IntArray:
    """Draws to leave out, of each chain ``(chain,)``: the same for chains of one state."""
    if isinstance(discard, str) and discard == "auto" and block.draws < FEWEST_DRAWS:
        return np.zeros(len(block.state), dtype=np.intp)
    found.blocks = [block]
    found.columns = {name: values.reshape(-1, *values.shape[2:]) for name, values in columns.items()}
    own = np.repeat(block.state, block.draws)
    here, owner = np.unique(block.state, return_inverse=True)
    series = [found.energies()[own, np.arange(len(own))], *(found.on(one) for one in found.functions)]
    groups = Groups("state", [np.flatnonzero(owner == k) for k in range(len(here))], {}, None, np.ones(len(here)))
    cut = np.zeros(len(here), dtype=np.intp)
    for values in series:
        for bundle in bundles(as_series(values.reshape(len(owner), -1), shortest=1), groups):
            cut[bundle.groups] = np.maximum(cut[bundle.groups], starts(bundle, discard)[0])
    return cut[owner]
