"""What a record cannot tell: times below its spacing, wells that were hardly visited, and what would be needed."""

import sys

import numpy as np
import pytest
import xarray as xr

from landscape.common.flags import remarks
from landscape.probes import curvature, rates
from landscape.probes.estimation import estimates as _estimation
from landscape.probes.fluctuations import half_time, summary, temperature_scan
from landscape.probes.free_energy import profile
from tests.probes.processes import ar1

# -- half times and the spacing of draws ------------------------------------------------------------------------------


def quartic(rng, chains, steps, ds):
    """Energy x^4 of overdamped chains at T = 1; at T it is T times as high, and all times are T^(-1/2) as long."""
    x, out = 0.7 * rng.standard_normal(chains), np.empty((steps, chains))
    noise = np.sqrt(2 * ds)
    for number in range(-300, steps):
        x += noise * rng.standard_normal(chains) - 4 * ds * x**3
        out[max(number, 0)] = x**4
    return out.T


REPEATS, CHAINS, DRAWS = 40, 2, 1500


@pytest.fixture(scope="module")
def quartics():
    return quartic(np.random.default_rng(1), 3 * REPEATS * CHAINS, 20 * DRAWS, 0.008)


def exponents(energy, strides):
    """Exponent of the half time over temperature with its error, `REPEATS` times, and whether records are fine.

    A record of spacing h at T is one of h sqrt(T) at T = 1.
    """
    values, errors, fine = [], [], []
    rows = energy.reshape(REPEATS, 3, CHAINS, -1)
    for repeat in range(REPEATS):
        series = [rows[repeat, j, :, : DRAWS * s : s] * s**2 for j, s in enumerate(strides)]
        temperature = np.repeat(np.square(strides, dtype=float), CHAINS)
        found = summary(np.concatenate(series), temperature, by="temperature", discard=0)
        scan = temperature_scan(found)
        values.append(float(scan.half_time_exponent))
        errors.append(float(scan.half_time_exponent_stderr))
        fine.append(found.fine.to_numpy())
    return np.array(values), np.array(errors), np.mean(fine, axis=0)


@pytest.mark.parametrize(("strides", "coarse"), [((1, 2, 4), 0), ((3, 10, 20), 2)])
def test_the_exponent_of_the_half_time_is_covered_at_any_spacing(quartics, strides, coarse):
    """Overdamped x^4: tau ~ T^(-1/2), the half time being 6 steps; the control interpolates as if nothing bent."""
    value, error, fine = exponents(quartics, strides)
    known = np.isfinite(error)
    share = np.mean(np.abs(value + 0.5)[known] < 1.96 * error[known])
    assert known.mean() > 0.9
    assert share >= 0.9
    assert (fine[: 3 - coarse] > 0.9).all()
    assert (fine[3 - coarse :] < 0.3).all()


def test_without_what_happens_between_draws_the_exponent_is_not_covered(quartics, monkeypatch):
    monkeypatch.setattr(
        sys.modules["landscape.probes.fluctuations.autocorrelation"],
        "interpolation_gap",
        lambda rho, half, stderr: np.zeros(len(rho)),
    )
    value, error, _ = exponents(quartics, (3, 10, 20))
    assert np.mean(np.abs(value + 0.5) < 1.96 * error) < 0.8


def test_an_interpolated_crossing_is_bounded_by_the_lines_beside_it():
    """Sums of exponentials, convex in the logarithm, and the concave 1/(1 + t^2); an exponential has no gap."""
    lag = np.arange(80)
    for spacing in (0.3, 1.0, 3.0, 8.0):
        slow, fast = np.exp(-0.05 * spacing * lag), np.exp(-1.0 * spacing * lag)
        for rho, exact in (
            (fast, np.log(2)),
            (0.5 * slow + 0.5 * fast, 2.24333),
            (1 / (1 + (spacing * lag / 4) ** 2), 4.0),
        ):
            half = _estimation.half_crossing(rho[None])
            gap = _estimation.interpolation_gap(rho[None], half, np.array([1e-12]))
            assert abs(half.value[0] - exact / spacing) <= gap[0] + 1e-4
    half = _estimation.half_crossing(fast[None])
    assert _estimation.interpolation_gap(fast[None], half, np.array([1e-12]))[0] < 1e-6


def test_a_coarse_record_says_how_often_to_draw():
    run = xr.DataArray(
        ar1(np.random.default_rng(3), (4, 4000), 0.3),
        dims=("chain", "draw"),
        coords={"step": ("draw", 10 * np.arange(1, 4001))},
    )
    found = half_time(run, by="temperature", temperature=1.0)
    assert remarks(found) == ["draws too far apart: every 2 steps would do"]  # half of 10 ln(0.5)/ln(0.3) = 5.8
    smooth = run.copy(data=ar1(np.random.default_rng(3), (4, 4000), 0.9))
    assert remarks(half_time(smooth, by="temperature", temperature=1.0)) == []


# -- wells that were hardly visited -----------------------------------------------------------------------------------


def telegraph(rng, chains, draws, leave, back, noise=0.2):
    """0 in one well and 1 in the other with the rates `leave` and `back` a draw, and noise that forgets at once."""
    uniform, state = rng.random((draws, chains)), np.zeros((draws, chains))
    now = np.zeros(chains)
    for number in range(draws):
        rate = np.where(now > 0, back, leave)
        now = np.where(uniform[number] < rate, 1 - now, now)
        state[number] = now
    return state.T, state.T + noise * rng.standard_normal((chains, draws))


def test_few_crossings_resolve_nothing():
    """A well of weight 1/11, visited a few times: what is resolved and wrong is rare; crossings are those that were."""
    state, series = telegraph(np.random.default_rng(4), 120, 8000, 1 / 2000, 1 / 200)
    crossed = np.abs(np.diff(state, axis=1)).sum(axis=1)
    found = summary(series, 1.0, discard=0)
    seen, resolved = crossed > 0, found.resolved.to_numpy()
    wrong = ~(np.abs(found["mean"] - 1 / 11) < 1.96 * found.mean_stderr).to_numpy()
    assert np.mean(resolved & seen) < 0.08
    assert np.mean(resolved & seen & wrong) < 0.05
    told = found.correlation_times.to_numpy() / 2.5
    counted = seen & ~resolved & (told < 20) & (told == told.round())  # the others are too short in any case
    assert counted.mean() > 0.4
    assert np.mean(np.abs(told - crossed)[counted] <= 2) > 0.7
    assert np.isnan(found.mean_stderr[seen & ~resolved]).all()
    assert (found.steps_needed[seen & ~resolved] > 8000).all()


def test_many_crossings_do():
    state, series = telegraph(np.random.default_rng(5), 60, 16_000, 1 / 200, 1 / 100)
    found = summary(series, 1.0, discard=0)
    assert np.abs(np.diff(state, axis=1)).sum(axis=1).min() > 20
    assert found.resolved.to_numpy().mean() > 0.95
    inside = np.abs(found["mean"] - 1 / 3) < 1.96 * found.mean_stderr
    assert inside.to_numpy().mean() > 0.88


def test_without_crossings_chains_vouch_for_what_they_saw_once(monkeypatch):
    monkeypatch.setattr(_estimation, "crossings", lambda bundle, asked: np.full(bundle.size, np.inf))
    _, series = telegraph(np.random.default_rng(4), 120, 8000, 1 / 2000, 1 / 200)
    found = summary(series, 1.0, discard=0)
    wrong = ~(np.abs(found["mean"] - 1 / 11) < 1.96 * found.mean_stderr).to_numpy()
    assert np.mean(found.resolved.to_numpy() & wrong) > 0.15


@pytest.mark.parametrize("law", [lambda x: x, lambda x: x**2, np.exp])
@pytest.mark.always
def test_one_well_is_not_taken_for_two(law, monkeypatch):
    series = law(ar1(np.random.default_rng(6), (200, 2500), np.exp(-0.1)))
    found = summary(series, discard=0).resolved.to_numpy()
    monkeypatch.setattr(_estimation, "crossings", lambda bundle, asked: np.full(bundle.size, np.inf))
    before = summary(series, discard=0).resolved.to_numpy()
    assert before.mean() > 0.95
    assert np.mean(before & ~found) <= 0.02


def test_a_profile_of_chains_that_crossed_a_few_times_has_no_error():
    _, series = telegraph(np.random.default_rng(7), 2, 8000, 1 / 2000, 1 / 500)
    run = xr.DataArray(series, dims=("chain", "draw"), coords={"step": ("draw", 5 * np.arange(1, 8001))}, name="x")
    found = profile(run, 1.0, bins=8)
    assert not bool(found.resolved)
    assert np.isnan(found.free_energy_stderr).all()
    assert remarks(found)[0].startswith("not resolved: ")
    assert remarks(found)[0].endswith(("steps", "steps it needs"))
    _, often = telegraph(np.random.default_rng(7), 2, 8000, 1 / 100, 1 / 50)
    assert bool(profile(run.copy(data=often), 1.0, bins=8).resolved)


# -- what would be needed ---------------------------------------------------------------------------------------------


def test_the_steps_that_are_needed_are_those_that_resolve():
    """AR(1) of 30 draws: told from a run that is too short within a factor of two; the control has a tenth of them."""
    rng, rho = np.random.default_rng(8), np.exp(-1 / 30)
    short = summary(ar1(rng, (100, 600), rho), 1.0, discard=0)
    known = short.steps_needed.to_numpy()
    typical = float(np.median(known[np.isfinite(known)]))
    assert 1000 < typical < 4000
    for draws, share in ((2 * int(typical), True), (int(typical) // 5, False)):
        assert (summary(ar1(rng, (50, draws), rho), 1.0, discard=0).resolved.to_numpy().mean() > 0.7) == share


def test_rates_say_which_estimator_lacks_what():
    """A chain seen every 200th draw misses transitions; one that never crossed says nothing of either."""
    state, series = telegraph(np.random.default_rng(9), 8, 20_000, 1 / 200, 1 / 200, 0.05)
    cores = {"A": "x < 0.3", "B": "x > 0.7"}
    fine = rates.escape_rate(xr.DataArray(series, dims=("chain", "draw"), name="x"), cores)
    assert fine.resolved.dims == ("temperature", "estimator")
    coarse = rates.escape_rate(xr.DataArray(series[:, ::200], dims=("chain", "draw"), name="x"), cores)
    assert bool(fine.fine.all()) and bool(fine.resolved.all())
    assert not bool(coarse.fine.any()) and not bool(coarse.resolved.any())
    assert (coarse.every_needed < 1).all()
    still = rates.escape_rate(xr.DataArray(np.abs(series - state), dims=("chain", "draw"), name="x"), cores)
    assert not bool(still.resolved.any()) and bool(np.isinf(still.steps_needed).all())


# -- eigenvalues ------------------------------------------------------------------------------------------------------


def test_spectra_with_eigenvalues_that_are_not_finite_are_left_out_and_counted():
    values = np.array([1.0, 1.0, 2.0, 2.0])[:, None, None] * np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 5.0]])
    values[0, 0, 0] = values[2] = np.nan
    given = xr.Dataset({"eigenvalue": (("chain", "snapshot", "eigenvalue"), values)})
    found = curvature.temperature_scaling(given.assign_coords(temperature=("chain", [1.0, 1.0, 2.0, 2.0])))
    assert found.snapshots.values.tolist() == [3, 2]
    assert found.snapshots_dropped.values.tolist() == [1, 2]
    np.testing.assert_allclose(found["median"], [3.0, 6.0])  # of the others of the first spectrum it would be 4


@pytest.mark.parametrize(
    "planted", [(), (4.0, 4.2, 5.0, 5.1, 6.0, 7.0, 8.0, 12.0), (-2.0, -1.5, -1.0, 4.0, 5.0, 5.2, 7.0, 8.0)]
)
@pytest.mark.parametrize("steps", [25, 60])
def test_all_outliers_over_a_bulk_are_marked(planted, steps):
    """Marchenko-Pastur law of ratio 1/2, up to 2.91; without any planted none is marked."""
    rng = np.random.default_rng(11)
    samples = rng.standard_normal((400, 200)) / 20.0
    rotation, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    bulk = np.linalg.eigvalsh(samples.T @ samples)[: 200 - len(planted)]
    matrix = rotation @ np.diag([*bulk, *planted]) @ rotation.T
    ax = curvature.plot_spectral_density(curvature.spectral_density(matrix, probes=4, steps=steps))
    marked = np.concatenate([line.get_xdata() for line in ax.get_lines() if line.get_marker() == "v"])
    np.testing.assert_allclose(marked, sorted(planted), atol=1e-6)
    ax.figure.clear()


def test_layers_are_named_on_the_axis_and_not_joined():
    from landscape.potentials import NetworkLoss, architectures, datasets

    loss = NetworkLoss(
        architectures.mlp((2, 3, 2), seed=0).double(), datasets.random_labels(8, features=2, classes=2, seed=0)
    )
    found = curvature.trace(loss, loss.default_start(), blocks="layer", probes=6)
    ax = curvature.plot_trace(found)
    assert [text.get_text() for text in ax.get_xticklabels()] == [str(name) for name in found.layer.values]
    assert all(line.get_linestyle() in ("None", "none") or not len(line.get_xdata()) for line in ax.get_lines())
    ax.figure.clear()
