"""Errors from few, skewed or heavy-tailed values: 95 % intervals hold the truth, and half of them do not."""

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.observers import Residence
from landscape.probes import confinement, curvature
from landscape.probes.curvature.linear import as_linear
from landscape.probes.curvature.trace_estimators import hutchinson
from landscape.probes.fluctuations import effective_temperature
from landscape.probes.free_energy import local_learning_coefficient
from landscape.probes.free_energy.learning import _sensitivities
from landscape.statistics import error_of_mean

LOWEST, HIGHEST, REPEATS = 0.90, 0.985, 200


def share(values, errors, truth, factor=1.0):
    """Share of the repeats whose interval holds the truth."""
    return float(np.mean(np.abs(np.asarray(values) - truth) < 1.96 * factor * np.asarray(errors)))


def covers(values, errors, truth, highest=HIGHEST):
    """Intervals hold the truth as often as they should; of a third of their length they do not."""
    assert np.isfinite(errors).all()
    assert LOWEST <= share(values, errors, truth) <= highest
    assert share(values, errors, truth, 1 / 3) < LOWEST


@pytest.mark.parametrize("count", [4, 8, 30, 200])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng, shape: rng.exponential(size=shape), 1.0),
        (lambda rng, shape: rng.normal(size=shape) ** 2, 1.0),
        (lambda rng, shape: rng.lognormal(size=shape), np.exp(0.5)),
        (lambda rng, shape: 1 + 0.1 * rng.normal(size=shape), 1.0),
    ],
    ids=["exponential", "square", "lognormal", "normal"],
)
def test_means_of_positive_values(draw, truth, count):
    values = draw(np.random.default_rng(count), (2000, count))
    error = error_of_mean(values, positive=True)
    assert LOWEST < share(values.mean(axis=1), error, truth) < 0.995
    if count == 4:
        plain = values.std(axis=1, ddof=1) / np.sqrt(count)
        assert share(values.mean(axis=1), plain, truth) < LOWEST


def test_too_few_values_have_no_error():
    assert np.isnan(error_of_mean([1.0, 2.0]))
    assert np.isfinite(error_of_mean([1.0, 2.0], least=2))
    assert np.isnan(error_of_mean([1.0], least=1))


class Samples:
    """Gradients of samples, of a spring of six directions."""

    stiffness = torch.tensor([4.0, 2, 1, 0.5, 0.2, 0.1], dtype=torch.float64)

    def __init__(self, gradients):
        self.gradients = torch.as_tensor(gradients)

    def sample_gradients(self, position):
        return self.gradients

    def hvp(self, position, vector):
        return vector * self.stiffness


def temperatures(draw, count):
    found = [
        effective_temperature(Samples(draw((count, 6))), torch.zeros(6, dtype=torch.float64), 0.1, 2)
        for _ in range(REPEATS)
    ]
    return [[float(one[name]) for one in found] for name in ("temperature", "temperature_stderr")]


@pytest.mark.parametrize(("count", "freedom"), [(4, None), (10, None), (100, None), (10, 5), (10, 3), (100, 3)])
def test_temperatures_of_few_gradients(count, freedom):
    """Normal gradients and Student's; those of 3 degrees have squares without a variance."""
    rng, scale = np.random.default_rng(1), Samples.stiffness.numpy() ** 0.5
    draw = rng.normal if freedom is None else lambda size: rng.standard_t(freedom, size)
    values, errors = temperatures(lambda shape: scale * draw(size=shape), count)
    variance = 1.0 if freedom is None else freedom / (freedom - 2)
    truth = 0.1 * variance * 7.8 / (2 * 2 * 6) * (1 - 2 / count)
    assert (0.86 if freedom == 3 else LOWEST) <= share(values, errors, truth) < 0.995
    assert share(values, errors, truth, 1 / 3) < 0.9


def test_three_gradients_are_too_few():
    found = effective_temperature(Samples(np.random.default_rng(2).normal(size=(3, 6))), torch.zeros(6), 0.1, 1)
    assert np.isfinite(found.temperature)
    assert np.isnan(found.temperature_stderr)


def indices(draw, count, seed=3):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(REPEATS):
        gradients = draw(rng, count)[:, None] * [1.0, 0, 0, 0, 0, 0] * rng.choice([-1.0, 1.0], (count, 1))
        found.append(effective_temperature(Samples(gradients), torch.zeros(6), 0.1, 2))
    return np.array([[float(one[name]) for name in ("tail_index", "tail_index_stderr")] for one in found]).T


@pytest.mark.parametrize(("count", "index"), [(1000, 1.5), (1000, 3.0), (4000, 3.0)])
def test_tail_indices_of_student_variables(count, index):
    """Powers at the end of the tail alone: Hill's estimate is 2.45 for 3."""
    values, errors = indices(lambda rng, n: np.abs(rng.standard_t(index, n)), count)
    known = np.isfinite(values)
    assert known.mean() > 0.5
    assert share(values[known], errors[known], index) >= LOWEST
    assert share(values[known], errors[known], index, 1 / 5) < LOWEST
    assert np.array_equal(known, np.isfinite(errors))


def test_tails_that_are_no_powers_have_no_index():
    values, _ = indices(lambda rng, n: np.abs(rng.normal(size=n)), 4000)
    assert np.isnan(values).mean() > 0.95
    few, _ = indices(lambda rng, n: rng.pareto(3.0, n) + 1, 100)
    assert np.isnan(few).all()


def run_along(arc, time):
    """A run projected onto a line of length 10, as `confinement` takes it."""
    return xr.Dataset(
        {"arc_length": (("chain", "projection"), arc)},
        coords={
            "projection_time": ("projection", time),
            "temperature": ("chain", np.full(len(arc), 1.0)),
        },
        attrs={"path_length": 10.0},
    )


@pytest.mark.parametrize("chains", [8, 40])
def test_relaxation_of_noisy_runs(chains):
    """Coloured noise around an exponential of time 1: the mean first falls to 1/e where the noise has a dip."""
    rng, time = np.random.default_rng(4), np.linspace(0.0, 4.0, 201)
    memory, values, errors = np.exp(-0.02 / 0.1), [], []
    for _ in range(REPEATS):
        noise = np.zeros((chains, time.size))
        for step in range(1, time.size):
            noise[:, step] = memory * noise[:, step - 1] + np.sqrt(1 - memory**2) * rng.normal(size=chains)
        arc = 5.0 + 3.0 * np.exp(-time) + 0.6 * noise * (1 - np.exp(-time / 0.1))
        found = confinement.relaxation(run_along(arc, time), target=5.0)
        values.append(float(found.relaxation_time[0]))
        errors.append(float(found.relaxation_time_stderr[0]))
    truth = exact_relaxation()
    known = np.isfinite(errors)
    assert known.mean() > 0.9
    assert share(np.array(values)[known], np.array(errors)[known], truth) >= LOWEST
    assert share(np.array(values)[known], np.array(errors)[known], truth, 1 / 3) < LOWEST


def exact_relaxation():
    """Where the mean of |3 exp(-t) + 0.6 (1 - exp(-10 t)) z| is 3/e."""
    from scipy.optimize import brentq
    from scipy.stats import foldnorm

    def mean(t):
        width = 0.6 * (1 - np.exp(-t / 0.1))
        return foldnorm.mean(3 * np.exp(-t) / width, scale=width) - 3 / np.e

    return brentq(mean, 0.1, 3.0)


@pytest.mark.parametrize("censored", [False, True])
def test_first_passage_of_eight_chains(censored):
    rng, values, errors = np.random.default_rng(5), [], []
    time = np.linspace(0.0, 1.0 if censored else 12.0, 201)
    for _ in range(REPEATS):
        waiting = rng.exponential(size=8)
        arc = np.where(time[None] < waiting[:, None], 1.0, 9.0)
        found = confinement.first_passage(run_along(arc, time), 5.0, continuity=False)
        values.append(float(found.first_passage_time[0]))
        errors.append(float(found.first_passage_time_stderr[0]))
    known = np.isfinite(errors)
    assert known.mean() > 0.98
    assert LOWEST <= share(np.array(values)[known], np.array(errors)[known], 1.0) <= 0.995
    assert share(np.array(values)[known], np.array(errors)[known], 1.0, 1 / 3) < LOWEST


@pytest.mark.parametrize("visits", [3, 9, 40])
def test_residence_of_few_visits(visits):
    """Visits of exponential length to a cell, between single samples elsewhere."""
    rng, rows = np.random.default_rng(6), []
    for _ in range(REPEATS):
        lengths = 1 + np.floor(rng.exponential(30.0, visits)).astype(int)
        rows.append(np.concatenate([[1.0], *[np.r_[np.zeros(n), 1.0] for n in lengths]]))
    found = [Residence("x", edges=[0.5]).apply([row], spacing=1.0) for row in rows]
    values, errors = ([float(one[f"x_residence_time{end}"][0, 0]) for one in found] for end in ("", "_stderr"))
    truth = 1 + 1 / np.expm1(1 / 30)
    assert LOWEST <= share(values, errors, truth) <= 0.995
    assert share(values, errors, truth, 1 / 3 if visits > 3 else 1 / 6) < LOWEST
    two = Residence("x", edges=[0.5]).apply([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]], spacing=1.0)
    assert np.isnan(two.x_residence_time_stderr[0, 0])


@pytest.mark.parametrize(("chains", "draws"), [(8, 50), (100, 10), (40, 100)])
def test_temperature_sensitivity_of_a_quartic(chains, draws):
    """V/T = x^4/T is a Gamma variable of shape 1/4: C = 1/4, and the coefficient does not depend on T."""
    rng = np.random.default_rng(7)
    found = [_sensitivities(rng.gamma(0.25, size=(chains, draws)), np.zeros((chains, draws))) for _ in range(REPEATS)]
    values, errors = np.array([one["temperature_sensitivity"] for one in found]).T
    assert LOWEST <= share(values, errors, 0.0) <= 0.995
    assert share(values, errors, 0.0, 1 / 3) < LOWEST
    few = _sensitivities(rng.gamma(0.25, size=(8, 40)), np.zeros((8, 40)))["temperature_sensitivity"]
    assert np.isnan(few[1])


@pytest.mark.parametrize("probes", [6, 12, 30])
def test_hutchinson_beside_one_dominant_eigenvalue(probes):
    rng = np.random.default_rng(8)
    direction = rng.normal(size=60)
    matrix = 100.0 * np.outer(direction, direction) / (direction @ direction) + np.diag(rng.uniform(0, 1, 60))
    linear = as_linear(matrix)
    found = [hutchinson(linear, probes, seed) for seed in range(REPEATS)]
    values, errors = [one.value for one in found], [one.stderr for one in found]
    assert 0.895 <= share(values, errors, np.trace(matrix)) <= HIGHEST
    assert share(values, errors, np.trace(matrix), 1 / 3) < LOWEST


def test_traces_converge_within_the_tolerance_asked_for():
    rng = np.random.default_rng(9)
    basis, _ = np.linalg.qr(rng.normal(size=(60, 60)))
    steady = basis @ np.diag(rng.uniform(1, 2, 60)) @ basis.T
    mixed = basis @ np.diag(rng.normal(size=60)) @ basis.T
    assert curvature.trace((steady + steady.T) / 2).converged
    loose = curvature.trace((steady + steady.T) / 2, rtol=1e-4)
    assert not loose.converged
    unsure = curvature.trace((mixed + mixed.T) / 2)
    assert unsure.trace_stderr > 0.1 * abs(unsure.trace)
    assert not unsure.converged
    assert curvature.trace((mixed + mixed.T) / 2, method="exact").converged


def test_fisher_traces_of_two_draws():
    torch.manual_seed(0)
    from landscape.potentials import NetworkLoss

    module = torch.nn.Linear(3, 3).double()
    samples = 20
    inputs = torch.randn(samples, 3, dtype=torch.float64)
    loss = NetworkLoss(module, inputs, torch.arange(samples) % 3)
    at = loss.position() * 2.0
    truth = float(curvature.fisher_trace(loss, at, labels="model").fisher_trace)
    found = [curvature.fisher_trace(loss, at, labels="sampled", seed=seed) for seed in range(REPEATS)]
    values, errors = ([float(one[f"fisher_trace{end}"]) for one in found] for end in ("", "_stderr"))
    known = np.isfinite(errors)
    assert known.mean() > 0.95
    assert LOWEST <= share(np.array(values)[known], np.array(errors)[known], truth) <= 0.995
    assert share(np.array(values)[known], np.array(errors)[known], truth, 1 / 3) < LOWEST


def test_fisher_traces_of_a_sure_network_have_no_error():
    """Labels that come up once in a thousand draws carry the trace."""
    from landscape.potentials import NetworkLoss

    loss = NetworkLoss(torch.nn.Linear(1, 2).double(), torch.ones(50, 1, dtype=torch.float64), torch.zeros(50).long())
    sure = torch.tensor([3.5, -3.5, 0.0, 0.0], dtype=torch.float64)
    found = curvature.fisher_trace(loss, sure, labels="sampled")
    assert np.isnan(found.fisher_trace_stderr)
    assert not found.converged


@pytest.mark.parametrize(("localization", "resolved"), [(1e-3, False), (2.0, True)])
def test_coefficients_know_the_time_of_the_spring(localization, resolved):
    """V = x^2 (1 + 4 y^2)/2, free in y: in a time of 400 a spring of 0.001 has not brought y back once."""
    valley = ls.potentials.Expression("x**2*(1 + 4*y**2)/2", ["x", "y"])
    found = local_learning_coefficient(
        valley, [0.0, 0.0], temperature=0.05, dt=0.1, steps=4000, chains=16, every=8, localization=localization
    )
    assert bool(found.resolved) == resolved
    assert np.isfinite(found.local_learning_coefficient_stderr) == resolved
    assert ("distance" in found.attrs["warnings"]) == (not resolved)
    assert ("steps or more are needed" in found.attrs["warnings"]) == (not resolved)
