"""`summary` on processes whose every answer is known: error bars that hold the truth, flags, burn-in, odd input."""

import numpy as np
import pytest
import xarray as xr

from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation import series as _series
from landscape.probes.fluctuations import summary
from tests.cases import Z_CONTROL, Z_MAX
from tests.probes.processes import (
    HIGHEST,
    LOWEST,
    ar1,
    coverage,
    energies,
    labels,
    reference,
    truth,
    wall_energies,
    z_scores,
)

SPRINGS = {
    "one": [0.05],
    "ten": [0.05] * 10,
    "spread": list(np.geomspace(0.02, 0.6, 20)),
}


def repeats_of(rng, stiffness, count, chains, draws, temperature=0.7, **settings):
    energy = energies(rng, count * chains, draws, stiffness, temperature)
    return summary(energy, labels(temperature, count, chains), by="temperature", **settings)


# -- error bars ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("springs", "chains", "draws"),
    [
        ("one", 1, 10_000),
        ("one", 4, 5000),
        ("ten", 1, 6000),
        ("ten", 4, 2500),
        ("spread", 1, 8000),
        ("spread", 4, 3000),
    ],
)
def test_intervals_hold_the_truth_for_springs(springs, chains, draws):
    rng = np.random.default_rng(21 + chains)
    stiffness = SPRINGS[springs]
    result = repeats_of(rng, stiffness, 400, chains, draws)
    assert result.resolved.to_numpy().mean() > 0.98  # that chains agree is tested at 1 %
    assert result.stationary.to_numpy().mean() > 0.97
    found = {name: coverage(result, name, value) for name, value in truth(stiffness, 0.7).items()}
    assert all(LOWEST < share < HIGHEST for share in found.values()), found


@pytest.mark.parametrize("shape", [0.5, 4.0, 60.0])
@pytest.mark.parametrize(("chains", "draws"), [(1, 500), (5, 300)])
@pytest.mark.always
def test_intervals_hold_the_truth_for_independent_gamma_variables(shape, chains, draws):
    rng = np.random.default_rng(int(10 * shape) + chains)
    temperature = 0.3
    energy = rng.gamma(shape, temperature, (1000 * chains, draws))
    result = summary(energy, labels(temperature, 1000, chains), by="temperature")
    expected = {
        "mean": shape * temperature,
        "variance": shape * temperature**2,
        "heat_capacity": shape,
        "gamma_shape": shape,
        "gamma_shape_moments": shape,
        "gamma_rate": 1 / temperature,
        "autocorrelation_time": 0.5,
        "effective_sample_size": chains * draws,
    }
    found = {name: coverage(result, name, value) for name, value in expected.items()}
    # No time is less than 1/2: here these two can only err to one side, and hold the truth more often.
    one_sided = [found.pop("autocorrelation_time"), found.pop("effective_sample_size")]
    assert all(LOWEST < share < HIGHEST for share in found.values()), found
    assert all(LOWEST < share < 0.996 for share in one_sided), one_sided


@pytest.mark.always
def test_intervals_hold_the_truth_for_a_gaussian_process():
    rng = np.random.default_rng(3)
    rho = np.exp(-0.1)
    result = summary(ar1(rng, (400, 5000), rho))
    expected = {
        "mean": 0.0,
        "variance": 1.0,
        "autocorrelation_time": (1 + rho) / (1 - rho) / 2,
        "half_time": 10 * np.log(2),
    }
    found = {name: coverage(result, name, value) for name, value in expected.items()}
    assert all(LOWEST < share < HIGHEST for share in found.values()), found
    assert np.isnan(result.gamma_shape).all()


def test_error_bars_of_independent_draws_would_be_too_short():
    rng = np.random.default_rng(4)
    energy = energies(rng, 300, 6000, SPRINGS["ten"], 0.7)
    naive = np.abs(energy.mean(axis=1) - 3.5) < 1.96 * energy.std(axis=1) / np.sqrt(6000)
    assert naive.mean() < 0.5
    result = summary(energy, 0.7)
    assert LOWEST < coverage(result, "mean", 3.5) < HIGHEST


def test_each_error_follows_its_own_correlation_time():
    """x^2 forgets twice as fast as x: the time of x would make the error of the variance sqrt(2) too long."""
    rng = np.random.default_rng(5)
    rho, draws = np.exp(-0.05), 12_000
    result = summary(ar1(rng, (400, draws), rho))
    scatter = float(result.variance.std(ddof=1))
    assert 0.9 < float(result.variance_stderr.mean()) / scatter < 1.12
    borrowed = np.sqrt(2.0 * 2.0 * (1 + rho) / (1 - rho) / 2 / draws)
    assert borrowed / scatter > 1.3


def test_chains_that_disagree_make_longer_error_bars():
    rng = np.random.default_rng(6)
    chains, count = 8, 250
    offset = 0.4 * rng.standard_normal((count * chains, 1))
    series = ar1(rng, (count * chains, 1500), 0.9) + offset
    result = summary(series, labels(1.0, count, chains), by="temperature")
    assert result.chains_agree.to_numpy().mean() < 0.05
    assert LOWEST < coverage(result, "mean", 0.0) < HIGHEST
    alone = summary(series, 1.0)
    within = np.sqrt((alone.mean_stderr.to_numpy().reshape(count, chains) ** 2).sum(axis=1)) / chains
    assert np.mean(np.abs(result["mean"].to_numpy()) < 1.96 * within) < 0.5
    same = summary(series - offset, labels(1.0, count, chains), by="temperature")
    assert same.chains_agree.to_numpy().mean() > 0.97
    assert float((same.effective_sample_size / result.effective_sample_size).median()) > 3


# -- the Gamma law ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("directions", "temperature"), [(3, 1e-5), (20, 1e-3), (45, 2.0)])
def test_laws_of_a_quadratic(directions, temperature):
    rng = np.random.default_rng(directions)
    energy = energies(rng, 16, 4000, np.linspace(0.1, 0.5, directions), temperature)
    result = summary(energy, np.full(16, temperature), by="temperature").isel(temperature=0)
    expected = truth(np.linspace(0.1, 0.5, directions), temperature)
    for name, value in expected.items():
        assert abs(float(z_scores(result, name, value))) < Z_MAX, name
    # N_c is twice the shape, not the shape.
    assert abs(float(z_scores(result, "gamma_shape", directions))) > Z_CONTROL
    assert abs(float(z_scores(result, "gamma_rate", 2 / temperature))) > Z_CONTROL
    if directions == 20:
        assert abs(float(z_scores(result, "mean", reference("quadratic", "mean_loss", 1e-3, Nc=20)))) < Z_MAX


def test_shapes_of_an_exponential_wall():
    """Moments and maximum likelihood differ on a wall: both match the population values."""
    rng = np.random.default_rng(8)
    energy = wall_energies(rng, (8, 40_000), 1e-4, a=2.0, prefactor=0.5, cutoff=15.0)
    result = summary(energy, np.full(8, 1e-4), by="temperature").isel(temperature=0)
    where = {"B": 0.5, "a": 2.0, "theta_star": 15.0}
    likelihood = reference("exp_wall", "alpha_gamma_mle_population", 1e-4, **where)
    mean = reference("exp_wall", "mean_loss", 1e-4, **where)
    assert abs(float(z_scores(result, "gamma_shape", likelihood))) < Z_MAX
    assert abs(float(z_scores(result, "mean", mean))) < Z_MAX
    assert abs(float(z_scores(result, "gamma_shape_moments", likelihood))) > Z_CONTROL
    # beta T = 1 holds for quadratics only.
    assert abs(float(z_scores(result, "rate_times_temperature", 1.0))) > Z_CONTROL


def test_bias_of_short_runs_is_removed():
    rng = np.random.default_rng(9)
    draws, shape, temperature = 120, 5.0, 0.2
    result = summary(rng.gamma(shape, temperature, (6000, draws)), temperature, discard=0)
    kept = result.isel(chain=result.resolved.to_numpy())
    for name, value in {"gamma_shape": shape, "gamma_rate": 1 / temperature, "gamma_shape_moments": shape}.items():
        estimates = kept[name].to_numpy()
        error = estimates.std(ddof=1) / np.sqrt(estimates.size)
        # Third-order terms are left: 20 / draws^2 of the value at most.
        assert abs(estimates.mean() - value) < Z_MAX * error + 20 * value / draws**2, name
        assert 3 * value / draws > Z_CONTROL * error, f"the uncorrected {name} could not be told from the truth"


def test_energies_that_are_not_positive_have_no_gamma_law():
    rng = np.random.default_rng(10)
    energy = rng.gamma(3.0, 1.0, (3, 800))
    energy[0] -= 5.0
    energy[1, 400] = 0.0
    result = summary(energy, 1.0)
    assert np.isnan(result.gamma_shape[:2]).all()
    assert np.isfinite(result.gamma_shape[2])
    assert np.isfinite(result["mean"]).all()
    assert np.isnan(result.gamma_shape_moments[0])
    assert np.isfinite(result.gamma_shape_moments[1])


# -- flags --------------------------------------------------------------------------------------------------------


@pytest.mark.always
def test_short_runs_are_not_resolved():
    rng = np.random.default_rng(11)
    tau, springs = 20.0, [0.025] * 6
    short, long = (summary(energies(rng, 300, int(n * tau), springs, 1.0), 1.0) for n in (25, 400))
    assert short.resolved.to_numpy().mean() < 0.05
    assert long.resolved.to_numpy().all()
    hidden = short.isel(chain=~short.resolved.to_numpy())
    for name in ("autocorrelation_time", "half_time", "mean_stderr", "variance_stderr", "gamma_shape_stderr"):
        assert np.isnan(hidden[name]).all(), name
    assert np.isfinite(hidden["mean"]).all()


def test_many_short_chains_still_bound_the_mean():
    rng = np.random.default_rng(12)
    chains, count = 10, 300
    result = summary(ar1(rng, (count * chains, 60), 0.97), labels(1.0, count, chains), by="temperature", discard=0)
    assert not result.resolved.to_numpy().any()
    assert np.isnan(result.half_time).all()
    assert LOWEST < coverage(result, "mean", 0.0) < HIGHEST


def test_pooling_resolves_what_single_chains_do_not():
    rng = np.random.default_rng(13)
    energy = energies(rng, 16, 600, [0.025] * 6, 1.0)  # 30 correlation times each
    assert summary(energy, 1.0).resolved.to_numpy().mean() < 0.3
    assert summary(energy, np.full(16, 1.0), by="temperature").resolved.to_numpy().all()


def test_a_drift_is_not_stationary():
    rng = np.random.default_rng(14)
    stiffness = [0.05] * 10
    energy = energies(rng, 200, 8000, stiffness, 1.0)
    steady = summary(energy, 1.0, discard=0)
    assert steady.stationary.to_numpy().mean() > 0.98
    assert LOWEST < coverage(steady, "drift", 0.0) < 0.995
    slope = np.linspace(0.0, 3.0, 8000)  # one standard deviation is 2.2
    drifting = summary(energy + slope, 1.0, discard=0)
    assert drifting.stationary.to_numpy().mean() < 0.02
    assert float(drifting.drift.mean()) == pytest.approx(1.5, abs=0.06)


# -- burn-in ------------------------------------------------------------------------------------------------------


def test_burn_in_is_left_out():
    """Runs that begin in the minimum: the biased start is found, and only the start."""
    rng = np.random.default_rng(15)
    chains, count, draws, stiffness = 16, 50, 2500, np.geomspace(0.02, 0.2, 30)
    time = np.arange(1, draws + 1)
    energy = 0.0
    for k in stiffness:  # x(t) = stationary process minus what remains of its start
        x = ar1(rng, (count * chains, draws), np.exp(-k))
        before = np.exp(k) * x[:, :1]
        energy = energy + 0.5 * (x - before * np.exp(-k * time)) ** 2
    where = labels(1.0, count, chains)
    found = summary(energy, where, by="temperature")
    kept = summary(energy, where, by="temperature", discard=0)
    for name, value in (("mean", 15.0), ("variance", 15.0), ("gamma_shape", 15.0)):
        assert coverage(found, name, value) > LOWEST, name
    assert coverage(kept, "gamma_shape", 15.0) < 0.6
    assert 20 < float(found.discarded.mean()) < 300


def test_stationary_runs_are_hardly_cut():
    rng = np.random.default_rng(16)
    result = summary(energies(rng, 300, 4000, [0.05], 1.0), 1.0)
    assert float((result.discarded / 4000).mean()) < 0.01


def test_what_to_discard_can_be_said():
    energy = np.random.default_rng(17).gamma(4.0, 1.0, (2, 1000))
    assert (summary(energy, discard=0.25).discarded == 250).all()
    assert (summary(energy, discard=37).discarded == 37).all()
    part = summary(energy[:, 37:], discard=0)
    xr.testing.assert_allclose(summary(energy, discard=37).drop_vars("discarded"), part.drop_vars("discarded"))
    assert float(part["mean"][0]) == pytest.approx(energy[0, 37:].mean(), rel=1e-12)


def test_a_first_draw_of_zero_is_left_out():
    energy = np.random.default_rng(18).gamma(4.0, 1.0, (2, 1000))
    energy[:, 0] = 0.0
    result = summary(energy, 1.0)
    assert (result.discarded >= 1).all()
    assert np.isfinite(result.gamma_shape).all()


# -- input and output ---------------------------------------------------------------------------------------------


def run_dataset(rng, **coords):
    energy = energies(rng, 6, 3000, [0.5, 1.0, 2.0], [0.1, 0.1, 0.1, 0.3, 0.3, 0.3], dt=0.1)
    time = xr.DataArray(0.1 * np.arange(1, 3001), dims="draw", attrs={"units": "s"})
    return xr.Dataset(
        {"energy": (("chain", "draw"), energy, {"units": "J"})},
        coords={"time": time, "temperature": ("chain", [0.1, 0.1, 0.1, 0.3, 0.3, 0.3]), "seed": 3} | coords,
    )


def test_times_are_in_units_of_time():
    run = run_dataset(np.random.default_rng(19))
    timed, bare = summary(run), summary(run.energy.to_numpy())
    assert timed.half_time.attrs["units"] == "s"
    assert bare.half_time.attrs["units"] == "draw"
    assert timed["variance"].attrs["units"] == "(J)^2"
    for name in ("half_time", "half_time_stderr", "autocorrelation_time", "length"):
        np.testing.assert_allclose(timed[name], 0.1 * bare[name])
    np.testing.assert_allclose(timed["mean"], bare["mean"])


def test_time_may_differ_by_chain():
    run = run_dataset(np.random.default_rng(20))
    steps = np.array([0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
    own = run.assign_coords(time=(("chain", "draw"), steps[:, None] * np.arange(1, 3001)))
    np.testing.assert_allclose(summary(own).half_time[3:], 2 * summary(run).half_time[3:])
    np.testing.assert_allclose(
        summary(own, by="temperature").half_time[1], 2 * summary(run, by="temperature").half_time[1]
    )
    mixed = own.assign_coords(temperature=("chain", np.full(6, 0.1)))
    with pytest.raises(ConfigError, match="one step size"):
        summary(mixed, by="temperature")


def test_shapes_of_input_agree():
    run = run_dataset(np.random.default_rng(22))
    one = summary(run.energy.isel(chain=0))
    assert dict(one.sizes) == {"chain": 1}
    xr.testing.assert_allclose(summary(run.energy.transpose("draw", "chain")), summary(run))
    assert summary(run).temperature.dims == ("chain",)
    assert float(summary(run).seed) == 3
    assert dict(summary(run, by="temperature").sizes) == {"temperature": 2}
    other = run.drop_vars("temperature")
    np.testing.assert_allclose(summary(other, 2.0).heat_capacity, summary(run)["variance"] / 4.0)


def test_temperature_enters_the_heat_capacity():
    energy = np.random.default_rng(23).gamma(4.0, 0.5, (2, 1000))
    result = summary(energy, [0.5, 1.0])
    np.testing.assert_allclose(result.heat_capacity, result["variance"] / [0.25, 1.0])
    np.testing.assert_allclose(result.rate_times_temperature, result.gamma_rate * [0.5, 1.0])
    assert np.isnan(summary(energy).heat_capacity).all()


def test_a_dropped_chain_is_counted_and_ignored():
    run = run_dataset(np.random.default_rng(24))
    damaged = run.energy.copy()
    damaged[1, 2000:] = np.nan
    single, pooled = summary(damaged), summary(damaged, by="temperature")
    assert single.chains_dropped.to_numpy().tolist() == [0, 1, 0, 0, 0, 0]
    assert np.isnan(single["mean"][1])
    assert not single.resolved[1]
    assert pooled.chains_dropped.to_numpy().tolist() == [1, 0]
    rest = summary(run.energy.isel(chain=[0, 2, 3, 4, 5]), by="temperature")
    xr.testing.assert_allclose(pooled.drop_vars("chains_dropped"), rest.drop_vars("chains_dropped"))


def test_a_constant_energy_has_no_times():
    result = summary(np.full((2, 100), 3.0), 0.0)
    assert (result["mean"] == 3.0).all()
    assert (result["variance"] == 0.0).all()
    assert not result.resolved.to_numpy().any()
    assert result.stationary.to_numpy().all()


@pytest.mark.parametrize("by", ["chain", "temperature"])
def test_blocks_do_not_change_the_answer(monkeypatch, by):
    run = run_dataset(np.random.default_rng(25))
    whole = summary(run, by=by)
    monkeypatch.setattr(_series, "_BLOCK", 7000)
    xr.testing.assert_allclose(summary(run, by=by), whole, rtol=1e-9)


def test_long_series_are_binned_without_loss(monkeypatch):
    rng = np.random.default_rng(26)
    energy = energies(rng, 3, 60_000, [0.02] * 4, 1.0)
    fine = summary(energy, 1.0, discard=0)
    monkeypatch.setattr("landscape.probes.estimation.influence._MOST_BINS", 3000)
    coarse = summary(energy, 1.0, discard=0)
    np.testing.assert_allclose(coarse["variance"], fine["variance"])
    for name in ("mean_stderr", "variance_stderr", "gamma_shape_stderr"):
        np.testing.assert_allclose(coarse[name], fine[name], rtol=0.15)


@pytest.mark.parametrize("by", ["chain", "temperature"])
def test_results_are_described_and_can_be_stored(tmp_path, by):
    result = summary(run_dataset(np.random.default_rng(27)), by=by)
    for name, variable in result.variables.items():
        assert variable.attrs["long_name"], name
        assert "units" in variable.attrs, name
        assert variable.dtype != object, name
    estimates = [n for n in result if result[n].dtype.kind == "f" and not n.endswith("_stderr")]
    counts = {"length", "correlation_times", "mean_variance_correlation", "every_needed", "steps_needed"}
    assert all(f"{name}_stderr" in result for name in estimates if name not in counts)
    assert {"conventions", "cost"} <= set(result.attrs)
    result.to_netcdf(tmp_path / "summary.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "summary.nc") as stored:
        xr.testing.assert_allclose(stored.load(), result)
        assert stored.resolved.dtype == bool


def test_a_stored_run_is_read_in_blocks(tmp_path, monkeypatch):
    run = run_dataset(np.random.default_rng(28))
    run.to_netcdf(tmp_path / "run.nc", engine="netcdf4")
    monkeypatch.setattr(_series, "_BLOCK", 7000)
    with xr.open_dataset(tmp_path / "run.nc") as stored:
        xr.testing.assert_allclose(summary(stored, by="temperature"), summary(run, by="temperature"), rtol=1e-9)
        assert not stored.energy._in_memory


BAD = {
    "by": (ConfigError, {"by": "dt"}),
    "no temperature": (ConfigError, {"by": "temperature"}),
    "fraction of one": (ConfigError, {"discard": 1.0}),
    "negative number": (ConfigError, {"discard": -3}),
    "nothing left": (ConfigError, {"discard": 998}),
    "a flag": (ConfigError, {"discard": True}),
    "a word": (ConfigError, {"discard": "some"}),
    "lengths": (ShapeError, {"temperature": [1.0, 2.0]}),
    "below zero": (ConfigError, {"temperature": -1.0}),
}


@pytest.mark.parametrize("case", BAD)
def test_senseless_settings_are_refused(case):
    error, settings = BAD[case]
    with pytest.raises(error):
        summary(np.ones((3, 1000)), **settings)


@pytest.mark.parametrize(
    "values", [np.ones((2, 3)), np.ones((2, 3, 4)), np.array(["a"] * 9), np.ones(9, dtype=complex)]
)
def test_senseless_series_are_refused(values):
    with pytest.raises(ShapeError):
        summary(values)


def test_senseless_times_are_refused():
    run = run_dataset(np.random.default_rng(29))
    with pytest.raises(ConfigError, match="equally spaced"):
        summary(run.assign_coords(time=("draw", np.arange(1.0, 3001.0) ** 2)))
    with pytest.raises(ConfigError, match="grow"):
        summary(run.assign_coords(time=("draw", -np.arange(3000.0))))
    with pytest.raises(ConfigError, match="changes along"):
        summary(run.assign_coords(temperature=("draw", np.ones(3000))))
    with pytest.raises(ConfigError, match="no variable"):
        summary(xr.Dataset({"loss": run.energy}))
    with pytest.raises(ShapeError, match="dims"):
        summary(run.energy.rename(draw="step"))
