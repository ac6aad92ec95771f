"""The density of eigenvalues, by stochastic Lanczos quadrature."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from landscape.checks import finite_number, whole_number
from landscape.probes.curvature.lanczos import tridiagonalise
from landscape.probes.curvature.linear import settled, sign_probes
from landscape.probes.curvature.positions import Sites, at_positions, products_cost
from landscape.probes.curvature.symmetry import SymmetryCheck, Watch, widened
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import POSITIONS, probe
from landscape.random import check_seed
from landscape.statistics import error_of_mean

__all__ = ["spectral_density"]

_ENDS_RTOL = 1e-2


@probe("curvature.spectral_density", POSITIONS)
@at_positions
def spectral_density(
    potential: Any,
    positions: Any = None,
    *,
    probes: int = 8,
    steps: int = 60,
    points: int = 400,
    width: float | None = None,
    blocks: Literal["layer"] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Density of the eigenvalues of the Hessian, rho(x) = (1/N) sum_k delta(x - lambda_k), broadened.

    Each of m random sign vectors starts Lanczos, re-orthogonalised, whose Ritz values theta_j and squared first
    components w_j are a Gauss quadrature of the spectrum as that vector sees it:

    rho_s(x) = (1/m) sum_probes sum_j w_j exp(-(x - theta_j)^2 / (2 s^2)) / sqrt(2 pi s^2).

    Any spectral sum follows from the stored nodes: tr f(H) = N times the mean over probes of sum_j w_j f(theta_j).

    Parameters
    ----------
    probes : int
        m, at least 2. The same at every position.
    steps : int
        Products for each.
    points : int
        Values of x, evenly spaced.
    width : float, optional
        s; a hundredth of the range of the nodes by default.
    seed : int
        Of the probes.

    Returns
    -------
    xarray.Dataset
        `node`, `weight` and `residual` (..., probe, ritz), NaN and weight 0 where a Krylov space ended before `steps`;
        `eigenvalue`, `density` and `density_stderr` (..., point), the error from the scatter of probes; `width`,
        `products` and `converged` (...); attribute `products`.

    Warns
    -----
    UserWarning
        Where H is not symmetric beyond rounding, which products at hand show: there `converged` is false and no
        residual is smaller than |H - H^T|. The warning names the layers.

    Notes
    -----
    The quadrature is exact for polynomials of degree 2 steps - 1: features finer than the range over `steps` are not
    resolved inside the bulk, whereas outliers converge to eigenvalues (small `residual`). The error bars say what
    more probes would change, not what more steps or less width would.

    References
    ----------
    Lin, Saad, Yang (2016), Approximating spectral densities of large matrices, SIAM Review 58, 34.

    Examples
    --------
    >>> found = spectral_density(np.diag([0.0, 0.0, 0.0, 1.0]), probes=4, steps=4)
    >>> round(float((found.weight * found.node).sum("ritz").mean()), 12)  # mean eigenvalue
    0.25
    """
    count, length = whole_number("probes", probes, least=2), whole_number("steps", steps, least=2)
    whole_number("points", points, least=2)
    if width is not None:
        finite_number("width", width, above=0)
    check_seed(seed)
    sites = Sites.of(potential, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    nodes, residuals = sites.empty(count, length), sites.empty(count, length)
    weights = sites.empty(count, length, fill=0.0)
    products, converged = sites.empty(fill=0, dtype=int), sites.empty(fill=0, dtype=bool)
    check = SymmetryCheck(sites)
    for number, layer, linear in sites.linear_maps():
        watch = Watch(linear)
        for row, start in enumerate(sign_probes(linear, count, seed)):
            krylov = tridiagonalise(linear, start, length)
            values, vectors, residual = krylov.eigen()
            at = (number, layer, row, slice(len(values)))
            nodes[at], weights[at], residuals[at] = values, vectors[0] ** 2, residual
        skew = check.note(number, layer, linear, watch.asymmetry())
        residuals[number, layer] = widened(residuals[number, layer], skew)
        products[number, layer] = linear.products
        converged[number, layer] = not skew and _ends_found(nodes[number, layer], residuals[number, layer])
    check.warn("density of eigenvalues")
    grid, density, error, broadening = _broaden(nodes, weights, points, width)
    return sites.dataset(
        {
            "node": (("probe", "ritz"), nodes),
            "weight": (("probe", "ritz"), weights),
            "residual": (("probe", "ritz"), residuals),
            "eigenvalue": (("point",), grid),
            "density": (("point",), density),
            "density_stderr": (("point",), error),
            "width": ((), broadening),
            "products": ((), products),
            "converged": ((), converged),
        },
        GLOSSARY["spectral_density"],
        title="Density of the eigenvalues of the Hessian",
        method="stochastic Lanczos quadrature",
        probes=count,
        steps=length,
        seed=seed,
        **products_cost(products),
    )


def _ends_found(nodes: np.ndarray, residuals: np.ndarray) -> bool:
    """Whether the extreme nodes of every probe are eigenvalues."""
    scale = np.nanmax(np.abs(nodes))
    low = np.take_along_axis(residuals, np.nanargmin(nodes, axis=1)[:, None], axis=1)
    high = np.take_along_axis(residuals, np.nanargmax(nodes, axis=1)[:, None], axis=1)
    return bool(np.all(settled(np.maximum(low, high), scale, _ENDS_RTOL)))


def _broaden(nodes: np.ndarray, weights: np.ndarray, points: int, width: float | None) -> tuple[np.ndarray, ...]:
    """Grid, density, its error and the width, for each position and layer."""
    shape = nodes.shape[:2]
    grid, density, error = (np.full((*shape, points), np.nan) for _ in range(3))
    broadening = np.full(shape, np.nan)
    for at in np.ndindex(shape):
        own = nodes[at]
        if not np.isfinite(own).any():
            continue
        low, high = np.nanmin(own), np.nanmax(own)
        s = width or max(0.01 * (high - low), 1e-12 * max(abs(low), abs(high)), np.finfo(float).tiny ** 0.5)
        grid[at] = np.linspace(low - 4 * s, high + 4 * s, points)
        gap = (grid[at] - np.nan_to_num(own)[..., None]) / s
        per_probe = (weights[at][..., None] * np.exp(-0.5 * gap**2)).sum(axis=1) / (s * np.sqrt(2 * np.pi))
        density[at] = per_probe.mean(axis=0)
        error[at] = error_of_mean(per_probe.T, positive=True, least=2)
        broadening[at] = s
    return grid, density, error, broadening
