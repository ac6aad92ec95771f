"""Stationary probability current, from displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.needed import Length, with_steps_needed
from landscape.probes.estimation.pairs import refuse_pairs
from landscape.probes.estimation.series import FloatArray, as_series, first_kept
from landscape.probes.free_energy.averages import FEWEST_CHAINS, FEWEST_TIMES, by_correlations, clusters, resolution
from landscape.probes.free_energy.histograms import bin_edges, limits_of_run, places_of, turning
from landscape.probes.registry import probe

__all__ = ["current"]

STRETCHES = 512  # of each of few chains, whose correlations tell errors
TOO_FAR = 1e-3  # chance that thinning is called too coarse where it is not


@probe("fluctuations.current", pictures=())
def current(
    run: Any,
    coordinates: str | Sequence[str] | None = None,
    *,
    bins: int | Sequence[int] = 20,
    range: Any = None,
    discard: float | int = 0.1,
) -> xr.Dataset:
    r"""Probability current of a steady state on a grid of one or two coordinates, from the displacements of a run,

    .. math:: j(x) = p(x)\, v(x), \qquad v(x) = \frac{\langle x(t + \tau) - x(t) \mid x(t) = x \rangle
              + \langle x(t) - x(t - \tau) \mid x(t) = x \rangle}{2 \tau} ,

    the mean of Nelson's forward and backward velocities. So each displacement counts by halves in the bin where it
    begins and in that where it ends; of a reversible chain j is 0 on average, bin by bin. Of the linear drift f = A x
    with covariance S it is [A + T S^-1] x p(x), and for `EulerMaruyama` with every step recorded exactly
    (1/2) [A - S A^T S^-1] x p(x), S = B S B^T + 2 T dt, B = 1 + A dt, averaged over the bin.

    Parameters
    ----------
    run : Dataset
        Of one temperature, with positions (``"unwrapped"`` where the coordinates are periodic), best at every step or
        at few of them: velocities are averages over the time tau between draws.
    coordinates : name, or two names, optional
        By default all, of which there may be two; of more the current is that of their projection onto these.
    range : (low, high), or one pair for each coordinate, optional
        Edges of the grid; by default the extremes of the positions, or the period.

    Returns
    -------
    xarray.Dataset
        On bin centres named after the coordinates: ``current`` and ``velocity``, for two coordinates with the dimension
        ``component``, and ``density``, each with its ``_stderr``; ``count``. Then ``resolved``, ``chains_agree``,
        ``correlation_times`` as `free_energy.profile`, and ``fine``: False where displacements over twice the time
        say that the time between draws biases the current by more than its error.

    Raises
    ------
    ConfigError, ShapeError
        If the run has several temperatures or steps, chains that left, positions that are wrapped, or too few draws.

    Notes
    -----
    Errors come from the scatter between chains, taken as independent; with fewer than 8 from correlations along them;
    they are NaN below 50 correlation times. One pass over the positions; no gradients.

    References
    ----------
    Nelson, "Derivation of the Schroedinger equation from Newtonian mechanics", Phys. Rev. 150, 1079 (1966). Battle et
    al., "Broken detailed balance at mesoscopic scales in active biological systems", Science 352, 604 (2016).

    Examples
    --------
    A constant force f on a ring: v = f everywhere, j = f/(2 pi).

    >>> import landscape as ls
    >>> ring = ls.Drift("2", coordinates=["phi"])
    >>> run = ls.simulate(ring, ls.EulerMaruyama(dt=0.1), temperature=1.0, chains=100, steps=400, seed=0,
    ...                   constraint=ls.Periodic({"phi": (0.0, 6.283185307179586)}),
    ...                   record=ls.Record(1, ["unwrapped"]))
    >>> found = current(run, bins=4)
    >>> bool((abs(found.velocity - 2.0) < 4.5 * found.velocity_stderr).all())
    True
    """
    if not isinstance(run, xr.Dataset):
        raise ConfigError(f"current takes a run, got {type(run).__name__}")
    refuse_pairs(run)
    if "exit_time" in run and bool(run.exit_time.notnull().any()):
        raise ConfigError("some chains have left by an absorbing wall, so that there is no steady state")
    names, columns, limits, spacing = _columns(run, coordinates)
    start = first_kept(discard, columns[0].shape[1], 9)
    columns = [column[:, start:] for column in columns]
    edges = bin_edges(columns, bins, range, limits)
    inside = [
        column if limit is None else along[0] + np.mod(column - along[0], limit[1] - limit[0])
        for column, limit, along in zip(columns, limits, edges, strict=True)
    ]
    owner = np.zeros(len(columns[0]), dtype=np.intp)
    checks = [resolution(series, owner) for series in turning(inside, limits)]
    times, agree = min(float(one.times[0]) for one in checks), all(bool(one.agree[0]) for one in checks)
    resolved = agree and all(bool(one.resolved[0]) for one in checks)
    places = places_of(inside, edges)
    once = _Sums.of(columns, places, edges, spacing, 1)
    twice = _Sums.of(columns, places, edges, spacing, 2)
    found: dict[str, Any] = dict(once.estimates(times >= FEWEST_TIMES))
    found["fine"] = _agree(once, twice)
    found |= {"resolved": resolved, "chains_agree": agree, "correlation_times": times}
    return with_steps_needed(_dataset(names, edges, found), Length.of(run), len(columns[0]))


def _columns(
    run: xr.Dataset, coordinates: Any
) -> tuple[list[str], list[FloatArray], list[tuple[float, float] | None], float]:
    """Names, unwrapped positions ``(chain, draw)`` and periods of the coordinates; the time between draws."""
    source = "unwrapped" if "unwrapped" in run else "position"
    if source not in run or "draw" not in run[source].dims:
        raise ConfigError("the run has no positions: record them")
    points = run[source]
    labels = [str(name) for name in points.coords["coordinate"].values]
    names = labels if coordinates is None else [coordinates] if isinstance(coordinates, str) else list(coordinates)
    if len(names) not in (1, 2) or len(set(names)) < len(names):
        raise ConfigError(f"a current is one of one or two coordinates, got {names}: choose among {labels}")
    for name in names:
        if name not in labels:
            raise ConfigError(f"there is no coordinate {name!r}; there are {', '.join(labels)}")
    if wrapped := set(str(points.attrs.get("wrapped", "")).split()) & set(names):
        raise ConfigError(
            f'the position is wrapped along {", ".join(sorted(wrapped))}: record "unwrapped" for its displacements'
        )
    if len(np.unique(run.temperature.values)) > 1:
        raise ConfigError("the chains have several temperatures: take those of one, run.where(..., drop=True)")
    series = [as_series(points.sel(coordinate=name, drop=True), shortest=9) for name in names]
    spacing = series[0].spacing
    if np.ptp(spacing) > 1e-9 * spacing[0]:
        raise ConfigError("the chains have several step sizes: take those of one")
    values = [one.read(np.arange(one.chains, dtype=np.intp)) for one in series]
    finite = np.all([np.isfinite(one).all(axis=1) for one in values], axis=0)
    if not finite.any():
        raise ShapeError("no chain has finite positions only")
    periods = limits_of_run(run)[1]
    return names, [one[finite] for one in values], [periods.get(name) for name in names], float(spacing[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Averages of independent stretches: of displacement over time ``(chain, stretch, component, bin)``, of presence.

    ``volume (bin,)`` is that of the bins.
    """

    flow: FloatArray
    presence: FloatArray
    count: FloatArray
    volume: FloatArray
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls, columns: list[FloatArray], places: NDArray[np.intp], edges: list[FloatArray], spacing: float, lag: int
    ) -> _Sums:
        """Of displacements over `lag` draws."""
        chains, draws = places.shape
        steps = draws - lag
        stretches = 1 if chains >= FEWEST_CHAINS else min(STRETCHES, steps)
        length = steps // stretches
        shape = tuple(len(along) - 1 for along in edges)
        volume = edges[0][1:] - edges[0][:-1]
        for along in edges[1:]:
            volume = np.multiply.outer(volume, along[1:] - along[:-1])
        bins, first = int(np.prod(shape)), steps - stretches * length
        rows = np.arange(chains)[:, None] * stretches + np.arange(stretches * length) // length
        ends = [places[:, first:steps], places[:, first + lag :]]
        moves = [(column[:, lag:] - column[:, :-lag])[:, first:] for column in columns]

        def binned(weights: FloatArray | None) -> FloatArray:
            total = np.zeros(chains * stretches * bins)
            for place in ends:
                seen = place >= 0
                index = (rows * bins + place)[seen]
                total += np.bincount(index, None if weights is None else weights[seen], len(total))
            return 0.5 * total.reshape(chains, stretches, bins)

        flow = np.stack([binned(move) for move in moves], axis=2) / (length * lag * spacing)
        count = binned(None)
        return cls(flow, count / length, count.sum(axis=(0, 1)), volume.ravel(), shape)

    def error(self, values: FloatArray, believed: bool) -> FloatArray:
        """Standard errors of the means of columns ``(chain, stretch, column)``."""
        if not believed:
            return np.full(values.shape[2], np.nan)
        if len(values) >= FEWEST_CHAINS:
            return clusters(values[:, 0] / len(values))
        return by_correlations(values, believed)

    def estimates(self, believed: bool) -> dict[str, FloatArray]:
        """Current, density, velocity and their errors, on the grid."""
        chains, stretches, components, bins = self.flow.shape
        flow, presence = self.flow.mean(axis=(0, 1)), self.presence.mean(axis=(0, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            velocity = flow / presence
        rest = self.flow - np.nan_to_num(velocity) * self.presence[:, :, None]
        flat = (chains, stretches, components * bins)
        errors = [self.error(part.reshape(flat), believed).reshape(components, bins) for part in (self.flow, rest)]
        seen = np.where(self.count > 0, 1.0, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                "current": flow / self.volume, "current_stderr": errors[0] / self.volume * seen,
                "velocity": velocity, "velocity_stderr": errors[1] / presence * seen,
                "density": presence / self.volume,
                "density_stderr": self.error(self.presence, believed) / self.volume * seen,
            }  # fmt: skip
        on_grid = {name: value.reshape(*value.shape[:-1], *self.shape) for name, value in found.items()}
        return on_grid | {"count": self.count.reshape(self.shape)}


def _agree(once: _Sums, twice: _Sums) -> bool:
    """Whether the time between draws biases no current by more than its error, at a chance of 1e-3 of all bins.

    The bias is of second order in that time, hence a third of the change by doubling it.
    """
    blocks = min(once.flow.shape[1], twice.flow.shape[1])  # one chain of an odd number of draws has one less
    first, second = once.flow[:, :blocks], twice.flow[:, :blocks]
    flat = (*first.shape[:2], -1)
    change = (first - second).reshape(flat) / 3.0
    error, own = once.error(change, True), once.error(first.reshape(flat), True)
    known = np.isfinite(error) & (error > 0)
    if not known.any():
        return False
    chance = -ndtri(TOO_FAR / (2 * known.sum())) * error + own
    return bool((np.abs(change.mean(axis=(0, 1))) <= chance)[known].all())


def _dataset(names: list[str], edges: list[FloatArray], found: dict[str, Any]) -> xr.Dataset:
    variables: dict[str, Any] = {}
    for name, value in found.items():
        value = np.asarray(value)
        if name.startswith(("current", "velocity")):
            variables[name] = (names, value[0]) if len(names) == 1 else (("component", *names), value)
        else:
            variables[name] = (names, value) if value.ndim else ((), value)
    coordinates: dict[str, Any] = {
        name: (name, 0.5 * (along[1:] + along[:-1]), {"long_name": name, "units": "1"})
        for name, along in zip(names, edges, strict=True)
    }
    if len(names) == 2:
        coordinates["component"] = ("component", np.array(names, dtype=np.str_), {"long_name": "component"})
    attributes = {
        "title": "Stationary probability current",
        "conventions": "half of each displacement in the bin where it begins, half where it ends",
        "cost": "no gradients",
    }
    return annotate(xr.Dataset(variables, coordinates, attributes), names=GLOSSARY["current"])
