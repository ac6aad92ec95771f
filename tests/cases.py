"""The shared pool: landscapes, integrators, and the statistics by which runs are judged.

A law is judged by z-scores: independent chains give one time average each, their scatter gives the error. With
|z| < 4.5 a right law is rejected once in 150 000 comparisons. A wrong constant has to give |z| > 8.

References come from quadratures and transition matrices made here, not from the code under test.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import landscape as ls
from landscape.potentials import Expression, Potential, toys

BACKENDS = ("compiled", "batched")
Z_MAX = 4.5
Z_CONTROL = 8.0
P_MIN = 6.8e-6  # two-sided probability of |z| > 4.5
P_CONTROL = 1.2e-15  # of |z| > 8
LONG_ONLY = pytest.mark.long
# A law that takes thousands of chains is tested on one backend; that both give the same numbers is tested by itself.
LAW_BACKENDS = ("compiled", pytest.param("batched", marks=LONG_ONLY))


@dataclass(frozen=True)
class Case:
    """A landscape with a place to start, a temperature, and a step that is stable there."""

    name: str
    make: Callable[[], Expression]
    start: tuple[float, ...]
    temperature: float = 0.3
    dt: float = 0.01

    def __str__(self) -> str:
        return self.name

    def starts(self, chains: int) -> np.ndarray:
        """A different start per chain, all near `start` and inside the walls."""
        shift = 0.02 * np.linspace(0.0, 1.0, chains)[:, None] * np.cos(np.arange(len(self.start)))
        scale = min(1.0, 20.0 * self.dt)
        return np.array(self.start) + scale * shift


def formula(name: str, text: str, start: tuple[float, ...], **settings) -> Case:
    """A case made from text in coordinates x, y, z, u, v."""
    names = ["x", "y", "z", "u", "v"][: len(start)]
    parameters, bounds = settings.pop("parameters", None), settings.pop("bounds", None)
    return Case(name, lambda: Expression(text, names, parameters, bounds), start, **settings)


FORMULAS = (
    formula("spring", "k*x**2/2", (0.7,), parameters={"k": 2.5}),
    formula("springs", "x**2/2 + 3*y**2/2 + 5*z**2", (0.5, -0.4, 0.3)),
    formula("coupled", "(x**2 + (x-y)**2 + (y-z)**2 + (z-u)**2 + (u-v)**2)/2", (0.1, 0.3, 0.35, 0.5, 0.4)),
    formula("quartic", "x**4/4 - a*x**2/2 + x*y/3 + y**4/4", (0.9, -0.3), parameters={"a": 1.5}),
    formula("box", "x*y", (0.2, 0.7), bounds={"x": (0.0, 1.0), "y": (-1.0, 1.0)}, dt=0.1),
    formula("pendulum", "1 - cos(x) + sin(2*x)/3", (0.4,), dt=0.05),
    formula("logarithms", "log(1 + x**2 + y**2) + log1p(exp(-x*y)) + x**2/4", (0.6, -0.5)),
    formula("exponentials", "exp(x) + expm1(-x) + exp(-y**2) + y**2", (0.3, 0.8)),
    formula("hyperbolic", "cosh(x) + sinh(y)**2 + tanh(x - y)", (0.5, -0.4)),
    formula("inverse", "atan2(y, 2 + x**2) + asin(x/9) + acos(y/9) + atan(x*y) + x**2 + y**2", (0.4, 0.5)),
    formula("roots", "sqrt(1 + x**2) + (2 + y**2)**1.7 + 1/(1 + y**2)", (0.6, 0.2)),
    formula("special", "erf(x) + softplus(3*y) + sigmoid(x + y) + x**2 + softplus(-y)", (0.3, -0.2)),
    formula("kinks", "abs(x) + max(x, 2*y)**2 + min(x, y)*sign(y) + tan(y/5) + y**2", (0.33, 0.57)),
    formula("constants", "pi*x**2 + e*y**2 - 1e-3*x", (0.2, 0.3)),
)

TOYS = (
    Case("Quadratic", lambda: toys.Quadratic([0.5, 2.0, 9.0]), (0.3, 0.2, 0.1)),
    Case("Valley", lambda: toys.Valley("1 + y**2", bounds={"y": (-3, 3)}), (0.1, 0.9)),
    Case("Valley confined", lambda: toys.Valley("1 + y**2", confinement=0.2), (0.1, 0.9)),
    Case("Ring", toys.Ring, (0.65, 0.85), dt=1e-3),
    Case("ExponentialWall", lambda: toys.ExponentialWall(cutoff=3.0), (-1.0,)),
    Case("ExponentialWall exponential", lambda: toys.ExponentialWall(1.5, 0.7, 3.0, "exponential"), (-1.0,)),
    Case("DoubleWell", toys.DoubleWell, (-0.9,)),
    Case("MullerBrown", toys.MullerBrown, (-0.5, 1.4), temperature=20.0, dt=1e-5),
    Case("Himmelblau", toys.Himmelblau, (2.9, 1.9), temperature=3.0, dt=1e-3),
    Case("Rosenbrock", toys.Rosenbrock, (0.9, 0.8), dt=1e-4),
    Case("ThreeHole", toys.ThreeHole, (-0.9, 0.1)),
    Case("WolfeQuapp", toys.WolfeQuapp, (-1.1, 1.4), dt=3e-3),
    Case("EntropicBarrier", lambda: toys.EntropicBarrier(stiff=1), (0.1, -0.5), dt=5e-3),
    Case("EntropicBarrier of four", lambda: toys.EntropicBarrier(stiff=4), (0.1, 0.2, -0.1, 0.05, -0.5), dt=5e-3),
)

LANDSCAPES = FORMULAS + TOYS

THERMAL: dict[str, Callable[[float], object]] = {
    "EulerMaruyama": ls.EulerMaruyama,
    "LeimkuhlerMatthews": ls.LeimkuhlerMatthews,
    "Diffusion": ls.Diffusion,
}
# Settings of the noise run through code of their own.
REFINED: dict[str, Callable[[float], object]] = {
    "EulerMaruyama float64": lambda dt: ls.EulerMaruyama(dt, ls.ThermalNoise("float64")),
    "EulerMaruyama refined": lambda dt: ls.EulerMaruyama(dt, ls.ThermalNoise("float32", 3)),
    "LeimkuhlerMatthews float64": lambda dt: ls.LeimkuhlerMatthews(dt, ls.ThermalNoise("float64")),
    "LeimkuhlerMatthews refined": lambda dt: ls.LeimkuhlerMatthews(dt, ls.ThermalNoise("float64", 3)),
    "Diffusion refined": lambda dt: ls.Diffusion(dt, ls.ThermalNoise("float64", 2)),
}
OPTIMISERS: dict[str, Callable[[float], object]] = {
    "SGD": ls.SGD,
    "SGD momentum": lambda lr: ls.SGD(lr, momentum=0.7, weight_decay=0.1),
    "SGD nesterov": lambda lr: ls.SGD(lr, momentum=0.9, nesterov=True),
    "Adam": lambda lr: ls.Adam(lr, betas=(0.8, 0.95), eps=1e-6),
    "AdamW": lambda lr: ls.AdamW(lr, weight_decay=0.3),
}
# Rules of several stages, with momenta of their own, or with a Metropolis test.
OTHERS: dict[str, Callable[[float], object]] = {
    "Heun": ls.Heun,
    "BAOAB": lambda dt: ls.BAOAB(5 * dt, friction=2.0),
    "SGLD": ls.SGLD,
    "SGHMC": lambda lr: ls.SGHMC(lr, friction=0.3),
    "MALA": ls.MALA,
    "HMC": lambda dt: ls.HMC(5 * dt, leapfrog_steps=3),
    "two-point noise": lambda dt: ls.EulerMaruyama(dt, ls.TwoPointNoise()),
    "colored noise": lambda dt: ls.EulerMaruyama(dt, ls.ColoredNoise(5 * dt)),
}
INTEGRATORS = THERMAL | REFINED | OPTIMISERS | OTHERS


def run_case(case: Case, integrator: Callable[[float], object], *, chains: int, steps: int, **settings):
    """A run of a case from its own starts, at its temperature where the integrator is thermal."""
    rule = integrator(case.dt)
    settings.setdefault("start", case.starts(chains))
    temperature = case.temperature if rule.thermal else 0.0
    return ls.simulate(case.make(), rule, chains=chains, steps=steps, temperature=temperature, **settings)


# -- statistics -------------------------------------------------------------------------------------------------------


def z_score(per_chain, exact):
    """(mean - exact) / error over the first axis, whose entries are independent."""
    values = np.asarray(per_chain, dtype=float)
    return (values.mean(axis=0) - exact) / (values.std(axis=0, ddof=1) / math.sqrt(len(values)))


def time_average(samples) -> np.ndarray:
    """Average over the draws, ``(chain, draw, ...)`` to ``(chain, ...)``."""
    return np.asarray(samples).mean(axis=1)


def slope(x, y) -> float:
    """Exponent p of y ~ x^p by least squares in the logarithms."""
    return float(np.polyfit(np.log(x), np.log(np.abs(y)), 1)[0])


# -- quadrature and the exact laws of discrete time -------------------------------------------------------------------


def gauss(low: float, high: float, panels: int = 40, order: int = 16):
    """Nodes and weights of a composite Gauss-Legendre rule."""
    x, w = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * np.diff(edges)[:, None]
    return (edges[:-1, None] + half * (x + 1)).ravel(), (half * w).ravel()


def plane(x_range, y_range, panels: int = 30, order: int = 12):
    """Nodes ``(n, 2)`` and weights ``(n,)`` on a rectangle."""
    x, wx = gauss(*x_range, panels, order)
    y, wy = gauss(*y_range, panels, order)
    nodes = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return nodes, np.outer(wx, wy).ravel()


def modified_weights(potential: Potential, temperature: float, dt: float, nodes, weights):
    """Normalised quadrature weights of exp(-V_dt/T), V_dt = V - (dt/4)|grad V|^2 + (dt T/2) lap V.

    Where V is more than 50 T above its lowest value, V_dt (an expansion in dt) may turn over; that region is left out.
    """
    energy = potential.energy(nodes)
    weights = np.where(energy - energy.min() < 50 * temperature, weights, 0.0)
    if dt > 0:
        laplacian = np.trace(potential.hessian(nodes), axis1=-2, axis2=-1)
        energy = energy - dt / 4 * (potential.gradient(nodes) ** 2).sum(-1) + dt * temperature / 2 * laplacian
    boltzmann = np.zeros(len(nodes))
    kept = weights > 0
    boltzmann[kept] = weights[kept] * np.exp(-(energy[kept] - energy[kept].min()) / temperature)
    return boltzmann / boltzmann.sum()


def normal_density(x, variance):
    return np.exp(-(x**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def euler_law(force, temperature: float, dt: float, nodes, weights, images=lambda x: [x]):
    """Stationary probabilities on the nodes of x' = x + dt force(x) + sqrt(2 T dt) xi, exact in discrete time.

    `images(x')` lists the points of the unfolded line that walls or periods bring to x'.
    """
    aim = (nodes + dt * force(nodes))[:, None]
    kernel = sum(normal_density(image[None, :] - aim, 2 * temperature * dt) for image in images(nodes))
    return _fixed_point(kernel * weights)


def leimkuhler_matthews_law(force, slope_of_force, temperature: float, dt: float, nodes, weights):
    """As `euler_law` for x' = x + dt force(x) + sqrt(2 T dt) (xi_n + xi_{n+1})/2.

    u = x - s xi_n/2 with s = sqrt(2 T dt) is a Markov chain: y = u + s xi_n/2 and u' = 2 y - u + dt force(y).
    """
    quarter = 2 * temperature * dt / 4
    total = nodes[:, None] + nodes[None, :]
    fine = np.linspace(2 * nodes[0] - 1, 2 * nodes[-1] + 1, 20001) / 2
    y = np.interp(total, 2 * fine + dt * force(fine), fine)
    for _ in range(4):
        y = y - (2 * y + dt * force(y) - total) / (2 + dt * slope_of_force(y))
    kernel = normal_density(y - nodes[:, None], quarter) / (2 + dt * slope_of_force(y))
    hidden = _fixed_point(kernel * weights)
    return (hidden @ normal_density(nodes[None, :] - nodes[:, None], quarter)) * weights


def _fixed_point(transition) -> np.ndarray:
    transition = transition / transition.sum(axis=1, keepdims=True)
    equations = transition.T - np.eye(len(transition))
    equations[-1] = 1.0
    right = np.zeros(len(transition))
    right[-1] = 1.0
    return np.linalg.solve(equations, right)
