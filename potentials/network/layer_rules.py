"""From the slope of what a layer returned to the gradient of every sample in the layer's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape.potentials.network.layout import Slot

__all__ = ["Call", "Gradients", "fits", "gradients_of", "has_rule"]


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a layer: its name, where its parameters lie in the vector, what it was given and returned."""

    name: str
    layer: nn.Module
    slots: Mapping[str, Slot]
    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradients of a parameter, ``(b, K, *shape)``."""

    tensor: Tensor

    def values(self) -> Tensor:
        """Of every sample and direction in a row, ``(b, K, size)``."""
        return self.tensor.flatten(2) if self.tensor.ndim > 2 else self.tensor.unsqueeze(2)

    def squared_norms(self) -> Tensor:
        """Of every sample and direction, ``(b, K)``."""
        if self.tensor.ndim == 2:  # of a single number
            return self.tensor.square()
        norms: Tensor = torch.linalg.vector_norm(self.tensor, dim=tuple(range(2, self.tensor.ndim)))
        return norms.square()

    def summed_squares(self, weights: Tensor) -> Tensor:
        """Of every entry the squares, summed over samples and directions with weights ``(b, K)``: ``(size,)``."""
        return weights.flatten() @ self.values().flatten(0, 1).square()


@dataclass(frozen=True, slots=True)
class _Products(Gradients):
    """Gradients that are sums over places p of slope[out, p] input[p, in].

    Attributes
    ----------
    tensor : tensor, shape ``(b, K, out, places)``
        The slopes.
    inputs : tensor, shape ``(b, places, in)``
    kernel : tuple of int
        What `in` is made of; its last, the channels, comes first in the parameter.
    """

    inputs: Tensor
    kernel: tuple[int, ...]

    def multiplied(self) -> Gradients:
        """All slopes of a sample in one matrix product."""
        product = (self.tensor.flatten(1, 2) @ self.inputs).unflatten(1, self.tensor.shape[1:3])
        return Gradients(product.unflatten(3, self.kernel).movedim(-1, 3))

    def values(self) -> Tensor:
        return self.multiplied().values()

    def squared_norms(self) -> Tensor:
        places, width = self.inputs.shape[1:]
        if 2 * places > width:
            return self.multiplied().squared_norms()
        # |s x|^2 = sum of (s x x^T) s, without a matrix of the gradient's size
        slopes = self.tensor.flatten(1, 2)
        through = slopes @ (self.inputs @ self.inputs.transpose(1, 2))
        squares: Tensor = (through * slopes).unflatten(1, self.tensor.shape[1:3]).sum((2, 3))
        return squares.clamp_min(0)  # rounding may leave less

    def summed_squares(self, weights: Tensor) -> Tensor:
        if self.inputs.shape[1] > 1:
            return self.multiplied().summed_squares(weights)
        # of a single place the square of a product is the product of the squares
        slopes = (weights.unsqueeze(2) * self.tensor[..., 0].square()).sum(1)
        squares: Tensor = (slopes.T @ self.inputs[:, 0].square()).unflatten(1, self.kernel)
        return squares.movedim(-1, 1).flatten()


@dataclass(frozen=True, slots=True)
class _ShiftedProducts(Gradients):
    """Gradients that are sums over places p of slope[p, out] input[p + shift, in], a shift for each place of a kernel.

    Shifts are slices of the same rows, so that nothing is copied for each place of the kernel.

    Attributes
    ----------
    tensor : tensor, shape ``(b, places, K * out)``
        The slopes.
    inputs : tensor, shape ``(b, more places, in)``
    shifts : tuple of int
    kernel : tuple of int
    directions : int
        K.
    """

    inputs: Tensor
    shifts: tuple[int, ...]
    kernel: tuple[int, ...]
    directions: int

    def products(self) -> Iterator[Tensor]:
        """For each place of the kernel ``(b, K, out, in)``."""
        slopes, places = self.tensor.transpose(1, 2), self.tensor.shape[1]
        for shift in self.shifts:
            yield (slopes @ self.inputs[:, shift : shift + places]).unflatten(1, (self.directions, -1))

    def values(self) -> Tensor:
        return torch.stack(list(self.products()), dim=-1).flatten(2)

    def squared_norms(self) -> Tensor:
        found: Tensor = sum(Gradients(product).squared_norms() for product in self.products())  # type: ignore[assignment]
        return found

    def summed_squares(self, weights: Tensor) -> Tensor:
        return torch.stack([Gradients(product).summed_squares(weights) for product in self.products()], dim=1).flatten()


def has_rule(layer: nn.Module) -> bool:
    """Whether there is a rule for such a layer, and it is nothing else than what its type says.

    A forward pass of its own, hooks, or weights under other names (of `torch.nn.utils.weight_norm`, say) make another
    function of it.

    Examples
    --------
    >>> has_rule(nn.Linear(2, 1)), has_rule(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))), has_rule(nn.GELU())
    (True, False, False)
    """
    if type(layer) not in _RULES or "forward" in vars(layer) or any(getattr(layer, hooks) for hooks in _HOOKS):
        return False
    own = dict(layer.named_parameters(recurse=False))
    plain = own.keys() <= {"weight", "bias"} and not any(parameter.is_complex() for parameter in own.values())
    return plain and _APPLIES.get(type(layer), _always)(layer)


def fits(call: Call, samples: int) -> bool:
    """Whether the first axis of what a layer was given and returned can be that of so many samples.

    Examples
    --------
    >>> call = Call("0", nn.Linear(2, 1), {}, torch.ones(1, 3, 2), torch.ones(1, 3, 1))
    >>> fits(call, 3), fits(call, 1)  # three samples behind an axis of length 1; one sample of three places
    (False, True)
    """
    dimensions = call.inputs.ndim
    if isinstance(call.layer, nn.LayerNorm):
        enough = dimensions > len(call.layer.normalized_shape)
    elif isinstance(call.layer, nn.Conv2d | nn.BatchNorm2d):
        enough = dimensions == 4  # of three, the first may be channels
    else:
        enough = dimensions >= 2
    return enough and call.outputs.ndim == dimensions and len(call.inputs) == len(call.outputs) == samples


def gradients_of(call: Call, slopes: Sequence[Tensor], buffers: Mapping[str, Tensor]) -> dict[str, Gradients]:
    """Gradients by the names of the layer's parameters, from K slopes ``(b, ...)`` of a call's outputs.

    Examples
    --------
    >>> call = Call("0", nn.Linear(2, 1), {}, torch.tensor([[2.0, 3.0]]), torch.zeros(1, 1))
    >>> gradients = gradients_of(call, [torch.tensor([[10.0]])], {})
    >>> gradients["weight"].values().tolist(), gradients["weight"].squared_norms().tolist()
    ([[[20.0, 30.0]]], [[1300.0]])
    """
    return _RULES[type(call.layer)](call, slopes, buffers)


def _linear(call: Call, slopes: Sequence[Tensor], buffers: Mapping[str, Tensor]) -> dict[str, Gradients]:
    given = call.inputs.flatten(1, -2) if call.inputs.ndim > 2 else call.inputs.unsqueeze(1)
    together = torch.stack(tuple(slopes), dim=1)
    rows = together.flatten(2, -2) if together.ndim > 3 else together.unsqueeze(2)  # (b, K, places, out)
    return {"weight": _Products(rows.transpose(2, 3), given, given.shape[2:]), "bias": Gradients(rows.sum(2))}


def _convolution(call: Call, slopes: Sequence[Tensor], buffers: Mapping[str, Tensor]) -> dict[str, Gradients]:
    layer: Any = call.layer
    places, kernel = call.outputs[0, 0].numel(), math.prod(layer.kernel_size)
    few = 2 * len(slopes) < kernel  # else patches, copied once for all directions, are worth it
    if few and layer.stride == layer.dilation == (1, 1) and 2 * places > kernel * layer.in_channels:
        return _unit_convolution(call.inputs, slopes, layer)
    together = torch.cat(tuple(slopes), dim=1)  # keeps channels last where they are
    rows = together.flatten(2).unflatten(1, (len(slopes), -1))  # (b, K, out, places)
    weight = _Products(rows, _patches(call.inputs, layer), (*layer.kernel_size, layer.in_channels))
    return {"weight": weight} if layer.bias is None else {"weight": weight, "bias": Gradients(rows.sum(3))}


def _unit_convolution(inputs: Tensor, slopes: Sequence[Tensor], layer: Any) -> dict[str, Gradients]:
    """Without strides: slopes in rows as long as those of the padded inputs, with zeros at their ends."""
    padded = _padded(inputs, layer)
    (batch, _, wide, _), (out, high, some) = padded.shape, slopes[0].shape[1:]
    rows = padded.new_zeros(batch, high, wide, len(slopes), out)
    for k, slope in enumerate(slopes):
        rows[:, :, :some, k] = slope.permute(0, 2, 3, 1)
    shifts = tuple(down * wide + right for down in range(layer.kernel_size[0]) for right in range(layer.kernel_size[1]))
    places = high * wide - (wide - some)  # the zeros of the last row would meet nothing
    weight = _ShiftedProducts(
        rows.flatten(3).flatten(1, 2)[:, :places], padded.flatten(1, 2), shifts, layer.kernel_size, len(slopes)
    )
    if layer.bias is None:
        return {"weight": weight}
    return {"weight": weight, "bias": Gradients(torch.stack([slope.sum((2, 3)) for slope in slopes], dim=1))}


def _padded(inputs: Tensor, layer: Any) -> Tensor:
    """Images with the zeros that a convolution adds, channels last in memory and by dimension."""
    down, right = layer.padding
    return functional.pad(inputs, (right, right, down, down)).permute(0, 2, 3, 1).contiguous()


def _patches(inputs: Tensor, layer: Any) -> Tensor:
    """What each place of a convolution's output sees, ``(b, places, kernel * in)``, channels running fastest.

    Faster than `torch.nn.functional.unfold` by copying runs of channels.
    """
    (high, wide), padded = layer.kernel_size, _padded(inputs, layer)
    sizes = [
        (size - step * (kernel - 1) - 1) // stride + 1
        for size, kernel, step, stride in zip(
            padded.shape[1:3], layer.kernel_size, layer.dilation, layer.stride, strict=True
        )
    ]
    batch, row, column, channel = padded.stride()
    views = padded.as_strided(
        (len(padded), *sizes, high, wide, padded.shape[3]),
        (
            batch,
            row * layer.stride[0],
            column * layer.stride[1],
            row * layer.dilation[0],
            column * layer.dilation[1],
            channel,
        ),
    )
    return views.reshape(len(padded), sizes[0] * sizes[1], -1)


def _channel_norm(call: Call, slopes: Sequence[Tensor], buffers: Mapping[str, Tensor]) -> dict[str, Gradients]:
    """Scale and shift of channels, which come second."""
    layer: Any = call.layer
    if isinstance(layer, nn.GroupNorm):
        plain = functional.group_norm(call.inputs, layer.num_groups, eps=layer.eps)
    else:
        mean, variance = (buffers[f"{call.name}.running_{key}"] for key in ("mean", "var"))
        plain = functional.batch_norm(call.inputs, mean, variance, eps=layer.eps)
    places = tuple(range(2, plain.ndim))

    def summed(values: Tensor) -> Tensor:
        return values.sum(places) if places else values

    return _scale_and_shift(plain, slopes, summed)


def _layer_norm(call: Call, slopes: Sequence[Tensor], buffers: Mapping[str, Tensor]) -> dict[str, Gradients]:
    layer: Any = call.layer
    plain = functional.layer_norm(call.inputs, layer.normalized_shape, eps=layer.eps)
    between = (len(plain), -1, *layer.normalized_shape)
    return _scale_and_shift(plain, slopes, lambda values: values.reshape(between).sum(1))


def _scale_and_shift(
    plain: Tensor, slopes: Sequence[Tensor], summed: Callable[[Tensor], Tensor]
) -> dict[str, Gradients]:
    """Gradients of a and b in a * plain + b, given how to sum over the places that share them."""
    scale = torch.stack([summed(slope * plain) for slope in slopes], dim=1)
    return {"weight": Gradients(scale), "bias": Gradients(torch.stack([summed(slope) for slope in slopes], dim=1))}


def _always(layer: Any) -> bool:
    return True


def _plain_convolution(layer: Any) -> bool:
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _has_statistics(layer: Any) -> bool:
    return layer.running_mean is not None and not layer.training


_HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_RULES: Final[Mapping[type[nn.Module], Callable[..., dict[str, Gradients]]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _channel_norm,
    nn.BatchNorm2d: _channel_norm,
    nn.GroupNorm: _channel_norm,
    nn.LayerNorm: _layer_norm,
}
_APPLIES: Final[Mapping[type[nn.Module], Callable[[Any], bool]]] = {
    nn.Conv2d: _plain_convolution,
    nn.BatchNorm1d: _has_statistics,
    nn.BatchNorm2d: _has_statistics,
}
