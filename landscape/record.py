"""What of a run is kept, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.engines.base import Engine
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.potentials.network import NetworkLoss

__all__ = ["OBSERVABLES", "Observable", "Record", "observe"]

Observable: TypeAlias = Callable[[Potential, Tensor], Tensor]

OBSERVABLES: Mapping[str, tuple[str, str]] = {
    # name: (long name, unit)
    "position": ("position", "1"),
    "energy": ("potential energy", "energy"),
    "batch_energy": ("potential energy on the minibatch of the next step", "energy"),
    "gradient_norm": ("Euclidean norm of the gradient of the energy", "energy"),
    "distance": ("Euclidean distance from the start of the run", "1"),
    "momentum": ("momentum", "1"),
    "sample_energies": ("loss of every sample", "energy"),
    "accuracy": ("fraction of correct labels", "1"),
    "evaluation_energy": ("mean loss on held-out data", "energy"),
}
RESERVED = ("chain", "draw", "step", "time", "temperature", "dt", "coordinate", "snapshot", "snapshot_step")
_NETWORK_ONLY = ("batch_energy", "sample_energies", "accuracy", "evaluation_energy")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Keep observables every so many steps.

    Parameters
    ----------
    every : int
        Steps between draws; the first draw is after `every` steps.
    observables : sequence of names, mapping of name to callable, or None
        None keeps position and energy of formulas and functions, energy of networks. Names are those of `OBSERVABLES`;
        a callable takes (potential, position ``(chains, dim)``) to a tensor ``(chains, ...)``. A mapping may mix both:
        ``{"energy": None, "radius": lambda potential, x: x.norm(dim=-1)}``.
    snapshots : int, optional
        How many whole positions to keep besides, evenly spaced over the run.

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
    observables: Sequence[str] | Mapping[str, Observable | None] | None = None
    snapshots: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("snapshots", self.snapshots)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"Record({name}=...) must be a positive integer, got {value!r}")
        if isinstance(self.observables, str):
            raise ConfigError(f'observables must be a sequence of names: write ["{self.observables}"]')

    def resolve(self, potential: Potential, memory_names: tuple[str, ...]) -> dict[str, Observable | None]:
        """Observables by name, None for built-in ones.

        Raises
        ------
        ConfigError
            For unknown names, and for those that this potential or integrator cannot give.
        """
        network = isinstance(potential, NetworkLoss)
        if self.observables is None:
            return {"energy": None} if network else {"position": None, "energy": None}
        given = self.observables if isinstance(self.observables, Mapping) else dict.fromkeys(self.observables)
        for name, function in given.items():
            if name in RESERVED or str(name).startswith("last_"):
                raise ConfigError(
                    f"an observable cannot be called {name!r}, which is a name of the run itself: rename it"
                )
            if function is not None:
                if not callable(function):
                    raise ConfigError(f"observable {name!r} must be a callable (potential, position), got {function!r}")
                continue
            if name not in OBSERVABLES:
                raise ConfigError(
                    f"unknown observable {name!r}; known are {', '.join(OBSERVABLES)}, or give a callable"
                )
            if name in _NETWORK_ONLY and not network:
                raise ConfigError(f"observable {name!r} exists for NetworkLoss only, not {type(potential).__name__}")
            if name == "momentum" and "momentum" not in memory_names:
                raise ConfigError("observable 'momentum' needs an integrator with a momentum")
            if name == "evaluation_energy" and potential.evaluation is None:  # type: ignore[attr-defined]
                raise ConfigError(
                    "observable 'evaluation_energy' needs held-out data: NetworkLoss(..., evaluation=...)"
                )
        return dict(given)

    def spec(self) -> dict[str, Any]:
        """Plain data."""
        spec: dict[str, Any] = {"every": self.every}
        if self.observables is not None:
            spec["observables"] = list(self.observables)
        if self.snapshots is not None:
            spec["snapshots"] = self.snapshots
        return spec


def observe(name: str, function: Observable | None, engine: Engine, start: Tensor) -> NDArray[Any]:
    """Value of an observable for the present state, ``(chains, ...)``."""
    state, potential = engine.state, engine.plan.potential
    if function is None:
        if name == "energy":
            return engine.energies()
        if name == "position":
            return engine.positions().copy()
    with torch.no_grad():
        if function is not None:
            value = function(potential, state.position.clone())
            if not isinstance(value, Tensor) or value.shape[:1] != state.position.shape[:1]:
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ShapeError(
                    f"observable {name!r} returned {shape}; expected a tensor of {len(state.position)} rows, one each"
                )
        elif name == "gradient_norm":
            value = potential.gradient(state.position).norm(dim=-1)
        elif name == "distance":
            value = (state.position - start).norm(dim=-1)
        elif name == "momentum":
            value = state.memory["momentum"]
        elif name == "batch_energy":
            keys = engine.plan.keys_at(state.step)
            value = potential.batch_energy(state.position, step=state.step, keys=keys)  # type: ignore[attr-defined]
        else:
            value = getattr(potential, name)(state.position)
    return value.detach().cpu().numpy().copy()
