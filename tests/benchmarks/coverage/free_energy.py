"""Free energies: histograms, integrals, windows, works and learning coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

import landscape as ls
from landscape.errors import ConvergenceError, OverlapError
from landscape.probes import free_energy
from tests.benchmarks.coverage.rows import FloatArray, hits, of_dataset, repeated, row
from tests.landscape.test_metadynamics import WELL, bins_of, steered
from tests.landscape.test_metadynamics import T as COLD
from tests.probes.processes import ar1

Rng = np.random.Generator
T = 0.1
SPRING = ls.potentials.Expression("k*x**2/2", ["x"], {"k": 1.0})
CHANNEL = ls.potentials.Expression("(1 + y**2)*x**2/2", ["x", "y"])
LN2 = 0.5 * T * np.log(2.0)


def _seed(rng: Rng) -> int:
    return int(rng.integers(2**31))


def _profile(chains: int, rho: float, tail: bool = False) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    """Bins of a normal variable; with `tail` the four that hold little."""

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        edges = np.array([-3.0, -2.5, -2.0, 2.0, 2.5, 3.0]) if tail else np.linspace(-1.5, 1.5, 7)
        masses = np.diff(ndtr(np.linspace(-3, 3, 13) if tail else edges))
        exact = -T * np.log(masses)
        bins, ends = (12, (-3, 3)) if tail else (6, (-1.5, 1.5))

        def one(rng: Rng) -> dict[str, FloatArray]:
            x = xr.DataArray(ar1(rng, (chains, size), rho), dims=("chain", "draw"))
            try:
                found = free_energy.profile(x, T, bins=bins, range=ends, zero=0.25 if tail else "mean")
            except ConvergenceError:
                return {"free_energy": np.full(bins, np.nan), "density": np.full(bins, np.nan)}
            theory = exact - (exact[6] if tail else exact.mean())
            known = np.isfinite(found.free_energy.to_numpy()).all() or tail
            away = hits(found.free_energy, found.free_energy_stderr, theory) if known else np.full(bins, np.nan)
            if tail:
                away[6] = np.nan  # the zero
            width = (ends[1] - ends[0]) / bins
            return {"free_energy": away, "density": hits(found.density, found.density_stderr, masses / width)}

        return repeated(one, rng, repeats)

    return case


row("free_energy.profile", "normal, 8 chains of n independent")(_profile(8, 0.0))
row("free_energy.profile", "normal, correlated over 5 draws, 16 chains of n")(_profile(16, np.exp(-1 / 5)))
row("free_energy.profile", "the same, one chain of n", (100, 1000, 10_000))(_profile(1, np.exp(-1 / 5)))
row("free_energy.profile", "normal, 16 chains of n independent, to bins of 0.005", (100, 1000, 10_000))(
    _profile(16, 0.0, tail=True)
)


@row("free_energy.entropy", "three springs, 8 chains of n draws")
def _entropy(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    spring = ls.potentials.Quadratic([1.0, 4.0, 9.0])

    def one(rng: Rng) -> dict[str, FloatArray]:
        x = sum(0.5 * T * ar1(rng, (8, size), np.exp(-k)) ** 2 for k in (0.1, 0.2, 0.4))
        given = float(spring.free_energy(T)) + 0.01 * rng.normal()
        found = free_energy.entropy(x, given, T, free_energy_stderr=0.01)
        return of_dataset(found, {"entropy": float(spring.entropy(T)), "energy": 1.5 * T})

    return repeated(one, rng, repeats)


def _works(width: float, both: bool) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    """Gaussian works of this variance, in units of T; the difference is 3 T."""

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            ahead, back = (T * rng.normal(d + width / 2, width**0.5, size) for d in (3.0, -3.0))
            names = ["free_energy"] if both else ["free_energy", "gaussian"]
            try:
                found = free_energy.work_average(ahead, back if both else None, temperature=T)
            except OverlapError:
                return dict.fromkeys(names, np.array(np.nan))
            return of_dataset(found, dict.fromkeys(names, 3 * T))

        return repeated(one, rng, repeats)

    return case


row("free_energy.work_average", "n Gaussian works of variance T^2/2")(_works(0.5, False))
row("free_energy.work_average", "n Gaussian works of variance 4 T^2")(_works(4.0, False))
row("free_energy.work_average", "n Gaussian works of 2 T^2 each way")(_works(2.0, True))
row("free_energy.work_average", "n Gaussian works of 9 T^2 each way")(_works(9.0, True))


@row("free_energy.work_average", "n works of a spring made stiffer ten times, each way")
def _stiffer(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    def one(rng: Rng) -> dict[str, FloatArray]:
        soft, hard = rng.normal(size=(2, size)) ** 2
        try:
            found = free_energy.work_average(4.5 * T * soft, -4.5 * T * hard / 10, temperature=T)
        except OverlapError:
            return {"free_energy": np.array(np.nan)}
        return of_dataset(found, {"free_energy": 0.5 * T * np.log(10)})

    return repeated(one, rng, repeats)


def _states(
    chains: int, draw: Callable[[Rng, tuple[int, ...]], FloatArray]
) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    """Three springs held at three places, and what they say of the free one."""

    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        centers, stiff = np.array([0.0, 0.5, 1.0]), 3.0
        exact = 0.5 * stiff * centers**2 / (1 + stiff)

        def one(rng: Rng) -> dict[str, FloatArray]:
            x = (draw(rng, (3, chains, size)) / 2 + 0.75 * centers[:, None, None]).ravel()
            reduced = 0.5 * x**2 + 0.5 * stiff * (x - centers[:, None]) ** 2
            try:
                found = free_energy.mbar(
                    reduced, [chains * size] * 3, chains=chains, target=0.5 * x**2, observables={"x": np.cos(x)}
                )
            except (OverlapError, ConvergenceError):
                return {"reduced_free_energy": np.full(2, np.nan), "expectation": np.full(1, np.nan)}
            away = hits(found.reduced_free_energy, found.reduced_free_energy_stderr, exact)[1:]
            mean = hits(found.expectation, found.expectation_stderr, np.exp(-0.5)).ravel()
            return {"reduced_free_energy": away, "expectation": mean}

        return repeated(one, rng, repeats)

    return case


row("free_energy.mbar", "three springs, 12 chains of n independent", (30, 100, 1000), 100)(
    _states(12, lambda rng, shape: rng.normal(size=shape))
)
row("free_energy.mbar", "three springs, one chain of n, correlated over 2", (100, 1000), 100)(
    _states(1, lambda rng, shape: ar1(rng, shape, np.exp(-0.5)))
)


@row("free_energy.thermodynamic_integration", "a spring from T to 2 T, n steps of 12 chains", (100, 1000), 100)
def _temperature(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    def one(rng: Rng) -> dict[str, FloatArray]:
        found = free_energy.thermodynamic_integration(
            SPRING,
            "temperature",
            np.geomspace(T, 2 * T, 4),
            chains=12,
            steps=size,
            every=max(1, size // 100),
            seed=_seed(rng),
        )
        last = found.isel(temperature=-1)
        f = -T * np.log(2.0)
        out = of_dataset(last, {"free_energy": f, "energy": T, "heat_capacity": 0.5})
        return out | {"slope": hits(found.slope, found.slope_stderr, -0.5)}

    return repeated(one, rng, repeats)


@row("free_energy.thermodynamic_integration", "a spring made stiffer ten times, n steps of 12 chains", (100, 1000), 100)
def _stiffness(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    def one(rng: Rng) -> dict[str, FloatArray]:
        found = free_energy.thermodynamic_integration(
            SPRING,
            "k",
            np.geomspace(1.0, 10.0, 4),
            T,
            chains=12,
            steps=size,
            every=max(1, size // 100),
            seed=_seed(rng),
        )
        out = {"free_energy": hits(found.free_energy, found.free_energy_stderr, 0.5 * T * np.log(found.k))[1:]}
        return out | {"slope": hits(found.slope, found.slope_stderr, 0.5 * T / found.k)}

    return repeated(one, rng, repeats)


@row("free_energy.mean_force", "a channel, n steps of 12 chains", (30, 100, 1000), 100)
def _force(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    at = np.linspace(0.0, 1.0, 5)

    def one(rng: Rng) -> dict[str, FloatArray]:
        found = free_energy.mean_force(CHANNEL, "y", at, T, chains=12, steps=size, seed=_seed(rng))
        out = {"free_energy": hits(found.free_energy, found.free_energy_stderr, 0.5 * T * np.log1p(at**2))[1:]}
        return out | {"mean_force": hits(found.mean_force, found.mean_force_stderr, T * at / (1 + at**2))[1:]}

    return repeated(one, rng, repeats)


@row("free_energy.umbrella", "a channel, n samples of each of 12 chains", (30, 100), 60)
def _umbrella(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    at = np.linspace(0.0, 1.0, 5)

    def one(rng: Rng) -> dict[str, FloatArray]:
        try:
            found = free_energy.umbrella(
                CHANNEL, "y", at, T, width=0.4, chains=12, steps=15 * size, every=15, seed=_seed(rng)
            )
        except OverlapError:
            return {"free_energy": np.full(4, np.nan)}
        return {"free_energy": hits(found.free_energy, found.free_energy_stderr, 0.5 * T * np.log1p(at**2))[1:]}

    return repeated(one, rng, repeats)


@row("free_energy.nonequilibrium_work", "a spring made stiffer four times, n chains", (30, 100, 1000), 100)
def _driven(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    def one(rng: Rng) -> dict[str, FloatArray]:
        names = ("free_energy", "jarzynski", "jarzynski_reverse")
        try:
            found = free_energy.nonequilibrium_work(
                SPRING, "k", 1.0, 4.0, T, stages=4, chains=size, equilibration=60, seed=_seed(rng)
            )
        except OverlapError:
            return dict.fromkeys(names, np.array(np.nan))
        return of_dataset(found, dict.fromkeys(names, 0.5 * T * np.log(4.0)))

    return repeated(one, rng, repeats)


def _coefficient(potential: Any, exact: float, dt: float) -> Callable[[Rng, int, int], dict[str, FloatArray]]:
    def case(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
        def one(rng: Rng) -> dict[str, FloatArray]:
            found = free_energy.local_learning_coefficient(
                potential,
                np.zeros(potential.dim),
                temperature=T,
                dt=dt,
                steps=size,
                chains=16,
                every=max(1, size // 200),
                seed=_seed(rng),
            )
            return of_dataset(found, {"local_learning_coefficient": exact, "temperature_sensitivity": 0.0})

        return repeated(one, rng, repeats)

    return case


row("free_energy.local_learning_coefficient", "a spring, n steps of 16 chains", (100, 1000), 100)(
    _coefficient(SPRING, 0.5, 0.6)
)
row("free_energy.local_learning_coefficient", "x^4, n steps of 16 chains", (100, 1000), 100)(
    _coefficient(ls.potentials.Expression("x**4", ["x"]), 0.25, 0.3)
)


@row("free_energy.metadynamics", "a barrier of 8 T, eight chains of n steps", (1000, 10_000), 30)
def _hills(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    run = steered(min(size, 3000), chains=8 * repeats)

    def one(group: int) -> dict[str, FloatArray]:
        part = slice(8 * group, 8 * group + 8)
        found = free_energy.metadynamics(run.isel(chain=part, bias_group=part), bins=16).sel(x=slice(-1.4, 1.4))
        exact = bins_of(
            lambda x: WELL.energy(x[..., None]).numpy() if hasattr(x, "numpy") else 2.0 * (x**2 - 1) ** 2,
            found.x.values,
            COLD,
        )
        out = {}
        for name in ("free_energy", "free_energy_from_bias"):
            value = found[name] - found[name].mean()
            out[name] = hits(value, found[f"{name}_stderr"], exact)
        return out

    every = [one(group) for group in range(repeats)]
    return {name: np.stack([each[name] for each in every]) for name in every[0]}


@row("free_energy.harmonic", "springs, a bound of rounding", (0,), 20)
def _harmonic(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    def one(rng: Rng) -> dict[str, FloatArray]:
        spring = ls.potentials.Quadratic(rng.uniform(0.5, 9.0, 4))
        found = free_energy.harmonic(spring, np.zeros(4), T)
        return of_dataset(
            found, {"free_energy": float(spring.free_energy(T)), "entropy": float(spring.entropy(T)), "energy": 2 * T}
        )

    return repeated(one, rng, repeats)


@row("free_energy.effective_potential", "a channel, a bound of rounding", (0,), 1)
def _effective(rng: Rng, size: int, repeats: int) -> dict[str, FloatArray]:
    at = np.linspace(0.0, 1.0, 5)
    found = free_energy.effective_potential(CHANNEL, "y", at, T)
    return {"free_energy": hits(found.free_energy, found.free_energy_stderr, 0.5 * T * np.log1p(at**2))}
