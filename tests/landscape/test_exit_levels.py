"""Walls at the level of a function: disks, annuli and energies, with the test between steps along the normal.

Free diffusion leaves a disk of radius R from r after (R^2 - r^2)/(4 T), a ball after (R^2 - r^2)/(6 T); between a and
b in the plane it leaves by b with probability P = ln(r/a)/ln(b/a), after [a^2 + (b^2 - a^2) P - r^2]/(4 T).
s^2 = 2 T dt.
"""

import json
import logging
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import landscape as ls
from landscape.cli.app import run as command
from landscape.engine import level_crossings, prepare
from landscape.errors import ConfigError
from landscape.potentials import Expression
from landscape.spec.building import build_constraint
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


def times(run, most):
    """Times of exit, those of chains that have stayed set to the end of the run."""
    return np.nan_to_num(run.exit_time.values, nan=most)


def four_steps(lengths, each, constraint, start, time, potential=PLANE):
    """One run of four groups of chains, each at a step size of its own; ``[(s, run of the group)]``."""
    dt = np.repeat(np.square(lengths) / 2, each)
    steps = round(time / dt.min())
    run = ls.simulate(
        potential, ls.EulerMaruyama(dt=dt), temperature=1.0, chains=len(dt), steps=steps, start=start, seed=2,
        constraint=constraint, record=ls.Record(steps, ["energy"]),
    )  # fmt: skip
    return [(s, run.isel(chain=slice(k * each, (k + 1) * each))) for k, s in enumerate(lengths)]


@pytest.mark.always
def test_disks_at_four_steps():
    for s, run in four_steps([0.18, 0.22, 0.26, 0.3], 1500, ls.Absorb("x**2 + y**2", above=1.0), [0.5, 0.0], 0.9):
        assert off(times(run, 0.9), 0.75 / 4) < Z_MAX
        late = ((1 + 0.5826 * s) ** 2 - 0.25) / 4
        assert off(times(run, 0.9), late) > Z_CONTROL  # seen between steps only
        left = np.isfinite(run.exit_time.values)
        assert left.mean() > 0.99 and np.allclose((run.last_position.values[left] ** 2).sum(1), 1.0)
        assert (run.exit_side[left] == 1).all() and (run.exit_coordinate[left] == "x**2 + y**2").all()
        assert run.backend == "batched"


def test_balls_and_distances_of_first_order(monkeypatch):
    ball, s = Expression("0*x", ["x", "y", "z"]), 0.19
    runs = [leave(ls.Absorb("x**2 + y**2 + z**2", above=1.0), [0.0] * 3, s**2 / 2, 3000, 1.0, ball)]
    assert off(times(runs[0], 1.0), 1.0 / 6) < Z_MAX
    monkeypatch.setattr(prepare, "MOST_TURN", 1.0)
    monkeypatch.setattr(level_crossings, "REACH", 0.0)  # d = (c - q)/|grad q| only
    run = leave(ls.Absorb("x**2 + y**2", above=1.0), [0.5, 0.0], 0.1, 3000, 1.0)
    assert off(times(run, 1.0), 0.75 / 4) > Z_CONTROL / 2


def test_annulus_at_four_steps():
    low, high, r = 1.0, 2.0, 1.4
    share = np.log(r / low) / np.log(high / low)
    mean = (low**2 + (high**2 - low**2) * share - r**2) / 4
    wall = ls.Absorb("x**2 + y**2", above=high**2, below=low**2)
    for _, run in four_steps([0.11, 0.13, 0.15, 0.165], 1500, wall, [r, 0.0], 0.5):
        outer, left = run.exit_side.values == 1, run.exit_side.values != 0
        assert off(outer * 1.0, share) < Z_MAX and off(times(run, 0.5), mean) < Z_MAX
        assert off(outer * 1.0, (r**2 - low**2) / (high**2 - low**2)) > Z_CONTROL  # shares by area
        assert np.allclose(np.hypot(*run.last_position.values[left].T), np.where(outer, high, low)[left])


def test_energy_of_a_trap_at_four_steps():
    """V = k r^2/2 reaches E: u'' + (1/r - k r/T) u' = -1/T, so u(0) = [Ei(E/T) - ln(E/T) - gamma]/(2 k).

    Euler's method is early by k dt of it (by 0.93 to 1.04, measured with 200,000 chains).
    """
    trap, level = Expression("(x**2 + y**2)/2", ["x", "y"]), 1.0
    exact = 0.5 * (special.expi(level) - np.log(level) - np.euler_gamma)
    for s, run in four_steps([0.24, 0.28, 0.31, 0.34], 1500, ls.Absorb(trap, above=level), [0.0, 0.0], 3.0, trap):
        assert off(times(run, 3.0), exact, s**2 / 2) < Z_MAX
        assert off(times(run, 3.0), level / 2, s**2 / 2) > Z_CONTROL / 2  # without the force: R^2/4


def test_levels_of_callables_are_those_of_formulas():
    trap = Expression("(x**2 + y**2)/2", ["x", "y"])
    kinds = [trap, lambda p: p.square().sum(-1) / 2, "(x**2 + y**2)/2"]
    runs = [leave(ls.Absorb(q, above=0.5), [0.0, 0.0], 0.04, 50, 0.6, trap) for q in kinds]
    for run in runs[1:]:
        assert np.allclose(run.exit_time, runs[0].exit_time, equal_nan=True) and np.isfinite(run.exit_time).any()


def test_a_flat_level_is_a_wall():
    """A level of one coordinate is a box's side, at the same law: exact at any step."""
    line = Expression("0*x", ["x"])
    run = leave(ls.Absorb("x", above=1.0, below=-1.0), [0.0], 0.04, 2000, 3.0, line)
    assert off(times(run, 3.0), 0.5) < Z_MAX


def test_levels_are_plain_data_and_go_on():
    wall = ls.Absorb("x**2 + y**2", above=4.0, below=0.25)
    assert build_constraint(wall.spec()) == wall and wall.spec()["above"] == 4.0
    whole = leave(wall, [1.0, 0.0], 0.01, 20, 0.6)
    half = leave(wall, [1.0, 0.0], 0.01, 20, 0.3)
    on = ls.simulate(
        PLANE, ls.EulerMaruyama(dt=0.01), temperature=1.0, steps=30, start=half, state="keep", constraint=wall
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


def test_long_steps_warn_along_a_curved_level():
    with pytest.warns(UserWarning, match="normal of a level.*turns by 0.45"):
        leave(ls.Absorb("x**2 + y**2", above=1.0), [0.0, 0.0], 0.45**2 / 2, 2, 0.2)
    with pytest.warns(UserWarning, match="turns by 0.2 over a step, more than 0.01"):  # paths taken as straight
        leave(ls.Absorb("x**2 + y**2", above=1.0), [0.0, 0.0], 0.02, 2, 0.1, rule=ls.LeimkuhlerMatthews)


SPECIFICATION = """
steps = 40
chains = 30
temperature = 1.0
seed = 1
start = [1.0, 0.0]
potential = { kind = "Expression", energy = "0*x", coordinates = ["x", "y"] }
integrator = { kind = "EulerMaruyama", dt = 0.01 }
constraint = { kind = "Absorb", walls = "x**2 + y**2", above = 4.0, below = 0.25 }
record = { every = 10 }
"""


def test_levels_from_the_command_line_and_on_after_an_interruption(tmp_path, monkeypatch, capsys):
    """The same bits as in Python, and again those when the run in a folder was stopped and resumed."""
    (tmp_path / "one.toml").write_text(SPECIFICATION)
    python = leave(ls.Absorb("x**2 + y**2", above=4.0, below=0.25), [1.0, 0.0], 0.01, 30, 0.4, seed=1)
    assert command(["simulate", str(tmp_path / "one.toml"), "-o", str(tmp_path / "one.nc")]) == 0
    real, seen = os.replace, []

    def replace(source, target, *arguments, **settings):
        real(source, target, *arguments, **settings)
        if Path(target).name == "manifest.json":
            seen.append(target)
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        asked = ["simulate", str(tmp_path / "one.toml"), "-o", str(tmp_path / "folder"), "--checkpoint-every", "10"]
        assert command(asked) == 130
    stopped = json.loads((tmp_path / "folder" / "manifest.json").read_text())
    assert command(["resume", str(tmp_path / "folder")]) == 0
    for place in ("one.nc", "folder"):
        with ls.open(tmp_path / place) as run:
            for name in ("last_position", "exit_time", "exit_side"):
                assert np.array_equal(run[name], python[name], equal_nan=True), (place, name)
            assert (run.exit_coordinate.values == python.exit_coordinate.values).all()
    assert 0 < int(np.isfinite(python.exit_time).sum()) < 30 and stopped != json.loads(
        (tmp_path / "folder" / "manifest.json").read_text()
    )


def test_which_backend_meets_levels_is_said_in_one_line(caplog):
    with caplog.at_level(logging.INFO, logger="landscape"):
        leave(ls.Absorb("x**2", above=1.0), [0.0, 0.0], chains=2, time=0.1)
    assert "not compiled: walls at the level of a function" in caplog.text
