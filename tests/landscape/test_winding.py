"""Periodic coordinates: how often a chain went round, springs across the seam, and energies that are cut there.

Free diffusion on a circle: <(x(t) - x(0))^2> = 2 T t of the unwrapped position, whatever the period. A slope F along a
periodic coordinate drives it at F on average.
"""

import numpy as np
import pytest

import landscape as ls
from landscape import probes
from landscape.errors import ConfigError
from landscape.potentials import Expression, Function
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score

PI = np.pi
FLAT = Expression("0*x", ["x"])
UNIT = ls.Periodic({"x": (0.0, 1.0)})
CIRCLE = ls.Periodic({"x": (-PI, PI)})
MOVES = {  # rules on no potential: variance that a step adds exactly
    "EulerMaruyama": (ls.EulerMaruyama(0.02), 0.04),
    "Diffusion": (ls.Diffusion(0.5), 1.0),
    "MALA": (ls.MALA(0.02), 0.04),
    "HMC": (ls.HMC(0.3, 4), 1.44),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MOVES)
def test_diffusion_around_a_circle(name, backend):
    rule, variance = MOVES[name]
    run = ls.simulate(
        FLAT, rule, temperature=1.0, start=[0.9], chains=1000, steps=60, constraint=UNIT, backend=backend, seed=3,
        record=ls.Record(20, ["position", "unwrapped", "distance", ls.Moments("x")]),
    )  # fmt: skip
    moved = run.unwrapped.values[..., 0] - 0.9
    for draw, steps in enumerate((20, 40, 60)):
        assert abs(z_score(moved[:, draw] ** 2, variance * steps)) < Z_MAX
        assert abs(z_score((run.position.values[:, draw, 0] - 0.9) ** 2, variance * steps)) > Z_CONTROL
    assert np.allclose(run.distance, np.abs(moved))
    assert np.allclose(run.x_mean, run.unwrapped.values[..., 0].mean(axis=1))  # streamed: that of the unwrapped one
    periods = run.unwrapped.values - run.position.values
    assert np.allclose(periods, np.round(periods), atol=1e-12) and len(np.unique(np.round(periods))) > 2
    assert np.array_equal(run.last_winding, np.round(periods[:, -1]))


@pytest.mark.parametrize("name", ["BAOAB", "LeimkuhlerMatthews", "HMC", "MALA", "Heun"])
def test_backends_go_round_alike(name):
    """Two coordinates, one of them bounded; proposals that are turned down go nowhere."""
    rules = {"BAOAB": ls.BAOAB(0.2, 0.1), "HMC": ls.HMC(1.2, 3), "MALA": ls.MALA(0.6)}
    rule = rules.get(name) or getattr(ls, name)(0.3)
    mix = Expression("cos(x)*(1 + y**2)/2 + y**2/2", ["x", "y"], bounds={"y": (-0.5, 2.0)})
    settings = {"temperature": 1.5, "chains": 30, "steps": 80, "seed": 6, "constraint": CIRCLE}
    runs = [
        ls.simulate(mix, rule, backend=backend, record=ls.Record(1, ["position", "unwrapped"]), **settings)
        for backend in BACKENDS
    ]
    assert np.allclose(runs[0].unwrapped, runs[1].unwrapped, rtol=0, atol=1e-7)
    x, y = np.moveaxis(runs[0].unwrapped.values, -1, 0)
    assert np.abs(x).max() > 2 * PI and np.array_equal(y, runs[0].position.values[..., 1])
    stays = np.diff(runs[0].position.values, axis=1).any(axis=-1) == 0
    assert (np.diff(x, axis=1)[stays] == 0).all() and (stays.any() or not rule.metropolis)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slope_around_a_circle(backend):
    """Mean velocity F, by the unwrapped position."""
    tilted = Expression("-2*x", ["x"])
    run = ls.simulate(
        tilted, ls.EulerMaruyama(0.05), temperature=0.5, chains=400, steps=400, constraint=CIRCLE, backend=backend,
        record=ls.Record(400, ["unwrapped"]), seed=2,
    )  # fmt: skip
    velocity = run.unwrapped.values[:, 0, 0] / 20.0
    assert abs(z_score(velocity, 2.0)) < Z_MAX
    assert abs(z_score(velocity, 1.9)) > Z_CONTROL


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", [ls.EulerMaruyama(0.05), ls.MALA(0.3), ls.BAOAB(0.3, 0.2)])
def test_windings_survive_a_restart(rule, backend, tmp_path):
    settings = {
        "temperature": 2.0, "chains": 5, "constraint": CIRCLE, "backend": backend, "seed": 9,
        "record": ls.Record(20, ["unwrapped", "position", ls.Moments("x")]),
    }  # fmt: skip
    pendulum = Expression("-cos(x)", ["x"])
    whole = ls.simulate(pendulum, rule, steps=400, **settings)
    first = ls.simulate(pendulum, rule, steps=160, **settings)
    rest = ls.simulate(pendulum, rule, steps=240, start=first, state="keep", **settings)
    assert np.array_equal(rest.unwrapped, whole.unwrapped[:, 8:]) and np.array_equal(
        rest.last_winding, whole.last_winding
    )
    assert np.abs(whole.last_winding).max() > 0
    ls.simulate(pendulum, rule, steps=160, output=tmp_path / "run", **settings)
    stored = ls.simulate(pendulum, rule, steps=400, output=tmp_path / "run", **settings)
    for name in ("unwrapped", "last_winding", "x_mean", "x_variance"):
        assert np.array_equal(stored[name], whole[name])
    fresh = ls.simulate(pendulum, rule, steps=1, start=first, **settings | {"record": ls.Record(1, ["unwrapped"])})
    assert np.abs(fresh.unwrapped).max() < 2 * PI  # a new run counts from its start


def test_moments_across_the_seam():
    """A spring that straddles the seam: variance T/[k (1 - dt k/2)] streamed, not that of two heaps a period apart."""
    spring = Expression("-10*cos(x - 3)", ["x"])
    run = ls.simulate(
        spring, ls.MALA(0.02), temperature=0.05, start=[3.0], chains=200, steps=3000, constraint=CIRCLE, seed=5,
        record=ls.Record(3000, ["position", ls.Moments("x", every=5), ls.Autocorrelation("x", every=5)]),
    )  # fmt: skip
    exact = 0.005 * (1 + 0.005 / 2)  # T/k with the first correction for the cosine
    assert abs(z_score(run.x_variance, exact)) < Z_MAX + 0.5
    assert abs(z_score(run.x_mean, 3.0)) < Z_MAX
    assert float(run.x_raw_variance.max()) < 0.02  # wrapped, 3.2 is -3.08


def test_distance_takes_unwrapped_positions():
    run = ls.simulate(
        FLAT, ls.Diffusion(0.5), temperature=1.0, start=[0.5], chains=500, steps=20, constraint=UNIT,
        record=ls.Record(20, ["position", "unwrapped"], snapshots=1),
    )  # fmt: skip
    found = probes.fluctuations.distance(run, [0.5])
    assert abs(z_score(found.distance.values[:, 0] ** 2, 20.0)) < Z_MAX
    for blind in (run.drop_vars("unwrapped"), run.position, run.drop_vars(["position", "unwrapped"]).snapshot):
        with pytest.raises(ConfigError, match=r"wrapped along 'x'.*unwrapped"):
            probes.fluctuations.distance(blind, [0.5])


# -- springs across the seam ------------------------------------------------------------------------------------------

SQUARE = ls.Periodic({"x": (-PI, PI), "y": (-PI, PI)})
NOTHING = Expression("0*x + 0*y", ["x", "y"])
SPRINGS = {  # coordinate, period, squared length of its gradient
    "name": ("x", 2 * PI, 1.0),
    "number": (1, 2 * PI, 1.0),
    "vector": ([1.0, -1.0], 2 * PI, 2.0),
    "formula": ("2*x", 4 * PI, 4.0),
    "callable": (lambda x: x[..., 0] - x[..., 1], 2 * PI, 2.0),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", SPRINGS)
def test_springs_reach_across_the_seam(kind, backend):
    """<d^2> = T/k for the minimum image d, wherever the center is; of the plain difference it is far from that."""
    q, period, square = SPRINGS[kind]
    if callable(q) and backend == "compiled":
        pytest.skip("a callable takes the batched backend")
    k, chains = 10.0 / square, 300
    for center in (period / 2 - 0.1, 3.5 * period - 0.1):
        run = ls.simulate(
            NOTHING, ls.MALA(0.02), temperature=1.0, start=[3.0, 3.0] if kind != "vector" else [3.0, 0.0],
            chains=chains, steps=200, constraint=[SQUARE, ls.Restrain(q, center, k)], seed=1, backend=backend,
            record=ls.Record(10, ["position"]),
        )  # fmt: skip
        x, y = np.moveaxis(run.position.values[:, 8:], -1, 0)
        plain = {"name": x, "number": y, "formula": 2 * x}.get(kind, x - y) - center
        d = plain - period * np.round(plain / period)
        assert abs(z_score((d**2).mean(axis=1), 1 / k)) < Z_MAX
        assert abs(z_score((d**2).mean(axis=1), 1.3 / k)) > Z_CONTROL
        assert abs(z_score((plain**2).mean(axis=1), 1 / k)) > Z_CONTROL


@pytest.mark.parametrize("rule", [ls.MALA(0.1), ls.EulerMaruyama(0.02), ls.BAOAB(0.1, 1.0)])
def test_backends_agree_on_springs_across_the_seam(rule):
    centers = np.repeat([3.0, -2.9, 0.0], 4)
    springs = [SQUARE, ls.Restrain("x", centers, 4.0), ls.Restrain("x - y", 0.3, 1.0), ls.Restrain("sin(y)", 0.5, 2.0)]
    runs = [
        ls.simulate(
            Expression("cos(x)*sin(y)", ["x", "y"]), rule, temperature=1.0, start=[3.0, 3.0], steps=60, seed=3,
            constraint=springs, backend=backend,
        )
        for backend in BACKENDS
    ]  # fmt: skip
    assert np.allclose(runs[0].position, runs[1].position, rtol=0, atol=1e-7)


def test_springs_without_a_period_are_refused():
    for q in ("x*y", "x**3*(2 + y)"):
        with pytest.raises(ConfigError, match="jumps by"):
            ls.simulate(
                NOTHING, ls.EulerMaruyama(0.1), temperature=1.0, steps=1, start=[0.1, 0.2],
                constraint=[SQUARE, ls.Restrain(q, 0.0, 1.0)],
            )  # fmt: skip
    rounded = ls.Periodic({"x": (-3.14159, 3.14159)})  # sin differs by 5e-6 at its ends: it has no period of that size
    run = ls.simulate(
        FLAT, ls.MALA(0.05), temperature=1.0, chains=400, steps=200, seed=3,
        constraint=[rounded, ls.Restrain("sin(x)", 0.0, 400.0)], record=ls.Record(200),
    )  # fmt: skip
    assert np.abs(np.sin(run.position)).max() < 0.3


# -- energies that are cut at the seam --------------------------------------------------------------------------------

WASHBOARD = Expression("-0.5*x + cos(x)", ["x"])
CALLABLE = Function(lambda x: -0.5 * x[..., 0] + x[..., 0].cos(), 1)


@pytest.mark.parametrize("rule", [ls.MALA(0.05), ls.HMC(0.1, 3)])
def test_metropolis_refuses_an_energy_that_is_cut(rule):
    with pytest.raises(ConfigError, match=r"V\(-3.14159\) - V\(3.14159\) = 3.14159 .* EulerMaruyama"):
        ls.simulate(WASHBOARD, rule, temperature=0.5, steps=1, constraint=CIRCLE)
    bend = Expression("x*(1 + y)", ["x", "y"])  # differs except at y = -1
    with pytest.raises(ConfigError, match="cut at the seam"):
        ls.simulate(bend, rule, temperature=0.5, steps=1, start=[0.0, -1.0], constraint=CIRCLE)
    for fair in ("cos(x) + sin(2*x)", "x**2", "cos(x) + 1e-6*x"):  # the last by less than a thousandth of T
        ls.simulate(Expression(fair, ["x"]), rule, temperature=0.5, steps=1, constraint=CIRCLE)
    ls.simulate(
        Expression("sin(x)", ["x"]), rule, temperature=0.1, steps=1, constraint=ls.Periodic({"x": (-3.14159, 3.14159)})
    )


def test_exchange_refuses_an_energy_that_is_cut_and_a_certificate_says_so():
    with pytest.raises(ConfigError, match="replica_exchange compares energies"):
        ls.replica_exchange(WASHBOARD, ls.EulerMaruyama(0.05), [0.5, 1.0], steps=1, swap_every=1, constraint=CIRCLE)
    settings = {"temperature": 0.5, "steps": 400, "chains": 20, "certify": True, "record": ls.Record(5)}
    run = ls.simulate(WASHBOARD, ls.EulerMaruyama(0.05), constraint=CIRCLE, **settings)
    assert "the energy jumps by 3.1 where 'x' closes" in run.certificate
    fair = ls.simulate(Expression("cos(x)", ["x"]), ls.EulerMaruyama(0.05), constraint=CIRCLE, **settings)
    assert "jumps" not in fair.certificate and "need a coordinate without walls" in fair.certificate
