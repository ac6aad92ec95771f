"""The one interface of every landscape: positions in, energies and derivatives out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeGuard, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.common.codec import python_object
from landscape.common.names import spelled
from landscape.common.positions import check_dense, ordered
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.network.modes import out_of_inference, plain_modes

if TYPE_CHECKING:
    from landscape.potentials.network.layout import Layout

__all__ = ["Bounds", "Potential", "has_samples"]

Bounds: TypeAlias = Mapping[str, tuple[float | None, float | None]]
ArrayLike: TypeAlias = Any
_T = TypeVar("_T")


def check_bounds(bounds: Bounds | None, coordinates: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Walls as ``{name: (low, high)}`` with floats, an open side as -inf or inf."""
    walls: dict[str, tuple[float, float]] = {}
    if bounds is not None and not isinstance(bounds, Mapping):
        raise ConfigError(f"bounds must map coordinate names to pairs (low, high), got {bounds!r}")
    for name, pair in (bounds or {}).items():
        own = spelled(name, coordinates)
        if own is None:
            raise ConfigError(f"bounds name {name!r}, but the coordinates are {list(coordinates)}")
        if own in walls:
            raise ConfigError(f"bounds name {own!r} twice")
        walls[own] = check_pair(name, pair)
    return walls


def check_pair(name: str, pair: Any) -> tuple[float, float]:
    """Both boundaries of a coordinate as floats, an open side as -inf or inf.

    Raises
    ------
    ConfigError
    """
    try:
        low, high = pair
    except (TypeError, ValueError):
        raise ConfigError(f"bounds of {name!r} must be a pair (low, high), got {pair!r}") from None
    try:
        low = -np.inf if low is None else float(low)
        high = np.inf if high is None else float(high)
    except (TypeError, ValueError):
        raise ConfigError(f"bounds of {name!r} must be numbers or None, got {pair!r}") from None
    if not low < high:
        raise ConfigError(f"bounds of {name!r} must have low < high, got ({low}, {high})")
    return low, high


def check_device(device: torch.device | str) -> torch.device:
    """A device that exists on this machine; ``"cuda"`` is the current one of them, under its number.

    Raises
    ------
    ConfigError
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise ConfigError(f'device must be such as "cpu" or "cuda", got {device!r}') from None
    if place.type not in ("cpu", "cuda"):
        raise ConfigError(f'device must be such as "cpu" or "cuda", got {device!r}')
    if place.type == "cpu":
        return place
    if not torch.cuda.is_available():
        raise ConfigError(f"device {str(device)!r} was asked for, but this machine has no CUDA device")
    count = torch.cuda.device_count()
    index = torch.cuda.current_device() if place.index is None else place.index
    if index >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise ConfigError(f"device {str(device)!r} was asked for, but this machine has {there}")
    return torch.device("cuda", index)


class Potential(ABC):
    """An energy landscape V on R^dim, batched over any leading dimensions.

    A subclass sets `dim`, and `coordinates` and `bounds` where there are some, and implements `_energy` on torch
    tensors. Gradient, Hessian-vector product and Hessian then follow by automatic differentiation; a subclass overrides
    `_gradient`, `_hvp` or `_hessian` where it knows a faster way.

    Positions are tensors or arrays of shape ``(..., dim)``; the answer is of the same kind, on the same device. A
    DataArray is read by its labels: its dimension ``coordinate`` may stand anywhere and in any order, and labels that
    are others than the landscape's are refused. Entries that are masked are NaN.

    Attributes
    ----------
    dim : int
        Number of coordinates.
    coordinates : tuple of str, or None
        Their names; None where they have none (the weights of a network).
    bounds : dict of str to (float, float)
        Reflecting boundaries by coordinate name. Closed forms integrate between them and dynamics reflects at them.
    has_energy : bool
        Whether there is an energy at all; a `Drift` is a force without one.
    conservative : bool
        Whether the force is minus the gradient of that energy, so that heat baths make the law exp(-V/T).
    varying : mapping of str to schedule or array ``(chains,)``
        Numbers of the energy that change in time or differ by chain, which a run fills in.
    dtype, device : torch.dtype, torch.device
        Where positions are computed unless told otherwise.
    placed : bool
        Whether they can be computed nowhere else, as with the weights of a network.
    sampler : BatchSampler or None
        What draws the minibatches of the dynamics; None where every step sees all there is.
    layout : Layout or None
        Which entries of a position are which parameter, of a network.
    weight_decay : float
        Coefficient of |x|^2/2 in the energy, for integrators that know one of their own.
    ranks : int
        Processes that hold its data together.
    samples : int
        Terms that the energy is a mean of, 0 where it is none.
    observables : tuple of str
        Observables of a run that it has besides those of every landscape.
    recorded : tuple of str
        Those that a run keeps unless told otherwise.
    """

    has_energy: bool = True
    conservative: bool = True
    varying: Mapping[str, Any] = MappingProxyType({})
    dim: int
    coordinates: tuple[str, ...] | None = None
    loops: ClassVar[str | None] = None  # "formula" or "network": the compiled loops that run it
    bounds: Mapping[str, tuple[float, float]] = MappingProxyType({})
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    placed: ClassVar[bool] = False
    sampler: Any = None
    layout: Layout | None = None
    weight_decay: float = 0.0

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            if name == "dim":
                raise ConfigError(f"{type(self).__name__} does not say how many coordinates it has: set dim in it")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    # -- what a subclass provides ---------------------------------------------------------------------------------

    @abstractmethod
    def _energy(self, position: Tensor) -> Tensor:
        """V(x) for a tensor ``(..., dim)``; differentiable by torch."""

    def _gradient(self, position: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = position.detach().requires_grad_(True)
            energy = self._energy(leaf)
            if not energy.requires_grad:  # constant energy
                return torch.zeros_like(position)
            (gradient,) = torch.autograd.grad(energy.sum(), leaf, allow_unused=True, materialize_grads=True)
        return gradient

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = position.detach().requires_grad_(True)
            energy = self._energy(leaf)
            if not energy.requires_grad:
                return torch.zeros_like(position)
            (gradient,) = torch.autograd.grad(
                energy.sum(), leaf, create_graph=True, allow_unused=True, materialize_grads=True
            )
            if not gradient.requires_grad:  # linear energy
                return torch.zeros_like(position)
            (product,) = torch.autograd.grad((gradient * vector).sum(), leaf, allow_unused=True, materialize_grads=True)
        return product

    def _hessian(self, position: Tensor) -> Tensor:
        columns = [
            self._hvp(position, axis.expand_as(position))
            for axis in torch.eye(self.dim, dtype=position.dtype, device=position.device)
        ]
        return torch.stack(columns, dim=-1)

    def step_gradient(self, position: Tensor, *, step: int, keys: Any = None) -> Tensor:
        """Gradient that the dynamics follows at a step, ``(chains, dim)``; a minibatch's where a potential has some."""
        return self._gradient(position)

    def batch_keys(self, chains: int, seed: int, data_seeds: tuple[int, ...] | None = None) -> Any:
        """What the chains' minibatches are derived from; None without minibatches."""
        return None

    def full_batch(self) -> Potential:
        """The same landscape whose dynamics sees all there is at every step."""
        return self

    def converted(self, dtype: torch.dtype | None) -> Potential:
        """The same landscape in another floating-point type, where its type is fixed."""
        return self

    def batches(self, *, step: int, keys: Any) -> list[Any]:
        """Minibatches of a step, or all data in pieces; none where there are no data."""
        return []

    def batch_energy_and_gradient(self, position: Tensor, *, step: int, keys: Any) -> tuple[Tensor, Tensor]:
        """Energy and gradient of ``(chains, dim)`` positions that the dynamics follows at a step."""
        return self.energy(position).detach(), self.step_gradient(position, step=step, keys=keys)

    def statistics(self, position: Any) -> dict[str, Tensor]:
        """Statistics of normalisation layers that depend on the position; most landscapes have none."""
        return {}

    @property
    def samples(self) -> int:
        """Terms that the energy is a mean of, 0 where it is none."""
        return 0

    @property
    def ranks(self) -> int:
        """Processes that hold its data together."""
        return 1

    @property
    def observables(self) -> tuple[str, ...]:
        """Observables of a run that it has besides those of every landscape."""
        return ()

    @property
    def recorded(self) -> tuple[str, ...]:
        """Observables that a run keeps unless told otherwise."""
        return ("position", "energy") if self.has_energy else ("position",)

    @property
    def one_at_a_time(self) -> bool:
        """Whether positions are evaluated faster one by one than as a batch."""
        return False

    def compiled_form(self) -> Potential | str:
        """The formula or the network of the same coordinates that the compiled loops run; text says why there is none.

        The loops are compiled for the CPU; `loops` of what is given tells which of them run it. A class that can be
        written as a formula returns an `Expression` here.
        """
        return f"it needs a formula or a plain MLP, not a {type(self).__name__}"

    def parts(self, vector: Tensor) -> list[Tensor]:
        """A position in the pieces that an optimizer takes for its parameters."""
        return [vector]

    def default_start(self) -> Tensor:
        """Where a run starts unless told otherwise, shape ``(dim,)``: the origin."""
        return torch.zeros(self.dim, dtype=self.dtype)

    def spec(self) -> dict[str, Any]:
        """Kind and arguments as a plain dict (JSON types only); of a class that has no such form, where it is."""
        return python_object(type(self))

    # -- what a user calls ----------------------------------------------------------------------------------------

    def energy(self, position: ArrayLike) -> Any:
        """Energy V(x).

        Parameters
        ----------
        position : tensor or array, shape ``(..., dim)``

        Returns
        -------
        tensor or array, shape ``(...)``

        Raises
        ------
        ShapeError
            If the last dimension is not `dim` or the values are not real numbers.
        """
        return self._apply(self._energy, position)

    def gradient(self, position: ArrayLike) -> Any:
        """Gradient of the energy, shape ``(..., dim)``; the force is its negative."""
        return self._apply(self._gradient, position)

    def force(self, position: ArrayLike) -> Any:
        """Force -grad V(x), shape ``(..., dim)``."""
        return -self.gradient(position)

    def hvp(self, position: ArrayLike, vector: ArrayLike) -> Any:
        """Hessian-vector product H(x) v, shape ``(..., dim)``; `vector` broadcasts against `position`."""

        def product(at: Tensor) -> Tensor:
            along, _ = self._tensor(vector)
            along = along.to(at)
            try:
                at, along = torch.broadcast_tensors(at, along)
            except RuntimeError:
                raise ShapeError(
                    f"position {tuple(at.shape)} and vector {tuple(along.shape)} do not fit: expected shapes that agree"
                ) from None
            return self._hvp(at, along)

        return self._apply(product, position)

    def hessian(self, position: ArrayLike) -> Any:
        """Hessian matrix, shape ``(..., dim, dim)``. Costs `dim` Hessian-vector products unless overridden."""
        return self._apply(self._hessian, position)

    def coordinate_index(self, name: str | int) -> int:
        """Position of a coordinate in the vector.

        Raises
        ------
        ConfigError
            If there is no coordinate of that name or number.
        """
        if isinstance(name, str):
            own = spelled(name, self.coordinates or ())
            if own is None or self.coordinates is None:
                known = "none have names" if self.coordinates is None else f"expected one of {list(self.coordinates)}"
                raise ConfigError(f"no coordinate {name!r}: {known}")
            return self.coordinates.index(own)
        if isinstance(name, bool) or not isinstance(name, Integral) or not -self.dim <= name < self.dim:
            raise ConfigError(f"no coordinate {name}: there are {self.dim}")
        return int(name) % self.dim

    def coordinate_indices(self, name: str) -> list[int]:
        """Positions in the vector of all that a name stands for: one coordinate, or the entries of parameters.

        Raises
        ------
        ConfigError
            If it stands for none.
        """
        return [self.coordinate_index(name)]

    def coordinate_name(self, index: int) -> str:
        """What the coordinate at a position in the vector is called; its number where it has no name."""
        return str(index) if self.coordinates is None else self.coordinates[index]

    # -- closed forms: a subclass overrides those it has ----------------------------------------------------------

    def log_partition_function(self, temperature: ArrayLike) -> Any:
        """ln Z(T), Z = integral of exp(-V/T) over the region inside the boundaries."""
        raise self._no_closed_form("log_partition_function")

    def mean_energy(self, temperature: ArrayLike) -> Any:
        """Boltzmann average <V>."""
        raise self._no_closed_form("mean_energy")

    def energy_variance(self, temperature: ArrayLike) -> Any:
        """Boltzmann variance <V^2> - <V>^2."""
        raise self._no_closed_form("energy_variance")

    def heat_capacity(self, temperature: ArrayLike) -> Any:
        """Heat capacity d<V>/dT = var(V) / T^2."""
        return self.energy_variance(temperature) / np.asarray(temperature) ** 2

    def free_energy(self, temperature: ArrayLike) -> Any:
        """Free energy F = -T ln Z."""
        return self.log_partition_function(temperature) * -np.asarray(temperature)

    def entropy(self, temperature: ArrayLike) -> Any:
        """Entropy S = (<V> - F) / T = ln Z + <V>/T."""
        return self.log_partition_function(temperature) + self.mean_energy(temperature) / np.asarray(temperature)

    def mean_curvature(self, temperature: ArrayLike) -> Any:
        """Boltzmann average of the trace of the Hessian."""
        raise self._no_closed_form("mean_curvature")

    def marginal(self, values: ArrayLike, temperature: float) -> Any:
        """Boltzmann probability density of the landscape's slow coordinate at `values`."""
        raise self._no_closed_form("marginal")

    def effective_potential(self, values: ArrayLike, temperature: float) -> Any:
        """Free energy -T ln(marginal) along the slow coordinate, up to a constant."""
        raise self._no_closed_form("effective_potential")

    def minima(self) -> Tensor:
        """Local minima, shape ``(n, dim)``, deepest first."""
        raise self._no_closed_form("minima")

    def saddles(self) -> Tensor:
        """First-order saddle points, shape ``(n, dim)``, lowest first."""
        raise self._no_closed_form("saddles")

    # -- shared machinery -----------------------------------------------------------------------------------------

    def _no_closed_form(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no closed form for {what}")

    def _tensor(self, position: ArrayLike) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """A checked floating tensor, and the way back to the kind of thing that was given."""
        back: Callable[[Tensor], Any]
        if isinstance(position, Tensor):
            check_dense(position)
            tensor, back = position, _unchanged
        else:
            values = ordered(position, self.coordinates, self.dim)
            tensor, back = torch.from_numpy(np.array(values, order="C")), _to_numpy
        if not tensor.is_floating_point():
            if tensor.is_complex() or tensor.dtype == torch.bool:
                raise ShapeError(f"positions must be real numbers, got dtype {tensor.dtype}")
            tensor = tensor.to(self.dtype)
        if tensor.ndim == 0 or tensor.shape[-1] != self.dim:
            names = f" ({', '.join(self.coordinates)})" if self.coordinates is not None and self.dim <= 12 else ""
            raise ShapeError(
                f"got an array of shape {tuple(tensor.shape)}; expected the last dimension to be {self.dim}{names}"
            )
        return tensor, back

    def _apply(self, function: Callable[[Tensor], Tensor], position: ArrayLike) -> Any:
        with plain_modes():
            tensor, back = self._tensor(position)
            return back(function(out_of_inference(tensor)))


def has_samples(thing: Any) -> TypeGuard[Any]:
    """Whether something is an energy that is a mean over samples, as the loss of a network is."""
    count = getattr(thing, "samples", 0)
    return isinstance(count, int) and count > 0


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
