"""What observers sum up on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import landscape as ls
from tests.benchmarks.coverage.rows import FloatArray, hits, of_dataset, row
from tests.probes.processes import ar1

Rng = np.random.Generator
LONG = (100, 1000, 10_000)
Series = Callable[[Rng, tuple[int, int]], FloatArray]


def _moments(draw: Series, mean: float, variance: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        found = ls.Moments("x").apply(draw(rng, (repeats, size)))
        return of_dataset(found, {"x_mean": mean, "x_variance": variance})

    return case


row("observers.Moments", "normal, n independent")(_moments(lambda rng, shape: rng.normal(size=shape), 0.0, 1.0))
row("observers.Moments", "normal, correlated over 5 draws, n draws")(
    _moments(lambda rng, shape: ar1(rng, shape, np.exp(-1 / 5)), 0.0, 1.0)
)
row("observers.Moments", "alternating, n draws")(_moments(lambda rng, shape: ar1(rng, shape, -0.8), 0.0, 1.0))
row("observers.Moments", "exponential, n independent")(
    _moments(lambda rng, shape: rng.exponential(size=shape), 1.0, 1.0)
)
row("observers.Moments", "lognormal, correlated over 5 draws, n draws", LONG)(
    _moments(
        lambda rng, shape: np.exp(0.8 * ar1(rng, shape, np.exp(-1 / 5))), np.exp(0.32), np.exp(0.64) * np.expm1(0.64)
    )
)


@row("observers.Moments", "two columns that share a half, n independent")
def _covariance(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    x, other = rng.normal(size=(2, repeats, size))
    found = ls.Moments(["x", "y"], covariance=True).apply(np.stack([x, 0.6 * x + 0.8 * other], axis=-1))
    return {"x_y_covariance": hits(found.x_y_covariance, found.x_y_covariance_stderr, [[1.0, 0.6], [0.6, 1.0]])}


def _correlated(
    draw: Series, exact: Callable[[FloatArray], FloatArray]
) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        found = ls.Autocorrelation("x", points=8, levels=1).apply(draw(rng, (repeats, size)))
        known = exact(found.x_lag.to_numpy())
        wanted = {"x_autocorrelation": known, "x_autocovariance": known, "x_raw_variance": np.ones(1)}
        out = {}
        for name, truth in wanted.items():
            value, error = (found[f"{name}{end}"].to_numpy() for end in ("", "_stderr"))
            value, error = (one.reshape(repeats, -1) for one in (value, error))
            first = int(name == "x_autocorrelation")  # 1 at lag 0, without error
            out[name] = hits(value[:, first:], error[:, first:], np.broadcast_to(truth, value.shape)[:, first:])
        return out

    return case


row("observers.Autocorrelation", "an exponential of 5 draws, n draws", LONG)(
    _correlated(lambda rng, shape: ar1(rng, shape, np.exp(-1 / 5)), lambda lag: np.exp(-lag / 5))
)
row("observers.Autocorrelation", "two states of unlike weight, n draws", LONG)(
    _correlated(lambda rng, shape: (_states(rng, shape) - 0.2) / 0.4, lambda lag: 0.75**lag)
)


def _states(rng: Rng, shape: tuple[int, int]) -> FloatArray:
    """States 0 and 1, the second with probability 1/5, left with 0.05 and 0.2 a draw."""
    now, out = rng.random(shape[0]) < 0.2, np.empty(shape)
    for k, u in enumerate(rng.random(shape[::-1])):
        now = np.where(now, u >= 0.2, u < 0.05)
        out[:, k] = now
    return out


def _visits(draw: Callable[[Rng, int], FloatArray]) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        inside = []
        for _ in range(repeats):
            lengths = draw(rng, size).astype(int)
            series = np.ones(1 + size + lengths.sum())
            series[1 + np.arange(series.size - 1)] = 0.0
            series[np.concatenate([[0], np.cumsum(lengths + 1)])] = 1.0
            found = ls.Residence("x", edges=[0.5]).apply([series], spacing=1.0)
            inside.append(hits(found.x_residence_time[0, 0], found.x_residence_time_stderr[0, 0], 20.0))
        return {"x_residence_time": np.array(inside)}

    return case


row("observers.Residence", "n visits, geometric", (8, 30, 100, 1000))(_visits(lambda rng, n: rng.geometric(1 / 20, n)))
row("observers.Residence", "n visits, one in ten is long", (8, 30, 100, 1000))(
    _visits(lambda rng, n: np.where(rng.random(n) < 0.1, rng.geometric(1 / 155, n), rng.geometric(1 / 5, n)))
)
