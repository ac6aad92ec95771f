"""Gradients of single samples in a convolution: by shifted rows for few directions, by patches for many."""

import pytest
import torch
from torch import nn

from landscape.potentials.network.layer_rules import Call, gradients_of, has_rule

LAYERS = {
    "3x3": nn.Conv2d(3, 4, 3, padding=1),
    "no padding, no bias": nn.Conv2d(3, 4, 3, bias=False),
    "1x1": nn.Conv2d(3, 4, 1),
    "not square": nn.Conv2d(3, 4, (2, 5), padding=(1, 2)),
    "wide padding": nn.Conv2d(2, 3, 3, padding=4),
    "strided": nn.Conv2d(3, 4, 3, stride=2, padding=1),
    "dilated": nn.Conv2d(3, 4, 3, dilation=2, padding=2),
    "many channels": nn.Conv2d(40, 4, 3, padding=1),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("directions", [1, 2, 11])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_convolutions_against_automatic_differentiation(name, directions, order):
    generator = torch.Generator().manual_seed(1)
    layer = LAYERS[name].double()
    inputs = torch.randn(5, layer.in_channels, 6, 7, generator=generator, dtype=torch.float64).to(memory_format=order)
    outputs = layer(inputs)
    slopes = [
        torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(memory_format=order)
        for _ in range(directions)
    ]
    assert has_rule(layer)
    found = gradients_of(Call("0", layer, {}, inputs, outputs.detach()), slopes, {})
    assert set(found) == {key for key, _ in layer.named_parameters()}
    for key, parameter in layer.named_parameters():
        values, norms = found[key].values(), found[key].squared_norms()
        for sample in range(5):
            for k, slope in enumerate(slopes):
                (exact,) = torch.autograd.grad(outputs[sample], parameter, slope[sample], retain_graph=True)
                torch.testing.assert_close(values[sample, k], exact.flatten(), rtol=1e-11, atol=1e-11)
                torch.testing.assert_close(norms[sample, k], exact.square().sum(), rtol=1e-10, atol=1e-10)
                wrong = exact.flatten() * 1.001
                assert not torch.allclose(values[sample, k], wrong, rtol=1e-6, atol=1e-9)
