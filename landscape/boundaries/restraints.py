"""`Restrain`: springs on functions of position, followed by the dynamics and kept out of the recorded energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.boundaries.constraints import listed
from landscape.boundaries.walls import Walls, seam_rises
from landscape.checks import finite_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import Described
from landscape.common.schedules import Schedule, in_time, length_in_time
from landscape.errors import ConfigError
from landscape.potentials.base import Potential
from landscape.potentials.expression.potential import Expression
from landscape.potentials.expression.scalar_field import Coordinate, scalar_field
from landscape.potentials.expression.tape import Tape, compile_tape

__all__ = [
    "Coordinate",
    "Restrain",
    "Restrained",
    "Restraints",
    "resolve_restraints",
    "restraint_lengths",
    "scalar_field",
    "take_restraints",
]

SEAM_TOLERANCE = 1e-4  # of the range of a function, below which its ends are the same: periods are given rounded

Mixed: TypeAlias = Callable[[Sequence[sympy.Expr]], list[sympy.Expr]]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Restrain(Described):
    r"""A spring that holds a function of position, for umbrella sampling: the dynamics follows

    .. math:: V(x) + \frac{k}{2} (q(x) - c)^2 ,

    while recorded energies are V alone. Where q jumps by P as a periodic coordinate closes (`Periodic`; P is the period
    itself for the coordinate, n times it for n of it), or where q has a `period` of its own, as an angle ``"atan2(y,
    x)"`` has, q - c is the minimum image, between -P/2 and P/2.

    Parameters
    ----------
    coordinate : str, int, vector or callable
        q(x): a coordinate by name or number, a formula in the coordinates such as ``"sqrt(x**2 + y**2)"``, a vector u
        ``(dim,)`` for u . x, or a callable on tensors ``(..., dim) -> (...)`` that torch can differentiate.
    center : float, one per chain, or a schedule
        c, in units of q. A schedule is `ramp`, `cycle`, `piecewise`, `cosine` or a callable of the time at the start of
        a step; of either sign here.
    stiffness : float, one per chain, or a schedule
        k, not negative, in units of energy per square of q.
    period : float, optional
        P, in units of q, of a q that has one by itself.

    Raises
    ------
    ConfigError, ShapeError
        When a run starts, if q is unknown, the numbers make no sense, or q jumps by amounts that differ from place to
        place where a periodic coordinate closes.

    Notes
    -----
    For formulas with q a name, number, formula or vector the run stays on the compiled backend; a callable q takes the
    batched backend. The observable ``"work"`` is that of a spring whose center or stiffness is moved, too.

    Examples
    --------
    Two springs in series of stiffness 1 and 3: variance T/(1 + 3), mean 3/(1 + 3) c.

    >>> import landscape as ls
    >>> spring = ls.potentials.Quadratic([1.0])
    >>> run = ls.simulate(spring, ls.MALA(dt=0.2), temperature=0.5, chains=1000, steps=400, record=ls.Record(20),
    ...                   constraint=ls.Restrain("x", 2.0, 3.0), seed=1)
    >>> abs(float(run.position[:, 5:].mean()) - 1.5) < 0.02, abs(float(run.position[:, 5:].var()) - 0.125) < 0.01
    (True, True)
    """

    coordinate: Coordinate
    center: Any
    stiffness: Any
    period: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Restraints:
    """The springs of a run: functions of position, and arrays ``(restraint, chain)`` of centers and stiffnesses.

    `periods` are those of the functions, 0 without one. ``rows`` are center and stiffness of the first, of the second,
    ...: arrays ``(chain,)``, or schedules, of which the arrays hold the values of a moment (see `held`).
    """

    fields: tuple[Potential, ...]
    centers: Any
    stiffnesses: Any
    periods: tuple[float, ...]
    rows: tuple[NDArray[np.float64] | Schedule, ...]

    def held(self, numbers: Tensor) -> Restraints:
        """The springs with the values ``(2 restraints, chain or 1)`` of a moment."""
        return replace(self, centers=numbers[0::2], stiffnesses=numbers[1::2])

    @property
    def symbolic(self) -> bool:
        """Whether all are formulas."""
        return all(field.loops == "formula" for field in self.fields)

    def energy(self, position: Tensor) -> Tensor:
        """Energy of the springs, ``(chains,)``."""
        return torch.stack([0.5 * k * away**2 for _, away, k in self._on(position)]).sum(dim=0)

    def gradient(self, position: Tensor) -> Tensor:
        """Its gradient, ``(chains, dim)``."""
        terms = [(k * away)[:, None] * q.gradient(position) for q, away, k in self._on(position)]
        return torch.stack(terms).sum(dim=0)

    def _on(self, position: Tensor) -> list[tuple[Potential, Tensor, Tensor]]:
        """Functions, how far they are from their centers, and stiffnesses."""
        centers, stiffnesses = (torch.as_tensor(part).to(position) for part in (self.centers, self.stiffnesses))
        away = [q.energy(position) - c for q, c in zip(self.fields, centers, strict=True)]
        nearest = [u - p * torch.round(u / p) if p else u for u, p in zip(away, self.periods, strict=True)]
        return list(zip(self.fields, nearest, stiffnesses, strict=True))

    # -- compiled ---------------------------------------------------------------------------------------------------

    def tape(
        self, formula: Expression, others: Sequence[sympy.Expr], *, energy: bool, mixed: Mixed | None = None
    ) -> Tape:
        """Program of the gradient with springs, then of others; or of the energy with springs.

        `mixed` makes the outputs of that gradient, if it is not the gradient itself that they begin with.
        Its inputs are coordinates, varying numbers of the formula, then centers and stiffnesses in the order of `rows`.
        """
        bias, images, pulls, names = self._terms(formula)
        gradient = zip(formula._gradient_expressions(), formula._symbols(), pulls, strict=True)
        outputs = [along + sympy.diff(bias, symbol) + pull for along, symbol, pull in gradient]
        outputs = outputs if mixed is None else mixed(outputs)
        outputs += [formula.expression + bias + images] if energy else list(others)
        return compile_tape(outputs, [*(formula.coordinates or ()), *formula.varying, *names], formula.parameters)

    def expression(self, formula: Expression) -> tuple[sympy.Expr, list[str]]:
        """Energy of the springs as an expression, and the names of its numbers in the order of `rows`."""
        bias, images, _, names = self._terms(formula)
        return bias + images, names

    def _terms(self, formula: Expression) -> tuple[sympy.Expr, sympy.Expr, list[sympy.Expr], list[str]]:
        """Energies without and with images, the gradient of the latter, and the names of the numbers."""
        bias, images, names = sympy.Float(0.0), sympy.S.Zero, []
        pulls = [sympy.S.Zero] * formula.dim
        for i, field in enumerate(self.fields):
            center, stiffness = (sympy.Symbol(f"restraint_{what}_{i}", real=True) for what in ("center", "stiffness"))
            names += [str(center), str(stiffness)]
            q: sympy.Expr = field.expression  # type: ignore[attr-defined]
            if not self.periods[i]:
                bias += stiffness * (q - center) ** 2 / 2
                continue
            turn = sympy.Float(self.periods[i] / (2.0 * np.pi))  # the nearest image by way of the angle
            away = turn * sympy.atan2(sympy.sin((q - center) / turn), sympy.cos((q - center) / turn))
            images += stiffness * away**2 / 2
            slopes = [sympy.diff(q, symbol) for symbol in formula._symbols()]
            pulls = [pull + stiffness * away * slope for pull, slope in zip(pulls, slopes, strict=True)]
        return bias, images, pulls, names


class Restrained(Potential):
    """A landscape with the springs of a run on it: what its steps follow. Positions are those of all chains."""

    def __init__(self, potential: Potential, restraints: Restraints) -> None:
        self.potential, self.restraints = potential, restraints
        self.dim, self.coordinates, self.bounds = potential.dim, potential.coordinates, potential.bounds
        self.has_energy, self.conservative = potential.has_energy, potential.conservative

    def _energy(self, position: Tensor) -> Tensor:
        return self.potential._energy(position) + self.restraints.energy(position)

    def _gradient(self, position: Tensor) -> Tensor:
        return self.potential._gradient(position) + self.restraints.gradient(position)

    def step_gradient(self, position: Tensor, *, step: int, keys: Any = None) -> Tensor:
        """Gradient that the dynamics follows, ``(chains, dim)``."""
        return self.potential.step_gradient(position, step=step, keys=keys) + self.restraints.gradient(position)


def take_restraints(constraint: Any) -> tuple[list[Restrain], list[Any]]:
    """The springs among constraints, and the others."""
    given = listed(constraint)
    return [one for one in given if isinstance(one, Restrain)], [one for one in given if not isinstance(one, Restrain)]


def restraint_lengths(springs: Sequence[Restrain]) -> dict[str, int | None]:
    """How many chains the springs speak of."""
    return {
        f"the {name} of restraint {i}": length_in_time(name, getattr(spring, name), signed=name == "center")
        for i, spring in enumerate(springs)
        for name in ("center", "stiffness")
    }


def resolve_restraints(
    potential: Potential, springs: Sequence[Restrain], chains: int, walls: Walls, points: Tensor
) -> Restraints | None:
    """Springs with one number per chain, None without any; periods are found out at some `points` ``(n, dim)``.

    Raises
    ------
    ConfigError, ShapeError
    """
    if not springs:
        return None
    rows: list[NDArray[np.float64] | Schedule] = []
    for spring in springs:
        rows += [in_time("center", spring.center, chains, signed=True), in_time("stiffness", spring.stiffness, chains)]
    start = np.zeros((1, chains))
    values = [row.at(start, chains, signed=True)[0] if isinstance(row, Schedule) else row for row in rows]
    centers, stiffnesses = np.stack(values[0::2]), np.stack(values[1::2])
    if not np.isfinite(centers).all() or not np.isfinite(stiffnesses).all() or (stiffnesses < 0).any():
        raise ConfigError("a restraint needs a finite center and a finite stiffness that is not negative")
    fields = tuple(scalar_field(potential, spring.coordinate) for spring in springs)
    periods = tuple(
        _own_period(spring.period, _period(field, walls, points, potential.coordinates))
        for spring, field in zip(springs, fields, strict=True)
    )
    return Restraints(fields, centers, stiffnesses, periods, tuple(rows))


def _own_period(given: Any, found: float) -> float:
    """The period that a restraint says its function has, by which any jump where coordinates close has to be whole.

    Raises
    ------
    ConfigError
    """
    if given is None:
        return found
    finite_number("the period of a restraint", given, above=0)
    if abs(found / given - round(found / given)) > SEAM_TOLERANCE:
        raise ConfigError(
            f"the restrained coordinate jumps by {found:g} where a period closes, not by a multiple of its own "
            f"period {given:g}"
        )
    return float(given)


def _period(field: Potential, walls: Walls, points: Tensor, names: Sequence[str] | None) -> float:
    """By how much a function jumps where the periodic coordinates close, 0 where it does not.

    Raises
    ------
    ConfigError
    """
    jumps: list[float] = []
    for d, rise in seam_rises(field, walls, points).items():
        rise = rise[torch.isfinite(rise)].double()
        if not len(rise):
            continue
        values = field.energy(points).double()
        range_of = float((values - values[0]).abs().nan_to_num(0.0, 0.0, 0.0).max() + rise.abs().max())
        jump, spread = float(rise.abs().median()), float(rise.max() - rise.min())
        if spread > SEAM_TOLERANCE * range_of:
            raise ConfigError(
                f"the restrained coordinate jumps by {float(rise.min()):g} to {float(rise.max()):g} where "
                f"{(names or ())[d]!r} closes its period: restrain a function that has the period, such as sin, or one "
                "that grows by the same amount everywhere"
            )
        if jump > SEAM_TOLERANCE * range_of:
            jumps.append(jump)
    period = min(jumps, default=0.0)
    if any(abs(jump / period - round(jump / period)) > SEAM_TOLERANCE for jump in jumps):
        raise ConfigError(
            f"the restrained coordinate jumps by {jumps} where periods close: it has no period of its own"
        )
    return period
