"""How a spectrum of eigenvalues changes with temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import ks_2samp

from landscape.errors import ConfigError
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import probe, result_of
from landscape.statistics import standard_error, weighted_line

__all__ = ["ROUNDING", "temperature_scaling"]

ROUNDING = 1e-12  # of the largest eigenvalue of a spectrum: what a dense float64 solver leaves of a zero


@probe("curvature.temperature_scaling", result_of("curvature.eigenvalues"), pictures=())
def temperature_scaling(spectrum: xr.Dataset) -> xr.Dataset:
    r"""Median positive eigenvalue at each temperature, its exponent, and the collapse of the spectra in lambda / T.

    The exponent p of median ~ T^p is the slope of a line in the logarithms, weighted by their errors. Exponential
    boundaries make all curvatures proportional to T: p = 1, and distributions of lambda / T that coincide; in a
    quadratic nothing depends on T, p = 0. Coincidence is measured by the Kolmogorov-Smirnov distance, the largest
    difference of two cumulative distributions, of lambda / T and for comparison of lambda.

    Parameters
    ----------
    spectrum : xarray.Dataset
        Result of `eigenvalues` at the snapshots of a run with `temperature` per chain.

    Returns
    -------
    xarray.Dataset
        On `temperature`: `median` of the eigenvalues above 1e-12 of a spectrum's largest with `median_stderr`,
        `negative_fraction`, `zero_fraction`, `snapshots`, and `snapshots_dropped`: spectra with an eigenvalue that is
        not finite are left out. Numbers: `exponent` with `exponent_stderr`,
        `scaled_distance`, `distance` (largest over pairs of temperatures).

    Raises
    ------
    ConfigError
        If there are no eigenvalues, or fewer than two positive temperatures.

    Notes
    -----
    The error of a median is the scatter between chains of equal temperature; of a single chain that between its
    snapshots, which is too small if they are closer than a correlation time. The error of the exponent is widened where
    the medians scatter about the line more than their errors say. Negative and zero eigenvalues are left out: their
    shares are given.

    References
    ----------
    Jules, Brenner, Kachman, Levi, Bar-Sinai (2023), Charting the Topography of the Neural Network Landscape with
    Thermal-Like Noise, Fig. 3.

    Examples
    --------
    >>> import xarray as xr
    >>> values = np.array([1.0, 2.0])[:, None, None] * np.array([[1.0, 3.0, 5.0], [1.1, 3.3, 5.5]])
    >>> given = xr.Dataset({"eigenvalue": (("chain", "snapshot", "eigenvalue"), values)})
    >>> found = temperature_scaling(given.assign_coords(temperature=("chain", [1, 2])))
    >>> round(float(found.exponent), 6), round(float(found.scaled_distance), 6)
    (1.0, 0.0)
    """
    levels, rows = _by_temperature(spectrum)
    medians, errors, negative, zero, pooled, counts, dropped = [], [], [], [], [], [], []
    for chains, lost in rows:
        flat = np.concatenate(chains)
        top = np.abs(flat).max(axis=1, keepdims=True)
        positive = np.where(flat > ROUNDING * top, flat, np.nan)
        own = np.split(np.nanmedian(positive, axis=1), np.cumsum([len(one) for one in chains])[:-1])
        independent = np.array([one.mean() for one in own]) if len(own) > 1 else own[0]
        medians.append(independent.mean())
        errors.append(standard_error(independent))
        negative.append(np.mean(flat < -ROUNDING * top))
        zero.append(np.mean(np.abs(flat) <= ROUNDING * top))
        pooled.append(positive[np.isfinite(positive)])
        counts.append(len(flat))
        dropped.append(lost)
    exponent, error = _slope(np.log(levels), np.log(medians), np.array(errors) / np.array(medians))
    dataset = xr.Dataset(
        {
            "median": ("temperature", medians),
            "median_stderr": ("temperature", errors),
            "negative_fraction": ("temperature", negative),
            "zero_fraction": ("temperature", zero),
            "snapshots": ("temperature", counts),
            "snapshots_dropped": ("temperature", dropped),
            "exponent": ((), exponent),
            "exponent_stderr": ((), error),
            "scaled_distance": ((), _distance([v / t for v, t in zip(pooled, levels, strict=True)])),
            "distance": ((), _distance(pooled)),
        },
        coords={"temperature": levels},
    )
    dataset.attrs.update(
        title="Scaling of the Hessian's eigenvalues with temperature",
        conventions="median of the eigenvalues above 1e-12 of each spectrum's largest; weighted line in the logarithms",
        cost="none beyond the eigenvalues",
    )
    return annotate(dataset, names=GLOSSARY["temperature_scaling"])


def _by_temperature(spectrum: xr.Dataset) -> tuple[np.ndarray, list[tuple[list[np.ndarray], int]]]:
    """Temperatures; the whole spectra of each, ``(snapshot, eigenvalue)`` of every chain, and how many were lost."""
    if not isinstance(spectrum, xr.Dataset):
        raise ConfigError(f"expected what curvature.eigenvalues returns, got {type(spectrum).__name__}")
    if "eigenvalue" not in spectrum or "temperature" not in spectrum.coords or spectrum.temperature.dims != ("chain",):
        raise ConfigError(
            "expected the eigenvalues of a run with a temperature per chain, got "
            f"variables {sorted(map(str, spectrum.variables))}"
        )
    values: Any = spectrum["eigenvalue"].transpose("chain", ..., "eigenvalue").to_numpy()
    values = values.reshape(len(values), -1, values.shape[-1])
    whole = np.isfinite(values).all(axis=2)
    kept = whole.any(axis=1)
    temperature = spectrum.temperature.to_numpy().astype(float)
    levels = np.unique(temperature[kept & (temperature > 0)])
    if levels.size < 2:
        raise ConfigError(f"a slope needs two or more positive temperatures, got {levels.tolist()}")
    return levels, [
        (
            [values[chain][whole[chain]] for chain in np.flatnonzero(kept & (temperature == level))],
            int((~whole[temperature == level]).sum()),
        )
        for level in levels
    ]


def _slope(x: np.ndarray, y: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Slope of a weighted line and its error, widened by the scatter about the line where that is larger."""
    known = np.all(np.isfinite(errors)) and np.all(errors > 0)
    weights = 1 / errors**2 if known else np.ones_like(x)
    line, degrees = weighted_line(x, y, weights), len(x) - 2
    scatter = line.chi_square / degrees if degrees else np.nan
    return float(line.slope), float(np.sqrt((np.fmax(scatter, 1.0) if known else scatter) / line.spread))


def _distance(groups: list[np.ndarray]) -> float:
    pairs = [ks_2samp(a, b).statistic for i, a in enumerate(groups) for b in groups[:i]]
    return float(max(pairs))
