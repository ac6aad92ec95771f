"""Absorbing walls: exit times and sides against closed forms, quadratures, and the exact law of discrete time.

Free diffusion from x in (0, L): mean exit time x (L - x)/(2T), probability x/L to leave at L, <exp(-s t)> =
cosh[(x - L/2) q]/cosh(L q/2) with q = sqrt(s/T). A wall looked at only between steps acts as if it stood
0.5826 sqrt(2 T dt) farther out.
"""

import math

import numpy as np
import pytest

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import Expression, toys
from tests.cases import BACKENDS, INTEGRATORS, LAW_BACKENDS, LONG_ONLY, Z_CONTROL, Z_MAX, gauss, z_score

FLAT = Expression("0*x", ["x"])
SHIFT = 0.5826


def exits(potential, rule, wall, *, start, temperature, chains, time, seed, backend="compiled"):
    """Exit times and sides of a run so long that everybody leaves."""
    steps = int(time / rule.dt)
    run = ls.simulate(
        potential, rule, temperature=temperature, start=start, chains=chains, steps=steps, record=ls.Record(steps),
        constraint=ls.Absorb(wall), seed=seed, backend=backend,
    )  # fmt: skip
    assert run.exit_time.dims == ("chain",) and run.exit_side.dims == ("chain",)
    assert not np.isnan(run.exit_time.values).any()
    return run.exit_time.values, run.exit_side.values


# -- free diffusion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize(
    ("length", "fraction", "temperature"), [(1.0, 0.5, 1.0), (1.0, 0.2, 1.0), (1.7, 0.5, 1.0), (1.0, 0.5, 0.3)]
)
@pytest.mark.always
def test_exit_from_an_interval(length, fraction, temperature, backend):
    x, unit = fraction * length, length**2 / temperature
    dt, chains = (2e-4 * unit, 5000) if backend == "compiled" else (2e-3 * unit, 2000)
    times, sides = exits(
        FLAT, ls.Diffusion(dt), {"x": (0.0, length)}, start=[x], temperature=temperature, chains=chains, time=2 * unit,
        seed=81, backend=backend,
    )  # fmt: skip
    mean = x * (length - x) / (2 * temperature)
    assert abs(z_score(times, mean)) < Z_MAX
    assert abs(z_score(times, 1.3 * mean)) > Z_CONTROL
    assert set(np.unique(sides)) == {-1, 1}
    assert abs(z_score(sides > 0, fraction)) < Z_MAX
    for s in (2 / unit, 10 / unit):
        q = math.sqrt(s / temperature)
        exact = math.cosh((x - length / 2) * q) / math.cosh(length * q / 2)
        assert abs(z_score(np.exp(-s * times), exact)) < Z_MAX
    # An escape over the upper side alone takes (L^2 - x^2)/(6T).
    assert abs(z_score(times[sides > 0], (length**2 - x**2) / (6 * temperature))) < Z_MAX


@pytest.mark.parametrize("dt", [0.002, 0.01])
def test_walls_looked_at_only_between_steps_are_hit_late(dt):
    """The same diffusion, its crossings sought in the recorded positions: late by the known shift of both walls."""
    temperature, length, chains = 1.0, 1.0, 5000
    steps = int(2.0 / dt)
    run = ls.simulate(
        FLAT, ls.Diffusion(dt), temperature=temperature, start=[0.5], chains=chains, steps=steps, seed=82,
        record=ls.Record(1, ["position"]), backend="compiled",
    )  # fmt: skip
    outside = np.abs(run.position.values[..., 0] - 0.5) > length / 2
    assert outside.any(axis=1).all()
    looked = dt * (outside.argmax(axis=1) + 1)
    times, _ = exits(
        FLAT, ls.Diffusion(dt), {"x": (0.0, length)}, start=[0.5], temperature=temperature, chains=chains, time=2.0,
        seed=83,
    )  # fmt: skip
    exact = length**2 / (8 * temperature)
    late = (length + 2 * SHIFT * math.sqrt(2 * temperature * dt)) ** 2 / (8 * temperature)
    assert abs(z_score(looked, exact)) > Z_CONTROL
    assert abs(z_score(looked, late)) < Z_MAX
    # A crossing lies somewhere within its step, and both walls are a few sqrt(2 T dt) away.
    assert abs(z_score(times - dt / 2, exact)) < Z_MAX or abs(z_score(times, exact)) < Z_MAX


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_one_open_side(backend):
    """Levy's law of the first passage: P(t < tau) = erfc(d / sqrt(4 T tau)); the rest stays, with NaN and side 0."""
    for wall, side, start in (((None, 1.0), 1, 0.2), ((-0.5, None), -1, 0.2)):
        distance = abs((wall[0] if wall[1] is None else wall[1]) - start)
        for temperature in (0.5, 1.5):
            run = ls.simulate(
                FLAT, ls.Diffusion(0.01), temperature=temperature, start=[start], chains=5000, steps=200,
                record=ls.Record(100), constraint=ls.Absorb({"x": wall}), seed=84, backend=backend,
            )  # fmt: skip
            times, sides = run.exit_time.values, run.exit_side.values
            gone = ~np.isnan(times)
            assert np.array_equal(sides, np.where(gone, side, 0))
            assert abs(z_score(gone, math.erfc(distance / math.sqrt(4 * temperature * 2.0)))) < Z_MAX
            assert abs(z_score(gone, math.erfc(distance / math.sqrt(8 * temperature * 2.0)))) > Z_CONTROL
            assert np.all(times[gone] > 0) and np.all(times[gone] <= 2.0 + 1e-12)
            early = gone & (np.nan_to_num(times, nan=9.0) <= 1.0)
            left, later = np.moveaxis(run.position.values[early], 1, 0)
            assert np.array_equal(left, later)  # it stays where it left
            here = run.last_position.values[:, 0]
            assert np.all(here[~gone] < 1.0) if side > 0 else np.all(here[~gone] > -0.5)


@pytest.mark.filterwarnings("ignore:a step goes")  # steps are long against the way between the walls
@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_integrator_is_absorbed(name, backend):
    """Nobody is beyond a wall, whoever left lies on it, and the two sides of a symmetric well see as many leave."""
    rule = INTEGRATORS[name](0.04)
    settings = {"temperature": 0.5 if rule.thermal else 0.0, "start": np.tile([[-0.1], [0.1]], (150, 1)), "steps": 400}
    wall = {"x": (-0.5, 0.5)}
    hill = Expression("-2*x**2", ["x"])
    run = ls.simulate(
        hill, rule, record=ls.Record(100), constraint=ls.Absorb(wall), seed=80, backend=backend, **settings
    )
    x, times, sides = run.last_position.values[:, 0], run.exit_time.values, run.exit_side.values
    gone = ~np.isnan(times)
    assert gone.all()
    assert np.allclose(x, 0.5 * sides, rtol=0, atol=1e-6)
    assert np.abs(run.position).max() <= 0.5 + 1e-6
    assert abs(z_score(sides, 0.0)) < Z_MAX


@pytest.mark.parametrize("name", INTEGRATORS)
def test_backends_agree_on_exits(name):
    """The same noise and the same test between steps: rounding may turn one exit in many."""
    rule, hill = INTEGRATORS[name](0.02), Expression("cos(x) + x*y/5 + y**2/2", ["x", "y"])
    settings = {"start": [0.3, 0.2], "chains": 200, "steps": 60, "temperature": 0.6 if rule.thermal else 0.0}
    first, second = (
        ls.simulate(hill, rule, constraint=ls.Absorb({"x": (-0.6, None)}), seed=80, backend=backend, **settings)
        for backend in BACKENDS
    )
    same = np.isclose(first.exit_time, second.exit_time, equal_nan=True)
    assert same.mean() > 0.98
    assert np.allclose(first.last_position[same], second.last_position[same], rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_metropolis_leaves_an_interval(backend):
    """Free diffusion again: every move of MALA is accepted, walls that absorb turn none of them down."""
    times, sides = exits(
        FLAT, ls.MALA(2e-3), {"x": (0.0, 1.0)}, start=[0.3], temperature=1.0, chains=1000, time=1.6, seed=80,
        backend=backend,
    )  # fmt: skip
    assert abs(z_score(times, 0.105)) < Z_MAX
    assert abs(z_score(sides > 0, 0.3)) < Z_MAX
    assert abs(z_score(times, 1.5 * 0.105)) > Z_CONTROL


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_temperature_and_step_of_every_chain(backend):
    """Exits of one temperature and step per chain, and of a ramp: on the clock s = int T dt all leave like T = 1."""
    temperature, dt = np.repeat([0.4, 1.5], 2000), np.tile([0.004, 0.002], 2000)
    settings = {"start": [0.5], "constraint": ls.Absorb({"x": (0.0, 1.0)}), "seed": 84, "backend": backend}
    run = ls.simulate(FLAT, ls.Diffusion(dt), temperature=temperature, steps=2200, record=ls.Record(2200), **settings)
    for hot in (0.4, 1.5):
        for step in (0.004, 0.002):
            times = run.exit_time.values[(temperature == hot) & (dt == step)]
            assert abs(z_score(times, 1 / (8 * hot))) < Z_MAX
            assert abs(z_score(times, 1.3 / (8 * hot))) > Z_CONTROL
    run = ls.simulate(
        FLAT, ls.Diffusion(0.002), temperature=ls.ramp(0.2, 2.0, 0.5), chains=2000, steps=700,
        record=ls.Record(700), **settings,
    )  # fmt: skip
    t = run.exit_time.values
    clock = np.where(t < 0.5, 0.2 * t + 1.8 * t**2, 0.55 + 2 * (t - 0.5))
    assert abs(z_score(clock, 1 / 8)) < Z_MAX
    assert abs(z_score(0.2 * t, 1 / 8)) > Z_CONTROL


def test_the_coordinate_of_the_exit():
    """A box with all sides open to leave; reflecting walls and absorbing ones together."""
    plane = Expression("0*x + 0*y", ["x", "y"])
    settings = {"temperature": 1.0, "start": [0.0, 0.0], "chains": 4000, "seed": 85, "record": ls.Record(3000)}
    run = ls.simulate(
        plane, ls.Diffusion(1e-3), steps=3000, constraint=ls.Absorb({"x": (-1.0, 1.0), "y": (-1.0, 1.0)}), **settings
    )
    gone = ~np.isnan(run.exit_time.values)
    along = run.exit_coordinate.values[gone]
    names = np.unique(along)
    assert len(names) == 2
    assert abs(z_score(along == names[0], 0.5)) < Z_MAX
    walls = [ls.Reflect({"y": (-1.0, 1.0)}), ls.Absorb({"x": (-1.0, 1.0)})]
    run = ls.simulate(plane, ls.Diffusion(1e-3), steps=3000, constraint=walls, **settings)
    gone = ~np.isnan(run.exit_time.values)
    slowest = math.pi**2 / 4
    staying = 4 / math.pi * (math.exp(-3 * slowest) - math.exp(-27 * slowest) / 3)  # first modes of |x| < 1 at time 3
    assert abs(z_score(gone, 1 - staying)) < Z_MAX
    assert len(np.unique(run.exit_coordinate.values[gone])) == 1
    assert np.all(np.abs(run.last_position.values[:, 1]) <= 1.0)


def test_absorbing_walls_that_make_no_sense():
    for wall in ({"q": (0.0, 1.0)}, {"x": (1.0, 0.0)}, {"x": (0.0, math.nan)}):
        with pytest.raises(LandscapeError):
            ls.simulate(FLAT, ls.Diffusion(0.1), temperature=1.0, steps=2, start=[0.5], constraint=ls.Absorb(wall))
    with pytest.raises(LandscapeError):
        ls.simulate(
            FLAT, ls.Diffusion(0.1), temperature=1.0, steps=2, start=[1.5], constraint=ls.Absorb({"x": (0.0, 1.0)})
        )


# -- the double well --------------------------------------------------------------------------------------------------


def discrete_passage(gradient, temperature, dt, start, target, low):
    """Mean of (steps until absorbed) dt for Euler-Maruyama with the bridge test between steps, by a linear system."""
    x, w = gauss(low, target, 120, 8)
    variance = 2 * temperature * dt

    def kernel(at):
        jump = x - (at - dt * gradient(at))[:, None]
        stays = 1 - np.exp(-(target - at)[:, None] * (target - x) / (temperature * dt))
        return w * stays * np.exp(-(jump**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    times = np.linalg.solve(np.eye(len(x)) - kernel(x), np.full(len(x), dt))
    return dt + (kernel(np.array([start])) @ times)[0]


def well_gradient(x):
    return 4 * x * (x**2 - 1)


PASSAGES = [  # temperature, start, target, mean time
    (0.25, -1.0, 0.0, 33.945744),
    (0.25, -1.0, 1.0, 69.263645),
    (1.0, -1.0, 0.0, 1.435859267),
    (1.0, -1.0, 1.0, 3.569434159),
]


@pytest.mark.parametrize(("temperature", "start", "target", "exact"), PASSAGES)
def test_reference_of_the_passages(temperature, start, target, exact):
    """The discrete law tends to the quadrature to first order in the step; the bridge leaves no term in sqrt(dt)."""
    assert abs(toys.DoubleWell().mean_first_passage_time(start, target, temperature) / exact - 1) < 1e-7
    found = [discrete_passage(well_gradient, temperature, dt, start, target, -2.6) for dt in (0.008, 0.004, 0.002)]
    assert abs(found[0] / exact - 1) < 0.05
    assert abs((found[0] - exact) / (found[1] - exact) - 2) < 0.3
    assert abs((2 * found[2] - found[1]) / exact - 1) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "start", "target", "exact"), PASSAGES)
def test_passages_of_the_double_well(temperature, start, target, exact):
    """At a small step within the error of the quadrature; at a large one, that of the discrete law and not of it."""
    for dt, chains in ((0.01, 1500), (0.03, 10_000)):
        times, sides = exits(
            toys.DoubleWell(), ls.EulerMaruyama(dt), {"x": (None, target)}, start=[start], temperature=temperature,
            chains=chains, time=14 * exact, seed=86,
        )  # fmt: skip
        assert np.all(sides == 1)
        discrete = discrete_passage(well_gradient, temperature, dt, start, target, -2.6)
        assert abs(z_score(times, discrete)) < Z_MAX
        if dt < 0.02:
            assert abs(z_score(times, exact)) < Z_MAX
            assert abs(z_score(2 * times, exact)) > Z_CONTROL
        else:
            fine, _ = exits(
                toys.DoubleWell(), ls.EulerMaruyama(dt / 2), {"x": (None, target)}, start=[start],
                temperature=temperature, chains=chains, time=14 * exact, seed=87,
            )  # fmt: skip
            finer = discrete_passage(well_gradient, temperature, dt / 2, start, target, -2.6)
            assert abs(z_score(2 * fine - times, 2 * finer - discrete)) < Z_MAX
            assert abs(2 * finer - discrete - exact) < 0.3 * abs(discrete - exact)
            assert abs(z_score(1.05**2 * times, discrete)) > Z_CONTROL


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_both_backends_leave_the_well_alike(backend):
    chains, dt = 2500, 0.02
    times, _ = exits(
        toys.DoubleWell(), ls.EulerMaruyama(dt), {"x": (None, 0.0)}, start=[-1.0], temperature=1.0, chains=chains,
        time=25.0, seed=88, backend=backend,
    )  # fmt: skip
    exact = discrete_passage(well_gradient, 1.0, dt, -1.0, 0.0, -2.6)
    assert abs(z_score(times, exact)) < Z_MAX
    assert abs(z_score(times, 1.25 * exact)) > Z_CONTROL


# -- the entropic barrier ---------------------------------------------------------------------------------------------


def narrowing(y):
    return 1 + 9 * np.exp(-(y**2) / 0.18)


def reduced_passage(power):
    """T tau of dy = -T (power/2) g'/g dt + sqrt(2T) dW between -1.5 (reflecting) and 1.5: power 1 is n = 1."""
    y, w = gauss(-1.5, 1.5, 60, 12)
    below = (gauss(-1.5, b, 20, 12) for b in y)
    inner = np.array([v @ narrowing(z) ** (-power / 2) for z, v in below])
    return float(w @ (narrowing(y) ** (power / 2) * inner))


def test_reference_of_the_entropic_barrier():
    assert abs(reduced_passage(1) - 5.3999782) < 1e-6
    assert abs(reduced_passage(4) - 45.641502) < 1e-5
    gorge = toys.EntropicBarrier()
    assert abs(0.1 * gorge.mean_first_passage_time(-1.5, 1.5, 0.1) - 5.3999782) < 1e-6


UNFOLDED = "(1 + 9*exp(-(abs(y + 1.5) - 1.5)**2/0.18))*x**2/2"  # the reflecting wall at -1.5 as a mirror image


def gorge_passages(temperature, dt, seed, unfolded):
    """T tau per chain."""
    chains, time = 6000, 60 / temperature
    start = np.random.default_rng(seed).normal(0.0, math.sqrt(temperature), (chains, 1))
    start = np.concatenate([start, np.full((chains, 1), -1.5)], axis=1)
    if unfolded:
        gorge, walls = Expression(UNFOLDED, ["x", "y"]), ls.Absorb({"y": (-4.5, 1.5)})
    else:
        gorge, walls = toys.EntropicBarrier(), [ls.Reflect({"y": (-1.5, None)}), ls.Absorb({"y": (None, 1.5)})]
    run = ls.simulate(
        gorge, ls.EulerMaruyama(dt), temperature=temperature, start=start, steps=int(time / dt), seed=seed,
        record=ls.Record(int(time / dt)), constraint=walls, backend="compiled",
    )  # fmt: skip
    assert np.mean(np.isnan(run.exit_time.values)) < 1e-3
    return temperature * np.nan_to_num(run.exit_time.values, nan=time)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "scaled", "unfolded"),
    [(0.1, 5.563, False), pytest.param(0.03, 5.457, False, marks=LONG_ONLY), (0.1, 5.563, True)],
)
def test_passages_of_the_entropic_barrier(temperature, scaled, unfolded):
    """T tau of the two-dimensional gorge; proportional to 1/T, and far from what V_eff = T ln g would give."""
    coarse, fine = gorge_passages(temperature, 0.02, 89, unfolded), gorge_passages(temperature, 0.01, 90, unfolded)
    assert abs(z_score(fine, scaled)) < Z_MAX
    assert abs(z_score(2 * fine - coarse, scaled)) < Z_MAX
    assert abs(z_score(fine, reduced_passage(2))) > Z_CONTROL
    assert abs(z_score(1.2 * fine, scaled)) > Z_CONTROL
