"""Coverage by number of values, as in docs/errors.md: `python tests/benchmarks/coverage_of_errors.py` prints it.

Each line is an estimator, a law, and for n = 8 to 10^4 the share of 95 % intervals that hold the truth, of those
repeats that have an error (and the share that have one, where that is not all). It takes some minutes and is no test:
the bounds of the tests are in tests/probes/test_few_samples.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from landscape.observers import Residence
from landscape.observers.few import error_of_mean
from landscape.probes._passage import _mean
from landscape.probes._relaxation import _passage
from landscape.probes._tail_index import tail_index
from landscape.probes.curvature.linear import as_linear
from landscape.probes.curvature.trace_estimators import hutch_plus_plus, hutchinson
from landscape.probes.fluctuations import summary
from landscape.probes.free_energy.learning import _sensitivities

SIZES, REPEATS, SEED = (8, 30, 100, 1000, 10_000), 200, 1
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

LAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: 3 + rng.normal(size=shape), 3.0),
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "lognormal": (lambda rng, shape: rng.lognormal(size=shape), float(np.exp(0.5))),
    "square of Student's t, 5 degrees": (lambda rng, shape: rng.standard_t(5, shape) ** 2, 5 / 3),
    "square of Student's t, 3 degrees": (lambda rng, shape: rng.standard_t(3, shape) ** 2, 3.0),
}


def line(
    name: str, truth: float, estimate: Callable[[np.random.Generator, int], tuple[float, float]], sizes=SIZES
) -> None:
    """One row of the table."""
    cells = []
    for size in SIZES:
        if size not in sizes:
            cells.append("")
            continue
        rng = np.random.default_rng((SEED, size))
        found = np.array([estimate(rng, size) for _ in range(REPEATS)])
        known = np.isfinite(found).all(axis=1)
        share = np.mean(np.abs(found[known, 0] - truth) < 1.96 * found[known, 1]) if known.sum() > 20 else np.nan
        part = f" of {known.mean():.2f}" if 0.1 < known.mean() < 0.995 else ""
        cells.append("none" if np.isnan(share) else f"{share:.2f}{part}")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def passages(rng: np.random.Generator, size: int, end: float) -> tuple[float, float]:
    times = rng.exponential(size=size)
    value, error, _ = _mean(np.where(times < end, times, np.nan), np.full(size, end))
    return value, error


def residence(rng: np.random.Generator, size: int) -> tuple[float, float]:
    lengths = rng.geometric(1 / 20, size)
    row = np.concatenate([[1.0], *[np.r_[np.zeros(n), 1.0] for n in lengths]])
    found = Residence("x", edges=[0.5]).apply([row], spacing=1.0)
    return float(found.x_residence_time[0, 0]), float(found.x_residence_time_stderr[0, 0])


def relaxed(rng: np.random.Generator, size: int) -> tuple[float, float]:
    time = np.linspace(0.0, 4.0, 401)
    noise = np.zeros((size, time.size))
    for step in range(1, time.size):
        noise[:, step] = 0.9 * noise[:, step - 1] + np.sqrt(1 - 0.81) * rng.normal(size=size)
    return _passage(5 * np.exp(-time) + 1.0 * noise * np.minimum(1, 10 * time) * np.exp(-time / 4), time)


def traced(estimator, rng: np.random.Generator, size: int) -> tuple[float, float]:
    found = estimator(OPERATOR, size, int(rng.integers(2**31)))
    return found.value, found.stderr


_direction = np.random.default_rng(0).normal(size=(1, 200))
_matrix = 100 * _direction.T @ _direction / (_direction**2).sum() + np.diag(np.linspace(0, 1, 200))
OPERATOR = as_linear(_matrix)


def energies(name: str) -> Callable[[np.random.Generator, int], tuple[float, float]]:
    """Estimates of all repeats from one summary of as many chains, handed out one by one."""
    waiting: dict[int, list[tuple[float, float]]] = {}

    def estimate(rng: np.random.Generator, size: int) -> tuple[float, float]:
        if size not in waiting:
            found = summary(rng.gamma(2.0, size=(REPEATS, size)), discard=0)
            pairs = zip(found[name].to_numpy(), found[f"{name}_stderr"].to_numpy(), strict=True)
            waiting[size] = [(float(value), float(error)) for value, error in pairs]
        return waiting[size].pop()

    return estimate


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| estimate | law | " + " | ".join(f"n = {size}" for size in SIZES) + " |")
    print("|---|---|" + "---|" * len(SIZES))
    for name, (draw, truth) in LAWS.items():
        line(
            f"mean of a positive quantity (`effective_temperature`) | {name}", truth,
            lambda rng, n, draw=draw: ((x := draw(rng, (n,))).mean(), float(error_of_mean(x, positive=True, least=4))),
        )  # fmt: skip
    for name in ("mean", "variance", "gamma_shape"):
        line(f"`summary`: {name} | Gamma, shape 2", 2.0, energies(name))
    line("`tail_index` | Pareto, 3", 3.0, lambda rng, n: tail_index(1 + rng.pareto(3.0, n), 0.1))
    line("`tail_index` | Student's t, 3 degrees", 3.0, lambda rng, n: tail_index(np.abs(rng.standard_t(3, n)), 0.1))
    line("`tail_index` | Student's t, 1.5 degrees", 1.5, lambda rng, n: tail_index(np.abs(rng.standard_t(1.5, n)), 0.1))
    line("`first_passage` of n chains | exponential", 1.0, lambda rng, n: passages(rng, n, np.inf))
    line("`first_passage` of n chains | exponential, 63 % arrive", 1.0, lambda rng, n: passages(rng, n, 1.0))
    line("`Residence`, n visits | geometric", 20.0, residence, sizes=(8, 30, 100, 1000))
    line("`relaxation` of n chains | exponential with noise", 1.0, relaxed, sizes=(8, 30, 100, 1000))
    line(
        "`temperature_sensitivity`, 8 chains of n | x^4", 0.0,
        lambda rng, n: _sensitivities(rng.gamma(0.25, size=(8, n)), np.zeros((8, n)))["temperature_sensitivity"],
    )  # fmt: skip
    truth = float(np.trace(_matrix))
    for name, estimator in (("hutchinson", hutchinson), ("hutch++", hutch_plus_plus)):
        line(
            f"`trace(method=\"{name}\")`, n products | one eigenvalue of 100 beside 200 in (0, 1)", truth,
            lambda rng, n, estimator=estimator: traced(estimator, rng, n), sizes=(8, 30, 100),
        )  # fmt: skip


if __name__ == "__main__":
    main()
