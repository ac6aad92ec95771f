"""Stochastic-gradient Langevin dynamics, without and with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.schedules import Schedule
from landscape.integrators.base import (
    Integrator,
    Memory,
    PerChain,
    StepContext,
    check_fraction,
)  # fmt: skip
from landscape.integrators.compiled_rule import SETTINGS, CompiledRule
from landscape.integrators.euler_maruyama import overdamped_rule
from landscape.integrators.masses import Mass, inverse_mass, lightest
from landscape.noise.base import Noise

__all__ = ["SGHMC", "SGLD"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class SGLD(Integrator):
    """Stochastic-gradient Langevin dynamics: Euler-Maruyama on minibatch gradients.

    x' = x - lr grad V_batch(x) + sqrt(2 T lr) xi

    Minibatches add noise of their own, which does not vanish relative to the thermal one unless lr goes to 0. For
    samples of one curvature k, whose gradients differ by constants, with rho = 1 - lr k:

    * ``sampling="replacement"``, C the variance of a batch gradient, S^2/B for gradients of variance S^2 and B samples:
      k <x^2> = (T + lr C/2)/(1 - lr k/2), so that the two heat a direction to T + lr C/2.
    * ``sampling="independent"``, subsets drawn anew at each step: the same with C = (S^2/B)(N - B)/(N - 1).
    * ``sampling="epoch"``, the default, with M = N/B batches of which each sample is in one: the batch gradients of an
      epoch sum to that of all data, and the heat nearly cancels. With C = (S^2/B)(N - B)/(N - 1) and
      s(j) = [M sum_{i<j} rho^{2i} - (sum_{i<j} rho^i)^2]/(M - 1), after j batches of an epoch
      <x^2> = (T/k)/(1 - lr k/2) + lr^2 C [s(j) + rho^{2j} s(M)/(1 - rho^{2M})].
      Averaged over the steps of an epoch, for lr k M << 1, it heats to T + lr C (lr k)(M + 1)/6: less than with
      replacement by lr k (M + 1)/3, different for each k, and next to nothing at the ends of epochs (M > 1):
      no temperature. `probes.fluctuations.batch_temperature` has all three, with momentum and short last batches.

    Where curvatures differ between samples, or the last batch of an epoch is short, neither is exact. On all data it is
    `EulerMaruyama`.

    Parameters
    ----------
    lr : float, one per chain, or a schedule
        Learning rate; Welling and Teh's epsilon_t is 2 lr at T = 1.
    noise : Noise, optional
        Any; `ThermalNoise` by default.

    References
    ----------
    Welling, Teh, "Bayesian learning via stochastic gradient Langevin dynamics", ICML 2011, eq. 4.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> run = ls.simulate(spring, ls.SGLD(lr=0.5), temperature=1.0, chains=2000, steps=50, seed=0)
    >>> abs(float((run.last_position**2).mean()) - 1 / (1 - 0.5 / 2)) < 0.2
    True
    """

    lr: PerChain | Schedule
    noise: Noise | None = None

    weak_order: ClassVar[int | None] = 1
    stationary_order: ClassVar[float | None] = 1
    strong_order: ClassVar[float | None] = 1  # additive noise
    samples_boltzmann: ClassVar[bool] = True  # as lr -> 0
    thermal: ClassVar[bool] = True
    brownian: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    preconditionable: ClassVar[bool] = True

    def compiled_rule(self) -> CompiledRule:
        """That of `EulerMaruyama`."""
        return overdamped_rule(self.thermal_noise)

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """x - lr grad V_batch(x) + sqrt(2 T lr) xi."""
        return position - at.dt * at.gradient(position) + at.increment(position, memory)


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class SGHMC(Integrator):
    """Stochastic-gradient Hamiltonian Monte Carlo: heavy-ball descent with the noise that its friction asks for.

    m' = (1 - friction) m - lr grad V_batch(x) + sqrt(2 friction lr T M) xi,  x' = x + M^-1 m',  M = 1 unless given

    On all data a quadratic of stiffness k has <x^2> = (T/k)/[1 - lr k/(2 M (2 - friction))]. In the physicist's units
    the time step is sqrt(lr) and the friction coefficient friction/sqrt(lr).

    The observable ``"momentum"`` is that of the time of the position, m - lr/(2 - friction) grad V(x): on a quadratic
    it is independent of the position, with <m^2> = 2 lr T M/(2 - friction) at any k. The state carries m itself.

    Parameters
    ----------
    lr : float, one per chain, or a schedule
        Learning rate eta of the paper.
    friction : float, or one per chain
        alpha of the paper, in (0, 1]; 1 - friction is the momentum of `SGD`.
    noise : ThermalNoise, optional
        Or `TwoPointNoise`.
    mass : float, or one per coordinate, optional
        M, 1 by default.

    References
    ----------
    Chen, Fox, Guestrin, "Stochastic gradient Hamiltonian Monte Carlo", ICML 2014, eq. 15 with beta = 0.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> rule = ls.SGHMC(lr=0.1, friction=0.5)
    >>> run = ls.simulate(spring, rule, temperature=1.0, chains=2000, steps=200, seed=0, record=ls.Record(200))
    >>> abs(float((run.last_position**2).mean()) - 1 / (1 - 0.1 / 3)) < 0.15
    True
    """

    lr: PerChain | Schedule
    friction: PerChain
    noise: Noise | None = None
    mass: Mass = None

    stationary_order: ClassVar[float | None] = 1
    samples_boltzmann: ClassVar[bool] = True  # as lr -> 0
    thermal: ClassVar[bool] = True
    memory_names: ClassVar[tuple[str, ...]] = ("momentum",)
    flips_on_reflection: ClassVar[tuple[str, ...]] = ("momentum",)
    per_chain: ClassVar[tuple[str, ...]] = ("friction",)
    capturable: ClassVar[bool] = True
    preconditionable: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("homogeneous", "white")

    def __post_init__(self) -> None:
        Integrator.__post_init__(self)
        check_fraction("friction", self.friction, one=True)

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(2 friction lr T)."""
        return (2.0 * settings["friction"] * dt * temperature) ** 0.5

    def reach(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """sqrt(2 lr T/(M (2 - friction))) of the lightest coordinate."""
        return (2.0 * dt * temperature / (2.0 - settings["friction"]) / lightest(self.mass)) ** 0.5

    def half_kick(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """lr/(2 - friction)."""
        return {"momentum": dt / (2.0 - settings["friction"])}

    def exchanged(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """sqrt(2 lr T/(2 - friction))."""
        return {"momentum": (2.0 * dt * temperature / (2.0 - settings["friction"])) ** 0.5}

    def compiled_rule(self) -> CompiledRule:
        """The same, coordinate by coordinate."""
        return RULE if self.mass is None else replace(MASSIVE_RULE, mass=self.mass)

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """Friction, kick and noise, then a move by the momentum."""
        inverse, root = inverse_mass(self.mass, at, position)
        kept = (1.0 - at.settings["friction"]) * memory["momentum"]
        memory["momentum"] = kept - at.dt * at.gradient(position) + root * at.increment(position, memory)
        moved: Tensor = position + memory["momentum"] * inverse
        return moved


def _stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    typed[0] = 1.0
    one = typed[0]
    for i in range(n):
        kept = (one - settings[0, i]) * m[row, i]
        m[row, i] = kept - dt[at, i] * gradient[slope, i] + amplitude[at, i] * noise[draw, i]
        x[row, i] = x[row, i] + m[row, i]


def _massive_stage(n, stage, x, row, gradient, slope, noise, draw, dt, amplitude, at, settings, typed, m, v, step):  # type: ignore[no-untyped-def]
    lightness, root = SETTINGS + row, SETTINGS + m.shape[0] + row
    for i in range(n):
        push = settings[root, i] * (amplitude[at, i] * noise[draw, i])
        m[row, i] = (1.0 - settings[0, i]) * m[row, i] - dt[at, i] * gradient[slope, i] + push
        x[row, i] = x[row, i] + m[row, i] * settings[lightness, i]


RULE, MASSIVE_RULE = CompiledRule(_stage), CompiledRule(_massive_stage)
