"""Free energy of a minimum from its curvature, and entropy from energies."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from landscape.common.positions import one_position, plain_array
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.potentials.network.modes import plain_modes
from landscape.probes.curvature.spectrum import eigenvalues
from landscape.probes.estimation.describe import with_error
from landscape.probes.estimation.series import FloatArray
from landscape.probes.fluctuations.summary import summary
from landscape.probes.registry import ENERGIES, MINIMUM, probe

__all__ = ["CUTOFF", "entropy", "harmonic", "log_determinant", "positive_temperatures"]

CUTOFF = 1e-6  # of the largest curvature: below it a direction counts as flat unless told otherwise


@probe("free_energy.harmonic", MINIMUM)
@plain_modes()
def harmonic(potential: Potential, position: Any, temperature: Any, *, cutoff: float | None = None) -> xr.Dataset:
    r"""Laplace's free energy of a minimum, on its stiff directions,

    .. math:: F = V + \frac{T}{2} \sum_{\lambda_k > c} \ln \frac{\lambda_k}{2 \pi T} , \qquad
        S = \frac12 \sum_{\lambda_k > c} \Big( 1 + \ln \frac{2 \pi T}{\lambda_k} \Big) .

    Exact for a quadratic without flat directions; else good to the first order in T, for the stiff directions alone.

    Parameters
    ----------
    position : array ``(dim,)``, or a minimum
    temperature : float or array
        Positive; an array gives a dim `temperature`.
    cutoff : float, optional
        c, in units of curvature; by default 1e-6 of the largest one.

    Returns
    -------
    xarray.Dataset
        ``free_energy``, ``entropy`` and ``energy`` = V + N T/2 with their errors, which are those of rounding;
        ``stiff``, ``flat`` and ``negative``, the numbers of directions above c, within it, and below -c; ``curvature``,
        all of them; attribute `cutoff`.

    Notes
    -----
    Costs one Hessian, of `dim` Hessian-vector products unless the potential has a faster way, and holds it.

    Examples
    --------
    >>> from landscape import potentials
    >>> spring = potentials.Quadratic([1.0, 4.0, 9.0])
    >>> found = harmonic(spring, [0.0, 0.0, 0.0], 0.1)
    >>> bool(abs(found.free_energy - spring.free_energy(0.1)) < 1e-12), int(found.stiff)
    (True, 3)
    """
    needs_energy("harmonic", potential)
    t = positive_temperatures(temperature)
    values = one_position(position, potential.coordinates, potential.dim)
    curvature = eigenvalues(potential, values).eigenvalue.to_numpy()
    limit = CUTOFF * float(np.abs(curvature).max()) if cutoff is None else float(cutoff)
    if not limit >= 0:
        raise ConfigError(f"cutoff must not be negative, got {cutoff!r}")
    stiff = curvature[curvature > limit]
    lowest = float(potential.energy(values))
    logs, rounding = log_determinant(stiff, curvature)
    free_energy = lowest + 0.5 * t * (logs - len(stiff) * np.log(2.0 * np.pi * t))
    entropy_value = 0.5 * (len(stiff) * (1.0 + np.log(2.0 * np.pi * t)) - logs)
    tiny = np.finfo(float).eps * abs(lowest)
    dims = ("temperature",) if t.ndim else ()
    data = {
        "free_energy": (free_energy, 0.5 * t * rounding + tiny, "energy"),
        "entropy": (entropy_value, np.full_like(t, 0.5 * rounding), "1"),
        "energy": (lowest + 0.5 * len(stiff) * t, np.full_like(t, tiny), "energy"),
    }
    dataset = xr.Dataset(attrs={"method": "Laplace", "cutoff": limit, "errors": "rounding"})
    for name, (value, error, units) in data.items():
        dataset = dataset.assign(with_error(name, dims, value, error, units))
    counts = {"stiff": len(stiff), "negative": int((curvature < -limit).sum())}
    counts["flat"] = potential.dim - sum(counts.values())
    for name, count in counts.items():
        dataset[name] = ((), count, {"long_name": f"number of {name} directions", "units": "1"})
    dataset["curvature"] = ("eigenvalue", curvature, {"long_name": "eigenvalue of the Hessian", "units": "1"})
    return dataset.assign_coords(temperature=(dims, t, {"long_name": "temperature", "units": "energy"}))


@probe("free_energy.entropy", ENERGIES)
def entropy(
    energy: Any, free_energy: Any, temperature: float | None = None, *, free_energy_stderr: Any = 0.0
) -> xr.Dataset:
    r"""Entropy from a free energy and the mean energy of a run,

    .. math:: S = (\langle V \rangle - F) / T .

    Parameters
    ----------
    energy : DataArray or array, dims ``(chain, draw)``, or a run
        Energies in equilibrium; chains of equal temperature are pooled.
    free_energy : float, or one for each temperature in ascending order
        With the constant in it: F = -T ln of the integral of exp(-V/T).
    temperature : float, optional
        Overrides the coordinate `temperature`.
    free_energy_stderr : float or array
        Taken as independent of the run.

    Returns
    -------
    xarray.Dataset
        ``entropy``, ``energy`` and ``free_energy`` on `temperature` with standard errors, and ``resolved``.

    Examples
    --------
    >>> from landscape import potentials
    >>> spring, rng = potentials.Quadratic([1.0, 4.0]), np.random.default_rng(0)
    >>> energies = 0.05 * (rng.standard_normal((8, 500, 2)) ** 2).sum(-1)  # T = 0.1
    >>> found = entropy(energies, spring.free_energy(0.1), 0.1)
    >>> bool((abs(found.entropy - spring.entropy(0.1)) < 4.5 * found.entropy_stderr).all())
    True
    """
    means = summary(energy, temperature, by="temperature")
    t = means.temperature.to_numpy()
    if (t <= 0).any():
        raise ConfigError("entropy needs positive temperatures")
    given = [plain_array(one, "free energies").astype(float) for one in (free_energy, free_energy_stderr)]
    if any(one.shape not in ((), (1,), t.shape) for one in given):
        raise ShapeError(f"expected a free energy for each of {len(t)} temperatures, got shape {given[0].shape}")
    free, free_error = (np.broadcast_to(one, t.shape) for one in given)
    free_error = np.where(np.isfinite(free), free_error, np.nan)
    mean, error = means["mean"].to_numpy(), means["mean_stderr"].to_numpy()
    variables = {
        "entropy": ((mean - free) / t, np.hypot(error, free_error) / t, "1"),
        "energy": (mean, error, "energy"),
        "free_energy": (free, free_error, "energy"),
    }
    dataset = xr.Dataset(coords={"temperature": ("temperature", t, {"long_name": "temperature", "units": "energy"})})
    for name, (value, stderr, units) in variables.items():
        dataset = dataset.assign(with_error(name, "temperature", value, stderr, units))
    dataset["resolved"], dataset["steps_needed"] = means["resolved"], means["steps_needed"]
    return dataset.assign_attrs(method="(<V> - F) / T")


def log_determinant(stiff: FloatArray, curvature: FloatArray) -> tuple[float, float]:
    """Sum of the logarithms of positive eigenvalues, and what rounding of a matrix of that norm does to it."""
    norm = float(np.abs(curvature).max(initial=0.0))
    rounding = 4.0 * np.finfo(float).eps * float((norm / stiff + np.abs(np.log(stiff))).sum())
    return float(np.log(stiff).sum()), rounding


def positive_temperatures(temperature: Any) -> FloatArray:
    """One temperature or an array of them, all positive."""
    t = plain_array(temperature, "temperatures").astype(float)
    if t.ndim > 1 or not (np.isfinite(t) & (t > 0)).all():
        raise ConfigError(f"temperature must be positive, one value or a list of them, got {temperature!r}")
    return t
