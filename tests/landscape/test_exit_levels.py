"""Walls at the level of a function: disks, annuli and energies, with the test between steps along the normal.

Free diffusion leaves a disk or ball of radius R from its middle after R^2/(2 d T); from radius r between a and b in the
plane it leaves by b with probability ln(r/a)/ln(b/a), after [a^2 + (b^2 - a^2) P - r^2]/(4 T). The wall is flat over a
step, which costs less than s^2/R^2 of a mean time, s^2 = 2 T dt.
"""

import numpy as np
import pytest

import landscape as ls
from landscape.building import build_constraint
from landscape.errors import ConfigError
from landscape.potentials import Expression
from tests.cases import Z_CONTROL, Z_MAX

PLANE = Expression("0*x", ["x", "y"])


def leave(constraint, start, dt=0.02, chains=2000, time=1.6, potential=PLANE, rule=ls.EulerMaruyama, **settings):
    steps = round(time / dt)
    return ls.simulate(
        potential, rule(dt=dt), temperature=1.0, chains=chains, steps=steps, start=start, constraint=constraint,
        record=ls.Record(steps, ["energy"]), **settings,
    )  # fmt: skip


def off(values, exact, share=0.0):
    """Standard errors beyond a systematic share of the exact value."""
    miss = max(abs(values.mean() - exact) - share * exact, 0.0)
    return miss / (values.std(ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("dt", [0.02])
@pytest.mark.parametrize(("energy", "names"), [("x**2 + y**2", "xy"), ("x**2 + y**2 + z**2", "xyz")])
def test_disks_and_balls(energy, names, dt):
    free = Expression("0*x", list(names))
    run = leave(ls.Absorb(energy, above=1.0), [0.0] * len(names), dt, potential=free)
    exact, s2 = 1.0 / (2 * len(names)), 2 * dt
    assert off(run.exit_time.values, exact, s2) < Z_MAX
    assert off(run.exit_time.values, exact * (1 + 0.5826 * s2**0.5) ** 2, s2) > Z_CONTROL  # found between steps only
    assert np.allclose((run.last_position.values**2).sum(1), 1.0)
    assert (run.exit_side == 1).all() and (run.exit_coordinate == energy).all() and run.backend == "batched"


def test_annulus():
    low, high, r = 0.5, 2.0, 1.2
    run = leave(ls.Absorb("x**2 + y**2", above=high**2, below=low**2), [r, 0.0], time=9.0, chains=2000)
    share = np.log(r / low) / np.log(high / low)
    mean = (low**2 + (high**2 - low**2) * share - r**2) / 4
    outer, s2 = run.exit_side.values == 1, 0.04
    assert off(outer * 1.0, share, s2) < Z_MAX and off(run.exit_time.values, mean, s2 / low**2) < Z_MAX
    assert off(outer * 1.0, (r**2 - low**2) / (high**2 - low**2)) > 8  # shares by area
    radius = np.hypot(*run.last_position.values.T)
    assert np.allclose(np.where(outer, high, low), radius)


def test_energy_of_a_trap():
    """V = r^2/2 reaches E after the time of quadrature, by the potential itself as by a callable."""
    trap, level = Expression("(x**2 + y**2)/2", ["x", "y"]), 1.0
    kinds = [trap, lambda p: p.square().sum(-1) / 2]
    runs = [leave(ls.Absorb(q, above=level), [0.0, 0.0], 0.02, 1200, 6.0, trap, backend="batched") for q in kinds]
    for run in runs[1:]:
        assert np.allclose(run.exit_time, runs[0].exit_time)
    # u'' + (1/r - r) u' = -1, u(sqrt 2) = 0: u(0) = [Ei(E) - ln E - gamma]/2, the integral of (exp(r^2/2) - 1)/r
    exact = 0.5 * (1.8951178163559368 - 0.5772156649015329)
    assert np.isfinite(runs[0].exit_time).all() and off(runs[0].exit_time.values, exact, 0.02) < Z_MAX
    assert off(runs[0].exit_time.values, 0.5, 0.02) > Z_CONTROL  # without the force: R^2/4


def test_a_flat_level_is_a_wall():
    """A level of one coordinate is a box's side, at the same law: exact at any step."""
    line = Expression("0*x", ["x"])
    run = leave(ls.Absorb("x", above=1.0, below=-1.0), [0.0], 0.005, 2000, 4.0, line)
    assert off(np.where(np.isnan(run.exit_time), 4.0, run.exit_time), 0.5) < Z_MAX


def test_levels_are_plain_data_and_go_on():
    wall = ls.Absorb("x**2 + y**2", above=4.0, below=0.25)
    assert build_constraint(wall.spec()) == wall and wall.spec()["above"] == 4.0
    whole = leave(wall, [1.0, 0.0], 0.01, 20, 0.8)
    half = leave(wall, [1.0, 0.0], 0.01, 20, 0.4)
    on = ls.simulate(
        PLANE, ls.EulerMaruyama(dt=0.01), temperature=1.0, steps=40, start=half, state="keep", constraint=wall
    )
    assert np.array_equal(whole.last_position, on.last_position)
    assert np.array_equal(whole.exit_time, on.exit_time, equal_nan=True) and np.isfinite(on.exit_time).any()
    assert np.array_equal(whole.exit_coordinate, on.exit_coordinate)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ls.Absorb("x"), "needs a level"),
        (lambda: ls.Absorb({"x": (0, 1)}, above=1.0), "above and below are levels"),
        (lambda: ls.Absorb("x", above=0.0, below=1.0), "must be less"),
        (lambda: ls.Absorb("x", above=float("nan")), "finite"),
        (lambda: leave(ls.Absorb("x**2", above=1.0), [2.0, 0.0]), "start of chain 0.*give a start inside"),
        (lambda: leave(ls.Absorb("x**2", above=1.0), [0.0, 0.0], backend="compiled"), "met by torch"),
    ],
)
def test_levels_that_make_no_sense(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_two_levels_close_to_each_other_warn():
    with pytest.warns(UserWarning, match="between two levels"):
        leave(ls.Absorb("x", above=0.3, below=-0.3), [0.0, 0.0], chains=2, time=0.1)
