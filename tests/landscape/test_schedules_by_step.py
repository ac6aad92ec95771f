"""Schedules that count steps, and rates that reach 0."""

import json

import numpy as np
import pytest

import landscape as ls
from landscape.errors import ConfigError
from landscape.potentials import Expression, NetworkLoss
from landscape.potentials.architectures import mlp

BOWL = Expression("x**2/2 + y**2", ["x", "y"])
POSITION = ls.Record(1, ["position"])


def by_hand(rates, start):
    positions = [np.array(start)]
    for rate in rates:
        positions.append(positions[-1] - rate * positions[-1] * [1.0, 2.0])
    return np.array(positions[1:])


@pytest.mark.parametrize("backend", ["compiled", "batched"])
@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (ls.piecewise({0: 0.1, 2: 0.0, 3: 0.05}, by="step"), [0.1, 0.1, 0.0, 0.05, 0.05]),
        (ls.ramp(0.0, 0.2, 4, by="step"), [0.0, 0.05, 0.1, 0.15, 0.2]),
        (ls.cosine(0.2, 0.0, 4, by="step"), 0.1 * (1 + np.cos(np.pi * np.arange(5) / 4))),
        (ls.cycle(0.0, 0.2, 4, by="step"), [0.0, 0.1, 0.2, 0.1, 0.0]),
    ],
    ids=["piecewise", "ramp", "cosine", "cycle"],
)
def test_rates_by_step(schedule, rates, backend):
    run = ls.simulate(BOWL, ls.SGD(lr=schedule), start=[1.0, 2.0], steps=5, record=POSITION, backend=backend)
    np.testing.assert_allclose(run.position[0], by_hand(rates, [1.0, 2.0]), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(run.time.values.ravel(), np.cumsum(rates), atol=1e-15)
    first = ls.simulate(BOWL, ls.SGD(lr=schedule), start=[1.0, 2.0], steps=3, record=POSITION, backend=backend)
    rest = ls.simulate(BOWL, ls.SGD(lr=schedule), start=first, state="keep", steps=2, record=POSITION, backend=backend)
    np.testing.assert_array_equal(rest.last_position, run.last_position)
    again = ls.run(json.loads(run.attrs["spec"]))
    np.testing.assert_array_equal(again.last_position, run.last_position)


@pytest.mark.parametrize("backend", ["compiled", "batched"])
def test_temperature_by_step_is_that_of_the_draws(backend):
    schedule = ls.piecewise({0: 0.0, 3: 1.0}, by="step")
    run = ls.simulate(
        BOWL,
        ls.EulerMaruyama(dt=0.1),
        temperature=schedule,
        start=[1.0, 2.0],
        steps=5,
        record=POSITION,
        backend=backend,
    )
    np.testing.assert_allclose(run.position[0, :3], by_hand([0.1] * 3, [1.0, 2.0]), rtol=1e-13)
    assert abs(run.position[0, 3] - by_hand([0.1] * 4, [1.0, 2.0])[3]).max() > 1e-3
    assert run.temperature.values.ravel().tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_a_training_that_warms_up_from_zero():
    x = np.linspace(-1, 1, 12).reshape(6, 2)
    loss = NetworkLoss(mlp([2, 3, 2], seed=0), x.astype(np.float32), np.arange(6) % 2)
    run = ls.train(loss, ls.SGD(lr=0.2), epochs=3, schedule=lambda epoch: min(1.0, epoch / 2))
    plain = ls.simulate(loss, ls.SGD(lr=ls.piecewise({0: 0.0, 1: 0.1, 2: 0.2}, by="step")), steps=3)
    np.testing.assert_array_equal(run.last_position, plain.last_position)
    assert run.rate_factor.values.tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(ConfigError, match="reaches 0"):
        ls.train(loss, ls.EulerMaruyama(dt=0.1), epochs=2, schedule={0: 0.0, 1: 1.0})


def test_what_goes_by_the_time_only():
    with pytest.raises(ConfigError, match="by = 'epoch'"):
        ls.ramp(0.0, 1.0, 3, by="epoch")
    spring = ls.Restrain("x", ls.ramp(0.0, 1.0, 3, by="step"), 1.0)
    with pytest.raises(ConfigError, match="goes by the time"):
        ls.simulate(BOWL, ls.EulerMaruyama(dt=0.1), steps=2, constraint=spring)
    with pytest.raises(ConfigError, match="step size gives 0"):
        ls.simulate(BOWL, ls.EulerMaruyama(dt=ls.ramp(0.0, 0.1, 3, by="step")), steps=2)
