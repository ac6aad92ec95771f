"""Runs that free energies are made from: Metropolis-corrected, with step sizes that find themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.common.positions import ordered
from landscape.dynamics.simulate import simulate
from landscape.errors import ConfigError, ConvergenceError
from landscape.integrators.mala import MALA
from landscape.potentials.base import Potential
from landscape.probes.estimation.series import FloatArray
from landscape.recording.record import Record

__all__ = [
    "REACHED", "Tuned", "inside", "observed", "onto", "origin_of", "place", "record_of", "tuned", "with_parameter",
]  # fmt: skip

ACCEPTED = (
    0.88,
    0.97,
)  # fraction of proposals between which a step size is left alone; high, for boundaries where V is steep
ROUNDS = 24
ROUND_STEPS = 24
NEWTON = 30
REACHED = 1e-9  # of 1 + |target|, by which a point may miss a value that it is said to have


class Tuned:
    """MALA with one step size per group of chains, found by short runs, and where these ended."""

    def __init__(self, dt: FloatArray, state: FloatArray, acceptance: FloatArray) -> None:
        self.dt, self.state, self.acceptance = dt, state, acceptance

    def integrator(self, chains: int) -> MALA:
        """The rule for chains group by group."""
        return MALA(dt=np.repeat(self.dt, chains // len(self.dt)))


def tuned(
    potential: Potential, temperature: Any, start: FloatArray, *, groups: int = 1, dt: Any = 0.1, seed: int = 0,
    constraint: Any = None,
) -> Tuned:  # fmt: skip
    """Step sizes of MALA at which each group of chains ``(group * chain, dim)`` accepts 0.88 to 0.97 of its proposals.

    MALA samples the Boltzmann distribution whatever its step size, which therefore costs efficiency and never accuracy.

    Raises
    ------
    ConvergenceError
        If no step size is taken often enough.
    """
    sizes, state = np.full(groups, 1.0) * dt, start
    chains = len(start) // groups
    for number in range(ROUNDS):
        run = simulate(
            potential, MALA(dt=np.repeat(sizes, chains)), steps=ROUND_STEPS, start=state, temperature=temperature,
            record=Record(ROUND_STEPS, observables=["energy"]), constraint=constraint, seed=(seed + number) % 2**64,
            progress=False,
        )  # fmt: skip
        state = run.last_position.to_numpy()
        acceptance = run.acceptance.to_numpy().reshape(groups, chains).mean(axis=1)
        wrong = (acceptance < ACCEPTED[0]) | (acceptance > ACCEPTED[1])
        if not wrong.any():
            break
        factor = np.where(acceptance < 0.3, 0.25, np.where(acceptance < ACCEPTED[0], 0.7, 1.4))
        sizes = np.where(wrong, sizes * factor, sizes)
    if (acceptance < 0.1).any():
        raise ConvergenceError(
            f"MALA takes {acceptance.min():.2g} of its proposals at dt = {sizes.min():g}: give a start of lower energy",
            estimate=sizes,
        )
    return Tuned(sizes, state, acceptance)


def observed(
    potential: Potential, rule: Tuned, temperature: Any, *, steps: int, every: int, observables: Any, seed: int,
    constraint: Any = None,
) -> xr.Dataset:  # fmt: skip
    """A run from where the tuning ended, after a quarter as many steps that are left out."""
    rest = simulate(
        potential, rule.integrator(len(rule.state)), steps=max(1, steps // 4), start=rule.state,
        temperature=temperature, record=Record(max(1, steps // 4), observables=["energy"]), constraint=constraint,
        seed=(seed + 10**6) % 2**64,
        progress=False,
    )  # fmt: skip
    return simulate(
        potential, rule.integrator(len(rule.state)), steps=steps, start=rest.last_position.to_numpy(),
        temperature=temperature, record=Record(every, observables=observables), constraint=constraint, seed=seed,
        progress=False,
    )  # fmt: skip


def with_parameter(formula: Potential, name: str, value: float) -> Potential:
    """The same formula with another value of a parameter.

    Raises
    ------
    ConfigError
        If there is no such parameter.
    """
    given: Any = formula
    if formula.loops != "formula" or name not in given.parameters:
        known = list(given.parameters) if formula.loops == "formula" else "none: it is no formula"
        raise ConfigError(f"no parameter {name!r}: the landscape has {known}")
    other = copy.copy(given)
    other.parameters = given.parameters | {name: float(value)}
    numbers = list(other.parameters.values())
    other.__dict__.update(
        energy_tape=given.energy_tape.with_parameters(numbers),
        gradient_tape=given.gradient_tape.with_parameters(numbers),
    )
    other.__dict__.pop("hessian_tape", None)
    return other  # type: ignore[no-any-return]


def inside(potential: Potential, position: Tensor) -> Tensor:
    """Which positions ``(..., dim)`` lie between the boundaries."""
    allowed = torch.ones_like(position[..., 0], dtype=torch.bool)
    for name, (low, high) in potential.bounds.items():
        along = position[..., potential.coordinate_index(name)]
        allowed &= (along >= low) & (along <= high)
    return allowed


def origin_of(potential: Potential, start: Any) -> Tensor:
    """Where a search begins, float64 ``(dim,)`` or ``(at, dim)``: what was given, or the landscape's own start.

    Raises
    ------
    ShapeError
    """
    given = potential.default_start() if start is None else start
    found = ordered(given, potential.coordinates, potential.dim, "start").astype(np.float64)
    return torch.as_tensor(found, device=potential.device)


def place(field: Potential, start: Tensor, at: FloatArray, *, pieces: int = 16, period: float = 0.0) -> Tensor:
    """One position for each value of q, ``(at, dim)``, reached from `start` along the gradient of q.

    With a period, q is reached up to multiples of it.

    Raises
    ------
    ConvergenceError
        If a value is not reached.
    """
    if start.ndim == 2:
        if len(start) != len(at):
            raise ConfigError(f"start has {len(start)} positions for {len(at)} values: give one, or one for each")
        return onto(field, start, torch.as_tensor(at).to(start), period=period)[0]

    def short_of(goal: Any, point: Tensor) -> Any:
        apart = goal - float(field.energy(point))
        return apart - period * np.round(apart / period) if period else apart

    nearest = int(np.argmin(np.abs(short_of(at, start))))
    found: dict[int, Tensor] = {}
    for order in (range(nearest, len(at)), range(nearest - 1, -1, -1)):
        point = start if order.start == nearest else found[nearest]
        for index in order:
            for target in np.linspace(at[index] - short_of(at[index], point), at[index], pieces + 1)[1:]:
                moved, reached = onto(field, point[None], torch.full((1,), target).to(point), period=period)
                if not bool(reached.all()):
                    raise ConvergenceError(
                        f"no position of {at[index]:g} found from {point.tolist()}: give start, one for each value",
                        estimate=point,
                    )
                point = moved[0]
            found[index] = point
    return torch.stack([found[index] for index in range(len(at))])


def onto(
    field: Potential, position: Tensor, target: Tensor, along: Tensor | None = None, *, period: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Positions ``(chains, dim)`` moved onto q(x) = target along given directions or grad q, and where it succeeded.

    With a period, onto target plus any multiple of it.
    """

    def beyond(point: Tensor) -> Tensor:
        miss: Tensor = field.energy(point) - target
        return miss - period * torch.round(miss / period) if period else miss

    point = position
    for _ in range(NEWTON):
        gradient = field.gradient(point)
        direction = gradient if along is None else along
        miss = beyond(point)
        slope = (gradient * direction).sum(dim=-1)
        move = torch.where(miss.abs() > 1e-11 * (1.0 + target.abs()), miss / slope, torch.zeros_like(miss))
        if not bool(move.any()):
            break
        point = point - torch.nan_to_num(move)[:, None] * direction
    reached = beyond(point).abs() <= REACHED * (1.0 + target.abs())
    return point, reached & torch.isfinite(point).all(dim=-1)


def record_of(field: Potential) -> Mapping[str, Any]:
    """Observables of a run that watches q."""
    return {"q": lambda _, position: field.energy(position)}
