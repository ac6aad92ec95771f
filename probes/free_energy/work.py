"""Free energy differences from work: a parameter driven from one value to another, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

from landscape.errors import ConfigError, OverlapError
from landscape.potentials.base import Potential
from landscape.potentials.checks import needs_energy, whole_number
from landscape.probes._series import FloatArray
from landscape.probes.free_energy.averages import check_temperature, clusters
from landscape.probes.free_energy.integration import varied
from landscape.probes.free_energy.sampling import Tuned, tuned
from landscape.record import Record
from landscape.simulate import simulate

__all__ = ["acceptance_ratio", "check_overlap", "exponential_average", "nonequilibrium_work", "overlap_of"]

FEWEST_EFFECTIVE = 50.0  # chains that carry an exponential average; below it its error is not to be trusted
# Overlap times chains below which Bennett's error does not cover (100 chains of Gaussian works: 0.95 at 12, 0.90 at 3),
# and the overlap needed of a few chains.
FEWEST_SHARED, MOST_OVERLAP = 10.0, 0.3
# Overlap of Gaussian works that dissipate so many T each way.
_DISSIPATED = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
_OVERLAPS = np.array([0.5, 0.398, 0.326, 0.226, 0.162, 0.116, 0.085, 0.062, 0.034, 0.019])


def nonequilibrium_work(
    potential: Potential | Sequence[Potential], parameter: str | None, start: float, end: float, temperature: float, *,
    stages: int = 40, steps: int = 4, equilibration: int = 400, chains: int = 1000, dt: float = 0.1,
    position: Any = None, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    r"""Difference of free energies F(end) - F(start) from the work of driven runs, by Jarzynski and by Bennett.

    From equilibrium the parameter is changed in `stages` equal jumps, with `steps` steps between; the work W is the sum
    of the jumps' energies. Forward from `start`, and backward from `end`,

    .. math:: e^{-\Delta F/T} = \langle e^{-W/T} \rangle , \qquad
        \sum_F \frac{1}{1 + e^{(W - \Delta F)/T}} = \sum_B \frac{1}{1 + e^{(W + \Delta F)/T}} .

    Parameters
    ----------
    potential : Potential, or a pair of them
    parameter : str, or None for a pair
        A parameter of an Expression; for a pair lambda in V = (1 - lambda) A + lambda B.
    start, end : float
        Values of the parameter.
    temperature : float
    stages, steps : int
        Jumps, and steps after each.
    equilibration : int
        Steps at either end before driving.
    chains : int
        In each direction; each is driven once.
    dt : float
        First guess of the step size.
    position : array ``(dim,)``, optional
        Where equilibration starts; the potential's default.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``free_energy`` (Bennett's), ``jarzynski`` (forward) and ``jarzynski_reverse``, each an estimate of F(end) -
        F(start) with its standard error; ``work (direction, chain)``, of the driving; ``dissipation (direction)``, mean
        work beyond the difference; ``effective_chains (direction)``, which carry the exponential averages (Jarzynski's
        are NaN in their error below 50), by their weights and by the works of the other direction; ``overlap`` of the
        works forward and backward, 1/2 where they are the same and 0 where no chain could have come from the other
        side.

    Raises
    ------
    ConfigError, ShapeError
    OverlapError
        If overlap times chains is below 10 (or the overlap below 0.3, for fewer than 33 chains): no estimate has an
        error then that covers. The message says how many stages are needed.

    Notes
    -----
    Steps are those of MALA, which keeps each stage's Boltzmann law exactly; Jarzynski's and Crooks' relations then hold
    exactly in discrete time, and the step size leaves no error. Chains are independent: errors come from their scatter.
    With p the chance in Bennett's equation that a work is one of the forward runs, the overlap is the sum of p (1 - p)
    over all works, divided by the chains of one direction. Jarzynski's estimate is low-biased in e^{-W/T} where few
    chains carry it; its leading bias is removed.
    Costs ``2 chains (equilibration + stages steps)`` gradients.

    References
    ----------
    .. [1] C. Jarzynski, "Nonequilibrium equality for free energy differences", Phys. Rev. Lett. 78, 2690 (1997).
    .. [2] M. R. Shirts, E. Bair, G. Hooker, V. S. Pande, "Equilibrium free energies from nonequilibrium measurements
       using maximum-likelihood methods", Phys. Rev. Lett. 91, 140601 (2003), eq. (8).

    Examples
    --------
    >>> from landscape import potentials
    >>> spring = potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})
    >>> found = nonequilibrium_work(spring, "k", 1.0, 4.0, 0.1, chains=200, stages=20)
    >>> bool(abs(found.free_energy - 0.05 * np.log(4.0)) < 4.5 * found.free_energy_stderr)
    True
    """
    needs_energy("nonequilibrium_work", *(potential if isinstance(potential, Sequence) else [potential]))
    t = check_temperature(temperature)
    for name, value in (("stages", stages), ("steps", steps), ("equilibration", equilibration)):
        whole_number(name, value)
    whole_number("chains", chains, least=8)
    values = np.linspace(float(start), float(end), stages + 1)
    landscapes = [varied(potential, parameter, float(value)) for value in values]
    origin = landscapes[0].default_start().numpy() if position is None else np.asarray(position, dtype=float)
    begin = np.tile(origin, (chains, 1))
    forward = _driven(landscapes, begin, t, steps, equilibration, dt, 2 * seed)
    backward = _driven(landscapes[::-1], begin, t, steps, equilibration, dt, 2 * seed + 1)
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
        square = float(np.exp(other / t + sign * bennett).mean())
        carrying = min(carrying, chains / square)
        error = max(error, float(np.sqrt(max(square - 1.0, 0.0) / chains)))
        effective.append(carrying)
        estimates[name] = (sign * t * average, t * error if carrying >= FEWEST_EFFECTIVE else np.nan)
    variables: dict[str, Any] = {}
    for name, (estimate, error) in estimates.items():
        variables[name] = ((), estimate, {"long_name": name.replace("_", " "), "units": "energy"})
        about = {"long_name": f"standard error of the {name.replace('_', ' ')}", "units": "energy"}
        variables[f"{name}_stderr"] = ((), error, about)
    works = np.stack([forward, backward])
    lost = works.mean(axis=1) - np.array([1.0, -1.0]) * t * bennett
    variables["work"] = (("direction", "chain"), works, {"long_name": "work", "units": "energy"})
    variables["dissipation"] = ("direction", lost, {"long_name": "mean work beyond the difference", "units": "energy"})
    about = {"long_name": "chains that carry the exponential average", "units": "1"}
    variables["effective_chains"] = ("direction", np.array(effective), about)
    variables["overlap"] = ((), overlap, {"long_name": "overlap of works forward and backward", "units": "1"})
    return xr.Dataset(
        variables,
        {"direction": ["forward", "backward"]},
        {"temperature": t, "method": "driven work", "stages": stages, "steps": steps, "start": start, "end": end,
         "seed": seed},
    )  # fmt: skip


def _driven(
    landscapes: list[Potential], begin: FloatArray, temperature: float, steps: int, equilibration: int, dt: float,
    seed: int,
) -> FloatArray:  # fmt: skip
    """Work of each chain, driven through the landscapes from equilibrium in the first."""
    rules = [tuned(landscapes[i], temperature, begin, dt=dt, seed=seed) for i in (0, -1)]
    sizes = np.geomspace(float(rules[0].dt[0]), float(rules[1].dt[0]), len(landscapes))

    def advance(number: int, position: FloatArray, count: int) -> FloatArray:
        run = simulate(
            landscapes[number], Tuned(sizes[number : number + 1], position, sizes[:1]).integrator(len(position)),
            steps=count, start=position, temperature=temperature, record=Record(count, observables=["energy"]),
            seed=(seed + 104729 * (number + 1)) % 2**64, progress=False,
        )  # fmt: skip
        last: FloatArray = run.last_position.to_numpy()
        return last

    position, work = advance(0, rules[0].state, equilibration), np.zeros(len(begin))
    for number in range(1, len(landscapes)):
        work += landscapes[number].energy(position) - landscapes[number - 1].energy(position)
        if number < len(landscapes) - 1:
            position = advance(number, position, steps)
    return work


def exponential_average(work: FloatArray) -> tuple[float, float, float]:
    """-ln <e^{-W}> without its leading bias, its error, and how many samples carry it, (sum e^{-W})^2 / sum e^{-2W}."""
    count = len(work)
    value = float(np.log(count) - logsumexp(-work))
    weight = np.exp(-work + value)  # of mean 1
    error = float(clusters((weight / count)[:, None])[0])
    return value - 0.5 * error**2, error, float(count**2 / (weight**2).sum())


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
    """Overlap of works of as many chains each way, in units of T: sum of p (1 - p) over all, divided by chains."""
    chances = np.concatenate([expit(difference - forward), expit(-backward - difference)])
    return float((chances * (1.0 - chances)).sum() / len(forward))


def check_overlap(forward: FloatArray, backward: FloatArray, overlap: float, stages: int) -> None:
    """Refuse works that do not meet.

    Raises
    ------
    OverlapError
    """
    bound = min(FEWEST_SHARED / len(forward), MOST_OVERLAP)
    if overlap >= bound:
        return
    dissipated = 0.5 * float(forward.mean() + backward.mean())
    # Dissipation falls as 1/stages, with (1 + r)/(1 - r) before it where a fraction r of a jump is not forgotten until
    # the next; r = 1/2 is allowed for.
    goal = float(np.interp(-min(1.5 * bound, 0.4), -_OVERLAPS, _DISSIPATED))
    needed = max(int(np.ceil(3.0 * stages * dissipated / goal)), stages + 1)
    raise OverlapError(
        f"the works forward and backward hardly overlap: {overlap:.2g}, at least {bound:.2g} is needed with "
        f"{len(forward)} chains; they dissipate {dissipated:.3g} T each way: give about stages={needed}, "
        "or more steps between"
    )
