"""Permutations of hidden units: the same function, other weights; and the ones that bring two networks together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.errors import ConfigError, ShapeError
from landscape.paths.assignment import best_assignment
from landscape.paths.symmetries import Orders, Symmetries, check_same_function, symmetries_of
from landscape.potentials.base import has_samples
from landscape.potentials.network.potential import NetworkLoss

__all__ = ["align", "permute"]

Permutations = Mapping[str, Any]  # group -> order of its units: unit i of the result is unit order[i] of the given
MARGIN = 1e-9  # relative gain below which another sweep is rounding


@guarded
def align(network_loss: NetworkLoss, reference: Any, position: Any, *, sweeps: int = 100) -> Any:
    """Permute the hidden units of a network so that its weights come closest to a reference's.

    Weight matching: over permutations P of the interchangeable units, maximise sum_w <w_reference, P w> over all
    parameters w, which minimises |reference - P position|. Group by group, given all other groups, that is a linear
    assignment, solved exactly; sweeps over the groups repeat until none gains. Units that a parameter has twice, as
    the weights of a recurrent layer have, are moved if the sum itself gains.

    The units are read from the operations of one forward pass: axes of parameters that have to be permuted alike are
    one group, through skips, tied and reused layers, reshapes, convolutions, normalisations and attention (whose heads
    are a group, and the units within a head another, in the same order in all heads). The channels of a residual stream
    are one group through all blocks that share it (channels that a shortcut pads in are a further one); those that a
    group normalisation treats together stay together. Units that meet a constant, a buffer, a frozen parameter or an
    operation whose rule is not known stay where they are. The permuted network is compared with the given one on some
    samples.

    Parameters
    ----------
    network_loss : NetworkLoss
        Of any module that has units which may be permuted.
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
        For a module without such units, naming what holds them; if the permuted network is another function (in
        float64, on four samples); for batch normalisation with frozen statistics, which belong to one order of units.
    ShapeError

    Notes
    -----
    Reading takes one forward pass on four samples, once for each loss, and each call two more.

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
    coupled = {name for name in orders if _meets_itself(groups, name, fixed)}
    for _ in range(sweeps):
        gained = False
        for name in groups.sizes:
            gain = _gain(groups, name, fixed, moved, orders)
            best = best_assignment(gain, groups.blocks.get(name, ()))
            rows = np.arange(len(best))
            if name in coupled:  # the gains hold for small changes only
                before, after = (_overlap(groups, fixed, moved, orders | {name: one}) for one in (orders[name], best))
            else:
                before, after = gain[rows, orders[name]].sum(), gain[rows, best].sum()
            if after > before + MARGIN * abs(gain).max() * len(best):
                orders[name], gained = best, True
        if not gained:
            break
    return back(_permuted(network_loss, groups, given, orders))


@guarded
def permute(network_loss: NetworkLoss, position: Any, permutations: Permutations) -> Any:
    """A position with its hidden units in another order: unit i of a group becomes its unit ``order[i]``.

    Parameters
    ----------
    network_loss : NetworkLoss
    position : tensor or array, shape ``(dim,)``
    permutations : mapping of str to sequence of int
        Order of the units of each group; a group is named after the first layer that makes its units ("0" in a
        Sequential; "0:2" for a second group of that layer, as the units within the heads of attention are), and groups
        that are not named stay. In the package's residual networks they are "stream", "blocks.0", "blocks.0.stream".

    Returns
    -------
    tensor or array, shape ``(dim,)``

    Raises
    ------
    ConfigError
        For groups that do not exist, and orders that are none or tear apart what a group normalisation joins; as for
        `align`.

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
    groups: Symmetries, name: str, fixed: Mapping[str, Tensor], moved: Mapping[str, Tensor], orders: Orders
) -> NDArray[np.float64]:
    """Sum of products of all weights that unit i of the reference has with unit j of the position.

    Where a parameter has the units more than once the other occurrences are as they stand.
    """
    size = groups.sizes[name]
    gain = torch.zeros(size, size, dtype=torch.float64)
    for parameter, reference in fixed.items():
        for axis, what in groups.axes[parameter].items():
            for number, (member, at) in enumerate(groups.members(what)):
                if member != name:
                    continue
                here = groups.reordered(parameter, moved[parameter], orders, still=(axis, number))
                index = torch.from_numpy(np.ascontiguousarray(at.reshape(-1)))
                mine, theirs = (
                    one.index_select(axis, index).movedim(axis, 0).reshape(size, -1) for one in (reference, here)
                )
                gain += mine @ theirs.T
    return gain.numpy()


def _overlap(groups: Symmetries, fixed: Mapping[str, Tensor], moved: Mapping[str, Tensor], orders: Orders) -> float:
    """The sum that is maximised."""
    return sum(float((one * groups.reordered(name, moved[name], orders)).sum()) for name, one in fixed.items())


def _meets_itself(groups: Symmetries, name: str, parameters: Iterable[str]) -> bool:
    """Whether a parameter has the units of a group more than once, as the weights of a recurrent layer have."""
    return any(
        [member for axis in groups.axes[parameter].values() for member, _ in groups.members(axis)].count(name) > 1
        for parameter in parameters
    )


def _permuted(loss: NetworkLoss, groups: Symmetries, vector: Tensor, orders: Orders) -> Tensor:
    """A permuted position, seen to be the same function."""
    check_same_function(loss, groups, vector, orders)
    parts = loss.layout.unflatten(vector)
    return torch.cat([groups.reordered(name, value, orders).reshape(-1) for name, value in parts.items()])


def _named(loss: NetworkLoss, groups: Symmetries, vector: Tensor) -> dict[str, Tensor]:
    """Parameters in float64 on the CPU, where the assignments are solved."""
    parts = loss.layout.unflatten(vector.to("cpu", torch.float64))
    return {name: value for name, value in parts.items() if name in groups.axes}


def _symmetries(loss: NetworkLoss) -> Symmetries:
    if not has_samples(loss):
        raise ConfigError(f"expected a NetworkLoss, got {type(loss).__name__}")
    if loss.batchnorm == "frozen":
        raise ConfigError(
            'with batchnorm="frozen" the statistics belong to one order of the units, and a permuted position is '
            'another function: use batchnorm="reestimate" or "batch"'
        )
    return symmetries_of(loss)


def _vector(loss: NetworkLoss, name: str, position: Any) -> tuple[Tensor, Any]:
    try:
        tensor, back = loss._tensor(position)
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from None
    if tuple(tensor.shape) != (loss.dim,):
        raise ShapeError(f"{name} must be one position of shape ({loss.dim},), got {tuple(tensor.shape)}")
    return tensor.detach(), back


def _checked_order(name: str, order: Any, groups: Symmetries) -> NDArray[np.int64]:
    size = groups.sizes[name]
    array = np.asarray(order)
    if array.dtype.kind not in "iu" or sorted(array.tolist()) != list(range(size)):
        raise ConfigError(f"the order of {name!r} must hold each of 0 to {size - 1} once, got {order!r}")
    for block in groups.blocks.get(name, []):
        blocks = array.reshape(-1, block) // block
        if (blocks != blocks[:, :1]).any():
            raise ConfigError(f"the order of {name!r} tears apart blocks of {block} that a group normalisation joins")
    return array.astype(np.int64)
