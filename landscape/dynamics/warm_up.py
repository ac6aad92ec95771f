"""Warm-up: step size and masses of a rule with a Metropolis test, found before the run that samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from landscape.checks import finite_number, one_of, whole_number
from landscape.common.arguments import guarded
from landscape.common.notices import warn
from landscape.common.per_chain import numbers
from landscape.common.schedules import as_schedule
from landscape.dynamics.simulate import simulate
from landscape.engine.choice import Backend
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator
from landscape.potentials.base import Potential
from landscape.recording.record import Record

__all__ = ["Warmed", "warm_up"]

LEAST_STEPS = 100
OFF = 0.15  # from the target, beyond which the result is warned of
_FIRST, _SLOW, _CHECK = 0.15, 0.05, 0.06  # shares of the steps: before masses, first window of masses, check at the end
_SETTLE = 0.16  # and to settle the step size after the last masses


class Warmed(NamedTuple):
    """What `warm_up` found.

    Attributes
    ----------
    integrator : Integrator
        With its step size, one for each chain where temperatures differ, and masses.
    start : xarray.Dataset
        The end of the warm-up, to start from.
    acceptance : float
        Mean acceptance at that step size, in the last steps, which changed nothing.
    """

    integrator: Integrator
    start: xr.Dataset
    acceptance: float


@guarded
def warm_up(
    potential: Potential,
    integrator: Integrator,
    *,
    temperature: Any,
    steps: int = 1000,
    start: Any = None,
    chains: int | None = None,
    target: float | None = None,
    mass: Literal["diagonal", "dense"] | None = "diagonal",
    constraint: Any = None,
    seed: int = 0,
    backend: Backend = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Warmed:
    """Tune step size and masses of `MALA`, `HMC` or `NUTS` in steps that are not part of the sample.

    The step size follows the acceptance to its target by dual averaging, one step size for each temperature. Masses are
    M = T C^-1 (diagonal, or dense), C the covariance of the positions of all chains over windows of which each is twice
    as long as the one before; after each window the step size is found anew. Nothing is tuned afterwards, so that the
    law of the run that follows is exact.

    Parameters
    ----------
    potential : Potential
    integrator : MALA, HMC or NUTS
        Its step size is the first guess; its masses are kept where `mass` is None.
    temperature : float, or one per chain
    steps : int
        At least 100.
    start, chains, constraint, backend, dtype, device : optional
        As for `simulate`.
    target : float, optional
        Mean acceptance: 0.574 for `MALA`, 0.8 for `HMC` and `NUTS`.
    mass : {"diagonal", "dense"} or None
        Dense masses run on the batched backend.
    seed : int
        The noise is not that of a run with the same seed.

    Returns
    -------
    Warmed
        ``(integrator, start, acceptance)``.

    Raises
    ------
    ConfigError
        If the rule has no acceptance to tune, the temperature is 0 or changes in time, or a setting makes no sense.

    Warns
    -----
    UserWarning
        If the acceptance is off its target by more than 0.15 in the end.

    References
    ----------
    Hoffman, Gelman, "The No-U-Turn sampler", J. Mach. Learn. Res. 15, 1593 (2014), section 3.2 (dual averaging, of
    which each update here is a few steps of all chains). Stan Reference Manual, "HMC algorithm parameters" (windows).
    Roberts, Rosenthal, "Optimal scaling of discrete approximations to Langevin diffusions", J. R. Stat. Soc. B 60, 255
    (1998) (0.574).

    Examples
    --------
    >>> import landscape as ls
    >>> stiff = ls.potentials.Quadratic([1.0, 1e4])
    >>> rule, start, acceptance = ls.warm_up(stiff, ls.MALA(dt=1.0), temperature=1.0, chains=50, steps=300, seed=1)
    >>> abs(acceptance - 0.574) < 0.1, bool(rule.mass[1] > 1e3 * rule.mass[0])
    (True, True)
    >>> run = ls.simulate(stiff, rule, start=start, temperature=1.0, steps=100, seed=1)
    """
    target = _checked(integrator, temperature, steps, target, mass)
    settings: dict[str, Any] = {
        "temperature": temperature, "constraint": constraint, "seed": (seed + 2**63) % 2**64, "backend": backend,
        "dtype": dtype, "device": device, "progress": False,
    }  # fmt: skip
    tuning = _Tuning(potential, integrator, settings, max(1, min(10, steps // 100)), target)
    tuning.begin(start, chains)
    for length, last in _windows(steps) if mass else [(int(steps * (1 - _CHECK)), False)]:
        positions = tuning.adapt(length, keep=mass is not None and not last)
        if mass and not last:
            tuning.take_masses(positions, mass)
    acceptance = tuning.check(max(20, int(steps * _CHECK)))
    if abs(acceptance - target) > OFF:
        warn(
            f"the warm-up of {steps} steps ends with an acceptance of {acceptance:.3g}, its target is {target:.3g}: "
            "give it more steps, or a first step size nearer to the right one"
        )
    return Warmed(tuning.rule, tuning.state, acceptance)


def _checked(integrator: Integrator, temperature: Any, steps: Any, target: Any, mass: Any) -> float:
    usual = getattr(integrator, "target_acceptance", None)
    if usual is None:
        raise ConfigError(
            f"{type(integrator).__name__} accepts every step, which leaves nothing to tune by: give MALA, HMC or NUTS"
        )
    if as_schedule("the step size", integrator.step_size) is not None:
        raise ConfigError("warm_up finds the step size: give a number as the first guess, not a schedule")
    if as_schedule("temperature", temperature) is not None or not np.all(numbers("temperature", temperature) > 0):
        raise ConfigError(f"warm_up needs a temperature above 0 that does not change in time, got {temperature!r}")
    if mass is not None:
        one_of("mass", mass, ("diagonal", "dense"))
    if whole_number("steps", steps) < LEAST_STEPS:
        raise ConfigError(f"a warm-up needs {LEAST_STEPS} steps or more, got {steps}")
    return usual if target is None else finite_number("target", target, least=0.1, most=0.99)


def _windows(steps: int) -> Iterator[tuple[int, bool]]:
    """Lengths of the windows: one before masses, then doubling ones, the last (of the step size alone) marked."""
    rest = int(steps * (1 - _FIRST - _CHECK - _SETTLE))
    yield int(steps * _FIRST), False
    length = max(1, int(steps * _SLOW))
    while rest:
        now = rest if rest < 3 * length else length
        yield now, False
        rest, length = rest - now, 2 * length
    yield int(steps * _SETTLE), True


@dataclass(slots=True)
class DualAveraging:
    """Logarithm of a step size that makes the acceptance its target [Hoffman, Gelman, eq. 6].

    An acceptance is that of all chains over some steps and known far better than that of one step. So the gain is a
    third of theirs, it shrinks to the first guess rather than to ten times of it, and what counts in the end is the
    mean of the later half.

    Attributes
    ----------
    centre : float
        Logarithm of the first guess.
    """

    centre: float
    excess: float = 0.0
    logs: list[float] = field(default_factory=list)

    @property
    def log(self) -> float:
        """What is to be tried next."""
        return self.logs[-1] if self.logs else self.centre

    @property
    def mean(self) -> float:
        """What it has come to."""
        return float(np.mean(self.logs[len(self.logs) // 2 :])) if self.logs else self.centre

    def update(self, lacking: float) -> None:
        """Take in the target less an acceptance."""
        count = len(self.logs) + 1
        self.excess += (lacking - self.excess) / (count + 10.0)
        self.logs.append(float(self.centre - np.sqrt(count) / 0.15 * self.excess))


class _Tuning:
    """A warm-up under way: the rule as it is now, and where the chains are."""

    def __init__(
        self, potential: Potential, rule: Integrator, settings: dict[str, Any], block: int, target: float
    ) -> None:
        self.potential, self.rule, self.settings = potential, rule, settings
        self.block, self.target = block, target
        self.state: xr.Dataset = xr.Dataset()
        self.averages: list[DualAveraging] = []
        self.scaled = False

    def begin(self, start: Any, chains: int | None) -> None:
        """First step of all, and a step size at which about half of the proposals are taken."""
        size = np.asarray(self.rule.step_size, dtype=float)
        self._run(1, start=start, chains=chains)
        heat = self.state.temperature.values
        self.groups = np.unique(heat, return_inverse=True)[1]
        self.heat = heat
        logs = np.log(np.array([np.broadcast_to(size, heat.shape)[self.groups == g].mean() for g in self._range()]))
        direction = np.zeros(len(logs))
        for _ in range(60):
            self._take(logs)
            self._run(2)
            high = self._acceptances() > 0.5
            turn = np.where(high, 1.0, -1.0)
            direction = np.where(direction == 0, turn, direction)
            moving = turn == direction
            if not moving.any():
                break
            logs = logs + np.where(moving, direction * np.log(2.0), 0.0)
        self._restart(logs)

    def adapt(self, steps: int, *, keep: bool) -> NDArray[np.float64]:
        """Follow the acceptance for so many steps; the positions ``(chain, draw, coordinate)`` if they are wanted."""
        kept = []
        while steps > 0:
            now = min(self.block if keep else (self.block + 1) // 2, steps)
            self._run(now, record=Record(1, ["position"]) if keep else None)
            if keep:
                kept.append(self.state.position.values)
            for average, acceptance in zip(self.averages, self._acceptances(), strict=True):
                average.update(self.target - float(acceptance))
            self._take(np.array([average.log for average in self.averages]))
            steps -= now
        return np.concatenate(kept, axis=1) if kept else np.empty((0, 0, 0))

    def take_masses(self, positions: NDArray[np.float64], kind: str) -> None:
        """M = T C^-1, from all temperatures together, and a step size of this scale to begin with."""
        dim = positions.shape[-1]
        total, count = np.zeros((dim, dim)) if kind == "dense" else np.zeros(dim), 0
        for g in self._range():
            of_group = positions[self.groups == g].reshape(-1, dim)
            moved = (of_group - of_group.mean(axis=0)) / np.sqrt(self.heat[self.groups == g][0])
            total = total + (moved.T @ moved if kind == "dense" else (moved**2).sum(axis=0))
            count += len(moved) - 1
        if kind == "dense":  # shrunk to its diagonal: few draws leave directions that none has explored
            total = (count * total + dim * np.diag(np.diag(total))) / (count + dim)
        covariance = total / max(count, 1)
        spread = np.diag(covariance) if kind == "dense" else covariance
        if not (np.isfinite(spread) & (spread > 0)).all():
            return  # nothing has moved: the next window will tell
        mass = np.linalg.inv(covariance) if kind == "dense" else 1.0 / covariance
        self.rule = replace(self.rule, mass=0.5 * (mass + mass.T) if kind == "dense" else mass)  # type: ignore[type-var]
        known = np.array([average.mean for average in self.averages])
        self._restart(known if self.scaled else np.full(len(known), np.log(0.5)))  # 0.5: where all directions are alike
        self.scaled = True

    def check(self, steps: int) -> float:
        """Acceptance at the step size that the averages have come to."""
        self._take(np.array([average.mean for average in self.averages]))
        self._run(steps)
        return float(self._acceptances().mean())

    def _restart(self, logs: NDArray[np.float64]) -> None:
        self.averages = [DualAveraging(float(log)) for log in logs]
        self._take(logs)

    def _take(self, logs: NDArray[np.float64]) -> None:
        size = np.exp(logs)[self.groups] if len(logs) > 1 else float(np.exp(logs[0]))
        self.rule = replace(self.rule, dt=size)  # type: ignore[type-var]

    def _range(self) -> range:
        return range(int(self.groups.max()) + 1)

    def _acceptances(self) -> NDArray[np.float64]:
        """Of each temperature."""
        found = self.state.acceptance.values
        return np.array([found[self.groups == g].mean() for g in self._range()])

    def _run(self, steps: int, *, record: Record | None = None, **first: Any) -> None:
        begin = first or {"start": self.state, "state": "keep"}
        self.state = simulate(
            self.potential, self.rule, steps=steps, record=record or Record(steps, ["position"]), **begin,
            **self.settings,
        )  # fmt: skip
