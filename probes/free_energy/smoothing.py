"""Kernels that read a density at points along one or two coordinates, boundaries and periods minded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.checks import whole_number
from landscape.errors import ConfigError
from landscape.probes.estimation.series import FloatArray, IntArray
from landscape.probes.free_energy.averages import chosen_values
from landscape.probes.free_energy.multistate import Multistate

__all__ = ["Axis", "Smoothed", "check_period", "kernel", "nearest_image", "readings", "smoothed"]

POINTS = 30  # of a profile


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Points on a coordinate, the width of the kernel, its boundaries and its period (0 without one)."""

    name: str
    points: FloatArray
    width: float
    walls: tuple[float, float] = (-np.inf, np.inf)
    period: float = 0.0

    @classmethod
    def of(cls, name: str, values: FloatArray, walls: Any, known: Any, at: Any, width: Any, period: Any) -> Axis:
        """Where nothing is said: `POINTS` points over the samples or the period, the kernel as wide as their spacing.

        Raises
        ------
        ConfigError, ShapeError
        """
        turn = check_period(period) or (float(known[1] - known[0]) if known is not None else 0.0)
        ends = (-np.inf, np.inf) if turn or walls is None else walls
        if at is None or (isinstance(at, int | np.integer) and not isinstance(at, bool)):
            low, high = float(values.min()), float(values.max())
            if turn:
                low = float(known[0]) if known is not None else -0.5 * turn
                high = low + turn
            edges = np.linspace(low, high, whole_number("at", POINTS if at is None else int(at), least=2) + 1)
            at = 0.5 * (edges[1:] + edges[:-1])
        points = chosen_values("at", at)
        if not bool(((points >= ends[0]) & (points <= ends[1])).all()):
            raise ConfigError(f"a value of {name} lies beyond the walls ({ends[0]:g}, {ends[1]:g})")
        wide = float(np.diff(points).min()) if width is None else width
        if isinstance(wide, bool) or not isinstance(wide, int | float | np.number) or not 0 < wide < np.inf:
            raise ConfigError(f"width must be one positive number for each coordinate, got {width!r}")
        return cls(name, points, float(wide), (float(ends[0]), float(ends[1])), turn)

    @property
    def edges(self) -> FloatArray:
        """Halfway between points, and as far beyond the first and the last."""
        middle = 0.5 * (self.points[1:] + self.points[:-1])
        return np.concatenate([[2 * self.points[0] - middle[0]], middle, [2 * self.points[-1] - middle[-1]]])

    def turning(self, values: FloatArray) -> list[FloatArray]:
        """Series whose correlations count: sine and cosine where the coordinate is periodic."""
        if not self.period:
            return [values]
        angle = 2.0 * np.pi / self.period * values
        return [np.cos(angle), np.sin(angle)]

    def weights(self, values: FloatArray, point: float) -> tuple[IntArray, FloatArray]:
        """Samples near a point, and the kernel at each: a parabola of the part inside the boundaries, 0 beyond it."""
        half = 0.5 * self.width
        apart = nearest_image(values - point, self.period) / half
        ends = (-1.0, 1.0) if self.period else [float(np.clip((wall - point) / half, -1, 1)) for wall in self.walls]
        level, tilt, bend = kernel(*ends)
        near = np.flatnonzero(np.abs(apart) < 1.0)
        u = apart[near]
        return near, level + tilt * u + bend * u**2


def readings(axes: Sequence[Axis], values: Sequence[FloatArray]) -> Iterator[tuple[IntArray, FloatArray]]:
    """For each point of the grid, in order: the samples that its kernel sees, and the kernel at each."""
    for point in axes[0].points:
        near, weight = axes[0].weights(values[0], float(point))
        if len(axes) == 1:
            yield near, weight
            continue
        for other in axes[1].points:
            inside, factor = axes[1].weights(values[1][near], float(other))
            yield near[inside], weight[inside] * factor


def check_period(period: Any) -> float:
    """A period, 0 for none.

    Raises
    ------
    ConfigError
    """
    number = isinstance(period, int | float | np.integer | np.floating) and not isinstance(period, bool)
    if period is None or (number and 0 < period < np.inf):
        return float(period or 0.0)
    raise ConfigError(f"period must be one positive number, such as 2 pi of an angle, got {period!r}")


def nearest_image(apart: FloatArray, period: float) -> FloatArray:
    """Differences along a coordinate, between -period/2 and period/2 where it has one."""
    return apart - period * np.round(apart / period) if period else apart


def kernel(low: float, high: float) -> FloatArray:
    """Parabola c_0 + c_1 u + c_2 u^2 on low < u < high of integral 1, without first and second moment."""
    power = np.arange(3) + np.arange(3)[:, None] + 1.0
    moments = (high**power - low**power) / power
    return np.asarray(np.linalg.solve(moments, np.array([1.0, 0.0, 0.0])))


@dataclass(frozen=True, slots=True, eq=False)
class Smoothed:
    """Logarithms of densities at points, how they respond to the cells of a pool, and samples that carry each."""

    logs: FloatArray
    responses: FloatArray
    effective: FloatArray


def smoothed(
    pool: Multistate, weights: FloatArray, axes: Sequence[Axis], values: Sequence[FloatArray], inefficiency: FloatArray
) -> Smoothed:
    """ln sum_n w_n K(q_n - z) at all points z; NaN where the sum is not positive."""
    logs, responses, effective = [], [], []
    for near, factor in readings(axes, values):
        part = weights[near] * factor
        mass = float(part.sum())
        known = mass > 0.0
        logs.append(np.log(mass) if known else np.nan)
        responses.append(pool.response(part / mass, near) if known else np.full(pool.cells, np.nan))
        effective.append(pool.effective(weights[near], inefficiency, near))
    return Smoothed(np.array(logs), np.stack(responses), np.array(effective))
