"""Convolution, normalisation by constants and ReLU whose second derivatives cost what first ones do.

Torch differentiates the slopes of these layers by general formulas: convolutions with kernels as large as an image,
normalisation in a dozen elementwise steps, sums with tensors of zeros. Here the derivative of a slope is made of the
very kernels that training uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from landscape.potentials.composite import Composite

__all__ = ["TwiceDifferentiable"]

_convolution_backward = torch.ops.aten.convolution_backward
_norm_backward = torch.ops.aten.native_batch_norm_backward
_relu_backward = torch.ops.aten.threshold_backward


class TwiceDifferentiable(Composite):
    """Within this context a module's layers are differentiated twice, rightly and without waste.

    Slopes with respect to leaves of the graph that are made with ``create_graph=True`` hold no values: they are
    there to be differentiated once more, and computing them would cost a third of a gradient. A module that takes
    derivatives in its forward pass needs such values, and further derivatives: it is run again with ``nested=True``.

    Parameters
    ----------
    nested : bool
        Whether derivatives are taken within the context.

    Examples
    --------
    >>> x, w = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0, requires_grad=True)
    >>> with TwiceDifferentiable():
    ...     energy = torch.conv2d(x, w).square().sum()  # (x w)^2
    >>> (slope,) = torch.autograd.grad(energy, w, create_graph=True)
    >>> float(torch.autograd.grad(slope.sum(), w)[0])  # 2 x^2
    2.0
    """

    def __init__(self, *, nested: bool = False) -> None:
        super().__init__(nested=nested, others=_LAYERS)


def _values_needed(*leaves: Tensor | None) -> list[bool]:
    """Of which weights the slope is an intermediate result, so that its own value enters its derivative."""
    return [leaf is not None and leaf.requires_grad and not leaf.is_leaf for leaf in leaves]


def _without_values(found: tuple[Tensor | None, ...], like: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """Zeros for slopes that were not computed."""
    return tuple(
        one.new_zeros(()).expand_as(one) if slope is None and one is not None else slope
        for slope, one in zip(found, like, strict=True)
    )


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first.add_(second)


class _Convolution(torch.autograd.Function):
    """A convolution, whose value comes from `value` where there is another way to it."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        how: tuple[Any, ...],
        value: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.bias, ctx.how = bias, how
        ctx.set_materialize_grads(False)
        return torch.conv2d(inputs, weight, bias, *how) if value is None else value()

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None) -> tuple[Tensor | None, ...]:
        if slope is None:
            return (None,) * 5
        inputs, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _ConvolutionSlopes.apply(slope, inputs, weight, ctx.bias, ctx.how)
        else:
            found = _convolution_slopes(slope, inputs, weight, ctx.how, list(ctx.needs_input_grad[:3]))
        return *found, None, None


def _convolution_slopes(slope: Tensor, inputs: Tensor, weight: Tensor, how: Any, wanted: list[bool]) -> Any:
    """Slopes of inputs, weight and bias; None for those not wanted."""
    if not any(wanted):
        return None, None, None
    stride, padding, dilation, groups = how
    sizes = [weight.shape[0]]
    return _convolution_backward(slope, inputs, weight, sizes, stride, padding, dilation, False, [0, 0], groups, wanted)


class _ConvolutionSlopes(torch.autograd.Function):
    """Bilinear in (slope, inputs, weight): every derivative is a convolution or one of its slopes."""

    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, inputs: Tensor, weight: Tensor, bias: Tensor | None, how: tuple[Any, ...]
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(slope, inputs, weight)
        ctx.how = how
        ctx.set_materialize_grads(False)
        found = _convolution_slopes(slope, inputs, weight, how, [inputs.requires_grad, *_values_needed(weight, bias)])
        return found[0], *_without_values(found[1:], (weight, bias))

    @staticmethod
    def backward(
        ctx: Any, to_inputs: Tensor | None, to_weight: Tensor | None, to_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        slope, inputs, weight = ctx.saved_tensors
        outer = inner = own = None
        if to_weight is not None:
            outer = torch.conv2d(inputs, to_weight, to_bias, *ctx.how)
            if ctx.needs_input_grad[1]:
                inner = _convolution_slopes(slope, inputs, to_weight, ctx.how, [True, False, False])[0]
        elif to_bias is not None:
            outer = to_bias.view(-1, 1, 1).expand_as(slope).clone()
        if to_inputs is not None:
            outer = _sum(outer, torch.conv2d(to_inputs, weight, None, *ctx.how))
            if ctx.needs_input_grad[2]:
                own = _convolution_slopes(slope, to_inputs, weight, ctx.how, [False, True, False])[1]
        return outer, inner, own, None, None


class _Norm(torch.autograd.Function):
    """weight (x - mean) / sqrt(variance + eps) + bias with constant mean and variance."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, variance)
        ctx.bias, ctx.eps = bias, eps
        ctx.set_materialize_grads(False)
        return functional.batch_norm(inputs, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None) -> tuple[Tensor | None, ...]:
        if slope is None:
            return (None,) * 6
        inputs, weight, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _NormSlopes.apply(slope, inputs, weight, ctx.bias, mean, variance, ctx.eps)
        else:
            found = _norm_slopes(slope, inputs, weight, mean, variance, ctx.eps, list(ctx.needs_input_grad[:3]))
        return *found, None, None, None


def _norm_slopes(
    slope: Tensor, inputs: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float, wanted: list[bool]
) -> Any:
    """Slopes of inputs, weight and bias; None for those not wanted."""
    if not any(wanted[1:]):  # the kernel would reduce for nothing
        return slope * _scale(weight, variance, eps, slope.ndim) if wanted[0] else None, None, None
    found = _norm_backward(slope, inputs, weight, mean, variance, None, None, False, eps, wanted)
    return tuple(one if asked else None for one, asked in zip(found, wanted, strict=True))


def _scale(weight: Tensor, variance: Tensor, eps: float, dimensions: int) -> Tensor:
    return (weight * (variance + eps).rsqrt()).view(-1, *(1,) * (dimensions - 2))


class _NormSlopes(torch.autograd.Function):
    """Bilinear in (slope, weight) and in (slope, inputs - mean)."""

    @staticmethod
    def forward(
        ctx: Any,
        slope: Tensor,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(slope, inputs, weight, mean, variance)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        wanted = [inputs.requires_grad, *_values_needed(weight, bias)]
        found = _norm_slopes(slope, inputs, weight, mean, variance, eps, wanted)
        return found[0], *_without_values(found[1:], (weight, bias))

    @staticmethod
    def backward(
        ctx: Any, to_inputs: Tensor | None, to_weight: Tensor | None, to_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        slope, inputs, weight, mean, variance = ctx.saved_tensors
        outer = inner = own = None
        if to_weight is not None or to_bias is not None:
            scale = torch.zeros_like(weight) if to_weight is None else to_weight
            outer = functional.batch_norm(inputs, mean, variance, scale, to_bias, eps=ctx.eps)
        if to_weight is not None and ctx.needs_input_grad[1]:
            inner = slope * _scale(to_weight, variance, ctx.eps, slope.ndim)
        if to_inputs is not None:
            scale = _scale(weight, variance, ctx.eps, slope.ndim)
            outer = to_inputs * scale if outer is None else outer.addcmul_(to_inputs, scale)
            if ctx.needs_input_grad[2]:
                centre = torch.zeros_like(mean)
                own = _norm_slopes(to_inputs, slope, weight, centre, variance, ctx.eps, [False, True, False])[1]
        return outer, inner, own, None, None, None, None


class _Relu(torch.autograd.Function):
    """max(x, 0), with slope 0 at 0."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        outputs = torch.relu(inputs)
        ctx.save_for_backward(outputs)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None) -> Tensor | None:
        if slope is None:
            return None
        (outputs,) = ctx.saved_tensors
        # detached: the slope does not change with the outputs
        if not torch.is_grad_enabled():
            return _passed(slope, outputs)
        found: Tensor = _ReluSlope.apply(slope, outputs.detach())
        return found


def _passed(slope: Tensor, outputs: Tensor) -> Tensor:
    found: Tensor = _relu_backward(slope, outputs, 0)
    return found


class _ReluSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slope: Tensor, outputs: Tensor) -> Tensor:
        ctx.save_for_backward(outputs)
        ctx.set_materialize_grads(False)
        return _passed(slope, outputs)

    @staticmethod
    def backward(ctx: Any, to_inputs: Tensor | None) -> tuple[Tensor | None, None]:
        (outputs,) = ctx.saved_tensors
        return None if to_inputs is None else _passed(to_inputs, outputs), None


# -- the functions of torch that they stand for; None where they do not ------------------------------------------------


def _conv2d(
    inputs: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if isinstance(padding, str) or inputs.ndim != 4:
        return None
    pairs = [[size, size] if isinstance(size, int) else list(size) for size in (stride, padding, dilation)]
    found: Tensor = _Convolution.apply(inputs, weight, bias, (*pairs, groups))
    return found


def _batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or weight is None or bias is None or running_mean is None or running_var is None:
        return None
    before: Any = inputs.grad_fn
    if getattr(before, "_forward_cls", None) is _Convolution:
        return _normalised_convolution(before, inputs, weight, bias, running_mean, running_var, eps)
    found: Tensor = _Norm.apply(inputs, weight, bias, running_mean, running_var, eps)
    return found


def _normalised_convolution(
    before: Any, convolved: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """Convolution and norm as one convolution of scaled weights, so that derivatives pass through images once less.

    Instead of sums over images, the second derivatives with respect to the scales take products with the slopes of the
    scaled weights, which are computed once.
    """

    def value() -> Tensor:
        return functional.batch_norm(convolved, mean, variance, weight, bias, eps=eps)

    inputs, kernel = before.saved_tensors
    scale = weight * (variance + eps).rsqrt()
    shift = bias - scale * (mean if before.bias is None else mean - before.bias)
    found: Tensor = _Convolution.apply(inputs, kernel * scale.view(-1, 1, 1, 1), shift, before.how, value)
    return found


def _relu(inputs: Tensor, inplace: bool = False) -> Tensor | None:
    found: Tensor | None = None if inplace else _Relu.apply(inputs)
    return found


_LAYERS: Final[Mapping[Callable[..., Any], Callable[..., Tensor | None]]] = {
    torch.conv2d: _conv2d,
    functional.batch_norm: _batch_norm,
    functional.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
}
