"""Energetic and entropic barriers from a profile of energy and curvature."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from landscape.checks import finite_number, one_of, whole_number
from landscape.errors import ConfigError
from landscape.probes.confinement.projected import FloatArray
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import probe, result_of

__all__ = ["barriers"]


@probe("confinement.barriers", result_of("confinement.along_path"))
def barriers(
    profile: xr.Dataset,
    temperature: float,
    *,
    noise: Literal["thermal", "hessian"] | None = None,
    every: int | None = None,
    dt: float | None = None,
) -> xr.Dataset:
    r"""Barriers of energy and of entropy along a path, beside each other.

    V_eff(s) = V(s) + S(s), with S = (T/2) log det(H_perp + epsilon) for isotropic noise ("thermal"), and
    S = (T/2) tr H_perp = (T/2) (tr H - t . H t) for noise of covariance 2 T H ("hessian"), like that of minibatches.
    The barrier seen from an end is the maximum over the path minus the value at that end. Forces are -d/ds, by central
    differences.

    Dynamics projected every k steps of size eta have no time to feel flat directions. With rho_i = 1 - eta lambda_i of
    all eigenvalues of H, and to first order in T, their drift is the force of

    S_k = (T/k) sum_{m=0}^{k-2} (k - 1 - m)/(2 m + 1) sum_i (1 - rho_i^{2m+1}),

    0 for k = 1, and (T/2) log det H but for a constant for large k and small eta. It is the integral of the drift v_k
    of a valley (see `drift`), one for each direction.

    Parameters
    ----------
    profile : xarray.Dataset
        From `along_path`, with "energy" and "log_determinant", "trace", or with k and eta "eigenvalues".
    temperature : float
        In units of energy.
    noise : {"thermal", "hessian"}, optional
        Which law; left out, the first for which the profile has the curvature. Attribute `noise` says which.
    every, dt : int, float, optional
        k and eta of projected Langevin dynamics, both or neither.

    Returns
    -------
    xarray.Dataset
        `energetic`, `entropic` and `total` on `end` ("start", "end"); `energetic_profile`, `entropic_profile`,
        `energetic_force` and `entropic_force` on `pivot`; with errors, which come from those of the trace, taken as
        independent: with shared probes they are less. Energies and determinants have no sampling error.

    Notes
    -----
    The constant of the entropic part depends on epsilon and on flat directions; differences of it do not.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    eqs. 2 and 3, there without the factor 1/2.

    Examples
    --------
    >>> import landscape as ls
    >>> channel = ls.potentials.Valley("1 + 4*exp(-y**2)")  # narrow in the middle
    >>> axis = ls.paths.straight_line([0.0, -3.0], [0.0, 3.0], 31)
    >>> found = barriers(ls.probes.confinement.along_path(channel, axis, ["energy", "log_determinant"]), 0.1)
    >>> found.energetic.values, found.entropic.values.round(3)  # (T/2) ln(g(0)/g(3))
    (array([0., 0.]), array([0.08, 0.08]))
    >>> spectrum = ls.probes.confinement.along_path(channel, axis, ["energy", "eigenvalues"])
    >>> projected = [barriers(spectrum, 0.1, every=k, dt=0.01).entropic[0].item() for k in (1, 15, 10_000)]
    >>> [round(barrier, 4) for barrier in projected]  # 15 steps feel less of it
    [0.0, 0.0221, 0.0813]
    """
    finite_number("temperature", temperature, least=0)
    if not isinstance(profile, xr.Dataset) or "energy" not in profile or "arc_length" not in profile.coords:
        raise ConfigError('expected a profile from along_path with the quantity "energy"')
    s = profile.arc_length.to_numpy()
    if len(s) < 2:
        raise ConfigError("a profile of one point has no barrier: give two or more")
    if every is None and dt is None:
        law, entropy, error = _entropy(profile, temperature, noise)
    else:
        law, entropy = _projected(profile, temperature, noise, every, dt)
        error = np.zeros_like(entropy)
    energy = profile.energy.to_numpy().astype(float)
    none = np.zeros_like(energy)
    found: dict[str, Any] = {}
    for name, values, stderr in (("energetic", energy, none), ("entropic", entropy, error)):
        found[f"{name}_profile"] = ("pivot", values - values[0])
        found[f"{name}_profile_stderr"] = ("pivot", np.where(s > s[0], np.hypot(stderr, stderr[0]), 0.0))
        found[f"{name}_force"] = ("pivot", -np.gradient(values, s))
        found[f"{name}_force_stderr"] = ("pivot", _error_of_slope(stderr, s))
        found |= _heights(name, values, stderr)
    found |= _heights("total", energy + entropy, error)
    dataset = xr.Dataset(found, {"pivot": profile.pivot, "arc_length": profile.arc_length, "end": ["start", "end"]})
    dataset.attrs.update(
        title="Barriers along a path",
        temperature=float(temperature),
        noise=law,
        conventions="from an end: maximum over the path minus the value at that end",
    )
    if every is not None:
        dataset.attrs.update(every=every, dt=dt)
    elif "epsilon" in profile.attrs and law == "thermal":
        dataset.attrs["epsilon"] = profile.attrs["epsilon"]
    return annotate(dataset, names=GLOSSARY["barriers"])


def _entropy(profile: xr.Dataset, temperature: float, noise: str | None) -> tuple[str, FloatArray, FloatArray]:
    """The law, and the entropic part with its error."""
    needed = {"thermal": "log_determinant", "hessian": "trace"}
    if noise is not None:
        one_of("noise", noise, needed)
    laws = [law for law in needed if noise in (None, law) and needed[law] in profile]
    if not laws:
        wanted = " or ".join(f'"{quantity}"' for law, quantity in needed.items() if noise in (None, law))
        raise ConfigError(f"the profile has no curvature for this: measure {wanted} in along_path")
    if laws[0] == "thermal":
        curvature = profile.log_determinant.to_numpy()
        if not np.isfinite(curvature).all():
            raise ConfigError(
                "log det H_perp is not finite: the path crosses flat or falling directions, give along_path an epsilon"
            )
        return laws[0], 0.5 * temperature * curvature, np.zeros_like(curvature)
    along = profile.tangent_curvature.to_numpy() if "tangent_curvature" in profile else 0.0
    error = profile.trace_stderr.to_numpy() if "trace_stderr" in profile else np.zeros(profile.sizes["pivot"])
    return laws[0], 0.5 * temperature * (profile.trace.to_numpy() - along), 0.5 * temperature * error


def _projected(
    profile: xr.Dataset, temperature: float, noise: str | None, every: int | None, dt: float | None
) -> tuple[str, FloatArray]:
    """The law of k projected steps, and its entropic part."""
    if every is None or dt is None:
        raise ConfigError("projected dynamics have both: give every, their k, and dt, their eta")
    whole_number("every", every)
    finite_number("dt", dt, above=0)
    if noise not in (None, "thermal"):
        raise ConfigError(f'the law of projected steps is for noise="thermal", got {noise!r}')
    if "eigenvalue" not in profile:
        raise ConfigError('the profile has no spectrum for this: measure "eigenvalues" in along_path')
    rho = 1.0 - dt * profile.eigenvalue.transpose("pivot", ...).to_numpy()
    m = np.arange(every - 1)
    traces = np.array([(1.0 - rho ** (2 * j + 1)).sum(axis=-1) for j in m]).reshape(len(m), len(rho))
    return "thermal", temperature / every * ((every - 1 - m) / (2 * m + 1)) @ traces


def _heights(name: str, values: FloatArray, stderr: FloatArray) -> dict[str, Any]:
    top = int(values.argmax())
    ends = np.array([0, len(values) - 1])
    errors = np.where(ends == top, 0.0, np.hypot(stderr[top], stderr[ends]))
    return {name: ("end", values[top] - values[ends]), f"{name}_stderr": ("end", errors)}


def _error_of_slope(stderr: FloatArray, s: FloatArray) -> FloatArray:
    """Of the gradient, which is linear in the values."""
    weights = np.asarray(np.gradient(np.eye(len(s)), s, axis=0))
    return np.asarray(np.sqrt((weights**2) @ stderr**2))
