"""Permutations of hidden units: the same function, other weights; and the ones that bring two networks together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ConfigError, ShapeError
from landscape.paths.assignment import best_assignment
from landscape.paths.symmetries import Symmetries, symmetries_of
from landscape.potentials.checks import whole_number
from landscape.potentials.network import NetworkLoss

__all__ = ["align", "permute"]

Permutations = Mapping[str, Any]  # group -> order of its units: unit i of the result is unit order[i] of the given
MARGIN = 1e-9  # relative gain below which another sweep is rounding


def align(network_loss: NetworkLoss, reference: Any, position: Any, *, sweeps: int = 100) -> Any:
    """Permute the hidden units of a network so that its weights come closest to a reference's.

    Weight matching: over permutations P of the interchangeable units, maximise sum_w <w_reference, P w> over all
    parameters w, which minimises |reference - P position|. Group by group, given all other groups, that is a linear
    assignment, solved exactly; sweeps over the groups repeat until none gains. The channels of a residual stream are
    one group through all blocks that share it (channels that a shortcut pads in are a further one); those that a group
    normalisation treats together stay together.

    Parameters
    ----------
    network_loss : NetworkLoss
        Of a network of `mlp`, `vgg`, `resnet_cifar` or `wide_resnet`, or a Sequential of linear layers and elementwise
        activations.
    reference, position : tensor or array, shape ``(dim,)``
    sweeps : int
        At most.

    Returns
    -------
    tensor or array, shape ``(dim,)``
        The permuted position: the same function, up to the rounding of sums in another order.

    Raises
    ------
    ConfigError
        For another architecture; for batch normalisation with frozen statistics, which belong to one order of units.
    ShapeError

    Notes
    -----
    The sweeps end in a local optimum that depends on where they begin; they find a permuted copy again in practice
    where layers are wide and few.

    References
    ----------
    Ainsworth, Hayase, Srinivasa (2023), Git Re-Basin: Merging Models modulo Permutation Symmetries, section 3.2.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss, architectures
    >>> x = torch.linspace(-1, 1, 8)[:, None]
    >>> loss = NetworkLoss(architectures.mlp([1, 3, 1]), x, x, loss="mse")
    >>> here = loss.position()
    >>> there = permute(loss, here, {"0": [2, 0, 1]})
    >>> bool((there == here).all()), bool((align(loss, here, there) == here).all())
    (False, True)
    """
    whole_number("sweeps", sweeps)
    groups = _symmetries(network_loss)
    (target, _), (given, back) = (
        _vector(network_loss, "reference", reference),
        _vector(network_loss, "position", position),
    )
    fixed, moved = (_named(network_loss, groups, vector) for vector in (target, given))
    orders = {name: np.arange(size) for name, size in groups.sizes.items()}
    for _ in range(sweeps):
        gained = False
        for name in groups.sizes:
            gain = _gain(groups, name, fixed, moved, orders)
            best = best_assignment(gain, groups.blocks.get(name, ()))
            rows = np.arange(len(best))
            before, after = gain[rows, orders[name]].sum(), gain[rows, best].sum()
            if after > before + MARGIN * abs(gain).max() * len(best):
                orders[name], gained = best, True
        if not gained:
            break
    return back(_permuted(network_loss, groups, given, orders))


def permute(network_loss: NetworkLoss, position: Any, permutations: Permutations) -> Any:
    """A position with its hidden units in another order: unit i of a group becomes its unit ``order[i]``.

    Parameters
    ----------
    network_loss : NetworkLoss
    position : tensor or array, shape ``(dim,)``
    permutations : mapping of str to sequence of int
        Order of the units of each group; a group is named after the layer that makes its units ("0" in a Sequential),
        and groups that are not named stay.

    Returns
    -------
    tensor or array, shape ``(dim,)``

    Raises
    ------
    ConfigError
        For groups that do not exist, and orders that are none or tear apart what a group normalisation joins.

    Examples
    --------
    >>> from landscape.potentials import NetworkLoss, architectures
    >>> x = torch.linspace(-1, 1, 8)[:, None]
    >>> loss = NetworkLoss(architectures.mlp([1, 3, 1]), x, x, loss="mse")
    >>> other = permute(loss, loss.position(), {"0": [2, 0, 1]})
    >>> bool(torch.isclose(loss.energy(other), loss.energy(loss.position())))
    True
    """
    groups = _symmetries(network_loss)
    given, back = _vector(network_loss, "position", position)
    orders = {name: np.arange(size) for name, size in groups.sizes.items()}
    for name, order in permutations.items():
        if name not in orders:
            raise ConfigError(f"no group of units {name!r}: expected some of {list(orders)}")
        orders[name] = _checked_order(name, order, groups)
    return back(_permuted(network_loss, groups, given, orders))


def _gain(
    groups: Symmetries, name: str, fixed: Mapping[str, Tensor], moved: Mapping[str, Tensor], orders: Permutations
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sum of products of all weights that row unit i of the reference has with unit j of the position."""
    size = groups.sizes[name]
    gain = torch.zeros(size, size, dtype=torch.float64)
    others = {**orders, name: np.arange(size)}
    for parameter, axes in groups.axes.items():
        if parameter not in moved:
            continue  # a buffer
        for axis, members in axes.items():
            if name in members:
                first = sum(groups.sizes[member] for member in members[: members.index(name)])
                mine = fixed[parameter].movedim(axis, 0)[first : first + size].reshape(size, -1)
                theirs = _reorder(groups, parameter, moved[parameter], others)
                gain += mine @ theirs.movedim(axis, 0)[first : first + size].reshape(size, -1).T
    return gain.numpy()


def _reorder(groups: Symmetries, parameter: str, values: Tensor, orders: Permutations) -> Tensor:
    """A parameter or buffer with every axis in the order of its groups."""
    for axis, members in groups.axes.get(parameter, {}).items():
        starts = np.cumsum([0, *(groups.sizes[member] for member in members)])
        index = np.concatenate([start + orders[member] for start, member in zip(starts, members, strict=False)])
        values = values.index_select(axis, torch.from_numpy(index).to(values.device))
    return values


def _permuted(loss: NetworkLoss, groups: Symmetries, vector: Tensor, orders: Permutations) -> Tensor:
    parts = loss.layout.unflatten(vector)
    return torch.cat([_reorder(groups, name, value, orders).reshape(-1) for name, value in parts.items()])


def _named(loss: NetworkLoss, groups: Symmetries, vector: Tensor) -> dict[str, Tensor]:
    """Parameters in float64 on the CPU, where the assignments are solved."""
    parts = loss.layout.unflatten(vector.to("cpu", torch.float64))
    return {name: value for name, value in parts.items() if name in groups.axes}


def _symmetries(loss: NetworkLoss) -> Symmetries:
    if not isinstance(loss, NetworkLoss):
        raise ConfigError(f"expected a NetworkLoss, got {type(loss).__name__}")
    if loss.batchnorm == "frozen":
        raise ConfigError(
            'with batchnorm="frozen" the statistics belong to one order of the units, and a permuted position is '
            'another function: use batchnorm="reestimate" or "batch"'
        )
    groups = symmetries_of(loss.module)
    frozen = sorted(set(dict(loss.module.named_parameters())) & set(groups.axes) - {slot.name for slot in loss.layout})
    if frozen:
        raise ConfigError(f"{frozen[0]!r} does not require a gradient, so its units cannot be permuted with the others")
    return groups


def _vector(loss: NetworkLoss, name: str, position: Any) -> tuple[Tensor, Any]:
    if tuple(np.shape(position)) != (loss.dim,):
        raise ShapeError(f"{name} must be one position of shape ({loss.dim},), got {tuple(np.shape(position))}")
    tensor, back = loss._tensor(position)
    return tensor.detach(), back


def _checked_order(name: str, order: Any, groups: Symmetries) -> np.ndarray[Any, np.dtype[np.int64]]:
    size = groups.sizes[name]
    array = np.asarray(order)
    if array.dtype.kind not in "iu" or sorted(array.tolist()) != list(range(size)):
        raise ConfigError(f"the order of {name!r} must hold each of 0 to {size - 1} once, got {order!r}")
    for block in groups.blocks.get(name, []):
        blocks = array.reshape(-1, block) // block
        if (blocks != blocks[:, :1]).any():
            raise ConfigError(f"the order of {name!r} tears apart blocks of {block} that a group normalisation joins")
    return array.astype(np.int64)
