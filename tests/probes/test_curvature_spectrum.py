"""Eigenvalues: all of them, the two ends, their density, and the singular values of the scores."""

import numpy as np
import pytest
import scipy.sparse
import torch
import xarray as xr

from landscape.errors import ConfigError, ShapeError
from landscape.potentials import MullerBrown, NetworkLoss, Quadratic, architectures, datasets
from landscape.probes import curvature
from landscape.probes.curvature import scores
from landscape.probes.curvature.operators import layer_blocks
from landscape.storage.files import save
from landscape.workflows.opening import open as open_run
from tests.probes.curvature_cases import NETWORKS, dense_hessian, draws, jacobian


def spectrum_matrix(values, seed=0):
    """A symmetric matrix with these eigenvalues in random directions."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return (basis * values) @ basis.T


SADDLE = spectrum_matrix(np.concatenate([[-1.0], np.linspace(-0.6, 0.6, 60), [0.9]]))


# -- all eigenvalues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_eigenvalues_are_those_of_dense_autodiff(name):
    loss = NETWORKS[name].loss(weight_decay=0.1)
    truth = np.linalg.eigvalsh(dense_hessian(loss, loss.position()).numpy())
    found = curvature.eigenvalues(loss, loss.position(), chunk_size=4)
    assert found.eigenvalue.dims == ("eigenvalue",)
    np.testing.assert_allclose(found.eigenvalue, truth, rtol=0, atol=1e-9 * np.abs(truth).max())
    assert float(found.asymmetry) < 1e-12


def test_eigenvalues_of_single_precision_modules_are_double():
    loss = NETWORKS["mlp tanh"].loss(dtype=torch.float32)
    at = loss.position()
    truth = np.linalg.eigvalsh(dense_hessian(loss.converted(torch.float64), at.double()).numpy())
    np.testing.assert_allclose(curvature.eigenvalues(loss, at).eigenvalue, truth, atol=1e-12 * truth.max())
    rough = curvature.eigenvalues(loss, at, dtype=torch.float32).eigenvalue
    assert np.abs(rough - truth).max() > 1e-9


def test_eigenvalues_of_formulas():
    potential = MullerBrown()
    points = potential.minima().numpy()
    found = curvature.eigenvalues(potential, points)
    np.testing.assert_allclose(found.eigenvalue, np.linalg.eigvalsh(potential.hessian(points)), rtol=1e-12)
    assert found.eigenvalue.dims == ("position", "eigenvalue")
    assert (found.eigenvalue > 0).all()
    assert (curvature.eigenvalues(potential, potential.saddles()).eigenvalue[:, 0] < 0).all()


def test_leading_dims_and_coordinates_come_back():
    loss = NETWORKS["linear"].loss()
    values = loss.position().numpy() + 0.1 * draws(2, 3, loss.dim).numpy()
    values[1, 2] = np.nan
    run = xr.Dataset(
        {"snapshot": (("chain", "snapshot", "coordinate"), values)},
        {"temperature": ("chain", [0.1, 0.2]), "snapshot_step": ("snapshot", [5, 10, 15])},
    )
    for found in (
        curvature.eigenvalues(loss, run),
        curvature.extreme_eigenvalues(loss, run.snapshot),
        curvature.trace(loss, run.snapshot.transpose("coordinate", "chain", "snapshot")),
        curvature.fisher_trace(loss, run, labels="model"),
        curvature.score_singular_values(loss, run, examples=3),
        curvature.spectral_density(loss, run, probes=2, steps=3),
    ):
        assert found.converged.dims == ("chain", "snapshot")
        assert set(found.coords) >= {"temperature", "snapshot_step"}
        assert not found.converged.values[1, 2]
        for variable in found.data_vars.values():
            assert {"long_name", "units"} <= set(variable.attrs)
        assert {"title", "conventions", "cost", "dtype"} <= set(found.attrs)
    one = curvature.eigenvalues(loss, values[0, 1]).eigenvalue
    np.testing.assert_allclose(curvature.eigenvalues(loss, run).eigenvalue.values[0, 1], one)


def test_results_can_be_stored(tmp_path):
    loss = NETWORKS["mlp relu"].loss()
    at = loss.position().expand(2, 3, -1)
    for number, found in enumerate(
        [
            curvature.eigenvalues(loss, at),
            curvature.eigenvalues(loss, at, blocks="layer"),
            curvature.spectral_density(loss, at, probes=2, steps=3),
            curvature.score_singular_values(loss, at),
        ]
    ):
        save(found, tmp_path / f"{number}.nc")
        with open_run(tmp_path / f"{number}.nc") as back:
            assert back.load().drop_attrs(deep=False).identical(found.drop_attrs(deep=False))
            assert found.attrs.items() <= back.attrs.items()  # it is signed when it is written


def test_layers_have_spectra_of_their_own():
    loss = NETWORKS["mlp relu"].loss()
    hessian = dense_hessian(loss, loss.position()).numpy()
    found = curvature.eigenvalues(loss, loss.position(), blocks="layer")
    ends = curvature.extreme_eigenvalues(loss, loss.position(), blocks="layer", rtol=1e-8)
    start = 0
    for i, size in enumerate(found.weights.values):
        truth = np.linalg.eigvalsh(hessian[start : start + size, start : start + size])
        np.testing.assert_allclose(found.eigenvalue[i, :size], truth, atol=1e-13)
        assert np.isnan(found.eigenvalue[i, size:]).all()
        np.testing.assert_allclose([ends.smallest[i], ends.largest[i]], truth[[0, -1]], atol=1e-7)
        start += size
    assert start == loss.dim


# -- the two ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [np.asarray, torch.from_numpy, scipy.sparse.csr_matrix, scipy.sparse.linalg.aslinearoperator]
)
def test_a_saddle_has_two_ends(wrap):
    found = curvature.extreme_eigenvalues(wrap(SADDLE), rtol=1e-6)
    np.testing.assert_allclose([found.smallest, found.largest], [-1.0, 0.9], atol=1e-9)
    assert found.converged
    assert found.attrs["products"] == int(found.products) < 50


def test_largest_means_most_positive():
    found = curvature.largest_eigenvalue(SADDLE)
    np.testing.assert_allclose(found.largest, 0.9, atol=1e-4)
    assert found.largest_residual <= 1e-3 * 0.9
    negative = curvature.largest_eigenvalue(spectrum_matrix(np.linspace(-5.0, -1.0, 30)), rtol=1e-8)
    np.testing.assert_allclose(negative.largest, -1.0, atol=1e-7)


def test_power_iteration_keeps_the_sign_and_warns():
    with pytest.warns(UserWarning, match="largest magnitude"):
        found = curvature.largest_eigenvalue(SADDLE, method="power", rtol=1e-9, products=2000)
    np.testing.assert_allclose(found.largest, -1.0, atol=1e-4)
    with pytest.warns(UserWarning, match="largest magnitude"):
        both = curvature.extreme_eigenvalues(SADDLE, method="power", rtol=1e-9, products=2000)
    np.testing.assert_allclose([both.smallest, both.largest], [-1.0, 0.9], atol=1e-3)
    with pytest.warns(UserWarning, match="largest magnitude"):
        short = curvature.largest_eigenvalue(SADDLE, method="power", products=5)
    assert not short.converged


POWER = pytest.mark.filterwarnings("ignore:power iteration")


@POWER
@pytest.mark.parametrize("size", [2, 3, 50])
@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-4])
def test_power_iteration_between_two_signs(size, gap):
    """diag(-5, 0, ..., 0, 5): the quotient stands still anywhere, no residual is small, and nothing has converged."""
    matrix = np.diag([-5.0, *[0.0] * (size - 2), 5.0 - gap])
    for seed in range(5):
        found = curvature.largest_eigenvalue(matrix, method="power", seed=seed)
        assert found.largest_residual > 0.1 and not found.converged
        assert not curvature.extreme_eigenvalues(matrix, method="power", seed=seed).converged
    control = curvature.largest_eigenvalue(np.diag([-4.0, *[0.0] * (size - 2), 5.0]), method="power")
    assert control.converged and abs(control.largest - 5.0) < 1e-3 and control.largest_residual < 5e-3


@POWER
@pytest.mark.parametrize("method", ["power", "lanczos"])
def test_converged_means_a_small_residual(method):
    """Whatever the products allowed: converged if and only if the residuals are small."""
    rng = np.random.default_rng(3)
    verdicts = set()
    for _ in range(12):
        matrix = spectrum_matrix(rng.normal(size=20) * rng.choice([1.0, 5.0]))
        for products in (3, 12, 60, 400):
            found = curvature.largest_eigenvalue(matrix, method=method, products=products)
            small = bool(found.largest_residual <= 1e-3 * abs(found.largest))
            assert bool(found.converged) <= small
            verdicts.add((bool(found.converged), small))
            exact = np.linalg.eigvalsh(matrix)
            assert np.abs(exact - float(found.largest)).min() <= float(found.largest_residual) + 1e-12
            both = curvature.extreme_eigenvalues(matrix, method=method, products=products)
            if both.converged:
                scale = max(abs(both.largest), abs(both.smallest))
                assert max(both.largest_residual, both.smallest_residual) <= 1.001e-3 * scale
    assert {(True, True), (False, False)} <= verdicts


def test_an_eigenvalue_lies_within_the_residual():
    for seed in range(30):
        values = np.sort(np.random.default_rng(seed).standard_normal(40))
        matrix = spectrum_matrix(values, seed)
        for limit in (3, 8, 15):
            found = curvature.extreme_eigenvalues(matrix, rtol=1e-12, products=limit, seed=seed)
            for end in ("largest", "smallest"):
                assert np.abs(values - float(found[end])).min() <= float(found[f"{end}_residual"]) + 1e-13


@pytest.mark.parametrize("rtol", [1e-2, 1e-6])
def test_converged_is_what_it_says(rtol):
    matrix = spectrum_matrix(np.linspace(0.0, 1.0, 200) ** 3)
    found = curvature.largest_eigenvalue(matrix, rtol=rtol)
    assert found.converged
    assert float(found.largest_residual) <= rtol * float(found.largest)
    fewer = curvature.largest_eigenvalue(matrix, rtol=rtol, products=int(found.products) - 1)
    assert not fewer.converged
    assert float(fewer.largest_residual) > rtol * float(fewer.largest)


def test_no_ghosts_after_convergence():
    """Without re-orthogonalisation a converged eigenvalue comes back; here every Ritz value stays single."""
    values = np.concatenate([[100.0], np.linspace(0, 1, 80)])
    density = curvature.spectral_density(spectrum_matrix(values), probes=2, steps=81)
    for nodes in density.node.values:
        np.testing.assert_allclose(np.sort(nodes[np.isfinite(nodes)])[-1], 100.0)
        assert (nodes > 50).sum() == 1


def test_degenerate_matrices():
    assert float(curvature.largest_eigenvalue(np.zeros((5, 5))).largest) == 0.0
    one = curvature.extreme_eigenvalues(np.array([[-3.0]]))
    assert (float(one.largest), float(one.smallest), bool(one.converged)) == (-3.0, -3.0, True)
    same = curvature.extreme_eigenvalues(2.0 * np.eye(6))
    np.testing.assert_allclose([same.largest, same.smallest], 2.0)
    broken = curvature.largest_eigenvalue(np.full((3, 3), np.nan))
    assert np.isnan(broken.largest) and not broken.converged


class Turning(Quadratic):
    """Two curvatures that change places along x: the vector of the larger is orthogonal before and after."""

    def __init__(self):
        super().__init__([1.0] * 12)

    def _hvp(self, position, vector):
        s = position[..., :1]
        stiffness = torch.cat([1 + s, 2 - s, *(0.1 * torch.ones_like(s) for _ in range(10))], dim=-1)
        return stiffness * vector


def test_a_warm_start_finds_the_eigenvalue_that_overtakes():
    positions = np.zeros((11, 12))
    positions[:, 0] = np.linspace(0.0, 1.0, 11)
    truth = np.maximum(1 + positions[:, 0], 2 - positions[:, 0])
    warm = curvature.largest_eigenvalue(Turning(), positions, rtol=1e-4)
    np.testing.assert_allclose(warm.largest, truth, rtol=1e-4)


def test_a_warm_start_saves_products():
    loss = NETWORKS["mlp tanh"].loss()
    path = loss.position().numpy() + np.linspace(0, 0.1, 10)[:, None] * draws(loss.dim, seed=8).numpy()
    warm = curvature.extreme_eigenvalues(loss, path)
    cold = curvature.extreme_eigenvalues(loss, path, warm_start=False)
    assert warm.attrs["products"] < 0.9 * cold.attrs["products"]
    np.testing.assert_allclose(warm.largest, cold.largest, rtol=1e-4)


@pytest.mark.parametrize("name", ["convnet batch norm", "transformer", "residual"])
@pytest.mark.always
def test_ends_of_networks(name):
    loss = NETWORKS[name].loss()
    truth = np.linalg.eigvalsh(dense_hessian(loss, loss.position()).numpy())
    found = curvature.extreme_eigenvalues(loss, loss.position(), chunk_size=4)
    assert found.converged
    scale = np.abs(truth).max()
    assert abs(float(found.largest) - truth[-1]) <= max(1e-3 * scale, float(found.largest_residual))
    assert abs(float(found.smallest) - truth[0]) <= 1e-3 * scale


# -- density -----------------------------------------------------------------------------------------------------------


def test_density_is_a_density():
    found = curvature.spectral_density(spectrum_matrix(np.linspace(-1, 2, 60)), steps=40)
    step = float(found.eigenvalue[1] - found.eigenvalue[0])
    np.testing.assert_allclose(found.density.sum() * step, 1.0, atol=1e-3)
    np.testing.assert_allclose(found.weight.sum("ritz"), 1.0, atol=1e-10)
    assert found.attrs["products"] == 8 * 40


def test_moments_are_exact_for_each_probe():
    """sum_j w_j theta_j^k = z^T H^k z / z^T z up to degree 2 steps - 1, here with every entry of z^2 equal."""
    values = np.array([0.5, -1.0, 2.0, 3.0, 1.5])
    found = curvature.spectral_density(np.diag(values), probes=3, steps=3)
    for power in range(6):
        np.testing.assert_allclose((found.weight * found.node**power).sum("ritz"), np.mean(values**power), rtol=1e-10)
    beyond = (found.weight * found.node**6).sum("ritz")
    assert np.abs(beyond - np.mean(values**6)).max() > 1e-3


def test_the_band_covers_the_broadened_density():
    values = np.sort(np.random.default_rng(1).standard_normal(150))
    matrix = spectrum_matrix(values)
    inside = []
    for seed in range(60):
        found = curvature.spectral_density(matrix, probes=6, steps=150, width=0.2, points=41, seed=seed)
        x = found.eigenvalue.values
        truth = np.exp(-0.5 * ((x[:, None] - values) / 0.2) ** 2).mean(1) / (0.2 * np.sqrt(2 * np.pi))
        inside.append(np.abs(found.density - truth)[20] < 1.96 * found.density_stderr[20])
    assert 0.85 <= np.mean(inside) <= 1.0
    assert float(found.density_stderr[20]) < 0.2 * float(found.density[20])


def test_outliers_of_a_density_are_eigenvalues():
    values = np.concatenate([np.random.default_rng(0).uniform(-1, 1, 200), [6.0, 9.0]])
    found = curvature.spectral_density(spectrum_matrix(values), probes=3, steps=30)
    assert found.converged
    for place in (6.0, 9.0):
        nearest = np.abs(found.node - place).min("ritz")
        assert (nearest < 1e-6).all()
    weights = found.weight.where(found.node > 5).sum("ritz").mean()
    assert 0 < float(weights) < 0.05


# -- singular values of the scores -------------------------------------------------------------------------------------


def dense_scores(loss, examples):
    jac, outputs = jacobian(loss, loss.position())
    p = outputs[:examples].softmax(1)
    one = torch.eye(p.shape[1], dtype=p.dtype)
    rows = torch.einsum("nc,ncd,nde->nce", p.sqrt(), one - p[:, None, :], jac[:examples])
    return rows.flatten(0, 1) / examples**0.5


@pytest.mark.parametrize("examples", [None, 5])
@pytest.mark.parametrize("name", ["mlp relu", "convnet batch norm", "layer norm", "tied", "transformer"])
def test_singular_values_of_the_scores(name, examples, monkeypatch):
    loss = NETWORKS[name].loss()
    truth = torch.linalg.svdvals(dense_scores(loss, examples or loss.samples)).numpy()
    found = curvature.score_singular_values(loss, loss.position(), examples=examples, chunk_size=4)
    assert found.sizes["singular_value"] == 3 * (examples or loss.samples)
    values = found.singular_value.values[: len(truth)]
    np.testing.assert_allclose(values[truth > 1e-4 * truth[0]], truth[truth > 1e-4 * truth[0]], rtol=1e-9)
    assert (np.abs(values - truth) <= 30 * found.singular_value_stderr.values[: len(truth)]).all()
    # strips of a few rows: the matrix is never whole
    monkeypatch.setattr(scores, "STRIP_BYTES", 8 * 33 * 13)
    stripped = curvature.score_singular_values(loss, loss.position(), examples=examples)
    np.testing.assert_allclose(stripped.singular_value[0], values[0], rtol=1e-12)
    assert stripped.attrs["gradients"] > found.attrs["gradients"]


@pytest.mark.parametrize("name", ["mlp relu", "convnet batch norm", "transformer"])
def test_singular_values_of_layers_smaller_than_the_data(name):
    """Fewer weights than columns: the rest is zero, whichever Gram matrix was taken."""
    loss = NETWORKS[name].loss()
    found = curvature.score_singular_values(loss, loss.position(), blocks="layer", chunk_size=4)
    dense = dense_scores(loss, loss.samples)
    sizes = []
    for number, part in enumerate(layer_blocks(loss).values()):
        truth = torch.linalg.svdvals(dense[:, part]).numpy()
        values, errors = found.singular_value.values[number], found.singular_value_stderr.values[number]
        large = truth > 1e-4 * truth[0]
        np.testing.assert_allclose(values[: len(truth)][large], truth[large], rtol=1e-9)
        assert (np.abs(values[: len(truth)] - truth) <= 30 * errors[: len(truth)] + 1e-300).all()
        assert (values[len(truth) :] == 0).all()
        sizes.append(len(truth))
    assert min(sizes) < len(dense)


def test_squares_of_singular_values_sum_to_the_fisher_trace():
    loss = NETWORKS["convnet group norm"].loss()
    for blocks in (None, "layer"):
        values = curvature.score_singular_values(loss, loss.position(), blocks=blocks).singular_value
        fisher = curvature.fisher_trace(loss, loss.position(), labels="model", blocks=blocks).fisher_trace
        np.testing.assert_allclose((values**2).sum("singular_value"), fisher, rtol=1e-12)


# -- scaling with temperature ------------------------------------------------------------------------------------------


def stored(values, temperature):
    dims = ("chain", "snapshot", "eigenvalue")
    return xr.Dataset({"eigenvalue": (dims, values)}, {"temperature": ("chain", temperature)})


@pytest.mark.parametrize("power", [0.0, 1.0, 1.3])
def test_exponent_of_the_median(power):
    rng = np.random.default_rng(3)
    levels = np.repeat([1e-6, 3e-6, 1e-5, 3e-5], 4)
    shape = rng.lognormal(0, 2.0, size=60)
    values = (levels**power)[:, None, None] * shape * rng.lognormal(0, 0.05, size=(16, 5, 1))
    values = np.concatenate([values, 0 * values[..., :7], -0.01 * values[..., :3]], axis=-1)
    given = xr.Dataset(
        {"eigenvalue": (("chain", "snapshot", "eigenvalue"), values)}, {"temperature": ("chain", levels)}
    )
    found = curvature.temperature_scaling(given)
    assert abs(float(found.exponent) - power) < 4.5 * float(found.exponent_stderr)
    assert 0.001 < float(found.exponent_stderr) < 0.05
    np.testing.assert_allclose(found.negative_fraction, 3 / 70)
    np.testing.assert_allclose(found.zero_fraction, 7 / 70)
    if power == 1.0:
        assert float(found.scaled_distance) < 0.1 < float(found.distance)
    if power == 0.0:
        assert float(found.distance) < 0.1 < float(found.scaled_distance)


def test_the_error_of_the_exponent_covers():
    rng = np.random.default_rng(4)
    levels = np.repeat([1.0, 2.0, 4.0, 8.0], 6)
    inside = []
    for _ in range(200):
        values = (levels * rng.lognormal(0, 0.2, size=24))[:, None, None] * np.array([0.5, 1.0, 2.0])
        given = xr.Dataset(
            {"eigenvalue": (("chain", "snapshot", "eigenvalue"), values)}, {"temperature": ("chain", levels)}
        )
        found = curvature.temperature_scaling(given)
        inside.append(abs(float(found.exponent) - 1.0) < 1.96 * float(found.exponent_stderr))
    assert 0.90 <= np.mean(inside) <= 0.995


# -- bad input ---------------------------------------------------------------------------------------------------------

LOSS = NETWORKS["mlp relu"]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda loss, at: curvature.eigenvalues(loss), ConfigError, "positions are missing"),
        (lambda loss, at: curvature.eigenvalues(loss, at[:-1]), ShapeError, "last dimension"),
        (lambda loss, at: curvature.eigenvalues(np.eye(3), at), ConfigError, "leave them out"),
        (lambda loss, at: curvature.eigenvalues(np.ones((2, 3))), ShapeError, "square"),
        (lambda loss, at: curvature.eigenvalues("H"), ShapeError, "square"),
        (lambda loss, at: curvature.eigenvalues(np.eye(2) * 1j), ShapeError, "real"),
        (lambda loss, at: curvature.eigenvalues(loss, ["a"]), ShapeError, "real numbers"),
        (lambda loss, at: curvature.eigenvalues(loss, at, blocks="row"), ConfigError, "blocks"),
        (lambda loss, at: curvature.eigenvalues(Quadratic([1.0]), [0.0], blocks="layer"), ConfigError, "NetworkLoss"),
        (lambda loss, at: curvature.eigenvalues(loss, xr.Dataset({"energy": 1.0})), ShapeError, "snapshot"),
        (lambda loss, at: curvature.extreme_eigenvalues(loss, at, rtol=0.0), ConfigError, "rtol"),
        (lambda loss, at: curvature.extreme_eigenvalues(loss, at, products=0), ConfigError, "products"),
        (lambda loss, at: curvature.extreme_eigenvalues(loss, at, method="qr"), ConfigError, "method"),
        (lambda loss, at: curvature.extreme_eigenvalues(loss, at, seed=-1), ConfigError, "seed"),
        (lambda loss, at: curvature.spectral_density(loss, at, probes=1), ConfigError, "probes"),
        (lambda loss, at: curvature.spectral_density(loss, at, width=-1.0), ConfigError, "width"),
        (lambda loss, at: curvature.score_singular_values(loss, at, examples=99), ConfigError, "examples"),
        (lambda loss, at: curvature.score_singular_values(Quadratic([1.0]), [0.0]), ConfigError, "NetworkLoss"),
        (lambda loss, at: curvature.temperature_scaling(curvature.eigenvalues(loss, at)), ConfigError, "temperature"),
    ],
)
def test_bad_input(call, error, words):
    loss = LOSS.loss()
    with pytest.raises(error, match=words):
        call(loss, loss.position())


def test_scores_need_classes():
    loss = NETWORKS["mlp relu mse"].loss()
    with pytest.raises(ConfigError, match="cross_entropy"):
        curvature.score_singular_values(loss, loss.position())


@pytest.mark.slow
def test_spectra_of_the_network_of_the_temperature_scans():
    """883 weights at a few snapshots: the exact Hessian against products."""
    loss = NetworkLoss(architectures.mlp((10, 20, 20, 10, 3)), datasets.random_labels(), dtype=torch.float64)
    at = loss.position()
    exact = curvature.eigenvalues(loss, at).eigenvalue.values
    operator = curvature.HessianOperator(loss, at)
    products = np.linalg.eigvalsh((operator @ torch.eye(883, dtype=torch.float64)).numpy())
    np.testing.assert_allclose(exact, products, rtol=0, atol=1e-12 * exact[-1])


@pytest.mark.slow
def test_a_wide_network_runs():
    """WRN-16-4, 2.7 million weights, two images, one at a time."""
    module = architectures.wide_resnet(16, 4)
    images = draws(2, 3, 32, 32).float()
    loss = NetworkLoss(module, images, torch.tensor([3, 7]), batchnorm="frozen", chunk_size=1)
    at = loss.position()
    assert loss.dim > 2_700_000
    ends = curvature.largest_eigenvalue(loss, at, products=2)
    assert float(ends.largest) > float(ends.smallest)
    assert not ends.converged
    exact = float(curvature.trace(loss, at, method="exact").trace)
    values = curvature.score_singular_values(loss, at).singular_value
    np.testing.assert_allclose((values**2).sum(), exact, rtol=1e-3)
