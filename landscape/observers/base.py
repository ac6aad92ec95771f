"""What an observer is: settings, and an accumulator that takes samples block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.codec import Described
from landscape.common.per_chain import per_chain
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.recording.observables import OBSERVABLES

__all__ = [
    "Accumulator",
    "FloatArray",
    "Observer",
    "Source",
    "Variables",
    "check_observer",
    "units_of",
]

Source: TypeAlias = str | Sequence[str] | Callable[[Potential, Tensor], Tensor]
Variables: TypeAlias = dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, str]]]
FloatArray: TypeAlias = NDArray[np.float64]


class Observer(Described, ABC):
    """Settings of something that is summed up during a run instead of being recorded.

    Attributes
    ----------
    of : str, sequence of str, or callable
        What is observed: a coordinate, several coordinates, an observable such as ``"energy"`` or ``"position"``, or
        a callable (potential, position ``(chains, dim)``) -> tensor ``(chains,)`` or ``(chains, width)``.
    every : int or None
        Steps between samples; None is the cadence of the record.
    unwraps : bool
        Whether coordinates of a period are observed without the wrapping: where sums of them are taken.
    """

    __slots__ = ()
    unwraps: ClassVar[bool] = False
    of: Source
    every: int | None

    @property
    def label(self) -> str:
        """The name that its results begin with unless the user gives one, such as ``"x"``, ``"energy"``, ``"x_y"``."""
        if isinstance(self.of, str):
            return self.of
        if callable(self.of):
            name = getattr(self.of, "__name__", type(self.of).__name__)
            return str(name) if str(name).isidentifier() else "observable"
        return "_".join(self.of)

    @abstractmethod
    def accumulator(self, chains: int, width: int) -> Accumulator:
        """An empty accumulator for samples of so many columns.

        Raises
        ------
        ConfigError
            If this observer cannot take that many columns.
        """

    def apply(self, samples: ArrayLike, *, spacing: ArrayLike = 1.0, name: str | None = None) -> xr.Dataset:
        """The same results after the fact, from samples that were kept.

        Parameters
        ----------
        samples : array, shape ``(chain, draw)`` or ``(chain, draw, column)``
        spacing : float or array, shape ``(chain,)``
            Time between samples.
        name : str, optional
            What the names of the results begin with; `label` unless given.

        Returns
        -------
        xarray.Dataset
            To the last bit what a run gives that was observed at the same samples.

        Raises
        ------
        ShapeError, ConfigError
            If the samples have another shape, or more columns than this observer takes.
        """
        block = np.asarray(samples)
        if block.ndim not in (2, 3):
            raise ShapeError(f"got samples of shape {block.shape}; expected (chain, draw) or (chain, draw, column)")
        block = block if block.ndim == 3 else block[:, :, None]
        accumulator = self.accumulator(block.shape[0], block.shape[2])
        accumulator.update(block)
        return xr.Dataset(accumulator.result(self.label if name is None else name, spacing))

    def columns(self, name: str, width: int) -> tuple[tuple[str, ...], Variables]:
        """Dimensions that tell the columns of a result apart, and their labels: none for a single column."""
        known = OBSERVABLES.get(self.of) if isinstance(self.of, str) else None
        if known is not None and known.dim is not None:
            return (known.dim,), {}
        dim = f"{name}_component"
        if isinstance(self.of, str) or callable(self.of):
            return ((), {}) if width == 1 else ((dim,), {})
        return (dim,), {dim: ((dim,), np.array(self.of, dtype=np.str_), {"long_name": "component"})}


class Accumulator(ABC):
    """Running sums over the samples of a run.

    Results have the same bits however the samples are divided into blocks, and memory does not grow with their number.

    Parameters
    ----------
    chains, width : int
        Shape of a sample.
    state : dict of arrays
        All there is to remember; the first axis of each is the chain.
    """

    def __init__(self, chains: int, width: int, state: Mapping[str, NDArray[Any]]) -> None:
        self.chains, self.width = whole_number("chains", chains), whole_number("width", width)
        self.state = {"samples": np.zeros(chains, np.int64), **state}

    @property
    def samples(self) -> int:
        """Samples taken so far, of each chain."""
        return int(self.state["samples"][0])

    def update(self, block: NDArray[Any]) -> None:
        """Take successive samples.

        Parameters
        ----------
        block : array of float32 or float64, shape ``(chains, records, width)``

        Raises
        ------
        ShapeError
            If it has another shape or dtype.
        """
        given = np.asarray(block)
        if given.ndim != 3 or (given.shape[0], given.shape[2]) != (self.chains, self.width):
            raise ShapeError(
                f"got a block of shape {given.shape}; expected ({self.chains}, records, {self.width}): chain, record, "
                "column"
            )
        if given.dtype not in (np.float32, np.float64):
            raise ShapeError(f"got a block of {given.dtype}; expected float32 or float64: convert it")
        if given.shape[1]:
            self._update(np.ascontiguousarray(given))
            self.state["samples"] += given.shape[1]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of the whole state; the first axis of each array is the chain."""
        return {name: array.copy() for name, array in self.state.items()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state that `arrays` returned, to the same bits.

        Raises
        ------
        ShapeError
            If it belongs to other settings.
        """
        if set(arrays) != set(self.state):
            raise ShapeError(
                f"got a state of {sorted(arrays)}; expected {sorted(self.state)}: it is another observer's"
            )
        for name, array in arrays.items():
            if self._outline(name, array) != self._outline(name, self.state[name]):
                raise ShapeError(
                    f"{name!r} of the state is {array.dtype} {array.shape}; expected {self.state[name].dtype} "
                    f"{self.state[name].shape}: the observer has other settings than the one that was saved"
                )
        self.state = {name: array.copy() for name, array in arrays.items()}

    def _outline(self, name: str, array: NDArray[Any]) -> tuple[Any, ...]:
        """What has to agree between a state and the accumulator that is to load it."""
        return (array.dtype, *array.shape)

    @abstractmethod
    def _update(self, block: NDArray[Any]) -> None:
        """`update` for a block that was checked and is contiguous; `samples` still counts those before it."""

    @abstractmethod
    def result(self, name: str, spacing: ArrayLike) -> Variables:
        """Variables of an `xarray.Dataset`, and their coordinates: (dims, values, attributes).

        Parameters
        ----------
        name : str
            What their names begin with.
        spacing : float or array, shape ``(chains,)``
            Time between samples.
        """

    def _spacing(self, spacing: ArrayLike) -> FloatArray:
        return per_chain("spacing", spacing, self.chains)


def check_observer(observer: Observer) -> None:
    """Refuse an unreadable source or cadence; sequences of names become tuples.

    Raises
    ------
    ConfigError
    """
    of = observer.of
    if not isinstance(of, str) and not callable(of):
        names = list(of) if isinstance(of, Sequence) else []
        if not names or not all(isinstance(one, str) for one in names) or len(set(names)) < len(names):
            raise ConfigError(
                f"{type(observer).__name__}(of=...) must be a name, a sequence of different names or a callable "
                f"(potential, position) -> tensor, got {of!r}"
            )
        object.__setattr__(observer, "of", tuple(names))
    if observer.every is not None:
        whole_number("every", observer.every)


def units_of(of: Source, power: int = 1) -> str:
    """Units of what is observed, or of its square."""
    units = OBSERVABLES[of].units if isinstance(of, str) and of in OBSERVABLES else "1"
    return units if power == 1 or units == "1" else f"{units}^{power}"
