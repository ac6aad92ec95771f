"""Error bars: over 200 repeats 95 % intervals hold the truth in 90 to 98.5 % of the cases, for each estimator."""

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.special import ndtr

from landscape import potentials
from landscape.errors import ConfigError, ConvergenceError, OverlapError, ShapeError
from landscape.probes import free_energy
from landscape.probes.free_energy.averages import averages
from landscape.probes.free_energy.multistate import Block, Multistate, pymbar_solver
from landscape.probes.free_energy.quadrature import bends, integrate
from landscape.probes.free_energy.smoothing import Axis
from landscape.probes.free_energy.windows import along_first
from landscape.probes.free_energy.work_averages import acceptance_ratio, exponential_average
from tests.cases import LONG_ONLY
from tests.ordinary import LONG
from tests.probes.processes import OwnMBAR

REPEATS = 200
T = 0.1
SPRING = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})


def correlated(rng, shape, rho=0.7):
    """Stationary normal series of variance 1 along the last axis, with autocorrelation rho^k."""
    noise = rng.standard_normal(shape)
    noise[..., 0] /= np.sqrt(1 - rho**2)
    return np.sqrt(1 - rho**2) * lfilter([1.0], [1.0, -rho], noise)


def covers(estimate, truth, repeats=REPEATS):
    """Share of intervals of 1.96 errors that hold the truth, each quantity by itself."""
    found = [estimate(np.random.default_rng(1000 + seed)) for seed in range(repeats)]
    values, errors = (np.array([np.atleast_1d(pair[i]) for pair in found]) for i in (0, 1))
    assert np.isfinite(errors).all()
    share = (np.abs(values - truth) < 1.96 * errors).mean(axis=0)
    narrow = (np.abs(values - truth) < 1.96 * 0.5 * errors).mean(axis=0)
    assert (narrow < 0.9).all()  # errors of half the size would be found out
    return share


def by_histogram(rng):
    series = xr.DataArray(correlated(rng, (16, 800)), dims=("chain", "draw"))
    found = free_energy.profile(series, T, bins=6, range=(-1.5, 1.5), zero="mean")
    return found.free_energy.to_numpy(), found.free_energy_stderr.to_numpy()


def by_averages(rng):
    at = np.array([1.0, 1.5, 2.0, 2.5, 3.0])
    slopes = 0.5 * T * correlated(rng, (5, 12, 400)) ** 2 / at[:, None, None]
    found = integrate(at, slopes.mean(axis=2), bends(slopes, 0.0, T), averages(slopes).known)
    return found.value[-1], found.stderr[-1]


def by_windows(rng):
    centers, beta_k = np.array([0.0, 0.3, 0.6]), 10.0  # on a spring of 1 at T = 0.1: (q + c)/2, variance 1/20
    series = correlated(rng, (3, 12, 250)) / np.sqrt(20.0) + 0.5 * centers[:, None, None]
    value, error = of_windows(series.reshape(3, -1), centers, beta_k, 12, 0.3)
    return T * value[-1], T * error[-1]


def pooled(samples, centers, beta_k, chains, solver):
    """MBAR of windows ``(window, sample)``, chain after chain."""
    energy = 0.5 * beta_k * (samples.ravel() - centers[:, None]) ** 2
    block = Block(
        np.repeat(np.arange(len(centers)), chains), np.arange(len(centers) * chains), samples.shape[1] // chains
    )
    return Multistate(energy, [block], [f"{c:g}" for c in centers], solver)


def of_windows(samples, centers, beta_k, chains, width, walls=(-np.inf, np.inf)):
    found = pooled(samples, centers, beta_k, chains, OwnMBAR)
    return along_first(found, found.resolution([samples.ravel()]), Axis("q", centers, width, walls), samples.ravel())


def by_bennett(rng):
    """Gaussian works of variance 2 times the dissipation obey Crooks' relation, with a difference of 3."""
    forward, backward = rng.normal(3.0 + 1.0, np.sqrt(2.0), 100), rng.normal(-3.0 + 1.0, np.sqrt(2.0), 100)
    return acceptance_ratio(forward, backward)


def by_jarzynski(rng):
    return exponential_average(rng.normal(3.0 + 0.25, np.sqrt(0.5), 200))[:2]


def exact_bins():
    masses = np.diff(ndtr(np.linspace(-1.5, 1.5, 7)))
    theory = -T * np.log(masses)
    return theory - theory.mean()


ESTIMATORS = {
    "profile": (by_histogram, exact_bins()),
    "integrals of averages": (by_averages, 0.5 * T * np.log(3.0)),
    "umbrella": (by_windows, 0.5 * 0.36),
    "Bennett": (by_bennett, 3.0),
    "Jarzynski": (by_jarzynski, 3.0),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.always
def test_intervals_hold_the_truth(name):
    share = covers(*ESTIMATORS[name])
    # of several bins the average: a single one of many is off by chance
    assert 0.90 <= share.mean() <= 0.985
    assert share.min() > 0.88


@LONG_ONLY
def test_intervals_of_whole_runs():
    """Short runs of the sampled estimators, from their own start: 40 of each."""

    def last(found):
        return float(found.free_energy[-1]), float(found.free_energy_stderr[-1])

    def temperature(rng):
        seed = int(rng.integers(2**31))
        return last(
            free_energy.thermodynamic_integration(
                SPRING, "temperature", np.geomspace(T, 2 * T, 4), chains=12, steps=300, every=3, seed=seed
            )
        )

    def learning(rng):
        found = free_energy.local_learning_coefficient(
            SPRING, [0.0], temperature=T, dt=0.6, steps=600, chains=16, every=3, seed=int(rng.integers(2**31))
        )
        return float(found.local_learning_coefficient), float(found.local_learning_coefficient_stderr)

    assert 0.8 <= covers(temperature, -T * np.log(2.0), 40) <= 1.0
    assert 0.8 <= covers(learning, 0.5, 40) <= 1.0


CHANNEL = potentials.Expression("(1 + y**2)*x**2/2", ["x", "y"])
HELD = {
    "mean force": lambda seed: free_energy.mean_force(
        CHANNEL, "y", np.linspace(0.0, 1.0, 5), T, chains=12, steps=80, seed=seed
    ),
    "umbrella": lambda seed: free_energy.umbrella(
        CHANNEL, "y", np.linspace(0.0, 1.0, 5), T, width=0.4, chains=12, steps=1500, every=15, seed=seed
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_intervals_of_whole_runs_that_hold_the_coordinate(name):
    """New seeds, (T/2) ln 2: 200 of each with LANDSCAPE_LONG_TESTS=1, else a few."""
    repeats = REPEATS if LONG else 10
    ends = [HELD[name](5000 + seed).isel(y=-1) for seed in range(repeats)]
    z = np.array([(float(f.free_energy) - 0.5 * T * np.log(2.0)) / float(f.free_energy_stderr) for f in ends])
    assert np.isfinite(z).all()
    assert abs(z).max() < 4.5
    if repeats == REPEATS:
        assert 0.90 <= (abs(z) < 1.96).mean() <= 0.985
        assert (abs(z) < 0.98).mean() < 0.9  # errors of half the size would be found out
    else:
        assert (abs(z) < 1.96).sum() >= 7
    assert abs(z + 0.5 * T * np.log(2.0) / np.array([float(f.free_energy_stderr) for f in ends])).mean() > 3


def test_own_iteration_is_mbar():
    rng = np.random.default_rng(5)
    series = rng.normal(0.5 * np.array([[0.0], [0.3], [0.6]]), 20**-0.5, (3, 600))
    results = []
    for solver in (OwnMBAR, pymbar_solver()):
        results.append(pooled(series, np.array([0.0, 0.3, 0.6]), 10.0, 12, solver).f)
    assert np.allclose(*results, atol=1e-8)


# -- what must not give a number with a small error bar -------------------------------------------------------------


def test_too_few_samples_have_no_error():
    series = correlated(np.random.default_rng(0), (10, 60), rho=0.99)
    found = free_energy.profile(xr.DataArray(series, dims=("chain", "draw")), T, bins=6)
    assert not bool(found.resolved)
    assert bool(np.isnan(found.free_energy_stderr).all())
    short = averages(series[None])
    assert not short.resolved.any() and np.isnan(short.stderr).all()
    enough = averages(correlated(np.random.default_rng(0), (1, 10, 2000)))
    assert enough.resolved.all() and np.isfinite(enough.stderr).all()


def test_a_coordinate_that_never_moves_is_refused():
    still = np.repeat(np.arange(10.0)[:, None], 100, axis=1)
    with pytest.raises(ConvergenceError, match="never moves"):
        free_energy.profile(still, T)
    counts = xr.DataArray(
        1000 * np.eye(10, 12, dtype=np.int64), dims=("chain", "x_bin"), coords={"x_bin": np.arange(12)}
    )
    with pytest.raises(ConvergenceError, match="stays in one bin"):
        free_energy.profile(counts, T)


def test_windows_without_overlap_say_where():
    with pytest.raises(OverlapError, match=r"0\.2 and 3 "):
        free_energy.umbrella(SPRING, "x", [0.0, 0.2, 3.0], T, stiffness=20.0, width=0.2, chains=8, steps=200)


def test_works_without_pymbar(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymbar", None)
    with pytest.raises(ConfigError, match=r"landscape-langevin\[free-energy\]"):
        free_energy.umbrella(SPRING, "x", [0.0, 0.3], T)
    assert float(free_energy.mean_force(SPRING, "x", [0.0, 1.0], T).free_energy[-1]) == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize(("stiffness", "given"), [(40.0, True), (2000.0, False)])
def test_works_that_few_chains_carry(stiffness, given):
    found = free_energy.nonequilibrium_work(SPRING, "k", 1.0, stiffness, T, stages=1, chains=200, equilibration=60)
    exact = T / 2 * np.log(stiffness)
    carried = 200 * np.sqrt(2 * stiffness - 1) / stiffness  # <e^{-W/T}>^2/<e^{-2W/T}>
    assert float(found.effective_chains[0]) == pytest.approx(carried, rel=0.4)
    assert np.isfinite(float(found.jarzynski_stderr)) == given
    assert abs(float(found.free_energy) - exact) < 4.5 * float(found.free_energy_stderr)
    if given:
        assert abs(float(found.jarzynski) - exact) < 4.5 * float(found.jarzynski_stderr)


def learning(position, **settings):
    return free_energy.local_learning_coefficient(SPRING, position, temperature=T, dt=0.1, chains=8, **settings)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: free_energy.profile(np.zeros((10, 50)) + np.arange(50), -1.0), ConfigError),
        (lambda: free_energy.mean_force(SPRING, "x", [1.0, 1.0], T), ShapeError),
        (lambda: free_energy.mean_force(SPRING, "x", [0.0, 1.0], T, chains=2), ConfigError),
        (lambda: free_energy.mean_force(SPRING, [0.0], [0.0, 1.0], T), ShapeError),
        (lambda: free_energy.thermodynamic_integration(SPRING, "h", [0.0, 1.0], T), ConfigError),
        (lambda: free_energy.thermodynamic_integration(SPRING, "temperature", [0.1, 1.0], T), ConfigError),
        (lambda: free_energy.thermodynamic_integration([], None, [0.0, 1.0], T), ConfigError),
        (lambda: free_energy.thermodynamic_integration([SPRING] * 3, None, [0.0, 1.0], T), ConfigError),
        (lambda: free_energy.nonequilibrium_work(SPRING, "k", 1.0, 2.0, 0.0), ConfigError),
        (lambda: free_energy.nonequilibrium_work([SPRING], None, 0.0, 1.0, T), ConfigError),
        (lambda: free_energy.harmonic(SPRING, [0.0, 1.0], T), ShapeError),
        (lambda: learning([0.0, 0.0], steps=20), ShapeError),
        (lambda: learning([0.0], steps=2), ConfigError),
        (lambda: learning([0.0], steps=20, localization=-1.0), ConfigError),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(call, error):
    with pytest.raises(error):
        call()


def test_many_short_chains_have_errors():
    """Chains of 40 draws of which no correlation time can be told, from equilibrium: their scatter is the error."""
    rng = np.random.default_rng(8)
    rho, chains, draws = 0.98, 400, 40
    x = np.empty((chains, draws))
    x[:, 0] = rng.normal(size=chains)
    for k in range(1, draws):
        x[:, k] = rho * x[:, k - 1] + np.sqrt(1 - rho**2) * rng.normal(size=chains)
    found = free_energy.profile(x, 0.1, bins=12, range=(-1.8, 1.8), zero="mean")
    theory = 0.05 * found.x**2
    z = (found.free_energy - (theory - theory.mean())) / found.free_energy_stderr
    assert not bool(found.resolved)
    assert float(abs(z).max()) < 4.5
    twice = (found.free_energy - 2 * (theory - theory.mean())) / found.free_energy_stderr
    assert float(abs(twice).max()) > 5
