"""The units of a module, read from the operations that its forward pass makes of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landscape.paths.unit_axes import fixed, pin, units
from landscape.paths.unit_rules import Axes, given_axes, result_axes
from landscape.potentials.composite import composite_attention
from landscape.potentials.network.module_trials import undisturbed
from landscape.potentials.network.norms import statistic_names

__all__ = ["read_axes"]

Place: TypeAlias = tuple[Any, ...]


def read_axes(
    module: torch.nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    forward: Callable[[], Any],
    *,
    statistics_follow: bool,
) -> dict[str, Axes]:
    """Axes of every parameter and buffer of a module, refined by one forward pass.

    Samples, inputs, outputs, constants, buffers and parameters that do not move stay in their order.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, where buffers and frozen parameters lie.
    parameters : mapping of str to tensor
        Those that move, which `forward` uses.
    inputs : sequence of tensors
        What it is given.
    forward : callable
    statistics_follow : bool
        Whether running statistics of normalisations are those of the data, and so follow the channels.
    """
    reader, axes = _Reader(), {}
    for name, value in parameters.items():
        axes[name] = reader.note(value, [units(size) for size in value.shape])
    for name, value in module.named_parameters():
        if name not in parameters:
            why = f"the parameter {name!r}, which does not require a gradient"
            axes[name] = reader.note(value.detach(), [fixed(size, why) for size in value.shape])
    following = statistic_names(module) if statistics_follow else frozenset()
    for name, value in module.named_buffers():
        why = f"the buffer {name!r}, which is a constant"
        axes[name] = reader.note(value, [units(n) if name in following else fixed(n, why) for n in value.shape])
    for leaf in inputs:
        reader.note(leaf, [fixed(size, "the inputs") for size in leaf.shape])
    with undisturbed(), composite_attention(), reader:
        outputs = forward()
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            for axis in reader.axes(leaf):
                pin(axis, "the outputs")
    for name, value in parameters.items():
        if _place(value) not in reader.used:
            axes[name] = [fixed(size, "no use in the forward pass") for size in value.shape]
    return axes


class _Reader(TorchDispatchMode):
    """Follows the axes of tensors, which are known by their place in memory: whatever lives stays alive meanwhile."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.used: set[Place] = set()
        self._known: dict[Place, tuple[Axes, Tensor]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it torch would first import its compiler, for seconds

    def note(self, tensor: Tensor, axes: Axes) -> Axes:
        """From now on a tensor has these axes."""
        if (place := _place(tensor)) is not None:
            self._known[place] = axes, tensor
        return axes

    def axes(self, tensor: Tensor) -> Axes:
        """Axes of a tensor; one of unknown origin is a constant."""
        place = _place(tensor)
        if place in self._known:
            self.used.add(place)
            return self._known[place][0]
        return [fixed(size, "a constant of the module") for size in tensor.shape]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and apply its rule."""
        given = {name: self._argument(value) for name, value in _bound(operation, args, kwargs or {}).items()}
        results = operation(*args, **(kwargs or {}))  # which may turn its arguments in place
        tensors = [one for one in tree_leaves(results) if isinstance(one, Tensor)]
        found = result_axes(operation, given, [tuple(one.shape) for one in tensors])
        for tensor, axes in zip(tensors, found, strict=True):
            self.note(tensor, list(axes))
        return results

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return given_axes(self.axes(value))
        if isinstance(value, list | tuple) and any(isinstance(one, Tensor) for one in value):
            return [self._argument(one) for one in value]
        return value


def _place(tensor: Tensor) -> Place | None:
    """Where the numbers of a tensor lie; views of the same numbers in the same arrangement are the same tensor."""
    if tensor.layout != torch.strided or not tensor.numel():
        return None
    strides = tuple(stride if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), strides, tensor.dtype


def _bound(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, defaults among them."""
    given = {}
    for number, argument in enumerate(operation._schema.arguments):
        if number < len(args) and not argument.kwarg_only:
            given[argument.name] = args[number]
        elif argument.name in kwargs or argument.has_default_value():
            given[argument.name] = kwargs.get(argument.name, argument.default_value)
    return given
