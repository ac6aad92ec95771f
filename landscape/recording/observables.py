"""The table of observables: what each is called, its dimension, its cost, and how it is measured in a run.

The engine, the record, observers, results and estimates of cost read this one table. A potential adds observables of
its own by their names (`Potential.observables`), each a method of the position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.engine.base import Engine
from landscape.errors import ConfigError
from landscape.potentials.base import Potential
from landscape.recording.energetics import heat

__all__ = ["OBSERVABLES", "Quantity", "quantity"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """An observable that has a name.

    Attributes
    ----------
    long_name, units : str
    measure : callable
        (engine, start of the run) -> tensor or array ``(chains, ...)``, for the present state.
    dim : str, optional
        The dimension of its columns; None of a number for each chain.
    cost : float
        In gradients on all data.
    memory : str, optional
        What the integrator has to remember; else `instead` says what to do.
    instead : str
    own : bool
        Whether only potentials that name it have it.
    """

    long_name: str
    units: str
    measure: Callable[[Engine, Tensor], Any]
    dim: str | None = None
    cost: float = 0.0
    memory: str | None = None
    instead: str = ""
    own: bool = False

    def of(self, engine: Engine, start: Tensor) -> NDArray[Any]:
        """Its value for the present state, ``(chains, ...)``."""
        value = self.measure(engine, start)
        return np.array(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)


def _remembered(name: str) -> Callable[[Engine, Tensor], Any]:
    return lambda engine, start: engine.state.memory[name]


def _of_position(name: str) -> Callable[[Engine, Tensor], Any]:
    @torch.no_grad()
    def measure(engine: Engine, start: Tensor) -> Any:
        return getattr(engine.landscape().potential, name)(engine.state.position)

    return measure


def _on_minibatch(name: str) -> Callable[[Engine, Tensor], Any]:
    @torch.no_grad()
    def measure(engine: Engine, start: Tensor) -> Any:
        state, potential = engine.state, engine.landscape().potential
        return getattr(potential, name)(state.position, step=state.step, keys=engine.plan.keys_at(state.step))

    return measure


@torch.no_grad()
def _kinetic_energy(engine: Engine, start: Tensor) -> Any:
    energy = engine.plan.integrator.kinetic_energy(engine.full_step_memory())
    if energy is None:
        raise ConfigError(f"{type(engine.plan.integrator).__name__} has no kinetic energy")
    return energy


@torch.no_grad()
def _gradient_norm(engine: Engine, start: Tensor) -> Any:
    return engine.landscape().potential.gradient(engine.state.position).norm(dim=-1)


@torch.no_grad()
def _unwrapped(engine: Engine, start: Tensor) -> Any:
    return engine.plan.unwrapped(engine.state)


@torch.no_grad()
def _distance(engine: Engine, start: Tensor) -> Any:
    return (engine.plan.unwrapped(engine.state) - start).norm(dim=-1)


_ENERGY = 1 / 3  # of a gradient by reverse-mode differentiation
_TREES = "observable {name!r} is that of trajectories that double: use NUTS"
_MOMENTUM = "observable {name!r} needs an integrator with a momentum"

OBSERVABLES: Mapping[str, Quantity] = {
    "position": Quantity("position", "1", lambda engine, start: engine.positions(), "coordinate"),
    "energy": Quantity("potential energy", "energy", lambda engine, start: engine.energies(), cost=_ENERGY),
    "batch_energy": Quantity(
        "potential energy on the minibatch of the next step", "energy", _on_minibatch("batch_energy"), own=True
    ),
    "batch_gradient": Quantity(
        "gradient of the energy on the minibatch of the next step", "energy", _on_minibatch("step_gradient"),
        "coordinate", own=True,
    ),
    "gradient_norm": Quantity("Euclidean norm of the gradient of the energy", "energy", _gradient_norm, cost=1.0),
    "distance": Quantity(
        "Euclidean distance from the start of the run, of the unwrapped position", "1", _distance
    ),
    "unwrapped": Quantity("position without the wrapping of periodic coordinates", "1", _unwrapped, "coordinate"),
    "momentum": Quantity(
        "momentum", "1", lambda engine, start: engine.full_step_memory()["momentum"], "coordinate", memory="momentum",
        instead=_MOMENTUM,
    ),
    "kinetic_energy": Quantity("kinetic energy", "energy", _kinetic_energy),
    "tree_depth": Quantity(
        "doublings of the trajectory of the last step", "1", _remembered("tree_depth"), memory="tree_depth",
        instead=_TREES,
    ),
    "divergent": Quantity(
        "whether the trajectory of the last step diverged", "1", _remembered("divergent"), memory="divergent",
        instead=_TREES,
    ),
    "work": Quantity(
        "work done on the chain since the start, by numbers of the energy that change in time", "energy",
        _remembered("work"),
    ),
    "heat": Quantity(
        "heat taken up since the start: energy, springs and kinetic energy included, less work", "energy",
        lambda engine, start: heat(engine),
    ),
    "dissipated": Quantity(
        "work of the force along the way since the start, which the bath takes up as heat", "energy",
        _remembered("dissipated"),
    ),
    "entropy_production": Quantity(
        "entropy that the bath has taken up since the start", "1", _remembered("entropy_production")
    ),
    "sample_energies": Quantity(
        "loss of every sample", "energy", _of_position("sample_energies"), "sample", cost=_ENERGY, own=True
    ),
    "accuracy": Quantity("fraction of correct labels", "1", _of_position("accuracy"), cost=_ENERGY, own=True),
    "evaluation_energy": Quantity(
        "mean loss on held-out data", "energy", _of_position("evaluation_energy"), cost=_ENERGY, own=True
    ),
}  # fmt: skip


def quantity(name: Any, potential: Potential) -> Quantity | None:
    """The observable of that name in runs on a landscape; None where there is none.

    Raises
    ------
    ConfigError
        For one that other landscapes have.
    """
    known = OBSERVABLES.get(name) if isinstance(name, str) else None
    if known is None:
        if name not in potential.observables:
            return None
        return Quantity(str(name).replace("_", " "), "1", _of_position(str(name)), own=True)
    if known.own and name not in potential.observables:
        if potential.observables and name == "evaluation_energy":
            raise ConfigError("observable 'evaluation_energy' needs held-out data: NetworkLoss(..., evaluation=...)")
        raise ConfigError(f"observable {name!r} exists for NetworkLoss only, not {type(potential).__name__}")
    if (name == "energy" and not potential.has_energy) or (name == "gradient_norm" and not potential.conservative):
        raise ConfigError(
            f"observable {name!r} needs forces of an energy, and {potential!r} has others: record a callable "
            "(potential, position) -> tensor, of potential.force(position) say"
        )
    return known
