"""`temperature_scan`: exponents, the fluctuation relation, and what is left out of the fits."""

import numpy as np
import pytest
import xarray as xr

from landscape.errors import ConfigError
from landscape.probes.fluctuations import summary, temperature_scan
from tests.cases import P_CONTROL, P_MIN, Z_CONTROL, Z_MAX
from tests.probes.processes import HIGHEST, LOWEST, energies, wall_energies, z_scores

STIFFNESS = list(np.geomspace(0.03, 0.3, 10))
LADDER = np.array([1e-5, 4e-5, 1e-4, 5e-4, 1e-3])
EXPONENTS = {
    "mean_exponent": 1.0,
    "deviation_exponent": 1.0,
    "half_time_exponent": 0.0,
    "rate_times_temperature_exponent": 0.0,
    "mean_rate_times_temperature": 1.0,
    "mean_fluctuation_relation": 1.0,
}


def scans(make, temperatures, count, chains, draws):
    """Independent scans: each temperature labelled with its repeat, all summarised in one call."""
    marks = 1 + 1e-9 * np.arange(count)
    series = np.concatenate([make(t, count * chains, draws) for t in temperatures])
    where = np.repeat(np.multiply.outer(temperatures, marks).ravel(), chains)
    whole = summary(series, where, by="temperature", discard=0)
    for i in range(count):
        yield temperature_scan(whole.isel(temperature=np.arange(len(temperatures)) * count + i))


def scan_of(make, temperatures, chains, draws):
    series = np.concatenate([make(t, chains, draws) for t in temperatures])
    return temperature_scan(summary(series, np.repeat(temperatures, chains), by="temperature", discard=0))


def springs(seed):
    rng = np.random.default_rng(seed)
    return lambda t, chains, draws: energies(rng, chains, draws, STIFFNESS, t)


def wall(seed):
    rng = np.random.default_rng(seed)
    return lambda t, chains, draws: wall_energies(rng, (chains, draws), t, a=1.0, prefactor=1.0, cutoff=20.0)


@pytest.mark.parametrize("chains", [1, 4])
def test_intervals_of_a_quadratic(chains):
    inside = {name: [] for name in EXPONENTS}
    relation, p_values = [], []
    for scan in scans(springs(chains), LADDER, 200, chains, 3200 // chains):
        for name, value in EXPONENTS.items():
            inside[name].append(abs(float(z_scores(scan, name, value))) < 1.96)
        if scan.used.to_numpy().all():
            relation.append(np.abs(z_scores(scan, "fluctuation_relation", 1.0)) < 1.96)
        p_values.append(float(scan.fluctuation_relation_p_value))
    share = {name: np.mean(values) for name, values in inside.items()}
    assert all(LOWEST < s < HIGHEST for s in share.values()), share
    assert LOWEST < np.mean(relation) < HIGHEST
    assert np.mean(np.array(p_values) < 0.05) < 0.1
    assert np.mean(np.array(p_values) < 0.5) > 0.2


@pytest.mark.parametrize(("power", "slowing"), [(0.7, 0.0), (1.6, -0.5), (1.0, -1.0)])
def test_exponents_are_recovered(power, slowing):
    """Energies T^power times a Gamma variable, from springs whose stiffness goes as T^-slowing."""
    rng = np.random.default_rng(5)
    temperatures = np.array([0.5, 0.8, 1.3, 2.0])

    def make(t, chains, draws):
        stiffness = 0.08 * np.ones(8) * t**-slowing
        return t**power * energies(rng, chains, draws, stiffness)

    scan = scan_of(make, temperatures, 8, 12_000)
    expected = {"mean_exponent": power, "deviation_exponent": power, "half_time_exponent": slowing}
    for name, value in expected.items():
        assert abs(float(z_scores(scan, name, value))) < Z_MAX, name
        assert abs(float(z_scores(scan, name, value + 0.5))) > Z_CONTROL, name
    # mu = A T^p in equilibrium has var = p A T^(p+1); these energies do not, unless p = 1.
    if power == 1.0:
        assert float(scan.fluctuation_relation_p_value) > P_MIN
    else:
        assert float(scan.fluctuation_relation_p_value) < P_CONTROL


def test_prefactors_belong_to_the_reference_temperature():
    scan = scan_of(springs(6), LADDER, 4, 2000)
    reference = float(scan.reference_temperature)
    assert reference == pytest.approx(np.exp(np.log(LADDER).mean()))
    assert abs(float(z_scores(scan, "mean_prefactor", 5.0 * reference))) < Z_MAX


def test_fluctuation_relation_holds_where_the_power_law_does_not():
    """An exponential wall: beta T is not 1 and the mean no power law, yet var = T^2 d mu/dT."""
    temperatures = np.geomspace(1e-7, 1e-4, 7)
    scan = scan_of(wall(7), temperatures, 8, 20_000)
    assert float(scan.fluctuation_relation_p_value) > P_MIN
    assert np.abs(z_scores(scan, "fluctuation_relation", 1.0)).max() < Z_MAX
    assert abs(float(z_scores(scan, "mean_fluctuation_relation", 1.0))) < Z_MAX
    assert abs(float(z_scores(scan, "mean_rate_times_temperature", 1.0))) > Z_CONTROL
    # <l> = T / (ln T + 20 - gamma) to leading order: the local exponent is less than 1.
    assert float(z_scores(scan, "mean_exponent", 1.0)) < -Z_CONTROL


@pytest.mark.parametrize("wrong", ["T dmu/dT", "variance"])
def test_a_wrong_fluctuation_relation_is_rejected(wrong):
    series = np.concatenate([springs(8)(t, 4, 3000) for t in LADDER])
    whole = summary(series, np.repeat(LADDER, 4), by="temperature", discard=0)
    right = temperature_scan(whole)
    assert float(right.fluctuation_relation_p_value) > P_MIN
    factor = whole.temperature / LADDER[0] if wrong == "T dmu/dT" else xr.full_like(whole["variance"], 2.0)
    spoiled = whole.assign({name: whole[name] * factor for name in ("variance", "variance_stderr")})
    assert float(temperature_scan(spoiled).fluctuation_relation_p_value) < P_CONTROL


def test_length_scale_and_deviation():
    scan = scan_of(springs(9), LADDER, 2, 3000)
    np.testing.assert_allclose(scan.length_scale, np.sqrt(LADDER * scan.half_time))
    np.testing.assert_allclose(
        scan.length_scale_stderr / scan.length_scale, 0.5 * scan.half_time_stderr / scan.half_time
    )
    np.testing.assert_allclose(scan.deviation, LADDER * np.sqrt(5.0), rtol=0.2)


def drifting(series, rows):
    series = series.copy()
    series[rows] *= np.linspace(0.3, 1.7, series.shape[1])
    return series


def test_only_sound_temperatures_are_used():
    series = np.concatenate([springs(10)(t, 4, 3000) for t in LADDER])
    where = np.repeat(LADDER, 4)
    spoiled = temperature_scan(summary(drifting(series, slice(16, 20)), where, by="temperature", discard=0))
    assert spoiled.used.to_numpy().tolist() == [True, True, True, True, False]
    assert spoiled.sizes["temperature"] == 5
    assert "T = 0.001 (" in spoiled.attrs["left_out"]
    assert "halves differ" in spoiled.attrs["left_out"]
    assert np.isnan(spoiled.fluctuation_relation[4])
    sound = temperature_scan(summary(series[:16], where[:16], by="temperature", discard=0))
    for name in ("mean_exponent", "mean_exponent_stderr", "mean_fluctuation_relation"):
        assert float(spoiled[name]) == pytest.approx(float(sound[name]))


def test_too_few_temperatures_are_named():
    series = np.concatenate([springs(11)(t, 4, 3000) for t in LADDER[:3]])
    where = np.repeat(LADDER[:3], 4)
    with pytest.raises(ConfigError, match=r"two usable temperatures, got 1; left out: T = 4e-05 .*; T = 0.0001 \("):
        temperature_scan(summary(drifting(series, slice(4, 12)), where, by="temperature", discard=0))
    short = summary(series[:, :40], where, by="temperature", discard=0)
    with pytest.raises(ConfigError, match="shorter than 50 correlation times"):
        temperature_scan(short)


def test_two_temperatures_give_exponents_but_no_relation():
    scan = scan_of(springs(12), LADDER[:2], 4, 3000)
    assert abs(float(z_scores(scan, "mean_exponent", 1.0))) < Z_MAX
    assert np.isnan(scan.fluctuation_relation).all()
    assert np.isnan(scan.fluctuation_relation_chi2)


def test_only_summaries_by_temperature_are_taken():
    series = springs(13)(1.0, 4, 2000)
    with pytest.raises(ConfigError, match="by="):
        temperature_scan(summary(series, 1.0))
    with pytest.raises(ConfigError, match="lacks"):
        temperature_scan(xr.Dataset(coords={"temperature": [1.0, 2.0]}))


def test_a_scan_is_described_and_can_be_stored(tmp_path):
    scan = scan_of(springs(14), LADDER, 2, 2500)
    for name, variable in scan.variables.items():
        assert {"long_name", "units"} <= set(variable.attrs), name
    unaccompanied = {"fluctuation_relation_z", "fluctuation_relation_chi2", "fluctuation_relation_p_value"}
    for name in scan:
        if scan[name].dtype.kind == "f" and not name.endswith("_stderr") and name not in unaccompanied:
            assert f"{name}_stderr" in scan, name
    scan.to_netcdf(tmp_path / "scan.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "scan.nc") as stored:
        xr.testing.assert_allclose(stored.load(), scan)
