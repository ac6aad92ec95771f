"""Free energy differences from work: a parameter driven from one value to another, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from landscape.checks import finite_number, whole_number
from landscape.common.positions import one_position, plain_array
from landscape.dynamics.simulate import simulate
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.probes.estimation.series import FloatArray
from landscape.probes.free_energy.integration import one_or_two, varied
from landscape.probes.free_energy.sampling import Tuned, tuned
from landscape.probes.free_energy.work_averages import exponential_average, two_sided
from landscape.probes.registry import LANDSCAPE, probe
from landscape.recording.record import Record

__all__ = ["exponential_average", "nonequilibrium_work"]


@probe("free_energy.nonequilibrium_work", LANDSCAPE)
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
    position : array ``(dim,)``, optional
        Where equilibration starts; the potential's default.

    Returns
    -------
    xarray.Dataset
        ``free_energy`` (Bennett's), ``jarzynski`` (forward) and ``jarzynski_reverse``, each an estimate of F(end) -
        F(start) with its standard error; ``work (direction, chain)``, of the driving; ``dissipation (direction)``, mean
        work beyond the difference; ``effective_chains (direction)``, which carry the exponential averages (Jarzynski's
        are NaN in their error below 10), by their weights, their width and the works of the other direction;
        ``overlap`` of the works forward and backward, 1/2 where they are the same and 0 where no chain could have come
        from the other side; ``drive_steps`` and ``drive_time (direction)``, what the driving took. `work_average` says
        how errors are made.

    Raises
    ------
    ConfigError, ShapeError
    OverlapError
        If overlap times chains is below 10 (or the overlap below 0.3, for fewer than 33 chains): no estimate has an
        error then that covers. The message says how many stages are needed.

    Notes
    -----
    Steps are those of MALA, which keeps each stage's Boltzmann distribution exactly; Jarzynski's and Crooks' relations
    then hold exactly in discrete time, and the step size leaves no error. Chains are independent: errors come from
    their scatter. With p the chance in Bennett's equation that a work is one of the forward runs, the overlap is the
    sum of p (1 - p) over all works, divided by the chains of one direction. Jarzynski's estimate is low-biased in
    e^{-W/T} where few chains carry it; its leading bias is removed. Costs ``2 chains (equilibration + stages steps)``
    gradients.

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
    needs_energy("nonequilibrium_work", *one_or_two(potential))
    t = finite_number("temperature", temperature, above=0)
    for name, value in (("stages", stages), ("steps", steps), ("equilibration", equilibration)):
        whole_number(name, value)
    whole_number("chains", chains, least=8)
    values = np.linspace(float(start), float(end), stages + 1)
    landscapes = [varied(potential, parameter, float(value)) for value in values]
    first = landscapes[0]
    origin = plain_array(first.default_start())
    if position is not None:
        origin = one_position(position, first.coordinates, first.dim)
    begin = np.tile(origin, (chains, 1))
    forward, there = _driven(landscapes, begin, t, steps, equilibration, dt, 2 * seed)
    backward, back = _driven(landscapes[::-1], begin, t, steps, equilibration, dt, 2 * seed + 1)
    times = [there, back]
    found = two_sided(forward, backward, t, stages)
    about = {"long_name": "steps of the driving, which is over in as many", "units": "1"}
    found["drive_steps"] = ((), steps * (stages - 1), about)
    about = {"long_name": "time that the driving took: sum of its step sizes", "units": "time"}
    found["drive_time"] = ("direction", np.array(times), about)
    return found.assign_attrs(method="driven work", stages=stages, steps=steps, start=start, end=end, seed=seed)


def _driven(
    landscapes: list[Potential], begin: FloatArray, temperature: float, steps: int, equilibration: int, dt: float,
    seed: int,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Work of each chain, driven through the landscapes from equilibrium in the first, and the time that took."""
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
    return work, steps * float(sizes[1:-1].sum())
