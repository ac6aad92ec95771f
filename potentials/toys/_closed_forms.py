"""What the closed forms of all toys share: checks, scalars or arrays in and out, one law at a time inside."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import sympy
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape.common.docstrings import documented
from landscape.errors import ConfigError, ConvergenceError
from landscape.potentials.expression.potential import Expression, plain_bounds
from landscape.potentials.expression.quadrature import Array

__all__ = [
    "Law", "Toy", "check_positive", "entropic_force", "of_temperature", "of_values", "one_temperature", "passage",
    "per_temperature", "per_value", "polish", "symbol",
]  # fmt: skip

entropic_force = documented(
    {},
    References="Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized\n"
    "Neural Networks, section 2.",
)
of_temperature = documented(
    {"temperature": "temperature : float or array"}, Returns="float or array of `temperature`'s shape"
)
of_values = documented(
    {
        "values": "values : array, xarray.DataArray or tensor\n    Where.",
        "temperature": "temperature : float",
        "coordinate": 'coordinate : str or int, optional\n    ``"x"`` or ``"y"``.',
    },
    Returns="of `values`' kind and shape",
)
passage = documented(
    {"start": "start, target : float", "target": "start, target : float", "temperature": "temperature : float"},
    Returns="float\n    Infinite where it exceeds 1e308.",
)


@dataclass(frozen=True, slots=True)
class Law:
    """Boltzmann averages at one temperature: ln Z, <V> and <V^2> - <V>^2."""

    log_partition: float
    mean: float
    variance: float


class Toy(Expression):
    """A formula that knows its Boltzmann distribution: a subclass has `_law` and the other private methods it can.

    Attributes
    ----------
    slow_coordinate : str or None
        The one that `marginal` and `effective_potential` speak of, where there are several.
    """

    slow_coordinate: ClassVar[str | None] = None

    @property
    def kind(self) -> str:
        """Its own name."""
        return type(self).__name__

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, some of which are numbers of the formula."""
        names = inspect.signature(type(self)).parameters
        kept = self.parameters | {"bounds": plain_bounds(self.bounds)}
        return {name: kept[name] if name in kept else getattr(self, name) for name in names}

    @abstractmethod
    def _law(self, temperature: float) -> Law: ...

    def log_partition_function(self, temperature: Any) -> Any:
        """ln Z(T), Z = integral of exp(-V/T) over the region inside the boundaries; of `temperature`'s shape."""
        return per_temperature(lambda t: self._law(t).log_partition, temperature)

    def mean_energy(self, temperature: Any) -> Any:
        """Boltzmann average <V> = T^2 d ln Z / dT, of `temperature`'s shape."""
        return per_temperature(lambda t: self._law(t).mean, temperature)

    def energy_variance(self, temperature: Any) -> Any:
        """Boltzmann variance <V^2> - <V>^2 = T^2 d<V>/dT, of `temperature`'s shape."""
        return per_temperature(lambda t: self._law(t).variance, temperature)

    def mean_curvature(self, temperature: Any) -> Any:
        """Boltzmann average of the trace of the Hessian, of `temperature`'s shape."""
        return per_temperature(self._curvature, temperature)

    @of_values
    def marginal(self, values: Any, temperature: float) -> Any:
        """Boltzmann probability density of the slow coordinate at `values`; zero beyond the boundaries."""
        t = one_temperature(temperature)
        return per_value(lambda v: self._density(v, t), values)

    @of_values
    def effective_potential(self, values: Any, temperature: float) -> Any:
        """Free energy -T ln(marginal) along the slow coordinate, up to a constant; infinite beyond the boundaries."""
        t = one_temperature(temperature)
        return per_value(lambda v: self._effective(v, t), values)

    def _curvature(self, temperature: float) -> float:
        raise self._no_closed_form("mean_curvature")

    def _density(self, values: Array, temperature: float) -> Array:
        raise self._no_closed_form("marginal")

    def _effective(self, values: Array, temperature: float) -> Array:
        raise self._no_closed_form("effective_potential")

    def _line(self, values: Array) -> Array:
        """V along a toy's only coordinate."""
        energy: Array = self.energy(np.asarray(values, dtype=np.float64)[..., None])
        return energy

    def _rows(self, rows: Any) -> Tensor:
        return torch.as_tensor(np.array(rows, dtype=np.float64).reshape(-1, self.dim))


def per_temperature(function: Callable[[float], float], temperature: Any) -> Any:
    """`function` at each temperature: a float for a scalar, else an array, DataArray or tensor like `temperature`."""
    values = _numbers(temperature, "temperature")
    if not np.all(np.isfinite(values) & (values > 0.0)):
        raise ConfigError(
            f"a closed form needs temperatures that are positive and finite, got {temperature!r}; "
            "they are in units of the energy (k_B = 1)"
        )
    result = np.array([function(float(t)) for t in values.ravel()]).reshape(values.shape)
    return _like(temperature, result)


def per_value(function: Callable[[Array], Array], values: Any) -> Any:
    """`function` of an array of floats: a float for a scalar, else an array, DataArray or tensor like `values`."""
    given = _numbers(values, "values")
    return _like(values, function(given.ravel()).reshape(given.shape))


def one_temperature(temperature: Any) -> float:
    """A single positive temperature as a float."""
    if np.ndim(temperature) != 0:
        raise ConfigError(f"expected one temperature, got shape {np.shape(temperature)}: call it once for each")
    return float(per_temperature(lambda t: t, temperature))


def symbol(name: str) -> Any:
    """The symbol that stands for a coordinate or parameter of that name in a formula."""
    return sympy.Symbol(name, real=True)  # type: ignore[no-untyped-call]


def check_positive(toy: str, **settings: Any) -> None:
    """Refuse settings that are not positive finite numbers."""
    for name, value in settings.items():
        number = _numbers(value, f"{toy}'s {name}")
        if number.ndim or not np.isfinite(number) or number <= 0.0:
            raise ConfigError(f"{toy} needs one positive finite number as {name}, got {value!r}")


def polish(toy: Expression, guesses: Any) -> Tensor:
    """Stationary points to rounding: Newton steps x <- x - H(x)^-1 grad V(x) from guesses near them.

    Parameters
    ----------
    toy : Expression
    guesses : sequence of positions, shape ``(n, dim)``

    Returns
    -------
    tensor of float64, shape ``(n, dim)``

    Raises
    ------
    ConvergenceError
        If the last step is larger than 1e-12 of the position.
    """
    position = torch.tensor(guesses, dtype=torch.float64)
    for _ in range(8):
        step = torch.linalg.solve(toy.hessian(position), toy.gradient(position))
        position = position - step
    if not bool(torch.all(step.abs() <= 1e-12 * (1.0 + position.abs()))):
        raise ConvergenceError(f"Newton steps from {guesses} do not settle", estimate=position)
    return position


def _numbers(values: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if array.dtype.kind not in "fiu":
        raise ConfigError(f"{name} must be real numbers, got {values!r}")
    return array.astype(np.float64)


def _like(given: Any, result: NDArray[np.float64]) -> Any:
    if isinstance(given, xr.DataArray):
        return xr.DataArray(result, coords=given.coords, dims=given.dims)
    if isinstance(given, Tensor):
        return torch.from_numpy(np.asarray(result)).to(given.device)
    return float(result) if result.ndim == 0 else result
