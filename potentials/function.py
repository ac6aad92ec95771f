"""A landscape given by a differentiable torch function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Bounds, Potential, check_bounds

__all__ = ["Function"]


class Function(Potential):
    """Energy V(x) given by a torch callable, batched over leading dimensions; derivatives by autograd.

    Parameters
    ----------
    energy : callable
        ``energy(position)`` for a tensor ``(..., dim)`` gives a tensor ``(...)``, differentiable by torch.
    dim : int
        Number of coordinates.
    coordinates : sequence of str, optional
        Names; ``x0, x1, ...`` unless given.
    bounds : mapping of str to (low, high), optional
        Hard walls, as for `Expression`.

    Raises
    ------
    ConfigError
        If `dim` is not positive or the names do not fit it.
    ShapeError
        On use, if the callable does not return one energy per position.

    Examples
    --------
    >>> bowl = Function(lambda x: 0.5 * (x**2).sum(-1), dim=3)
    >>> bowl.energy([1.0, 2.0, 2.0]), bowl.gradient([1.0, 2.0, 2.0])
    (array(4.5), array([1., 2., 2.]))
    """

    def __init__(
        self,
        energy: Callable[[Tensor], Tensor],
        dim: int,
        coordinates: Sequence[str] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        if not callable(energy):
            raise ConfigError(f"energy must be a callable position -> energy, got {type(energy).__name__}")
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ConfigError(f"dim must be a positive integer, got {dim!r}")
        names = tuple(coordinates) if coordinates is not None else tuple(f"x{i}" for i in range(dim))
        if len(names) != dim or len(set(names)) != dim:
            raise ConfigError(f"expected {dim} different coordinate names, got {list(names)}")
        self.function = energy
        self.dim = dim
        self.coordinates = names
        self.bounds = check_bounds(bounds, names)

    def _energy(self, position: Tensor) -> Tensor:
        energy = self.function(position)
        if not isinstance(energy, Tensor) or energy.shape != position.shape[:-1]:
            got = f"shape {tuple(energy.shape)}" if isinstance(energy, Tensor) else type(energy).__name__
            raise ShapeError(
                f"the energy function returned {got} for positions of shape {tuple(position.shape)}; "
                f"expected a tensor of shape {tuple(position.shape[:-1])}: reduce over the last dimension only"
            )
        return energy

    def spec(self) -> dict[str, Any]:
        """Where the callable lives; a stored run names it but cannot rebuild it."""
        name = f"{getattr(self.function, '__module__', '?')}:{getattr(self.function, '__qualname__', '?')}"
        return {"kind": "python", "name": name, "dim": self.dim}
