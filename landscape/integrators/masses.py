"""Masses of the coordinates: M in H = V + p M^-1 p/2, a number, one per coordinate or a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.common.positions import unmasked
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.step_context import StepContext
from landscape.potentials.base import Potential

__all__ = [
    "Mass",
    "Stretch",
    "check_dim",
    "check_mass",
    "check_mirrors",
    "couples",
    "inverse_mass",
    "lightest",
    "rows",
    "stretch_of",
]

Mass: TypeAlias = float | Sequence[Any] | NDArray[Any] | None


def check_mass(mass: Mass, *, matrix: bool = False) -> None:
    """Refuse masses that are not positive; matrices unless they are allowed, symmetric and positive definite.

    Raises
    ------
    ConfigError, ShapeError
    """
    if mass is None:
        return
    kinds = "a number or one per coordinate" + (", or a matrix" if matrix else "")
    try:
        values = unmasked(mass.cpu() if isinstance(mass, Tensor) else mass, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"mass must be {kinds}, got {mass!r}") from None
    if isinstance(mass, bool) or values.ndim > 1 + matrix or not values.size:
        raise ShapeError(f"mass must be {kinds}, got shape {values.shape}")
    if values.ndim == 2:
        if values.shape[0] != values.shape[1]:
            raise ShapeError(f"a mass matrix must be square, got shape {values.shape}")
        if not np.isfinite(values).all() or not np.allclose(values, values.T, rtol=1e-9, atol=0):
            raise ConfigError("a mass matrix must be finite and symmetric")
        lowest = float(np.linalg.eigvalsh(values)[0])
        if lowest <= 0:
            raise ConfigError(f"a mass matrix must be positive definite, its lowest eigenvalue is {lowest:g}")
    elif not (np.isfinite(values) & (values > 0)).all():
        raise ConfigError(f"mass must be finite and positive, got {mass!r}")


def couples(mass: Mass) -> bool:
    """Whether it is a matrix."""
    return mass is not None and np.asarray(mass).ndim == 2


def check_mirrors(mass: Mass, walls: Any) -> None:
    """Refuse mirrors beside a mass matrix, which mixes what a mirror turns round.

    Raises
    ------
    ConfigError
    """
    if couples(mass) and walls.mirrors:
        raise ConfigError("a mass matrix couples coordinates, and mirrors turn single momenta: give a mass each")


def check_dim(mass: Mass, potential: Potential) -> None:
    """Refuse masses of another number of coordinates.

    Raises
    ------
    ShapeError
    """
    shape = np.shape(mass) if mass is not None else ()
    if shape and shape[0] != potential.dim:
        raise ShapeError(f"there are masses of {shape[0]} coordinates, the potential has {potential.dim}")


def rows(mass: Mass, dim: int) -> NDArray[np.float64]:
    """One mass per coordinate, ``(dim,)``; 1 where there is none."""
    return np.array(np.broadcast_to(np.asarray(1.0 if mass is None else mass, dtype=np.float64), (dim,)))


def lightest(mass: Mass) -> float:
    """The least mass: of a matrix its lowest eigenvalue."""
    if mass is None:
        return 1.0
    values = np.asarray(mass, dtype=np.float64)
    return float(np.linalg.eigvalsh(values)[0] if values.ndim == 2 else values.min())


def inverse_mass(mass: Mass, at: StepContext, position: Tensor) -> tuple[Any, Any]:
    """1/M and sqrt(M) as rows over coordinates; numbers 1 where there is no mass, which leave every bit as it is."""
    if mass is None:
        return 1.0, 1.0
    if "masses" not in at.cache:
        values = torch.as_tensor(rows(mass, position.shape[1]))
        at.cache["masses"] = (1.0 / values).to(position), values.sqrt().to(position)
    found: tuple[Tensor, Tensor] = at.cache["masses"]
    return found


@dataclass(frozen=True, slots=True)
class Stretch:
    """S with S S^T = M^-1. In u = S^T p the kinetic energy is u^2/2, and x follows S u.

    Attributes
    ----------
    matrix : tensor ``(dim,)`` of a diagonal S, ``(dim, dim)``, or None for M = 1
    """

    matrix: Tensor | None

    def out(self, moves: Tensor) -> Tensor:
        """S u of rows ``(chains, dim)``."""
        if self.matrix is None:
            return moves
        return moves * self.matrix if self.matrix.ndim == 1 else moves @ self.matrix.mT

    def back(self, slopes: Tensor) -> Tensor:
        """S^T g of rows ``(chains, dim)``."""
        if self.matrix is None:
            return slopes
        return slopes * self.matrix if self.matrix.ndim == 1 else slopes @ self.matrix


def stretch_of(mass: Mass, at: StepContext, position: Tensor) -> Stretch:
    """S of a mass, kept between steps."""
    if mass is None:
        return Stretch(None)
    if "stretch" not in at.cache:
        values = torch.as_tensor(np.asarray(mass, dtype=np.float64))
        if values.ndim < 2:
            matrix = values.rsqrt().expand(position.shape[1])
        else:  # M = L L^T, S = L^-T
            lower = torch.linalg.cholesky(values)
            matrix = torch.linalg.solve_triangular(lower, torch.eye(len(values), dtype=values.dtype), upper=False).mT
        at.cache["stretch"] = Stretch(matrix.to(position))
    found: Stretch = at.cache["stretch"]
    return found
