"""The exact Hessian of a plain multilayer perceptron, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.potentials.curvature.plain_mlp import PlainMLP

__all__ = ["mlp_hessian"]

_SAMPLES_AT_ONCE = 512  # keeps the factors of a block in the cache


def mlp_hessian(mlp: PlainMLP, position: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    r"""Hessian of the mean loss of a plain MLP.

    With pre-activations z_l = W_l a_{l-1} (biases as weights of a constant 1), slopes d_l = dL/dz_l and, per sample,
    K_{ml} = dd_m/dz_l and C_{ml} = da_{m-1}/dz_l at fixed weights, the block of layers m >= l is

    d^2 L / dW_m[p, r] dW_l[q, s] = mean_i( K_{ml}[p, q] a_{m-1}[r] a_{l-1}[s] + d_m[p] C_{ml}[r, q] a_{l-1}[s] ).

    Both terms are matrix products over the samples, so the cost is two multiplications per sample and entry.

    Parameters
    ----------
    mlp, position, inputs, targets
        As for `mlp_product`.

    Returns
    -------
    tensor, shape ``(dim, dim)``, symmetric

    Notes
    -----
    A ReLU has slope 0 at 0 and no curvature, as in torch.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> line = PlainMLP((1, 1), "relu", "mse")  # V(w, b) = mean (w x + b - y)^2
    >>> mlp_hessian(line, torch.zeros(2, dtype=torch.float64), x, x).tolist()
    [[10.0, 4.0], [4.0, 2.0]]
    """
    hessian = position.new_zeros(mlp.dim, mlp.dim)
    for x, y in zip(inputs.split(_SAMPLES_AT_ONCE), targets.split(_SAMPLES_AT_ONCE), strict=True):
        _accumulate(hessian, mlp, _factors(mlp, position, x, y), len(x) / len(inputs))
    below = hessian.tril(-1)
    return hessian.tril_().add_(below.T)


@dataclass(frozen=True, slots=True)
class _Factors:
    """What the blocks are products of, per layer (from 0) and sample; slopes and curvatures include 1/samples."""

    inputs: list[Tensor]  # a_{l-1} and a 1: (samples, in + 1)
    slopes: list[Tensor]  # d_l: (samples, out)
    curvatures: dict[tuple[int, int], Tensor]  # K_{ml}: (samples, out_m, out_l)
    responses: dict[tuple[int, int], Tensor]  # C_{ml} for m > l, with a row of zeros: (samples, in_m + 1, out_l)


def _factors(mlp: PlainMLP, position: Tensor, inputs: Tensor, targets: Tensor) -> _Factors:
    weights, activations, outputs, derivatives = mlp.forward(position, inputs)
    last = len(weights) - 1
    slope = mlp.loss_and_slope(outputs[None], targets[None])[1][0]
    own = _output_curvature(mlp, slope, targets)  # d^2 L / dz_l^2, from the last layer down
    slopes, diagonal = [slope], [own]
    for number in range(last, 0, -1):
        weight, first = weights[number][0], derivatives[number - 1]
        back = slopes[0] @ weight
        own = (weight.T @ diagonal[0] @ weight) * first.unsqueeze(2) * first.unsqueeze(1)
        if mlp.activation == "tanh":
            own.diagonal(dim1=1, dim2=2).sub_(2 * activations[number] * first * back)
        slopes.insert(0, back * first)
        diagonal.insert(0, own)
    curvatures, responses = {(m, m): k for m, k in enumerate(diagonal)}, {}
    for low in range(last):
        response = torch.diag_embed(derivatives[low])
        for high in range(low + 1, last + 1):
            responses[high, low] = torch.nn.functional.pad(response, (0, 0, 0, 1))
            through = weights[high][0] @ response
            curvatures[high, low] = diagonal[high] @ through
            if high < last:
                response = derivatives[high].unsqueeze(2) * through
    extended = [torch.nn.functional.pad(a, (0, 1), value=1.0) for a in activations]
    return _Factors(extended, slopes, curvatures, responses)


def _output_curvature(mlp: PlainMLP, slope: Tensor, targets: Tensor) -> Tensor:
    """Second derivative of the loss in the outputs, over the number of samples, ``(samples, outputs, outputs)``."""
    samples, outputs = slope.shape
    if mlp.loss == "mse":
        return torch.eye(outputs).to(slope).mul_(2.0 / (samples * outputs)).expand(samples, -1, -1)
    label = targets.unsqueeze(-1)
    # the slope is p_j and, at the label, p_y - 1: both small at a minimum and exact there, as 1 - p_y would not be
    gap = slope * samples
    own = 1 + gap.gather(1, label)
    probability = gap.scatter(1, label, own)
    curvature = -probability.unsqueeze(2) * probability.unsqueeze(1)
    missing = (1 - probability).scatter(1, label, -gap.gather(1, label))
    curvature.diagonal(dim1=1, dim2=2).copy_(probability * missing)
    return curvature.div_(samples)


def _accumulate(hessian: Tensor, mlp: PlainMLP, factors: _Factors, share: float) -> None:
    """Add the blocks on and below the diagonal; `share` is the part of all samples that the factors are of."""
    offsets = [0]
    for inputs, outputs in zip(mlp.sizes[:-1], mlp.sizes[1:], strict=True):
        offsets.append(offsets[-1] + (inputs + 1) * outputs)
    for (high, low), curvature in factors.curvatures.items():
        a, b = factors.inputs[high], factors.inputs[low]
        p, q, r, s = mlp.sizes[high + 1], mlp.sizes[low + 1], a.shape[1], b.shape[1]
        pairs = (a.unsqueeze(2) * b.unsqueeze(1)).flatten(1)
        block = (curvature.flatten(1).T @ pairs).view(p, q, r, s).permute(0, 2, 1, 3)
        if high != low:
            gradients = (factors.slopes[high].unsqueeze(2) * b.unsqueeze(1)).flatten(1)
            mixed = gradients.T @ factors.responses[high, low].flatten(1)
            block = block + mixed.view(p, s, r, q).permute(0, 2, 3, 1)
        _add_block(hessian, block, offsets[high], offsets[low], share)


def _add_block(hessian: Tensor, block: Tensor, row: int, column: int, share: float) -> None:
    """Add ``(p, r, q, s)`` with the biases as last r and s; in the vector they come after all weights of a layer."""
    p, r, q, s = (block.shape[0], block.shape[1] - 1, block.shape[2], block.shape[3] - 1)
    rows = ((slice(row, row + p * r), slice(0, r)), (slice(row + p * r, row + p * (r + 1)), slice(r, r + 1)))
    columns = (
        (slice(column, column + q * s), slice(0, s)),
        (slice(column + q * s, column + q * (s + 1)), slice(s, s + 1)),
    )
    for into_rows, from_rows in rows:
        for into_columns, from_columns in columns:
            part = block[:, from_rows, :, from_columns]
            hessian[into_rows, into_columns].view(part.shape).add_(part, alpha=share)
