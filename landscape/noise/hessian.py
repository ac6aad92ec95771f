"""Noise shaped by the curvature, as that of minibatches is near a minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import sympy
import torch
from torch import Tensor

from landscape.checks import finite_number, one_of
from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError
from landscape.integrators.step_context import Memory, StepContext
from landscape.noise.base import Noise, check_precision, standard_normals
from landscape.noise.forms import CompiledNoise, Spread
from landscape.potentials.base import Potential
from landscape.potentials.expression.formula import absolute
from landscape.random import Precision

__all__ = ["HessianNoise"]


@guarded_class
@dataclass(frozen=True, slots=True)
class HessianNoise(Noise):
    """White noise of covariance 2 T dt H(x) on some coordinates and 2 T dt `isotropic` on the others, in the Ito sense.

    On a valley V = g(y) x^2/2 with this noise on x and isotropic noise 1 on y, <x^2> = T at every y, so that the mean
    force along y is -(T/2) g'(y), V_eff = (T/2) tr H; thermal noise has -(T/2) g'/g, V_eff = (T/2) ln det H.

    Parameters
    ----------
    coordinates : sequence of names, optional
        Those whose block of the Hessian shapes the noise; None for all.
    isotropic : float
        Factor on the others.
    negative : {"clip", "absolute", "raise"}
        What a negative eigenvalue becomes: 0, its absolute value, or an error.
    precision : {"float32", "float64"}
        Resolution of the variates.

    Raises
    ------
    ConfigError
        If a setting makes no sense; during a run, if an eigenvalue is negative and `negative` is "raise".

    Notes
    -----
    A step costs one Hessian, and its eigenvectors where the block has more than one coordinate.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    section 2 (noise proportional to the Hessian).

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("8*x**2/2", ["x"])
    >>> rule = ls.EulerMaruyama(dt=0.01, noise=ls.HessianNoise())
    >>> run = ls.simulate(spring, rule, temperature=0.5, chains=4000, steps=100, seed=0, record=ls.Record(100))
    >>> abs(float((run.last_position**2).mean()) - 0.5) < 0.06  # T, whatever the stiffness
    True
    """

    coordinates: Sequence[str] | None = None
    isotropic: float = 0.0
    negative: Literal["clip", "absolute", "raise"] = "clip"
    precision: Precision = "float32"

    additive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_precision(self.precision)
        one_of("negative", self.negative, ("clip", "absolute", "raise"))
        finite_number("isotropic", self.isotropic, least=0)
        if self.coordinates is not None:
            if isinstance(self.coordinates, str):
                raise ConfigError(f'coordinates must be a sequence of names: write ["{self.coordinates}"]')
            object.__setattr__(self, "coordinates", tuple(self.coordinates))

    def check(self, potential: Potential) -> None:
        """Refuse names that the potential does not have."""
        self.indices(potential)

    def indices(self, potential: Potential) -> list[int]:
        """Numbers of the coordinates whose noise the Hessian shapes."""
        if self.coordinates is None:
            return list(range(potential.dim))
        return [potential.coordinate_index(name) for name in self.coordinates]

    @property
    def capturable(self) -> bool:  # type: ignore[override]
        """Unless it stops at a negative curvature."""
        return self.negative != "raise"

    def spread(self, potential: Potential, position: Tensor) -> Spread:
        """The diagonal of H on the chosen coordinates, `isotropic` on the others."""
        chosen = self.indices(potential)
        diagonal = potential.hessian(position).diagonal(dim1=-2, dim2=-1)
        others = torch.full_like(diagonal, self.isotropic)
        others[:, chosen] = self._stretch(diagonal[:, chosen])
        return Spread(others)

    def compiled_form(self, formula: Potential) -> CompiledNoise | str:
        """Roots of the curvatures along the chosen coordinates, where their block of the Hessian is diagonal."""
        if self.negative == "raise":
            return 'it cannot stop at a negative curvature (HessianNoise(negative="raise"))'
        chosen, second = self.indices(formula), formula.second_derivative  # type: ignore[attr-defined]
        if any(second(i, j) != 0 for i in chosen for j in chosen if i < j):
            return "the Hessian that shapes the noise is not diagonal"
        stretch = absolute if self.negative == "absolute" else (lambda e: sympy.Max(e, 0))
        return CompiledNoise({d: sympy.sqrt(stretch(second(d, d))) for d in chosen}, others=self.isotropic**0.5)

    def draw(self, seed: int, chains: Tensor, step: int | Tensor, dim: int) -> Tensor:
        """Standard normal variates of one step, ``(chains, dim)``."""
        return standard_normals(seed, chains, step, dim, self.precision)

    def increment(self, position: Tensor, memory: Memory, at: StepContext) -> Tensor:
        """sqrt(2 T dt) H^(1/2) xi on the chosen coordinates."""
        chosen = self.indices(at.potential)
        noise = at.noise()
        increment = self.isotropic**0.5 * noise
        hessian = at.potential.hessian(position)
        block = hessian[:, chosen][:, :, chosen]
        if len(chosen) == 1:
            increment[:, chosen] = self._stretch(block[:, 0]).sqrt() * noise[:, chosen]
        else:
            values, vectors = torch.linalg.eigh(block)
            inner = torch.einsum("nji,nj->ni", vectors, noise[:, chosen])
            increment[:, chosen] = torch.einsum("nij,nj->ni", vectors, self._stretch(values).sqrt() * inner)
        scaled: Tensor = at.amplitude * increment
        return scaled

    def _stretch(self, curvature: Tensor) -> Tensor:
        if self.negative == "absolute":
            return curvature.abs()
        if self.negative == "raise" and bool((curvature < 0).any()):
            raise ConfigError(
                f'the Hessian has the negative eigenvalue {float(curvature.min()):g}: use negative="clip" or "absolute"'
            )
        return curvature.clamp_min(0.0)
