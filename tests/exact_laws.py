"""Exact laws of discrete time: moments on springs, transition operators in wells, the continuum beside them.

Written from the formulas of the schemes alone. On a spring k x^2/2 a step is linear, z' = A z + B xi with z = (x,
memory); its covariance is a recursion whose fixed point solves C = A C A^T + B B^T. In a well the operator of one step
acts on functions, (P f)(x) = sum over noise of f(x'), and is a matrix on the nodes of a piecewise polynomial.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm, solve_discrete_lyapunov

from tests.cases import gauss

# -- springs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear:
    """One step z' = matrix z + noise xi; xi are independent standard normal variates."""

    matrix: np.ndarray
    noise: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The stationary <z z^T>."""
        return solve_discrete_lyapunov(self.matrix, self.noise @ self.noise.T)

    def evolve(self, mean, covariance):
        """Mean and covariance one step later."""
        return self.matrix @ mean, self.matrix @ covariance @ self.matrix.T + self.noise @ self.noise.T


def euler(k, temperature, h):
    return Linear(np.array([[1 - h * k]]), np.array([[math.sqrt(2 * temperature * h)]]))


def leimkuhler_matthews(k, temperature, h):
    """z = (x, s xi_n): the noise that the next step repeats is part of the state."""
    s = math.sqrt(2 * temperature * h)
    return Linear(np.array([[1 - h * k, 0.5], [0.0, 0.0]]), np.array([[s / 2], [s]]))


def heun(k, temperature, h):
    s = math.sqrt(2 * temperature * h)
    return Linear(np.array([[1 - h * k + (h * k) ** 2 / 2]]), np.array([[s * (1 - h * k / 2)]]))


def baoab(k, temperature, h, friction):
    """z = (x, m): kick, half a drift, friction and noise, half a drift."""
    c = math.exp(-friction * h)
    kick, drift = np.array([[1.0, 0.0], [-h * k, 1.0]]), np.array([[1.0, h / 2], [0.0, 1.0]])
    noise = np.array([[0.0], [math.sqrt(temperature * (1 - c**2))]])
    return Linear(drift @ np.diag([1.0, c]) @ drift @ kick, drift @ noise)


def sghmc(k, temperature, h, friction):
    """z = (x, m): m' = (1 - friction) m - h k x + noise, x' = x + m'."""
    kick = np.array([[1.0, 0.0], [-h * k, 1.0 - friction]])
    move = np.array([[1.0, 1.0], [0.0, 1.0]])
    return Linear(move @ kick, move @ np.array([[0.0], [math.sqrt(2 * friction * h * temperature)]]))


def colored(k, temperature, h, tau):
    """z = (x, eta): x' = (1 - h k) x + I, with the exact joint law of (I, eta') = (int eta dt, eta(h)) given eta."""
    lost = -math.expm1(-h / tau)  # 1 - a, without cancellation where h << tau
    joint = temperature * np.array(
        [[2 * (h - tau * lost - tau / 2 * lost**2), lost**2], [lost**2, lost * (2 - lost) / tau]]
    )
    return Linear(np.array([[1 - h * k, tau * lost], [0.0, 1 - lost]]), np.linalg.cholesky(joint))


# -- operators of one step on a line ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Functions on [low, high] by their values on the Gauss nodes of equal panels."""

    low: float
    high: float
    panels: int = 40
    order: int = 12

    @property
    def nodes(self) -> np.ndarray:
        return gauss(self.low, self.high, self.panels, self.order)[0]

    @property
    def weights(self) -> np.ndarray:
        return gauss(self.low, self.high, self.panels, self.order)[1]

    def interpolate(self, points):
        """First node of the panel of every point, and the weights of that panel's values, ``(..., order)``."""
        scaled = (np.clip(points, self.low, self.high) - self.low) / (self.high - self.low) * self.panels
        panel = np.minimum(scaled.astype(int), self.panels - 1)
        t, w = np.polynomial.legendre.leggauss(self.order)
        project = (np.polynomial.legendre.legvander(t, self.order - 1) * w[:, None]).T
        project *= (2 * np.arange(self.order)[:, None] + 1) / 2
        return panel * self.order, np.polynomial.legendre.legvander(2 * (scaled - panel) - 1, self.order - 1) @ project


_xi, _w = np.polynomial.hermite_e.hermegauss(48)
GAUSS_HERMITE = (_xi, _w / math.sqrt(2 * math.pi))
TWO_POINT = (np.array([-1.0, 1.0]), np.array([0.5, 0.5]))


def normal_panels(reach=8.0, panels=200, order=4):
    """A rule for normal variates that stands kinks, as an acceptance has them."""
    xi, w = gauss(-reach, reach, panels, order)
    return xi, w * np.exp(-(xi**2) / 2) / math.sqrt(2 * math.pi)


def operator(line: Line, move: Callable, rule=GAUSS_HERMITE) -> np.ndarray:
    """Matrix P of (P f)(x) = <f(x')>; `move(x, xi)` gives x', or x' and the probability that it is accepted."""
    x, (xi, w) = line.nodes, rule
    moved = move(x[:, None], xi[None, :])
    target, accept = moved if isinstance(moved, tuple) else (moved, np.ones_like(moved))
    first, basis = line.interpolate(target)
    matrix = np.zeros((len(x), len(x)))
    for j in range(line.order):
        np.add.at(matrix, (np.arange(len(x))[:, None], first + j), accept * w * basis[..., j])
    return matrix + np.diag((1 - accept) @ w)


def stationary(matrix) -> np.ndarray:
    """p with p = p P and sum 1: quadrature weights of the stationary law."""
    equations = matrix.T - np.eye(len(matrix))
    equations[-1] = 1.0
    right = np.zeros(len(matrix))
    right[-1] = 1.0
    return np.linalg.solve(equations, right)


def boltzmann(line: Line, energy, temperature) -> np.ndarray:
    density = line.weights * np.exp(-energy(line.nodes) / temperature)
    return density / density.sum()


def euler_move(gradient, temperature, h):
    return lambda x, xi: x - h * gradient(x) + math.sqrt(2 * temperature * h) * xi


def heun_move(gradient, temperature, h):
    def move(x, xi):
        kick = math.sqrt(2 * temperature * h) * xi
        return x - h / 2 * (gradient(x) + gradient(x - h * gradient(x) + kick)) + kick

    return move


def leimkuhler_matthews_move(gradient, temperature, h):
    """The Markov chain behind it, u_n = x_n - s xi_n/2: u' = x - h g(x) + s xi/2 with x = u + s xi/2."""

    def move(u, xi):
        half = math.sqrt(temperature * h / 2) * xi
        return u + 2 * half - h * gradient(u + half)

    return move


def mala_move(energy, gradient, temperature, h):
    """The Euler-Maruyama move, accepted with min(1, exp(-dV/T) q(x given y)/q(y given x))."""

    def move(x, xi):
        y = euler_move(gradient, temperature, h)(x, xi)
        back = (x - y + h * gradient(y)) ** 2 / (4 * temperature * h)
        log_ratio = -(energy(y) - energy(x)) / temperature - back + xi**2 / 2
        return y, np.exp(np.minimum(log_ratio, 0.0))

    return move


def hmc_move(energy, gradient, temperature, h, leapfrog_steps):
    def move(x, xi):
        y, m = x + 0 * xi, math.sqrt(temperature) * xi + 0 * x
        before = energy(y) + m**2 / 2
        for _ in range(leapfrog_steps):
            half = m - h / 2 * gradient(y)
            y = y + h * half
            m = half - h / 2 * gradient(y)
        return y, np.exp(np.minimum((before - energy(y) - m**2 / 2) / temperature, 0.0))

    return move


def acceptance(line: Line, move, law, rule) -> float:
    """Fraction accepted in the stationary state."""
    _, accept = move(line.nodes[:, None], rule[0][None, :])
    return float(law @ accept @ rule[1])


# -- position and momentum --------------------------------------------------------------------------------------------


def baoab_operator(x_line: Line, m_line: Line, gradient, temperature, h, friction):
    """Operator on functions of (x, m), m before the kick; nodes in the order of ``meshgrid(..., indexing="ij")``."""
    x, m = (a.ravel() for a in np.meshgrid(x_line.nodes, m_line.nodes, indexing="ij"))
    xi, w = np.polynomial.hermite_e.hermegauss(12)
    c = math.exp(-friction * h)
    kicked = (m - h * gradient(x))[:, None]
    after = c * kicked + math.sqrt(temperature * (1 - c**2)) * xi
    first_x, basis_x = x_line.interpolate(x[:, None] + h / 2 * (kicked + after))
    first_m, basis_m = m_line.interpolate(after)
    matrix, rows = np.zeros((len(x), len(x))), np.arange(len(x))[:, None]
    for i in range(x_line.order):
        for j in range(m_line.order):
            column = (first_x + i) * len(m_line.nodes) + first_m + j
            np.add.at(matrix, (rows, column), w / math.sqrt(2 * math.pi) * basis_x[..., i] * basis_m[..., j])
    return matrix


# -- the continuum ----------------------------------------------------------------------------------------------------


def diffusion_average(energy, gradient, curvature, temperature, start, time, observable, reach=2.6, count=360):
    """<f(x_t)> of dx = -V' dt + sqrt(2T) dW from a fixed start, on a grid of sinc functions.

    exp(-V/2T) turns the generator into -H, H = -T d^2 + V'^2/(4T) - V''/2.
    """
    x = np.linspace(-reach, reach, count)
    step = x[1] - x[0]
    n = np.arange(count)[:, None] - np.arange(count)[None, :]
    with np.errstate(divide="ignore"):
        kinetic = np.where(n == 0, math.pi**2 / 3, 2.0 * (-1.0) ** n / np.where(n == 0, 1, n) ** 2.0) / step**2
    generator = temperature * kinetic + np.diag(gradient(x) ** 2 / (4 * temperature) - curvature(x) / 2)
    values = expm(-time * generator) @ (np.exp(-energy(x) / (2 * temperature)) * observable(x))
    at_start = np.sinc((start - x) / step) @ values
    return float(at_start * np.exp(energy(start) / (2 * temperature)))
