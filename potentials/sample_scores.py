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

__all__ = ["SampleScores", "check_samples_apart"]

Directions = Callable[..., Tensor]
Part = tuple[Slot, int, Tensor]
Rule = Callable[[Tensor], dict[str, Tensor]]

CHUNK_BYTES: Final = 2**28  # what the slopes and gradients of a chunk may hold


@dataclass(frozen=True, slots=True)
class _Call:
    """One use of a layer: its name, where its parameters lie in the vector, what it was given and returned."""

    name: str
    layer: nn.Module
    slots: Mapping[str, Slot]
    inputs: Tensor
    outputs: Tensor


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
        self.loss = loss
        self.directions = directions
        self._parameters = {name: value.detach() for name, value in loss.layout.unflatten(position.detach()).items()}
        self._buffers = dict(loss.statistics_at(position))
        self.by_layer, sample_bytes = self._try()
        fitting = max(1, CHUNK_BYTES // sample_bytes)
        self.chunk_size = min(chunk_size or min(loss.chunk_size or fitting, fitting), loss.samples)

    def chunks(
        self, slots: Sequence[Slot] | None = None, samples: int | None = None
    ) -> Iterator[tuple[slice, Iterator[Part]]]:
        """Chunk by chunk of the first `samples` samples: their place, and (parameter, k, gradient ``(b, size)``)."""
        wanted = tuple(self.loss.layout) if slots is None else tuple(slots)
        samples = self.loss.samples if samples is None else samples
        for start in range(0, samples, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, samples))
            inputs = self.loss.inputs[rows]
            method = self._layer_by_layer if self.by_layer else self._sample_by_sample
            yield rows, method(inputs, partial(self.directions, rows=rows), wanted)

    # -- layer by layer -------------------------------------------------------------------------------------------

    def _layer_by_layer(
        self, inputs: Tensor, directions: Callable[[Tensor], Tensor], wanted: Sequence[Slot]
    ) -> Iterator[Part]:
        outputs, calls = self._record(inputs)
        calls = [call for call in calls if any(slot in wanted for slot in call.slots.values())]
        along, scales = _scaled(directions(outputs.detach()))
        rows = [
            torch.autograd.grad(outputs, [call.outputs for call in calls], u, retain_graph=True, materialize_grads=True)
            for u in along
        ]
        found: dict[tuple[str, int], Tensor] = {}
        left = {slot.name: sum(slot in call.slots.values() for call in calls) for slot in wanted}
        for call, slopes in zip(calls, zip(*rows, strict=True), strict=True):
            rule = _RULES[type(call.layer)](call, self._buffers)
            slots = {key: slot for key, slot in call.slots.items() if slot in wanted}
            for slot in slots.values():
                left[slot.name] -= 1
            for k, slope in enumerate(slopes):
                gradients = rule(slope)
                for key, slot in slots.items():
                    # a parameter that is used again is complete only then
                    total = gradients[key].reshape(len(slope), -1)
                    if (slot.name, k) in found:
                        total = total + found.pop((slot.name, k))
                    if left[slot.name]:
                        found[slot.name, k] = total
                    else:
                        yield slot, k, total * scales[k]

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
            with torch.enable_grad():
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
    ) -> Iterator[Part]:
        moving = {slot.name: self._parameters[slot.name] for slot in wanted}
        with torch.no_grad():
            outputs = self.loss.forward(self._parameters, inputs, self._buffers)
        along, scales = _scaled(directions(outputs))

        def gradients(x: Tensor, u: Tensor) -> dict[str, Tensor]:
            def outputs(parameters: dict[str, Tensor]) -> Tensor:
                return self.loss.forward({**self._parameters, **parameters}, x.unsqueeze(0), self._buffers)[0]

            return vmap(lambda one: vjp(outputs, moving)[1](one)[0])(u)  # type: ignore[no-any-return]

        found = vmap(gradients, in_dims=(0, 1), out_dims=1)(inputs, along)
        for slot in wanted:
            for k, gradient in enumerate(found[slot.name]):
                yield slot, k, gradient.flatten(1) * scales[k]

    # -- which of the two -----------------------------------------------------------------------------------------

    def _try(self) -> tuple[bool, int]:
        """Whether the rules give the right gradients, and bytes per sample."""
        inputs = self.loss.inputs[: min(2, self.loss.samples)]
        outputs, calls = self._record(inputs)
        kinds = len(self.directions(outputs.detach(), rows=slice(0, len(inputs))))
        item = outputs.element_size()
        largest = max(slot.size for slot in self.loss.layout)
        held = sum((kinds + 2) * call.outputs[0].numel() for call in calls)
        held += max((9 * call.inputs[0].numel() for call in calls), default=0)
        covered = {slot.name for call in calls for slot in call.slots.values()}
        if covered == {slot.name for slot in self.loss.layout} and self._agrees(inputs, outputs):
            return True, item * (held + 2 * largest)
        return False, item * (held + 2 * kinds * self.loss.dim)

    def _agrees(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Whether the gradient of each sample alone is what automatic differentiation finds."""
        count = len(inputs)
        along = torch.zeros(count, *outputs.shape, dtype=outputs.dtype, device=outputs.device)
        generator = torch.Generator().manual_seed(0)
        for i in range(count):
            along[i, i] = torch.randn(outputs.shape[1:], generator=generator).to(outputs)
        slots = tuple(self.loss.layout)
        ruled = {(slot.name, k): g for slot, k, g in self._layer_by_layer(inputs, lambda _: along, slots)}
        tolerance = 1e-4 if outputs.dtype == torch.float32 else 1e-9
        for i in range(count):
            leaves = [self._parameters[slot.name].detach().requires_grad_(True) for slot in slots]
            named = {slot.name: leaf for slot, leaf in zip(slots, leaves, strict=True)}
            with torch.enable_grad():
                value = self.loss.forward(named, inputs, self._buffers)
            exact = torch.autograd.grad(value, leaves, along[i], allow_unused=True, materialize_grads=True)
            for slot, truth in zip(slots, exact, strict=True):
                difference = torch.linalg.vector_norm(ruled[slot.name, i][i] - truth.reshape(-1))
                if not difference <= tolerance * torch.linalg.vector_norm(truth) + math.ulp(1.0):
                    return False
        return True


def _scaled(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Directions with a largest entry of 1, and what to multiply their gradients by, ``(K, b, 1)``.

    At a minimum most probabilities are next to nothing, and subnormal numbers would slow a backward pass several times.
    What is below the range by a wide margin is zero.
    """
    scales = directions.flatten(2).abs().amax(2)
    scales = torch.where(scales < torch.finfo(directions.dtype).tiny * 1e8, 0.0, scales)
    shape = (*scales.shape, *(1,) * (directions.ndim - 2))
    inverse = torch.where(scales > 0, 1 / scales.clamp_min(torch.finfo(directions.dtype).tiny), 0.0)
    return directions * inverse.view(shape), scales.unsqueeze(2)


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


# -- rules: from a layer's input, what takes the slope (b, ...) of its output to gradients (b, *shape) -----------------


def _linear(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    given = call.inputs.flatten(1, -2) if call.inputs.ndim > 2 else call.inputs.unsqueeze(1)

    def gradients(slope: Tensor) -> dict[str, Tensor]:
        rows = slope.flatten(1, -2) if slope.ndim > 2 else slope.unsqueeze(1)
        return {"weight": rows.transpose(1, 2) @ given, "bias": rows.sum(1)}

    return gradients


def _convolution(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    layer: Any = call.layer
    patches = functional.unfold(call.inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    patches = patches.transpose(1, 2)  # (b, places, in * kernel)

    def gradients(slope: Tensor) -> dict[str, Tensor]:
        rows = slope.flatten(2)
        own = {"weight": rows @ patches}
        return own if layer.bias is None else {**own, "bias": rows.sum(2)}

    return gradients


def _channel_norm(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    """Scale and shift of channels, which come second."""
    layer: Any = call.layer
    if isinstance(layer, nn.GroupNorm):
        plain = functional.group_norm(call.inputs, layer.num_groups, eps=layer.eps)
    else:
        mean, variance = (buffers[f"{call.name}.running_{key}"] for key in ("mean", "var"))
        plain = functional.batch_norm(call.inputs, mean, variance, eps=layer.eps)
    plain = plain.reshape(*plain.shape[:2], -1)

    def gradients(slope: Tensor) -> dict[str, Tensor]:
        rows = slope.reshape(plain.shape)
        return {"weight": (rows * plain).sum(2), "bias": rows.sum(2)}

    return gradients


def _layer_norm(call: _Call, buffers: Mapping[str, Tensor]) -> Rule:
    layer: Any = call.layer
    plain = functional.layer_norm(call.inputs, layer.normalized_shape, eps=layer.eps)
    between = (-1, *layer.normalized_shape)

    def gradients(slope: Tensor) -> dict[str, Tensor]:
        scale = (slope * plain).reshape(len(slope), *between).sum(1)
        return {"weight": scale, "bias": slope.reshape(len(slope), *between).sum(1)}

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
