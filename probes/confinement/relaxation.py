"""How fast chains relax along a path."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from landscape.checks import finite_number
from landscape.errors import ConfigError
from landscape.probes.confinement.projected import FloatArray, Projected, first_zero
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.needed import Length, every_needed, in_units
from landscape.probes.estimation.pairs import means_of_pairs
from landscape.probes.registry import PROJECTED, probe
from landscape.statistics import NORMAL, standard_error

__all__ = ["relaxation"]


@probe("confinement.relaxation", PROJECTED)
def relaxation(run: Any, *, target: Literal["start", "end"] | float | None = None) -> xr.Dataset:
    r"""Relaxation time along a path: the time in which the relative distance from a target falls by e.

    r(t) = <|s(t) - s*|> / <|s(0) - s*|>,   r(relaxation_time) = 1/e,

    the average over the chains of one temperature, interpolated linearly between projections, at the first passage.

    Parameters
    ----------
    target : {"start", "end"} or float, optional
        s*: an end of the path or an arc length. Left out, the end towards which the chains moved on average.

    Returns
    -------
    xarray.Dataset
        On `temperature`: `relaxation_time` (NaN where it was not reached in the run) and its error, a 1.96th of
        the way to the farther end of the times at which 1/e lies within 1.96 errors of r (NaN where it still does at
        the end of the run), `effective_relaxation_time` = relaxation_time / (1 - momentum), in which heavy-ball and
        plain descent can be compared (NaN for a run that does not say its momentum), `reached`, with `steps_needed`
        where it is not, as the rest of the distance tells, `fine`, False where it is shorter than the time to the first
        projection (the error then holds that time), with `every_needed`, `target`,
        `chains_used` and `chains_dropped`; `relative_distance (temperature, projection)` with its error from the
        scatter between chains, and its `time`.

    Raises
    ------
    ConfigError
        Also where chains of one temperature have different momenta or times.

    Notes
    -----
    `time` is the sum of the learning rates or dt. In an entropic or a diffusive landscape alike it scales as 1/T.

    References
    ----------
    Di Carlo, Goddard, Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks,
    Fig. 3.

    Examples
    --------
    >>> import landscape as ls
    >>> spring = ls.potentials.Expression("y**2/2", ["y"])
    >>> line = ls.paths.straight_line([0.0], [1.0])
    >>> run = ls.simulate(spring, ls.EulerMaruyama(dt=0.001), start=[0.5], steps=2000, record=ls.Record(2000),
    ...                   constraint=ls.ProjectOntoPath(line, every=10))
    >>> found = relaxation(run)
    >>> round(found.relaxation_time.item(), 2), found.target.item()
    (1.0, 0.0)
    """
    series = Projected.of(run)
    groups = series.by_temperature()
    steps = series.arc.shape[1]
    found = {name: np.full(len(groups), np.nan) for name in GLOSSARY["relaxation"] if name.endswith("_time")}
    found |= {"relaxation_time_stderr": np.full(len(groups), np.nan), "target": np.full(len(groups), np.nan)}
    found["effective_relaxation_time_stderr"] = np.full(len(groups), np.nan)
    found |= {name: np.full(len(groups), np.nan) for name in ("steps_needed", "every_needed")}
    fine, length = np.ones(len(groups), dtype=bool), _length(run)
    curve, error, time = (np.full((len(groups), steps), np.nan) for _ in range(3))
    used = np.zeros((len(groups), 2), dtype=np.int64)
    for row, (temperature, chains) in enumerate(groups):
        own = chains[np.isfinite(series.arc[chains]).all(axis=1)]
        if not len(own):
            raise ConfigError(f"no chain at temperature {temperature:g} is finite throughout")
        used[row] = len(own), len(chains) - len(own)
        if len(np.unique(series.momentum[own])) > 1 or (series.time[own] != series.time[own[0]]).any():
            raise ConfigError(
                f"chains at temperature {temperature:g} differ in momentum or times: give one kind at once"
            )
        arc = series.arc[own]
        goal = _goal(target, arc, series.length)
        distance = means_of_pairs(np.abs(arc - goal), series.pair[own])
        if not distance[:, 0].sum():
            raise ConfigError(f"all chains start at the target {goal:g}: choose another one")
        time[row] = series.time[own[0]] - series.time[own[0], 0]
        curve[row], error[row] = _ratio(distance)
        passage, scatter = _passage(distance, time[row])
        if np.isfinite(passage):
            first = time[row, 1] - time[row, 0]
            fine[row] = passage >= first
            found["every_needed"][row] = every_needed(fine[row], 0.5 * passage / first, length)
        else:
            left = curve[row, -1]
            found["steps_needed"][row] = length.count / -np.log(left) if 0 < left < 1 else np.inf
        scale = 1 / (1 - series.momentum[own[0]])
        found["target"][row] = goal
        found["relaxation_time"][row], found["relaxation_time_stderr"][row] = passage, scatter
        found["effective_relaxation_time"][row] = passage * scale
        found["effective_relaxation_time_stderr"][row] = scatter * scale
    variables: dict[str, Any] = {name: ("temperature", values) for name, values in found.items()}
    variables["reached"] = ("temperature", np.isfinite(found["relaxation_time"]))
    variables["fine"] = ("temperature", fine)
    variables |= {"chains_used": ("temperature", used[:, 0]), "chains_dropped": ("temperature", used[:, 1])}
    both = ("temperature", "projection")
    dataset = xr.Dataset(
        variables | {"relative_distance": (both, curve), "relative_distance_stderr": (both, error)},
        {"temperature": [t for t, _ in groups], "time": (both, time)},
        {"title": "Relaxation along a path", "conventions": "distance along the path, averaged over chains"},
    )
    return in_units(annotate(dataset, time_units="time", names=GLOSSARY["relaxation"]), length)


def _length(run: Any) -> Length:
    """In steps, as far as projections know them."""
    step = run.coords.get("projection_step") if isinstance(run, xr.Dataset) else None
    if step is None or step.dims != ("projection",) or step.size < 2:
        return Length(float("nan"), "projections")
    steps = step.to_numpy().astype(float)
    return Length(float(steps[-1] - steps[0]), "steps", float(np.diff(steps).min()))


def _goal(target: Any, arc: FloatArray, length: float) -> float:
    if target is None:
        return 0.0 if arc[:, -1].mean() < arc[:, 0].mean() else length
    if target in ("start", "end"):
        return 0.0 if target == "start" else length
    return finite_number('target, unless it is "start" or "end",', target, least=0, most=length)


def _ratio(distance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean distance in units of the first, with the error of the ratio."""
    mean = distance.mean(axis=0)
    ratio = mean / mean[0]
    return ratio, standard_error(distance - ratio * distance[:, :1]) / mean[0]


def _passage(distance: FloatArray, time: FloatArray) -> tuple[float, float]:
    """Where the mean first falls to 1/e, and the error of that: the times at which it may have done so.

    Of a noisy curve the crossings that leave out one chain each lie together at one dip of the noise; the band of the
    curve's own errors tells from when, and until when, the crossing can be.
    """
    passage = _first(distance.sum(axis=0)[None], time)[0]
    if not np.isfinite(passage):
        return float(passage), np.nan
    ratio, error = _ratio(distance)
    bands = np.stack([ratio - NORMAL * error, ratio + NORMAL * error]) - np.exp(-1)
    early, late = first_zero(bands, np.broadcast_to(time, bands.shape))
    if not np.isfinite(late):
        return float(passage), np.nan
    # The curve bends between projections; before the first one it may do anything.
    after = max(int(np.searchsorted(time, passage)), 1)
    step = time[after] - time[after - 1]
    bends = np.abs(np.diff(ratio, 2))[max(after - 2, 0) : after]
    fall = max(float(ratio[after - 1] - ratio[after]), 1e-300)
    between = (
        step * min(float(bends.max(initial=0.0)) / (8.0 * fall), 1.0) if after > 1 else max(passage, step - passage)
    )
    return float(passage), float((np.fmax(late - passage, passage - early) + between) / NORMAL)


def _first(curves: FloatArray, time: FloatArray) -> FloatArray:
    return first_zero(curves / curves[:, :1] - np.exp(-1), np.broadcast_to(time, curves.shape))
