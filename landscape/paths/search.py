"""How a search for a path begins: the settings that all methods share, checked, and the pivots between two ends."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypedDict, TypeVar, get_type_hints

from torch import Tensor

from landscape.boundaries.domain import Domain, Within, domain_of
from landscape.checks import finite_number, true_or_false, whole_number
from landscape.paths.evaluation import Slopes
from landscape.paths.straight import initial_pivots
from landscape.potentials.base import Potential
from landscape.random import check_seed

__all__ = ["CurveSettings", "Descent", "Search", "SharedSettings", "begin_search", "with_settings"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Descent:
    """Settings of a descent, checked; see `string` for their meaning.

    Raises
    ------
    ConfigError
    """

    steps: int
    lr: float
    momentum: float = 0.0
    tolerance: float = 0.0
    seed: int = 0
    own_batches: bool = False
    pivots_at_once: int | None = None

    def __post_init__(self) -> None:
        whole_number("steps", self.steps)
        check_seed(self.seed)
        true_or_false("own_batches", self.own_batches)
        if self.pivots_at_once is not None:
            whole_number("pivots_at_once", self.pivots_at_once)
        finite_number("lr", self.lr, above=0.0)
        finite_number("momentum", self.momentum, least=0.0, below=1.0)
        finite_number("tolerance", self.tolerance, least=0.0)

    def slopes(self, potential: Potential) -> Slopes:
        """Energy and gradient on the minibatches of these settings."""
        return Slopes(potential, seed=self.seed, own_batches=self.own_batches, pivots_at_once=self.pivots_at_once)

    def spec(self) -> dict[str, Any]:
        """What of it changes the result."""
        return {name: value for name, value in asdict(self).items() if name != "pivots_at_once"}


class CurveSettings(TypedDict, total=False):
    """Arguments of every search beside its own; see `string` for their meaning."""

    momentum: float
    seed: int
    pivots_at_once: int | None
    end_tolerance: float
    constraint: Within
    progress: bool | None


class SharedSettings(CurveSettings, total=False):
    """Arguments of every search that moves the pivots themselves."""

    tolerance: float
    own_batches: bool


_DEFAULTS: Final[dict[str, Any]] = {one.name: one.default for one in fields(Descent)} | {
    "end_tolerance": 1e-2,
    "constraint": None,
    "progress": None,
}


def with_settings(kind: type[CurveSettings]) -> Callable[[F], F]:
    """For a search whose last argument is ``**settings`` of this kind: they stand in its signature."""
    shared = get_type_hints(kind)
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=shared[name])
            for name, default in _DEFAULTS.items() if name in shared]  # fmt: skip

    def named(search: F) -> F:
        own = inspect.signature(search)
        search.__signature__ = own.replace(parameters=[*list(own.parameters.values())[:-1], *more])  # type: ignore[attr-defined]
        search.__annotations__ = {name: one for name, one in search.__annotations__.items() if name != "settings"}
        search.__annotations__ |= shared
        return search

    return named


@dataclass(frozen=True, slots=True)
class Search:
    """A search that is about to begin.

    Attributes
    ----------
    potential : Potential
    domain : Domain
    pivots : tensor, shape ``(P, N)``
        Where it begins.
    descent : Descent
    progress : bool or None
        Whether to show a bar.
    """

    potential: Potential
    domain: Domain
    pivots: Tensor
    descent: Descent
    progress: bool | None


def begin_search(
    potential: Potential, start: Any, end: Any, pivots: int | None, steps: int, lr: float, settings: CurveSettings,
    kind: type[CurveSettings] = SharedSettings,
) -> Search:  # fmt: skip
    """Settings checked, and pivots in the domain between the ends.

    Raises
    ------
    ConfigError, ShapeError, NonFiniteError
    TypeError
        For a setting that is not of this kind.
    """
    unknown = sorted(set(settings) - set(kind.__annotations__))
    if unknown:
        raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
    all_settings = _DEFAULTS | {"steps": steps, "lr": lr} | dict(settings)
    descent = Descent(**{one.name: all_settings[one.name] for one in fields(Descent)})
    domain = domain_of(potential, all_settings["constraint"])
    moving = initial_pivots(potential, start, end, pivots, domain=domain, end_tolerance=all_settings["end_tolerance"])
    return Search(potential, domain, moving, descent, all_settings["progress"])
