"""Runs at their edges: mirrors beside walls that absorb, steps as long as the way between them, and bounds that stay.

Free diffusion from x between a mirror at 0 and a wall that absorbs at L: mean exit time (L^2 - x^2)/(2T). Unfolded, it
is that between the wall and its image, at -L.
"""

import math

import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression
from tests.cases import LAW_BACKENDS, Z_CONTROL, Z_MAX, z_score

FLAT = Expression("0*x", ["x"])
PLANE = Expression("0*x + 0*y", ["x", "y"])
MIRRORED = {
    "mirror below": (0.0, [ls.Reflect({"x": (0.0, None)}), ls.Absorb({"x": (None, 1.0)})]),
    "mirror above": (1.0, [ls.Absorb({"x": (0.0, None)}), ls.Reflect({"x": (None, 1.0)})]),
}
LONG_STEPS = pytest.mark.filterwarnings("ignore:a step goes")


def gone(run):
    """Exit times of a run that everybody leaves, each within it and after its start."""
    times = run.exit_time.values
    assert np.isfinite(times).all() and (times >= 0).all()
    assert (times <= run.last_time.values * (1 + 1e-12)).all()
    return times


# -- a mirror and a wall that absorbs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("kind", MIRRORED)
def test_exit_beside_a_mirror(kind, backend):
    """From the mirror itself and from half way, at two temperatures."""
    mirror, walls = MIRRORED[kind]
    dt, chains, steps = (1.25e-3, 4000, 4800) if backend == "compiled" else (1e-2, 800, 600)
    for away, temperature in ((0.0, 1.0), (0.5, 0.5)):
        run = ls.simulate(
            FLAT, ls.EulerMaruyama(dt / temperature), temperature=temperature, start=[abs(mirror - away)],
            chains=chains, steps=steps, constraint=walls, record=ls.Record(steps, ["energy"]), backend=backend, seed=3,
        )  # fmt: skip
        times, exact = gone(run), (1 - away**2) / (2 * temperature)
        assert abs(z_score(times, exact)) < Z_MAX
        assert abs(z_score(times, 1.3 * exact)) > Z_CONTROL
        assert np.array_equal(run.last_position[:, 0], np.full(chains, 1.0 - mirror))


@LONG_STEPS
@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("rule", [ls.EulerMaruyama, ls.LeimkuhlerMatthews, ls.Heun, lambda dt: ls.BAOAB(dt, 0.5)])
@pytest.mark.parametrize("kind", [*MIRRORED, "two walls", "box", "band", "mirror and band"])
def test_no_step_is_too_long(kind, rule, backend):
    """Steps of a tenth to thirty times the way: times in the run, finite, positions inside, who left on a wall."""
    constraints = {
        "two walls": ls.Absorb({"x": (0.0, 1.0)}),
        "box": ls.Absorb({"x": (0.0, 1.0), "y": (-0.5, 0.5)}),
        "band": [ls.Absorb({"x": (0.0, 1.0)}), ls.Periodic({"y": (-0.5, 0.5)})],
        "mirror and band": [*MIRRORED["mirror below"][1], ls.Periodic({"y": (-0.5, 0.5)})],
    }
    walls = MIRRORED[kind][1] if kind in MIRRORED else constraints[kind]
    plane = kind not in MIRRORED and kind != "two walls"
    dt = np.repeat([0.005, 0.3, 10.0, 500.0], 40)
    run = ls.simulate(
        PLANE if plane else FLAT, rule(dt), temperature=1.0, start=[0.5, 0.1][: 1 + plane], steps=80,
        constraint=walls, record=ls.Record(1, ["position"]), backend=backend, seed=5,
    )  # fmt: skip
    times = gone(run.isel(chain=slice(40, None)))
    assert (times > 0).all()
    x = run.position.values
    assert (x[..., 0] >= 0).all() and (x[..., 0] <= 1).all() and (not plane or (np.abs(x[..., 1]) <= 0.5).all())
    step = np.floor(times / dt[40:] * (1 - 1e-12)).astype(
        int
    )  # the step in which each left is the one that moves it out
    for chain, number in enumerate(step, start=40):
        along = int(run.exit_coordinate.values[chain] == "y")
        assert x[chain, number, along] == (1.0 if run.exit_side.values[chain] > 0 else 0.0) - 0.5 * along
        assert (x[chain, number:] == x[chain, number]).all()
        assert not number or not np.array_equal(x[chain, number - 1], x[chain, number])


@LONG_STEPS
@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_straight_ways_leave_at_the_exact_time(backend):
    """A constant force at T = 0, by the mirror or not, at steps that end short of a wall, on it and beyond."""
    settings = {"start": [0.5], "backend": backend, "record": ls.Record(1)}
    for force, walls, exact in (
        (1.0, ls.Absorb({"x": (None, 1.0)}), 0.5),
        (-1.0, MIRRORED["mirror below"][1], None),
        (2.0, ls.Absorb({"x": (-3.0, 1.0)}), 0.25),
        (-2.0, ls.Absorb({"x": (-3.0, 1.0)}), 1.75),
    ):
        slope = Expression("-f*x", ["x"], {"f": force})
        for dt in (0.2, 0.5, 1.5, 4.0):
            for size in (dt, ls.piecewise({0.0: dt}))[: 1 + (dt > 0.2)]:  # a schedule keeps its own clock
                run = ls.simulate(slope, ls.EulerMaruyama(size), steps=10, constraint=walls, **settings)
                if exact is not None:
                    assert run.exit_time.values == pytest.approx(exact, rel=1e-12)
                elif dt >= 1.5:  # to the mirror and back in one step
                    assert run.exit_time.values == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_the_first_of_two_walls_counts(backend):
    """Down a slope, twice as steep along y: the way goes out by y = 1, though the step ends beyond both."""
    slope = Expression("-x - 2*y", ["x", "y"])
    for wall, side in ((1.0, "y"), (4.0, "x")):
        run = ls.simulate(
            slope, ls.EulerMaruyama(8.0), start=[0.0, 0.0], steps=1, backend=backend,
            constraint=ls.Absorb({"x": (None, 1.0), "y": (None, wall)}),
        )  # fmt: skip
        assert run.exit_coordinate.values == side and run.exit_time.values == (0.5 if side == "y" else 1.0)
        assert run.last_position.values.tolist() == [[0.5, 1.0] if side == "y" else [1.0, 2.0]]


@LONG_STEPS
@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_long_steps_prefer_no_side(backend):
    run = ls.simulate(
        FLAT, ls.EulerMaruyama(0.5), temperature=1.0, start=[0.0], chains=4000, steps=60, backend=backend, seed=2,
        constraint=ls.Absorb({"x": (-1.0, 1.0)}),
    )  # fmt: skip
    assert abs(z_score(run.exit_side.values, 0.0)) < Z_MAX


# -- steps that are not small -----------------------------------------------------------------------------------------


def late(ratio, chains, walls=None):
    """By how much of it the mean exit time is late, and its error, at sqrt(2 T dt) = ratio times the distance."""
    dt, length = ratio**2 / 2, 1.0
    run = ls.simulate(
        FLAT, ls.EulerMaruyama(dt), temperature=1.0, start=[0.5], chains=chains, steps=int(3 / dt) + 5, seed=8,
        constraint=walls or ls.Absorb({"x": (0.0, length)}), record=ls.Record(1000, ["energy"]),
    )  # fmt: skip
    times = gone(run) / (length**2 / 8) - 1
    return times.mean(), times.std() / np.sqrt(chains)


def test_a_step_that_is_not_small_says_so():
    """At any step free diffusion leaves in time if the path is Brownian; with no test between steps a run warns."""
    for ratio in (0.169, 0.4, 2.0):
        bias, error = late(ratio, 40_000)
        assert abs(bias) < Z_MAX * error and error < 0.005  # by the straight line it would be late by 0.7 ratio^2
    mirrored = [ls.Reflect({"x": (-1.0, None)}), ls.Absorb({"x": (None, 1.0)})]
    settings = {"temperature": 1.0, "start": [0.0], "steps": 1, "constraint": mirrored}
    ls.simulate(FLAT, ls.EulerMaruyama(0.3), **settings)
    ls.simulate(FLAT, ls.LeimkuhlerMatthews(0.0003), **settings)  # the image is at -3: the way is 4
    with pytest.warns(UserWarning, match=r"a step goes 0.025 of the way .* 0.007"):
        ls.simulate(FLAT, ls.LeimkuhlerMatthews(0.005), **settings)
    with pytest.warns(UserWarning, match="a step goes"):
        ls.simulate(FLAT, ls.LeimkuhlerMatthews(1e-5), **settings | {"temperature": ls.ramp(0.1, 100.0, 1e-5)})
    ls.simulate(FLAT, ls.LeimkuhlerMatthews(50.0), **settings | {"constraint": ls.Absorb({"x": (None, 1.0)})})  # one


@LONG_STEPS
def test_a_certificate_says_so():
    channel = Expression("2*x**2 + 0*y", ["x", "y"])
    settings = {"temperature": 1.0, "start": [0.0, 0.0], "chains": 200, "certify": True, "record": ls.Record(4)}
    verdicts = [
        ls.simulate(channel, ls.BAOAB(0.01, 1.0), steps=800, constraint=ls.Absorb({"y": wall}), **settings).certificate
        for wall in ((-0.1, 0.1), (-40.0, 40.0))
    ]
    assert verdicts[0].startswith("failed: a step goes 0.05 of the way") and "a step goes" not in verdicts[1]


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", LAW_BACKENDS)
def test_bounds_stay_on_the_open_side_of_an_absorbing_wall(backend):
    """The mirror of the bounds at 0 makes the mean 1/2; without it nobody would come back in finite mean time."""
    bounded = Expression("0*x", ["x"], bounds={"x": (0.0, 3.0)})
    settings = {"temperature": 1.0, "start": [0.0], "chains": 800, "steps": 600, "record": ls.Record(600, ["energy"])}
    rule, left = ls.EulerMaruyama(1e-2), ls.Absorb({"x": (None, 1.0)})
    run = ls.simulate(bounded, rule, constraint=left, backend=backend, **settings)
    assert abs(z_score(gone(run), 0.5)) < Z_MAX
    opened = [ls.Reflect({"x": (None, None)}), left]
    run = ls.simulate(bounded, rule, constraint=opened, backend=backend, **settings)
    assert float(run.last_position.min()) < -1  # the way out is open to who asks for it
    stays = math.erf(1 / math.sqrt(4 * 6.0))
    assert abs(z_score(np.isnan(run.exit_time.values), stays)) < Z_MAX


# -- one chain as the start of many -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("state", ["fresh", "keep"])
def test_one_chain_is_the_start_of_many(state, backend):
    pendulum, circle = Expression("-cos(x)", ["x"]), ls.Periodic({"x": (-np.pi, np.pi)})
    settings = {"temperature": 3.0, "backend": backend, "constraint": circle, "seed": 4}
    rule = ls.BAOAB(0.1, 0.1)
    one = ls.simulate(pendulum, rule, steps=200, **settings)
    many = ls.simulate(pendulum, rule, steps=1, start=one, chains=5, state=state, **settings)
    assert many.sizes["chain"] == 5 and len(np.unique(many.last_momentum)) == 5
    assert np.abs(many.last_position - one.last_position.values).max() < 1.0
    if state == "keep":  # the first goes on as if alone
        alone = ls.simulate(pendulum, rule, steps=1, start=one, state=state, **settings)
        assert np.array_equal(alone.last_position[0], many.last_position[0])
        assert np.array_equal(many.last_winding, np.tile(alone.last_winding, (5, 1)))
    with pytest.raises(Exception, match="do not agree"):
        ls.simulate(pendulum, rule, steps=1, start=many, chains=4, **settings)


def test_periods_and_absorbing_walls_of_one_coordinate_are_refused():
    walls = [ls.Absorb({"x": (0.0, 1.0)}), ls.Periodic({"x": (0.0, 2.0)})]
    with pytest.raises(ConfigError, match="two constraints"):
        ls.simulate(FLAT, ls.EulerMaruyama(0.01), temperature=1.0, start=[0.5], steps=1, constraint=walls)
