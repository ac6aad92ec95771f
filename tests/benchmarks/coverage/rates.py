"""Rates and committors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

import landscape as ls
from landscape.errors import ConvergenceError
from landscape.probes import rates
from tests.benchmarks.coverage.rows import FloatArray, between, hits, of_dataset, repeated, row
from tests.exact_rates import klein_kramers_rate
from tests.probes.test_forward_flux import chain_passage_time
from tests.probes.test_rates import as_run, telegraph

Rng = np.random.Generator
CORES = {"A": "x < 0", "B": "x > 0"}
LEAVE = (0.004, 0.008)


def _states(chains: int) -> Callable[[Rng, int, int], xr.Dataset]:
    return lambda rng, size, repeats: as_run(
        telegraph(rng, chains * repeats, size, LEAVE), np.repeat(np.arange(1.0, 1 + repeats), chains)
    )


def _counts(chains: int, unlike: float = 0.0) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    """Two states; with `unlike` the chains leave at rates of their own, of this relative scatter."""

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        if unlike:
            factor = rng.choice([1 - unlike, 1 + unlike], chains * repeats)
            x = np.concatenate([telegraph(rng, 1, size, tuple(f * p for p in LEAVE)) for f in factor])
            run = as_run(x, np.repeat(np.arange(1.0, 1 + repeats), chains))
        else:
            run = _states(chains)(rng, size, repeats)
        found = rates.core_sets(run, CORES)
        pair = found.sel(core="A", next_core="B")
        out = {
            "rate": hits(pair.rate, pair.rate_stderr, LEAVE[0]),
            "rate_low to rate_high": between(pair.rate_low, pair.rate_high, LEAVE[0]),
        }
        one = found.sel(core="A")
        out["exit_rate"] = hits(one.exit_rate, one.exit_rate_stderr, LEAVE[0])
        out["mean_dwell_time"] = hits(one.mean_dwell_time, one.mean_dwell_time_stderr, 1 / LEAVE[0])
        out["late_rate"] = hits(one.late_rate, one.late_rate_stderr, LEAVE[0])
        return out

    return case


row("rates.core_sets", "two states of 250 and 125 draws, 8 chains of n", (100, 1000, 10_000))(_counts(8))
row("rates.core_sets", "the same, one chain of n", (1000, 10_000))(_counts(1))


def _escapes(chains: int) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        found = rates.escape_rate(_states(chains)(rng, size, repeats), CORES)
        slow = -np.log(1 - sum(LEAVE))
        out = {}
        for way, factor in (("survival", sum(LEAVE)), ("autocovariance", slow)):
            one = found.sel(estimator=way)
            out[f"relaxation_rate ({way})"] = hits(one.relaxation_rate, one.relaxation_rate_stderr, factor)
            out[f"rate ({way})"] = hits(one.rate.sel(core="A"), one.rate_stderr.sel(core="A"), factor / 3)
        lag = found.lag.to_numpy() if "lag" in found else np.arange(found.sizes["lag"])
        exact = (1 - sum(LEAVE)) ** lag
        value, error = (
            found[f"correlation{end}"].transpose("temperature", "lag").to_numpy() for end in ("", "_stderr")
        )
        near = (exact < 0.85) & (exact > 0.3)
        return out | {"correlation": hits(value[:, near], error[:, near], exact[near])}

    return case


row("rates.escape_rate", "two states, 8 chains of n draws", (100, 1000, 10_000))(_escapes(8))
row("rates.escape_rate", "two states, one chain of n draws", (1000, 10_000))(_escapes(1))

FLAT = ls.potentials.Expression("0*x", ["x"])
ENDS = {"A": "x < 0", "B": "x > 1"}


def _shots(at: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    """Free diffusion in steps that are small: cores seem 0.5826 sqrt(2 T dt) further away."""

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        dt, far = 2e-3, 0.5825971579390106 * (2 * 2e-3) ** 0.5
        found = rates.committor(
            FLAT, np.full((repeats, 1), at), ls.EulerMaruyama(dt=dt), ENDS, temperature=1.0, shots=size,
            seed=int(rng.integers(2**31)),
        )  # fmt: skip
        exact, time = (at + far) / (1 + 2 * far), (at + far) * (1 - at + far) / 2
        return {
            "committor": hits(found.committor, found.committor_stderr, exact),
            "committor_low to committor_high": between(found.committor_low, found.committor_high, exact),
            "arrival_time": hits(found.arrival_time, found.arrival_time_stderr, time),
        }

    return case


row("rates.committor", "free diffusion, half-way, n shots", (8, 30, 100, 1000), 200)(_shots(0.5))
row("rates.committor", "free diffusion, near one end, n shots", (8, 30, 100, 1000), 200)(_shots(0.02))


def _spread(
    draw: Callable[[Rng, int], FloatArray], mean: float, variance: float
) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            found = xr.Dataset(
                {"hits": ("position", rng.binomial(20, draw(rng, size))), "arrived": ("position", np.full(size, 20))}
            )
            return of_dataset(
                rates.committor_test(found.assign(committor=found.hits / found.arrived)),
                {"mean": mean, "variance": variance},
            )

        return repeated(one, rng, repeats)

    return case


row("rates.committor_test", "n positions of 20 shots, committors of a beta law", (8, 30, 100, 1000))(
    _spread(lambda rng, n: rng.beta(2.0, 2.0, n), 0.5, 0.05)
)
row("rates.committor_test", "the same, one committor", (8, 30, 100, 1000))(
    _spread(lambda rng, n: np.full(n, 0.5), 0.5, 0.0)
)
row("rates.committor_test", "the same, one in ten is 0.8, else 0.05", (8, 30, 100, 1000))(
    _spread(lambda rng, n: np.where(rng.random(n) < 0.1, 0.8, 0.05), 0.125, 0.09 * 0.75**2)
)

WELL = ls.potentials.DoubleWell()


def _flux(shots: int) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        exact = klein_kramers_rate(0.25, 2.0) / 2

        def one(rng: Rng) -> dict[str, FloatArray]:
            found = rates.reactive_flux(
                WELL, None, ls.BAOAB(dt=0.05, friction=2.0), coordinate="x", at=0.0, temperature=0.25, shots=shots,
                steps=120, every=10, settling=40, seed=int(rng.integers(2**31)),
            )  # fmt: skip
            return of_dataset(found, {"rate": exact})

        return repeated(one, rng, repeats)

    return case


row("rates.reactive_flux", "a well of 4 T at friction 2, 100 shots", (1,), 100)(_flux(100))
row("rates.reactive_flux", "the same, 1000 shots", (1,), 100)(_flux(1000))


def _interfaces(copies: int) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        exact = 1.0 / chain_passage_time(1.25, 1e-2, -0.8, 0.9, True)

        def one(rng: Rng) -> dict[str, FloatArray]:
            try:
                found = rates.forward_flux(
                    ls.potentials.DoubleWell(height=1.25), ls.EulerMaruyama(dt=1e-2), "x", -0.8, 0.9, 0.25,
                    start=[-1.0], interfaces=[-0.55, -0.4, -0.2, 0.0], copies=copies, seed=int(rng.integers(2**31)),
                )  # fmt: skip
            except ConvergenceError:
                return {"rate": np.array(np.nan)}
            return of_dataset(found, {"rate": exact})

        return repeated(one, rng, repeats)

    return case


row("rates.forward_flux", "a barrier of 5 T, 10 copies from each interface", (1,), 100)(_interfaces(10))
row("rates.forward_flux", "the same, 40 copies", (1,), 100)(_interfaces(40))
