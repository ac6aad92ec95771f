"""The trace of the Hessian, and that of the Fisher matrix."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import finite_number, one_of, whole_number
from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss
from landscape.potentials.base import has_samples
from landscape.potentials.curvature.sample_scores import SampleScores, check_samples_apart, loss_scores, route_in_words
from landscape.potentials.expression.piecewise import why_curved
from landscape.probes.curvature.linear import settled
from landscape.probes.curvature.model_labels import check_model, drawn_targets, fisher_factor
from landscape.probes.curvature.operators import layer_name, need_network
from landscape.probes.curvature.positions import Sites, at_positions, products_cost, scores_cost
from landscape.probes.curvature.squared_scores import labels_differ
from landscape.probes.curvature.symmetry import SymmetryCheck, Watch, asymmetry_of, widened
from landscape.probes.curvature.trace_estimators import hutch_plus_plus, hutchinson, xtrace
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import POSITIONS, probe
from landscape.random import check_seed
from landscape.statistics import student_factor, widen

__all__ = ["fisher_trace", "trace"]

_ESTIMATORS = {"hutch++": hutch_plus_plus, "xtrace": xtrace, "hutchinson": hutchinson}


@probe("curvature.trace", POSITIONS)
@at_positions
def trace(
    potential: Any,
    positions: Any = None,
    *,
    method: Literal["hutch++", "xtrace", "hutchinson", "exact"] = "hutch++",
    probes: int = 30,
    rtol: float = 0.1,
    blocks: Literal["layer"] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Trace of the Hessian, tr H = sum of its eigenvalues = Laplacian of the energy.

    Parameters
    ----------
    method : {"hutch++", "xtrace", "hutchinson", "exact"}
        Three estimates from random probes; or without sampling error. Of a network the exact one is the trace of its
        Fisher matrix (plus weight decay times `dim`), to which tr H is equal where the outputs are piecewise linear in
        every single weight: no curved activation, no normalisation by statistics of the activations, no weight used
        twice. Elsewhere it is refused. Of other potentials and matrices it is the sum of the diagonal.
    probes : int
        Products with the Hessian at each position; not used by the exact method.
    rtol : float
        Tolerance: standard error over |trace| up to which the trace has `converged`.
    blocks : {"layer"}, optional
        Trace of each layer's diagonal block.
    seed : int
        Of the probes, which are the same at every position: differences along a path have little error.

    Returns
    -------
    xarray.Dataset
        `trace`, `trace_stderr` (0 where exact) and `converged` (...); attribute `products`, or `gradients` and
        `route`, as of `fisher_trace`.

    Raises
    ------
    ConfigError, ShapeError
        Also where the exact method does not hold.

    Warns
    -----
    UserWarning
        Where H is not symmetric beyond rounding, which u^T H v and v^T H u of the products at hand show: there
        `converged` is false and the error at least |H - H^T|. The warning names the layers.

    Notes
    -----
    The standard errors are widened by Student's factor, so that +- 1.96 of them is a 95 % interval. They say how far
    the estimate is from the trace, not how much it fluctuates along a path.

    References
    ----------
    Hutchinson (1990), Commun. Stat. Simul. Comput. 19, 433. Meyer, Musco, Musco, Woodruff (2021), Hutch++: optimal
    stochastic trace estimation, SOSA. Epperly, Tropp, Webber (2024), XTrace, SIAM J. Matrix Anal. Appl. 45, 1.

    Examples
    --------
    >>> from landscape.potentials import Quadratic
    >>> float(trace(Quadratic([3.0, 1.0]), [0.0, 0.0], method="exact").trace)
    4.0
    """
    one_of("method", method, (*_ESTIMATORS, "exact"))
    whole_number("probes", probes, least=6)
    check_seed(seed)
    finite_number("rtol", rtol, above=0, below=1)
    sites = Sites.of(potential, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    if method == "exact" and has_samples(potential):
        return _through_fisher(sites)
    value, error = sites.empty(), sites.empty()
    symmetric, check = sites.empty(fill=0, dtype=bool), SymmetryCheck(sites)
    products = 0
    for number, layer, linear in sites.linear_maps():
        if method == "exact":
            matrix = linear(torch.eye(linear.size, dtype=linear.dtype, device=linear.device))
            value[number, layer], error[number, layer] = float(matrix.diagonal().double().sum()), 0.0
            seen = asymmetry_of(matrix)
        else:
            watch = Watch(linear)
            estimate = _ESTIMATORS[method](linear, probes, seed)
            value[number, layer], error[number, layer] = estimate.value, estimate.stderr
            seen = watch.asymmetry()
        skew = check.note(number, layer, linear, seen, exact=method == "exact")
        error[number, layer], symmetric[number, layer] = widened(error[number, layer], skew), not skew
        products += linear.products
    check.warn("trace")
    return sites.dataset(
        {"trace": ((), value), "trace_stderr": ((), error), "converged": ((), symmetric & settled(error, value, rtol))},
        GLOSSARY["trace"],
        title="Trace of the Hessian",
        method=method,
        probes=None if method == "exact" else probes,
        rtol=rtol,
        seed=None if method == "exact" else seed,
        **products_cost(products),
    )


def _through_fisher(sites: Sites) -> xr.Dataset:
    loss = sites.potential
    for number in sites.numbers():
        reason = why_curved(loss, sites.position(number))
        if reason is not None:
            raise ConfigError(
                f'method="exact" is the trace of the Fisher matrix, which is not that of the Hessian here: {reason}. '
                'Use method="hutch++"'
            )
    value, _, gradients, route = _norms(sites, "model", 1, 0)
    sizes = np.array([size for _, size in sites.layers], dtype=float)
    value = value + loss.weight_decay * sizes
    return sites.dataset(
        {"trace": ((), value), "trace_stderr": ((), 0.0 * value), "converged": ((), np.isfinite(value))},
        GLOSSARY["trace"],
        title="Trace of the Hessian",
        method="exact: equal to the trace of the Fisher matrix of the model's labels",
        **scores_cost(gradients, route),
    )


@probe("curvature.fisher_trace", POSITIONS)
@at_positions
def fisher_trace(
    loss: NetworkLoss,
    positions: Any,
    *,
    labels: Literal["model", "sampled", "empirical"],
    draws: int = 2,
    rtol: float = 0.1,
    blocks: Literal["layer"] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Trace of the Fisher matrix, tr F = (1/n) sum_i <|d log p(y | x_i) / d weights|^2>.

    The average over y is what `labels` says; the three numbers differ by orders of magnitude near interpolation.

    Parameters
    ----------
    loss : NetworkLoss
        Cross-entropy is -log p of a softmax, the squared error (1/K) |f - y|^2 that of a Gaussian of variance K/2.
    labels : {"model", "sampled", "empirical"}
        Exact: the sum over all C values of y of p(y | x_i) (C - 1 directions). Monte Carlo: `draws` labels sampled
        from it. Empirical: the labels of the data. There is no default.
    draws : int
        Labels sampled for each input.
    rtol : float
        Tolerance: standard error over the trace up to which it has `converged`.
    blocks : {"layer"}, optional
        Trace of each layer's diagonal block.
    seed : int
        Of the drawn labels.
    dtype : torch.dtype, optional
        Of the gradients; sums are in float64.

    Returns
    -------
    xarray.Dataset
        `fisher_trace`, `fisher_trace_stderr` (0 unless labels are drawn; NaN for a single draw, and where fewer than 20
        draws, or a quarter of them, differ within their samples) and `converged` (...); attributes `gradients`, the
        gradients over all data that it cost if nothing were shared, and `route`: "layer rules", "vmap over samples" or
        "one sample at a time", each slower than the one before and taken where that is not right, or several of them.

    Notes
    -----
    Weight decay is no part of it. Di Carlo, Goddard, Schwab (2026) use the name for more than one of the three.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(1, 1, bias=False), x, x, loss="mse")
    >>> round(float(fisher_trace(loss, [1.0], labels="model").fisher_trace), 5)  # 2 mean(x^2)
    10.0
    """
    one_of("labels", labels, ("model", "sampled", "empirical"))
    network = need_network(loss, "the Fisher matrix")
    whole_number("draws", draws)
    finite_number("rtol", rtol, above=0, below=1)
    sites = Sites.of(network, positions, blocks=blocks, chunk_size=chunk_size, dtype=dtype)
    value, error, gradients, route = _norms(sites, labels, draws, check_seed(seed))
    return sites.dataset(
        {
            "fisher_trace": ((), value),
            "fisher_trace_stderr": ((), error),
            "converged": ((), settled(error, value, rtol)),
        },
        GLOSSARY["trace"],
        title="Trace of the Fisher matrix",
        labels=labels,
        draws=draws if labels == "sampled" else None,
        rtol=rtol,
        seed=seed if labels == "sampled" else None,
        **scores_cost(gradients, route),
    )


def _norms(sites: Sites, labels: str, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, int, str | None]:
    """Mean over samples of the squared norms of the scores, their errors, the number of directions, and the routes."""
    loss = sites.potential.converted(sites.dtype)
    check_samples_apart(loss)
    if labels != "empirical":
        check_model(loss)
    value, error = sites.empty(), sites.empty()
    gradients, routes = 0, set[str]()
    for number in sites.numbers():
        position = sites.position(number, loss)
        targets = drawn_targets(loss, position, draws, seed) if labels == "sampled" else None
        if labels == "model":
            scores = SampleScores(
                loss, position, lambda outputs, rows: fisher_factor(loss, outputs), chunk_size=sites.chunk_size
            )
        else:
            scores = loss_scores(loss, position, targets, chunk_size=sites.chunk_size)
        found: list[Tensor] = []
        layer_of = _layer_of(sites)
        for _, parts in scores.squared_norms():
            by_layer: dict[int, Tensor] = {}
            for slot, norms in parts:
                layer = layer_of[slot.name]
                by_layer[layer] = by_layer[layer] + norms if layer in by_layer else norms
            found.append(torch.stack([by_layer[layer] for layer in range(len(sites.layers))]))
        squared = torch.cat(found, dim=2)  # (layers, directions, samples)
        gradients = squared.shape[1]
        share = 1 if targets is None else len(targets)
        value[number] = (loss.shards.sum(squared.sum((1, 2))) / (share * loss.samples)).cpu().numpy()
        error[number] = 0.0 if targets is None else _sampling_error(loss, squared, targets)
        routes |= scores.taken
    return value, error, gradients * sites.count, route_in_words(loss, routes)


def _layer_of(sites: Sites) -> dict[str, int]:
    if not sites.by_layer:
        return {slot.name: 0 for slot in sites.potential.layout}
    numbers = {name: number for number, (name, _) in enumerate(sites.layers)}
    return {slot.name: numbers[layer_name(slot)] for slot in sites.potential.layout}


def _sampling_error(loss: NetworkLoss, norms: Tensor, targets: Tensor) -> np.ndarray:
    """Error that comes from drawing labels, from the scatter of draws within samples: ``(layers, draws, samples)``.

    That of a scale, with Student's factor. NaN where the draws of too few samples differ: the model's rare labels, on
    which the trace may rest, have not come up then.
    """
    draws = norms.shape[1]
    if draws < 2 or not labels_differ(loss, targets, share=0.25):
        return np.full(len(norms), np.nan)
    variance = norms.var(dim=1, correction=1) / draws
    sums = [norms.sum((1, 2)), norms.square().sum((1, 2)), variance.sum(1), variance.square().sum(1)]
    total, squares, scatter, fourths = loss.shards.sum(torch.stack([one.double() for one in sums])).cpu().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        # Degrees of freedom of the summed variance (Satterthwaite), (d - 1) of each sample; and no more than the
        # number of norms that make up the trace
        freedom = np.nan_to_num((draws + 1.0) * scatter**2 / fourths - 2.0)
        freedom = np.clip(np.minimum(freedom, np.nan_to_num(total**2 / squares) - 1.0), 1.0, None)
    error = np.sqrt(scatter) / loss.samples * student_factor(freedom)
    return widen(total / (draws * loss.samples), error)
