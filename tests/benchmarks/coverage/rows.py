"""Rows of the table of coverage: what was estimated, of which law, and how often its interval held the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIZES, REPEATS = (8, 30, 100, 1000, 10_000), 200
FloatArray = NDArray[np.float64]
Case = Callable[[np.random.Generator, int, int], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Row:
    """A case of one public function: `run(rng, size, repeats)` gives hits by estimate, of independent repeats."""

    of: str
    law: str
    run: Case
    sizes: tuple[int, ...]
    repeats: int


ROWS: list[Row] = []


def row(of: str, law: str, sizes: tuple[int, ...] = SIZES, repeats: int = REPEATS) -> Callable[[Case], Case]:
    """Enter a case into the table, of a function by its name below `landscape.probes` or `landscape`."""

    def enter(case: Case) -> Case:
        ROWS.append(Row(of, law, case, sizes, repeats))
        return case

    return enter


def hits(values: ArrayLike, errors: ArrayLike, truth: ArrayLike) -> FloatArray:
    """1 where +-1.96 errors hold the truth, 0 where they do not, NaN where there is no error."""
    value, error = np.broadcast_arrays(np.asarray(values, dtype=float), np.asarray(errors, dtype=float))
    inside = (np.abs(value - truth) <= 1.96 * error).astype(float)
    return np.where(np.isfinite(value) & np.isfinite(error), inside, np.nan)


def between(low: ArrayLike, high: ArrayLike, truth: ArrayLike) -> FloatArray:
    """The same of an interval's ends."""
    lower, upper = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    inside = ((lower <= truth) & (truth <= upper)).astype(float)
    return np.where(np.isfinite(lower) & np.isfinite(upper), inside, np.nan)


def of_dataset(dataset: Any, truths: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    """Hits of variables that stand beside their `_stderr`."""
    return {name: hits(dataset[name], dataset[f"{name}_stderr"], truth) for name, truth in truths.items()}


def repeated(
    one: Callable[[np.random.Generator], Mapping[str, FloatArray]], rng: np.random.Generator, repeats: int
) -> dict[str, FloatArray]:
    """Hits of an estimate that is made once at a time."""
    found = [one(rng) for _ in range(repeats)]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def cell(found: FloatArray) -> str:
    """The share that holds the truth of those that have an error, and the share that have one where not all do."""
    known = np.isfinite(found)
    if known.mean() < 0.1:
        return "none"
    part = f" of {known.mean():.2f}" if known.mean() < 0.995 else ""
    return f"{found[known].mean():.2f}{part}"
