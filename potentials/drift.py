"""Forces that are the gradient of no energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from landscape.checks import whole_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import plain, python_object
from landscape.common.names import check_different
from landscape.common.schedules import Schedule
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Bounds, Potential, check_bounds
from landscape.potentials.expression.potential import Expression, formula_text, plain_bounds
from landscape.potentials.expression.tape import Tape
from landscape.potentials.network.batching import check_batched
from landscape.potentials.network.modes import called

__all__ = ["Drift"]

Field = Callable[[Tensor], Tensor]


class Drift(Potential):
    r"""A force field f(x) that need not be a gradient: what drives dx = f dt + sqrt(2T) dW in place of -grad V.

    With `potential` the force is -grad V(x) + f(x), and V is the energy. Without it there is no energy at all: runs
    record positions only, and what relies on an energy refuses. Either way the stationary distribution is in general
    not exp(-V/T), there are currents in it, and what relies on that law (`MALA`, `HMC`, `replica_exchange`, `minimize`,
    free energies, closed forms) refuses. `gradient` is minus the whole force, which is what integrators follow.

    The linear drift f = A x has a Gaussian distribution of covariance S, A S + S A^T + 2 T = 0, and the current
    j = (A + T S^-1) x p(x); `EulerMaruyama` samples exactly B S B^T - S + 2 T dt = 0, B = 1 + A dt.

    Parameters
    ----------
    drift : str or sympy.Expr, or callable
        The first component of f as a formula (see `Expression`), further ones following; or all components as one
        sequence; or ``drift(position)`` for a tensor ``(..., dim)``, which gives a tensor ``(..., dim)``.
    coordinates : sequence of str, optional
        Names of the coordinates, in the order of the components; those of `potential` unless given. A callable without
        names has ``x0, x1, ...``.
    dim : int, optional
        Number of coordinates, needed by a callable without coordinates or potential.
    parameters : mapping of str to float, one per chain, or a schedule, optional
        Values of the other names in the formulas; ``t`` is the time, as in an `Expression`.
    bounds : mapping of str to (low, high), optional
        Boundaries at which dynamics reflects; those of `potential` unless given.
    potential : Potential, or a formula, optional
        V.

    Raises
    ------
    FormulaError
        For formulas that `Expression` refuses.
    ConfigError, ShapeError
        If the components do not fit the coordinates, the potential or each other; on use of an energy or Hessian that
        is not there; on use, if a callable does not return one vector per position.

    Notes
    -----
    Formulas run compiled and batched, callables batched. One gradient is one evaluation of f (and of grad V).

    Examples
    --------
    A rotor, of which covariance S = T and current j = a (y, -x) p are known:

    >>> import landscape as ls
    >>> rotor = ls.Drift("-x + a*y", "-y - a*x", coordinates=["x", "y"], parameters={"a": 2.0})
    >>> rotor.force([1.0, 1.0])
    array([ 1., -3.])
    >>> rotor.jacobian([1.0, 1.0])
    array([[-1.,  2.],
           [-2., -1.]])
    >>> run = ls.simulate(rotor, ls.EulerMaruyama(dt=0.01), temperature=0.5, chains=500, steps=500, seed=1)
    >>> 0.4 < float((run.last_position**2).mean()) < 0.6
    True
    >>> ls.Drift("y", "-x", coordinates=["x", "y"], potential="(x**2 + y**2)/2").energy([1.0, 1.0])
    array(1.)
    """

    conservative = False
    potential: Potential | None

    def __new__(
        cls,
        drift: str | sympy.Expr | Sequence[str | sympy.Expr] | Field | None = None,  # None in copies
        *others: str | sympy.Expr,
        coordinates: Sequence[str] | None = None,
        dim: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        bounds: Bounds | None = None,
        potential: Potential | str | None = None,
    ) -> Drift:
        """One of formulas or one of a callable, by what is given."""
        return object.__new__(cls if cls is not Drift else FunctionDrift if callable(drift) else FormulaDrift)

    @property
    def has_energy(self) -> bool:  # type: ignore[override]
        """Whether there is an energy beside the drift."""
        return self.potential is not None

    def jacobian(self, position: Any) -> Any:
        """Derivatives of the force, ``J[..., i, j] = d f_i / d x_j``, shape ``(..., dim, dim)``."""
        return self._apply(self._jacobian, position)

    def _jacobian(self, position: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = position.detach().requires_grad_(True)
            force = -self._gradient(leaf)
            if not force.requires_grad:  # constant force
                return torch.zeros(*position.shape, self.dim, dtype=position.dtype, device=position.device)
            rows = [
                torch.autograd.grad(force[..., i].sum(), leaf, retain_graph=True, materialize_grads=True)[0]
                for i in range(self.dim)
            ]
        return torch.stack(rows, dim=-2)

    def default_start(self) -> Tensor:
        """That of the potential, else the origin."""
        return super().default_start() if self.potential is None else self.potential.default_start()

    def _energy(self, position: Tensor) -> Tensor:
        if self.potential is None:
            raise ConfigError(
                f"{self!r} is a force without an energy: record positions only, or give Drift(..., potential=V)"
            )
        return self.potential._energy(position)

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        raise self._no_hessian()

    def _hessian(self, position: Tensor) -> Tensor:
        raise self._no_hessian()

    def _no_hessian(self) -> ConfigError:
        return ConfigError("a force that is no gradient has no Hessian: its derivatives are Drift.jacobian(position)")


@guarded_class
class FormulaDrift(Drift, Expression):
    """A drift whose components are formulas."""

    def __init__(
        self,
        drift: str | sympy.Expr | Sequence[str | sympy.Expr],
        *others: str | sympy.Expr,
        coordinates: Sequence[str] | None = None,
        dim: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        bounds: Bounds | None = None,
        potential: Potential | str | None = None,
    ) -> None:
        formulas = [drift, *others] if isinstance(drift, str | sympy.Expr) else [*drift, *others]
        if coordinates is None:
            coordinates = getattr(potential, "coordinates", None)
        if coordinates is None:
            raise ConfigError('a drift of formulas needs names: Drift("y", "-x", coordinates=["x", "y"])')
        if isinstance(potential, str):
            potential = Expression(potential, coordinates, parameters)
        _check_potential(potential, list(coordinates))
        if potential is not None and not isinstance(potential, Expression):
            raise ConfigError(
                f"the potential of a drift of formulas is a formula too, not a {type(potential).__name__}: give the "
                "drift as a callable"
            )
        values = _joined({} if potential is None else potential._given(), parameters or {})
        parts = [Expression(one, coordinates, values) for one in formulas]
        if not parts or len(parts) != parts[0].dim:
            raise ShapeError(f"got {len(parts)} components of a drift for the coordinates {list(coordinates)}")
        self.coordinates, self.dim, self.parameters = parts[0].coordinates, parts[0].dim, parts[0].parameters
        self.varying = {}
        for one in parts if potential is None else [*parts, potential]:
            self.varying |= one.varying
        _check_dim(dim, self.dim)
        self.bounds = check_bounds(bounds, coordinates) if bounds or potential is None else potential.bounds
        self.potential, self.components = potential, [part.expression for part in parts]
        self.gradient_tape  # noqa: B018  # refused here, not at first use

    def compiled_form(self) -> Expression:
        """Itself: its force is the tape of its components."""
        return self

    @property
    def expression(self) -> sympy.Expr:  # type: ignore[override]
        """The energy's formula."""
        if self.potential is None:
            raise ConfigError("a drift without a potential has no energy")
        return self.potential.expression  # type: ignore[attr-defined]

    @cached_property
    def jacobian_tape(self) -> Tape:
        """Straight-line program of the derivatives of the force, row by row."""
        symbols = self._symbols()
        entries = [-sympy.diff(slope, symbol) for slope in self._gradient_expressions() for symbol in symbols]
        return self._tape(entries)

    def at(self, time: float = 0.0, *, chain: int | None = None) -> FormulaDrift:
        """The drift at one time, and of one chain; see `Expression.at`."""
        other: Any = super().at(time, chain=chain)
        other.__dict__.pop("jacobian_tape", None)
        if self.potential is not None:
            other.potential = self.potential.at(time, chain=chain)  # type: ignore[attr-defined]
        return other  # type: ignore[no-any-return]

    def second_derivative(self, row: int, column: int) -> sympy.Expr:
        """Refused: there is no Hessian."""
        raise self._no_hessian()

    def _gradient_expressions(self) -> list[sympy.Expr]:
        slopes = [sympy.S.Zero] * self.dim if self.potential is None else super()._gradient_expressions()
        return [slope - part for slope, part in zip(slopes, self.components, strict=True)]

    def _energy(self, position: Tensor) -> Tensor:
        if self.potential is None:
            return super()._energy(position)  # says that there is none
        return self._run(self.energy_tape, position)[0]  # with the numbers that a run fills in

    def _jacobian(self, position: Tensor) -> Tensor:
        flat = torch.stack(self._run(self.jacobian_tape, position), dim=-1)
        return flat.reshape(*position.shape, self.dim)

    def arguments(self) -> dict[str, Any]:
        """The components' formulas, and the rest under its names."""
        drift = [formula_text(part) for part in self.components]
        own = {"drift": drift, "coordinates": list(self.coordinates or ()), "potential": self.potential}
        return own | self._numbers_and_bounds()

    @property
    def kind(self) -> str:
        """Of whichever class it is."""
        return "Drift"

    def __repr__(self) -> str:
        """Kind and arguments, as in the specification."""
        table = {key: value for key, value in self.spec().items() if key != "kind"}
        if self.varying and "parameters" in table:
            table["parameters"] |= {name: one for name, one in self._given().items() if isinstance(one, Schedule)}
        if self.potential is not None:
            table["potential"] = self.potential
        return f"Drift({', '.join(f'{key}={value!r}' for key, value in table.items())})"


@guarded_class
class FunctionDrift(Drift):
    """A drift given by a torch callable."""

    def __init__(
        self,
        drift: Field,
        *others: Any,
        coordinates: Sequence[str] | None = None,
        dim: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        bounds: Bounds | None = None,
        potential: Potential | str | None = None,
    ) -> None:
        if others or parameters:
            raise ConfigError("a callable gives all components of a drift and keeps its own parameters: give it alone")
        if isinstance(potential, str):
            if coordinates is None:
                raise ConfigError("the formula of a potential needs the names of its coordinates")
            potential = Expression(potential, coordinates)
        _check_potential(potential, None if coordinates is None else list(coordinates))
        if coordinates is not None:
            length = len(coordinates)
        elif potential is not None:
            length = potential.dim
        elif dim is not None:
            length = dim
        else:
            raise ConfigError("a drift of a callable needs dim, coordinates or a potential")
        whole_number("dim", length)
        _check_dim(dim, length)
        names = coordinates or (None if potential is None else potential.coordinates)
        self.dim, self.coordinates = length, tuple(names or (f"x{i}" for i in range(length)))
        check_different(self.coordinates, "the coordinates")
        self.bounds = check_bounds(bounds, self.coordinates) if bounds or potential is None else potential.bounds
        self.field, self.potential = drift, potential
        walls = {name: self.bounds.get(name, (-np.inf, np.inf)) for name in self.coordinates}
        check_batched("drift", drift, length, walls, vector=True, remedy="torch.vmap(drift)")

    def _gradient(self, position: Tensor) -> Tensor:
        force = called("drift", self.field, position)
        if not isinstance(force, Tensor) or force.shape != position.shape:
            got = f"shape {tuple(force.shape)}" if isinstance(force, Tensor) else type(force).__name__
            raise ShapeError(f"the drift returned {got}; expected a tensor of shape {tuple(position.shape)}")
        return -force if self.potential is None else self.potential._gradient(position) - force

    def spec(self) -> dict[str, Any]:
        """Where the callable lives; a stored run names it but cannot rebuild it."""
        table = {"dim": self.dim, "bounds": plain_bounds(self.bounds), "potential": plain(self.potential)}
        return python_object(self.field) | {name: one for name, one in table.items() if one}

    def __repr__(self) -> str:
        """Name of the callable, and what else was given."""
        of = "" if self.potential is None else f", potential={self.potential!r}"
        return f"Drift({getattr(self.field, '__qualname__', self.field)}, dim={self.dim}{of})"


def _check_potential(potential: Potential | None, names: Sequence[str] | None) -> None:
    if potential is None:
        return
    if not isinstance(potential, Potential) or not (potential.has_energy and potential.conservative):
        raise ConfigError(f"the potential of a drift must be an energy or its formula, got {potential!r}")
    if names is not None and list(potential.coordinates or ()) != list(names):
        raise ConfigError(f"the drift has the coordinates {list(names)}, its potential {potential.coordinates}")
    if getattr(potential, "sampler", None) is not None:
        raise ConfigError("the potential of a drift has minibatches: give that of all data, loss.full_batch()")


def _check_dim(dim: int | None, length: int) -> None:
    if dim is not None and dim != length:
        raise ShapeError(f"dim = {dim}, but there are {length} coordinates")


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the potential and of the drift, refused where they differ."""
    for name in first.keys() & second.keys():
        if plain(first[name]) != plain(second[name]):
            raise ConfigError(f"parameter {name!r} is {first[name]} in the potential and {second[name]} in the drift")
    return {**first, **second}
