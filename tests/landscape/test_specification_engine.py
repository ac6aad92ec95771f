"""Every part of the engine as plain data: the specification of a run makes the run again."""

import json

import numpy as np
import pytest
import torch

import landscape as ls
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials import DoubleWell, NetworkLoss, Valley, architectures, datasets
from tests.cases import BACKENDS, INTEGRATORS, Z_CONTROL, Z_MAX, z_score


def valley():
    return Valley("1 + y**2", bounds={"y": (-3, 3)})


RUNS = {
    "two-point noise": lambda: ls.simulate(
        valley(), ls.EulerMaruyama(0.01, ls.TwoPointNoise()), temperature=0.1, steps=20
    ),
    "covariance": lambda: ls.simulate(
        valley(), ls.Diffusion(0.01, ls.CovarianceNoise([[1.0, 0.3], [0.3, 2.0]])), temperature=0.1, steps=20
    ),
    "colored": lambda: ls.simulate(valley(), ls.SGLD(0.01, ls.ColoredNoise(0.1)), temperature=0.1, steps=20),
    "hessian": lambda: ls.simulate(
        valley(), ls.EulerMaruyama(0.01, ls.HessianNoise(["x"], isotropic=1.0)), temperature=0.1, steps=20
    ),
    "schedules": lambda: ls.simulate(
        valley(), ls.BAOAB(ls.ramp(0.01, 0.05, 0.3), friction=[1.0, 2.0]), steps=20,
        temperature=ls.piecewise({0: 0.1, 0.2: [0.3, 0.4]}),
    ),
    "cycle and cosine": lambda: ls.simulate(
        valley(), ls.Heun(ls.cosine(0.05, 0.01, 0.3)), steps=20, temperature=ls.cycle(0.1, 0.2, 0.1)
    ),
    "walls": lambda: ls.simulate(
        valley(), ls.MALA(0.05), temperature=0.1, chains=3, steps=20, start=[0.0, 0.5],
        constraint=[ls.Absorb({"y": (None, 0.8)}), ls.Reflect({"y": (0.0, None)})],
    ),
    "observers": lambda: ls.simulate(
        valley(), ls.HMC(0.1, 3), temperature=0.1, steps=40,
        record=ls.Record(10, ["energy", ls.Moments("position", every=2), ls.Histogram("y", bins=5, range=(-3, 3))]),
    ),
    "named observers": lambda: ls.simulate(
        valley(), ls.SGHMC(0.01, 0.2), temperature=0.1, steps=40,
        record=ls.Record(10, {"energy": None, "cells": ls.Residence("y", edges=[-1.0, 1.0], every=1)}),
    ),
    "preconditioned": lambda: ls.simulate(
        valley(), ls.Preconditioned(ls.EulerMaruyama(0.01), "diagonal", damping=0.5), temperature=0.1, steps=20
    ),
    "torch optimizer": lambda: ls.simulate(valley(), ls.Optimizer("RMSprop", lr=0.01), start=[0.3, 0.4], steps=20),
    "replica exchange": lambda: ls.replica_exchange(
        DoubleWell(), ls.MALA(0.05), [0.1, 0.2, 0.4], steps=60, swap_every=5, ladders=2, record=ls.Record(7)
    ),
    "certified": lambda: ls.simulate(
        DoubleWell(), ls.EulerMaruyama(0.01), temperature=0.3, chains=4, steps=400, record=ls.Record(10), certify=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_the_specification_makes_the_run_again(name):
    run = RUNS[name]()
    spec = json.loads(run.attrs["spec"])
    if name == "certified":
        spec["certify"] = True
    again = ls.run(spec)
    assert set(again.data_vars) == set(run.data_vars)
    for variable in run.data_vars:
        assert run[variable].values.tobytes() == again[variable].values.tobytes(), variable


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"integrator": {"kind": "EulerMaruyama", "dt": {"kind": "ramp", "start": 0.1}}}, "ramp"),
        ({"integrator": {"kind": "EulerMaruyama", "dt": 0.1, "noise": {"kind": "PinkNoise"}}}, "PinkNoise"),
        ({"temperature": {"kind": "piecewise", "table": {"soon": 0.1}}}, "soon"),
        ({"temperature": {"kind": "slope"}}, "slope"),
        ({"record": {"observables": [{"kind": "Moment", "of": "x"}]}}, "Moments"),
        ({"constraint": {"kind": "Absorb", "walls": {"z": [0, 1]}}}, "z"),
        ({"task": "replica_exchange", "temperatures": [0.1, 0.2]}, "swap_every"),
    ],
)
def test_bad_tables(change, word):
    spec = {
        "potential": {"kind": "DoubleWell"}, "integrator": {"kind": "EulerMaruyama", "dt": 0.01}, "steps": 10,
    } | change  # fmt: skip
    with pytest.raises(ConfigError, match=word):
        ls.run(spec)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda w: ls.simulate(w, ls.Diffusion(1, ls.CovarianceNoise(np.eye(3))), steps=2), ShapeError),
        (lambda w: ls.CovarianceNoise([[1.0, 2.0], [2.0, 1.0]]), ConfigError),
        (lambda w: ls.CovarianceNoise([[1.0, 2.0]]), ShapeError),
        (lambda w: ls.ColoredNoise(0.0), ConfigError),
        (lambda w: ls.HessianNoise("x"), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1, ls.HessianNoise(["z"])), temperature=1, steps=2), ConfigError),
        (lambda w: ls.HMC(0.1, 0), ConfigError),
        (lambda w: ls.BAOAB(0.1, -1.0), ConfigError),
        (lambda w: ls.SGHMC(0.1, 1.5), ConfigError),
        (lambda w: ls.ramp(0.1, 0.2, 0.0), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=ls.ramp(0.1, -0.2, 1.0), steps=2), ConfigError),
        (lambda w: ls.piecewise({1.0: 0.1}), ConfigError),
        (lambda w: ls.ramp([0.1, 0.2], [0.1, 0.2, 0.3], 1.0), ShapeError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=lambda t: -t - 1, steps=2), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=lambda t: "warm", steps=2), ShapeError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(lambda t: 0 * t), temperature=1, steps=2), ConfigError),
        (lambda w: ls.simulate(w, ls.SGD(0.1), temperature=ls.ramp(0.1, 0.2, 1.0), steps=2), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=1, steps=2,
                               constraint=[ls.Reflect({"x": (-1, 1)}), ls.Absorb({"x": (-1, None)})]), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=1, steps=2, start=[5.0],
                               constraint=ls.Absorb({"x": (-1, 1)})), ConfigError),
        (lambda w: ls.replica_exchange(w, ls.MALA(0.1), [0.1], steps=2, swap_every=1), ConfigError),
        (lambda w: ls.replica_exchange(w, ls.MALA(0.1), [0.1, 0.3, 0.2], steps=2, swap_every=1), ConfigError),
        (lambda w: ls.replica_exchange(w, ls.MALA(0.1), [0.0, 0.3], steps=2, swap_every=1), ConfigError),
        (lambda w: ls.replica_exchange(w, ls.SGD(0.1), [0.1, 0.3], steps=2, swap_every=1), ConfigError),
        (lambda w: ls.replica_exchange(w, ls.MALA(0.1), [0.1, 0.3], steps=2, swap_every=0), ConfigError),
        (lambda w: ls.simulate(w, ls.SGD(0.1), steps=100, certify=True), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=1, steps=10, certify=True), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=1, steps=2,
                               record=ls.Record(1, [ls.Moments("x"), ls.Moments("x")])), ConfigError),
        (lambda w: ls.simulate(w, ls.EulerMaruyama(0.1), temperature=1, steps=2,
                               record=ls.Record(1, [ls.Moments("z")])), ConfigError),
        (lambda w: ls.Preconditioned(ls.MALA(0.1), "diagonal"), ConfigError),
        (lambda w: ls.Preconditioned(ls.SGD(0.1), "shampoo"), ConfigError),
        (lambda w: ls.simulate(w, ls.Preconditioned(ls.SGD(0.1), lambda v, x: x[:, :0]), steps=2), ShapeError),
    ],
)  # fmt: skip
def test_bad_settings(call, error):
    with pytest.raises(error) as caught:
        call(DoubleWell())
    assert isinstance(caught.value, LandscapeError)


# -- networks on both backends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", [name for name in INTEGRATORS if name not in ("two-point noise", "colored noise")])
def test_networks_move_alike_on_both_backends(name, dtype, batch_size):
    rule = INTEGRATORS[name](0.02)
    if rule.metropolis and batch_size:
        with pytest.raises(ConfigError, match="full_batch"):
            simulate_network(rule, dtype, batch_size, "auto")
        return
    compiled, batched = (simulate_network(rule, dtype, batch_size, backend) for backend in BACKENDS)
    tolerance = 1e-11 if dtype == torch.float64 else 3e-5
    np.testing.assert_allclose(compiled.position, batched.position, atol=tolerance)
    np.testing.assert_allclose(compiled.energy, batched.energy, atol=tolerance)
    if rule.metropolis:
        np.testing.assert_array_equal(compiled.acceptance, batched.acceptance)


def simulate_network(rule, dtype, batch_size, backend):
    torch.manual_seed(0)
    loss = NetworkLoss(
        architectures.mlp((10, 8, 3)), datasets.random_labels(samples=48), dtype=dtype, batch_size=batch_size
    )
    record = ls.Record(10, ["position", "energy"])
    temperature = [1e-3, 1e-1, 1.0] if rule.thermal else 0.0
    return ls.simulate(loss, rule, temperature=temperature, chains=3, steps=30, record=record, seed=2, backend=backend)


def test_metropolis_rejects_on_networks():
    run = simulate_network(ls.MALA(0.5), torch.float64, None, "compiled")
    assert 0.02 < float(run.acceptance.min()) < 0.98


def test_minibatches_heat_stochastic_gradient_langevin_dynamics():
    """Loss (w - y)^2 on single samples drawn with replacement: stiffness 2, gradient noise C = 4 var y, T + lr C/2."""
    y = torch.tensor([0.0, 1.0, 1.5, 4.0], dtype=torch.float64)[:, None]
    module = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    loss = NetworkLoss(module, torch.ones_like(y), y, loss="mse", batch_size=1, sampling="replacement")
    noise = 4 * float(y.var(correction=0))
    for lr, temperature in ((0.1, 0.3), (0.05, 0.3), (0.1, 0.05)):
        run = ls.simulate(
            loss, ls.SGLD(lr), temperature=temperature, chains=400, steps=400, start=[float(y.mean())], seed=9,
            record=ls.Record(4, ["position"]),
        )  # fmt: skip
        square = ((run.position.values[:, 25:, 0] - float(y.mean())) ** 2).mean(1)
        exact = (temperature + lr * noise / 2) / (2 * (1 - lr))
        assert abs(z_score(square, exact)) < Z_MAX
        assert abs(z_score(square, temperature / (2 * (1 - lr)))) > Z_CONTROL
