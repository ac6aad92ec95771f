"""Free energies from measured works: exponential averages and Bennett's ratio, and what can be vouched for."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.special import expit, logsumexp
from scipy.stats import chi2, norm

from landscape.common.positions import plain_array
from landscape.errors import ConfigError, OverlapError, ShapeError
from landscape.probes.estimation.describe import with_error
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.averages import clusters, own_temperature
from landscape.probes.registry import WORKS, probe
from landscape.statistics import student_factor

__all__ = [
    "acceptance_ratio",
    "check_overlap",
    "exponential_average",
    "hidden",
    "lower_tail",
    "overlap_of",
    "two_sided",
    "work_average",
]

# Works that carry an exponential average, below which its error does not cover: of Gaussian works of any width at which
# it is given, two errors hold the truth in 0.93 or more (10 to 10,000 works).
FEWEST_EFFECTIVE = 10.0
LONGEST_TAIL = 2.5  # standard deviations of `lower_tail` beyond which one direction is not enough
SURELY_SHORTER = 4.0  # standard errors by which an exponential tail is to be excluded
FEWEST_WORKS = 8
# Overlap times chains below which Bennett's error does not cover (100 chains of Gaussian works: 0.95 at 12, 0.90 at 3),
# and the overlap needed of a few chains.
FEWEST_SHARED, MOST_OVERLAP = 10.0, 0.3
# Overlap of Gaussian works that dissipate so many T each way.
_DISSIPATED = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
_OVERLAPS = np.array([0.5, 0.398, 0.326, 0.226, 0.162, 0.116, 0.085, 0.062, 0.034, 0.019])


@probe("free_energy.work_average", WORKS, pictures=("plot_nonequilibrium_work",))
def work_average(forward: Any, reverse: Any = None, *, temperature: float | None = None) -> xr.Dataset:
    r"""Difference of free energies from works measured in driven runs, of one direction or of both.

    Works W of a protocol that begins in equilibrium, such as the observable ``"work"`` at the end of runs, obey

    .. math:: e^{-\Delta F/T} = \langle e^{-W/T} \rangle , \qquad
        \sum_F \frac{1}{1 + (n_F/n_R) e^{(W - \Delta F)/T}} = \sum_R \frac{1}{1 + (n_R/n_F) e^{(W + \Delta F)/T}} ,

    the first by Jarzynski, the second, with works of the reversed protocol from equilibrium at its other end, by Crooks
    and Bennett.

    Parameters
    ----------
    forward : array ``(n,)``, or a run
        Independent works done on the system, at least 8; of a run that recorded ``"work"`` those at its last draw.
    reverse : array ``(m,)``, or a run, optional
        Works of the reversed protocol, done on the system too.
    temperature : float, optional
        Of works that are no run's; that of the runs otherwise.

    Returns
    -------
    xarray.Dataset
        ``free_energy``, F at the end less F at the start, with its standard error, by Bennett where there are both
        directions, else by Jarzynski; ``resolved``, whether there is an error; ``work (direction, chain)``;
        ``dissipation (direction)``, mean work beyond the difference; ``effective_chains (direction)``, works that carry
        the exponential average. Of both directions also ``jarzynski``, ``jarzynski_reverse`` and ``overlap``, as from
        `nonequilibrium_work`; of one, ``gaussian`` = <W> - var(W)/(2T) with its error, which is the difference for
        Gaussian works however wide they are, and for no others.

    Raises
    ------
    ConfigError, ShapeError
    OverlapError
        If works of both directions hardly overlap.

    Notes
    -----
    The exponential average is that of rare low works. Its error is the largest of the scatter of e^{-W/T}, of
    sqrt((e^{s^2} - 1)/n) with s T the width of the works and one error of it, which is exact for Gaussian ones, and of
    the same with the width of the lowest sqrt(n) of them; of both directions also of what the other one tells of this
    tail, <e^{-2(W - dF)/T}> = <e^{(W_R + dF)/T}>. Works that carry it are counted likewise, n e^{-s^2} with a width
    95 % surely not larger; below 10 the error is NaN. Where the lower half of the works is shorter than that of a
    Gaussian by 2.5 standard errors (a spring made stiffer) widths do not count; where it is longer by as many, the
    error of one direction is NaN too, since a tail like that (a spring made softer) may hold what no sample has seen.
    Where that tail is not excluded by four standard errors (under some 200 works), twice what an exponential one of
    the width seen would hold beyond the lowest work, a share w b/(n (1 - b)) with w its weight e^{-(W - dF)/T} and
    b T one error more than the mean distance of the lower half from the median, is part of the error, NaN from b = 1
    on. That is an error, but not a small one: measure both directions.

    References
    ----------
    .. [1] C. Jarzynski, "Nonequilibrium equality for free energy differences", Phys. Rev. Lett. 78, 2690 (1997).
    .. [2] G. E. Crooks, "Entropy production fluctuation theorem and the nonequilibrium work relation for free energy
       differences", Phys. Rev. E 60, 2721 (1999), eq. (2).
    .. [3] M. R. Shirts, E. Bair, G. Hooker, V. S. Pande, "Equilibrium free energies from nonequilibrium measurements
       using maximum-likelihood methods", Phys. Rev. Lett. 91, 140601 (2003), eq. (8).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> there, back = rng.normal(3.5, 1.0, 500), rng.normal(-2.5, 1.0, 500)  # T = 1 and a difference of 3
    >>> both, one = work_average(there, back, temperature=1.0), work_average(there, temperature=1.0)
    >>> [bool(abs(found.free_energy - 3.0) < 3 * found.free_energy_stderr < 0.5) for found in (both, one)]
    [True, True]
    """
    ahead = _works("forward", forward)
    t = own_temperature(temperature, forward, reverse)
    if reverse is not None:
        return two_sided(ahead, _works("reverse", reverse), t)
    value, error, carrying = exponential_average(ahead / t)
    error = float(np.hypot(error, 2.0 * hidden(ahead / t, value)))
    known = carrying >= FEWEST_EFFECTIVE and lower_tail(ahead) <= LONGEST_TAIL and np.isfinite(error)
    width, count = ahead.var(ddof=1) / t, len(ahead)
    spread = np.sqrt(t * width / count + width**2 / (2.0 * (count - 1))) * student_factor(count - 1.0)
    estimates = {"free_energy": (t * value, t * error if known else np.nan),
                 "gaussian": (float(ahead.mean() - 0.5 * width), float(spread))}  # fmt: skip
    found = _dataset(estimates, ahead[None], np.array([ahead.mean() - t * value]), [carrying], ["forward"])
    return found.assign_attrs(temperature=t, method="Jarzynski")


def two_sided(forward: FloatArray, backward: FloatArray, temperature: float, stages: int | None = None) -> xr.Dataset:
    """`work_average` of both directions; `stages` of the protocol are for the message if works do not overlap.

    Raises
    ------
    ConfigError, OverlapError
    """
    t = temperature
    bennett, bennett_error = acceptance_ratio(forward / t, backward / t)
    overlap = overlap_of(forward / t, backward / t, bennett)
    check_overlap(forward / t, backward / t, overlap, stages)
    estimates: dict[str, tuple[float, float]] = {"free_energy": (t * bennett, t * bennett_error)}
    effective = []
    for name, work, other, sign in (
        ("jarzynski", forward, backward, 1.0), ("jarzynski_reverse", backward, forward, -1.0)
    ):  # fmt: skip
        average, error, carrying = exponential_average(work / t)
        # By Crooks' relation <e^{-2(W - dF)/T}> of one direction is <e^{(W + dF)/T}> of the other, which is seen where
        # the works that carry it have not occurred.
        with np.errstate(over="ignore"):  # of works of thousands of T nothing carries
            square = float(np.exp(other / t + sign * bennett).mean())
        carrying = min(carrying, len(work) / square)
        error = max(error, float(np.sqrt(max(square - 1.0, 0.0) / len(work))))
        effective.append(carrying)
        estimates[name] = (sign * t * average, t * error if carrying >= FEWEST_EFFECTIVE else np.nan)
    works = np.full((2, max(len(forward), len(backward))), np.nan)
    works[0, : len(forward)], works[1, : len(backward)] = forward, backward
    lost = np.array([forward.mean() - t * bennett, backward.mean() + t * bennett])
    found = _dataset(estimates, works, lost, effective, ["forward", "backward"])
    found["overlap"] = ((), overlap, {"long_name": "overlap of works forward and backward", "units": "1"})
    return found.assign_attrs(temperature=t, method="Bennett")


def _dataset(
    estimates: dict[str, tuple[float, float]], works: FloatArray, lost: FloatArray, effective: list[float],
    directions: list[str],
) -> xr.Dataset:  # fmt: skip
    variables: dict[str, Any] = {}
    for name, (estimate, error) in estimates.items():
        variables |= with_error(name, (), estimate, error, "energy")
    about = {"long_name": "whether the free energy has an error", "units": "1"}
    variables["resolved"] = ((), bool(np.isfinite(estimates["free_energy"][1])), about)
    variables["work"] = (("direction", "chain"), works, {"long_name": "work", "units": "energy"})
    variables["dissipation"] = ("direction", lost, {"long_name": "mean work beyond the difference", "units": "energy"})
    about = {"long_name": "chains that carry the exponential average", "units": "1"}
    variables["effective_chains"] = ("direction", np.array(effective), about)
    return xr.Dataset(variables, {"direction": directions})


def _at_the_end(name: str, run: xr.Dataset) -> xr.DataArray:
    if "work" not in run or set(run["work"].dims) != {"chain", "draw"} or not run.sizes["draw"]:
        raise ConfigError(
            f'the {name} run has no works: record them, observables ["work"], while a formula changes with t'
        )
    return run["work"].isel(draw=-1)


def _works(name: str, values: Any) -> FloatArray:
    """Works as an array ``(n,)``.

    Raises
    ------
    ConfigError, ShapeError
    """
    if isinstance(values, xr.Dataset):
        values = _at_the_end(name, values)
    try:
        works = plain_array(values, f"{name} works").astype(np.float64)
    except ShapeError as error:
        raise ConfigError(f"{name} works must be numbers, got {type(values).__name__}: {error}") from None
    if works.ndim != 1 or len(works) < FEWEST_WORKS:
        raise ShapeError(
            f"{name} works must be (n,) with n of {FEWEST_WORKS} or more, one of each driven chain, got {works.shape}"
        )
    if not np.isfinite(works).all():
        raise ConfigError(f"{name} works must be finite: leave out chains that were dropped, and say so")
    return works


def exponential_average(work: FloatArray) -> tuple[float, float, float]:
    """-ln <e^{-W}> without its leading bias, its error, and how many samples carry it; see `work_average`."""
    count = len(work)
    value = float(np.log(count) - logsumexp(-work))
    weight = np.exp(-work + value)  # of mean 1
    scatter = float(clusters((weight / count)[:, None])[0])
    # a lower half that is surely shorter than a Gaussian's has no tail to miss, however wide the works are above it
    variance = 0.0 if lower_tail(work) < -LONGEST_TAIL else _variance(work)
    factor = float(student_factor(count - 1.0))
    wider = variance * (1.0 + np.sqrt(2.0 / (count - 1)))  # by its own error: narrow samples are those that are given
    width = factor * float(np.sqrt(np.expm1(min(wider, 100.0)) / count))
    surely = variance * (count - 1) / float(chi2.ppf(0.05, count - 1))
    carrying = min(float(count**2 / (weight**2).sum()), count * float(np.exp(-surely)))
    return value - 0.5 * (scatter / factor) ** 2, max(scatter, width), carrying


def _variance(work: FloatArray) -> float:
    """Variance of works, or that of a Gaussian with the same mean of its lowest sqrt(n), whichever is larger."""
    count = len(work)
    lowest = int(np.ceil(np.sqrt(count)))
    share = lowest / count
    depth = float(np.median(work) - np.sort(work)[:lowest].mean())
    expected = float(norm.pdf(norm.ppf(share)) / share)  # of a standard Gaussian below its quantile
    return max(float(work.var(ddof=1)), (depth / expected) ** 2)


def lower_tail(work: FloatArray) -> float:
    """By how many standard errors the lower half of works is longer than a Gaussian's.

    Its <u^2>/<u>^2, for distances u from the median, is pi/2 for a Gaussian, with the error 1.2/sqrt(n), and 2 for an
    exponential tail.
    """
    median = float(np.median(work))
    below = median - work[work < median]
    mean = float(below.mean()) if len(below) else 0.0
    if mean <= 1e-12 * float(np.abs(work).max()):  # one and the same work
        return 0.0
    return float(((below**2).mean() / mean**2 - 0.5 * np.pi) * np.sqrt(len(work)) / 1.2)


def hidden(work: FloatArray, value: float) -> float:
    """Share of <e^{-W}> = e^{-value} that an exponential tail may hold below all works, where one is not excluded.

    Infinite where it would have no mean. Its <u^2>/<u>^2, as of `lower_tail`, is 2.
    """
    count = len(work)
    if lower_tail(work) < (2.0 - 0.5 * np.pi) * np.sqrt(count) / 1.2 - SURELY_SHORTER:
        return 0.0
    median = float(np.median(work))
    below = median - work[work < median]
    if not len(below):  # one and the same work
        return 0.0
    scale = float(below.mean()) * (1.0 + 1.0 / np.sqrt(len(below)))
    return float(np.exp(value - work.min())) / count * scale / (1.0 - scale) if scale < 1.0 else np.inf


def acceptance_ratio(forward: FloatArray, backward: FloatArray) -> tuple[float, float]:
    """Bennett's estimate of the difference from works in units of T, and its error.

    Raises
    ------
    ConfigError
        If works are not finite.
    """
    if not (np.isfinite(forward).all() and np.isfinite(backward).all()):
        raise ConfigError("works must be finite")
    ratio = np.log(len(forward) / len(backward))

    def balance(difference: float) -> float:
        return float(expit(-(ratio + forward - difference)).sum() - expit(ratio - backward - difference).sum())

    ends = np.concatenate([forward, -backward])
    root = float(brentq(balance, ends.min() - abs(ratio) - 1.0, ends.max() + abs(ratio) + 1.0, xtol=1e-14))
    ahead, back = expit(-(ratio + forward - root)), expit(ratio - backward - root)
    slope = float((ahead * (1.0 - ahead)).sum() + (back * (1.0 - back)).sum())
    if not slope > 0.0:  # works that nowhere meet
        return root, float("nan")
    forward_error, backward_error = (float(clusters((part / slope)[:, None])[0]) for part in (ahead, back))
    return root, float(np.hypot(forward_error, backward_error))


def overlap_of(forward: FloatArray, backward: FloatArray, difference: float) -> float:
    """Overlap of works in units of T: sum of p (1 - p) over all, divided by the chains of one direction.

    p is the chance that a work is of the forward runs; for unequal numbers the divisor is their harmonic mean.
    """
    ratio = np.log(len(forward) / len(backward))
    chances = np.concatenate([expit(difference - forward - ratio), expit(ratio - backward - difference)])
    return float((chances * (1.0 - chances)).sum() / _chains(forward, backward))


def _chains(forward: FloatArray, backward: FloatArray) -> float:
    return 2.0 * len(forward) * len(backward) / (len(forward) + len(backward))


def check_overlap(forward: FloatArray, backward: FloatArray, overlap: float, stages: int | None = None) -> None:
    """Refuse works that do not meet.

    Raises
    ------
    OverlapError
    """
    chains = _chains(forward, backward)
    bound = min(FEWEST_SHARED / chains, MOST_OVERLAP)
    if overlap >= bound:
        return
    dissipated = 0.5 * float(forward.mean() + backward.mean())
    # Dissipation falls as 1/stages, with (1 + r)/(1 - r) before it where a fraction r of a jump is not forgotten until
    # the next; r = 1/2 is allowed for.
    goal = float(np.interp(-min(1.5 * bound, 0.4), -_OVERLAPS, _DISSIPATED))
    hint = "drive more slowly, through values between, or measure more of them"
    if stages is not None:
        needed = max(int(np.ceil(3.0 * stages * dissipated / goal)), stages + 1)
        hint = f"give about stages={needed}, or more steps between"
    raise OverlapError(
        f"the works forward and backward hardly overlap: {overlap:.2g}, at least {bound:.2g} is needed with "
        f"{chains:.0f} chains; they dissipate {dissipated:.3g} T each way: {hint}"
    )
