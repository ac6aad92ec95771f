"""`mbar`: free energies of the states of runs, and averages and profiles at states that were not simulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from landscape.boundaries.restraints import scalar_field
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.probes.estimation.describe import about
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.averages import FEWEST_TIMES, Resolution
from landscape.probes.free_energy.histograms import limits_of_run, zero_of
from landscape.probes.free_energy.multistate import (
    FEWEST_EFFECTIVE,
    HEAVIEST_TAIL,
    Block,
    Multistate,
    pymbar_solver,
    tail,
)
from landscape.probes.free_energy.sampling import with_parameter
from landscape.probes.free_energy.smoothing import Axis, smoothed
from landscape.probes.free_energy.states import Samples, bounded, samples_of
from landscape.probes.registry import RUNS, probe

__all__ = ["mbar"]

FEWEST_AT_POINT = 10.0  # independent samples that a point of a profile rests on
REMEDY = "add states in between, weaken restraints, or take more draws"


@probe("free_energy.mbar", RUNS, pictures=("plot_mbar", "plot_overlap"))
def mbar(
    runs: Any, counts: Any = None, *, temperature: Any = None, parameters: Mapping[str, Any] | None = None,
    target: Any = None, observables: Any = None, coordinate: Any = None, at: Any = None, width: Any = None,
    period: Any = None, zero: Any = "minimum", discard: str | float | int = "auto", reference: float = 0.0,
    potential: Any = None, constraint: Any = None, chains: int = 1,
) -> xr.Dataset:  # fmt: skip
    r"""Free energies of several states from samples of all of them, and averages at any state, by MBAR.

    State k has the reduced energy u_k = (V_k + springs)/T_k and N_k samples; its Z_k = exp(-f_k) solves

    .. math:: e^{-f_i} = \sum_n w_n e^{-u_i(x_n)} , \qquad \frac{1}{w_n} = \sum_k N_k e^{f_k - u_k(x_n)} ,

    over all samples n, and the average of A at a state u, simulated or not, is

    .. math:: \langle A \rangle = \frac{\sum_n w_n e^{-u(x_n)} A(x_n)}{\sum_n w_n e^{-u(x_n)}} .

    Parameters
    ----------
    runs : Dataset, list of them, or array
        Runs of `simulate` or `replica_exchange`: each chain knows its temperature, restraints and landscape, and chains
        of one state are pooled. Or reduced energies u_k(x_n) ``(state, sample)``, samples ordered by the state that
        they were drawn from, with `counts`.
    counts : array ``(state,)``
        N_k, with reduced energies only.
    temperature : float or array ``(target,)``, optional
        Of the states that averages and profiles are taken at; the runs' where they have one.
    parameters : mapping of name to float or array ``(target,)``, optional
        Parameters of the landscape at these states.
    target : Potential, optional
        Landscape of these states, always without restraints; that of the runs by default. With reduced energies: u
        ``(sample,)`` or ``(target, sample)``.
    observables : name, formula, callable, a list of them, or a mapping of name to one, optional
        A recorded variable, a function of position as for `landscape.Restrain`, or ``"energy"``, V at the target. With
        reduced energies a mapping of name to values ``(sample,)``.
    coordinate : name, number, formula, vector, callable, or a pair of them, optional
        q(x), which the profile F(q) = -T ln P(q) is along. With reduced energies values ``(sample,)``.
    at, width : array or int, and float; or a pair for two coordinates, optional
        Points of the profile, or how many; width of the kernel that it is read with (that of `umbrella`), the smallest
        spacing of the points.
    period : float, or a pair (None for no period), optional
        Of q. Periods and boundaries of a coordinate by its name are known.
    zero : "minimum", "mean", float or pair of floats
        Where the profile is zero, as for `profile`.
    discard : "auto", float in [0, 1) or int
        What each state forgets its start with, as for `fluctuations.summary`.
    reference : float
        Free energy of the first state, in units of energy.
    potential, constraint : optional
        What the runs were made with, once or one for each, where their specification cannot rebuild it.
    chains : int
        With reduced energies: equal stretches that the samples of each state consist of, one after the other.

    Returns
    -------
    xarray.Dataset
        ``reduced_free_energy (state)``, f_k - f_0 = -ln(Z_k/Z_0), with its standard error; ``free_energy (state)``, F_k
        = T_k (f_k - f_0 + reference/T_0): where temperatures differ it depends on the reference, f does not.
        ``overlap_matrix (state, neighbor)``, the chance that a sample of a state is one of another;
        ``overlap_eigenvalue (rank)`` from the second on, and ``overlap`` = 1 - that (0 where states fall apart);
        ``effective_samples (state)``, independent ones that carry averages at it; ``samples``, ``correlation_times``,
        ``chains_agree``, ``resolved``. At the targets: ``expectation (observable)``; ``profile`` along the coordinates;
        ``target_reduced_free_energy``, ``target_effective_samples``, ``target_tail`` (Pareto's k of the weights),
        ``target_resolved``; with the dimension ``target``
        where several were asked for.

    Raises
    ------
    OverlapError
        If states, or two groups of them, overlap by less than 0.03; the message says which, and what to add.
    ConfigError, ShapeError, ConvergenceError

    Notes
    -----
    MBAR's equations are solved by pymbar. Errors are those of the same equations with each sample's influence: from the
    scatter between chains (ladders of `replica_exchange`, whose rungs are summed) where a state has eight or more, else
    from correlations along them. They are NaN below 50 correlation times in any state, or where a state is tied to the
    first by fewer than 10 independent samples. Averages are NaN where fewer than 50 independent samples carry the
    target, or where the tail of its weights (of those times the observable's deviation) is a Pareto law of k > 1/2, as
    it is where the target reaches beyond all samples; points of a profile where fewer than 10 carry them. No gradients;
    memory for states times samples.

    References
    ----------
    .. [1] M. R. Shirts, J. D. Chodera, "Statistically optimal analysis of samples from multiple equilibrium states",
       J. Chem. Phys. 129, 124105 (2008).
    .. [2] P. V. Klimovich, M. R. Shirts, D. L. Mobley, "Guidelines for the analysis of free energy calculations",
       J. Comput. Aided Mol. Des. 29, 397 (2015).

    Examples
    --------
    A spring at two temperatures: f falls by half the logarithm of their ratio, and <V> = T/2 in between.

    >>> import landscape as ls
    >>> spring = ls.potentials.Quadratic([1.0])
    >>> run = ls.simulate(spring, ls.MALA(dt=0.5), temperature=np.repeat([0.1, 0.2], 16), steps=4000,
    ...                   record=ls.Record(10), seed=1)
    >>> found = mbar(run, temperature=0.15, observables="energy")
    >>> z = (found.reduced_free_energy[1] + 0.5 * np.log(2.0)) / found.reduced_free_energy_stderr[1]
    >>> bool(abs(z) < 4.5), bool(abs(found.expectation[0] - 0.075) < 4.5 * found.expectation_stderr[0])
    (True, True)
    """
    solver = pymbar_solver()
    if isinstance(runs, xr.Dataset) or (isinstance(runs, Sequence) and any(isinstance(r, xr.Dataset) for r in runs)):
        if counts is not None or chains != 1:
            raise ConfigError("counts and chains belong to reduced energies: runs know theirs")
        given = [runs] if isinstance(runs, xr.Dataset) else list(runs)
        samples = samples_of(given, potential, constraint, discard)
        energies, labels = samples.energies(), samples.labels()
        pool = Multistate(energies, samples.blocks, labels, solver)
        asked = any(one is not None for one in (temperature, parameters, target, observables, coordinate))
        goals = _goals(samples, temperature, parameters, target) if asked else []
        read = _Wanted(
            {name: _observable(samples, one) for name, one in _named(observables).items()},
            *_axes_of_runs(samples, given, coordinate, at, width, period),
        )
        states, extra = samples.coordinates(), [samples.on(one) for one in samples.functions]
    else:
        energies, blocks = _reduced(runs, counts, chains)
        if any(one is not None for one in (temperature, parameters, potential, constraint)):
            raise ConfigError("with reduced energies say the target by its reduced energies: target=")
        pool = Multistate(energies, blocks, [str(k) for k in range(len(energies))], solver)
        goals = _reduced_goals(target, energies, observables is not None or coordinate is not None)
        read = _Wanted(
            _arrays(observables, energies.shape[1]), *_axes_of_arrays(coordinate, at, width, period, energies)
        )
        states, extra = {}, []
    pairs = pool.pairs()
    pool.check(pairs, REMEDY)
    own = energies[pool.own, np.arange(energies.shape[1])]
    turning = [part for axis, q in zip(read.axes, read.values, strict=True) for part in axis.turning(q)]
    series = [own, pool.log_weights, *extra, *turning, *(one for one in read.observables.values() if not callable(one))]
    length = pool.resolution(series)
    tied = pool.enough(pairs, pool.inefficiency(length.times))
    if not tied.all():
        length = Resolution(length.resolved & tied, np.where(tied, length.times, 0.0), length.agree)
    found = _of_states(pool, length, states, reference)
    found = with_steps_needed(found, Length.of(runs)).assign(_of_goals(pool, length, goals, read, zero))
    if goals and goals[0].several:
        found = found.assign_coords({name: ("target", np.array([goal.labels[name] for goal in goals]))
                                     for name in goals[0].labels})  # fmt: skip
    found.attrs |= {"method": "MBAR", "zero": str(zero), "reference": reference}
    if len(goals) == 1:
        found.attrs |= goals[0].labels
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Goal:
    """A state that averages are taken at: its reduced energy at all samples, V at them, and T (None of arrays)."""

    reduced: FloatArray
    energy: FloatArray | None
    temperature: float
    labels: dict[str, float]
    several: bool

    def finite(self) -> FloatArray:
        """V, 0 behind boundaries."""
        return np.asarray(np.nan_to_num(np.asarray(self.energy, dtype=float), nan=np.nan, posinf=0.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """What is read at each target: observables (a callable takes the target), and the profile's axes and values."""

    observables: dict[str, FloatArray | Callable[[_Goal], FloatArray]]
    axes: list[Axis]
    values: list[FloatArray]


# -- results --------------------------------------------------------------------------------------------------------


def _of_states(pool: Multistate, length: Resolution, states: dict[str, FloatArray], reference: float) -> xr.Dataset:
    overlap, inefficiency = pool.overlap, pool.inefficiency(length.times)
    error = pool.stderr(pool.shifts(), length)
    rates = np.sort(np.linalg.eigvals(overlap).real)[::-1][1:]
    carried = [pool.effective(pool.at(energy)[0], inefficiency) for energy in pool.energies]
    resolved = length.resolved & (length.times >= FEWEST_TIMES)
    table: dict[str, tuple[Any, Any, str, str]] = {
        "reduced_free_energy": ("state", pool.f, "reduced free energy f = -ln Z, less that of the first state", "1"),
        "reduced_free_energy_stderr": ("state", error, "standard error of the reduced free energy", "1"),
    }
    if "temperature" in states:
        heat = states["temperature"]
        about = "free energy T f from the reference of the first state"
        table["free_energy"] = ("state", heat * (pool.f + reference / heat[0]), about, "energy")
        table["free_energy_stderr"] = ("state", heat * error, "standard error of the free energy", "energy")
    table |= {
        "overlap_matrix": (("state", "neighbor"), overlap, "chance that a sample of a state is one of another", "1"),
        "overlap_eigenvalue": ("rank", rates, "eigenvalues of the overlap matrix from the second on", "1"),
        "overlap": ((), 1.0 - float(rates[0]) if len(rates) else 1.0, "1 - second eigenvalue of the overlap", "1"),
        "samples": ("state", pool.counts, "samples", "1"),
        "effective_samples": ("state", np.array(carried), "independent samples that carry averages", "1"),
        "correlation_times": ("state", length.times, "length of all chains in correlation times", "1"),
        "chains_agree": ("state", length.agree, "chains scatter as correlations allow", "1"),
        "resolved": ("state", resolved & length.agree, "long against correlation times, tied to the first", "1"),
    }
    dataset = _dataset(table).assign_coords({name: ("state", values) for name, values in states.items()})
    return dataset.assign_coords(label=("state", pool.labels))


def _of_goals(
    pool: Multistate, length: Resolution, goals: list[_Goal], wanted: _Wanted, zero: Any
) -> dict[str, xr.DataArray]:
    """Variables at the targets."""
    if not goals:
        return {}
    inefficiency = pool.inefficiency(length.times)
    resolved = bool((length.resolved & (length.times >= FEWEST_TIMES)).all())
    rows: dict[str, list[Any]] = {}
    for goal in goals:
        weights, f = pool.at(goal.reduced)
        effective = pool.effective(weights, inefficiency)
        each = len(pool.own) / float((1.0 / inefficiency[pool.own]).sum())
        heavy = tail(weights, each)
        known = 1.0 if effective >= FEWEST_EFFECTIVE and heavy <= HEAVIEST_TAIL else np.nan
        responses = [-pool.response(weights) - pool.shifts_of_first()]
        means, seen = [], [known]
        for one in wanted.observables.values():
            values = one(goal) if callable(one) else one
            means.append(float(weights @ values))
            slope = weights * (values - means[-1])
            responses.append(pool.response(slope))
            seen.append(known if tail(np.abs(slope), each) <= HEAVIEST_TAIL else np.nan)
        errors = np.array(seen) * pool.stderr(np.stack(responses), length)
        here = {
            "target_reduced_free_energy": known * f, "target_reduced_free_energy_stderr": errors[0],
            "target_effective_samples": effective, "target_resolved": bool(known == 1.0 and resolved),
            "target_tail": heavy,
            "expectation": np.array(seen[1:]) * np.array(means), "expectation_stderr": errors[1:],
        }  # fmt: skip
        if wanted.axes:
            here |= _profile(pool, length, goal, weights, wanted, zero)
        for key, value in here.items():
            rows.setdefault(key, []).append(value)
    dims: dict[str, tuple[str, ...]] = {"expectation": ("observable",), "expectation_stderr": ("observable",)}
    names = tuple(axis.name for axis in wanted.axes)
    dims |= dict.fromkeys(("profile", "profile_stderr", "profile_effective_samples"), names)
    several = goals[0].several
    lead = ("target",) if several else ()
    if not wanted.observables:
        rows = {name: values for name, values in rows.items() if not name.startswith("expectation")}
    coords = {axis.name: axis.points for axis in wanted.axes} | {"observable": list(wanted.observables)}
    found = {}
    for name, row in rows.items():
        units = "energy" if name.startswith("profile") and "effective" not in name else "1"
        array = np.array(row) if several else np.array(row[0])
        own = dims.get(name, ())
        found[name] = xr.DataArray(
            array, dims=(*lead, *own), coords={n: coords[n] for n in own}, attrs=about(name, units)
        )
    return found


def _profile(
    pool: Multistate, length: Resolution, goal: _Goal, weights: FloatArray, wanted: _Wanted, zero: Any
) -> dict[str, Any]:
    """F along the coordinates at a target, NaN at points that too few samples carry."""
    shape = tuple(len(axis.points) for axis in wanted.axes)
    read = smoothed(pool, weights, wanted.axes, wanted.values, pool.inefficiency(length.times))
    seen = np.where(read.effective >= FEWEST_AT_POINT, 1.0, np.nan)
    free_energy, slopes = -goal.temperature * read.logs * seen, -goal.temperature * read.responses
    errors, edges = np.full_like(free_energy, np.nan), [axis.edges for axis in wanted.axes]
    if not isinstance(zero, str) and not zero_of(zero, np.nan_to_num(seen), slopes.T, edges)[0]:
        free_energy = np.full_like(free_energy, np.nan)  # the zero itself is not known
    if np.isfinite(free_energy).any():
        at_zero, slope = zero_of(zero, free_energy, slopes.T, edges)
        free_energy = free_energy - at_zero
        errors = pool.stderr(slopes - slope, length) * np.where(np.isfinite(free_energy), 1.0, np.nan)
    return {
        "profile": free_energy.reshape(shape), "profile_stderr": errors.reshape(shape),
        "profile_effective_samples": read.effective.reshape(shape),
    }  # fmt: skip


def _dataset(table: dict[str, tuple[Any, Any, str, str]]) -> xr.Dataset:
    return xr.Dataset({
        name: (dims, values, {"long_name": text, "units": units}) for name, (dims, values, text, units) in table.items()
    })  # fmt: skip


# -- runs -----------------------------------------------------------------------------------------------------------


def _goals(samples: Samples, temperature: Any, parameters: Any, target: Any) -> list[_Goal]:
    """The states that averages are asked for.

    Raises
    ------
    ConfigError, ShapeError
    """
    heats = np.unique(samples.temperatures)
    if temperature is None and len(heats) > 1:
        raise ConfigError(f"the runs have the temperatures {heats.tolist()}: choose that of the target, temperature=")
    try:
        table = {"temperature": np.asarray(heats[0] if temperature is None else temperature, dtype=float)}
        table |= {name: np.asarray(value, dtype=float) for name, value in (parameters or {}).items()}
        wide = np.broadcast_shapes(*(value.shape for value in table.values()))
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            f"temperature and parameters of targets must be numbers, or arrays of one length, got {temperature!r} and "
            f"{parameters!r}"
        ) from None
    if len(wide) > 1 or not all(np.isfinite(value).all() for value in table.values()):
        raise ShapeError(f"temperature and parameters of targets must be finite, one or (target,), got shape {wide}")
    if not (table["temperature"] > 0).all():
        raise ConfigError(f"the temperature of a target must be positive, got {temperature!r}")
    goals = []
    for number in range(wide[0] if wide else 1):
        values = {name: float(np.broadcast_to(value, wide or (1,))[number]) for name, value in table.items()}
        heat = values["temperature"]
        landscape = _landscape(samples, target, {name: one for name, one in values.items() if name != "temperature"})
        energy = samples.potential(landscape)
        told = {f"target_{name}": one for name, one in values.items()}
        goals.append(_Goal(bounded(energy / heat), energy, heat, told, bool(wide)))
    return goals


def _landscape(samples: Samples, target: Any, parameters: Mapping[str, float]) -> Potential:
    """That of a target."""
    if target is not None and not isinstance(target, Potential):
        raise ConfigError(f"target must be a Potential, got {type(target).__name__}")
    candidates = [target] if target is not None else list(samples.landscapes)
    for name, value in parameters.items():
        candidates = [with_parameter(one, name, value) for one in candidates]
    if len(candidates) > 1 and any(one.spec() != candidates[0].spec() for one in candidates):
        known = [name for name in samples.coordinates() if name in getattr(samples.landscapes[0], "parameters", {})]
        raise ConfigError(
            f"the runs are on different landscapes: say which one the target has, by parameters= ({', '.join(known)}) "
            "or target="
        )
    return candidates[0]


def _named(observables: Any) -> dict[str, Any]:
    if observables is None:
        return {}
    if isinstance(observables, Mapping):
        return {str(name): one for name, one in observables.items()}
    listed = observables if isinstance(observables, list | tuple) else [observables]
    return {one if isinstance(one, str) else getattr(one, "__name__", "observable"): one for one in listed}


def _observable(samples: Samples, one: Any) -> FloatArray | Callable[[_Goal], FloatArray]:
    if isinstance(one, str) and one == "energy":
        return _Goal.finite
    if isinstance(one, str) and one in samples.columns and samples.columns[one].ndim == 1:
        return samples.columns[one]
    return samples.on(scalar_field(samples.landscapes[0], one))


def _axes_of_runs(
    samples: Samples, runs: list[xr.Dataset], coordinate: Any, at: Any, width: Any, period: Any
) -> tuple[list[Axis], list[FloatArray]]:
    if coordinate is None:
        return [], []
    pair = isinstance(coordinate, list | tuple) and any(isinstance(one, str) or callable(one) for one in coordinate)
    chosen = list(coordinate) if pair else [coordinate]
    values = [_observable_of_axis(samples, one) for one in chosen]
    walls, periods = limits_of_run(runs[0])
    known = [(walls.get(one), periods.get(one)) if isinstance(one, str) else (None, None) for one in chosen]
    names = [one if isinstance(one, str) and one.isidentifier() else f"q{i or ''}" for i, one in enumerate(chosen)]
    return _axes(names, values, known, at, width, period), values


def _observable_of_axis(samples: Samples, one: Any) -> FloatArray:
    found = _observable(samples, one)
    return samples.on(scalar_field(samples.landscapes[0], one)) if callable(found) else found


def _axes(names: list[str], values: list[FloatArray], known: list[Any], at: Any, width: Any, period: Any) -> list[Axis]:
    """Points, widths, boundaries and periods of one coordinate or two.

    Raises
    ------
    ConfigError, ShapeError
    """
    count = len(values)
    if count > 2:
        raise ConfigError(f"a profile is along one coordinate or two, got {count}")
    each = []
    for name, given in (("at", at), ("width", width), ("period", period)):
        several = isinstance(given, list | tuple) and count == 2
        if several and len(given) != 2:
            raise ShapeError(f"{name} must be one, or one for each of 2 coordinates, got {given!r}")
        each.append(list(given) if several else [given] * count)
    return [
        Axis.of(name, q, limits[0], limits[1], points, wide, turn)
        for name, q, limits, (points, wide, turn) in zip(names, values, known, zip(*each, strict=True), strict=True)
    ]  # fmt: skip


# -- reduced energies -----------------------------------------------------------------------------------------------


def _reduced(energies: Any, counts: Any, chains: Any) -> tuple[FloatArray, list[Block]]:
    """Reduced energies, and a block for each number of draws.

    Raises
    ------
    ConfigError, ShapeError
    """
    try:
        u = np.asarray(energies, dtype=float)
        sizes = np.asarray(counts)
    except (TypeError, ValueError):
        raise ConfigError(
            f"mbar takes runs, or reduced energies (state, sample), got {type(energies).__name__}"
        ) from None
    if u.ndim != 2 or sizes.shape != u.shape[:1] or sizes.dtype.kind not in "iu" or sizes.sum() != u.shape[1]:
        raise ShapeError(
            f"reduced energies must be (state, sample) with counts (state,) that sum to the samples, got {u.shape} and "
            f"counts {counts!r}"
        )
    if (
        isinstance(chains, bool)
        or not isinstance(chains, int)
        or chains < 1
        or (sizes % chains).any()
        or (sizes < 1).any()
    ):
        raise ConfigError(f"counts must be positive and multiples of chains, got {counts!r} and chains = {chains!r}")
    blocks = [
        Block(np.full(chains, k), k * chains + np.arange(chains), int(size) // chains) for k, size in enumerate(sizes)
    ]
    return bounded(u), blocks


def _reduced_goals(target: Any, energies: FloatArray, asked: bool) -> list[_Goal]:
    if target is None:
        if asked:
            raise ConfigError("say at which state: target= must be its reduced energies (sample,) or (target, sample)")
        return []
    try:
        u = np.asarray(target, dtype=float)
    except (TypeError, ValueError):
        u = np.empty(0)
    if u.ndim not in (1, 2) or u.shape[-1] != energies.shape[1]:
        raise ShapeError(f"target must be reduced energies (sample,) or (target, sample), got shape {u.shape}")
    return [_Goal(bounded(row), None, 1.0, {}, u.ndim == 2) for row in np.atleast_2d(u)]


def _arrays(observables: Any, count: int) -> dict[str, Any]:
    found = {name: np.asarray(values, dtype=float) for name, values in _named(observables).items()}
    for name, values in found.items():
        if values.shape != (count,) or not np.isfinite(values).all():
            raise ShapeError(f"the observable {name!r} must be finite values ({count},), got shape {values.shape}")
    return found


def _axes_of_arrays(
    coordinate: Any, at: Any, width: Any, period: Any, energies: FloatArray
) -> tuple[list[Axis], list[FloatArray]]:
    if coordinate is None:
        return [], []
    rows = np.atleast_2d(np.asarray(coordinate, dtype=float))
    values = list(_arrays({f"q{i or ''}": row for i, row in enumerate(rows)}, energies.shape[1]).values())
    names = [f"q{i or ''}" for i in range(len(values))]
    return _axes(names, values, [(None, None)] * len(values), at, width, period), values
