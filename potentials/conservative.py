"""What relies on an energy refuses forces that have none."""

from __future__ import annotations

from typing import Any

from landscape.common.schedules import Schedule
from landscape.errors import ConfigError

__all__ = ["needs_energy"]


def needs_energy(who: str, *potentials: Any, per_chain: bool = False) -> None:
    """Refuse forces that are not minus the gradient of one energy, the same at all times.

    Parameters
    ----------
    who : str
        What relies on the energy, for the message.
    *potentials : Potential
        Anything else is left to others to refuse.
    per_chain : bool
        Whether each chain may have an energy of its own.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> from landscape.potentials import Drift
    >>> needs_energy("minimize", Drift("y", "-x", coordinates=["x", "y"]))
    Traceback (most recent call last):
    ...
    landscape.errors.ConfigError: minimize relies on forces -grad V, whose law in equilibrium is exp(-V/T); those of \
Drift(drift=['y', '-x'], coordinates=['x', 'y']) are the gradient of no energy: simulate it with EulerMaruyama, say
    """
    for one in potentials:
        if not getattr(one, "conservative", True):
            raise ConfigError(
                f"{who} relies on forces -grad V, whose law in equilibrium is exp(-V/T); those of {one!r} are the "
                "gradient of no energy: simulate it with EulerMaruyama, say"
            )
        numbers = getattr(one, "varying", {})
        if any(isinstance(value, Schedule) for value in numbers.values()):
            raise ConfigError(
                f"{who} relies on one energy, and that of {one!r} changes in time: take that of a moment, "
                "formula.at(time), or a rule that follows the force, such as EulerMaruyama or BAOAB"
            )
        if numbers and not per_chain:
            raise ConfigError(f"{who} relies on one energy for all chains: take formula.at(chain=number)")
