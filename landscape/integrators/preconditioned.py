"""Any gradient rule behind a preconditioner: natural gradient, diagonal scaling, or a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.common.positions import plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.base import Integrator, Memory, StepContext, check_positive
from landscape.potentials.base import Potential, has_samples
from landscape.potentials.curvature.fisher import check_model, fisher_matrix

__all__ = ["Preconditioned", "Preconditioner"]

Preconditioner: TypeAlias = Callable[[Potential, Tensor], Tensor] | Literal["diagonal", "natural_gradient"] | Any


def _inner(name: str) -> property:
    return property(lambda self: getattr(self.inner, name), doc="That of the inner rule.")


@guarded_class
@dataclass(frozen=True, slots=True, eq=False)
class Preconditioned(Integrator):
    """A rule that sees M(x) (grad V + noise) where it asks for grad V + noise; M is that of the start of the step.

    For `EulerMaruyama`: x' = x - dt M grad V(x) + M sqrt(2 T dt) xi (Ito, without a term in the derivative of M), so
    that in general the law is not Boltzmann's: a `Mobility` keeps it. On a valley V = g(y) x^2/2 with M = diag(1/g, 1),
    thermal noise gives V_eff(y) = -T/(2 g) and noise of covariance 2 T g along x gives (T/2) ln g.

    Parameters
    ----------
    inner : EulerMaruyama, Heun, SGD, SGLD or SGHMC
    preconditioner : callable, array, "diagonal" or "natural_gradient"
        ``callable(potential, position)`` gives the diagonals ``(chains, dim)`` or matrices ``(chains, dim, dim)`` of M;
        an array ``(dim,)`` or ``(dim, dim)`` is the same everywhere. "diagonal" is 1/(\\|H_ii\\| + damping) with the
        Hessian H; "natural_gradient" is (F + damping)^-1 with the model's Fisher matrix F of a `NetworkLoss`.
    damping : float
        Added to the curvature before it is inverted.

    Raises
    ------
    ConfigError, ShapeError

    Notes
    -----
    "diagonal" costs a Hessian a step, "natural_gradient" a gradient per sample and class and a matrix of
    dim x dim: for networks of thousands of weights use K-FAC or Shampoo through `Optimizer`.

    References
    ----------
    Amari, "Natural gradient works efficiently in learning", Neural Computation 10, 251 (1998).

    Examples
    --------
    >>> import landscape as ls
    >>> bowl = ls.potentials.Expression("(x**2 + 100*y**2)/2", ["x", "y"])
    >>> newton = ls.Preconditioned(ls.SGD(lr=0.5), "diagonal")
    >>> run = ls.simulate(bowl, newton, start=[1.0, 1.0], steps=2)
    >>> run.last_position.values.ravel()
    array([0.25, 0.25])
    """

    inner: Any
    preconditioner: Preconditioner
    damping: float = 0.0

    def __post_init__(self) -> None:
        if not getattr(self.inner, "preconditionable", False):
            raise ConfigError(
                f"Preconditioned takes a rule whose steps are linear in the gradient, such as SGD, got {self.inner!r}"
            )
        if self.inner.mobility is not None:
            raise ConfigError("the inner rule has a mobility already: Preconditioned takes one without")
        check_positive("damping", self.damping, zero=True)
        if isinstance(self.preconditioner, str):
            if self.preconditioner not in ("diagonal", "natural_gradient"):
                raise ConfigError(
                    'the preconditioner must be "diagonal", "natural_gradient", an array or a callable, got '
                    f"{self.preconditioner!r}"
                )
        elif not callable(self.preconditioner):
            matrix = plain_array(self.preconditioner, "the preconditioner")
            if matrix.dtype.kind not in "fiu" or matrix.ndim not in (1, 2) or not np.isfinite(matrix).all():
                raise ConfigError("the preconditioner must be a finite array (dim,) or (dim, dim), or a callable")

    def scaled(self, factor: float) -> Preconditioned:
        """The same rule at so many times its step size."""
        return replace(self, inner=self.inner.scaled(factor))

    may_rest = _inner("may_rest")  # type: ignore[assignment]
    step_size = _inner("step_size")  # type: ignore[assignment]
    thermal_noise = _inner("thermal_noise")  # type: ignore[assignment]
    gradients_per_step = _inner("gradients_per_step")  # type: ignore[assignment]
    thermal = _inner("thermal")  # type: ignore[assignment]
    memory_names = _inner("memory_names")  # type: ignore[assignment]
    flips_on_reflection = _inner("flips_on_reflection")  # type: ignore[assignment]
    per_chain = _inner("per_chain")  # type: ignore[assignment]

    def amplitude(self, temperature: Any, dt: Any, settings: dict[str, Any]) -> Any:
        """That of the inner rule."""
        return self.inner.amplitude(temperature, dt, settings)

    def check(self, potential: Potential) -> None:
        """A natural gradient needs a network with a model of its labels.

        Raises
        ------
        ConfigError
        """
        if isinstance(self.preconditioner, str) and self.preconditioner == "natural_gradient":
            if not has_samples(potential):
                raise ConfigError(
                    f'"natural_gradient" needs the Fisher matrix of a NetworkLoss, and a {type(potential).__name__} '
                    'has none: use "diagonal", or a callable'
                )
            check_model(potential)
        self.inner.check(potential)

    def start_memory(self, position: Tensor, temperature: Tensor, normals: Callable[[], Tensor]) -> Memory:
        """That of the inner rule."""
        return self.inner.start_memory(position, temperature, normals)  # type: ignore[no-any-return]

    def step(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """The inner step with M grad V for grad V and M noise for noise."""
        m = self._matrix(position, at)

        def apply(vector: Tensor) -> Tensor:
            if m.ndim == 2:
                return m * vector
            if len(m) == 1:  # one matrix for all chains is not copied for each
                return vector @ m[0].T
            return torch.einsum("nij,nj->ni", m, vector)

        behind = replace(
            at,
            gradient=lambda x: apply(at.gradient(x)),
            increment=lambda x, own: apply(at.increment(x, own)),
        )
        return self.inner.step(position, memory, behind)  # type: ignore[no-any-return]

    def _matrix(self, position: Tensor, at: StepContext) -> Tensor:
        """Diagonals ``(chains or 1, dim)`` or matrices ``(chains or 1, dim, dim)``."""
        if isinstance(self.preconditioner, str):
            if self.preconditioner == "diagonal":
                diagonal: Tensor = at.potential.hessian(position).diagonal(dim1=-2, dim2=-1)
                return 1.0 / (diagonal.abs() + self.damping)
            fisher = torch.stack([fisher_matrix(at.potential, row) for row in position])  # type: ignore[arg-type]
            eye = torch.eye(fisher.shape[-1], dtype=fisher.dtype, device=fisher.device)
            try:
                inverse: Tensor = torch.linalg.inv(fisher + self.damping * eye)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
                raise ConfigError(
                    f"the Fisher matrix has no inverse after step {at.step} with damping={self.damping:g}: give a "
                    "larger damping"
                ) from error
            return inverse
        if not callable(self.preconditioner):
            if "preconditioner" not in at.cache:
                at.cache["preconditioner"] = torch.as_tensor(np.asarray(self.preconditioner)).to(position)[None]
            return self._checked(at.cache["preconditioner"], position)
        return self._checked(self.preconditioner(at.potential, position), position)

    def _checked(self, m: Any, position: Tensor) -> Tensor:
        chains, dim = position.shape
        fits = isinstance(m, Tensor) and m.shape[0] in (1, chains) and m.shape[1:] in ((dim,), (dim, dim))
        if not fits:
            shape = tuple(m.shape) if isinstance(m, Tensor) else type(m).__name__
            raise ShapeError(
                f"the preconditioner gave {shape}; expected a tensor ({chains}, {dim}) or ({chains}, {dim}, {dim})"
            )
        return m  # type: ignore[no-any-return]
