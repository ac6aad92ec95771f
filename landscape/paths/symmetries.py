"""Which axes of which parameters can be permuted together without changing the function of a network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from landscape.errors import ConfigError
from landscape.paths.unit_axes import Axis, Indices, found, occurrences, order_of
from landscape.paths.unit_reading import read_axes
from landscape.potentials.network.batch import unwrapped
from landscape.potentials.network.module_trials import close_to_rounding, undisturbed
from landscape.potentials.network.potential import NetworkLoss

__all__ = ["Orders", "Symmetries", "check_same_function", "symmetries_of"]

Orders = Mapping[str, Indices]  # group -> unit i of the result is unit order[i] of the given
SAMPLES: Final = 4  # on which a module is read and functions are compared
JITTER: Final = 0.1  # of the root mean square of the weights, so that no two units are equal


@dataclass(frozen=True)
class Symmetries:
    """Groups of interchangeable units and where they are met.

    Attributes
    ----------
    sizes : dict of str to int
        Units of each group.
    axes : dict of str to dict of int to Axis
        For a parameter or buffer: how its axes are made of units. Axes that are not named are fixed.
    blocks : dict of str to list of int
        Sizes of blocks, rising, that a permutation of the group has to keep together: those of group normalisations.
    """

    sizes: dict[str, int]
    axes: dict[str, dict[int, Axis]]
    blocks: dict[str, list[int]]
    _names: dict[int, str]  # of units, by id

    def members(self, axis: Axis) -> list[tuple[str, Indices]]:
        """Groups on an axis, in the order in which they are met, with the indices ``(units, rest)`` of each."""
        return [(self._names[id(one)], at) for one, at in occurrences(axis)]

    def reordered(self, name: str, values: Tensor, orders: Orders, still: tuple[int, int] | None = None) -> Tensor:
        """A parameter or buffer with its units in another order; the occurrence `still` (axis, number) stays."""
        by_unit = {unit: orders[group] for unit, group in self._names.items() if group in orders}
        for axis, what in self.axes.get(name, {}).items():
            number = still[1] if still is not None and still[0] == axis else -1
            index = torch.from_numpy(order_of(what, by_unit, number)).to(values.device)
            values = values.index_select(axis, index)
        return values

    def shuffled(self, seed: int) -> dict[str, Indices]:
        """A random order of every group that keeps its blocks together, and moves some."""
        rng = np.random.default_rng(seed)
        orders = {}
        for name, size in self.sizes.items():
            order = np.arange(size)
            while (order == np.arange(size)).all():
                for small, big in pairwise([1, *self.blocks.get(name, []), size]):
                    parts = order.reshape(-1, big // small, small)
                    order = np.concatenate([part[rng.permutation(len(part))] for part in parts]).reshape(-1)
            orders[name] = order
        return orders


def symmetries_of(loss: NetworkLoss) -> Symmetries:
    """Permutation symmetries of the module of a loss, read from its operations and tried on some samples.

    Raises
    ------
    ConfigError
        If there are none, or if a permutation that was read changes the function.
    """
    if "symmetries" not in loss.measured:
        try:
            sample = _on_few_samples(loss).converted(torch.float64)
            found = _read(sample)
        except (RuntimeError, TypeError):  # a module that makes numbers of its own type
            sample = _on_few_samples(loss)
            found = _read(sample)
        loss.measured["symmetries"] = found, sample
        _try(loss, found)
    known: Symmetries = loss.measured["symmetries"][0]
    return known


def _on_few_samples(loss: NetworkLoss) -> NetworkLoss:
    """The same network on a few samples, or on all where they depend on each other by more than their statistics."""
    twin = copy.copy(loss)
    twin.measured, twin.evaluation = {}, None
    if not loss.samples_interact or loss.batchnorm == "batch":
        twin.inputs, twin.targets = loss.inputs[:SAMPLES], loss.targets[:SAMPLES]
    return twin


def _read(loss: NetworkLoss) -> Symmetries:
    module, inputs = loss.private_module, loss.inputs
    parameters = loss.layout.unflatten(loss.snapshot_position())
    buffers = dict(module.named_buffers())
    with _quiet(loss):
        axes = read_axes(
            module, parameters, unwrapped(inputs)[0], lambda: loss.forward(parameters, inputs, buffers),
            statistics_follow=loss.batchnorm == "reestimate",
        )  # fmt: skip
    names: dict[int, str] = {}
    sizes: dict[str, int] = {}
    blocks: dict[str, list[int]] = {}
    own_names: Mapping[str, str] = getattr(loss.module, "unit_names", dict)()
    for first in (True, False):  # a group is named after the layer that makes its units: the first axis of its weights
        for parameter in parameters:
            for number, axis in enumerate(axes[parameter]):
                for unit, _ in occurrences(axis) if first == (number == 0) else ():
                    if id(unit) not in names:
                        layer = _layer_of(parameter) if first else f"{parameter}:{number}"
                        names[id(unit)] = name = _unused(own_names.get(layer, layer), sizes)
                        sizes[name] = unit.size
                        if unit.blocks:
                            blocks[name] = list(unit.blocks)
    if not sizes:
        causes = dict.fromkeys(why for name in parameters for why in _causes(axes[name]) if why not in ("the inputs",))
        raise ConfigError(
            f"{type(loss.module).__name__} has no interchangeable units that are known: all are held by "
            f"{', '.join(list(causes)[:4]) or 'its inputs and outputs'}"
        )
    moving = {
        name: {i: found(axis) for i, axis in enumerate(own) if any(id(unit) in names for unit, _ in occurrences(axis))}
        for name, own in axes.items()
    }
    return Symmetries(sizes, {name: own for name, own in moving.items() if own}, blocks, names)


def _layer_of(parameter: str) -> str:
    return parameter.partition(".parametrizations.")[0].rpartition(".")[0] if "." in parameter else parameter


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or with a number where it is taken: of several groups on one axis."""
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}:{number + 1}"
    return free


def _causes(axes: Sequence[Axis]) -> list[str]:
    """What holds the first axis of a parameter."""
    causes, left = [], list(axes[:1])
    while left:
        axis = found(left.pop())
        left += axis.parts
        if axis.kind == "fixed" and axis.why:
            causes.append(axis.why)
    return causes


# -- the same function -------------------------------------------------------------------------------------------------


def _try(loss: NetworkLoss, symmetries: Symmetries) -> None:
    """Permute all groups at random, at weights without symmetry."""
    start = loss.snapshot_position()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(start.shape, generator=generator, dtype=torch.float64).to(start)
    position = start + JITTER * (start.square().mean().sqrt() + 1e-3) * noise
    check_same_function(loss, symmetries, position, symmetries.shuffled(1))


def check_same_function(loss: NetworkLoss, symmetries: Symmetries, position: Tensor, orders: Orders) -> None:
    """Compare the outputs for some samples before and after a permutation.

    Raises
    ------
    ConfigError
        If they differ by more than rounding, naming the first group by which they do.
    """
    sample: NetworkLoss = loss.measured["symmetries"][1]
    position = position.to(sample.dtype)
    if _stays(sample, symmetries, position, orders):
        return
    for name in orders:
        if not _stays(sample, symmetries, position, {name: orders[name]}):
            break
    raise ConfigError(
        f"permuting the units {name!r} of {type(loss.module).__name__} changes its outputs, although its operations do "
        "not show why: it cannot be aligned"
    )


def _stays(loss: NetworkLoss, symmetries: Symmetries, position: Tensor, orders: Orders) -> bool:
    """Whether the outputs stay the same up to rounding; those that are not finite tell nothing."""
    given = loss.layout.unflatten(position), dict(loss.private_module.named_buffers())
    moved = [{name: symmetries.reordered(name, one, orders) for name, one in part.items()} for part in given]
    before, after = _outputs(loss, *given), _outputs(loss, *moved)
    return all(close_to_rounding(*pair) for pair in zip(before, after, strict=True) if pair[0].is_floating_point())


def _outputs(loss: NetworkLoss, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> list[Tensor]:
    with undisturbed(), _quiet(loss):
        outputs = loss.forward(parameters, loss.inputs, buffers)
    return [leaf.detach() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _quiet(loss: NetworkLoss) -> AbstractContextManager[Any]:
    return torch.enable_grad() if loss.differentiates else torch.no_grad()
