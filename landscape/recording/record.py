"""What of a run is kept, and how often."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import name_of, plain, python_object
from landscape.engine.base import Engine, Plan
from landscape.errors import ConfigError, ShapeError
from landscape.observers.base import Observer, Source
from landscape.potentials.base import Potential
from landscape.recording.observables import OBSERVABLES, quantity

__all__ = ["OBSERVABLES", "Observable", "Record", "columns_of", "observe", "sampled_as", "source_key"]

Observable: TypeAlias = Callable[..., Tensor]

RESERVED = (  # names of the run itself
    "chain", "draw", "step", "time", "temperature", "dt", "coordinate", "snapshot", "snapshot_step",
    "acceptance", "gradients", "divergences", "exit_time", "exit_side", "exit_coordinate", "walker", "projection",
    "arc_length", "path_distance", "segment", "at_vertex", "at_end", "jumps", "start_energy",
    "collective", "bias", "bias_offset", "hills",
)  # fmt: skip


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Keep observables every so many steps.

    Parameters
    ----------
    every : int
        Steps between draws; the first draw is after `every` steps.
    observables : sequence of names and observers, mapping of name to callable or observer, or None
        None keeps position and energy (where there is one) of formulas and functions, energy of networks. Names are
        those of `OBSERVABLES`;
        a callable takes (potential, position ``(chains, dim)``) to a tensor ``(chains, ...)``; one with a third
        parameter called `momentum` is given that of the same time, too. A mapping may mix both:
        ``{"energy": None, "radius": lambda potential, x: x.norm(dim=-1)}``. ``"unwrapped"`` is the position plus the
        periods that a chain went round (`Periodic`). ``"work"`` and ``"heat"`` are sums over all steps since the start,
        of V(x', l') - V(x', l) and V(x', l) - V(x, l) for a step from x to x' after which the numbers l of the energy
        become l' (see `Expression` and `Restrain`). Work is done on the chain and heat is taken up by it; springs are
        part of V here, kinetic energy of the heat, and the energy rises by their sum. ``"dissipated"`` is the sum of
        (f(x) + f(x'))/2 . (x' - x) over all steps, ``"entropy_production"`` that of the same over T. `Moments`,
        `Histogram`, `Autocorrelation` and `Residence` among them are summed up on the way, each at its own cadence, and
        keep no trajectory; their results are called ``x_mean`` and so on, after what they observe or what a
        mapping says.
    snapshots : int, optional
        How many whole positions to keep besides, evenly spaced over the run.

    Raises
    ------
    ConfigError
        If a number is not a positive integer; when a run starts, if an observable is unknown or the potential lacks it.

    Examples
    --------
    >>> import landscape as ls
    >>> bowl = ls.potentials.Expression("(x**2 + y**2)/2", ["x", "y"])
    >>> radius = {"radius": lambda potential, x: x.norm(dim=-1)}
    >>> run = ls.simulate(bowl, ls.EulerMaruyama(dt=0.1), temperature=1.0, steps=50, record=ls.Record(10, radius))
    >>> run.radius.dims, run.sizes["draw"]
    (('chain', 'draw'), 5)
    """

    every: int = 1
    observables: Sequence[str | Observer] | Mapping[str, Observable | Observer | None] | None = None
    snapshots: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("snapshots", self.snapshots)):
            if value is not None:
                whole_number(name, value, most=2**63 - 1)
        given = self.observables
        if isinstance(given, str):
            raise ConfigError(f'observables must be a sequence of names: write ["{given}"]')
        if given is None or isinstance(given, Mapping):
            return
        listed = isinstance(given, Iterable) and not hasattr(given, "ndim")
        if not listed or not all(isinstance(one, str | Observer) for one in given):
            wrong = next(one for one in given if not isinstance(one, str | Observer)) if listed else given
            found = f"{reprlib.repr(wrong)} ({type(wrong).__name__})"
            raise ConfigError(
                f"observables must be names and observers, got {found}: names are "
                f'{", ".join(OBSERVABLES)}, own functions are given as {{"name": function}}'
            )

    def resolve(self, potential: Potential, memory_names: tuple[str, ...]) -> dict[str, Observable | None]:
        """Observables by name, None for built-in ones.

        Raises
        ------
        ConfigError
            For unknown names, and for those that this potential or integrator cannot give.
        """
        for name in potential.coordinates or ():
            if name in OBSERVABLES or name in RESERVED or name.startswith("last_"):
                raise ConfigError(
                    f"a coordinate cannot be called {name!r}, which is what a run calls something else that it holds: "
                    "rename it in the potential"
                )
        if self.observables is None:
            return dict.fromkeys(potential.recorded)
        given = self.observables if isinstance(self.observables, Mapping) else dict.fromkeys(self.observables)
        plain: dict[str, Observable | None] = {
            name: one for name, one in given.items() if not isinstance(one, Observer) and not isinstance(name, Observer)
        }
        for name, function in plain.items():
            if name in RESERVED or str(name).startswith("last_"):
                raise ConfigError(
                    f"an observable cannot be called {name!r}, which is a name of the run itself: rename it"
                )
            if function is not None:
                if not callable(function):
                    raise ConfigError(
                        f"observable {name!r} must be a callable (potential, position), got {function!r}"
                        + _meant(function, potential)
                    )
                if takes_momentum(function) and "momentum" not in memory_names:
                    raise ConfigError(f"observable {name!r} asks for a momentum: use an integrator that has one")
                continue
            known = quantity(name, potential)
            if known is None:
                raise ConfigError(
                    f"unknown observable {name!r}; known are {', '.join((*OBSERVABLES, *_further(potential)))}, or "
                    "give a callable"
                )
            if known.memory is not None and known.memory not in memory_names:
                raise ConfigError(known.instead.format(name=name))
        return plain

    def observers(self, potential: Potential) -> list[tuple[str, Observer]]:
        """Observers, each with the name that its results begin with.

        Raises
        ------
        ConfigError
            For names that clash, and for what this potential does not have.
        """
        given = self.observables or ()
        pairs = given.items() if isinstance(given, Mapping) else [(None, one) for one in given]
        found: list[tuple[str, Observer]] = []
        for name, observer in pairs:
            if isinstance(observer, Observer):
                label = observer.label if name is None else name
                if label in RESERVED or any(label == other and type(observer) is type(one) for other, one in found):
                    raise ConfigError(
                        f"the name {label!r} is taken: name the observers by a mapping {{name: observer}}"
                    )
                source_key(observer.of, potential)
                found.append((label, observer))
        return found

    def wants(self, *names: str) -> bool:
        """Whether one of these built-in observables is kept or observed."""
        given = self.observables or ()
        pairs = given.items() if isinstance(given, Mapping) else [(one, None) for one in given]
        for name, one in pairs:
            observer = next((part for part in (name, one) if isinstance(part, Observer)), None)
            if (observer.of if observer else name if one is None else None) in names:
                return True
        return False

    def spec(self) -> dict[str, Any]:
        """Plain data."""
        spec: dict[str, Any] = {"every": self.every}
        if self.observables is not None:
            mapped = isinstance(self.observables, Mapping)
            pairs = self.observables.items() if mapped else [(one, None) for one in self.observables]  # type: ignore[union-attr]
            spec["observables"] = [_told(name, one) for name, one in pairs]
        if self.snapshots is not None:
            spec["snapshots"] = self.snapshots
        return spec


def _told(name: Any, one: Any) -> Any:
    """An entry of the record as plain data."""
    if one is None:
        return plain(name)
    return (plain(one) if isinstance(one, Observer) else python_object(one) | {"function": name_of(one)}) | {
        "name": name
    }


def _further(potential: Potential) -> list[str]:
    return [name for name in potential.observables if name not in OBSERVABLES]


def _meant(given: Any, potential: Potential) -> str:
    """How to record what a text names."""
    names = potential.coordinates or ()
    if isinstance(given, str) and given in OBSERVABLES:
        return f'; write "{given}": None for the built-in one'
    if isinstance(given, str) and given in names:
        number = names.index(given)
        return f'; a coordinate is part of the position: record "position", or lambda potential, x: x[..., {number}]'
    return ""


def source_key(of: Source, potential: Potential) -> tuple[Hashable, Observable | None]:
    """What has to be sampled for an observer: the name of an observable, or a callable as its own key.

    Raises
    ------
    ConfigError
        For a name that is neither an observable nor a coordinate.
    """
    if callable(of):
        return of, of
    if isinstance(of, str) and quantity(of, potential) is not None:
        return of, None
    for name in [of] if isinstance(of, str) else of:
        potential.coordinate_index(name)
    return "position", None


def sampled_as(observer: Observer, plan: Plan) -> tuple[Hashable, Observable | None]:
    """`source_key` of an observer in a run: sums of positions are those of unwrapped ones where there are periods."""
    key, function = source_key(observer.of, plan.potential)
    if key == "position" and observer.unwraps and plan.walls.winds:
        return "unwrapped", None
    return key, function


def columns_of(of: Source, samples: NDArray[Any], potential: Potential) -> NDArray[Any]:
    """The columns ``(chains, ticks, width)`` that an observer asks for."""
    if callable(of) or (isinstance(of, str) and quantity(of, potential) is not None):
        return samples.reshape(*samples.shape[:2], -1)
    names = [of] if isinstance(of, str) else list(of)
    return samples[:, :, [potential.coordinate_index(name) for name in names]]


def observe(name: Hashable, function: Observable | None, engine: Engine, start: Tensor) -> NDArray[Any]:
    """Value of an observable for the present state, ``(chains, ...)``."""
    state, potential = engine.state, engine.landscape().potential
    if function is None:
        known = quantity(name, potential)
        if known is None:
            raise ConfigError(f"unknown observable {name!r}")
        return known.of(engine, start)
    with torch.no_grad():
        value = function(potential, state.position.clone(), **_momentum_for(name, function, engine))
    if not isinstance(value, Tensor) or value.shape[:1] != state.position.shape[:1]:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(
            f"observable {name!r} returned {shape}; expected a tensor of {len(state.position)} rows, one each"
        )
    return value.detach().cpu().numpy().copy()


def takes_momentum(function: Observable) -> bool:
    """Whether a function asks for the momentum, by a parameter of that name."""
    try:
        return "momentum" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of what has no signature
        return False


def _momentum_for(name: Hashable, function: Observable, engine: Engine) -> dict[str, Tensor]:
    if not takes_momentum(function):
        return {}
    if "momentum" not in engine.plan.integrator.memory_names:
        raise ConfigError(f"observable {name!r} asks for a momentum, which {_rule_of(engine)} does not have")
    return {"momentum": engine.full_step_memory()["momentum"].clone()}


def _rule_of(engine: Engine) -> str:
    return type(engine.plan.integrator).__name__
