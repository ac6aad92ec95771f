"""A channel without a network: four estimates of one entropic force, and a channel of constant curvature beside."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

import landscape as ls
from landscape.probes import confinement, free_energy
from tests.cases import Z_CONTROL, Z_MAX

T, DT, K = 0.1, 1e-3, 200
LENGTH = np.pi
TARGET = LENGTH / 2  # the narrowest place
CHANNELS = {"narrow": 0.6, "constant": 0.0}
BINS = np.linspace(0.0, LENGTH, 11)


def stiffness(y, narrowing):
    """From 60 (1 - narrowing) at the ends to 60 (1 + narrowing) in the middle."""
    return 60.0 * (1.0 - narrowing * np.cos(2.0 * y))


def slope(y, narrowing):
    return 120.0 * narrowing * np.sin(2.0 * y)


def channel(narrowing):
    return ls.potentials.Valley(f"60*(1 - {narrowing}*cos(2*y))", bounds={"y": (0.0, LENGTH)})


@pytest.fixture(scope="module")
def runs():
    axis = ls.paths.straight_line([0.0, 0.0], [0.0, LENGTH])
    return {
        name: ls.simulate(
            channel(narrowing), ls.EulerMaruyama(dt=DT), temperature=T, start=[0.0, 0.0], chains=400, steps=100_000,
            constraint=ls.ProjectOntoPath(axis, every=K), record=ls.Record(100_000, ["energy"]), seed=7,
        )
        for name, narrowing in CHANNELS.items()
    }  # fmt: skip


def block_drift(y, narrowing):
    g = stiffness(y, narrowing)
    rho = 1 - DT * g
    return -(slope(y, narrowing) / 2) * 2 * DT * T / (1 - rho**2) * (1 - (1 - rho ** (2 * K)) / (K * (1 - rho**2)))


def continuum(y, narrowing):
    return -(T / 2) * slope(y, narrowing) / stiffness(y, narrowing)


def averaged(law, narrowing):
    """Mean of a law over each bin with the weight of the stationary law, sqrt(1/g)."""
    found = []
    for low, high in pairwise(BINS):
        y = np.linspace(low, high, 201)
        weight = stiffness(y, narrowing) ** -0.5
        found.append(np.trapezoid(weight * law(y, narrowing), y) / np.trapezoid(weight, y))
    return np.array(found)


INNER = slice(2, -2)  # displacements of 0.2, which walls cut short


def test_drift(runs):
    found = confinement.drift(runs["narrow"], BINS).isel(temperature=0)
    expected = averaged(block_drift, CHANNELS["narrow"])
    z = ((found.velocity - expected) / found.velocity_stderr)[INNER]
    assert abs(z).max() < Z_MAX
    limit = averaged(continuum, CHANNELS["narrow"])
    assert abs((found.velocity - limit) / found.velocity_stderr)[INNER].max() < Z_MAX
    without_half = ((found.velocity - 2 * limit) / found.velocity_stderr)[INNER]
    assert (without_half**2).sum() ** 0.5 > Z_CONTROL
    assert abs(((found.diffusion - T) / T)[INNER]).max() < 0.05  # curvature within a block makes it differ a little


def test_constant_curvature_has_no_drift(runs):
    found = confinement.drift(runs["constant"], BINS).isel(temperature=0)
    assert abs(found.velocity / found.velocity_stderr)[INNER].max() < Z_MAX
    assert abs((found.diffusion - T) / found.diffusion_stderr)[INNER].max() < Z_MAX


@pytest.mark.parametrize("k", [1, 5, 50])
def test_drift_where_the_hessian_shapes_the_noise(k):
    """Of covariance 2 T dt g across the channel: g times the drift of thermal noise, -(T/2) g' for many steps."""
    y, narrowing, temperature, chains = 0.5, 0.6, 1e-3, 60_000
    axis = ls.paths.straight_line([0.0, 0.0], [0.0, LENGTH])
    run = ls.simulate(
        channel(narrowing), ls.EulerMaruyama(dt=DT, noise=ls.HessianNoise(["x"], isotropic=1.0)),
        temperature=temperature, start=[0.0, y], chains=chains, steps=k, record=ls.Record(k, ["energy"]), seed=k,
        constraint=ls.ProjectOntoPath(axis, every=k),
    )  # fmt: skip
    velocity = run.arc_length.diff("projection").to_numpy()[:, 0] / (k * DT)
    error = velocity.std(ddof=1) / np.sqrt(chains)
    g = stiffness(y, narrowing)
    rho = 1 - DT * g
    shape = 2 * DT * g / (1 - rho**2) * (1 - (1 - rho ** (2 * k)) / (k * (1 - rho**2)))
    expected = -(temperature / 2) * slope(y, narrowing) * shape
    assert abs((velocity.mean() - expected) / error) < Z_MAX
    if k == 1:
        assert expected == 0
    if k == 50:  # controls: thermal noise, and a force that has not yet forgotten where the block began
        assert abs((velocity.mean() - expected / g) / error) > Z_CONTROL
        assert abs((velocity.mean() + temperature / 2 * slope(y, narrowing)) / error) > 4.0


def test_umbrella_sampling():
    """The same potential of mean force from springs along the channel and MBAR."""
    at = np.linspace(0.3, 1.5, 6)
    found = free_energy.umbrella(channel(0.6), "y", at, T, chains=24, steps=5000, every=20, seed=3)
    theory = T / 2 * np.log(stiffness(at, 0.6) / stiffness(at[0], 0.6))
    z = (found.free_energy.to_numpy() - theory)[1:] / found.free_energy_stderr.to_numpy()[1:]
    assert abs(z).max() < Z_MAX
    wrong = (found.free_energy.to_numpy() - 2 * theory)[1:] / found.free_energy_stderr.to_numpy()[1:]
    assert abs(wrong).max() > Z_CONTROL


def test_mean_force_with_arc_length_held():
    """y stands still where its mobility is 0: <dV/dy> = (T/2) g'/g, with <x^2> = T/[g (1 - dt g/2)]."""
    y = np.repeat([0.4, 0.8, 2.2], 300)
    narrowing, dt = CHANNELS["narrow"], 1e-3
    run = ls.simulate(
        channel(narrowing), ls.Preconditioned(ls.EulerMaruyama(dt=dt), np.array([1.0, 0.0])), temperature=T,
        start=np.column_stack([0 * y, y]), steps=8000, record=ls.Record(20, ["position"]), seed=2,
    )  # fmt: skip
    x = run.position.sel(coordinate="x").to_numpy()[:, 50:]
    np.testing.assert_array_equal(run.last_position[:, 1], y)
    force = (slope(y, narrowing)[:, None] * x**2 / 2).mean(axis=1).reshape(3, -1)
    at = np.array([0.4, 0.8, 2.2])
    expected = -continuum(at, narrowing) / (1 - dt * stiffness(at, narrowing) / 2)
    z = (force.mean(axis=1) - expected) / (force.std(axis=1, ddof=1) / np.sqrt(force.shape[1]))
    assert abs(z).max() < Z_MAX
    wrong = (force.mean(axis=1) - 2 * expected) / (force.std(axis=1, ddof=1) / np.sqrt(force.shape[1]))
    assert abs(wrong).min() > Z_CONTROL


@pytest.mark.parametrize("name", CHANNELS)
def test_histogram(runs, name):
    """Of the projected chains, from the time on at which they have forgotten their start."""
    samples = runs[name].arc_length.to_numpy()[:, 200:]
    share = np.array([np.histogram(chain, BINS)[0] for chain in samples]) / samples.shape[1]
    mean = share.mean(axis=0)
    free_energy, scatter = -T * np.log(mean), -T * (share - mean) / mean  # of each chain, to first order
    scatter -= scatter.mean(axis=1, keepdims=True)  # the zero of F is its mean
    error = scatter.std(axis=0, ddof=1) / np.sqrt(len(samples))
    theory = T / 2 * np.log(stiffness(0.5 * (BINS[1:] + BINS[:-1]), CHANNELS[name]))
    theory -= theory.mean()
    free_energy -= free_energy.mean()
    assert abs((free_energy - theory) / error).max() < Z_MAX
    if name == "narrow":
        assert abs((free_energy - 2 * theory) / error).max() > Z_CONTROL


def mean_first_passage(narrowing, factor=0.5):
    """int dy e^{F/T}/T int_0^y dz e^{-F/T} with F = factor T ln g."""

    def inner(y):
        return quad(lambda z: stiffness(z, narrowing) ** -factor, 0.0, y)[0]

    return quad(lambda y: stiffness(y, narrowing) ** factor / T * inner(y), 0.0, TARGET)[0]


@pytest.mark.parametrize("name", CHANNELS)
def test_first_passage(runs, name):
    found = confinement.first_passage(runs[name], TARGET).isel(temperature=0)
    assert float(found.reached) == 1.0
    expected = mean_first_passage(CHANNELS[name])
    if name == "constant":
        assert expected == pytest.approx(TARGET**2 / (2 * T))
    assert abs(float((found.first_passage_time - expected) / found.first_passage_time_stderr)) < Z_MAX
    if name == "narrow":
        for wrong in (mean_first_passage(0.0), mean_first_passage(CHANNELS[name], factor=1.0)):
            assert abs(float((found.first_passage_time - wrong) / found.first_passage_time_stderr)) > 4.0


def test_barrier_of_the_channel():
    axis = ls.paths.straight_line([0.0, 0.0], [0.0, LENGTH], 21)
    profile = confinement.along_path(channel(0.6), axis, ["energy", "log_determinant", "trace"])
    found = confinement.barriers(profile, T)
    np.testing.assert_allclose(found.entropic, T / 2 * np.log(4.0))
    np.testing.assert_allclose(found.energetic, 0.0, atol=1e-15)
    hessian = confinement.barriers(profile, T, noise="hessian")
    np.testing.assert_allclose(hessian.entropic, T / 2 * (96 - 24), rtol=1e-6)
