"""Overdamped Langevin dynamics by the Euler-Maruyama scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape.boundaries.walls import Walls
from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext
from landscape.integrators.compiled_rule import CompiledRule
from landscape.integrators.mobility import Mobility, root_of
from landscape.noise.base import Noise
from landscape.noise.forms import Spread
from landscape.potentials.base import Potential

__all__ = ["EulerMaruyama", "overdamped_rule"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class EulerMaruyama(Integrator):
    """Overdamped Langevin dynamics dx = -grad V dt + sqrt(2T) dW, by Euler-Maruyama.

    x' = x - dt grad V(x) + sqrt(2 T dt) xi,  xi ~ N(0, 1);  with a mobility M = L L^T (see `Mobility`)
    x' = x - dt M(x) grad V(x) + dt c T div M(x) + sqrt(2 T dt) L(x) xi.

    Its stationary distribution is exp(-V_dt/T), V_dt = V - (dt/4)|grad V|^2 + (dt T/2) lap V + O(dt^2). On a quadratic
    of stiffness k: <x^2> = T/[k (1 - dt k/2)] exactly; stable for dt k < 2. (Of M = 1; of a constant M in coordinates
    in which it is, of one that varies to the same order.)

    Parameters
    ----------
    dt : float, one per chain, or a schedule
        Step size, in units of time.
    noise : Noise, optional
        Any: `ThermalNoise` by default, `TwoPointNoise`, `CovarianceNoise`, `ColoredNoise`, `HessianNoise`.
    mobility : Mobility, optional
        By default 1. With it the noise is `ThermalNoise` or `TwoPointNoise`, whose variates L shapes.

    Raises
    ------
    ConfigError, ShapeError

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.EulerMaruyama(dt=0.5), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1 / (1 - 0.5 / 2)) < 0.2
    True
    """

    dt: PerChain | Schedule
    noise: Noise | None = None
    mobility: Mobility | None = None

    weak_order: ClassVar[int | None] = 1
    stationary_order: ClassVar[float | None] = 1
    strong_order: ClassVar[float | None] = 1  # additive noise
    samples_boltzmann: ClassVar[bool] = True
    thermal: ClassVar[bool] = True
    brownian: ClassVar[bool] = True
    preconditionable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        if self.mobility is not None and not isinstance(self.mobility, Mobility):
            raise ConfigError(f'mobility must be a Mobility, such as Mobility("1 + x**2"), got {self.mobility!r}')

    @property
    def obeys_boltzmann(self) -> bool:
        """Whether the law tends to exp(-V/T): not with a mobility that varies, unless its noise is anti-Ito."""
        kept = self.mobility is None or self.mobility.keeps_boltzmann
        return kept and self.thermal_noise.samples_boltzmann

    def check(self, potential: Potential) -> None:
        """Refuse a mobility that does not fit the coordinates.

        Raises
        ------
        ConfigError, ShapeError
        """
        if self.mobility is not None:
            self.mobility.of(potential)

    def check_start(self, potential: Potential, position: Tensor, walls: Walls) -> None:
        """Refuse a mobility that is negative at a start, or that couples a coordinate with mirrors to others.

        Raises
        ------
        ConfigError
        """
        if self.mobility is None:
            return
        wrong = self.obstacle(potential, position)
        if wrong is not None:
            raise ConfigError(wrong)
        self.mobility.of(potential).check_walls(potential, position, walls)

    def obstacle(self, potential: Potential, position: Tensor) -> str | None:
        """Where the mobility is negative, None if nowhere among these positions."""
        return None if self.mobility is None else self.mobility.of(potential).obstacle(position)

    def compiled_rule(self) -> CompiledRule:
        """The same, coordinate by coordinate; the loop makes the terms of a mobility."""
        return overdamped_rule(self.thermal_noise)

    @property
    def takes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Any noise; with a mobility one that it can shape."""
        return () if self.mobility is None else ("homogeneous", "white")

    @property
    def capturable(self) -> bool:  # type: ignore[override]
        """Unless it has a mobility."""
        return self.mobility is None

    def spread(self, potential: Potential, position: Tensor) -> Spread | None:
        """The mobility, where there is one."""
        if self.mobility is None:
            return self.thermal_noise.spread(potential, position)
        matrix = self.mobility.of(potential).matrix(position)
        return Spread(matrix, lambda: root_of(matrix.double()))

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """x - dt grad V(x) + sqrt(2 T dt) xi."""
        if self.mobility is not None:
            field = self.mobility.of(at.potential)
            move = field.step(at.gradient(position), field.terms(position), at.dt, at.amplitude, at.noise())
            return position + move
        return position - at.dt * at.gradient(position) + at.increment(position, memory)


def overdamped_rule(noise: Noise) -> CompiledRule:
    """x - dt grad V(x) + the displacement by white noise, or by one with a memory."""
    return RULE if noise.white else REMEMBERING_RULE


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    for i in range(n):
        x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + amplitude[at, i] * noise[draw, i]


def _remembering_stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    other = draw + m.shape[0]  # the second variate of each coordinate
    for i in range(n):
        shift = settings[1, i] * m[row, i] + settings[2, i] * noise[draw, i]
        m[row, i] = settings[0, i] * m[row, i] + settings[3, i] * noise[draw, i] + settings[4, i] * noise[other, i]
        x[row, i] = x[row, i] - dt[at, i] * gradient[slope, i] + shift


RULE, REMEMBERING_RULE = CompiledRule(_stage, remembers=False), CompiledRule(_remembering_stage)
