"""Replica exchange: chains at several temperatures that swap their configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from landscape import random
from landscape.checks import whole_number
from landscape.common.arguments import guarded
from landscape.common.schedules import Schedule
from landscape.dynamics.simulate import claimed, execute
from landscape.engine.base import Engine, Exchanger, draws_between
from landscape.engine.choice import Backend
from landscape.engine.driver import Advance
from landscape.engine.prepare import check_seam, prepare
from landscape.errors import ConfigError
from landscape.integrators.base import Integrator, described
from landscape.potentials.base import Potential
from landscape.potentials.conservative import needs_energy
from landscape.recording.record import Record
from landscape.recording.series import Series

__all__ = ["replica_exchange"]

DRAWN = 1 << 14  # variates of swaps that are drawn at once
COUNTS = ("walker", "tried", "made", "last_end", "half_trips")


@guarded
def replica_exchange(
    potential: Potential,
    integrator: Integrator,
    temperatures: Sequence[float],
    *,
    steps: int,
    swap_every: int,
    ladders: int = 1,
    start: Any = None,
    record: Record | None = None,
    constraint: Any = None,
    seed: int = 0,
    backend: Backend = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    output: Any = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Dynamics at several temperatures at once, with configurations exchanged between neighbours.

    After each `swap_every` steps the chains at neighbouring temperatures, even and odd pairs in turn, exchange their
    configurations with probability

    min(1, exp[(1/T_i - 1/T_j) (V_i - V_j)])

    so that each chain keeps its temperature and its Boltzmann distribution, and cold chains cross barriers by way of
    hot ones. Momenta go along, rescaled by sqrt(T_new/T_old), as they are at the time of the position: that of `BAOAB`
    with the second half of its kick, the noise to come of `LeimkuhlerMatthews` less its bend by the force. Only so is
    it independent of the position, and the swap leaves the law as it is. All replicas are one batch.

    An exchange takes one energy of each chain, and one gradient where the rule has a momentum or noise to come. With
    formulas on the CPU it is made within the compiled loop, at the price of one or two steps of `EulerMaruyama`;
    elsewhere (batched, networks, numbers of the formula that differ by chain) from outside, at about a millisecond.
    Record positions and energies, or seldom: all else stops the loop at every draw.

    Parameters
    ----------
    potential : Potential
    integrator : Integrator
        A thermal one that samples the Boltzmann distribution, with a noise that lets it (`ThermalNoise`,
        `TwoPointNoise`). Its step, and what else may be one per chain, may be one per rung or one per chain.
    temperatures : sequence of float
        Of the replicas, in units of energy; each positive, in rising or falling order.
    steps, swap_every : int
    ladders : int
        Independent sets of replicas; chains are numbered set by set.
    start, record, constraint, seed, backend, dtype, device, output, checkpoint_every, progress
        As for `simulate`; a start may be one per rung. The noise is keyed by the chain, hence by the temperature, not
        by the configuration.

    Returns
    -------
    xarray.Dataset
        As from `simulate`, with ``walker (chain, draw)``, the number of the configuration that a chain holds;
        ``swap_acceptance (chain)``, the fraction of the exchanges with the next temperature that were made (NaN for the
        last of a ladder); ``round_trips (walker_number)``, how often a configuration went from the first temperature to
        the last and back; ``ladder (chain)``.

    Raises
    ------
    ConfigError, ShapeError

    References
    ----------
    Hukushima, Nemoto, "Exchange Monte Carlo method and application to spin glass simulations", J. Phys. Soc. Jpn. 65,
    1604 (1996), eq. 5. Sugita, Okamoto, "Replica-exchange molecular dynamics method for protein folding", Chem. Phys.
    Lett. 314, 141 (1999) (momenta).

    Examples
    --------
    >>> import landscape as ls
    >>> well = ls.potentials.DoubleWell(height=1.0)
    >>> run = ls.replica_exchange(well, ls.MALA(dt=0.05), [0.05, 0.1, 0.2, 0.4], steps=20_000, swap_every=10,
    ...                           ladders=8, record=ls.Record(every=100), seed=0)
    >>> cold = run.position.where(run.temperature == 0.05, drop=True)[:, 50:, 0]
    >>> 0.4 < float((cold > 0).mean()) < 0.6  # both wells, though a plain chain would stay in the one it starts in
    True
    """
    ladder = _check_ladder(integrator, temperatures)
    needs_energy("replica_exchange", potential)
    whole_number("swap_every", swap_every)
    whole_number("ladders", ladders)
    record = record or Record()
    if isinstance(integrator.step_size, Schedule) or callable(integrator.step_size):
        raise ConfigError("replica_exchange takes a constant step size, or one per rung or chain")
    integrator = _on_every_ladder(integrator, len(ladder), ladders)
    start = start.get("last_position", start) if isinstance(start, xr.Dataset) else start
    start = _tiled(start, len(ladder), ladders, ndim=2)
    plan, initial, spec = prepare(
        potential, integrator, steps=steps, start=start, temperature=np.tile(ladder, ladders), record=record,
        constraint=constraint, seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    if plan.restraints is not None:
        raise ConfigError("replica_exchange compares energies without restraints: add the spring to the formula")
    if plan.walls.absorbs:
        raise ConfigError("replica_exchange has no absorbing walls: a chain that left cannot exchange")
    check_seam(plan, initial.position, "replica_exchange")
    swaps = _Swaps(swap_every, np.tile(ladder, ladders), ladders, record.every)
    spec |= {"task": "replica_exchange", "temperatures": ladder.tolist(), "swap_every": swap_every, "ladders": ladders}
    for name in ("temperature", "chains"):
        spec.pop(name)
    with claimed(output, checkpoint_every) as folder:
        return execute(
            plan, initial, spec, record, steps=steps, backend=backend, progress=progress, interventions=[swaps],
            complete=swaps.complete, folder=folder,
        )  # fmt: skip


def _check_ladder(integrator: Integrator, temperatures: Sequence[float]) -> NDArray[np.float64]:
    try:
        ladder = np.asarray(temperatures, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"temperatures must be a sequence of numbers, got {temperatures!r}") from None
    if ladder.ndim != 1 or len(ladder) < 2:
        raise ConfigError(f"temperatures must be a ladder of two or more, got {temperatures!r}")
    if not np.isfinite(ladder).all() or (ladder <= 0).any():
        raise ConfigError(f"the temperatures of a ladder must be positive and finite, got {ladder.tolist()}")
    steps = np.diff(ladder)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ConfigError(f"the temperatures of a ladder must rise or fall throughout, got {ladder.tolist()}")
    if not isinstance(integrator, Integrator):
        raise ConfigError(f"replica_exchange needs an integrator such as MALA(dt=0.1), got {integrator!r}")
    if not integrator.obeys_boltzmann:
        raise ConfigError(
            f"replica_exchange needs dynamics that samples the Boltzmann law, which {described(integrator)} does not: "
            "use MALA, say, with ThermalNoise"
        )
    if integrator.thermal_noise.antithetic:
        raise ConfigError("replica_exchange needs independent chains, and those of a pair ride opposite noise")
    return ladder


def _tiled(value: Any, rungs: int, ladders: int, *, ndim: int = 1) -> Any:
    """One row per rung repeated for every ladder; anything else as it is."""
    given = value.detach().cpu() if isinstance(value, torch.Tensor) else value
    if ladders == 1 or isinstance(given, xr.Dataset | str) or np.ndim(given) != ndim or len(given) != rungs:
        return value
    return np.tile(np.asarray(given), (ladders,) + (1,) * (ndim - 1))


def _on_every_ladder(integrator: Integrator, rungs: int, ladders: int) -> Integrator:
    """The rule with its settings of each rung given to the chains of all ladders."""
    names = [one.name for one in fields(integrator) if one.name in ("dt", "lr", *integrator.per_chain)]  # type: ignore[arg-type]
    changed = {name: _tiled(getattr(integrator, name), rungs, ladders) for name in names}
    return replace(integrator, **changed) if changed else integrator  # type: ignore[type-var]


class _Swaps:
    """The exchanges of a run, and what became of them."""

    series: Series | None = None

    def __init__(self, every: int, temperature: NDArray[np.float64], ladders: int, draws_every: int) -> None:
        chains, rungs = len(temperature), len(temperature) // ladders
        self.every, self.rungs, self.ladders, self.draws_every = every, rungs, ladders, draws_every
        self.gaps = np.append(1 / temperature[:-1] - 1 / temperature[1:], 0.0)
        self.walker = np.arange(chains)
        self.tried, self.made = np.zeros(chains, np.int64), np.zeros(chains, np.int64)
        self.last_end = np.where(np.arange(chains) % rungs == 0, 0, -1)  # which end each walker has seen last
        self.half_trips = np.zeros(chains, np.int64)
        self.number = 0
        self._drawn: NDArray[np.float64] | None = None
        self._drawn_from = 0
        self._kept: NDArray[np.int64] | None = None
        rung = np.arange(chains) % rungs
        self.first = np.stack([(rung < rungs - 1) & (rung % 2 == odd) for odd in (0, 1)])
        self._ends = [(0, np.flatnonzero(rung == 0)), (1, np.flatnonzero(rung == rungs - 1))]

    def within(self, engine: Engine) -> Advance | None:
        """Steps and exchanges in one loop, where the engine has one."""
        return None if engine.exchanger is None else partial(self._advance, engine.exchanger)

    def _advance(
        self, exchanger: Exchanger, steps: int, since: int, *, position_every: int, energy_every: int
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        self._kept = np.empty((len(self.walker), draws_between(since, steps, self.draws_every)), np.int64)
        return exchanger.advance(
            self, self._kept, steps, since, position_every=position_every, energy_every=energy_every,
            walker_every=self.draws_every,
        )  # fmt: skip

    def apply(self, engine: Engine) -> None:
        """Try to exchange every second pair of neighbours."""
        if engine.exchanger is not None:
            engine.exchanger.exchange(self)
            return
        low = np.flatnonzero(self.first[self.number % 2])
        energy = engine.energies()
        log_ratio = self.gaps[low] * (energy[low] - energy[low + 1])
        swapped = low[self._log_draws(engine)[low] < log_ratio]
        self.tried[low] += 1
        self.number += 1
        if len(swapped):
            self.made[swapped] += 1
            order = np.arange(len(self.walker))
            order[swapped], order[swapped + 1] = swapped + 1, swapped
            self._exchange(engine, torch.from_numpy(order).to(engine.plan.device))
            self.walker = self.walker[order]
        self._count_trips()

    def _log_draws(self, engine: Engine) -> NDArray[np.float64]:
        """Logarithms of the uniform variates of all chains at this step, of which some rounds are drawn at once."""
        step, every, chains = engine.state.step, self.every, len(self.walker)
        number, rest = divmod(step - self._drawn_from, every)
        if self._drawn is None or rest or not 0 <= number < len(self._drawn):
            rounds = max(1, DRAWN // chains)
            at = torch.arange(step, step + rounds * every, every).repeat_interleave(chains)
            draws = random.uniforms(engine.plan.seed, torch.arange(chains).repeat(rounds), at, stream=random.SWAP)
            self._drawn, self._drawn_from, number = np.log(draws.numpy()).reshape(rounds, chains), step, 0
        row: NDArray[np.float64] = self._drawn[number]
        return row

    def _exchange(self, engine: Engine, source: Tensor) -> None:
        """Give each chain the configuration of `source`, with what the rule remembers of it."""
        plan, state = engine.plan, engine.state
        names = {*plan.integrator.memory_names, "winding"} & set(state.memory)
        if not names:
            state.position.copy_(state.position[source])
            return
        moved = source != torch.arange(len(source), device=source.device)
        half_kicks, scales = (
            plan.columns(facts, state) for facts in (plan.integrator.half_kick, plan.integrator.exchanged)
        )
        slope = engine.gradient() if half_kicks else state.position
        # the rest counts for the chain, not for the configuration
        for name in names:
            former = value = state.memory[name]
            if name in half_kicks:
                value = value - half_kicks[name] * slope
            value = value[source]
            if name in scales:
                value = value * (scales[name] / scales[name][source])
            if name in half_kicks:
                value = value + half_kicks[name] * slope[source]
            former.copy_(torch.where(moved[:, None], value, former))
        state.position.copy_(state.position[source])

    def observables(self) -> dict[str, NDArray[Any]]:
        """The configuration that each chain holds, or held at the draws of the last piece."""
        return {"walker": self.walker if self._kept is None else self._kept}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is to remember."""
        return {name: getattr(self, name).copy() for name in COUNTS} | {"round": np.array([self.number])}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` returned."""
        self.number = int(arrays["round"][0])
        for name in COUNTS:
            setattr(self, name, np.array(arrays[name]))

    def _count_trips(self) -> None:
        for end, at in self._ends:
            walkers = self.walker[at]
            crossed = self.last_end[walkers] == 1 - end
            self.half_trips[walkers[crossed]] += 1
            self.last_end[walkers] = end

    def complete(self, run: xr.Dataset) -> xr.Dataset:
        """The run with the statistics of its exchanges."""
        ladder = np.repeat(np.arange(self.ladders), self.rungs)
        if "walker" not in run:  # no draw yet
            run = run.assign(walker=(("chain", "draw"), np.empty((len(ladder), 0), np.int64)))
        run["walker"].attrs.update(long_name="configuration that the chain holds", units="1")
        with np.errstate(invalid="ignore"):
            acceptance = self.made / np.where(self.tried > 0, self.tried, np.nan)
        about = {"long_name": "fraction of exchanges with the next temperature that were made", "units": "1"}
        trips = "times a configuration went from end to end of the ladder and back"
        return run.assign(
            swap_acceptance=("chain", acceptance, about),
            round_trips=("walker_number", self.half_trips // 2, {"long_name": trips, "units": "1"}),
        ).assign_coords(ladder=("chain", ladder, {"long_name": "ladder", "units": "1"}))
