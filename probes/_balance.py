"""Runs that are not in equilibrium."""

from __future__ import annotations

from typing import Any

import xarray as xr

from landscape.errors import ConfigError

__all__ = ["is_driven", "refuse_driven"]


def is_driven(*values: Any) -> bool:
    """Whether some of these series, or runs, are of forces that are the gradient of no energy."""
    found = False
    for one in values:
        parts = one.data_vars.values() if isinstance(one, xr.Dataset) else [one]
        found |= any("driven" in getattr(part, "attrs", {}) for part in parts)
    return found


def refuse_driven(who: str, *values: Any) -> None:
    """Refuse to take a driven steady state for an equilibrium.

    Raises
    ------
    ConfigError
    """
    if is_driven(*values):
        raise ConfigError(
            f"{who} takes the law of a run for exp(-V/T), and the forces of this one are the gradient of no energy: "
            "its density and currents are those of fluctuations.current"
        )
