"""Traces, diagonals, densities and sharpness of matrices that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

import landscape as ls
from landscape.potentials import NetworkLoss
from landscape.probes import curvature
from tests.benchmarks.coverage.rows import FloatArray, hits, of_dataset, repeated, row

Rng = np.random.Generator
FEW = (8, 30, 100)
_basis = np.linalg.qr(np.random.default_rng(0).normal(size=(120, 120)))[0]


def _with(values: FloatArray) -> FloatArray:
    matrix = (
        _basis
        @ np.diag(np.resize(values, 120) if values.size == 120 else np.pad(values, (0, 120 - values.size)))
        @ _basis.T
    )
    return (matrix + matrix.T) / 2


MATRICES = {
    "eigenvalues from 1 to 2": _with(np.linspace(1, 2, 120)),
    "one of 100 beside (0, 1)": _with(np.r_[100.0, np.linspace(0, 1, 119)]),
    "of both signs": _with(np.linspace(-1, 1.2, 120)),
    "rank 10": _with(np.ones(10)),
    "a power law, k^-2": _with(np.arange(1.0, 121.0) ** -2),
}


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31))


def _trace(matrix: FloatArray, method: Any) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            found = curvature.trace(matrix, method=method, probes=size, seed=_seed(rng))
            value, error = float(found.trace), float(found.trace_stderr)
            return {"trace": hits(value, error + 1e-10 * abs(value), np.trace(matrix))}  # rounding, where it is exact

        return repeated(one, rng, repeats)

    return case


for _name, _matrix in MATRICES.items():
    for _method in ("hutchinson", "hutch++", "xtrace"):
        row("curvature.trace", f"{_method}, n products, {_name}", FEW)(_trace(_matrix, _method))


def _diagonal(matrix: FloatArray) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            found = curvature.diagonal(matrix, method="hutchinson", probes=size, seed=_seed(rng))
            return {"diagonal": hits(found.diagonal, found.diagonal_stderr, np.diag(matrix))}

        return repeated(one, rng, repeats)

    return case


row("curvature.diagonal", "n products, eigenvalues from 1 to 2", (30, 100))(
    _diagonal(MATRICES["eigenvalues from 1 to 2"])
)
row("curvature.diagonal", "n products, one of 100 beside (0, 1)", (30, 100))(
    _diagonal(MATRICES["one of 100 beside (0, 1)"])
)
row("curvature.diagonal", "n products, two coordinates coupled", (30, 100))(
    _diagonal(
        np.eye(6) + 0.5 * (np.eye(6, k=1) + np.eye(6, k=-1)) * [[1], [1], [0], [0], [0], [0]] * [1, 1, 0, 0, 0, 0]
    )
)


def _loss(sure: float) -> tuple[NetworkLoss, torch.Tensor]:
    torch.manual_seed(0)
    inputs = torch.randn(20, 3, dtype=torch.float64)
    loss = NetworkLoss(torch.nn.Linear(3, 3).double(), inputs, torch.arange(20) % 3)
    return loss, loss.position() * sure


def _fisher(sure: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        loss, at = _loss(sure)
        exact = float(curvature.fisher_trace(loss, at, labels="model").fisher_trace)

        def one(rng: Rng) -> dict[str, FloatArray]:
            found = curvature.fisher_trace(loss, at, labels="sampled", draws=size, seed=_seed(rng))
            return of_dataset(found, {"fisher_trace": exact})

        return repeated(one, rng, repeats)

    return case


row("curvature.fisher_trace", "20 samples, two drawn labels", (2,))(
    lambda rng, size, repeats: _fisher(2.0)(rng, 2, repeats)
)
row("curvature.fisher_trace", "the same, n drawn labels", (8, 30))(_fisher(2.0))
row("curvature.fisher_trace", "the same, a network that is nearly sure, n labels", (8, 30))(_fisher(8.0))


@row("curvature.diagonal", "Fisher matrix, 20 samples of n drawn labels", (8, 30))
def _fisher_diagonal(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    loss, at = _loss(2.0)
    exact = curvature.diagonal(loss, at, of="fisher", labels="model").diagonal

    def one(rng: Rng) -> dict[str, FloatArray]:
        found = curvature.diagonal(loss, at, of="fisher", labels="sampled", draws=size, seed=_seed(rng))
        return of_dataset(found, {"diagonal": exact})

    return repeated(one, rng, repeats)


def _density(values: FloatArray, low: float, high: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        matrix = _with(values)

        def one(rng: Rng) -> dict[str, FloatArray]:
            found = curvature.spectral_density(matrix, probes=size, steps=120, width=0.2, points=41, seed=_seed(rng))
            x = found.eigenvalue.to_numpy()
            exact = np.exp(-0.5 * ((x[:, None] - values) / 0.2) ** 2).mean(1) / (0.2 * np.sqrt(2 * np.pi))
            kept = (x > low) & (x < high)
            x = np.linspace(low, high, 9)
            inside = [np.abs(found.eigenvalue[kept].to_numpy() - at).argmin() for at in x]
            return {"density": hits(found.density[kept], found.density_stderr[kept], exact[kept])[inside]}

        return repeated(one, rng, repeats)

    return case


row("curvature.spectral_density", "n probes, a semicircle of 120", (8, 30), 100)(
    _density(np.sin(np.linspace(-1.5, 1.5, 120)), -1.0, 1.0)
)
row("curvature.spectral_density", "n probes, near one outlier of 120", (8, 30), 100)(
    _density(np.r_[4.0, np.linspace(0, 1, 119)], 3.7, 4.2)
)


class Form:
    """A quadratic."""

    def __init__(self, values: FloatArray) -> None:
        terms = [f"{k / 2:.17g}*x{i}**2" for i, k in enumerate(values)]
        self.energy = ls.potentials.Expression(" + ".join(terms), [f"x{i}" for i in range(values.size)])


def _rise(values: FloatArray) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    form, exact = Form(values).energy, 0.49 * values.sum() / (2 * (values.size + 2))

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            found = curvature.sharpness(
                form, np.zeros(values.size), radius=0.7, kind="mean", samples=2 * size, seed=_seed(rng)
            )
            return of_dataset(found, {"mean": exact})

        return repeated(one, rng, repeats)

    return case


row("curvature.sharpness", "n pairs, a quadratic of both signs", (8, 30, 100, 1000))(
    _rise(np.r_[3.0, 1.0, -2.0, 0.5 * np.ones(5)])
)
row("curvature.sharpness", "n pairs, one stiff direction of 40", (8, 30, 100, 1000))(_rise(np.r_[100.0, np.zeros(39)]))


@row("curvature.sharpness", "the largest rise of a quadratic of both signs", (0,))
def _largest(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    values = np.r_[3.0, 2.9, -2.0, 0.5 * np.ones(5)]
    form = Form(values).energy

    def one(rng: Rng) -> dict[str, FloatArray]:
        found = curvature.sharpness(form, np.zeros(8), radius=0.7, kind="max", seed=_seed(rng))
        return of_dataset(found, {"maximum": 0.5 * 0.49 * 3.0})

    return repeated(one, rng, repeats)


def _exponent(spread: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        levels = np.repeat([1.0, 2.0, 4.0, 8.0], size)

        def one(rng: Rng) -> dict[str, FloatArray]:
            values = (levels * rng.lognormal(0, spread, size=levels.size))[:, None, None] * np.array([0.5, 1.0, 2.0])
            given = xr.Dataset(
                {"eigenvalue": (("chain", "snapshot", "eigenvalue"), values)}, {"temperature": ("chain", levels)}
            )
            return of_dataset(curvature.temperature_scaling(given), {"exponent": 1.0})

        return repeated(one, rng, repeats)

    return case


row("curvature.temperature_scaling", "four temperatures of n chains", FEW)(_exponent(0.2))
row("curvature.temperature_scaling", "the same, medians that scatter by e", FEW)(_exponent(1.0))


def _shares(
    draw: Callable[[Rng, tuple[int, ...]], FloatArray], chains: int | None
) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        widths, vectors = np.array([2.0, 1.0, 1.0, 0.5]), np.eye(2, 4)
        exact = widths[:2] ** 2 / (widths**2).sum()

        def one(rng: Rng) -> dict[str, FloatArray]:
            shape = (size, 4) if chains is None else (chains, size, 4)
            found = curvature.project(draw(rng, shape) * widths, vectors)
            return of_dataset(found, {"mean_fraction": exact.sum(), "share": exact})

        return repeated(one, rng, repeats)

    return case


row("curvature.project", "n normal samples", (8, 30, 100, 1000))(
    _shares(lambda rng, shape: rng.normal(size=shape), None)
)
row("curvature.project", "n samples, Student's t of 5 degrees", (8, 30, 100, 1000))(
    _shares(lambda rng, shape: rng.standard_t(5, shape), None)
)


def _correlated(rng: Rng, shape: tuple[int, ...]) -> FloatArray:
    from tests.probes.processes import ar1

    return np.moveaxis(ar1(rng, (shape[0], shape[2], shape[1]), np.exp(-1 / 5)), 1, 2)


row("curvature.project", "8 chains of n draws, correlated over 5", (30, 100, 1000))(_shares(_correlated, 8))


@row("curvature.top_eigenpairs", "the largest five of 120, a bound", (0,), 60)
def _pairs(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    matrix = MATRICES["a power law, k^-2"]
    exact = np.arange(1.0, 6.0) ** -2

    def one(rng: Rng) -> dict[str, FloatArray]:
        return of_dataset(curvature.top_eigenpairs(matrix, k=5, seed=_seed(rng)), {"eigenvalue": exact})

    return repeated(one, rng, repeats)


@row("curvature.eigenvalues", "second differences of 120 points, a bound of rounding", (0,), 1)
def _spectrum(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    exact = 2 - 2 * np.cos(np.arange(1, 121) * np.pi / 121)
    found = curvature.eigenvalues(2 * np.eye(120) - np.eye(120, k=1) - np.eye(120, k=-1))
    return of_dataset(found, {"eigenvalue": exact})


@row("curvature.score_singular_values", "one linear layer and one output, a bound of rounding", (0,), 1)
def _scores(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    loss, at = _loss(2.0)
    found = curvature.score_singular_values(loss, at)
    value, error = (found[f"singular_value{end}"].to_numpy() for end in ("", "_stderr"))
    exact = float(curvature.fisher_trace(loss, at, labels="model").fisher_trace)
    total, off = (value**2).sum(), 2 * (value * error).sum() + 1e-12 * exact  # their squares add up to the trace
    return {"singular_value": hits(total, off, exact)}
