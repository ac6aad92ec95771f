"""What replicas exchange beside positions, and what is recorded as momentum: that of the time of the position.

On a spring of stiffness k BAOAB has <x^2> = T/k, <m^2> = T (1 - dt^2 k/4) and <x m> = 0 once both halves of a kick are
made; Leimkuhler-Matthews <x^2> = T/k, its noise to come less its bend <xi^2> = 1 - dt k/2; SGHMC
<m^2> = 2 lr T/(2 - f).
Positions and such momenta are independent, so that a swap leaves the law of every rung as it is, at any step.
"""

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import Expression
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score

K = 2.0
SPRING = Expression("k*x**2/2", ["x"], {"k": K})
LADDER = np.array([0.5, 0.8, 1.3, 2.0])
LADDERS, STEPS = 150, 240
RULES = {"BAOAB": ls.BAOAB(0.8, 0.7), "LeimkuhlerMatthews": ls.LeimkuhlerMatthews(0.6), "HMC": ls.HMC(0.4, 2)}


def rungs(rule, *, backend="compiled", ladders=LADDERS, **settings):
    """<x^2> k/T, ``(ladder, rung)``, and the run, from positions of the exact law with swaps at each step."""
    rng = np.random.default_rng(1)
    start = rng.normal(size=(ladders * len(LADDER), 1)) * np.sqrt(np.tile(LADDER, ladders)[:, None] / K)
    names = ["position", "momentum"] if "momentum" in rule.memory_names else ["position"]
    run = ls.replica_exchange(
        SPRING, rule, LADDER, steps=STEPS, swap_every=1, ladders=ladders, start=start, seed=4, backend=backend,
        record=ls.Record(4, names), **settings,
    )  # fmt: skip
    x = run.position.values[:, 10:, 0]
    return (K * (x**2).mean(axis=1) / run.temperature.values).reshape(ladders, len(LADDER)), run


@pytest.mark.parametrize("name", RULES)
def test_swaps_keep_the_law_of_every_rung(name):
    found, run = rungs(RULES[name])
    assert np.all(np.abs(z_score(found, 1.0)) < Z_MAX)
    assert abs(z_score(found.mean(axis=1), 1.0)) < Z_MAX
    assert np.all(np.abs(z_score(found, 1.2)) > Z_CONTROL)
    if name == "BAOAB":
        exact = run.temperature.values * (1 - 0.8**2 * K / 4)
        m = run.momentum.values[:, 10:, 0]
        assert np.all(np.abs(z_score(((m**2).mean(axis=1) / exact).reshape(LADDERS, -1), 1.0)) < Z_MAX)
        xm = (m * run.position.values[:, 10:, 0]).mean(axis=1) / run.temperature.values
        assert np.all(np.abs(z_score(xm.reshape(LADDERS, -1), 0.0)) < Z_MAX)


@pytest.mark.parametrize("name", ["BAOAB", "LeimkuhlerMatthews"])
def test_momenta_without_their_last_half_kick_would_not(name, monkeypatch):
    """The control: exchanged as the state carries them, they heat some rungs and cool others."""
    monkeypatch.setattr(type(RULES[name]), "half_kick", lambda *_: {})
    found, _ = rungs(RULES[name], ladders=2 * LADDERS)
    assert np.linalg.norm(z_score(found, 1.0)) > Z_CONTROL


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("friction", [0.3, 1.0])
def test_recorded_momenta(friction, backend):
    """At rest on springs: variances of the discrete time, and no correlation with the position."""
    springs = Expression("(0.5*x**2 + 3*y**2)/2", ["x", "y"])
    k, temperature = np.array([0.5, 3.0]), 0.7
    for rule, square in (
        (ls.BAOAB(0.5, friction), temperature * (1 - 0.25 * k / 4)),
        (ls.SGHMC(0.3, friction), 0.6 * temperature / (2 - friction) + 0 * k),
    ):
        first = ls.simulate(springs, rule, temperature=temperature, chains=1000, steps=60, seed=3, backend=backend)
        run = ls.simulate(
            springs, rule, temperature=temperature, start=first, state="keep", steps=60, seed=3, backend=backend,
            record=ls.Record(6, ["position", "momentum"]),
        )  # fmt: skip
        x, m = run.position.values, run.momentum.values
        assert np.all(np.abs(z_score((m**2).mean(axis=1), square)) < Z_MAX)
        assert np.all(np.abs(z_score((x * m).mean(axis=1), 0.0)) < Z_MAX)
        raw = run.last_momentum.values  # what the run goes on with: it lags, and says so
        assert np.all(np.abs(z_score(raw * x[:, -1], 0.0)) > Z_CONTROL * np.array([0.2, 1.0]))
        assert "before the second half of its kick" in run.last_momentum.long_name


def test_momenta_of_moving_minibatches_and_of_no_step():
    """A network, and the very first state: whoever starts has momenta of its own time."""
    rng = np.random.default_rng(0)
    data = torch.tensor(rng.normal(size=(12, 2))), torch.tensor(rng.normal(size=(12, 1)))
    torch.manual_seed(0)
    loss = ls.potentials.NetworkLoss(
        torch.nn.Linear(2, 1).double(), *data, loss="mse", batch_size=3, dtype=torch.float64
    )
    run = ls.simulate(
        loss, ls.SGHMC(0.1, 0.5), temperature=1e-4, chains=2, steps=5, record=ls.Record(1, ["momentum", "position"]),
        backend="batched",
    )  # fmt: skip
    kick = (run.last_momentum - run.momentum[:, -1]).values / (0.1 / 1.5)
    full = loss.gradient(torch.tensor(run.last_position.values)).detach().numpy()
    assert np.isfinite(kick).all() and 0 < np.abs(kick - full).max() < 10 * np.abs(full).max()


# -- settings of rungs ------------------------------------------------------------------------------------------------


def test_a_step_per_rung_is_that_of_every_ladder():
    steps, frictions = np.array([0.3, 0.4, 0.5, 0.6]), np.array([0.5, 0.6, 0.7, 0.8])
    found, run = rungs(ls.BAOAB(steps, frictions))
    assert np.array_equal(run.dt, np.tile(steps, LADDERS))
    assert np.all(np.abs(z_score(found, 1.0)) < Z_MAX)
    tiled, same = rungs(ls.BAOAB(np.tile(steps, LADDERS), np.tile(frictions, LADDERS)))
    assert np.array_equal(tiled, found) and same.attrs["spec"] == run.attrs["spec"]
    again = ls.replica_exchange(
        SPRING, ls.MALA([0.1] * 4), LADDER, steps=4, swap_every=2, ladders=3, start=[[1.0], [2.0], [3.0], [4.0]],
    )  # fmt: skip
    assert again.sizes["chain"] == 12
    with pytest.raises((ConfigError, ShapeError), match="chains"):
        ls.replica_exchange(SPRING, ls.MALA([0.1] * 3), LADDER, steps=4, swap_every=2, ladders=3)


# -- noise that is no heat bath's -------------------------------------------------------------------------------------

ODD = {
    "ColoredNoise": ls.ColoredNoise(0.5),
    "CovarianceNoise": ls.CovarianceNoise([[2.0]]),
    "HessianNoise": ls.HessianNoise(),
}


@pytest.mark.parametrize("name", ODD)
def test_noise_that_samples_another_law_is_refused(name):
    rule = ls.EulerMaruyama(0.1, noise=ODD[name])
    assert ls.EulerMaruyama(0.1).obeys_boltzmann and not rule.obeys_boltzmann
    with pytest.raises(ConfigError, match=f"EulerMaruyama with {name} does not"):
        ls.replica_exchange(SPRING, rule, LADDER, steps=2, swap_every=1)
    with pytest.raises(ConfigError, match=f"EulerMaruyama with {name} does not"):
        ls.simulate(SPRING, rule, temperature=1.0, steps=400, certify=True)


def test_noise_of_a_heat_bath_is_taken():
    for noise in (ls.TwoPointNoise(), ls.ThermalNoise(precision="float64"), ls.CovarianceNoise([[1.0]])):
        assert ls.EulerMaruyama(0.1, noise=noise).obeys_boltzmann
        ls.replica_exchange(SPRING, ls.EulerMaruyama(0.1, noise=noise), LADDER, steps=2, swap_every=1)
    assert not ls.SGD(0.1).obeys_boltzmann
    rule = ls.EulerMaruyama(0.1, noise=ls.ThermalNoise(antithetic=True))
    with pytest.raises(ConfigError, match="opposite noise"):
        ls.replica_exchange(SPRING, rule, LADDER, steps=2, swap_every=1)


@pytest.mark.parametrize("name", ["BAOAB", "LeimkuhlerMatthews"])
def test_exchanges_go_on_from_a_folder(name, tmp_path):
    settings = {"swap_every": 3, "ladders": 2, "seed": 5, "record": ls.Record(10)}
    whole = ls.replica_exchange(SPRING, RULES[name], LADDER, steps=100, **settings)
    ls.replica_exchange(SPRING, RULES[name], LADDER, steps=40, output=tmp_path / "run", **settings)
    rest = ls.replica_exchange(SPRING, RULES[name], LADDER, steps=100, output=tmp_path / "run", **settings)
    for one in ("position", "walker", "last_position"):
        assert np.array_equal(rest[one], whole[one])
