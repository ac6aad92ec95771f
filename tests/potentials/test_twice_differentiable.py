"""Second derivatives made of first-order kernels are those of torch's own double backward pass."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape.potentials.curvature.twice_differentiable import TwiceDifferentiable


class TwiceUsed(nn.Module):
    """A convolution whose output is both normalised and kept."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()

    def forward(self, inputs):
        hidden = self.conv(inputs)
        return self.norm(hidden) * hidden


class Reparametrised(nn.Module):
    """A convolution whose kernel is a function of the weights."""

    def __init__(self):
        super().__init__()
        self.scale, self.kernel = nn.Parameter(torch.ones(4, 1, 1, 1)), nn.Parameter(torch.randn(4, 2, 3, 3))

    def forward(self, inputs):
        length = self.kernel.square().sum((1, 2, 3), keepdim=True).sqrt()
        return functional.conv2d(inputs, self.scale * self.kernel / length)


MODULES = {
    "plain": lambda: nn.Conv2d(2, 4, 3),
    "strided": lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(2, 4, 2, dilation=2, bias=False),
    "grouped": lambda: nn.Conv2d(2, 4, (3, 1), groups=2, padding=(1, 0)),
    "weights that are a function": Reparametrised,
    "normalised before": lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh(), nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3)),
    "normalised and kept": TwiceUsed,
    "same padding": lambda: nn.Conv2d(2, 4, 3, padding="same"),
}


def network(kind):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    module = nn.Sequential(MODULES[kind](), norm, nn.ReLU(), nn.Conv2d(4, 2, 2), nn.BatchNorm2d(2), nn.Tanh())
    return module.double().eval()


def products(module, inputs, vectors, *, batched):
    parameters = list(module.parameters())
    energy = module(inputs).square().sum()
    slopes = torch.autograd.grad(energy, parameters, create_graph=True)
    return torch.autograd.grad(slopes, parameters, vectors, is_grads_batched=batched)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", MODULES)
def test_products_are_those_of_torch(kind, batched):
    module = network(kind)
    inputs = torch.randn(3, 2, 7, 7, dtype=torch.float64)
    shape = (5,) if batched else ()
    vectors = [torch.randn(*shape, *p.shape, dtype=torch.float64) for p in module.parameters()]
    truth = products(module, inputs, vectors, batched=batched)
    with TwiceDifferentiable():
        found = products(module, inputs, vectors, batched=batched)
    for one, other in zip(found, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", MODULES)
def test_first_slopes_are_those_of_torch(kind):
    module = network(kind)
    inputs = torch.randn(3, 2, 7, 7, dtype=torch.float64)
    parameters = list(module.parameters())
    truth = torch.autograd.grad(module(inputs).square().sum(), parameters)
    with TwiceDifferentiable():
        energy = module(inputs).square().sum()
    for one, other in zip(torch.autograd.grad(energy, parameters), truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
