"""How many samples share the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from landscape.common.positions import plain_array
from landscape.errors import ShapeError
from landscape.probes.estimation.correlation import combine
from landscape.probes.estimation.describe import describe
from landscape.probes.estimation.estimates import correlations, moments
from landscape.probes.estimation.influence import Influence, between_chains
from landscape.probes.estimation.needed import Length, in_units, steps_needed
from landscape.probes.estimation.series import Bundle, as_series, bundles, grouping
from landscape.probes.fluctuations.equilibration import starts
from landscape.probes.registry import Reading, probe

__all__ = ["participation_ratio"]

_BLOCK = 2**22
_ENOUGH = 4


@probe("fluctuations.participation_ratio", Reading("a run that recorded sample_energies", ("sample_energies",)))
def participation_ratio(
    sample_energies: Any,
    temperature: ArrayLike | None = None,
    *,
    by: str = "chain",
    discard: str | float | int = 0,
) -> xr.Dataset:
    r"""Number of samples that carry the loss, averaged over draws:

    .. math:: \phi = \Bigl\langle \frac{(\sum_i l_i)^2}{\sum_i l_i^2} \Bigr\rangle ,

    n when n samples contribute alike and 1 when one contributes all. For n independent contributions of Gamma
    distribution with shape r = alpha / n each (alpha the shape of the total),

    .. math:: \phi / n = r / (1 + r) \qquad (\alpha \gg 1),

    so phi = alpha for alpha << n. Jules et al. read this agreement as phi being twice the number of constrained
    directions; alpha is N_c / 2, hence phi is half of that number.

    Parameters
    ----------
    sample_energies : DataArray, Dataset or array, dims ``([chain,] [draw,] sample)``
        Losses of single samples; of a Dataset its `sample_energies`. The last axis of an array is `sample`.
    by : {"chain", "temperature"}
        One average per chain, or chains of equal temperature pooled.
    discard : "auto", float in [0, 1) or int
        Draws left out at the start, as in `summary`.

    Returns
    -------
    xarray.Dataset
        `participation_ratio` with its error, and `participating_fraction` = phi / n with its error; the attribute
        `samples` is n. `resolved` and `chains_agree` as in `summary`. Errors are NaN for a single draw and where
        `resolved` is False with fewer than four chains. A chain with a draw whose losses are all zero has no phi and
        is NaN.

    Raises
    ------
    ShapeError, ConfigError
        If dimensions, `by` or `discard` make no sense.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise, Fig. 2.

    Examples
    --------
    >>> import numpy as np
    >>> float(participation_ratio(np.array([1.0, 1.0, 1.0, 0.0])).participation_ratio[0])
    3.0
    """
    losses = _with_axes(sample_energies)
    samples = int(losses.sizes["sample"])
    series = as_series(_ratio(losses), temperature, shortest=1)
    groups = grouping(series, by)
    columns: dict[str, NDArray[Any]] = {}
    for bundle in bundles(series, groups):
        for name, column in _average(bundle, discard).items():
            columns.setdefault(name, np.full(groups.count, np.nan))[bundle.groups] = column
    mean, error = columns["mean"], columns["error"]
    variables = {"participation_ratio": mean, "participation_ratio_stderr": error}
    variables |= {"participating_fraction": mean / samples, "participating_fraction_stderr": error / samples}
    result = describe(
        variables
        | {name: columns[name].astype(bool) for name in ("resolved", "chains_agree")}
        | {"steps_needed": columns["steps_needed"]},
        groups,
        series,
        title="Participation ratio",
        conventions="(sum l)^2 / sum l^2 over samples, averaged over draws",
        cost="two passes over the series; no gradients",
    )
    result.attrs["samples"] = samples
    return in_units(result, Length.of(series.values))


def _average(bundle: Bundle, discard: str | float | int) -> dict[str, NDArray[Any]]:
    """Mean and error of each group; too few draws to correlate leave the scatter between chains."""
    if bundle.series.draws >= _ENOUGH:
        m = moments(bundle, starts(bundle, discard)[0])
        found = correlations(bundle, m)
        resolved, times = found.resolved, found.correlation_times
        average = Influence(bundle, m.start)
        for rows, values, owner in bundle.blocks():
            average.add(rows, values, owner)
        variance = average.variance(resolved, m)
        error, agree = variance.stderr, variance.agree
    else:
        m = moments(bundle, np.zeros(bundle.size, dtype=np.intp))
        resolved, agree = np.zeros(bundle.size, dtype=bool), np.ones(bundle.size, dtype=bool)
        unknown, times = np.full(bundle.size, np.nan), np.zeros(bundle.size)
        between = between_chains(m.chain_mean, bundle.owner, bundle.size)
        error = combine(unknown, np.ones(bundle.size), between, m.chains).stderr
    needed = steps_needed(resolved, times, Length.of(bundle.series.values), m.chains)
    error = np.where(m.chains > 0, error, np.nan)
    return {"mean": m.mean, "error": error, "resolved": resolved & agree, "chains_agree": agree, "steps_needed": needed}


def _with_axes(losses: Any) -> xr.DataArray:
    if isinstance(losses, xr.Dataset):
        if "sample_energies" not in losses:
            raise ShapeError(f"the dataset has no `sample_energies`; it has {sorted(map(str, losses.data_vars))}")
        losses = losses["sample_energies"]
    if not isinstance(losses, xr.DataArray):
        array = plain_array(losses, "losses")
        if not 1 <= array.ndim <= 3:
            raise ShapeError(f"got an array of shape {array.shape}; expected ([chain,] [draw,] sample)")
        losses = xr.DataArray(array, dims=("chain", "draw", "sample")[-array.ndim :])
    if "sample" not in losses.dims or not set(losses.dims) <= {"chain", "draw", "sample"}:
        raise ShapeError(f"got dims {losses.dims}; expected ([chain,] [draw,] sample)")
    if losses.dtype.kind not in "fiu":
        raise ShapeError(f"losses must be real numbers, got dtype {losses.dtype}")
    if not losses.size:
        raise ShapeError(f"there are no losses: their sizes are {dict(losses.sizes)}")
    missing = [dim for dim in ("chain", "draw") if dim not in losses.dims]
    complete: xr.DataArray = losses.expand_dims(missing).transpose("chain", "draw", "sample")
    return complete


def _ratio(losses: xr.DataArray) -> xr.DataArray:
    """phi of every draw, read in blocks so that only the answer is held."""
    phi = np.empty((losses.sizes["chain"], losses.sizes["draw"]))
    step = max(1, _BLOCK // losses.sizes["sample"])
    for chain in range(phi.shape[0]):
        for low in range(0, phi.shape[1], step):
            part = losses[chain, low : low + step].to_numpy().astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                phi[chain, low : low + step] = part.sum(axis=1) ** 2 / (part**2).sum(axis=1)
    coords = {name: c for name, c in losses.coords.items() if "sample" not in c.dims}
    return xr.DataArray(phi, dims=("chain", "draw"), coords=coords, name="participation_ratio")
