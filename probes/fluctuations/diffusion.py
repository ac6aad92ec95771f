"""Mean velocity, mean-squared displacement and diffusion coefficient, from positions that are not wrapped."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from landscape.errors import ConfigError, ShapeError
from landscape.probes.estimation.describe import annotate, describe
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.needed import Length, in_units
from landscape.probes.estimation.series import IntArray, Series, as_series, finite_chains, first_kept, grouping
from landscape.probes.fluctuations.displacements import FEW_CHAINS, PIECES, Displacements, halves_agree, pieces
from landscape.probes.fluctuations.distance import unwrapped_points
from landscape.probes.registry import probe

__all__ = ["diffusion"]


@probe("fluctuations.diffusion")
def diffusion(
    run: Any,
    coordinate: str | Sequence[str] | None = None,
    *,
    temperature: ArrayLike | None = None,
    by: str = "temperature",
    discard: float | int = 0.1,
    fit: tuple[float, float] | None = None,
) -> xr.Dataset:
    r"""Mean velocity and diffusion coefficient of a coordinate, and its displacements against lag.

    .. math:: v = \frac{\langle \Delta x(t) \rangle}{t}, \qquad
              D = \lim_{t \to \infty} \frac{\langle \Delta x(t)^2 \rangle - \langle \Delta x(t) \rangle^2}{2 t},
              \qquad \Delta x(t) = x(s + t) - x(s).

    The variance of the displacement tends to 2 D t + c, c from what is correlated at first; so D is half its slope
    between two lags, t and 2 t. The window begins at twice the least lag from which on the slopes agree within their
    errors: corrections fall off exponentially, and at twice the lag they are squared.

    Parameters
    ----------
    run : Dataset or DataArray, dims ``(chain, draw[, coordinate])``
        A run, of which `unwrapped` is taken or else `position`; positions; or the series of one coordinate, equally
        spaced in `time` (one draw is the unit without it).
    coordinate : name or sequence of names, optional
        Which; by default all.
    fit : (float, float), optional
        Lags between which the slope is taken, in units of time; by default found as above.

    Returns
    -------
    xarray.Dataset
        On `temperature` or `chain`, and on `coordinate` unless one name is given:

        * `velocity` v and `diffusion` D with their `_stderr`; `fit_start`, `fit_end`;
        * `mean_squared_displacement` and `displacement_variance` on `lag` (draws) and `lag_time`, with `_stderr`;
        * `resolved`: slopes of the variance agree from the window on and D is known to 30 %. Where not, D and its
          error are NaN. Chains that are confined, or that have hardly jumped yet, are not resolved;
        * `stationary`: the halves of the run agree in velocity and in the growth of the variance (3 errors);
          `chains_used`, `chains_dropped` (not finite).

        An error of the velocity is NaN where chains have hardly jumped, or where it would come from pieces of chains
        that are not resolved.

    Raises
    ------
    ConfigError
        If the position is wrapped along the coordinate, chains have left by an absorbing boundary, times or
        temperatures make no sense, a coordinate or window does not exist, or fewer than 9 draws remain.
    ShapeError
        If there are no positions.

    Notes
    -----
    Displacements overlap; errors do not count them but come from the scatter between chains, or with fewer than 8
    from that between 20 pieces of them. Subtracting the measured velocity lowers the variance by a factor
    1 - t / (total time), exact for free diffusion, which is put right.

    Cost: one pass for each of about 2 log2(draws) lags; no gradients.

    References
    ----------
    Reimann, van den Broeck, Linke, Hänggi, Rubi, Pérez-Madrid, "Giant acceleration of free diffusion by use of tilted
    periodic potentials", Phys. Rev. Lett. 87, 010602 (2001), eqs. 2-3.

    Examples
    --------
    >>> import landscape as ls
    >>> slope = ls.potentials.Expression("-2*x", ["x"])
    >>> run = ls.simulate(slope, ls.EulerMaruyama(dt=0.1), temperature=0.5, chains=200, steps=100, seed=0,
    ...                   constraint=ls.Periodic({"x": (0.0, 1.0)}), record=ls.Record(1, ["unwrapped"]))
    >>> found = diffusion(run, "x")
    >>> abs(found.velocity.item() - 2.0) < 0.1, abs(found.diffusion.item() - 0.5) < 0.05
    (True, True)
    """
    names, columns = _columns(run, coordinate)
    results = [_one(as_series(column, temperature, shortest=9), by, discard, fit) for column in columns]
    if names is None:
        return results[0]
    together: xr.Dataset = xr.concat(results, "coordinate", combine_attrs="drop_conflicts")
    return together.assign_coords(coordinate=("coordinate", names, {"long_name": "coordinate"}))


def _columns(run: Any, coordinate: Any) -> tuple[list[Any] | None, list[Any]]:
    """Labels (None for one that was asked for by name) and series of the coordinates."""
    if isinstance(run, xr.Dataset) and "exit_time" in run and bool(run.exit_time.notnull().any()):
        raise ConfigError(
            "some chains have left by an absorbing wall, and those that stay are not a fair sample of all: diffusion "
            "is that of a run without absorbing walls"
        )
    if not isinstance(run, xr.Dataset) and "coordinate" not in getattr(run, "dims", ()):
        if coordinate is not None:
            raise ConfigError(f"a series without a dim `coordinate` has no coordinate {coordinate!r}: leave it out")
        return None, [run]
    points = unwrapped_points(run)
    if "draw" not in points.dims:
        raise ShapeError(f"got positions with dims {points.dims}; expected ('chain', 'draw', 'coordinate')")
    known = points.coords["coordinate"].values.tolist() if "coordinate" in points.coords else None
    labels = list(range(points.sizes["coordinate"])) if known is None else known
    single = isinstance(coordinate, str) or (coordinate is not None and not isinstance(coordinate, Sequence))
    chosen = labels if coordinate is None else [coordinate] if single else list(coordinate)
    for name in chosen:
        if not isinstance(name, str | Integral) or name not in labels:
            raise ConfigError(f"there is no coordinate {name!r}; there are {', '.join(map(str, labels))}")
    wrapped = set(str(points.attrs.get("wrapped", "")).split()) & set(map(str, chosen))
    if wrapped:
        raise ConfigError(
            f"the position is wrapped along {', '.join(sorted(wrapped))}, so that displacements over more than half a "
            'period are not known: record "unwrapped", Record(every, ["unwrapped"]), and give that'
        )
    found = [points.isel(coordinate=labels.index(name)).drop_vars("coordinate", errors="ignore") for name in chosen]
    return (None if single else chosen), found


def _one(series: Series, by: str, discard: Any, fit: Any) -> xr.Dataset:
    groups = grouping(series, by)
    start = first_kept(discard, series.draws, 9)
    lags = _lags(series.draws - start - 1, sum(len(m) >= FEW_CHAINS for m in groups.members) == groups.count, groups)
    shape = (groups.count, len(lags))
    scalars = ("velocity", "velocity_stderr", "diffusion", "diffusion_stderr", "fit_start", "fit_end")
    found: dict[str, Any] = {name: np.full(groups.count, np.nan) for name in scalars}
    curves = ("mean_squared_displacement", "displacement_variance")
    rows = {f"{name}{end}": np.full(shape, np.nan) for name in curves for end in ("", "_stderr")}
    flags = {name: np.zeros(groups.count, bool) for name in ("resolved", "stationary")}
    length, needed = Length.of(series.values), np.full(groups.count, np.nan)
    counts = {name: np.zeros(groups.count, np.int64) for name in ("chains_used", "chains_dropped")}
    for g, chains, dropped in finite_chains(series, groups):
        counts["chains_used"][g], counts["chains_dropped"][g] = len(chains), dropped
        if not len(chains):
            continue
        values = series.read(chains)[:, start:]
        moves = Displacements.of(pieces(values), lags, float(groups.spacing[g]))
        for name, (value, error) in moves.curves().items():
            rows[name][g], rows[f"{name}_stderr"][g] = value, error
        window = moves.window(fit)
        flags["resolved"][g] = window is not None and moves.trusted(window)
        if not flags["resolved"][g]:  # without a window the slope has not settled in all of the run
            longer = np.inf if window is None else moves.longer(window)
            needed[g] = length.count * longer if longer > 1 else np.nan
        if flags["resolved"][g] and window is not None:
            found["diffusion"][g], found["diffusion_stderr"][g] = moves.coefficient(window)
            found["fit_start"][g], found["fit_end"][g] = (lag * groups.spacing[g] for lag in window)
        found["velocity"][g], spread = moves.velocity()
        stuck = window is not None and not flags["resolved"][g]
        if not stuck and (flags["resolved"][g] or len(chains) >= FEW_CHAINS):
            found["velocity_stderr"][g] = spread
        flags["stationary"][g] = halves_agree(values, window, float(groups.spacing[g]))
    dataset = describe(
        found
        | flags
        | counts
        | {"steps_needed": needed}
        | {name: ((groups.dim, "lag"), values) for name, values in rows.items()},
        groups,
        series,
        title="Displacements, mean velocity and diffusion",
        conventions="variance of the displacement -> 2 D t + c; errors from the scatter between chains or their pieces",
        cost="about 2 log2(draws) passes over the positions; no gradients",
        lag=lags,
    )
    return in_units(_with_units(dataset, series), length)


def _with_units(dataset: xr.Dataset, series: Series) -> xr.Dataset:
    x, t = series.units, series.time_units
    square = "1" if x == "1" else f"({x})^2"
    known = {"{v}": f"{x}/{t}", "{d}": f"{square}/{t}", "{s}": square, "{t}": t}
    for name in GLOSSARY["diffusion"]:
        for one in (name, f"{name}_stderr"):
            if one in dataset:
                dataset[one].attrs.clear()
    return annotate(
        dataset, x, t, {name: (text, known.get(units, units)) for name, (text, units) in GLOSSARY["diffusion"].items()}
    )


def _lags(most: int, whole: bool, groups: Any) -> IntArray:
    """1, 2, 3, 4, 6, 8, 12, ... as far as pieces reach in every group."""
    if not whole:
        most //= max(-(-PIECES // len(m)) for m in groups.members if len(m) < FEW_CHAINS)
    powers = 2 ** np.arange(max(int(most), 1).bit_length())
    lags = np.unique(np.concatenate([powers, 3 * powers[:-1]]))
    return lags[lags <= max(most, 1)].astype(np.intp)
