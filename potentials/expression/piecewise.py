"""Whether a network's outputs are piecewise linear in every single weight, read off its graph."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from landscape.potentials.losses import NamedLoss
from landscape.potentials.network.graph_memory import graph_bytes

if TYPE_CHECKING:
    from landscape.potentials.network.potential import NetworkLoss

__all__ = ["why_curved"]

# Nodes of the graph by name. Linear or piecewise linear in all that flows into them together ...
_LINEAR_NODES: Final = """
    Add Sub Rsub Neg Sum Mean View UnsafeView Reshape ReshapeAlias T Transpose Permute Unsqueeze Squeeze Expand Slice
    Select Index IndexSelect Gather Cat Stack Split SplitWithSizes Unbind ConstantPadNd ReflectionPad1D ReflectionPad2D
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


GRAPH_BYTES: Final = 2**28  # what the graph of samples that are looked at together may hold


def why_curved(loss: NetworkLoss, position: Tensor | None = None) -> str | None:
    """Why tr H may differ from tr F (F the Fisher matrix of the model's labels), or None if they are equal.

    Both are equal if the outputs are piecewise linear in every single weight and the second derivatives of the loss in
    the outputs are those of F for any targets: the rest of the Hessian, sum_k (dL/df_k) d^2 f_k, then has a zero
    diagonal. Anything that is not known to be so is a reason.

    It is read off the graphs of all samples at the position, so that neither a branch which depends on data or weights
    nor a term which happens to be zero is overlooked. Piecewise linear are outputs in which every weight is used at
    one place, and nothing is multiplied but by weights and constants: then each factor of a product depends on other
    weights.

    Parameters
    ----------
    loss : NetworkLoss
    position : tensor, shape ``(dim,)``, optional
        The module's own weights by default.

    Returns
    -------
    str or None

    Notes
    -----
    Cost: one forward pass.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss, architectures
    >>> x, y = torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    >>> why_curved(NetworkLoss(architectures.mlp((2, 3, 2)), x, y))
    >>> why_curved(NetworkLoss(architectures.mlp((2, 3, 2), activation="tanh"), x, y))
    'Tanh is not piecewise linear in every single weight'
    """
    if not isinstance(loss.loss, NamedLoss):
        return "the loss is a callable of which no probability model is known"
    if not loss.loss.fisher_is_gauss_newton:
        return (
            f"the second derivatives of the loss {loss.loss.name!r} in the outputs are not those of its Fisher matrix"
        )
    if loss.samples_interact:
        how = "batch normalisation by the statistics of the batch depends on the weights"
        return how if loss.batchnorm == "batch" else "the samples interact"
    reason = _first_reason(loss, position)
    elsewhere = float(loss.shards.sum(torch.tensor(float(reason is not None), device=loss.device)))
    return "the samples of another rank say so" if reason is None and elsewhere else reason


def _first_reason(loss: NetworkLoss, position: Tensor | None) -> str | None:
    """What the graphs of all samples say, chunk by chunk."""
    at = loss.default_start() if position is None else position.to(loss.device, loss.dtype)
    buffers = loss.statistics_at(at)
    named = loss.layout.unflatten(at.detach())

    def outputs_of(rows: slice) -> Tensor:
        leaves = {name: value.detach().requires_grad_(True) for name, value in named.items()}
        with torch.enable_grad():
            outputs: Tensor = loss.forward(leaves, loss.inputs[rows], buffers)
        return outputs

    own = len(loss.inputs)
    few = min(2, own)
    try:
        held = graph_bytes(lambda: outputs_of(slice(0, few)), named.values()) // few
    except Exception:  # derivatives within the forward pass do not let what they hold be looked at
        held = GRAPH_BYTES // 32
    size = min(loss.chunk_size or own, max(1, GRAPH_BYTES // max(1, held)))
    for start in range(0, own, size):
        outputs = outputs_of(slice(start, min(start + size, own)))
        reason = loss.loss.why_no_model(outputs.detach()) if isinstance(loss.loss, NamedLoss) else None
        if reason is None and outputs.grad_fn is not None:
            reason = _reason(outputs.grad_fn)
        if reason is not None:
            return reason
    return None


def _reason(root: Any) -> str | None:
    """Walk the graph from the outputs to the weights."""
    uses: Counter[Any] = Counter()
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        name = _kind(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return f"{name} is a function of the user's own"
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
