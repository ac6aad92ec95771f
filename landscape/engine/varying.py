"""Numbers of a run's energy that change in time or differ by chain, and the energy while they are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray

from landscape.boundaries.restraints import Restrained, Restraints
from landscape.common.schedules import Schedule
from landscape.potentials.base import Potential
from landscape.potentials.expression.potential import Expression
from landscape.potentials.expression.tape import Tape, compile_tape

__all__ = ["Held", "Numbers", "landscapes_of", "numbers_of", "varying_lengths", "work_tape"]


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


def landscapes_of(
    potential: Potential, numbers: Numbers | None, times: NDArray[np.float64], most: int = 16
) -> Iterator[Potential]:
    """The potential at some times ``(n, chains)`` and of some chains, in turn; itself if it never varies."""
    if numbers is None or not potential.varying:
        yield potential
        return
    held = Held(potential, None)
    for row in numbers.at(times)[:, : len(potential.varying)]:
        for column in np.unique(row, axis=1)[:, :most].T:
            held.hold(torch.as_tensor(column[:, None]))
            yield held.potential


class Held:
    """The landscape of a run while its numbers have the values of one moment.

    Attributes
    ----------
    potential : Potential
        V, whose energies are recorded.
    followed : Potential
        What steps follow: V with springs and hills of the run.
    """

    def __init__(self, potential: Potential, restraints: Restraints | None, bias: Any = None) -> None:
        holding: Any = potential
        self.potential: Potential = holding.holding() if potential.varying else potential
        self._restraints = restraints
        self._sprung: Any = self.potential if restraints is None else Restrained(self.potential, restraints)
        self.followed: Potential = self._sprung if bias is None else bias.on(self._sprung)

    def hold(self, values: torch.Tensor) -> None:
        """Take these ``(numbers, chains or 1)`` from now on."""
        own = len(self.potential.varying)
        if own:
            holding: Any = self.potential
            holding.hold(values[:own])
        if self._restraints is not None:
            self._sprung.restraints = self._restraints.held(values[own:])

    def springs(self, position: torch.Tensor) -> torch.Tensor:
        """Energy of the springs, ``(chains,)``."""
        if self._restraints is None:
            return torch.zeros_like(position[:, 0])
        energy: torch.Tensor = self._sprung.restraints.energy(position)
        return energy

    def work(self, position: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """What the energy rises by as its numbers become `later` ones, which are held from then on; ``(chains,)``."""
        before = self._changing(position)
        self.hold(later)
        return self._changing(position) - before

    def _changing(self, position: torch.Tensor) -> torch.Tensor:
        energy = self.springs(position).double()
        return energy + self.potential._energy(position) if self.potential.varying else energy


def work_tape(formula: Expression, restraints: Restraints | None) -> Tape:
    """Program of E(x, later numbers) - E(x, numbers), springs included; inputs are positions and both sets of numbers.

    What the two have in common is gone from the formula: a difference is not the rounding of large numbers.
    """
    energy, rows = formula.expression, dict(formula.varying)
    if restraints is not None:
        springs, more = restraints.expression(formula)
        energy, rows = energy + springs, rows | dict(zip(more, restraints.rows, strict=True))
    names = list(rows)
    later = [f"{name}'" for name in names]  # which no parameter can be called
    after = energy.xreplace(
        {
            sympy.Symbol(name, real=True): sympy.Symbol(next_one, real=True)
            for name, next_one in zip(names, later, strict=True)
            if isinstance(rows[name], Schedule)
        }
    )
    return compile_tape([after - energy], [*(formula.coordinates or ()), *names, *later], formula.parameters)
