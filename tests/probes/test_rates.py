"""Rates between core sets: against exact rates, on both backends; intervals that cover; records that are too coarse."""

import numpy as np
import pytest
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError, FormulaError
from landscape.observers.regions import names_in, read_region
from landscape.probes import rates
from landscape.probes.rates.intervals import fraction_interval, rate_interval
from tests.cases import Z_MAX
from tests.exact_rates import klein_kramers_rate, milestoning_rate

WELL = ls.potentials.DoubleWell()
CORES = {"A": "x < -0.8", "B": "x > 0.8"}
SHIFT = 0.5825971579390106  # a core that is looked at once a step seems further away by this times sqrt(2 T dt)


def telegraph(rng, chains, draws, leave):
    """Two states -1 and 1 that are left with probabilities `leave` a draw, ``(chain, draw)``."""
    state = np.empty((chains, draws), int)
    state[:, 0] = rng.random(chains) < leave[0] / sum(leave)
    for k in range(1, draws):
        flip = rng.random(chains) < np.array(leave)[state[:, k - 1]]
        state[:, k] = state[:, k - 1] ^ flip
    return 2.0 * state - 1.0


def as_run(x, temperature):
    """A run of one coordinate, with a temperature for each group of chains."""
    return xr.Dataset(
        {"position": (("chain", "draw", "coordinate"), x[:, :, None])},
        {"coordinate": ["x"], "temperature": ("chain", temperature), "time": ("draw", 1.0 + np.arange(x.shape[1]))},
    )


# -- regions and what is followed --------------------------------------------------------------------------------------


def test_regions_are_what_they_say():
    points = np.random.default_rng(0).normal(size=(200, 2))
    x, y = points.T
    for text, inside in {
        "x < -0.3": x < -0.3,
        "-1 < x <= 0.5": (x > -1) & (x <= 0.5),
        "x**2 + y**2 < 1 and not y > 0": (x**2 + y**2 < 1) & (y <= 0),
        "(x > 1) | (y > 1)": (x > 1) | (y > 1),
        "exp(-x**2) > pi/4": np.exp(-(x**2)) > np.pi / 4,
    }.items():
        np.testing.assert_array_equal(read_region(text, ["x", "y"])(points), inside)
    np.testing.assert_array_equal(read_region((None, 0.2), ["x"])(points[:, :1]), x <= 0.2)
    assert names_in("sin(b)*a < e and b > 0") == ("b", "a")
    assert not read_region("x < 0", ["x"])(np.array([[np.nan]])).any()


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"cores": {"A": "x < 0"}}, ConfigError, "two or more"),
        ({"cores": {"A": "x", "B": "x > 1"}}, FormulaError, "no condition"),
        ({"cores": {"A": "x <", "B": "x > 1"}}, FormulaError, "cannot read"),
        ({"cores": {"A": "__import__('os') < 1", "B": "x > 1"}}, FormulaError, "os"),
        ({"cores": {"A": (0, 1), "B": (2, 3)}}, ConfigError, "of="),
        ({"cores": {"A": (1, 0), "B": (2, 3)}, "of": "x"}, ConfigError, "below"),
        ({"cores": {"A": 3, "B": "x > 1"}}, ConfigError, "condition"),
    ],
)
def test_cores_that_make_no_sense_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        ls.CoreSets(**given)


def test_cores_that_overlap_are_refused():
    with pytest.raises(ConfigError, match="overlap"):
        ls.CoreSets({"A": "x < 1", "B": "x > 0"}).apply([[0.5]])


def by_hand(x):
    """Transitions, time and life table of one chain, by the definitions."""
    last, dwells, start = [], [], 0
    for value in x:
        last.append(0 if value < -0.8 else 1 if value > 0.8 else (last[-1] if last else -1))
    n, t = np.zeros((2, 2), int), np.bincount([one for one in last if one >= 0], minlength=2)
    for k in range(1, len(last)):
        if last[k] != last[k - 1]:
            if last[k - 1] >= 0:
                n[last[k - 1], last[k]] += 1
            dwells.append((last[k - 1], k - start, True))
            start = k
    dwells.append((last[-1], len(last) - start, False))
    begun = next(k for k, (core, _, _) in enumerate(dwells) if core >= 0) + 1  # the first has no known beginning
    ended, watched = np.zeros((2, 48)), np.zeros((2, 48))
    for core, length, complete in dwells[begun:]:
        for age in range(1, length + 1):
            watched[core, int(np.log2(age))] += 1
        ended[core, int(np.log2(length))] += complete
    return n, t, ended, watched


def test_counts_are_those_of_the_definition():
    x = np.cumsum(np.random.default_rng(3).normal(0.0, 0.3, (4, 900)), axis=1) % 4.0 - 2.0
    x[0, :5] = 0.0
    found = ls.CoreSets(CORES).apply(x)
    for chain in range(4):
        n, t, ended, watched = by_hand(x[chain])
        one = found.isel(chain=chain)
        np.testing.assert_array_equal(one.cores_transitions, n)
        np.testing.assert_array_equal(one.cores_time, t)
        np.testing.assert_array_equal(one.cores_ended, ended)
        np.testing.assert_array_equal(one.cores_watched, watched)
    np.testing.assert_array_equal(
        found.cores_coarse_transitions, ls.CoreSets(CORES).apply(x[:, 1::2]).cores_transitions
    )


# -- rates -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crossing():
    """Many transitions of overdamped motion, by both backends."""
    record = ls.Record(10, ["position", ls.CoreSets(CORES)])
    settings = {"temperature": 0.4, "start": [-1.0], "seed": 4, "record": record}
    return {
        "compiled": ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), chains=64, steps=40_000, **settings),
        "batched": ls.simulate(WELL, ls.EulerMaruyama(dt=0.01), chains=64, steps=400, backend="batched", **settings),
    }


def test_both_backends_follow_the_same_cores(crossing):
    few = ls.simulate(
        WELL, ls.EulerMaruyama(dt=0.01), chains=64, steps=400, temperature=0.4, start=[-1.0], seed=4,
        record=ls.Record(10, ["position", ls.CoreSets(CORES)]),
    )  # fmt: skip
    for name in few.data_vars:
        np.testing.assert_array_equal(few[name], crossing["batched"][name])


def test_rates_are_exact(crossing):
    found = rates.core_sets(crossing["compiled"]).isel(temperature=0)
    exact = milestoning_rate(0.4, 0.8 + SHIFT * np.sqrt(2 * 0.4 * 0.01))
    z = (found.exit_rate - exact) / found.exit_rate_stderr
    assert (abs(z) < Z_MAX).all(), z.values
    assert abs((found.exit_rate.mean() - exact) / found.exit_rate_stderr.mean() * np.sqrt(2)) < Z_MAX
    assert found.transitions.sum() > 1500
    assert bool(found.resolved)
    assert found.exponential.all()
    np.testing.assert_allclose(found.mean_dwell_time * found.exit_rate, 1.0)
    # control: crossings of the barrier's top are many more, and more the more often one looks
    top = rates.core_sets(crossing["compiled"], {"A": "x < 0", "B": "x >= 0"}).isel(temperature=0)
    assert top.exit_rate.mean() > 2 * exact
    assert not bool(top.resolved)


def test_a_record_too_coarse_is_flagged(crossing):
    fine = rates.core_sets(crossing["compiled"], CORES).isel(temperature=0)
    assert bool(fine.resolved)
    coarse = rates.core_sets(crossing["compiled"].isel(draw=slice(None, None, 80)), CORES).isel(temperature=0)
    assert not bool(coarse.resolved)
    assert coarse.missed > 0.1
    assert coarse.exit_rate.mean() < 0.9 * fine.exit_rate.mean()


def test_what_never_happened_has_a_bound():
    x = np.full((4, 1000), -1.0)
    found = rates.core_sets(as_run(x, np.full(4, 0.1)), CORES).isel(temperature=0)
    one = found.sel(core="A", next_core="B")
    assert np.isnan(one.rate)
    assert np.isnan(one.rate_stderr)
    assert one.rate_low == 0
    np.testing.assert_allclose(one.rate_high, -np.log(0.025) / 4000)
    assert np.isinf(found.sel(core="B", next_core="A").rate_high)
    assert not bool(found.resolved)


@pytest.mark.parametrize("events", [3.0, 12.0, 100.0])
def test_intervals_of_counts_cover(events):
    n = np.random.default_rng(1).poisson(events, 20_000)
    _, _, low, high = rate_interval(n, 1.0)
    covered = np.mean((low <= events) & (events <= high))
    assert 0.945 < covered < 0.99
    narrow = np.mean(abs(n - events) <= 1.0 * np.sqrt(n))  # control: one error is no interval
    assert narrow < 0.8


@pytest.mark.parametrize("q", [0.02, 0.5])
def test_intervals_of_fractions_cover(q):
    k = np.random.default_rng(1).binomial(100, q, 20_000)
    _, _, low, high = fraction_interval(k, 100)
    assert 0.93 < np.mean((low <= q) & (q <= high)) < 0.99


def test_errors_of_small_fractions_cover():
    """One shot in twenty arrives: none of thirty in a fifth of the cases, where half of the interval is too little."""
    k = np.random.default_rng(1).binomial(30, 0.05, 20_000)
    value, error, low, high = fraction_interval(k, 30)
    assert 0.9 < np.mean(np.abs(value - 0.05) <= 1.96 * error) <= 1
    assert np.mean(np.abs(value - 0.05) <= (high - low) / 2) < 0.85


@pytest.fixture(scope="module")
def repeated():
    """200 runs of 8 chains with some 40 transitions each, told apart by their temperature."""
    x = telegraph(np.random.default_rng(7), 1600, 1000, (0.004, 0.008))
    return as_run(x, np.repeat(np.arange(200.0), 8))


def test_intervals_of_rates_cover(repeated):
    found = rates.core_sets(repeated, {"A": "x < 0", "B": "x > 0"})
    low, high = (found[name].sel(core="A", next_core="B") for name in ("rate_low", "rate_high"))
    assert 0.90 <= np.mean((low <= 0.004) & (high >= 0.004)) <= 0.99
    wrong = np.mean((low <= 0.007) & (high >= 0.007))
    assert wrong < 0.4


def test_errors_of_few_dwells_cover():
    """Some five transitions in each run: a time whose far end is that of the rate's near one."""
    x = telegraph(np.random.default_rng(8), 200, 1500, (0.004, 0.008))
    found = rates.core_sets(as_run(x, np.arange(200.0)), {"A": "x < 0", "B": "x > 0"}).sel(core="A")
    value, error = found.mean_dwell_time.to_numpy(), found.mean_dwell_time_stderr.to_numpy()
    known = np.isfinite(error)
    assert known.mean() > 0.9 and np.mean(np.abs(value - 250.0)[known] < 1.96 * error[known]) >= 0.9
    symmetric = value**2 * found.exit_rate_stderr.to_numpy()
    assert (error[known] > symmetric[known] - 1e-9).all()
    few = rates.core_sets(as_run(x, np.arange(200.0)), {"A": "x < 0", "B": "x > 0"}).transitions
    few = few.sum(["core", "next_core"]).to_numpy() < 10
    correlated = rates.escape_rate(as_run(x, np.arange(200.0)), {"A": "x < 0", "B": "x > 0"}).correlation_stderr
    assert 0.2 < few.mean() < 0.95
    assert np.isnan(correlated.transpose("temperature", ...).to_numpy()[few]).all()
    assert np.isfinite(correlated.transpose("temperature", ...).to_numpy()[~few]).any()


@pytest.mark.always
def test_errors_of_escape_rates_cover(repeated):
    found = rates.escape_rate(repeated, {"A": "x < 0", "B": "x > 0"})
    exact = -np.log(1.0 - 0.012)  # of the discrete chain
    slow = found.relaxation_rate.sel(estimator="autocovariance")
    inside = abs(slow - exact) < 1.96 * found.relaxation_rate_stderr.sel(estimator="autocovariance")
    assert 0.90 <= inside.mean() <= 0.99, inside.mean()
    assert found.agree.mean() > 0.97


# -- escape ------------------------------------------------------------------------------------------------------------


def test_survival_and_correlations_agree_with_the_exact_rate():
    run = ls.simulate(
        WELL, ls.EulerMaruyama(dt=0.01), temperature=0.25, chains=64, steps=100_000, seed=5,
        record=ls.Record(200, ["position", ls.CoreSets(CORES)]),
    )  # fmt: skip
    found = rates.escape_rate(run, CORES).isel(temperature=0)
    exact = 0.029779593
    z = (found.relaxation_rate - exact) / found.relaxation_rate_stderr
    assert (abs(z) < Z_MAX).all(), z.values
    assert bool(found.agree)
    assert found.exponential.all()
    assert (found.relaxation_rate_stderr < 0.1 * exact).all()


@pytest.mark.parametrize("friction", [0.2, 1.0, 5.0])
def test_the_turnover_of_kramers(friction):
    """Against the eigenvalue of the Klein-Kramers operator, at either side of the maximum and near it."""
    run = ls.simulate(
        WELL, ls.BAOAB(dt=0.05, friction=friction), temperature=0.25, chains=128, steps=20_000, seed=6,
        record=ls.Record(40, ["position", ls.CoreSets(CORES)]),
    )  # fmt: skip
    found = rates.escape_rate(run, CORES).isel(temperature=0)
    exact = klein_kramers_rate(0.25, friction)
    value, error = (
        float(one.sel(estimator="autocovariance")) for one in (found.relaxation_rate, found.relaxation_rate_stderr)
    )
    assert abs(value - exact) < Z_MAX * error
    assert error < 0.15 * exact
    if friction < 0.5:  # what comes back at once is counted by survival alone, and said
        assert not bool(found.agree)
        assert not found.exponential.sel(estimator="survival")
    else:
        assert bool(found.agree)


def test_kramers_rates_of_the_double_well():
    for friction in (0.5, 1.0, 5.0, 20.0):
        ratios = [
            ls.potentials.DoubleWell().kramers_rate(t, friction=friction) / (0.5 * klein_kramers_rate(t, friction))
            for t in (0.25, 0.167)
        ]
        assert all(1.0 < ratio < 1.12 for ratio in ratios)  # corrections of order T/height
        assert friction < 5 or ratios[1] < ratios[0]
    low = klein_kramers_rate(0.25, 0.2)
    assert abs(0.5 * low / WELL.kramers_rate(0.25, friction=0.2) - 1) < 0.15
    assert WELL.kramers_rate(0.25, friction=0.2, regime="spatial") > 0.5 * low * 1.5  # control: no turnover
    assert WELL.kramers_rate(0.25, friction=5.0, regime="energy") > 0.5 * klein_kramers_rate(0.25, 5.0) * 10
    assert abs(100 * 0.5 * klein_kramers_rate(0.25, 100.0) / 0.0148897965 - 1) < 2e-3  # the overdamped limit
    other = ls.potentials.DoubleWell(height=2.0, width=3.0)  # time scales as width/sqrt(height)
    np.testing.assert_allclose(
        other.kramers_rate(0.5, friction=np.sqrt(2) / 3 * 0.7), np.sqrt(2) / 3 * WELL.kramers_rate(0.25, friction=0.7)
    )
    with pytest.raises(ConfigError, match="regime"):
        WELL.kramers_rate(0.25, regime="quantum")
    with pytest.raises(ConfigError, match="friction"):
        WELL.kramers_rate(0.25, friction=-1.0)


# -- by name and from the command line ---------------------------------------------------------------------------------


def test_rates_from_a_specification_and_the_command_line(tmp_path, capsys, crossing):
    from landscape.cli.app import run as command

    spec = {
        "potential": {"kind": "DoubleWell"}, "integrator": {"kind": "EulerMaruyama", "dt": 0.01}, "steps": 4000,
        "chains": 8, "temperature": 0.6, "record": {"every": 100, "observables": [
            "position", {"kind": "CoreSets", "cores": {"A": "x < -0.8", "B": "x > 0.8"}}]},
    }  # fmt: skip
    run = ls.run(spec)
    ls.save(run, tmp_path / "run.nc")
    stored = {"task": "probe", "run": {"file": str(tmp_path / "run.nc")}}
    found = ls.run(stored | {"probe": "rates.core_sets"})
    np.testing.assert_array_equal(found.rate, rates.core_sets(run).rate)
    shots = {"integrator": {"kind": "EulerMaruyama", "dt": 0.01}, "cores": CORES, "temperature": 0.6, "shots": 20}
    middle = ls.run(stored | {"probe": "rates.committor", "variable": "last_position", "settings": shots})
    assert middle.committor.dims == ("chain",)
    arguments = ["probe", "rates", str(tmp_path / "run.nc")]
    assert command(arguments) == 0
    assert command([*arguments, "--core", "A=x < -0.8", "--core", "B=x > 0.8", "-q", "escape_rate"]) == 0
    assert "autocovariance" in capsys.readouterr().out
    assert (tmp_path / "run.core_sets.nc").exists()
    assert command([*arguments, "--core", "A", "--force"]) == 2
