"""Free energies measured from samples."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.errors import ConfigError, ShapeError

__all__ = ["plot_profile", "profile"]

BLOCKS = 20  # per chain, where there are too few chains to take errors from


def profile(
    samples: Any,
    temperature: float,
    *,
    bins: int = 60,
    range: tuple[float, float] | None = None,
    zero: Literal["minimum", "mean"] | float = "minimum",
) -> xr.Dataset:
    """Free energy along a coordinate, F(y) = -T ln P(y) + const, from a histogram of samples.

    Parameters
    ----------
    samples : DataArray or array, dims ``(chain, draw)``
        Values of the coordinate, such as ``run.position.sel(coordinate="y")``.
    temperature : float
        In units of energy, k_B = 1.
    bins : int
    range : (float, float), optional
        Edges of the histogram; samples outside count in the normalisation. By default the extremes of the samples.
    zero : "minimum", "mean" or float
        Where F = 0: at the lowest bin, at the average of F over bins with samples, or in the bin that holds this
        value. The lowest bin is chosen by its own noise: comparison with theory uses "mean".

    Returns
    -------
    xarray.Dataset
        ``free_energy`` (of differences to the zero), ``density`` and ``count`` with standard errors, on bin centres
        named after the coordinate. Empty bins are NaN.

    Raises
    ------
    ShapeError, ConfigError

    Notes
    -----
    Errors come from the scatter between chains, taken as independent; with fewer than 8 chains from 20 blocks of each,
    which must then be much longer than the correlation time.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = xr.DataArray(rng.normal(size=(100, 1000)), dims=("chain", "draw"))
    >>> f = profile(y, 0.1, bins=20, range=(-2, 2), zero="mean")  # F = T y^2/2 + const
    >>> theory = 0.05 * f.x**2
    >>> z = (f.free_energy - (theory - theory.mean())) / f.free_energy_stderr
    >>> bool(abs(z).max() < 4.5)
    True
    """
    values, name = _samples(samples)
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature must be positive, got {temperature!r}")
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ConfigError(f"bins must be an integer of at least 2, got {bins!r}")
    low, high = (float(values.min()), float(values.max())) if range is None else (float(range[0]), float(range[1]))
    if not low < high:
        raise ConfigError(f"range must be (low, high) with low < high, got ({low}, {high})")
    groups = _groups(values)
    edges = np.linspace(low, high, bins + 1)
    counts = np.stack([np.histogram(group, edges)[0] for group in groups])
    fraction = counts / groups.shape[1]
    mean = fraction.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        free_energy = -temperature * np.log(np.where(mean > 0, mean, np.nan))
        # dF = -T dP/P to first order, chain by chain, so that the zero's own error is in the difference
        slopes = -temperature * (fraction - mean) / np.where(mean > 0, mean, np.nan)
    reference, reference_slopes = _zero(zero, free_energy, slopes, edges)
    scatter = slopes - reference_slopes[:, None]
    width = edges[1] - edges[0]
    about = {"temperature": temperature, "zero": str(zero), "method": "histogram", "groups": len(groups)}
    return xr.Dataset(
        {
            "free_energy": (name, free_energy - reference, {"long_name": "free energy", "units": "energy"}),
            "free_energy_stderr": (name, _stderr(scatter), _error_of("free energy", "energy")),
            "density": (name, mean / width, {"long_name": "probability density", "units": "1"}),
            "density_stderr": (name, _stderr(fraction) / width, _error_of("probability density", "1")),
            "count": (name, counts.sum(axis=0), {"long_name": "samples in the bin", "units": "1"}),
        },
        {name: (name, 0.5 * (edges[1:] + edges[:-1]), {"long_name": name, "units": "1"})},
        about,
    )


def plot_profile(dataset: xr.Dataset, ax: Any = None, *, theory: Any = None) -> Any:
    """Free energy with its error band, and a theory curve beside it.

    Parameters
    ----------
    dataset : xarray.Dataset
        From `profile`.
    ax : matplotlib axes, optional
    theory : DataArray or array, optional
        On the same bins; shifted to the same average.

    Returns
    -------
    matplotlib axes
    """
    import matplotlib.pyplot as plt

    ax = plt.figure(layout="constrained").add_subplot() if ax is None else ax
    (name,) = dataset.free_energy.dims
    y, f, error = dataset[name], dataset.free_energy, dataset.free_energy_stderr
    ax.fill_between(y, f - 1.96 * error, f + 1.96 * error, color="#0072B2", alpha=0.3, lw=0, label="95 % band")
    ax.plot(y, f, ".", color="#0072B2", ms=4, label="measured")
    if theory is not None:
        curve = np.asarray(theory) + float((f - np.asarray(theory)).mean())
        ax.plot(y, curve, color="#D55E00", label="theory")
    ax.set_xlabel(name)
    ax.set_ylabel("free energy F [energy]")
    ax.legend(frameon=False)
    return ax


def _samples(samples: Any) -> tuple[NDArray[np.float64], str]:
    if isinstance(samples, xr.Dataset):
        raise ShapeError('profile takes one coordinate, such as run.position.sel(coordinate="y"), not a whole run')
    name = "x"
    if isinstance(samples, xr.DataArray):
        label = samples.coords.get("coordinate")
        name = str(label.item()) if label is not None and label.ndim == 0 else str(samples.name or "x")
        if {"chain", "draw"} <= set(samples.dims):
            samples = samples.transpose("chain", "draw", ...)
    values = np.asarray(samples, dtype=float)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size:
        raise ShapeError(f"samples must be (chain, draw), got shape {values.shape}: choose one coordinate")
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise ShapeError("no chain has finite samples only")
    return values, name


def _groups(values: NDArray[np.float64]) -> NDArray[np.float64]:
    chains, draws = values.shape
    if chains >= 8:
        return values
    length = draws // BLOCKS
    if not length:
        raise ShapeError(f"{chains} chains of {draws} draws are too few for errors: give 8 chains or {BLOCKS} draws")
    return values[:, : length * BLOCKS].reshape(chains * BLOCKS, length)


def _zero(
    zero: str | float, free_energy: NDArray[np.float64], slopes: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    if zero == "mean":
        return float(np.nanmean(free_energy)), np.nanmean(slopes, axis=1)
    if zero == "minimum":
        index = int(np.nanargmin(free_energy))
    elif isinstance(zero, str):
        raise ConfigError(f'zero must be "minimum", "mean" or a number, got {zero!r}')
    else:
        index = int(np.searchsorted(edges, zero, side="right")) - 1
        if not 0 <= index < len(free_energy) or not np.isfinite(free_energy[index]):
            raise ConfigError(f"no samples around the zero {zero}: choose one within ({edges[0]:g}, {edges[-1]:g})")
    return float(free_energy[index]), slopes[:, index]


def _stderr(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    error: NDArray[np.float64] = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
    return error


def _error_of(what: str, units: str) -> dict[str, str]:
    return {"long_name": f"standard error of the {what}", "units": units}
