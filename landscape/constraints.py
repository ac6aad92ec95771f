"""Walls and periods: where the coordinates of a formula or function may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.base import Potential, check_bounds

__all__ = ["Constraint", "Periodic", "Reflect", "Walls", "resolve_walls"]

OPEN, REFLECT, PERIODIC = range(3)


@dataclass(frozen=True, slots=True)
class Reflect:
    """Hard walls: a coordinate that steps over one is mirrored back.

    Parameters
    ----------
    walls : mapping of coordinate name to (low, high)
        None leaves a side open.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> box = ls.Reflect({"x": (0.0, 1.0)})
    >>> run = ls.simulate(flat, ls.Diffusion(dt=1.0), temperature=1.0, start=[0.5], steps=100, constraint=box)
    >>> bool((run.position >= 0).all() and (run.position <= 1).all())
    True
    """

    walls: Mapping[str, tuple[float | None, float | None]]

    def spec(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": "Reflect", "walls": {name: list(pair) for name, pair in self.walls.items()}}


@dataclass(frozen=True, slots=True)
class Periodic:
    """Periodic coordinates, kept in [low, high).

    Parameters
    ----------
    periods : mapping of coordinate name to (low, high)

    Examples
    --------
    >>> import landscape as ls
    >>> pendulum = ls.potentials.Expression("1 - cos(phi)", ["phi"])
    >>> circle = ls.Periodic({"phi": (-3.141592653589793, 3.141592653589793)})
    >>> run = ls.simulate(pendulum, ls.EulerMaruyama(dt=0.1), temperature=10.0, steps=100, constraint=circle)
    >>> bool((abs(run.position) <= 3.1416).all())
    True
    """

    periods: Mapping[str, tuple[float, float]]

    def spec(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": "Periodic", "periods": {name: list(pair) for name, pair in self.periods.items()}}


Constraint: TypeAlias = Reflect | Periodic


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """Kind of wall and its two sides for every coordinate, as arrays."""

    kinds: NDArray[np.int64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]

    @property
    def any(self) -> bool:
        """Whether any coordinate is confined."""
        return bool(self.kinds.any())

    def apply(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Positions folded back, and where a coordinate was mirrored an odd number of times; both ``(..., dim)``."""
        columns = list(position.unbind(-1))
        mirrored = [torch.zeros_like(column, dtype=torch.bool) for column in columns]
        for d in np.flatnonzero(self.kinds):
            low, high = float(self.lows[d]), float(self.highs[d])
            if self.kinds[d] == REFLECT:
                columns[d], mirrored[d] = _reflect(columns[d], low, high)
            else:
                columns[d] = _wrap(columns[d], low, high)
        return torch.stack(columns, dim=-1), torch.stack(mirrored, dim=-1)

    def outside(self, position: NDArray[Any]) -> NDArray[np.bool_]:
        """Where coordinates lie beyond a wall, same shape."""
        beyond: NDArray[np.bool_] = (self.kinds == REFLECT) & ((position < self.lows) | (position > self.highs))
        return beyond


def _reflect(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    if np.isinf(low):
        return torch.where(x > high, high - (x - high), x), x > high
    if np.isinf(high):
        return torch.where(x < low, low + (low - x), x), x < low
    width = high - low
    y = (x - low) / (2.0 * width)
    y = (y - y.floor()) * (2.0 * width)
    outside, odd = (x < low) | (x > high), y > width
    return torch.where(outside, low + torch.where(odd, 2.0 * width - y, y), x), outside & odd


def _wrap(x: Tensor, low: float, high: float) -> Tensor:
    y = (x - low) / (high - low)
    return torch.where((x >= low) & (x < high), x, low + (y - y.floor()) * (high - low))


def resolve_walls(potential: Potential, constraint: Constraint | Sequence[Constraint] | None) -> Walls:
    """Walls of a run: those named by constraints, and the potential's bounds for every other coordinate.

    Raises
    ------
    ConfigError
        For unknown coordinates, a coordinate named twice, or a constraint of another kind.
    """
    constraints = [constraint] if isinstance(constraint, Reflect | Periodic) else list(constraint or ())
    named: dict[str, tuple[int, float, float]] = {}
    for one in constraints:
        if not isinstance(one, Reflect | Periodic):
            raise ConfigError(f"a constraint must be Reflect or Periodic, got {type(one).__name__}")
        if potential.coordinates is None:
            raise ConfigError(f"{type(one).__name__} names coordinates, but this potential's have no names")
        kind, pairs = (REFLECT, one.walls) if isinstance(one, Reflect) else (PERIODIC, one.periods)
        for name, (low, high) in check_bounds(pairs, potential.coordinates).items():
            if name in named:
                raise ConfigError(f"coordinate {name!r} has two constraints: give it one")
            if kind == PERIODIC and not np.isfinite([low, high]).all():
                raise ConfigError(f"the period of {name!r} must be finite, got ({low}, {high})")
            named[name] = (kind, low, high)
    for name, (low, high) in potential.bounds.items():
        named.setdefault(name, (REFLECT, low, high))
    kinds = np.zeros(potential.dim, np.int64)
    lows, highs = np.full(potential.dim, -np.inf), np.full(potential.dim, np.inf)
    for name, (kind, low, high) in named.items():
        if np.isfinite(low) or np.isfinite(high):
            d = potential.coordinate_index(name)
            kinds[d], lows[d], highs[d] = kind, low, high
    return Walls(kinds, lows, highs)
