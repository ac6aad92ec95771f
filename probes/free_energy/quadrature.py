"""Integrals of averages that are known at some points together with their derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from landscape.probes.estimation.series import FloatArray
from landscape.statistics import student_factor

__all__ = ["Integral", "bends", "integrate"]

# Of the estimates of what a rule misses, each taken so many times: on grids of 2 to 20 random points through steps,
# wells, exponentials and power laws the sum then exceeds half of what was missed in all cases.
_HIGHER, _LOWER, _HIDDEN = 1.5, 0.1, 0.5
_SURE = 3.0  # standard errors from which what one interval misses is believed


@dataclass(frozen=True, slots=True)
class Integral:
    """Integrals from the first point to each, their errors, and the part of these that the spacing is to blame for."""

    value: FloatArray
    stderr: FloatArray
    spacing: FloatArray


def bends(slope: FloatArray, second: FloatArray | float, temperature: FloatArray | float) -> FloatArray:
    r"""Derivative of an average from its own samples, chain by chain, ``(window, chain)``.

    .. math:: \frac{d}{d\lambda} \langle V' \rangle = \langle V'' \rangle - \frac{1}{T} \mathrm{var}\, V' ,

    where the variance of the mean over all chains is put back.

    Parameters
    ----------
    slope : array ``(window, chain, draw)``
        V' = dV/d(lambda).
    second : array of that shape, or a number
        V''.
    temperature : float, or array ``(window,)``
    """
    of_chain = slope.mean(axis=2)
    own = of_chain.var(axis=1, ddof=1) / of_chain.shape[1] if of_chain.shape[1] > 1 else 0.0
    variance = ((slope - of_chain.mean(axis=1)[:, None, None]) ** 2).mean(axis=2) + np.reshape(own, (-1, 1))
    mean = second.mean(axis=2) if isinstance(second, np.ndarray) else second
    return np.asarray(mean - variance / np.reshape(temperature, (-1, 1)))


def integrate(at: FloatArray, slope: FloatArray, bend: FloatArray, known: FloatArray | None = None) -> Integral:
    r"""Integral of a slope f whose derivative f' is known as well: on each interval of length h

    .. math:: \frac{h}{2} (f_0 + f_1) + \frac{h^2}{12} (f'_0 - f'_1)

    (that of the cubic with these values and derivatives), in the points themselves or, where all have one sign, in
    their logarithm, whichever misses less.

    What it misses is judged by quintics that share values and derivatives with a neighbor as well, by the size of the
    second term where the series does not converge, and by f_1 - f_0 - h (f'_0 + f'_1)/2, which shows what happens
    between two points; what noise explains is subtracted. It is part of the standard error.

    Parameters
    ----------
    at : array ``(window,)``
        Ascending or descending.
    slope, bend : array ``(window, chain)``
        Averages of f and f' (or influences with these as their means) over each chain.
    known : array ``(window,)``, optional
        1 where the scatter between chains is an error, NaN where not.
    """
    candidates = [_Rule(at, slope, bend)]
    if (at > 0).all() or (at < 0).all():
        logs = np.log(np.abs(at))
        candidates.append(_Rule(logs, at[:, None] * slope, at[:, None] * slope + at[:, None] ** 2 * bend))
    best = min(candidates, key=lambda rule: float(rule.missed.sum()))
    stderr, spacing = best.errors()
    if known is not None:
        stderr = stderr * np.cumprod(known)
    return Integral(best.value, np.hypot(stderr, spacing), spacing)


@dataclass(frozen=True, slots=True)
class _Weights:
    """Weights ``(interval, 2 window)`` of values, then of derivatives, in what is made of them on each interval.

    Attributes
    ----------
    interval : integral of the cubic
    second : its second term
    between : h/2 times what the difference of the values has beyond the mean of the derivatives
    higher : what the integrals of the two quintics have beyond that of the cubic; none for two points
    """

    interval: FloatArray
    second: FloatArray
    between: FloatArray
    higher: tuple[FloatArray, ...]


@lru_cache(maxsize=4)
def _weights(points: tuple[float, ...]) -> _Weights:
    at, count = np.array(points), len(points)
    step = np.diff(at)[:, None]
    left, right = np.eye(count)[:-1], np.eye(count)[1:]
    second = np.hstack([np.zeros_like(left), step**2 / 12.0 * (left - right)])
    interval = np.hstack([0.5 * step * (left + right), np.zeros_like(left)]) + second
    between = np.hstack([0.5 * step * (right - left), -(step**2) / 4.0 * (left + right)])
    starts = (-1, 0) if count > 2 else ()
    higher = tuple(np.array([_quintic(at, i, i + first) for i in range(count - 1)]) - interval for first in starts)
    return _Weights(interval, second, between, higher)


def _quintic(at: FloatArray, interval: int, begin: int) -> FloatArray:
    """Weights of the integral over an interval of the quintic through three points around it."""
    nodes = np.arange(3) + int(np.clip(begin, 0, len(at) - 3))
    middle, scale = at[nodes].mean(), float(np.ptp(at[nodes]))
    u, p = (at[nodes, None] - middle) / scale, np.arange(6)
    powers = np.vstack([u**p, p * u ** np.maximum(p - 1, 0)])
    low, high = (at[interval] - middle) / scale, (at[interval + 1] - middle) / scale
    found = np.linalg.solve(powers.T, (high ** (p + 1) - low ** (p + 1)) / (p + 1))
    weights = np.zeros(2 * len(at))
    weights[nodes], weights[len(at) + nodes] = scale * found[:3], scale**2 * found[3:]
    return weights


class _Rule:
    """The integrals that given averages have, and what they miss."""

    def __init__(self, at: FloatArray, slope: FloatArray, bend: FloatArray) -> None:
        self.data, self.weights = np.concatenate([slope, bend]), _weights(tuple(at.tolist()))
        self.value = np.append(0.0, np.cumsum(self.weights.interval @ self.data.mean(axis=1)))
        self.missed = self._missed(0.0)

    def _beyond(self, weights: FloatArray, sure: float) -> FloatArray:
        """|weights . data| without what noise of so many standard errors explains."""
        found, noise = weights @ self.data.mean(axis=1), self._noise(weights)
        return np.asarray(np.sqrt(np.maximum(found**2 - (sure * noise) ** 2, 0.0)))

    def _noise(self, weights: FloatArray) -> FloatArray:
        """Standard errors of sums, from the scatter between chains of each point."""
        count, chains = len(self.data) // 2, self.data.shape[1]
        scatter = self.data - self.data.mean(axis=1, keepdims=True)
        f, g = scatter[:count], scatter[count:]
        first, second = weights[:, :count], weights[:, count:]
        variance = first**2 @ (f**2).sum(1) + 2 * first * second @ (f * g).sum(1) + second**2 @ (g**2).sum(1)
        variance = np.maximum(variance, 0.0) / (chains * max(chains - 1.0, 1.0))
        return np.asarray(np.sqrt(variance) * student_factor(chains - 1.0))

    def _missed(self, sure: float) -> FloatArray:
        """What the rule may miss on each interval."""
        second, between = self._beyond(self.weights.second, sure), self._beyond(self.weights.between, sure)
        if not self.weights.higher:
            return np.maximum(second, between)
        higher = np.maximum(*(self._beyond(part, sure) for part in self.weights.higher))
        hidden = np.maximum(between - second, 0.0)
        return np.asarray(_HIGHER * higher + _LOWER * np.minimum(second, between) + _HIDDEN * hidden)

    def errors(self) -> tuple[FloatArray, FloatArray]:
        """Standard errors of sampling, and what the spacing may cost."""
        sampling = self._noise(np.cumsum(self.weights.interval, axis=0))
        spacing = np.cumsum(self._missed(_SURE))
        if self.weights.higher:  # small parts that no single interval betrays add up
            whole = np.cumsum(0.5 * sum(self.weights.higher), axis=0)
            spacing = np.maximum(spacing, _HIGHER * self._beyond(whole, 1.0))
        return np.append(0.0, sampling), np.append(0.0, spacing)
