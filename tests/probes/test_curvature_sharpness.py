"""The rise of the energy within a ball: closed forms, trust regions, error bars, walls and networks."""

import copy
import json

import numpy as np
import pytest
import scipy.optimize
import torch
import xarray as xr

from landscape import potentials
from landscape.errors import ConfigError, ShapeError
from landscape.potentials import Potential, Quadratic
from landscape.probes import curvature
from tests.probes.curvature_cases import NETWORKS, draws


class Form(Potential):
    """V(x) = x K x / 2 with any symmetric K."""

    def __init__(self, matrix):
        self.matrix = torch.as_tensor(matrix, dtype=torch.float64)
        self.dim = len(self.matrix)
        self.coordinates, self.bounds = None, {}

    def _energy(self, position):
        return 0.5 * ((position @ self.matrix) * position).sum(-1)


class Written(Potential):
    """An energy written down as a function of the coordinates."""

    def __init__(self, function, dim, bounds=None):
        self.function, self.dim = function, dim
        self.coordinates = tuple("xyzw"[:dim])
        self.bounds = bounds or {}

    def _energy(self, position):
        return self.function(*position.unbind(-1))


def trust_region(matrix, gradient, radius):
    """max of g e + e K e / 2 for |e| <= radius: (m - K) e = g, |e| = radius, m >= the largest eigenvalue and 0."""
    values, basis = np.linalg.eigh(matrix)
    g = basis.T @ gradient
    if values[-1] < 0 and np.linalg.norm(g / values) <= radius:  # a maximum inside
        return float(-0.5 * (g**2 / values).sum())
    low = max(values[-1], 0.0)
    high = low + np.linalg.norm(g) / radius + 1.0
    with np.errstate(divide="ignore"):

        def excess(m):
            return 1 / radius - 1 / np.linalg.norm(g / (m - values))

        if not excess(low * (1 + 1e-13) + 1e-13) > 0:  # hard case: the rest of the length lies along the top
            assert abs(g[-1]) < 1e-10
            e = np.append(g[:-1] / (low - values[:-1]), 0.0)
            e[-1] = np.sqrt(radius**2 - e @ e)
        else:
            m = scipy.optimize.brentq(excess, low * (1 + 1e-13) + 1e-13, high, xtol=1e-14)
            e = g / (m - values)
    assert np.linalg.norm(e) <= radius * (1 + 1e-6)
    return float(g @ e + 0.5 * values @ e**2)


def rotated(values, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (basis * np.asarray(values)) @ basis.T


SPECTRA = {
    "positive": np.linspace(0.5, 4.0, 12),
    "indefinite": np.linspace(-5.0, 3.0, 12),
    "negative": np.linspace(-5.0, -0.3, 12),
    "two nearly equal": np.r_[np.linspace(0.1, 1.0, 20), 3.0, 3.003],
    "one large": np.r_[0.01 * np.ones(30), 50.0],
    "one dimension": np.array([2.5]),
}


@pytest.mark.parametrize("radius", [0.3, 2.0])
@pytest.mark.parametrize("name", SPECTRA)
def test_maximum_and_mean_at_the_minimum_of_a_quadratic(name, radius):
    matrix = rotated(SPECTRA[name])
    size, at = len(matrix), np.zeros(len(matrix))
    found = curvature.sharpness(Form(matrix), at, radius=radius)
    truth = max(radius**2 * SPECTRA[name].max() / 2, 0.0)
    assert truth - 1e-12 <= float(found.maximum) + 2 * float(found.maximum_stderr) <= 1.01 * truth + 1e-9
    assert float(found.maximum) <= truth * (1 + 1e-12) + 1e-12
    assert bool(found.converged)
    mean = radius**2 * np.trace(matrix) / (2 * (size + 2))
    assert abs(float(found["mean"]) - mean) < 4.5 * float(found.mean_stderr)
    assert abs(float(found["mean"]) * (size + 2) / size - mean) > 1e-9  # the sphere has another mean
    sphere = curvature.sharpness(Form(matrix), at, radius=radius, kind="mean", sphere=True)
    assert abs(float(sphere["mean"]) - radius**2 * np.trace(matrix) / (2 * size)) < 4.5 * float(sphere.mean_stderr)


@pytest.mark.parametrize("radius", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", SPECTRA)
def test_maximum_off_the_minimum_solves_the_trust_region_problem(name, seed, radius):
    matrix = rotated(SPECTRA[name], seed)
    at = np.random.default_rng(seed + 7).standard_normal(len(matrix))
    truth = trust_region(matrix, matrix @ at, radius)
    found = curvature.sharpness(Form(matrix), at, radius=radius, kind="max", vectors=True)
    assert bool(found.converged)
    maximum, error = float(found.maximum), float(found.maximum_stderr)
    assert truth - 2 * error <= maximum <= truth * (1 + 1e-10)
    assert error < 0.01 * truth
    e = found["vector"].values
    assert np.linalg.norm(e) <= radius * (1 + 1e-10)
    np.testing.assert_allclose((matrix @ at) @ e + e @ matrix @ e / 2, maximum, rtol=1e-10)
    one = radius * matrix @ at / np.linalg.norm(matrix @ at)
    np.testing.assert_allclose(found.first_order, (matrix @ at) @ one + one @ matrix @ one / 2, rtol=1e-10)
    assert float(found.first_order) <= maximum * (1 + 1e-12)


def test_a_radius_a_hundredth_larger_is_told_apart():
    """Control of the two tests above."""
    matrix = rotated(SPECTRA["positive"])
    at = np.random.default_rng(3).standard_normal(len(matrix))
    found = curvature.sharpness(Form(matrix), at, radius=0.5, kind="max")
    wrong = trust_region(matrix, matrix @ at, 0.505)
    assert not wrong - 2 * float(found.maximum_stderr) <= float(found.maximum)


def test_maximum_where_the_gradient_has_no_part_along_the_top():
    """The hard case of trust regions: two maxima, mirror images of each other."""
    values = np.array([1.0, 2.0, 4.0])
    at = np.array([0.3, 0.2, 0.0])
    found = curvature.sharpness(Form(np.diag(values)), at, radius=1.0, kind="max")
    np.testing.assert_allclose(found.maximum, trust_region(np.diag(values), values * at, 1.0), rtol=1e-6)
    assert bool(found.converged)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_adaptive_is_plain_in_scaled_coordinates(norm):
    matrix = rotated(SPECTRA["indefinite"])
    at = np.random.default_rng(5).standard_normal(len(matrix))
    at[3] = 0.0  # does not move
    scaled = at[:, None] * matrix * at
    found = curvature.sharpness(Form(matrix), at, radius=0.4, adaptive=True, norm=norm, vectors=True)
    assert float(found["vector"][3]) == 0.0
    if norm == "l2":
        truth = trust_region(scaled, at * (matrix @ at), 0.4)
        np.testing.assert_allclose(found.maximum, truth, rtol=1e-4)
        mean = 0.4**2 * np.trace(scaled) / (2 * (11 + 2))  # of twelve coordinates eleven move
        assert np.linalg.norm(found["vector"][at != 0] / at[at != 0]) <= 0.4 * (1 + 1e-9)
    else:
        mean = 0.4**2 * np.trace(scaled) / 6
        assert (np.abs(found["vector"]) <= 0.4 * np.abs(at) * (1 + 1e-12)).all()
    assert abs(float(found["mean"]) - mean) < 4.5 * float(found.mean_stderr)
    plain = curvature.sharpness(Form(matrix), at, radius=0.4, norm=norm)
    assert abs(float(plain.maximum) - float(found.maximum)) > 0.05 * float(plain.maximum)


def test_adaptive_does_not_see_how_weights_are_shared_between_layers():
    """A ReLU network whose first layer is halved and whose last is doubled is the same function."""
    loss = NETWORKS["mlp relu"].loss()
    position = loss.position()
    other = position.clone()
    bias = {slot.name: slice(slot.offset, slot.offset + slot.size) for slot in loss.layout}
    for name, factor in (("0.weight", 0.5), ("0.bias", 0.5), ("2.weight", 2.0)):
        other[bias[name]] *= factor
    pair = torch.stack([position, other])
    adaptive = curvature.sharpness(loss, pair, radius=0.05, adaptive=True, kind="max")
    np.testing.assert_allclose(adaptive.first_order[1], adaptive.first_order[0], rtol=1e-10)
    np.testing.assert_allclose(adaptive.maximum[1], adaptive.maximum[0], rtol=1e-3)
    plain = curvature.sharpness(loss, pair, radius=0.05, kind="max")
    assert abs(float(plain.maximum[1] / plain.maximum[0]) - 1) > 0.05


def test_the_box():
    """Of a diagonal form: the corner, and rho^2 tr K / 6."""
    values = np.array([1.0, 3.0, -2.0])
    found = curvature.sharpness(Form(np.diag(values)), np.zeros(3), radius=0.5, norm="linf")
    np.testing.assert_allclose(found.maximum, 0.25 * 4.0 / 2, rtol=1e-9)
    assert abs(float(found["mean"]) - 0.25 * 2 / 6) < 4.5 * float(found.mean_stderr)
    corners = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    matrix = np.abs(rotated(np.linspace(1.0, 4.0, 8))) + np.eye(8)
    at = np.linspace(0.1, 0.5, 8)
    truth = max(float((matrix @ at) @ (0.3 * c) + 0.045 * c @ matrix @ c) for c in corners.T)
    one = curvature.sharpness(Form(matrix), at, radius=0.3, norm="linf", kind="max")
    np.testing.assert_allclose(one.maximum, truth, rtol=1e-9)


# -- landscapes that are not quadratic ---------------------------------------------------------------------------------

WRITTEN = {
    "double well": lambda x, y: (x**2 - 1) ** 2 + 0.3 * x + 2 * y**2,
    "waves": lambda x, y: torch.sin(2 * x) * torch.cos(y) + 0.1 * x,
    "quartic": lambda x, y: x**4 + 0.2 * y**4 + 0.1 * x * y**3,
    "saturating": lambda x, y: torch.sqrt(1 + 5 * (x - 0.1) ** 2 + y**2),
    "valley": lambda x, y: (1 + y**2) * x**2 + 0.1 * y,
}


@pytest.mark.parametrize("radius", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("name", WRITTEN)
def test_maximum_in_two_dimensions_against_a_grid(name, radius):
    """Where it says that it has converged, the truth lies within two error bars; it says so more often than not."""
    potential = Written(WRITTEN[name], 2)
    angle, length = np.meshgrid(np.linspace(0, 2 * np.pi, 721), np.linspace(0, radius, 101))
    ball = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=-1).reshape(-1, 2)
    places = np.array([[0.0, 0.0], [0.4, -0.3], [-0.8, 0.5]])
    found = curvature.sharpness(potential, places, radius=radius, kind="max", starts=6)
    for at, one in zip(places, (found.isel(position=i) for i in range(3)), strict=True):
        truth = float((potential.energy(at + ball) - potential.energy(at)).max())
        assert float(one.maximum) >= truth - 1e-3 * truth - 2 * float(one.maximum_stderr)
        assert float(one.maximum) <= truth * (1 + 1e-2) + 1e-9
    assert found.converged.mean() > 0.5


def test_a_single_gradient_is_not_said_to_have_converged():
    """Control: one evaluation at the starts is not stationary, and its error bar still covers."""
    matrix = rotated(SPECTRA["indefinite"])
    at = 0.1 * np.random.default_rng(3).standard_normal(len(matrix))
    truth = trust_region(matrix, matrix @ at, 1.0)
    found = curvature.sharpness(Form(matrix), at, radius=1.0, kind="max", steps=1, products=0)
    assert not bool(found.converged)
    assert float(found.maximum) < 0.99 * truth <= float(found.maximum) + 2 * float(found.maximum_stderr)


def test_a_top_that_no_random_start_finds_is_flagged():
    """A narrow peak that one start alone reaches."""
    at = np.array([0.0, 0.0])
    peak = Written(lambda x, y: 0.5 * (x**2 + y**2) + 5 * torch.exp(-400 * ((x - 0.5) ** 2 + y**2)) + 0.3 * x, 2)
    found = curvature.sharpness(peak, at, radius=1.0, kind="max", starts=3)
    if float(found.maximum) < 1.0:  # missed by all: nothing could tell
        assert float(found.maximum) > 0.7
    else:
        assert not bool(found.converged)


def test_inside_a_maximum_nothing_rises():
    hill = Written(lambda x, y: -(x**2) - 2 * y**2, 2)
    found = curvature.sharpness(hill, [0.0, 0.0], radius=0.5)
    assert float(found.maximum) == 0.0 and bool(found.converged) and np.isnan(found.first_order)
    aside = curvature.sharpness(hill, [0.2, 0.0], radius=0.5, kind="max")
    np.testing.assert_allclose(aside.maximum, 0.04, rtol=1e-4)


def test_energies_that_are_not_finite_make_no_number():
    wall = Written(lambda x, y: x.log() + y**2, 2)
    found = curvature.sharpness(wall, [[1.0, 0.0], [0.2, 0.0]], radius=0.5)
    assert found.converged.values.tolist() == [True, False]
    assert np.isnan(found["mean"][1])
    cliff = Written(lambda x, y: torch.exp(1e3 * x) + y**2, 2)
    assert np.isnan(curvature.sharpness(cliff, [0.6, 0.0], radius=0.5).maximum)


# -- the mean ----------------------------------------------------------------------------------------------------------


def test_error_bars_of_the_mean_cover():
    """95 % intervals over 200 seeds; bars of half the size would not do."""
    matrix = rotated(np.r_[3.0, 1.0, -2.0, 0.5 * np.ones(5)])
    at = np.random.default_rng(0).standard_normal(8)
    truth = 0.7**2 * np.trace(matrix) / (2 * 10)
    found = [
        curvature.sharpness(Form(matrix), at, radius=0.7, kind="mean", samples=20, seed=seed) for seed in range(200)
    ]
    z = np.array([(float(one["mean"]) - truth) / float(one.mean_stderr) for one in found])
    assert 0.9 <= np.mean(np.abs(z) < 1.96) <= 0.985
    assert np.mean(np.abs(2 * z) < 1.96) < 0.85
    assert abs(z.mean()) < 4.5 * z.std() / np.sqrt(200)


def test_pairs_cancel_the_gradient():
    """On a slope the mean rise is exactly zero."""
    slope = Written(lambda x, y: 3 * x - y, 2)
    found = curvature.sharpness(slope, [0.3, 0.1], radius=0.5)
    assert abs(float(found["mean"])) < 1e-14 and float(found.mean_stderr) < 1e-13
    np.testing.assert_allclose(found.maximum, 0.5 * np.sqrt(10), rtol=1e-10)


# -- positions, walls, settings ----------------------------------------------------------------------------------------


def test_dims_of_positions_and_radii():
    run = xr.Dataset(
        {"snapshot": (("chain", "snapshot", "coordinate"), draws(2, 3, 2).numpy())},
        {"temperature": ("chain", [1.0, 2.0])},
    )
    run.snapshot[0, 1] = np.nan
    quadratic = Quadratic([1.0, 4.0])
    found = curvature.sharpness(quadratic, run, radius=[0.1, 0.5], vectors=True)
    assert found.maximum.dims == ("chain", "snapshot", "radius")
    assert found["vector"].dims == ("chain", "snapshot", "radius", "coordinate")
    assert np.isnan(found.maximum[0, 1]).all() and not found.converged[0, 1].any()
    one = curvature.sharpness(quadratic, run.snapshot[1, 2], radius=0.5)
    np.testing.assert_allclose(one.maximum, found.maximum[1, 2, 1], rtol=1e-6)
    np.testing.assert_allclose(one["mean"], found["mean"][1, 2, 1], rtol=1e-12)  # the same directions everywhere
    assert "temperature" in found.coords and found.radius.values.tolist() == [0.1, 0.5]
    for name in found.data_vars:
        assert found[name].attrs["long_name"] and found[name].attrs["units"]
    assert {"title", "method", "cost", "conventions", "ball", "gradients", "energies", "products"} <= set(found.attrs)


def test_a_ball_that_reaches_beyond_a_wall():
    walled = Written(lambda x, y: x**2 + y**2, 2, bounds={"x": (0.0, 2.0)})
    with pytest.warns(UserWarning, match=r"walls of \['x'\]"):
        found = curvature.sharpness(walled, [[1.0, 0.0], [0.1, 0.0]], radius=[0.05, 0.5])
    assert found.converged.values.tolist() == [[True, True], [True, False]]
    assert np.isnan(found.maximum[1, 1]) and np.isnan(found["mean"][1, 1])
    np.testing.assert_allclose(found.maximum[1, 0], 0.15**2 - 0.1**2, rtol=1e-6)


def test_seeds_and_repetition():
    quadratic, at = Form(rotated(SPECTRA["indefinite"])), np.linspace(-1, 1, 12)
    state = torch.get_rng_state()
    first, again = (curvature.sharpness(quadratic, at, radius=1.0, seed=3) for _ in range(2))
    assert first.identical(again)
    assert float(curvature.sharpness(quadratic, at, radius=1.0, seed=4)["mean"]) != float(first["mean"])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"radius": 0.0}, "radius"),
        ({"radius": "far"}, "radius"),
        ({"radius": [0.1, np.nan]}, "radius"),
        ({"radius": True}, "radius"),
        ({"radius": 1.0, "kind": "median"}, "kind"),
        ({"radius": 1.0, "norm": "l1"}, "norm"),
        ({"radius": 1.0, "norm": "linf", "sphere": True}, "sphere"),
        ({"radius": 1.0, "starts": 0}, "starts"),
        ({"radius": 1.0, "samples": 2}, "samples"),
        ({"radius": 1.0, "adaptive": 1}, "adaptive"),
        ({"radius": 1.0, "kind": "mean", "vectors": True}, "vectors"),
        ({"radius": 1.0, "seed": -1}, "seed"),
        ({"radius": 1.0, "dtype": "float32"}, "dtype"),
    ],
)
def test_bad_input(settings, words):
    with pytest.raises(ConfigError, match=words):
        curvature.sharpness(Quadratic([1.0, 2.0]), [0.0, 0.0], **settings)


def test_bad_positions():
    with pytest.raises(ShapeError, match="2"):
        curvature.sharpness(Quadratic([1.0, 2.0]), [0.0, 0.0, 1.0], radius=1.0)
    with pytest.raises(ConfigError, match="potential"):
        curvature.sharpness(np.eye(2), None, radius=1.0)


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp tanh", "convnet batch norm", "transformer"])
def test_networks_on_all_their_data(name):
    """Ends of the displacement by the loss itself; in small balls the quadratic form of the dense Hessian."""
    loss = NETWORKS[name].loss(weight_decay=0.1)
    before = copy.deepcopy(loss.module.state_dict())
    position, radius = loss.position(), 0.02
    found = curvature.sharpness(loss, position, radius=radius, vectors=True, chunk_size=4)
    rise = loss.energy(position.numpy() + found["vector"].values) - loss.energy(position.numpy())
    np.testing.assert_allclose(found.maximum, rise, rtol=1e-9)
    hessian, gradient = np.asarray(loss.hessian(position)), loss.gradient(position).numpy()
    np.testing.assert_allclose(found.maximum, trust_region(hessian, gradient, radius), rtol=2e-3)
    mean = radius**2 * np.trace(hessian) / (2 * (loss.dim + 2))
    assert abs(float(found["mean"]) - mean) < 4.5 * float(found.mean_stderr)
    whole = curvature.sharpness(loss, position, radius=radius)
    np.testing.assert_allclose(whole["mean"], found["mean"], rtol=1e-7)
    np.testing.assert_allclose(whole.maximum, found.maximum, rtol=1e-6)
    after = loss.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.grad is None for parameter in loss.module.parameters())


def test_at_a_minimum_the_maximum_is_that_of_the_top_eigenvalue():
    loss = NETWORKS["mlp tanh"].loss(weight_decay=0.05)
    minimum = torch.as_tensor(scipy.optimize.minimize(
        lambda x: float(loss.energy(x)), loss.position().numpy(), jac=lambda x: loss.gradient(x), method="BFGS",
        options={"gtol": 1e-8},
    ).x)  # fmt: skip
    found = curvature.sharpness(loss, minimum, radius=0.01, kind="max")
    top = float(curvature.eigenvalues(loss, minimum).eigenvalue[-1])
    np.testing.assert_allclose(found.maximum, 0.5e-4 * top, rtol=1e-2)
    assert bool(found.converged)


def test_single_precision_says_what_rounding_leaves():
    """A rise below the rounding of the energy has an error bar as large as itself."""
    single = NETWORKS["mlp tanh"].loss(dtype=torch.float32)
    double = NETWORKS["mlp tanh"].loss()
    for radius in (1e-6, 1e-2):
        truth = float(curvature.sharpness(double, double.position(), radius=radius, kind="max").maximum)
        found = curvature.sharpness(single, double.position(), radius=radius, kind="max")
        assert abs(float(found.maximum) - truth) < 2 * float(found.maximum_stderr)
        assert (float(found.maximum_stderr) > 0.3 * truth) == (radius == 1e-6)


def test_samples_that_interact_are_not_cut_into_chunks():
    loss = NETWORKS["convnet batch norm"].loss(batchnorm="batch")
    with pytest.raises(ConfigError, match="batch"):
        curvature.sharpness(loss, loss.position(), radius=0.1, chunk_size=4)
    found = curvature.sharpness(loss, loss.position(), radius=0.02, kind="max", steps=15, vectors=True)
    rise = loss.energy(loss.position().numpy() + found["vector"].values) - loss.energy(loss.position().numpy())
    np.testing.assert_allclose(found.maximum, rise, rtol=1e-9)


def test_sharpness_by_its_name():
    """What a specification {"task": "probe"} calls."""
    found = potentials.Quadratic([1.0, 2.0]), xr.DataArray([0.0, 0.0], dims="coordinate").to_dataset(name="position")
    from landscape.workflows.probing import probe

    result = probe(*found, probe="curvature.sharpness", settings={"radius": 0.5, "kind": "max"})
    np.testing.assert_allclose(result.maximum, 0.25, rtol=1e-9)


# -- pictures and the command line -------------------------------------------------------------------------------------


@pytest.fixture
def axes():
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    yield ax
    figure.canvas.draw()
    plt.close(figure)


def test_picture_against_the_radius(axes):
    found = curvature.sharpness(Quadratic([1.0, 4.0]), [0.1, 0.2], radius=[0.01, 0.1, 1.0])
    assert curvature.plot_sharpness(found, axes) is axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["maximum"].get_ydata(), found.maximum)
    np.testing.assert_allclose(lines["mean"].get_xdata(), found.radius)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_picture_along_a_path(axes):
    path = xr.DataArray(
        np.linspace(0, 1, 10).reshape(5, 2),
        dims=("pivot", "coordinate"),
        coords={"arc_length": ("pivot", np.arange(5.0))},
    )
    found = curvature.sharpness(Quadratic([1.0, 4.0]), path, radius=0.5, steps=1, products=0)
    curvature.plot_sharpness(found, axes)
    assert any(line.get_markerfacecolor() == "white" and len(line.get_xdata()) for line in axes.get_lines())
    assert axes.get_xlabel() == "arc length"
    with pytest.raises(ConfigError, match="maximum"):
        curvature.plot_sharpness(found.drop_vars(["maximum", "mean"]))


def test_from_the_command_line(tmp_path, capsys):
    from landscape.cli.app import run as command
    from landscape.storage.files import save
    from landscape.workflows.opening import open as open_run

    quadratic = Quadratic([1.0, 4.0])
    run = xr.Dataset(
        {"snapshot": (("chain", "snapshot", "coordinate"), draws(2, 3, 2).numpy())},
        {"chain": [0, 1]},
        {"spec": json.dumps({"task": "simulate", "potential": quadratic.spec()})},
    )
    source, target = tmp_path / "run.nc", tmp_path / "found.nc"
    save(run, source)
    options = ["-q", "sharpness", "--radius", "0.5", "--adaptive", "--snapshots", "2", "-o", str(target)]
    assert command(["probe", "curvature", str(source), *options]) == 0
    assert "maximum" in capsys.readouterr().out
    with open_run(target) as found:
        truth = curvature.sharpness(quadratic, run.snapshot.isel(snapshot=[0, 2]), radius=0.5, adaptive=True)
        np.testing.assert_allclose(found.maximum, truth.maximum, rtol=1e-12)
    options = ["-q", "diagonal", "-o", str(target), "--force"]
    assert command(["probe", "curvature", str(source), *options]) == 0
    with open_run(target) as found:
        assert found.diagonal.values[1, 2].tolist() == [1.0, 4.0]
    options = ["-q", "top_eigenpairs", "--pairs", "2", "-o", str(target), "--force"]
    assert command(["probe", "curvature", str(source), *options]) == 0
    with open_run(target) as found:
        np.testing.assert_allclose(found.eigenvalue.values[0, 1], [4.0, 1.0], rtol=1e-9)
    for wrong in (
        ["-q", "sharpness"],
        ["-q", "trace", "--pairs", "2"],
        ["-q", "trace", "--radius", "1"],
        ["-q", "trace", "--of", "fisher"],
        ["-q", "diagonal", "--of", "fisher"],
        ["-q", "diagonal", "--adaptive"],
    ):
        assert command(["probe", "curvature", str(source), "-o", str(tmp_path / "none.nc"), *wrong]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "none.nc").exists()
