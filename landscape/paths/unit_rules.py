"""What operations of torch do to the axes of tensors: which have to be permuted alike, and what comes out.

Every rule says how the result moves when what goes in is permuted; an operation without a rule holds all units that go
in in their places. Whatever a tensor is filled with evenly may be permuted at will.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import torch

from landscape.paths.unit_axes import Axis, cut, fixed, join, keep_together, pin, product, same, split, units

__all__ = ["Axes", "Named", "result_axes"]

Axes: TypeAlias = list[Axis]
Named = Mapping[str, Any]  # arguments by name, a list of axes in the place of a tensor
Rule = Callable[[Named, Sequence[tuple[int, ...]], str], list[Axes]]  # shapes of the results -> their axes

SYMMETRIC: Final = {
    "sum", "mean", "amax", "amin", "prod", "var", "std", "var_mean", "std_mean", "norm", "logsumexp", "any", "all",
    "linalg_vector_norm",
}  # fmt: skip


def result_axes(operation: Any, given: Named, shapes: Sequence[tuple[int, ...]]) -> list[Axes]:
    """Axes of the results of an operation, with what it demands of those that go in."""
    name = operation.overloadpacket.__name__
    why = f"the operation {name}"
    rule = RULES.get(name) or RULES.get(name.removesuffix("_"))  # those in place end with one
    if rule is None and torch.Tag.pointwise in operation.tags:
        rule = _pointwise
    if rule is None and name in SYMMETRIC:
        rule = _reduction
    return (rule or _unknown)(given, shapes, why)


def _tensors(given: Named) -> list[Axes]:
    """Axes of all tensors among the arguments."""
    flat: list[Axes] = []
    for value in given.values():
        if _is_axes(value):
            flat.append(value)
        elif isinstance(value, list | tuple):
            flat += [one for one in value if _is_axes(one)]
    return flat


class _Given(list[Axis]):
    """Axes of a tensor that is an argument, told apart from lists of anything else."""


def _is_axes(value: Any) -> bool:
    return isinstance(value, _Given)


def given_axes(axes: Axes) -> Axes:
    """Axes as an argument."""
    return _Given(axes)


def _pinned(axes: Axes, why: str) -> None:
    for axis in axes:
        pin(axis, why)


def _still(shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    return [[fixed(size, why) for size in shape] for shape in shapes]


def _unknown(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    for axes in _tensors(given):
        _pinned(axes, why)
    return _still(shapes, why)


def _even(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    return [[units(size) for size in shape] for shape in shapes]


def _aligned(all_axes: Sequence[Axes], shape: Sequence[int], why: str) -> Axes:
    """Axes of what is broadcast to a shape."""
    result: list[Axis | None] = [None] * len(shape)
    for axes in all_axes:
        for place, axis in zip(range(len(shape) - len(axes), len(shape)), axes, strict=True):
            if axis.size != shape[place]:
                continue  # of length 1
            known = result[place]
            if known is None:
                result[place] = axis
            else:
                same(known, axis, why)
    return [units(size) if axis is None else axis for axis, size in zip(result, shape, strict=True)]


def _pointwise(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    return [_aligned(_tensors(given), shape, why) for shape in shapes]


def _dims(value: Any, count: int) -> list[int]:
    """Numbers of axes; all where none are named."""
    if value is None or value == []:
        return list(range(count))
    return [one % count for one in (value if isinstance(value, list | tuple) else [value])] if count else []


def _reduction(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    axes = given["self"]
    gone = _dims(given.get("dim"), len(axes))
    keep = bool(given.get("keepdim", False))
    left = [fixed(1, "") if i in gone else axis for i, axis in enumerate(axes) if keep or i not in gone]
    return [list(left) for _ in shapes]


def _reshape(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """Old axes flattened and taken apart anew, in the smallest blocks that fit."""
    old, new = [axis for axis in given["self"] if axis.size != 1], list(shapes[0])
    result: Axes = []
    while new:
        if new[0] == 1:
            result.append(fixed(new.pop(0), ""))
            continue
        if not old:  # without elements
            return _unknown(given, shapes, why)
        block, sizes = [old.pop(0)], [new.pop(0)]
        while (have := math.prod(axis.size for axis in block)) != (want := math.prod(sizes)):
            if have < want:
                block.append(old.pop(0))
            else:
                sizes.append(new.pop(0))
        whole = product(block)
        parts = split(whole, sizes)
        if parts is None:
            pin(whole, why)
            parts = [fixed(size, why) for size in sizes]
        result += parts
    return [result]


def _permuted(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    axes, count = given["self"], len(given["self"])
    if "dims" in given:
        return [[axes[dim % count] for dim in given["dims"]]]
    order = list(range(count))
    if count > 1:
        i, j = given.get("dim0", 0) % count, given.get("dim1", 1) % count
        order[i], order[j] = order[j], order[i]
    return [[axes[place] for place in order]]


def _expand(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    return [_aligned([given["self"]], shapes[0], why)]


def _select(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    axes = list(given["self"])
    pin(axes.pop(given.get("dim", 0) % len(axes)), why)
    return [list(axes) for _ in shapes]


def _parts(given: Named, dim: int, sizes: Sequence[int], why: str) -> list[Axes]:
    axes = given["self"]
    parts = cut(axes[dim], sizes)
    if parts is None:
        pin(axes[dim], why)
        parts = [fixed(size, why) for size in sizes]
    return [[*axes[:dim], part, *axes[dim + 1 :]] for part in parts]


def _split(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    dim = given.get("dim", 0) % len(given["self"])
    return _parts(given, dim, [shape[dim] for shape in shapes], why)


def _slice(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    dim = given.get("dim", 0) % len(given["self"])
    size, left = given["self"][dim].size, shapes[0][dim]
    if given.get("step", 1) != 1:
        pin(given["self"][dim], why)
        return [[*given["self"][:dim], fixed(left, why), *given["self"][dim + 1 :]]]
    start = given.get("start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    return [_parts(given, dim, [start, left, size - start - left], why)[1]]


def _cat(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    tensors = [axes for axes in given["tensors"] if len(axes) == len(shapes[0])]
    dim = given.get("dim", 0) % len(shapes[0])
    for axes in tensors[1:]:
        for place in range(len(axes)):
            if place != dim:
                same(tensors[0][place], axes[place], why)
    return [[*tensors[0][:dim], join([axes[dim] for axes in tensors]), *tensors[0][dim + 1 :]]]


def _stack(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    dim = given.get("dim", 0) % len(shapes[0])
    axes = _aligned(given["tensors"], [size for i, size in enumerate(shapes[0]) if i != dim], why)
    return [[*axes[:dim], fixed(shapes[0][dim], why), *axes[dim:]]]


def _pad(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    axes, pad = list(given["self"]), given["pad"]
    for i in range(len(pad) // 2):
        before, after, place = pad[2 * i], pad[2 * i + 1], len(axes) - 1 - i
        if before < 0 or after < 0:
            return _unknown(given, shapes, why)
        axes[place] = join([units(before), axes[place], units(after)])
    return [axes]


def _repeat(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    times = given["repeats"]
    new = len(times) - len(given["self"])
    return [[*map(units, times[:new]), *(join([a] * n) for a, n in zip(given["self"], times[new:], strict=True))]]


def _contraction(one: str, other: str, added: str | None = None) -> Rule:
    """Matrices, batches of them and vectors: the last axis of one meets the last but one of the other."""

    def rule(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
        first, second = given[one], given[other]
        vector = len(second) == 1
        same(first[-1], second[-1] if vector else second[-2], why)
        for left, right in zip(first[:-2], second[:-2], strict=False):
            same(left, right, why)
        result = [*first[:-1], *([] if vector else second[-1:])]
        return [result if added is None else _aligned([result, given[added]], shapes[0], why)]

    return rule


def _convolution(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    inputs, weight, groups = given["input"], given["weight"], given["groups"]
    if given["transposed"] and groups > 1:
        return _unknown(given, shapes, why)
    _pinned(inputs[2:] + weight[2:], why)
    own, between = (1, 0) if given["transposed"] else (0, 1)  # axes of the weight: (outputs, inputs) or the reverse
    channels = inputs[1]
    if groups == 1:
        same(channels, weight[between], why)
        made = weight[own]
    else:
        group, inside = units(groups), units(channels.size // groups)
        same(channels, product((group, inside)), why)
        same(inside, weight[1], why)
        made = weight[0]
        same(made, product((group, units(made.size // groups))), why)
    if _is_axes(given.get("bias")):
        same(made, given["bias"][0], why)
    return [[inputs[0], made, *(fixed(size, why) for size in shapes[0][2:])]]


def _embedding(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    pin(given["weight"][0], why)
    return [[*given["indices"], given["weight"][1]]]


def _channels(given: Named, names: Sequence[str], why: str) -> Axis:
    """The second axis of the inputs, which all that there is one of per channel follows."""
    channels: Axis = given["input"][1]
    for name in names:
        if _is_axes(given.get(name)) and given[name]:
            same(channels, given[name][0], why)
    return channels


def _batch_norm(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    channels = _channels(given, ("weight", "bias", "running_mean", "running_var"), why)
    return [given["input"], *([channels if size > 1 else fixed(size, "") for size in shape] for shape in shapes[1:])]


def _group_norm(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    channels, groups = _channels(given, ("weight", "bias"), why), given["group"]
    if 1 < groups < channels.size:
        keep_together(channels, channels.size // groups, why)
    return [given["input"], *_still(shapes[1:], why)]


def _layer_norm(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    axes = given["input"]
    for name in ("weight", "bias"):
        if _is_axes(given.get(name)):
            for axis, own in zip(axes[-len(given[name]) :], given[name], strict=True):
                same(axis, own, why)
    kept = len(axes) - len(given["normalized_shape"])
    return [axes, *([*axes[:kept], *(fixed(1, "") for _ in shape[kept:])] for shape in shapes[1:])]


def _as_given(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """Functions along an axis that do not know the order of it, such as softmax."""
    return [_tensors(given)[0] for _ in shapes]


def _over_space(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """Pooling and its like: samples and channels keep to themselves."""
    axes = given.get("self", given.get("input"))
    leading = len(axes) - 2 if len(axes) < 4 else 2
    _pinned(axes[leading:], why)
    return [[*axes[:leading], *(fixed(size, why) for size in shape[leading:])] for shape in shapes]


def _along(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """Functions that do know the order, such as cumulative sums: that axis stays."""
    axes = given["self"]
    dim = given.get("dim")
    if not axes or not isinstance(dim, int) or any(len(shape) != len(axes) for shape in shapes):
        return _unknown(given, shapes, why)
    pin(axes[dim % len(axes)], why)
    return [[*axes[: dim % len(axes)], fixed(shape[dim], why), *axes[dim % len(axes) + 1 :]] for shape in shapes]


def _extreme(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """Of two tensors, of all numbers, or along an axis together with the place where it was found."""
    if _is_axes(given.get("other")):
        return _pointwise(given, shapes, why)
    if given.get("dim") is None:
        return _reduction(given, shapes, why)
    pin(given["self"][_dims(given["dim"], len(given["self"]))[0]], why)
    return _reduction(given, shapes, why)


def _weight_norm(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    axes, dim = given["v"], given.get("dim", 0)
    same(axes[dim], given["g"][dim], why)
    return [axes, given["g"]]


def _gated(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """One half of an axis times a function of the other."""
    dim = given.get("dim", -1) % len(given["self"])
    one, other = _parts(given, dim, [shapes[0][dim]] * 2, why)
    same(one[dim], other[dim], why)
    return [one]


def _square(given: Named, shapes: Sequence[tuple[int, ...]], why: str) -> list[Axes]:
    """Functions of a matrix: f(P A P^T) = P f(A) P^T."""
    axes = given["self"]
    same(axes[-1], axes[-2], why)
    return [axes]


def _table(**rules: Any) -> dict[str, Rule]:
    return {name: rule for names, rule in rules.values() for name in names.split()}


RULES: Final = _table(
    filled=(
        "zeros ones full empty zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty "
        "scalar_tensor new_empty_strided empty_strided",
        _even,
    ),
    pointwise=("copy fill zero _to_copy clone detach alias lift_fresh _prelu_kernel masked_fill where", _pointwise),
    reshaped=("view _unsafe_view _reshape_alias unsqueeze squeeze", _reshape),
    permuted=("permute transpose t", _permuted),
    expanded=("expand", _expand),
    chosen=("select unbind", _select),
    parts=("split split_with_sizes unsafe_split unsafe_split_with_sizes", _split),
    sliced=("slice", _slice),
    joined=("cat", _cat),
    stacked=("stack", _stack),
    padded=("constant_pad_nd", _pad),
    repeated=("repeat", _repeat),
    mm=("mm bmm", _contraction("self", "mat2")),
    mv=("mv", _contraction("self", "vec")),
    dot=("dot", _contraction("self", "tensor")),
    vdot=("vdot", _contraction("self", "other")),
    addmm=("addmm", _contraction("mat1", "mat2", "self")),
    baddbmm=("baddbmm", _contraction("batch1", "batch2", "self")),
    addmv=("addmv", _contraction("mat", "vec", "self")),
    convolution=("convolution", _convolution),
    embedding=("embedding", _embedding),
    batch_norm=("native_batch_norm _native_batch_norm_legit cudnn_batch_norm", _batch_norm),
    group_norm=("native_group_norm", _group_norm),
    layer_norm=("native_layer_norm", _layer_norm),
    along_all=("_softmax _log_softmax _safe_softmax", _as_given),
    pools=(
        "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d "
        "_adaptive_avg_pool3d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d",
        _over_space,
    ),
    extremes=("max min", _extreme),
    along=("cumsum cumprod sort index_select topk", _along),
    weight_norm=("_weight_norm_interface", _weight_norm),
    gated=("glu", _gated),
    square=("linalg_matrix_exp", _square),
)
