"""Named losses: torch's values, and the probability models of which they are minus the logarithm."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.potentials.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    NegativeLogLikelihood,
    SquaredError,
    cross_entropy,
    named_loss,
)
from landscape.probes import curvature


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(samples, classes, *more, seed=1):
    return torch.randint(classes, (samples, *more), generator=torch.Generator().manual_seed(seed))


WEIGHT = (1.0, 5.0, 0.2)


# -- torch's values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_with_weights_and_smoothing_is_torchs(weight, smoothing):
    outputs, targets = draws(40, 3), labels(40, 3)
    found = CrossEntropy(weight=weight, label_smoothing=smoothing)(outputs, targets)
    tensor = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    expected = functional.cross_entropy(outputs, targets, tensor, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_ignored_tokens_are_left_out_of_a_samples_mean(axis, weight):
    outputs, targets = draws(6, 3, 5), labels(6, 3, 5)
    targets[0, 1:], targets[1], targets[2, 0] = -100, -100, -100
    tensor = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    each = functional.cross_entropy(outputs, targets, tensor, ignore_index=-100, reduction="none")
    kept = (targets != -100).sum(1)
    expected = each.sum(1) / kept.clamp_min(1)
    loss = CrossEntropy(ignore_index=-100, class_axis=axis, weight=weight)
    given = outputs if axis == 1 else outputs.movedim(1, -1)
    torch.testing.assert_close(loss(given, targets), expected)
    assert float(loss(given, targets)[1]) == 0.0
    assert not torch.allclose(each.mean(1), expected)  # control: the mean over all tokens is another number
    right = (outputs.argmax(1) == targets).double().sum(1) / kept.clamp_min(1)
    torch.testing.assert_close(loss.hits(given, targets), right)


def test_where_the_classes_are_is_found_or_asked_for():
    last, targets = draws(4, 5, 3), labels(4, 3, 5)
    expected = functional.cross_entropy(last.movedim(-1, 1), targets, reduction="none").mean(1)
    torch.testing.assert_close(cross_entropy(last, targets), expected)
    square, few = draws(4, 3, 3), labels(4, 3, 3)
    with pytest.raises(ShapeError, match="class_axis"):
        cross_entropy.check(square, few)
    assert not torch.allclose(CrossEntropy(class_axis=1)(square, few), CrossEntropy(class_axis=-1)(square, few))
    with pytest.raises(ShapeError):
        CrossEntropy(class_axis=1)(last, targets)


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3)])
@pytest.mark.parametrize("weight", [None, 3.0])
def test_binary_cross_entropy_is_torchs(shape, weight):
    outputs, targets = draws(*shape), torch.rand(shape, generator=torch.Generator().manual_seed(2)).double()
    tensor = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    each = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none", pos_weight=tensor)
    torch.testing.assert_close(BinaryCrossEntropy(pos_weight=weight)(outputs, targets), each.reshape(7, -1).mean(1))


def test_one_positive_weight_for_each_output():
    outputs, targets = draws(7, 3), (draws(7, 3, seed=3) > 0).double()
    expected = functional.binary_cross_entropy_with_logits(
        outputs, targets, reduction="none", pos_weight=torch.tensor(WEIGHT, dtype=torch.float64)
    )
    torch.testing.assert_close(BinaryCrossEntropy(pos_weight=WEIGHT)(outputs, targets), expected.mean(1))


def test_huber_and_negative_log_likelihood_are_torchs():
    outputs, targets = 3 * draws(9, 4), draws(9, 4, seed=5)
    expected = functional.huber_loss(outputs, targets, reduction="none", delta=0.7).mean(1)
    torch.testing.assert_close(Huber(delta=0.7)(outputs, targets), expected)
    logarithms, own = draws(9, 3).log_softmax(1), labels(9, 3)
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    expected = functional.nll_loss(logarithms, own, weight, reduction="none")
    torch.testing.assert_close(NegativeLogLikelihood(weight=WEIGHT)(logarithms, own), expected)


def test_torchs_own_losses_move_with_the_type_and_the_weights_stay():
    weight = torch.tensor(WEIGHT)
    own = nn.CrossEntropyLoss(weight=weight, reduction="none")
    module = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))
    x, y = draws(20, 4).float(), labels(20, 3)
    for kind in (torch.float32, torch.float64):
        loss = NetworkLoss(module, x, y, loss=own, dtype=kind)
        named = NetworkLoss(module, x, y, loss=CrossEntropy(weight=WEIGHT), dtype=kind)
        at = loss.position()
        assert float(loss.energy(at)) == pytest.approx(float(named.energy(at)), rel=1e-5)
        wide = curvature.eigenvalues(loss, at).eigenvalue
        np.testing.assert_allclose(wide, curvature.eigenvalues(named, at).eigenvalue, atol=1e-10)
    assert own.weight is weight
    assert weight.dtype == torch.float32


# -- models: <s s^T> by sums over labels or quadrature, which use nothing of ours --------------------------------------


def score(loss, outputs, targets):
    leaf = outputs.clone().requires_grad_(True)
    return torch.autograd.grad(loss(leaf, targets).sum(), leaf)[0]


@pytest.mark.parametrize(
    ("loss", "outputs", "probabilities"),
    [
        (CrossEntropy(), draws(5, 4), lambda f: f.softmax(1)),
        (NegativeLogLikelihood(), draws(5, 4).log_softmax(1), lambda f: f.exp()),
        (BinaryCrossEntropy(), draws(5, 1), lambda f: torch.cat([1 - f.sigmoid(), f.sigmoid()], 1)),
    ],
    ids=["cross_entropy", "nll", "binary"],
)
def test_factors_are_the_covariance_of_scores_over_labels(loss, outputs, probabilities):
    p, expected = probabilities(outputs), torch.zeros(5, outputs.shape[1], outputs.shape[1], dtype=torch.float64)
    for label in range(p.shape[1]):
        own = torch.full((5,), label)
        s = score(loss, outputs, own[:, None].double() if isinstance(loss, BinaryCrossEntropy) else own)
        expected += p[:, label, None, None] * s.unsqueeze(2) * s.unsqueeze(1)
    u = loss.factor(outputs)
    torch.testing.assert_close(torch.einsum("kbi,kbj->bij", u, u), expected)
    assert not torch.allclose(1.05 * torch.einsum("kbi,kbj->bij", u, u), expected)


@pytest.mark.parametrize("delta", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("count", [1, 3])
def test_the_model_of_huber(delta, count):
    """Fisher information and moments of the density exp(-h(r)/K) by quadrature."""

    def density(r):
        return math.exp(-(r * r / 2 if abs(r) < delta else delta * (abs(r) - delta / 2)) / count)

    def mean(f):
        parts = [(-np.inf, -delta), (-delta, delta), (delta, np.inf)]
        return sum(integrate.quad(lambda r: f(r) * density(r), *part, epsabs=1e-13)[0] for part in parts)

    information = mean(lambda r: (np.clip(r, -delta, delta) / count) ** 2) / mean(lambda r: 1.0)
    loss, outputs = Huber(delta=delta), torch.zeros(2, count, dtype=torch.float64)
    u = loss.factor(outputs)
    expected = information * torch.eye(count, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(torch.einsum("kbi,kbj->bij", u, u), expected)
    quantiles = np.linspace(0.005, 0.995, 41)
    noise = torch.as_tensor(stats.norm.ppf(quantiles))[:, None, None].expand(-1, 2, count)
    residual = loss.drawn(outputs, noise)[:, 0, 0].numpy()
    norm = mean(lambda r: 1.0)
    below = [integrate.quad(density, -np.inf, r, points=None)[0] / norm for r in residual]
    np.testing.assert_allclose(below, quantiles, atol=1e-6)


@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy(), Huber(delta=1.5), SquaredError()])
def test_drawn_labels_give_the_fisher_trace_of_the_model(loss):
    outputs = 3 if isinstance(loss, CrossEntropy) else 1
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    y = labels(12, 3) if outputs == 3 else (draws(12, 1) > 0).double()
    network = NetworkLoss(module, draws(12, 4), y, loss=loss)
    at = network.position()
    exact = curvature.fisher_trace(network, at, labels="model")
    drawn = curvature.fisher_trace(network, at, labels="sampled", draws=200)
    z = float((drawn.fisher_trace - exact.fisher_trace) / drawn.fisher_trace_stderr)
    assert abs(z) < 4.5
    assert abs(float((drawn.fisher_trace - 1.3 * exact.fisher_trace) / drawn.fisher_trace_stderr)) > 4.5
    operator = curvature.FisherOperator(network, at, labels="model")
    matrix = operator @ torch.eye(network.dim, dtype=torch.float64)
    assert float(matrix.trace()) == pytest.approx(float(exact.fisher_trace), rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "word"),
    [
        (CrossEntropy(weight=WEIGHT), "weights"),
        (CrossEntropy(label_smoothing=0.1), "smoothing"),
        (CrossEntropy(ignore_index=5), "ignores"),
        (NegativeLogLikelihood(), "LogSoftmax"),
        (BinaryCrossEntropy(), "several outputs"),
        (lambda f, y: functional.cross_entropy(f, y, reduction="none"), "callable"),
    ],
)
def test_labels_of_the_model_are_refused_where_there_is_no_model(loss, word):
    targets = functional.one_hot(labels(6, 3), 3).double() if isinstance(loss, BinaryCrossEntropy) else labels(6, 3)
    network = NetworkLoss(nn.Linear(4, 3).double(), draws(6, 4), targets, loss=loss)
    for question in (
        lambda: curvature.fisher_trace(network, network.position(), labels="model"),
        lambda: curvature.fisher_trace(network, network.position(), labels="sampled"),
        lambda: curvature.FisherOperator(network, network.position(), labels="model"),
    ):
        with pytest.raises(ConfigError, match=word):
            question()
    empirical = float(curvature.fisher_trace(network, network.position(), labels="empirical").fisher_trace)
    single = network.sample_gradients(network.position()).square().sum(1).mean()
    assert empirical == pytest.approx(float(single))


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(),
        CrossEntropy(weight=torch.tensor(WEIGHT), label_smoothing=0.2, ignore_index=-1, class_axis=-1),
        BinaryCrossEntropy(pos_weight=2.0),
        Huber(delta=0.5),
        NegativeLogLikelihood(weight=[1, 2]),
    ],
)
def test_settings_survive_as_plain_data(loss):
    assert named_loss(loss.spec()) == loss


@pytest.mark.parametrize(
    "make",
    [
        lambda: CrossEntropy(weight=[[1.0]]),
        lambda: CrossEntropy(weight=[-1.0, 1.0]),
        lambda: CrossEntropy(label_smoothing=1.5),
        lambda: CrossEntropy(ignore_index=0.5),
        lambda: CrossEntropy(ignore_index=2**70),
        lambda: CrossEntropy(class_axis=2),
        lambda: Huber(delta=0),
        lambda: BinaryCrossEntropy(pos_weight=-1),
        lambda: named_loss({"kind": "huber", "width": 1}),
        lambda: named_loss({"delta": 1}),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize(
    ("loss", "targets", "word"),
    [
        (CrossEntropy(weight=[1.0, 2.0]), labels(6, 3), "2 numbers for 3"),
        (CrossEntropy(), torch.tensor([0, 1, -100, 2, 0, 1]), "ignore_index=-100"),
        (CrossEntropy(ignore_index=7), torch.full((6,), 7), "all labels"),
        (BinaryCrossEntropy(), torch.full((6, 3), 2.0), "0 to 1"),
        (BinaryCrossEntropy(pos_weight=[1.0, 2.0]), torch.ones(6, 3), "2 numbers for 3"),
        (Huber(), torch.ones(6, 2), r"\(2,\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(loss, targets, word):
    with pytest.raises(ShapeError, match=word):
        NetworkLoss(nn.Linear(4, 3), torch.zeros(6, 4), targets, loss=loss)


def test_a_loss_with_settings_in_a_specification():
    """The same run from objects and from a specification."""
    module, data = architectures.mlp([10, 5, 3], seed=1), datasets.random_labels(20, seed=2)
    loss = NetworkLoss(module, data, loss=CrossEntropy(label_smoothing=0.1))
    run = ls.simulate(loss, ls.SGD(lr=0.1), steps=3)
    spec = loss.spec()
    assert spec["loss"] == {"kind": "cross_entropy", "label_smoothing": 0.1}
    made = ls.run(
        {
            "task": "simulate",
            "potential": spec | {"dtype": "float32"},
            "integrator": {"kind": "SGD", "lr": 0.1},
            "steps": 3,
        }
    )
    np.testing.assert_array_equal(made.energy, run.energy)
    plain = ls.simulate(NetworkLoss(module, data), ls.SGD(lr=0.1), steps=3)
    assert not np.array_equal(plain.energy, run.energy)
