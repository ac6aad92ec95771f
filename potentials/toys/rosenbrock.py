"""Rosenbrock's banana: a curved valley whose Boltzmann distribution is nevertheless exact."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from landscape.common.arguments import guarded_class
from landscape.potentials.expression.quadrature import Array
from landscape.potentials.toys._closed_forms import Law, Toy, check_positive

__all__ = ["Rosenbrock"]


@guarded_class
class Rosenbrock(Toy):
    """Curved valley V(x, y) = (a - x)^2 + b (y - x^2)^2.

    In u = x - a and w = y - x^2, a change of variables with Jacobian 1, the energy is a sum of two squares: exactly,

        Z = pi T / sqrt(b),    <V> = T,    var V = T^2,    P(x) = exp(-(x - a)^2/T) / sqrt(pi T),
        <tr H> = 2 + 2 b + 8 b (a^2 + T/2):

    a test of samplers where the valley is narrow and bent, yet every answer known. The valley bends but keeps its
    width in y, and no entropic force acts along x.

    Parameters
    ----------
    a : float, optional
        Position of the minimum, at (a, a^2).
    b : float, optional
        Stiffness across the valley, > 0.

    Raises
    ------
    ConfigError
        If b is not positive or a not finite.

    Notes
    -----
    The slow coordinate is x. Runs start at the minimum.

    References
    ----------
    H. H. Rosenbrock, The Computer Journal 3, 175 (1960).

    Examples
    --------
    >>> banana = Rosenbrock()
    >>> banana.gradient([1.0, 1.0])
    array([0., 0.])
    >>> banana.mean_energy([0.5, 2.0])
    array([0.5, 2. ])
    """

    def __init__(self, a: float = 1.0, b: float = 100.0) -> None:
        check_positive("Rosenbrock", b=b)
        super().__init__("(a - x)**2 + b*(y - x**2)**2", ["x", "y"], {"a": a, "b": b})

    def _law(self, temperature: float) -> Law:
        return Law(math.log(math.pi * temperature / math.sqrt(self.parameters["b"])), temperature, temperature**2)

    def _curvature(self, temperature: float) -> float:
        a, b = self.parameters["a"], self.parameters["b"]
        return 2.0 + 2.0 * b + 8.0 * b * (a**2 + 0.5 * temperature)

    def _density(self, values: Array, temperature: float) -> Array:
        density: Array = np.exp(-self._effective(values, temperature) / temperature) / math.sqrt(math.pi * temperature)
        return density

    def _effective(self, values: Array, temperature: float) -> Array:
        return (values - self.parameters["a"]) ** 2

    def default_start(self) -> Tensor:
        """The minimum, (a, a^2)."""
        return self.minima()[0]

    def minima(self) -> Tensor:
        """(a, a^2), shape ``(1, 2)``."""
        a = self.parameters["a"]
        return self._rows([a, a * a])

    def saddles(self) -> Tensor:
        """None: shape ``(0, 2)``."""
        return self._rows([])
