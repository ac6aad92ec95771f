"""Samples of several states pooled by MBAR: free energies, averages at any other state, and their errors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from landscape.errors import ConfigError, ConvergenceError, OverlapError
from landscape.potentials.network.module_trials import undisturbed
from landscape.probes.estimation.series import BoolArray, FloatArray, IntArray
from landscape.probes.free_energy.averages import FEWEST_CHAINS, FEWEST_TIMES, Resolution, by_correlations, resolution
from landscape.statistics import student_factor

__all__ = [
    "FEWEST_DRAWS",
    "FEWEST_EFFECTIVE",
    "HEAVIEST_TAIL",
    "LEAST_OVERLAP",
    "Block",
    "Multistate",
    "pymbar_solver",
    "tail",
]

LEAST_OVERLAP = 0.03  # of two states by themselves, 1/2 where they are the same: below it MBAR's errors do not hold
FEWEST_SHARED = 10.0  # independent samples that could be of either of two states, below which the same is true
FEWEST_EFFECTIVE = 50.0  # independent samples that carry an average at a state that was not simulated
HEAVIEST_TAIL = 0.5  # Pareto's k of the weights of such an average, above which its error has no variance to rest on
STRETCHES, FEWEST_DRAWS = 1024, 20  # of each chain, where correlations tell the errors of few
RESIDUAL = 1e-6  # of MBAR's equations, in parts of the samples of a state
GOOD = 3.0  # T that works between neighbors may dissipate each way: an overlap of 0.16


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Chains of equal length ``(chain, draw)``: the state of each, and the unit of chains that it belongs to.

    Units are independent of each other: chains by themselves, or the ladders of replica exchange.
    """

    state: IntArray
    unit: IntArray
    draws: int

    def strata(self) -> list[IntArray]:
        """Units that hold the same states, as rows of the chains of each."""
        order = np.lexsort((self.state, self.unit))
        rows = np.split(order, np.flatnonzero(np.diff(self.unit[order])) + 1)
        kinds: dict[tuple[int, ...], list[IntArray]] = {}
        for row in rows:
            kinds.setdefault(tuple(self.state[row].tolist()), []).append(row)
        return [np.stack(found) for found in kinds.values()]


@dataclass(frozen=True, slots=True, eq=False)
class _Stratum:
    """Cells ``(unit, stretch)`` numbered from `first` on, and whether correlations along units are believed."""

    first: int
    units: int
    stretches: int
    states: tuple[int, ...]


class Multistate:
    """MBAR on reduced energies ``(state, sample)``, samples block by block, chain by chain.

    `weights` are those of all samples in the law of reduced energy 0, of sum 1; `chance (state, sample)` is the
    probability that a sample is one of each state.
    """

    def __init__(self, energies: FloatArray, blocks: Sequence[Block], labels: Sequence[str], solver: Any) -> None:
        self.energies, self.blocks, self.labels = energies, list(blocks), list(labels)
        self.own = np.concatenate([np.repeat(block.state, block.draws) for block in blocks])
        self.counts = np.bincount(self.own, minlength=len(energies))
        self._solve(solver)
        self._count_cells()

    def _solve(self, solver: Any) -> None:
        self.f = np.zeros(len(self.counts))
        if len(self.counts) > 1:
            with warnings.catch_warnings(), _quiet(), undisturbed():
                warnings.simplefilter("ignore")
                solved = solver(self.energies, self.counts, solver_protocol="robust")
            self.f = np.asarray(solved.f_k, dtype=np.float64)
            self.f -= self.f[0]
        logs = self.f[:, None] - self.energies + np.log(self.counts)[:, None]
        self.log_weights = -logsumexp(logs, axis=0)
        self.chance = np.exp(logs + self.log_weights)  # columns sum to 1
        off = float((np.abs(self.chance.sum(axis=1) - self.counts) / self.counts).max())
        if not off < RESIDUAL:
            raise ConvergenceError(
                f"MBAR's equations are solved to {off:.2g} only: states hardly overlap, or one energy is far beyond "
                "all others",
                estimate=self.f,
            )

    # -- overlap ----------------------------------------------------------------------------------------------------

    @property
    def overlap(self) -> FloatArray:
        """Chance that a sample of the first state is one of the second, ``(state, state)``; rows sum to 1."""
        return np.asarray(self.chance @ self.chance.T / self.counts[:, None])

    def pairs(self) -> FloatArray:
        """Overlap of each two states by themselves, 1/2 where they are the same law."""
        found = np.full((len(self.f),) * 2, 0.5)
        for i in range(len(self.f) - 1):
            first, others = self.chance[i], self.chance[i + 1 :]
            both = first + others
            shared = np.divide(first * others, both, out=np.zeros_like(both), where=both > 0.0).sum(axis=1)
            sizes = 0.5 / self.counts[i] + 0.5 / self.counts[i + 1 :]
            found[i, i + 1 :] = found[i + 1 :, i] = shared * sizes
        return found

    def check(self, pairs: FloatArray, remedy: str) -> None:
        """Refuse states that do not see each other, not even by way of others.

        Raises
        ------
        OverlapError
        """
        parts, label = connected_components(pairs >= LEAST_OVERLAP, directed=False)
        if parts == 1:
            return
        mean = np.stack([self.energies[:, self.own == k].mean(axis=1) for k in range(len(self.f))], axis=1)
        gain = mean - np.diag(mean)
        apart = gain + gain.T  # mean works there and back, whatever the free energies
        joined, texts = {int(label[0])}, []
        while len(joined) < parts:
            inside = np.isin(label, list(joined))
            i, j = divmod(int(np.where(inside[:, None] & ~inside, apart, np.inf).argmin()), len(label))
            joined.add(int(label[j]))
            i, j = sorted((i, j))
            more = max(int(np.ceil(np.sqrt(max(float(apart[i, j]), 0.0) / (2.0 * GOOD)))) - 1, 1)
            texts.append(f"{self.labels[i]} and {self.labels[j]} ({pairs[i, j]:.2g}; about {more} more in between)")
        raise OverlapError(
            f"states do not overlap between {', '.join(texts)}; at least {LEAST_OVERLAP} is needed: {remedy}"
        )

    def enough(self, pairs: FloatArray, inefficiency: FloatArray) -> BoolArray:
        """Whether each state is tied to the first by enough independent samples that could be of two states."""
        sizes = 2.0 / (inefficiency / self.counts)
        harmonic = 1.0 / (1.0 / sizes[:, None] + 1.0 / sizes)
        _, label = connected_components(pairs * harmonic >= FEWEST_SHARED, directed=False)
        return np.asarray(label == label[0])

    # -- correlations -----------------------------------------------------------------------------------------------

    def resolution(self, series: Sequence[FloatArray]) -> Resolution:
        """Of each state, as the worst of the series ``(sample,)`` has it; a series that is constant says nothing."""
        states = len(self.f)
        resolved, agree, times = np.ones(states, dtype=bool), np.ones(states, dtype=bool), np.full(states, np.inf)
        moving = [one for one in series if np.ptp(one) > 0.0]
        if not moving:
            return Resolution(~resolved, np.zeros(states), agree)
        for values in moving:
            total = np.zeros(states)
            for block, part in zip(self.blocks, self._parts(values), strict=True):
                here, owner = np.unique(block.state, return_inverse=True)
                found = resolution(part, owner)
                total[here] += found.times
                resolved[here] &= found.resolved
                agree[here] &= found.agree
            times = np.minimum(times, total)
        return Resolution(resolved, times, agree)

    def inefficiency(self, times: FloatArray) -> FloatArray:
        """Samples of each state that are worth an independent one."""
        return np.maximum(2.0 * self.counts / np.maximum(times, 1e-300), 1.0)

    def _parts(self, values: FloatArray) -> list[FloatArray]:
        ends = np.cumsum([len(block.state) * block.draws for block in self.blocks])[:-1]
        return [
            part.reshape(len(block.state), -1)
            for part, block in zip(np.split(values, ends), self.blocks, strict=True)
        ]  # fmt: skip

    # -- errors -----------------------------------------------------------------------------------------------------

    def _count_cells(self) -> None:
        """Number the cells whose sums are what errors are made of: units, or stretches of them where they are few."""
        self._strata: list[_Stratum] = []
        cells, first = [], 0
        for block in self.blocks:
            cell = np.zeros((len(block.state), block.draws), dtype=np.intp)
            for rows in block.strata():
                units = len(rows)
                count = 1 if units >= FEWEST_CHAINS else min(block.draws, STRETCHES)
                length = block.draws // count
                count = block.draws // length
                along = np.maximum(np.arange(block.draws) - (block.draws - count * length), 0) // length
                cell[rows] = first + np.arange(units)[:, None, None] * count + along
                states = tuple(np.unique(block.state[rows]).tolist())
                self._strata.append(_Stratum(first, units, count, states))
                first += units * count
            cells.append(cell.ravel())
        self._cell, self.cells = np.concatenate(cells), first
        # f solves sum_n chance = counts, of which one equation is that of the others.
        information = np.diag(self.chance.sum(axis=1)) - self.chance @ self.chance.T
        response = np.linalg.pinv(information, rcond=1e-12)
        self._shift = -response @ np.stack([self._summed(row) for row in self.chance])  # what each cell does to f

    def _summed(self, values: FloatArray, which: IntArray | None = None) -> FloatArray:
        cell = self._cell if which is None else self._cell[which]
        return np.asarray(np.bincount(cell, weights=values, minlength=self.cells), dtype=float)

    def shifts(self) -> FloatArray:
        """What each cell does to the free energies from the first on, ``(state, cell)``."""
        return np.asarray(self._shift - self._shift[:1])

    def shifts_of_first(self) -> FloatArray:
        """What each cell does to the free energy of the first state, which others are taken from."""
        return np.asarray(self._shift[0])

    def response(self, slope: FloatArray, which: IntArray | None = None) -> FloatArray:
        """What each cell ``(cell,)`` does to a sum over samples (or those in `which`), its slope in ln of weights."""
        chance = self.chance if which is None else self.chance[:, which]
        return np.asarray(self._summed(slope, which) - (chance @ slope) @ self._shift)

    def stderr(self, responses: FloatArray, found: Resolution) -> FloatArray:
        """Standard errors of quantities ``(quantity, cell)`` from the scatter of units, or correlations along few.

        NaN for all if any state is shorter than 50 correlation times. Degrees of freedom are those of Welch and
        Satterthwaite.
        """
        total, square = np.zeros(len(responses)), np.zeros(len(responses))
        if (found.times < FEWEST_TIMES).any():
            return np.full(len(responses), np.nan)
        for part in self._strata:
            held = responses[:, part.first : part.first + part.units * part.stretches]
            if part.units >= FEWEST_CHAINS:
                variance = held.var(axis=1, ddof=1) * part.units
                square += variance**2 / (part.units - 1.0)
            elif part.stretches < FEWEST_DRAWS:
                variance = np.full(len(responses), np.nan)
            else:
                values = held.reshape(len(held), part.units, part.stretches).transpose(1, 2, 0)
                believed = bool(found.agree[list(part.states)].all())
                variance = (by_correlations(values, believed) * part.units * part.stretches) ** 2
            total = total + variance
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = np.where(square > 0.0, total**2 / square, np.inf)
        return np.asarray(np.sqrt(total) * student_factor(degrees))

    # -- other states -----------------------------------------------------------------------------------------------

    def at(self, energy: FloatArray | float) -> tuple[FloatArray, float]:
        """Weights of sum 1 of the samples in the law of a reduced energy, and its reduced free energy."""
        logs = self.log_weights - energy
        total = float(logsumexp(logs))
        return np.exp(logs - total), -total

    def effective(self, weights: FloatArray, inefficiency: FloatArray, which: IntArray | None = None) -> float:
        """Independent samples that carry an average with these weights."""
        own = self.own if which is None else self.own[which]
        square = float((inefficiency[own] * weights**2).sum())
        return float(weights.sum()) ** 2 / square if square > 0.0 else 0.0


def tail(weights: FloatArray, inefficiency: float) -> float:
    """Pareto's k of the largest of positive weights: above 1/2 their variance, which errors rest on, is infinite [1].

    0 where the largest are all the same.

    References
    ----------
    .. [1] A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry, "Pareto smoothed importance sampling", J. Mach. Learn.
       Res. 25, 72 (2024).
    """
    from arviz_stats.base import array_stats

    try:
        found = array_stats.pareto_khat(weights, chain_axis=None, draw_axis=-1, r_eff=1.0 / inefficiency, tail="right")
    except ValueError as error:
        return 0.0 if "same" in str(error) else float("nan")  # of what it cannot say nothing is vouched for
    return float(found)


def pymbar_solver() -> Any:
    """pymbar's MBAR.

    Raises
    ------
    ConfigError
        Without the package.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _quiet():
                from pymbar import MBAR  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError('MBAR needs pymbar: pip install "landscape-langevin[free-energy]"') from error
    return MBAR


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pymbar's banners about modules that are not used here."""
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
