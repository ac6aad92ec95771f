"""Moments of the displacements of independent pieces of a trajectory, and the diffusion that they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from landscape.errors import ConfigError
from landscape.probes.estimation.series import FloatArray, IntArray
from landscape.statistics import standard_error, student_factor, widen

__all__ = ["FEW_CHAINS", "PIECES", "Displacements", "halves_agree", "pieces"]

FEW_CHAINS = 8  # below which errors come from pieces of the chains
PIECES = 20  # of all chains together, then
MOST_ERROR = 0.3  # of the coefficient: a dozen jumps; with fewer the scatter says little
_BLOCK = 2**20
_NEAR, _FAR, _HALVES = 0.975, 0.9995, 0.9985  # quantiles within which slopes agree


def pieces(values: FloatArray) -> FloatArray:
    """What is taken for independent ``(piece, draw)``: chains, or pieces of few chains that share their ends."""
    chains, draws = values.shape
    count = 1 if chains >= FEW_CHAINS else min(-(-PIECES // chains), max(draws - 1, 1))
    length = (draws - 1) // count
    starts = np.arange(count) * length
    return np.concatenate([values[:, s : s + length + 1] for s in starts]) if count > 1 else values


@dataclass(frozen=True, slots=True, eq=False)
class Displacements:
    """First and second moments of the displacements of independent pieces.

    Attributes
    ----------
    first, second : arrays ``(piece, lag)``
        Averages of dx and dx^2 over the windows of a piece.
    whole : array ``(piece,)``
        Displacement over the whole piece, of `length` steps.
    """

    lags: IntArray
    first: FloatArray
    second: FloatArray
    whole: FloatArray
    length: int
    spacing: float

    @classmethod
    def of(cls, parts: FloatArray, lags: IntArray, spacing: float) -> Displacements:
        """Of pieces ``(piece, draw)``."""
        count, draws = parts.shape
        fitting = lags[lags < draws]
        first, second = (np.full((count, len(lags)), np.nan) for _ in range(2))
        block = max(1, _BLOCK // draws)
        for low in range(0, count, block):
            rows = parts[low : low + block]
            for j, lag in enumerate(fitting):
                moved = rows[:, lag:] - rows[:, :-lag]
                first[low : low + block, j] = moved.mean(axis=1)
                second[low : low + block, j] = np.einsum("ij,ij->i", moved, moved) / moved.shape[1]
        return cls(lags, first, second, parts[:, -1] - parts[:, 0], draws - 1, spacing)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of an error."""
        return float(max(len(self.whole) - 1, 1))

    def _mean(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean over the pieces and its error without Student's factor, NaN where they do not differ at all."""
        error = standard_error(values) / student_factor(self.freedom)
        return values.mean(axis=0), np.where(error > 0, error, np.nan)

    def velocity(self) -> tuple[float, float]:
        """v and its error."""
        mean, error = self._mean(self.whole / (self.length * self.spacing))
        return float(mean), float(error * student_factor(self.freedom))

    @property
    def variances(self) -> FloatArray:
        """Mean squares of dx - v t of each piece, so that their mean is the variance, ``(piece, lag)``."""
        way = self.whole.mean() / self.length * self.lags
        total = self.length * len(self.whole)
        square = self.second - 2.0 * way * self.first + way**2
        with np.errstate(divide="ignore"):
            return np.where(self.lags < total, square / (1.0 - self.lags / total), np.nan)

    def curves(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Mean square and variance of displacements against lag, with errors."""
        factor = student_factor(self.freedom)
        found = {}
        for name, values in (
            ("mean_squared_displacement", self.second),
            ("displacement_variance", self.variances),
        ):
            mean, error = self._mean(values)
            found[name] = mean, widen(mean, error * factor)
        return found

    def slopes(self, windows: Sequence[tuple[int, int]]) -> FloatArray:
        """Half the growth of the variance between pairs of lags over the time between them, ``(piece, window)``."""
        place = {int(lag): j for j, lag in enumerate(self.lags)}
        variances = np.concatenate([self.variances, np.zeros((len(self.whole), 1))], axis=1)
        place[0] = -1
        return np.stack(
            [(variances[:, place[b]] - variances[:, place[a]]) / (2.0 * (b - a) * self.spacing) for a, b in windows],
            axis=1,
        )

    def window(self, fit: Any) -> tuple[int, int] | None:
        """Lags between which the slope is D; None where the slopes do not agree."""
        known = {int(lag) for lag in self.lags if lag <= self.length}
        doublings = [(lag, 2 * lag) for lag in sorted(known) if 2 * lag in known]
        # the longest lags have a window or two in a piece, of which the mean square is far from normal
        usual = [(a, b) for a, b in doublings if 2 * b <= self.length]
        if fit is not None:
            chosen = self._nearest(fit, sorted(known))
            inside = [(a, b) for a, b in doublings if chosen[0] <= a and b <= chosen[1]]
            others = [w for w in {*inside, *usual} if w[0] >= chosen[0] and w != chosen]
            return chosen if others and self._agree(chosen, others) else None
        for lag in sorted(known):
            if 8 * lag not in known:
                break
            chosen = (2 * lag, 4 * lag)
            near = [(lag, 2 * lag), (4 * lag, 8 * lag)]
            far = [w for w in usual if w[0] > 2 * lag]
            if self._agree(chosen, near, _NEAR) and self._agree(chosen, [*near, *far]):
                return chosen
        return None

    def _nearest(self, fit: Any, known: list[int]) -> tuple[int, int]:
        try:
            low, high = (float(time) for time in fit)
        except (TypeError, ValueError):
            raise ConfigError(f"fit must be two lags (start, end) in units of time, got {fit!r}") from None
        if not 0 <= low < high or high > 1.001 * known[-1] * self.spacing:
            raise ConfigError(
                f"fit must be (start, end) with 0 <= start < end, at most {known[-1] * self.spacing:g} for this run, "
                f"got ({low:g}, {high:g})"
            )
        choices = np.array([0, *known])
        a, b = (int(choices[np.abs(choices - time / self.spacing).argmin()]) for time in (low, high))
        if a == b:
            raise ConfigError(
                f"the lags {low:g} and {high:g} are one on the grid of lags "
                f"{', '.join(f'{lag * self.spacing:g}' for lag in choices)}: take them further apart"
            )
        return a, b

    def _agree(self, chosen: tuple[int, int], others: Sequence[tuple[int, int]], quantile: float = _FAR) -> bool:
        if len(self.whole) < 2 or not others:
            return False
        rest = self.slopes(others) - self.slopes([chosen])
        mean, error = self._mean(rest)
        return bool((np.abs(mean) <= stdtrit(self.freedom, quantile) * error).all())

    def coefficient(self, window: tuple[int, int]) -> tuple[float, float]:
        """D and its error."""
        mean, error = self._mean(self.slopes([window])[:, 0])
        return float(mean), float(widen(mean, error * student_factor(self.freedom), 0.5))

    def trusted(self, window: tuple[int, int]) -> bool:
        """Whether the coefficient is known well enough that its error can be believed."""
        return 0 < self.longer(window) <= 1

    def longer(self, window: tuple[int, int]) -> float:
        """How many times as long as they are chains would have to be for that; infinite where it cannot be told."""
        mean, error = self._mean(self.slopes([window])[:, 0])
        return float((error / (MOST_ERROR * mean)) ** 2) if mean > 0 and np.isfinite(error) else np.inf


def halves_agree(values: FloatArray, window: tuple[int, int] | None, spacing: float) -> bool:
    """Whether velocity and slope agree between the halves of the chains."""
    middle = (values.shape[1] - 1) // 2
    halves = [pieces(half) for half in (values[:, : middle + 1], values[:, middle:])]
    lags = np.array([1] if window is None else [lag for lag in window if lag], dtype=np.intp)
    moves = [Displacements.of(half, lags, spacing) for half in halves]
    compared = [[move.whole / move.length for move in moves]]
    if window is not None and all(move.length > window[1] for move in moves):
        compared.append([move.slopes([window])[:, 0] for move in moves])
    for first, second in compared:
        if len(first) < 2:
            return False
        spread = np.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
        if abs(first.mean() - second.mean()) > stdtrit(2.0 * (len(first) - 1), _HALVES) * spread:
            return False
    return True
