"""A network's outputs as a probability model of its targets: which labels, and their scores."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from landscape import random
from landscape.potentials import NetworkLoss
from landscape.potentials.curvature.fisher import check_model, outputs_of
from landscape.potentials.losses import NamedLoss

__all__ = ["check_model", "class_scores", "drawn_targets", "fisher_factor", "outputs_of"]


def fisher_factor(loss: NetworkLoss, outputs: Tensor) -> Tensor:
    """Directions u_k in the outputs with sum_k u_k u_k^T = <s s^T>, s = d log p(y) / d outputs, exactly.

    Returns
    -------
    tensor, shape ``(K, b, ...)``: C - 1 directions for a softmax over C classes

    Raises
    ------
    ConfigError
        If the loss is not minus the logarithm of a known probability.
    """
    return _model(loss).factor(outputs)


def _model(loss: NetworkLoss) -> NamedLoss:
    check_model(loss)
    return cast(NamedLoss, loss.loss)


def class_scores(outputs: Tensor) -> Tensor:
    """sqrt(p_c) d log p_c / d outputs = sqrt(p_c) (e_c - p) of a softmax, ``(C, b, C)``."""
    p = outputs.double().softmax(1)
    one = torch.eye(outputs.shape[1], dtype=p.dtype, device=p.device)
    return (p.T.unsqueeze(2).sqrt() * (one.unsqueeze(1) - p)).to(outputs)


def drawn_targets(loss: NetworkLoss, position: Tensor, draws: int, seed: int) -> Tensor:
    """Targets drawn from the model, ``(draws, samples of this rank, ...)``: a function of seed, draw and sample."""
    model = _model(loss)
    own = len(loss.inputs)
    size = loss.chunk_size or own
    outputs = torch.cat([outputs_of(loss, position, slice(start, start + size)) for start in range(0, own, size)])
    numbers = torch.arange(draws, device=loss.device)
    every = loss.samples * outputs[0].numel()
    normal = random.normals(seed, numbers, 0, every, precision="float64", stream=random.LABELS)
    noise: Tensor = normal.reshape(draws, loss.samples, *outputs.shape[1:])[:, loss.shards.own]
    return model.drawn(outputs, noise).reshape(draws, *loss.targets.shape)
