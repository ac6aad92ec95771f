"""Diagonals of Hessian, Gauss-Newton and Fisher matrix: routes that are exact, and estimates with their error bars."""

import copy
from functools import cache

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, Quadratic, architectures, losses
from landscape.potentials.curvature.fisher import fisher_matrix
from landscape.potentials.network.layer_rules import Call, gradients_of
from landscape.probes import curvature
from landscape.probes.curvature.operators import layer_blocks
from landscape.storage.files import save
from landscape.workflows.opening import open as open_run
from landscape.workflows.probing import probe
from tests.probes.curvature_cases import (
    EXACT,
    NETWORKS,
    SAMPLES,
    dense_gauss_newton,
    dense_hessian,
    difference_hessian,
    draws,
)


def symmetric(size, seed=0):
    matrix = np.random.default_rng(seed).standard_normal((size, size))
    return matrix + matrix.T


# -- exact routes ------------------------------------------------------------------------------------------------------


@cache
def case(name):
    """A network with weight decay, and the diagonals of its dense Hessian and (without decay) Fisher matrix."""
    loss = NETWORKS[name].loss(weight_decay=0.3)
    hessian = dense_hessian(loss, loss.position()).diagonal().numpy()
    return loss, loss.position(), hessian, dense_gauss_newton(loss, loss.position()).diagonal().numpy()


def differences(loss, step=1e-5):
    """Diagonal of the Hessian by central differences of the gradient."""
    axes = step * torch.eye(loss.dim, dtype=torch.float64)
    return ((loss.gradient(loss.position() + axes) - loss.gradient(loss.position() - axes)) / (2 * step)).diagonal()


SMALL = [name for name in NETWORKS if name != "residual"]


@pytest.mark.parametrize("name", SMALL)
def test_diagonals_of_networks_are_those_of_the_dense_matrices(name):
    """Whatever the route; in chunks of the data that do not divide it."""
    loss, position, hessian, fisher = case(name)
    found = curvature.diagonal(loss, position, chunk_size=4)
    np.testing.assert_allclose(found.diagonal, hessian, atol=1e-9)
    assert bool(found.converged) and not found.diagonal_stderr.any()
    middle = curvature.diagonal(loss, position, of="gauss_newton", chunk_size=4)
    np.testing.assert_allclose(middle.diagonal, fisher + 0.3, atol=1e-9)
    model = curvature.diagonal(loss, position, of="fisher", labels="model", chunk_size=4)
    np.testing.assert_allclose(model.diagonal, fisher, atol=1e-9)
    if loss.dim < 100:  # control: an estimate is none of them
        rough = curvature.diagonal(loss, position, of="gauss_newton", method="hutchinson", probes=10)
        assert np.abs(rough.diagonal - fisher - 0.3).max() > 1e-6


@pytest.mark.parametrize("name", [name for name in EXACT if name in SMALL])
def test_piecewise_linear_networks_have_the_diagonal_of_gauss_newton(name):
    """Entry by entry; no second derivatives are taken."""
    loss, position, hessian, fisher = case(name)
    found = curvature.diagonal(loss, position)
    assert "piecewise linear" in found.route and found.products == 0
    np.testing.assert_allclose(hessian, fisher + 0.3, atol=1e-9)


def test_residual_network():
    loss = NETWORKS["residual"].loss()
    found = curvature.diagonal(loss, loss.position())
    assert "piecewise linear" in found.route
    some = np.arange(0, loss.dim, 17)
    columns = curvature.HessianOperator(loss, loss.position()) @ np.eye(loss.dim)[:, some]
    np.testing.assert_allclose(found.diagonal[some], columns[some, np.arange(len(some))], atol=1e-10)


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("mlp tanh", "block by block"),
        ("mlp tanh mse", "block by block"),
        ("mlp gelu", "every axis"),
        ("tied", "every axis"),
        ("layer norm", "every axis"),
        ("transformer", "every axis"),
    ],
)
def test_curved_networks_take_other_routes(name, route):
    """There the diagonal of Gauss-Newton is another one; central differences are the truth."""
    loss, position, _, fisher = case(name)
    found = curvature.diagonal(loss, position)
    assert route in found.route
    np.testing.assert_allclose(found.diagonal, differences(loss), atol=1e-6)
    assert np.abs(found.diagonal - fisher - 0.3).max() > 1e-4


def test_layers_add_up_to_the_trace_of_each():
    loss, position, truth, _ = case("convnet tanh")
    found = curvature.diagonal(loss, position)
    names = found.layer.attrs["flag_meanings"].split()
    parts = layer_blocks(loss)
    assert names == list(parts)
    sums = found.diagonal.groupby("layer").sum()
    np.testing.assert_allclose(sums, [truth[part].sum() for part in parts.values()], rtol=1e-9)


class Recurrent(nn.Module):
    """A GRU cell over a sequence, its weights used at every step."""

    def __init__(self):
        super().__init__()
        self.cell, self.read = nn.GRUCell(2, 3), nn.Linear(3, 3)

    def forward(self, inputs):
        hidden = inputs.new_zeros(len(inputs), 3)
        for step in inputs.unbind(1):
            hidden = self.cell(step, hidden)
        return self.read(hidden)


def test_recurrent_network():
    torch.manual_seed(0)
    loss = NetworkLoss(Recurrent().double(), draws(7, 4, 2), torch.arange(7) % 3)
    position = loss.position()
    truth = difference_hessian(loss, position).diagonal()
    found = curvature.diagonal(loss, position)
    np.testing.assert_allclose(found.diagonal, truth, atol=1e-7)
    assert "every axis" in found.route
    rough = curvature.diagonal(loss, position, method="hutchinson", probes=400)
    z = (rough.diagonal - truth.numpy()) / rough.diagonal_stderr
    assert float((abs(z) < 1.96).mean()) > 0.85


def test_a_loss_without_a_probability_model():
    """Gauss-Newton from products, the Fisher matrix of the data from single gradients, that of a model refused."""
    module = architectures.mlp([4, 5, 3]).double()
    loss = NetworkLoss(module, draws(SAMPLES, 4), draws(SAMPLES, 3, seed=5), loss=_log_cosh)
    position = loss.position()
    found = curvature.diagonal(loss, position, of="gauss_newton")
    operator = curvature.GaussNewtonOperator(loss, position)
    np.testing.assert_allclose(found.diagonal, np.diag(operator @ np.eye(loss.dim)), atol=1e-12)
    assert "every axis" in found.route
    np.testing.assert_allclose(curvature.diagonal(loss, position).diagonal, differences(loss), atol=1e-7)
    data = curvature.diagonal(loss, position, of="fisher", labels="empirical")
    np.testing.assert_allclose(data.diagonal, loss.sample_gradients(position).square().mean(0), rtol=1e-9)
    with pytest.raises(ConfigError, match="labels"):
        curvature.diagonal(loss, position, of="fisher", labels="model")


@pytest.mark.parametrize(
    ("kind", "outputs", "route", "model"),
    [
        ("binary_cross_entropy", 1, "squared gradients", True),
        ("huber", 3, "every axis", True),
        (losses.CrossEntropy(label_smoothing=0.1), 3, "every axis", False),
    ],
)
def test_other_named_losses(kind, outputs, route, model):
    """Gauss-Newton by squared gradients only where it is the Fisher matrix of the model."""
    torch.manual_seed(0)
    values = torch.arange(SAMPLES) % 3 if not model else (draws(SAMPLES, outputs, seed=5) > 0).double()
    module = architectures.mlp([4, 5, outputs], activation="tanh").double()
    loss = NetworkLoss(module, draws(SAMPLES, 4), values, loss=kind)
    position = loss.position()
    found = curvature.diagonal(loss, position, of="gauss_newton")
    middle = np.diag(curvature.GaussNewtonOperator(loss, position) @ np.eye(loss.dim))
    np.testing.assert_allclose(found.diagonal, middle, atol=1e-10)
    assert route in found.route
    np.testing.assert_allclose(curvature.diagonal(loss, position).diagonal, differences(loss), atol=1e-6)
    data = curvature.diagonal(loss, position, of="fisher", labels="empirical")
    np.testing.assert_allclose(data.diagonal, loss.sample_gradients(position).square().mean(0), atol=1e-12)
    if model:
        fisher = curvature.diagonal(loss, position, of="fisher", labels="model")
        np.testing.assert_allclose(fisher.diagonal, fisher_matrix(loss, position).diagonal(), atol=1e-12)
    else:
        with pytest.raises(ConfigError, match="smoothing"):
            curvature.diagonal(loss, position, of="fisher", labels="model")


class TwoInputs(nn.Module):
    """Takes a dict and returns one, as models of language do."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(2, 4), nn.Linear(3, 4)
        self.gate = nn.Parameter(torch.tensor(0.7))
        self.read = nn.Linear(4, 3)

    def forward(self, left, right):
        return {"logits": self.read(torch.relu(self.left(left)) + self.gate * self.right(right))}


def test_inputs_and_outputs_in_dicts():
    """With a loss of one's own there are Hessian products and single gradients."""
    torch.manual_seed(0)
    inputs = {"left": draws(7, 2), "right": draws(7, 3, seed=1)}

    def own(outputs, targets):
        return nn.functional.cross_entropy(outputs["logits"], targets, reduction="none")

    loss = NetworkLoss(TwoInputs().double(), inputs, torch.arange(7) % 3, loss=own, call=lambda m, b: m(**b))
    found = curvature.diagonal(loss, loss.position())
    np.testing.assert_allclose(found.diagonal, differences(loss), atol=1e-6)
    data = curvature.diagonal(loss, loss.position(), of="fisher", labels="empirical")
    np.testing.assert_allclose(data.diagonal, loss.sample_gradients(loss.position()).square().mean(0), atol=1e-12)
    rise = curvature.sharpness(loss, loss.position(), radius=0.1, kind="max", steps=20, vectors=True)
    ends = loss.energy(loss.position().numpy() + rise["vector"].values) - loss.energy(loss.position().numpy())
    np.testing.assert_allclose(rise.maximum, ends, rtol=1e-9)
    plain = NetworkLoss(TwoInputs().double(), inputs, torch.arange(7) % 3, call=lambda m, b: m(**b)["logits"])
    np.testing.assert_allclose(curvature.diagonal(plain, plain.position()).diagonal, differences(plain), atol=1e-6)


def _log_cosh(outputs, targets):
    return (outputs - targets).cosh().log().sum(1)


def test_samples_that_interact():
    """Batch statistics: no single gradients, products of all samples at once."""
    loss = NETWORKS["convnet batch norm"].loss(batchnorm="batch")
    found = curvature.diagonal(loss, loss.position())
    np.testing.assert_allclose(found.diagonal, differences(loss), atol=1e-6)
    middle = curvature.diagonal(loss, loss.position(), of="gauss_newton")
    assert "every axis" in middle.route and bool(middle.converged)
    for labels in ("model", "empirical"):
        with pytest.raises(ConfigError, match="samples interact"):
            curvature.diagonal(loss, loss.position(), of="fisher", labels=labels)


# -- Fisher matrices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp tanh", "mlp tanh mse", "transformer"])
def test_fisher_of_the_data(name):
    loss = NETWORKS[name].loss(weight_decay=0.7)
    found = curvature.diagonal(loss, loss.position(), of="fisher", labels="empirical", chunk_size=4)
    truth = loss.sample_gradients(loss.position()).square().mean(0)
    np.testing.assert_allclose(found.diagonal, truth, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(
        found.diagonal.sum(), curvature.fisher_trace(loss, loss.position(), labels="empirical").fisher_trace, rtol=1e-9
    )


@pytest.mark.parametrize("name", ["mlp tanh", "mlp tanh mse"])
def test_fisher_of_drawn_labels(name):
    """Unbiased, with error bars that cover; bars of half the size would not."""
    loss = NETWORKS[name].loss()
    truth = dense_gauss_newton(loss, loss.position()).diagonal().numpy()
    found = [
        curvature.diagonal(loss, loss.position(), of="fisher", labels="sampled", draws=6, seed=seed)
        for seed in range(40)
    ]
    values, errors = (np.array([one[key].values for one in found]) for key in ("diagonal", "diagonal_stderr"))
    moving = truth > 1e-8
    z = (values - truth)[:, moving] / errors[:, moving]
    assert 0.88 <= np.mean(np.abs(z) < 1.96) <= 0.99
    assert np.mean(np.abs(2 * z) < 1.96) < 0.85
    spread = values.std(0)[moving] / np.sqrt(40)
    # an entry may rest on labels that forty times six draws hardly ever gave
    assert np.mean(np.abs(values.mean(0) - truth)[moving] < 3 * spread) > 0.9
    np.testing.assert_allclose(
        values[3].sum(),
        curvature.fisher_trace(loss, loss.position(), labels="sampled", draws=6, seed=3).fisher_trace,
        rtol=1e-9,
    )


def test_draws_that_never_differ_are_flagged():
    """Near interpolation the labels that make up the matrix are hardly ever drawn: the scatter says zero."""
    module = nn.Linear(2, 2).double()
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    loss = NetworkLoss(module, x, torch.tensor([0, 1]))
    sure = torch.tensor([5.0, -5.0, -5.0, 5.0, 0.0, 0.0], dtype=torch.float64)
    found = curvature.diagonal(loss, sure, of="fisher", labels="sampled", draws=4)
    truth = curvature.diagonal(loss, sure, of="fisher", labels="model")
    assert float(found.diagonal[0]) < 1e-2 * float(truth.diagonal[0]) and not bool(found.converged)
    open_minded = curvature.diagonal(loss, 0.1 * sure, of="fisher", labels="sampled", draws=40)
    assert bool(open_minded.converged)
    single = curvature.diagonal(loss, 0.1 * sure, of="fisher", labels="sampled", draws=1)
    assert np.isnan(single.diagonal_stderr).all() and not bool(single.converged)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 4), (3,)),
        (nn.Linear(3, 4), (5, 3)),
        (nn.Conv2d(2, 3, 3, padding=1), (2, 4, 4)),
        (nn.Conv2d(2, 3, (2, 3)), (2, 2, 3)),  # a single place
        (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 6)),
        (nn.GroupNorm(2, 4), (4, 3)),
    ],
)
@pytest.mark.parametrize("directions", [1, 6])
def test_sums_of_squared_gradients(layer, shape, directions):
    """Without the gradients themselves where a layer has a single place; weights of samples and directions differ."""
    layer = copy.deepcopy(layer).double()
    inputs = draws(5, *shape)
    outputs = layer(inputs)
    slopes = [draws(*outputs.shape, seed=k + 1) for k in range(directions)]
    weights = draws(5, directions, seed=9).square()
    for gradients in gradients_of(Call("0", layer, {}, inputs, outputs.detach()), slopes, {}).values():
        truth = torch.einsum("bk,bks->s", weights, gradients.values().square())
        torch.testing.assert_close(gradients.summed_squares(weights), truth, rtol=1e-11, atol=1e-11)
        assert not torch.allclose(gradients.summed_squares(1.001 * weights), truth, rtol=1e-5)


def test_many_directions_in_groups():
    """More outputs than are held at once, and more than are summed over unless told to."""
    module = nn.Linear(3, 40).double()
    loss = NetworkLoss(module, draws(6, 3), draws(6, 40, seed=1), loss="mse")
    truth = 2 / 40 * loss.inputs.square().mean(0)
    found = curvature.diagonal(loss, loss.position(), of="gauss_newton")
    np.testing.assert_allclose(found.diagonal[:120].values.reshape(40, 3), truth.expand(40, 3), rtol=1e-9)
    assert found.gradients == 40
    wide = NetworkLoss(nn.Linear(1, 300).double(), draws(6, 1), draws(6, 300, seed=1), loss="mse")
    assert "signs" in curvature.diagonal(wide, wide.position(), of="fisher", labels="model").route
    assert "every axis" in curvature.diagonal(wide, wide.position(), of="gauss_newton").route


# -- the estimate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [10, 40])
@pytest.mark.always
def test_intervals_of_the_estimate_cover(probes):
    """95 % intervals over the entries of a matrix and 200 seeds; unbiased; bars of half the size would not cover."""
    matrix = symmetric(25)
    found = [curvature.diagonal(matrix, method="hutchinson", probes=probes, seed=seed) for seed in range(200)]
    values, errors = (np.array([one[key].values for one in found]) for key in ("diagonal", "diagonal_stderr"))
    z = (values - np.diag(matrix)) / errors
    assert 0.93 <= np.mean(np.abs(z) < 1.96) <= 0.975
    assert np.min(np.mean(np.abs(z) < 1.96, axis=0)) > 0.87
    assert np.mean(np.abs(2 * z) < 1.96) < 0.8
    spread = values.std(0, ddof=1) / np.sqrt(200)
    assert (np.abs(values.mean(0) - np.diag(matrix)) < 4.5 * spread).all()
    law = np.sqrt((np.square(matrix).sum(1) - np.diag(matrix) ** 2) / probes)  # of the scatter of z * (H z)
    np.testing.assert_allclose(values.std(0, ddof=1), law, rtol=0.25)
    assert (np.abs(values.std(0, ddof=1) / (1.5 * law) - 1) > 0.1).all()


@pytest.mark.parametrize("name", ["mlp gelu", "transformer"])
def test_the_estimate_of_networks(name):
    loss, position, hessian, fisher = case(name)
    found = curvature.diagonal(loss, position, method="hutchinson", probes=200)
    z = (found.diagonal - hessian) / found.diagonal_stderr
    assert float((abs(z) < 1.96).mean()) > 0.88
    assert found.products == 200 and found.method == "hutchinson"
    model = curvature.diagonal(loss, position, of="fisher", labels="model", method="hutchinson", probes=200)
    z = (model.diagonal - fisher) / model.diagonal_stderr
    assert float((abs(z) < 1.96).mean()) > 0.88


def test_large_matrices_are_estimated_and_diagonal_ones_found_exactly():
    values = np.random.default_rng(0).standard_normal(5000)

    class Scaling:
        shape = (5000, 5000)

        def __matmul__(self, vector):
            return values * vector

    found = curvature.diagonal(Scaling(), probes=10)
    assert "signs" in found.route
    np.testing.assert_allclose(found.diagonal, values, rtol=1e-12)
    assert (found.diagonal_stderr < 1e-12).all()
    exact = curvature.diagonal(Quadratic(np.exp(values[:50])), np.zeros(50))
    np.testing.assert_allclose(exact.diagonal, np.exp(values[:50]), rtol=1e-12)


def test_matrices_of_any_kind():
    matrix = symmetric(6)
    kinds = (
        matrix,
        torch.from_numpy(matrix),
        scipy.sparse.csr_array(matrix),
        scipy.sparse.linalg.aslinearoperator(matrix),
    )
    for kind in kinds:
        np.testing.assert_allclose(curvature.diagonal(kind).diagonal, np.diag(matrix), rtol=1e-14)


def test_products_of_no_symmetric_matrix_are_flagged():
    """As where torch gets the second derivatives of a layer wrong."""
    matrix, wrong = symmetric(30), 0.1 * np.random.default_rng(1).standard_normal((30, 30))
    matrix = matrix + wrong

    class Wrong:
        shape = (30, 30)

        def __matmul__(self, vector):
            return matrix @ vector

    for method in ("exact", "hutchinson"):
        with pytest.warns(UserWarning, match="not symmetric"):
            found = curvature.diagonal(Wrong(), method=method)
        assert not found.converged and (found.diagonal_stderr > 0.1 * np.linalg.norm(wrong)).all()
    matrix -= wrong
    for method in ("exact", "hutchinson"):
        assert curvature.diagonal(Wrong(), method=method).converged


def test_the_same_probes_at_every_position_and_no_trace_left():
    loss = NETWORKS["mlp gelu"].loss()
    before, state = copy.deepcopy(loss.module.state_dict()), torch.get_rng_state()
    path = loss.position().numpy() + np.array([0.0, 1e-4, np.nan])[:, None] * np.ones(loss.dim)
    found = curvature.diagonal(loss, path, method="hutchinson")
    again = curvature.diagonal(loss, path[1], method="hutchinson")
    np.testing.assert_allclose(found.diagonal[1], again.diagonal, rtol=1e-12)
    assert np.abs(found.diagonal[1] - found.diagonal[0]).max() < 0.02 * found.diagonal_stderr.max()
    assert np.isnan(found.diagonal[2]).all() and found.converged.values.tolist() == [True, True, False]
    assert found.diagonal.dims == ("position", "coordinate")
    assert all(torch.equal(before[key], value) for key, value in loss.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    for name in found.data_vars:
        assert found[name].attrs["long_name"] and found[name].attrs["units"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"of": "trace"}, "of"),
        ({"of": "fisher"}, "labels"),
        ({"of": "fisher", "labels": "true"}, "labels"),
        ({"labels": "model"}, "labels"),
        ({"of": "gauss_newton", "labels": "model"}, "labels"),
        ({"of": "fisher", "labels": "sampled", "method": "hutchinson"}, "drawn labels"),
        ({"method": "guess"}, "method"),
        ({"probes": 5}, "probes"),
        ({"draws": 0}, "draws"),
        ({"seed": 1.5}, "seed"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"dtype": "float32"}, "dtype"),
    ],
)
def test_bad_input(settings, words):
    loss = NETWORKS["linear"].loss()
    with pytest.raises(ConfigError, match=words):
        curvature.diagonal(loss, loss.position(), **settings)


def test_other_bad_input():
    with pytest.raises(ConfigError, match="NetworkLoss"):
        curvature.diagonal(Quadratic([1.0]), [0.0], of="gauss_newton")
    with pytest.raises(ShapeError, match="matrix"):
        curvature.diagonal(np.ones((2, 3)))
    with pytest.raises(ConfigError, match="positions"):
        curvature.diagonal(NETWORKS["linear"].loss())


def test_diagonal_by_its_name():
    """What a specification {"task": "probe"} calls."""
    run = curvature.diagonal(Quadratic([1.0, 2.0]), [0.0, 0.0]).assign(position=("coordinate", [0.3, 0.4]))
    found = probe(Quadratic([1.0, 2.0]), run, probe="curvature.diagonal", settings={"method": "exact"})
    assert found.diagonal.values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("positions", [1, 3])
def test_picture_by_layer(positions):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    loss, position, hessian, _ = case("convnet tanh")
    figure, ax = plt.subplots()
    found = curvature.diagonal(loss, torch.stack([position] * positions) if positions > 1 else position)
    assert curvature.plot_diagonal(found, ax) is ax
    figure.canvas.draw()
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "3", "6"]
    first = ax.get_lines()[0].get_ydata()[0]
    assert first == pytest.approx(np.median(hessian[layer_blocks(loss)["0"]]))
    plt.close(figure)
    with pytest.raises(ConfigError, match="diagonal"):
        curvature.plot_diagonal(found.drop_vars("diagonal"))


def test_stored_and_read_again(tmp_path):
    loss, position, hessian, _ = case("mlp relu")
    save(curvature.diagonal(loss, position), tmp_path / "found.nc")
    with open_run(tmp_path / "found.nc") as found:
        np.testing.assert_allclose(found.diagonal, hessian, atol=1e-9)
        assert found.layer.attrs["flag_meanings"] == "0 2 4"
