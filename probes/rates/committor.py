"""The committor by shooting, and what it says of a reaction coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.checks import whole_number
from landscape.errors import ConfigError, ShapeError
from landscape.integrators.base import Integrator
from landscape.observers import CoreSets
from landscape.potentials.base import Potential
from landscape.probes.curvature.positions import Places
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.rates.intervals import fraction_interval
from landscape.probes.rates.shots import check_rule, first_cores
from landscape.probes.registry import Reading, probe, result_of
from landscape.statistics import NORMAL, error_of_mean, pseudo_values

__all__ = ["committor", "committor_test"]


@probe("rates.committor", Reading("a run or minimum", (), ("last_position", "position")))
def committor(
    potential: Potential, positions: Any, integrator: Integrator, cores: Mapping[str, Any], *, temperature: float,
    shots: int = 200, steps: int = 1_000_000, momentum: Any = None, constraint: Any = None, seed: int = 0,
    backend: Any = "auto",
) -> xr.Dataset:  # fmt: skip
    r"""Probability to reach the second core before the first, by running many copies of each position.

    Overdamped in one dimension, between a and b,

    .. math:: q(x) = \frac{\int_a^x e^{V/T} dx'}{\int_a^b e^{V/T} dx'} .

    Parameters
    ----------
    positions : array ``(..., dim)``, DataArray or run
        Of a run its snapshots, else its positions.
    integrator : Integrator
        The dynamics: momenta of `BAOAB` are drawn from the Maxwell distribution unless given.
    temperature : float
    shots : int
        Copies of each position.
    steps : int
        After which copies are given up.
    momentum : array ``(dim,)`` or ``(position, dim)``, optional
        That all copies of a position start with.
    constraint, seed, backend
        As for `landscape.simulate`.

    Returns
    -------
    xarray.Dataset
        On the dims of the positions: ``committor``, its error, the ends ``committor_low`` and ``committor_high`` of
        Jeffreys' 95 % interval, ``hits`` in the second core, ``arrived`` and ``lost``, the copies that reached none
        and are in neither. NaN where none arrived. What was lost could have gone either way, and widens the interval.
        ``arrival_time``, mean over those that arrived, and its error. Positions in a core have 0 or 1, without error.

    Raises
    ------
    ConfigError, ShapeError, FormulaError

    Notes
    -----
    Noise is a function of seed, copy and step. A core is looked at after each step: a diffusion would reach it earlier,
    as if it were 0.5826 sqrt(2 T dt) nearer. Costs a gradient per step and copy, until all have arrived.

    References
    ----------
    Bolhuis, Chandler, Dellago, Geissler, "Transition path sampling: throwing ropes over rough mountain passes, in the
    dark", Annu. Rev. Phys. Chem. 53, 291 (2002), section 5.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])  # q = x
    >>> found = committor(flat, [[0.25], [0.5]], ls.EulerMaruyama(dt=1e-4), {"A": "x < 0", "B": "x > 1"},
    ...                   temperature=1.0, shots=400)
    >>> bool((abs(found.committor - [0.25, 0.5]) < 4.5 * found.committor_stderr + 0.01).all())
    True
    """
    observer = CoreSets(cores)
    if len(observer.cores) != 2:
        raise ConfigError(f"a committor is between two cores, got {list(observer.cores)}")
    check_rule(integrator)
    if callable(observer.of):
        raise ConfigError('the cores of a committor are conditions on coordinates, such as "x < -0.8"')
    whole_number("shots", shots)
    whole_number("steps", steps)
    places = Places.of(positions, potential)
    rows = np.asarray(places.rows, dtype=np.float64)
    numbers = [potential.coordinate_index(name) for name in observer.columns_read]
    known = observer.labels(rows[None][:, :, numbers])[0]
    if (known < -1).any():
        raise ConfigError("a position is not finite: leave it out")
    outside = np.flatnonzero(known < 0)
    hits, arrived = np.zeros(len(rows), int), np.zeros(len(rows), int)
    duration, scatter = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    if len(outside):
        run: dict[str, Any] = {"temperature": temperature, "constraint": constraint, "seed": seed, "backend": backend}
        if momentum is not None:
            run["momentum"] = np.repeat(_momenta(momentum, rows.shape)[outside], shots, axis=0)
        core, time = first_cores(
            potential, integrator, np.repeat(rows[outside], shots, axis=0), observer, steps=steps, **run
        )
        core, time = core.reshape(-1, shots), time.reshape(-1, shots)
        hits[outside], arrived[outside] = (core == 1).sum(axis=1), (core >= 0).sum(axis=1)
        duration[outside], scatter[outside] = _mean(time)
    return _dataset(places, known, hits, arrived, shots, duration, scatter)


def _momenta(momentum: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """One for each position."""
    try:
        return np.broadcast_to(np.asarray(momentum, dtype=np.float64), shape)
    except (TypeError, ValueError):
        raise ShapeError(f"momentum must be ({shape[1]},) or one for each position, {shape}") from None


def _mean(time: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over what is there, and its error."""
    there = np.isfinite(time)
    count = there.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, time, 0.0).sum(axis=1) / count
    error = [error_of_mean(row[use], positive=True, least=2) for row, use in zip(time, there, strict=True)]
    return np.where(count > 0, mean, np.nan), np.array(error, dtype=np.float64)


def _dataset(
    places: Places, known: Any, hits: Any, arrived: Any, shots: int, duration: Any, scatter: Any
) -> xr.Dataset:
    lost = np.where(known < 0, shots - arrived, 0)
    value, error, low, high = fraction_interval(hits, arrived)
    _, _, lower, _ = fraction_interval(hits, arrived + lost)  # as if what was lost had gone to the first core,
    _, _, _, higher = fraction_interval(hits + lost, arrived + lost)  # or to the second
    low, high = np.where(lost > 0, lower, low), np.where(lost > 0, higher, high)
    error = np.where(lost > 0, (high - low) / (2.0 * NORMAL), error)
    within = known >= 0
    columns = {
        "committor": np.where(within, known, value),
        "committor_stderr": np.where(within, 0.0, np.where(arrived > 0, error, np.nan)),
        "committor_low": np.where(within, known, low),
        "committor_high": np.where(within, known, high),
        "hits": hits,
        "arrived": arrived,
        "lost": lost,
        "arrival_time": np.where(within, 0.0, duration),
        "arrival_time_stderr": np.where(within, 0.0, scatter),
    }
    data = {name: (places.dims, values.reshape(places.shape)) for name, values in columns.items()}
    dataset = xr.Dataset(data, coords=dict(places.coords))
    dataset.attrs = {"title": "Committor", "shots": shots, "conventions": "0 in the first core, 1 in the second"}
    return annotate(dataset, time_units="time", names=GLOSSARY["committor"])


@probe("rates.committor_test", result_of("rates.committor"))
def committor_test(found: xr.Dataset, *, bins: int = 10) -> xr.Dataset:
    r"""How committors spread over positions at one value of a reaction coordinate, with the noise of shots taken off.

    If the coordinate decides what happens, all positions that share its value have one committor. With k of n shots of
    a position in B, q (1 - q)/n of the variance of k/n is noise; without bias,

    .. math:: \mathrm{var}\, q = \Big\langle \frac{k (k - 1)}{n (n - 1)} \Big\rangle - \langle q \rangle^2 .

    Parameters
    ----------
    found : xarray.Dataset
        From `committor`, of positions drawn at one value, such as the barrier's.
    bins : int
        Of the histogram of k/n.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``variance`` and their errors, from leaving out positions one by one and lengthened where they are
        few or skewed; ``spread``, the root of the
        variance over that of 0 or 1 at the same mean: 0 for a perfect coordinate, 1 for one that says nothing (NaN
        where the variance came out negative); ``count (bin)`` on bin centres ``committor``.

    References
    ----------
    Peters, "Using the histogram test to quantify reaction coordinate error", J. Chem. Phys. 125, 241101 (2006).

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"])
    >>> same = committor(flat, np.full((100, 1), 0.5), ls.EulerMaruyama(dt=1e-3), {"A": "x < 0", "B": "x > 1"},
    ...                  temperature=1.0, shots=20)
    >>> test = committor_test(same)
    >>> bool(abs(test.variance) < 4.5 * test.variance_stderr)
    True
    """
    if not isinstance(found, xr.Dataset) or not {"hits", "arrived", "committor"} <= set(found.data_vars):
        raise ConfigError("expected what `committor` gives")
    whole_number("bins", bins, least=2)
    k, n = (found[name].to_numpy().ravel().astype(float) for name in ("hits", "arrived"))
    use = n > 1
    k, n = k[use], n[use]
    if len(k) < 8:
        raise ConfigError(f"a histogram test takes 8 positions or more with 2 shots that arrived, got {len(k)}")
    q, square = k / n, k * (k - 1.0) / (n * (n - 1.0))
    count = len(q)
    # <q>^2 without its own noise: products of different positions
    products = (q.sum() ** 2 - (q**2).sum()) / (count * (count - 1.0))
    variance = square.mean() - products
    less_products = ((q.sum() - q) ** 2 - ((q**2).sum() - q**2)) / ((count - 1.0) * (count - 2.0))
    less = (square.sum() - square) / (count - 1.0) - less_products
    error = float(error_of_mean(pseudo_values(variance, less)))
    mean = q.mean()
    whole = mean * (1.0 - mean)
    heights, edges = np.histogram(q, bins=bins, range=(0.0, 1.0))
    dataset = xr.Dataset(
        {
            "mean": mean,
            "mean_stderr": float(error_of_mean(q)),
            "variance": variance,
            "variance_stderr": error,
            "spread": np.sqrt(variance / whole) if variance >= 0 and whole > 0 else np.nan,
            "spread_stderr": 0.5 * error / np.sqrt(variance * whole) if variance > 0 and whole > 0 else np.nan,
            "count": ("committor", heights),
        },
        {"committor": 0.5 * (edges[1:] + edges[:-1])},
        {"title": "Histogram test of a reaction coordinate", "positions": count},
    )
    return annotate(dataset, names=GLOSSARY["committor_test"])
