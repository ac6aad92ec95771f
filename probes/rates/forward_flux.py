"""Forward-flux sampling: rates of events too rare to wait for, from paths that advance interface by interface."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from landscape import random
from landscape.checks import whole_number
from landscape.common.per_chain import length_of
from landscape.common.positions import plain_array
from landscape.common.schedules import Schedule, as_schedule
from landscape.engine.choice import Backend
from landscape.errors import ConfigError, ConvergenceError
from landscape.integrators.base import Integrator
from landscape.potentials.base import Potential
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.series import BoolArray, FloatArray, IntArray
from landscape.probes.rates.first_hits import FirstHits, Swarm
from landscape.probes.registry import probe
from landscape.statistics import standard_error, widen

__all__ = ["forward_flux"]

FEWEST_REPLICAS = 8  # whose scatter is an error
WARM_UP = 2  # cycles from A to the first interface and back that are left out
TRIALS = 256  # copies that interfaces are placed with
MOST_INTERFACES = 200
FIRST_DISTANCE = 8.0  # of the first interface from A, in steps: what `Absorb` asks for between two boundaries
MOST_SCATTER = 0.4  # of the probability between replicas, relative; beyond it the law of its mean is not normal


@probe("rates.forward_flux")
def forward_flux(
    potential: Potential, integrator: Any, coordinate: Any, a: float, b: float, temperature: float | None = None, *,
    interfaces: Literal["auto"] | Sequence[float] = "auto", probability: float = 0.3, copies: int = 200,
    replicas: int = 16, start: Any = None, constraint: Any = None, seed: int = 0, backend: Backend = "auto",
    most_steps: int = 10**6,
) -> xr.Dataset:  # fmt: skip
    r"""Rate from A to B, however high the barrier between them, by forward-flux sampling.

    A is where q(x) <= a and B where q(x) >= b (the other way round if a > b). With interfaces
    a < q_0 < q_1 < ... < q_n = b the rate at which A is left for B is

    .. math:: k_{AB} = \Phi \prod_{i=0}^{n-1} P(q_{i+1} | q_i) ,

    where Phi is the number of first arrivals at q_0 after A per time that belongs to A, and P(q_{i+1}\|q_i) the
    probability that a path which has come from A to q_i for the first time reaches q_{i+1} before it returns to A. In
    one dimension 1/k is the mean first-passage time from a to b.

    Parameters
    ----------
    integrator : Integrator or xarray.Dataset
        A thermal rule with one step size, overdamped or inertial; or a run, whose rule, temperature and, of the chains
        that ended in A, last positions are taken.
    a, b : float
        Boundaries of A and of B, in units of q.
    temperature : float
        In units of energy.
    interfaces : "auto" or sequence of float
        q_0, q_1, ... between a and b. "auto" puts them where trial paths get on with the given probability.
    probability : float
        Aimed at from one interface to the next, 0.2 to 0.5.
    copies, replicas : int
        Copies that are started from each interface in each replica of the calculation; independent replicas, 8 at
        least, whose scatter is the error.
    start : array ``(dim,)`` or ``(n, dim)``, optional
        Positions in A; the potential's default start.
    constraint : Reflect or Periodic, or a sequence of them, optional
    backend : {"auto", "compiled", "batched"}
    most_steps : int
        Of one stage, after which copies count as stuck.

    Returns
    -------
    xarray.Dataset
        ``rate``, ``flux``, ``probability`` (of reaching B from q_0) with standard errors; on `interface` (values of q)
        ``conditional_probability``, of reaching the next, and ``cumulative_probability``, of being reached from q_0;
        ``replica_probability (replica)``, 0 where its paths died out, and ``replica_cycle (replica)``, the mean time of
        a cycle from A to q_0 and back; ``resolved``.

    Raises
    ------
    ConfigError
        If settings make no sense, starts are not in A, or the dynamics changes in time.
    ConvergenceError
        If copies get stuck between boundaries, or so few paths arrive that the scatter between replicas is no error.

    Notes
    -----
    Copies start from first arrivals in equal numbers (each as often as any other, but for the rest of the division,
    which is drawn), so that every replica's product of fractions is unbiased, with its dead ends counted as 0. The rate
    is the mean product over the mean time of a cycle from A to q_0 and back, with the error of this ratio from the
    scatter between replicas, Student's factor, and as much more as a skewed product asks for (a tenth where the
    error is a tenth). It is resolved where the product scatters by less than 0.4 of its mean: with fewer copies most
    results come out low, and some far too high.
    Momenta and what else the rule remembers go along with the positions.

    For a coordinate by its name crossings are those of `landscape.Absorb`, between steps too, within compiled loops.
    Other functions of position are looked at after each step: the rate is then that of the chain in discrete time, of
    which A and B are entered at a step. Costs about replicas * copies * (interfaces + 3) paths, each as long as an
    excursion from A. For a barrier of 15 T and a coordinate by its name, 300 copies from each of ten interfaces 1.2 T
    apart, in 16 replicas, give the rate within 10 % in seconds; the error falls as the root of the number of copies.
    Automatic interfaces have the first eight steps away from A: a step size that is small against the width of the well
    keeps it low, and cheap to reach.

    References
    ----------
    R. J. Allen, P. B. Warren, P. R. ten Wolde, "Sampling rare switching events in biochemical networks", Phys. Rev.
    Lett. 94, 018104 (2005). R. J. Allen, C. Valeriani, P. R. ten Wolde, "Forward flux sampling for rare event
    simulations", J. Phys.: Condens. Matter 21, 463102 (2009), eqs. 2 to 5. E. E. Borrero, F. A. Escobedo, "Optimizing
    the sampling and staging for simulations of rare events via forward flux sampling schemes", J. Chem. Phys. 129,
    024115 (2008) (placing of interfaces).

    Examples
    --------
    A double well with a barrier of 6 T, whose mean first-passage time from -0.9 to 0.9 is 1132 by quadrature:

    >>> from landscape import EulerMaruyama, potentials
    >>> well = potentials.DoubleWell(height=1.5)
    >>> found = forward_flux(well, EulerMaruyama(dt=1e-3), "x", -0.9, 0.9, 0.25, copies=50, seed=1)
    >>> bool(abs(found.rate - 1 / 1132) < 4.5 * found.rate_stderr)
    True
    """
    rule, t, points = _dynamics(potential, integrator, temperature, start)
    for name, value, least in (("copies", copies, 10), ("replicas", replicas, FEWEST_REPLICAS)):
        whole_number(name, value, least=least)
    if not 0.05 <= probability <= 0.8:
        raise ConfigError(f"probability must be between 0.05 and 0.8, 0.2 to 0.5 for least cost, got {probability!r}")
    low, high, sign = _boundaries(a, b)
    given = [] if constraint is None else list(constraint) if isinstance(constraint, Sequence) else [constraint]
    hits = FirstHits(potential, rule, coordinate, sign, t, given, random.check_seed(seed), backend, most_steps)
    points = _inside(hits, points, low)
    levels = _given(interfaces, low, high, sign)
    if levels is None:
        levels = _placed(hits, points, low, high, probability)
    replica = np.repeat(np.arange(replicas), copies)
    swarm = hits.fresh(points[np.arange(len(replica)) % len(points)], replica)
    swarm, cycle = _cycles(hits, swarm, low, levels[0], high)
    fractions, arrived = np.zeros((len(levels), replicas)), swarm
    for stage, target in enumerate([*levels[1:], high]):
        above, _, ended = hits.until(arrived, low, target)
        fractions[stage] = np.bincount(arrived.replica[above], minlength=replicas) / copies
        if not above.any():
            raise ConvergenceError(
                f"no path got from q = {sign * levels[stage]:g} to {sign * target:g}: give more copies, or interfaces "
                "that are closer together",
                estimate=fractions,
            )
        arrived = _spread(ended.take(above), copies, hits.seed, stage)
    return _result(np.array(levels) * sign, fractions, cycle, replicas, {
        "title": "Rate by forward-flux sampling", "a": float(a), "b": float(b), "temperature": t, "seed": int(seed),
        "copies": copies, "coordinate": coordinate if isinstance(coordinate, str) else "q", "dt": hits.dt,
        "crossings": "between steps" if hits.wall is not None and rule.brownian else "at steps",
        "conventions": "rate = first arrivals in B per time since A was visited last; error: scatter of replicas",
    })  # fmt: skip


def _dynamics(potential: Any, given: Any, temperature: Any, start: Any) -> tuple[Integrator, float, FloatArray]:
    """Rule, temperature and starts, of which a run may know some.

    Raises
    ------
    ConfigError
    """
    from landscape.spec.building import build_integrator
    from landscape.storage.files import read_spec

    if isinstance(given, xr.Dataset):
        run, given = given, build_integrator(read_spec(given)["integrator"])
        known = np.unique(run.temperature.values)
        if temperature is None and len(known) == 1:
            temperature = known[0]
        start = run.last_position.values if start is None else start
    if not isinstance(given, Integrator) or not given.thermal:
        raise ConfigError(f"forward_flux needs dynamics with thermal noise, such as EulerMaruyama, got {given!r}")
    settings = {name: getattr(given, name) for name in given.per_chain} | {"the step size": given.step_size}
    for name, value in settings.items():
        if as_schedule(name, value) is not None or (length_of(name, value) or 1) > 1:
            raise ConfigError(f"forward_flux needs one {name} for all copies and times, got {value!r}")
    if any(isinstance(value, Schedule) for value in potential.varying.values()):
        raise ConfigError("forward_flux needs dynamics that is the same at all times: the landscape changes")
    try:
        t = float(temperature)
    except (TypeError, ValueError):
        t = float("nan")
    if not (np.isfinite(t) and t > 0):
        raise ConfigError(f"temperature must be one positive number, got {temperature!r}")
    points = potential.default_start() if start is None else start
    return given, t, np.atleast_2d(plain_array(points, "start").astype(float))


def _boundaries(a: Any, b: Any) -> tuple[float, float, float]:
    """Boundaries in the direction in which q times the sign rises."""
    numbers = [isinstance(one, Real) and abs(float(one)) < np.inf for one in (a, b)]
    if not all(numbers) or a == b:
        raise ConfigError(f"a and b must be two different numbers, the boundaries of A and of B, got {a!r} and {b!r}")
    sign = 1.0 if b > a else -1.0
    return sign * float(a), sign * float(b), sign


def _inside(hits: FirstHits, points: FloatArray, low: float) -> FloatArray:
    """Those of the starts that are in A.

    Raises
    ------
    ConfigError
    """
    values = hits.values(Swarm(points, {}, np.zeros(len(points), int)))
    if not (values <= low).any():
        raise ConfigError(
            f"no start is in A: q is {hits.sign * values.min():g} and the boundary of A {hits.sign * low:g}: "
            "give start, positions in A"
        )
    return points[values <= low]


def _given(interfaces: Any, low: float, high: float, sign: float) -> list[float] | None:
    """Interfaces as they were given, None where they are to be placed.

    Raises
    ------
    ConfigError
    """
    if isinstance(interfaces, str) and interfaces == "auto":
        return None
    try:
        levels = sign * np.asarray(interfaces, dtype=float)
    except (TypeError, ValueError):
        levels = np.empty((0, 0))
    if (
        levels.ndim != 1
        or not len(levels)
        or not ((np.diff(levels) > 0).all() and low < levels[0] and levels[-1] < high)
    ):
        raise ConfigError(
            f'interfaces must be "auto" or values that go from a = {sign * low:g} to b = {sign * high:g}, both left '
            f"out; got {interfaces!r}"
        )
    return [float(level) for level in levels]


def _placed(hits: FirstHits, points: FloatArray, low: float, high: float, probability: float) -> list[float]:
    """Interfaces where trial paths get on with about the given probability.

    The first is what half of the copies reach in a while, the while being doubled until that is some steps beyond A.

    Raises
    ------
    ConvergenceError
    """
    swarm = hits.fresh(points[np.arange(TRIALS) % len(points)], np.zeros(TRIALS, int))
    steps, level, least = 256, low, low + FIRST_DISTANCE * hits.reach(swarm)
    while level <= least:
        if steps > hits.most_steps:
            raise ConvergenceError(
                f"copies do not leave A within {steps} steps: move its boundary towards the well", estimate=level
            )
        level = float(np.median(hits.highest(swarm, -np.inf, high, steps=steps)))
        steps *= 2
    if level >= high:  # no barrier to speak of
        return [0.5 * (low + high)]
    levels = [level]
    _, _, swarm = hits.until(swarm, -np.inf, level)
    while True:
        top = hits.highest(swarm, low, high)
        if (top >= high).mean() >= probability:
            return levels
        level = float(np.quantile(top, 1.0 - probability))
        if len(levels) == MOST_INTERFACES or level <= levels[-1]:
            raise ConvergenceError(
                f"paths from q = {hits.sign * levels[-1]:g} do not get on: {len(levels)} interfaces were placed. Lower "
                "the step size, or give interfaces",
                estimate=levels,
            )
        above, _, ended = hits.until(swarm, low, level)
        levels.append(level)
        if not above.any():
            raise ConvergenceError(f"no trial reached {hits.sign * level:g} again: give interfaces", estimate=levels)
        swarm = _spread(ended.take(above), TRIALS, hits.seed, -len(levels))


def _cycles(hits: FirstHits, swarm: Swarm, low: float, first: float, high: float) -> tuple[Swarm, FloatArray]:
    """Copies as they arrive at the first interface, and the time of each from there to A and back.

    What arrives in B instead of A starts anew where another copy of its replica came back.
    """
    for _ in range(WARM_UP):
        _, out, arrived = hits.until(swarm, -np.inf, first)
        above, back, ended = hits.until(arrived, low, high)
        swarm = _returned(ended, above)
    _, out, arrived = hits.until(swarm, -np.inf, first)
    _, back, _ = hits.until(arrived, low, high)
    return arrived, out + back


def _returned(swarm: Swarm, lost: BoolArray) -> Swarm:
    rows = np.arange(len(lost))
    for row in np.flatnonzero(lost):
        others = np.flatnonzero(~lost & (swarm.replica == swarm.replica[row]))
        if not len(others):
            raise ConvergenceError("all copies of a replica went to B at once: there is no barrier", estimate=np.nan)
        rows[row] = others[row % len(others)]
    return swarm.take(rows)


def _spread(swarm: Swarm, copies: int, seed: int, stage: int) -> Swarm:
    """So many copies in each replica that has any, each used as often as any other, but for a rest that is drawn."""
    draws = random.uniforms(seed, torch.arange(len(swarm.replica)), stage % 2**32, stream=random.REPLACEMENT).numpy()
    rows: list[IntArray] = []
    for replica in np.unique(swarm.replica):
        own = np.flatnonzero(swarm.replica == replica)
        own = own[np.argsort(draws[own])]
        rows.append(own[np.arange(copies) % len(own)])
    return swarm.take(np.concatenate(rows))


def error(relative: FloatArray) -> FloatArray:
    """Standard error of a mean, 1, over replicas ``(..., replica)``, with Student's factor.

    A product of fractions is skewed: its logarithm is nearer to normal, and what comes out too low scatters too
    little. The error r is so large that the interval around the estimate reaches as far up as that of the logarithm,
    (exp(z r) - 1)/z with z = 1.96.
    """
    return widen(np.ones(relative.shape[:-1]), standard_error(relative, axis=-1))


def ratio(probability: FloatArray, period: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean probability over mean period of replicas ``(..., replica)``, and its error."""
    top, below = probability.mean(axis=-1), period.mean(axis=-1)
    relative = probability / top[..., None] - period / below[..., None]
    return top / below, top / below * error(relative)


def _result(
    levels: FloatArray, fractions: FloatArray, cycle: FloatArray, replicas: int, attributes: dict[str, Any]
) -> xr.Dataset:
    """Means over replicas and their errors, from fractions ``(interface, replica)`` and the times of cycles."""
    products = np.vstack([np.ones(replicas), np.cumprod(fractions, axis=0)])
    period = cycle.reshape(replicas, -1).mean(axis=1)
    mean = products.mean(axis=1, keepdims=True)
    reached = products / mean  # relative, mean 1
    lag = period / period.mean()
    rate, rate_error = ratio(products[-1], period)
    flux, probability = 1.0 / period.mean(), float(mean[-1, 0])
    conditional = mean[1:, 0] / mean[:-1, 0]
    values = {
        "rate": rate, "rate_stderr": rate_error,
        "flux": flux, "flux_stderr": flux * error(lag),
        "probability": probability, "probability_stderr": probability * error(reached[-1]),
        "conditional_probability": ("interface", conditional),
        "conditional_probability_stderr": ("interface", conditional * error(reached[1:] - reached[:-1])),
        "cumulative_probability": ("interface", mean[:-1, 0]),
        "cumulative_probability_stderr": ("interface", mean[:-1, 0] * error(reached[:-1])),
        "replica_probability": ("replica", products[-1]),
        "replica_cycle": ("replica", period),
        "resolved": bool(reached[-1].std(ddof=1) <= MOST_SCATTER),
    }  # fmt: skip
    dataset = xr.Dataset(values, {"interface": levels, "replica": np.arange(replicas)}, attributes)
    return annotate(dataset, time_units="time", names=GLOSSARY["forward_flux"])
