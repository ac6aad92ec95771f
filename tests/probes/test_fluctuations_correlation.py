"""Autocorrelation, half time and burn-in against closed forms and a library's effective sample size."""

import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats

from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation import series as _series
from landscape.probes.fluctuations import autocorrelation, equilibration, half_time, summary
from tests.cases import Z_CONTROL, Z_MAX
from tests.probes.processes import (
    HIGHEST,
    LOWEST,
    ar1,
    correlation,
    coverage,
    energies,
    labels,
    reference,
    truth,
    z_scores,
)


def timed(energy, dt, **coords):
    time = xr.DataArray(dt * np.arange(1, energy.shape[1] + 1), dims="draw", attrs={"units": "s"})
    return xr.DataArray(energy, dims=("chain", "draw"), coords={"time": time} | coords, name="energy")


# -- autocorrelation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stiffness", "dt"), [([1.0, 10.0, 100.0], 0.01), ([0.3, 2.0], 0.05), ([4.0], 0.02)])
def test_energy_forgets_at_twice_the_rate_of_position(stiffness, dt):
    rng = np.random.default_rng(len(stiffness))
    energy = timed(energies(rng, 24, 30_000, stiffness, 0.01, dt), dt, temperature=("chain", np.full(24, 0.01)))
    result = autocorrelation(energy, 40, by="temperature").isel(temperature=0)
    assert result.lag_time.attrs["units"] == "s"
    np.testing.assert_allclose(result.lag_time, dt * result.lag)
    z = z_scores(result, "autocorrelation", correlation(stiffness, result.lag_time))[1:]
    assert np.abs(z).max() < Z_MAX
    # exp(-k t), without the 2, is the correlation of the position.
    without = z_scores(result, "autocorrelation", correlation(stiffness, result.lag_time / 2))[1:]
    assert np.abs(without).max() > Z_CONTROL
    assert float(result.autocorrelation[0]) == 1.0
    if len(stiffness) == 3:
        expected = reference("quadratic", "acf_loss_t0.05", 0.01, k=[1, 10, 100])
        assert abs(z_scores(result, "autocorrelation", expected)[5]) < Z_MAX


@pytest.mark.parametrize(("chains", "draws"), [(1, 6000), (4, 2500)])
def test_bands_hold_the_truth(chains, draws):
    rng = np.random.default_rng(30 + chains)
    stiffness = list(np.geomspace(0.02, 0.2, 12))
    energy = energies(rng, 300 * chains, draws, stiffness)
    result = autocorrelation(energy, 120, by="temperature", temperature=labels(1.0, 300, chains))
    inside = np.abs(z_scores(result, "autocorrelation", correlation(stiffness, result.lag))) < 1.96
    share = inside[:, [1, 3, 10, 30, 60, 120]].mean(axis=0)
    assert (share > LOWEST).all(), share
    assert (share < 0.99).all(), share


def test_the_bias_of_the_mean_is_put_back():
    """Averages of short chains: without the correction every value would be low by 2 tau / n."""
    rng = np.random.default_rng(32)
    chains, draws, rho = 3000, 400, 0.9
    result = autocorrelation(ar1(rng, (chains, draws), rho), 30, by="temperature", temperature=np.ones(chains))
    z = z_scores(result.isel(temperature=0), "autocorrelation", rho ** result.lag.to_numpy())[1:]
    assert np.abs(z).max() < Z_MAX
    bias = (1 + rho) / (1 - rho) / draws
    assert bias > Z_CONTROL * float(result.autocorrelation_stderr[0, -1])


def test_estimate_is_the_sum_of_products():
    x = ar1(np.random.default_rng(33), (500,), 0.8)
    result = autocorrelation(x, 20).isel(chain=0)
    y = x - x.mean()
    products = np.array([(y[k:] * y[: y.size - k]).mean() for k in range(21)])
    ratio = result.autocorrelation.to_numpy()
    put_back = (products[1] - ratio[1] * products[0]) / (ratio[1] - 1.0)  # one constant explains all lags
    np.testing.assert_allclose(ratio, (products + put_back) / (products[0] + put_back), atol=1e-12)
    assert 0.0 < put_back < 0.1


def test_lags_of_every_length_and_blocks_of_every_size(monkeypatch):
    x = ar1(np.random.default_rng(34), (5, 700), 0.7)
    whole = autocorrelation(x, 600)
    assert whole.autocorrelation.shape == (5, 601)
    assert autocorrelation(x).sizes["lag"] == 351
    short = autocorrelation(x, 100)
    np.testing.assert_allclose(short.autocorrelation, whole.autocorrelation[:, :101], atol=1e-12)
    np.testing.assert_allclose(short.autocorrelation_stderr, whole.autocorrelation_stderr[:, :101], rtol=1e-6)
    monkeypatch.setattr(_series, "_BLOCK", 1500)
    xr.testing.assert_allclose(autocorrelation(x, 600), whole)


def test_time_between_draws_may_differ_by_chain():
    x = ar1(np.random.default_rng(35), (2, 700), 0.7)
    series = xr.DataArray(x, dims=("chain", "draw"))
    series = series.assign_coords(time=(("chain", "draw"), np.outer([1.0, 2.0], np.arange(700))))
    lag_time = autocorrelation(series, 3).lag_time
    assert lag_time.dims == ("chain", "lag")
    np.testing.assert_allclose(lag_time, [[0, 1, 2, 3], [0, 2, 4, 6]])


@pytest.mark.parametrize("max_lag", [0, 700, -1, True])
def test_senseless_lags_are_refused(max_lag):
    with pytest.raises(ConfigError):
        autocorrelation(np.ones((2, 700)), max_lag)


# -- half time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stiffness", "dt"), [([2.0], 0.01), ([0.5] * 5, 0.1), ([1.0, 10.0, 100.0], 0.005)])
def test_half_time_of_springs(stiffness, dt):
    rng = np.random.default_rng(40 + len(stiffness))
    energy = timed(energies(rng, 12, 40_000, stiffness, 1.0, dt), dt)
    result = half_time(energy, by="temperature", temperature=1.0).isel(temperature=0)
    expected = truth(stiffness, 1.0, dt)
    for name in ("half_time", "autocorrelation_time"):
        assert abs(float(z_scores(result, name, expected[name]))) < Z_MAX, name
    # A half time of ln(2) / k is that of the position.
    if len(set(stiffness)) == 1:
        assert abs(float(z_scores(result, "half_time", np.log(2) / stiffness[0]))) > Z_CONTROL
    assert result.half_time.attrs["units"] == "s"


def test_half_time_agrees_with_summary():
    energy = energies(np.random.default_rng(43), 5, 4000, [0.1, 0.3])
    alone, whole = half_time(energy), summary(energy, discard=0)
    for name in alone:
        np.testing.assert_allclose(alone[name], whole[name])


def test_half_time_is_exact_for_an_exponential_at_any_spacing():
    for rho in (0.9, 0.6, 0.3):
        result = half_time(ar1(np.random.default_rng(44), (8, 60_000), rho), by="temperature", temperature=1.0)
        z = z_scores(result, "half_time", np.log(0.5) / np.log(rho))
        assert abs(z[0]) < Z_MAX, rho


def test_half_time_below_the_spacing_of_draws_is_not_a_number():
    result = half_time(np.random.default_rng(45).standard_normal((50, 2000)))
    assert np.isnan(result.half_time).mean() > 0.9
    assert np.isfinite(result.autocorrelation_time).all()


# -- effective sample size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.98])
def test_effective_sample_size_agrees_with_a_library(rho):
    x = ar1(np.random.default_rng(46), (4, 40_000), rho)
    ours = float(summary(x, 1.0, by="temperature", discard=0).effective_sample_size[0])
    theirs = float(array_stats.ess(x, chain_axis=0, draw_axis=1, method="mean"))
    exact = x.size * (1 - rho) / (1 + rho)
    assert ours == pytest.approx(theirs, rel=0.12)
    assert ours == pytest.approx(exact, rel=0.12)


# -- burn-in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [20.0, 100.0, 400.0])
def test_relaxation_is_left_out(decay):
    rng = np.random.default_rng(47)
    draws = 8000
    noise = ar1(rng, (20, draws), 0.5)
    start = equilibration(noise + 30.0 * np.exp(-np.arange(draws) / decay))
    assert start.reached.to_numpy().all()
    # Where the relaxation has sunk to the level of the noise: 3 to 4 decay times.
    cut = start.start.to_numpy() / decay
    assert cut.min() > 2.0
    assert 3.0 < np.median(cut) < 6.0


def test_chains_of_one_temperature_share_a_start():
    rng = np.random.default_rng(48)
    slow = np.array([100.0, 100.0, 500.0, 500.0])[:, None]
    x = ar1(rng, (4, 8000), 0.5) + 30.0 * np.exp(-np.arange(8000) / slow)
    series = timed(x, 0.5, temperature=("chain", [1.0, 1.0, 2.0, 2.0]))
    result = equilibration(series, by="temperature")
    assert result.start.dims == ("temperature",)
    assert 3 < float(result.start[1] / result.start[0]) < 7
    np.testing.assert_allclose(result.start_time, 0.5 * result.start)
    assert result.start_time.attrs["units"] == "s"


def test_pooling_finds_what_one_chain_hides():
    rng = np.random.default_rng(49)
    x = ar1(rng, (400, 2000), 0.9) + 0.5 * np.exp(-np.arange(2000) / 100.0)
    alone = equilibration(x).start.to_numpy()
    together = int(equilibration(x, by="temperature", temperature=1.0).start[0])
    assert (alone == 0).mean() > 0.9
    assert together > 100


def test_a_spike_is_not_burn_in():
    x = np.random.default_rng(50).gamma(5.0, 1.0, (40, 4000))
    x[:, 1500:1510] *= 300.0
    assert (equilibration(x).start == 0).mean() > 0.9


def test_a_run_that_never_settles_is_marked():
    x = np.linspace(0.0, 30.0, 4000) + ar1(np.random.default_rng(51), (20, 4000), 0.5)
    result = equilibration(x)
    assert not result.reached.to_numpy().any()
    assert not summary(x, 1.0).stationary.to_numpy().any()


def test_stationary_series_are_left_alone():
    x = energies(np.random.default_rng(52), 400, 4000, [0.05])
    assert (equilibration(x).start > 0).mean() < 0.08


@pytest.mark.parametrize("function", [autocorrelation, half_time, equilibration])
def test_senseless_series_are_refused(function):
    with pytest.raises(ShapeError):
        function(np.ones(3))
    with pytest.raises(ConfigError):
        function(np.ones((2, 100)), by="temperature")


@pytest.mark.parametrize("function", [autocorrelation, half_time, equilibration])
def test_results_can_be_stored(tmp_path, function):
    result = function(timed(energies(np.random.default_rng(53), 3, 2000, [0.2]), 0.1))
    result.to_netcdf(tmp_path / "result.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "result.nc") as stored:
        xr.testing.assert_allclose(stored.load(), result)
    for name, variable in result.variables.items():
        assert {"long_name", "units"} <= set(variable.attrs), name


def test_coverage_of_half_time_from_pooled_chains():
    rng = np.random.default_rng(54)
    stiffness = [0.1] * 6
    result = half_time(energies(rng, 1600, 1200, stiffness), by="temperature", temperature=labels(1.0, 400, 4))
    expected = truth(stiffness, 1.0)
    for name in ("half_time", "autocorrelation_time"):
        assert LOWEST < coverage(result, name, expected[name]) < HIGHEST, name
