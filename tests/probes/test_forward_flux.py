"""Forward-flux sampling: rates of barriers against quadratures, free diffusion against its closed form, coverage."""

import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigError, ConvergenceError
from landscape.potentials import DoubleWell, Expression
from landscape.probes import rates
from landscape.probes.rates.forward_flux import ratio
from tests.cases import Z_CONTROL, Z_MAX

BOX = Expression("0*x", ["x"], bounds={"x": (0.0, None)})


def passage_time(energy, temperature, a, b, low=-2.5, points=200_001):
    """Mean first-passage time from a to b: int_a^b e^{V/T} dy / T int_low^y e^{-V/T} dz."""
    x = np.linspace(low, b, points)
    h = x[1] - x[0]
    weight = np.exp(-energy(x) / temperature)
    below = np.concatenate([[0.0], np.cumsum(0.5 * (weight[1:] + weight[:-1])) * h])
    outer = np.where(x >= a, np.exp(energy(x) / temperature) * below / temperature, 0.0)
    return float(np.trapezoid(outer, x))


def chain_passage_time(height, dt, a, b, between_steps, t=0.25, low=-1.9, points=900):
    """Mean passage time of Euler's chain itself in the well h (x^2 - 1)^2: (1 - P) m = dt on a grid up to b.

    P are Gaussian steps, less those that a Brownian path takes over b and back.
    """
    edges = np.linspace(low, b, points + 1)
    x, h = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
    away = x - (x - dt * 4.0 * height * x * (x**2 - 1.0))[:, None]
    kernel = np.exp(-(away**2) / (4 * t * dt)) / np.sqrt(4 * np.pi * t * dt) * h
    if between_steps:
        kernel *= 1.0 - np.exp(-(b - x) * (b - x[:, None]) / (t * dt))
    return float(np.interp(a, x, np.linalg.solve(np.eye(points) - kernel, np.full(points, dt))))


def crossed(coordinate, height, dt, a, b, **settings):
    """A result and the exact rate of the discrete chain."""
    exact = 1.0 / chain_passage_time(height, dt, -0.8, 0.9, coordinate == "x")
    found = rates.forward_flux(
        DoubleWell(height=height), ls.EulerMaruyama(dt=dt), coordinate, a, b, 0.25, start=[np.sign(a)], **settings
    )
    return found, exact


def test_a_barrier_of_fifteen_temperatures():
    levels = -np.sqrt(1.0 - np.sqrt(np.arange(4.0, 14.9, 1.2) / 15.0))  # 1.2 T apart
    found, exact = crossed("x", 3.75, 4e-3, -0.8, 0.9, interfaces=levels, copies=60, seed=7)
    plain = 1.0 / passage_time(lambda x: 3.75 * (x**2 - 1) ** 2, 0.25, -0.8, 0.9)
    assert plain < 1.1e-6 and abs(exact / plain - 1) < 0.03  # a plain run would wait for 10^8 steps
    relative = float(found.rate_stderr / found.rate)
    assert relative < 0.25
    assert abs(float(found.rate - exact)) < Z_MAX * float(found.rate_stderr)
    assert abs(float(found.rate - 3 * exact)) > Z_CONTROL * float(found.rate_stderr)
    np.testing.assert_allclose(found.rate, found.flux * found.probability, rtol=1e-12)


@pytest.mark.parametrize(("coordinate", "a"), [("x", 0.8), ("1.0*x", 0.8), ("1.0*x", -0.8)])
def test_steps_over_interfaces(coordinate, a):
    """Interfaces closer than a step: who steps over two has crossed both; named and by a formula, up and down."""
    between = [s * -np.sign(a) for s in np.linspace(-0.55, 0.5, 22)]
    found, exact = crossed(coordinate, 1.25, 1e-2, a, -0.9 * np.sign(a), interfaces=between, copies=40, seed=3)
    error = float(found.rate_stderr / exact)
    assert error < 0.25 and abs(float(found.rate / exact) - 1.0) < Z_MAX * error
    assert abs(float(found.rate / exact) - 2.0) > Z_CONTROL * error


def test_inertia_keeps_momenta():
    """Free flight with strong friction is diffusion; the bit of flight at each turn matters by one mean path."""
    friction, t = 20.0, 1.0
    found = rates.forward_flux(
        BOX, ls.BAOAB(dt=0.01, friction=friction), "x", 0.4, 2.5, t, interfaces=[0.9, 1.4], start=[0.1], copies=20,
        seed=1,
    )  # fmt: skip
    exact = 2.0 * (t / friction) / (2.5**2 - 0.4**2)
    assert abs(float(found.rate / exact) - 1.0) < 0.1 + Z_MAX * float(found.rate_stderr / exact)


def free(copies, replicas, seed):
    rule = ls.EulerMaruyama(dt=6e-3)
    return rates.forward_flux(
        BOX, rule, "x", 0.4, 2.5, 1.0, interfaces=[0.8, 1.3], start=[0.1], copies=copies, replicas=replicas, seed=seed
    )


@pytest.mark.always
def test_intervals_cover():
    """Two hundred calculations of eight replicas: mean passage time (b^2 - a^2)/2T from a mirror at 0."""
    found = free(10, 1600, 5)
    exact = 2.0 / (2.5**2 - 0.4**2)
    assert abs(float(found.rate - exact)) < Z_MAX * float(found.rate_stderr)
    assert abs(float(found.probability) - 0.4 / 2.1) < Z_MAX * float(found.probability_stderr)
    parts = [found[name].values.reshape(200, 8) for name in ("replica_probability", "replica_cycle")]
    mean, error = ratio(*parts)
    np.testing.assert_allclose(ratio(*(part.ravel() for part in parts)), (found.rate, found.rate_stderr), rtol=1e-12)
    inside = np.abs(mean - exact) < 1.96 * error
    assert 0.90 <= inside.mean() <= 0.985
    assert (np.abs(mean - exact) < 1.96 * error / 2).mean() < 0.90  # half the error does not cover


def test_the_same_seed_gives_the_same_bits():
    first, again, other = free(10, 8, 1), free(10, 8, 1), free(10, 8, 2)
    assert first.identical(again) and float(first.rate) != float(other.rate)


def test_a_run_lends_its_dynamics():
    run = ls.simulate(DoubleWell(), ls.EulerMaruyama(dt=2e-3), temperature=0.25, chains=20, steps=200, start=[-1.0])
    found = rates.forward_flux(DoubleWell(), run, "x", -0.8, 0.9, copies=20, seed=1)
    assert found.attrs["temperature"] == 0.25
    assert ((found.conditional_probability[:-1] > 0.15) & (found.conditional_probability[:-1] < 0.6)).all()
    exact = 1.0 / chain_passage_time(1.0, 2e-3, -0.8, 0.9, True)
    assert abs(float(found.rate - exact)) < Z_MAX * float(found.rate_stderr) < 2 * exact


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a": 0.9}, "two different"), ({"a": -1.2}, "no start is in A"), ({"temperature": None}, "temperature"),
        ({"integrator": ls.SGD(lr=0.1)}, "thermal noise"), ({"interfaces": [0.5, 0.2]}, "interfaces must be"),
        ({"replicas": 3}, "replicas"), ({"probability": 0.99}, "probability"),
        ({"integrator": ls.EulerMaruyama(dt=[1e-3, 2e-3])}, "one the step size"),
    ],
)  # fmt: skip
def test_refused(change, words):
    given = {"integrator": ls.EulerMaruyama(dt=1e-3), "a": -0.9, "b": 0.9, "temperature": 0.25, "start": [-1.0]}
    settings = given | change
    with pytest.raises(ConfigError, match=words):
        rates.forward_flux(DoubleWell(), coordinate="x", **settings)


def test_stuck_copies_are_an_error():
    with pytest.raises(ConvergenceError, match="have reached neither"):
        rates.forward_flux(
            DoubleWell(height=10.0), ls.EulerMaruyama(dt=1e-3), "x", -0.9, 0.9, 0.1, start=[-1.0],
            interfaces=[0.0, 0.5], most_steps=1000, copies=10, replicas=8,
        )  # fmt: skip
