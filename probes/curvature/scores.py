"""Singular values of the matrix of scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import whole_number
from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss
from landscape.potentials.curvature.sample_scores import SampleScores, check_samples_apart, route_in_words
from landscape.potentials.losses import cross_entropy
from landscape.potentials.network.layout import Slot
from landscape.probes.curvature.model_labels import check_model, class_scores, outputs_of
from landscape.probes.curvature.operators import layer_name, need_network
from landscape.probes.curvature.positions import Sites, at_positions, scores_cost
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import POSITIONS, probe

__all__ = ["score_singular_values"]

STRIP_BYTES: Final = 2**28  # rows of the score matrix held at once
_GRAM_ROWS: Final = 2**13  # of them multiplied at once in float64


@probe("curvature.score_singular_values", POSITIONS)
@at_positions
def score_singular_values(
    loss: NetworkLoss,
    positions: Any,
    *,
    examples: int | None = None,
    blocks: Literal["layer"] | None = None,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Singular values of the score matrix S, whose squares are the eigenvalues of the Fisher matrix S S^T.

    S has a column sqrt(p_c(x_i) / E) d log p_c(x_i) / d weights for each of C classes and E examples. The values come
    from the (C E) x (C E) Gram matrix S^T S, accumulated in float64 over strips of rows (layers, or parts of them);
    S itself is never held.

    Parameters
    ----------
    loss : NetworkLoss
        With cross-entropy.
    examples : int, optional
        E: so many samples from the beginning of the data; all by default.
    blocks : {"layer"}, optional
        Of each layer's rows alone.
    dtype : torch.dtype, optional
        Of the scores.

    Returns
    -------
    xarray.Dataset
        `singular_value (..., singular_value)` descending, `singular_value_stderr` (what rounding of the Gram matrix
        can do: values below it are noise) and `converged` (...); attributes `gradients`, and `route` as of
        `fisher_trace`.

    Notes
    -----
    Memory: 8 (C E)^2 bytes, and strips of 256 MiB. Cost: C gradients of single samples for every strip, of which there
    are C E dim / 2^26 in float32. Where there are fewer weights than columns, as in small layers, S S^T is taken
    instead: 8 dim^2 bytes, one pass.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    Fig. 2D.

    Examples
    --------
    >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 2, bias=False), x, y)  # p = 1/2: F = (1/4) [[1, -1], [-1, 1]]
    >>> score_singular_values(loss, [0.0, 0.0]).singular_value.values.round(6)  # sqrt(1/2)
    array([0.707107, 0.      , 0.      , 0.      ])
    """
    network = need_network(loss, "the score matrix")
    if network.loss is not cross_entropy:
        raise ConfigError('scores of classes need loss="cross_entropy"')
    if network.ranks > 1:
        raise ConfigError(
            "the score matrix needs all samples in one process, not on the ranks of a process group: make the loss "
            "with the examples alone, or ask for fisher_trace"
        )
    check_samples_apart(network)
    check_model(network)
    count = network.samples if examples is None else whole_number("examples", examples, most=network.samples)
    sites = Sites.of(network, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    network = network.converted(dtype)
    classes = outputs_of(network, network.snapshot_position(), slice(0, 1)).shape[1]
    found, error = sites.empty(classes * count), sites.empty(classes * count)
    passes, routes = 0, set[str]()
    for number in sites.numbers():
        position = sites.position(number, network)
        scores = SampleScores(network, position, lambda outputs, rows: class_scores(outputs), chunk_size=chunk_size)
        for layer, (name, _) in enumerate(sites.layers):
            slots = [slot for slot in network.layout if name is None or layer_name(slot) == name]
            few_weights = sum(slot.size for slot in slots) < classes * count
            gram, strips = (_gram_of_weights if few_weights else _gram)(scores, slots, classes, count)
            passes += strips
            values = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0.0)
            # beyond the number of weights all are zero
            found[number, layer], error[number, layer] = 0.0, 0.0
            routes |= scores.taken
            found[number, layer, : len(values)] = values.sqrt().cpu().numpy()
            error[number, layer, : len(values)] = _rounding(values, network.dtype)
    return sites.dataset(
        {
            "singular_value": (("singular_value",), found),
            "singular_value_stderr": (("singular_value",), error),
            "converged": ((), np.isfinite(found).any(axis=-1)),
        },
        GLOSSARY["score_singular_values"],
        title="Singular values of the score matrix",
        labels="model",
        examples=count,
        **scores_cost(classes * passes, route_in_words(network, routes)),
    )


def _gram(scores: SampleScores, slots: list[Slot], classes: int, examples: int) -> tuple[Tensor, int]:
    """S^T S in float64, strip by strip, and the number of strips."""
    columns = classes * examples
    device, dtype = scores.loss.device, scores.loss.dtype
    gram = torch.zeros(columns, columns, dtype=torch.float64, device=device)
    most = max(1, STRIP_BYTES // (columns * dtype.itemsize))
    strips = list(_strips(slots, most))
    for strip in strips:
        rows = torch.empty(columns, sum(stop - start for _, start, stop in strip), dtype=dtype, device=device)
        where, at = {}, 0
        for slot, start, stop in strip:
            where[slot.name] = (start, stop, at)
            at += stop - start
        for part, gradients in scores.chunks([slot for slot, _, _ in strip], examples):
            for slot, label, gradient in gradients:
                start, stop, at = where[slot.name]
                own = slice(part.start * classes + label, part.stop * classes, classes)
                rows[own, at : at + stop - start] = gradient[:, start:stop]
        for piece in rows.split(_GRAM_ROWS, dim=1):
            exact = piece.double()
            gram.addmm_(exact, exact.T)
    return gram.div_(examples), len(strips)


def _gram_of_weights(scores: SampleScores, slots: list[Slot], classes: int, examples: int) -> tuple[Tensor, int]:
    """S S^T in float64, which has the same eigenvalues but for zeros, in one pass over the samples."""
    size, device, dtype = sum(slot.size for slot in slots), scores.loss.device, scores.loss.dtype
    gram = torch.zeros(size, size, dtype=torch.float64, device=device)
    for part, gradients in scores.chunks(slots, examples):
        rows = torch.empty(classes, part.stop - part.start, size, dtype=dtype, device=device)
        for slot, label, gradient in gradients:
            at = slot.offset - slots[0].offset
            rows[label, :, at : at + slot.size] = gradient
        for piece in rows.flatten(0, 1).split(_GRAM_ROWS):
            exact = piece.double()
            gram.addmm_(exact.T, exact)
    return gram.div_(examples), 1


def _strips(slots: list[Slot], most: int) -> Iterator[list[tuple[Slot, int, int]]]:
    """Parameters in groups of at most so many numbers; a larger one in parts."""
    strip: list[tuple[Slot, int, int]] = []
    room = most
    for slot in slots:
        if slot.size > room and strip:
            yield strip
            strip, room = [], most
        for start in range(0, slot.size, most):
            stop = min(start + most, slot.size)
            if stop - start == most and slot.size > most:
                yield [(slot, start, stop)]
            else:
                strip.append((slot, start, stop))
                room -= stop - start
    if strip:
        yield strip


def _rounding(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Error of a singular value s from that of its square: e/(2 s), and sqrt(e) where s is below it."""
    if not len(values):  # a layer without weights
        return np.zeros(0)
    squared = torch.finfo(torch.float64).eps * float(values[0]) * len(values) ** 0.5
    own = torch.finfo(dtype).eps * values.sqrt()
    error = squared / (2 * values.sqrt()).clamp_min(squared**0.5 if squared else 1.0)
    return np.asarray(torch.hypot(own, error).cpu().numpy())
