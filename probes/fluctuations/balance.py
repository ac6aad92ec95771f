"""Runs that are not in equilibrium, or in one that is not that of their potential."""

from __future__ import annotations

from typing import Any

import xarray as xr

from landscape.errors import ConfigError

__all__ = ["is_driven", "refuse_biased", "refuse_driven"]


def is_driven(*values: Any) -> bool:
    """Whether some of these series, or runs, are of forces that are the gradient of no energy."""
    return bool(_marks("driven", values))


def _marks(mark: str, values: tuple[Any, ...]) -> set[str]:
    """What the variables of series and runs carry as an attribute."""
    parts = [part for one in values for part in (one.data_vars.values() if isinstance(one, xr.Dataset) else [one])]
    return {str(part.attrs[mark]) for part in parts if mark in getattr(part, "attrs", {})}


def refuse_biased(who: str, *values: Any) -> None:
    """Refuse to take the law of a run under a bias for that of its potential.

    Raises
    ------
    ConfigError
    """
    found = _marks("biased", values)
    if found:
        raise ConfigError(
            f"{who} takes the law of a run for exp(-V/T), and this one was biased {' and '.join(sorted(found))}. "
            "The unbiased profile is that of free_energy.mbar, which takes the restraints out, or, of a run with "
            "hills, free_energy.metadynamics; for the biased law itself give values without attributes"
        )


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
