"""Energy series, distances, diffusion, currents and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from landscape.probes import fluctuations
from tests.benchmarks.coverage.rows import FloatArray, hits, of_dataset, repeated, row
from tests.probes.processes import ar1, correlation, energies, labels, truth

Rng = np.random.Generator
SPRINGS = (0.1, 0.15, 0.2)  # rates a draw: the energy forgets in some four draws
MANY = (100, 1000, 10_000)


def _summary(x: Any, repeats: int, chains: int, truths: Mapping[str, float]) -> dict[str, FloatArray]:
    found = fluctuations.summary(x, labels(1.0, repeats, chains), discard=0, by="temperature")
    return of_dataset(found, truths)


def _whole(chains: int) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        known = truth(SPRINGS, 1.0) | {"drift": 0.0}
        for multiple in ("heat_capacity", "constrained_directions", "rate_times_temperature"):
            known.pop(multiple)  # of the variance, of the shape, of the rate
        x = energies(rng, repeats * chains, size, SPRINGS, np.ones(repeats * chains))
        return _summary(x, repeats, chains, known)

    return case


row("fluctuations.summary", "three springs, 8 chains of n draws")(_whole(8))
row("fluctuations.summary", "three springs, one chain of n draws", MANY)(_whole(1))


@row("fluctuations.summary", "independent, Gamma of shape 2, one chain of n")
def _independent(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    return _summary(
        rng.gamma(2.0, size=(repeats, size)), repeats, 1, dict.fromkeys(("mean", "variance", "gamma_shape"), 2.0)
    )


@row("fluctuations.summary", "lognormal, correlated over 5 draws, 8 chains of n")
def _skewed(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    x = np.exp(0.8 * ar1(rng, (8 * repeats, size), np.exp(-1 / 5)))
    squared = np.exp(0.64)
    return _summary(x, repeats, 8, {"mean": squared**0.5, "variance": squared * (squared - 1)})


@row("fluctuations.summary", "Student's t of 3 degrees, 8 chains of n")
def _heavy(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    return _summary(rng.standard_t(3, (8 * repeats, size)), repeats, 8, {"mean": 0.0})


@row("fluctuations.summary", "chains with offsets of their own, 8 of n draws")
def _offset(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    x = ar1(rng, (8 * repeats, size), np.exp(-1 / 5)) + rng.normal(size=(8 * repeats, 1))
    return _summary(x, repeats, 8, {"mean": 0.0})


@row("fluctuations.summary", "oscillating, 8 chains of n draws")
def _oscillating(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    from scipy.signal import lfilter

    radius, angle = 0.9, 0.6
    roots = [1.0, -2 * radius * np.cos(angle), radius**2]
    x = lfilter([1.0], roots, rng.normal(size=(8 * repeats, size + 200)), axis=-1)[:, 200:]
    spectrum = np.abs(1 / np.polyval(roots, np.exp(1j * np.linspace(0, 2 * np.pi, 4096, endpoint=False)))) ** 2
    tau = 0.5 * sum(roots) ** -2 / spectrum.mean()
    return _summary(x, repeats, 8, {"mean": 0.0, "variance": spectrum.mean(), "autocorrelation_time": tau})


@row("fluctuations.autocorrelation", "three springs, 8 chains of n draws, lags 1 to 6")
def _autocorrelation(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    x, lag = energies(rng, repeats * 8, size, SPRINGS, np.ones(repeats * 8)), np.arange(1, 7)
    found = fluctuations.autocorrelation(x, 6, by="temperature", temperature=labels(1.0, repeats, 8))
    rho = [found[f"autocorrelation{end}"].transpose("temperature", "lag").to_numpy()[:, 1:] for end in ("", "_stderr")]
    return {"autocorrelation": hits(*rho, correlation(SPRINGS, lag))}


@row("fluctuations.half_time", "an exponential of 5 draws, 8 chains of n draws")
def _half_time(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    x, rho = ar1(rng, (8 * repeats, size), np.exp(-1 / 5)), np.exp(-1 / 5)
    found = fluctuations.half_time(x, by="temperature", temperature=labels(1.0, repeats, 8))
    return of_dataset(found, {"half_time": 5 * np.log(2), "autocorrelation_time": 0.5 * (1 + rho) / (1 - rho)})


@row("fluctuations.temperature_scan", "three springs at five temperatures, 4 chains of n draws", (1000, 10_000), 100)
def _scan(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    heat = np.repeat(np.geomspace(0.1, 1.0, 5), 4)

    def one(rng: Rng) -> dict[str, FloatArray]:
        x = energies(rng, heat.size, size, (0.5, 0.6, 0.7), heat)
        found = fluctuations.temperature_scan(fluctuations.summary(x, heat, discard=0, by="temperature"))
        exponents = {"mean_exponent": 1, "deviation_exponent": 1, "half_time_exponent": 0}
        ratios = {
            "rate_times_temperature_exponent": 0,
            "mean_rate_times_temperature": 1,
            "mean_fluctuation_relation": 1,
        }
        return of_dataset(found, exponents | ratios)

    return repeated(one, rng, repeats)


def _distances(draw: Callable[[Rng, tuple[int, ...]], FloatArray], mean: float) -> Callable[[Rng, int, int], Any]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        radius = draw(rng, (size, repeats))
        found = fluctuations.distance(
            xr.DataArray(radius[..., None], dims=("chain", "draw", "coordinate")), np.zeros(1)
        )
        return {"mean_distance": hits(found.mean_distance, found.mean_distance_stderr, mean)}

    return case


row("fluctuations.distance", "n chains, three normal coordinates")(
    _distances(lambda rng, shape: np.linalg.norm(rng.normal(size=(*shape, 3)), axis=-1), (8 / np.pi) ** 0.5)
)
row("fluctuations.distance", "n chains, lognormal")(
    _distances(lambda rng, shape: rng.lognormal(size=shape), float(np.exp(0.5)))
)


@row("fluctuations.participation_ratio", "two exponential losses, 8 chains of n independent draws")
def _participation(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    losses = xr.DataArray(rng.exponential(size=(8 * repeats, size, 2)), dims=("chain", "draw", "sample"))
    found = fluctuations.participation_ratio(losses, labels(1.0, repeats, 8), by="temperature")
    return of_dataset(found, {"participation_ratio": np.pi / 2})


@row(
    "fluctuations.participation_ratio",
    "one loss that carries all in a tenth of the time, 8 chains of n",
    (30, 100, 1000, 10_000),
)
def _rarely(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    state = _telegraph(rng, 8 * repeats, size, (0.02, 0.18))
    losses = xr.DataArray(np.stack([np.ones(state.shape), 1.0 - state], axis=-1), dims=("chain", "draw", "sample"))
    found = fluctuations.participation_ratio(losses, labels(1.0, repeats, 8), by="temperature")
    return of_dataset(found, {"participation_ratio": 1.9})


def _telegraph(rng: Rng, chains: int, draws: int, leave: tuple[float, float]) -> FloatArray:
    """States 0 and 1 that are left with these probabilities a draw, ``(chain, draw)``."""
    u, state = rng.random((draws, chains)), np.empty((draws, chains))
    now = rng.random(chains) < leave[0] / sum(leave)
    for k in range(draws):
        now = np.where(now, u[k] >= leave[1], u[k] < leave[0])
        state[k] = now
    return state.T


@row("fluctuations.spikes", "spikes of 3 draws, one in 50 on average, one chain of n draws", (100, 1000, 10_000))
def _spikes(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    x = rng.gamma(5.0, 0.1, (repeats, size))
    begins = rng.random((repeats, size // 10)) < 0.2  # stretches of ten draws, of which a spike takes three
    kept = np.zeros((repeats, size), bool)
    kept[:, : begins.shape[1] * 10] = np.repeat(begins, 10, axis=1)
    place = np.arange(size) % 10
    x[kept & (place < 3)] = 50.0
    x[:, place == 9] = 0.1  # back to below the median
    found = fluctuations.spikes(x)
    return {
        "count": hits(found["count"], found.count_stderr, 0.2 * (size // 10)),
        "fraction": hits(found.fraction, found.fraction_stderr, 0.06),
    }


def _walk(chains: int, memory: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        moves = 0.3 + ar1(rng, (chains * repeats, size), memory)
        x = xr.DataArray(
            np.cumsum(moves, axis=1)[..., None], dims=("chain", "draw", "coordinate"), coords={"coordinate": ["x"]}
        )
        found = fluctuations.diffusion(x, "x", temperature=labels(1.0, repeats, chains), discard=0)
        return of_dataset(found, {"velocity": 0.3, "diffusion": 0.5 * (1 + memory) / (1 - memory)})

    return case


row("fluctuations.diffusion", "a walk with drift, 8 chains of n draws", (30, *MANY))(_walk(8, 0.0))
row("fluctuations.diffusion", "a walk with drift, one chain of n draws", (30, *MANY))(_walk(1, 0.0))
row("fluctuations.diffusion", "a walk with inertia of 5 draws, 20 chains of n draws", MANY)(_walk(20, np.exp(-1 / 5)))

DRIFT = np.array([[-1.0, 0.8], [-0.8, -1.0]])
HEAT, STEP = 0.5, 0.1


def _rotating(rng: Rng, chains: int, draws: int) -> tuple[FloatArray, FloatArray]:
    """Euler-Maruyama in a field that turns, ``(chain, draw, 2)``, and its covariance, a multiple of 1."""
    step = np.eye(2) + STEP * DRIFT
    variance = 2 * HEAT * STEP / (1 - np.linalg.norm(step[0]) ** 2)
    x = np.empty((draws, chains, 2))
    now = variance**0.5 * rng.normal(size=(chains, 2))
    for k in range(draws):
        x[k] = now
        now = now @ step.T + (2 * HEAT * STEP) ** 0.5 * rng.normal(size=(chains, 2))
    return x.transpose(1, 0, 2), variance * np.eye(2)


def _produced(chains: int) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        x, cov = _rotating(rng, chains * repeats, size + 1)
        force = x @ DRIFT.T
        sums = np.cumsum((0.5 * (force[:, 1:] + force[:, :-1]) * np.diff(x, axis=1)).sum(-1) / HEAT, axis=1)
        run = xr.DataArray(
            sums,
            dims=("chain", "draw"),
            coords={"time": ("draw", STEP * np.arange(1, size + 1))},
            name="entropy_production",
        )
        found = fluctuations.entropy_production(run, temperature=labels(HEAT, repeats, chains), discard=0)
        exact = np.trace(DRIFT @ (2 * np.eye(2) + STEP * DRIFT) @ cov @ DRIFT.T) / (2 * HEAT) + np.trace(DRIFT)
        return of_dataset(found, {"rate": exact})

    return case


row("fluctuations.entropy_production", "a field that turns, 8 chains of n steps", (30, 100, 1000))(_produced(8))
row("fluctuations.entropy_production", "a field that turns, one chain of n steps", (100, 1000, 10_000))(_produced(1))


def _flow(chains: int) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    from scipy.special import ndtr

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        edges = np.array([-1.0, 0.0, 1.0])

        def one(rng: Rng) -> dict[str, FloatArray]:
            x, cov = _rotating(rng, chains, size)
            run = xr.Dataset(
                {"position": (("chain", "draw", "coordinate"), x)},
                {
                    "coordinate": ["x", "y"],
                    "time": ("draw", STEP * np.arange(size)),
                    "temperature": ("chain", np.full(chains, HEAT)),
                },
            )
            found = fluctuations.current(run, bins=2, range=[(-1, 1)] * 2, discard=0)
            s = cov[0, 0] ** 0.5
            mass = np.diff(ndtr(edges / s))
            first = -(s**2) * np.diff(np.exp(-0.5 * (edges / s) ** 2) / (2 * np.pi * s**2) ** 0.5)  # of x p(x)
            rate = 0.5 * (DRIFT - cov @ DRIFT.T @ np.linalg.inv(cov))
            mean = np.stack([first[:, None] * mass, mass[:, None] * first], axis=-1)
            density = np.multiply.outer(mass, mass)
            at = ("x", "y", "component")
            flow = mean @ rate.T
            return {
                "current": hits(found.current.transpose(*at), found.current_stderr.transpose(*at), flow),
                "velocity": hits(
                    found.velocity.transpose(*at), found.velocity_stderr.transpose(*at), flow / density[..., None]
                ),
                "density": hits(found.density, found.density_stderr, density),
            }

        return repeated(one, rng, repeats)

    return case


row("fluctuations.current", "a field that turns, 16 chains of n steps", (100, 1000))(_flow(16))
row("fluctuations.current", "a field that turns, one chain of n steps", (1000, 10_000))(_flow(1))


class Samples:
    """Gradients of samples, of a spring of six directions."""

    stiffness = torch.tensor([4.0, 2, 1, 0.5, 0.2, 0.1], dtype=torch.float64)

    def __init__(self, gradients: FloatArray) -> None:
        self.gradients = torch.as_tensor(gradients)

    def sample_gradients(self, position: torch.Tensor) -> torch.Tensor:
        return self.gradients

    def hvp(self, position: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        return vector * self.stiffness


def _gradients(degrees: float | None) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        stiff = Samples.stiffness.numpy()
        trace = stiff.sum() * (1.0 if degrees is None else degrees / (degrees - 2))

        def one(rng: Rng) -> dict[str, FloatArray]:
            x = rng.normal(size=(size, 6)) if degrees is None else rng.standard_t(degrees, (size, 6))
            found = fluctuations.effective_temperature(
                Samples(stiff**0.5 * x), torch.zeros(6, dtype=torch.float64), 0.1, 2
            )
            wanted = {"temperature": 0.1 * trace / 24 * (1 - 2 / size)}
            wanted |= {"alignment": 1.0} if degrees is None else {}
            return of_dataset(found, wanted)

        return repeated(one, rng, repeats)

    return case


row("fluctuations.effective_temperature", "n normal gradients", (8, 30, 100, 1000))(_gradients(None))
row("fluctuations.effective_temperature", "n gradients, Student's t of 5 degrees", (8, 30, 100, 1000))(_gradients(5))
row("fluctuations.effective_temperature", "the same of 3 degrees, whose squares have no variance", (8, 30, 100, 1000))(
    _gradients(3)
)


def _tails(draw: Callable[[Rng, int], FloatArray], index: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            x = draw(rng, size)[:, None] * np.eye(1, 6) * rng.choice([-1.0, 1.0], (size, 1))
            return of_dataset(
                fluctuations.effective_temperature(Samples(x), torch.zeros(6), 0.1, 2), {"tail_index": index}
            )

        return repeated(one, rng, repeats)

    return case


row("fluctuations.effective_temperature", "norms of Pareto's law, index 3", (100, 1000, 10_000))(
    _tails(lambda rng, n: 1 + rng.pareto(3.0, n), 3.0)
)
row("fluctuations.effective_temperature", "norms of Student's t, 3 degrees", (100, 1000, 10_000))(
    _tails(lambda rng, n: np.abs(rng.standard_t(3, n)), 3.0)
)
row("fluctuations.effective_temperature", "norms of Student's t, 1.5 degrees", (100, 1000, 10_000))(
    _tails(lambda rng, n: np.abs(rng.standard_t(1.5, n)), 1.5)
)
