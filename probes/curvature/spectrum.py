"""Eigenvalues: all of them, or the two ends."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import finite_number, one_of, whole_number
from landscape.common.notices import warn
from landscape.potentials.base import has_samples
from landscape.probes.curvature.eigenpairs import whole_vectors
from landscape.probes.curvature.lanczos import Ends, lanczos_ends, power_end
from landscape.probes.curvature.linear import LinearMap, as_linear, started_from, uniform_probes
from landscape.probes.curvature.positions import Sites, at_positions, products_cost
from landscape.probes.curvature.symmetry import SymmetryCheck, Watch, asymmetry_of, widened
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import POSITIONS, probe
from landscape.random import check_seed

__all__ = ["eigenvalues", "extreme_eigenvalues", "largest_eigenvalue"]


@probe("curvature.eigenvalues", POSITIONS)
@at_positions
def eigenvalues(
    potential: Any,
    positions: Any = None,
    *,
    blocks: Literal["layer"] | None = None,
    chunk_size: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> xr.Dataset:
    r"""All eigenvalues of the Hessian, H u_k = lambda_k u_k.

    Parameters
    ----------
    dtype : torch.dtype
        Of the whole computation: float32 would get the small eigenvalues wrong.

    Returns
    -------
    xarray.Dataset
        `eigenvalue (..., eigenvalue)` ascending, `eigenvalue_stderr` (rounding: machine epsilon times the norm, and
        at least the Frobenius norm of H - H^T), `asymmetry` and `converged` (...). With blocks there is a dim
        `layer`, and NaN beyond a layer's size. NaN where a position is not finite.

    Warns
    -----
    UserWarning
        Where H is not symmetric beyond rounding, so that `converged` is false: second derivatives of a network that
        are wrong. The warning names the layers.

    Notes
    -----
    Of plain multilayer perceptrons the Hessian is computed from its structure, else by `dim` products; attribute
    `products`. The dense matrix is held: meant for a few thousand coordinates.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise: spectra at snapshots of a run.

    Examples
    --------
    >>> from landscape.potentials import Quadratic
    >>> eigenvalues(Quadratic([3.0, 1.0]), [[0.0, 0.0], [1.0, 2.0]]).eigenvalue.values
    array([[1., 3.],
           [1., 3.]])
    """
    sites = Sites.of(potential, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    size = max(size for _, size in sites.layers) or as_linear(potential).size
    found, error, asymmetry = sites.empty(size), sites.empty(size), sites.empty()
    symmetric = sites.empty(fill=0, dtype=bool)
    products = 0
    check = SymmetryCheck(sites)
    for number in sites.numbers():
        for layer, matrix, spent in _matrices(sites, number):
            products += spent
            asymmetry[number, layer] = float((matrix - matrix.T).abs().max())
            values = torch.linalg.eigvalsh((matrix + matrix.T) / 2 if asymmetry[number, layer] else matrix)
            found[number, layer, : len(values)] = values.cpu().numpy()
            rounding = torch.finfo(values.dtype).eps * float(values.abs().max())
            skew = asymmetry_of(matrix)
            error[number, layer, : len(values)] = widened(rounding, skew.size)
            symmetric[number, layer] = not check.note(number, layer, as_linear(matrix), skew, exact=True)
    check.warn("eigenvalues of the symmetric part")
    return sites.dataset(
        {
            "eigenvalue": (("eigenvalue",), found),
            "eigenvalue_stderr": (("eigenvalue",), error),
            "asymmetry": ((), asymmetry),
            "converged": ((), symmetric & np.isfinite(asymmetry)),
        },
        GLOSSARY["eigenvalues"],
        title="Eigenvalues of the Hessian",
        method="dense, eigvalsh",
        products=products,
        cost=f"{products} Hessian-vector products" if products else "the exact Hessian, layer by layer",
    )


def _matrices(sites: Sites, number: int) -> Any:
    """Layer, dense matrix and products spent, at one position."""
    loss = sites.potential
    if has_samples(loss) and loss.plain_mlp is not None and not sites.by_layer:
        whole = loss.converted(sites.dtype)
        yield 0, whole.hessian(sites.position(number)), 0
        return
    for layer, operator in sites.operators(number):
        linear = as_linear(operator)
        identity = torch.eye(linear.size, dtype=linear.dtype, device=linear.device)
        yield layer, linear(identity).to(torch.float64 if sites.dtype is None else sites.dtype), linear.products


@probe("curvature.extreme_eigenvalues", POSITIONS)
@at_positions
def extreme_eigenvalues(
    potential: Any,
    positions: Any = None,
    *,
    rtol: float = 1e-3,
    products: int = 200,
    method: Literal["lanczos", "power"] = "lanczos",
    warm_start: bool = True,
    vectors: bool = False,
    blocks: Literal["layer"] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Largest and smallest eigenvalue of the Hessian, with signs, from the same products.

    Lanczos with full re-orthogonalisation. After every product the residuals r = |H v - theta v| of both ends are
    tested; an eigenvalue lies within r of theta, and theta is off by about r^2 / gap only.

    Parameters
    ----------
    rtol : float
        Both residuals have to fall to rtol times the larger |theta|.
    products : int
        Most products at a position; where they run out `converged` is false.
    method : {"lanczos", "power"}
        Power iteration converges to the eigenvalue of largest magnitude, whatever its sign, with ratio
        |lambda_2 / lambda_1| a product; the other end comes from a second iteration on H shifted by the first. It
        converges nowhere where two of opposite sign have that magnitude: `converged` is false there.
    warm_start : bool
        Start from the vectors of the neighbour along the last leading dim (a path, a run) and a random component of
        half their length, so that an eigenvector orthogonal to them is found too.
    vectors : bool
        Whether to return the unit eigenvectors as well.
    seed : int
        Of the random starts.

    Returns
    -------
    xarray.Dataset
        `largest`, `smallest`, `largest_residual`, `smallest_residual`, `converged` and `products` (...); attribute
        `products` is the sum. With vectors also `largest_vector` and `smallest_vector` (..., coordinate), zero outside
        of a layer; each is off by about its residual / gap.

    Warns
    -----
    UserWarning
        Always for ``method="power"``. Where H is not symmetric beyond rounding, which u^T H v and v^T H u of the
        products at hand show: there `converged` is false and the residuals are at least |H - H^T|, found by a few
        products more, as are the layers that the warning names.

    References
    ----------
    Paige (1972), Computational variants of the Lanczos method for the eigenproblem.
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks:
    the power iteration.

    Examples
    --------
    >>> ends = extreme_eigenvalues(np.diag([-1.0, 0.2, 0.9]))
    >>> round(float(ends.smallest), 9), round(float(ends.largest), 9)
    (-1.0, 0.9)
    """
    settings = _settings(rtol, products, method, warm_start, seed)
    sites = Sites.of(potential, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    return _ends(sites, "both", vectors=bool(vectors), **settings)


@probe("curvature.largest_eigenvalue", POSITIONS)
@at_positions
def largest_eigenvalue(
    potential: Any,
    positions: Any = None,
    *,
    rtol: float = 1e-3,
    products: int = 200,
    method: Literal["lanczos", "power"] = "lanczos",
    warm_start: bool = True,
    blocks: Literal["layer"] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Largest eigenvalue of the Hessian (the most positive, not the largest in magnitude).

    As `extreme_eigenvalues`, but it stops once the largest has converged: residual at most rtol |theta|. `smallest`
    is what the same products say of the other end, with its own residual.

    Parameters
    ----------
    rtol, products, method, warm_start, blocks, seed, chunk_size, dtype
        As for `extreme_eigenvalues`; ``method="power"`` finds the eigenvalue of largest magnitude, with its sign, and
        `smallest` is NaN.

    Returns
    -------
    xarray.Dataset
        `largest`, `smallest`, `largest_residual`, `smallest_residual`, `converged` and `products` (...); attribute
        `products` is the sum.

    Warns
    -----
    UserWarning
        Always for ``method="power"``. Where H is not symmetric beyond rounding, which u^T H v and v^T H u of the
        products at hand show: there `converged` is false and the residuals are at least |H - H^T|, found by a few
        products more, as are the layers that the warning names.

    Examples
    --------
    >>> float(largest_eigenvalue(np.diag([-1.0, 0.2, 0.9])).largest.round(6))
    0.9
    """
    settings = _settings(rtol, products, method, warm_start, seed)
    sites = Sites.of(potential, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    return _ends(sites, "largest", **settings)


def _settings(rtol: Any, products: Any, method: Any, warm_start: Any, seed: Any) -> dict[str, Any]:
    finite_number("rtol", rtol, above=0, below=1)
    one_of("method", method, ("lanczos", "power"))
    limit = whole_number("products", products)
    if method == "power":
        warn(
            "power iteration finds the eigenvalue of largest magnitude, which may be the most negative one, and it "
            'stops early where two are close: method="lanczos" gives both ends with residuals in fewer products'
        )
    return {"rtol": float(rtol), "limit": limit, "method": method, "warm": bool(warm_start), "seed": check_seed(seed)}


def _ends(
    sites: Sites,
    which: Literal["largest", "both"],
    *,
    rtol: float,
    limit: int,
    method: str,
    warm: bool,
    seed: int,
    vectors: bool = False,
) -> xr.Dataset:
    keys = ("largest", "smallest", "largest_residual", "smallest_residual")
    values = {key: sites.empty() for key in keys}
    converged, spent = sites.empty(fill=0, dtype=bool), sites.empty(fill=0, dtype=int)
    before: dict[int, Tensor] = {}
    found = sites.empty(2, sites.dim) if vectors else sites.empty(0)
    check = SymmetryCheck(sites)
    row = 0
    for number, layer, linear in sites.linear_maps():
        if number // sites.row != row:
            row, before = number // sites.row, {}
        known = before.get(layer) if warm else None
        # a start that is not all random is no witness
        watch = Watch(linear, None if known is None else uniform_probes(linear, 1, seed)[0])
        start = _start(linear, seed, known, which)
        if method == "lanczos":
            wanted = vectors or (warm and sites.row > 1)
            ends = lanczos_ends(linear, start, rtol=rtol, limit=limit, which=which, vectors=wanted)
        else:
            ends = _power_ends(linear, start, which, rtol=rtol, limit=limit)
        before[layer] = ends.vectors
        if vectors:
            found[number, layer] = whole_vectors(sites, layer, ends.vectors)
        for key in keys:
            values[key][number, layer] = getattr(ends, key)
        skew = check.note(number, layer, linear, watch.asymmetry())
        for key in ("largest_residual", "smallest_residual"):
            values[key][number, layer] = widened(values[key][number, layer], skew)
        converged[number, layer], spent[number, layer] = ends.converged and not skew, linear.products
    check.warn(f"{which} eigenvalue" if which == "largest" else "largest and smallest eigenvalue")
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        key: ((), value) for key, value in {**values, "converged": converged, "products": spent}.items()
    }
    if vectors:
        for end, key in enumerate(("largest_vector", "smallest_vector")):
            variables[key] = (("coordinate",), found[:, :, end])
    return sites.dataset(
        variables,
        GLOSSARY["eigenvalues"],
        title="Largest eigenvalue of the Hessian" if which == "largest" else "Ends of the spectrum of the Hessian",
        method=method,
        rtol=rtol,
        seed=seed,
        warm_start=int(warm),
        **products_cost(spent),
    )


def _start(linear: LinearMap, seed: int, vectors: Tensor | None, which: str) -> Tensor:
    """A random vector; beside a neighbour's vectors, half as long as they are."""
    random: Tensor = uniform_probes(linear, 1, seed)[0]
    if vectors is None:
        return random
    warm = started_from(linear, vectors[0] if which == "largest" else vectors.sum(0), seed)
    return random / torch.linalg.vector_norm(random) if warm is None else warm


def _power_ends(linear: LinearMap, start: Tensor, which: str, *, rtol: float, limit: int) -> Ends:
    """The end of largest magnitude; for both, the other end from H shifted by it."""
    first, residual, settled, vector, count = power_end(linear, start, rtol=rtol, limit=limit)
    if which == "largest":
        return Ends(first, np.nan, residual, np.nan, settled, count, torch.stack([vector, torch.zeros_like(vector)]))
    other, rest, also, across, more = power_end(linear, start, rtol=rtol, limit=limit - count, shift=first)
    pairs = sorted([(first, residual, vector), (other, rest, across)], key=lambda pair: -pair[0])
    vectors = torch.stack([pair[2] for pair in pairs])
    return Ends(pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1], settled and also, count + more, vectors)
