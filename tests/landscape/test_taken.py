"""Each run says in one line what it took: integrator, backend and why, temperature, noise, minibatches."""

import logging

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.potentials import Expression, Function, NetworkLoss, architectures

BOWL = Expression("x**2/2", ["x"])


def linear():
    return NetworkLoss(nn.Linear(3, 2), torch.eye(3), torch.tensor([0, 1, 1]), batch_size=2)


CASES = [
    (lambda: BOWL, ls.EulerMaruyama(dt=0.1), {}, "compiled in float64 on cpu, T = 0: no noise"),
    (lambda: BOWL, ls.EulerMaruyama(dt=0.1), {"temperature": 0.5}, "in float64 on cpu, T = 0.5 (ThermalNoise)"),
    (lambda: BOWL, ls.EulerMaruyama(dt=0.1), {"temperature": [0.1, 0.2]}, "2 chains, compiled in float64 on cpu, T ="),
    (lambda: BOWL, ls.EulerMaruyama(dt=0.1), {"temperature": ls.ramp(0.1, 0.2, 1.0)}, "T by schedule (ThermalNoise)"),
    (lambda: BOWL, ls.SGD(lr=0.1), {}, "SGD on Expression, 1 chain, compiled in float64 on cpu, no thermal noise"),
    (
        lambda: Function(lambda x: (x**2).sum(-1), 1, ["x"]), ls.EulerMaruyama(dt=0.1), {},
        "T = 0: no noise (not compiled: it needs a formula or a plain MLP, not a Function)",
    ),
    (
        linear, ls.SGD(lr=0.1), {},
        "no thermal noise, minibatches of 2 (epoch) (not compiled: the module is not a plain MLP",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("potential", "integrator", "settings", "line"), CASES)
def test_the_line_is_logged(potential, integrator, settings, line, caplog):
    with caplog.at_level(logging.INFO, logger="landscape"):
        ls.simulate(potential(), integrator, steps=1, start=None, **settings)
    assert len(caplog.messages) == 1
    assert line in caplog.messages[0]


def test_the_line_stands_above_the_bar_and_is_not_printed_without_one(capsys):
    ls.simulate(BOWL, ls.EulerMaruyama(dt=0.1), steps=1, progress=True)
    assert (
        "EulerMaruyama on Expression, 1 chain, compiled in float64 on cpu, T = 0: no noise" in capsys.readouterr().err
    )
    ls.simulate(BOWL, ls.EulerMaruyama(dt=0.1), steps=1, progress=False)
    assert capsys.readouterr().err == ""


def test_a_plain_network_is_compiled():
    """Control: of a Sequential nothing is said."""
    from landscape.dynamics.taken import what_it_took
    from landscape.engine.prepare import prepare

    loss = NetworkLoss(architectures.mlp([3, 4, 2]), torch.eye(3), torch.tensor([0, 1, 1]))
    plan, _, _ = prepare(loss, ls.SGD(lr=0.1), steps=1)
    assert what_it_took(plan, "compiled").endswith("no thermal noise")
