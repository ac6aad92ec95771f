"""Noise with a memory: the Ornstein-Uhlenbeck process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.per_chain import numbers
from landscape.errors import ConfigError
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.base import Noise, check_precision, standard_normals
from landscape.noise.forms import CompiledNoise
from landscape.potentials.base import Potential
from landscape.random import Precision

__all__ = ["ColoredNoise", "coefficients"]


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class ColoredNoise(Noise):
    """Noise with a correlation time: dx = -grad V dt + eta dt, eta an Ornstein-Uhlenbeck process.

    d eta = -(eta/tau) dt + (sqrt(2T)/tau) dW, so that <eta(t) eta(t')> = (T/tau) exp(-|t - t'|/tau)

    A step takes the pair (integral of eta over dt, eta) from its exact joint law, the force held fixed; eta starts in
    its stationary distribution. For tau -> 0 it is white noise of covariance 2 T dt. It drives no system to
    equilibrium: a quadratic of stiffness k has <x^2> = T/[k (1 + k tau)] as dt -> 0, to first order in dt with
    `EulerMaruyama` and to second with `Heun`.

    Parameters
    ----------
    correlation_time : float, or one per chain
        tau, in units of time.
    precision : {"float32", "float64"}
        Resolution of the variates.

    Raises
    ------
    ConfigError
        If the correlation time is not positive, or the precision unknown.

    References
    ----------
    Gillespie, "Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral", Phys. Rev. E 54, 2084
    (1996), eqs. 2.10-2.13.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("x**2/2", ["x"])
    >>> rule = ls.EulerMaruyama(dt=0.05, noise=ls.ColoredNoise(correlation_time=1.0))
    >>> run = ls.simulate(spring, rule, temperature=1.0, chains=4000, steps=200, seed=0, record=ls.Record(200))
    >>> abs(float((run.last_position**2).mean()) - 1 / (1 + 1.0)) < 0.05
    True
    """

    correlation_time: float | Sequence[float] | NDArray[Any]
    precision: Precision = "float32"

    memory_names: ClassVar[tuple[str, ...]] = ("colored_noise",)
    variates: ClassVar[int] = 2
    white: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    per_chain: ClassVar[tuple[str, ...]] = ("correlation_time",)

    def __post_init__(self) -> None:
        check_precision(self.precision)
        tau = self.correlation_time
        values = np.array(np.nan) if isinstance(tau, bool) else numbers("correlation_time", tau)
        if not ((values > 0) & (values < np.inf)).all():
            raise ConfigError(f"correlation_time must be a positive number, got {tau!r}; ThermalNoise is white")

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """eta from its stationary distribution, N(0, T/tau)."""
        tau = torch.as_tensor(np.asarray(self.correlation_time, dtype=np.float64)).to(temperature)
        return {"colored_noise": (temperature / (tau[:, None] if tau.ndim else tau)).sqrt() * normals()}

    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Standard normal variates of one step, ``(chains, 2 dim)``."""
        return standard_normals(seed, chains, step, 2 * dim, self.precision)

    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The integral of eta over the step."""
        tau = at.settings["correlation_time"] if np.ndim(self.correlation_time) else float(self.correlation_time)  # type: ignore[arg-type]
        decay, shift, along, shared, own = coefficients(tau, at.dt, at.temperature)
        first, second = at.noise().chunk(2, dim=1)
        eta = memory["colored_noise"]
        memory["colored_noise"] = decay * eta + shared * first + own * second
        return shift * eta + along * first

    def numbers(self, dt: Any, temperature: Any, settings: Mapping[str, Any]) -> list[NDArray[np.float64]]:
        """See `coefficients`."""
        given = (torch.from_numpy(row) for row in (settings["correlation_time"], dt, temperature))
        return [row.numpy() for row in coefficients(*given)]

    def compiled_form(self, formula: Potential) -> CompiledNoise | str:
        """The variates as they are."""
        return CompiledNoise()


def coefficients(tau: Any, dt: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(a, b, c, d, e) of eta' = a eta + d xi1 + e xi2 and of the integral b eta + c xi1, in the shape of `dt`.

    a = exp(-dt/tau), b = tau (1 - a), and with A = 2 dt/tau - 3 + 4 a - a^2 the covariance of the pair is
    T tau A, T (1 - a)^2, (T/tau) (1 - a^2).
    """
    r = (dt / tau).to(torch.float64)
    fall = -torch.expm1(-r)  # 1 - a
    # the closed form loses all digits as r -> 0: there its series
    area = torch.where(r < 1e-3, r**3 * (2 / 3 - r / 2 + 7 * r**2 / 30), 2 * r - 2 * fall - fall**2)
    heat = temperature.to(torch.float64)
    along = (heat * tau * area).sqrt()
    shared = heat.sqrt() * fall**2 / (tau * area).sqrt()
    own = (heat / tau * (fall * (2 - fall) - fall**4 / area).clamp_min(0.0)).sqrt()
    return tuple(value.to(dt.dtype) for value in (1 - fall, tau * fall, along, shared, own))  # type: ignore[return-value]
