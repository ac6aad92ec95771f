"""The register of probes: what each reads of a stored file, and which pictures its results have.

A probe enters by the decorator `probe` where it is written, and by its name in the `__all__` of its room; the command
line, specifications, reports and the pictures of results read no other list.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Final, ParamSpec

import xarray as xr

from landscape.common.arguments import guarded
from landscape.common.docstrings import documented
from landscape.common.provenance import measured_from
from landscape.errors import ConfigError

__all__ = [
    "ENERGIES", "LANDSCAPE", "MINIMUM", "PATH", "POSITIONS", "PROJECTED", "ROOMS", "RUN", "RUNS", "WORKS", "Probe",
    "Reading", "probe", "registered", "result_of",
]  # fmt: skip

P = ParamSpec("P")

ROOMS: Final = ("confinement", "curvature", "fluctuations", "free_energy", "rates")
_USUAL: Final = {
    "potential": "Potential",
    "x": "DataArray, Dataset or array, dims ``(chain, draw)`` or ``(draw,)``\nThe series; of a Dataset its `energy`.",
    "run": "xarray.Dataset\nWith projections onto a path.",
    "coordinate": "name, number, formula, vector or callable\nq(x), as for `landscape.Restrain`.",
    "temperature": "float or array, shape ``(chain,)``, optional\nOverrides the coordinate `temperature`.",
    "by": '{"temperature", "chain"}\nChains of equal temperature pooled, or one row per chain.',
    "discard": "float in [0, 1) or int\nDraws left out at the start of each chain: a fraction, or a number.",
    "start": "array ``(dim,)`` or ``(at, dim)``, optional\nWhere q is moved from; the potential's default.",
    "dt": "float\nFirst guess of the step size.",
    "cores": "mapping\nTwo cores, as for `landscape.CoreSets`.",
    "of": "str, optional\nWhat intervals are of.",
    "bins": "int, or one for each coordinate",
    "seed": "int",
}
_ENTRIES: Final = {name: f"{name} : {text}".replace("\n", "\n    ") for name, text in _USUAL.items()}
_LANDSCAPES: Final = ("potential", "loss")  # what probes call the landscape


@dataclass(frozen=True, slots=True)
class Reading:
    """What a probe reads of stored files.

    Attributes
    ----------
    about : str
        The file that is needed, in words, after "expected".
    holds : tuple of str
        Variables and dimensions that such a file has.
    variables : tuple of str
        The first of these that the file has is what the probe is given, without leading dimensions of a single entry;
        none: the whole file.
    arguments : int
        How many arguments are stored files: each after the first is one more, and may be left out.
    together : bool
        Whether the one argument may be a list of runs.
    thinned : bool
        Whether some of the snapshots of a run will do.
    one_temperature : bool
        Whether of a run at several temperatures the chains of one are read, that of the setting `temperature`.
    of_result : bool
        Whether what is read is the result of another probe.
    """

    about: str
    holds: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    arguments: int = 1
    together: bool = False
    thinned: bool = False
    one_temperature: bool = False
    of_result: bool = False

    def fits(self, dataset: xr.Dataset) -> bool:
        """Whether a file is one of these."""
        return set(self.holds) <= {str(name) for name in (*dataset.variables, *dataset.dims)}

    def of(self, runs: Sequence[Any], variable: str | None = None) -> tuple[Any, ...]:
        """What the probe is given of the files.

        Raises
        ------
        ConfigError
            If there are more than it takes, or there is no such variable.
        """
        if not self.together and len(runs) > max(self.arguments, 1):
            raise ConfigError(f"expected {self.about}, got {len(runs)} of them")
        if not self.arguments:
            return ()
        given = [self._part(run, variable) for run in runs]
        return (given[0] if len(given) == 1 else given,) if self.together else tuple(given)

    def _part(self, run: Any, variable: str | None) -> Any:
        held = [str(name) for name in run.data_vars] if isinstance(run, xr.Dataset) else []
        if variable is not None:
            if variable not in held:
                raise ConfigError(f"there is no variable {variable!r} to probe: it holds {held}")
            return run[variable]
        chosen = next((name for name in self.variables if name in held), None)
        if chosen is None:
            return run
        return run[chosen].squeeze([dim for dim in run[chosen].dims[:-1] if run.sizes[dim] == 1], drop=True)


RUN: Final = Reading("a run")
RUNS: Final = Reading("runs", together=True)
ENERGIES: Final = Reading("a run that recorded its energy", ("energy",))
LANDSCAPE: Final = Reading("a run or minimum, whose landscape is taken", arguments=0)
MINIMUM: Final = Reading(
    "a minimum, or a run of one chain, which is taken where it ended", (), ("last_position", "position")
)
PATH: Final = Reading("a path, such as `landscape connect` writes", ("pivots",))
POSITIONS: Final = Reading("a run, minimum or path", thinned=True)
PROJECTED: Final = Reading(
    "runs projected onto a path (constraint ProjectOntoPath)", ("arc_length", "projection"), together=True
)
WORKS: Final = Reading("a driven run that recorded its work, and the reverse one if there is one", arguments=2)


def result_of(name: str, *variables: str) -> Reading:
    """Reading the result of another probe: the first of some variables of it, or the whole."""
    return Reading(f"a result of {name}", (), variables, of_result=True)


@dataclass(frozen=True)
class Probe:
    """A probe that is registered.

    Attributes
    ----------
    name : str
        "room.function", or the name that another package gives it.
    function : callable
        Returns an `xarray.Dataset`.
    reads : Reading
    pictures : tuple of str
        Names of the functions of its room that draw its result.
    """

    name: str
    function: Callable[..., Any] = field(repr=False)
    reads: Reading = RUN
    pictures: tuple[str, ...] = ()

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Parameters of the function by name."""
        return dict(inspect.signature(self.function).parameters)

    @property
    def landscape(self) -> str | None:
        """The argument that takes the landscape, where there is one."""
        places = {name for name, one in self.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD}
        return next((name for name in _LANDSCAPES if name in places), None)

    @property
    def data(self) -> list[str]:
        """The arguments that take what is stored."""
        return [name for name in self.parameters if name != self.landscape][: self.reads.arguments]

    @property
    def settings(self) -> dict[str, inspect.Parameter]:
        """All other arguments; of several stored files those after the first may be given as settings, too."""
        left = (self.landscape, *self.data[:1])
        return {name: parameter for name, parameter in self.parameters.items() if name not in left}

    @property
    def plots(self) -> list[Callable[..., Any]]:
        """The functions that draw its result."""
        room = importlib.import_module(f"landscape.probes.{self.name.partition('.')[0]}") if self.pictures else None
        return [getattr(room, name) for name in self.pictures]


def probe(
    name: str, reads: Reading = RUN, *, pictures: Sequence[str] | None = None
) -> Callable[[Callable[P, xr.Dataset]], Callable[P, xr.Dataset]]:
    """Decorator that registers a function as a probe, guards its arguments, signs its results, completes its docstring.

    Parameters
    ----------
    name : str
        "room.function".
    reads : Reading
        What it is given of stored files.
    pictures : sequence of str, optional
        Functions of the room that draw its result; by default the function of its name after ``plot_``.
    """
    drawn = (f"plot_{name.partition('.')[2]}",) if pictures is None else tuple(pictures)

    def enter(function: Callable[P, xr.Dataset]) -> Callable[P, xr.Dataset]:
        documented(_ENTRIES, Raises="ConfigError, ShapeError")(function)

        @wraps(function)
        def measure(*arguments: P.args, **named: P.kwargs) -> xr.Dataset:
            return measured_from(function(*arguments, **named), name, [*arguments, *named.values()])

        public = guarded(measure)
        public.probe = Probe(name, public, reads, drawn)  # type: ignore[attr-defined]
        return public

    return enter


def registered() -> dict[str, Probe]:
    """All probes of this package, by name.

    Examples
    --------
    >>> registered()["confinement.drift"].reads.about
    'runs projected onto a path (constraint ProjectOntoPath)'
    >>> list(registered()["fluctuations.summary"].settings)
    ['temperature', 'discard', 'by']
    """
    found: dict[str, Probe] = {}
    for room in ROOMS:
        module = importlib.import_module(f"landscape.probes.{room}")
        functions = (getattr(module, name) for name in module.__all__)
        found |= {one.name: one for one in (getattr(function, "probe", None) for function in functions) if one}
    return found
