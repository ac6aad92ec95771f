"""Numbers of a run's energy that change in time or differ by chain, and the energy while they are held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.potentials.base import Potential
from landscape.restraints import Restrained, Restraints
from landscape.schedules import Schedule

__all__ = ["Held", "Numbers", "numbers_of", "varying_lengths"]


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """The numbers of a formula's `varying`, then center and stiffness of each spring.

    Attributes
    ----------
    rows : tuple of arrays ``(chains,)`` or schedules
    signed : tuple of bool
        Which of them may be negative.
    chains : int
    """

    rows: tuple[NDArray[np.float64] | Schedule, ...]
    signed: tuple[bool, ...]
    chains: int

    @property
    def changes(self) -> bool:
        """Whether any of them changes in time."""
        return any(isinstance(row, Schedule) for row in self.rows)

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their values ``(times, numbers, chains)`` at times ``(times, chains)``; one column where chains agree."""
        table = [
            row.at(times, self.chains, signed=signed) if isinstance(row, Schedule) else row[None]
            for row, signed in zip(self.rows, self.signed, strict=True)
        ]
        one = all(values.strides[1] == 0 or bool((values == values[:, :1]).all()) for values in table)
        filled = np.empty((len(times), len(table), 1 if one else self.chains))
        for number, values in enumerate(table):
            filled[:, number] = values[:, :1] if one else values
        return filled


def numbers_of(potential: Potential, restraints: Restraints | None, chains: int) -> Numbers | None:
    """The numbers that a run fills in, None if there are none."""
    own = [row if isinstance(row, Schedule) else np.broadcast_to(row, chains) for row in potential.varying.values()]
    springs = [] if restraints is None else restraints.rows
    if not own and not springs:
        return None
    return Numbers((*own, *springs), (True,) * len(own) + (True, False) * (len(springs) // 2), chains)


def varying_lengths(potential: Potential) -> dict[str, int | None]:
    """How many chains the numbers of a potential speak of."""
    return {
        f"the parameter {name!r}": row.length() if isinstance(row, Schedule) else len(row)
        for name, row in potential.varying.items()
    }


class Held:
    """The landscape of a run while its numbers have the values of one moment.

    Attributes
    ----------
    potential : Potential
        V, whose energies are recorded.
    followed : Potential
        What steps follow: V with the springs of the run.
    """

    def __init__(self, potential: Potential, restraints: Restraints | None) -> None:
        holding: Any = potential
        self.potential: Potential = holding.holding() if potential.varying else potential
        self._restraints = restraints
        self.followed = self.potential if restraints is None else Restrained(self.potential, restraints)

    def hold(self, values: torch.Tensor) -> None:
        """Take these ``(numbers, chains or 1)`` from now on."""
        own = len(self.potential.varying)
        if own:
            holding: Any = self.potential
            holding.hold(values[:own])
        if self._restraints is not None:
            self.followed.restraints = self._restraints.held(values[own:])  # type: ignore[attr-defined]
