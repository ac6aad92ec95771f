"""The gradient of every sample's own loss: of many samples at once, or one after the other."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.func import grad, vmap

from landscape.potentials.network.batch import Inputs, unwrapped
from landscape.potentials.network.graph_memory import graph_bytes
from landscape.potentials.network.sampled_loss import SampledLoss

__all__ = ["single_gradients"]

SAMPLES_BYTES: Final = 2**28  # what the graphs of samples whose gradients are taken at once may hold
_TRIED: Final = 6


def single_gradients(loss: SampledLoss, vector: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
    """Gradients ``(samples, dim)`` of the losses of single samples.

    Where the module can be batched over samples and then agrees, on a few, with the derivatives of their losses in one
    graph, all samples are differentiated at once. Modules that cannot (recurrent layers, routing by index), or that
    take a sample alone for something else, are differentiated sample by sample in a graph of many.
    """
    at_once = samples_at_once(loss)
    if single_gradients not in loss.measured:
        few = slice(0, min(_TRIED, len(inputs)))
        loss.measured[single_gradients] = _batches(loss, vector, inputs[few], targets[few])
    if loss.measured[single_gradients]:
        return _together(loss, vector, inputs, targets, at_once)
    pieces = zip(inputs.split(at_once), targets.split(at_once), strict=True)
    return torch.cat([_one_by_one(loss, vector, x, y) for x, y in pieces])


def _batches(loss: SampledLoss, vector: Tensor, inputs: Inputs, targets: Tensor) -> bool:
    """Whether samples alone and batched have the gradients that they have among others."""
    try:
        found = _together(loss, vector, inputs, targets, len(targets))
    except Exception:  # whatever a module raises that cannot be batched
        return False
    truth = _one_by_one(loss, vector, inputs, targets)
    tolerance = torch.finfo(found.dtype).eps ** 0.6
    scale = torch.linalg.vector_norm(truth, dim=1, keepdim=True)
    return bool(((found - truth).abs() <= tolerance * scale + torch.finfo(found.dtype).tiny).all())


def _together(loss: SampledLoss, vector: Tensor, inputs: Inputs, targets: Tensor, at_once: int) -> Tensor:
    buffers = loss.statistics_at(vector)
    leaves, back = unwrapped(inputs)

    def of_one(weights: Tensor, parts: tuple[Tensor, ...], target: Tensor) -> Tensor:
        return loss.losses_at(weights, back(parts).unsqueeze(0), target.unsqueeze(0), buffers).sum()

    found: Tensor = vmap(grad(of_one), (None, 0, 0), chunk_size=at_once)(vector, leaves, targets)
    return found


def _one_by_one(loss: SampledLoss, vector: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
    rows = []
    with torch.enable_grad():
        weights = vector.detach().clone().requires_grad_(True)
        losses = loss.losses_at(weights, inputs, targets, loss.statistics_at(vector))
        for one in losses:
            row = torch.zeros_like(vector)
            if one.requires_grad:
                (row,) = torch.autograd.grad(one, weights, retain_graph=True, materialize_grads=True, allow_unused=True)
            rows.append(row)
    return torch.stack(rows)


def samples_at_once(loss: SampledLoss) -> int:
    """How many samples' graphs fit."""
    weights, inputs = loss.snapshot_position().requires_grad_(True), loss.inputs[:2].clone()
    buffers = loss.statistics_at(weights.detach())
    try:
        held = graph_bytes(lambda: loss.losses_at(weights, inputs, loss.targets[:2], buffers), [weights])
    except RuntimeError:  # derivatives inside forward cannot be watched
        held = 2**10 * loss.dim
    return max(1, SAMPLES_BYTES * len(inputs) // max(1, held))
