"""Closed forms of the toys against a plain Gauss-Legendre sum over their formula, written out again here."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import erf, exp1, gammainc, iv

from landscape.errors import ConfigError, FormulaError, LandscapeError
from landscape.potentials import toys
from landscape.potentials.toys import (
    DoubleWell,
    EntropicBarrier,
    ExponentialWall,
    Himmelblau,
    MullerBrown,
    Quadratic,
    Ring,
    Rosenbrock,
    ThreeHole,
    Valley,
    WolfeQuapp,
)

CLOSE = 1e-8


def rule(low, high, panels, order=20):
    """Nodes and weights of a composite Gauss-Legendre rule on equal panels."""
    x, w = np.polynomial.legendre.leggauss(order)
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * np.diff(edges)[:, None]
    return (edges[:-1, None] + half * (x + 1)).ravel(), (half * w).ravel()


@dataclass
class Sum:
    """Boltzmann sums over nodes: energies, weights (with any Jacobian) and the nodes' positions."""

    energy: np.ndarray
    weight: np.ndarray
    position: np.ndarray
    temperature: float

    def __post_init__(self):
        self.lowest = self.energy.min()
        self.boltzmann = self.weight * np.exp(-(self.energy - self.lowest) / self.temperature)

    @cached_property
    def norm(self):
        return self.boltzmann.sum()

    def mean(self, values):
        return (self.boltzmann * values).sum() / self.norm

    @property
    def log_partition(self):
        return math.log(self.norm) - self.lowest / self.temperature

    @property
    def mean_energy(self):
        return self.mean(self.energy - self.lowest) + self.lowest

    @property
    def variance(self):
        return self.mean((self.energy - self.mean_energy) ** 2)


# -- one integrator per geometry ------------------------------------------------------------------------------------


def on_a_line(energy, low, high, panels=400):
    """x between low and high, both functions of the temperature."""

    def build(t):
        x, w = rule(low(t), high(t), panels)
        return Sum(energy(x), w, x[:, None], t)

    return build


def on_a_plane(energy, box, panels=14):
    def build(t):
        (xl, xh), (yl, yh) = box(t)
        x, wx = rule(xl, xh, panels)
        y, wy = rule(yl, yh, panels)
        x, y = (a.ravel() for a in np.meshgrid(x, y, indexing="ij"))
        return Sum(energy(x, y), np.outer(wx, wy).ravel(), np.stack([x, y], axis=1), t)

    return build


def in_a_valley(g, kappa, y_range, n=1, x_walls=(-math.inf, math.inf), panels=60):
    """y on a grid; each x_i scaled by its own width sqrt(T/g(y)), so that the nodes follow the valley."""

    def build(t):
        y, wy = rule(*y_range(t), panels)
        width = np.sqrt(t / g(y))
        low = np.maximum(x_walls[0], -10 * width)
        high = np.minimum(x_walls[1], 10 * width)
        u, wu = rule(0.0, 1.0, 3 if n == 1 else 2, order=20)
        x = low[:, None] + (high - low)[:, None] * u
        energy = 0.5 * kappa * y**2
        weight, position = wy, [y]
        for _ in range(n):
            shape = energy.shape
            square = 0.5 * (g(y)[:, None] * x**2).reshape(len(y), *(1,) * (energy.ndim - 1), len(u))
            energy = energy[..., None] + square
            weight = weight[..., None] * (wu * (high - low)[:, None]).reshape(len(y), *(1,) * (len(shape) - 1), len(u))
            position = [np.broadcast_to(p[..., None], energy.shape) for p in position]
            position.insert(-1, np.broadcast_to(x.reshape(len(y), *(1,) * (len(shape) - 1), len(u)), energy.shape))
        return Sum(
            energy.ravel(), np.broadcast_to(weight, energy.shape).ravel(), np.stack([p.ravel() for p in position], 1), t
        )

    return build


def on_a_ring(k, radius, jacobian=True):
    def build(t):
        theta, wt = rule(-math.pi, math.pi, 40)
        spread = 12 * math.sqrt(t / k(theta).min())
        r, wr = rule(max(0.0, radius - spread), radius + spread, 60)
        r, theta = (a.ravel() for a in np.meshgrid(r, theta, indexing="ij"))
        weight = np.outer(wr, wt).ravel() * (r if jacobian else 1.0)
        position = np.stack([r * np.cos(theta), r * np.sin(theta)], axis=1)
        return Sum(0.5 * k(theta) * (r - radius) ** 2, weight, position, t)

    return build


def muller_brown(x, y):
    amplitude = np.array([-200.0, -100.0, -170.0, 15.0])
    a, b, c = np.array([-1, -1, -6.5, 0.7]), np.array([0, 0, 11, 0.6]), np.array([-10, -10, -6.5, 0.7])
    dx, dy = x[:, None] - np.array([1, 0, -0.5, -1]), y[:, None] - np.array([0, 0.5, 1.5, 1])
    return (amplitude * np.exp(a * dx**2 + b * dx * dy + c * dy**2)).sum(axis=1)


def three_hole(x, y):
    return (
        3 * np.exp(-(x**2) - (y - 1 / 3) ** 2)
        - 3 * np.exp(-(x**2) - (y - 5 / 3) ** 2)
        - 5 * np.exp(-((x - 1) ** 2) - y**2)
        - 5 * np.exp(-((x + 1) ** 2) - y**2)
        + 0.2 * x**4
        + 0.2 * (y - 1 / 3) ** 4
    )


def in_a_banana(a, b):
    """y counted from the floor x^2, where the valley is."""

    def build(t):
        x, wx = rule(a - 12 * math.sqrt(t), a + 12 * math.sqrt(t), 12)
        w, ww = rule(-12 * math.sqrt(t / b), 12 * math.sqrt(t / b), 12)
        x, w = (v.ravel() for v in np.meshgrid(x, w, indexing="ij"))
        y = w + x**2
        return Sum((a - x) ** 2 + b * (y - x**2) ** 2, np.outer(wx, ww).ravel(), np.stack([x, y], axis=1), t)

    return build


def wall_case(a, prefactor, cutoff, form):
    def energy(x):
        z = prefactor * np.exp(a * x)
        return z if form == "exponential" else np.log1p(z)

    def high(t):
        # Where V = 60 T above its lowest value.
        top = energy(np.array(-cutoff)) + 60 * t
        return math.log((top if form == "exponential" else math.expm1(min(top, 690.0))) / prefactor) / a

    return Case(
        f"wall-{form}-{a}-{prefactor}-{cutoff}",
        lambda: ExponentialWall(a, prefactor, cutoff, form),
        on_a_line(energy, lambda t: -cutoff, high),
        (1e-8, 1e-6, 1e-3, 0.1, 1.0, 10.0),
    )


@dataclass
class Case:
    name: str
    build: object
    plain: object
    temperatures: tuple
    curvature: bool = True
    slow: int | None = field(default=None)

    @cached_property
    def toy(self):
        return self.build()


def square(d):
    return lambda t: ((-d(t), d(t)), (-d(t), d(t)))


CASES = [
    Case(
        "springs-1",
        lambda: Quadratic([0.7]),
        on_a_line(lambda x: 0.35 * x**2, lambda t: -15 * t**0.5, lambda t: 15 * t**0.5),
        (1e-6, 0.3, 5.0),
    ),
    Case(
        "springs-2",
        lambda: Quadratic([0.5, 30.0]),
        on_a_plane(
            lambda x, y: 0.25 * x**2 + 15 * y**2,
            lambda t: ((-20 * t**0.5, 20 * t**0.5), (-3 * t**0.5, 3 * t**0.5)),
        ),
        (1e-3, 2.0),
    ),
    Case(
        "valley-box",
        lambda: Valley("1 + y**2", bounds={"y": (-3, 3)}),
        in_a_valley(lambda y: 1 + y**2, 0.0, lambda t: (-3, 3)),
        (1e-4, 0.1, 4.0),
    ),
    Case(
        "valley-off-centre-box",
        lambda: Valley("2 + sin(3*y)", 0.4, {"y": (0.5, 2.5)}),
        in_a_valley(lambda y: 2 + np.sin(3 * y), 0.4, lambda t: (0.5, min(2.5, 0.5 + 200 * t))),
        (1e-3, 0.1, 4.0),
    ),
    Case(
        "valley-confined",
        lambda: Valley("1 + y**2", 0.2),
        in_a_valley(lambda y: 1 + y**2, 0.2, lambda t: (-27 * t**0.5, 27 * t**0.5), panels=120),
        (1e-4, 0.1, 4.0),
    ),
    Case(
        "valley-confined-half-open",
        lambda: Valley("exp(-y)", 1.5, {"y": (-1, None)}),
        in_a_valley(lambda y: np.exp(-y), 1.5, lambda t: (-1, 9 * t**0.5 + 3 * t)),
        (0.01, 0.1, 1.0),
    ),
    Case(
        "valley-walls-on-x",
        lambda: Valley("1 + y**2", 0.3, {"y": (-2, 2), "x": (-0.2, 0.7)}),
        in_a_valley(lambda y: 1 + y**2, 0.3, lambda t: (-2, 2), x_walls=(-0.2, 0.7), panels=120),
        (1e-2, 0.1, 4.0),
    ),
    Case(
        "valley-wall-beside-the-floor",
        lambda: Valley("1 + y**2", 0.3, {"y": (-2, 2), "x": (0.3, None)}),
        in_a_valley(lambda y: 1 + y**2, 0.3, lambda t: (-2, 2), x_walls=(0.3, math.inf), panels=120),
        (0.1, 4.0),
    ),
    Case(
        "barrier-1",
        EntropicBarrier,
        in_a_valley(lambda y: 1 + 9 * np.exp(-(y**2) / 0.18), 0.0, lambda t: (-1.5, 1.5)),
        (0.1, 2.0),
    ),
    Case(
        "barrier-2",
        lambda: EntropicBarrier(4.0, 0.5, 2, {"y": (-1, 2)}),
        in_a_valley(lambda y: 1 + 4 * np.exp(-2 * y**2), 0.0, lambda t: (-1, 2), n=2, panels=20),
        (0.1, 2.0),
    ),
    Case("ring", Ring, on_a_ring(lambda q: 50 * (1 + 0.8 * np.cos(q)), 1.0), (0.01, 1.0, 10.0, 100.0), False),
    Case(
        "ring-small",
        lambda: Ring("30 + 10*sin(2*theta)", 0.5),
        on_a_ring(lambda q: 30 + 10 * np.sin(2 * q), 0.5),
        (0.01, 1.0, 10.0),
        False,
    ),
    Case("ring-round", lambda: Ring("20", 1.5), on_a_ring(lambda q: 20 + 0 * q, 1.5), (0.01, 1.0, 30.0)),
    wall_case(1.0, 1.0, 20.0, "exponential"),
    wall_case(2.0, 0.5, 7.5, "exponential"),
    wall_case(1.0, 1.0, 20.0, "softplus"),
    wall_case(2.0, 0.5, 7.5, "softplus"),
    Case(
        "double-well",
        DoubleWell,
        on_a_line(lambda x: (x**2 - 1) ** 2, lambda t: -((1 + 8 * t**0.5) ** 0.5), lambda t: (1 + 8 * t**0.5) ** 0.5),
        (1e-4, 0.05, 0.25, 1.0, 30.0),
    ),
    Case(
        "double-well-2.5-0.6",
        lambda: DoubleWell(2.5, 0.6),
        on_a_line(
            lambda x: 2.5 * ((x / 0.6) ** 2 - 1) ** 2,
            lambda t: -0.6 * (1 + 6 * t**0.5) ** 0.5,
            lambda t: 0.6 * (1 + 6 * t**0.5) ** 0.5,
        ),
        (0.05, 0.25, 1.0, 30.0),
    ),
    Case("muller-brown", MullerBrown, on_a_plane(muller_brown, lambda t: ((-4.5, 3.0), (-2.5, 5.0)), 18), (10.0, 40.0)),
    Case("three-hole", ThreeHole, on_a_plane(three_hole, square(lambda t: 3.0 + 4 * t**0.25)), (0.15, 0.6, 5.0)),
    Case(
        "himmelblau",
        Himmelblau,
        on_a_plane(lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2, square(lambda t: 6 + t**0.25), 18),
        (1.0, 30.0),
    ),
    Case(
        "wolfe-quapp",
        WolfeQuapp,
        on_a_plane(
            lambda x, y: x**4 + y**4 - 2 * x**2 - 4 * y**2 + x * y + 0.3 * x + 0.1 * y,
            square(lambda t: 2.2 + 2.5 * t**0.25),
        ),
        (0.1, 1.0, 10.0),
    ),
    Case("rosenbrock", Rosenbrock, in_a_banana(1.0, 100.0), (0.01, 1.0, 20.0)),
    Case("rosenbrock--0.5-3", lambda: Rosenbrock(-0.5, 3.0), in_a_banana(-0.5, 3.0), (0.01, 1.0, 20.0)),
]
POINTS = [pytest.param(case, t, id=f"{case.name}-{t:g}") for case in CASES for t in case.temperatures]


def agree(value, reference, scale=0.0, tolerance=CLOSE):
    return abs(value - reference) <= tolerance * max(abs(reference), abs(scale))


@pytest.mark.parametrize(("case", "temperature"), POINTS)
def test_thermal_averages(case, temperature):
    toy, plain = case.toy, case.plain(temperature)
    if case.name != "springs-1":
        np.testing.assert_allclose(toy.energy(plain.position[::97]), plain.energy[::97], rtol=1e-9, atol=1e-12)
    assert agree(toy.log_partition_function(temperature), plain.log_partition, scale=1.0)
    # Against T: energies are counted from the lowest one, which carries no thermal information.
    assert agree(toy.mean_energy(temperature) - plain.lowest, plain.mean_energy - plain.lowest)
    assert agree(toy.energy_variance(temperature), plain.variance)
    if temperature == case.temperatures[0]:
        assert agree(toy.heat_capacity(temperature), plain.variance / temperature**2)
        assert agree(toy.free_energy(temperature), -temperature * plain.log_partition, scale=temperature)
        entropy = plain.log_partition + plain.mean_energy / temperature
        assert agree(toy.entropy(temperature), entropy, scale=max(1.0, abs(plain.lowest / temperature)))
    if case.curvature:
        trace = np.trace(toy.hessian(plain.position), axis1=-2, axis2=-1)
        assert agree(toy.mean_curvature(temperature), plain.mean(trace), scale=plain.mean(np.abs(trace)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_derivatives_of_the_partition_function(case):
    """<V> = -d ln Z/d(1/T), var V = T^2 d<V>/dT, S = -dF/dT by central differences of fourth order."""
    toy = case.toy
    t = case.temperatures[len(case.temperatures) // 2]
    step = 2e-3
    stencil = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * step)
    beta = (1 + step * np.array([-2, -1, 1, 2])) / t
    log_z = toy.log_partition_function(1 / beta)
    scale = max(abs(toy.mean_energy(t)), t)
    assert -(stencil @ log_z) * t == pytest.approx(toy.mean_energy(t), abs=2e-8 * scale)
    near = t * (1 + step * np.array([-2, -1, 1, 2]))
    mean, log_z = toy.mean_energy(near), toy.log_partition_function(near)
    variance = toy.energy_variance(t)
    assert (stencil @ mean) * t == pytest.approx(variance, rel=1e-7, abs=1e-8 * scale * t)
    assert (stencil @ (near * log_z)) / t == pytest.approx(toy.entropy(t), abs=2e-8 * max(1.0, scale / t))
    # Control: a variance that is wrong by one per cent.
    assert (stencil @ mean) * t != pytest.approx(1.01 * variance, rel=1e-3)


# -- the slow coordinate --------------------------------------------------------------------------------------------


VALLEYS = [case for case in CASES if case.name.startswith(("valley", "barrier"))]


@pytest.mark.parametrize("case", VALLEYS, ids=lambda case: case.name)
def test_marginal_of_valleys(case):
    """P(y) against the energy summed over all x_i at fixed y."""
    t = case.temperatures[1]
    plain, toy = case.plain(t), case.toy
    y = np.unique(plain.position[:, -1])
    y = y[len(y) // 10 :: len(y) // 7]
    expected = []
    for at in y:
        reach = 10 * math.sqrt(t / toy.profile.energy([at]))
        grids = []
        for name in toy.coordinates[:-1]:
            low, high = toy.bounds.get(name, (-math.inf, math.inf))
            grids.append(rule(max(low, -reach), min(high, reach), 8))
        x = np.meshgrid(*(nodes for nodes, _ in grids), indexing="ij")
        w = np.prod(np.meshgrid(*(weights for _, weights in grids), indexing="ij"), axis=0)
        energy = toy.energy(np.stack([*x, np.full_like(x[0], at)], axis=-1))
        expected.append((w * np.exp(-energy / t - plain.log_partition)).sum())
    density = toy.marginal(y, t)
    np.testing.assert_allclose(density, expected, rtol=CLOSE)
    free_energy = toy.effective_potential(y, t)
    np.testing.assert_allclose(np.exp(-(free_energy - free_energy[1]) / t), density / density[1], rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("kappa", [0.0, 0.7])
@pytest.mark.parametrize("g", ["1 + y**2", "3 + 2*cos(y)", "exp(y)"])
def test_entropic_free_energy_has_the_factor_one_half(g, kappa, temperature):
    toy = Valley(g, kappa, {"y": (-2, 2)})
    y = np.linspace(-2, 2, 9)
    stiffness = {"1 + y**2": 1 + y**2, "3 + 2*cos(y)": 3 + 2 * np.cos(y), "exp(y)": np.exp(y)}[g]
    energetic = 0.5 * kappa * y**2
    free_energy = toy.effective_potential(y, temperature)
    np.testing.assert_allclose(free_energy, 0.5 * temperature * np.log(stiffness) + energetic, atol=1e-13)
    # Control: the law without 1/2.
    assert np.abs(free_energy - temperature * np.log(stiffness) - energetic).max() > 0.1 * temperature
    fine, w = rule(-2, 2, 50)
    shape = toy.marginal(fine, temperature)
    assert w @ shape == pytest.approx(1.0, rel=1e-10)
    wrong = np.exp(-energetic / temperature) / stiffness
    right = np.exp(-energetic / temperature) / np.sqrt(stiffness)
    at = toy.marginal(y, temperature)
    np.testing.assert_allclose(at / at[4], right / right[4], rtol=1e-10)
    assert not np.allclose(at / at[4], wrong / wrong[4], rtol=5e-3, atol=0.0)


@pytest.mark.parametrize("stiff", [1, 2, 5])
@pytest.mark.parametrize(("amplitude", "width"), [(9.0, 0.3), (-0.7, 0.8)])
def test_barrier_of_n_stiff_directions(stiff, amplitude, width):
    toy = EntropicBarrier(amplitude, width, stiff)
    y = np.array([-1.2, 0.0, 0.4])
    g = 1 + amplitude * np.exp(-(y**2) / (2 * width**2))
    np.testing.assert_allclose(toy.effective_potential(y, 0.3), 0.15 * stiff * np.log(g), atol=1e-14)
    fine, w = rule(-1.5, 1.5, 100)
    norm = w @ (1 + amplitude * np.exp(-(fine**2) / (2 * width**2))) ** (-stiff / 2)
    np.testing.assert_allclose(toy.marginal(y, 0.3), g ** (-stiff / 2) / norm, rtol=1e-11)
    assert toy.mean_energy(0.3) == pytest.approx(0.15 * stiff, rel=1e-12)
    assert toy.energy_variance(0.3) == pytest.approx(0.045 * stiff, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 10.0, 300.0])
@pytest.mark.parametrize(("k0", "a", "radius"), [(50.0, 0.8, 1.0), (20.0, -0.5, 0.6), (7.0, 0.2, 3.0)])
def test_ring_marginals(k0, a, radius, temperature):
    toy = Ring(f"{k0}*(1 + {a}*cos(theta))", radius)
    theta = np.linspace(-3, 3, 7)
    k = k0 * (1 + a * np.cos(theta))
    r, w = rule(0.0, radius + 14 * math.sqrt(temperature / k.min()), 200)
    radial = np.exp(-k[:, None] * (r - radius) ** 2 / (2 * temperature))
    with_jacobian, without = radial @ (w * r), radial @ w
    density = toy.marginal(theta, temperature)
    np.testing.assert_allclose(density / density[0], with_jacobian / with_jacobian[0], rtol=1e-9)
    free_energy = toy.effective_potential(theta, temperature)
    unit = math.sqrt(2 * math.pi * temperature) * radius
    np.testing.assert_allclose(free_energy, -temperature * np.log(with_jacobian / unit), rtol=1e-9)
    around, wt = rule(-math.pi, math.pi, 40)
    assert wt @ toy.marginal(around, temperature) == pytest.approx(1.0, rel=1e-10)
    np.testing.assert_allclose(
        [toy.mean_radius(temperature, theta=q) for q in theta],
        (radial @ (w * r**2)) / with_jacobian,
        rtol=1e-9,
    )
    every = np.exp(-k0 * (1 + a * np.cos(around))[:, None] * (r - radius) ** 2 / (2 * temperature))
    law = (wt @ every) * r
    law /= w @ law
    at = np.linspace(5, len(r) - 300, 9).astype(int)
    np.testing.assert_allclose(toy.radial_marginal(r[at], temperature), law[at], rtol=1e-8, atol=1e-250)
    assert toy.mean_radius(temperature) == pytest.approx(w @ (law * r), rel=1e-9)
    # Control: a radial integral without the Jacobian.
    if temperature >= 10.0:
        assert not np.allclose(density / density[0], without / without[0], rtol=1e-3)
    mean_without = (radial @ (w * r)) / without
    assert not np.allclose([toy.mean_radius(temperature, theta=q) for q in theta], mean_without, rtol=1e-5)


def test_cold_ring_tends_to_half_t_log_k():
    toy = Ring("50*(1 + 0.8*cos(theta))", 2.0)
    theta = np.linspace(-math.pi, math.pi, 11)
    t = 1e-4
    np.testing.assert_allclose(
        toy.effective_potential(theta, t), 0.5 * t * np.log(50 * (1 + 0.8 * np.cos(theta))), rtol=1e-4
    )


LINES = [case for case in CASES if case.toy.dim == 1]


@pytest.mark.parametrize("case", LINES, ids=lambda case: case.name)
def test_marginal_on_a_line_is_the_boltzmann_law(case):
    t = case.temperatures[-2]
    toy, plain = case.toy, case.plain(t)
    x = plain.position[:: len(plain.position) // 13, 0]
    expected = np.exp(-toy.energy(x[:, None]) / t - plain.log_partition)
    np.testing.assert_allclose(toy.marginal(x, t), expected, rtol=1e-9)
    assert plain.weight @ toy.marginal(plain.position[:, 0], t) == pytest.approx(1.0, rel=1e-9)
    np.testing.assert_allclose(toy.effective_potential(x, t), toy.energy(x[:, None]), rtol=1e-12)


PLANES = [case for case in CASES if case.name in ("muller-brown", "three-hole", "himmelblau", "wolfe-quapp")]


@pytest.mark.parametrize("case", PLANES, ids=lambda case: case.name)
def test_marginals_of_surfaces(case):
    t = case.temperatures[-1]
    toy, plain = case.toy, case.plain(t)
    mean = [plain.mean(plain.position[:, axis]) for axis in (0, 1)]
    np.testing.assert_allclose(toy.mean_position(t), mean, rtol=CLOSE, atol=1e-12)
    for axis, coordinate in enumerate("xy"):
        spread = math.sqrt(plain.mean((plain.position[:, axis] - mean[axis]) ** 2))
        at = mean[axis] + spread * np.array([-1.5, -0.3, 0.9])
        across, w = rule(plain.position[:, 1 - axis].min(), plain.position[:, 1 - axis].max(), 60)
        position = np.empty((len(at), len(across), 2))
        position[..., axis], position[..., 1 - axis] = at[:, None], across
        expected = np.exp(-toy.energy(position) / t - plain.log_partition) @ w
        np.testing.assert_allclose(toy.marginal(at, t, coordinate=coordinate), expected, rtol=CLOSE)
        free_energy = toy.effective_potential(at, t, coordinate=coordinate)
        np.testing.assert_allclose(free_energy, -t * (np.log(expected) + plain.log_partition), rtol=CLOSE)
    np.testing.assert_array_equal(toy.marginal(at, t), toy.marginal(at, t, coordinate=0))
    assert toy.marginal(80.0, t) == 0.0
    assert toy.effective_potential(80.0, t) > 1e5


# -- formulas in docstrings, each symbol varied ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "cutoff", "t"), [(1.0, 1.0, 20.0, 1e-3), (2.0, 0.5, 7.0, 0.1), (0.5, 3.0, 1.0, 5.0)]
)
def test_exponential_wall_formulas(a, b, cutoff, t):
    toy = ExponentialWall(a, b, cutoff, "exponential")
    z0 = b / t * math.exp(-a * cutoff)
    z = exp1(z0)
    mean = t * math.exp(-z0) / z
    assert math.exp(toy.log_partition_function(t)) == pytest.approx(z / a, rel=1e-12)
    assert toy.mean_energy(t) == pytest.approx(mean, rel=1e-12)
    second = t**2 * (1 + z0) * math.exp(-z0) / z
    assert toy.energy_variance(t) == pytest.approx(second - mean**2, rel=1e-11)
    assert toy.mean_curvature(t) == pytest.approx(a**2 * mean, rel=1e-12)
    # Control: the second moment where the variance belongs.
    assert not agree(toy.energy_variance(t), second, tolerance=1e-3)


@pytest.mark.parametrize(
    ("a", "b", "cutoff", "t"), [(1.0, 1.0, 40.0, 1e-6), (2.0, 0.5, 20.0, 1e-4), (0.5, 3.0, 90.0, 0.1)]
)
def test_exponential_wall_at_leading_order(a, b, cutoff, t):
    toy = ExponentialWall(a, b, cutoff, "exponential")
    large = a * cutoff + math.log(t / b) - 0.57721566490153286
    z0 = b / t * math.exp(-a * cutoff)
    assert toy.mean_energy(t) == pytest.approx(t / large, rel=3 * z0 + 1e-12)
    assert toy.energy_variance(t) == pytest.approx(t**2 * (large - 1) / large**2, rel=3 * z0 + 1e-12)
    assert toy.mean_curvature(t) == pytest.approx(a**2 * t / large, rel=3 * z0 + 1e-12)


def test_cold_wall_is_a_linear_potential():
    """z0 = V(-cutoff)/T >> 1: the excess energy is exponential with mean T."""
    for form in ("exponential", "softplus"):
        toy = ExponentialWall(1.0, 1.0, 0.0, form)
        lowest, t = float(toy.energy([0.0])), 1e-9
        assert toy.mean_energy(t) == pytest.approx(lowest + t, rel=1e-12)
        assert toy.energy_variance(t) == pytest.approx(t**2, rel=1e-6)
        slope = float(toy.gradient([0.0])[0])
        assert toy.log_partition_function(t) == pytest.approx(math.log(t / slope) - lowest / t, rel=1e-12)
        assert toy.mean_log_energy(t) == pytest.approx(math.log(lowest) + t / lowest, abs=1e-12)


@pytest.mark.parametrize("z", [49.0, 49.999999, 50.000001, 51.0])
def test_wall_does_not_jump_where_the_series_takes_over(z):
    t = math.exp(-2.0) / z
    toy = ExponentialWall(1.0, 1.0, 2.0, "exponential")
    x, w = np.polynomial.laguerre.laggauss(60)
    moments = [(w * x**n / (z + x)).sum() for n in range(3)]
    excess = toy.mean_energy(t) - math.exp(-2.0)
    assert excess == pytest.approx(t * moments[1] / moments[0], rel=1e-11)
    variance = moments[2] / moments[0] - (moments[1] / moments[0]) ** 2
    assert toy.energy_variance(t) == pytest.approx(t**2 * variance, rel=1e-11)


@pytest.mark.parametrize("form", ["exponential", "softplus"])
def test_wall_where_the_lowest_energy_underflows(form):
    toy = ExponentialWall(1.0, 1.0, 2000.0, form)
    t = 0.01
    large = 2000.0 + math.log(t) - 0.57721566490153286
    assert toy.mean_energy(t) == pytest.approx(t / large, rel=1e-2 if form == "softplus" else 1e-12)
    assert math.exp(toy.log_partition_function(t)) == pytest.approx(large, rel=1e-4)
    assert math.isfinite(toy.mean_log_energy(t))


@pytest.mark.parametrize("form", ["exponential", "softplus"])
@pytest.mark.parametrize("temperature", [1e-5, 0.3])
def test_mean_log_energy(form, temperature):
    case = wall_case(1.5, 0.8, 9.0, form)
    plain = case.plain(temperature)
    assert agree(case.toy.mean_log_energy(temperature), plain.mean(np.log(plain.energy)))


def test_softplus_differs_from_exponential_as_stated():
    soft, hard = ExponentialWall(), ExponentialWall(form="exponential")
    t = 0.1
    assert soft.mean_energy(t) / hard.mean_energy(t) == pytest.approx(1.049, abs=5e-4)
    assert soft.energy_variance(t) / hard.energy_variance(t) == pytest.approx(1.10, abs=5e-3)
    assert soft.mean_curvature(t) / hard.mean_curvature(t) == pytest.approx(1 - 0.094, abs=5e-4)


@pytest.mark.parametrize(
    ("height", "width", "t"), [(1.0, 1.0, 0.25), (2.0, 1.0, 0.25), (1.0, 0.4, 0.25), (3.0, 2.0, 7.0)]
)
def test_double_well_identities(height, width, t):
    toy = DoubleWell(height, width)
    total = toy.mean_energy(t) / height + toy.mean_square(t) / width**2
    assert total == pytest.approx(1 + t / (4 * height), rel=1e-12)
    assert not agree(total, 1 + t / (2 * height), tolerance=1e-3)
    arg = height / (2 * t)
    z = 0.5 * math.pi * width * math.exp(-arg) * (iv(0.25, arg) + iv(-0.25, arg))
    assert math.exp(toy.log_partition_function(t)) == pytest.approx(z, rel=1e-12)


@pytest.mark.parametrize(("height", "width"), [(1.0, 1.0), (2.0, 0.5)])
def test_double_well_crossing_time(height, width):
    t = height / 30
    toy = DoubleWell(height, width)
    kramers = math.pi * width**2 * math.exp(height / t) / (2 * math.sqrt(2) * height)
    crossing = toy.mean_first_passage_time(-width, width, t)
    assert crossing == pytest.approx(kramers, rel=0.05)
    assert toy.mean_first_passage_time(-width, 0.0, t) == pytest.approx(crossing / 2, rel=1e-3)
    assert toy.mean_first_passage_time(width, -width, t) == pytest.approx(crossing, rel=1e-10)
    # The double integral by a plain sum, at a milder temperature.
    t = 0.5 * height
    y, wy = rule(-width, width, 30)
    inner = []
    for upper in y:
        z, wz = rule(-3 * width, upper, 30)
        inner.append(wz @ np.exp(-height * ((z / width) ** 2 - 1) ** 2 / t))
    plain = (wy * np.exp(height * ((y / width) ** 2 - 1) ** 2 / t)) @ np.array(inner) / t
    assert toy.mean_first_passage_time(-width, width, t) == pytest.approx(plain, rel=1e-9)


def test_quadratic_laws():
    toy = Quadratic([1.0, 10.0, 100.0, 0.2])
    t = 0.3
    for p in (0.01, 0.5, 0.99):
        assert gammainc(2.0, toy.energy_quantile(p, t) / t) == pytest.approx(p, rel=1e-12)
    lag = np.array([0.0, 0.02, -0.5])
    expected = np.mean([np.exp(-2 * k * np.abs(lag)) for k in toy.stiffness], axis=0)
    np.testing.assert_allclose(toy.energy_autocorrelation(lag), expected, rtol=1e-14)
    without_two = np.mean([np.exp(-k * np.abs(lag)) for k in toy.stiffness], axis=0)
    assert not np.allclose(toy.energy_autocorrelation(lag), without_two, rtol=1e-2)
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(
        toy.marginal(x, t), np.exp(-0.1 * x**2 / t) / math.sqrt(2 * math.pi * t / 0.2), rtol=1e-13
    )
    np.testing.assert_allclose(toy.effective_potential(x, t), 0.1 * x**2)
    assert toy.log_partition_function(t) == pytest.approx(
        0.5 * sum(math.log(2 * math.pi * t / k) for k in toy.stiffness), rel=1e-14
    )


def test_flat_directions_keep_the_law_of_the_energy():
    toy = Quadratic([0.0, 2.0, 0.0, 5.0])
    assert toy.constrained == 2
    assert toy.mean_energy(0.3) == pytest.approx(0.3) and toy.energy_variance(0.3) == pytest.approx(0.09)
    assert toy.energy_autocorrelation(0.1) == pytest.approx((math.exp(-0.4) + math.exp(-1.0)) / 2)
    for call in (toy.log_partition_function, toy.free_energy, toy.entropy, lambda t: toy.marginal(0.0, t)):
        with pytest.raises(ConfigError, match=r"flat|infinite"):
            call(0.3)


def test_quadratic_in_many_dimensions():
    k = np.geomspace(1e-3, 1e3, 400)
    toy = Quadratic(k)
    x = torch.linspace(-1, 1, 800, dtype=torch.float64).reshape(2, 400)
    torch.testing.assert_close(toy.gradient(x), x * torch.tensor(k))
    torch.testing.assert_close(toy.energy(x), 0.5 * (x**2 * torch.tensor(k)).sum(-1))
    torch.testing.assert_close(torch.stack(toy.gradient_tape.run(x), -1), toy.gradient(x))
    assert toy.mean_energy(1e-3) == pytest.approx(0.2)


def test_rosenbrock_marginal():
    toy = Rosenbrock(0.4, 7.0)
    x = np.linspace(-1, 2, 5)
    np.testing.assert_allclose(
        toy.marginal(x, 0.6), np.exp(-((x - 0.4) ** 2) / 0.6) / math.sqrt(0.6 * math.pi), rtol=1e-13
    )
    np.testing.assert_allclose(toy.effective_potential(x, 0.6), (x - 0.4) ** 2)


def test_round_ring_mean_curvature_formula():
    toy = Ring("12", 0.8)
    r, w = rule(0.0, 12.0, 300)
    law = w * r * np.exp(-6 * (r - 0.8) ** 2 / 2.0)
    inverse = (law / r).sum() / law.sum()
    assert toy.mean_curvature(2.0) == pytest.approx(2 * 12 - 12 * 0.8 * inverse, rel=1e-10)
    with pytest.raises(NotImplementedError, match="infinite"):
        Ring().mean_curvature(1.0)


def test_valley_without_walls_converges_when_it_can():
    # g^(-1/2) = 1/(1 + y^2): Z exists, <V> = T/2 exactly, and <tr H> does not.
    toy = Valley("(1 + y**2)**2")
    assert toy.log_partition_function(0.3) == pytest.approx(
        math.log(2 * math.pi * 0.3) / 2 + math.log(math.pi), rel=1e-11
    )
    assert toy.mean_energy(0.3) == pytest.approx(0.15, rel=1e-12)
    assert toy.marginal(0.0, 0.3) == pytest.approx(1 / math.pi, rel=1e-11)
    with pytest.raises(ConfigError, match="bounds"):
        toy.mean_curvature(0.3)


# -- kinds in, kinds out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [CASES[2], CASES[10], CASES[13], CASES[17], CASES[-2]], ids=lambda case: case.name)
def test_scalars_arrays_and_labels(case):
    toy = case.toy
    t = np.array([[0.2, 0.3, 0.7]])
    for name in ("log_partition_function", "mean_energy", "energy_variance", "heat_capacity", "free_energy", "entropy"):
        call = getattr(toy, name)
        values = call(t)
        assert isinstance(values, np.ndarray) and values.shape == t.shape
        assert values[0, 1] == pytest.approx(call(0.3), rel=1e-14)
        assert np.ndim(call(0.3)) == 0 and isinstance(call(0.3), float)
        labelled = xr.DataArray(t[0], dims="chain", coords={"chain": [3, 5, 8]}, name="temperature")
        answer = call(labelled)
        assert isinstance(answer, xr.DataArray) and answer.dims == ("chain",)
        np.testing.assert_array_equal(answer.chain, [3, 5, 8])
        np.testing.assert_allclose(answer, values[0], rtol=1e-14)
    at = np.array([[0.1, 0.2], [0.3, 0.4]])
    for call in (toy.marginal, toy.effective_potential):
        values = call(at, 0.3)
        assert isinstance(values, np.ndarray) and values.shape == at.shape
        assert isinstance(call(0.1, 0.3), float) and call(0.1, 0.3) == pytest.approx(values[0, 0], rel=1e-13)
        np.testing.assert_allclose(call(at.tolist(), 0.3), values)
        labelled = xr.DataArray(at, dims=("a", "y"), coords={"y": [7.0, 9.0]})
        answer = call(labelled, 0.3)
        assert isinstance(answer, xr.DataArray) and answer.dims == ("a", "y")
        np.testing.assert_array_equal(answer.y, [7.0, 9.0])
        np.testing.assert_array_equal(answer, values)
        tensor = call(torch.tensor(at), 0.3)
        assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
        np.testing.assert_array_equal(tensor, values)


def test_profile_on_its_own_axis_keeps_its_coordinate():
    toy = Valley("1 + y**2", bounds={"y": (-3, 3)})
    y = xr.DataArray([-2.0, 0.0, 2.0], dims="y", coords={"y": [-2.0, 0.0, 2.0]}, name="y")
    theory = toy.effective_potential(y, temperature=0.1)
    assert float(theory.sel(y=2.0) - theory.sel(y=0.0)) == pytest.approx(0.080471896, rel=1e-8)


def test_beyond_the_walls_there_is_nothing():
    for toy in (Valley("1 + y**2", bounds={"y": (-3, 3)}), EntropicBarrier(bounds={"y": (-3, 3)})):
        np.testing.assert_array_equal(toy.marginal([-3.1, 3.1], 0.1), [0.0, 0.0])
        np.testing.assert_array_equal(toy.effective_potential([-3.1, 3.1], 0.1), [math.inf, math.inf])
        assert toy.marginal(3.0, 0.1) > 0.0
    wall = ExponentialWall(cutoff=5.0)
    np.testing.assert_array_equal(wall.marginal([-5.1], 0.1), [0.0])
    np.testing.assert_array_equal(wall.effective_potential([-5.1], 0.1), [math.inf])
    assert Ring().radial_marginal(-0.5, 1.0) == 0.0


def test_walls_on_x_shift_the_profile():
    toy = Valley("1 + y**2", bounds={"y": (-3, 3), "x": (-0.1, 0.1)})
    t, y = 0.2, np.linspace(-3, 3, 7)
    mass = erf(0.1 * np.sqrt((1 + y**2) / (2 * t)))
    np.testing.assert_allclose(toy.effective_potential(y, t), 0.5 * t * np.log(1 + y**2) - t * np.log(mass), rtol=1e-10)


# -- bad arguments --------------------------------------------------------------------------------------------------

BAD = [
    (lambda: Quadratic([1.0, -2.0]), "not negative"),
    (lambda: Quadratic([]), "at least one"),
    (lambda: Quadratic([0.0, 0.0]), "positive"),
    (lambda: Quadratic([math.nan]), "finite"),
    (lambda: Quadratic(3.0), "sequence"),
    (lambda: Quadratic(["a"]), "sequence"),
    (lambda: Quadratic([1.0]).energy_quantile(1.5, 0.1), "probability"),
    (lambda: Valley("1 + x**2"), "y alone.*'x'"),
    (lambda: Valley("1 + z"), "y alone"),
    (lambda: Valley("1 + open(y)"), "unknown function"),
    (lambda: Valley("y**2 - 1"), "positive"),
    (lambda: Valley("y - 1", bounds={"y": (0, 3)}), "positive"),
    (lambda: Valley("(y - 0.3)**2", bounds={"y": (-2, 2)}), "positive"),
    (lambda: Valley("1/(y - 1)**2", bounds={"y": (0, 2)}), "positive and finite"),
    (lambda: Valley("log(y)", bounds={"y": (-1, 2)}), "positive and finite"),
    (lambda: Valley("-1"), "positive"),
    (lambda: Valley("1 + y**2", confinement=-0.1), "confinement.*-0.1"),
    (lambda: Valley("1 + y**2", confinement="much"), "confinement"),
    (lambda: Valley("1 + y**2", bounds={"z": (0, 1)}), "'z'"),
    (lambda: Valley("1 + y**2", bounds={"y": (2, 1)}), "low < high"),
    (lambda: Valley("1 + y**2").log_partition_function(0.1), "bounds"),
    (lambda: Valley("1 + y**2", bounds={"y": (0, None)}).marginal(0.5, 0.1), "bounds"),
    (lambda: EntropicBarrier(bounds={}).mean_energy(0.1), "bounds"),
    (lambda: EntropicBarrier(-1.0), "amplitude.*-1"),
    (lambda: EntropicBarrier(width=0.0), "width.*0"),
    (lambda: EntropicBarrier(stiff=0), "at least 1"),
    (lambda: EntropicBarrier(stiff=1.5), "whole number"),
    (lambda: EntropicBarrier(stiff=True), "whole number"),
    (lambda: EntropicBarrier(math.nan), "finite"),
    (lambda: EntropicBarrier().mean_first_passage_time(-2.0, 1.0, 0.1), "between the ends"),
    (lambda: Ring("cos(theta)"), "positive"),
    (lambda: Ring("50 + x"), "theta alone"),
    (lambda: Ring("5 + theta"), "jumps"),
    (lambda: Ring(radius=0.0), "radius.*0"),
    (lambda: Ring(radius=math.inf), "radius"),
    (lambda: ExponentialWall(a=0.0), "a, got 0"),
    (lambda: ExponentialWall(a=-1.0), "a, got -1"),
    (lambda: ExponentialWall(prefactor=0.0), "prefactor"),
    (lambda: ExponentialWall(cutoff=math.inf), "cutoff"),
    (lambda: ExponentialWall(cutoff="far"), "cutoff"),
    (lambda: ExponentialWall(form="relu"), "softplus.*relu"),
    (lambda: ExponentialWall(cutoff=-1e4, form="exponential").mean_energy(1.0), "overflows"),
    (lambda: DoubleWell(height=-1.0), "height.*-1"),
    (lambda: DoubleWell(width=0.0), "width.*0"),
    (lambda: DoubleWell(width=[1.0, 2.0]), "width"),
    (lambda: DoubleWell(height="high"), "height"),
    (lambda: Rosenbrock(b=0.0), "b, got 0"),
    (lambda: Rosenbrock(a=math.inf), "finite"),
    (lambda: MullerBrown().marginal(0.0, 20.0, coordinate="z"), "'z'"),
    (lambda: MullerBrown().marginal(math.nan, 20.0), "finite"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(call, message):
    with pytest.raises((ConfigError, FormulaError), match=message) as caught:
        call()
    assert isinstance(caught.value, LandscapeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[10], CASES[13], CASES[17], CASES[19]], ids=lambda c: c.name)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf, "hot", True, None, [0.1, -0.1]])
def test_bad_temperatures(case, temperature):
    toy = case.toy
    for name in ("log_partition_function", "mean_energy", "energy_variance"):
        with pytest.raises(ConfigError, match="temperature"):
            getattr(toy, name)(temperature)
    for call in (toy.marginal, toy.effective_potential):
        with pytest.raises(ConfigError, match="temperature"):
            call(0.1, temperature)
    with pytest.raises(ConfigError, match="one temperature"):
        toy.marginal(0.1, [0.1, 0.2])
    with pytest.raises(ConfigError, match="real numbers"):
        toy.marginal("here", 0.1)


def test_missing_closed_forms_say_so():
    with pytest.raises(NotImplementedError, match="line of minima"):
        Valley("1 + y**2").minima()
    with pytest.raises(NotImplementedError, match="circle of minima"):
        Ring().minima()
    with pytest.raises(NotImplementedError, match="walls"):
        Valley("1 + y**2", 0.3, {"y": (1, 2)}).minima()


def test_every_toy_is_exported():
    assert set(toys.__all__) == set(dir(toys)) >= {"Valley", "Ring", "MullerBrown"}
    assert {type(case.toy).__name__ for case in CASES} == set(toys.__all__)
