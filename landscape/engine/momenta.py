"""Momenta that a run is given to start with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.common.positions import ordered
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.base import Integrator
from landscape.potentials.base import Potential

__all__ = ["given_momenta"]


def given_momenta(potential: Potential, integrator: Integrator, momentum: Any, *, keep: bool) -> Tensor:
    """Momenta ``(dim,)`` of all chains or ``(chain, dim)``, checked.

    Raises
    ------
    ConfigError
        If the rule has no momentum, or the run that it goes on from has its own; for values that are not finite.
    ShapeError
    """
    if "momentum" not in integrator.memory_names:
        raise ConfigError(f"{type(integrator).__name__} has no momentum: give one to BAOAB, SGHMC or SGD, or none")
    if keep:
        raise ConfigError('state="keep" goes on with the momenta of the run: give momentum with state="fresh"')
    if getattr(momentum, "name", None) == "last_momentum":
        raise ConfigError(
            'last_momentum may lack half a kick: record the observable "momentum" and give its last draw, or go on '
            'with state="keep"'
        )
    try:
        given = ordered(momentum, potential.coordinates, potential.dim, "momenta")
    except ShapeError as error:
        expected = f"({potential.dim},) or (chain, {potential.dim})"
        raise ConfigError(f"momentum must be numbers, {expected}: {error}") from None
    values = torch.as_tensor(np.array(given, dtype=np.float64))
    if values.ndim not in (1, 2) or values.shape[-1] != potential.dim or not values.numel():
        raise ShapeError(
            f"momentum must be ({potential.dim},) or (chain, {potential.dim}), got shape {tuple(values.shape)}"
        )
    if not bool(torch.isfinite(values).all()):
        raise ConfigError("momentum must be finite numbers")
    return values
