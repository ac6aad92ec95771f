"""Traces: their error bars, the exact one and where it is refused, and the three traces called Fisher."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss, Quadratic
from landscape.potentials.expression.piecewise import why_curved
from landscape.probes import curvature
from tests.probes.curvature_cases import EXACT, NETWORKS, SAMPLES, dense_gauss_newton, dense_hessian, draws

METHODS = ("hutch++", "xtrace", "hutchinson")


def z_scores(matrix, truth, method, seeds=50, probes=30):
    found = [curvature.trace(matrix, method=method, probes=probes, seed=seed) for seed in range(seeds)]
    values, errors = (np.array([float(f[name]) for f in found]) for name in ("trace", "trace_stderr"))
    return (values - truth) / errors, values, errors


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_traces_lie_within_their_error_bars(name, method):
    """For all but 7 of 50 seeds, by intervals neither empty nor ten times too wide: one false alarm in 3000."""
    loss = NETWORKS[name].loss()
    hessian = dense_hessian(loss, loss.position())
    truth = float(hessian.trace())
    z, values, errors = z_scores(hessian, truth, method)
    assert np.sum(np.abs(z) >= 1.96) <= 7
    spread = np.sqrt(np.mean((values - truth) ** 2))
    if spread > 1e-12 * abs(truth):
        assert 0.1 * spread < np.sqrt(np.mean(errors**2)) < 10 * spread
    assert abs(np.mean(values) - truth) < 4.5 * spread / np.sqrt(50) + 1e-12 * abs(truth)


@pytest.mark.parametrize("method", METHODS)
def test_error_bars_of_a_third_of_the_size_would_not_cover(method):
    """Control."""
    hessian = dense_hessian(loss := NETWORKS["convnet tanh"].loss(), loss.position())
    z, _, _ = z_scores(hessian, float(hessian.trace()), method, seeds=100)
    assert np.mean(np.abs(3 * z) < 1.96) < 0.8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("probes", [6, 12, 31, 90])
@pytest.mark.always
def test_few_and_many_probes(method, probes):
    """Student's factor: 95 % intervals also from a handful of probes; more probes, less error."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((60, 60))
    matrix = matrix + matrix.T
    z, _, errors = z_scores(matrix, np.trace(matrix), method, seeds=200, probes=probes)
    if np.median(errors) > 1e-10:
        assert 0.88 <= np.mean(np.abs(z) < 1.96) <= 1.0
        assert np.mean(np.abs(z) < 1.0) > 0.55


def test_a_few_large_eigenvalues_cost_hutch_plus_plus_nothing():
    values = np.concatenate([[100.0, 50.0, -20.0], 1e-3 * np.ones(200)])
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((203, 203)))[0]
    matrix = (basis * values) @ basis.T
    errors = {method: float(curvature.trace(matrix, method=method).trace_stderr) for method in METHODS}
    assert errors["hutch++"] < 1e-3 * errors["hutchinson"]
    assert errors["xtrace"] < 1e-3 * errors["hutchinson"]


@pytest.mark.parametrize("method", METHODS)
def test_the_same_probes_at_every_position(method):
    """Along a path the difference of two traces has far less error than either."""
    loss = NETWORKS["mlp tanh"].loss()
    path = loss.position().numpy() + np.array([0.0, 1e-3])[:, None] * draws(loss.dim, seed=8).numpy()
    found = curvature.trace(loss, path, method=method)
    truth = [float(dense_hessian(loss, torch.from_numpy(at)).trace()) for at in path]
    assert abs(float(found.trace[1] - found.trace[0]) - (truth[1] - truth[0])) < 0.05 * float(found.trace_stderr[0])
    again = curvature.trace(loss, path[1:], method=method)
    np.testing.assert_allclose(again.trace, found.trace[1:], rtol=1e-12)
    assert abs(float(curvature.trace(loss, path[0], method=method, seed=1).trace - found.trace[0])) > 1e-6


def test_traces_by_layer_add_up():
    loss = NETWORKS["convnet batch norm"].loss(weight_decay=0.2)
    whole = curvature.trace(loss, loss.position(), method="exact")
    layers = curvature.trace(loss, loss.position(), method="exact", blocks="layer")
    np.testing.assert_allclose(layers.trace.sum(), whole.trace, rtol=1e-12)
    estimated = curvature.trace(loss, loss.position(), blocks="layer", probes=60)
    z = (estimated.trace - layers.trace) / estimated.trace_stderr.clip(1e-12)
    assert (np.abs(z) < 4.5).all()


def test_exact_traces_of_anything_small():
    assert float(curvature.trace(np.diag([1.0, -3.0]), method="exact").trace) == -2.0
    assert float(curvature.trace(Quadratic([1.0, 2.5]), [0.0, 0.0], method="exact").trace) == 3.5


# -- the exact trace of networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_the_exact_trace_is_that_of_the_hessian_at_any_parameters(name, scale):
    loss = NETWORKS[name].loss(weight_decay=0.1)
    position = scale * loss.position()
    truth = float(dense_hessian(loss, position).trace())
    found = curvature.trace(loss, position, method="exact", chunk_size=4)
    np.testing.assert_allclose(found.trace, truth, rtol=1e-6)
    assert float(found.trace_stderr) == 0.0


REFUSED = {
    "mlp tanh": "Tanh",
    "mlp tanh mse": "Tanh",
    "mlp gelu": "Gelu",
    "convnet tanh": "Tanh",
    "convnet group norm": "GroupNorm",
    "layer norm": "LayerNorm",
    "tied": "used more than once",
    "transformer": "LayerNorm",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_exact_trace_is_refused_with_the_reason(name):
    loss = NETWORKS[name].loss()
    with pytest.raises(ConfigError, match=REFUSED[name]):
        curvature.trace(loss, loss.position(), method="exact")


def test_every_network_is_told_apart():
    assert set(EXACT) | set(REFUSED) == set(NETWORKS)


@pytest.mark.parametrize("name", ["mlp tanh", "mlp gelu", "convnet group norm", "layer norm"])
def test_where_it_is_refused_the_traces_differ(name):
    loss = NETWORKS[name].loss()
    hessian = float(dense_hessian(loss, loss.position()).trace())
    fisher = float(dense_gauss_newton(loss, loss.position()).trace())
    assert abs(hessian - fisher) > 1e-4 * abs(fisher)


class Odd(nn.Module):
    """Networks that look piecewise linear until one reads them."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        h = self.first(x)
        if self.kind == "product":
            h = h * torch.relu(h)
        if self.kind == "attention":
            # the addend is a weight, the factors are both activations
            h = h.unsqueeze(2)
            h = torch.baddbmm(self.scale.view(4, 1).expand(len(x), 4, 1), h @ h.transpose(1, 2), h).squeeze(2)
        if self.kind == "division":
            h = h / self.scale
        if self.kind == "reciprocal":
            h = 1.0 / (2 + torch.relu(h))
        if self.kind == "weight twice":
            h = functional.linear(torch.relu(functional.linear(x, self.first.weight)), self.first.weight)
        if self.kind == "view twice":
            turned = self.first.weight.T
            h = torch.relu(x @ turned) @ turned
        if self.kind == "square root":
            h = torch.relu(h + 9).sqrt()
        if self.kind == "gate of a constant":
            h = torch.relu(h) * x
        if self.kind == "skip":
            h = h * self.scale + torch.relu(x) / 3
        return self.second(h)


@pytest.mark.parametrize(
    ("kind", "exact"),
    [
        ("product", False),
        ("attention", False),
        ("division", False),
        ("reciprocal", False),
        ("weight twice", False),
        ("view twice", False),
        ("square root", False),
        ("gate of a constant", True),
        ("skip", True),
    ],
)
def test_functions_of_weights_are_read_off_the_graph(kind, exact):
    torch.manual_seed(0)
    loss = NetworkLoss(Odd(kind).double(), draws(SAMPLES, 4), torch.arange(SAMPLES) % 3)
    assert (why_curved(loss) is None) == exact
    hessian = float(dense_hessian(loss, loss.position()).trace())
    fisher = float(curvature.fisher_trace(loss, loss.position(), labels="model").fisher_trace)
    assert (abs(hessian - fisher) < 1e-9) == exact


def test_losses_without_a_model_are_refused():
    module = nn.Linear(4, 3).double()
    loss = NetworkLoss(module, draws(5, 4), draws(5, 3), loss=lambda f, y: (f - y).abs().sum(1))
    for call in (
        lambda: curvature.trace(loss, loss.position(), method="exact"),
        lambda: curvature.fisher_trace(loss, loss.position(), labels="model"),
        lambda: curvature.fisher_trace(loss, loss.position(), labels="sampled"),
        lambda: curvature.FisherOperator(loss, loss.position(), labels="model"),
    ):
        with pytest.raises(ConfigError, match="callable"):
            call()
    assert float(curvature.fisher_trace(loss, loss.position(), labels="empirical").fisher_trace) > 0


# -- three numbers called Fisher trace ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_trace_of_the_model(name):
    loss = NETWORKS[name].loss(weight_decay=0.7)
    truth = float(dense_gauss_newton(loss, loss.position()).trace())
    found = curvature.fisher_trace(loss, loss.position(), labels="model", chunk_size=4)
    np.testing.assert_allclose(found.fisher_trace, truth, rtol=1e-10)
    assert float(found.fisher_trace_stderr) == 0.0
    assert found.attrs["labels"] == "model"
    assert found.attrs["gradients"] == (2 if loss.loss.name == "cross_entropy" else 3)


@pytest.mark.parametrize("name", ["mlp tanh", "mlp tanh mse", "transformer"])
def test_fisher_trace_of_the_data(name):
    loss = NETWORKS[name].loss(weight_decay=0.7)
    truth = loss.sample_gradients(loss.position()).square().sum(1).mean()
    found = curvature.fisher_trace(loss, loss.position(), labels="empirical", chunk_size=4)
    np.testing.assert_allclose(found.fisher_trace, truth, rtol=1e-10)


@pytest.mark.parametrize("name", ["mlp tanh", "mlp tanh mse"])
@pytest.mark.parametrize("draws_each", [2, 5])
def test_fisher_trace_of_drawn_labels(name, draws_each):
    loss = NETWORKS[name].loss()
    truth = float(dense_gauss_newton(loss, loss.position()).trace())
    found = [
        curvature.fisher_trace(loss, loss.position(), labels="sampled", draws=draws_each, seed=seed)
        for seed in range(80)
    ]
    values, errors = (np.array([float(f[key]) for f in found]) for key in ("fisher_trace", "fisher_trace_stderr"))
    assert abs(values.mean() - truth) < 4.5 * values.std() / np.sqrt(80)
    assert np.mean(np.abs(values - truth) < 1.96 * errors) >= 0.85
    assert 0.5 < np.median(errors) / values.std() < 2.0


def test_a_single_draw_has_no_error_to_tell():
    loss = NETWORKS["linear"].loss()
    found = curvature.fisher_trace(loss, loss.position(), labels="sampled", draws=1)
    assert np.isnan(found.fisher_trace_stderr)


def test_the_three_differ_at_interpolation():
    module = nn.Linear(2, 2).double()
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    loss = NetworkLoss(module, x, torch.tensor([0, 1]))
    at = torch.tensor([5.0, -5.0, -5.0, 5.0, 0.0, 0.0], dtype=torch.float64)
    model, data = (float(curvature.fisher_trace(loss, at, labels=key).fisher_trace) for key in ("model", "empirical"))
    assert model > 1e4 * data


def test_labels_have_to_be_chosen():
    loss = NETWORKS["linear"].loss()
    with pytest.raises(TypeError, match="labels"):
        curvature.fisher_trace(loss, loss.position())
    with pytest.raises(ConfigError, match="labels"):
        curvature.fisher_trace(loss, loss.position(), labels="true")
    with pytest.raises(ConfigError, match="NetworkLoss"):
        curvature.fisher_trace(Quadratic([1.0]), [0.0], labels="model")


@pytest.mark.parametrize(
    ("settings", "words"), [({"method": "guess"}, "method"), ({"probes": 3}, "probes"), ({"seed": 1.5}, "seed")]
)
def test_bad_input_of_traces(settings, words):
    with pytest.raises(ConfigError, match=words):
        curvature.trace(np.eye(3), **settings)
