"""Series that oscillate: integrals of correlations that change sign, and the errors of means that rest on them."""

import numpy as np
import pytest
from scipy.signal import lfilter

import landscape as ls
from landscape import potentials
from landscape.probes import fluctuations
from tests.probes.processes import HIGHEST, LOWEST, ar1, coverage, labels


def autoregressive(rng, shape, radius, angle):
    """Stationary AR(2) with poles radius exp(+-i angle), and 1/2 + sum rho_k."""
    first, second = 2.0 * radius * np.cos(angle), -(radius**2)
    ahead = int(12.0 / (1.0 - radius))
    noise = rng.standard_normal((*shape[:-1], shape[-1] + ahead))
    variance = (1.0 - second) / ((1.0 + second) * ((1.0 - second) ** 2 - first**2))
    return lfilter([1.0], [1.0, -first, -second], noise)[..., ahead:], 0.5 / (1.0 - first - second) ** 2 / variance


def cosines(rng, shape, times, angles):
    """A sum of damped cosines, correlation mean of exp(-k/t) cos(angle k): real parts of complex AR(1)."""
    total, tau = 0.0, 0.0
    for time, angle in zip(times, angles, strict=True):
        pole = np.exp(-1.0 / time + 1j * angle)
        parts = rng.standard_normal((2, *shape))
        noise = (parts[0] + 1j * parts[1]) * np.sqrt(1.0 - abs(pole) ** 2)
        noise[..., 0] /= np.sqrt(1.0 - abs(pole) ** 2)
        total = total + lfilter([1.0], [1.0, -pole], noise).real
        tau += (0.5 + (pole / (1.0 - pole)).real) / len(times)
    return total, tau


SERIES = {
    "AR(2), slow turns": lambda rng: autoregressive(rng, (200, 12_000), 0.99, 0.1),
    "AR(2)": lambda rng: autoregressive(rng, (200, 8000), 0.97, 0.3),
    "AR(2), short memory": lambda rng: autoregressive(rng, (200, 4000), 0.9, 0.5),
    "AR(2), nearly no net correlation": lambda rng: autoregressive(rng, (200, 4000), 0.95, 1.5),
    "AR(2), alternating": lambda rng: autoregressive(rng, (200, 2000), 0.5, 2.5),
    "cosines": lambda rng: cosines(rng, (200, 10_000), [15.0, 25.0, 30.0], [0.3, 0.5, 1.1]),
}


@pytest.mark.parametrize("name", SERIES)
def test_intervals_hold_the_truth(name):
    series, tau = SERIES[name](np.random.default_rng(2))
    found = fluctuations.summary(series, discard=0)
    assert found.resolved.to_numpy().all()
    assert LOWEST <= coverage(found, "autocorrelation_time", tau) <= 1.0
    assert LOWEST <= coverage(found, "mean", 0.0) <= HIGHEST
    assert abs(float(found.autocorrelation_time.mean()) - tau) < 0.1 * tau
    assert np.mean(np.abs(found.autocorrelation_time - 1.6 * tau) < 1.96 * found.autocorrelation_time_stderr) < 0.85
    length = np.sqrt(2.0 * tau / series.shape[1]) * series.std()
    assert 0.8 < float(found.mean_stderr.mean()) / length < 1.3


@pytest.mark.parametrize("friction", [0.2, 0.5, 2.0])
def test_positions_over_friction(friction):
    """BAOAB on a spring, against the sum of its own linear recursion: friction/k in continuous time."""
    dt, steps, chains = 0.2, 8_000, 100
    kick, drift = np.array([[1.0, 0.0], [-0.5 * dt, 1.0]]), np.array([[1.0, 0.5 * dt], [0.0, 1.0]])
    forget = np.exp(-friction * dt)
    step = kick @ drift @ np.diag([1.0, forget]) @ drift @ kick
    noise = (kick @ drift)[:, 1] * np.sqrt(1.0 - forget**2)
    law = np.linalg.solve(np.eye(4) - np.kron(step, step), np.outer(noise, noise).ravel()).reshape(2, 2)
    exact = dt * (0.5 + (np.linalg.solve(np.eye(2) - step, step) @ law)[0, 0] / law[0, 0])
    assert exact == pytest.approx(friction, rel=0.05)
    start = np.random.default_rng(0).standard_normal((chains, 1))
    run = ls.simulate(
        potentials.Quadratic([1.0]), ls.BAOAB(dt=dt, friction=friction), temperature=1.0, start=start, steps=steps,
        record=ls.Record(1, observables=["position"]), seed=3,
    )  # fmt: skip
    found = fluctuations.summary(run.position.isel(coordinate=0, draw=slice(300, None)), 1.0, discard=0)
    assert found.resolved.to_numpy().all()
    assert 0.88 <= coverage(found, "autocorrelation_time", exact) <= 1.0
    assert 0.88 <= coverage(found, "mean", 0.0) <= 1.0
    assert abs(float(found.autocorrelation_time.mean()) - exact) < 0.1 * exact


def test_short_oscillations_are_not_resolved():
    """tau below a draw, but a phase that lasts for a third of the run."""
    series, _ = autoregressive(np.random.default_rng(4), (50, 1000), 0.997, 0.3)
    assert fluctuations.summary(series, discard=0).resolved.to_numpy().mean() < 0.1


def test_correlations_that_stay_positive_keep_their_window():
    series = ar1(np.random.default_rng(5), (300, 3000), 0.9)
    found = fluctuations.summary(series, labels(1.0, 300, 1), discard=0)
    assert LOWEST <= coverage(found, "autocorrelation_time", 0.5 * 1.9 / 0.1) <= HIGHEST
    assert LOWEST <= coverage(found, "mean", 0.0) <= HIGHEST
