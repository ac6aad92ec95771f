"""Functions of position that are no energies, in whatever way they are given: coordinates to hold, levels to cross."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import sympy
import torch
from torch import Tensor

from landscape.common.positions import plain_array
from landscape.errors import ShapeError
from landscape.potentials.base import Potential
from landscape.potentials.expression.potential import Expression, timeless
from landscape.potentials.function import Function

__all__ = ["Coordinate", "scalar_field"]

Coordinate: TypeAlias = str | int | Sequence[float] | Callable[[Tensor], Tensor] | Potential


def scalar_field(potential: Potential, coordinate: Coordinate) -> Potential:
    """A function of position q(x) as a Potential, whose energy is q and whose gradient is that of q.

    Raises
    ------
    ConfigError, ShapeError
    """
    names = potential.coordinates
    if isinstance(coordinate, Potential):
        if coordinate.dim != potential.dim:
            raise ShapeError(f"the coordinate depends on {coordinate.dim} numbers, the landscape on {potential.dim}")
        return coordinate
    if isinstance(coordinate, str):
        if names is None:
            potential.coordinate_index(coordinate)  # says that there are no names
        return timeless(Expression(coordinate, names or ()))
    if callable(coordinate):
        return Function(coordinate, potential.dim)
    if isinstance(coordinate, int | np.integer):
        vector = np.eye(potential.dim)[potential.coordinate_index(int(coordinate))]
    else:
        vector = plain_array(coordinate, "a coordinate as a vector").astype(float)
    if vector.shape != (potential.dim,) or not np.isfinite(vector).all() or not vector.any():
        raise ShapeError(f"a coordinate as a vector must be ({potential.dim},), finite, not 0: got {coordinate!r}")
    if isinstance(potential, Expression):
        terms = [sympy.Float(u) * s for u, s in zip(vector, potential._symbols(), strict=True) if u]
        return Expression(sympy.Add(*terms), names or ())
    direction = torch.as_tensor(vector)
    return Function(lambda x: x @ direction.to(x), potential.dim)
