"""Pooled chains: those that disagree say so, those that never moved have no error, short independent ones have one."""

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter
from scipy.special import ndtr

import landscape as ls
from landscape import potentials
from landscape.probes import fluctuations, free_energy
from landscape.probes.free_energy.averages import averages, forgotten, resolution
from tests.probes.processes import HIGHEST, LOWEST, ar1, labels

T = 0.1


def exact_bins(edges):
    theory = -T * np.log(np.diff(ndtr(edges)))
    return theory - theory.mean()


def profiles(series, groups, bins=6, reach=1.5):
    """Profiles of each group of chains about their mean: off from the exact ones, errors, agreement."""
    chains = len(series) // groups
    theory = exact_bins(np.linspace(-reach, reach, bins + 1))
    found = [
        free_energy.profile(series[g * chains : (g + 1) * chains], T, bins=bins, range=(-reach, reach), zero="mean")
        for g in range(groups)
    ]
    off = np.array([one.free_energy.to_numpy() - theory for one in found])
    errors = np.array([one.free_energy_stderr.to_numpy() for one in found])
    return off, errors, np.array([bool(one.chains_agree) for one in found])


# -- too careful is wrong too ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chains", "lengths"), [(20, 11.0), (8, 30.0), (40, 5.0), (16, 200.0)])
@pytest.mark.always
def test_short_independent_chains_have_errors(chains, lengths):
    """Chains of so many relaxation times, each from the exact law: their scatter is the error."""
    rng, draws = np.random.default_rng(int(lengths)), 400
    series = ar1(rng, (200 * chains, draws), np.exp(-lengths / draws))
    off, errors, agree = profiles(series, 200)
    finite = np.isfinite(errors).all(axis=1)
    assert finite.mean() > 0.97
    share = (np.abs(off) < 1.96 * errors)[finite].mean(axis=0)
    assert share.mean() >= LOWEST
    assert share.mean() <= HIGHEST
    assert (np.abs(off) < 0.98 * errors)[finite].mean() < 0.85
    assert agree.mean() > 0.95


@pytest.mark.parametrize(("chains", "lengths"), [(1, 300.0), (2, 100.0), (5, 60.0)])
def test_few_chains_have_errors_by_correlations(chains, lengths):
    rng, draws = np.random.default_rng(chains), 3000
    series = ar1(rng, (200 * chains, draws), np.exp(-lengths / draws))
    off, errors, agree = profiles(series, 200)
    finite = np.isfinite(errors).all(axis=1)
    assert finite.mean() > 0.9
    share = (np.abs(off) < 1.96 * errors)[finite].mean(axis=0)
    assert LOWEST <= share.mean() <= HIGHEST
    assert agree.mean() > 0.95
    blocks = series.reshape(200, chains * 20, -1)  # what twenty blocks of each would say
    inside = ((blocks > 0.0) & (blocks < 0.5)).mean(axis=2)
    naive = inside.std(axis=1, ddof=1) / np.sqrt(inside.shape[1])
    actual = inside.mean(axis=1).std(ddof=1)
    assert naive.mean() < 0.95 * actual or lengths > 60.0


def test_chains_from_a_common_start_have_none():
    """Shorter than a relaxation, all from one point: their scatter says nothing."""
    rng = np.random.default_rng(1)
    steps = 0.02 * rng.standard_normal((30, 300))
    found = resolution(np.cumsum(steps, axis=1), np.zeros(30, dtype=np.intp))
    assert float(found.times[0]) == 0.0
    drifting = ar1(rng, (30, 300), 0.99) + np.linspace(0.0, 3.0, 300)
    assert float(resolution(drifting, np.zeros(30, dtype=np.intp)).times[0]) == 0.0
    steady = resolution(ar1(rng, (30, 300), np.exp(-8 / 300)), np.zeros(30, dtype=np.intp))
    assert 240 / 2.5 < float(steady.times[0]) < 240 * 1.5  # thirty chains of eight times each
    assert np.isnan(averages(np.cumsum(steps, axis=1)[None]).stderr).all()


ALARMS = [(20, 11.0, 0.02), (8, 30.0, 0.02), (20, 200.0, 0.02), (4, 30.0, 0.04), (1, 100.0, 0.05), (1, 11.0, 0.09)]


@pytest.mark.parametrize(("chains", "lengths", "most"), ALARMS)
def test_a_stationary_run_is_not_cut(chains, lengths, most):
    """False alarms of the equilibration test, as its docstring states them; and relaxations that are found."""
    rng, draws, groups = np.random.default_rng(7), 800, 300
    rate = np.exp(-lengths / draws)
    x = ar1(rng, (groups * chains, draws), rate)
    where = labels(1.0, groups, chains)
    found = fluctuations.equilibration(x, temperature=where, by="temperature")
    assert float((found.start > 0).mean()) <= most + 2.0 * np.sqrt(most / groups)
    if lengths >= 30.0:
        relaxing = x + 4.0 * np.exp(-np.arange(draws) * 2.0 * lengths / draws)
        found = fluctuations.equilibration(relaxing, temperature=where, by="temperature")
        assert float((found.start > 0).mean()) > (0.8 if chains > 1 else 0.5)


# -- chains that do not agree ---------------------------------------------------------------------------------------


def test_chains_in_two_wells_say_so():
    """20 T between the wells: three chains on the left, one on the right; the truth is 0."""
    well, start = potentials.DoubleWell(height=1.0), np.array([[-1.0], [-1.0], [-1.0], [1.0]])
    run = ls.simulate(well, ls.MALA(dt=0.02), temperature=0.05, start=start, steps=20_000, record=ls.Record(10), seed=1)
    settings = {"coordinate": "x", "bins": 30, "range": (-1.5, 1.5), "zero": -0.95}
    found = free_energy.profile(run, 0.05, **settings)
    there = found.sel(x=0.95, method="nearest")
    assert not bool(found.chains_agree) and not bool(found.resolved)
    summary = fluctuations.summary(run.position.sel(coordinate="x"), by="temperature")
    assert not bool(summary.chains_agree[0]) and not bool(summary.resolved[0])
    assert abs(float(there.free_energy)) < 1.96 * float(there.free_energy_stderr)
    assert float(there.free_energy_stderr) > 0.03
    left = free_energy.profile(run.isel(chain=slice(0, 3)), 0.05, **settings)
    assert bool(left.chains_agree) and bool(left.resolved)
    assert np.isfinite(float(left.free_energy_stderr.sel(x=-1.05, method="nearest")))
    two = free_energy.profile(run.isel(chain=slice(2, 4)), 0.05, **settings)
    assert not bool(two.chains_agree)
    assert bool(np.isnan(two.free_energy_stderr).all())


def test_averages_and_counts_of_chains_that_disagree():
    rng = np.random.default_rng(4)
    same = 0.1 * rng.standard_normal((1, 10, 1000))
    apart = same + np.where(np.arange(10) < 7, -1.0, 1.0)[None, :, None]
    assert averages(same).agree.all()
    found = averages(apart)
    assert not found.agree.any()
    assert float(found.stderr[0]) > 0.25
    counts = [np.stack([np.histogram(row, 8, (-2.0, 2.0))[0] for row in one[0]]) for one in (same, apart)]
    bins = {"dims": ("chain", "x_bin"), "coords": {"x_bin": np.linspace(-1.75, 1.75, 8)}}
    together, parted = (free_energy.profile(xr.DataArray(one, **bins), T) for one in counts)
    assert bool(together.chains_agree) and not bool(parted.chains_agree)


def test_every_probe_of_runs_says_whether_chains_agree():
    spring = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})
    found = [
        free_energy.thermodynamic_integration(spring, "k", [1.0, 2.0], T, chains=8, steps=200),
        free_energy.thermodynamic_integration(spring, "temperature", [T, 2 * T], chains=8, steps=200),
        free_energy.mean_force(potentials.Valley("1 + y**2"), "y", [0.5, 1.0], T, chains=8, steps=80),
        free_energy.umbrella(spring, "x", [0.0, 0.3], T, chains=8, steps=400),
    ]
    for one in found:
        assert one.chains_agree.dtype == bool
        assert not (one.resolved & ~one.chains_agree).any()


# -- chains that never moved ----------------------------------------------------------------------------------------


def test_chains_that_never_moved_have_no_error():
    stiff = potentials.Expression("1e6*x**2/2", ["x"])
    run = ls.simulate(stiff, ls.MALA(dt=0.1), temperature=1.0, chains=10, steps=400, start=[1.0], seed=1)
    found = fluctuations.summary(run.energy, by="temperature")
    assert bool(np.isnan(found.mean_stderr).all())
    assert bool(np.isnan(found.variance_stderr).all())
    assert not bool(found.resolved[0])


@pytest.mark.parametrize(
    ("places", "agree"),
    [([1.0, 2.0, 5.0, 9.0], False), ([1.0, 1.0, 1.0, 9.0], False), ([0.1] * 10, True), ([1.0, 2.0], False)],
)
def test_stuck_chains(places, agree):
    found = fluctuations.summary(np.repeat(np.array(places)[:, None], 2000, axis=1), 1.0, by="temperature")
    assert bool(found.chains_agree[0]) == agree
    assert not bool(found.resolved[0])
    different = len(set(places)) == len(places) >= 4
    assert bool(np.isfinite(found.mean_stderr[0])) == different


def test_chains_that_barely_move_do_not_agree():
    rng = np.random.default_rng(3)
    walks = 1e-3 * np.cumsum(rng.standard_normal((4, 2000)), axis=1) + np.array([1.0, 2.0, 5.0, 9.0])[:, None]
    assert not bool(fluctuations.summary(walks, 1.0, by="temperature").chains_agree[0])
    together = ar1(rng, (200 * 4, 1000), 0.9)
    assert float(fluctuations.summary(together, labels(1.0, 200, 4), by="temperature").chains_agree.mean()) > 0.97


def test_participation_of_chains_that_disagree():
    rng = np.random.default_rng(5)
    losses = rng.gamma(1.0, 1.0, (4, 500, 20))
    losses[3, :, 5:] *= 1e-3
    found = fluctuations.participation_ratio(losses, 1.0, by="temperature")
    assert not bool(found.chains_agree[0])
    assert bool(fluctuations.participation_ratio(losses[:3], 1.0, by="temperature").chains_agree[0])


def test_groups_whose_chains_alternate_are_read_in_their_order():
    """Ladders of replica exchange: chain k has temperature k mod 3, and the last one the highest number."""
    rng, heat = np.random.default_rng(3), np.tile([1.0, 2.0, 4.0], 8)
    energies = heat[:, None] * rng.gamma(5.0, 1.0, (24, 400))
    found = fluctuations.summary(energies, heat, by="temperature", discard=0)
    for order in (np.argsort(heat, kind="stable"), rng.permutation(24)):
        same = fluctuations.summary(energies[order], heat[order], by="temperature", discard=0)
        assert np.allclose(found["mean"], same["mean"])
        assert np.allclose(found.variance, same.variance)
    z = (found["mean"] - 5.0 * found.temperature) / found.mean_stderr
    assert float(abs(z).max()) < 4.5
    assert float(abs((found["mean"] - found["mean"].mean()) / found.mean_stderr).min()) > 8  # one pool of all
    assert resolution(energies, np.arange(24) % 3).agree.all()


def from_one_point(rng, groups, chains, draws, lengths, start=0.0):
    """Chains of a normal law, all from one point."""
    rate = np.exp(-lengths / draws)
    noise = np.sqrt(1 - rate**2) * rng.standard_normal((groups * chains, draws))
    noise[:, 0] += rate * start
    return lfilter([1.0], [1.0, -rate], noise, axis=-1)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_chains_that_forgot_their_common_start_have_errors(start):
    """Sixty chains of eleven relaxation times from one point; what is left of it is left out."""
    off, errors, _ = profiles(from_one_point(np.random.default_rng(11), 200, 60, 200, 11.0, start), 200)
    finite = np.isfinite(errors).all(axis=1)
    assert finite.mean() > 0.8
    assert LOWEST <= (np.abs(off) < 1.96 * errors)[finite].mean() <= HIGHEST
    assert (np.abs(off) < 0.98 * errors)[finite].mean() < 0.85


@pytest.mark.parametrize(("chains", "lengths"), [(40, 0.3), (60, 1.0), (8, 0.5)])
def test_chains_that_did_not_forget_their_common_start_have_none(chains, lengths):
    series = from_one_point(np.random.default_rng(12), 40, chains, 200, lengths, -1.0)
    _, errors, _ = profiles(series, 40)
    assert np.isnan(errors).all(axis=1).mean() > 0.95
    # eight chains tell less of their spread; what they give in its place has no error, as above
    assert sum(forgotten(series[chains * g : chains * (g + 1)]) > 0 for g in range(20)) <= (2 if chains > 8 else 6)


def test_draws_that_remember_the_start_are_not_counted():
    series = from_one_point(np.random.default_rng(13), 1, 60, 200, 11.0)
    found = free_energy.profile(series, T, bins=6, range=(-1.5, 1.5))
    assert 10 <= found.attrs["discarded"] <= 60
    late = free_energy.profile(series[:, found.attrs["discarded"] :], T, bins=6, range=(-1.5, 1.5))
    assert np.array_equal(found["count"], late["count"])
    assert free_energy.profile(ar1(np.random.default_rng(14), (60, 200), 0.9), T).attrs["discarded"] == 0
