"""Sums over samples of the squared entries of their scores: diagonals of Fisher matrices, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from landscape.potentials import NetworkLoss
from landscape.potentials.curvature.sample_scores import SampleScores, loss_scores, route_in_words
from landscape.probes.curvature.model_labels import drawn_targets, outputs_of
from landscape.statistics import student_factor

__all__ = ["SquaredScores", "labels_differ", "model_directions", "squared_scores"]

_DIRECTIONS: Final = 16  # of which the gradients are held at once; each group costs a forward pass
_COUNTED: Final = 1024  # outputs up to which the directions are made to be counted
_INFORMATIVE: Final = 20  # drawn labels that differ within a sample, below which their scatter says too little


@dataclass(frozen=True, slots=True)
class SquaredScores:
    """The diagonal ``(dim,)`` of a Fisher matrix in float64.

    Attributes
    ----------
    value, stderr : tensor, shape ``(dim,)``
        The error is that of drawn labels: zero for all others, NaN for a single draw.
    resolved : bool
        Whether the draws differ often enough for their scatter to tell the error.
    gradients : int
        Directions of which every sample's gradient was taken.
    route : str or None
        How: see `SampleScores`.
    """

    value: Tensor
    stderr: Tensor
    resolved: bool
    gradients: int
    route: str | None


def model_directions(loss: NetworkLoss, position: Tensor) -> int:
    """How many gradients of a sample the sum over the labels of the model takes.

    Examples
    --------
    >>> loss = NetworkLoss(torch.nn.Linear(1, 4), torch.ones(3, 1), torch.tensor([0, 1, 3]))
    >>> model_directions(loss, loss.position())
    3
    """
    outputs = outputs_of(loss, position, slice(0, 1))
    count = outputs[0].numel()
    # of many outputs the directions themselves would fill the memory
    return count if count > _COUNTED else len(_factor(loss, outputs))


def squared_scores(
    loss: NetworkLoss, position: Tensor, labels: str, *, draws: int, seed: int, chunk_size: int | None
) -> SquaredScores:
    r"""F_jj = (1/n) sum_i <(d log p(y | x_i) / d theta_j)^2>, the average over y as `labels` says.

    Neither the matrix nor (samples x dim) scores are held, at most the gradients of a chunk of samples in a parameter.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor, shape ``(dim,)``
    labels : {"model", "sampled", "empirical"}
    draws : int
        Labels per sample, where they are drawn.
    seed : int
        Of the drawn labels.
    chunk_size : int, optional
        Samples at once.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, x, loss="mse")
    >>> found = squared_scores(loss, torch.ones(1), "model", draws=1, seed=0, chunk_size=None)
    >>> round(float(found.value[0]), 5)  # 2 mean(x^2)
    10.0
    """
    if labels == "model":
        return _of_model(loss, position, chunk_size)
    targets = drawn_targets(loss, position, draws, seed) if labels == "sampled" else None
    scores = loss_scores(loss, position, targets, chunk_size=chunk_size)
    if targets is None or len(targets) == 1:
        value = _zeros(loss)
        _add_squares(value, scores)
        value, route = loss.shards.sum(value) / loss.samples, route_in_words(loss, scores.taken)
        known = targets is None
        return SquaredScores(value, torch.full_like(value, 0.0 if known else np.nan), known, 1, route)
    count = len(targets)
    value, variance, fourths = (_zeros(loss) for _ in range(3))
    for _, parts in scores.chunks():
        sums: Tensor | None = None
        for slot, k, gradient in parts:
            own = slice(slot.offset, slot.offset + slot.size)
            squares = gradient.double().square()
            value[own] += squares.sum(0)
            # the directions of a parameter come one after the other
            fourths[own] += squares.square().sum(0)
            sums = squares if k == 0 or sums is None else sums + squares
            if k == count - 1:
                variance[own] -= sums.square().sum(0) / count
    value, variance, fourths = loss.shards.sum(value), loss.shards.sum(variance), loss.shards.sum(fourths)
    mean = value / (count * loss.samples)
    scatter = (variance + fourths).clamp_min(0.0) / (count * (count - 1))
    # squares of few draws may make up an entry: so many terms, and not their number, tell the error
    terms = (value.square() / fourths.clamp_min(torch.finfo(torch.float64).tiny)).cpu().numpy()
    widened = torch.as_tensor(student_factor(np.maximum(terms - 1.0, 1.0))).to(scatter)
    resolved = labels_differ(loss, targets)
    return SquaredScores(
        mean, scatter.sqrt() / loss.samples * widened, resolved, count, route_in_words(loss, scores.taken)
    )


def labels_differ(loss: NetworkLoss, targets: Tensor, share: float = 1.0) -> bool:
    """Whether enough of the labels ``(draws, samples, ...)`` differ from the first draw's to tell their scatter.

    20 do, or a `share` of them.
    """
    differing = (targets[1:] != targets[:1]).reshape(len(targets) - 1, targets.shape[1], -1).any(2).sum()
    enough = min(float(_INFORMATIVE), share * (len(targets) - 1) * loss.samples)
    return float(loss.shards.sum(differing.double()[None])) >= enough


def _of_model(loss: NetworkLoss, position: Tensor, chunk_size: int | None) -> SquaredScores:
    value, taken = _zeros(loss), set[str]()
    count = model_directions(loss, position)
    for start in range(0, count, _DIRECTIONS):
        scores = SampleScores(loss, position, _some_directions(loss, start), chunk_size=chunk_size)
        _add_squares(value, scores)
        taken |= scores.taken
    value = loss.shards.sum(value) / loss.samples
    return SquaredScores(value, torch.zeros_like(value), True, count, route_in_words(loss, taken))


def _add_squares(value: Tensor, scores: SampleScores) -> None:
    for _, parts in scores.summed_squares():
        for slot, squares in parts:
            value[slot.offset : slot.offset + slot.size] += squares


def _some_directions(loss: NetworkLoss, start: int) -> Callable[..., Tensor]:
    def directions(outputs: Tensor, rows: slice) -> Tensor:
        return _factor(loss, outputs)[start : start + _DIRECTIONS]

    return directions


def _zeros(loss: NetworkLoss) -> Tensor:
    return torch.zeros(loss.dim, dtype=torch.float64, device=loss.device)


def _factor(loss: NetworkLoss, outputs: Tensor) -> Tensor:
    named: Any = loss.loss  # one with a model, as has been checked
    directions: Tensor = named.factor(outputs)
    return directions
