"""A bias on a grid of collective coordinates: what hills add up to, and its interpolation with an exact gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.potentials.base import Potential

__all__ = ["Axis", "Bias", "Biased"]

GHOSTS = 3  # nodes beyond the cells of an axis: cubic interpolation looks at one before and two after


@dataclass(frozen=True, slots=True)
class Axis:
    """Nodes of one collective coordinate: `cells` cells from low to high, closed where it is periodic.

    `mirrors` says at which of its ends a boundary reflects, where hills have images.
    """

    low: float
    high: float
    cells: int
    periodic: bool
    mirrors: tuple[bool, bool]

    @property
    def spacing(self) -> float:
        """Distance between nodes."""
        return (self.high - self.low) / self.cells

    @property
    def nodes(self) -> NDArray[np.float64]:
        """Places of the nodes, one before the low end and two after the high one included."""
        return self.low + self.spacing * np.arange(-1.0, self.cells + GHOSTS - 1)

    @property
    def inner(self) -> NDArray[np.float64]:
        """Places of the nodes from low to high; of a period its end is its beginning."""
        return self.nodes[1 : self.cells + (1 if self.periodic else 2)]

    def hill(self, center: Tensor, width: float) -> Tensor:
        """exp[-(q - c)^2 / 2 w^2] at the nodes ``(chains, nodes)``, with images in mirrors and periods."""
        nodes = torch.as_tensor(self.nodes, device=center.device)
        length = self.high - self.low
        centers = [center]
        if self.periodic:
            centers = [center - length, center, center + length]
        if self.mirrors[0]:
            centers.append(2.0 * self.low - center)
        if self.mirrors[1]:
            centers.append(2.0 * self.high - center)
        gaussians = [torch.exp(-0.5 * ((nodes - one[:, None]) / width) ** 2) for one in centers]
        return torch.stack(gaussians).sum(dim=0)

    def holds(self, q: Tensor) -> Tensor:
        """Which values are finite and on the grid."""
        return torch.isfinite(q) if self.periodic else (q >= self.low) & (q <= self.high)

    def place(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First of the four nodes around each value, its place between 0 and 1 in the cell, and whether it is inside.

        Beyond an end the bias is what it is there.
        """
        u = (q - self.low) / self.spacing
        inside = torch.ones_like(u, dtype=torch.bool)
        if self.periodic:
            u = u - self.cells * torch.floor(u / self.cells)
        else:
            inside = (u >= 0.0) & (u <= self.cells)
        u = torch.nan_to_num(u, nan=0.0).clamp(0.0, float(self.cells))
        first = u.floor().clamp(max=self.cells - 1.0)
        return first.long(), u - first, inside


def _weights(f: Tensor) -> tuple[Tensor, Tensor]:
    """Of four nodes in cubic convolution, and their derivatives, ``(4, chains)``."""
    value = torch.stack([
        ((-0.5 * f + 1.0) * f - 0.5) * f, (1.5 * f - 2.5) * f * f + 1.0,
        ((-1.5 * f + 2.0) * f + 0.5) * f, (0.5 * f - 0.5) * f * f,
    ])  # fmt: skip
    slope = torch.stack([
        (-1.5 * f + 2.0) * f - 0.5, (4.5 * f - 5.0) * f, (-4.5 * f + 4.0) * f + 0.5, (1.5 * f - 1.0) * f,
    ])  # fmt: skip
    return value, slope


class Bias:
    """The bias of each group of chains on a grid in one or two collective coordinates, as it is at the moment.

    Between nodes it is the cubic convolution of Keys (1981), once differentiable, whose gradient is taken as it stands.

    Attributes
    ----------
    table : tensor ``(groups, nodes[, nodes])``, float64
    group : tensor ``(chains,)``
        Which table each chain feels.
    """

    def __init__(self, fields: Sequence[Potential], axes: Sequence[Axis], group: Tensor) -> None:
        self.fields, self.axes, self.group = tuple(fields), tuple(axes), group
        groups = int(group.max()) + 1
        shape = [axis.cells + GHOSTS for axis in axes]
        self.table = torch.zeros((groups, *shape), dtype=torch.float64, device=group.device)

    def on(self, potential: Potential) -> Biased:
        """The landscape with this bias on it."""
        return Biased(potential, self)

    def values(self, position: Tensor) -> list[Tensor]:
        """The collective coordinates of each chain, ``(chains,)`` each."""
        return [field.energy(position).double() for field in self.fields]

    def energy(self, position: Tensor) -> Tensor:
        """The bias that each chain feels, ``(chains,)``."""
        return self.at(self.values(position))[0].to(position.dtype)

    def gradient(self, position: Tensor) -> Tensor:
        """Its gradient, ``(chains, dim)``."""
        _, slopes = self.at(self.values(position))
        parts = [
            slope[:, None].to(position.dtype) * field.gradient(position)
            for slope, field in zip(slopes, self.fields, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)

    def at(self, values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Bias and its derivatives at collective coordinates, ``(chains,)`` each."""
        places = [axis.place(q) for axis, q in zip(self.axes, values, strict=True)]
        weights = [_weights(f) for _, f, _ in places]
        window = torch.arange(4, device=self.group.device)
        flat, width = self.table.reshape(len(self.table), -1), self.table.shape[-1]
        rows = places[0][0][:, None] + window
        index = rows if len(places) == 1 else rows[:, :, None] * width + places[1][0][:, None, None] + window
        chosen = flat[self.group[:, None], index.reshape(len(index), -1)].reshape(index.shape)
        if len(places) == 1:
            value, slopes = _dot(weights[0][0], chosen), [_dot(weights[0][1], chosen)]
        else:
            across, tilted = (torch.stack([_dot(w, chosen[:, i]) for i in range(4)], dim=1) for w in weights[1])
            value = _dot(weights[0][0], across)
            slopes = [_dot(weights[0][1], across), _dot(weights[0][0], tilted)]
        inward = [torch.where(place[2], slope / axis.spacing, 0.0)
                  for axis, slope, place in zip(self.axes, slopes, places, strict=True)]  # fmt: skip
        return value, inward

    def add(self, height: Tensor, width: Sequence[float], tempering: Tensor, position: Tensor) -> None:
        """A hill at each chain that is on the grid, its height times exp(-bias / tempering), ``(chains,)`` both."""
        values = self.values(position)
        here, _ = self.at(values)
        on = torch.stack([axis.holds(q) for axis, q in zip(self.axes, values, strict=True)]).all(dim=0)
        size = torch.where(on, height * torch.exp(-here / tempering), 0.0)
        shapes = [axis.hill(torch.nan_to_num(q), w) for axis, q, w in zip(self.axes, values, width, strict=True)]
        hill = size[:, None] * shapes[0]
        if len(shapes) == 2:
            hill = hill[:, :, None] * shapes[1][:, None, :]
        if len(self.table) == len(hill):
            self.table += hill
        else:  # groups are equal and in order
            self.table += hill.reshape(len(self.table), -1, *hill.shape[1:]).sum(dim=1)

    def inner(self) -> Tensor:
        """The bias at the nodes between the ends, ``(groups, nodes[, nodes])``."""
        cut = self.table
        for dim, axis in enumerate(self.axes, start=1):
            cut = cut.narrow(dim, 1, len(axis.inner))
        return cut

    def offset(self, temperature: Tensor, factor: float) -> Tensor:
        r"""c(t) of Tiwary and Parrinello for each chain, from ``temperature (groups,)``.

        exp(c/T) = int exp[g/(g-1) V/T] dq / int exp[V/((g-1) T)] dq, with the bias factor g.
        """
        scaled = self.inner().reshape(len(self.table), -1) / temperature[:, None]
        weight = torch.ones(1, dtype=torch.float64, device=scaled.device)
        for axis in self.axes:  # half a cell at an end that is not closed
            ends = torch.ones(len(axis.inner), dtype=torch.float64, device=scaled.device)
            if not axis.periodic:
                ends[0] = ends[-1] = 0.5
            weight = (weight[:, None] * ends).reshape(-1)
        shares = factor / (factor - 1.0), 1.0 / (factor - 1.0)
        logs = [torch.logsumexp(scaled * share + weight.log(), dim=1) for share in shares]
        return (temperature * (logs[0] - logs[1]))[self.group]


def _dot(weights: Tensor, chosen: Tensor) -> Tensor:
    """Sum over four nodes, of ``(4, chains)`` and ``(chains, 4)``, in one order."""
    return ((weights[0] * chosen[:, 0] + weights[1] * chosen[:, 1]) + weights[2] * chosen[:, 2]) + weights[3] * chosen[
        :, 3
    ]


class Biased(Potential):
    """A landscape with a bias on it. Positions are those of all chains."""

    def __init__(self, potential: Potential, bias: Bias) -> None:
        self.potential, self.bias = potential, bias
        self.dim, self.coordinates, self.bounds = potential.dim, potential.coordinates, potential.bounds

    def _energy(self, position: Tensor) -> Tensor:
        return self.potential._energy(position) + self.bias.energy(position)

    def _gradient(self, position: Tensor) -> Tensor:
        return self.potential._gradient(position) + self.bias.gradient(position)

    def step_gradient(self, position: Tensor, *, step: int, keys: object = None) -> Tensor:
        """Gradient that the dynamics follows, ``(chains, dim)``."""
        return self.potential.step_gradient(position, step=step, keys=keys) + self.bias.gradient(position)
