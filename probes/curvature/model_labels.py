"""A network's outputs as a probability model of its targets: which labels, and their scores."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape import random
from landscape.potentials import NetworkLoss
from landscape.potentials.fisher import check_model, outputs_of
from landscape.potentials.losses import squared_error

__all__ = ["check_model", "class_scores", "drawn_targets", "fisher_factor", "outputs_of"]


def fisher_factor(loss: NetworkLoss, outputs: Tensor) -> Tensor:
    r"""Directions u_k in the outputs with sum_k u_k u_k^T = <s s^T>, s = d log p(y) / d outputs, exactly.

    Of the softmax <s s^T> = diag(p) - p p^T has rank C - 1: with the classes in turn and r_k = sum_{j >= k} p_j,

    u_k[k] = sqrt(p_k r_{k+1} / r_k),  u_k[j] = -p_j sqrt(p_k / (r_k r_{k+1})) for j > k, and 0 for j < k

    (conditioning on the classes one by one). Of the Gaussian with variance K/2 they are sqrt(2/K) times the axes.

    Parameters
    ----------
    loss : NetworkLoss
    outputs : tensor, shape ``(b, C)``

    Returns
    -------
    tensor, shape ``(C - 1, b, C)``, or ``(K, b, ...)`` for the squared error
    """
    if loss.loss is squared_error:
        count = outputs[0].numel()
        axes: Tensor = torch.eye(count, dtype=outputs.dtype, device=outputs.device) * (2.0 / count) ** 0.5
        return axes[:, None, :].expand(-1, len(outputs), -1).reshape(count, *outputs.shape)
    p = outputs.double().softmax(1)
    rest = p.flip(1).cumsum(1).flip(1)  # r_k
    after = rest[:, 1:]
    tiny = torch.finfo(torch.float64).tiny
    own = (p[:, :-1] * after / rest[:, :-1].clamp_min(tiny)).sqrt()
    slope = (p[:, :-1] / (rest[:, :-1] * after).clamp_min(tiny)).sqrt()
    factor = -slope.unsqueeze(2) * p.unsqueeze(1)  # (b, k, j)
    factor = factor.triu(1)
    factor.diagonal(dim1=1, dim2=2).copy_(own)
    return factor.transpose(0, 1).to(outputs)


def class_scores(outputs: Tensor) -> Tensor:
    """sqrt(p_c) d log p_c / d outputs = sqrt(p_c) (e_c - p) of a softmax, ``(C, b, C)``."""
    p = outputs.double().softmax(1)
    one = torch.eye(outputs.shape[1], dtype=p.dtype, device=p.device)
    return (p.T.unsqueeze(2).sqrt() * (one.unsqueeze(1) - p)).to(outputs)


def drawn_targets(loss: NetworkLoss, position: Tensor, draws: int, seed: int) -> Tensor:
    """Targets drawn from the model, ``(draws, samples of this rank, ...)``: a function of seed, draw and sample."""
    check_model(loss)
    own = len(loss.inputs)
    size = loss.chunk_size or own
    outputs = torch.cat([outputs_of(loss, position, slice(start, start + size)) for start in range(0, own, size)])
    numbers = torch.arange(draws, device=loss.device)
    every = loss.samples * outputs[0].numel()
    normal = random.normals(seed, numbers, 0, every, precision="float64", stream=random.LABELS)
    noise: Tensor = normal.reshape(draws, loss.samples, *outputs.shape[1:])[:, loss.shards.own]
    if loss.loss is squared_error:
        drawn: Tensor = outputs + noise.to(outputs) * (outputs[0].numel() / 2) ** 0.5
        return drawn.reshape(draws, *loss.targets.shape)
    # the largest of log p_c + g_c with Gumbel g_c is c with probability p_c; g = -log(-log u), u uniform
    uniform = torch.special.ndtr(noise).clamp(1e-300, 1 - 1e-16)
    classes: Tensor = (outputs.double().log_softmax(1) - (-uniform.log()).log()).argmax(2)
    return classes
