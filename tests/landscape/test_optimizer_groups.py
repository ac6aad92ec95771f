"""Parameter groups at rates of their own keep their ratio under every schedule."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigError

RATE = 0.01


def grouped(parameters, lr):
    """One group follows the rate, one is ten times as fast, one has a rate of its own."""
    return torch.optim.SGD(
        [
            {"params": parameters[:1]},
            {"params": parameters[1:2], "lr": 10 * lr},
            {"params": parameters[2:], "lr": 0.003},
        ],
        lr=lr,
        momentum=0.5,
    )


@pytest.fixture
def loss():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(23, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(23, 2, generator=generator, dtype=torch.float64)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return ls.potentials.NetworkLoss(module, x, y, loss="mse", dtype=torch.float64)


def by_torch(loss, factors):
    """Weights after a step at each factor, with torch's own scheduler."""
    module = copy.deepcopy(loss.module_at(loss.position()))
    optimizer = grouped(list(module.parameters()), RATE)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factors[min(step, len(factors) - 1)])
    x, y = loss.inputs, loss.targets
    for _ in factors:
        optimizer.zero_grad()
        ((module(x) - y) ** 2).mean().backward()
        optimizer.step()
        scheduler.step()
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()]).numpy()


def test_a_schedule_in_time(loss):
    factors = [1.0] * 10 + [0.1] * 10
    schedule = ls.piecewise({0: RATE, 9.5 * RATE: 0.1 * RATE})
    run = ls.simulate(loss, ls.Optimizer(grouped, lr=schedule), steps=20)
    np.testing.assert_allclose(run.last_position[0], by_torch(loss, factors), rtol=1e-12)
    one_rate = ls.simulate(loss, ls.Optimizer("SGD", lr=schedule, momentum=0.5), steps=20)
    assert abs(run.last_position - one_rate.last_position).max() > 1e-3


def test_a_run_in_two_parts(loss):
    optimizer = ls.Optimizer(grouped, lr=ls.ramp(RATE, 3 * RATE, 20 * RATE))
    whole = ls.simulate(loss, optimizer, steps=12)
    half = ls.simulate(loss, optimizer, steps=5)
    rest = ls.simulate(loss, optimizer, steps=7, start=half, state="keep")
    np.testing.assert_array_equal(rest.last_position, whole.last_position)


def test_the_factor_of_a_training(loss):
    run = ls.train(loss, ls.Optimizer(grouped, lr=RATE), epochs=12, schedule={0: 1.0, 6: 0.1})
    np.testing.assert_allclose(run.last_position[0], by_torch(loss, [1.0] * 6 + [0.1] * 6), rtol=1e-12)


def test_the_factor_reaches_an_inner_rule(loss):
    inner = ls.Preconditioned(ls.SGD(lr=RATE), lambda potential, position: torch.full_like(position, 2.0))
    run = ls.train(loss, inner, epochs=4, schedule={0: 1.0, 2: 0.5})
    plain = ls.train(loss, ls.SGD(lr=2 * RATE), epochs=4, schedule={0: 1.0, 2: 0.5})
    np.testing.assert_allclose(run.last_position, plain.last_position, rtol=1e-12)


def test_training_with_a_schedule_of_the_optimizer(loss):
    schedule = ls.piecewise({0: RATE, 3.5 * RATE: 0.1 * RATE})
    run = ls.train(loss, ls.SGD(lr=schedule), epochs=8)
    same = ls.simulate(loss, ls.SGD(lr=schedule), steps=8)
    np.testing.assert_allclose(run.last_position, same.last_position, rtol=1e-12)
    with pytest.raises(ConfigError, match="schedule"):
        ls.train(loss, ls.SGD(lr=schedule), epochs=8, schedule={0: 1.0, 4: 0.1})
