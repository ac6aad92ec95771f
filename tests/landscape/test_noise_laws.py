"""Laws of noise that is not thermal: correlated, colored, proportional to the Hessian, of two values, preconditioned.

In a valley V = g(y) x^2/2 with y slow, the mean force along y is -(g'/2) <x^2> at fixed y. At any step h,
x' = (1 - h g) x + noise of variance 2 T h c has <x^2> = T c / [g (1 - h g/2)]:

    thermal noise, c = 1:      -(T/2) g'/g / (1 - h g/2)      V_eff = (T/2) ln[g / (1 - h g/2)]
    Hessian noise, c = g:      -(T/2) g'  / (1 - h g/2)       V_eff = -(T/h) ln(1 - h g/2)
    M = diag(1/g, 1), c = 1:   x' = (1 - h) x + noise/g       V_eff = -T / [2 g (1 - h/2)]
    M = diag(1/g, 1), c = g:                                  V_eff = (T/2) ln g / (1 - h/2)
"""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

import landscape as ls
from landscape.errors import LandscapeError
from landscape.potentials import Expression, toys
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, gauss, time_average, z_score
from tests.exact_laws import colored

FLAT = Expression("0*x + 0*y", ["x", "y"])


def available(potential, rule, backend):
    """The backend if it runs this noise, else what the toolkit chooses."""
    try:
        ls.simulate(potential, rule, temperature=1.0, steps=1, backend=backend)
    except LandscapeError:
        return "auto"
    return backend


# -- a covariance of the user's ---------------------------------------------------------------------------------------

MATRICES = [np.array([[2.0, 0.6], [0.6, 0.5]]), np.array([[1.0, -1.0], [-1.0, 1.0]])]  # the second is singular


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("matrix", MATRICES, ids=["full", "singular"])
def test_covariance_noise_on_springs(matrix, backend):
    """Stationary C = A C A^T + 2 T h matrix with A = 1 - h K."""
    stiffness = np.array([[1.5, 0.4], [0.4, 0.8]])
    springs = Expression("(1.5*x**2 + 0.8*y**2)/2 + 0.4*x*y", ["x", "y"])
    chains = {"compiled": 60_000, "batched": 30_000}[backend]
    for temperature, h in ((0.5, 0.3), (1.3, 0.3), (0.5, 0.8)):
        rule = ls.EulerMaruyama(h, ls.CovarianceNoise(matrix))
        steps = int(14 / h)
        run = ls.simulate(
            springs, rule, temperature=temperature, chains=chains, steps=steps, record=ls.Record(steps), seed=71,
            backend=available(springs, rule, backend),
        )  # fmt: skip
        x = run.last_position.values
        exact = solve_discrete_lyapunov(np.eye(2) - h * stiffness, 2 * temperature * h * matrix)
        found = x[:, :, None] * x[:, None, :]
        assert np.all(np.abs(z_score(found, exact)) < Z_MAX)
        thermal = solve_discrete_lyapunov(np.eye(2) - h * stiffness, 2 * temperature * h * np.eye(2))
        assert np.max(np.abs(z_score(found, thermal))) > Z_CONTROL
        squared = solve_discrete_lyapunov(np.eye(2) - h * stiffness, 2 * temperature * h * matrix @ matrix)
        assert np.max(np.abs(z_score(found, squared))) > Z_CONTROL  # the matrix in place of its root
        assert np.max(np.abs(z_score(1.05**2 * found, exact))) > Z_CONTROL


def test_covariance_noise_of_free_diffusion():
    for matrix in MATRICES:
        run = ls.simulate(
            FLAT, ls.Diffusion(0.1, ls.CovarianceNoise(matrix)), temperature=0.7, chains=60_000, steps=4, seed=72,
            start=[0.0, 0.0], record=ls.Record(4),
        )  # fmt: skip
        x = run.last_position.values
        assert np.all(np.abs(z_score(x[:, :, None] * x[:, None, :], 2 * 0.7 * 0.4 * matrix)) < Z_MAX)
        if matrix is MATRICES[1]:
            assert np.allclose(x[:, 0], -x[:, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[1.0, 0.5], [0.0, 1.0]]), np.eye(3)])
def test_covariances_that_are_none(bad):
    with pytest.raises(LandscapeError):
        ls.simulate(FLAT, ls.EulerMaruyama(0.1, ls.CovarianceNoise(bad)), temperature=1.0, steps=2)


# -- colored noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("tau", "h"), [(0.5, 0.2), (0.1, 0.2), (3.0, 0.2), (0.5, 0.7)])
@pytest.mark.always
def test_colored_noise_on_a_spring(tau, h, backend):
    """Transient and stationary variance by the joint recursion of x and the noise, which starts stationary."""
    chains = {"compiled": 100_000, "batched": 50_000}[backend]
    for k, temperature in ((1.4, 0.6), (0.9, 2.0)):
        spring, rule = Expression("k*x**2/2", ["x"], {"k": k}), ls.EulerMaruyama(h, ls.ColoredNoise(tau))
        linear, steps = colored(k, temperature, h, tau), 3 * math.ceil(8 * max(tau, 1 / k) / h / 3)
        run = ls.simulate(
            spring, rule, temperature=temperature, start=[0.0], chains=chains, steps=steps, seed=73,
            record=ls.Record(steps // 3), backend=available(spring, rule, backend),
        )  # fmt: skip
        covariance, exact = np.diag([0.0, temperature / tau]), []
        for n in range(steps):
            _, covariance = linear.evolve(np.zeros(2), covariance)
            if (n + 1) % (steps // 3) == 0:
                exact.append(covariance[0, 0])
        assert math.isclose(exact[-1], linear.covariance[0, 0], rel_tol=1e-3)
        squares = run.position.values[..., 0] ** 2
        assert np.all(np.abs(z_score(squares, exact)) < Z_MAX)
        assert abs(z_score(squares[:, -1], temperature / (k * (1 - h * k / 2)))) > Z_CONTROL  # white
        assert abs(z_score(1.05**2 * squares[:, -1], exact[-1])) > Z_CONTROL
        if tau > 0.2:
            assert abs(z_score(squares[:, -1], colored(k, temperature, h, 1.4 * tau).covariance[0, 0])) > Z_CONTROL


@pytest.mark.parametrize("tau", [0.3, 1.2])
def test_colored_noise_of_free_diffusion(tau):
    """<x^2> = 2T [t - tau (1 - exp(-t/tau))], the integral of the correlation, exactly at any step."""
    for h, temperature in ((0.1, 0.5), (1.0, 0.5), (1.0, 1.7)):
        run = ls.simulate(
            Expression("0*x", ["x"]), ls.Diffusion(h, ls.ColoredNoise(tau)), temperature=temperature, start=[0.0],
            chains=60_000, steps=6, seed=74,
        )  # fmt: skip
        t = run.time.values
        exact = 2 * temperature * (t - tau * (1 - np.exp(-t / tau)))
        assert np.all(np.abs(z_score(run.position.values[..., 0] ** 2, exact)) < Z_MAX)
        assert abs(z_score(run.position.values[:, 0, 0] ** 2, 2 * temperature * t[0])) > Z_CONTROL


def test_limits_of_the_colored_recursion():
    for k, temperature, tau in ((1.4, 0.6, 0.5), (0.7, 0.6, 0.5), (1.4, 2.0, 0.5), (1.4, 0.6, 2.0)):
        assert math.isclose(
            colored(k, temperature, 1e-5, tau).covariance[0, 0], temperature / (k * (1 + k * tau)), rel_tol=1e-4
        )
        white = temperature / (k * (1 - 0.3 * k / 2))
        assert math.isclose(colored(k, temperature, 0.3, 1e-6).covariance[0, 0], white, rel_tol=1e-4)


# -- two values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_point_noise_has_two_values(backend):
    rule = ls.Diffusion(0.1, ls.TwoPointNoise())
    run = ls.simulate(
        FLAT, rule, temperature=0.7, start=[0.0, 0.0], chains=4000, steps=20, seed=75,
        backend=available(FLAT, rule, backend),
    )  # fmt: skip
    kicks = np.diff(run.position.values, axis=1, prepend=0.0) / math.sqrt(2 * 0.7 * 0.1)
    assert np.allclose(np.abs(kicks), 1.0, rtol=0, atol=1e-6)
    signs = np.sign(kicks)
    for products in (signs, signs[:, 1:] * signs[:, :-1], signs[..., :1] * signs[..., 1:], signs[1:] * signs[:-1]):
        assert abs(products.mean()) * math.sqrt(products.size) < Z_MAX


# -- a valley: the noise makes the force ------------------------------------------------------------------------------

KAPPA = 0.5  # confinement over temperature: the law of y does not depend on T


def g(y):
    return 1 + y**2


def hessian_noise():
    return ls.HessianNoise(coordinates=["x"], isotropic=1.0)


@pytest.mark.parametrize("noise", ["thermal", "hessian"])
@pytest.mark.parametrize(("height", "h", "temperature"), [(2.0, 0.02, 1e-4), (0.7, 0.1, 1e-4), (2.0, 0.02, 3e-5)])
def test_mean_force_in_a_valley(noise, height, h, temperature):
    """-dV/dy = -y x^2 at a y that hardly moves, over T, against both laws."""
    valley = toys.Valley("1 + y**2")
    rule = ls.EulerMaruyama(h, hessian_noise() if noise == "hessian" else None)
    settings = {"temperature": temperature, "seed": 76}
    chains, steps = 3000, 300
    warm = ls.simulate(valley, rule, start=[0.0, height], chains=chains, steps=300, record=ls.Record(300), **settings)
    run = ls.simulate(valley, rule, start=warm, state="keep", steps=steps, record=ls.Record(5), **settings)
    x, y = np.moveaxis(run.position.values, -1, 0)
    force, stiff = -y * x**2 / temperature, 1 - h * g(y) / 2
    laws = {"thermal": -y / g(y) / stiff, "hessian": -y / stiff}
    other = laws.pop("hessian" if noise == "thermal" else "thermal")
    assert abs(z_score(time_average(force - laws[noise]), 0.0)) < Z_MAX
    assert abs(z_score(time_average(force - other), 0.0)) > Z_CONTROL
    assert abs(z_score(time_average(1.05**2 * force - laws[noise]), 0.0)) > Z_CONTROL
    assert abs(z_score(time_average(force - 2 * laws[noise]), 0.0)) > Z_CONTROL  # without the 1/2


def inverse_g(potential, position):
    """M = diag(1/g(y), 1)."""
    y = position[..., 1]
    return torch.stack([1 / (1 + y**2), torch.ones_like(y)], dim=-1)


EFFECTIVE = {  # V_eff/T of every pair of noise and preconditioner, at step h
    ("thermal", None): lambda y, h: 0.5 * np.log(g(y) / (1 - h * g(y) / 2)),
    ("hessian", None): lambda y, h: -np.log(1 - h * g(y) / 2) / h,
    ("thermal", "inverse"): lambda y, h: -1 / (2 * g(y) * (1 - h / 2)),
    ("hessian", "inverse"): lambda y, h: 0.5 * np.log(g(y)) / (1 - h / 2),
}

# Hessian noise through 1/g is nearly thermal noise.
ALIKE = [(("thermal", None), ("hessian", "inverse")), (("hessian", "inverse"), ("thermal", None))]


def law_of_y(pair, h):
    """Nodes and weights of exp(-V_eff/T - kappa y^2/2), without M as far as h g < 2, where x is stable."""
    far = 7.0 if pair[1] else math.sqrt(1.9 / h - 1)
    y, w = gauss(-far, far, 60, 12)
    density = w * np.exp(-EFFECTIVE[pair](y, h) - KAPPA * y**2 / 2)
    return y, density / density.sum()


@pytest.mark.slow
@pytest.mark.parametrize("pair", EFFECTIVE, ids=lambda pair: f"{pair[0]} {pair[1]}")
def test_law_of_the_slow_coordinate(pair):
    """The y marginal after several relaxation times of y, from a start that none of the laws has."""
    noise, preconditioner = pair
    temperature, h, time = 0.02, 0.5 if preconditioner else 0.1, 800.0  # M makes the stiffness across 1: a large step
    valley = toys.Valley("1 + y**2", confinement=KAPPA * temperature)
    rule = ls.EulerMaruyama(h, hessian_noise() if noise == "hessian" else None)
    if preconditioner:
        rule = ls.Preconditioned(rule, inverse_g)
    chains, every = 4000, int(50 / h)
    start = np.stack([np.zeros(chains), np.linspace(-1.5, 1.5, chains)], axis=1)
    run = ls.simulate(
        valley, rule, temperature=temperature, start=start, steps=int(time / h), record=ls.Record(every), seed=77
    )
    y = run.position.values[:, 8:, 1]
    nodes, weights = law_of_y(pair, h)
    right, wrong = {}, {}
    for name, f in {"inside": lambda y: np.abs(y) < 1, "cos": np.cos, "lorentz": lambda y: 1 / (1 + y**2)}.items():
        right[name] = z_score(time_average(f(y)), weights @ f(nodes))
        for other in EFFECTIVE:
            if other != pair and (pair, other) not in ALIKE:
                q, p = law_of_y(other, 0.1 if other[1] is None else h)
                wrong.setdefault(other, []).append(z_score(time_average(f(y)), p @ f(q)))
    assert np.max(np.abs(list(right.values()))) < Z_MAX
    for scores in wrong.values():
        assert np.max(np.abs(scores)) > Z_CONTROL


PRECONDITIONERS = {
    "diagonal array": (np.array([0.5, 1.6]), lambda m: np.diag(m)),
    "full array": (np.array([[0.9, 0.3], [0.3, 0.7]]), lambda m: m),
    "callable": (
        lambda potential, position: torch.tensor([0.5, 1.6]).to(position) + 0 * position,
        lambda _: np.diag([0.5, 1.6]),
    ),
    "full callable": (
        lambda potential, position: torch.tensor([[0.9, 0.3], [0.1, 0.7]]).to(position).expand(len(position), 2, 2),
        lambda _: np.array([[0.9, 0.3], [0.1, 0.7]]),
    ),
}


@pytest.mark.parametrize("name", PRECONDITIONERS)
def test_preconditioned_springs(name):
    """C = A C A^T + 2 T h M N M^T with A = 1 - h M K: M on the force and on noise of covariance N."""
    given, matrix = PRECONDITIONERS[name]
    m, stiffness, covariance = matrix(given), np.array([[1.5, 0.4], [0.4, 0.8]]), MATRICES[0]
    springs = Expression("(1.5*x**2 + 0.8*y**2)/2 + 0.4*x*y", ["x", "y"])
    for temperature, h, noise, n in (
        (0.5, 0.4, None, np.eye(2)),
        (1.3, 0.4, None, np.eye(2)),
        (0.5, 0.9, ls.CovarianceNoise(covariance), covariance),
    ):
        rule, steps = ls.Preconditioned(ls.EulerMaruyama(h, noise), given), int(25 / h)
        run = ls.simulate(
            springs, rule, temperature=temperature, chains=40_000, steps=steps, record=ls.Record(steps), seed=80
        )
        x = run.last_position.values
        found, a = x[:, :, None] * x[:, None, :], np.eye(2) - h * m @ stiffness
        exact = solve_discrete_lyapunov(a, 2 * temperature * h * m @ n @ m.T)
        assert np.all(np.abs(z_score(found, exact)) < Z_MAX)
        assert np.max(np.abs(z_score(1.05**2 * found, exact))) > Z_CONTROL
        root = solve_discrete_lyapunov(a, 2 * temperature * h * (m @ n + n @ m.T) / 2)  # noise through the root of M
        assert np.max(np.abs(z_score(found, root))) > Z_CONTROL


# -- negative curvature -----------------------------------------------------------------------------------------------


def test_negative_curvature():
    """V = -x^2/2 + 2 y^2: noise along x is off (clip), that of curvature 1 (absolute), or refused (raise)."""
    saddle = Expression("-x**2/2 + 2*y**2", ["x", "y"])
    settings = {"temperature": 0.3, "start": [0.0, 0.0], "chains": 40_000, "steps": 1, "seed": 78}
    for negative, factor in (("clip", 0.0), ("absolute", 1.0)):
        run = ls.simulate(saddle, ls.EulerMaruyama(0.1, ls.HessianNoise(negative=negative)), **settings)
        x, y = run.last_position.values.T
        assert abs(z_score(y**2, 2 * 0.3 * 0.1 * 4.0)) < Z_MAX
        assert abs(z_score(1.05**2 * y**2, 2 * 0.3 * 0.1 * 4.0)) > Z_CONTROL
        assert np.all(x == 0) if factor == 0 else abs(z_score(x**2, 2 * 0.3 * 0.1)) < Z_MAX
    with pytest.raises(LandscapeError):
        ls.simulate(saddle, ls.EulerMaruyama(0.1, ls.HessianNoise(negative="raise")), **settings)


def test_hessian_noise_is_correlated_as_the_hessian():
    """One step from a point with a full Hessian; `isotropic` for the coordinates not named."""
    bowl = Expression("x**2 + x*y + y**2 + 3*z**2/2 + x**2*y", ["x", "y", "z"])
    position, temperature, h = np.array([0.3, 0.4, -0.2]), 0.6, 0.05
    hessian = bowl.hessian(position)
    plane = np.zeros((3, 3))
    plane[:2, :2] = hessian[:2, :2]
    plane[2, 2] = 0.7
    for noise, matrix in ((ls.HessianNoise(), hessian), (ls.HessianNoise(["x", "y"], isotropic=0.7), plane)):
        run = ls.simulate(
            bowl, ls.EulerMaruyama(h, noise), temperature=temperature, start=position, chains=100_000, steps=1, seed=79
        )
        kick = run.last_position.values - (position - h * bowl.gradient(position))
        products = kick[:, :, None] * kick[:, None, :]
        assert np.all(np.abs(z_score(products, 2 * temperature * h * matrix)) < Z_MAX)
        assert np.max(np.abs(z_score(products, 2 * temperature * h * matrix @ matrix))) > Z_CONTROL
        assert np.max(np.abs(z_score(products, temperature * h * matrix))) > Z_CONTROL
