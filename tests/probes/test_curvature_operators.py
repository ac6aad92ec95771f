"""Operators against dense automatic differentiation, whatever the chunks, and a module left as it was found."""

import copy
import gc

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch import nn

from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, Quadratic, architectures
from landscape.potentials.curvature.mlp_hessian import mlp_hessian
from landscape.potentials.curvature.products import _Products
from landscape.potentials.curvature.sample_scores import SampleScores
from landscape.probes import curvature
from landscape.probes.curvature.model_labels import class_scores, fisher_factor
from landscape.probes.curvature.operators import layer_blocks
from tests.probes.curvature_cases import (
    NETWORKS,
    SAMPLES,
    dense_gauss_newton,
    dense_hessian,
    difference_hessian,
    draws,
    jacobian,
)

OPERATORS = {
    "hessian": curvature.HessianOperator,
    "gauss-newton": curvature.GaussNewtonOperator,
    "fisher": lambda *arguments, **options: curvature.FisherOperator(*arguments, labels="model", **options),
    "sampled": lambda *arguments, **options: curvature.FisherOperator(*arguments, labels="sampled", draws=3, **options),
    "empirical": lambda *arguments, **options: curvature.FisherOperator(*arguments, labels="empirical", **options),
}


def matrix(operator):
    return operator @ torch.eye(operator.shape[1], dtype=operator.dtype)


def assert_close(found, truth, tolerance=1e-10):
    assert float((found - truth).abs().max()) <= tolerance * max(1.0, float(truth.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_hessian_is_that_of_dense_autodiff(name):
    loss = NETWORKS[name].loss(weight_decay=0.3)
    position = loss.position()
    truth = dense_hessian(loss, position)
    assert_close(matrix(curvature.HessianOperator(loss, position)), truth)
    assert_close(loss.hessian(position), truth)
    assert_close(loss.hvp(position, torch.ones_like(position)), truth.sum(1))


@pytest.mark.parametrize("name", ["layer norm", "transformer", "convnet group norm", "mlp gelu", "tied"])
def test_hessian_is_that_of_finite_differences(name):
    loss = NETWORKS[name].loss()
    position = loss.position()
    found = matrix(curvature.HessianOperator(loss, position))
    assert float((found - found.T).abs().max()) < 1e-12
    assert_close(found, difference_hessian(loss, position), 1e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_gauss_newton_and_fisher_are_those_of_dense_autodiff(name):
    loss = NETWORKS[name].loss(weight_decay=0.3)
    position = loss.position()
    truth = dense_gauss_newton(loss, position)
    assert_close(matrix(curvature.FisherOperator(loss, position, labels="model")), truth)
    eye = torch.eye(loss.dim, dtype=torch.float64)
    assert_close(matrix(curvature.GaussNewtonOperator(loss, position)), truth + 0.3 * eye)
    gradients = loss.sample_gradients(position)
    empirical = gradients.T @ gradients / SAMPLES
    assert_close(matrix(curvature.FisherOperator(loss, position, labels="empirical")), empirical)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("name", ["mlp relu", "convnet batch norm", "transformer"])
def test_an_uneven_last_chunk_changes_nothing(name, kind):
    loss = NETWORKS[name].loss(weight_decay=0.1)
    position = loss.position()
    whole = matrix(OPERATORS[kind](loss, position))
    for size in (1, 4, 10, 11, 50):
        assert_close(matrix(OPERATORS[kind](loss, position, chunk_size=size)), whole)


def test_chunks_weighted_alike_would_be_wrong():
    """Control: the mean of the chunks' means is another matrix where the last chunk is short."""
    loss = NETWORKS["mlp tanh"].loss()
    position = loss.position()
    parts = [slice(0, 4), slice(4, 8), slice(8, 11)]
    means = [
        NetworkLoss(loss.module, loss.inputs[rows], loss.targets[rows], dtype=torch.float64).hessian(position)
        for rows in parts
    ]
    assert float((sum(means) / 3 - loss.hessian(position)).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", OPERATORS)
def test_layers_are_diagonal_blocks(kind):
    loss = NETWORKS["transformer"].loss(weight_decay=0.1)
    position = loss.position()
    whole = matrix(OPERATORS[kind](loss, position))
    blocks = layer_blocks(loss)
    assert sum(part.stop - part.start for part in blocks.values()) == loss.dim
    for name, part in blocks.items():
        assert_close(matrix(OPERATORS[kind](loss, position, block=name)), whole[part, part])


def test_sampled_fisher_tends_to_that_of_the_model():
    loss = NETWORKS["mlp tanh"].loss()
    position = loss.position()
    probes = draws(loss.dim, 3)
    truth = dense_gauss_newton(loss, position) @ probes
    many = curvature.FisherOperator(loss, position, labels="sampled", draws=500, seed=3) @ probes
    assert float((many - truth).norm() / truth.norm()) < 0.1
    one = curvature.FisherOperator(loss, position, labels="empirical") @ probes
    assert float((one - truth).norm() / truth.norm()) > 0.2


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_factors_of_the_softmax_give_its_covariance(classes):
    logits = 3 * draws(5, classes)
    logits[0, 0] = 60.0  # a class that is all but certain
    loss = NETWORKS["linear"].loss()
    p = logits.softmax(1)
    truth = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    for factor in (fisher_factor(loss, logits), class_scores(logits)):
        torch.testing.assert_close(torch.einsum("kni,knj->nij", factor, factor), truth, atol=1e-15, rtol=1e-12)
    assert len(fisher_factor(loss, logits)) == classes - 1


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_single_samples(name):
    loss = NETWORKS[name].loss()
    position = loss.position()
    axes = torch.eye(3, dtype=torch.float64)
    scores = SampleScores(loss, position, lambda o, rows: axes[:, None, :].expand(3, len(o), 3), chunk_size=4)
    found = torch.full((3, SAMPLES, loss.dim), torch.nan, dtype=torch.float64)
    for rows, parts in scores.chunks():
        for slot, k, gradient in parts:
            found[k, rows, slot.offset : slot.offset + slot.size] = gradient
    assert_close(found.transpose(0, 1), jacobian(loss, position)[0])
    assert (scores.taken == {"layer rules"}) == (name not in ("tied", "transformer"))


@pytest.mark.parametrize("first", [nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4))])
def test_layers_followed_by_work_in_place(first):
    layers = (first, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3), nn.Hardtanh(inplace=True))
    module = nn.Sequential(*layers, nn.Linear(3, 3)).double()
    loss = NetworkLoss(module, draws(SAMPLES, 1, 4, 4), torch.arange(SAMPLES) % 3)
    scores = SampleScores(loss, loss.position(), lambda outputs, rows: torch.ones_like(outputs)[None])
    assert len(list(scores.chunks())) == 1
    assert scores.taken == {"layer rules"}
    truth = float(dense_gauss_newton(loss, loss.position()).trace())
    found = curvature.fisher_trace(loss, loss.position(), labels="model")
    np.testing.assert_allclose(found.fisher_trace, truth, rtol=1e-10)
    assert_close(matrix(curvature.HessianOperator(loss, loss.position())), dense_hessian(loss, loss.position()))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (2, 5, 4, 3, 3)])
def test_structured_hessian_of_plain_networks(activation, kind, sizes):
    module = architectures.mlp(sizes, activation=activation).double()
    targets = torch.randint(sizes[-1], (7,)) if kind == "cross_entropy" else draws(7, sizes[-1])
    loss = NetworkLoss(module, draws(7, sizes[0], seed=4), targets, loss=kind)
    position = loss.position() + 0.2 * draws(loss.dim, seed=6)
    found = mlp_hessian(loss.plain_mlp, position, loss.inputs, loss.targets)
    assert_close(found, dense_hessian(loss, position), 1e-13)
    assert torch.equal(found, found.T)


def test_structured_hessian_deep_in_a_minimum():
    """Where the label is all but certain, entries of 1e-20 are right to their own size."""
    module = nn.Sequential(nn.Linear(1, 2)).double()
    loss = NetworkLoss(module, torch.ones(1, 1), torch.zeros(1, dtype=torch.int64), dtype=torch.float64)
    position = torch.tensor([46.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    q = np.exp(-46.0) / (1 + np.exp(-46.0))
    np.testing.assert_allclose(loss.hessian(position)[0, 0], q * (1 - q), rtol=1e-12)


@pytest.mark.parametrize("kind", OPERATORS)
def test_graphs_go_with_their_operator(kind):
    """At once, not when garbage is collected next: of a large network they are a gigabyte each."""
    loss = NETWORKS["convnet group norm"].loss()
    gc.collect()
    gc.disable()
    try:
        operator = OPERATORS[kind](loss, loss.position())
        operator @ torch.ones(loss.dim, dtype=torch.float64)
        assert [made for made in gc.get_objects() if issubclass(type(made), _Products)]
        del operator
        assert not [left for left in gc.get_objects() if issubclass(type(left), _Products)]
    finally:
        gc.enable()


def test_operators_are_matrices():
    loss = NETWORKS["mlp relu"].loss(dtype=torch.float32)
    operator = curvature.HessianOperator(loss, loss.position())
    assert operator.shape == (loss.dim, loss.dim)
    assert operator.dtype == torch.float32
    vector = draws(loss.dim)
    assert torch.is_tensor(operator @ vector.float())
    assert isinstance(operator @ vector.numpy(), np.ndarray)
    torch.testing.assert_close((operator @ torch.stack([vector, 2 * vector], 1))[:, 1], 2 * (operator @ vector))
    scipy_one = curvature.HessianOperator(loss, loss.position(), dtype=torch.float64).to_scipy()
    truth = np.linalg.eigvalsh(dense_hessian(loss.converted(torch.float64), loss.position().double()).numpy())
    found = scipy.sparse.linalg.eigsh(scipy_one, k=2, return_eigenvectors=False, which="LA")
    np.testing.assert_allclose(np.sort(found), truth[-2:], rtol=1e-8)


def test_any_potential_has_a_hessian_operator():
    operator = curvature.HessianOperator(Quadratic([1.0, 4.0]), [0.3, 0.2])
    np.testing.assert_allclose(operator @ np.eye(2), np.diag([1.0, 4.0]))


@pytest.mark.parametrize("name", ["mlp tanh", "convnet batch norm", "transformer"])
def test_single_precision_modules_give_double_precision_results(name):
    double, single = NETWORKS[name].loss(), NETWORKS[name].loss(dtype=torch.float32)
    position = single.position()
    # the same numbers in both: weights, statistics and data rounded to single precision
    exact = matrix(curvature.HessianOperator(single, position, dtype=torch.float64))
    assert exact.dtype == torch.float64
    assert_close(exact, dense_hessian(single.converted(torch.float64), position.double()))
    assert_close(exact, matrix(curvature.HessianOperator(double, double.position())), 1e-5)
    rough = matrix(curvature.HessianOperator(single, position)).double()
    assert 1e-10 < float((rough - exact).abs().max()) < 1e-4


# -- what is left behind, and what is refused --------------------------------------------------------------------------


def state_of(module):
    return (
        copy.deepcopy(module.state_dict()),
        [part.training for part in module.modules()],
        [p.requires_grad for p in module.parameters()],
        [p.grad for p in module.parameters()],
        [len(part._forward_hooks) for part in module.modules()],
    )


class Fragile(nn.Module):
    """Raises at the n-th forward pass."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.second = nn.Linear(5, 3)
        self.passes = [10**9]

    def forward(self, inputs):
        self.passes[0] -= 1
        if self.passes[0] < 0:
            raise ArithmeticError("broken on purpose")
        return self.second(torch.relu(self.norm(self.first(inputs))))


QUANTITIES = {
    "eigenvalues": lambda loss, at: curvature.eigenvalues(loss, at, chunk_size=4),
    "largest_eigenvalue": lambda loss, at: curvature.largest_eigenvalue(loss, at, chunk_size=4),
    "trace": lambda loss, at: curvature.trace(loss, at, chunk_size=4),
    "exact trace": lambda loss, at: curvature.trace(loss, at, method="exact", chunk_size=4),
    "fisher_trace": lambda loss, at: curvature.fisher_trace(loss, at, labels="sampled", chunk_size=4),
    "score_singular_values": lambda loss, at: curvature.score_singular_values(loss, at, chunk_size=4),
    "spectral_density": lambda loss, at: curvature.spectral_density(loss, at, probes=2, steps=3, chunk_size=4),
}


@pytest.mark.parametrize("broken_at", [None, 0, 2, 3])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_module_is_left_as_it_was_found(quantity, broken_at):
    module = Fragile().double().train()
    module.first.weight.requires_grad_(False)
    loss = NetworkLoss(module, draws(SAMPLES, 4), torch.arange(SAMPLES) % 3, batchnorm="frozen")
    before, inside = state_of(module), state_of(loss.private_module)
    random_state = torch.get_rng_state()
    if broken_at is None:
        QUANTITIES[quantity](loss, loss.position())
    else:
        loss.private_module.passes[0] = broken_at
        with pytest.raises(ArithmeticError, match="broken on purpose"):
            QUANTITIES[quantity](loss, loss.position())
    for then, now in ((before, state_of(module)), (inside, state_of(loss.private_module))):
        torch.testing.assert_close(now[0], then[0], rtol=0, atol=0)
        assert now[1:] == then[1:]
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_batch_statistics_with_chunks_are_refused_with_an_explanation(quantity):
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double()
    loss = NetworkLoss(module, draws(SAMPLES, 4), torch.arange(SAMPLES) % 3, batchnorm="batch")
    with pytest.raises(ConfigError, match=r"batch.*(frozen|HESS|hutch)"):
        QUANTITIES[quantity](loss, loss.position())


def test_batch_statistics_of_all_data_are_a_landscape_of_their_own():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).double()
    data = (draws(SAMPLES, 4), torch.arange(SAMPLES) % 3)
    batch, frozen = (NetworkLoss(module, *data, batchnorm=policy) for policy in ("batch", "frozen"))
    position = batch.position()
    found = matrix(curvature.HessianOperator(batch, position))
    assert_close(found, difference_hessian(batch, position), 1e-7)
    assert float((found - matrix(curvature.HessianOperator(frozen, position))).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda loss, at: curvature.HessianOperator(loss, at[:-1]), ShapeError, "shape"),
        (lambda loss, at: curvature.HessianOperator(loss, at, block="nowhere"), ConfigError, "nowhere"),
        (lambda loss, at: curvature.HessianOperator(loss, at, chunk_size=0), ConfigError, "chunk_size"),
        (lambda loss, at: curvature.HessianOperator(loss, at, dtype=torch.int64), ConfigError, "dtype"),
        (lambda loss, at: curvature.HessianOperator(loss, at) @ at[:-1], ShapeError, "expected"),
        (lambda loss, at: curvature.HessianOperator(np.eye(2), at), ConfigError, "potential"),
        (lambda loss, at: curvature.GaussNewtonOperator(Quadratic([1.0]), [0.0]), ConfigError, "NetworkLoss"),
        (lambda loss, at: curvature.FisherOperator(loss, at, labels="true"), ConfigError, "labels"),
        (lambda loss, at: curvature.FisherOperator(loss, at), TypeError, "labels"),
    ],
)
def test_bad_input_of_operators(call, error, words):
    loss = NETWORKS["mlp relu"].loss()
    with pytest.raises(error, match=words):
        call(loss, loss.position())
