"""Gradients of single samples, layer by layer, from one forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from landscape.errors import ConfigError
from landscape.potentials.layer_rules import Call, Gradients, gradients_of, has_rule
from landscape.potentials.layout import Slot
from landscape.potentials.network import NetworkLoss
from landscape.potentials.products import fast_format
from landscape.potentials.twice_differentiable import TwiceDifferentiable

__all__ = ["SampleScores", "check_samples_apart"]

Directions = Callable[..., Tensor]
Part = tuple[Slot, int, Tensor]
Whole = tuple[Slot, Gradients, Tensor]

CHUNK_BYTES: Final = 3 * 2**27  # what is held of a chunk


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
        if SampleScores not in loss.measured:
            loss.measured[SampleScores] = self._try()
        self.by_layer, shape, once, each = loss.measured[SampleScores]
        count = min(2, len(loss.inputs))
        kinds = len(directions(position.new_zeros(count, *shape), rows=slice(0, count)))
        fitting = max(1, CHUNK_BYTES // (loss.dtype.itemsize * (once + kinds * each)))
        most = min(chunk_size or min(loss.chunk_size or fitting, fitting), len(loss.inputs))
        self.chunk_size = math.ceil(len(loss.inputs) / math.ceil(len(loss.inputs) / most))  # of equal sizes

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
                    for k, (gradient, scale) in enumerate(zip(gradients.values().unbind(1), scales, strict=True))
                ),
            )

    def squared_norms(self) -> Iterator[tuple[slice, Iterator[tuple[Slot, Tensor]]]]:
        """Chunk by chunk: the samples' place, and (parameter, squared norms of its gradients ``(K, b)``, float64)."""
        for rows, found in self._chunks(tuple(self.loss.layout), len(self.loss.inputs)):
            yield (
                rows,
                (
                    (slot, gradients.squared_norms().T.double() * scales.double().square())
                    for slot, gradients, scales in found
                ),
            )

    def _chunks(self, wanted: Sequence[Slot], samples: int) -> Iterator[tuple[slice, Iterator[Whole]]]:
        """Of every chunk (parameter, gradients, what to multiply them by ``(K, b)``)."""
        for start in range(0, samples, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, samples))
            method = self._layer_by_layer if self.by_layer else self._sample_by_sample
            yield rows, method(self.loss.inputs[rows], partial(self.directions, rows=rows), wanted)

    # -- layer by layer -------------------------------------------------------------------------------------------

    def _layer_by_layer(
        self, inputs: Tensor, directions: Callable[[Tensor], Tensor], wanted: Sequence[Slot]
    ) -> Iterator[Whole]:
        outputs, calls = self._record(inputs)
        return self._ruled(outputs, calls, directions(outputs.detach()), wanted)

    def _ruled(
        self, outputs: Tensor, calls: Sequence[Call], directions: Tensor, wanted: Sequence[Slot]
    ) -> Iterator[Whole]:
        """Gradients by the rules of the layers that were called on the way to the outputs."""
        calls = [call for call in calls if any(slot in wanted for slot in call.slots.values())]
        ends = [call.outputs for call in calls]
        along, scales = _scaled(directions)
        slopes = [torch.autograd.grad(outputs, ends, u, retain_graph=True, materialize_grads=True) for u in along]
        found: dict[str, Gradients] = {}
        left = {slot.name: sum(slot in call.slots.values() for call in calls) for slot in wanted}
        for call, own in zip(calls, zip(*slopes, strict=True), strict=True):
            gradients = gradients_of(call, own, self._buffers)
            for key, slot in call.slots.items():
                if slot not in wanted:
                    continue
                # a parameter that is used again is complete only then
                total = gradients[key]
                if slot.name in found:
                    total = Gradients(total.values() + found.pop(slot.name).values())
                left[slot.name] -= 1
                if left[slot.name]:
                    found[slot.name] = total
                else:
                    yield slot, total, scales

    def _record(self, inputs: Tensor) -> tuple[Tensor, list[Call]]:
        """Outputs with their graph, and every use of a layer with parameters."""
        calls: list[Call] = []
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
                calls.append(Call(name, layer, own, given[0].detach(), returned))
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
            if own and has_rule(layer):
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
            yield slot, Gradients(found[slot.name]), scales

    # -- which of the two -----------------------------------------------------------------------------------------

    def _try(self) -> tuple[bool, torch.Size, int, int]:
        """Whether the rules are right, shape of an output, numbers held per sample, and per sample and direction."""
        outputs, calls = self._record(self.loss.inputs[:2])
        returned = sum(call.outputs[0].numel() for call in calls)
        patches = max((9 * call.inputs[0].numel() for call in calls), default=0)
        covered = {slot.name for call in calls for slot in call.slots.values()}
        by_layer = covered == {slot.name for slot in self.loss.layout} and self._agrees(outputs, calls)
        gradient = max(slot.size for slot in self.loss.layout) if by_layer else self.loss.dim
        return by_layer, outputs.shape[1:], 2 * returned + patches, returned + 2 * gradient

    def _agrees(self, outputs: Tensor, calls: list[Call]) -> bool:
        """Whether the gradient of each recorded sample alone is what automatic differentiation finds."""
        count = len(outputs)
        along = torch.zeros(count, *outputs.shape, dtype=outputs.dtype, device=outputs.device)
        generator = torch.Generator().manual_seed(0)
        for i in range(count):
            along[i, i] = torch.randn(outputs.shape[1:], generator=generator).to(outputs)
        slots = tuple(self.loss.layout)
        ruled = {
            slot.name: gradients.values() * scales.T.unsqueeze(2)
            for slot, gradients, scales in self._ruled(outputs, calls, along, slots)
        }
        leaves = {slot.name: self._parameters[slot.name].detach().requires_grad_(True) for slot in slots}
        with torch.enable_grad():
            value = self.loss.forward(leaves, self.loss.inputs[:count], self._buffers)
        tolerance = 1e-4 if outputs.dtype == torch.float32 else 1e-9
        for i in range(count):
            exact = torch.autograd.grad(
                value, list(leaves.values()), along[i], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for slot, truth in zip(slots, exact, strict=True):
                difference = torch.linalg.vector_norm(ruled[slot.name][i, i] - truth.reshape(-1))
                if not difference <= tolerance * torch.linalg.vector_norm(truth) + math.ulp(1.0):
                    return False
        return True


def _scaled(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Directions with a largest entry of 1, and what to multiply their gradients by, ``(K, b)``.

    At a minimum most probabilities are next to nothing, and subnormal numbers would slow a backward pass several times.
    What is below the range by a wide margin is zero.
    """
    scales = directions.flatten(2).abs().amax(2)
    scales = torch.where(scales < torch.finfo(directions.dtype).tiny * 1e8, 0.0, scales)
    shape = (*scales.shape, *(1,) * (directions.ndim - 2))
    inverse = torch.where(scales > 0, 1 / scales.clamp_min(torch.finfo(directions.dtype).tiny), 0.0)
    return directions * inverse.view(shape), scales


def check_samples_apart(loss: NetworkLoss) -> None:
    """Refuse a network whose samples interact.

    Raises
    ------
    ConfigError
    """
    if loss.samples_interact:
        raise ConfigError(
            'with batchnorm="batch" the samples interact, so none has a gradient of its own: make the loss with '
            'batchnorm="frozen" or "reestimate"'
        )
