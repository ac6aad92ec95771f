"""Per-sample losses: torch's values where torch is accurate, and mpmath-free closed forms where it is not."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.potentials import NetworkLoss
from landscape.potentials.losses import check_targets, cross_entropy, named_loss, squared_error


def draws(*shape, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


def labels(samples, classes, *more, seed=1):
    return torch.randint(classes, (samples, *more), generator=torch.Generator().manual_seed(seed))


# -- cross-entropy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_cross_entropy_is_torchs(classes, scale):
    outputs, targets = draws(200, classes, scale=scale), labels(200, classes)
    expected = functional.cross_entropy(outputs, targets, reduction="none")
    torch.testing.assert_close(cross_entropy(outputs, targets), expected, rtol=1e-12, atol=1e-12)


def test_cross_entropy_of_one_class_is_zero():
    torch.testing.assert_close(cross_entropy(draws(5, 1), torch.zeros(5, dtype=torch.int64)), torch.zeros(5).double())


def test_cross_entropy_with_further_dimensions_is_averaged():
    outputs, targets = draws(20, 3, 4, 5), labels(20, 3, 4, 5)
    expected = functional.cross_entropy(outputs, targets, reduction="none").mean((1, 2))
    torch.testing.assert_close(cross_entropy(outputs, targets), expected)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("gap", [1.0, 5.0, 20.0, 40.0, 80.0])
@pytest.mark.parametrize("offset", [0.0, 2.0, -64.0])
def test_tiny_losses_are_accurate_far_below_rounding(gap, offset, dtype, rtol):
    """-log p = log(1 + 2 exp(-gap)) for logits (gap, 0, 0); its derivative by the first logit is -2/(exp(gap) + 2)."""
    outputs = torch.tensor([[gap + offset, offset, offset]], dtype=dtype, requires_grad=True)
    loss = cross_entropy(outputs, torch.tensor([0]))
    (slope,) = torch.autograd.grad(loss.sum(), outputs)
    assert float(loss.detach()) == pytest.approx(math.log1p(2 * math.exp(-gap)), rel=rtol)
    assert float(slope[0, 0]) == pytest.approx(-2 / (math.exp(gap) + 2), rel=rtol)
    assert float(slope[0, 1]) == pytest.approx(1 / (math.exp(gap) + 2), rel=rtol)


def test_the_usual_form_loses_them():
    """Control: torch's own cross-entropy in float32 is zero where the loss is 2e-9."""
    outputs = torch.tensor([[20.0, 0.0]])
    assert float(functional.cross_entropy(outputs, torch.tensor([0]))) == 0.0
    assert float(cross_entropy(outputs, torch.tensor([0]))) == pytest.approx(math.exp(-20), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_losses_are_finite(dtype):
    outputs = torch.tensor([[0.0, 1e4, -1e4], [1e30, -1e30, 0.0]], dtype=dtype, requires_grad=True)
    loss = cross_entropy(outputs, torch.tensor([0, 1]))
    (slope,) = torch.autograd.grad(loss.sum(), outputs)
    np.testing.assert_allclose(loss.detach().numpy(), [1e4, 2e30], rtol=1e-6)
    np.testing.assert_allclose(slope.numpy(), [[-1, 1, 0], [1, -1, 0]], atol=1e-6)


def test_float32_agrees_with_float64():
    outputs, targets = draws(500, 5, scale=10.0), labels(500, 5)
    single, double = cross_entropy(outputs.float(), targets), cross_entropy(outputs.float().double(), targets)
    np.testing.assert_allclose(single.numpy(), double.numpy(), rtol=2e-6)


def test_second_derivatives_of_cross_entropy():
    """Hessian by the logits is diag(p) - p p^T."""
    logits, target = draws(4, seed=3), torch.tensor([2])
    hessian = torch.autograd.functional.hessian(lambda z: cross_entropy(z[None], target).sum(), logits)
    p = logits.softmax(0)
    torch.testing.assert_close(hessian, torch.diag(p) - torch.outer(p, p))


# -- squared error -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 1), (7, 3), (7, 2, 4)])
def test_squared_error_is_the_mean_over_outputs(shape):
    outputs, targets = draws(*shape), draws(*shape, seed=1)
    expected = ((outputs - targets) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(squared_error(outputs, targets), expected)
    assert float(squared_error(outputs, targets).mean()) == pytest.approx(float(functional.mse_loss(outputs, targets)))


def test_flat_targets_stand_for_one_output():
    outputs, targets = draws(7, 1), draws(7, seed=1)
    torch.testing.assert_close(squared_error(outputs, targets), (outputs[:, 0] - targets) ** 2)


# -- names and checks --------------------------------------------------------------------------------------------------


def test_losses_by_name_or_callable():
    assert named_loss("cross_entropy") is cross_entropy
    assert named_loss("mse") is squared_error

    def own(outputs, targets):
        return (outputs - targets).abs().sum(-1)

    assert named_loss(own) is own


@pytest.mark.parametrize("name", ["nlll", "MSE", "", None, 3])
def test_unknown_losses_are_refused(name):
    with pytest.raises(ConfigError) as caught:
        named_loss(name)
    assert "cross_entropy" in str(caught.value)
    assert "mse" in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "targets", "loss", "words"),
    [
        ((6, 3), torch.tensor([0, 1, 2, 3, 0, 1]), cross_entropy, ["3"]),
        ((6, 3), torch.tensor([0, 1, 2, -1, 0, 1]), cross_entropy, ["-1"]),
        ((6, 3), torch.zeros(6), cross_entropy, ["float32", "int"]),
        pytest.param((6, 3), torch.zeros(6, 3, dtype=torch.int64), cross_entropy, ["(3,)"]),
        ((6,), torch.zeros(6, dtype=torch.int64), cross_entropy, ["(6,)", "class"]),
        ((6, 3), torch.zeros(6, 2), squared_error, ["(2,)", "(3,)"]),
        ((6, 3), torch.zeros(6), squared_error, ["()", "(3,)"]),
    ],
    ids=["label 3 of 3", "label -1", "float labels", "one-hot", "no classes", "outputs", "flat"],
)
def test_targets_that_do_not_fit_are_refused(outputs, targets, loss, words):
    with pytest.raises(ShapeError) as caught:
        check_targets(torch.zeros(*outputs), targets, loss)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_targets_that_fit_pass():
    check_targets(torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 0, 1]), cross_entropy)
    check_targets(torch.zeros(6, 3), torch.zeros(6, 3), squared_error)
    check_targets(torch.zeros(6, 1), torch.zeros(6), squared_error)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda outputs, targets: ((outputs - targets) ** 2).mean(),
        lambda outputs, targets: outputs - targets,
        pytest.param(lambda outputs, targets: 0.0),
    ],
    ids=["mean", "per output", "float"],
)
def test_a_callable_must_give_one_loss_per_sample(wrong):
    module, inputs = torch.nn.Linear(2, 1), draws(5, 2, dtype=torch.float32)
    with pytest.raises(LandscapeError) as caught:
        NetworkLoss(module, inputs, torch.zeros(5, 1), loss=wrong).energy(torch.zeros(3))
    assert "per sample" in str(caught.value) or "(5,)" in str(caught.value), str(caught.value)
