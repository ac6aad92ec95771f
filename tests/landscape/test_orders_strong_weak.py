"""Strong and weak orders: one Brownian path at several steps, and exact averages at a fixed time.

Weak orders need no sampling: on a spring mean and covariance obey a recursion, in a double well the operator of a step
is a matrix, and runs at large steps are held against both. Strong orders come from runs on common noise.
"""

import math

import numpy as np
import pytest
from scipy.linalg import expm

import landscape as ls
from landscape.potentials import Expression
from tests.cases import LAW_BACKENDS, Z_CONTROL, Z_MAX, slope, z_score
from tests.exact_laws import (
    GAUSS_HERMITE,
    TWO_POINT,
    Line,
    baoab,
    baoab_operator,
    diffusion_average,
    euler,
    euler_move,
    heun,
    heun_move,
    leimkuhler_matthews_move,
    mala_move,
    normal_panels,
    operator,
)

FRICTION = 1.3
MAKE = {
    "EulerMaruyama": ls.EulerMaruyama,
    "SGLD": lambda h, noise=None: ls.SGLD(h, noise),
    "LeimkuhlerMatthews": ls.LeimkuhlerMatthews,
    "Heun": lambda h, noise=None: ls.Heun(h, noise),
    "MALA": lambda h, noise=None: ls.MALA(h, noise),
    "BAOAB": lambda h, noise=None: ls.BAOAB(h, FRICTION, noise),
    "TwoPointNoise": lambda h: ls.EulerMaruyama(h, ls.TwoPointNoise()),
}


def declared(name, kind):
    return 1 if name == "TwoPointNoise" else getattr(getattr(ls, name), f"{kind}_order")


# -- strong order -----------------------------------------------------------------------------------------------------

LANDSCAPES = {
    "double well": ("(x**2 - 1)**2/4", ["x"], [0.3], 0.5),
    "valley": ("(1 + y**2)*x**2/2 + y**2/4", ["x", "y"], [0.8, 0.6], 0.3),
}
# The mean square of rejections, dt^1.5, must outweigh that of the rest, dt^2.
COUNTS = {"MALA": np.array([64, 128, 256, 512])}


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("landscape", LANDSCAPES)
@pytest.mark.parametrize("name", [name for name in MAKE if name != "TwoPointNoise"])
@pytest.mark.always
def test_strong_order(name, landscape, backend):
    text, names, start, temperature = LANDSCAPES[landscape]
    counts, time = COUNTS.get(name, np.array([16, 32, 64, 128])), 1.0
    finest = (4 if name == "MALA" else 8) * int(counts[-1])
    chains = {"compiled": 20_000 if name == "MALA" else 4000, "batched": 2000 if name == "MALA" else 500}[backend]
    settings = {"temperature": temperature, "start": start, "chains": chains, "seed": 61, "backend": backend}

    def end(rule, count):
        landscape = Expression(text, names)
        return ls.simulate(landscape, rule, steps=count, record=ls.Record(count), **settings).last_position.values

    # BAOAB has a momentum of its own; all others ride the overdamped path, which Heun follows closest.
    reference = MAKE["BAOAB" if name == "BAOAB" else "Heun"]
    truth = end(reference(time / finest, ls.ThermalNoise("float64")), finest)
    errors = []
    for count in counts:
        noise = ls.ThermalNoise("float64", finest // int(count))
        errors.append(math.sqrt(np.mean((end(MAKE[name](time / count, noise), int(count)) - truth) ** 2)))
    assert abs(slope(1 / counts, errors) - declared(name, "strong")) < 0.1
    unrelated = end(MAKE[name](time / counts[-1], ls.ThermalNoise("float64")), int(counts[-1]))
    assert math.sqrt(np.mean((unrelated - truth) ** 2)) > 3 * errors[-1]


# -- weak order on a spring -------------------------------------------------------------------------------------------

SPRINGS = [(1.7, 0.4, 1.2, 0.8), (0.6, 2.0, -3.0, 3.0)]  # k, T, start, time
LINEAR = {"EulerMaruyama": euler, "SGLD": euler, "Heun": heun, "BAOAB": lambda k, t, h: baoab(k, t, h, FRICTION)}


def moments(name, k, temperature, start, h, steps):
    """Mean and variance of x after some steps from a fixed start; BAOAB begins with half a kick."""
    linear = LINEAR[name](k, temperature, h)
    mean, covariance = np.array([start]), np.zeros((1, 1))
    if name == "BAOAB":
        mean, covariance = np.array([start, h / 2 * k * start]), np.diag([0.0, temperature])  # half of a kick undone
    for _ in range(steps):
        mean, covariance = linear.evolve(mean, covariance)
    return mean[0], covariance[0, 0]


def continuum(name, k, temperature, start, time):
    """Mean and variance of the stochastic differential equation."""
    if name != "BAOAB":
        return start * math.exp(-k * time), temperature / k * (1 - math.exp(-2 * k * time))
    flow = expm(time * np.array([[0.0, 1.0], [-k, -FRICTION]]))
    final, initial = np.diag([temperature / k, temperature]), np.diag([0.0, temperature])
    return flow[0, 0] * start, (final + flow @ (initial - final) @ flow.T)[0, 0]


@pytest.mark.parametrize("name", LINEAR)
def test_weak_order_on_a_spring(name):
    counts = np.array([32, 64, 128])
    for k, temperature, start, time in SPRINGS:
        exact = np.array(continuum(name, k, temperature, start, time))
        found = np.array([moments(name, k, temperature, start, time / n, n) for n in counts])
        assert abs(slope(1 / counts, found[:, 0] - exact[0]) - declared(name, "weak")) < 0.1
        assert abs(slope(1 / counts, found[:, 1] - exact[1]) - declared(name, "weak")) < 0.1


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("name", [*LINEAR, "TwoPointNoise"])
def test_transient_of_a_spring(name, backend):
    """Runs follow the recursions, and not the continuum; noise of two values has its own fourth moment."""
    chains, linear = (
        {"compiled": 100_000, "batched": 50_000}[backend],
        "EulerMaruyama" if name == "TwoPointNoise" else name,
    )
    for k, temperature, start, time in SPRINGS:
        count = 3
        h, spring = time / count, Expression("k*x**2/2", ["x"], {"k": k})
        run = ls.simulate(
            spring, MAKE[name](h), temperature=temperature, start=[start], chains=chains, steps=count, seed=62,
            backend=backend,
        )  # fmt: skip
        for n in range(count):
            x = run.position.values[:, n, 0]
            mean, variance = moments(linear, k, temperature, start, h, n + 1)
            fourth = 3 * variance**2
            if name == "TwoPointNoise":  # kurtosis 1 of each kick
                weights = 2 * temperature * h * (1 - h * k) ** (2 * np.arange(n + 1))
                fourth -= 2 * np.sum(weights**2)
            assert abs(z_score(x, mean)) < Z_MAX
            if n > 0 or name != "TwoPointNoise":
                assert abs(z_score((x - mean) ** 2, variance)) < Z_MAX
                assert abs(z_score((x - mean) ** 4, fourth)) < Z_MAX
            else:
                assert np.allclose((x - mean) ** 2, variance, rtol=1e-10)
        assert abs(z_score(1.1025 * (x - mean) ** 2, variance)) > Z_CONTROL
        if name == "BAOAB":  # with a whole first kick instead of half of it
            whole = baoab(k, temperature, h, FRICTION).matrix
            assert abs(z_score(x, (np.linalg.matrix_power(whole, count) @ [start, 0.0])[0])) > Z_CONTROL
        else:
            assert abs(z_score(x, continuum(linear, k, temperature, start, time)[0])) > Z_CONTROL
        if name == "TwoPointNoise":
            assert abs(z_score((x - mean) ** 4, 3 * variance**2)) > Z_CONTROL


# -- weak order in a double well --------------------------------------------------------------------------------------


def energy(x):
    return (x**2 - 1) ** 2


def gradient(x):
    return 4 * x * (x**2 - 1)


def curvature(x):
    return 12 * x**2 - 4


def observable(x):
    return x + x**2


def spread(x):
    return (x - 0.9) ** 2


START = 0.4
LINE = Line(-2.2, 2.2, 24, 12)


def value_at(line, values, point):
    first, basis = line.interpolate(np.atleast_1d(np.asarray(point, dtype=float)))
    return np.array([row @ values[i : i + line.order] for i, row in zip(first, basis, strict=True)])


def time_of(name):
    """Long enough for the noise to show in x, which takes BAOAB's momentum longer."""
    return 0.8 if name == "BAOAB" else 0.4


def exact_average(name, temperature, count, observable=observable):
    """<f(x_n)> from the start, after `count` steps."""
    h = time_of(name) / count
    if name == "LeimkuhlerMatthews":  # x_0 is given, so the hidden chain starts after one step
        xi, w = GAUSS_HERMITE
        half = math.sqrt(temperature * h / 2)
        values = operator(LINE, lambda u, xi: u + half * xi) @ observable(LINE.nodes)
        hidden = operator(LINE, leimkuhler_matthews_move(gradient, temperature, h))
        values = np.linalg.matrix_power(hidden, count - 1) @ values
        return w @ value_at(LINE, values, START - h * gradient(START) + half * xi)
    if name == "BAOAB":
        far = 7 * math.sqrt(temperature)
        x_line, m_line = Line(-2.2, 2.2, 7, 11), Line(-far, far, 4, 9)
        matrix = baoab_operator(x_line, m_line, gradient, temperature, h, FRICTION)
        values = np.repeat(observable(x_line.nodes), len(m_line.nodes))
        for _ in range(count):
            values = matrix @ values
        at_start = value_at(x_line, values.reshape(len(x_line.nodes), -1), START)[0]
        xi, w = GAUSS_HERMITE
        inside = np.abs(xi) < 6.9
        m = h / 2 * gradient(START) + math.sqrt(temperature) * xi[inside]
        return w[inside] @ value_at(m_line, at_start, m)
    move, rule = {
        "EulerMaruyama": lambda: (euler_move(gradient, temperature, h), GAUSS_HERMITE),
        "SGLD": lambda: (euler_move(gradient, temperature, h), GAUSS_HERMITE),
        "TwoPointNoise": lambda: (euler_move(gradient, temperature, h), TWO_POINT),
        "Heun": lambda: (heun_move(gradient, temperature, h), GAUSS_HERMITE),
        "MALA": lambda: (mala_move(energy, gradient, temperature, h), normal_panels()),
    }[name]()
    values = np.linalg.matrix_power(operator(LINE, move, rule), count) @ observable(LINE.nodes)
    return float(value_at(LINE, values, START)[0])


@pytest.mark.parametrize("name", MAKE)
def test_weak_order_in_a_double_well(name):
    counts = np.array({"BAOAB": [8, 12, 16], "Heun": [60, 80, 120], "MALA": [160, 320, 640]}.get(name, [80, 160, 320]))
    for temperature in (0.5, 0.3):
        if name == "BAOAB":  # no overdamped limit: extrapolated from finer steps
            fine = [exact_average(name, temperature, n) for n in (24, 36)]
            exact = (36**2 * fine[1] - 24**2 * fine[0]) / (36**2 - 24**2)
        else:
            exact = diffusion_average(energy, gradient, curvature, temperature, START, time_of(name), observable)
        errors = [exact_average(name, temperature, n) - exact for n in counts]
        assert abs(slope(1 / counts, errors) - declared(name, "weak")) < 0.1


@pytest.mark.parametrize("backend", LAW_BACKENDS)
@pytest.mark.parametrize("name", MAKE)
def test_transient_of_a_double_well(name, backend):
    """Runs from one point give the averages of the operators after a few large steps."""
    count, temperature = {"BAOAB": 4}.get(name, 8), 0.5
    chains = {"compiled": 400_000, "batched": 100_000}[backend]
    exact = [exact_average(name, temperature, count, f) for f in (observable, spread)]
    for heating in (1.0, 1.05**2):
        run = ls.simulate(
            Expression("(x**2 - 1)**2", ["x"]), MAKE[name](time_of(name) / count), temperature=heating * temperature,
            start=[START], chains=chains, steps=count, record=ls.Record(count), seed=63, backend=backend,
        )  # fmt: skip
        x = run.last_position.values[:, 0]
        z = max(abs(z_score(f(x), value)) for f, value in zip((observable, spread), exact, strict=True))
        assert z < Z_MAX if heating == 1.0 else z > Z_CONTROL
