"""Overdamped Langevin dynamics by the Euler-Maruyama scheme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from landscape.arguments import guarded_class
from landscape.constraints import Walls
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, Memory, PerChain, StepContext, check_noise, check_positive
from landscape.integrators.mobility import Mobility
from landscape.noise.base import Noise
from landscape.noise.thermal import ThermalNoise
from landscape.noise.two_point import TwoPointNoise
from landscape.potentials.base import Potential
from landscape.schedules import Schedule

__all__ = ["EulerMaruyama"]


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

    def __post_init__(self) -> None:
        check_positive("dt", self.dt)
        check_noise(self.noise, (Noise,) if self.mobility is None else (ThermalNoise, TwoPointNoise))
        if self.mobility is not None and not isinstance(self.mobility, Mobility):
            raise ConfigError(f'mobility must be a Mobility, such as Mobility("1 + x**2"), got {self.mobility!r}')

    @property
    def step_size(self) -> PerChain | Schedule:
        """`dt`."""
        return self.dt

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

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """x - dt grad V(x) + sqrt(2 T dt) xi."""
        if self.mobility is not None:
            field = self.mobility.of(at.potential)
            move = field.step(at.gradient(position), field.terms(position), at.dt, at.amplitude, at.noise())
            return position + move
        return position - at.dt * at.gradient(position) + at.increment(position, memory)
