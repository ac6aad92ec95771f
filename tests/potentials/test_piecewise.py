"""Whether tr H = tr F is read off the graph rightly: against the Hessian by central differences, one module a trap."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss
from landscape.potentials.expression.piecewise import why_curved
from landscape.probes import curvature

SAMPLES = 9


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def late(x):
    """0 for the first samples, 1 for the last."""
    return (x[:, -1] > 5).to(x)[:, None]


class Mul(torch.autograd.Function):
    """A function of the user's own with a name that torch uses too: a square."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return 2 * x * slope


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)
        self.gate, self.gates = nn.Parameter(torch.tensor(0.8)), nn.Parameter(torch.tensor([1.2, 0.4, -0.7, 0.9]))

    def forward(self, x):
        h = getattr(self, "_" + self.kind.replace(" ", "_"))(x)
        return self.second(h)

    # -- piecewise linear in every single weight

    def _gated(self, x):
        return self.gate * torch.relu(self.first(x)) * self.gates

    def _residual_gate(self, x):
        h = self.first(x)
        return h + self.gate * torch.relu(h)

    def _product_of_weights(self, x):
        return torch.relu(x @ (self.gates[:, None] * self.first.weight).T + self.first.bias)

    def _size(self, x):
        return self.first(x) + self.gate.abs() + self.gates.clamp(0, 1)

    def _difference(self, x):
        return 1 - torch.relu(self.first(x)) / 3

    # -- not

    def _exponential(self, x):
        return self.first(x) * self.gate.exp()

    def _late_exponential(self, x):
        return self.first(x) + late(x) * self.gate.exp()

    def _branch_on_data(self, x):
        h, flag = self.first(x), late(x)[:, 0] > 0
        return torch.cat([h[~flag], h[flag].tanh()]) if flag.any() else h

    def _weight_norm(self, x):
        weight = self.first.weight
        return functional.linear(x, self.gates[:, None] * weight / weight.norm(dim=1, keepdim=True), self.first.bias)

    def _squared_weight(self, x):
        return functional.linear(x, self.first.weight * self.first.weight, self.first.bias)

    def _slices(self, x):
        return functional.linear(x, self.first.weight[:, :2].repeat(1, 2) * self.first.weight[:, 2:].repeat(1, 2))

    def _split(self, x):
        one, other = self.first.weight.split(2)
        return (x @ one.T).repeat(1, 2) * (x @ other.T).repeat(1, 2)

    def _late_second_use(self, x):
        h = torch.relu(self.first(x))
        return h + late(x) * functional.linear(h, self.first.weight)

    def _hypernetwork(self, x):
        weight = self.first(torch.ones(4, 4, dtype=x.dtype) + torch.eye(4, dtype=x.dtype))
        return torch.relu(x @ weight) @ weight

    def _gate_twice(self, x):
        return self.gate * torch.relu(self.gate * self.first(x))

    def _own_function(self, x):
        return Mul.apply(self.first(x))

    def _penalty(self, x):
        return self.first(x) + self.gates.square().sum()

    def _slope(self, x):
        x = x.detach().requires_grad_(True)
        h = torch.relu(self.first(x))
        (slope,) = torch.autograd.grad((h * self.gates).sum(), x, create_graph=True)
        return h + late(x) * h * slope


EXACT = ["gated", "residual gate", "product of weights", "size", "difference"]
CURVED = {
    "exponential": "depend on weights",
    "late exponential": "Exp",
    "branch on data": "Tanh",
    "weight norm": "Norm|used more than once|division",
    "squared weight": "used more than once",
    "late second use": "used more than once",
    "hypernetwork": "depend on weights",
    "gate twice": "used more than once",
    "own function": "user's own",
    "penalty": "Pow",
    "slope": "depend on weights|used more than once",
}
CAUTIOUS = {"slices": "depend on weights", "split": "depend on weights"}  # of different weights after all


def made(kind, samples=SAMPLES):
    torch.manual_seed(3)
    module = Net(kind).double()
    x = draws(SAMPLES, 4, seed=1)
    x[-2:, -1] += 10
    return NetworkLoss(module, x[:samples], torch.arange(samples) % 3)


def traces(loss, step=1e-5):
    """Of the Hessian by central differences of the gradient, and of the Fisher matrix."""
    at = loss.position()
    total = 0.0
    for i, axis in enumerate(step * torch.eye(loss.dim, dtype=torch.float64)):
        total += float(loss.gradient(at + axis)[i] - loss.gradient(at - axis)[i]) / (2 * step)
    return total, float(curvature.fisher_trace(loss, at, labels="model").fisher_trace)


@pytest.mark.parametrize("kind", EXACT)
def test_the_traces_are_equal_where_it_says_so(kind):
    loss = made(kind)
    assert why_curved(loss) is None
    hessian, fisher = traces(loss)
    np.testing.assert_allclose(fisher, hessian, rtol=1e-6)
    found = curvature.trace(loss, loss.position(), method="exact")
    np.testing.assert_allclose(found.trace, hessian, rtol=1e-6)
    assert found.attrs["route"]


@pytest.mark.parametrize("kind", CAUTIOUS)
def test_what_is_not_known_is_refused(kind):
    loss = made(kind)
    assert np.isclose(*traces(loss), rtol=1e-6)
    with pytest.raises(ConfigError, match=CAUTIOUS[kind]):
        curvature.trace(loss, loss.position(), method="exact")


@pytest.mark.parametrize("kind", CURVED)
def test_networks_with_other_traces_are_refused(kind):
    loss = made(kind)
    hessian, fisher = traces(loss)
    assert abs(hessian - fisher) > 1e-4 * fisher
    with pytest.raises(ConfigError, match=CURVED[kind]):
        curvature.trace(loss, loss.position(), method="exact")


def test_what_two_samples_do_not_show():
    """Control: of the first samples alone the branch is another network."""
    assert why_curved(made("branch on data", samples=2)) is None
    assert "Tanh" in why_curved(made("branch on data"))


class Branch(nn.Module):
    """Which network it is depends on a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.gate = nn.Linear(4, 3), nn.Parameter(torch.tensor(-1.0))

    def forward(self, x):
        h = self.first(x)
        return h.tanh() * self.gate if self.gate > 0 else h * self.gate


def test_every_position_is_looked_at():
    loss = NetworkLoss(Branch().double(), draws(SAMPLES, 4), torch.arange(SAMPLES) % 3)
    at = loss.position()
    there = at.clone()
    there[next(slot.offset for slot in loss.layout if slot.name == "gate")] = 1.0
    assert float(curvature.trace(loss, at, method="exact").trace) > 0
    with pytest.raises(ConfigError, match="Tanh"):
        curvature.trace(loss, torch.stack([at, there]), method="exact")


@pytest.mark.parametrize("loss", ["huber", "nll", lambda f, y: (f - y).square().sum(1)])
def test_losses_of_which_the_second_derivatives_are_not_those_of_the_model(loss):
    targets = torch.arange(SAMPLES) % 3 if loss == "nll" else draws(SAMPLES, 3)
    network = NetworkLoss(nn.Linear(4, 3).double(), draws(SAMPLES, 4), targets, loss=loss)
    assert why_curved(network) is not None


def test_many_samples_are_looked_at_in_chunks(monkeypatch):
    monkeypatch.setattr("landscape.potentials.expression.piecewise.GRAPH_BYTES", 1)
    assert why_curved(made("gated")) is None
    assert "Tanh" in why_curved(made("branch on data"))
