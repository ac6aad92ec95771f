"""Gradients that are cut before the rule sees them, and gradients of minibatches as an observable."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape.errors import ConfigError


def network():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(24, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(24, 2, generator=generator, dtype=torch.float64) * 20
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module, x, y


RULES = {
    "SGD": (lambda **clip: ls.SGD(lr=0.01, momentum=0.5, **clip), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5)),
    "Adam": (lambda **clip: ls.Adam(lr=0.01, **clip), lambda p: torch.optim.Adam(p, lr=0.01)),
    "AdamW": (
        lambda **clip: ls.AdamW(lr=0.01, weight_decay=0.1, **clip),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize(
    "clip", [{"clip_norm": 0.7}, {"clip_value": 0.3}, {"clip_norm": 0.7, "clip_value": 0.3}], ids=str
)
@pytest.mark.parametrize("rule", RULES)
def test_steps_of_torch_with_clipped_gradients(rule, clip):
    module, x, y = network()
    ours, theirs = RULES[rule]
    loss = ls.potentials.NetworkLoss(module, x, y, loss="mse", dtype=torch.float64)
    run = ls.simulate(loss, ours(**clip), steps=8, chains=2)
    free = ls.simulate(loss, ours(), steps=8)
    optimizer = theirs(module.parameters())
    for _ in range(8):
        optimizer.zero_grad()
        ((module(x) - y) ** 2).mean().backward()
        if "clip_value" in clip:
            nn.utils.clip_grad_value_(module.parameters(), clip["clip_value"])
        if "clip_norm" in clip:
            nn.utils.clip_grad_norm_(module.parameters(), clip["clip_norm"])
        optimizer.step()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()]).numpy()
    np.testing.assert_allclose(run.last_position, [expected, expected], rtol=1e-10, atol=1e-12)
    assert abs(free.last_position[0] - expected).max() > 1e-4


def test_each_chain_is_cut_by_itself_and_a_stored_rule_is_the_same(tmp_path):
    bowl = ls.potentials.Expression("50*x**2 + y**2/2", ["x", "y"])
    start = [[1.0, 0.0], [0.001, 0.001]]
    run = ls.simulate(bowl, ls.SGD(lr=0.1, clip_norm=1.0), steps=1, start=start)
    np.testing.assert_allclose(run.last_position, [[0.9, 0.0], [-0.009, 0.0009]], rtol=1e-5)
    again = ls.run(json.loads(run.attrs["spec"]))
    np.testing.assert_array_equal(again.last_position, run.last_position)
    with pytest.raises(ConfigError, match="compiled"):
        ls.simulate(bowl, ls.SGD(lr=0.1, clip_norm=1.0), steps=1, backend="compiled")
    for wrong in ({"clip_norm": 0.0}, {"clip_value": -1.0}, {"clip_norm": "1"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ls.SGD(lr=0.1, **wrong)


def test_the_gradient_of_a_minibatch_is_what_the_next_step_follows():
    module, x, y = network()
    loss = ls.potentials.NetworkLoss(module, x, y, loss="mse", dtype=torch.float64, batch_size=6)
    record = ls.Record(every=1, observables=["position", "batch_gradient"])
    run = ls.simulate(loss, ls.SGD(lr=0.01), steps=5, chains=2, record=record)
    assert run.batch_gradient.dims == ("chain", "draw", "coordinate")
    steps = run.position.diff("draw").values / -0.01
    np.testing.assert_allclose(run.batch_gradient.values[:, :-1], steps, rtol=1e-9, atol=1e-9)
    whole = loss.gradient(run.position.values[0, 0])
    assert abs(whole - run.batch_gradient.values[0, 0]).max() > 0.1
