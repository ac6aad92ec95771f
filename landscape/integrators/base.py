"""What an integrator is: settings, stated facts, and one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.boundaries.walls import Walls
from landscape.common.codec import Described
from landscape.common.positions import unmasked
from landscape.common.schedules import Schedule, as_schedule, piecewise
from landscape.errors import ConfigError
from landscape.integrators.compiled_rule import CompiledRule
from landscape.integrators.masses import Mass, check_dim, check_mass
from landscape.integrators.mobility import Mobility
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.base import Noise
from landscape.noise.forms import Spread
from landscape.noise.thermal import ThermalNoise
from landscape.potentials.base import Potential

__all__ = ["Integrator", "Memory", "PerChain", "StepContext", "described"]

PerChain: TypeAlias = float | Sequence[float] | NDArray[Any]


class Integrator(Described, ABC):
    """A rule that takes a state one step further.

    Attributes
    ----------
    weak_order, stationary_order, strong_order : number or None
        Orders in the step size of averages at fixed time, of the stationary distribution (inf where it is exact), and
        of single trajectories at common noise; None where meaningless.
    gradients_per_step : int
    samples_boltzmann : bool
        Whether the stationary distribution tends to exp(-V/T) as the step size goes to 0, under a noise that does not
        change it.
    thermal : bool
        Whether it has noise of its own, so that a temperature makes sense.
    metropolis : bool
        Whether a step is a proposal that is accepted or rejected; it then needs all data, and reports acceptance.
    brownian : bool
        Whether the path between two steps is a Brownian bridge, so that crossings of a boundary can be tested for.
    may_rest : bool
        Whether a schedule of its rate may reach 0, where a step leaves the position as it is.
    memory_names : tuple of str
        Arrays like the position that a state carries besides it.
    flips_on_reflection : tuple of str
        Those among them that point along the coordinates: a reflecting boundary changes their sign.
    per_chain : tuple of str
        Settings, besides the step size, that may be one value or one per chain.
    target_acceptance : float or None
        Mean acceptance at which it is most efficient, which `warm_up` tunes it to; None where there is none.
    capturable : bool
        Whether a step may be captured once and replayed on the device: its operations are always the same.
    preconditionable : bool
        Whether its displacements are linear in the gradient and the noise, so that both can be preconditioned.
    opaque_memory : bool
        Whether its memory is another library's, of which is not known what points along coordinates.
    takes : tuple of str
        What the noise has to be, of the facts that a `Noise` states.
    counters : tuple of str
        Numbers of each chain that a run begins at 0 and the rule writes, besides those accepted.
    """

    weak_order: ClassVar[int | None] = None
    stationary_order: ClassVar[float | None] = None
    strong_order: ClassVar[float | None] = None
    gradients_per_step: ClassVar[int] = 1
    samples_boltzmann: ClassVar[bool] = False
    thermal: ClassVar[bool] = False
    metropolis: ClassVar[bool] = False
    brownian: ClassVar[bool] = False
    may_rest: ClassVar[bool] = False
    memory_names: ClassVar[tuple[str, ...]] = ()
    flips_on_reflection: ClassVar[tuple[str, ...]] = ()
    per_chain: ClassVar[tuple[str, ...]] = ()
    target_acceptance: ClassVar[float | None] = None
    capturable: ClassVar[bool] = False
    preconditionable: ClassVar[bool] = False
    opaque_memory: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()
    counters: ClassVar[tuple[str, ...]] = ()

    noise: Noise | None = None
    mass: Mass = None
    mobility: Mobility | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense.

        Raises
        ------
        ConfigError, ShapeError
        """
        check_positive(self.rate, self.step_size)
        check_noise(self.noise, self.takes)
        check_mass(self.mass, matrix=self.metropolis)

    @property
    def rate(self) -> str:
        """Name of the step size: ``"dt"`` or ``"lr"``."""
        return "lr" if hasattr(self, "lr") else "dt"

    @property
    def step_size(self) -> PerChain | Schedule:
        """`dt` or `lr`: one value, one per chain, or a schedule."""
        return getattr(self, self.rate)  # type: ignore[no-any-return]

    def scaled(self, factor: float) -> Integrator:
        """The same rule at so many times its step size.

        Raises
        ------
        ConfigError
            Of a schedule, which is in units of time.
        """
        if as_schedule("the step size", self.step_size) is not None:
            raise ConfigError(f"the step size of {type(self).__name__} is a schedule: give numbers, which are scaled")
        name = self.rate
        if factor == 0 and self.may_rest:
            return replace(self, **{name: piecewise({0.0: 0.0}, by="step")})  # type: ignore[type-var]
        size = np.asarray(self.step_size, dtype=float) * factor
        return replace(self, **{name: float(size) if size.ndim == 0 else size})  # type: ignore[type-var]

    @property
    def thermal_noise(self) -> Noise:
        """The noise that drives a thermal integrator."""
        return self.noise or ThermalNoise()

    @property
    def obeys_boltzmann(self) -> bool:
        """Whether rule and noise together sample the Boltzmann distribution as the step size goes to 0."""
        return self.samples_boltzmann and (not self.thermal or self.thermal_noise.samples_boltzmann)

    def compiled_rule(self) -> CompiledRule | None:
        """What the compiled loops run in place of `step`; None if they have no such rule."""
        return None

    @abstractmethod
    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The position ``(chains, dim)`` one step later; `memory` is updated in place."""

    def check(self, potential: Potential) -> None:
        """Refuse a potential that the rule cannot run on: one of another number of coordinates than it has masses.

        Raises
        ------
        ConfigError, ShapeError
        """
        check_dim(self.mass, potential)

    def check_start(  # most run from anywhere
        self, potential: Potential, position: Tensor, walls: Walls
    ) -> None:
        """Refuse starts and boundaries that the rule cannot run with.

        Raises
        ------
        ConfigError
        """

    def obstacle(self, potential: Potential, position: Tensor) -> str | None:
        """Why the rule cannot go on from some positions ``(chains, dim)``, None if it can."""
        return None

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """Standard deviation of a step's noise, by default sqrt(2 T dt) for thermal integrators and 0 for others."""
        return (2.0 * temperature * dt) ** 0.5 if self.thermal else 0.0 * dt

    @property
    def exit_ratio(self) -> float:
        """Largest `reach` over the distance between absorbing boundaries at which mean exit times are within 2 %.

        Measured for free diffusion from the middle: they are late by 2.3 r (3.7 r for `LeimkuhlerMatthews`). No bound
        where crossings between steps are tested for: free diffusion then leaves at the right time at any step.
        """
        return np.inf if self.brownian and self.thermal_noise.white else 0.007

    def reach(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """Root mean square way of a step by heat alone, by default its noise."""
        return self.amplitude(temperature, dt, settings)

    def spread(self, potential: Potential, position: Tensor) -> Spread | None:
        """Covariance of the noise of a step at positions ``(n, dim)``, see `Noise.spread`."""
        return self.thermal_noise.spread(potential, position)

    def time_per_step(self, dt: Any) -> Any:
        """Time that a step advances."""
        return dt

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """Memory at the start of a run. ``normals()`` gives fresh standard normal variates ``(chains, dim)``."""
        return {name: torch.zeros_like(position) for name in self.memory_names}

    def half_kick(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """By how many gradients each array of memory is ahead of the position, none by default.

        Less so many times grad V(x) it is a momentum of the same time as the position, independent of it in the
        stationary distribution of a quadratic. What is recorded as ``"momentum"`` and what replicas exchange is that.
        """
        return {}

    def exchanged(self, temperature: Any, dt: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Scale of the arrays of memory that grow with temperature or step: replicas exchange multiples of it."""
        return {}

    def kinetic_energy(self, memory: Memory) -> Tensor | None:
        """Kinetic energy ``(chains,)`` of a memory of full steps; None where its momentum is not that of mechanics."""
        return None

    def settle(self, memory: Memory, cache: dict[str, Any]) -> None:  # most keep all they know in memory
        """Write what lives in the cache to memory; called whenever the state may be read from outside."""


def described(integrator: Integrator) -> str:
    """Its name, with that of the noise where it is not a heat bath's."""
    name, noise = type(integrator).__name__, integrator.thermal_noise
    odd = integrator.thermal and not noise.samples_boltzmann
    return f"{name} with {type(noise).__name__}" if odd else name


def check_positive(name: str, value: Any, *, zero: bool = False) -> None:
    """Refuse a step size or rate that is not positive and finite. Schedules are checked when they are evaluated.

    Raises
    ------
    ConfigError
    """
    if isinstance(value, Schedule) or callable(value):
        return
    numbers = _numbers(name, value)
    if not np.all(np.isfinite(numbers)) or np.any(numbers < 0 if zero else numbers <= 0):
        bound = "not negative" if zero else "positive"
        raise ConfigError(f"{name} must be finite and {bound}, got {value!r}")


def check_fraction(name: str, value: Any, *, one: bool = False) -> None:
    """Refuse what is not a number in [0, 1), or in (0, 1] where `one` is included.

    Raises
    ------
    ConfigError
    """
    numbers = _numbers(name, value)
    if not np.all((numbers > 0) & (numbers <= 1) if one else (numbers >= 0) & (numbers < 1)):
        bound = "above 0 and at most 1" if one else "of at least 0 and below 1"
        raise ConfigError(f"{name} must be a number {bound}, got {value!r}")


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    try:
        given = unmasked(value.cpu() if isinstance(value, Tensor) else value)
        numbers = given.astype(float) if given.dtype.kind in "fiu" else None
    except (TypeError, ValueError):
        numbers = None
    if numbers is None:
        raise ConfigError(f"{name} must be a number or one number per chain, got {value!r}")
    if numbers.ndim > 1 or not numbers.size:
        raise ConfigError(f"{name} must be a number or one number per chain, got an array of shape {numbers.shape}")
    return numbers


def check_noise(noise: Noise | None, takes: tuple[str, ...] = ()) -> None:
    """Refuse what is not a noise, or not one that has these facts.

    Raises
    ------
    ConfigError
    """
    if noise is not None and not (isinstance(noise, Noise) and all(getattr(noise, fact) for fact in takes)):
        wanted = " and ".join(takes)
        hint = f": write {noise.__name__}(...)" if isinstance(noise, type) else ""
        raise ConfigError(
            f"expected a noise{' that is ' + wanted if wanted else ''}, such as ThermalNoise(precision='float64'), got "
            f"{noise!r}{hint}"
        )
