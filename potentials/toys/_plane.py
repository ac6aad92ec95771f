"""Surfaces over the plane with several wells: stationary points by Newton, averages by adaptive quadrature."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from landscape.errors import ConfigError
from landscape.potentials.expression.quadrature import Array, average, average_in_box, graded_edges
from landscape.potentials.toys._closed_forms import (
    Law,
    Toy,
    of_values,
    one_temperature,
    per_temperature,
    per_value,
    polish,
)

__all__ = ["PlaneToy"]

NEGLIGIBLE = 60.0  # exp(-60) = 1e-26 of the largest weight


class PlaneToy(Toy):
    """A smooth V(x, y) that grows without limit in every direction.

    A subclass names its stationary points to a few digits and says how far out V can be within a given height.
    """

    _minima: ClassVar[Sequence[tuple[float, float]]]
    _saddles: ClassVar[Sequence[tuple[float, float]]]

    @abstractmethod
    def _box(self, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """An interval for x and one for y outside which V > V_min + `height`."""

    def minima(self) -> Tensor:
        """Local minima, shape ``(n, 2)``, deepest first; the gradient there is zero to rounding."""
        return self._sorted(self._minima)

    def saddles(self) -> Tensor:
        """First-order saddle points, shape ``(n, 2)``, lowest first; the gradient there is zero to rounding."""
        return self._sorted(self._saddles)

    def _sorted(self, guesses: Sequence[tuple[float, float]]) -> Tensor:
        points = polish(self, guesses)
        return points[np.argsort(self.energy(points).numpy(), kind="stable")]

    def default_start(self) -> Tensor:
        """The deepest minimum."""
        return self.minima()[0]

    def _spot(self, temperature: float) -> tuple[float, list[Array]]:
        """Lowest energy, and cell edges along x and y that resolve every well at this temperature."""
        wells = self.minima()
        bend = float(self.hessian(wells).diagonal(dim1=-2, dim2=-1).sum(-1).max())
        width = math.sqrt(temperature / bend)
        edges = []
        for axis, (low, high) in enumerate(self._box(NEGLIGIBLE * temperature)):
            finest = min(width / (high - low), 0.05)
            edges.append(graded_edges(low, high, wells[:, axis].tolist(), finest=finest, ends=False))
        return float(self.energy(wells[0])), edges

    def _averages(self, temperature: float, observables: Callable[[Array, Array], Sequence[Array]]) -> Any:
        """Lowest energy, ln of the integral of exp(-excess/T), and averages of observables(position, excess)."""
        lowest, edges = self._spot(temperature)

        def log_weight(position: Array) -> Array:
            energy: Array = self.energy(position)
            return (lowest - energy) / temperature

        log_norm, values = average_in_box(log_weight, lambda at, w: observables(at, -temperature * w), edges)
        return lowest, log_norm, values

    def _law(self, temperature: float) -> Law:
        lowest, log_norm, (mean, square) = self._averages(temperature, lambda at, excess: [excess, excess**2])
        return Law(log_norm - lowest / temperature, lowest + float(mean), float(square - mean**2))

    def _curvature(self, temperature: float) -> float:
        def trace(at: Array, excess: Array) -> list[Array]:
            return [np.trace(self.hessian(at), axis1=-2, axis2=-1)]

        return float(self._averages(temperature, trace)[2][0])

    def log_partition_function(self, temperature: Any) -> Any:
        """ln Z(T), by quadrature to about 1e-12."""

        def log_partition(t: float) -> float:
            lowest, log_norm, _ = self._averages(t, lambda position, excess: [])
            return float(log_norm - lowest / t)

        return per_temperature(log_partition, temperature)

    def mean_position(self, temperature: float) -> Array:
        """Boltzmann average of x and y, shape ``(2,)``, by quadrature to about 1e-12.

        Parameters
        ----------
        temperature : float

        Examples
        --------
        >>> from landscape.potentials.toys import MullerBrown
        >>> MullerBrown().mean_position(10.0).round(6)
        array([-0.543664,  1.394512])
        """
        t = one_temperature(temperature)
        position: Array = self._averages(t, lambda position, excess: [position[:, 0], position[:, 1]])[2]
        return position

    @of_values
    def marginal(self, values: Any, temperature: float, coordinate: str | int = "x") -> Any:
        """Boltzmann probability density of one coordinate at `values`.

        Notes
        -----
        One quadrature per value, and one over the plane.
        """
        log_partition = self.log_partition_function(one_temperature(temperature))
        return self._per_line(values, temperature, coordinate, lambda log_line, t: np.exp(log_line - log_partition))

    @of_values
    def effective_potential(self, values: Any, temperature: float, coordinate: str | int = "x") -> Any:
        """Free energy -T ln of the integral of exp(-V/T) over the other coordinate, at `values` of this one.

        Notes
        -----
        One quadrature per value.
        """
        return self._per_line(values, temperature, coordinate, lambda log_line, t: -t * log_line)

    def _per_line(
        self, values: Any, temperature: float, coordinate: str | int, answer: Callable[[Array, float], Array]
    ) -> Any:
        t = one_temperature(temperature)
        axis = self.coordinate_index(coordinate)
        return per_value(lambda v: answer(self._log_line(v, t, axis), t), values)

    def _log_line(self, values: Array, temperature: float, axis: int) -> Array:
        """ln of the integral of exp(-V/T) over the other coordinate."""
        _, edges = self._spot(temperature)
        other = edges[1 - axis]

        def line(value: float) -> float:
            def log_weight(across: Array) -> Array:
                position = np.empty((len(across), 2))
                position[:, axis], position[:, 1 - axis] = value, across
                energy: Array = self.energy(position)
                return -energy / temperature

            if not math.isfinite(value):
                raise ConfigError(f"expected finite values of {'xy'[axis]}, got {value}")
            # Beyond the box the lowest energy at this value may lie further out.
            far = max(0.0, edges[axis][0] - value, value - edges[axis][-1])
            span = (1.0 + far) * (other[-1] - other[0])
            with np.errstate(over="ignore"):
                if np.all(np.isinf(log_weight(np.linspace(other[0] - span, other[-1] + span, 101)))):
                    return -math.inf  # so far out that the energy overflows
            return average(log_weight, low=other[0] - span, high=other[-1] + span)[0]

        return np.array([line(float(v)) for v in values])
