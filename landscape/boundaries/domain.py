"""Where a path may go: reflecting boundaries that its pivots stay within, periods whose short way it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from landscape.boundaries.constraints import Constraint, resolve_walls
from landscape.boundaries.walls import PERIODIC, REFLECT, Walls
from landscape.checks import an_instance
from landscape.errors import ConfigError
from landscape.potentials.base import Potential

__all__ = ["Domain", "Within", "domain_of"]

Within: TypeAlias = Constraint | Sequence[Constraint] | None
POINTS: Final = 16  # at which the energy is compared one period on
ROUNDING: Final = 1e-6  # of the energies there


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """A box that a path stays in, and the periods of its coordinates.

    A path is unfolded: along a periodic coordinate its pivots may lie beyond one period. At a boundary the gradient has
    no component that would push through it, so that a path at rest there is one under constraint.

    Attributes
    ----------
    walls : Walls
    tables : list of dict
        The constraints as plain data.
    """

    walls: Walls
    tables: list[dict[str, Any]]

    def inside(self, points: Tensor) -> Tensor:
        """Points ``(P, N)`` brought back to the nearest ones within the boundaries."""
        if not (self.walls.kinds == REFLECT).any():
            return points
        low, high = self._sides(points)
        return points.maximum(low).minimum(high)

    def inward(self, points: Tensor, gradients: Tensor) -> Tensor:
        """Gradients ``(P, N)`` without what would push points at a boundary, or beyond it, further out."""
        if not (self.walls.kinds == REFLECT).any():
            return gradients
        low, high = self._sides(points)
        out = ((points <= low) & (gradients > 0)) | ((points >= high) & (gradients < 0))
        return gradients.masked_fill(out, 0.0)

    def unfolded(self, points: Tensor) -> Tensor:
        """Points ``(P, N)`` moved by whole periods, so that each step from one to the next is the short way."""
        if not self.walls.winds:
            return points
        periods = torch.as_tensor(self.walls.periods).to(points)
        steps = points.diff(dim=0)
        turns = torch.where(periods > 0, (steps / periods.where(periods > 0, 1.0)), 0.0)
        whole = torch.where(turns.abs() > 0.5, turns.round(), 0.0)  # just half a period stays as it was given
        return torch.cat([points[:1], points[1:] - (whole * periods).cumsum(0)])

    def check(self, potential: Potential, points: Tensor) -> None:
        """Refuse ends beyond a boundary, and an energy that has not the period of its coordinates.

        Raises
        ------
        ConfigError
        """
        called = potential.coordinate_name
        ends = points[[0, -1]].cpu().double().numpy()
        outside = np.argwhere(self.walls.outside(ends))
        if len(outside):
            which, d = (int(i) for i in outside[0])
            raise ConfigError(
                f"the {('start', 'end')[which]} of the path has {called(d)} = {ends[which, d]:g}, beyond the wall "
                f"({self.walls.lows[d]:g}, {self.walls.highs[d]:g}): give an end inside"
            )
        t = torch.linspace(0, 1, POINTS, dtype=points.dtype, device=points.device)[:, None]
        between = torch.lerp(points[:1], points[-1:], t)
        for d in (int(number) for number in np.flatnonzero(self.walls.kinds == PERIODIC)):
            on = between.clone()
            on[:, d] += float(self.walls.periods[d])
            with torch.no_grad():
                here, there = potential.energy(between), potential.energy(on)
            rise = float((there - here).abs().max())
            if not rise <= ROUNDING * float(here.abs().max() + there.abs().max() + 1e-300):
                raise ConfigError(
                    f"V rises by {rise:.6g} in one period of {called(d)!r}: a path is unfolded and compares energies, "
                    f"so give an energy that has the period {self.walls.periods[d]:g} itself (of cos and sin, say)"
                )

    def spec(self) -> dict[str, Any]:
        """What of it belongs to the settings of a search: nothing, where only the potential's own bounds count."""
        return {"constraint": self.tables} if self.tables else {}

    def _sides(self, like: Tensor) -> tuple[Tensor, Tensor]:
        folds = self.walls.kinds == REFLECT
        low = np.where(folds, self.walls.lows, -np.inf)
        high = np.where(folds, self.walls.highs, np.inf)
        return torch.as_tensor(low).to(like), torch.as_tensor(high).to(like)


def domain_of(potential: Potential, constraint: Within) -> Domain:
    """Walls and periods that are given, and the potential's bounds for every other coordinate, as for `simulate`.

    Raises
    ------
    ConfigError
        For what `simulate` refuses, and for boundaries that absorb.
    """
    an_instance("potential", potential, Potential)
    walls = resolve_walls(potential, constraint)
    if walls.absorbs:
        raise ConfigError("a path has no use for walls that absorb: give Reflect or Periodic")
    given = [constraint] if isinstance(constraint, Constraint) else list(() if constraint is None else constraint)
    return Domain(walls, [one.spec() for one in given])
