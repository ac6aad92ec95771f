"""How long a variable stays in the cells of a line, and where it goes from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.observers.base import Accumulator, Observer, Source, Variables, check_observer, units_of
from landscape.statistics import lengthen, student_factor

__all__ = ["Residence"]


@guarded_class
@dataclass(frozen=True, slots=True)
class Residence(Observer):
    """Time in each cell, visits and how long they last, transitions, and the first exit.

    The edges e_1 < ... < e_m cut the line into m + 1 cells: x < e_1, e_1 <= x < e_2, ..., x >= e_m. A visit is an
    unbroken row of samples in a cell and lasts as many spacings. It is complete once the chain is seen elsewhere; the
    very first has no known beginning and is reported as the first exit instead, counted from the first sample.

    Parameters
    ----------
    of : str or callable
        See `Observer`; one column.
    edges : sequence of float
        Ascending.
    every : int, optional
        Steps between samples; the cadence of the record unless given.

    Returns
    -------
    Variables named after what is observed, here x:
        ``x_time (chain, x_cell)``, time spent; ``x_visits (chain, x_cell)``, complete visits;
        ``x_residence_time (chain, x_cell)`` per complete visit, and its ``_stderr``; ``x_transitions (chain, x_cell,
        x_next_cell)``; ``x_start_cell (chain)``, -1 without samples; ``x_first_exit_time (chain)``, NaN where the chain
        never left. Coordinates ``x_cell_low (x_cell)`` and ``x_cell_high``.

    Raises
    ------
    ConfigError
        If a setting makes no sense.

    Notes
    -----
    The error takes visits as independent, which holds where a cell forgets how it was entered; it is that of a scale,
    with Student's factor, and needs three visits. A
    chain that crosses back and forth between samples is not seen to leave: all times depend on the spacing. At an edge
    that diffusion crosses, most visits are short for any spacing. NaN is left out. Memory: a few numbers per chain and
    pair of cells. No gradients.

    Examples
    --------
    >>> x = [[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]]
    >>> found = Residence("x", edges=[0.5]).apply(x, spacing=0.1)
    >>> found.x_time.values.round(6).tolist(), found.x_visits.values.tolist()
    ([[0.3, 0.4]], [[1, 1]])
    >>> found.x_residence_time.values.round(6).tolist(), found.x_first_exit_time.values.tolist()
    ([[0.1, 0.3]], [0.2])
    """

    of: Source
    edges: Sequence[float]
    every: int | None = None

    def __post_init__(self) -> None:
        check_observer(self)
        try:
            edges = np.asarray(self.edges, dtype=float)
        except (TypeError, ValueError):
            edges = np.zeros(0)
        if edges.ndim != 1 or not edges.size or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
            raise ConfigError(f"Residence(edges=...) must be finite numbers in ascending order, got {self.edges!r}")
        object.__setattr__(self, "edges", tuple(edges.tolist()))

    def accumulator(self, chains: int, width: int) -> ResidenceAccumulator:
        """An empty accumulator for samples of one column."""
        if width != 1:
            raise ConfigError(f"a Residence of {self.label!r} takes one column, got {width}: name the one wanted")
        return ResidenceAccumulator(self, chains)


class ResidenceAccumulator(Accumulator):
    """Counts of `Residence`, and where each chain is."""

    def __init__(self, observer: Residence, chains: int) -> None:
        self.observer = observer
        cells = len(observer.edges) + 1
        # in the order in which the kernel takes them
        state: dict[str, NDArray[Any]] = {
            "cell": np.full(chains, -1, np.int64),
            "length": np.zeros(chains, np.int64),
            "spent": np.zeros((chains, cells), np.int64),
            "start_cell": np.full(chains, -1, np.int64),
            "exited": np.full(chains, -1, np.int64),
            "transitions": np.zeros((chains, cells, cells), np.int64),
            "visits": np.zeros((chains, cells), np.int64),
            "mean": np.zeros((chains, cells)),
            "scatter": np.zeros((chains, cells)),
        }
        self._order = tuple(state)
        super().__init__(chains, 1, state)

    def _update(self, block: NDArray[Any]) -> None:
        from landscape.observers import kernels  # compiled: only where samples arrive

        kernels.follow_visits(block, np.array(self.observer.edges), *[self.state[name] for name in self._order])

    def result(self, name: str, spacing: ArrayLike) -> Variables:
        """Times, visits, transitions and the first exit."""
        step, s = self._spacing(spacing), self.state
        visits, each = s["visits"], self._spacing(spacing)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(visits > 0, s["mean"], np.nan) * each
            scatter = np.sqrt(s["scatter"] / np.where(visits > 2, (visits - 1.0) * visits, np.nan)) * each
            error = lengthen(mean, scatter * student_factor(visits - 1.0))
        exit_time = np.where(s["exited"] >= 0, s["exited"], np.nan) * step
        cell, units = f"{name}_cell", units_of(self.observer.of)
        lows, highs = np.array([-np.inf, *self.observer.edges]), np.array([*self.observer.edges, np.inf])
        per_visit = f"residence time of {name} per visit"
        table: dict[str, tuple[tuple[str, ...], NDArray[Any], str, str]] = {
            "time": (("chain", cell), s["spent"] * each, f"time spent by {name} in the cell", "time"),
            "visits": (("chain", cell), visits.copy(), f"complete visits of {name} to the cell", "1"),
            "residence_time": (("chain", cell), mean, per_visit, "time"),
            "residence_time_stderr": (("chain", cell), error, f"standard error of the {per_visit}", "time"),
            "transitions": (
                ("chain", cell, f"{name}_next_cell"),
                s["transitions"].copy(),
                f"transitions of {name} from cell to next cell",
                "1",
            ),
            "start_cell": (("chain",), s["start_cell"].copy(), f"cell of the first sample of {name}", "1"),
            "first_exit_time": (("chain",), exit_time, f"time until {name} first left its first cell", "time"),
            "cell_low": ((cell,), lows, f"lower end of the cell of {name}", units),
            "cell_high": ((cell,), highs, f"upper end of the cell of {name}", units),
        }
        return {
            f"{name}_{key}": (dims, values, {"long_name": text, "units": unit})
            for key, (dims, values, text, unit) in table.items()
        }
