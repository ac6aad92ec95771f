"""Participation ratio, distances, spikes, and the effective temperature of gradient noise."""

import numpy as np
import pytest
import torch
import xarray as xr

from landscape.errors import ConfigError, ShapeError
from landscape.probes.fluctuations import distance, effective_temperature, participation_ratio, spikes
from tests.cases import Z_CONTROL, Z_MAX
from tests.probes.processes import HIGHEST, LOWEST, ar1, coverage, labels, z_scores

# -- participation ratio ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "samples"), [(0.5, 200), (2.0, 200), (2.0, 50)])
def test_participation_of_independent_contributions(shape, samples):
    rng = np.random.default_rng(int(10 * shape) + samples)
    result = participation_ratio(rng.gamma(shape, 1.0, (6, 800, samples)), 1.0, by="temperature").isel(temperature=0)
    # phi = 1 / sum p^2 with p of a Dirichlet law; its average by an independent draw of many.
    p = np.random.default_rng(1).dirichlet(np.full(samples, shape), 40_000)
    exact = (1.0 / (p**2).sum(axis=1)).mean()
    assert abs(float(z_scores(result, "participation_ratio", exact))) < Z_MAX
    np.testing.assert_allclose(result.participating_fraction, result.participation_ratio / samples)
    # r / (1 + r) up to 1/n, with r the shape of one contribution: alpha / n, not 2 alpha / n.
    assert float(result.participating_fraction) == pytest.approx(shape / (1 + shape), abs=3 / samples)
    assert abs(float(result.participating_fraction) - 2 * shape / (1 + 2 * shape)) > 0.1


def test_participation_of_known_vectors():
    losses = np.array([[1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0]])
    values = [float(participation_ratio(row).participation_ratio[0]) for row in losses]
    assert values == [4.0, 1.0, 2.0]
    assert float(participation_ratio(losses).participation_ratio[0]) == pytest.approx(7 / 3)
    assert np.isnan(participation_ratio(losses).participation_ratio_stderr[0])
    assert participation_ratio(losses).attrs["samples"] == 4


def test_participation_intervals_with_correlated_draws():
    rng = np.random.default_rng(2)
    first = ar1(rng, (300, 4000), 0.9)
    losses = np.stack([np.exp(0.5 * first), np.ones_like(first)], axis=-1)
    long = np.exp(0.5 * np.random.default_rng(3).standard_normal(2_000_000))
    exact = ((1 + long) ** 2 / (1 + long**2)).mean()
    result = participation_ratio(losses)
    assert LOWEST < coverage(result, "participation_ratio", exact) < HIGHEST
    phi = (losses.sum(-1) ** 2 / (losses**2).sum(-1)).std(axis=1) / np.sqrt(4000)
    assert np.mean(np.abs(result.participation_ratio - exact) < 1.96 * phi) < 0.7


def test_few_draws_of_many_chains():
    rng = np.random.default_rng(4)
    result = participation_ratio(rng.gamma(1.0, 1.0, (4 * 400, 2, 60)), labels(1.0, 400, 4), by="temperature")
    assert not result.resolved.to_numpy().any()
    p = rng.dirichlet(np.ones(60), 100_000)
    assert LOWEST < coverage(result, "participation_ratio", (1 / (p**2).sum(axis=1)).mean()) < HIGHEST


def test_losses_that_make_no_sense():
    losses = np.ones((2, 10, 3))
    losses[0, 4] = 0.0
    assert np.isnan(participation_ratio(losses).participation_ratio[0])
    assert float(participation_ratio(losses).participation_ratio[1]) == pytest.approx(3.0)
    for bad in (
        xr.Dataset(),
        xr.DataArray(losses, dims=("chain", "draw", "point")),
        np.ones((2, 2, 2, 2)),
        np.array(["a"]),
    ):
        with pytest.raises(ShapeError):
            participation_ratio(bad)


def test_a_run_may_be_given_whole():
    losses = np.random.default_rng(5).gamma(1.0, 1.0, (3, 200, 20))
    run = xr.Dataset({"sample_energies": (("chain", "draw", "sample"), losses)})
    xr.testing.assert_allclose(participation_ratio(run), participation_ratio(losses))


# -- distance -----------------------------------------------------------------------------------------------------


def diffusion(rng, temperature, chains, draws, dim, dt):
    steps = np.sqrt(2 * temperature * dt) * rng.standard_normal((chains, draws, dim))
    time = dt * np.arange(1, draws + 1)
    return xr.DataArray(
        np.cumsum(steps, axis=1),
        dims=("chain", "draw", "coordinate"),
        coords={"time": ("draw", time, {"units": "s"}), "temperature": ("chain", np.full(chains, temperature))},
        attrs={"units": "m"},
        name="position",
    )


@pytest.mark.parametrize(("temperature", "dim", "dt"), [(0.1, 3, 0.01), (2.0, 5, 0.3)])
def test_free_diffusion(temperature, dim, dt):
    rng = np.random.default_rng(6)
    position = diffusion(rng, temperature, 400, 60, dim, dt)
    result = distance(position, np.zeros(dim))
    assert result.distance.dims == ("chain", "draw")
    assert result.distance.attrs["units"] == "m"
    square = (result.distance**2).mean("chain")
    error = (result.distance**2).std("chain", ddof=1) / 20
    expected = 2 * temperature * dim * position.time
    assert float(np.abs((square - expected) / error).max()) < Z_MAX
    assert float(np.abs((square - expected / 2) / error).max()) > Z_CONTROL


def test_means_over_chains_by_temperature():
    rng = np.random.default_rng(7)
    parts = [diffusion(rng, t, 5, 400, 2, 0.1) for t in (0.5, 4.0)]
    result = distance(xr.concat(parts, "chain"), np.zeros(2))
    assert result.mean_distance.dims == ("scan_temperature", "draw")
    for part, mean in zip(parts, result.mean_distance, strict=True):
        np.testing.assert_allclose(mean, np.linalg.norm(part, axis=-1).mean(axis=0))
    # <|x|> = sqrt(pi T t) in the plane; one draw of each of many sets of chains.
    marks = 1 + 1e-9 * np.arange(400)
    many = diffusion(rng, 1.0, 2000, 3, 2, 0.1).assign_coords(temperature=("chain", np.repeat(marks, 5)))
    means = distance(many, np.zeros(2)).isel(draw=2)
    assert LOWEST < coverage(means, "mean_distance", np.sqrt(np.pi * 0.3)) < 0.995  # of five: lengthened


def test_kinds_of_positions():
    rng = np.random.default_rng(8)
    points = rng.standard_normal((4, 7, 3))
    origin = rng.standard_normal(3)
    expected = np.linalg.norm(points - origin, axis=-1)
    np.testing.assert_allclose(distance(points, origin).distance, expected)
    np.testing.assert_allclose(distance(points[0, 0], torch.from_numpy(origin)).distance, expected[0, 0])
    run = xr.Dataset({"snapshot": (("chain", "snapshot", "coordinate"), points)})
    minimum = xr.Dataset({"position": ("coordinate", origin)})
    assert distance(run, minimum).distance.dims == ("chain", "snapshot")
    np.testing.assert_allclose(distance(run, minimum).distance, expected)
    own = points[:, 0]
    np.testing.assert_allclose(distance(points, own).distance, np.linalg.norm(points - own[:, None], axis=-1))
    assert "mean_distance_stderr" in distance(points, origin)
    assert np.isnan(distance(points[:1], origin).mean_distance_stderr).all()


@pytest.mark.parametrize("reference", [np.zeros(4), np.zeros((2, 2, 2, 2)), xr.DataArray(np.zeros(3), dims="weight")])
def test_references_that_do_not_fit(reference):
    with pytest.raises(ShapeError):
        distance(np.zeros((5, 3)), reference)


# -- spikes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [0.1, 0.5, 5.0, 80.0])
def test_equilibrium_has_no_spikes(shape):
    result = spikes(np.random.default_rng(9).gamma(shape, 0.3, (300, 5000)))
    assert int(result["count"].sum()) == 0
    assert (result.fraction == 0).all()


def test_spikes_are_counted_once_each():
    rng = np.random.default_rng(10)
    energy = rng.gamma(5.0, 1.0, (3, 20_000))
    height = 400.0 * np.exp(-np.arange(30) / 10.0)
    for start in (500, 6000, 15_000):
        energy[0, start : start + 30] += height
    energy[1, 700:712] = np.tile([900.0, 20.0], 6)  # dips that stay above the median do not end a spike
    result = spikes(energy)
    assert result["count"].to_numpy().tolist() == [3, 1, 0]
    above = (energy > result.threshold.to_numpy()[:, None]).mean(axis=1)
    np.testing.assert_allclose(result.fraction, above)
    np.testing.assert_allclose(result.largest, energy.max(axis=1))
    assert 15 < float(result.threshold[0]) < 60
    assert (spikes(energy, factor=30.0)["count"] <= result["count"]).all()
    assert float(spikes(energy, factor=4.0).threshold[0]) == pytest.approx(2 * float(result.threshold[0]))


def test_errors_of_rare_spikes():
    """Spikes at random times with random lengths: the counts are Poisson, the fraction compound Poisson."""
    rng = np.random.default_rng(11)
    draws, rate = 4000, 12 / 4000
    energy = rng.gamma(50.0, 0.02, (400, draws))
    for chain in energy:
        for start in np.flatnonzero(rng.random(draws) < rate):
            chain[start : start + rng.geometric(0.2)] = 1e3
    result = spikes(energy)
    begun = draws * rate / (1 + 5 * rate)  # those that begin inside another, or next to it, are lost
    assert LOWEST < coverage(result, "count", begun) < HIGHEST
    truth = 1 - np.prod(1 - rate * 0.8 ** np.arange(200))
    assert LOWEST < coverage(result, "fraction", truth) < HIGHEST


def test_series_of_either_sign():
    rng = np.random.default_rng(12)
    x = ar1(rng, (50, 5000), 0.9)
    assert int(spikes(x)["count"].sum()) == 0
    x[:, 100] = 40.0
    assert (spikes(x)["count"] == 1).all()
    x[3, 7] = np.nan
    assert int(spikes(x)["count"][3]) == -1
    with pytest.raises(ConfigError):
        spikes(x, factor=0.5)


# -- effective temperature ----------------------------------------------------------------------------------------


class LinearRegression:
    """Loss <(a.w - b)^2> / 2 with b of unit variance; at w = 0 per-sample gradients are -a b, covariance that of a."""

    def __init__(self, rng, samples, scale, hessian=None):
        self.scale = np.asarray(scale, dtype=float)
        dim = self.scale.size
        basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        self.inputs = torch.as_tensor((rng.standard_normal((samples, dim)) * self.scale) @ basis.T)
        self.targets = torch.as_tensor(rng.standard_normal(samples))
        curvature = self.scale**2 if hessian is None else np.asarray(hessian, dtype=float)
        self.matrix = torch.as_tensor(basis * curvature @ basis.T)
        self.calls = 0

    def sample_gradients(self, position):
        return self.inputs * (self.inputs @ position - self.targets)[:, None]

    def hvp(self, position, vector):
        self.calls += len(vector)
        return vector @ self.matrix


SETTINGS = {"lr": 0.1, "batch_size": 20, "momentum": 0.0}


@pytest.mark.parametrize("change", [{}, {"lr": 0.3}, {"batch_size": 5}, {"momentum": 0.9}, {"sampling": "replacement"}])
def test_every_symbol_of_the_temperature(change):
    setting = SETTINGS | change
    scale = [0.5, 1.0, 1.5, 2.0]
    loss = LinearRegression(np.random.default_rng(13), 4000, scale)
    found = effective_temperature(loss, torch.zeros(4, dtype=torch.float64), **setting)
    finite = 1.0 if "sampling" in change else (4000 - setting["batch_size"]) / 4000
    trace = np.sum(np.square(scale))
    expected = setting["lr"] * finite * trace / (2 * setting["batch_size"] * 4 * (1 - setting["momentum"]))
    assert abs(float(z_scores(found, "temperature", expected))) < Z_MAX
    assert abs(float(z_scores(found, "temperature", 2 * expected))) > Z_CONTROL
    assert abs(float(z_scores(found, "noise_trace", trace))) < Z_MAX


def test_temperature_of_actual_minibatches():
    """Batches drawn without replacement: the measured covariance of a step is 2 T lr per direction on average."""
    rng = np.random.default_rng(14)
    samples, dim, lr = 60, 3, 0.2
    loss = LinearRegression(rng, samples, [0.5, 1.0, 2.0])
    gradients = loss.sample_gradients(torch.zeros(dim, dtype=torch.float64)).numpy()
    order = np.argsort(rng.random((40_000, samples)), axis=1)
    for batch in (10, 45):
        steps = lr * gradients[order[:, :batch]].mean(axis=1)
        noise = ((steps - steps.mean(axis=0)) ** 2).sum(axis=1)
        found = effective_temperature(loss, torch.zeros(dim, dtype=torch.float64), lr, batch)
        z = (noise.mean() - 2 * float(found.temperature) * lr * dim) / (noise.std() / 200)
        assert abs(z) < Z_MAX
    assert float(effective_temperature(loss, torch.zeros(dim, dtype=torch.float64), lr, samples).temperature) == 0.0


@pytest.mark.parametrize(("dim", "samples", "probes"), [(5, 1500, 100), (30, 1500, 12)])
def test_intervals_of_temperature_and_alignment(dim, samples, probes):
    scale, hessian = np.linspace(0.3, 1.5, dim), np.linspace(3.0, 0.2, dim)
    covariance = scale**2
    temperature = 0.1 * covariance.sum() / (2 * 20 * dim) * (samples - 20) / samples
    alignment = (covariance * hessian).sum() / np.linalg.norm(covariance) / np.linalg.norm(hessian)
    inside = []
    for seed in range(250):
        loss = LinearRegression(np.random.default_rng(1000 + seed), samples, scale, hessian)
        found = effective_temperature(loss, torch.zeros(dim, dtype=torch.float64), 0.1, 20, probes=probes, seed=seed)
        pairs = (("temperature", temperature), ("alignment", alignment))
        inside.append([abs(float(z_scores(found, name, value))) < 1.96 for name, value in pairs])
        assert loss.calls == min(dim, probes)
    share = np.mean(inside, axis=0)
    assert LOWEST < share[0] < HIGHEST
    assert LOWEST < share[1] < 0.995


@pytest.mark.parametrize("index", [1.5, 3.0])
def test_intervals_of_the_tail_index(index):
    class Pareto:
        def __init__(self, seed):
            rng = np.random.default_rng(seed)
            direction = rng.standard_normal((4000, 20))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            self.gradients = torch.as_tensor(direction * (1 + rng.pareto(index, 4000))[:, None])

        def sample_gradients(self, position):
            return self.gradients

        def hvp(self, position, vector):
            return vector

    results = [effective_temperature(Pareto(seed), torch.zeros(20), 0.1, 10, probes=2) for seed in range(200)]
    share = np.mean([abs(float(z_scores(r, "tail_index", index))) < 1.96 for r in results])
    assert share > LOWEST  # the error allows for laws that become powers only in the end, as this one does not
    assert np.mean([abs(float(z_scores(r, "tail_index", index))) < 0.4 for r in results]) < LOWEST


def test_noise_shaped_like_the_hessian_is_aligned():
    loss = LinearRegression(np.random.default_rng(15), 20_000, [0.3, 1.0, 3.0])
    result = effective_temperature(loss, torch.zeros(3, dtype=torch.float64), 0.1, 10)
    assert float(result.alignment) == pytest.approx(1.0, abs=0.01)
    flat = LinearRegression(np.random.default_rng(15), 4000, [1.0, 1.0, 1.0, 1.0], hessian=[4.0, 0.0, 0.0, 0.0])
    lone = effective_temperature(flat, torch.zeros(4, dtype=torch.float64), 0.1, 10)
    assert abs(float(z_scores(lone, "alignment", 0.5))) < Z_MAX


def test_positions_of_many_kinds():
    loss = LinearRegression(np.random.default_rng(16), 200, [1.0, 2.0])
    points = np.random.default_rng(17).standard_normal((3, 2, 2))
    run = xr.Dataset(
        {"snapshot": (("chain", "snapshot", "coordinate"), points)}, coords={"temperature": ("chain", [1.0, 2.0, 3.0])}
    )
    result = effective_temperature(loss, run, 0.1, 10)
    assert result.temperature.dims == ("chain", "snapshot")
    assert result.run_temperature.dims == ("chain",)
    alone = effective_temperature(loss, points[2, 1], 0.1, 10)
    assert float(alone.temperature) == pytest.approx(float(result.temperature[2, 1]))
    assert effective_temperature(loss, torch.from_numpy(points[:, 0]), 0.1, 10).temperature.dims == ("chain",)
    assert effective_temperature(loss, points, 0.1, 10).temperature.dims == ("chain", "draw")


BAD = [{"lr": 0.0}, {"lr": np.nan}, {"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": 201}, {"momentum": 1.0}]
BAD += [{"sampling": "shuffled"}, {"probes": 1}, {"tail": 0.0}, {"tail": 0.9}]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_senseless_settings_are_refused(change):
    loss = LinearRegression(np.random.default_rng(18), 200, [1.0, 2.0])
    with pytest.raises(ConfigError):
        effective_temperature(loss, torch.zeros(2, dtype=torch.float64), **{"lr": 0.1, "batch_size": 10, **change})


@pytest.mark.parametrize(
    "position", [torch.zeros(3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64), xr.Dataset()]
)
def test_positions_that_do_not_fit(position):
    loss = LinearRegression(np.random.default_rng(19), 200, [1.0, 2.0])
    with pytest.raises((ShapeError, RuntimeError)):
        effective_temperature(loss, position, 0.1, 10)


def results():
    rng = np.random.default_rng(20)
    loss = LinearRegression(rng, 200, [1.0, 2.0])
    yield participation_ratio(rng.gamma(1.0, 1.0, (2, 300, 10)))
    yield distance(diffusion(rng, 1.0, 3, 10, 2, 0.1), np.zeros(2))
    yield spikes(rng.gamma(1.0, 1.0, (2, 300)))
    yield effective_temperature(loss, torch.zeros(2, dtype=torch.float64), 0.1, 10)


@pytest.mark.parametrize("result", list(results()), ids=lambda r: r.attrs["title"])
def test_results_are_described_and_can_be_stored(tmp_path, result):
    for name, variable in result.variables.items():
        assert {"long_name", "units"} <= set(variable.attrs), name
    assert {"conventions", "cost"} <= set(result.attrs)
    result.to_netcdf(tmp_path / "result.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "result.nc") as stored:
        xr.testing.assert_allclose(stored.load(), result)
