"""An energy as SciPy's minimisers take it, with what they saw on the way; and the second-order steps at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.potentials.base import Potential

__all__ = ["Objective", "newton"]

Vector = NDArray[np.float64]
REJECTED: Final = 12  # steps in a row that the trust region refuses: energies no longer tell them apart


class Objective:
    """Energy and gradient of a potential at arrays in float64, and the history of a minimisation.

    Parameters
    ----------
    potential : Potential
    start : tensor, shape ``(dim,)``
    tolerance : float
        On the norm of the gradient, at which `note` ends the search.
    norm : callable
        Of (position, gradient): that of the part which boundaries let through.
    report : callable
        Is told the number of iterations.
    """

    def __init__(
        self, potential: Potential, start: Tensor, tolerance: float, norm: Callable[[Tensor, Tensor], float],
        report: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.potential, self.start, self.tolerance, self.norm, self.report = potential, start, tolerance, norm, report
        self._last: tuple[Vector, float, float] = (np.full(len(start), np.nan), np.nan, np.nan)
        self._standing = 0
        self.position = start  # that of the last iteration
        self.history: list[tuple[int, float, float]] = [(0, *self.look(start))]

    def look(self, position: Tensor) -> tuple[float, float]:
        """Energy and norm of the gradient."""
        energy = float(self.potential.energy(position).detach())
        return energy, self.norm(position, self.potential.gradient(position))

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Energy and gradient."""
        at = self.tensor(x)
        energy, gradient = float(self.potential.energy(at)), self.potential.gradient(at)
        self._last = x.copy(), energy, self.norm(at, gradient)
        return energy, gradient.to("cpu", torch.float64).numpy()

    def product(self, x: Vector, along: Vector) -> Vector:
        """The Hessian times a vector."""
        found: Tensor = self.potential.hvp(self.tensor(x), self.tensor(along))
        return found.detach().to("cpu", torch.float64).numpy()

    def tensor(self, x: Vector) -> Tensor:
        """A position of the potential's own type."""
        return torch.from_numpy(np.array(x)).to(self.start)

    def note(self, intermediate_result: Any) -> None:
        """Remember an iteration; end the search where the tolerance is met, or steps are refused again and again."""
        x = np.array(intermediate_result.x)
        # as a rule the search ends where it looked last, and on a large data set a second evaluation is expensive
        seen = self._last[1:] if np.array_equal(x, self._last[0]) else self.look(self.tensor(x))
        self._standing = self._standing + 1 if seen[0] == self.history[-1][1] else 0
        self.history.append((self.history[-1][0] + 1, *seen))
        self.position = self.tensor(x)
        self.report(self.history[-1][0])
        if self.history[-1][2] <= self.tolerance or self._standing >= REJECTED:
            raise StopIteration


def newton(objective: Objective, x: Vector, limit: int) -> Vector:
    """Newton's method in a trust region, each step by conjugate gradients with products of the Hessian.

    Directions of negative curvature lead on to the edge of the region, so that it leaves saddles. Costs a gradient per
    iteration, and a product per step of conjugate gradients.

    References
    ----------
    Nocedal, Wright (2006), Numerical Optimization, algorithms 4.1 and 7.2 (Steihaug).
    """
    options = {"maxiter": limit, "gtol": objective.tolerance}
    found = scipy.optimize.minimize(
        objective, x, jac=True, hessp=objective.product, method="trust-ncg", callback=objective.note, options=options
    )
    best: Vector = np.array(found.x)
    return best
