"""Runs and quantities along a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy.signal import lfilter

import landscape as ls
from landscape.probes import confinement
from tests.benchmarks.coverage.rows import FloatArray, hits, of_dataset, repeated, row
from tests.probes.test_confinement import walk
from tests.probes.test_few_samples import exact_relaxation, run_along

Rng = np.random.Generator


@row("confinement.barriers", "three pivots with traces of known noise", (0,), 400)
def _barriers(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    s, noise = np.linspace(0.0, 1.0, 3), np.array([0.3, 0.5, 0.2])

    def one(rng: Rng) -> dict[str, FloatArray]:
        profile = xr.Dataset(
            {
                "energy": ("pivot", [0.0, 1.0, 0.5]),
                "trace": ("pivot", [1.0, 9.0, 2.0] + rng.normal(size=3) * noise),
                "trace_stderr": ("pivot", noise),
            },
            {"pivot": [0, 1, 2], "arc_length": ("pivot", s)},
        )
        found = confinement.barriers(profile, 0.4)
        wanted = {"entropic": [1.6, 1.4], "total": [2.6, 1.9], "entropic_profile": [0.0, 1.6, 0.2]}
        out = of_dataset(found, wanted)
        middle = (float(found[f"entropic_force{end}"][1]) for end in ("", "_stderr"))
        return out | {"entropic_force": hits(*middle, -0.2)}

    return repeated(one, rng, repeats)


def _quantities(quantity: str, variable: str, **settings: Any) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    matrix = np.diag(np.linspace(0.5, 2.0, 12)) + 0.3 * np.ones((12, 12))
    text = " + ".join(f"{matrix[i, j] / 2:.17g}*x{i}*x{j}" for i in range(12) for j in range(12))
    spring = ls.potentials.Expression(text, [f"x{i}" for i in range(12)])
    path = ls.paths.straight_line(np.zeros(12), np.ones(12), 2)

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            seed = int(rng.integers(2**31))
            found = confinement.along_path(
                spring, path, [quantity], settings={quantity: settings | {"probes": size}}, seed=seed
            )
            return {variable: hits(found[variable][0], found[f"{variable}_stderr"][0], np.trace(matrix))}

        return repeated(one, rng, repeats)

    return case


row("confinement.along_path", "Hutchinson's trace of a full matrix, n products", (8, 30))(
    _quantities("trace", "trace", method="hutchinson")
)


@row("confinement.linear_connectivity", "the same between two positions, n products", (8, 30), 100)
def _straight(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    matrix = np.diag(np.linspace(0.5, 2.0, 12)) + 0.3 * np.ones((12, 12))
    text = " + ".join(f"{matrix[i, j] / 2:.17g}*x{i}*x{j}" for i in range(12) for j in range(12))
    spring = ls.potentials.Expression(text, [f"x{i}" for i in range(12)])

    def one(rng: Rng) -> dict[str, FloatArray]:
        settings = {"trace": {"method": "hutchinson", "probes": size}}
        found = confinement.linear_connectivity(
            spring,
            np.stack([np.zeros(12), np.ones(12)]),
            ["trace"],
            points=3,
            settings=settings,
            seed=int(rng.integers(2**31)),
        )
        value, error = found.trace.to_numpy().ravel(), found.trace_stderr.to_numpy().ravel()
        return {"trace": hits(value[0], error[0], np.trace(matrix))}

    return repeated(one, rng, repeats)


def _drift(chains: int | None, tail: float | None) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    """`chains` of n displacements, or n chains of ten, normal or with Student's tails."""

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        many, draws = (size, 10) if chains is None else (chains, size)

        def one(rng: Rng) -> dict[str, FloatArray]:
            run = walk(0.5, 0.3, seed=int(rng.integers(2**31)), chains=many, projections=draws)
            if tail is not None:
                kicks = rng.standard_t(tail, (many, draws)) * (2 * 0.3 * 0.1 * (tail - 2) / tail) ** 0.5
                arc = np.cumsum(np.column_stack([np.zeros(many), 0.05 + kicks]), axis=1)
                run = run.assign(arc_length=(("chain", "projection"), arc))
            found = confinement.drift(run, [-1e5, 1e5]).squeeze()
            return of_dataset(found, {"velocity": 0.5, "diffusion": 0.3})

        return repeated(one, rng, repeats)

    return case


row("confinement.drift", "a walk, n chains of ten displacements", (8, 30, 100, 1000))(_drift(None, None))
row("confinement.drift", "a walk, two chains of n displacements", (30, 100, 1000, 10_000))(_drift(2, None))
row("confinement.drift", "a walk of Student's t of 5 degrees, n chains of ten", (8, 30, 100, 1000))(_drift(None, 5.0))


@row("confinement.drift", "three temperatures, n chains each", (8, 30, 100))
def _regression(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    heat = np.repeat([0.1, 0.2, 0.4], size)

    def one(rng: Rng) -> dict[str, FloatArray]:
        seed = int(rng.integers(2**31))
        run = walk(-0.2 + 1.5 * heat, heat, seed=seed, chains=heat.size, temperature=heat)
        found = confinement.drift(run, [-1e3, 1e3]).isel(arc_length=0)
        return of_dataset(found, {"energetic_force": -0.2, "entropic_force": 1.5})

    return repeated(one, rng, repeats)


@row("confinement.relaxation", "an exponential with coloured noise, n chains", (8, 30, 100, 1000))
def _relaxation(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    time, memory, truth = np.linspace(0.0, 4.0, 201), np.exp(-0.02 / 0.1), exact_relaxation()

    def one(rng: Rng) -> dict[str, FloatArray]:
        kicks = (1 - memory**2) ** 0.5 * rng.normal(size=(size, time.size))
        kicks[:, 0] = 0.0
        noise = lfilter([1.0], [1.0, -memory], kicks, axis=1)
        arc = 5.0 + 3.0 * np.exp(-time) + 0.6 * noise * (1 - np.exp(-time / 0.1))
        return of_dataset(confinement.relaxation(run_along(arc, time), target=5.0), {"relaxation_time": truth})

    return repeated(one, rng, repeats)


def _passage(
    end: float, draw: Callable[[Rng, int], FloatArray], mean: float
) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        time = np.linspace(0.0, end, int(200 * min(end, 12.0)) + 1)

        def one(rng: Rng) -> dict[str, FloatArray]:
            waiting = draw(rng, size)
            arc = np.where(time[None] < waiting[:, None], 1.0, 9.0)
            found = confinement.first_passage(run_along(arc, time), 5.0, continuity=False)
            return of_dataset(found, {"first_passage_time": mean})

        return repeated(one, rng, repeats)

    return case


row("confinement.first_passage", "n chains, exponential", (8, 30, 100, 1000))(
    _passage(12.0, lambda rng, n: rng.exponential(size=n), 1.0)
)
row("confinement.first_passage", "n chains, exponential, 63 % arrive", (8, 30, 100, 1000))(
    _passage(1.0, lambda rng, n: rng.exponential(size=n), 1.0)
)
row("confinement.first_passage", "n chains, exponential, one in ten arrives", (8, 30, 100, 1000))(
    _passage(0.105, lambda rng, n: rng.exponential(size=n), 1.0)
)
row("confinement.first_passage", "n chains, one in ten is ten times slower", (8, 30, 100, 1000))(
    _passage(30.0, lambda rng, n: rng.exponential(size=n) * np.where(rng.random(n) < 0.1, 3.0, 0.3), 0.57)
)


@row("confinement.instability", "three values of known noise", (0,), 400)
def _instability(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    truth, noise = np.array([1.0, 6.0, 2.0]), np.array([0.1, 0.3, 0.2])
    values = truth + noise * rng.normal(size=(repeats, 3))
    found = confinement.instability(values, stderr=np.broadcast_to(noise, values.shape))
    return of_dataset(found, {"difference": 4.5, "ratio": 6.0, "mean": 3.0})


@row("confinement.instability", "nine equal values of equal noise", (0,), 400)
def _flat(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    values = 1.0 + 0.1 * rng.normal(size=(repeats, 9))
    found = confinement.instability(values, stderr=np.full(values.shape, 0.1))
    return of_dataset(found, {"difference": 0.0, "ratio": 1.0, "mean": 1.0})
