"""How much of gradients, of their noise and of the motion lies along some directions, such as the top eigenvectors."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr

from landscape.common.positions import labelled, plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.correlation import combine
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.estimates import correlations, moments
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.influence import Influence, between_chains
from landscape.probes.estimation.pairs import means_of_pairs, pair_of_chains
from landscape.probes.estimation.series import FloatArray, as_series, bundles, grouping
from landscape.probes.registry import probe
from landscape.statistics import error_of_mean

__all__ = ["project"]

_PIECE: Final = 2**22  # numbers of gradients that are projected at once
_ENOUGH: Final = 4  # draws from which on a correlation time is looked for
_ORTHONORMAL: Final = (
    1e-3  # departure up to which vectors are taken as they are: those of float32 networks depart by less
)
_DEPENDENT: Final = 1e-8
_TIMES: Final = ("draw", "snapshot")
_POOLED: Final = ("chain", *_TIMES, "sample")
_LEADING: Final[dict[int, tuple[str, ...]]] = {0: (), 1: ("sample",), 2: ("chain", "draw")}


@probe("curvature.project", pictures=())
def project(gradient: Any, vectors: Any) -> xr.Dataset:
    r"""How much of gradients, of minibatch noise or of the motion lies in the span of some directions v_1, ..., v_k.

    .. math:: f(g) = \frac{|P g|^2}{|g|^2}, \qquad P = \sum_i v_i v_i^T, \qquad
        \bar f = \frac{\langle |P g|^2 \rangle}{\langle |g|^2 \rangle} ,

    the average over all rows g; a vector without preferred direction has k / dim of it there.

    Parameters
    ----------
    gradient : DataArray, tensor or array, shape ``(..., coordinate)``, or Dataset
        Gradients. Of minibatch noise the rows are those of single samples less their mean, ``g - g.mean(0)`` with ``g =
        loss.sample_gradients(position)``. An array of one leading axis holds independent samples, of two (chain,
        draw). Of a Dataset, a run, the displacements between successive snapshots, or positions where there are none.
    vectors : Dataset, DataArray, tensor or array, shape ``(eigenvalue, coordinate)``
        Of a Dataset, such as that of `top_eigenpairs`, its `vector`. Rows that are not orthonormal are made so, one
        after the other: each stands for what it adds to those before.

    Returns
    -------
    xarray.Dataset
        `fraction (...)` and `coefficient (..., eigenvalue)` of every row; over chains, draws and samples, for each
        temperature where chains have several, `mean_fraction` and its parts `share (eigenvalue)`, with standard errors
        that take correlations along draws into account, and `resolved`; `isotropic_fraction`. Attributes `rank`, and
        `dropped`, the number of chains (or samples) left out because a value is not finite.

    Raises
    ------
    ConfigError, ShapeError
        If vectors are not finite or there are several sets of them, or coordinates do not fit.

    Notes
    -----
    Errors are those of a ratio of averages. Chains and samples are taken for independent, chains of opposite noise for
    one. Of fewer than four draws the scatter between chains alone tells, and the error is NaN where there are fewer
    than four chains too. The directions are taken as they are: their own errors, residual / gap, are not part of it.

    References
    ----------
    Gur-Ari, Roberts, Dyer (2018), Gradient descent happens in a tiny subspace, arXiv:1812.04754.

    Examples
    --------
    >>> found = project(np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 5.0]]), np.array([[1.0, 0.0, 0.0]]))
    >>> found.fraction.values.tolist(), float(found.mean_fraction)
    ([0.36, 0.0], 0.18)
    """
    directions = _directions(vectors)
    rows, what = _rows(gradient)
    rows, directions = _aligned(rows, directions)
    basis, rank = _orthonormal(directions.to_numpy())
    leading = tuple(str(dim) for dim in rows.dims[:-1])
    coefficients, lengths = _components(rows, basis)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.minimum((coefficients**2).sum(-1) / lengths, 1.0)
    coords = {str(name): c for name, c in rows.coords.items() if "coordinate" not in c.dims}
    if "eigenvalue" in directions.coords:
        coords["eigenvalue"] = directions.coords["eigenvalue"]
    dataset = xr.Dataset(
        {"fraction": (leading, fraction), "coefficient": ((*leading, "eigenvalue"), coefficients)}, coords=coords
    )
    squares = dataset.coefficient**2
    pooled, dropped = _pooled(squares, xr.DataArray(lengths, dims=leading, coords=dataset.fraction.coords))
    dataset = dataset.merge(pooled)
    dataset["isotropic_fraction"] = rank / basis.shape[1]
    dataset.attrs.update(
        title=f"Share of {what} in a subspace",
        conventions="squared Euclidean norms; averages of numerator and denominator apart",
        rank=rank,
        dropped=dropped,
        cost="one pass over the rows; no gradients",
    )
    return annotate(dataset, names=GLOSSARY["project"])


# -- what is given -----------------------------------------------------------------------------------------------------


def _labelled(given: Any, dims: tuple[str, ...] | None) -> xr.DataArray:
    found = labelled(given)
    if found is None:
        array = plain_array(given, "vectors")
        names = _LEADING.get(array.ndim - 1) if dims is None else dims
        if names is None or array.ndim != len(names) + 1:
            raise ShapeError(
                f"got an array of shape {array.shape}; label its axes with a DataArray, the last `coordinate`"
            )
        found = xr.DataArray(array, dims=(*names, "coordinate"))
    if found.dtype.kind not in "fiu":
        raise ShapeError(f"expected real numbers, got dtype {found.dtype}")
    return found


def _directions(vectors: Any) -> xr.DataArray:
    if isinstance(vectors, xr.Dataset):
        if "vector" not in vectors:
            raise ShapeError(f"the dataset has no `vector`; it has {sorted(map(str, vectors.data_vars))}")
        vectors = vectors["vector"]
    if isinstance(vectors, xr.DataArray):
        found = _labelled(vectors, None)
        if found.dims[:-1] != ("eigenvalue",):
            raise ShapeError(
                f"vectors have dims {found.dims}; expected (eigenvalue, coordinate): choose one position with `isel`"
            )
    else:
        found = _labelled(vectors, ("eigenvalue",))
    lost = np.flatnonzero(~np.isfinite(found.to_numpy()).all(1))
    if len(lost):
        raise ConfigError(f"vector {lost[0]} is not finite: leave out what has not been found")
    return found


def _rows(gradient: Any) -> tuple[xr.DataArray, str]:
    if not isinstance(gradient, xr.Dataset):
        return _labelled(gradient, None), "given vectors"
    for name in ("snapshot", "position"):
        if name in gradient and "coordinate" in gradient[name].dims:
            positions = _labelled(gradient[name], None)
            along = [dim for dim in _TIMES if dim in positions.dims]
            if along and positions.sizes[along[0]] > 1:
                return positions.astype(np.float64).diff(along[0]), f"displacements between {name}s"
    raise ShapeError(
        "the dataset has no two snapshots or positions to take displacements between: record them with "
        f"Record(snapshots=...); it has {sorted(map(str, gradient.data_vars))}"
    )


def _aligned(rows: xr.DataArray, directions: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    if rows.sizes["coordinate"] != directions.sizes["coordinate"]:
        raise ShapeError(
            f"the vectors have {directions.sizes['coordinate']} coordinates, what is projected on them "
            f"{rows.sizes['coordinate']}"
        )
    if "coordinate" in rows.coords and "coordinate" in directions.coords:
        labels = rows.coords["coordinate"].to_numpy()
        if set(labels.tolist()) != set(directions.coords["coordinate"].to_numpy().tolist()):
            raise ShapeError("the coordinates of the vectors have other labels than those of what is projected on them")
        directions = directions.sel(coordinate=labels)
    return rows, directions


def _orthonormal(directions: FloatArray) -> tuple[FloatArray, int]:
    """Rows made orthonormal one after the other, zero where they add nothing; and how many add something."""
    vectors = np.asarray(directions, dtype=np.float64)
    count, size = vectors.shape
    if count <= size and np.abs(vectors @ vectors.T - np.eye(count)).max() < _ORTHONORMAL:
        # to the nearest orthonormal rows: each stays what it is, to first order
        values, mixing = np.linalg.eigh(vectors @ vectors.T)
        return (mixing / np.sqrt(values)) @ mixing.T @ vectors, count
    found = np.zeros_like(vectors)
    rank = 0
    for number, vector in enumerate(vectors):
        length = np.linalg.norm(vector)
        for _ in range(2):
            vector = vector - (vector @ found[:number].T) @ found[:number]
        rest = np.linalg.norm(vector)
        if rest > _DEPENDENT * length:
            found[number] = vector / rest
            rank += 1
    return found, rank


def _components(rows: xr.DataArray, basis: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients ``(..., k)`` and squared lengths ``(...)``, a few rows at once."""
    flat = rows.to_numpy().reshape(-1, basis.shape[1])
    coefficients, lengths = np.empty((len(flat), len(basis))), np.empty(len(flat))
    step = max(1, _PIECE // basis.shape[1])
    for low in range(0, len(flat), step):
        part = flat[low : low + step].astype(np.float64)
        coefficients[low : low + step] = part @ basis.T
        lengths[low : low + step] = (part**2).sum(1)
    shape = rows.shape[:-1]
    return coefficients.reshape(*shape, len(basis)), lengths.reshape(shape)


# -- averages ----------------------------------------------------------------------------------------------------------


def _pooled(squares: xr.DataArray, lengths: xr.DataArray) -> tuple[xr.Dataset, int]:
    """Ratios of averages over chains, draws and samples, for whatever other dims there are; chains left out."""
    temperature = lengths.coords.get("temperature")
    if temperature is not None and temperature.dims == ("chain",) and len(levels := np.unique(temperature)) > 1:
        parts = [
            _pooled(squares.isel(chain=at), lengths.isel(chain=at)) for at in (temperature.values == t for t in levels)
        ]
        joined = xr.concat([part.drop_vars("temperature", errors="ignore") for part, _ in parts], "scan_temperature")
        return joined.assign_coords(scan_temperature=levels), sum(lost for _, lost in parts)
    others = [str(dim) for dim in lengths.dims if dim not in _POOLED]
    time = next((dim for dim in _TIMES if dim in lengths.dims), None)
    shape, k = tuple(lengths.sizes[dim] for dim in others), squares.sizes["eigenvalue"]
    order = [*others, "chain", "draw", "sample"]
    pair = pair_of_chains(lengths, lengths.sizes.get("chain", 1))

    def arranged(values: xr.DataArray) -> xr.DataArray:
        values = values.drop_vars(list(values.coords))
        values = values.rename({time: "draw"}) if time not in (None, "draw") else values
        return values.expand_dims([dim for dim in order if dim not in values.dims])

    below = arranged(lengths).transpose(*order).to_numpy()
    above = arranged(squares).transpose(*order, "eigenvalue").to_numpy()
    value, error, resolved, dropped = (
        np.full((*shape, k + 1), np.nan),
        np.full((*shape, k + 1), np.nan),
        np.zeros(shape, bool),
        0,
    )
    for at in np.ndindex(shape):
        value[at], error[at], resolved[at], lost = _ratios(above[at], below[at], pair)
        dropped += lost
    dims = tuple(others)
    return xr.Dataset(
        {
            "mean_fraction": (dims, value[..., 0]),
            "mean_fraction_stderr": (dims, error[..., 0]),
            "share": ((*dims, "eigenvalue"), value[..., 1:]),
            "share_stderr": ((*dims, "eigenvalue"), error[..., 1:]),
            "resolved": (dims, resolved),
        }
    ), dropped


def _ratios(above: FloatArray, below: FloatArray, pair: Any) -> tuple[FloatArray, FloatArray, bool, int]:
    """Fraction and shares with errors from ``(chain, draw, sample[, k])``; whether resolved; chains or samples lost."""
    above = np.concatenate([above.sum(-1, keepdims=True), above], axis=-1)
    chains, draws, samples = below.shape
    nothing = np.full(above.shape[-1], np.nan)
    finite = np.isfinite(below)
    if chains * draws == 1 and samples > 1:  # samples alone: independent rows
        kept = finite[0, 0]
        a, b = above[0, 0, kept], below[0, 0, kept]
        if not b.sum() > 0:
            return nothing, nothing, False, int((~kept).sum())
        value = a.mean(0) / b.mean()
        moves = (a - value * b[:, None]) / b.mean()
        return value, error_of_mean(moves.T, least=2), len(b) >= 2, int((~kept).sum())
    kept = finite.all((1, 2))
    a, b = above[kept].mean(2), below[kept].mean(2)
    lost = int((~kept).sum())
    if not b.sum() > 0:
        return nothing, nothing, False, lost
    value = a.mean((0, 1)) / b.mean()
    moves = means_of_pairs((a - value * b[..., None]) / b.mean(), pair[kept])
    found = [_error(moves[..., i]) for i in range(moves.shape[-1])]
    return value, np.array([error for error, _ in found]), found[0][1], lost


def _error(moves: FloatArray) -> tuple[float, bool]:
    """Standard error of the mean of correlated draws of several chains ``(chain, draw)``."""
    if not np.ptp(moves) > 0:  # all the same to the last bit
        return 0.0 if moves.size > 1 else np.nan, moves.size > 1
    if moves.shape[1] < _ENOUGH:
        means, owner = moves.mean(1), np.zeros(len(moves), dtype=np.intp)
        between = between_chains(means, owner, 1)
        error = combine(np.array([np.nan]), np.ones(1), between, np.array([len(moves)])).stderr[0]
        return float(error), bool(len(moves) >= _ENOUGH)
    series = as_series(xr.DataArray(moves, dims=("chain", "draw")), 0.0, shortest=1)
    (bundle,) = bundles(series, grouping(series, "temperature"))
    m = moments(bundle, np.zeros(1, dtype=np.intp))
    resolved = correlations(bundle, m).resolved
    average = Influence(bundle, m.start)
    for rows, values, owner in bundle.blocks():
        average.add(rows, values, owner)
    error = average.variance(resolved).stderr[0]
    return float(error), bool(resolved[0] or len(moves) >= _ENOUGH)
