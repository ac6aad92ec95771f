"""Histogram of one variable or of two together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.observers.base import (
    Accumulator,
    FloatArray,
    Observer,
    Source,
    Variables,
    check_observer,
    units_of,
)

__all__ = ["Histogram"]


@guarded_class
@dataclass(frozen=True, slots=True)
class Histogram(Observer):
    """Number of samples in equal bins, of one variable or of two together.

    Bin i of n between low and high holds low + i w <= x < low + (i + 1) w with w = (high - low) / n; the last one holds
    x = high too. These are the bins of `numpy.histogram` and of `landscape.probes.free_energy.profile`.

    Parameters
    ----------
    of : str, sequence of two str, or callable
        See `Observer`; one or two columns.
    bins : int or (int, int)
        How many, for both variables or for each.
    range : (float, float) or two of them
        Lowest and highest value, for both variables or for each. It has to be given: what comes cannot be foreseen.
    every : int, optional
        Steps between samples; the cadence of the record unless given.
    period : float or (float, float), optional
        Of periodic variables, None for one that has none: samples are wrapped into the range, which is no longer.

    Returns
    -------
    Variables named after what is observed, here x:
        ``x_count (chain, x_bin)``, samples in each bin; ``x_below`` and ``x_above (chain)``, samples beyond either
        end; ``x_total (chain)``, all of them. Coordinate ``x_bin``, centres of the bins. Of two variables x and y
        named x_y: ``x_y_count (chain, x_y_x, x_y_y)`` on centres ``x_y_x`` and ``x_y_y``, ``x_y_outside (chain)`` and
        ``x_y_total (chain)``. NaN counts nowhere.

    Raises
    ------
    ConfigError
        If a setting makes no sense.

    Notes
    -----
    A bin that a boundary cuts holds less than its width: `landscape.probes.free_energy.profile` of the run and the name
    of the coordinate, or of the counts with `bounds`, takes that into account. Counts carry no error: those of
    successive samples are correlated, and the scatter between chains tells how much. Memory: 8 bytes per chain and bin.
    No gradients.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(4, 10_000))
    >>> found = Histogram("x", bins=4, range=(-2, 2)).apply(x)
    >>> found.x_bin.values.tolist()
    [-1.5, -0.5, 0.5, 1.5]
    >>> expected = 40_000 * 0.3413447  # between one standard deviation and the mean
    >>> bool((abs(found.x_count.sum("chain")[1:3] - expected) < 4.5 * expected**0.5).all())
    True
    """

    of: Source
    bins: int | Sequence[int] = 60
    range: Sequence[float] | Sequence[Sequence[float]] | None = None
    every: int | None = None
    period: float | Sequence[float | None] | None = None

    def __post_init__(self) -> None:
        check_observer(self)
        for name in ("bins", "range", "period"):
            value = getattr(self, name)
            if isinstance(value, list | np.ndarray):
                object.__setattr__(self, name, tuple(tuple(one) if np.ndim(one) else one for one in value))
        limits = self._range()
        try:
            width = 2 if np.ndim(self.bins) or np.ndim(limits) > 1 else 1
        except ValueError:  # ragged
            raise ConfigError(
                f"Histogram(bins=..., range=...) must be numbers in rows of equal length, got bins={self.bins!r}, "
                f"range={self.range!r}"
            ) from None
        self._periods(width, self._axes(width))

    def _range(self) -> Any:
        if self.range is None:
            raise ConfigError(f"Histogram({self.label!r}) needs a range: give range=(low, high)")
        return self.range

    def _axes(self, width: int) -> list[FloatArray]:
        """Edges of the bins along each variable."""
        both = "(low, high) with low < high, or one such pair for each of two variables"
        try:
            bins = np.broadcast_to(np.asarray(self.bins, dtype=object), (width,))
            limits = np.broadcast_to(np.asarray(self._range(), dtype=float), (width, 2))
        except (TypeError, ValueError):
            raise ConfigError(
                f"Histogram of {width} variable(s) got bins={self.bins!r}, range={self.range!r}; expected a number of "
                f"bins, or one for each variable, and {both}"
            ) from None
        if not np.isfinite(limits).all() or not (limits[:, 0] < limits[:, 1]).all():
            raise ConfigError(f"Histogram(range=...) must be {both}, got {self.range!r}")
        return [
            np.linspace(low, high, whole_number("bins", count) + 1)
            for count, (low, high) in zip(bins, limits, strict=True)
        ]

    def _periods(self, width: int, edges: list[FloatArray]) -> list[float | None]:
        """Period of each variable, or None."""
        each = list(self.period) if isinstance(self.period, Sequence) else [self.period] * width
        if len(each) != width:
            raise ConfigError(
                f"Histogram(period=...) must be one number or one for each of {width}, got {self.period!r}"
            )
        for period, along in zip(each, edges, strict=True):
            reach = float(along[-1] - along[0])
            sensible = isinstance(period, int | float) and not isinstance(period, bool) and period < np.inf
            if period is not None and not (sensible and reach <= float(period) * (1.0 + 1e-9)):
                raise ConfigError(
                    f"Histogram(period=...) must be a finite number, at least the length of the range {reach:g}, got "
                    f"{period!r}"
                )
        return each

    def accumulator(self, chains: int, width: int) -> HistogramAccumulator:
        """An empty accumulator for samples of one or two columns."""
        if width not in (1, 2):
            raise ConfigError(f"a Histogram of {self.label!r} takes one or two columns, got {width}: name those wanted")
        edges = self._axes(width)
        return HistogramAccumulator(self, chains, edges, self._periods(width, edges))


class HistogramAccumulator(Accumulator):
    """Counts of `Histogram`, with one more bin on either side for what lies beyond."""

    def __init__(
        self, observer: Histogram, chains: int, edges: list[FloatArray], periods: Sequence[float | None]
    ) -> None:
        self.observer, self.edges, self.periods = observer, edges, list(periods)
        shape = [len(along) + 1 for along in edges]
        super().__init__(chains, len(edges), {"counts": np.zeros((chains, *shape), np.int64)})

    def _update(self, block: NDArray[Any]) -> None:
        from landscape.observers import kernels  # compiled: only where samples arrive

        if any(self.periods):
            columns = [
                block[..., j] if not period else along[0] + np.mod(block[..., j].astype(np.float64) - along[0], period)
                for j, (period, along) in enumerate(zip(self.periods, self.edges, strict=True))
            ]
            block = np.ascontiguousarray(np.stack(columns, axis=-1))
        axes = [part for along in self.edges for part in (along, (len(along) - 1) / (along[-1] - along[0]))]
        count = kernels.count_one if self.width == 1 else kernels.count_two
        count(block, *axes, self.state["counts"])

    def result(self, name: str, spacing: ArrayLike) -> Variables:
        """Counts on bin centres, and how many samples lie beyond."""
        counts, of = self.state["counts"], self.observer.of
        inner = counts[(slice(None), *[slice(1, -1)] * self.width)]
        total = counts.reshape(self.chains, -1).sum(axis=1)
        if self.width == 1:
            dims = [f"{name}_bin"]
            beyond = {"below": counts[:, 0], "above": counts[:, -1]}
        else:
            names = of if isinstance(of, tuple) else ("0", "1")
            dims = [f"{name}_{one}" for one in names]
            beyond = {"outside": total - inner.reshape(self.chains, -1).sum(axis=1)}
        variables: Variables = {}
        for dim, edges in zip(dims, self.edges, strict=True):
            about = {"long_name": f"centre of {dim}", "units": units_of(of)}
            variables[dim] = ((dim,), 0.5 * (edges[1:] + edges[:-1]), about)
        counted = {"long_name": f"samples of {name} in the bin", "units": "1"}
        variables[f"{name}_count"] = (("chain", *dims), inner.copy(), counted)
        for where, number in (beyond | {"total": total}).items():
            text = f"samples of {name} {where} the range" if where in beyond else f"samples of {name}"
            variables[f"{name}_{where}"] = (("chain",), number.copy(), {"long_name": text, "units": "1"})
        return variables
