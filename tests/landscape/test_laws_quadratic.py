"""Stationary laws on springs, where the law of every time step is known exactly.

Euler-Maruyama: <x^2> = T/[k (1 - dt k/2)], <x_n x_{n+m}> = (1 - dt k)^m <x^2>. Leimkuhler-Matthews: <x^2> = T/k and
<x_n x_{n+m}> = (1 - dt k)^(m-1) [(1 - dt k) T/k + T dt/2] for m > 0.
"""

import math

import numpy as np
import pytest
from scipy.stats import gamma, kstest

import landscape as ls
from landscape.potentials import Expression, Function, toys
from tests.cases import BACKENDS, P_CONTROL, P_MIN, Z_CONTROL, Z_MAX, time_average, z_score

K = np.array([0.5, 2.0, 7.0])
TEXT = "(a*x**2 + b*y**2 + c*z**2)/2"
TEMPERATURES, STEPS = [0.1, 1.7], [0.02, 0.1, 0.25]
REPLICAS = {"compiled": 500, "batched": 450}
COUNTS = {"compiled": (900, 2500), "batched": (500, 1200)}  # steps before and after the run is stationary
SCHEMES = {"EulerMaruyama": ls.EulerMaruyama, "LeimkuhlerMatthews": ls.LeimkuhlerMatthews}


def springs():
    return Expression(TEXT, ["x", "y", "z"], dict(zip("abc", K, strict=True)))


def exact_variance(scheme, temperature, dt):
    """Shape ``(..., 3)`` for arrays of temperatures and steps."""
    temperature, dt = np.asarray(temperature)[..., None], np.asarray(dt)[..., None]
    return temperature / K / (1 - dt * K / 2 if scheme == "EulerMaruyama" else 1)


def scan(scheme, backend, heating=1.0, noise=None, seed=1):
    """Temperatures and steps in one run: settings per combination, positions ``(combination, replica, draw, 3)``."""
    replicas = REPLICAS[backend]
    g = ls.grid(temperature=TEMPERATURES, dt=STEPS, replicas=replicas)
    rule = SCHEMES[scheme](g["dt"], noise)
    settings = {"start": [0.2, -0.1, 0.1], "seed": seed, "backend": backend, "temperature": heating * g["temperature"]}
    warm, steps = COUNTS[backend]
    warm = ls.simulate(springs(), rule, steps=warm, record=ls.Record(warm), **settings)
    run = ls.simulate(springs(), rule, steps=steps, record=ls.Record(5), **(settings | {"start": warm}), state="keep")
    combinations = len(TEMPERATURES) * len(STEPS)
    x = run.position.values.reshape(combinations, replicas, -1, 3)
    energy = run.energy.values.reshape(combinations, replicas, -1)
    return g["temperature"].values[::replicas], g["dt"].values[::replicas], x, energy


def scores(per_chain, exact):
    """z per combination; `per_chain` ``(combination, replica, ...)``, `exact` ``(combination, ...)``."""
    return np.array([z_score(values, value) for values, value in zip(per_chain, exact, strict=True)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.always
def test_variance_and_energy(scheme, backend):
    temperature, dt, x, energy = scan(scheme, backend)
    exact = exact_variance(scheme, temperature, dt)
    assert np.all(np.abs(scores((x**2).mean(axis=2), exact)) < Z_MAX)
    assert np.all(np.abs(scores(x.mean(axis=2), 0 * exact)) < Z_MAX)
    assert np.all(np.abs(scores((x**4).mean(axis=2), 3 * exact**2)) < Z_MAX)
    cross = x[..., 0] * x[..., 1]
    assert np.all(np.abs(scores(cross.mean(axis=2), 0 * temperature)) < Z_MAX)

    springs_energy = 0.5 * K * exact
    mean, variance = springs_energy.sum(-1), 2 * (springs_energy**2).sum(-1)
    assert np.all(np.abs(scores(energy.mean(axis=2), mean)) < Z_MAX)
    spread = (energy - mean[:, None, None]) ** 2
    assert np.all(np.abs(scores(spread.mean(axis=2), variance)) < Z_MAX)
    assert np.all(np.abs(scores(energy.mean(axis=2), 2 * mean)) > Z_CONTROL)  # k_B T per spring, not half of it
    assert np.all(np.abs(scores(energy.mean(axis=2), mean / 3)) > Z_CONTROL)

    # The other scheme's law, and the one with a missing 1/2, wherever the step is large enough to tell.
    other = exact_variance("LeimkuhlerMatthews" if scheme == "EulerMaruyama" else "EulerMaruyama", temperature, dt)
    told = dt[:, None] * K > 0.5
    assert np.all(np.abs(scores((x**2).mean(axis=2), other))[told] > Z_CONTROL)
    if scheme == "EulerMaruyama":
        told = (dt[:, None] * K > 0.5) & (dt[:, None] * K < 1)
        wrong = temperature[:, None] / (K * (1 - dt[:, None] * K + np.where(told, 0, 100)))
        assert np.all(np.abs(scores((x**2).mean(axis=2), wrong))[told] > Z_CONTROL)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.always
def test_noise_five_percent_too_strong_is_noticed(scheme, backend):
    temperature, dt, x, energy = scan(scheme, backend, heating=1.05**2)
    exact = exact_variance(scheme, temperature, dt)
    found = np.abs(scores(energy.mean(axis=2), (0.5 * K * exact).sum(-1)))
    assert np.all(found > Z_CONTROL)
    assert np.all(np.abs(scores((x[..., 1:] ** 2).mean(axis=2), exact[:, 1:]))[1:3] > Z_CONTROL)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_correlation_in_time(scheme, backend):
    temperature, dt, k = 0.6, 0.08, 3.0
    spring = Expression("k*x**2/2", ["x"], {"k": k})
    chains = {"compiled": 2000, "batched": 800}[backend]
    settings = {"temperature": temperature, "chains": chains, "seed": 2, "backend": backend}
    warm = ls.simulate(spring, SCHEMES[scheme](dt), steps=100, record=ls.Record(100), **settings)
    run = ls.simulate(spring, SCHEMES[scheme](dt), steps=400, start=warm, state="keep", **settings)
    x, rho = run.position.values[..., 0], 1 - dt * k
    for lag in (1, 2, 3, 7):
        if scheme == "EulerMaruyama":
            exact = rho**lag * temperature / (k * (1 - dt * k / 2))
            wrong = rho**lag * temperature / k
        else:
            exact = rho ** (lag - 1) * (rho * temperature / k + temperature * dt / 2)
            wrong = rho**lag * temperature / k
        products = time_average(x[:, lag:] * x[:, :-lag])
        assert abs(z_score(products, exact)) < Z_MAX
        if lag < 4:
            assert abs(z_score(products, wrong)) > Z_CONTROL


def test_correlation_of_the_energy():
    """sum v_i^2 rho_i^(2m) / sum v_i^2 with rho = 1 - dt k, v = k <x^2>; for small steps (1/N_c) sum exp(-2 k_i t)."""
    dt, temperature = 0.02, 0.9
    settings = {"temperature": temperature, "chains": 4000, "seed": 4, "backend": "compiled"}
    warm = ls.simulate(springs(), ls.EulerMaruyama(dt), steps=800, record=ls.Record(800), **settings)
    run = ls.simulate(springs(), ls.EulerMaruyama(dt), steps=400, start=warm, state="keep", **settings)
    v = K * exact_variance("EulerMaruyama", temperature, dt)
    fluctuation = run.energy.values - v.sum() / 2
    for lag in (5, 20, 60):
        products = time_average(fluctuation[:, lag:] * fluctuation[:, :-lag])
        exact = 0.5 * (v**2 * (1 - dt * K) ** (2 * lag)).sum()
        assert abs(z_score(products, exact)) < Z_MAX
        assert abs(z_score(products, 0.5 * (v**2 * (1 - dt * K) ** lag).sum())) > Z_CONTROL  # exp(-k t): the factor 2
        continuum = toys.Quadratic(K).energy_autocorrelation(lag * dt)
        assert math.isclose(exact / (0.5 * (v**2).sum()), continuum, rel_tol=0.1, abs_tol=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stiff", [1, 3])
def test_gamma_law(stiff, backend):
    """Energies of springs under Leimkuhler-Matthews are Gamma(N_c/2, rate 1/T) at any step."""
    names = ["x", "y", "z"][:stiff]
    bowl = Expression(" + ".join(f"{0.5 + i}*{name}**2" for i, name in enumerate(names)), names)
    chains, temperature = {"compiled": 60_000, "batched": 40_000}[backend], 0.37
    run = ls.simulate(
        bowl,
        ls.LeimkuhlerMatthews(0.2),
        temperature=temperature,
        chains=chains,
        steps=40,
        record=ls.Record(40),
        seed=5,
        backend=backend,
    )
    energy = run.energy.values[:, -1]
    assert kstest(energy, gamma(stiff / 2, scale=temperature).cdf).pvalue > P_MIN
    assert kstest(energy, gamma(stiff, scale=temperature).cdf).pvalue < P_CONTROL  # alpha = N_c / 2, not N_c
    assert kstest(energy, gamma(stiff / 2, scale=1.05**2 * temperature).cdf).pvalue < P_CONTROL
    toy = toys.Quadratic([1.0 + 2 * i for i in range(stiff)])
    assert abs(z_score(energy, toy.mean_energy(temperature))) < Z_MAX
    assert abs(z_score((energy - toy.mean_energy(temperature)) ** 2, toy.energy_variance(temperature))) < Z_MAX


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_toy_of_springs(backend):
    """Quadratic with a flat direction: the discrete law where there is a spring, free diffusion where there is none."""
    stiffness, temperature, dt = np.array([4.0, 1.0, 0.0]), 0.3, 0.2
    settings = {"chains": 40_000, "steps": 50, "seed": 3, "record": ls.Record(50), "backend": backend}
    k = stiffness[:2]
    exact = np.append(temperature / (k * (1 - dt * k / 2)), 2 * temperature * dt * 50)
    for heating in (1.0, 1.05**2):
        run = ls.simulate(
            toys.Quadratic(stiffness), ls.EulerMaruyama(dt), temperature=heating * temperature, **settings
        )
        found = np.abs(z_score(run.last_position.values**2, exact))
        assert np.all(found < Z_MAX) if heating == 1.0 else np.all(found > Z_CONTROL)


def test_precise_noise_gives_the_same_law():
    noise = ls.ThermalNoise("float64", refinement=2)
    temperature, dt, x, _ = scan("EulerMaruyama", "compiled", noise=noise, seed=6)
    assert np.all(np.abs(scores((x**2).mean(axis=2), exact_variance("EulerMaruyama", temperature, dt))) < Z_MAX)


def test_a_function_has_the_law_of_its_formula():
    bowl = Function(lambda q: 0.5 * (2.0 * q[..., 0] ** 2 + 5.0 * q[..., 1] ** 2), 2)
    k, dt, temperature = np.array([2.0, 5.0]), 0.15, 0.8
    settings = {"temperature": temperature, "chains": 3000, "seed": 7, "record": ls.Record(20)}
    run = ls.simulate(bowl, ls.EulerMaruyama(dt), steps=200, **settings)
    squares = time_average(run.position.values[:, 2:] ** 2)
    assert np.all(np.abs(z_score(squares, temperature / (k * (1 - dt * k / 2)))) < Z_MAX)
    assert np.all(np.abs(z_score(squares, temperature / k)) > Z_CONTROL)
