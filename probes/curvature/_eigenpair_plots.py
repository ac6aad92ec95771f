"""A picture of the first eigenvalues with their residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from landscape.arguments import guarded
from landscape.probes._plot_style import OKABE_ITO, axes, chosen, flagged
from landscape.probes.curvature.plots import _entry, _need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_top_eigenpairs"]

_MOST_POSITIONS = 4


@guarded
@flagged
def plot_top_eigenpairs(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """First eigenvalues in their order, with residuals as bars; hollow where a pair has not converged.

    Parameters
    ----------
    dataset : xarray.Dataset
        Result of `top_eigenpairs`; at several positions, a few of them.

    Raises
    ------
    ConfigError
        If the dataset has no eigenpairs.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from landscape.probes.curvature import top_eigenpairs
    >>> plot_top_eigenpairs(top_eigenpairs(np.diag([3.0, 1.0]), k=2)).get_xlabel()
    'number'
    """
    _need(dataset, "eigenvalue", "residual", "converged")
    ax = axes(ax)
    found = dataset["eigenvalue"].transpose(..., "eigenvalue")
    dims = [str(dim) for dim in found.dims[:-1]]
    rows = found.to_numpy().reshape(-1, found.shape[-1])
    errors = dataset["residual"].transpose(..., "eigenvalue").to_numpy().reshape(rows.shape)
    good = dataset["converged"].transpose(..., "eigenvalue").to_numpy().reshape(rows.shape)
    numbers = np.arange(1, rows.shape[1] + 1)
    kept = chosen(len(rows), _MOST_POSITIONS)
    for color, row in zip(OKABE_ITO, kept, strict=False):
        ax.plot(numbers, rows[row], color=color, lw=1.0, label=_entry(dataset, dims, int(row)) or None)
        for part, face in ((good[row], color), (~good[row], "white")):
            ax.errorbar(
                numbers[part], rows[row][part], errors[row][part],
                fmt="o", ms=4, color=color, mfc=face, elinewidth=0.9, capsize=2, lw=0,
            )  # fmt: skip
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.set_xlabel("number")
    ax.set_ylabel(r"eigenvalue $\lambda$ of the Hessian")
    if dims:
        ax.legend(frameon=False, fontsize="small")
    return ax
