"""The network of Jules et al. (2023), and how far it diffuses in a step: shared by the scripts on its fluctuations."""

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from landscape import potentials, probes
from landscape.potentials import architectures, datasets

__all__ = ["CLASSES", "REACH", "SAMPLES", "average", "half_times", "network", "student"]

SAMPLES, CLASSES = 300, 3
REACH = 5e-7  # T dt: all temperatures diffuse equally far in a step; at T = 5e-5 the step is the paper's, dt = 0.01


def network(seed: int) -> potentials.NetworkLoss:
    """MLP 10-20-20-10-3, ReLU, 300 Gaussian inputs with random labels, cross-entropy, float64."""
    module = architectures.mlp((10, 20, 20, 10, CLASSES), seed=seed).double()
    return potentials.NetworkLoss(module, datasets.random_labels(SAMPLES, classes=CLASSES, seed=seed))


def half_times(energy: xr.DataArray, draws: int) -> xr.DataArray:
    """Draws after which the autocorrelation of each chain first falls below one half, within so many; else NaN.

    NaN as well where it falls so far before the next draw: no time below the spacing of draws is known.
    """
    rho = probes.fluctuations.autocorrelation(energy, draws, by="chain").autocorrelation.to_numpy()
    below = (rho < 0.5).argmax(axis=1)
    rows = np.arange(below.size)
    left, right = rho[rows, below - 1], rho[rows, below]
    lag = np.where(below > 1, below - 1 + (left - 0.5) / (left - right), np.nan)
    return xr.DataArray(lag, dims="chain", coords={"temperature": energy.temperature})


def average(values: xr.DataArray) -> tuple[float, float]:
    """Mean over runs and its error from their scatter."""
    error = float(values.std(ddof=1)) / values.size**0.5
    return float(values.mean()), error * student(values.size - 1)


def student(freedom: int) -> float:
    """Factor after which three errors hold 99.7 % although the scatter is itself an estimate."""
    return float(stdtrit(freedom, 0.99865)) / 3
