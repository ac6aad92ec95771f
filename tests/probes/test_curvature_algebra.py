"""Operators as matrices: arithmetic, blocks and products against dense ones, and Lanczos on long vectors."""

import numpy as np
import pytest
import scipy.sparse
import torch

from landscape.errors import ConfigError, ShapeError
from landscape.probes import curvature
from landscape.probes.curvature import algebra, lanczos
from landscape.probes.curvature.lanczos import Tridiagonal, tridiagonalise
from landscape.probes.curvature.linear import LinearMap, uniform_probes
from landscape.probes.curvature.operators import layer_blocks
from tests.probes.curvature_cases import NETWORKS, dense_gauss_newton, dense_hessian, draws


@pytest.fixture(scope="module")
def pair():
    """Hessian and Gauss-Newton matrix of a small network, and both written out."""
    loss = NETWORKS["mlp tanh"].loss(weight_decay=0.2)
    at = loss.position()
    dense = dense_hessian(loss, at), dense_gauss_newton(loss, at) + 0.2 * torch.eye(loss.dim, dtype=torch.float64)
    return curvature.HessianOperator(loss, at), curvature.GaussNewtonOperator(loss, at), *dense


COMBINATIONS = {
    "sum": lambda h, g: h + g,
    "difference": lambda h, g: h - g,
    "multiple": lambda h, g: 2 * h,
    "multiple on the right": lambda h, g: h * np.float64(-0.5),
    "fraction": lambda h, g: h / 4,
    "negative": lambda h, g: -h,
    "product": lambda h, g: h @ g,
    "commutator": lambda h, g: h @ g - g @ h,
    "transpose of a product": lambda h, g: (h @ (2 * g)).T,
    "symmetric block": lambda h, g: h[3:20, 3:20],
    "other block": lambda h, g: (h @ g)[:7, 5:30:2],
    "transpose of a block": lambda h, g: (h @ g)[:7, 5:30].T,
    "polynomial": lambda h, g: 2 * h @ h - 3 * h + g / 2,
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_combinations_are_those_of_dense_matrices(pair, name):
    h, g, dense_h, dense_g = pair
    found, truth = COMBINATIONS[name](h, g), COMBINATIONS[name](dense_h, dense_g)
    assert found.shape == tuple(truth.shape)
    torch.testing.assert_close(found.to_dense(), truth, atol=1e-10, rtol=1e-10)
    vector = draws(truth.shape[1])
    torch.testing.assert_close(found @ vector, truth @ vector, atol=1e-9, rtol=1e-9)
    left = draws(truth.shape[0], seed=1).numpy()
    np.testing.assert_allclose(found.__rmatmul__(left), left @ truth.numpy(), atol=1e-9)
    as_scipy = found.to_scipy()
    np.testing.assert_allclose(as_scipy @ vector.numpy(), (truth @ vector).numpy(), atol=1e-9)
    np.testing.assert_allclose(as_scipy.T @ left, truth.numpy().T @ left, atol=1e-9)


def test_shifts(pair):
    h, _, dense_h, _ = pair
    torch.testing.assert_close((2 * h.shifted(0.5)).to_dense(), 2 * dense_h + torch.eye(len(dense_h)).double())


@pytest.mark.parametrize(
    "wrap", [np.asarray, torch.from_numpy, scipy.sparse.csr_matrix, scipy.sparse.linalg.aslinearoperator]
)
def test_other_peoples_matrices_take_part(pair, wrap):
    h, _, dense_h, _ = pair
    own = draws(h.shape[0], h.shape[0], seed=4).numpy()
    truth = dense_h.numpy() + own
    np.testing.assert_allclose((h + wrap(own)).to_dense(), truth, atol=1e-10)
    np.testing.assert_allclose((h + wrap(own)).T.to_dense(), truth.T, atol=1e-10)
    if scipy.sparse.issparse(wrap(own)):
        np.testing.assert_allclose((h @ wrap(own)).to_dense(), dense_h.numpy() @ own, atol=1e-9)


def test_layers_are_blocks_of_their_own(pair):
    h, g, dense_h, dense_g = pair
    for operator, dense in ((h, dense_h), (g, dense_g)):
        for name, part in layer_blocks(h.potential).items():
            torch.testing.assert_close(operator.block(name).to_dense(), dense[part, part], atol=1e-11, rtol=1e-9)
    assert h.shape == tuple(dense_h.shape)  # as it was
    with pytest.raises(ConfigError, match="another"):
        h.block("0").block("2")
    loss = h.potential
    for labels in ("model", "sampled", "empirical"):
        fisher = curvature.FisherOperator(loss, h.position, labels=labels)
        torch.testing.assert_close(fisher.block("2").to_dense(), fisher.to_dense()[30:65, 30:65])


def test_columns_are_multiplied_a_few_at_once(pair, monkeypatch):
    h = pair[0]
    columns = draws(h.shape[0], 50)
    whole = h @ columns
    widths = []
    multiply = h._products
    monkeypatch.setattr(h, "_products", lambda rows: widths.append(len(rows)) or multiply(rows))
    monkeypatch.setattr(algebra, "_TOGETHER", 8 * h.shape[0])
    torch.testing.assert_close(h @ columns, whole)
    assert max(widths) == 8 and sum(widths) == 50


def test_estimators_take_combinations(pair):
    h, g, dense_h, dense_g = pair
    residual, dense = h - g, (dense_h - dense_g).numpy()
    values = np.linalg.eigvalsh(dense)
    ends = curvature.extreme_eigenvalues(residual, rtol=1e-8)
    np.testing.assert_allclose([ends.smallest, ends.largest], values[[0, -1]], rtol=1e-7)
    np.testing.assert_allclose(curvature.top_eigenpairs(residual, k=3).eigenvalue, values[:-4:-1], rtol=1e-5)
    np.testing.assert_allclose(curvature.eigenvalues(residual).eigenvalue, values, atol=1e-12)
    found = curvature.trace(h @ h, probes=60)
    truth = float((dense_h @ dense_h).trace())
    assert abs(float(found.trace) - truth) < 4 * float(found.trace_stderr)
    density = curvature.spectral_density(h @ h, probes=8, steps=30)
    np.testing.assert_allclose(
        (density.weight * density.node).sum("ritz").mean() * len(dense), (dense_h**2).sum(), rtol=0.5
    )
    with pytest.warns(UserWarning, match="not symmetric"):
        assert not curvature.top_eigenpairs(h @ g, k=2).converged.any()


def test_a_large_matrix_is_not_written_out(pair, monkeypatch):
    monkeypatch.setattr(algebra, "_DENSE_BYTES", 1000)
    with pytest.raises(ConfigError, match="GiB"):
        pair[0].to_dense()
    torch.testing.assert_close(pair[0][:3, :3].to_dense(), pair[2][:3, :3])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda h: h @ np.ones(7), ShapeError, r"expected \(83,\)"),
        (lambda h: h @ np.ones((7, 2)), ShapeError, r"got \(7, 2\)"),
        (lambda h: h @ torch.ones(83, dtype=torch.complex64), ShapeError, "real"),
        (lambda h: h + np.eye(3), ShapeError, "no sum"),
        (lambda h: h @ h[:3, :3], ShapeError, "no product"),
        (lambda h: h + 1.0, ConfigError, "shifted"),
        (lambda h: h * np.inf, ConfigError, "finite"),
        (lambda h: h * "2", ConfigError, "finite number"),
        (lambda h: h / 0, ConfigError, "by 0"),
        (lambda h: h[:3, :4].shifted(1.0), ShapeError, "square"),
        (lambda h: h[0, 0], ShapeError, "slices"),
        (lambda h: h[:3], ShapeError, "slices"),
        (lambda h: h[5:5, :3], ShapeError, "empty"),
        (lambda h: h.block("nowhere"), ConfigError, "nowhere"),
        (
            lambda h: h + curvature.HessianOperator(h.potential, h.position, dtype=torch.float32),
            ConfigError,
            "same dtype",
        ),
        (lambda h: h + "H", ShapeError, "square"),
    ],
)
def test_bad_input(pair, call, error, words):
    with pytest.raises(error, match=words):
        call(pair[0])


# -- Lanczos on vectors too long to be made orthogonal to all others every time ----------------------------------------

VALUES = np.r_[0.1 * np.random.default_rng(0).standard_normal(2988), np.linspace(3, 30, 10), -2.0, -5.0]


def diagonal(dtype):
    scale = torch.from_numpy(VALUES).to(dtype)
    return LinearMap(len(VALUES), dtype, torch.device("cpu"), lambda rows: rows * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_partial_orthogonalisation_keeps_ghosts_away(dtype, monkeypatch):
    linear = diagonal(dtype)
    start = uniform_probes(linear, 1, 0)[0]
    full = tridiagonalise(linear, start, 120).eigen()[0]
    monkeypatch.setattr(lanczos, "_ALWAYS", 0)
    calls = []
    monkeypatch.setattr(Tridiagonal, "_orthogonalise", counted(Tridiagonal._orthogonalise, calls))
    partial = stepped(linear, start)
    values, _, residuals = partial.eigen()
    assert (values > 2.5).sum() == 10 and (values < -1.5).sum() == 2
    precision = torch.finfo(dtype).eps
    np.testing.assert_allclose(np.sort(values)[-12:], np.sort(full)[-12:], atol=200 * precision)
    assert 0 < len(calls) < 100
    basis = torch.cat(partial._filled()).double()
    assert float((basis @ basis.T - torch.eye(len(basis))).abs().max()) < precision**0.5
    assert residuals[-1] < 1e-4


def stepped(linear, start):
    krylov = Tridiagonal(linear, start, 120)
    while len(krylov.diagonal) < 120:
        krylov.step()
    return krylov


def counted(function, calls):
    def counting(*arguments):
        calls.append(1)
        return function(*arguments)

    return counting


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_quadrature_without_a_basis_is_the_same(dtype, monkeypatch):
    """Ghosts come back, and are joined with what they are copies of: node for node among the outliers."""
    linear = diagonal(dtype)
    start = uniform_probes(linear, 1, 0)[0]
    held = tridiagonalise(linear, start, 120)
    monkeypatch.setattr(lanczos, "_ALWAYS", 0)
    bare = tridiagonalise(linear, start, 120)
    assert not bare._blocks
    (values, vectors, _), (own, weights, residuals) = held.eigen(), bare.eigen()
    assert (own > 2.5).sum() == 10 and (own < -1.5).sum() == 2
    np.testing.assert_allclose(own[own > 2.5], values[values > 2.5], rtol=1e-4)
    np.testing.assert_allclose(weights[0][own > 2.5] ** 2, vectors[0][values > 2.5] ** 2, rtol=1e-3)
    for power in range(4):
        np.testing.assert_allclose(
            (weights[0] ** 2 * own**power).sum(), (vectors[0] ** 2 * values**power).sum(), rtol=1e-5
        )
    assert (residuals > 0).all()
    raw = np.linalg.eigvalsh(np.diag(bare.diagonal) + np.diag(bare.below[:-1], 1) + np.diag(bare.below[:-1], -1))
    assert (raw > 2.5).sum() > 20  # control: without joining there are twice as many


def test_a_start_of_signs_would_hide_an_eigenvector():
    """(1, -1) is orthogonal to half of all vectors of signs, never to one whose numbers differ."""
    for seed in range(20):
        found = curvature.extreme_eigenvalues(np.array([[2.0, 1.0], [1.0, 2.0]]), seed=seed)
        np.testing.assert_allclose([found.smallest, found.largest], [1.0, 3.0])
