"""Gradients of single samples, layer by layer, from one forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn import functional

from landscape.errors import ConfigError
from landscape.potentials.layout import Slot
from landscape.potentials.network import NetworkLoss
from landscape.potentials.products import fast_format
from landscape.potentials.twice_differentiable import TwiceDifferentiable

__all__ = ["SampleScores", "check_samples_apart"]

Directions = Callable[..., Tensor]
Part = tuple[Slot, int, Tensor]
Whole = tuple[Slot, "_Gradients", Tensor]
Rule = Callable[[Tensor], dict[str, "_Gradients"]]

CHUNK_BYTES: Final = 3 * 2**27  # what the slopes and gradients of a chunk may hold


@dataclass(frozen=True, slots=True)
class _Call:
    """One use of a layer: its name, where its parameters lie in the vector, what it was given and returned."""

    name: str
    layer: nn.Module
    slots: Mapping[str, Slot]
    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True, slots=True)
class _Gradients:
    """Gradients of a parameter, ``(b, K, *shape)``."""

    tensor: Tensor

    def values(self) -> Tensor:
        """Of every sample and direction in a row, ``(b, K, size)``."""
        return self.tensor.flatten(2)

    def squared_norms(self) -> Tensor:
        """Of every sample and direction, ``(b, K)``."""
        norms: Tensor = torch.linalg.vector_norm(self.tensor, dim=tuple(range(2, self.tensor.ndim)))
        return norms.square()


@dataclass(frozen=True, slots=True)
class _Products(_Gradients):
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

    def multiplied(self) -> _Gradients:
        """All slopes of a sample in one matrix product."""
        product = (self.tensor.flatten(1, 2) @ self.inputs).unflatten(1, self.tensor.shape[1:3])
        return _Gradients(product.unflatten(3, self.kernel).movedim(-1, 3))

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


class SampleScores:
    """For every sample i and direction k, the gradient J_i^T u_ik in the weights; J_i = d outputs_i / d weights.

    Of linear, convolutional and normalising layers the gradient is made from what a layer was given and the slope of
    what it returned, so that all directions share one forward pass and nothing is computed twice. The result is
    compared with automatic differentiation on two samples; networks for which it differs, or that have other
    parameters, are differentiated sample by sample with `torch.func`.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor, shape ``(dim,)``
    directions : callable
        ``directions(outputs (b, ...), rows=...) -> u (K, b, ...)`` for the samples of the slice `rows`.
    chunk_size : int, optional
        Samples at once; by default as many as 256 MiB of slopes and gradients allow.

    Raises
    ------
    ConfigError
        With batch statistics: the samples interact.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> loss = NetworkLoss(nn.Linear(2, 1, bias=False), x, x[:, :1], loss="mse")  # J_i = x_i
    >>> scores = SampleScores(loss, torch.zeros(2), lambda outputs, rows: torch.ones_like(outputs)[None])
    >>> [gradient.tolist() for _, parts in scores.chunks() for slot, direction, gradient in parts]
    [[[1.0, 2.0], [0.0, 3.0]]]
    """

    def __init__(
        self, loss: NetworkLoss, position: Tensor, directions: Directions, *, chunk_size: int | None = None
    ) -> None:
        check_samples_apart(loss)
        loss.shards.check_same("positions", position)
        self.loss = loss
        self.directions = directions
        self._parameters = {name: value.detach() for name, value in loss.layout.unflatten(position.detach()).items()}
        self._buffers = dict(loss.statistics_at(position))
        self.by_layer, sample_bytes = self._try()
        fitting = max(1, CHUNK_BYTES // sample_bytes)
        self.chunk_size = min(chunk_size or min(loss.chunk_size or fitting, fitting), len(loss.inputs))

    def chunks(
        self, slots: Sequence[Slot] | None = None, samples: int | None = None
    ) -> Iterator[tuple[slice, Iterator[Part]]]:
        """Chunk by chunk of this rank's first `samples`: their place, and (parameter, k, gradient ``(b, size)``)."""
        wanted = tuple(self.loss.layout) if slots is None else tuple(slots)
        for rows, found in self._chunks(wanted, len(self.loss.inputs) if samples is None else samples):
            yield (
                rows,
                (
                    (slot, k, gradient * scale.unsqueeze(1))
                    for slot, gradients, scales in found
                    for k, (gradient, scale) in enumerate(
                        zip(gradients.values().unbind(1), scales.unbind(1), strict=True)
                    )
                ),
            )

    def squared_norms(self) -> Iterator[tuple[slice, Iterator[tuple[Slot, Tensor]]]]:
        """Chunk by chunk: the samples' place, and (parameter, squared norms of its gradients ``(b, K)``, float64)."""
        for rows, found in self._chunks(tuple(self.loss.layout), len(self.loss.inputs)):
            yield (
                rows,
                (
                    (slot, gradients.squared_norms().double() * scales.double().square())
                    for slot, gradients, scales in found
                ),
            )

    def _chunks(self, wanted: Sequence[Slot], samples: int) -> Iterator[tuple[slice, Iterator[Whole]]]:
        """Of every chunk (parameter, gradients, what to multiply them by ``(b, K)``)."""
        for start in range(0, samples, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, samples))
            method = self._layer_by_layer if self.by_layer else self._sample_by_sample
            yield rows, method(self.loss.inputs[rows], partial(self.directions, rows=rows), wanted)

    # -- layer by layer -------------------------------------------------------------------------------------------

    def _layer_by_layer(
        self, inputs: Tensor, directions: Callable[[Tensor], Tensor], wanted: Sequence[Slot]
    ) -> Iterator[Whole]:
        outputs, calls = self._record(inputs)
        calls = [call for call in calls if any(slot in wanted for slot in call.slots.values())]
        along, scales = _scaled(directions(outputs.detach()))
        slopes = [
            torch.autograd.grad(outputs, [call.outputs for call in calls], u, retain_graph=True, materialize_grads=True)
            for u in along
        ]
        found: dict[str, _Gradients] = {}
        left = {slot.name: sum(slot in call.slots.values() for call in calls) for slot in wanted}
        for call, own in zip(calls, zip(*slopes, strict=True), strict=True):
            together = torch.cat(own, dim=1).unflatten(1, (len(own), -1))  # keeps channels last where they are
            gradients = _RULES[type(call.layer)](call, self._buffers)(together)
            for key, slot in call.slots.items():
                if slot not in wanted:
                    continue
                # a parameter that is used again is complete only then
                total = gradients[key]
                if slot.name in found:
                    total = _Gradients(total.values() + found.pop(slot.name).values())
                left[slot.name] -= 1
                if left[slot.name]:
                    found[slot.name] = total
                else:
                    yield slot, total, scales

    def _record(self, inputs: Tensor) -> tuple[Tensor, list[_Call]]:
        """Outputs with their graph, and every use of a layer with parameters."""
        calls: list[_Call] = []
        hooks = []
        slots = {slot.name: slot for slot in self.loss.layout}
        for name, layer, names in self._layers():
            own = {key: slots[full] for key, full in names.items() if full in slots}

            def remember(
                layer: nn.Module,
                given: tuple[Tensor, ...],
                returned: Tensor,
                name: str = name,
                own: Mapping[str, Slot] = own,
            ) -> Tensor:
                # the first layers have nothing to differentiate before them: their outputs start the graph
                returned = returned if returned.requires_grad else returned.detach().requires_grad_(True)
                calls.append(_Call(name, layer, own, given[0].detach(), returned))
                return returned.clone()  # what follows may work in place

            hooks.append(layer.register_forward_hook(remember))
        try:
            with torch.enable_grad(), TwiceDifferentiable():
                inputs = inputs.contiguous(memory_format=fast_format(self.loss))
                outputs = self.loss.forward(self._parameters, inputs, self._buffers)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs, calls

    def _layers(self) -> Iterator[tuple[str, nn.Module, dict[str, str]]]:
        """Layers with rules that own trainable parameters, and the parameters' names in the vector."""
        module = self.loss.private_module
        names: dict[int, str] = {}
        for full, parameter in module.named_parameters():
            names.setdefault(id(parameter), full)
        for name, layer in module.named_modules():
            own = {key: names[id(value)] for key, value in layer.named_parameters(recurse=False)}
            if own and type(layer) in _RULES and _RULES_APPLY.get(type(layer), _always)(layer):
                yield name, layer, own

    # -- sample by sample -----------------------------------------------------------------------------------------

    def _sample_by_sample(
        self, inputs: Tensor, directions: Callable[[Tensor], Tensor], wanted: Sequence[Slot]
    ) -> Iterator[Whole]:
        moving = {slot.name: self._parameters[slot.name] for slot in wanted}
        with torch.no_grad():
            outputs = self.loss.forward(self._parameters, inputs, self._buffers)
        along, scales = _scaled(directions(outputs))

        def gradients(x: Tensor, u: Tensor) -> dict[str, Tensor]:
            def outputs(parameters: dict[str, Tensor]) -> Tensor:
                return self.loss.forward({**self._parameters, **parameters}, x.unsqueeze(0), self._buffers)[0]

            return vmap(lambda one: vjp(outputs, moving)[1](one)[0])(u)  # type: ignore[no-any-return]

        found = vmap(gradients, in_dims=(0, 1))(inputs, along)
        for slot in wanted:
            yield slot, _Gradients(found[slot.name]), scales

    # -- which of the two -----------------------------------------------------------------------------------------

    def _try(self) -> tuple[bool, int]:
        """Whether the rules give the right gradients, and bytes per sample."""
        inputs = self.loss.inputs[:2]
        outputs, calls = self._record(inputs)
        kinds = len(self.directions(outputs.detach(), rows=slice(0, len(inputs))))
        item = outputs.element_size()
        largest = max(slot.size for slot in self.loss.layout)
        held = sum((kinds + 2) * call.outputs[0].numel() for call in calls)
        held += max((9 * call.inputs[0].numel() for call in calls), default=0)
        covered = {slot.name for call in calls for slot in call.slots.values()}
        if covered == {slot.name for slot in self.loss.layout} and self._agrees(inputs, outputs):
            return True, item * (held + 2 * kinds * largest)
        return False, item * (held + 2 * kinds * self.loss.dim)

    def _agrees(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Whether the gradient of each sample alone is what automatic differentiation finds."""
        count = len(inputs)
        along = torch.zeros(count, *outputs.shape, dtype=outputs.dtype, device=outputs.device)
        generator = torch.Generator().manual_seed(0)
        for i in range(count):
            along[i, i] = torch.randn(outputs.shape[1:], generator=generator).to(outputs)
        slots = tuple(self.loss.layout)
        ruled = {
            slot.name: gradients.values() * scales.unsqueeze(2)
            for slot, gradients, scales in self._layer_by_layer(inputs, lambda _: along, slots)
        }
        tolerance = 1e-4 if outputs.dtype == torch.float32 else 1e-9
        for i in range(count):
            leaves = [self._parameters[slot.name].detach().requires_grad_(True) for slot in slots]
            named = {slot.name: leaf for slot, leaf in zip(slots, leaves, strict=True)}
            with torch.enable_grad():
                value = self.loss.forward(named, inputs, self._buffers)
            exact = torch.autograd.grad(value, leaves, along[i], allow_unused=True, materialize_grads=True)
            for slot, truth in zip(slots, exact, strict=True):
                difference = torch.linalg.vector_norm(ruled[slot.name][i, i] - truth.reshape(-1))
                if not difference <= tolerance * torch.linalg.vector_norm(truth) + math.ulp(1.0):
                    return False
        return True


def _scaled(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Directions with a largest entry of 1, and what to multiply their gradients by, ``(b, K)``.

    At a minimum most probabilities are next to nothing, and subnormal numbers would slow a backward pass several times.
    What is below the range by a wide margin is zero.
    """
    scales = directions.flatten(2).abs().amax(2)
    scales = torch.where(scales < torch.finfo(directions.dtype).tiny * 1e8, 0.0, scales)
    shape = (*scales.shape, *(1,) * (directions.ndim - 2))
    inverse = torch.where(scales > 0, 1 / scales.clamp_min(torch.finfo(directions.dtype).tiny), 0.0)
    return directions * inverse.view(shape), scales.T


def check_samples_apart(loss: NetworkLoss) -> None:
    """Refuse a network whose samples interact.

    Raises
    ------
    ConfigError
    """
    if loss.batchnorm == "batch":
        raise ConfigError(
            'with batchnorm="batch" the samples interact, so none has a gradient of its own: make the loss with '
            'batchnorm="frozen" or "reestimate"'
        )


# -- rules: from a layer's input, what takes K slopes (b, K, ...) of its output to gradients (b, K, *shape) ------------


def _linear(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    given = call.inputs.flatten(1, -2) if call.inputs.ndim > 2 else call.inputs.unsqueeze(1)

    def gradients(slopes: Tensor) -> dict[str, _Gradients]:
        rows = slopes.flatten(2, -2) if slopes.ndim > 3 else slopes.unsqueeze(2)
        weight = _Products(rows.transpose(2, 3), given, given.shape[2:])
        return {"weight": weight, "bias": _Gradients(rows.sum(2))}

    return gradients


def _convolution(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    layer: Any = call.layer
    patches = _patches(call.inputs, layer)  # (b, places, kernel * in)
    kernel = (*layer.kernel_size, layer.in_channels)

    def gradients(slopes: Tensor) -> dict[str, _Gradients]:
        rows = slopes.flatten(3)
        weight = _Products(rows, patches, kernel)
        return {"weight": weight} if layer.bias is None else {"weight": weight, "bias": _Gradients(rows.sum(3))}

    return gradients


def _patches(inputs: Tensor, layer: Any) -> Tensor:
    """What each place of a convolution's output sees, ``(b, places, kernel * in)``, channels running fastest.

    Faster than `torch.nn.functional.unfold` by copying runs of channels.
    """
    (high, wide), (down, right) = layer.kernel_size, layer.padding
    padded = functional.pad(inputs, (right, right, down, down)).permute(0, 2, 3, 1).contiguous()
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


def _channel_norm(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    """Scale and shift of channels, which come second."""
    layer: Any = call.layer
    if isinstance(layer, nn.GroupNorm):
        plain = functional.group_norm(call.inputs, layer.num_groups, eps=layer.eps)
    else:
        mean, variance = (buffers[f"{call.name}.running_{key}"] for key in ("mean", "var"))
        plain = functional.batch_norm(call.inputs, mean, variance, eps=layer.eps)
    plain = plain.reshape(*plain.shape[:2], -1)

    def gradients(slopes: Tensor) -> dict[str, _Gradients]:
        rows = slopes.reshape(*slopes.shape[:3], -1)
        return {"weight": _Gradients((rows * plain.unsqueeze(1)).sum(3)), "bias": _Gradients(rows.sum(3))}

    return gradients


def _layer_norm(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    layer: Any = call.layer
    plain = functional.layer_norm(call.inputs, layer.normalized_shape, eps=layer.eps)
    between = (-1, *layer.normalized_shape)

    def gradients(slopes: Tensor) -> dict[str, _Gradients]:
        kinds = slopes.shape[:2]
        scale = (slopes * plain.unsqueeze(1)).reshape(*kinds, *between).sum(2)
        return {"weight": _Gradients(scale), "bias": _Gradients(slopes.reshape(*kinds, *between).sum(2))}

    return gradients


def _always(layer: Any) -> bool:
    return True


def _plain_convolution(layer: Any) -> bool:
    return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _has_statistics(layer: Any) -> bool:
    return layer.running_mean is not None


_RULES: Final[Mapping[type[nn.Module], Callable[[_Call, Mapping[str, Tensor]], Rule]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _channel_norm,
    nn.BatchNorm2d: _channel_norm,
    nn.GroupNorm: _channel_norm,
    nn.LayerNorm: _layer_norm,
}
_RULES_APPLY: Final[Mapping[type[nn.Module], Callable[[Any], bool]]] = {
    nn.Conv2d: _plain_convolution,
    nn.BatchNorm1d: _has_statistics,
    nn.BatchNorm2d: _has_statistics,
}
