"""Whether a network's outputs are piecewise linear in every single weight, read off its graph."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import torch

from landscape.potentials.losses import cross_entropy, squared_error
from landscape.potentials.network import NetworkLoss

__all__ = ["why_curved"]

# Nodes of the graph by name. Linear or piecewise linear in all that flows into them together ...
_LINEAR_NODES: Final = """
    Add Sub Neg Sum Mean View UnsafeView Reshape ReshapeAlias T Transpose Permute Unsqueeze Squeeze Expand Slice Select
    Index IndexSelect Gather Cat Stack Split SplitWithSizes Unbind ConstantPadNd ReflectionPad1D ReflectionPad2D
    ReplicationPad2D Clone ToCopy Alias AsStrided Flatten Relu LeakyRelu Threshold Hardtanh Clamp ClampMin ClampMax Abs
    Maximum Minimum Max Min Amax Amin MaxPool2DWithIndices MaxPool3DWithIndices MkldnnMaxPool2D AvgPool1D AvgPool2D
    AvgPool3D AdaptiveAvgPool2D MkldnnAdaptiveAvgPool2D AdaptiveMaxPool2D UpsampleNearest2D UpsampleBilinear2D
    AccumulateGrad Embedding Where Copy Diagonal Roll Flip
"""
# ... or in each of their factors alone: all but one of these have to be weights, or constants.
_PRODUCT_NODES: Final = """
    Mm Addmm Bmm Baddbmm Mv Addmv Dot Mul Linear Convolution MkldnnConvolution SlowConv2D ThnnConv2D Addcmul
    NativeBatchNorm CudnnBatchNorm
"""
_LINEAR: Final = frozenset(_LINEAR_NODES.split())
_PRODUCTS: Final = frozenset(_PRODUCT_NODES.split())
# Of these the first of three is added to the product of the others.
_SUMS_OF_PRODUCTS: Final = frozenset(("Addmm", "Baddbmm", "Addmv", "Addcmul"))
# Rearrangements through which a weight is still a weight.
_VIEWS: Final = frozenset(
    ("View", "T", "Transpose", "Permute", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Clone", "Slice", "Alias")
)


def why_curved(loss: NetworkLoss) -> str | None:
    """Why tr H may differ from tr F (F the Fisher matrix of the model's labels), or None if they are equal.

    Both are equal if the outputs are piecewise linear in every single weight and the loss is a cross-entropy of
    outputs (samples, classes) or a squared error: the rest of the Hessian, sum_k (dL/df_k) d^2 f_k, then has a zero
    diagonal, at any position. Anything that is not known to be so is a reason.

    Parameters
    ----------
    loss : NetworkLoss

    Returns
    -------
    str or None

    Notes
    -----
    Cost: one forward pass of two samples.

    Examples
    --------
    >>> from landscape.potentials import architectures
    >>> x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    >>> why_curved(NetworkLoss(architectures.mlp((2, 3, 2)), x, y))
    >>> why_curved(NetworkLoss(architectures.mlp((2, 3, 2), activation="tanh"), x, y))
    'Tanh is not piecewise linear in every single weight'
    """
    if loss.loss is not cross_entropy and loss.loss is not squared_error:
        return "the loss is a callable of which no probability model is known"
    if loss.samples_interact:
        return "batch normalisation by the statistics of the batch depends on the weights"
    parameters = {name: value.detach().requires_grad_(True) for name, value in _weights(loss).items()}
    with torch.enable_grad():
        outputs = loss.forward(parameters, loss.inputs[:2], loss.statistics_at(loss.position()))
    if loss.loss is cross_entropy and outputs.ndim > 2:
        return "the outputs have more dimensions than (samples, classes)"
    if outputs.grad_fn is None:
        return None
    return _reason(outputs.grad_fn)


def _weights(loss: NetworkLoss) -> dict[str, torch.Tensor]:
    return loss.layout.unflatten(loss.position())


def _reason(root: Any) -> str | None:
    """Walk the graph from the outputs to the weights."""
    uses: Counter[Any] = Counter()
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        name = _kind(node)
        flowing = [child for child, _ in node.next_functions if child is not None]
        if name.endswith("BatchNorm") and getattr(node, "_saved_training", True):
            return "batch normalisation by the statistics of the batch depends on the weights"
        if name == "Div":
            if node.next_functions[-1][0] is not None and len(node.next_functions) > 1:
                return "a division by what depends on weights is not linear in them"
        elif name in _PRODUCTS:
            if sum(not _is_weight(child) for child in _factors(name, node)) > 1:
                return f"{name} multiplies two things that both depend on weights"
        elif name not in _LINEAR:
            return f"{name.removeprefix('Native')} is not piecewise linear in every single weight"
        for child in flowing:
            if _is_weight(child):
                uses[child] += 1
                if uses[child] > 1:
                    return "a weight is used more than once"
            if child not in seen:
                seen.add(child)
                stack.append(child)
    return None


def _factors(name: str, node: Any) -> list[Any]:
    """What is multiplied, as far as it depends on weights."""
    children = [child for child, _ in node.next_functions]
    if name in _SUMS_OF_PRODUCTS and len(children) == 3:
        children = children[1:]
    return [child for child in children if child is not None]


def _is_weight(node: Any) -> bool:
    while _kind(node) in _VIEWS and len(node.next_functions) == 1 and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return _kind(node) == "AccumulateGrad"


def _kind(node: Any) -> str:
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]
