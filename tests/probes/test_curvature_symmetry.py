"""Matrices that are not symmetric are flagged, with the layer to blame; rounding in float32 networks is not."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from landscape.potentials import NetworkLoss, architectures
from landscape.probes import curvature
from landscape.probes.curvature.linear import as_linear, sign_probes
from landscape.probes.curvature.symmetry import Watch, asymmetry_of

SIZE = 40
ESTIMATES = {
    "eigenvalues": (curvature.eigenvalues, {}, ["eigenvalue_stderr"]),
    "extreme": (curvature.extreme_eigenvalues, {}, ["largest_residual", "smallest_residual"]),
    "largest": (curvature.largest_eigenvalue, {}, ["largest_residual"]),
    "power": (curvature.extreme_eigenvalues, {"method": "power", "products": 4000}, ["largest_residual"]),
    "hutch++": (curvature.trace, {}, ["trace_stderr"]),
    "xtrace": (curvature.trace, {"method": "xtrace"}, ["trace_stderr"]),
    "hutchinson": (curvature.trace, {"method": "hutchinson"}, ["trace_stderr"]),
    "density": (curvature.spectral_density, {"probes": 2, "steps": 30}, ["residual"]),
}


def symmetric():
    matrix = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    return matrix + matrix.T + np.diag(np.linspace(0, 40, SIZE))


def skewed(size):
    part = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    part = part - part.T
    return symmetric() + size * part / np.linalg.norm(2 * part)  # |H - H^T| = size


def run(kind, *args):
    """The result, and what was said about symmetry."""
    function, options, bars = ESTIMATES[kind]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = function(*args, **options)
    said = [str(one.message) for one in caught if "not symmetric" in str(one.message)]
    assert all(one.filename == __file__ for one in caught)
    return found, said, min(float(np.nanmin(found[bar])) for bar in bars)


@pytest.mark.parametrize("kind", ESTIMATES)
def test_matrices(kind):
    found, said, bar = run(kind, symmetric())
    assert found.converged
    assert not said
    for size in (1.0, 0.1):
        found, said, bar = run(kind, skewed(size))
        assert not found.converged
        assert len(said) == 1
        # random vectors give |H - H^T| to a factor
        assert bar > (0.999 if kind == "eigenvalues" else 0.3) * size
    # what was rounded to float32 is as symmetric as can be
    found, said, _ = run(kind, skewed(1e-5).astype(np.float32))
    assert found.converged
    assert not said


def test_the_exact_sum_of_a_diagonal_too():
    found, _, _ = run("hutchinson", skewed(1.0)[:8, :8])
    assert not found.converged
    with pytest.warns(UserWarning, match="not symmetric"):
        found = curvature.trace(skewed(1.0), method="exact")
    assert not found.converged
    np.testing.assert_allclose(found.trace_stderr, 1.0)


def test_witnesses_measure_frobenius_norms():
    """Over many pairs the mean of (w^T H v - v^T H w)^2 is |H - H^T|^2, and that of |H v|^2 is |H|^2."""
    linear = as_linear(skewed(1.0))
    sizes, norms = [], []
    for seed in range(60):
        watch = Watch(linear)
        linear(sign_probes(linear, 8, seed))
        sizes.append(watch.asymmetry().size)
        norms.append(watch.asymmetry().norm)
    exact = asymmetry_of(torch.from_numpy(skewed(1.0)))
    for found, truth in ((sizes, exact.size), (norms, exact.norm)):
        squares = np.square(found)
        assert abs(squares.mean() - truth**2) < 4 * squares.std(ddof=1) / len(squares) ** 0.5
    assert asymmetry_of(torch.from_numpy(symmetric())).size == 0.0


# -- networks ----------------------------------------------------------------------------------------------------------


class Fused(nn.Module):
    """A weight norm by the kernel whose second derivatives torch gets wrong, where it cannot be taken apart."""

    def __init__(self, inside, outside):
        super().__init__()
        self.v = nn.Parameter(torch.randn(outside, inside))
        self.g = nn.Parameter(torch.ones(outside, 1))

    def forward(self, inputs):
        weight, _ = torch.ops.aten._weight_norm_interface(self.v, self.g, 0)
        return inputs @ weight.T


def network(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(4, 5), nn.Tanh(), Fused(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)]
        module = nn.Sequential()
        module.add_module("stem", nn.Sequential(*layers[:2]))
        module.add_module("middle", nn.Sequential(*layers[2:4]))
        module.add_module("head", nn.Sequential(*layers[4:]))
        inputs, labels = torch.randn(30, 4), torch.randint(3, (30,))
    return NetworkLoss(module, inputs, labels, dtype=dtype)


def differences(loss, at):
    """The Hessian by central differences of the gradient."""
    axes = 1e-5 * torch.eye(loss.dim, dtype=at.dtype)
    rows = (loss.gradient(at + axes) - loss.gradient(at - axes)) / 2e-5
    return (rows + rows.T) / 2


@pytest.mark.parametrize("kind", ESTIMATES)
def test_networks_name_the_layer(kind):
    loss = network()
    found, said, _ = run(kind, loss, loss.position())
    assert not found.converged
    assert len(said) == 1
    assert "'middle.0'" in said[0]
    assert "'head" not in said[0]


def test_error_bars_cover_the_truth():
    loss = network()
    at = loss.position()
    truth = torch.linalg.eigvalsh(differences(loss, at)).numpy()
    found, _, bar = run("eigenvalues", loss, at)
    wrong = np.abs(found.eigenvalue.values - truth)
    assert wrong.max() > 1e-3 * truth[-1]
    assert (wrong <= found.eigenvalue_stderr.values).all()
    ends, _, bar = run("extreme", loss, at)
    assert max(abs(float(ends.largest) - truth[-1]), abs(float(ends.smallest) - truth[0])) < bar
    estimate, _, bar = run("hutch++", loss, at)
    assert abs(float(estimate.trace) - truth.sum()) < 2 * bar


def test_layer_by_layer_only_the_wrong_one_is_flagged():
    loss = network()
    with pytest.warns(UserWarning, match=r"'middle\.0'"):
        found = curvature.extreme_eigenvalues(loss, loss.position(), blocks="layer")
    assert found.layer.values[~found.converged.values].tolist() == ["middle.0"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_along_a_path(dtype):
    """Neighbours lend their vectors, which are no witnesses; one warning for all."""
    loss = network(dtype)
    path = loss.position() + torch.linspace(0, 0.1, 3, dtype=dtype)[:, None]
    found, said, bar = run("extreme", loss, path)
    assert not found.converged.any()
    assert len(said) == 1
    assert "at 3 of 3 positions" in said[0]
    assert bar > 0


class Small(nn.Module):
    """A transformer of the stock layers."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, activation="gelu")
        self.table, self.encoder = nn.Embedding(11, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, ids):
        return self.head(self.encoder(self.table(ids)).mean(1))


@pytest.mark.parametrize("kind", ["transformer", "residual network"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_rounding_in_float32_is_no_asymmetry(kind, scale):
    """At initial weights, and at larger ones, where activations and curvature grow by orders of magnitude."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        labels = torch.arange(6) % 3
        if kind == "transformer":
            loss = NetworkLoss(Small(), torch.randint(11, (6, 5)), labels)
        else:
            loss = NetworkLoss(architectures.resnet_cifar(20), torch.randn(6, 3, 8, 8), labels, batchnorm="frozen")
    at = scale * loss.position()
    assert loss.dtype == torch.float32
    for estimate, options in (
        (curvature.extreme_eigenvalues, {"products": 12}),
        (curvature.trace, {"probes": 9}),
        (curvature.spectral_density, {"probes": 2, "steps": 4}),
    ):
        estimate(loss, at, **options)  # warnings are errors
    linear = as_linear(curvature.HessianOperator(loss, at))
    watch = Watch(linear)
    linear(sign_probes(linear, 4, 5))
    seen = watch.asymmetry()
    assert seen.size < 0.05 * torch.finfo(torch.float32).eps ** 0.5 * seen.norm  # the limit is far off
