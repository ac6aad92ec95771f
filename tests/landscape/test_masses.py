"""Masses other than 1, kinetic energies and functions of the momentum; colored noise under Heun's rule.

Laws in the discrete time of the integrators. On a quadratic of stiffness k a rule with mass M is the rule of unit mass
on one of stiffness k/M in sqrt(M) x: BAOAB keeps <x^2> = T/k, and <m^2>/M = T (1 - dt^2 k/(4 M)) of the full-step
momentum.
"""

import numpy as np
import pytest
import scipy.linalg
import torch

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import Expression
from tests.cases import BACKENDS, Z_CONTROL, Z_MAX, z_score

MASSES = [4.0, 0.5]
SPRINGS = Expression("a*x**2/2 + b*y**2/2", ["x", "y"], {"a": 3.0, "b": 0.4})
K = np.array([3.0, 0.4])
COUPLED = Expression("x**2 + y**2 - 1.5*x*y", ["x", "y"])
HESSIAN = np.array([[2.0, -1.5], [-1.5, 2.0]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_baoab_with_masses(backend):
    """Positions T/k, full-step momenta T M (1 - dt^2 k/4M), kinetic energy, and a function of the momentum."""
    dt, temperature = 0.7, 1.5
    observables = {
        "position": None, "momentum": None, "kinetic_energy": None,
        "power": lambda potential, position, momentum: (momentum * position).sum(dim=-1),
    }  # fmt: skip
    run = ls.simulate(
        SPRINGS, ls.BAOAB(dt, 0.8, mass=MASSES), temperature=temperature, chains=3000, steps=60, backend=backend,
        seed=1, record=ls.Record(60, observables),
    )  # fmt: skip
    x, m = run.position.values[:, 0], run.momentum.values[:, 0]
    exact = temperature * np.array(MASSES) * (1 - dt**2 * K / (4 * np.array(MASSES)))
    assert (np.abs(z_score(x**2, temperature / K)) < Z_MAX).all()
    assert (np.abs(z_score(m**2, exact)) < Z_MAX).all()
    assert (np.abs(z_score(m**2, temperature)) > Z_CONTROL).all()  # of unit mass
    assert abs(z_score(run.kinetic_energy.values[:, 0], (exact / MASSES).sum() / 2)) < Z_MAX
    assert np.allclose(run.kinetic_energy[:, 0], (m**2 / MASSES).sum(axis=1) / 2)
    assert np.allclose(run.power[:, 0], (m * x).sum(axis=1)) and abs(z_score(run.power.values[:, 0], 0.0)) < Z_MAX


@pytest.mark.parametrize("backend", BACKENDS)
def test_sghmc_with_masses(backend):
    """<x^2> = (T/k)/[1 - lr k/(2 M (2 - friction))], <m^2> = 2 lr T M/(2 - friction)."""
    lr, alpha, temperature = 0.6, 0.4, 0.8
    run = ls.simulate(
        SPRINGS, ls.SGHMC(lr, alpha, mass=MASSES), temperature=temperature, chains=4000, steps=100, backend=backend,
        seed=3, record=ls.Record(100, ["position", "momentum"]),
    )  # fmt: skip
    x, m = run.position.values[:, 0], run.momentum.values[:, 0]
    exact = temperature / K / (1 - lr * K / (2 * np.array(MASSES) * (2 - alpha)))
    assert (np.abs(z_score(x**2, exact)) < Z_MAX).all()
    assert (np.abs(z_score(m**2, 2 * lr * temperature * np.array(MASSES) / (2 - alpha))) < Z_MAX).all()
    assert abs(z_score(x[:, 0] ** 2, temperature / 3 / (1 - lr * 3 / (2 * (2 - alpha))))) > Z_CONTROL  # of unit mass


PROPOSALS = {
    "MALA": lambda mass: ls.MALA(0.8, mass=mass),
    "HMC": lambda mass: ls.HMC(0.6, 3, mass=mass),
}


@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("mass", [1.7, [2.0, 0.9], [[2.0, -1.0], [-1.0, 1.5]]], ids=["number", "each", "matrix"])
def test_proposals_with_masses_keep_the_law(name, mass):
    covariance = np.linalg.inv(HESSIAN)
    start = np.random.default_rng(0).multivariate_normal([0, 0], covariance, 20_000)
    backends = ["batched"] if np.ndim(mass) == 2 else BACKENDS
    ends = []
    for backend in backends:
        run = ls.simulate(
            COUPLED, PROPOSALS[name](mass), temperature=1.0, start=start, steps=4, backend=backend, seed=2,
            record=ls.Record(4),
        )  # fmt: skip
        ends.append(run.last_position.values)
        x = ends[-1]
        for value, exact in ((x[:, 0] ** 2, covariance[0, 0]), (x[:, 0] * x[:, 1], covariance[0, 1])):
            assert abs(z_score(value, exact)) < Z_MAX
        assert 0.3 < float(run.acceptance.mean()) < 0.99
        assert (x != start).any(axis=1).mean() > 0.8
    assert np.allclose(ends[0], ends[-1], atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["BAOAB", "SGHMC", "MALA", "HMC"])
def test_unit_masses_change_nothing(name, backend):
    make = {
        "BAOAB": lambda mass: ls.BAOAB(0.3, 0.7, mass=mass), "SGHMC": lambda mass: ls.SGHMC(0.1, 0.3, mass=mass),
        "MALA": lambda mass: ls.MALA(0.3, mass=mass), "HMC": lambda mass: ls.HMC(0.3, 3, mass=mass),
    }[name]  # fmt: skip
    settings = {"temperature": 0.7, "chains": 40, "steps": 30, "backend": backend, "seed": 5}
    runs = [ls.simulate(COUPLED, make(mass), **settings) for mass in (None, 1.0, [1.0, 1.0])]
    for run in runs[1:]:
        assert np.array_equal(run.position, runs[0].position)
    assert "mass" not in make(None).spec() and make([1.0, 2.0]).spec()["mass"] == [1.0, 2.0]
    two = make(2.5)
    assert np.allclose(*[ls.simulate(COUPLED, two, **settings | {"backend": one}).position for one in BACKENDS])


def test_masses_that_are_none():
    for mass, error in ((0.0, ConfigError), ([1.0, -1.0], ConfigError), ("heavy", ConfigError), ([], ShapeError)):
        with pytest.raises(error, match="mass"):
            ls.BAOAB(0.1, 1.0, mass=mass)
    with pytest.raises(ShapeError, match="mass must be"):
        ls.BAOAB(0.1, 1.0, mass=np.eye(2))
    with pytest.raises(ConfigError, match="positive definite"):
        ls.HMC(0.1, 2, mass=[[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ShapeError, match="3 coordinates, the potential has 2"):
        ls.simulate(COUPLED, ls.MALA(0.1, mass=[1.0, 1.0, 1.0]), temperature=1.0, steps=2)
    box = Expression("x*y", ["x", "y"], bounds={"x": (0.0, 1.0), "y": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="mirrors"):
        ls.simulate(box, ls.HMC(0.1, 2, mass=HESSIAN), temperature=1.0, start=[0.5, 0.5], steps=2)
    with pytest.raises(ConfigError, match="absorbing"):
        ls.simulate(COUPLED, ls.MALA(0.1, mass=2.0), temperature=1.0, steps=2, constraint=ls.Absorb({"x": (-1, 1)}))
    with pytest.raises(ConfigError, match="kinetic_energy"):
        ls.simulate(COUPLED, ls.MALA(0.1), temperature=1.0, steps=2, record=ls.Record(1, ["kinetic_energy"]))
    with pytest.raises(ConfigError, match="asks for a momentum"):
        ls.simulate(COUPLED, ls.MALA(0.1), steps=2, record=ls.Record(1, {"p": lambda potential, x, momentum: momentum}))


@pytest.mark.parametrize("backend", BACKENDS)
def test_mirrors_and_the_law_with_masses(backend):
    """HMC with masses in a box: uniform where the energy is flat."""
    box = Expression("0*x + 0*y", ["x", "y"], bounds={"x": (0.0, 1.0), "y": (0.0, 1.0)})
    run = ls.simulate(
        box, ls.HMC(0.2, 5, mass=[0.3, 2.0]), temperature=1.0, start=[0.1, 0.1], chains=3000, steps=12, backend=backend,
        record=ls.Record(12), seed=1,
    )  # fmt: skip
    assert (np.abs(z_score(run.last_position.values, 0.5)) < Z_MAX).all()
    assert (np.abs(z_score((run.last_position.values - 0.5) ** 2, 1 / 12)) < Z_MAX).all()


def test_masses_from_a_specification():
    spec = {
        "potential": {"kind": "Quadratic", "stiffness": [1.0, 4.0]}, "steps": 20, "chains": 3, "temperature": 0.5,
        "integrator": {"kind": "BAOAB", "dt": 0.2, "friction": 1.0, "mass": [1.0, 3.0]},
        "record": {"observables": ["kinetic_energy", {"kind": "Moments", "of": "kinetic_energy"}]},
    }  # fmt: skip
    run = ls.run(spec, progress=False)
    direct = ls.simulate(
        ls.potentials.Quadratic([1.0, 4.0]), ls.BAOAB(0.2, 1.0, mass=[1.0, 3.0]), temperature=0.5, chains=3, steps=20,
        record=ls.Record(1, ["kinetic_energy"]),
    )  # fmt: skip
    assert np.array_equal(run.kinetic_energy, direct.kinetic_energy)
    assert np.allclose(run.kinetic_energy_mean, direct.kinetic_energy.mean("draw"))


# -- colored noise under Heun's rule ----------------------------------------------------------------------------------


def heun_on_a_spring(k, temperature, h, tau):
    """Stationary <x^2>: y = x (1 - h k) + N, x' = x - (h k/2)(x + y) + N, N and eta' from their joint law."""
    a = np.exp(-h / tau)
    shift = tau * (1 - a)
    joint = temperature * np.array(
        [[tau * (2 * h / tau - 3 + 4 * a - a**2), (1 - a) ** 2], [(1 - a) ** 2, (1 - a**2) / tau]]
    )
    factor = 1 - h * k / 2  # on N
    step = np.array([[1 - h * k + (h * k) ** 2 / 2, factor * shift], [0.0, a]])
    spread = np.diag([factor, 1.0])
    return scipy.linalg.solve_discrete_lyapunov(step, spread @ joint @ spread.T)[0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_colored_heun_with_a_time_per_chain(backend):
    times, h, k, temperature, chains = [0.2, 1.0, 3.0], 0.5, 1.4, 0.6, 4000
    tau = np.repeat(times, chains)
    rule = ls.Heun(h, noise=ls.ColoredNoise(tau))
    run = ls.simulate(
        Expression("k*x**2/2", ["x"], {"k": k}), rule, temperature=temperature, steps=80, seed=4, backend=backend,
        record=ls.Record(80),
    )  # fmt: skip
    assert run.backend == backend and run.sizes["chain"] == 3 * chains
    squares = run.last_position.values[:, 0].reshape(3, chains) ** 2
    for row, one in zip(squares, times, strict=True):
        exact = heun_on_a_spring(k, temperature, h, one)
        assert abs(z_score(row, exact)) < Z_MAX
        assert abs(z_score(row, heun_on_a_spring(k, temperature, h, 3 * one))) > Z_CONTROL
    errors = [heun_on_a_spring(k, temperature, step, 1.0) - temperature / (k * (1 + k)) for step in (0.02, 0.01)]
    assert 3.8 < errors[0] / errors[1] < 4.2  # second order
    assert torch.tensor(rule.spec()["noise"]["correlation_time"]).numel() == 3 * chains


def test_colored_noise_per_chain_is_that_of_each():
    tau = np.array([0.3, 2.0, 0.7])
    spring = Expression("x**2/2 + y**4", ["x", "y"])
    for rule in (ls.EulerMaruyama, ls.Heun):
        together = [
            ls.simulate(spring, rule(0.1, noise=ls.ColoredNoise(tau)), temperature=0.5, steps=30, backend=backend)
            for backend in BACKENDS
        ]
        assert np.allclose(together[0].position, together[1].position, atol=1e-12)
        alone = ls.simulate(spring, rule(0.1, noise=ls.ColoredNoise(0.3)), temperature=0.5, chains=3, steps=30)
        assert np.array_equal(together[0].position[0], alone.position[0])
    with pytest.raises(ShapeError, match="correlation_time: 3"):
        ls.simulate(spring, ls.Heun(0.1, noise=ls.ColoredNoise(tau)), temperature=0.5, chains=2, steps=3)
    for bad in ([0.1, 0.0], "long", True):
        with pytest.raises(ConfigError, match="correlation_time"):
            ls.ColoredNoise(bad)
