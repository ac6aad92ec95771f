"""Products with the Hessian of plain perceptrons, written out, against double backward."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.potentials import NetworkLoss, architectures
from landscape.potentials.curvature.mlp_products import mlp_product
from landscape.potentials.curvature.products import HessianProducts
from tests.probes.curvature_cases import draws


def made(activation, kind, sizes, samples=9):
    module = architectures.mlp(sizes, activation=activation).double()
    targets = torch.arange(samples) % sizes[-1] if kind == "cross_entropy" else draws(samples, sizes[-1])
    return NetworkLoss(module, draws(samples, sizes[0], seed=4), targets, loss=kind, weight_decay=0.1)


def double_backward(loss, position, vectors):
    leaf = position.clone().requires_grad_(True)
    outputs = torch.func.functional_call(loss.module, loss.layout.unflatten(leaf), (loss.inputs,))
    mean = functional.mse_loss if loss.targets.is_floating_point() else functional.cross_entropy
    value = mean(outputs, loss.targets) + 0.05 * leaf.square().sum()
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    return torch.stack([torch.autograd.grad(slope, leaf, v, retain_graph=True)[0] for v in vectors])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (4, 6, 5, 3), (20, 200, 160, 4)])
def test_written_out_products_are_those_of_double_backward(activation, kind, sizes):
    """Also of vectors one by one, where there are many weights, and in chunks of which the last is short."""
    loss = made(activation, kind, sizes)
    position = loss.position() + 0.1
    vectors = draws(5, loss.dim, seed=7)
    truth = double_backward(loss, position, vectors)
    scale = float(truth.abs().max())
    for chunk_size in (None, 4):
        products = HessianProducts(loss, position, chunk_size=chunk_size)
        assert products._plain is not None
        torch.testing.assert_close(products(vectors), truth, atol=1e-12 * scale, rtol=1e-9)
        torch.testing.assert_close(products(vectors[:1]), truth[:1], atol=1e-12 * scale, rtol=1e-9)
    undecayed = mlp_product(loss.plain_mlp, position, loss.inputs, loss.targets)(vectors)
    assert float((undecayed - truth).abs().max()) > 1e-3  # control: without weight decay


def test_blocks_and_other_networks_take_the_graph():
    loss = made("relu", "mse", (3, 4, 2))
    assert HessianProducts(loss, loss.position(), slice(0, 16))._plain is None
    other = NetworkLoss(
        nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).double(), draws(5, 3), torch.arange(5) % 2
    )
    assert HessianProducts(other, other.position())._plain is None


def test_products_deep_in_a_minimum():
    """Where the label is all but certain, entries of 1e-20 are right to their own size."""
    module = nn.Sequential(nn.Linear(1, 2)).double()
    loss = NetworkLoss(module, torch.ones(1, 1), torch.zeros(1, dtype=torch.int64), dtype=torch.float64)
    position = torch.tensor([46.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    q = np.exp(-46.0) / (1 + np.exp(-46.0))
    product = HessianProducts(loss, position)(torch.eye(4, dtype=torch.float64)[:2])
    np.testing.assert_allclose(product[:, :2], q * (1 - q) * np.array([[1.0, -1.0], [-1.0, 1.0]]), rtol=1e-12)
