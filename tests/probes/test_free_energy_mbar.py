"""Runs of one's own combined by MBAR: exact free energies, and averages at states that were not simulated."""

import json

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter

import landscape as ls
from landscape import potentials
from landscape.errors import ConfigError, OverlapError, ShapeError
from landscape.probes import free_energy
from landscape.probes.free_energy import reweighting
from landscape.probes.free_energy.averages import Resolution
from landscape.probes.free_energy.multistate import Multistate
from landscape.probes.free_energy.smoothing import Axis
from tests.probes.processes import OwnMBAR

mpl.use("Agg")
GRID = np.linspace(-4.0, 4.0, 4001)


@pytest.fixture
def quick(monkeypatch):
    """Equations solved by the iteration that is held against pymbar elsewhere."""
    monkeypatch.setattr(reweighting, "pymbar_solver", lambda: OwnMBAR)


def correlated(rng, shape, rho=0.5):
    noise = rng.standard_normal(shape)
    noise[..., 0] /= np.sqrt(1 - rho**2)
    return np.sqrt(1 - rho**2) * lfilter([1.0], [1.0, -rho], noise)


def run_of(potential, temperature, position, constraint=None):
    """A run as `simulate` returns it, with these positions ``(chain, draw, coordinate)``."""
    chains = len(position)
    heat = np.broadcast_to(np.asarray(temperature, dtype=float), chains)
    spec = {"task": "simulate", "potential": potential.spec(), "integrator": {"kind": "MALA", "dt": 0.1},
            "chains": chains}  # fmt: skip
    if constraint is not None:
        spec["constraint"] = [one.spec() for one in constraint]
    energy = potential.energy(position.reshape(-1, position.shape[-1])).reshape(position.shape[:2])
    return xr.Dataset(
        {"position": (("chain", "draw", "coordinate"), position), "energy": (("chain", "draw"), np.asarray(energy))},
        {"temperature": ("chain", heat), "chain": np.arange(chains), "coordinate": list(potential.coordinates)},
        {"spec": json.dumps(spec)},
    )  # fmt: skip


def drawn(rng, energy, shape):
    """Independent samples of exp(-energy) on the grid, for `energy` there."""
    weight = np.exp(energy.min() - energy)
    return np.interp(rng.random(shape), np.cumsum(weight) / weight.sum(), GRID)


def off(found, name, exact):
    away, errors = (found[name] - exact).to_numpy(), found[f"{name}_stderr"].to_numpy()
    return np.divide(away, errors, out=np.zeros_like(away), where=errors != 0.0)  # the zero is exact


# -- coverage ----------------------------------------------------------------------------------------------------------


CENTERS, STIFF, HEAT = np.linspace(-2.0, 2.0, 5), 3.0, 0.5


def windows(rng, chains, draws):
    """Springs of 3 on a spring of 1 at T = 1, read at T = 0.5 without them: differences from the exact, and errors."""
    x = (correlated(rng, (5, chains, draws)) / 2.0 + 0.75 * CENTERS[:, None, None]).ravel()
    energies = 0.5 * x**2 + 0.5 * STIFF * (x - CENTERS[:, None]) ** 2
    pool = Multistate(energies, reweighting._reduced(energies, [chains * draws] * 5, chains)[1], list("abcde"), OwnMBAR)
    long = Resolution(np.ones(5, dtype=bool), np.full(5, chains * draws / 1.5), np.ones(5, dtype=bool))  # tau = 3/2
    goals = reweighting._reduced_goals(0.5 * x**2 / HEAT, energies, True)
    axis = Axis("q", np.array([0.0, 0.5, 1.0]), 0.5)
    found = reweighting._of_states(pool, long, {}, 0.0)
    wanted = reweighting._Wanted({"x": x, "square": x**2}, [axis], [x])
    found = found.assign(reweighting._of_goals(pool, long, goals, wanted, 0.0))
    exact = 0.5 * STIFF * CENTERS**2 / (1.0 + STIFF)
    pairs = [
        (found.reduced_free_energy - (exact - exact[0]), found.reduced_free_energy_stderr),
        (found.expectation - [0.0, HEAT], found.expectation_stderr),
        (found.profile - 0.5 * found.q**2 / HEAT, found.profile_stderr),
        (
            found.target_reduced_free_energy + 0.5 * np.log(4.0 * HEAT) + exact[0],
            found.target_reduced_free_energy_stderr,
        ),
    ]
    return [np.concatenate([np.atleast_1d(pair[i]) for pair in pairs]) for i in (0, 1)]


@pytest.mark.parametrize(("chains", "draws"), [(12, 24), (1, 240)])
def test_intervals_hold_the_truth(chains, draws):
    repeats = [windows(np.random.default_rng(100 + seed), chains, draws) for seed in range(200)]
    away, errors = (np.array([one[i] for one in repeats]) for i in (0, 1))
    away, errors = np.delete(away, [0, 7], axis=1), np.delete(errors, [0, 7], axis=1)  # the zeros
    known = np.isfinite(errors)
    assert known.all(axis=1).mean() > 0.8
    share = (np.abs(away) < 1.96 * errors).sum(axis=0) / known.sum(axis=0)
    assert 0.90 <= share.mean() <= 0.985
    assert share.min() > 0.88
    assert ((np.abs(away) < 0.98 * errors).sum() / known.sum()) < 0.9  # errors of half the size would be found out


def test_a_target_beyond_all_samples_has_no_number(quick):
    """Windows on one side alone: half of the law is nowhere seen, though effective samples are many."""
    rng, centers = np.random.default_rng(1), np.array([0.0, 1.0, 2.0])
    for _ in range(5):
        x = (correlated(rng, (3, 12, 100)) / 2.0 + 0.75 * centers[:, None, None]).ravel()
        reduced = 0.5 * x**2 + 0.5 * STIFF * (x - centers[:, None]) ** 2
        found = free_energy.mbar(reduced, [1200] * 3, chains=12, target=0.5 * x**2, observables={"x": x})
        assert not bool(found.target_resolved)
        assert np.isnan(found.expectation).all() and np.isnan(found.target_reduced_free_energy)
        assert np.isfinite(found.reduced_free_energy_stderr).all()


# -- runs --------------------------------------------------------------------------------------------------------------


QUARTIC = potentials.Expression("a*x**4/4 + b*x**2/2", ["x"], {"a": 1.0, "b": -1.0})


def quartic(a=1.0, b=-1.0):
    return a * GRID**4 / 4 + b * GRID**2 / 2


def exact(observable, temperature, **parameters):
    weight = np.exp(-quartic(**parameters) / temperature)
    return float((observable * weight).sum() / weight.sum()), float(np.log(weight.sum() * (GRID[1] - GRID[0])))


def test_temperatures_and_parameters_that_were_not_simulated():
    """Three temperatures in one run, chains in turn as on ladders, against quadrature of the quartic."""
    rng, heats = np.random.default_rng(2), np.tile([0.2, 0.4, 0.8], 10)
    position = np.stack([drawn(rng, quartic() / t, 300) for t in heats])[:, :, None]
    run = run_of(QUARTIC, heats, position)
    found = free_energy.mbar(
        run, temperature=[0.3, 0.6], parameters={"b": [-1.0, -0.8]},
        observables={"square": "x**2", "energy": "energy", "own": lambda x: x[..., 0] ** 2},
    )  # fmt: skip
    logs = np.array([exact(GRID, t)[1] for t in (0.2, 0.4, 0.8)])
    assert found.temperature.to_numpy().tolist() == [0.2, 0.4, 0.8]
    assert np.abs(off(found, "reduced_free_energy", -(logs - logs[0]))[1:]).max() < 4.5
    assert np.abs(off(found, "reduced_free_energy", logs - logs[0])[1:]).min() > 8
    for number, (t, b) in enumerate([(0.3, -1.0), (0.6, -0.8)]):
        one = found.isel(target=number)
        energy, log = exact(quartic(b=b), t, b=b)
        square = exact(GRID**2, t, b=b)[0]
        assert np.abs(off(one, "expectation", np.array([square, energy, square]))).max() < 4.5
        assert abs(float(off(one, "target_reduced_free_energy", logs[0] - log))) < 4.5
    plain = float(run.position.to_numpy().var())
    assert abs(plain - found.expectation[0, 0]) > 8 * found.expectation_stderr[0, 0]  # a pool without weights
    energies = free_energy.mbar(run, reference=-0.2 * logs[0])
    assert np.abs(off(energies, "free_energy", -np.array([0.2, 0.4, 0.8]) * logs)[1:]).max() < 4.5
    with pytest.raises(ConfigError, match=r"choose that of the target"):
        free_energy.mbar(run, observables="x")


def test_ladders_are_what_is_independent():
    """Rungs that carry the same noise: errors of chains by themselves would be too small, or too large."""
    rng, heats = np.random.default_rng(3), np.tile([1.0, 2.0], 12)
    shared = np.repeat(correlated(rng, (12, 400), 0.9), 2, axis=0)
    spring = potentials.Quadratic([1.0])
    run = run_of(spring, heats, (np.sqrt(heats)[:, None] * shared)[:, :, None])
    errors = {
        name: free_energy.mbar(one, temperature=1.5, observables="energy").expectation_stderr
        for name, one in (
            ("chains", run),
            ("ladders", run.assign_coords(ladder=("chain", np.repeat(np.arange(12), 2)))),
        )
    }
    assert float(errors["ladders"][0]) > 1.2 * float(errors["chains"][0])


def test_runs_of_different_landscapes():
    rng = np.random.default_rng(4)
    runs = [
        run_of(potentials.Quadratic([k]), 0.5, rng.normal(0.0, np.sqrt(0.5 / k), (9, 120, 1))) for k in (1.0, 2.0, 4.0)
    ]
    found = free_energy.mbar(runs, target=potentials.Quadratic([3.0]), observables="energy")
    assert np.abs(off(found, "free_energy", 0.25 * np.log([1.0, 2.0, 4.0]))[1:]).max() < 4.5
    assert abs(float(off(found, "expectation", 0.25)[0])) < 4.5
    assert abs(float(off(found, "expectation", 0.5)[0])) > 8
    assert [text.split()[-1] for text in found.label.to_numpy()] == ["1", "2", "4"]
    with pytest.raises(ConfigError, match="different landscapes"):
        free_energy.mbar(runs, observables="energy")
    assert free_energy.mbar(runs[0]).overlap == 1.0


def test_one_simulated_run_of_windows_and_the_same_as_a_specification():
    """Centers and stiffnesses, one per chain: exact free energies and profile, by backend and by specification."""
    k, c = np.repeat([2.0, 3.0, 2.0], 10), np.repeat([-0.7, 0.0, 0.7], 10)
    spec = {
        "potential": {"kind": "Quadratic", "stiffness": [1.0]}, "integrator": {"kind": "MALA", "dt": 0.4},
        "temperature": 0.2, "steps": 1500, "record": {"every": 10}, "seed": 3, "backend": "batched",
        "constraint": {"kind": "Restrain", "coordinate": "x0", "center": c.tolist(), "stiffness": k.tolist()},
    }  # fmt: skip
    spec["constraint"]["coordinate"] = potentials.Quadratic([1.0]).coordinates[0]
    run = ls.run(spec)
    name = spec["constraint"]["coordinate"]
    found = free_energy.mbar(run, coordinate=name, at=np.linspace(-0.8, 0.8, 5), zero="mean")
    stiff, center = k[::10], c[::10]
    truth = 0.5 * stiff * center**2 / (1.0 + stiff) + 0.1 * np.log(1.0 + stiff)
    assert np.abs(off(found, "free_energy", truth - truth[0])[1:]).max() < 4.5
    theory = 0.5 * found[name] ** 2
    assert np.abs(off(found, "profile", theory - theory.mean())).max() < 4.5
    assert np.abs(off(found, "profile", 2.0 * (theory - theory.mean()))).max() > 4.5
    part = free_energy.mbar(run.isel(chain=slice(10, None)))  # chains keep their own springs
    assert part.center.to_numpy().tolist() == [0.0, 0.7] and part.stiffness.to_numpy().tolist() == [3.0, 2.0]


# -- periods, two coordinates ------------------------------------------------------------------------------------------


CIRCLE = ls.Periodic({"phi": (0.0, 2 * np.pi)})
WHEEL = potentials.Expression("cos(phi - 1)", ["phi"])


def wheel(rng, period, constraint):
    """Windows on cos(phi - 1) at T = 0.5 all around, their samples in [0, 2 pi)."""
    fine, centers = np.linspace(0.0, 2 * np.pi, 4001)[:-1], np.repeat(np.linspace(0.0, 2 * np.pi, 7)[:-1], 9)
    samples = []
    for center in centers:
        apart = fine - center - 2 * np.pi * np.round((fine - center) / (2 * np.pi))
        weight = np.exp(-(np.cos(fine - 1.0) + 0.5 * 2.0 * apart**2) / 0.5)
        samples.append(fine[np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(150))])
    spring = ls.Restrain("phi", centers, 2.0, period=period)
    return run_of(WHEEL, 0.5, np.array(samples)[:, :, None], [*constraint, spring])


@pytest.mark.parametrize(("period", "constraint"), [(2 * np.pi, []), (None, [CIRCLE])])
def test_windows_all_around_a_circle(period, constraint):
    run = wheel(np.random.default_rng(5), period, constraint)
    found = free_energy.mbar(run, coordinate="phi", at=12, period=2 * np.pi, zero="mean", observables="cos(phi)")
    theory = np.cos(found.phi - 1.0)
    assert np.abs(off(found, "profile", theory - theory.mean())).max() < 4.5
    assert np.abs(off(found, "profile", -(theory - theory.mean()))).max() > 8
    assert float(found.overlap_matrix[0, -1]) > 0.03  # the last window is the neighbor of the first
    spec = json.loads(run.attrs["spec"])  # control: springs that take no image are not those of the samples
    spec["constraint"] = [{key: one[key] for key in one if key != "period"} for one in spec["constraint"][-1:]]
    try:
        other = free_energy.mbar(run.assign_attrs(spec=json.dumps(spec)), coordinate="phi", at=found.phi, zero="mean")
        assert np.nanmax(np.abs(off(other, "profile", theory - theory.mean()))) > 4.5
    except OverlapError:
        pass


def test_two_coordinates_one_of_them_a_formula():
    """x and the square of y on V = x^2/2 + y^2 from T = 0.5 and 1, at T = 0.7; and their picture."""
    rng, heats = np.random.default_rng(6), np.repeat([0.5, 1.0], 10)
    position = rng.standard_normal((20, 400, 2)) * np.sqrt(heats[:, None, None] / np.array([1.0, 2.0]))
    run = run_of(potentials.Expression("x**2/2 + y**2", ["x", "y"]), heats, position)
    found = free_energy.mbar(
        run, temperature=0.7, coordinate=("x", "y + 0*x"), at=(np.linspace(-0.8, 0.8, 4), np.linspace(-0.6, 0.6, 4)),
        width=(0.5, 0.4), zero="mean",
    )  # fmt: skip
    assert found.profile.dims == ("x", "q1")
    theory = 0.5 * found.x**2 + found.q1**2
    assert np.abs(off(found, "profile", (theory - theory.mean()))).max() < 4.5
    assert np.abs(off(found, "profile", 2.0 * (theory - theory.mean()))).max() > 4.5
    far = free_energy.mbar(run, temperature=0.7, coordinate="x", at=[0.0, 1.0, 8.0])
    assert np.isnan(far.profile[-1]) and np.isfinite(far.profile_stderr[:2]).all()
    assert free_energy.plot_mbar(found).get_ylabel() == "q1"
    ax = free_energy.plot_overlap(found)
    assert [text.get_text() for text in ax.texts][:1] == [f"{float(found.overlap_matrix[0, 0]):.2f}".removeprefix("0")]
    assert free_energy.plot_mbar(free_energy.mbar(run)).get_ylabel() == "reduced free energy $f$"
    several = free_energy.mbar(run, temperature=[0.6, 0.7], coordinate="x", at=5)
    assert len(free_energy.plot_mbar(several).get_lines()) == 2
    mpl.pyplot.close("all")


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_states_without_overlap_say_which_and_what_to_add():
    rng, spring = np.random.default_rng(7), potentials.Expression("x**2/2", ["x"])
    runs = [
        run_of(spring, 0.1, (rng.normal(0.0, 0.1, (8, 60, 1)) + c), [ls.Restrain("x", c, 9.0)]) for c in (0.0, 0.1, 4.0)
    ]
    with pytest.raises(OverlapError, match=r"center 0\.1 and center 4 .*more in between") as caught:
        free_energy.mbar(runs)
    assert "center 0 " not in str(caught.value)
    free_energy.mbar(runs[:2])


def test_chains_that_disagree_or_rest_or_are_few():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2, 10, 200))
    x[0, :5] += 1.0
    flat = x.reshape(-1)
    reduced = np.stack([flat**2 / 2, flat**2 / 2 + 0.1 * flat])
    found = free_energy.mbar(reduced, [2000, 2000], chains=10)
    assert found.chains_agree.to_numpy().tolist() == [False, True]
    still = np.repeat(rng.normal(size=20), 200)
    found = free_energy.mbar(np.stack([still**2 / 2, still**2 / 2.2]), [2000, 2000], chains=10)
    assert not found.resolved.any() and np.isnan(found.reduced_free_energy_stderr).all()


SPRING = potentials.Quadratic([1.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda run: free_energy.mbar(run, [3]), ConfigError, "counts"),
        (lambda run: free_energy.mbar([run, 3.0]), ConfigError, "takes runs"),
        (lambda run: free_energy.mbar(3.0), ShapeError, "reduced energies"),
        (lambda run: free_energy.mbar("run"), ConfigError, "takes runs"),
        (lambda run: free_energy.mbar(np.zeros((2, 6)), [3, 4]), ShapeError, "counts"),
        (lambda run: free_energy.mbar(np.zeros((2, 6)), [3, 3], chains=2), ConfigError, "multiples"),
        (lambda run: free_energy.mbar(np.full((1, 6), np.nan), [6]), ConfigError, "NaN"),
        (lambda run: free_energy.mbar(np.zeros((2, 6)), [3, 3], observables={"x": np.zeros(6)}), ConfigError, "target"),
        (lambda run: free_energy.mbar(np.zeros((1, 6)), [6], target=np.zeros(5)), ShapeError, "target"),
        (lambda run: free_energy.mbar(run, temperature=-1.0), ConfigError, "positive"),
        (lambda run: free_energy.mbar(run, temperature="hot"), ConfigError, "numbers"),
        (lambda run: free_energy.mbar(run, parameters={"h": 1.0}), ConfigError, "no parameter 'h'"),
        (lambda run: free_energy.mbar(run, target=3.0), ConfigError, "Potential"),
        (lambda run: free_energy.mbar(run, coordinate=("x", "x", "x")), ConfigError, "one coordinate or two"),
        (lambda run: free_energy.mbar(run, coordinate="x", period=-1.0), ConfigError, "period"),
        (lambda run: free_energy.mbar(run, coordinate="x", width=0.0), ConfigError, "width"),
        (lambda run: free_energy.mbar(run, coordinate="x", at=[1.0, 1.0]), ShapeError, "at"),
        (lambda run: free_energy.mbar(run.assign(exit_time=("chain", np.zeros(8)))), ConfigError, "leave it"),
        (lambda run: free_energy.mbar(run.assign_coords(temperature=("draw", np.ones(60)))), ConfigError, "each chain"),
        (lambda run: free_energy.mbar([run, run], potential=[SPRING]), ShapeError, "once for each"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(call, error, message):
    bowl = potentials.Expression("x**2/2", ["x"])
    run = run_of(bowl, 1.0, np.random.default_rng(0).normal(size=(8, 60, 1)))
    with pytest.raises(error, match=message):
        call(run)


def test_rules_that_do_not_sample_are_refused():
    bowl = potentials.Expression("x**2/2", ["x"])
    run = run_of(bowl, 1.0, np.random.default_rng(0).normal(size=(8, 60, 1)))
    spec = json.loads(run.attrs["spec"]) | {"integrator": {"kind": "SGD", "lr": 0.1}}
    with pytest.raises(ConfigError, match="does not sample the Boltzmann law"):
        free_energy.mbar(run.assign_attrs(spec=json.dumps(spec)))


def test_landscapes_that_plain_data_cannot_rebuild():
    """Energies are recorded, so temperatures need nothing; another landscape needs the potential."""
    rng, heats = np.random.default_rng(9), np.repeat([1.0, 2.0], 9)
    own = potentials.Function(lambda x: (x**2).sum(-1) / 2, 1, coordinates=["x"])
    run = run_of(SPRING_X, heats, rng.standard_normal((18, 100, 1)) * np.sqrt(heats)[:, None, None])
    spec = json.loads(run.attrs["spec"]) | {"potential": {"kind": "python", "name": "mine"}}
    run.attrs["spec"] = json.dumps(spec)
    found = free_energy.mbar(run, temperature=1.5, observables=["energy", "x**2"])
    assert np.abs(off(found, "expectation", np.array([0.75, 1.5]))).max() < 4.5
    with pytest.raises(ConfigError, match="potential="):
        free_energy.mbar([run, run])
    both = free_energy.mbar([run, run], potential=own)
    assert both.samples.to_numpy().tolist() == [1800, 1800]


SPRING_X = potentials.Expression("x**2/2", ["x"])
