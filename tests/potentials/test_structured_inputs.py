"""Inputs in tuples and dicts: the same numbers, everywhere, as from one tensor with the same columns."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, architectures
from landscape.potentials.network.batch import Batch, batch_of, unwrapped
from landscape.probes import confinement, curvature, fluctuations

SAMPLES = 12


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B = draws(SAMPLES, 3), draws(SAMPLES, 2, seed=1)
Y = torch.randint(3, (SAMPLES,), generator=torch.Generator().manual_seed(2))


class Whole(nn.Module):
    """Takes all columns in one tensor; no plain MLP, which would take another way."""

    def __init__(self):
        super().__init__()
        self.net = architectures.mlp([5, 6, 3], activation="tanh", seed=3).double()

    def forward(self, x):
        return self.net(x)


class Parts(Whole):
    """Takes the columns apart; a flag that is a whole number turns the second part off."""

    def forward(self, first, second, used=None):
        second = second if used is None else second * used[:, None]
        return self.net(torch.cat([first, second], 1))


class Answer(Parts):
    def forward(self, **named):
        return {"logits": super().forward(**named), "other": [None, "text"]}


USED = torch.ones(SAMPLES, dtype=torch.int64)
FORMS = {
    "tuple": (Parts, (A, B)),
    "list": (Parts, [A, B]),
    "arrays": (Parts, (A.numpy(), B.numpy())),
    "dict": (Parts, {"first": A, "second": B, "used": USED}),
    "named None": (Parts, {"first": A, "second": B, "used": None}),
    "dict outputs": (Answer, {"first": A, "second": B}),
}
SETTINGS = {"weight_decay": 0.1, "evaluation": None}


def pair(form, **settings):
    kind, inputs = FORMS[form]
    return NetworkLoss(kind(), inputs, Y, **settings), NetworkLoss(Whole(), torch.cat([A, B], 1), Y, **settings)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_full_data_quantities(form, chunk_size):
    parts, whole = pair(form, chunk_size=chunk_size, weight_decay=0.1)
    at = whole.position() + 0.1 * draws(3, whole.dim, seed=5)
    for name in ("energy", "gradient", "hessian", "sample_energies", "sample_gradients", "accuracy"):
        torch.testing.assert_close(getattr(parts, name)(at), getattr(whole, name)(at), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(parts.hvp(at, at[:1]), whole.hvp(at, at[:1]))
    other = whole.energy(at + 1e-3)
    assert not torch.allclose(parts.energy(at), other, rtol=1e-12)


@pytest.mark.parametrize("form", ["tuple", "dict", "dict outputs"])
def test_curvature(form):
    parts, whole = pair(form)
    at = whole.position()
    for question in (
        lambda loss: curvature.trace(loss, at, probes=6).trace,
        lambda loss: curvature.extreme_eigenvalues(loss, at).largest,
        lambda loss: curvature.spectral_density(loss, at, probes=2, steps=5).node,
        lambda loss: curvature.score_singular_values(loss, at).singular_value,
        lambda loss: curvature.fisher_trace(loss, at, labels="model").fisher_trace,
        lambda loss: curvature.fisher_trace(loss, at, labels="sampled").fisher_trace,
        lambda loss: curvature.fisher_trace(loss, at, labels="empirical").fisher_trace,
        lambda loss: curvature.GaussNewtonOperator(loss, at) @ np.ones(loss.dim),
        lambda loss: fluctuations.effective_temperature(loss, at, lr=0.1, batch_size=3).temperature,
    ):
        np.testing.assert_allclose(question(parts), question(whole), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("form", ["tuple", "dict", "dict outputs"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "integrator",
    [ls.SGD(lr=0.1, momentum=0.5), ls.Optimizer("RMSprop", lr=0.01)],
    ids=["SGD", "Optimizer"],
)
def test_dynamics_on_minibatches(form, shared, integrator):
    parts, whole = pair(form, batch_size=5, shared_batches=shared)
    record = ls.Record(2, ["energy", "accuracy", "batch_energy"])
    runs = [ls.simulate(loss, integrator, steps=6, chains=3, record=record, seed=1) for loss in (parts, whole)]
    for name in ("energy", "accuracy", "batch_energy", "last_position"):
        np.testing.assert_allclose(runs[0][name], runs[1][name], rtol=1e-10)


def test_an_optimizer_that_runs_the_module():
    parts, whole = pair("dict outputs", batch_size=5)
    step = ls.Optimizer(lambda module, lr: torch.optim.SGD(module.parameters(), lr), lr=0.1, of="module")
    runs = [ls.simulate(loss, step, steps=4, chains=2) for loss in (parts, whole)]
    np.testing.assert_allclose(runs[0].last_position, runs[1].last_position, rtol=1e-12)


def test_training_minima_and_paths():
    held_out = (A[:4], B[:4]), Y[:4]
    parts = NetworkLoss(Parts(), (A, B), Y, evaluation=held_out, batch_size=4)
    whole = NetworkLoss(Whole(), torch.cat([A, B], 1), Y, evaluation=(torch.cat([A, B], 1)[:4], Y[:4]), batch_size=4)
    found = [ls.train(loss, ls.SGD(lr=0.1), epochs=2).last_position.values for loss in (parts, whole)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    lowest = [ls.minimize(loss, steps=20).energy for loss in (parts, whole)]
    np.testing.assert_allclose(lowest[0], lowest[1], rtol=1e-8)
    path = ls.paths.straight_line(whole.position(), whole.position() + 0.1, 3)
    names = ("energy", "accuracy", "evaluation_energy", "trace")
    along = [confinement.along_path(loss, path, names) for loss in (parts, whole)]
    for name in names:
        np.testing.assert_allclose(along[0][name], along[1][name], rtol=1e-8)


def test_an_augmentation_sees_the_arrangement():
    def noisy(inputs, words):
        first, second = inputs if isinstance(inputs, tuple) else inputs.split([3, 2], 1)
        shift = (words[:, :1] % 7).double() / 7
        return (first + shift, second) if isinstance(inputs, tuple) else torch.cat([first + shift, second], 1)

    parts = NetworkLoss(Parts(), (A, B), Y, batch_size=5, augment=noisy)
    whole = NetworkLoss(Whole(), torch.cat([A, B], 1), Y, batch_size=5, augment=noisy)
    runs = [ls.simulate(loss, ls.SGD(lr=0.1), steps=4, chains=2) for loss in (parts, whole)]
    np.testing.assert_allclose(runs[0].last_position, runs[1].last_position, rtol=1e-12)


# -- calls, outputs and losses of one's own ----------------------------------------------------------------------------


def test_a_call_of_ones_own():
    def call(module, batch):
        return {"logits": module(batch["a"], batch["b"])}

    loss = NetworkLoss(Parts(), {"a": A, "b": B}, Y, call=call)
    whole = NetworkLoss(Whole(), torch.cat([A, B], 1), Y)
    at = whole.position() + 0.1 * draws(2, whole.dim)
    torch.testing.assert_close(loss.gradient(at), whole.gradient(at))
    assert curvature.fisher_trace(loss, at[0], labels="empirical").fisher_trace == pytest.approx(
        float(curvature.fisher_trace(whole, at[0], labels="empirical").fisher_trace)
    )
    assert "call" in loss.spec()["call"]["name"]
    with pytest.raises(ConfigError, match="call"):
        NetworkLoss(Parts(), (A, B), Y, call=3)


class Two(Parts):
    def forward(self, first, second):
        logits = super().forward(first, second)
        return logits, logits.square().mean(1)


def test_a_loss_of_ones_own_takes_all_that_the_module_returns():
    def penalised(outputs, targets):
        logits, penalty = outputs
        return nn.functional.cross_entropy(logits, targets, reduction="none") + 0.1 * penalty

    loss = NetworkLoss(Two(), (A, B), Y, loss=penalised, batch_size=4)

    def plain(outputs, targets):
        return penalised((outputs, outputs.square().mean(1)), targets)

    whole = NetworkLoss(Whole(), torch.cat([A, B], 1), Y, loss=plain, batch_size=4)
    at = whole.position() + 0.1 * draws(3, whole.dim)
    for name in ("energy", "gradient", "hessian", "sample_gradients"):
        torch.testing.assert_close(getattr(loss, name)(at), getattr(whole, name)(at))
    runs = [ls.simulate(one, ls.SGD(lr=0.1), steps=3, chains=2) for one in (loss, whole)]
    np.testing.assert_allclose(runs[0].last_position, runs[1].last_position, rtol=1e-12)
    with pytest.raises(ConfigError, match="call"):
        curvature.GaussNewtonOperator(loss, at[0])


def test_outputs_of_which_none_is_meant_are_refused():
    with pytest.raises(ConfigError, match="logits"):
        NetworkLoss(Two(), (A, B), Y)


# -- data sets and loaders ---------------------------------------------------------------------------------------------


class Named(Dataset):
    def __len__(self):
        return SAMPLES

    def __getitem__(self, i):
        return {"first": A[i], "second": B[i].numpy(), "labels": int(Y[i])}


@pytest.mark.parametrize(
    "source",
    [
        TensorDataset(A, B, Y),
        DataLoader(TensorDataset(A, B, Y), 5),
        Named(),
        DataLoader(Named(), 5, shuffle=True),
        {"first": A, "second": B, "targets": Y},
    ],
    ids=["triples", "loader of triples", "dicts", "loader of dicts", "one dict"],
)
def test_targets_among_the_inputs(source):
    loss = NetworkLoss(Parts(), source)
    whole = NetworkLoss(Whole(), torch.cat([A, B], 1), Y)
    at = whole.position()
    torch.testing.assert_close(loss.sample_energies(at), whole.sample_energies(at))


@pytest.mark.parametrize(
    ("inputs", "targets", "error", "word"),
    [
        ((A, B[:5]), Y, ShapeError, "different numbers"),
        ({"first": A, "second": 3.0}, Y, ShapeError, "different numbers"),
        ({"first": A, "second": ["a"] * SAMPLES}, Y, ShapeError, "second"),
        ({"first": A, "second": B}, None, ConfigError, "labels"),
        ({"first": A, "labels": Y, "targets": Y}, None, ConfigError, "exactly one"),
        ((A, B, A, B), Y, ShapeError, "cannot take"),
        ({"first": A, "wrong": B}, Y, ShapeError, "wrong"),
        ([A, B[:, :1], A], Y[:3], ShapeError, "tuple"),
        ((A, B * float("nan")), Y, ShapeError, "finite"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, targets, error, word):
    with pytest.raises(error, match=word):
        NetworkLoss(Parts(), inputs, targets)


def test_a_batch_behaves_as_a_tensor_along_its_first_axes():
    batch = batch_of({"x": A, "y": (B, {"z": Y})})
    assert isinstance(batch, Batch)
    assert len(batch) == SAMPLES
    assert [name for name, _ in batch.items()] == ["x", "y.0", "y.1.z"]
    assert batch.shape == (SAMPLES,)
    rows = batch[torch.tensor([[0, 2], [1, 3]])]
    assert rows.shape == (2, 2)
    assert torch.equal(rows.tree()["y"][1]["z"], Y[torch.tensor([[0, 2], [1, 3]])])
    assert [len(piece) for piece in batch.split(5)] == [5, 5, 2]
    leaves, back = unwrapped(batch)
    assert back(leaves).tree()["x"] is A
    cast = batch.to(torch.device("cpu"), torch.float32)
    assert [leaf.dtype for leaf in cast.leaves] == [torch.float32, torch.float32, torch.int64]


class Sparse(nn.Module):
    """A graph convolution whose adjacency matrix is a sparse buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3).double()
        adjacency = (torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) < 0.4).double()
        self.register_buffer("adjacency", adjacency.to_sparse())

    def forward(self, nodes):
        return torch.stack([self.layer(torch.sparse.mm(self.adjacency, one)).mean(0) for one in nodes])


def test_sparse_buffers():
    module, nodes = Sparse(), draws(SAMPLES, 5, 4)
    loss = NetworkLoss(module, nodes, Y)
    dense = torch.einsum("ij,njk->nik", module.adjacency.to_dense(), nodes).mean(1)
    expected = NetworkLoss(nn.Sequential(module.layer, nn.Identity()), dense, Y)
    at = loss.position() + 0.1 * draws(3, loss.dim)
    for name in ("energy", "gradient", "hessian", "sample_gradients"):
        torch.testing.assert_close(getattr(loss, name)(at), getattr(expected, name)(at))


def test_a_module_that_works_in_place_on_its_inputs_leaves_the_data_alone():
    """An activation in place as the first layer would change the data at every evaluation."""
    module = nn.Sequential(nn.CELU(inplace=True), nn.Linear(3, 3)).double()
    given, expected = A.clone(), NetworkLoss(nn.Sequential(nn.CELU(), module[1]), A, Y)
    loss = NetworkLoss(module, given, Y)
    at = loss.position() + 0.1 * draws(2, loss.dim)
    for name in ("energy", "gradient", "energy", "hessian", "sample_gradients", "energy"):
        torch.testing.assert_close(getattr(loss, name)(at), getattr(expected, name)(at))
    assert torch.equal(given, A)
    assert torch.equal(loss.inputs, A)
    assert not torch.allclose(nn.functional.celu(nn.functional.celu(A)), nn.functional.celu(A))  # control


@pytest.mark.parametrize("width", [2, 3])
def test_embeddings_that_rescale_their_rows_are_refused(width):
    """Of whatever width: pairs are copied on the way to the module."""
    module = nn.Sequential(nn.Embedding(6, width, max_norm=0.1), nn.Flatten(), nn.Linear(2 * width, 3)).double()
    with pytest.raises(ConfigError, match="its own weight"):
        NetworkLoss(module, torch.randint(6, (SAMPLES, 2), generator=torch.Generator().manual_seed(0)), Y)
