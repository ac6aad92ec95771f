"""Diagonals of the Hessian, the Gauss-Newton matrix and the Fisher matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import scipy.sparse
import torch
import xarray as xr
from torch import Tensor

from landscape.checks import one_of, whole_number
from landscape.errors import ConfigError
from landscape.potentials import NetworkLoss, Potential
from landscape.potentials.base import has_samples
from landscape.potentials.curvature.fisher import fisher_is_gauss_newton
from landscape.potentials.curvature.sample_scores import check_samples_apart
from landscape.potentials.expression.piecewise import why_curved
from landscape.probes.curvature.diagonal_estimators import Diagonal, diagonal_of_products, sign_diagonal
from landscape.probes.curvature.linear import LinearMap, as_linear
from landscape.probes.curvature.model_labels import check_model
from landscape.probes.curvature.operators import (
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    layer_name,
    need_network,
)
from landscape.probes.curvature.positions import Sites, at_positions
from landscape.probes.curvature.squared_scores import model_directions, squared_scores
from landscape.probes.curvature.symmetry import SymmetryCheck, Watch
from landscape.probes.registry import POSITIONS, probe
from landscape.random import check_seed

__all__ = ["diagonal"]

MOST_PRODUCTS: Final = 4096  # up to which "auto" multiplies with every axis
MOST_DIRECTIONS: Final = 256  # of single samples, up to which "auto" sums over the labels of the model
_MATRICES: Final = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix", "fisher": "Fisher matrix"}
_ROUTES: Final = {
    "entries": "read off the matrix",
    "structure": "exact: the Hessian of a plain multilayer perceptron, block by block",
    "scores": "exact: squared gradients of single samples, summed over samples",
    "gauss_newton": "exact: equal to that of the Gauss-Newton matrix, as the outputs are piecewise linear in every "
    "single weight; squared gradients of single samples, summed over samples and labels of the model",
    "products": "exact: a product with every axis",
    "signs": "estimate: mean of z * (H z) over vectors of random signs",
}


@probe("curvature.diagonal", POSITIONS)
@at_positions
def diagonal(
    potential: Any,
    positions: Any = None,
    *,
    of: Literal["hessian", "gauss_newton", "fisher"] = "hessian",
    labels: Literal["model", "sampled", "empirical"] | None = None,
    method: Literal["auto", "exact", "hutchinson"] = "auto",
    probes: int = 100,
    draws: int = 2,
    seed: int = 0,
    chunk_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> xr.Dataset:
    r"""Diagonal of the Hessian, H_jj = d^2 V / d x_j^2, of the Gauss-Newton matrix or of the Fisher matrix.

    Parameters
    ----------
    potential : Potential, or a square matrix or operator with `shape` and `@`
        The Gauss-Newton and the Fisher matrix are those of a `NetworkLoss`.
    of : {"hessian", "gauss_newton", "fisher"}
        With weight decay, with it, and without it.
    labels : {"model", "sampled", "empirical"}
        Of the Fisher matrix, as for `fisher_trace`: has to be chosen.
    method : {"auto", "exact", "hutchinson"}
        Without sampling error, or (1/m) sum_i z_i * (H z_i) over random signs z_i. By default exact where that is
        cheap, by the first of these that applies; attribute `route` says which it was.

        1. Of the Fisher matrix, and of the Gauss-Newton matrix where the loss is minus the logarithm of a known
           probability: squared gradients of single samples, summed (for the model's labels over its C - 1 directions,
           up to 256 of them).
        2. Of the Hessian where the outputs are piecewise linear in every single weight (as for `trace`): every
           d^2 f / d theta_j^2 is zero, so it is the diagonal of the Gauss-Newton matrix.
        3. Of a plain multilayer perceptron up to 4096 weights: from the structure of its Hessian.
        4. Up to 4096 coordinates: a product with every axis.
        5. Else the estimate.
    probes : int
        Products of the estimate.
    draws : int
        Labels drawn per sample, for ``labels="sampled"``.
    seed : int
        Of the probes, which are the same at every position, or of the drawn labels.
    dtype : torch.dtype, optional
        Of products and gradients; sums are in float64.

    Returns
    -------
    xarray.Dataset
        `diagonal (..., coordinate)`, `diagonal_stderr` (0 where exact) and `converged` (...): whether all entries are
        finite, the products those of a symmetric matrix, and drawn labels varied enough to tell their error. Attributes
        `of`, `labels`, `method`, `route`, `products`, `gradients`, `cost`. Of a network the coordinate `layer` numbers
        the layers, with their names in its attribute `flag_meanings`.

    Raises
    ------
    ConfigError, ShapeError
        Also where labels are missing or the method does not exist for them.

    Warns
    -----
    UserWarning
        Where products are not those of a symmetric matrix: second derivatives of some layer are wrong. Errors are then
        no smaller than |H - H^T|.

    Notes
    -----
    The estimate is unbiased; entry j has the variance (1/m) sum_{k != j} H_jk^2. Standard errors come from the
    scatter over probes and are widened by Student's factor, so that +- 1.96 of them is a 95 % interval of one entry;
    the errors of different entries are correlated. A matrix that is diagonal is found exactly.

    References
    ----------
    Bekas, Kokiopoulou, Saad (2007), An estimator for the diagonal of a matrix, Appl. Numer. Math. 57, 1214, eq. 2.

    Examples
    --------
    >>> from landscape.potentials import Quadratic
    >>> diagonal(Quadratic([3.0, 1.0]), [[0.0, 0.0], [1.0, 2.0]]).diagonal.values
    array([[3., 1.],
           [3., 1.]])
    >>> x = torch.tensor([[1.0, 0.0], [3.0, 1.0]])
    >>> loss = NetworkLoss(torch.nn.Linear(2, 1, bias=False), x, x[:, :1], loss="mse")
    >>> diagonal(loss, [1.0, 0.0], of="fisher", labels="model").diagonal.values.round(5)  # 2 mean(x_j^2)
    array([10.,  1.])
    """
    settings = _settings(of, labels, method, probes, draws, seed)
    if of != "hessian":
        need_network(potential, f"the {_MATRICES[of]}")
    sites = Sites.of(potential, positions, chunk_size=chunk_size, dtype=dtype)
    size = sites.layers[0][1] or as_linear(potential).size
    found, error = sites.empty(size), sites.empty(size)
    converged = sites.empty(fill=0, dtype=bool)
    check = SymmetryCheck(sites)
    work = _Work(sites, settings, check)
    for number in sites.numbers():
        one, good = work(number)
        found[number, 0], error[number, 0] = one.value.cpu().numpy(), one.stderr.cpu().numpy()
        converged[number, 0] = good and np.isfinite(found[number, 0]).all()
    check.warn("the diagonal")
    return _described(sites, settings, work, {"diagonal": found, "diagonal_stderr": error}, converged)


@dataclass(frozen=True, slots=True)
class _Settings:
    of: str
    labels: str | None
    method: str
    probes: int
    draws: int
    seed: int


def _settings(of: Any, labels: Any, method: Any, probes: Any, draws: Any, seed: Any) -> _Settings:
    one_of("of", of, tuple(_MATRICES))
    one_of("method", method, ("auto", "exact", "hutchinson"))
    if of == "fisher":
        if labels is None:
            raise ConfigError(
                'of="fisher" needs labels: "model", "sampled" or "empirical", which are different matrices'
            )
        one_of("labels", labels, ("model", "sampled", "empirical"))
    elif labels is not None:
        raise ConfigError(f'labels are for of="fisher", got labels={labels!r} with of={of!r}: leave them out')
    if method == "hutchinson" and labels == "sampled":
        raise ConfigError(
            'method="hutchinson" would not know the error of drawn labels: choose labels="model", or method="exact"'
        )
    return _Settings(
        of, labels, method, whole_number("probes", probes, least=10), whole_number("draws", draws), check_seed(seed)
    )


@dataclass(slots=True)
class _Work:
    """Routes to the diagonal at the positions, which may differ where a network's graph depends on its weights."""

    sites: Sites
    settings: _Settings
    check: SymmetryCheck
    routes: list[str] = field(default_factory=list)
    products: int = 0
    gradients: int = 0
    taken: str | None = None  # routes of single gradients

    def __call__(self, number: int) -> tuple[Diagonal, bool]:
        """The diagonal at a position, and whether the products are symmetric and drawn labels tell their error."""
        sites, settings = self.sites, self.settings
        route = next(_routes(sites, number, settings))
        if route not in self.routes:
            self.routes.append(route)
        if route == "entries":
            return _exact(torch.as_tensor(np.array(_entries(sites.potential), dtype=np.float64))), True
        if route == "structure":
            loss = sites.potential.converted(sites.dtype)
            matrix = loss.hessian(sites.position(number, loss))
            return _exact(matrix.diagonal().double()), True
        if route in ("scores", "gauss_newton"):
            return self._from_scores(number)
        linear = self._linear(number)
        watch = Watch(linear)
        one = (
            diagonal_of_products(linear)
            if route == "products"
            else sign_diagonal(linear, settings.probes, settings.seed)
        )
        least = self.check.note(number, 0, linear, watch.asymmetry())
        self.products += linear.products
        return Diagonal(one.value, one.stderr.clamp_min(least)), not least

    def _from_scores(self, number: int) -> tuple[Diagonal, bool]:
        sites, settings = self.sites, self.settings
        loss = sites.potential.converted(sites.dtype)
        position = sites.position(number, loss)
        squares = squared_scores(
            loss,
            position,
            settings.labels or "model",
            draws=settings.draws,
            seed=settings.seed,
            chunk_size=sites.chunk_size,
        )
        self.gradients += squares.gradients
        self.taken = squares.route
        decay = 0.0 if settings.of == "fisher" else loss.weight_decay
        return Diagonal(squares.value + decay, squares.stderr), squares.resolved

    def _linear(self, number: int) -> LinearMap:
        labels: Any = self.settings.labels
        make: Any = {"hessian": HessianOperator, "gauss_newton": GaussNewtonOperator}.get(
            self.settings.of, partial(FisherOperator, labels=labels)
        )
        ((_, operator),) = self.sites.operators(number, make)
        return as_linear(operator)


def _routes(sites: Sites, number: int, settings: _Settings) -> Iterator[str]:
    """Routes that apply, the best first."""
    of, potential = settings.of, sites.potential
    if settings.method == "hutchinson":
        yield "signs"
    if has_samples(potential):
        loss = potential.converted(sites.dtype)
        at = sites.position(number, loss)
        yield from _network_routes(loss, at, settings)
    elif _entries(potential) is not None:
        yield "entries"
    size = sites.layers[0][1] or as_linear(potential).size
    if settings.method == "exact" or (size <= MOST_PRODUCTS and (of == "hessian" or settings.labels is None)):
        yield "products"
    yield "signs"


def _network_routes(loss: NetworkLoss, position: Tensor, settings: _Settings) -> Iterator[str]:
    if settings.of == "fisher":
        check_samples_apart(loss)
        if settings.labels != "empirical":
            check_model(loss)
        if settings.labels != "model" or _few_directions(loss, position, settings):
            yield "scores"
    elif settings.of == "gauss_newton":
        if _has_model(loss) and _few_directions(loss, position, settings):
            yield "scores"
    else:
        if why_curved(loss, position) is None and _few_directions(loss, position, settings):
            yield "gauss_newton"
        if loss.plain_mlp is not None and loss.dim <= MOST_PRODUCTS:
            yield "structure"


def _few_directions(loss: NetworkLoss, position: Tensor, settings: _Settings) -> bool:
    return settings.method == "exact" or model_directions(loss, position) <= MOST_DIRECTIONS


def _has_model(loss: NetworkLoss) -> bool:
    """Whether the Gauss-Newton matrix is the Fisher matrix of the model's labels, sample by sample."""
    try:
        check_samples_apart(loss)
        check_model(loss)
    except ConfigError:
        return False
    return fisher_is_gauss_newton(loss)


def _entries(matrix: Any) -> Any:
    """Diagonal of a matrix whose entries are at hand, else None."""
    if isinstance(matrix, Tensor):
        as_linear(matrix)  # refuses what is not square
        return matrix.detach().diagonal().double().cpu().numpy()
    if isinstance(matrix, np.ndarray) or scipy.sparse.issparse(matrix):
        as_linear(matrix)
        return matrix.diagonal()
    return None


def _exact(value: Tensor) -> Diagonal:
    return Diagonal(value, torch.zeros_like(value))


def _described(
    sites: Sites,
    settings: _Settings,
    work: _Work,
    values: dict[str, np.ndarray],
    converged: np.ndarray,
) -> xr.Dataset:
    matrix, estimated = _MATRICES[settings.of], "signs" in work.routes
    names = {
        "diagonal": (f"diagonal of the {matrix}", "1"),
        "diagonal_stderr": (f"standard error of the diagonal of the {matrix}", "1"),
        "converged": ("whether the result is one to rely on", "1"),
    }
    products, gradients = work.products, work.gradients
    costs = [f"{products} products with the {matrix}"] if products else []
    costs += [f"{gradients} gradients of single samples, forward pass shared"] if gradients else []
    dataset = sites.dataset(
        {**{name: (("coordinate",), value) for name, value in values.items()}, "converged": ((), converged)},
        names,
        title=f"Diagonal of the {matrix}",
        of=settings.of,
        labels=settings.labels,
        method="hutchinson" if estimated else "exact",
        route=" or ".join(_ROUTES[route] for route in work.routes) + (f" ({work.taken})" if work.taken else ""),
        probes=settings.probes if estimated else None,
        draws=settings.draws if settings.labels == "sampled" else None,
        seed=settings.seed if estimated or settings.labels == "sampled" else None,
        products=products,
        gradients=gradients,
        cost=", ".join(costs) or "none but reading the entries",
    )
    return _with_coordinates(dataset, sites.potential)


def _with_coordinates(dataset: xr.Dataset, potential: Any) -> xr.Dataset:
    """Names of coordinates, or of a network the number of the layer that each weight belongs to."""
    if has_samples(potential):
        names = list(dict.fromkeys(layer_name(slot) for slot in potential.layout))
        numbers = np.concatenate(
            [np.full(slot.size, names.index(layer_name(slot)), dtype=np.int32) for slot in potential.layout]
        )
        about = {
            "long_name": "number of the layer that a weight belongs to",
            "units": "1",
            "flag_values": np.arange(len(names), dtype=np.int32),
            "flag_meanings": " ".join(name.replace(" ", "_") for name in names),
        }
        return dataset.assign_coords(layer=("coordinate", numbers, about))
    if isinstance(potential, Potential) and potential.coordinates is not None:
        called = {"long_name": "coordinate", "units": "1"}
        return dataset.assign_coords(coordinate=("coordinate", list(potential.coordinates), called))
    return dataset
