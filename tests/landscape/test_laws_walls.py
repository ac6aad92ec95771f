"""Reflecting walls and periodic coordinates: laws in boxes and on circles, exact at any step."""

import math

import numpy as np
import pytest
from scipy.stats import chisquare

import landscape as ls
from landscape.errors import ConfigError, LandscapeError
from landscape.potentials import Expression, toys
from tests.cases import (
    LAW_BACKENDS,
    P_CONTROL,
    P_MIN,
    Z_CONTROL,
    Z_MAX,
    euler_law,
    gauss,
    modified_weights,
    time_average,
    z_score,
)

FLAT = Expression("0*x", ["x"])


# -- where a wall sends a coordinate ----------------------------------------------------------------------------------


def folded(x, low, high):
    """Mirror images by hand, one reflection at a time."""
    while not low <= x <= high:
        x = 2 * low - x if x < low else 2 * high - x
    return x


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.7, 1.9), (2.0, 2.25)])
def test_overshoot_is_folded_back(low, high, backend):
    """A constant force and one long step: the point lands wherever repeated mirrors send it."""
    middle = 0.5 * (low + high)
    for move in (0.1, 0.9, 1.7, 3.3, 10.9, -0.4, -2.6, -7.7, 123.4, -1000.3):
        slope = Expression("-f*x", ["x"], {"f": move})
        run = ls.simulate(
            slope, ls.SGD(1.0), start=[middle], steps=3, backend=backend, constraint=ls.Reflect({"x": (low, high)})
        )
        x = middle
        for found in run.position.values[0, :, 0]:
            x = folded(x + move, low, high)
            assert math.isclose(found, x, rel_tol=0, abs_tol=1e-10)
        assert np.allclose(run.energy[0], -move * run.position[0, :, 0], rtol=1e-13)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_one_open_side(backend):
    for walls, image in (((0.0, None), lambda x: abs(x)), ((None, 0.0), lambda x: -abs(x))):
        for move in (0.3, -0.3, 5.2, -5.2):
            slope = Expression("-f*x", ["x"], {"f": move})
            start = 0.1 if walls[1] is None else -0.1
            run = ls.simulate(
                slope, ls.SGD(1.0), start=[start], steps=4, backend=backend, constraint=ls.Reflect({"x": walls})
            )
            x = start
            for found in run.position.values[0, :, 0]:
                x = image(x + move)
                assert math.isclose(found, x, rel_tol=0, abs_tol=1e-12)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_periods_wrap(backend):
    low, high = -1.0, 2.5
    for move in (0.4, -0.4, 3.5, 8.1, -1000.7):
        slope = Expression("-f*x", ["x"], {"f": move})
        run = ls.simulate(
            slope, ls.SGD(1.0), start=[0.3], steps=5, backend=backend, constraint=ls.Periodic({"x": (low, high)})
        )
        exact = (0.3 + move * np.arange(1, 6) - low) % (high - low) + low
        assert np.allclose(run.position[0, :, 0], exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.always
def test_nobody_is_ever_outside(backend):
    """Bounds of the potential, walls that replace them, and a period, with steps from tiny to enormous."""
    landscape = Expression("x**2 - 3*y + z", ["x", "y", "z"], bounds={"y": (-1.0, 2.0), "z": (0.0, 1.0)})
    constraint = [ls.Periodic({"x": (-0.5, 0.5)}), ls.Reflect({"z": (0.2, 0.6)})]
    for rule in (ls.EulerMaruyama, ls.LeimkuhlerMatthews, ls.Diffusion):
        for dt in (1e-4, 0.1, 0.9):
            run = ls.simulate(
                landscape,
                rule(dt),
                temperature=3.0,
                start=[0.0, 0.0, 0.4],
                chains=40,
                steps=200,
                constraint=constraint,
                seed=1,
                backend=backend,
            )
            x, y, z = np.moveaxis(run.position.values, -1, 0)
            assert x.min() >= -0.5 and x.max() < 0.5
            assert y.min() >= -1.0 and y.max() <= 2.0
            assert z.min() >= 0.2 and z.max() <= 0.6
            if dt > 1e-3:
                assert np.ptp(x) > 0.95 and np.ptp(y) > 2.8 and np.ptp(z) > 0.39
            inside = run.last_position.values
            assert np.array_equal(inside, run.position.values[:, -1])


@pytest.mark.parametrize(
    "rule", [ls.SGD(0.3, momentum=0.9), ls.Adam(0.3), ls.AdamW(0.3)], ids=lambda r: type(r).__name__
)
@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_optimisers_stay_inside(rule, backend):
    slope = Expression("x + y**2", ["x", "y"], bounds={"x": (-1.0, 1.0), "y": (0.5, None)})
    run = ls.simulate(slope, rule, start=[0.0, 0.7], steps=100, backend=backend)
    assert np.all(np.abs(run.position[..., 0]) <= 1.0)
    assert np.all(run.position[..., 1] >= 0.5)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_walls_that_make_no_sense(backend):
    settings = {"temperature": 1.0, "steps": 3, "backend": backend}
    diffuse = ls.Diffusion(0.1)
    for constraint in (
        ls.Reflect({"q": (0.0, 1.0)}),
        ls.Periodic({"q": (0.0, 1.0)}),
        [ls.Reflect({"x": (-1.0, 1.0)}), ls.Periodic({"x": (-1.0, 1.0)})],
        "x > 0",
    ):
        with pytest.raises(LandscapeError):
            ls.simulate(FLAT, diffuse, constraint=constraint, **settings)
    for make in (ls.Reflect, ls.Periodic):
        for pair in ((1.0, 0.0), (0.0, 0.0), (0.0, math.nan), (0.0,)):
            with pytest.raises(LandscapeError):
                ls.simulate(FLAT, diffuse, constraint=make({"x": pair}), **settings)
    with pytest.raises(LandscapeError):
        ls.simulate(FLAT, diffuse, constraint=ls.Periodic({"x": (0.0, None)}), **settings)
    with pytest.raises(ConfigError, match="wall"):
        ls.simulate(FLAT, diffuse, start=[1.5], constraint=ls.Reflect({"x": (0.0, 1.0)}), **settings)


# -- free diffusion between walls and round a circle ------------------------------------------------------------------


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("dt", [0.002, 0.1, 3.0, 500.0])
def test_modes_of_a_box(dt, backend):
    """<cos(m pi (x_n - a)/L)> = cos(m pi (x_0 - a)/L) exp(-(m pi/L)^2 T n dt): exact at any step."""
    low, width, start, temperature = -0.4, 1.3, -0.3, 0.8
    run = ls.simulate(
        FLAT,
        ls.Diffusion(dt),
        temperature=temperature,
        start=[start],
        chains=20_000,
        steps=12,
        record=ls.Record(4),
        constraint=ls.Reflect({"x": (low, low + width)}),
        seed=4,
        backend=backend,
    )
    x = run.position.values[..., 0]
    for mode in (1, 2, 3, 4):
        wave = mode * math.pi / width
        exact = math.cos(wave * (start - low)) * np.exp(-(wave**2) * temperature * run.time.values)
        assert np.all(np.abs(z_score(np.cos(wave * (x - low)), exact)) < Z_MAX)
        if dt == 0.002 and mode < 3:
            slow = math.cos(wave * (start - low)) * np.exp(-(wave**2) * temperature * run.time.values / 2)
            assert abs(z_score(np.cos(wave * (x[:, -1] - low)), slow[-1])) > Z_CONTROL


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("dt", [0.001, 0.1, 3.0, 500.0])
def test_modes_of_a_circle(dt, backend):
    """<exp(i m w x_n)> = exp(i m w x_0 - (m w)^2 T n dt) with w = 2 pi / L."""
    low, width, start, temperature = -0.4, 1.7, 0.5, 0.3
    run = ls.simulate(
        FLAT,
        ls.Diffusion(dt),
        temperature=temperature,
        start=[start],
        chains=20_000,
        steps=12,
        record=ls.Record(4),
        constraint=ls.Periodic({"x": (low, low + width)}),
        seed=5,
        backend=backend,
    )
    x = run.position.values[..., 0]
    for mode in (1, 2, 3):
        wave = mode * 2 * math.pi / width
        decay = np.exp(-(wave**2) * temperature * run.time.values)
        assert np.all(np.abs(z_score(np.cos(wave * x), math.cos(wave * start) * decay)) < Z_MAX)
        assert np.all(np.abs(z_score(np.sin(wave * x), math.sin(wave * start) * decay)) < Z_MAX)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("dt", [0.05, 1.0, 40.0])
def test_uniform_in_a_box(dt, backend):
    """A uniform start stays uniform, corners included, whatever the step."""
    chains, sides = 20_000, 10
    rng = np.random.default_rng(3)
    start = rng.uniform([0.0, -2.0], [1.0, 1.0], size=(chains, 2))
    run = ls.simulate(
        Expression("0*x + 0*y", ["x", "y"]),
        ls.Diffusion(dt),
        temperature=1.0,
        start=start,
        steps=7,
        record=ls.Record(7),
        constraint=ls.Reflect({"x": (0.0, 1.0), "y": (-2.0, 1.0)}),
        seed=6,
        backend=backend,
    )
    counts, _, _ = np.histogram2d(*run.last_position.values.T, bins=sides, range=[[0, 1], [-2, 1]])
    assert counts.sum() == chains
    assert chisquare(counts.ravel()).pvalue > P_MIN
    tilted = counts * (1 + 0.15 * np.sign(np.arange(sides) - 4.5))
    assert chisquare(tilted.ravel()).pvalue < P_CONTROL


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("dt", [0.0025, 0.04, 3.0])
def test_averaged_noise_is_uniform_in_a_box(dt, backend):
    chains = 20_000
    start = np.random.default_rng(3).uniform(0.0, 1.0, size=(chains, 1))
    run = ls.simulate(
        FLAT,
        ls.LeimkuhlerMatthews(dt),
        temperature=0.5,
        start=start,
        steps=60,
        record=ls.Record(60),
        constraint=ls.Reflect({"x": (0.0, 1.0)}),
        seed=6,
        backend=backend,
    )
    x = run.last_position.values[:, 0]
    assert abs(z_score(np.cos(2 * np.pi * x), 0.0)) < Z_MAX
    assert chisquare(np.histogram(x, 20, (0.0, 1.0))[0]).pvalue > P_MIN


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_averaged_noise_is_uniform_on_a_circle(backend):
    run = ls.simulate(
        FLAT,
        ls.LeimkuhlerMatthews(0.04),
        temperature=0.5,
        start=np.random.default_rng(3).uniform(0.0, 1.0, size=(20_000, 1)),
        steps=60,
        record=ls.Record(60),
        constraint=ls.Periodic({"x": (0.0, 1.0)}),
        seed=6,
        backend=backend,
    )
    x = run.last_position.values[:, 0]
    assert abs(z_score(np.cos(2 * np.pi * x), 0.0)) < Z_MAX
    assert chisquare(np.histogram(x, 20, (0.0, 1.0))[0]).pvalue > P_MIN


# -- the exponential wall behind its cutoff ---------------------------------------------------------------------------


def wall_force(form, a, prefactor):
    if form == "exponential":
        return lambda x: -a * prefactor * np.exp(a * x)
    return lambda x: -a * prefactor * np.exp(a * x) / (1 + prefactor * np.exp(a * x))


def wall_law(form, a, prefactor, cutoff, temperature, dt):
    """Nodes and exact probabilities of the discrete dynamics reflected at -cutoff."""
    nodes, weights = gauss(-cutoff, 3.2 / a if form == "exponential" else 14 * temperature / a + 2, 70, 12)
    images = lambda x: [x, -2 * cutoff - x]  # noqa: E731
    return nodes, euler_law(wall_force(form, a, prefactor), temperature, dt, nodes, weights, images)


WALLS = [
    ("softplus", 1.0, 1.0, 3.0, 0.5),
    ("exponential", 1.0, 1.0, 3.0, 0.5),
    ("softplus", 2.0, 0.5, 1.5, 0.9),
    ("exponential", 2.0, 0.5, 1.5, 0.3),
]


@pytest.mark.parametrize(("form", "a", "prefactor", "cutoff", "temperature"), WALLS)
def test_reference_law_of_the_wall(form, a, prefactor, cutoff, temperature):
    """The transition matrix tends to the closed form to first order in the step: the reference of the next test."""
    toy = toys.ExponentialWall(a, prefactor, cutoff, form)
    errors = []
    for dt in (0.01, 0.005, 0.0025):
        nodes, law = wall_law(form, a, prefactor, cutoff, temperature, dt / a**2)
        errors.append(law @ toy.energy(nodes[:, None]) - toy.mean_energy(temperature))
    assert abs(errors[0]) < 0.02 * toy.mean_energy(temperature)
    assert abs(2 * errors[2] - errors[1]) < 0.03 * abs(errors[0])


@pytest.mark.parametrize(
    ("backend", "form", "a", "prefactor", "cutoff", "temperature"),
    [("compiled", *wall) for wall in WALLS] + [("batched", *wall) for wall in WALLS[:2]],
)
@pytest.mark.always
def test_exponential_wall(backend, form, a, prefactor, cutoff, temperature):
    dt = 0.04 / a**2
    chains, steps = {"compiled": (2000, 6000), "batched": (3000, 1300)}[backend]
    toy = toys.ExponentialWall(a, prefactor, cutoff, form)
    nodes, law = wall_law(form, a, prefactor, cutoff, temperature, dt)
    start = np.linspace(-cutoff, 0.0, chains)[:, None]
    found = {}
    for heating in (1.0, 1.05**2) if backend == "compiled" else (1.0,):
        settings = {"temperature": heating * temperature, "seed": 8, "backend": backend}
        warm = ls.simulate(toy, ls.EulerMaruyama(dt), start=start, steps=500, record=ls.Record(500), **settings)
        run = ls.simulate(
            toy, ls.EulerMaruyama(dt), start=warm, state="keep", steps=steps, record=ls.Record(10), **settings
        )
        x, energy = run.position.values[..., 0], run.energy.values
        assert x.min() >= -cutoff
        mean = law @ toy.energy(nodes[:, None])
        square = law @ toy.energy(nodes[:, None]) ** 2
        near = law @ np.clip(-cutoff + 1 - nodes, 0, None)
        found[heating] = np.array(
            [
                z_score(time_average(energy), mean),
                z_score(time_average(energy**2), square),
                z_score(time_average(x), law @ nodes),
                z_score(time_average(np.clip(-cutoff + 1 - x, 0, None)), near),
            ]
        )
        if heating == 1.0 and backend == "compiled":
            other = "softplus" if form == "exponential" else "exponential"
            wrong = toys.ExponentialWall(a, prefactor, cutoff, other).mean_energy(temperature)
            assert abs(z_score(time_average(energy), wrong)) > Z_CONTROL
    assert np.all(np.abs(found[1.0]) < Z_MAX)
    assert backend == "batched" or np.abs(found[1.05**2]).max() > Z_CONTROL


# -- the pendulum -----------------------------------------------------------------------------------------------------


def circle_law(force, temperature, dt):
    nodes = -math.pi + 2 * math.pi * (np.arange(512) + 0.5) / 512
    images = lambda x: [x + 2 * math.pi * turn for turn in range(-3, 4)]  # noqa: E731
    return nodes, euler_law(force, temperature, dt, nodes, np.full(512, 2 * math.pi / 512), images)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_pendulum(backend):
    temperature, dt = 0.6, 0.1
    chains, steps = {"compiled": (3000, 2000), "batched": (1500, 1000)}[backend]
    pendulum = Expression("1 - cos(phi) + sin(2*phi)/4", ["phi"])
    nodes, law = circle_law(lambda p: -np.sin(p) - np.cos(2 * p) / 2, temperature, dt)
    boltzmann = np.exp(-(1 - np.cos(nodes) + np.sin(2 * nodes) / 4) / temperature)
    boltzmann /= boltzmann.sum()
    waves = (np.cos, np.sin, lambda p: np.cos(2 * p), lambda p: np.sin(2 * p))
    for heating in (1.0, 1.05**2):
        settings = {"seed": 9, "backend": backend, "constraint": ls.Periodic({"phi": (-math.pi, math.pi)})}
        settings |= {"temperature": heating * temperature, "start": np.linspace(-3.1, 3.1, chains)[:, None]}
        warm = ls.simulate(pendulum, ls.EulerMaruyama(dt), steps=150, record=ls.Record(150), **settings)
        run = ls.simulate(
            pendulum,
            ls.EulerMaruyama(dt),
            steps=steps,
            record=ls.Record(5),
            **(settings | {"start": warm}),
            state="keep",
        )
        phi = run.position.values[..., 0]
        found = np.array([z_score(time_average(wave(phi)), law @ wave(nodes)) for wave in waves])
        if heating == 1.0:
            assert np.all(np.abs(found) < Z_MAX)
            if backend == "compiled":  # the continuum's law is told apart
                continuum = np.array([z_score(time_average(wave(phi)), boltzmann @ wave(nodes)) for wave in waves])
                assert np.abs(continuum).max() > Z_CONTROL
        else:
            assert np.abs(found).max() > Z_CONTROL


# -- no flux in equilibrium -------------------------------------------------------------------------------------------


def current(tilt, temperature):
    """Mean velocity of dx = (tilt - sin x) dt + sqrt(2T) dW on the circle (Stratonovich), by quadrature."""
    x, w = gauss(0.0, 2 * math.pi, 40, 12)
    effective = lambda y: 1 - np.cos(y) - tilt * y  # noqa: E731
    forward = np.array([np.sum(w * np.exp(effective(a + x) / temperature)) for a in x])
    inverse = np.sum(w * np.exp(-effective(x) / temperature) * forward)
    return 2 * math.pi * temperature * (1 - math.exp(-2 * math.pi * tilt / temperature)) / inverse


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_flux_round_a_circle(backend):
    """A pendulum at rest carries no current; under a constant torque it carries the exact one."""
    temperature, dt = 0.8, 0.02
    chains, steps = {"compiled": (2000, 6000), "batched": (1000, 1500)}[backend]
    for tilt in (0.0, 0.7):
        pendulum = Expression("1 - cos(phi) - f*phi", ["phi"], {"f": tilt})
        run = ls.simulate(
            pendulum,
            ls.EulerMaruyama(dt),
            temperature=temperature,
            start=np.linspace(-3.0, 3.0, chains)[:, None],
            steps=steps + 500,
            record=ls.Record(10),
            constraint=ls.Periodic({"phi": (-math.pi, math.pi)}),
            seed=10,
            backend=backend,
        )
        phi = run.position.values[:, 50:, 0]
        moves = np.diff(phi, axis=1)
        moves = (moves + math.pi) % (2 * math.pi) - math.pi  # ten steps move by 0.6, far less than half a turn
        velocity = moves.mean(axis=1) / (10 * dt)
        exact = current(tilt, temperature) if tilt else 0.0
        assert abs(z_score(velocity, exact)) < Z_MAX
        assert (abs(z_score(velocity, 0.0)) > Z_CONTROL) == (tilt > 0)
        if tilt:
            assert abs(z_score(velocity, tilt)) > Z_CONTROL


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_no_flux_round_a_valley(backend):
    """Detailed balance in two dimensions: <a(t) b(t + s)> = <b(t) a(t + s)>; a force with a curl breaks it."""
    temperature, dt, lag = 1.0, 0.01, 4
    chains, steps = {"compiled": (2000, 6000), "batched": (1000, 1500)}[backend]
    valley = toys.Valley("1 + y**2", bounds={"y": (-1.5, 1.5)})
    start = np.stack([np.linspace(-0.5, 0.5, chains), np.linspace(-1.4, 1.4, chains)], axis=1)
    run = ls.simulate(
        valley, ls.EulerMaruyama(dt), temperature=temperature, start=start, steps=steps + 500, record=ls.Record(10),
        seed=11, backend=backend,
    )  # fmt: skip
    x, y = np.moveaxis(run.position.values[:, 50:], -1, 0)
    assert np.abs(y).max() <= 1.5
    for a, b in ((x**2, y**2), (x * y, x), (x, y), (x**2, np.cos(y))):
        turning = time_average(a[:, :-lag] * b[:, lag:] - b[:, :-lag] * a[:, lag:])
        assert abs(z_score(turning, 0.0)) < Z_MAX
        spun = time_average(a[:, :-lag] * (b[:, lag:] + 0.3 * a[:, :-lag]) - b[:, :-lag] * a[:, lag:])
        assert abs(z_score(spun, 0.0)) > Z_CONTROL


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_gas_under_gravity(backend):
    """V = g x above a floor: exponential law of the height, its discrete law, and no net drift."""
    gravity, temperature, dt = 2.0, 0.5, 0.02
    chains, steps = {"compiled": (4000, 4000), "batched": (1500, 1200)}[backend]
    column = Expression("g*x", ["x"], {"g": gravity}, bounds={"x": (0.0, None)})
    nodes, weights = gauss(0.0, 6.0, 120, 12)
    law = euler_law(lambda x: -gravity + 0 * x, temperature, dt, nodes, weights, lambda x: [x, -x])
    settings = {"temperature": temperature, "seed": 12, "backend": backend, "start": [0.2], "chains": chains}
    run = ls.simulate(column, ls.EulerMaruyama(dt), steps=steps + 200, record=ls.Record(5), **settings)
    x = run.position.values[:, 40:, 0]
    for power in (1, 2):
        assert abs(z_score(time_average(x**power), law @ nodes**power)) < Z_MAX
    assert abs(z_score(time_average(np.diff(x, axis=1)), 0.0)) < Z_MAX
    boltzmann = modified_weights(column, temperature, 0.0, nodes[:, None], weights)
    assert abs(boltzmann @ nodes - temperature / gravity) < 1e-8
    assert abs(z_score(1.1025 * time_average(x), law @ nodes)) > Z_CONTROL
