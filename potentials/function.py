"""A landscape given by a torch function, or by functions of any library for energy and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from landscape.checks import true_or_false, whole_number
from landscape.common.arguments import guarded_class
from landscape.common.codec import python_object
from landscape.common.names import check_different
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Bounds, Potential, check_bounds
from landscape.potentials.curvature.derivative_trials import check_derivative
from landscape.potentials.network.batching import check_batched, numpy_hint, one_by_one, over_positions, trial_points
from landscape.potentials.network.modes import called

__all__ = ["Function"]


@guarded_class
class Function(Potential):
    """Energy V(x) given by a torch callable, batched over leading dimensions; derivatives by autograd or as given.

    Parameters
    ----------
    energy : callable
        ``energy(position)`` for a tensor ``(..., dim)`` gives a tensor ``(...)``, differentiable by torch unless
        `gradient` is given.
    dim : int
        Number of coordinates.
    coordinates : sequence of str, optional
        Names; ``x0, x1, ...`` unless given.
    bounds : mapping of str to (low, high), optional
        Reflecting boundaries, as for `Expression`.
    gradient : callable, optional
        ``gradient(position)`` gives a tensor ``(..., dim)``: for energies that torch cannot differentiate, those of
        another library.
    hvp : callable, optional
        ``hvp(position, vector)`` gives H v, ``(..., dim)``. With `gradient` alone H v is the central difference
        [grad V(x + h v) - grad V(x - h v)] / 2h, |h v| = eps^(1/3) (1 + |x|), good to about eps^(2/3).
    batched : bool
        False for callables of one position ``(dim,)``: the energy is taken over many by `torch.vmap`, or, where
        `gradient` is given, everything position by position.

    Raises
    ------
    ConfigError
        If `dim` is not positive, the names do not fit it, `hvp` is given without `gradient`, or a value at one position
        depends on the others of a batch, or torch sees a part of the energy only (what is behind `detach` has no
        force). On use, if torch can differentiate no energy that varies, or a callable writes
        into its argument.
    ShapeError
        If a callable takes one position only, which is tried; on use, if it does not return one energy, or one vector,
        per position.

    Examples
    --------
    >>> bowl = Function(lambda x: 0.5 * (x**2).sum(-1), dim=3)
    >>> bowl.energy([1.0, 2.0, 2.0]), bowl.gradient([1.0, 2.0, 2.0])
    (array(4.5), array([1., 2., 2.]))
    >>> quartic = Function(lambda x: (x**4).sum(-1), dim=1, gradient=lambda x: 4 * x**3)
    >>> round(float(quartic.hvp([2.0], [1.0])[0]), 6)  # 12 x^2
    48.0
    >>> Function(lambda p: p[0] ** 2 + p[1] ** 4, dim=2, batched=False).gradient([[1.0, 1.0], [2.0, 2.0]])
    array([[ 2.,  4.],
           [ 4., 32.]])
    """

    def __init__(
        self,
        energy: Callable[[Tensor], Tensor],
        dim: int,
        coordinates: Sequence[str] | None = None,
        bounds: Bounds | None = None,
        *,
        gradient: Callable[[Tensor], Tensor] | None = None,
        hvp: Callable[[Tensor, Tensor], Tensor] | None = None,
        batched: bool = True,
    ) -> None:
        if not callable(energy):
            raise ConfigError(f"energy must be a callable position -> energy, got {type(energy).__name__}")
        for name, given in (("gradient", gradient), ("hvp", hvp)):
            if given is not None and not callable(given):
                raise ConfigError(f"{name} must be a callable, got {type(given).__name__}")
        if hvp is not None and gradient is None:
            raise ConfigError("hvp is given without gradient: give both, or neither and torch differentiates energy")
        whole_number("dim", dim)
        names = tuple(coordinates) if coordinates is not None else tuple(f"x{i}" for i in range(dim))
        if len(names) != dim or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"expected {dim} different coordinate names, got {list(names)}")
        check_different(names, f"{dim} coordinates, which need different names")
        self.function, self.own_gradient, self.own_hvp = energy, gradient, hvp
        self.dim = dim
        self.coordinates = names
        self.bounds = check_bounds(bounds, names)
        self.batched = true_or_false("batched", batched)
        walls = {name: self.bounds.get(name, (-math.inf, math.inf)) for name in names}
        if batched:
            check_batched("energy function", energy, dim, walls, vector=False, differentiable=gradient is None)
            for name, given, arguments in (("gradient", gradient, 1), ("hvp", hvp, 2)):
                if given is not None:
                    check_batched(name, given, dim, walls, vector=True, arguments=arguments)

        if gradient is None:
            check_derivative(partial(self._called, "energy function", energy), trial_points(3, dim, walls))

    def _called(self, what: str, function: Callable[..., Any], *positions: Tensor) -> Any:
        """What a callable gives at many positions."""
        if self.batched:
            return called(what, function, *positions)
        if self.own_gradient is None:
            return called(what, partial(over_positions, what, function), *positions)
        return called(what, partial(one_by_one, function), *positions)

    def _energy(self, position: Tensor) -> Tensor:
        try:
            energy = self._called("energy function", self.function, position)
        except (RuntimeError, TypeError) as error:
            hint = numpy_hint("energy function", error)
            raise hint or error from error
        if not isinstance(energy, Tensor) or energy.shape != position.shape[:-1]:
            got = f"shape {tuple(energy.shape)}" if isinstance(energy, Tensor) else type(energy).__name__
            raise ShapeError(
                f"the energy function returned {got} for positions of shape {tuple(position.shape)}; "
                f"expected a tensor of shape {tuple(position.shape[:-1])}: reduce over the last dimension only"
            )
        if torch.is_grad_enabled() and position.requires_grad and not energy.requires_grad:
            self._check_constant(position.detach(), energy)
        return energy

    def _check_constant(self, position: Tensor, energy: Tensor) -> None:
        """An energy without a graph has the derivative zero, which is right only if it is constant."""
        if not torch.equal(self._called("energy function", self.function, 1.01 * position + 0.01), energy):
            raise ConfigError(
                "the energy varies, but torch cannot differentiate it: compute it with torch operations, or give "
                "Function(..., gradient=...)"
            )

    def _gradient(self, position: Tensor) -> Tensor:
        if self.own_gradient is None:
            return super()._gradient(position)
        return self._vectors("gradient", self._called("gradient", self.own_gradient, position.detach()), position)

    def _hvp(self, position: Tensor, vector: Tensor) -> Tensor:
        if self.own_gradient is None:
            return super()._hvp(position, vector)
        if self.own_hvp is not None:
            return self._vectors("hvp", self._called("hvp", self.own_hvp, position.detach(), vector.detach()), position)
        length = torch.finfo(position.dtype).eps ** (1 / 3) * (1 + position.norm(dim=-1, keepdim=True))
        step = length / vector.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(position.dtype).tiny)
        ahead, behind = (self._gradient(position + sign * step * vector) for sign in (1, -1))
        return torch.where(vector.any(dim=-1, keepdim=True), (ahead - behind) / (2 * step), 0.0)

    def _vectors(self, name: str, found: Tensor, position: Tensor) -> Tensor:
        if not isinstance(found, Tensor) or found.shape != position.shape:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(f"the {name} returned {got}; expected a tensor of shape {tuple(position.shape)}")
        return found.to(position)

    def __repr__(self) -> str:
        """The callable by its name, and what else was given."""
        told = "" if self.coordinates is None else f", coordinates={list(self.coordinates)}"
        told += f", bounds={self.bounds}" if self.bounds else ""
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        return f"{type(self).__name__}({name}, dim={self.dim}{told})"

    def spec(self) -> dict[str, Any]:
        """Where the callable lives; a stored run names it but cannot rebuild it."""
        spec = python_object(self.function) | {"dim": self.dim}
        return spec if self.batched else spec | {"batched": False}
