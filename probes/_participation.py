"""How many samples share the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from landscape.errors import ShapeError
from landscape.probes._describe import describe
from landscape.probes._equilibration import starts
from landscape.probes._estimation import correlations, moments
from landscape.probes._influence import Influence
from landscape.probes._series import FloatArray, as_series, bundles, grouping

__all__ = ["participation_ratio"]

_BLOCK = 2**22


def participation_ratio(
    sample_energies: Any,
    temperature: ArrayLike | None = None,
    *,
    by: str = "chain",
    discard: str | float | int = 0,
) -> xr.Dataset:
    r"""Number of samples that carry the loss, averaged over draws:

    .. math:: \phi = \Bigl\langle \frac{(\sum_i l_i)^2}{\sum_i l_i^2} \Bigr\rangle ,

    n when n samples contribute alike and 1 when one contributes all. For n independent contributions of Gamma law with
    shape r = alpha / n each (alpha the shape of the total),

    .. math:: \phi / n = r / (1 + r) \qquad (n \gg 1),

    so phi = alpha for alpha << n. Jules et al. read this agreement as phi being twice the number of constrained
    directions; alpha is N_c / 2, hence phi is half of that number.

    Parameters
    ----------
    sample_energies : DataArray, Dataset or array, dims ``([chain,] [draw,] sample)``
        Losses of single samples; of a Dataset its `sample_energies`. The last axis of an array is `sample`.
    temperature : float or array, shape ``(chain,)``, optional
        Overrides the coordinate.
    by : {"chain", "temperature"}
        One average per chain, or chains of equal temperature pooled.
    discard : "auto", float in [0, 1) or int
        Draws left out at the start, as in `summary`.

    Returns
    -------
    xarray.Dataset
        `participation_ratio` with its error, and `participating_fraction` = phi / n with its error; the attribute
        `samples` is n. Errors are NaN for a single draw and where `resolved` is False with fewer than four chains. A
        chain with a draw whose losses are all zero has no phi and is NaN.

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
    phi = _ratio(losses)
    if phi.sizes["draw"] < 4:
        result = _few_draws(phi)
    else:
        series = as_series(phi, temperature)
        groups = grouping(series, by)
        columns: dict[str, FloatArray] = {}
        for bundle in bundles(series, groups):
            m = moments(bundle, starts(bundle, discard)[0])
            resolved = correlations(bundle, m).resolved
            average = Influence(bundle, m.start)
            for rows, values, owner in bundle.blocks():
                average.add(rows, values, owner)
            found = {"mean": m.mean, "error": average.variance(resolved).stderr, "resolved": resolved}
            for name, column in found.items():
                columns.setdefault(name, np.full(groups.count, np.nan))[bundle.groups] = column
        result = describe(
            _columns(columns["mean"], columns["error"], samples) | {"resolved": columns["resolved"].astype(bool)},
            groups,
            series,
            title="Participation ratio",
            conventions="(sum l)^2 / sum l^2 over samples, averaged over draws",
            cost="two passes over the series; no gradients",
        )
    result.attrs["samples"] = samples
    return result
