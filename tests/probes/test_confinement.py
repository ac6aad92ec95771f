"""Probes of confinement on closed forms: values, errors that cover, controls, bad input, pictures."""

import numpy as np
import pytest
import torch
import xarray as xr

import landscape as ls
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import NetworkLoss, architectures
from landscape.probes import confinement
from tests.cases import Z_CONTROL, Z_MAX

AXIS = ls.paths.straight_line([0.0, -2.0], [0.0, 2.0], 9)
VALLEY = ls.potentials.Valley("1 + y**2")
SPECTRUM = confinement.along_path(VALLEY, AXIS, ["energy", "eigenvalues"])


def walk(velocity, diffusion, *, seed, chains=50, projections=40, lapse=0.1, start=5.0, length=10.0, temperature=0.0):
    """A run as `simulate` would return it, of drift and diffusion that are known."""
    rng = np.random.default_rng(seed)
    velocity, diffusion = np.broadcast_to(velocity, chains), np.broadcast_to(diffusion, chains)
    kicks = np.sqrt(2 * diffusion * lapse)[:, None] * rng.standard_normal((chains, projections))
    arc = start + np.cumsum(np.column_stack([np.zeros(chains), velocity[:, None] * lapse + kicks]), axis=1)
    return xr.Dataset(
        {"arc_length": (("chain", "projection"), arc)},
        {
            "projection_time": ("projection", lapse * np.arange(projections + 1)),
            "temperature": ("chain", np.broadcast_to(temperature, chains)),
        },
        {"path_length": length, "spec": '{"integrator": {"kind": "SGD", "lr": 0.1, "momentum": 0.75}}'},
    )


def coverage(estimates, errors, truth):
    """Fraction of 95 % intervals that hold the truth."""
    return (abs(np.array(estimates) - truth) < 1.96 * np.array(errors)).mean()


# -- along a path and barriers ----------------------------------------------------------------------------------------


def test_along_path_of_a_valley():
    found = confinement.along_path(
        VALLEY, AXIS, ["energy", "gradient_norm", "norm", "largest_eigenvalue", "smallest_eigenvalue", "trace",
                       "eigenvalues", "log_determinant"], between=1, epsilon=0.5, settings={"trace": {"probes": 12}},
    )  # fmt: skip
    y = np.linspace(-2, 2, 17)
    g = 1 + y**2
    np.testing.assert_allclose(found.arc_length, y + 2, atol=1e-12)
    np.testing.assert_allclose(found.pivot, np.arange(17) / 2)
    assert found.is_pivot.sum() == 9
    np.testing.assert_allclose(found.energy, 0, atol=1e-15)
    np.testing.assert_allclose(found.gradient_norm, 0, atol=1e-15)
    np.testing.assert_allclose(found["norm"], abs(y), atol=1e-15)
    np.testing.assert_allclose(found.largest_eigenvalue, g, rtol=1e-6)
    np.testing.assert_allclose(found.smallest_eigenvalue, 0, atol=1e-6)
    np.testing.assert_allclose(found.trace, g, rtol=1e-6)
    np.testing.assert_allclose(found.tangent_curvature, 0, atol=1e-12)
    np.testing.assert_allclose(found.eigenvalue[:, -1], g)
    np.testing.assert_allclose(found.log_determinant, np.log(g + 0.5))
    assert found.attrs["epsilon"] == 0.5
    for name in found.variables:
        assert {"long_name", "units"} <= set(found[name].attrs), name


def test_curvature_across_a_tilted_path():
    """The Hessian is restricted to the hyperplane across the path, whichever way that points."""
    bowl = ls.potentials.Expression("3*x**2/2 + 5*y**2/2 + 7*z**2/2 + x*y", ["x", "y", "z"])
    hessian = np.array([[3.0, 1, 0], [1, 5, 0], [0, 0, 7]])
    for end in ([1.0, 2.0, -1.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]):
        t = np.array(end) / np.linalg.norm(end)
        found = confinement.along_path(
            bowl, ls.paths.straight_line([0.0] * 3, end), ["trace", "log_determinant"],
            settings={"trace": {"method": "exact"}},
        )  # fmt: skip
        basis = np.linalg.svd(t[None])[2][1:]
        np.testing.assert_allclose(found.log_determinant, np.log(np.linalg.det(basis @ hessian @ basis.T)))
        np.testing.assert_allclose(found.tangent_curvature, t @ hessian @ t)
        law = confinement.barriers(found.assign(energy=found.trace), 2.0, noise="hessian")
        np.testing.assert_allclose(law.entropic_profile, 0, atol=1e-12)


def test_barriers_add_energy_and_entropy():
    hill = ls.potentials.Expression("h*exp(-y**2) + (1 + a*exp(-y**2))*x**2/2", ["x", "y"], {"h": 0.3, "a": 4.0})
    line = ls.paths.straight_line([0.0, -4.0], [0.0, 1.0], 101)
    profile = confinement.along_path(hill, line, ["energy", "log_determinant", "trace"])
    found = confinement.barriers(profile, 0.2)
    end = np.exp(-1.0)
    np.testing.assert_allclose(found.energetic, [0.3, 0.3 * (1 - end)], rtol=1e-6)
    np.testing.assert_allclose(found.entropic, [0.1 * np.log(5), 0.1 * np.log(5 / (1 + 4 * end))], rtol=1e-5)
    np.testing.assert_allclose(found.total, found.energetic + found.entropic, rtol=1e-6)
    assert found.attrs["noise"] == "thermal"
    y = np.linspace(-4, 1, 101)
    force = 0.1 * 8 * y * np.exp(-(y**2)) / (1 + 4 * np.exp(-(y**2)))
    np.testing.assert_allclose(found.entropic_force[1:-1], force[1:-1], atol=2e-3)
    np.testing.assert_allclose(found.energetic_force[1:-1], (0.6 * y * np.exp(-(y**2)))[1:-1], atol=2e-3)
    twice = confinement.barriers(profile, 0.4)
    np.testing.assert_allclose(twice.entropic, 2 * found.entropic)
    np.testing.assert_allclose(twice.energetic, found.energetic)
    cold = confinement.barriers(profile, 0.0, noise="hessian")
    np.testing.assert_allclose(cold.entropic, 0.0, atol=1e-15)
    hessian = confinement.barriers(profile, 0.2, noise="hessian")
    np.testing.assert_allclose(hessian.entropic[0], 0.1 * 4, rtol=1e-4)


def test_barriers_of_projected_steps():
    """The force of the law is the drift of k steps, in every direction; half of T is rejected."""
    k, eta, t = 7, 0.03, 0.4
    channel = ls.potentials.Expression("(1 + y**2)*x**2/2 + (3 - sin(y))*z**2/2", ["x", "y", "z"])
    line = ls.paths.straight_line([0.0, -1.0, 0.0], [0.0, 2.0, 0.0], 301)
    profile = confinement.along_path(channel, line, ["energy", "eigenvalues"])
    found = confinement.barriers(profile, t, every=k, dt=eta)
    y = np.linspace(-1.0, 2.0, 301)
    expected = 0.0
    for g, slope in ((1 + y**2, 2 * y), (3 - np.sin(y), -np.cos(y))):
        rho = 1 - eta * g
        variance = 2 * eta * t / (1 - rho**2) * (1 - (1 - rho ** (2 * k)) / (k * (1 - rho**2)))
        expected = expected - 0.5 * slope * variance
    np.testing.assert_allclose(found.entropic_force[1:-1], expected[1:-1], atol=1e-5)
    assert np.abs(found.entropic_force[1:-1] / 2 - expected[1:-1]).max() > 1e-3
    assert (found.attrs["every"], found.attrs["dt"]) == (k, eta)
    for other in ({"every": 1, "dt": eta}, {"every": k, "dt": 1e-12}):
        np.testing.assert_allclose(confinement.barriers(profile, t, **other).entropic_profile, 0.0, atol=1e-9)
    along = confinement.along_path(channel, line, ["energy", "log_determinant"])
    long = confinement.barriers(profile, t, every=20_000, dt=1e-3)
    np.testing.assert_allclose(long.entropic_profile, confinement.barriers(along, t).entropic_profile, rtol=0.02)


def test_errors_of_barriers():
    """Traces with noise of known size, the same law, 200 times; half the error covers too little."""
    s = np.linspace(0.0, 1.0, 3)
    rng = np.random.default_rng(0)
    heights, errors, forces, their = [], [], [], []
    for _ in range(200):
        noisy = xr.Dataset(
            {
                "energy": ("pivot", [0.0, 0.0, 0.0]),
                "trace": ("pivot", [1.0, 9.0, 2.0] + rng.normal(size=3) * [0.3, 0.5, 0.2]),
                "trace_stderr": ("pivot", [0.3, 0.5, 0.2]),
            },
            {"pivot": [0, 1, 2], "arc_length": ("pivot", s)},
        )
        found = confinement.barriers(noisy, 0.4)
        heights.append(float(found.entropic[0]))
        errors.append(float(found.entropic_stderr[0]))
        forces.append(float(found.entropic_force[1]))
        their.append(float(found.entropic_force_stderr[1]))
    assert 0.9 < coverage(heights, errors, 0.2 * 8) < 0.985
    assert 0.9 < coverage(forces, their, -0.2 * 1.0) < 0.985
    assert coverage(heights, np.array(errors) / 2, 0.2 * 8) < 0.8


def small_loss(**settings):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(30, 3, generator=generator), torch.randint(2, (30,), generator=generator)
    return NetworkLoss(architectures.mlp([3, 4, 2], seed=0), inputs, targets, dtype=torch.float64, **settings)


def test_networks_have_more_quantities():
    loss = small_loss()
    start = loss.position().detach()
    path = ls.paths.straight_line(start, start + 0.1, 3)
    names = ["energy", "accuracy", "fisher_trace", "trace", "score_singular_values", "norm"]
    settings = {"fisher_trace": {"labels": "model"}, "trace": {"method": "exact"}}
    found = confinement.along_path(loss, path, names, settings=settings)
    np.testing.assert_allclose(found.trace, found.fisher_trace)  # piecewise linear in each weight
    np.testing.assert_allclose((found.singular_value**2).sum("singular_value"), found.fisher_trace)
    np.testing.assert_allclose(found.energy, loss.energy(path.pivots))
    np.testing.assert_allclose(found.accuracy, [float(loss.accuracy(x)) for x in path.pivots])
    hessian = loss.hessian(path.pivots[0])
    t = path.tangent(torch.tensor(0.0))
    np.testing.assert_allclose(float(found.tangent_curvature[0]), float(t @ hessian @ t), rtol=1e-6)


# -- drift ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("velocity", "diffusion", "lapse"), [(0.5, 0.3, 0.1), (-1.0, 0.3, 0.2), (0.5, 0.05, 0.1)])
def test_drift_and_diffusion(velocity, diffusion, lapse):
    found = confinement.drift(walk(velocity, diffusion, seed=1, lapse=lapse, chains=400), [-100.0, 100.0])
    one = found.isel(temperature=0, arc_length=0)
    assert abs(one.velocity - velocity) / one.velocity_stderr < Z_MAX
    assert abs(one.diffusion - diffusion) / one.diffusion_stderr < Z_MAX
    assert abs(one.diffusion - 1.1 * diffusion) / one.diffusion_stderr > Z_CONTROL  # control
    assert int(one["count"]) == 400 * 40


@pytest.mark.parametrize("chains", [40, 2])
def test_errors_of_the_drift(chains):
    """From chains, and from pieces of two chains."""
    found = {"velocity": [], "diffusion": []}
    errors = {"velocity": [], "diffusion": []}
    for seed in range(200):
        one = confinement.drift(walk(0.5, 0.3, seed=seed, chains=chains, projections=200), [-1e3, 1e3]).squeeze()
        for name in found:
            found[name].append(float(one[name]))
            errors[name].append(float(one[f"{name}_stderr"]))
    for name, truth in (("velocity", 0.5), ("diffusion", 0.3)):
        assert 0.9 < coverage(found[name], errors[name], truth) < 0.985, name
        assert coverage(found[name], np.array(errors[name]) / 2, truth) < 0.8, name


def test_regression_on_temperature():
    """v = -0.2 + 1.5 T, with T = 0 that does not fluctuate; coverage over 100 runs."""
    temperature = np.repeat([0.0, 0.1, 0.2, 0.4], 30)
    parts = {"energetic_force": -0.2, "entropic_force": 1.5}
    found = {name: [] for name in parts}
    errors = {name: [] for name in parts}
    for seed in range(100):
        run = walk(-0.2 + 1.5 * temperature, temperature, seed=seed, chains=120, temperature=temperature)
        one = confinement.drift(run, [-1e3, 1e3]).isel(arc_length=0)
        for name in parts:
            found[name].append(float(one[name]))
            errors[name].append(float(one[f"{name}_stderr"]))
        assert float(one.degrees) == 2
    assert 0.88 < coverage(found["entropic_force"], errors["entropic_force"], 1.5) < 0.995
    np.testing.assert_allclose(found["energetic_force"], -0.2, atol=1e-3)  # measured at T = 0, not extrapolated
    hot = [
        confinement.drift(
            walk(-0.2 + 1.5 * t, t, seed=seed, chains=90, temperature=t), [-1e3, 1e3]
        ).isel(arc_length=0) for seed in range(100) for t in [np.repeat([0.1, 0.2, 0.4], 30)]
    ]  # fmt: skip
    for name, truth in parts.items():
        values, stderr = [float(one[name]) for one in hot], [float(one[f"{name}_stderr"]) for one in hot]
        assert 0.88 < coverage(values, stderr, truth) < 0.995
        assert coverage(values, np.array(stderr) / 2, truth) < 0.8


def test_runs_with_temperatures_of_their_own():
    """Minibatches of three sizes as three effective temperatures; one temperature alone has no regression."""
    runs = [walk(0.1 + 0.5 * t, t, seed=i, chains=40, projections=20 + i) for i, t in enumerate([0.0, 0.3, 0.6])]
    found = confinement.drift(runs, [-1e3, 1e3], temperature=[0.0, 0.3, 0.6])
    np.testing.assert_array_equal(found.temperature, [0.0, 0.3, 0.6])
    assert abs(found.entropic_force - 0.5).item() < Z_MAX * found.entropic_force_stderr.item()
    assert np.isnan(confinement.drift(runs[1], 3).entropic_force).all()


def test_bins_belong_to_where_a_displacement_begins():
    arc = np.tile([[0.0, 0.5, 1.5, 1.25]], (8, 1))
    run = walk(0.0, 0.0, seed=0, chains=8, projections=3).assign(arc_length=(("chain", "projection"), arc))
    found = confinement.drift(run, [0.0, 1.0, 2.0]).isel(temperature=0)
    np.testing.assert_allclose(found.velocity, [1.5 / 0.2, -0.25 / 0.1])
    np.testing.assert_array_equal(found["count"], [16, 8])


# -- relaxation and first passage -------------------------------------------------------------------------------------


def relaxing(rate, diffusion, *, seed, chains=100, projections=60, lapse=0.05):
    """Ornstein-Uhlenbeck towards 0 from 5."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-rate * lapse)
    arc = np.full((chains, projections + 1), 5.0)
    kick = np.sqrt(diffusion / rate * (1 - decay**2))
    for n in range(projections):
        arc[:, n + 1] = decay * arc[:, n] + kick * rng.standard_normal(chains)
    run = walk(0.0, 0.0, seed=0, chains=chains, projections=projections, lapse=lapse)
    return run.assign(arc_length=(("chain", "projection"), arc))


@pytest.mark.parametrize("rate", [1.0, 2.5])
def test_relaxation_time(rate):
    """|s| = s while the spread is small against the distance, so the mean relaxes as exp(-rate t)."""
    found = confinement.relaxation(relaxing(rate, 0.05, seed=0)).isel(temperature=0)
    assert float(found.target) == 0.0
    assert bool(found.reached)
    assert abs(found.relaxation_time - 1 / rate) / found.relaxation_time_stderr < Z_MAX
    assert abs(found.relaxation_time - 1.5 / rate) / found.relaxation_time_stderr > Z_CONTROL
    np.testing.assert_allclose(found.effective_relaxation_time, 4 * found.relaxation_time)  # momentum 0.75
    middle = found.isel(projection=10)
    expected = np.exp(-rate * 0.5)
    assert abs(middle.relative_distance - expected) / middle.relative_distance_stderr < Z_MAX


def test_errors_of_the_relaxation_time():
    found = [
        confinement.relaxation(relaxing(1.0, 0.2, seed=seed, chains=30)).isel(temperature=0) for seed in range(150)
    ]
    times, errors = [float(one.relaxation_time) for one in found], [float(one.relaxation_time_stderr) for one in found]
    truth = float(confinement.relaxation(relaxing(1.0, 0.2, seed=0, chains=200_000)).relaxation_time.item())
    assert truth == pytest.approx(1.0, abs=0.01)
    assert 0.9 < coverage(times, errors, truth) < 0.985
    assert coverage(times, np.array(errors) / 2, truth) < 0.8


def test_a_relaxation_that_is_not_reached():
    run = relaxing(1.0, 0.01, seed=0, projections=5)
    found = confinement.relaxation(run).isel(temperature=0)
    assert not bool(found.reached)
    assert np.isnan(found.relaxation_time)
    other = confinement.relaxation(run, target="end").isel(temperature=0)
    assert float(other.target) == 10.0
    assert (np.diff(other.relative_distance) > 0).all()


@pytest.mark.parametrize(("velocity", "diffusion", "distance"), [(1.0, 0.3, 2.0), (-0.8, 0.2, 3.0)])
def test_first_passage_with_drift(velocity, diffusion, distance):
    """With a drift towards the target the mean is distance / |velocity|; looked at only now and then it is late."""
    run = walk(velocity, diffusion, seed=3, chains=2000, projections=400, lapse=0.05, start=5.0, length=10.0)
    at = 5.0 + np.sign(velocity) * distance
    found = confinement.first_passage(run, at).isel(temperature=0)
    assert float(found.reached) == 1.0
    assert abs(found.first_passage_time - distance / abs(velocity)) / found.first_passage_time_stderr < Z_MAX
    late = confinement.first_passage(run, at, continuity=False).isel(temperature=0)
    shift = 0.5826 * np.sqrt(2 * diffusion * 0.05 + (velocity * 0.05) ** 2) / abs(velocity)
    assert float(late.first_passage_time - found.first_passage_time) == pytest.approx(shift, rel=0.1)


@pytest.mark.always
def test_chains_that_did_not_arrive():
    """Exponential waiting times cut off: total time over the number of passages; the mean of those made is short."""
    rng = np.random.default_rng(0)
    times, errors, naive = [], [], []
    for _ in range(200):
        leave = rng.exponential(2.0, 60)
        grid = np.linspace(0, 2, 201)
        arc = np.where(grid < leave[:, None], 1.0, 9.0)
        run = walk(0.0, 0.0, seed=0, chains=60, projections=200, lapse=0.01)
        run = run.assign(arc_length=(("chain", "projection"), arc))
        found = confinement.first_passage(run, 5.0, continuity=False).isel(temperature=0)
        times.append(float(found.first_passage_time))
        errors.append(float(found.first_passage_time_stderr))
        naive.append(float(found.passage_time.mean()))
    assert 0.9 < coverage(times, errors, 2.0) < 0.985
    assert abs(np.mean(naive) - 2.0) > 1.0
    nobody = confinement.first_passage(walk(0.0, 0.01, seed=1), 9.9)
    assert np.isnan(nobody.first_passage_time).all() and (nobody.reached == 0).all()


# -- instability and straight lines -----------------------------------------------------------------------------------


def test_instability():
    values = xr.DataArray([[1.0, 5.0, 3.0], [2.0, 2.0, 2.0]], dims=("seed", "pivot"), coords={"pivot": [0.0, 0.5, 1.0]})
    found = confinement.instability(values)
    np.testing.assert_allclose(found.difference, [3.0, 0.0])
    np.testing.assert_allclose(found.ratio, [5.0, 1.0])
    np.testing.assert_allclose(found["mean"], [3.0, 2.0])
    np.testing.assert_allclose(found.highest, [0.5, 0.0])
    assert np.isnan(confinement.instability([-1.0, 2.0, 1.0]).ratio)


def test_errors_of_the_instability():
    rng = np.random.default_rng(0)
    truth, sigma = np.array([1.0, 6.0, 2.0]), np.array([0.1, 0.3, 0.2])
    found = [confinement.instability(truth + sigma * rng.normal(size=3), stderr=sigma) for _ in range(300)]
    for name, expected in (("difference", 4.5), ("ratio", 6.0), ("mean", 3.0)):
        values, errors = [float(one[name]) for one in found], [float(one[f"{name}_stderr"]) for one in found]
        assert 0.9 < coverage(values, errors, expected) < 0.985, name
        assert coverage(values, np.array(errors) / 2, expected) < 0.8, name


def test_siblings_share_everything_until_the_split():
    """Weights, momentum and minibatches to the bit; afterwards each has its own order."""
    loss = small_loss(batch_size=7)
    settings = {"epochs": 6, "siblings": 3, "seed": 4, "record": ls.Record(5, ["position", "momentum"])}
    rule = ls.SGD(lr=0.1, momentum=0.9)
    run = ls.train(loss, rule, split_epoch=3, **settings)
    until = run.step <= 3 * 5
    assert int(until.sum()) == 3
    for name in ("position", "momentum"):
        values = run[name]
        assert (values[:, until] == values[0, until]).all()
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert (values[i, ~until] != values[j, ~until]).any()
    apart = ls.train(loss, rule, split_epoch=0, **settings)  # control: no shared history
    assert (apart.position[0, 0] != apart.position[1, 0]).any()


def test_siblings_share_thermal_noise_until_the_split():
    settings = {"epochs": 3, "siblings": 2, "split_epoch": 2, "temperature": 0.01, "record": ls.Record(5, ["position"])}
    run = ls.train(small_loss(batch_size=7), ls.SGLD(lr=0.05), **settings)
    before, after = run.position[:, run.step <= 10], run.position[:, run.step > 10]
    assert (before[0] == before[1]).all()
    assert (after[0] != after[1]).any()
    hot = ls.train(small_loss(batch_size=7), ls.SGLD(lr=0.05), **settings | {"temperature": [0.01, 0.02]})
    assert (hot.position[0, 0] != hot.position[1, 0]).any()  # siblings that differ in more than their random numbers


def test_siblings_share_moments_and_statistics_of_batch_normalisation():
    """To the bit, although rows of a batch round differently."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(30, 4, generator=generator), torch.randint(2, (30,), generator=generator)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    loss = NetworkLoss(module, inputs, targets, batch_size=10, batchnorm="reestimate", dtype=torch.float64)
    together = ls.train(loss, ls.Adam(lr=0.01), epochs=2, siblings=2, split_epoch=2, seed=1)
    for name in ("last_position", "last_first_moment", "last_second_moment", "buffer_1_running_mean"):
        assert (together[name][0] == together[name][1]).all(), name
    parted = ls.train(loss, ls.Adam(lr=0.01), epochs=2, siblings=2, split_epoch=1, seed=1)
    for name in ("last_position", "last_first_moment", "last_second_moment", "buffer_1_running_mean"):
        assert (parted[name][0] != parted[name][1]).any(), name


def test_straight_lines_between_siblings():
    loss = small_loss(batch_size=7)
    run = ls.train(loss, ls.SGD(lr=0.1, momentum=0.9), epochs=4, siblings=3, split_epoch=1, seed=4)
    found = confinement.linear_connectivity(loss, run, points=5)
    assert found.energy.dims == ("pair", "pivot")
    assert list(zip(found["first"].values, found.second.values, strict=True)) == [(0, 1), (0, 2), (1, 2)]
    ends = run.last_position.to_numpy()
    middle = torch.from_numpy((ends[0] + ends[2]) / 2)
    np.testing.assert_allclose(found.energy[1, 2], loss.energy(middle))
    largest = np.linalg.eigvalsh(loss.hessian(middle).detach().numpy())[-1]
    np.testing.assert_allclose(found.largest_eigenvalue[1, 2], largest, rtol=1e-3)
    np.testing.assert_allclose(found.distance[1], np.linalg.norm(ends[0] - ends[2]))
    assert confinement.instability(found.energy).difference.dims == ("pair",)
    same = confinement.linear_connectivity(loss, np.array([ends[0], ends[0]]), ["energy"], points=3)
    assert float(same.distance[0]) == 0.0
    np.testing.assert_allclose(same.energy, np.broadcast_to(same.energy[0, 0], (1, 3)))


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: confinement.along_path(None, AXIS), ConfigError, "potential must be a Potential"),
        (lambda: confinement.along_path(VALLEY, ls.paths.straight_line([0.0], [1.0])), ShapeError, "1 coordinates"),
        (lambda: confinement.along_path(VALLEY, AXIS, ["charm"]), ConfigError, "charm"),
        (lambda: confinement.along_path(VALLEY, AXIS, ["accuracy"]), ConfigError, "NetworkLoss only"),
        (lambda: confinement.along_path(VALLEY, AXIS, epsilon=-1.0), ConfigError, "epsilon"),
        (lambda: confinement.along_path(VALLEY, AXIS, between=-1), ConfigError, "between"),
        (lambda: confinement.barriers(confinement.along_path(VALLEY, AXIS, ["energy"]), 0.1), ConfigError, "measure"),
        (lambda: confinement.barriers(confinement.along_path(VALLEY, AXIS), -0.1), ConfigError, "temperature"),
        (lambda: confinement.barriers(xr.Dataset(), 0.1), ConfigError, "along_path"),
        (lambda: confinement.barriers(SPECTRUM, 0.1, every=3), ConfigError, "both"),
        (lambda: confinement.barriers(SPECTRUM, 0.1, every=0, dt=0.1), ConfigError, "every"),
        (lambda: confinement.barriers(SPECTRUM, 0.1, every=3, dt=-0.1), ConfigError, "dt"),
        (lambda: confinement.barriers(SPECTRUM, 0.1, every=3, dt=0.1, noise="hessian"), ConfigError, "thermal"),
        (lambda: confinement.barriers(SPECTRUM[["energy"]], 0.1, every=3, dt=0.1), ConfigError, "eigenvalues"),
        (lambda: confinement.drift(xr.Dataset()), ConfigError, "ProjectOntoPath"),
        (lambda: confinement.drift([]), ConfigError, "no runs"),
        (lambda: confinement.drift(walk(0, 1, seed=0), [1.0, 0.0]), ConfigError, "rise"),
        (lambda: confinement.drift(walk(0, 1, seed=0), 0), ConfigError, "bins"),
        (lambda: confinement.drift(walk(0, 1, seed=0), temperature=[1.0, 2.0]), ShapeError, "2 temperatures"),
        (lambda: confinement.drift(walk(0, 1, seed=0), temperature=-1.0), ConfigError, "negative"),
        (
            lambda: confinement.drift([walk(0, 1, seed=0), walk(0, 1, seed=1, length=4.0)]), ConfigError,
            "different lengths",
        ),
        (lambda: confinement.relaxation(walk(0, 1, seed=0), target="up"), ConfigError, "target"),
        (lambda: confinement.relaxation(walk(0, 1, seed=0), target=5.0), ConfigError, "start at the target"),
        (lambda: confinement.first_passage(walk(0, 1, seed=0), 11.0), ConfigError, "arc length"),
        (lambda: confinement.first_passage(walk(0, 1, seed=0), 5.0), ConfigError, "target"),
        (lambda: confinement.instability(xr.Dataset()), ShapeError, "one quantity"),
        (lambda: confinement.instability([1.0]), ShapeError, "2 at least"),
        (lambda: confinement.instability(xr.DataArray([1.0, 2.0], dims="s")), ConfigError, "without 'pivot'"),
        (lambda: confinement.linear_connectivity(VALLEY, [[0.0, 1.0]]), ShapeError, "two"),
        (lambda: confinement.linear_connectivity(VALLEY, [[0.0, 1.0], [1.0]]), ShapeError, "architectures"),
        (lambda: confinement.linear_connectivity(VALLEY, np.eye(2), pairs=[(0, 2)]), ConfigError, "pair"),
        (lambda: confinement.linear_connectivity(VALLEY, np.eye(2), ["log_determinant"]), ConfigError, "along_path"),
        (lambda: confinement.plot_drift(xr.Dataset()), ConfigError, "velocity"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_networks_of_different_architectures():
    a, b = (xr.Dataset({"position": ("coordinate", np.zeros(2))}, attrs={"layout": text}) for text in ("[1]", "[2]"))
    with pytest.raises(ConfigError, match="different architectures"):
        confinement.linear_connectivity(VALLEY, [a, b])


# -- pictures ---------------------------------------------------------------------------------------------------------


def pictures():
    profile = confinement.along_path(VALLEY, AXIS, ["energy", "trace", "log_determinant"])
    temperature = np.repeat([0.0, 0.2, 0.4], 20)
    drifting = walk(-0.5 + temperature, temperature, seed=0, chains=60, temperature=temperature)
    lines = confinement.linear_connectivity(VALLEY, [[0.0, 0.0], [1.0, 1.0], [-1.0, 2.0]])
    return {
        "along_path": profile,
        "barriers": confinement.barriers(profile, 0.1),
        "drift": confinement.drift(drifting, 5),
        "relaxation": confinement.relaxation(relaxing(1.0, 0.1, seed=0)),
        "first_passage": confinement.first_passage(walk(1.0, 0.3, seed=0, chains=200, projections=300), 8.0),
        "linear_connectivity": lines,
        "instability": confinement.instability(lines.energy, stderr=0.01 + 0 * lines.energy),
    }


def test_pictures():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    for name, dataset in pictures().items():
        draw = getattr(confinement, f"plot_{name}")
        ax = draw(dataset)
        assert ax.get_xlabel() and ax.get_ylabel(), name
        assert ax.has_data(), name
        ax.figure.canvas.draw()
        given = plt.figure().add_subplot()
        assert draw(dataset, given) is given
    plt.close("all")


def test_results_are_stored(tmp_path):
    for name, dataset in pictures().items():
        ls.save(dataset, tmp_path / f"{name}.nc")
        for variable in dataset.variables:
            assert {"long_name", "units"} <= set(dataset[variable].attrs), (name, variable)
        with ls.open(tmp_path / f"{name}.nc") as stored:
            assert set(stored.variables) == set(dataset.variables)
