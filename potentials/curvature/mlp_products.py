"""Products with the Hessian of a plain multilayer perceptron, written out: without a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from landscape.potentials.curvature.plain_mlp import PlainMLP

__all__ = ["mlp_product", "mlp_product_bytes"]

_LARGE: Final = (
    2**15
)  # weights from which on vectors are multiplied one after the other: together they leave the caches


def mlp_product(mlp: PlainMLP, position: Tensor, inputs: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    r"""What takes vectors ``(k, dim)`` to their products with the Hessian of the mean loss.

    With R the derivative along v (V_l and u_l its weights and biases of layer l), a_l = f(z_l), slopes d_l = dL/dz_l,

    .. math:: R z_l = a_{l-1} V_l^T + u_l + (R a_{l-1}) W_l^T, \quad R a_l = f'(z_l) R z_l, \quad
        R d_l = f'(z_l) \, (R d_{l+1} W_{l+1} + d_{l+1} V_{l+1}) + (R f'(z_l)) \, d_{l+1} W_{l+1},

    and H v holds R d_l^T a_{l-1} + d_l^T R a_{l-1} for the weights and the sum of R d_l over samples for the biases.

    Parameters
    ----------
    mlp, position, inputs, targets
        As for `mlp_hessian`.

    References
    ----------
    Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6, 147.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> line = PlainMLP((1, 1), "relu", "mse")  # V(w, b) = mean (w x + b - y)^2
    >>> mlp_product(line, torch.zeros(2, dtype=torch.float64), x, x)(torch.eye(2, dtype=torch.float64)).tolist()
    [[10.0, 4.0], [4.0, 2.0]]
    """
    weights, activations, outputs, derivatives = mlp.forward(position.detach(), inputs)
    last = len(weights) - 1
    slopes = [mlp.loss_and_slope(outputs[None], targets[None])[1][0]]
    bends: list[Tensor | None] = []  # f''(z_l) / f'(z_l) times dL/da_l: what R f' is multiplied with
    for number in range(last, 0, -1):
        back = slopes[0] @ weights[number][0]
        slopes.insert(0, back * derivatives[number - 1])
        bends.insert(0, None if mlp.activation == "relu" else -2 * activations[number] * back)

    def several(vectors: Tensor) -> Tensor:
        along = list(mlp.layers(vectors))
        moved: list[Tensor | None] = [None]  # R a_l
        pushed = inputs.new_zeros(())
        for number, (weight, _) in enumerate(weights):
            v, u = along[number]
            pushed = torch.baddbmm(u.unsqueeze(1), activations[number].expand(len(v), -1, -1), v.transpose(1, 2))
            before = moved[number]
            if before is not None:
                pushed = pushed.add_(before @ weight.T)
            if number < last:
                moved.append(pushed.mul_(derivatives[number]))
        turned = _output_curvature(mlp, slopes[last], targets, pushed)
        product = torch.empty_like(vectors)
        slots = list(mlp.layers(product))
        for number in range(last, -1, -1):
            own, bias = slots[number]
            torch.bmm(turned.transpose(1, 2), activations[number].expand(len(vectors), -1, -1), out=own)
            torch.sum(turned, 1, out=bias)
            before = moved[number]
            if before is None:
                break
            own.baddbmm_(slopes[number].T.expand(len(vectors), -1, -1), before)
            back = (turned @ weights[number][0]).add_(slopes[number] @ along[number][0])
            turned = back.mul_(derivatives[number - 1])
            bend = bends[number - 1]
            if bend is not None:
                turned.addcmul_(bend, before)
        return product

    def product(vectors: Tensor) -> Tensor:
        if len(vectors) == 1 or mlp.dim < _LARGE:
            return several(vectors)
        return torch.cat([several(vector[None]) for vector in vectors])

    return product


def mlp_product_bytes(mlp: PlainMLP, dtype: torch.dtype) -> int:
    """Bytes that the factors of a product take for each sample."""
    return 5 * sum(mlp.sizes) * dtype.itemsize


def _output_curvature(mlp: PlainMLP, slope: Tensor, targets: Tensor, along: Tensor) -> Tensor:
    """d^2 L / d outputs^2 times vectors ``(k, samples, outputs)``, over the number of samples."""
    samples, outputs = slope.shape
    if mlp.loss == "mse":
        return along * (2.0 / (samples * outputs))
    # the slope is p_j and, at the label, p_y - 1, over the samples; relative to the label's own component, which
    # changes nothing, all terms are as small as they are at a minimum
    label = targets.unsqueeze(-1)
    probability = slope * samples
    probability = probability.scatter(1, label, 1 + probability.gather(1, label))
    relative = along - along.gather(2, label.expand(len(along), -1, -1))
    mean = (probability * relative).sum(2, keepdim=True)
    return (relative - mean).mul_(probability).div_(samples)
