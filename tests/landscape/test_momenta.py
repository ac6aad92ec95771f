"""Runs that start with given momenta: against mechanics, on both backends."""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, ShapeError

SPRING = ls.potentials.Quadratic([1.0, 4.0])
BACKENDS = ["compiled", "batched"]


def verlet(x, p, stiffness, dt, steps):
    """Velocity Verlet on springs, momenta at full steps."""
    for _ in range(steps):
        p = p - 0.5 * dt * stiffness * x
        x = x + dt * p
        p = p - 0.5 * dt * stiffness * x
    return x, p


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_bath_chains_follow_their_momenta(backend):
    start, momenta = [0.5, -1.0], np.array([[1.0, 0.0], [-2.0, 0.7], [0.0, 0.0]])
    run = ls.simulate(
        SPRING, ls.BAOAB(dt=0.1, friction=0.0), steps=25, start=start, momentum=momenta, backend=backend,
        record=ls.Record(25, ["position", "momentum"]),
    )  # fmt: skip
    x, p = verlet(np.array(start), momenta, np.array([1.0, 4.0]), 0.1, 25)
    np.testing.assert_allclose(run.position[:, 0], x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run.momentum[:, 0], p, rtol=1e-12, atol=1e-12)
    fresh = ls.simulate(SPRING, ls.BAOAB(dt=0.1, friction=0.0), steps=25, start=start, chains=3, temperature=1.0)
    assert not np.allclose(fresh.last_position, x)  # control: momenta of the law instead


def test_recorded_momenta_start_a_run_that_goes_on_alike():
    whole = ls.simulate(
        SPRING,
        ls.BAOAB(dt=0.1, friction=0.0),
        steps=20,
        momentum=[1.0, 1.0],
        record=ls.Record(1, ["momentum", "position"]),
    )
    again = ls.simulate(
        SPRING, ls.BAOAB(dt=0.1, friction=0.0), steps=10, start=whole.position[:, 9], momentum=whole.momentum[:, 9]
    )
    np.testing.assert_allclose(again.last_position, whole.last_position, rtol=1e-12)
    with pytest.raises(ConfigError, match="half a kick"):
        ls.simulate(SPRING, ls.BAOAB(dt=0.1, friction=0.0), steps=1, start=whole, momentum=whole.last_momentum)


def test_one_momentum_is_that_of_all_and_noise_differs():
    run = ls.simulate(
        SPRING, ls.BAOAB(dt=0.1, friction=1.0), steps=1, momentum=[3.0, 0.0], chains=2000, temperature=1.0, seed=1,
        start=[0.0, 0.0],
    )  # fmt: skip
    c = np.exp(-0.1)
    x = run.last_position.to_numpy()  # (dt/2)(1 + c) m, with noise of (dt/2)^2 (1 - c^2) T
    mean, variance = 0.05 * (1 + c) * np.array([3.0, 0.0]), 0.0025 * (1 - c**2)
    assert (abs(x.mean(0) - mean) < 4.5 * np.sqrt(variance / 2000)).all()
    assert (abs(x.var(0) / variance - 1) < 4.5 * np.sqrt(2 / 2000)).all()


def test_a_specification_holds_momenta(tmp_path):
    spec = {
        "potential": {"kind": "Quadratic", "stiffness": [1.0, 4.0]},
        "integrator": {"kind": "BAOAB", "dt": 0.1, "friction": 0.0},
        "steps": 5, "start": [1.0, 0.0], "momentum": [[0.0, 1.0], [2.0, 0.0]],
    }  # fmt: skip
    run = ls.run(spec)
    given = ls.simulate(
        SPRING, ls.BAOAB(dt=0.1, friction=0.0), steps=5, start=[1.0, 0.0], momentum=torch.tensor(spec["momentum"])
    )
    np.testing.assert_array_equal(run.position, given.position)
    ls.run(spec | {"steps": 3}, output=tmp_path / "run")
    np.testing.assert_array_equal(ls.resume(tmp_path / "run", steps=5).last_position, given.last_position)


def test_starts_of_each_chain_say_how_many_there_are_when_a_run_is_resumed(tmp_path):
    spec = {
        "potential": {"kind": "Quadratic", "stiffness": [1.0]},
        "integrator": {"kind": "EulerMaruyama", "dt": 0.1},
        "steps": 3, "start": [[1.0], [2.0]],
    }  # fmt: skip
    ls.run(spec, output=tmp_path / "run")
    whole = ls.run(spec | {"steps": 5})
    np.testing.assert_array_equal(ls.resume(tmp_path / "run", steps=5).last_position, whole.last_position)


@pytest.mark.parametrize(
    ("integrator", "given", "error", "words"),
    [
        (ls.EulerMaruyama(dt=0.1), {"momentum": [1.0, 0.0]}, ConfigError, "no momentum"),
        (ls.BAOAB(dt=0.1, friction=1.0), {"momentum": [1.0]}, ShapeError, r"\(2,\)"),
        (ls.BAOAB(dt=0.1, friction=1.0), {"momentum": [np.nan, 0.0]}, ConfigError, "finite"),
        (ls.BAOAB(dt=0.1, friction=1.0), {"momentum": "fast"}, ConfigError, "numbers"),
        (ls.BAOAB(dt=0.1, friction=1.0), {"momentum": np.zeros((3, 2)), "chains": 2}, ShapeError, "moment.*: 3"),
    ],
)
def test_momenta_that_make_no_sense_are_refused(integrator, given, error, words):
    with pytest.raises(error, match=words):
        ls.simulate(SPRING, integrator, steps=1, **given)
