"""Streaming observers: the same bits in any blocks, the same numbers as after the fact, errors that cover."""

import itertools
import json
import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import landscape as ls
from landscape.errors import ConfigError, LandscapeError, ShapeError
from landscape.observers.blocking import level_sums, standard_error
from tests.cases import Z_CONTROL, Z_MAX, z_score
from tests.probes.processes import HIGHEST, LOWEST, ar1


def radius(potential, position):
    return position.norm(dim=-1)


OBSERVERS = {
    "moments": (ls.Moments("x"), 1),
    "moments of many": (ls.Moments("position"), 3),
    "covariance": (ls.Moments(["x", "y", "z"], covariance=True), 3),
    "histogram": (ls.Histogram("x", bins=7, range=(-1.0, 2.0)), 1),
    "histogram of two": (ls.Histogram(["x", "y"], bins=(5, 4), range=[(-1, 2), (-3, 3)]), 2),
    "autocorrelation": (ls.Autocorrelation("energy", points=6, levels=4), 1),
    "autocorrelation of two": (ls.Autocorrelation(["x", "y"], points=4, levels=5), 2),
    "residence": (ls.Residence("x", edges=[-0.5, 0.5]), 1),
    "core sets": (ls.CoreSets({"A": "x < 0", "B": "x > 0.5"}), 1),
    "core sets of two": (ls.CoreSets({"A": "x**2 + y**2 < 0.1", "B": "x > 0.9", "C": "x < -1"}), 2),
}
EVERY = pytest.mark.parametrize(("observer", "width"), OBSERVERS.values(), ids=list(OBSERVERS))


def series(chains, draws, width=1, rho=0.8, seed=0):
    """Correlated columns around different means, ``(chain, draw, column)``."""
    columns = ar1(np.random.default_rng(seed), (chains, width, draws), rho)
    columns = columns + 0.3 * columns[:, :1] + 0.5 * np.arange(width)[:, None]
    return np.ascontiguousarray(np.moveaxis(columns, 1, 2))


def results(accumulator, spacing=0.1):
    return accumulator.result("x", spacing)


def assert_same_bits(first, second):
    assert list(first) == list(second)
    for name, (dims, values, attributes) in first.items():
        assert dims == second[name][0]
        assert attributes == second[name][2]
        np.testing.assert_array_equal(values, second[name][1], err_msg=name)


# -- what all have in common ------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_leave_no_trace(observer, width, dtype):
    data = series(3, 700, width).astype(dtype)
    whole = observer.accumulator(3, width)
    whole.update(data)
    cuts = np.unique(np.random.default_rng(1).integers(0, 700, 40))
    pieces = observer.accumulator(3, width)
    for low, high in itertools.pairwise([0, *cuts.tolist(), 700]):
        pieces.update(data[:, low:high])
    assert pieces.samples == whole.samples == 700
    assert_same_bits(results(pieces), results(whole))


@EVERY
@pytest.mark.parametrize("at", [0, 1, 255, 512])
def test_an_interrupted_run_goes_on_to_the_same_bits(observer, width, at):
    data = series(2, 600, width)
    whole, first, second = (observer.accumulator(2, width) for _ in range(3))
    whole.update(data)
    first.update(data[:, :at])
    kept = first.arrays()
    assert all(len(array) == 2 for array in kept.values())
    first.update(data[:, at:])  # what was handed out is a copy
    second.load(kept)
    second.update(data[:, at:])
    assert_same_bits(results(second), results(whole))
    assert_same_bits(results(first), results(whole))


@EVERY
def test_chains_do_not_know_each_other(observer, width):
    data = series(4, 300, width)
    alone = observer.apply(data[2:3])
    together = observer.apply(data).isel(chain=slice(2, 3))
    xr.testing.assert_identical(alone, together)


@EVERY
def test_results_make_a_dataset_with_units(observer, width):
    """Also without a single sample, which numpy would warn of."""
    for draws in (0, 1, 2, 300):
        accumulator = observer.accumulator(3, width)
        accumulator.update(series(3, 300, width)[:, :draws])
        found = xr.Dataset(accumulator.result("some", 0.5))
        for name, variable in found.variables.items():
            assert str(name).startswith(("some", "coordinate"))
            assert variable.attrs["long_name"]
            assert variable.dtype.kind == "U" or variable.attrs["units"]
        assert all(variable.dims[0] == "chain" for variable in found.data_vars.values() if "chain" in variable.dims)


@EVERY
def test_memory_does_not_grow(observer, width):
    accumulator = observer.accumulator(1, width)
    sizes = []
    for _ in range(3):
        accumulator.update(series(1, 4000, width))
        sizes.append(sum(array.nbytes for array in accumulator.arrays().values()))
    levels = 4 * 10 * 8 * width * width  # of Moments, two more
    assert sizes[-1] - sizes[0] <= levels


def test_labels_and_specs():
    assert ls.Moments().label == "position"
    assert ls.Moments(["x", "y"]).label == "x_y"
    assert ls.Moments(radius).label == "radius"
    assert ls.Moments(lambda potential, x: x).label == "observable"
    assert ls.Histogram("x", range=(0, 1)).spec() == {"kind": "Histogram", "of": "x", "bins": 60, "range": [0, 1]}
    assert ls.Moments(radius).spec()["of"]["kind"] == "python"
    for observer, _ in OBSERVERS.values():
        spec = json.loads(json.dumps(observer.spec()))
        kind = getattr(ls, spec.pop("kind"))
        assert kind(**spec) == observer
        assert hash(observer) == hash(kind(**spec))
    with pytest.raises(AttributeError):
        ls.Moments().every = 3


def test_names_of_columns():
    data = series(2, 50, 2)
    assert ls.Moments(radius).apply(data[..., 0]).radius_mean.dims == ("chain",)
    assert ls.Moments(radius).apply(data).radius_mean.dims == ("chain", "radius_component")
    assert ls.Moments("position").apply(data).position_mean.dims == ("chain", "coordinate")
    found = ls.Moments(["u", "v"], covariance=True).apply(data, name="pair")
    assert found.pair_component.values.tolist() == found.pair_component_2.values.tolist() == ["u", "v"]
    assert found.pair_mean.sel(pair_component="v").dims == ("chain",)
    assert ls.Autocorrelation(["u", "v"]).apply(data).u_v_autocorrelation.dims == ("chain", "u_v_component", "u_v_lag")
    energy = ls.Moments("energy").apply(data[..., 0])
    assert (energy.energy_mean.units, energy.energy_variance.units) == ("energy", "energy^2")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ls.Moments(3), "of=.*got 3"),
        (lambda: ls.Moments([]), "sequence of different names"),
        (lambda: ls.Moments(["x", "x"]), "different"),
        (lambda: ls.Moments("x", every=0), "every = 0 is not a positive whole number"),
        (lambda: ls.Moments("x", every=True), "every.*True"),
        (lambda: ls.Histogram("x"), r"range=\(low, high\)"),
        (lambda: ls.Histogram("x", range=(1, 0)), "low < high"),
        (lambda: ls.Histogram("x", range=(0, math.inf)), "low < high"),
        (lambda: ls.Histogram("x", range=(0, 1, 2)), "expected"),
        (lambda: ls.Histogram("x", range="ab"), "expected"),
        (lambda: ls.Histogram("x", bins=0, range=(0, 1)), "bins = 0 is not a positive"),
        (lambda: ls.Histogram("x", bins=2.5, range=(0, 1)), "bins.*2.5"),
        (lambda: ls.Histogram(["x", "y"], bins=(2, 3, 4), range=(0, 1)), "for each variable"),
        (lambda: ls.Histogram(["x", "y", "z"], range=(0, 1)).accumulator(1, 3), "one or two columns, got 3"),
        (lambda: ls.Histogram("x", bins=(3, 4), range=(0, 1)).accumulator(1, 1), "1 variable"),
        (lambda: ls.Autocorrelation(points=7), "even, got 7"),
        (lambda: ls.Autocorrelation(points=0), "points"),
        (lambda: ls.Autocorrelation(levels=0), "levels"),
        (lambda: ls.Autocorrelation(levels=41), "from 1 to 40"),
        (lambda: ls.Residence("x", edges=[]), "ascending"),
        (lambda: ls.Residence("x", edges=[1, 1]), "ascending"),
        (lambda: ls.Residence("x", edges="ab"), "ascending"),
        (lambda: ls.Residence("x", edges=[math.nan]), "finite"),
        (lambda: ls.Residence(["x", "y"], edges=[0]).accumulator(1, 2), "one column, got 2"),
        (lambda: ls.Moments("x").accumulator(0, 1), "chains"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_bad_blocks_and_states_are_refused():
    accumulator = ls.Moments("x").accumulator(2, 1)
    for block in (np.zeros((2, 5)), np.zeros((3, 5, 1)), np.zeros((2, 5, 2)), np.zeros((2, 5, 1), int)):
        with pytest.raises(ShapeError, match="expected"):
            accumulator.update(block)
    for other in (
        ls.Moments("x").accumulator(3, 1),
        ls.Moments("x").accumulator(2, 2),
        ls.Autocorrelation("x").accumulator(2, 1),
    ):
        with pytest.raises(ShapeError, match="expected"):
            accumulator.load(other.arrays())
    with pytest.raises(ShapeError, match="chain, draw"):
        ls.Moments("x").apply(np.zeros(5))
    with pytest.raises(LandscapeError, match="spacing"):
        ls.Residence("x", edges=[0]).apply(np.zeros((2, 5)), spacing=[1.0, 2.0, 3.0])


# -- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 2, 3, 7, 64, 65, 1000])
def test_moments_are_those_of_all_samples(draws):
    data = series(3, draws, 3)
    found = ls.Moments("position", covariance=True).apply(data)
    np.testing.assert_allclose(found.position_mean, data.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(found.position_variance, data.var(axis=1), rtol=1e-12, atol=1e-15)
    exact = np.stack([np.cov(chain.T, ddof=0) for chain in data]) if draws > 1 else np.zeros((3, 3, 3))
    np.testing.assert_allclose(found.position_covariance, exact, rtol=1e-12, atol=1e-14)
    diagonal = np.diagonal(found.position_covariance, axis1=1, axis2=2)
    np.testing.assert_array_equal(diagonal, found.position_variance)
    errors = np.diagonal(found.position_covariance_stderr, axis1=1, axis2=2)
    np.testing.assert_array_equal(errors, found.position_variance_stderr)
    assert (found.position_samples == draws).all()


def test_moments_keep_their_digits_far_from_the_origin():
    data = 1e9 + series(2, 5000)
    data[:, 0] = 0.0  # the first sample, which the sums are shifted by, is no help
    found = ls.Moments("x").apply(data)
    exact = data.astype(np.longdouble)
    np.testing.assert_allclose(found.x_variance, exact.var(axis=1)[:, 0].astype(float), rtol=1e-13)
    np.testing.assert_allclose(found.x_mean, exact.mean(axis=1)[:, 0].astype(float), rtol=1e-15)


@pytest.mark.parametrize("draws", [1, 6, 37, 128])
def test_sums_of_every_level_are_those_of_its_blocks(draws):
    data = series(2, draws, 2)
    accumulator = ls.Moments("position", covariance=True).accumulator(2, 2)
    accumulator.update(data)
    _, sums = level_sums(draws, accumulator.state["pair_pending"], accumulator.state["pair_products"])
    x, y = data[..., 0], data[..., 1]
    q = (x - x[:, :1]) * (y - y[:, :1])
    for level in range(draws.bit_length()):
        count = draws >> level
        a, b, c = (v[:, : count << level].reshape(2, count, -1).mean(axis=2) for v in (x, y, q))
        a, b, c = (v - v.mean(axis=1, keepdims=True) for v in (a, b, c))
        direct = np.stack([(u * v).sum(axis=1) for u, v in ((a, b), (c, a), (c, b), (c, c))], axis=-1)
        np.testing.assert_allclose(sums[level, :, 0], direct, rtol=1e-11, atol=1e-13)


def test_the_first_level_that_is_long_enough():
    """B^3 > 2 n (s_l / s_0)^4, by hand; and too short a run gives none."""
    samples = 1024
    blocks = samples >> np.arange(11)
    growth = np.array([1.0, 1.9, 3.5, 6.0, 9.0, 11.0, 12.0, 12.5, 12.6, 12.6, 12.6])  # (s_l / s_0)^2
    sums = growth * blocks * (blocks - 1.0)
    level = next(i for i in range(11) if 8.0**i > 2 * samples * growth[i] ** 2)
    assert level == 7
    found = standard_error(samples, sums)
    student = 2.3646243 / 1.9599640  # 7 degrees of freedom
    assert float(found) == pytest.approx(math.sqrt(growth[level]) * student, rel=1e-7)
    assert math.isnan(standard_error(samples, sums * 4.0 ** np.arange(11)))
    assert float(standard_error(samples, 0.0 * sums)) == 0.0


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95, -0.5])
def test_errors_of_moments_cover(rho):
    """Two columns that share a half: means 1 and -2, variances 1 and 4, covariance 0.6 * 2."""
    repeats, draws = 400, 8000
    rng = np.random.default_rng(5)
    x, other = ar1(rng, (2, repeats, draws), rho)
    data = np.stack([1.0 + x, -2.0 + 2.0 * (0.6 * x + 0.8 * other)], axis=-1)
    found = ls.Moments(["x", "y"], covariance=True).apply(data)
    truth = {"mean": [1.0, -2.0], "variance": [1.0, 4.0], "covariance": [[1.0, 1.2], [1.2, 4.0]]}
    for name, exact in truth.items():
        estimate, error = found[f"x_y_{name}"].values, found[f"x_y_{name}_stderr"].values
        share = (np.abs(estimate - exact) < 1.96 * error).mean(axis=0)
        assert (share > LOWEST).all(), (name, share)
        assert (share < HIGHEST).all(), (name, share)
        assert (np.abs(z_score(estimate, np.array(exact) * (1 - (name != "mean") * _bias(rho, draws)))) < Z_MAX).all()
    assert (np.abs(z_score(found.x_y_variance, 1.05 * np.array([1.0, 4.0]))) > Z_CONTROL).all()
    if rho > 0.5:  # control: samples taken as independent
        naive = np.sqrt(found.x_y_variance / draws)
        assert (np.abs(found.x_y_mean - [1.0, -2.0]) < 1.96 * naive).mean() < 0.75


def _bias(rho, draws):
    """Relative bias of the variance with divisor n: the square of the error of the mean."""
    return (1 + rho) / (1 - rho) / draws


def test_moments_are_those_of_the_probe():
    data = series(6, 20_000, rho=0.9)[..., 0]
    found = ls.Moments("x").apply(data)
    probe = ls.probes.fluctuations.summary(data - data.min() + 1.0, discard=0)
    np.testing.assert_allclose(found.x_mean - data.min() + 1.0, probe["mean"], rtol=1e-12)
    ratio = found.x_mean_stderr / probe.mean_stderr
    assert ((ratio > 0.6) & (ratio < 1.6)).all()
    assert (abs(found.x_variance - probe.variance) < 0.01 * probe.variance).all()  # the probe puts its bias back


# -- histograms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bins", "limits"), [(7, (-1.0, 2.0)), (60, (-3.0, 3.0)), (1, (0.0, 0.3)), (49, (0.1, 0.7))])
def test_histogram_is_numpys(bins, limits):
    """Also for samples on the edges themselves, which rounding puts on either side."""
    edges = np.linspace(*limits, bins + 1)
    on_edges = np.stack([edges, np.nextafter(edges, -9), np.nextafter(edges, 9)]).reshape(1, -1, 1)
    for data in (series(3, 2000), on_edges, on_edges.astype(np.float32)):
        found = ls.Histogram("x", bins=bins, range=limits).apply(data)
        for chain, row in enumerate(data[..., 0].astype(float)):
            np.testing.assert_array_equal(found.x_count[chain], np.histogram(row, edges)[0])
            assert found.x_below[chain] == (row < limits[0]).sum()
            assert found.x_above[chain] == (row > limits[1]).sum()
        assert (found.x_total == data.shape[1]).all()
        np.testing.assert_allclose(found.x_bin, 0.5 * (edges[1:] + edges[:-1]), rtol=1e-15)


def test_histogram_of_two_is_numpys():
    data = series(2, 3000, 2)
    found = ls.Histogram(["x", "y"], bins=(5, 8), range=[(-1, 2), (-2, 1.5)]).apply(data)
    assert found.x_y_count.dims == ("chain", "x_y_x", "x_y_y")
    for chain in range(2):
        exact, x_edges, _ = np.histogram2d(*data[chain].T, bins=(5, 8), range=[(-1, 2), (-2, 1.5)])
        np.testing.assert_array_equal(found.x_y_count[chain], exact)
        np.testing.assert_allclose(found.x_y_x, 0.5 * (x_edges[1:] + x_edges[:-1]))
        assert found.x_y_outside[chain] == 3000 - exact.sum()
    same = ls.Histogram(["x", "y"], bins=5, range=(-1, 2)).apply(data)
    np.testing.assert_array_equal(same.x_y_x, same.x_y_y)


def test_histogram_is_that_of_the_probe():
    data = series(9, 1000)[..., 0]
    found = ls.Histogram("x", bins=20, range=(-2, 2)).apply(data)
    probe = ls.probes.free_energy.profile(data, 0.1, bins=20, range=(-2, 2))
    np.testing.assert_array_equal(found.x_count.sum("chain"), probe["count"])
    np.testing.assert_array_equal(found.x_bin, probe.x)


def test_samples_that_are_not_numbers_are_left_out():
    data = series(2, 100, 2)
    data[1, 40:, 1] = np.nan
    found = ls.Histogram(["x", "y"], bins=3, range=(-9, 9)).apply(data)
    assert found.x_y_total.values.tolist() == [100, 40]
    assert ls.Histogram("y", bins=3, range=(-9, 9)).apply(data[..., 1]).y_total.values.tolist() == [100, 40]
    assert ls.Residence("y", edges=[0.0]).apply(data[..., 1]).y_time.sum("y_cell").values.tolist() == [100.0, 40.0]
    moments = ls.Moments("y").apply(data[..., 1])
    assert np.isnan(moments.y_mean).values.tolist() == [False, True]
    correlated = ls.Autocorrelation("y").apply(data[..., 1])
    assert np.isnan(correlated.y_raw_variance).values.tolist() == [False, True]


# -- autocorrelation --------------------------------------------------------------------------------------------------


def direct(values, mean, lag):
    """1/(n - k) sum (x_t - m)(x_{t-k} - m), chain by chain."""
    deviation = values - mean
    count = values.shape[1] - lag
    return (deviation[:, lag:] * deviation[:, :count]).sum(axis=1) / count


@pytest.mark.parametrize(
    ("points", "levels", "draws"), [(2, 1, 50), (8, 4, 1000), (6, 5, 1023), (16, 3, 20), (4, 9, 3001)]
)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_every_level_is_the_direct_sum_on_averages(points, levels, draws, offset):
    data = offset + series(3, draws)
    found = ls.Autocorrelation("x", points=points, levels=levels).apply(data, spacing=[0.1, 0.2, 0.3])
    mean = data[..., 0].mean(axis=1, keepdims=True)
    expected, lags = [], []
    for level in range(levels):
        count = draws >> level
        averages = data[:, : count << level, 0].reshape(3, count, 1 << level).mean(axis=2)
        for k in range(0 if level == 0 else points // 2, points):
            lags.append(k << level)
            expected.append(direct(averages, mean, k) if k < count else np.full(3, np.nan))
    np.testing.assert_array_equal(found.x_lag, lags)
    np.testing.assert_allclose(found.x_lag_time, np.outer([0.1, 0.2, 0.3], lags), rtol=1e-15)
    exact = np.stack(expected, axis=-1)
    scale = data.var(axis=1)
    np.testing.assert_allclose(found.x_autocovariance / scale, exact / scale, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.x_raw_variance, scale[:, 0], rtol=1e-11)
    np.testing.assert_allclose(found.x_autocorrelation, exact / exact[:, :1], rtol=0, atol=1e-11)


def block_law(rho, lags, points):
    """Correlation of averages over B values of AR(1), from all pairs of values, and B for each lag."""
    law, sizes = [], []
    for place, lag in enumerate(lags):
        size = 1 << max(0, place // (points // 2) - 1)
        shift = np.subtract.outer(np.arange(size), np.arange(size))
        law.append((rho ** np.abs(lag + shift)).mean())
        sizes.append(size)
    return np.array(law), np.array(sizes)


@pytest.mark.parametrize(("rho", "points"), [(0.9, 8), (0.99, 16), (0.5, 4)])
def test_autocorrelation_of_a_known_process(rho, points):
    """Values in 300 chains, errors in each of them, and how much averages blur."""
    chains, draws = 300, 30_000
    data = ar1(np.random.default_rng(3), (chains, draws), rho)
    found = ls.Autocorrelation("x", points=points, levels=4).apply(data)
    exact, sizes = block_law(rho, found.x_lag.values, points)
    bias = (1 + rho) / (1 - rho) / draws  # the square of the error of the mean, which subtracting it removes
    assert (np.abs(z_score(found.x_autocovariance, exact - bias)) < Z_MAX).all()
    assert np.abs(z_score(found.x_autocovariance, 1.05 * (exact - bias))).max() > Z_CONTROL
    for name, truth in (("autocorrelation", exact), ("autocovariance", exact), ("raw_variance", 1.0)):
        error = found[f"x_{name}_stderr"].values
        share = (np.abs(found[f"x_{name}"] - truth) < 1.96 * error).mean("chain").values
        share = share[1:] if name == "autocorrelation" else share  # no error at lag 0
        assert (share > LOWEST).all(), (name, share)
        assert (share < HIGHEST).all(), (name, share)
    time = -1.0 / math.log(rho)
    blurred = np.exp(-found.x_lag.values / time) * (1.0 + (sizes / time) ** 2 / 12.0)
    averaged = (sizes > 1) & (sizes < time)
    np.testing.assert_allclose(exact[averaged], blurred[averaged], rtol=0.02 * rho)
    if points == 16:
        assert (np.abs(exact - rho**found.x_lag.values) < 1e-3).all()


def test_errors_of_autocorrelation_need_long_stretches():
    found = ls.Autocorrelation("x", points=4, levels=6).apply(series(2, 500))
    known = np.isfinite(found.x_autocorrelation_stderr).all("chain")
    assert known[0]
    assert found.x_autocorrelation_stderr[:, 0].values.tolist() == [0.0, 0.0]
    assert not known[found.x_lag >= 16].any()  # 31 stretches of 16 samples
    assert known[found.x_lag < 16].all()
    assert np.isnan(ls.Autocorrelation("x", points=4).apply(series(2, 63)).x_raw_variance_stderr).all()
    short = ls.Autocorrelation("x", points=4).apply(series(50, 2000, rho=0.99))  # 20 integrated correlation times
    assert np.isnan(short.x_autocorrelation_stderr[:, 1]).mean() > 0.5


def test_autocorrelation_is_that_of_the_probe():
    """The probe adds to C(k) the bias from subtracting the mean, the same at all lags; the rest agrees to rounding."""
    data = series(4, 5000, rho=0.9)[..., 0]
    found = ls.Autocorrelation("x", points=16, levels=2).apply(data)
    mine = found.x_autocorrelation.values[:, :16]
    probe = ls.probes.fluctuations.autocorrelation(data, 15).autocorrelation.values
    bias = (probe[:, 1] - mine[:, 1]) / (1.0 - probe[:, 1])
    assert ((bias > 0) & (bias < 0.02)).all()
    np.testing.assert_allclose(probe * (1 + bias[:, None]) - bias[:, None], mine, rtol=0, atol=1e-12)


# -- residence --------------------------------------------------------------------------------------------------------


def followed(values, edges):
    """Cells of one chain, its visits one by one, and its transitions, in plain words."""
    cells = np.searchsorted(edges, values, side="right")
    runs = [(cell, len(list(group))) for cell, group in itertools.groupby(cells.tolist())]
    moves = np.zeros((len(edges) + 1,) * 2, int)
    for (before, _), (after, _) in itertools.pairwise(runs):
        moves[before, after] += 1
    return np.bincount(cells, minlength=len(edges) + 1), runs, moves


@pytest.mark.parametrize("edges", [[0.2], [-1.0, 0.0, 1.5], [50.0]])
def test_residence_is_what_following_by_hand_gives(edges):
    data, spacing = series(3, 800), np.array([0.1, 0.2, 3.0])
    found = ls.Residence("x", edges=edges).apply(data, spacing=spacing)
    assert found.x_cell_low.values.tolist() == [-math.inf, *edges]
    assert found.x_cell_high.values.tolist() == [*edges, math.inf]
    for chain, step in enumerate(spacing):
        spent, runs, moves = followed(data[chain, :, 0], edges)
        one = found.isel(chain=chain)
        np.testing.assert_allclose(one.x_time, spent * step)
        np.testing.assert_array_equal(one.x_transitions, moves)
        assert one.x_start_cell == runs[0][0]
        np.testing.assert_allclose(one.x_first_exit_time, runs[0][1] * step if len(runs) > 1 else np.nan)
        for cell in range(len(edges) + 1):
            lengths = step * np.array([length for where, length in runs[1:-1] if where == cell])
            assert one.x_visits[cell] == len(lengths)
            if len(lengths):
                np.testing.assert_allclose(one.x_residence_time[cell], lengths.mean())
            if len(lengths) > 2:
                degrees = len(lengths) - 1
                plain = lengths.std(ddof=1) / math.sqrt(len(lengths)) * stats.t.ppf(0.975, degrees) / 1.959963984540054
                share = min(plain / lengths.mean(), 0.6)  # times are positive and skewed
                error = plain * math.expm1(1.959963984540054 * share * (1 + share)) / (1.959963984540054 * share)
                np.testing.assert_allclose(one.x_residence_time_stderr[cell], error)
            else:
                assert np.isnan(one.x_residence_time_stderr[cell])


def test_values_on_an_edge_belong_above():
    found = ls.Residence("x", edges=[0.0, 1.0]).apply([[0.0, 1.0, -1e-300]])
    assert found.x_time.values.tolist() == [[1.0, 1.0, 1.0]]


def two_states(chains, draws, leave, seed=0):
    """A chain that leaves state i = 0, 1 with probability leave[i] per sample, begun at equilibrium."""
    rng = np.random.default_rng(seed)
    state = (rng.random(chains) < leave[0] / sum(leave)).astype(int)
    states = np.empty((chains, draws))
    for draw, chance in enumerate(rng.random((draws, chains))):
        states[:, draw] = state
        state = np.where(chance < np.array(leave)[state], 1 - state, state)
    return states


def test_residence_of_a_known_process():
    """Visits of mean length 1/p, occupation by detailed balance, first exits of the same law as visits."""
    leave, step = (0.02, 0.1), 0.25
    data = two_states(400, 5000, leave)
    found = ls.Residence("x", edges=[0.5]).apply(data, spacing=step)
    exact = step / np.array(leave)
    share = (np.abs(found.x_residence_time - exact) < 1.96 * found.x_residence_time_stderr).mean("chain").values
    assert (share > LOWEST).all(), share
    assert (share < HIGHEST).all(), share
    pooled = (found.x_residence_time * found.x_visits).sum("chain") / found.x_visits.sum("chain")
    error = np.sqrt((found.x_residence_time_stderr**2 * found.x_visits**2).sum("chain")) / found.x_visits.sum("chain")
    # a run that ends leaves out the visits it cuts off, the long ones first: by 1/n of a visit's length, relative
    z = (pooled - exact * (1 - exact / step / 5000)) / error
    assert (np.abs(z) < Z_MAX).all()
    assert np.abs((pooled - 1.05 * exact) / error).max() > Z_CONTROL
    occupied = found.x_time / (5000 * step)
    assert (np.abs(z_score(occupied, np.array(leave[::-1]) / sum(leave))) < Z_MAX).all()
    for cell in (0, 1):
        begun = found.x_first_exit_time[found.x_start_cell == cell]
        assert abs(z_score(begun, exact[cell])) < Z_MAX
    assert (found.x_transitions.sum(["x_cell", "x_next_cell"]) == np.abs(np.diff(data, axis=1)).sum(axis=1)).all()
