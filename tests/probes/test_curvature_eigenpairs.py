"""Eigenvectors and what lies along them: the first k pairs, both ends, projections, and the sums they are made of."""

import numpy as np
import pytest
import scipy.sparse
import torch
import xarray as xr

from landscape.errors import ConfigError, ShapeError
from landscape.potentials import Function, Quadratic
from landscape.probes import curvature
from landscape.probes.curvature import eigenpairs, rows
from landscape.probes.curvature.linear import as_linear, sign_probes, uniform_probes
from landscape.probes.curvature.thick_restart import top_pairs
from landscape.storage.files import save
from landscape.workflows.opening import open as open_run
from tests.probes.curvature_cases import NETWORKS, dense_hessian, draws

SIZE = 150
ORDERS = {"largest": lambda x: -x, "smallest": lambda x: x, "magnitude": lambda x: -np.abs(x)}


def spectrum_matrix(values, seed=0):
    """A symmetric matrix with these eigenvalues in random directions."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return (basis * values) @ basis.T


def spectra():
    rng = np.random.default_rng(1)
    return {
        "random": rng.standard_normal(SIZE),
        "outliers": np.r_[np.linspace(5, 50, 8), -3, -2, 0.1 * rng.standard_normal(SIZE - 10)],
        "identity": np.ones(SIZE),
        "projector": np.r_[np.ones(10), np.zeros(SIZE - 10)],
        "rank one": np.r_[2.0, np.zeros(SIZE - 1)],
        "zero": np.zeros(SIZE),
        "repeated": np.r_[np.repeat([5.0, 3.0, -4.0], 5), rng.uniform(-1, 1, SIZE - 15)],
        "negative": -1.0 - np.abs(rng.standard_normal(SIZE)),
    }


SPECTRA = spectra()


@pytest.fixture
def by_products(monkeypatch):
    """Small matrices as large ones are done."""
    monkeypatch.setattr(eigenpairs, "_WRITTEN_OUT", 0)


# -- the first k pairs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ORDERS)
@pytest.mark.parametrize("name", SPECTRA)
def test_the_first_pairs_are_those_of_the_dense_matrix(name, which):
    """With their multiplicities; every vector is one, to its residual."""
    values = SPECTRA[name]
    matrix = spectrum_matrix(values)
    order = ORDERS[which]
    for k in (1, 12):
        truth = values[np.argsort(order(values), kind="stable")][:k]
        found = curvature.top_eigenpairs(matrix, k=k, which=which, rtol=1e-4)
        assert found.converged.all()
        scale = np.abs(values).max()
        np.testing.assert_allclose(order(found.eigenvalue.values), order(truth), atol=1e-6 * scale + 1e-15)
        vectors = found.vector.values
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=1e-10)
        rest = np.linalg.norm(vectors @ matrix - found.eigenvalue.values[:, None] * vectors, axis=1)
        np.testing.assert_allclose(found.residual, rest, atol=1e-13 * scale + 1e-300)
        assert (found.residual <= found.eigenvalue_stderr).all()
        assert int(found.products) == found.attrs["products"] < 500


def test_one_krylov_space_alone_would_miss_what_is_there_twice():
    """Control: Lanczos without a second start sees each eigenvalue once."""
    values = SPECTRA["repeated"]
    linear = as_linear(spectrum_matrix(values))
    ends = curvature.spectral_density(spectrum_matrix(values), probes=2, steps=12)
    assert (ends.node.values > 4.5).sum(1).tolist() == [1, 1]
    pairs = top_pairs(linear, 5, "largest", rtol=1e-6, limit=500, start=None, seed=0, block=1)
    np.testing.assert_allclose(pairs.values, 5.0)


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_and_seeds_agree(block, seed):
    values = SPECTRA["repeated"]
    linear = as_linear(spectrum_matrix(values))
    pairs = top_pairs(linear, 7, "magnitude", rtol=1e-5, limit=500, start=None, seed=seed, block=block)
    assert pairs.converged.all()
    np.testing.assert_allclose(pairs.values, [5] * 5 + [-4] * 2, atol=1e-8)


def test_pairs_that_the_products_do_not_suffice_for_have_not_converged():
    matrix = spectrum_matrix(SPECTRA["random"])
    found = curvature.top_eigenpairs(matrix, k=5, products=20)
    assert not found.converged.any()
    assert int(found.products) <= 20
    truth = np.sort(SPECTRA["random"])
    for value, residual in zip(found.eigenvalue.values, found.residual.values, strict=True):
        if np.isfinite(value):
            assert np.abs(truth - value).min() <= residual + 1e-13
    nothing = curvature.top_eigenpairs(matrix, k=5, products=3)
    assert np.isnan(nothing.eigenvalue).all() and not nothing.converged.any() and np.isnan(nothing.vector).all()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_all_pairs_of_a_small_matrix(k):
    matrix = np.diag([1.0, 1.0, -2.0, 0.0, 0.0])
    found = curvature.top_eigenpairs(matrix, k=k)
    np.testing.assert_allclose(found.eigenvalue, [1.0, 1.0, 0.0, 0.0, -2.0][:k], atol=1e-15)
    assert found.converged.all()


def test_matrices_that_are_no_numbers_have_no_pairs(by_products):
    for matrix in (np.full((5, 5), np.nan), np.full((40, 40), np.inf)):
        with np.errstate(invalid="ignore"):
            found = curvature.top_eigenpairs(matrix, k=2)
        assert np.isnan(found.eigenvalue).all() and not found.converged.any()


@pytest.mark.parametrize(
    "wrap", [torch.from_numpy, scipy.sparse.csr_matrix, scipy.sparse.linalg.aslinearoperator, np.asarray]
)
def test_pairs_of_whatever_can_be_multiplied(wrap, by_products):
    found = curvature.top_eigenpairs(wrap(spectrum_matrix(SPECTRA["outliers"])), k=3)
    np.testing.assert_allclose(found.eigenvalue, np.sort(SPECTRA["outliers"])[:-4:-1], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["layer norm", "convnet batch norm"])
def test_pairs_of_networks(name, dtype, by_products):
    loss = NETWORKS[name].loss(dtype=dtype, weight_decay=0.1)
    at = loss.position()
    truth, vectors = np.linalg.eigh(dense_hessian(loss.converted(torch.float64), at.double()).numpy())
    found = curvature.top_eigenpairs(loss, at, 4, chunk_size=4)
    assert found.converged.all()
    assert found.vector.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    np.testing.assert_allclose(found.eigenvalue, truth[:-5:-1], atol=1e-5 * truth[-1])
    overlap = np.abs((found.vector.values * vectors.T[:-5:-1]).sum(1))
    gaps = np.abs(np.diff(truth[-6:])).min()
    assert (1 - overlap <= (found.residual / gaps) ** 2 + 1e-5).all()
    # the largest entry of each is positive
    assert (np.take_along_axis(found.vector.values, np.abs(found.vector.values).argmax(1)[:, None], 1) > 0).all()


def test_layers_have_pairs_of_their_own():
    loss = NETWORKS["mlp relu"].loss()
    hessian = dense_hessian(loss, loss.position()).numpy()
    found = curvature.top_eigenpairs(loss, loss.position(), 20, blocks="layer")
    start = 0
    for i, size in enumerate(found.weights.values):
        part = slice(start, start + size)
        truth = np.linalg.eigvalsh(hessian[part, part])[::-1]
        count = min(20, size)
        np.testing.assert_allclose(found.eigenvalue[i, :count], truth[:count], atol=1e-12)
        assert np.isnan(found.eigenvalue[i, count:]).all() and not found.converged[i, count:].any()
        outside = np.delete(found.vector.values[i, :count], np.arange(start, start + size), axis=1)
        assert (outside == 0).all()
        start += size


def test_pairs_along_a_path_start_from_their_neighbours(by_products, tmp_path):
    loss = NETWORKS["mlp tanh"].loss()
    path = loss.position().numpy() + np.linspace(0, 0.1, 4)[:, None] * draws(loss.dim, seed=8).numpy()
    path[2] = np.nan
    run = xr.DataArray(path, dims=("pivot", "coordinate"), coords={"arc_length": ("pivot", np.arange(4.0))})
    warm = curvature.top_eigenpairs(loss, run, 3)
    cold = curvature.top_eigenpairs(loss, run, 3, warm_start=False)
    assert warm.vector.dims == ("pivot", "eigenvalue", "coordinate") and "arc_length" in warm.coords
    assert np.isnan(warm.eigenvalue[2]).all() and not warm.converged[2].any()
    np.testing.assert_allclose(warm.eigenvalue, cold.eigenvalue, rtol=1e-5)
    save(warm, tmp_path / "pairs.nc")
    with open_run(tmp_path / "pairs.nc") as back:
        assert back.load().drop_attrs(deep=False).identical(warm.drop_attrs(deep=False))


def test_pairs_of_formulas_and_functions():
    found = curvature.top_eigenpairs(Quadratic([3.0, 1.0, 7.0]), [0.0, 0.0, 0.0], 2)
    np.testing.assert_allclose(found.eigenvalue, [7.0, 3.0])
    np.testing.assert_allclose(found.vector, np.eye(3)[[2, 0]], atol=1e-15)
    saddle = Function(lambda x: x[..., 0] * x[..., 1], dim=2)
    ends = curvature.top_eigenpairs(saddle, [[0.0, 0.0], [1.0, 2.0]], 2, which="smallest")
    np.testing.assert_allclose(ends.eigenvalue, [[-1.0, 1.0]] * 2)


def test_a_matrix_that_is_not_symmetric_is_flagged(by_products):
    matrix = spectrum_matrix(SPECTRA["outliers"])
    matrix[0] += 5.0
    with pytest.warns(UserWarning, match="not symmetric"):
        found = curvature.top_eigenpairs(matrix, k=2)
    assert not found.converged.any()
    assert (found.residual > 1.0).all()


# -- both ends ---------------------------------------------------------------------------------------------------------


def test_both_ends_come_with_their_vectors():
    loss = NETWORKS["mlp tanh"].loss()
    values, vectors = np.linalg.eigh(dense_hessian(loss, loss.position()).numpy())
    found = curvature.extreme_eigenvalues(loss, loss.position(), rtol=1e-8, vectors=True)
    assert found.largest_vector.dims == ("coordinate",)
    for end, truth in (("largest_vector", vectors[:, -1]), ("smallest_vector", vectors[:, 0])):
        np.testing.assert_allclose(abs(found[end].values @ truth), 1.0, atol=1e-10)
        np.testing.assert_allclose(np.linalg.norm(found[end]), 1.0, rtol=1e-12)
    plain = curvature.extreme_eigenvalues(loss, loss.position(), rtol=1e-8)
    assert "largest_vector" not in plain
    np.testing.assert_allclose(plain.largest, values[-1])
    layers = curvature.extreme_eigenvalues(loss, loss.position(), blocks="layer", vectors=True)
    assert layers.largest_vector.dims == ("layer", "coordinate")
    assert ((layers.largest_vector != 0).sum("coordinate") <= layers.weights).all()


# -- projections -------------------------------------------------------------------------------------------------------


def test_a_gradient_and_its_parts():
    found = curvature.project(np.array([3.0, 4.0, 12.0]), np.eye(3)[:2])
    np.testing.assert_allclose(found.fraction, 25 / 169)
    np.testing.assert_allclose(found.coefficient, [3.0, 4.0])
    np.testing.assert_allclose(found.share, [9 / 169, 16 / 169])
    np.testing.assert_allclose(found.isotropic_fraction, 2 / 3)
    assert np.isnan(found.mean_fraction_stderr) and not found.resolved  # a single row has no scatter
    assert np.isnan(curvature.project(np.zeros(3), np.eye(3)[:2]).fraction)


def test_rows_that_are_not_orthonormal_are_made_so():
    skewed = np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    found = curvature.project(np.array([3.0, 4.0, 12.0]), skewed)
    np.testing.assert_allclose(found.coefficient, [3.0, 4.0, 0.0], atol=1e-12)
    assert found.attrs["rank"] == 2
    np.testing.assert_allclose(found.isotropic_fraction, 2 / 3)
    np.testing.assert_allclose(found.fraction, 25 / 169)


def test_the_top_subspace_of_a_network_takes_most_of_a_gradient():
    loss = NETWORKS["convnet"].loss()
    at = loss.position()
    pairs = curvature.top_eigenpairs(loss, at, 6)
    gradients = loss.sample_gradients(at)
    noise = gradients - gradients.mean(0)
    found = curvature.project(noise, pairs)
    projector = pairs.vector.values.T @ pairs.vector.values
    covariance = noise.numpy().T @ noise.numpy()
    np.testing.assert_allclose(found.mean_fraction, np.trace(projector @ covariance) / np.trace(covariance), rtol=1e-9)
    np.testing.assert_allclose(found.share.sum(), found.mean_fraction)
    assert float(found.mean_fraction) > 2 * float(found.isotropic_fraction)
    assert float(found.mean_fraction_stderr) > 0


STIFF = np.r_[3.0, 2.0, 1.5, np.ones(17)]
SHARE = (STIFF[:3] ** 2).sum() / (STIFF**2).sum()


def coverage(sample, seeds):
    inside, halved, errors = [], [], []
    for seed in range(seeds):
        found = curvature.project(sample(np.random.default_rng(seed)), np.eye(20)[:3])
        assert found.resolved
        gap, error = abs(float(found.mean_fraction) - SHARE), float(found.mean_fraction_stderr)
        inside.append(gap < 1.96 * error)
        halved.append(gap < 0.98 * error)
        errors.append(error)
    return np.mean(inside), np.mean(halved), np.mean(errors)


def test_intervals_cover_for_independent_samples():
    inside, halved, _ = coverage(lambda rng: rng.standard_normal((40, 20)) * STIFF, 200)
    assert 0.88 <= inside <= 0.99
    assert halved < 0.85


@pytest.mark.parametrize(("chains", "length"), [(1, 800), (5, 60)])
def test_intervals_cover_for_correlated_draws(chains, length):
    """As many draws taken for independent would have half the error."""

    def chain(rng):
        x, state = np.empty((chains, length, 20)), rng.standard_normal((chains, 20))
        for draw in range(length):
            state = 0.8 * state + 0.6 * rng.standard_normal((chains, 20))
            x[:, draw] = state * STIFF
        return x

    inside, halved, error = coverage(chain, 60)
    assert 0.85 <= inside <= 1.0
    assert halved < 0.87
    independent = curvature.project(chain(np.random.default_rng(0)).reshape(-1, 20), np.eye(20)[:3])
    assert float(independent.mean_fraction_stderr) < 0.7 * error


def test_the_motion_of_a_run_is_its_displacements():
    steps = np.random.default_rng(0).standard_normal((3, 200, 20)) * STIFF
    run = xr.Dataset(
        {"snapshot": (("chain", "snapshot", "coordinate"), np.cumsum(steps, axis=1))},
        {"temperature": ("chain", [1.0] * 3)},
    )
    found = curvature.project(run, np.eye(20)[:3])
    np.testing.assert_allclose(found.fraction[:, 0], (steps[:, 1, :3] ** 2).sum(1) / (steps[:, 1] ** 2).sum(1))
    assert found.fraction.shape == (3, 199)
    assert abs(float(found.mean_fraction) - SHARE) < 4 * float(found.mean_fraction_stderr)
    levels = curvature.project(run.assign_coords(temperature=("chain", [1.0, 2.0, 2.0])), np.eye(20)[:3])
    assert levels.mean_fraction.dims == ("scan_temperature",)
    # opposite noise tells nothing new
    twins = xr.concat([run, -run], "chain").assign_coords(pair=("chain", [0, 1, 2, 0, 1, 2]))
    both = curvature.project(twins, np.eye(20)[:3])
    np.testing.assert_allclose(both.mean_fraction_stderr, found.mean_fraction_stderr, rtol=1e-6)


def test_lost_chains_are_left_out_and_counted():
    g = np.random.default_rng(0).standard_normal((4, 30, 20))
    g[1, 7, 3] = np.nan
    found = curvature.project(g, np.eye(20)[:3])
    kept = curvature.project(g[[0, 2, 3]], np.eye(20)[:3])
    assert found.attrs["dropped"] == 1
    np.testing.assert_allclose(found.mean_fraction, kept.mean_fraction)
    np.testing.assert_allclose(found.mean_fraction_stderr, kept.mean_fraction_stderr)
    assert np.isnan(found.fraction[1, 7])


def test_coordinates_are_matched_by_label():
    g = xr.DataArray([[1.0, 2.0, 3.0]], dims=("sample", "coordinate"), coords={"coordinate": ["a", "b", "c"]})
    v = xr.DataArray([[1.0, 0.0, 0.0]], dims=("eigenvalue", "coordinate"), coords={"coordinate": ["c", "a", "b"]})
    np.testing.assert_allclose(curvature.project(g, v).coefficient, [[3.0]])
    with pytest.raises(ShapeError, match="labels"):
        curvature.project(g, v.assign_coords(coordinate=["x", "a", "b"]))


# -- what they are made of ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e7])
def test_orthonormal_rows_span_the_given_ones(dtype, condition):
    rng = np.random.default_rng(0)
    levels = np.geomspace(1.0, 1.0 / condition, 8)
    mixed = np.linalg.qr(rng.standard_normal((8, 8)))[0] * levels @ rng.standard_normal((8, 9000))
    given = torch.from_numpy(mixed).to(dtype)
    precision = torch.finfo(dtype).eps
    found = rows.orthonormal(given).double()
    np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=200 * precision)
    left = given.double() - (given.double() @ found.T) @ found
    assert float(left.norm() / given.double().norm()) < 200 * precision
    for factor in (1e-30, 1e30):
        assert len(rows.orthonormal(given.float() * factor)) >= 4


def test_orthonormal_rows_are_as_many_as_are_independent():
    given = draws(10, 3) @ draws(3, 5000, seed=1)
    assert len(rows.orthonormal(given)) == 3
    assert len(rows.orthonormal(given.float())) == 3
    assert len(rows.orthonormal(torch.zeros(4, 50))) == 0


def test_sums_of_long_vectors_are_exact_to_single_precision():
    one, other = draws(2, 300_001).float()
    truth = float(one.double() @ other.double())
    size = float(one.double().abs() @ other.double().abs())
    assert abs(rows.dot(one, other) - truth) < 1e-7 * size
    np.testing.assert_allclose(rows.gram(one[None], one[None])[0, 0], float(one.double() @ one.double()), rtol=1e-7)
    rest, square = rows.less(one, [(0.5, other), (2.0, one)])
    np.testing.assert_allclose(rest, one - 0.5 * other - 2.0 * one, atol=1e-5)
    np.testing.assert_allclose(square, float(rest.double() @ rest.double()), rtol=1e-6)


def test_probes_are_pure_functions_of_their_number():
    linear = as_linear(np.eye(1000))
    for make in (sign_probes, uniform_probes):
        all_of_them = make(linear, 6, 2**64 - 1)
        assert torch.equal(all_of_them[3:5], make(linear, 2, 2**64 - 1, first=3))
        assert not torch.equal(all_of_them, make(linear, 6, 2**64 - 1, purpose=1))
        assert not torch.equal(all_of_them, make(linear, 6, 2**64 - 2))
        overlaps = (all_of_them @ all_of_them.T / 1000).numpy()
        np.testing.assert_allclose(overlaps, np.eye(6), atol=5 / 1000**0.5)
        # a shorter vector is the beginning of a longer one, of whatever length
        assert torch.equal(make(as_linear(np.eye(77)), 1, 5)[0], make(linear, 1, 5)[0, :77])
    assert sorted(sign_probes(linear, 1, 0).unique().tolist()) == [-1.0, 1.0]
    expected = [1, 1, -1, 1, -1, -1, 1, -1, -1, -1, -1, -1, 1, -1, 1, 1]
    assert sign_probes(linear, 1, 3)[0, :16].tolist() == expected


# -- bad input ---------------------------------------------------------------------------------------------------------

EYE = np.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: curvature.top_eigenpairs(EYE, k=4), ConfigError, "at most 3"),
        (lambda: curvature.top_eigenpairs(EYE, k=0), ConfigError, "k = 0"),
        (lambda: curvature.top_eigenpairs(EYE, k=1.5), ConfigError, "k = 1.5"),
        (lambda: curvature.top_eigenpairs(EYE, k=1, which="first"), ConfigError, "which"),
        (lambda: curvature.top_eigenpairs(EYE, k=1, rtol=2.0), ConfigError, "rtol"),
        (lambda: curvature.top_eigenpairs(EYE, k=1, products=0), ConfigError, "products"),
        (lambda: curvature.top_eigenpairs(EYE, k=1, seed=-1), ConfigError, "seed"),
        (lambda: curvature.top_eigenpairs(np.ones((2, 3)), k=1), ShapeError, "square"),
        (lambda: curvature.top_eigenpairs("H", k=1), ShapeError, "square"),
        (lambda: curvature.project(np.ones(4), EYE), ShapeError, "coordinates"),
        (lambda: curvature.project(np.ones(3), EYE[0]), ShapeError, "shape"),
        (lambda: curvature.project(np.ones(3), EYE * np.nan), ConfigError, "finite"),
        (lambda: curvature.project(np.ones((2, 2, 2, 3)), EYE), ShapeError, "label"),
        (lambda: curvature.project(["a"], EYE), ShapeError, "real numbers"),
        (lambda: curvature.project(xr.Dataset({"energy": 1.0}), EYE), ShapeError, "snapshot"),
        (lambda: curvature.project(np.ones(3), xr.Dataset({"energy": 1.0})), ShapeError, "vector"),
        (
            lambda: curvature.project(np.ones(3), curvature.top_eigenpairs(Quadratic([1.0] * 3), np.zeros((2, 3)), 1)),
            ShapeError,
            "isel",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_pairs_have_a_picture():
    import matplotlib

    matplotlib.use("Agg")
    found = curvature.top_eigenpairs(spectrum_matrix(SPECTRA["outliers"]), k=4)
    axes = curvature.plot_top_eigenpairs(found)
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), found.eigenvalue)
    with pytest.raises(ConfigError, match="residual"):
        curvature.plot_top_eigenpairs(curvature.eigenvalues(np.eye(3)))
