"""Plain multilayer perceptrons: recognised, and differentiated by hand for many chains at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from landscape.potentials.losses import SampleLoss, cross_entropy, squared_error
from landscape.potentials.network.batch import Inputs
from landscape.potentials.network.layout import Layout

__all__ = ["PlainMLP", "recognise"]

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh"}


@dataclass(frozen=True, slots=True)
class PlainMLP:
    """Linear layers with biases and one kind of activation between them; weights lie in the vector layer by layer.

    Attributes
    ----------
    sizes : tuple of int
        Width of the input, of each hidden layer and of the output.
    activation : {"relu", "tanh"}
    loss : {"cross_entropy", "mse"}
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str

    @property
    def dim(self) -> int:
        """Number of weights and biases."""
        return sum((a + 1) * b for a, b in pairwise(self.sizes))

    def layers(self, position: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights ``(chains, out, in)`` and biases ``(chains, out)`` of each layer, as views."""
        offset = 0
        for inputs, outputs in pairwise(self.sizes):
            weight = position[:, offset : offset + inputs * outputs].unflatten(1, (outputs, inputs))
            offset += inputs * outputs
            yield weight, position[:, offset : offset + outputs]
            offset += outputs

    def forward(
        self, position: Tensor, inputs: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor], Tensor, list[Tensor]]:
        """Weights and biases of one chain, inputs of every layer, outputs, and f' of every hidden layer."""
        weights = [(weight[0], bias[0]) for weight, bias in self.layers(position[None])]
        activations = [inputs]
        for number, (weight, bias) in enumerate(weights):
            z = torch.addmm(bias, activations[-1], weight.T)
            if number < len(weights) - 1:
                z = z.relu_() if self.activation == "relu" else z.tanh_()
            activations.append(z)
        outputs = activations.pop()
        derivatives = [(a > 0).to(a) if self.activation == "relu" else 1 - a * a for a in activations[1:]]
        return weights, activations, outputs, derivatives

    def value_and_gradient(self, position: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and its gradient for every chain.

        Parameters
        ----------
        position : tensor, shape ``(chains, dim)``
        inputs : tensor, shape ``(1 or chains, samples, features)``
        targets : tensor, shape ``(1 or chains, samples)`` of labels, or ``(1 or chains, samples, outputs)`` of values

        Returns
        -------
        energy : tensor, shape ``(chains,)``
        gradient : tensor, shape ``(chains, dim)``
        """
        chains = len(position)
        layers = list(self.layers(position))
        activations = [inputs.expand(chains, -1, -1)]
        for number, (weight, bias) in enumerate(layers):
            z = torch.baddbmm(bias.unsqueeze(1), activations[-1], weight.transpose(1, 2))
            if number < len(layers) - 1:
                z = z.relu_() if self.activation == "relu" else z.tanh_()
            activations.append(z)
        energy, delta = self.loss_and_slope(activations.pop(), targets)
        gradient = torch.empty_like(position)
        slots = list(self.layers(gradient))
        for number in range(len(layers) - 1, -1, -1):
            weight_slot, bias_slot = slots[number]
            weight_slot.copy_(delta.transpose(1, 2) @ activations[number])
            bias_slot.copy_(delta.sum(1))
            if number:
                delta = delta @ layers[number][0]
                a = activations[number]
                delta = delta.mul_(a > 0) if self.activation == "relu" else delta.mul_(1 - a * a)
        return energy, gradient

    def loss_and_slope(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss ``(chains,)`` and its derivative ``(chains, samples, outputs)`` in the outputs (overwritten)."""
        samples = outputs.shape[1]
        if self.loss == "mse":
            residual = outputs - targets.reshape(targets.shape[0], samples, -1)
            count = samples * outputs.shape[2]
            return residual.square().sum((1, 2)) / count, residual.mul_(2.0 / count)
        label = targets.expand(len(outputs), -1).unsqueeze(-1)
        # as in losses.cross_entropy: everything relative to the label's own logit, which leaves the sum
        others = (outputs - outputs.gather(-1, label)).scatter_(-1, label, float("-inf"))
        s = torch.logsumexp(others, dim=-1, keepdim=True)
        slope = (others - s).exp_() * torch.sigmoid(s)
        slope.scatter_(-1, label, -torch.sigmoid(s))
        return -torch.nn.functional.logsigmoid(-s).sum((1, 2)) / samples, slope.div_(samples)


def recognise(module: nn.Module, layout: Layout, loss: SampleLoss, inputs: Inputs) -> PlainMLP | None:
    """The plain MLP that a module is, or None if it is anything else.

    A plain MLP is an `nn.Sequential` (nested or not) of `nn.Linear` with biases, separated by one kind of activation
    (ReLU or tanh), possibly after `nn.Flatten`; every parameter trainable and used once.
    """
    names = {cross_entropy: "cross_entropy", squared_error: "mse"}
    if loss not in names or not _is_sequential(module) or inputs.ndim < 2:
        return None
    parts = [part for part in _leaves(module) if not isinstance(part, nn.Identity)]
    if parts and type(parts[0]) is nn.Flatten and parts[0].start_dim == 1 and parts[0].end_dim == -1:
        parts = parts[1:]
    elif inputs.ndim != 2:
        return None
    linear, between = parts[0::2], parts[1::2]
    kinds = {_ACTIVATIONS.get(type(part), "") for part in between}
    if len(linear) != len(between) + 1 or len(kinds) > 1 or "" in kinds:
        return None
    if any(type(part) is not nn.Linear or part.bias is None for part in linear):
        return None
    if any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in module.modules()):
        return None
    sizes: tuple[int, ...] = tuple(int(n) for n in (linear[0].in_features, *(part.out_features for part in linear)))  # type: ignore[arg-type]
    mlp = PlainMLP(sizes, kinds.pop() if kinds else "relu", names[loss])
    expected: list[tuple[int, ...]] = [shape for a, b in pairwise(sizes) for shape in ((b, a), (b,))]
    return mlp if [slot.shape for slot in layout] == expected and mlp.dim == layout.dim else None


def _is_sequential(module: nn.Module) -> bool:
    """Whether the module runs its parts one after the other: a subclass may do otherwise."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    for part in filter(None, module._modules.values()):  # children() would leave out a layer that is used twice
        if _is_sequential(part):
            yield from _leaves(part)
        else:
            yield part
