"""Intervals of skewed, correlated and short records hold the truth, or are not given: what was found too narrow."""

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.probes import confinement, fluctuations, rates
from landscape.statistics import lengthen, student_factor
from tests.probes.processes import LOWEST, ar1, correlation, energies, labels

REPEATS = 300


def share(values, errors, truth, factor=1.0):
    """Of the intervals that there are, those that hold the truth."""
    known = np.isfinite(errors)
    return float(np.mean(np.abs(values - truth)[known] < 1.96 * factor * errors[known]))


def misled(values, errors, truth):
    """Of all runs, those whose interval does not hold the truth: few that pass for long enough are chance's choice."""
    return float(np.mean(np.abs(values - truth) > 1.96 * errors))  # NaN is no interval


LAWS = {
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0, 1.0),
    "correlated": (lambda rng, shape: ar1(rng, shape, np.exp(-1 / 5)), 0.0, 1.0),
    "lognormal": (
        lambda rng, shape: np.exp(0.8 * ar1(rng, shape, np.exp(-1 / 5))), np.exp(0.32), np.exp(0.64) * np.expm1(0.64)
    ),
}  # fmt: skip


@pytest.mark.parametrize("draws", [30, 100, 1000])
@pytest.mark.parametrize("law", LAWS)
def test_streamed_variances(law, draws):
    """With what subtracting the mean takes off them, and lengthened; of 100 draws over ten times once 0.67 of 0.75."""
    draw, _, variance = LAWS[law]
    found = ls.Moments("x").apply(draw(np.random.default_rng(draws), (REPEATS, draws)))
    value, error = found.x_variance.to_numpy(), found.x_variance_stderr.to_numpy()
    assert misled(value, error, variance) < (0.12 if law == "lognormal" else 0.10)
    if draws == 1000:
        assert np.isfinite(error).mean() > 0.95
        assert share(value, error, variance, 1 / 3) < 0.85
    assert not (np.isfinite(error) & np.isnan(found.x_mean_stderr.to_numpy())).any()


def test_streamed_covariances_know_their_bias():
    x, y = ar1(np.random.default_rng(1), (2, REPEATS, 1000), np.exp(-1 / 5))
    found = ls.Moments(["x", "y"], covariance=True).apply(np.stack([x, 0.6 * x + 0.8 * y], axis=-1))
    value, error = found.x_y_covariance.to_numpy(), found.x_y_covariance_stderr.to_numpy()
    assert LOWEST <= share(value[:, 0, 1], error[:, 0, 1], 0.6) <= 0.99
    np.testing.assert_array_equal(error[:, 0, 0], found.x_y_variance_stderr[:, 0])
    np.testing.assert_array_equal(error, error.transpose(0, 2, 1))


@pytest.mark.parametrize("chains", [8, 30, 100])
def test_mean_distances_of_skewed_chains(chains):
    radius = np.random.default_rng(2).lognormal(size=(chains, REPEATS))
    found = fluctuations.distance(xr.DataArray(radius[..., None], dims=("chain", "draw", "coordinate")), np.zeros(1))
    value, error = found.mean_distance.to_numpy(), found.mean_distance_stderr.to_numpy()
    assert share(value, error, np.exp(0.5)) >= LOWEST
    plain = radius.std(axis=0, ddof=1) / chains**0.5 * float(student_factor(np.array(chains - 1.0)))
    assert share(value, plain, np.exp(0.5)) < share(value, error, np.exp(0.5)) - 0.02  # what it was


def test_mean_distances_with_and_without_a_chain():
    """A chain that was dropped half-way: the error is that of the others from there on."""
    points = np.random.default_rng(3).lognormal(size=(9, 6, 1))
    points[8, 3:] = np.nan
    dims = ("chain", "draw", "coordinate")
    whole = fluctuations.distance(xr.DataArray(points, dims=dims), np.zeros(1)).mean_distance_stderr.to_numpy()
    others = fluctuations.distance(xr.DataArray(points[:8], dims=dims), np.zeros(1)).mean_distance_stderr.to_numpy()
    np.testing.assert_array_equal(whole[3:], others[3:])
    assert (whole[:3] != others[:3]).all()


@pytest.mark.parametrize("draws", [8, 30, 100])
def test_variances_of_few_short_chains(draws):
    """Eight chains of a lognormal variable, of which only their scatter tells."""
    x = np.exp(0.8 * ar1(np.random.default_rng(4), (8 * REPEATS, draws), np.exp(-1 / 5)))
    found = fluctuations.summary(x, labels(1.0, REPEATS, 8), discard=0, by="temperature")
    value, error = found.variance.to_numpy(), found.variance_stderr.to_numpy()
    truth = np.exp(0.64) * np.expm1(0.64)
    assert share(value, error, truth) >= 0.86  # 0.78 once; the law has heavy tails
    assert share(value, error, truth, 1 / 4) < 0.8
    assert np.median(error / value) < 5  # and not e to the power of it


def test_correlations_longer_than_chains_have_no_error():
    """Subtracting each chain's mean takes slow correlations along, which no scatter of chains shows."""
    for rate, draws, known in ((0.02, 30, False), (0.02, 60, False), (0.2, 200, True)):
        x = energies(np.random.default_rng(5), 8 * 100, draws, (rate,), np.ones(800))
        found = fluctuations.autocorrelation(x, 4, by="temperature", temperature=labels(1.0, 100, 8))
        value, error = found.autocorrelation.to_numpy()[:, 1:], found.autocorrelation_stderr.to_numpy()[:, 1:]
        truth = correlation((rate,), np.arange(1, 5))
        assert (np.isfinite(error).mean() > 0.95) == known
        assert misled(value, error, truth) < 0.1
        if known:
            assert share(value, error, truth, 1 / 3) < LOWEST


@pytest.mark.parametrize(("positions", "rare"), [(8, False), (100, True)])
def test_spreads_of_committors(positions, rare):
    rng, values, errors = np.random.default_rng(6), [], []
    for _ in range(REPEATS // 2):
        q = np.where(rng.random(positions) < 0.1, 0.8, 0.05) if rare else rng.beta(2.0, 2.0, positions)
        given = xr.Dataset({"hits": ("position", rng.binomial(20, q)), "arrived": ("position", np.full(positions, 20))})
        found = rates.committor_test(given.assign(committor=given.hits / given.arrived))
        values.append([float(found["mean"]), float(found.variance)])
        errors.append([float(found.mean_stderr), float(found.variance_stderr)])
    truth = [0.125, 0.09 * 0.75**2] if rare else [0.5, 0.05]
    for value, error, exact in zip(np.transpose(values), np.transpose(errors), truth, strict=True):
        assert share(value, error, exact) >= LOWEST
        assert share(value, error, exact, 1 / 3) < LOWEST


def test_visits_of_two_kinds():
    """One visit in ten is thirty times longer: a skewness of 5, which sums of squares do not keep."""
    rng, values, errors = np.random.default_rng(7), [], []
    for _ in range(REPEATS // 2):
        lengths = np.where(rng.random(30) < 0.1, rng.geometric(1 / 155, 30), rng.geometric(1 / 5, 30))
        series = np.zeros(1 + 30 + lengths.sum())
        series[np.concatenate([[0], np.cumsum(lengths + 1)])] = 1.0
        found = ls.Residence("x", edges=[0.5]).apply([series], spacing=1.0)
        values.append(float(found.x_residence_time[0, 0]))
        errors.append(float(found.x_residence_time_stderr[0, 0]))
    assert share(np.array(values), np.array(errors), 20.0) >= 0.86  # 0.83 once; of eight visits none may be long
    assert share(np.array(values), np.array(errors), 20.0, 1 / 4) < 0.8


@pytest.mark.parametrize("count", [3, 9, 60])
def test_maxima_of_noise_know_that_they_were_chosen(count):
    noisy = 1.0 + 0.1 * np.random.default_rng(8).normal(size=(REPEATS, count))
    found = confinement.instability(noisy, stderr=np.full(noisy.shape, 0.1))
    for name, truth in (("difference", 0.0), ("ratio", 1.0), ("mean", 1.0)):
        assert share(found[name].to_numpy(), found[f"{name}_stderr"].to_numpy(), truth) >= 0.88
    clear = confinement.instability([1.0, 9.0, 2.0], stderr=[0.1, 0.3, 0.2])  # no other can be meant
    assert float(clear.difference_stderr) == pytest.approx(np.sqrt(0.05**2 + 0.3**2 + 0.1**2), rel=1e-9)
    plain = np.sqrt(0.1**2 + 2 * 0.05**2)
    if count > 3:
        assert share(found.difference.to_numpy(), np.full(REPEATS, plain), 0.0) < 0.85


def test_lengthened_errors():
    assert float(lengthen(np.array(1.0), np.array(0.01))) == pytest.approx(0.0102, rel=1e-3)  # 1 + r, and as a scale
    assert float(lengthen(np.array(0.0), np.array(0.0))) == 0.0
    assert float(lengthen(np.array(1.0), np.array(30.0))) < 150.0  # and not exp(60)
    assert np.isnan(lengthen(np.array(1.0), np.array(np.nan)))
