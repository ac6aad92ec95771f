"""Velocity and diffusion along a path, and which part of the velocity grows with the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.checks import whole_number
from landscape.errors import ConfigError
from landscape.probes.confinement.projected import FloatArray, Projected
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.registry import PROJECTED, probe
from landscape.statistics import student_factor, weighted_line

__all__ = ["drift"]

FEW_CHAINS = 8  # below which errors come from pieces of the chains
PIECES = 20


@probe("confinement.drift", PROJECTED)
def drift(
    run: Any, bins: int | Sequence[float] = 20, *, range: tuple[float, float] | None = None, temperature: Any = None
) -> xr.Dataset:
    r"""Drift and diffusion of projected dynamics against arc length, and their dependence on temperature.

    From the displacements ds between recorded projections, k steps of size eta apart, that begin in a bin of s:

    v = <ds> / (k eta),   D = var(ds) / (2 k eta),   v = energetic_force + T entropic_force,

    the last a regression over the temperatures, weighted by the errors of v. With T = 0 (or full batch) among them the
    energetic part is measured and not extrapolated.

    Parameters
    ----------
    run : xarray.Dataset, or several on one path
        With projections.
    bins : int or edges
        Of the arc length at which a displacement begins.
    range : (float, float), optional
        Edges of the bins; by default the extremes of the arc lengths.
    temperature : float, one per chain, or one for each run, optional
        In place of the runs' own: for optimisers, whose minibatches make an effective temperature.

    Returns
    -------
    xarray.Dataset
        `velocity` and `diffusion` (temperature, arc_length) with errors, `count`; `energetic_force` and
        `entropic_force` (arc_length) with errors, `chi_square` and `degrees`: NaN with fewer than two temperatures.
        The entropic force is per unit of temperature: -(1/2) d/ds log det H_perp for isotropic noise and k steps that
        equilibrate the directions across the path.

    Notes
    -----
    k steps feel only curvatures above about 1/(2 k eta). In a valley 1/2 g(y) x^2, with rho = 1 - eta g and y frozen
    within the k steps,

    v_k = -(g'/2) [2 eta T/(1 - rho^2)] [1 - (1 - rho^{2k})/(k (1 - rho^2))],

    which is 0 for k = 1 and tends to -(T/2) g'/g for k eta g >> 1; `barriers` has its form for any path. A drift that
    is small beside the diffusion is seen soonest with ``ThermalNoise(antithetic=True)``, on pairs of chains that start
    alike and after few projections. Errors come from the scatter between chains (pairs), taken as independent; with
    fewer than 8 at a temperature from 20 pieces of each. Bins at the ends of the path see
    displacements cut short. Displacements between thinned records are drift over longer blocks.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    section 4.1.

    Examples
    --------
    >>> import landscape as ls
    >>> slope = ls.potentials.Expression("y", ["y"])
    >>> line = ls.paths.straight_line([-5.0], [5.0])
    >>> run = ls.simulate(slope, ls.EulerMaruyama(dt=0.01), temperature=[0.0, 0.1], start=[0.0], steps=100,
    ...                   constraint=ls.ProjectOntoPath(line, every=5), record=ls.Record(100))
    >>> found = drift(run, bins=[0.0, 10.0])
    >>> round(float(found.velocity[0, 0]), 6), found.sizes["temperature"]  # -dV/ds
    (-1.0, 2)
    """
    series = Projected.joined(run, temperature)
    edges = _edges(series, bins, range)
    groups = series.by_temperature()
    shape = (len(groups), len(edges) - 1)
    found = {name: np.full(shape, np.nan) for name in ("velocity", "velocity_stderr", "diffusion", "diffusion_stderr")}
    found["count"] = np.zeros(shape, np.int64)
    for row, (_, chains) in enumerate(groups):
        own = np.unique(series.pair[chains], return_inverse=True)[1]
        for name, values in _moments(series.arc[chains], series.time[chains], own, edges).items():
            found[name][row] = values
    temperatures = np.array([t for t, _ in groups])
    dims = ("temperature", "arc_length")
    dataset = xr.Dataset(
        {name: (dims, values) for name, values in found.items()}
        | {
            name: ("arc_length", values)
            for name, values in _regression(temperatures, found["velocity"], found["velocity_stderr"]).items()
        },
        {"temperature": temperatures, "arc_length": 0.5 * (edges[1:] + edges[:-1])},
        {
            "title": "Drift and diffusion along a path",
            "conventions": "displacements between recorded projections; errors from the scatter between chains",
            "bin_edges": edges,
        },
    )
    return annotate(dataset, names=GLOSSARY["drift"])


def _edges(series: Projected, bins: Any, range: Any) -> FloatArray:
    if not isinstance(bins, int | np.integer):
        edges = np.asarray(bins, dtype=float)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ConfigError(f"the edges of bins must rise, got {bins!r}")
        return edges
    whole_number("bins", bins)
    low, high = (np.nanmin(series.arc), np.nanmax(series.arc)) if range is None else range
    if not low < high:
        raise ConfigError(f"range must be (low, high) with low < high, got ({low}, {high})")
    return np.linspace(low, high, bins + 1)


def _moments(arc: FloatArray, time: FloatArray, pair: NDArray[np.int64], edges: FloatArray) -> dict[str, NDArray[Any]]:
    """Velocity, diffusion, their errors and the number of displacements in each bin, of chains at one temperature."""
    groups, steps = int(pair.max()) + 1, arc.shape[1] - 1
    pieces = 1 if groups >= FEW_CHAINS else min(PIECES, steps)
    cluster = pair[:, None] * pieces + np.arange(steps) * pieces // steps
    moved, lasted = np.diff(arc, axis=1), np.diff(time, axis=1)
    where = np.searchsorted(edges, arc[:, :-1], side="right") - 1
    where = np.where(arc[:, :-1] == edges[-1], len(edges) - 2, where)
    good = np.isfinite(moved) & (where >= 0) & (where < len(edges) - 1)
    bins, size = len(edges) - 1, (groups * pieces, len(edges) - 1)
    index = (cluster * bins + where)[good]

    def summed(values: FloatArray) -> FloatArray:
        """Of each cluster and bin."""
        return np.bincount(index, weights=values, minlength=size[0] * size[1]).reshape(size).astype(np.float64)

    ds, dt = moved[good], lasted[good]
    count, duration = summed(np.ones_like(ds)), summed(dt)
    total = duration.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        velocity = summed(ds).sum(axis=0) / total
        rest = ds - velocity[where[good]] * dt
        diffusion = summed(rest**2).sum(axis=0) / (2 * total)
        errors = [_error(summed(rest), count) / total]
        errors.append(_error(summed(rest**2 - 2 * diffusion[where[good]] * dt), count) / (2 * total))
    return {
        "velocity": velocity, "velocity_stderr": errors[0], "diffusion": diffusion, "diffusion_stderr": errors[1],
        "count": count.sum(axis=0).astype(np.int64),
    }  # fmt: skip


def _error(residuals: FloatArray, count: FloatArray) -> FloatArray:
    """Standard error of sums over clusters, from the clusters' own residuals; NaN with fewer than two of them."""
    clusters = (count > 0).sum(axis=0).astype(float)
    scatter = (residuals**2).sum(axis=0) * clusters / (clusters - 1)
    return np.where(clusters > 1, np.sqrt(scatter) * student_factor(clusters - 1), np.nan)


def _regression(temperature: FloatArray, velocity: FloatArray, stderr: FloatArray) -> dict[str, FloatArray]:
    """Weighted straight lines v = a + b T in every bin."""
    bins = velocity.shape[1]
    names = ("energetic_force", "energetic_force_stderr", "entropic_force", "entropic_force_stderr", "chi_square")
    found = {name: np.full(bins, np.nan) for name in names}
    # without noise chains that start alike do not scatter at all: such a point is known far better than the others
    floor = 1e-6 * np.nanmax(stderr, axis=0, initial=0.0, keepdims=True)
    error = np.maximum(stderr, floor)
    weight = np.where(np.isfinite(velocity) & (error > 0), 1 / error**2, 0.0)
    degrees = (weight > 0).sum(axis=0) - 2
    line = weighted_line(temperature[:, None], np.nan_to_num(velocity), weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (
            line.level - line.slope * line.middle, np.sqrt(1 / line.total + line.middle**2 / line.spread),
            line.slope, np.sqrt(1 / line.spread), line.chi_square,
        )  # fmt: skip
    for name, value in zip(names, values, strict=True):
        found[name] = np.where(degrees >= 0, value, np.nan)
    return found | {"degrees": degrees.astype(float)}
