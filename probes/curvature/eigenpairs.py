"""The first few eigenvalues of the Hessian with their eigenvectors."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import finite_number, one_of, whole_number
from landscape.errors import ConfigError
from landscape.probes.curvature.linear import LinearMap, as_linear, started_from, uniform_probes
from landscape.probes.curvature.operators import layer_blocks
from landscape.probes.curvature.positions import Sites, at_positions, products_cost
from landscape.probes.curvature.symmetry import Asymmetry, SymmetryCheck, Watch, asymmetry_of, widened
from landscape.probes.curvature.thick_restart import Pairs, dense_pairs, linear_zeros, top_pairs
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import POSITIONS, probe
from landscape.random import check_seed

__all__ = ["top_eigenpairs", "whole_vectors"]

_WRITTEN_OUT: Final = 100  # order up to which the matrix itself costs no more products than its vectors
_TOGETHER: Final = 4  # vectors multiplied in one pass where that pays: on graphics processors


@probe("curvature.top_eigenpairs", POSITIONS)
@at_positions
def top_eigenpairs(
    potential: Any,
    positions: Any = None,
    k: int = 10,
    *,
    which: Literal["largest", "smallest", "magnitude"] = "largest",
    rtol: float = 1e-3,
    products: int = 500,
    warm_start: bool = True,
    blocks: Literal["layer"] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""The first k eigenpairs of the Hessian, H v_i = theta_i v_i, |v_i| = 1, with a residual for each.

    Block Lanczos with thick restart: no more than 2 k + 20 vectors are held, or a few more of a small matrix. Values
    that are there several times come as often as they are there: what has converged is set aside, and a random vector
    without a part along it has to show that nothing is missing.

    Parameters
    ----------
    k : int
        How many, at most `dim`.
    which : {"largest", "smallest", "magnitude"}
        The most positive ones, falling; the most negative ones, rising; or the largest of either sign, falling in
        magnitude.
    rtol : float
        A pair has converged once its residual is at most rtol |theta|, or rounding.
    products : int
        Most products at a position, k of which verify the result; where they run out `converged` is false.
    warm_start : bool
        Start from the vectors of the neighbour along the last leading dim (a path, a run) and a random component of
        half their length.
    blocks : {"layer"}, optional
        The diagonal block of each layer of a network instead of the whole; its vectors are zero elsewhere.
    seed : int
        Of the random starts.

    Returns
    -------
    xarray.Dataset
        `eigenvalue`, `residual`, `eigenvalue_stderr` and `converged` (..., eigenvalue), `vector` (..., eigenvalue,
        coordinate), `products` (...); attribute `products` is the sum. An eigenvalue lies within `residual` of each;
        `eigenvalue_stderr` is the residual or rounding, whichever is larger. NaN where a position is not finite, where
        a layer has fewer weights than k, and where the products did not suffice for a pair.

    Warns
    -----
    UserWarning
        Where H is not symmetric beyond rounding; `converged` is false there.

    Notes
    -----
    Residuals are those of actual products with the vectors, spent at the end. A vector is off by about residual / gap,
    the distance to the nearest eigenvalue outside: of values closer than their residuals only the common span is known.
    The sign of a vector is that which makes its largest entry positive.

    References
    ----------
    Wu, Simon (2000), Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix Anal. Appl.
    22, 602.

    Examples
    --------
    >>> found = top_eigenpairs(np.diag([3.0, -5.0, 3.0, 1.0]), k=3, which="magnitude")
    >>> found.eigenvalue.values.round(9).tolist(), found.converged.values.tolist()
    ([-5.0, 3.0, 3.0], [True, True, True])
    """
    one_of("which", which, ("largest", "smallest", "magnitude"))
    whole_number("k", k)
    finite_number("rtol", rtol, above=0, below=1)
    limit = whole_number("products", products)
    check_seed(seed)
    sites = Sites.of(potential, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    if sites.places is None:
        as_linear(potential)  # refuses what is no matrix
    if k > sites.dim:
        raise ConfigError(f"a matrix of order {sites.dim} has no {k} eigenpairs: k is at most {sites.dim}")
    values, residuals, error = (sites.empty(k) for _ in range(3))
    converged, spent = sites.empty(k, fill=0, dtype=bool), sites.empty(fill=0, dtype=int)
    vectors: np.ndarray | None = None
    check = SymmetryCheck(sites)
    before: dict[int, Pairs] = {}
    row = 0
    for number, layer, linear in sites.linear_maps():
        if number // sites.row != row:
            row, before = number // sites.row, {}
        count = min(k, linear.size)
        known = before.get(layer) if warm_start else None
        pairs, seen, exact = _pairs(linear, count, which, rtol, limit, known, seed)
        skew = check.note(number, layer, linear, seen, exact=exact)
        before[layer] = pairs
        at = (number, layer, slice(count))
        values[at], residuals[at] = pairs.values, widened(pairs.residuals, skew)
        error[at] = np.maximum(residuals[at], pairs.rounding)
        converged[at], spent[number, layer] = pairs.converged & (not skew), linear.products
        rows = whole_vectors(sites, layer, pairs.vectors)
        if vectors is None:
            vectors = sites.empty(k, sites.dim, dtype=rows.dtype.type)
        vectors[at] = np.where(np.isfinite(pairs.values)[:, None], rows, np.nan)
    check.warn("eigenpairs")
    return sites.dataset(
        {
            "eigenvalue": (("eigenvalue",), values),
            "eigenvalue_stderr": (("eigenvalue",), error),
            "residual": (("eigenvalue",), residuals),
            "vector": (("eigenvalue", "coordinate"), sites.empty(k, sites.dim) if vectors is None else vectors),
            "converged": (("eigenvalue",), converged),
            "products": ((), spent),
        },
        GLOSSARY["top_eigenpairs"],
        title="First eigenpairs of the Hessian",
        method="thick-restart Lanczos",
        which=which,
        rtol=rtol,
        seed=seed,
        warm_start=int(bool(warm_start)),
        **products_cost(spent),
    )


def _pairs(
    linear: LinearMap, k: int, which: Any, rtol: float, limit: int, before: Pairs | None, seed: int
) -> tuple[Pairs, Asymmetry, bool]:
    """Pairs of one matrix, what its products show of its asymmetry, and whether that is exact."""
    if linear.size <= max(_WRITTEN_OUT, 2 * k) and linear.size <= limit:
        matrix = linear(torch.eye(linear.size, dtype=linear.dtype, device=linear.device)).T
        if bool(matrix.isfinite().all()):
            return dense_pairs(matrix, k, which), asymmetry_of(matrix), True
        return _nothing(linear, k), Asymmetry(), True
    if k >= limit or k == linear.size:
        return _nothing(linear, k), Asymmetry(), True
    start = None if before is None else started_from(linear, before.vectors.sum(0), seed)
    # a start that is not all random is no witness
    watch = Watch(linear, None if start is None else uniform_probes(linear, 1, seed)[0])
    block = 1 if linear.device.type == "cpu" else _TOGETHER
    pairs = top_pairs(linear, k, which, rtol=rtol, limit=limit, start=start, seed=seed, block=block)
    return pairs, watch.asymmetry(), False


def _nothing(linear: LinearMap, k: int) -> Pairs:
    unknown = np.full(k, np.nan)
    return Pairs(unknown, unknown, np.nan, np.zeros(k, dtype=bool), linear_zeros(linear, k))


def whole_vectors(sites: Sites, layer: int, rows: Tensor) -> np.ndarray:
    """Vectors of a layer's block as vectors of all coordinates, their largest entries positive."""
    largest = rows.abs().argmax(dim=1, keepdim=True)
    signed = torch.where(rows.gather(1, largest) < 0, -rows, rows).cpu().numpy()
    if not sites.by_layer:
        return signed
    found = np.zeros((len(rows), sites.dim), dtype=signed.dtype)
    found[:, list(layer_blocks(sites.potential).values())[layer]] = signed
    return found
