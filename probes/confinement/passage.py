"""When chains on a path first get somewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.checks import finite_number
from landscape.errors import ConfigError
from landscape.probes.confinement.projected import FloatArray, Projected, first_zero
from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.pairs import refuse_pairs
from landscape.probes.registry import PROJECTED, probe
from landscape.statistics import NORMAL, error_of_mean

__all__ = ["first_passage"]

LATENESS = 0.5825971579390106  # -zeta(1/2)/sqrt(2 pi)


@probe("confinement.first_passage", PROJECTED)
def first_passage(run: Any, at: float, *, continuity: bool = True) -> xr.Dataset:
    r"""Time at which chains first reach an arc length.

    In an effective potential F with diffusion D, started at y0 with a boundary at a and the target L > y0 on the other
    side, the mean is

    tau = \int_{y0}^{L} dy e^{F(y)/T} / D \int_a^y dz e^{-F(z)/T}.

    Parameters
    ----------
    at : float
        Arc length of the target.
    continuity : bool
        Chains are looked at only when they are projected, and a path that crosses between two projections is missed: a
        target would be hit as late as one that is 0.5826 sqrt(<ds^2>) further away. With the correction the target is
        taken nearer by as much, <ds^2> being measured.

    Returns
    -------
    xarray.Dataset
        On `temperature`: `first_passage_time` and its error, `reached`, the fraction of the chains that did, and
        `correction`, how much nearer the target was taken; `passage_time (chain)`, NaN where it was not reached.
        Where all chains reached it the time is their mean; else the total time of all of them divided by the number
        of passages, which supposes an exponential distribution (attribute `estimator`). It is NaN where none did. The
        error reaches to the farther end of the 95 % interval, of the exponential distribution where not all did, and is
        lengthened for few and for skewed times where all did, of which three are needed.

    Notes
    -----
    The correction holds while the steps are small against the distance and against the scale on which F changes.

    References
    ----------
    Broadie, Glasserman, Kou (1997), A continuity correction for discrete barrier options, Math. Finance 7, 325.
    Gardiner (2009), Stochastic Methods, eq. 5.5.23.

    Examples
    --------
    >>> import landscape as ls
    >>> flat = ls.potentials.Expression("0*x", ["x"], bounds={"x": (0.0, 2.0)})
    >>> line = ls.paths.straight_line([0.0], [2.0])
    >>> run = ls.simulate(flat, ls.EulerMaruyama(dt=0.01), temperature=1.0, start=[0.0], chains=400, steps=300,
    ...                   constraint=ls.ProjectOntoPath(line, every=1), record=ls.Record(300))
    >>> found = first_passage(run, 0.4)  # L^2 / (2 T)
    >>> abs(found.first_passage_time.item() - 0.08) < 4.5 * found.first_passage_time_stderr.item()
    True
    """
    series = Projected.of(run)
    refuse_pairs(run)
    finite_number("arc length at", at, least=0, most=series.length)
    passage = np.full(len(series.arc), np.nan)
    rows = []
    for temperature, chains in series.by_temperature():
        arc, time = series.arc[chains], series.time[chains]
        side = np.sign(arc[:, :1] - at)
        if (side == 0).any():
            raise ConfigError(f"a chain starts at the target {at:g} itself: choose another one")
        step = np.diff(arc, axis=1)
        shift = LATENESS * float(np.sqrt(np.nanmean(step**2))) if continuity else 0.0
        watched, lost = _watched(arc, time)
        passage[chains] = first_zero(side * (arc - at) - shift, time - time[:, :1])
        rows.append(
            (temperature, shift, *_mean(passage[chains], watched), int((lost & np.isnan(passage[chains])).sum()))
        )
    columns = list(zip(*rows, strict=True))
    names = ("correction", "first_passage_time", "first_passage_time_stderr", "reached", "chains_lost")
    variables: dict[str, Any] = {name: ("temperature", list(c)) for name, c in zip(names, columns[1:], strict=True)}
    dataset = xr.Dataset(
        variables | {"passage_time": ("chain", passage)},
        {"temperature": list(columns[0]), "chain_temperature": ("chain", series.temperature)},
        {
            "title": "First passage along a path",
            "at": float(at),
            "estimator": "mean over chains; where some did not reach it, total time / number of passages",
            "conventions": "time counts from the start of the run",
        },
    )
    return annotate(dataset, time_units="time", names=GLOSSARY["first_passage"])


def _watched(arc: FloatArray, time: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """How long each chain was finite, and whether it ceased to be before its run was over."""
    known = np.isfinite(arc)
    last = np.where(known.all(axis=1), arc.shape[1], np.argmin(known, axis=1)) - 1
    over = np.isfinite(time).sum(axis=1) - 1
    rows = np.arange(len(arc))
    return time[rows, last] - time[:, 0], last < over


def _mean(passage: FloatArray, watched: FloatArray) -> tuple[float, float, float]:
    """Mean first-passage time, its standard error, and the fraction of chains that count."""
    made = np.isfinite(passage)
    count = int(made.sum())
    if not count:
        return np.nan, np.nan, 0.0
    if made.all():
        return float(passage.mean()), float(error_of_mean(passage, positive=True)), 1.0
    total = float(np.where(made, passage, watched).sum())
    from landscape.probes.rates.intervals import rate_interval  # its room needs torch

    _, _, low, _ = rate_interval(count, total)  # its lower end is the farther one of the time
    return total / count, float((1.0 / low - total / count) / NORMAL), count / len(passage)
