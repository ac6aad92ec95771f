"""Replica exchange: wells that plain chains never leave are visited as often as they should be.

Neighbours swap with min(1, exp[(1/T_i - 1/T_j)(V_i - V_j)]), which leaves the product of the Boltzmann laws as it is;
in that state the mean acceptance of a pair is a double integral.
"""

import math

import numpy as np
import pytest

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import Expression
from tests.cases import Z_CONTROL, Z_MAX, gauss, time_average, z_score
from tests.exact_laws import Line, euler_move, operator, stationary

TILT = 0.06
WELL = Expression("(x**2 - 1)**2 + a*x", ["x"], {"a": TILT})
TEMPERATURES = np.array([0.05, 0.1, 0.2, 0.4])
NODES, WEIGHTS = gauss(-2.4, 2.4, 60, 12)


def energy(x):
    return (x**2 - 1) ** 2 + TILT * x


def boltzmann(temperature):
    density = WEIGHTS * np.exp(-(energy(NODES) - energy(NODES).min()) / temperature)
    return density / density.sum()


def exact_acceptance(cold, hot):
    """<min(1, exp((1/T_i - 1/T_j)(V_i - V_j)))> over the product of both laws."""
    v = energy(NODES)
    ratio = np.exp(np.minimum((1 / cold - 1 / hot) * (v[:, None] - v[None, :]), 0.0))
    return float(boltzmann(cold) @ ratio @ boltzmann(hot))


def ladders_of(run):
    """Chains of every temperature: ``(temperature, ladder)``."""
    temperature = run.temperature.values
    return np.stack([np.flatnonzero(np.isclose(temperature, t)) for t in np.unique(temperature)])


def exchange(integrator, *, ladders, steps, start, seed, every=10, temperatures=TEMPERATURES, swap_every=10):
    return ls.replica_exchange(
        WELL, integrator, temperatures, steps=steps, swap_every=swap_every, ladders=ladders, start=start,
        record=ls.Record(every), seed=seed,
    )  # fmt: skip


# -- both wells -------------------------------------------------------------------------------------------------------


def test_both_wells_at_a_temperature_where_plain_chains_stay():
    """All start in the upper well, the wrong one; the barrier is 20 T of the coldest."""
    ladders, steps = 200, 20_000
    run = exchange(ls.MALA(0.03), ladders=ladders, steps=steps, every=100, start=[1.0], seed=91)
    chains = ladders_of(run)
    x = run.position.values[:, steps // 400 :, 0]
    for temperature, members in zip(TEMPERATURES, chains, strict=True):
        law = boltzmann(temperature)
        assert abs(z_score(time_average(x[members] > 0), law @ (NODES > 0))) < Z_MAX
        assert abs(z_score(time_average(energy(x[members])), law @ energy(NODES))) < Z_MAX
        assert abs(z_score(time_average(x[members]), law @ NODES)) < Z_MAX
    cold = boltzmann(TEMPERATURES[0]) @ (NODES > 0)
    assert 0.02 < cold < 0.2
    heated = boltzmann(1.5 * TEMPERATURES[0]) @ (NODES > 0)
    assert abs(z_score(time_average(x[chains[0]] > 0), heated)) > Z_CONTROL
    plain = ls.simulate(
        WELL, ls.MALA(0.03), temperature=TEMPERATURES[0], start=[1.0], chains=200, steps=steps,
        record=ls.Record(100), seed=91,
    )  # fmt: skip
    assert np.all(plain.position > 0)  # without exchange: all in the wrong well


@pytest.mark.parametrize(
    "make",
    [lambda: ls.EulerMaruyama(0.01), lambda: ls.BAOAB(0.1, 1.0), lambda: ls.HMC(0.15, 4)],
    ids=["EulerMaruyama", "BAOAB", "HMC"],
)
def test_other_integrators_and_momenta(make):
    """Momenta are rescaled with the temperature, so that no swap heats: energies stay those of every rung."""
    rule = make()
    start = np.repeat([-1.0, 1.0], [180 * len(TEMPERATURES), 20 * len(TEMPERATURES)])[:, None]
    run = exchange(rule, ladders=200, steps=5000, every=40, start=start, seed=92, swap_every=2)
    x = run.position.values[:, 50:, 0]
    for temperature, members in zip(TEMPERATURES[1:], ladders_of(run)[1:], strict=True):
        nodes, law = NODES, boltzmann(temperature)
        if isinstance(rule, ls.EulerMaruyama):
            line = Line(-2.0, 2.0, 30, 12)
            gradient = lambda q: 4 * q * (q**2 - 1) + TILT  # noqa: E731
            nodes, law = line.nodes, stationary(operator(line, euler_move(gradient, temperature, 0.01)))
        found = time_average(energy(x[members]))
        # Swaps mix rungs whose laws are off by terms of the step size: 1 % of T is allowed for.
        tolerance = 0.01 * temperature if not isinstance(rule, ls.HMC) else 0.0
        error = found.std(ddof=1) / math.sqrt(len(found))
        assert abs(found.mean() - law @ energy(nodes)) < Z_MAX * error + tolerance
        assert abs(z_score(found - energy(NODES).min(), 1.2 * (law @ energy(nodes) - energy(NODES).min()))) > Z_CONTROL


# -- swaps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperatures", [(0.05, 0.1, 0.2, 0.4), (0.1, 0.35), (0.3, 0.45, 0.5)])
def test_swap_acceptance(temperatures):
    """Started in the stationary state and moved by MALA, which keeps it, every swap is one of that state."""
    temperatures, ladders, rng = np.array(temperatures), 400, np.random.default_rng(93)
    draws = np.stack([rng.choice(NODES, size=ladders, p=boltzmann(t)) for t in temperatures])
    probe = exchange(
        ls.MALA(0.03), ladders=ladders, steps=1, every=1, temperatures=temperatures, start=[1.0], seed=0, swap_every=1
    )
    start = np.empty((probe.sizes["chain"], 1))
    for rung, members in enumerate(ladders_of(probe)):
        start[members, 0] = draws[rung]
    run = exchange(
        ls.MALA(0.03), ladders=ladders, steps=2000, every=100, temperatures=temperatures, start=start, seed=93,
        swap_every=5,
    )  # fmt: skip
    assert run.swap_acceptance.dims == ("chain",)
    for rung, members in enumerate(ladders_of(run)):
        found = run.swap_acceptance.values[members]
        if rung == len(temperatures) - 1:
            assert np.all(np.isnan(found))  # the hottest has no next
            continue
        exact = exact_acceptance(temperatures[rung], temperatures[rung + 1])
        assert abs(z_score(found, exact)) < Z_MAX
        assert abs(z_score(found, math.sqrt(exact))) > Z_CONTROL  # half the difference of 1/T


def test_every_walker_once_per_draw():
    ladders, rungs = 5, len(TEMPERATURES)
    run = exchange(ls.MALA(0.03), ladders=ladders, steps=600, every=1, start=[1.0], seed=94, swap_every=3)
    assert run.walker.dims == ("chain", "draw")
    walker, members = run.walker.values, ladders_of(run)
    for ladder in range(ladders):
        own = walker[members[:, ladder]]
        assert np.all(np.sort(own, axis=0) == np.sort(own[:, :1], axis=0))  # the same walkers, each once
        assert len(np.unique(own[:, 0])) == rungs
    every = np.unique(walker)
    assert len(every) in (rungs, rungs * ladders)
    assert (walker[:, 1:] != walker[:, :-1]).any()
    # Walkers change rungs at swaps alone, by one rung at most.
    rung = np.empty(len(walker), dtype=int)
    rung[members] = np.arange(rungs)[:, None]
    for ladder in range(ladders):
        own = members[:, ladder]
        where = np.argsort(walker[own], axis=0)  # rung of every walker
        moves = np.diff(where, axis=1)
        assert np.abs(moves).max() == 1
        changed = np.flatnonzero(np.abs(moves).any(axis=0)) + 2  # after this many steps
        assert len({int(step) % 3 for step in changed}) == 1


def test_configurations_move_with_their_walkers():
    """Followed by walker, positions are continuous: a swap moves the configuration and not only its name."""
    run = exchange(ls.MALA(1e-4), ladders=20, steps=300, every=1, start=None, seed=95, swap_every=2)
    members = ladders_of(run)
    largest = math.sqrt(2 * TEMPERATURES[-1] * 1e-4) * 7 + 0.02
    for ladder in range(members.shape[1]):
        own = members[:, ladder]
        order = np.argsort(run.walker.values[own], axis=0)
        paths = np.take_along_axis(run.position.values[own, :, 0], order, axis=0)
        assert np.abs(np.diff(paths, axis=1)).max() < largest


def test_round_trips_are_counted():
    run = exchange(ls.MALA(0.05), ladders=10, steps=20_000, every=20, start=[-1.0], seed=96, swap_every=10)
    trips = run.round_trips.values
    assert trips.shape == (10 * len(TEMPERATURES),)  # one per walker
    assert np.all(trips >= 0) and trips.sum() > 10
    short = exchange(ls.MALA(0.05), ladders=10, steps=20, every=20, start=[-1.0], seed=96, swap_every=10)
    assert short.round_trips.values.sum() == 0  # two rounds of swaps make no round trip over four rungs


def test_bad_ladders_are_refused():
    for temperatures, settings in (
        ([0.1], {}),
        ([0.1, -0.2], {}),
        ([0.1, 0.2], {"swap_every": 0}),
        ([0.1, 0.2], {"ladders": 0}),
    ):
        with pytest.raises(LandscapeError):
            ls.replica_exchange(WELL, ls.MALA(0.05), temperatures, **({"steps": 10, "swap_every": 5} | settings))


def test_how_many_swaps_are_drawn_at_once_changes_nothing(monkeypatch):
    def run():
        return ls.replica_exchange(
            ls.potentials.DoubleWell(), ls.EulerMaruyama(dt=0.01), [0.1, 0.2, 0.4], steps=60, swap_every=3, ladders=2,
            record=ls.Record(10), seed=4,
        )  # fmt: skip

    many = run()
    monkeypatch.setattr("landscape.dynamics.replica_exchange.DRAWN", 1)
    one = run()
    assert 0 < float(many.swap_acceptance.mean()) < 1
    assert all(bool((many[name] == one[name]).all()) for name in ("position", "walker", "round_trips"))
