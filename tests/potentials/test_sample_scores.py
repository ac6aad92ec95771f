"""Gradients of single samples against a loop over samples in float64, for modules that break one assumption each."""

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss
from landscape.potentials.curvature import sample_routes
from landscape.potentials.curvature.sample_scores import loss_scores
from landscape.potentials.network.layer_rules import fits
from landscape.potentials.network.recorded_layers import Recording, record
from landscape.probes import curvature

SAMPLES, FEATURES, CLASSES = 12, 4, 3
RULES, VMAP, LOOP = sample_routes.ROUTES


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class AddedAxis(nn.Module):
    """Samples behind an axis of length 1."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x[None])))[0]


class Merged(nn.Module):
    """Every sample in two rows."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES // 2, 3), nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.second(torch.relu(self.first(x.reshape(-1, FEATURES // 2))).reshape(len(x), -1))


class Hyper(nn.Module):
    """Weights that a layer makes of a constant."""

    def __init__(self):
        super().__init__()
        self.make, self.read = nn.Linear(2, 5 * FEATURES), nn.Linear(5, CLASSES)
        self.register_buffer("code", draws(1, 2, seed=3))

    def forward(self, x):
        weight = self.make(self.code).view(5, FEATURES)
        return self.read(torch.tanh(functional.linear(x, weight)))


class Operator(nn.Module):
    """A DeepONet: a trunk on a grid of as many points as there are rows in it."""

    def __init__(self, points):
        super().__init__()
        self.branch, self.trunk = nn.Linear(FEATURES, 6), nn.Linear(1, 6)
        self.read = nn.Linear(points, CLASSES)
        self.register_buffer("grid", torch.linspace(0, 1, points, dtype=torch.float64).view(-1, 1))

    def forward(self, x):
        return self.read(self.branch(x) @ torch.tanh(self.trunk(self.grid)).T)


class Places(nn.Module):
    """A layer on positions (1, sequence, features) that all samples share."""

    def __init__(self):
        super().__init__()
        self.place, self.read = nn.Linear(2, 1), nn.Linear(FEATURES, CLASSES)
        self.register_buffer("positions", draws(1, FEATURES, 2, seed=4))

    def forward(self, x):
        return self.read(torch.tanh(x + self.place(self.positions)[..., 0]))


class Sorted(nn.Module):
    """Rows in the order of their first feature, put back later."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        order = x[:, 0].argsort()
        return self.second(torch.tanh(self.first(x[order]))[order.argsort()])


class Mixture(nn.Module):
    """Experts that see the samples sent to them; the last is sent none."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(FEATURES, 3)
        self.experts = nn.ModuleList(nn.Linear(FEATURES, CLASSES) for _ in range(3))

    def forward(self, x):
        chosen = (x[:, 0] > 0).long()
        weight = self.gate(x).softmax(1)
        out = x.new_zeros(len(x), CLASSES)
        for number, expert in enumerate(self.experts):
            own = chosen == number
            out[own] = expert(x[own]) * weight[own, number, None]
        return out


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell, self.read = kind(2, 3, batch_first=True), nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.read(self.cell(x.view(len(x), 2, 2))[0][:, -1])


class Tied(nn.Module):
    """A decoder by the transposed encoder, behind a flag that is 0 for the first samples (or not there for them)."""

    def __init__(self, *, branch=False):
        super().__init__()
        self.encode, self.read = nn.Linear(FEATURES, 3), nn.Linear(FEATURES, CLASSES)
        self.branch = branch

    def forward(self, x):
        hidden = torch.relu(self.encode(x))
        flag = late(x)
        if self.branch and not flag.any():
            return self.read(torch.cat([hidden, hidden[:, :1]], dim=1))
        decoded = functional.linear(hidden, self.encode.weight.T)
        return self.read(torch.cat([hidden, hidden[:, :1]], dim=1) + flag[:, None] * decoded)


class Elsewhere(nn.Module):
    """A layer's weight in a penalty, read through the layer, or given to a function of it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        out = self.second(torch.tanh(self.first(x)))
        return out + 0.1 * late(x)[:, None] * self.second.weight.square().sum(1)


class Derived(nn.Module):
    """A slope of the network itself, behind a flag: with rectifiers no graph shows the weights' second use."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        x = x.detach().requires_grad_(True)
        out = self.second(torch.relu(self.first(x)))
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return out + late(x)[:, None] * slope[:, :CLASSES]


class Transformed(Derived):
    """Slopes by a transform of functions, in reverse or in forward mode."""

    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def forward(self, x):
        def network(one):
            return self.second(torch.tanh(self.first(one)))

        if self.mode == "forward":
            out, along = torch.func.jvp(network, (x,), (torch.ones_like(x),))
            return out + late(x)[:, None] * along
        slope = torch.func.vmap(torch.func.grad(lambda one: network(one)[0]))(x)
        return network(x) + late(x)[:, None] * slope[:, :CLASSES]


class Twice(Elsewhere):
    """Two views of every sample, side by side among the rows of a layer."""

    def forward(self, x):
        hidden = self.first(torch.cat([x, 2 * x]))
        return self.second(torch.tanh(hidden[: len(x)] * hidden[len(x) :]))


class Scalars(nn.Module):
    """Parameters of no axes and of no elements."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)
        self.gate, self.scale = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor([1.3]))
        self.nothing = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x):
        hidden = self.first(x)
        return self.scale * self.second(hidden + self.gate * torch.relu(hidden)) + self.nothing.sum()


class Empty(nn.Module):
    """A layer without inputs, and one that is never called."""

    def __init__(self):
        super().__init__()
        self.read, self.unused = nn.Linear(FEATURES, CLASSES), nn.Linear(2, 2)
        with pytest.warns(UserWarning, match="zero-element"):
            self.empty = nn.Linear(0, CLASSES)

    def forward(self, x):
        return self.read(x) + self.empty(x[:, :0])


class Nothing(nn.Module):
    """A parameter without elements next to a layer with a rule."""

    def __init__(self):
        super().__init__()
        self.nothing, self.read = nn.Parameter(torch.zeros(0, 3)), nn.Linear(FEATURES, CLASSES)

    def forward(self, x):
        return self.read(x) + self.nothing.sum()


class Hooked(nn.Module):
    """A layer that is something else than its type says."""

    def __init__(self, how):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)
        if how == "hook":
            self.first.register_forward_hook(_doubled)
        if how == "weight norm":
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(self.first)

    def forward(self, x):
        return self.second(torch.tanh(self.first(input=x)))


def _doubled(layer, given, returned):
    return 2 * returned + layer.weight.sum()


class Images(nn.Module):
    """Normalisation and convolution that the rules know, one layer twice, one kernel in groups if asked."""

    def __init__(self, groups=1):
        super().__init__()
        self.conv, self.again = nn.Conv2d(1, 2, 2), nn.Conv2d(2, 2, 1, groups=groups)
        self.norm, self.read = nn.GroupNorm(1, 2), nn.Linear(2, CLASSES)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x.view(-1, 1, 2, 2))))
        return self.read(self.again(self.again(h)).flatten(1))


def late(x):
    """0 for the first samples, 1 for the last."""
    return (x[:, -1] > 5).to(x)


def plain():
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, CLASSES))


@dataclass(frozen=True)
class Case:
    make: object
    routes: tuple
    chunks: tuple = (None, 5)
    kind: dict = field(default_factory=dict)


CASES = {
    "plain": Case(plain, (RULES,)),
    "images": Case(Images, (RULES,)),
    "grouped convolution": Case(lambda: Images(2), (VMAP,)),
    "added axis": Case(AddedAxis, (VMAP,)),
    "several rows": Case(Merged, (VMAP,)),
    "hypernetwork": Case(Hyper, (VMAP,)),
    "trunk": Case(lambda: Operator(7), (VMAP,)),
    "trunk, one point": Case(lambda: Operator(1), (VMAP,), (None, 1)),
    "trunk, a point for every sample of a chunk": Case(lambda: Operator(4), (VMAP,), (4,)),
    "trunk, a point for every sample": Case(lambda: Operator(SAMPLES), (VMAP,), (None,)),
    "trunk, a point for every sample tried": Case(lambda: Operator(3), (VMAP,), (3, 5)),
    "shared positions": Case(Places, (VMAP,)),
    "sorted": Case(Sorted, (VMAP,)),
    "mixture": Case(Mixture, (LOOP,)),
    "mixture, one at a time": Case(Mixture, (LOOP,), (1,)),
    "gru": Case(lambda: Recurrent(nn.GRU), (LOOP,)),
    "lstm": Case(lambda: Recurrent(nn.LSTM), (VMAP, LOOP)),
    "rnn": Case(lambda: Recurrent(nn.RNN), (LOOP,)),
    "tied": Case(Tied, (VMAP,)),
    "tied on a branch": Case(lambda: Tied(branch=True), (RULES, LOOP), (4,)),
    "penalty": Case(Elsewhere, (VMAP,)),
    "slope of itself": Case(Derived, (VMAP, LOOP)),
    "slope by a transform": Case(lambda: Transformed("reverse"), (VMAP, LOOP)),
    "slope in forward mode": Case(lambda: Transformed("forward"), (VMAP, LOOP)),
    "two views": Case(Twice, (VMAP,)),
    "scalars": Case(Scalars, (VMAP,)),
    "no elements": Case(Nothing, (RULES,)),
    "empty": Case(Empty, (RULES,)),
    "hook": Case(lambda: Hooked("hook"), (RULES, VMAP)),
    "named input": Case(lambda: Hooked("none"), (RULES,)),
}


def data():
    x, y = draws(SAMPLES, FEATURES, seed=1), torch.arange(SAMPLES) % CLASSES
    x[-3:, -1] += 10  # see `late`
    return x, y


def made(name):
    torch.manual_seed(2)
    module = CASES[name].make().double()
    return module, NetworkLoss(module, *data())


def looped(module, x, y):
    """Gradients ``(samples, dim)`` of the losses, ``(samples, C, dim)`` of sqrt(p_c) log p_c, sample by sample."""
    module = copy.deepcopy(module)
    weights = list(module.parameters())

    def slopes(value):
        found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([one.reshape(-1) for one in found])

    empirical, model = [], []
    for i in range(len(x)):
        logarithms = module(x[i : i + 1]).log_softmax(1)[0]
        empirical.append(slopes(-logarithms[y[i]]))
        model.append(torch.stack([slopes(one) * one.detach().exp().sqrt() for one in logarithms]))
    return torch.stack(empirical), torch.stack(model)


def gathered(scores, loss):
    """Gradients ``(samples, dim)`` of the first direction."""
    rows = torch.zeros(len(loss.inputs), loss.dim, dtype=torch.float64)
    for part, gradients in scores.chunks():
        for slot, k, gradient in gradients:
            assert gradient.shape == (part.stop - part.start, slot.size)
            if k == 0:
                rows[part, slot.offset : slot.offset + slot.size] = gradient
    return rows


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by torch.func.jvp itself
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_single_samples(name):
    """One by one, their squares, and the singular values of all scores; the user's module stays as it was."""
    module, loss = made(name)
    before = copy.deepcopy(module.state_dict())
    empirical, model = looped(module, *data())
    at = loss.position()
    for size in CASES[name].chunks:
        scores = loss_scores(loss, at, chunk_size=size)
        torch.testing.assert_close(gathered(scores, loss), empirical, rtol=1e-9, atol=1e-12)
        assert scores.taken <= set(CASES[name].routes)
        found = curvature.fisher_trace(loss, at, labels="model", chunk_size=size)
        np.testing.assert_allclose(found.fisher_trace, model.square().sum((1, 2)).mean(), rtol=1e-9)
        assert set(found.attrs["route"].split(" and ")) <= set(CASES[name].routes)
    found = curvature.score_singular_values(loss, at, chunk_size=size)
    truth = torch.linalg.svdvals(model.flatten(0, 1).T / SAMPLES**0.5)
    np.testing.assert_allclose(found.singular_value[: len(truth)], truth, atol=1e-7)
    assert set(found.attrs["route"].split(" and ")) <= set(CASES[name].routes)
    layers = curvature.fisher_trace(loss, at, labels="empirical", blocks="layer")
    np.testing.assert_allclose(layers.fisher_trace.sum(), empirical.square().sum(1).mean(), rtol=1e-9)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert not any(one._forward_pre_hooks for one in loss.private_module.modules())


@pytest.mark.parametrize("route", range(3))
def test_all_three_routes_find_the_same(route, monkeypatch):
    """Of a network for which all of them are right."""
    monkeypatch.setattr(sample_routes, "first_route", None)
    module, loss = made("plain")
    scores = loss_scores(loss, loss.position(), chunk_size=5)
    scores._route = route
    torch.testing.assert_close(gathered(scores, loss), looped(module, *data())[0], rtol=1e-9, atol=1e-12)
    assert scores.taken == {sample_routes.ROUTES[route]}


# -- controls: what the rules would give without the tests -------------------------------------------------------------


def recorded(loss, rows):
    def evaluate(leaves):
        return loss.forward(leaves, loss.inputs[rows], {**loss.statistics_at(loss.position())})

    slots = tuple(loss.layout)
    return record(loss.private_module, slots, loss.layout.unflatten(loss.position()), evaluate)


@pytest.mark.parametrize("name", ["trunk, a point for every sample", "sorted"])
def test_rows_that_are_no_samples_have_the_right_number(name, monkeypatch):
    """Neither shapes nor the graph tell: without the pass with random weights the trace is wrong."""
    _, loss = made(name)
    found = recorded(loss, slice(0, SAMPLES))
    assert found.why_not(tuple(loss.layout)) is None
    assert all(fits(call, SAMPLES) for call in found.calls)
    right = float(curvature.fisher_trace(loss, loss.position(), labels="empirical").fisher_trace)
    monkeypatch.setattr(sample_routes, "rows_apart", lambda *given, **named: True)
    monkeypatch.setattr(sample_routes, "_agree", lambda found, truth: True)
    loss.measured.clear()
    wrong = curvature.fisher_trace(loss, loss.position(), labels="empirical")
    assert wrong.attrs["route"] == RULES
    assert abs(float(wrong.fisher_trace) / right - 1) > 1e-4


@pytest.mark.parametrize("name", ["tied", "penalty"])
def test_a_second_use_that_is_zero_for_the_first_samples(name, monkeypatch):
    """What a comparison on them passes, the graph refuses."""
    _, loss = made(name)
    assert recorded(loss, slice(0, 3)).elsewhere == {"encode.weight" if name == "tied" else "second.weight"}
    right = float(curvature.fisher_trace(loss, loss.position(), labels="empirical").fisher_trace)
    monkeypatch.setattr(Recording, "why_not", lambda recording, wanted: None)
    loss.measured.clear()
    wrong = curvature.fisher_trace(loss, loss.position(), labels="empirical")  # the comparison is as it was
    assert wrong.attrs["route"] == RULES
    assert abs(float(wrong.fisher_trace) / right - 1) > 1e-4


def test_a_slope_in_the_forward_pass_is_seen_though_no_graph_shows_it():
    _, loss = made("slope of itself")
    found = recorded(loss, slice(0, 3))
    assert not found.elsewhere
    assert "derivative" in found.fault


def test_a_route_is_left_where_it_ceases_to_be_right():
    """The first chunks by rules, those with the branch one by one; the next position starts there."""
    _, loss = made("tied on a branch")
    scores = loss_scores(loss, loss.position(), chunk_size=4)
    assert [next(iter(scores.taken)) for _ in [next(scores.chunks())]] == [RULES]
    found = curvature.fisher_trace(loss, loss.position(), labels="empirical", chunk_size=4)
    assert found.attrs["route"] == f"{RULES} and {LOOP}"
    again = curvature.fisher_trace(loss, loss.position(), labels="empirical", chunk_size=4)
    assert again.attrs["route"] == LOOP
    np.testing.assert_allclose(found.fisher_trace, again.fisher_trace, rtol=1e-12)


def test_positions_that_are_not_finite_teach_nothing():
    _, loss = made("plain")
    lost = torch.full((loss.dim,), 1e200, dtype=torch.float64)
    bad = curvature.fisher_trace(loss, lost, labels="empirical")
    assert not np.isfinite(bad.fisher_trace)
    assert not bad.converged
    assert curvature.fisher_trace(loss, loss.position(), labels="empirical").attrs["route"] == RULES


def test_a_softmax_over_one_class_has_no_scores():
    loss = NetworkLoss(nn.Linear(FEATURES, 1).double(), data()[0], torch.zeros(SAMPLES, dtype=torch.int64))
    assert float(curvature.fisher_trace(loss, loss.position(), labels="model").fisher_trace) == 0.0
    assert float(curvature.trace(loss, loss.position(), method="exact").trace) == 0.0


# -- samples that interact ---------------------------------------------------------------------------------------------


class Mixing(nn.Module):
    """Late samples see the mean of all."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return self.second(hidden + late(x)[:, None] * hidden.mean(0))


def test_samples_that_interact_late_are_refused():
    loss = NetworkLoss(Mixing().double(), *data())
    for labels in ("model", "empirical"):
        with pytest.raises(ConfigError, match="interact"):
            curvature.fisher_trace(loss, loss.position(), labels=labels)


# -- losses of one's own, outputs of any form --------------------------------------------------------------------------


class Structured(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.body = kind, made_body(kind)
        self.read, self.side = nn.Linear(3, CLASSES), nn.Linear(3, 1)

    def forward(self, x):
        hidden = self.body(x.view(len(x), 2, 2))[0][:, -1] if self.kind == "gru" else torch.tanh(self.body(x))
        return {"logits": self.read(hidden), "more": (self.side(hidden)[:, 0],)}


def made_body(kind):
    return nn.GRU(2, 3, batch_first=True) if kind == "gru" else nn.Linear(FEATURES, 3)


def own_loss(outputs, targets):
    return functional.cross_entropy(outputs["logits"], targets, reduction="none") + outputs["more"][0].square()


def mean_of_the_batch(outputs, targets):
    """Every sample's loss depends on all: it has no gradient of its own."""
    losses = own_loss(outputs, targets)
    return losses - 0.5 * losses.mean()


@pytest.mark.parametrize(("kind", "route"), [("linear", RULES), ("gru", LOOP)])
def test_structured_outputs_with_a_loss_of_ones_own(kind, route):
    torch.manual_seed(0)
    module, (x, y) = Structured(kind).double(), data()
    loss = NetworkLoss(module, x, y, loss=own_loss)
    rows = []
    for i in range(SAMPLES):
        value = own_loss(module(x[i : i + 1]), y[i : i + 1]).sum()
        rows.append(torch.cat([one.reshape(-1) for one in torch.autograd.grad(value, list(module.parameters()))]))
    truth = torch.stack(rows)
    found = curvature.fisher_trace(loss, loss.position(), labels="empirical", chunk_size=5)
    np.testing.assert_allclose(found.fisher_trace, truth.square().sum(1).mean(), rtol=1e-9)
    assert found.attrs["route"] == route
    torch.testing.assert_close(gathered(loss_scores(loss, loss.position()), loss), truth, rtol=1e-9, atol=1e-12)
    with pytest.raises(ConfigError, match="callable"):
        curvature.fisher_trace(loss, loss.position(), labels="model")


def test_a_loss_that_mixes_samples_is_refused():
    torch.manual_seed(0)
    loss = NetworkLoss(Structured("linear").double(), *data(), loss=mean_of_the_batch)
    with pytest.raises(ConfigError, match="interact"):
        curvature.fisher_trace(loss, loss.position(), labels="empirical")


def test_an_output_with_the_samples_second():
    """As of a recurrent network without batch_first: the loss of one's own knows, and rows are as many as samples."""

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.Linear(FEATURES, SAMPLES)

        def forward(self, x):
            return (self.read(x).T,)

    torch.manual_seed(0)
    module, (x, _) = Turned().double(), data()
    y = draws(SAMPLES, SAMPLES, seed=9)
    loss = NetworkLoss(module, x, y, loss=lambda f, y: (f[0].T - y).square().mean(1))
    leaves = list(module.parameters())
    truth = 0.0
    for i in range(SAMPLES):
        value = (module(x[i : i + 1])[0].T - y[i : i + 1]).square().mean()
        truth += sum(float(one.square().sum()) for one in torch.autograd.grad(value, leaves)) / SAMPLES
    for size in (None, 5):
        found = curvature.fisher_trace(loss, loss.position(), labels="empirical", chunk_size=size)
        np.testing.assert_allclose(found.fisher_trace, truth, rtol=1e-9)
