"""Settings that change in time: temperature, step size, numbers of an energy, by time or steps at a step's start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from landscape.checks import finite_number, one_of
from landscape.common.arguments import guarded
from landscape.common.codec import Described, python_object
from landscape.common.docstrings import documented
from landscape.common.per_chain import length_of, numbers, per_chain
from landscape.errors import ConfigError, ShapeError

__all__ = ["Schedule", "cosine", "cycle", "piecewise", "ramp"]

Clocked: TypeAlias = Literal["time", "step"]


class Schedule(Described, ABC):
    """A setting as a function of time, one for all chains or one per chain.

    Attributes
    ----------
    by : {"time", "step"}
        What it is a function of: the time, or the number of steps made.
    """

    by: Clocked = "time"

    @abstractmethod
    def values(self, time: NDArray[np.float64]) -> Any:
        """Values at times ``(n, 1)`` or ``(n, chains)``, broadcast to ``(n, chains)``."""

    @abstractmethod
    def levels(self) -> list[Any]:
        """The settings that may be given per chain."""

    def at(
        self, time: NDArray[np.float64], chains: int, *, step: NDArray[Any] | None = None, signed: bool = False
    ) -> NDArray[np.float64]:
        """Values ``(n, chains)`` at times ``(n, chains)`` and after steps ``(n,)``; only `signed` ones may be negative.

        Raises
        ------
        ShapeError, ConfigError
            If a callable gives another shape, or something that is not finite or negative; if steps are needed that
            are not known.
        """
        if self.by == "step":
            if step is None:
                raise ConfigError("a schedule by steps is for a temperature or a step size; this goes by the time")
            time = np.asarray(step, dtype=np.float64)[:, None]
        same = bool((time == time[:, :1]).all())
        try:
            values = np.asarray(self.values(time[:, :1] if same else time), dtype=np.float64)
            table = np.broadcast_to(values, (len(time), chains))
        except (TypeError, ValueError) as error:
            raise ShapeError(
                f"the schedule must take an array of times ({len(time)}, 1) to values of the same shape, or with one "
                f"column per chain; write it with numpy ({error})"
            ) from None
        if not np.isfinite(table).all() or (not signed and (table < 0).any()):
            bound = "" if signed else ", 0 or more"
            raise ConfigError(f"the schedule gives {table.min():g} to {table.max():g}; expected finite values{bound}")
        return table

    def length(self) -> int | None:
        """Number of chains that it has values for, None for any number."""
        lengths = {len(level) for level in map(np.asarray, self.levels()) if level.ndim}
        if len(lengths) > 1:
            raise ShapeError(f"the values of a schedule are for different numbers of chains: {sorted(lengths)}")
        return next(iter(lengths), None)

    def arguments(self) -> dict[str, Any]:
        """Its settings, the usual clock not among them."""
        given = super().arguments()
        return given if self.by != "time" else {name: value for name, value in given.items() if name != "by"}

    @property
    def kind(self) -> str:
        """The function that makes it."""
        return type(self).__name__.lower()

    def __repr__(self) -> str:
        """The call that makes it."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{self.kind}({given})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Between(Schedule):
    """From one value to another in a time."""

    start: Any
    end: Any
    duration: float
    by: Clocked = "time"

    def levels(self) -> list[Any]:
        """Start and end."""
        return [self.start, self.end]


class Ramp(Between):
    """See `ramp`."""

    __slots__ = ()

    def values(self, time: NDArray[np.float64]) -> Any:
        """start + (end - start) min(t/duration, 1)."""
        start, end = np.asarray(self.start), np.asarray(self.end)
        return start + (end - start) * np.minimum(time / self.duration, 1.0)


class Cosine(Between):
    """See `cosine`."""

    __slots__ = ()

    def values(self, time: NDArray[np.float64]) -> Any:
        """end + (start - end) (1 + cos(pi min(t/duration, 1)))/2."""
        start, end = np.asarray(self.start), np.asarray(self.end)
        return end + (start - end) * (1.0 + np.cos(np.pi * np.minimum(time / self.duration, 1.0))) / 2


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cycle(Schedule):
    """See `cycle`."""

    low: Any
    high: Any
    period: float
    by: Clocked = "time"

    def levels(self) -> list[Any]:
        """Low and high."""
        return [self.low, self.high]

    def values(self, time: NDArray[np.float64]) -> Any:
        """low + (high - low) (1 - cos(2 pi t/period))/2."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return low + (high - low) * (1.0 - np.cos(2 * np.pi * time / self.period)) / 2


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Piecewise(Schedule):
    """See `piecewise`."""

    table: Mapping[float, Any]
    by: Clocked = "time"

    def levels(self) -> list[Any]:
        """The values."""
        return list(self.table.values())

    def values(self, time: NDArray[np.float64]) -> Any:
        """The value of the last time in the table that has come."""
        starts = sorted(self.table)
        which = np.searchsorted(starts, time, side="right") - 1
        levels = [np.asarray(self.table[start], dtype=float) for start in starts]
        return np.select([which == i for i in range(len(levels))], levels)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Clock(Schedule):
    """The time itself."""

    def levels(self) -> list[Any]:
        """It is the same for any number of chains."""
        return []

    def values(self, time: NDArray[np.float64]) -> Any:
        """The time."""
        return time


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Callback(Schedule):
    """A user's function of time."""

    function: Callable[[NDArray[np.float64]], Any]

    def levels(self) -> list[Any]:
        """A function is for any number of chains."""
        return []

    def values(self, time: NDArray[np.float64]) -> Any:
        """What the function gives."""
        return self.function(time)

    def spec(self) -> dict[str, Any]:
        """The function's name."""
        return python_object(self.function)

    def __repr__(self) -> str:
        """The function."""
        return repr(self.function)


_schedule = documented(
    {
        "start": "start, end : float, or one per chain",
        "end": "start, end : float, or one per chain",
        "low": "low, high : float, or one per chain",
        "high": "low, high : float, or one per chain",
        "duration": "duration : float\n    In units of time, or steps.",
        "period": "period : float\n    In units of time, or steps.",
        "by": (
            'by : {"time", "step"}\n    What is counted. By steps it is for a temperature or a step size, and goes on '
            "where the rate is 0."
        ),
    },
    Returns=(
        "Schedule\n    For a temperature, a step size, a parameter of an `Expression`, or a number of a `Restrain`."
    ),
    Raises=(
        "ConfigError\n    If a value is not finite or a time makes no sense; where it is used, if a temperature or a "
        "step size is\n    negative.\nShapeError\n    If values are for different numbers of chains."
    ),
)


@_schedule
@guarded
def ramp(start: Any, end: Any, duration: float, *, by: Clocked = "time") -> Schedule:
    """Linear from `start` to `end` over a time, constant afterwards.

    v(t) = start + (end - start) min(t/duration, 1)

    Examples
    --------
    >>> ramp(1.0, 3.0, duration=4.0).at(np.array([[0.0], [2.0], [9.0]]), chains=1).ravel()
    array([1., 2., 3.])
    """
    return _checked(Ramp(start, end, finite_number("duration", duration, above=0), by))


@_schedule
@guarded
def cosine(start: Any, end: Any, duration: float, *, by: Clocked = "time") -> Schedule:
    """Half a cosine from `start` to `end` over a time, constant afterwards.

    v(t) = end + (start - end) (1 + cos(pi min(t/duration, 1)))/2

    References
    ----------
    Loshchilov, Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, eq. 5.

    Examples
    --------
    >>> cosine(1.0, 0.0, duration=4.0).at(np.array([[0.0], [2.0], [9.0]]), chains=1).ravel().round(12)
    array([1. , 0.5, 0. ])
    """
    return _checked(Cosine(start, end, finite_number("duration", duration, above=0), by))


@_schedule
@guarded
def cycle(low: Any, high: Any, period: float, *, by: Clocked = "time") -> Schedule:
    """Up and down without end, from `low` at time 0.

    v(t) = low + (high - low) (1 - cos(2 pi t/period))/2

    Examples
    --------
    >>> cycle(1.0, 3.0, period=4.0).at(np.array([[0.0], [1.0], [2.0]]), chains=1).ravel().round(12)
    array([1., 2., 3.])
    """
    return _checked(Cycle(low, high, finite_number("period", period, above=0), by))


@_schedule
@guarded
def piecewise(table: Mapping[float, Any], *, by: Clocked = "time") -> Schedule:
    """Constant between the times of a table, which begins at 0.

    Parameters
    ----------
    table : mapping of time to value
        A value, or one per chain, in force from that time on.

    Examples
    --------
    >>> piecewise({0: 1.0, 5.0: 0.1}).at(np.array([[0.0], [4.9], [5.0]]), chains=1).ravel()
    array([1. , 1. , 0.1])
    """
    if not isinstance(table, Mapping) or not table:
        raise ConfigError(f"piecewise takes a mapping such as {{0: 1.0, 5.0: 0.1}}, got {table!r}")
    try:
        times = {float(time): value for time, value in table.items()}
    except (TypeError, ValueError):
        raise ConfigError(f"the keys of piecewise must be times, got {list(table)}") from None
    if min(times) != 0:
        raise ConfigError(f"piecewise must begin at time 0, got times {sorted(times)}")
    return _checked(Piecewise(times, by))


def as_schedule(name: str, value: Any, *, signed: bool = False) -> Schedule | None:
    """The schedule that a setting is, None for plain numbers.

    Raises
    ------
    ConfigError
        If a value that it is given is negative, and the setting is not `signed`.
    """
    if isinstance(value, Schedule):
        negative = [level for level in value.levels() if (np.asarray(level) < 0).any()]
        if negative and not signed:
            raise ConfigError(f"{name} cannot be negative, got {negative[0]!r} in {value!r}")
        return value
    if callable(value):
        return Callback(value)
    return None


def in_time(name: str, value: Any, chains: int, *, signed: bool = False) -> NDArray[np.float64] | Schedule:
    """One value per chain, ``(chains,)``, or a schedule of all of them."""
    schedule = as_schedule(name, value, signed=signed)
    return schedule if schedule is not None else per_chain(name, value, chains)


def length_in_time(name: str, value: Any, *, signed: bool = False) -> int | None:
    """Number of chains that a setting has values for, None if it is one value or a schedule for any number."""
    schedule = as_schedule(name, value, signed=signed)
    return schedule.length() if schedule is not None else length_of(name, value)


def _checked(schedule: Schedule) -> Schedule:
    one_of("by", schedule.by, ("time", "step"))
    for level in schedule.levels():
        array = numbers("a value of a schedule", level)
        if not np.isfinite(array).all():
            raise ConfigError(f"the values of a schedule must be finite, got {level!r}")
    schedule.length()
    return schedule
