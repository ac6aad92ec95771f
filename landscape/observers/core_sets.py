"""Which core a chain was in last: times, transitions and dwell times between core sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.observers.base import Accumulator, Observer, Source, Variables, check_observer
from landscape.observers.regions import Region, names_in, read_region

__all__ = ["CoreSets"]

OUTSIDE, MISSING = -1, -2  # labels of samples in no core, and of those that are no numbers
OCTAVES = 48  # of ages, in samples


@guarded_class
@dataclass(frozen=True, slots=True)
class CoreSets(Observer):
    r"""Milestoning: a chain belongs to the core that it was in last, wherever it is now.

    What crosses a barrier and turns before it has reached the other core has made no transition: counts do not grow
    with how often one looks, as those at a dividing surface do. From them `landscape.probes.rates.core_sets` makes
    rates, k_AB = transitions from A to B / time that belongs to A.

    Parameters
    ----------
    cores : mapping of name to condition or interval
        Disjoint. A condition compares formulas in coordinates, ``{"A": "x < -0.8", "B": "x > 0.8"}``,
        ``{"A": "(x + 1)**2 + y**2 < 0.1", ...}``, or in one observable, ``"energy < 1"``; an interval (low, high) is of
        what `of` names.
    of : str, sequence of str, or callable, optional
        See `Observer`; left out, what the conditions are about.
    every : int, optional
        Steps between samples; by default every step, so that nothing is missed.

    Returns
    -------
    Variables named ``cores`` unless given another name:
        ``cores_time (chain, cores_core)``, time that belongs to the core; ``cores_transitions (chain, cores_core,
        cores_next_core)``, and the same as seen in every second sample, ``cores_coarse_transitions``; a life table of
        dwells, ``cores_ended (chain, cores_core, cores_octave)``, how many ended at an age of 2^k to 2^(k+1) samples,
        and ``cores_watched``, the time that dwells were watched at that age; ``cores_first_core (chain)``, -1 where
        none was reached, and ``cores_first_time (chain)``; ``cores_spacing (chain)``, time between samples. Coordinate
        ``cores_core``, the names.

    Raises
    ------
    ConfigError, FormulaError
        If a core cannot be read; when a run goes on, if two of them overlap.

    Notes
    -----
    Time before the first core belongs to none. A dwell lasts from the first sample in a core to the first in another;
    that of the first core of a chain has no known beginning and is not in the life table. Memory: some numbers per
    chain and pair of cores. No gradients.

    References
    ----------
    Schuette, Noe, Lu, Sarich, Vanden-Eijnden, "Markov state models based on milestoning", J. Chem. Phys. 134, 204105
    (2011).

    Examples
    --------
    >>> x = [[-1.0, 0.1, -0.9, 0.2, 1.0, -0.1, 0.9, -1.0]]
    >>> found = CoreSets({"A": "x < -0.8", "B": "x > 0.8"}).apply(x)
    >>> found.cores_transitions[0].values.tolist(), found.cores_time.values.tolist()
    ([[0, 1], [1, 0]], [[5.0, 3.0]])
    """

    cores: Mapping[str, Any] = field(hash=False)
    of: Source = ()
    every: int | None = 1

    def __post_init__(self) -> None:
        cores = self.cores
        if (
            not isinstance(cores, Mapping)
            or len(cores) < 2
            or not all(isinstance(name, str) and name for name in cores)
        ):
            raise ConfigError(f'CoreSets takes two or more named cores, {{"A": "x < -0.8", ...}}, got {cores!r}')
        object.__setattr__(self, "cores", {name: _plain(core) for name, core in cores.items()})
        if isinstance(self.of, tuple | list) and not self.of:
            texts = [core for core in self.cores.values() if isinstance(core, str)]
            names = tuple(dict.fromkeys(name for text in texts for name in names_in(text)))
            if not names:
                raise ConfigError('CoreSets(of=...) has to name what the intervals are of, such as of="x"')
            object.__setattr__(self, "of", names[0] if len(names) == 1 else names)
        check_observer(self)
        if not callable(self.of):
            self.regions()

    @property
    def label(self) -> str:
        """ "cores"."""
        return "cores"

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Names of the columns that conditions are about."""
        if isinstance(self.of, str):
            return (self.of,)
        return ("value",) if callable(self.of) else tuple(self.of)

    def regions(self) -> list[Region]:
        """Whether points ``(..., column)`` lie in each core."""
        return [read_region(core, self.columns_read) for core in self.cores.values()]

    def labels(self, block: NDArray[Any]) -> NDArray[np.int64]:
        """Number of the core of samples ``(chain, draw, column)``; -1 outside all, -2 where they are no numbers.

        Raises
        ------
        ConfigError
            If two cores overlap.
        """
        points = np.asarray(block, dtype=np.float64)
        found = np.where(np.isnan(points).any(axis=-1), MISSING, OUTSIDE)
        for number, region in enumerate(self.regions()):
            inside = region(points)
            both = inside & (found >= 0)
            if both.any():
                first = list(self.cores)[int(found[both][0])]
                at = points[both][0].tolist()
                raise ConfigError(
                    f"the cores {first!r} and {list(self.cores)[number]!r} overlap, at {at}: make them disjoint"
                )
            found[inside] = number
        return found

    def accumulator(self, chains: int, width: int) -> CoreSetsAccumulator:
        """An empty accumulator for samples of the columns that the conditions are about."""
        if width != len(self.columns_read):
            raise ConfigError(
                f"CoreSets of {list(self.columns_read)} takes as many columns, got {width}: name them in `of`"
            )
        return CoreSetsAccumulator(self, chains, width)


class CoreSetsAccumulator(Accumulator):
    """Counts of `CoreSets`, and where each chain was last."""

    def __init__(self, observer: CoreSets, chains: int, width: int) -> None:
        self.observer = observer
        n = len(observer.cores)
        # in the order in which the kernel takes them
        state: dict[str, NDArray[Any]] = {
            "core": np.full(chains, -1, np.int64),
            "coarse_core": np.full(chains, -1, np.int64),
            "length": np.zeros(chains, np.int64),
            "left": np.zeros(chains, np.int64),
            "first_core": np.full(chains, -1, np.int64),
            "first_sample": np.full(chains, -1, np.int64),
            "spent": np.zeros((chains, n), np.int64),
            "transitions": np.zeros((chains, n, n), np.int64),
            "coarse": np.zeros((chains, n, n), np.int64),
            "ended": np.zeros((chains, n, OCTAVES), np.int64),
            "watched": np.zeros((chains, n, OCTAVES), np.int64),
        }
        self._order = tuple(state)
        super().__init__(chains, width, state)

    def _update(self, block: NDArray[Any]) -> None:
        from landscape.observers import kernels  # compiled: only where samples arrive

        labels = self.observer.labels(block)
        kernels.follow_cores(labels, self.samples, *[self.state[name] for name in self._order])

    def result(self, name: str, spacing: ArrayLike) -> Variables:
        """Times, transitions, dwells and the first core."""
        step, s = self._spacing(spacing), self.state
        each, core = step[:, None], f"{name}_core"
        first = np.where(s["first_sample"] >= 0, s["first_sample"] + 1.0, np.nan) * step
        both, ages = ("chain", core, f"{name}_next_core"), ("chain", core, f"{name}_octave")
        table: dict[str, tuple[tuple[str, ...], NDArray[Any], str, str]] = {
            "time": (("chain", core), s["spent"] * each, "time that belongs to the core", "time"),
            "transitions": (both, s["transitions"].copy(), "transitions from core to next core", "1"),
            "coarse_transitions": (both, s["coarse"].copy(), "transitions seen in every second sample", "1"),
            "ended": (ages, s["ended"].copy(), "dwells that ended at an age of 2^k to 2^(k+1) samples", "1"),
            "watched": (ages, self._watched() * each[..., None], "time that dwells were watched at that age", "time"),
            "first_core": (("chain",), s["first_core"].copy(), "number of the first core that was reached", "1"),
            "first_time": (("chain",), first, "time from the start to the first core", "time"),
            "spacing": (("chain",), step.copy(), "time between samples", "time"),
            "core": ((core,), np.array(list(self.observer.cores), dtype=np.str_), "core", ""),
        }
        return {
            key if key == core else f"{name}_{key}": (dims, values, {"long_name": text, "units": unit})
            for key, (dims, values, text, unit) in table.items()
        }

    def _watched(self) -> NDArray[np.int64]:
        """Samples at each age, with those of the dwells that go on."""
        watched = self.state["watched"].copy()
        low = 1 << np.arange(OCTAVES)
        going = np.flatnonzero(self.state["left"] > 0)
        length = self.state["length"][going, None]
        watched[going, self.state["core"][going]] += np.clip(length - low + 1, 0, low)
        return watched


def _plain(core: Any) -> Any:
    return core if isinstance(core, str) else tuple(core) if isinstance(core, list | tuple | np.ndarray) else core
