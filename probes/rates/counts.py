"""Rates between core sets, from how often chains went from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from landscape.probes.estimation.describe import annotate
from landscape.probes.estimation.glossary import GLOSSARY
from landscape.probes.estimation.needed import Length, every_needed, in_units
from landscape.probes.rates.followed import Row, by_temperature, followed, stacked
from landscape.probes.rates.intervals import overdispersion, rate_interval
from landscape.probes.registry import probe
from landscape.statistics import NORMAL

__all__ = ["core_sets"]

MISSED = 0.05  # fraction of the transitions that a record may miss
EXPECTED = 1.0 / (np.sqrt(2.0) - 1.0)  # what one sample misses, of what two miss more, if it goes as the root of time
LATE = 0.5  # mean dwells, from which age on a dwell has forgotten how it began


@probe("rates.core_sets")
def core_sets(run: Any, cores: Mapping[str, Any] | str | None = None, *, of: Any = None) -> xr.Dataset:
    r"""Transition rates between core sets, a chain belonging to the core that it was in last.

    .. math:: k_{AB} = N_{AB} / t_A ,

    N_AB the transitions from A to B and t_A the time that belongs to A. What crosses a barrier and comes back without
    having reached the other core is no transition. For overdamped motion in one dimension between x < a and x > b, with
    A and B of equal weight,

    .. math:: k = \frac{2 T}{\int e^{-V/T} dx \int_a^b e^{V/T} dx} .

    Parameters
    ----------
    run : xarray.Dataset
        With core sets that were followed on the way (`landscape.CoreSets`, by which nothing is missed), or with
        recorded positions.
    cores : mapping or str, optional
        Cores to look for in what was recorded, as for `landscape.CoreSets`; or the name of those that were followed,
        where there are several.

    Returns
    -------
    xarray.Dataset
        ``rate (temperature, core, next_core)``, its error, and the ends ``rate_low`` and ``rate_high`` of the 95 %
        interval, which cover for few events too; ``transitions``; on ``(temperature, core)`` the ``time`` that belongs
        to it, ``exit_rate``, ``mean_dwell_time``, ``late_rate``, with errors, ``exponential``; ``survival
        (temperature, core, octave)`` at ``survival_time``, from the life table; ``missed (temperature)`` and
        ``resolved`` and ``fine``, with ``steps_needed`` and ``every_needed`` where these are False.

        Without transitions the rate is NaN and ``rate_high`` = 3.69/t its bound. `resolved` is False where the record
        is too coarse, which `fine` says too, or nothing was seen by which that could be judged.

    Raises
    ------
    ConfigError, FormulaError

    Notes
    -----
    Chains of equal temperature are pooled. Intervals are those of Garwood for Poisson counts, wider where counts
    scatter more between chains (``spread``). ``missed`` compares with every second sample: (1 - N_2/N_1) 2.41, as if
    what is missed went with the root of the spacing, as it does for diffusion between cores that nearly touch.
    `exponential` holds where the rate of leaving at ages of half a mean dwell and more is that at any age, within 3
    errors and 5 %, and something was seen at such ages; where it does not hold (at low friction chains come back at
    once) k is no rate of a Markov process, and `escape_rate` tells more. A core is looked at once a step; diffusion
    would reach it earlier, as if it were 0.5826 sqrt(2 T dt) nearer.

    References
    ----------
    Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28, 437 (1936).
    Schuette et al., "Markov state models based on milestoning", J. Chem. Phys. 134, 204105 (2011).

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.DoubleWell()
    >>> cores = ls.CoreSets({"A": "x < -0.8", "B": "x > 0.8"})
    >>> run = ls.simulate(well, ls.EulerMaruyama(dt=0.01), temperature=0.4, chains=32, steps=20_000,
    ...                   record=ls.Record(20_000, [cores]))
    >>> found = core_sets(run).isel(temperature=0).sel(core="A", next_core="B")
    >>> bool(found.rate_low < 0.0622 < found.rate_high), bool(found.resolved)
    (True, True)
    """
    counts = followed(run, cores, of)
    columns = {str(name): counts[name].to_numpy() for name in counts.data_vars}
    rows = [
        (heat, _rates({name: values[own] for name, values in columns.items()}))
        for heat, own in by_temperature(run, counts.sizes["chain"])
    ]
    length = Length.of(run)
    dataset = stacked(rows, {"core": counts.core.to_numpy(), "next_core": counts.next_core.to_numpy()})
    dataset.attrs = {
        "title": "Rates between core sets",
        "conventions": "a chain belongs to the core that it was in last; 95 % intervals",
        "cost": "no gradients",
    }
    missed, fine, seen = (dataset[name].to_numpy() for name in ("missed", "fine", "transitions"))
    with np.errstate(divide="ignore", invalid="ignore"):
        every = every_needed(fine, (MISSED / missed) ** 2, length)  # what is missed goes with the root of the spacing
    # At an unknown rate, of which zero events are seen, no number of steps is known to be enough.
    longer = np.where(dataset["resolved"] | ~fine | (seen.sum(axis=(1, 2)) > 0), np.nan, np.inf)
    dataset = dataset.assign(every_needed=("temperature", every), steps_needed=("temperature", longer))
    return in_units(annotate(dataset, time_units="time", names=GLOSSARY["core_sets"]), length)


def _rates(counts: Mapping[str, NDArray[Any]]) -> Row:
    """Of chains that are pooled."""
    each, spent = counts["cores_transitions"].astype(float), counts["cores_time"]
    total, time = each.sum(axis=0), spent.sum(axis=0)
    spread = overdispersion(each, np.broadcast_to(spent[:, :, None], each.shape))
    leaving = overdispersion(each.sum(axis=2), spent)
    others = ~np.eye(len(time), dtype=bool)
    pairs = [np.where(others, one, np.nan) for one in rate_interval(total, time[:, None], spread)]
    exits = rate_interval(total.sum(axis=1), time, leaving)
    coarse = counts["cores_coarse_transitions"].sum()
    missed = max(0.0, 1.0 - coarse / total.sum()) * EXPECTED if total.sum() else np.nan
    both, one = ("core", "next_core"), ("core",)
    variables: Row = {
        name: (both, values)
        for name, values in zip(("rate", "rate_stderr", "rate_low", "rate_high"), pairs, strict=True)
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        dwell = 1.0 / exits[0]
        dwell_error = (1.0 / exits[2] - dwell) / NORMAL  # to the farther end of its interval
        dwell_error = np.where(exits[2] > 0, dwell_error, np.nan)
    variables |= {
        "transitions": (both, total.astype(int)),
        "spread": (both, spread),
        "time": (one, time),
        "exit_rate": (one, exits[0]),
        "exit_rate_stderr": (one, exits[1]),
        "mean_dwell_time": (one, dwell),
        "mean_dwell_time_stderr": (one, dwell_error),
        "missed": ((), missed),
        "resolved": ((), bool(missed <= MISSED)),
        "fine": ((), not missed > MISSED),
    }
    table = _life_table(counts, dwell)
    late, late_error = table["late_rate"][1], table["late_rate_stderr"][1]
    with np.errstate(invalid="ignore"):
        steady = np.abs(late - exits[0]) <= 3.0 * late_error + 0.05 * exits[0]
    return variables | table | {"exponential": (one, steady)}


def _life_table(counts: Mapping[str, NDArray[Any]], dwell: Any) -> Row:
    """Survival by age, and the rate of leaving at late ages."""
    ended = counts["cores_ended"].sum(axis=0).astype(float)
    watched = counts["cores_watched"].sum(axis=0)
    spacing = float(counts["cores_spacing"].mean())
    age = spacing * 2.0 ** (np.arange(ended.shape[1]) + 1)  # the end of each octave
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = np.where(watched > 0, ended / watched, np.nan)
        survival = np.exp(-np.cumsum(np.nan_to_num(hazard) * np.diff(age, prepend=spacing), axis=1))
        survival = np.where(watched > 0, survival, np.nan)
        late = (age / 2.0 >= LATE * dwell[:, None]) & np.isfinite(dwell)[:, None]
    rate, error, _, _ = rate_interval(np.where(late, ended, 0.0).sum(axis=1), np.where(late, watched, 0.0).sum(axis=1))
    return {
        "late_rate": (("core",), rate),
        "late_rate_stderr": (("core",), error),
        "survival": (("core", "octave"), survival),
        "survival_time": (("octave",), age),
    }
