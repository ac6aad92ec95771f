r"""The same push under other optimisers
========================================

Di Carlo, Goddard and Schwab (P1, Fig. 4) see networks drift along a path under several optimisers, at equal learning
rate. But an optimiser with momentum or preconditioning has another temperature at the same rate. Three steps:

* the temperature of heavy ball, v <- mu v - lr (g + noise): T_eff = lr C / (2 (1 - mu)), exactly <x^2> = lr C / (k (1
  - mu) (2 - lr k / (1 + mu))) for a spring k and gradient noise of variance C;
* preconditioning changes the law itself: in the valley V = g(y) x^2 / 2 with M = diag(1/g, 1) thermal noise gives the
  effective potential -T / (2 g), where plain Langevin dynamics has (T/2) ln g; with noise of covariance 2 T g across
  the valley it is (T/2) ln g again;
* a network on a path between two minima, under each optimiser at equal rate, and at equal *measured* temperature: at
  rates at which all diffuse along the path alike. Counted is the drift along the sign that the trace of the Hessian
  predicts; for rules that are linear in the gradient beyond that of the same optimiser on all data. Adam, AdamW,
  Shampoo and K-FAC scale a step by the size of past gradients, noise included, so that on all data they move by
  another rule, and there is nothing to subtract: of them the whole drift is counted, which includes the slope of the
  loss.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape.examples._digits import COLOURS, MARKERS, PAIRS, Recipe, minima, on_pairs, projected
from landscape.potentials import NetworkLoss, Valley
from landscape.probes import confinement, fluctuations
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

SIDES = (0.2, 0.8)
RATE = 0.01  # the equal rate
BATCH = 4
LINEAR = ("SGD", "heavy ball", "Nesterov", "natural gradient")  # in the gradient
SLOW = ("natural gradient", "Shampoo", "K-FAC")  # run one by one
Rules = dict[str, Callable[[float], Any]]

# %%
# Heavy ball on a spring
# ----------------------
# The squared error of one constant is a spring k = 2 whose minibatch noise does not depend on the position.


def heavy_ball(size: str, seed: int) -> xr.Dataset:
    """Variance of heavy ball on a spring over the exact one, for several momenta."""
    lr, momenta, k = 0.1, np.array([0.0, 0.5, 0.9]), 2.0
    chains, steps = by_size(size, quick=(300, 120), small=(3000, 500), paper=(30_000, 500))
    targets = torch.from_numpy(np.random.default_rng(seed).normal(size=(50, 1))).float()
    module = torch.nn.Linear(1, 1, bias=False)
    spring = NetworkLoss(module, torch.ones_like(targets), targets, loss="mse", batch_size=2, sampling="replacement")
    middle = ls.minimize(spring, tolerance=1e-6).position.values
    rows = []
    for mu in momenta:
        run = ls.simulate(spring, ls.SGD(lr=lr, momentum=mu), start=middle, chains=chains, steps=steps, seed=seed,
                          record=ls.Record(steps), progress=False)  # fmt: skip
        square = (run.last_position.values[:, 0] - middle[0]) ** 2
        formula = fluctuations.effective_temperature(spring, middle, lr, 2, momentum=mu, sampling="replacement")
        noise = 2 * (1 - mu) * float(formula.temperature) / lr  # T_eff = lr C / (2 (1 - mu))
        exact = lr * noise / (k * (1 - mu) * (2 - lr * k / (1 + mu)))
        rows.append((square.mean() / exact, square.std(ddof=1) / chains**0.5 / exact))
    ratio, error = zip(*rows, strict=True)
    return xr.Dataset(
        {"ratio": ("momentum", list(ratio)), "ratio_stderr": ("momentum", list(error))}, {"momentum": momenta}
    )


# %%
# The preconditioned valley
# -------------------------

VALLEY, SIDE, TEMPERATURE = "1 + 8*y**2", 1.0, 0.02
LAWS: dict[str, Callable[[Any], Any]] = {  # effective potential / T
    "plain, thermal noise": lambda y: 0.5 * np.log(1 + 8 * y**2),
    "preconditioned, thermal noise": lambda y: -0.5 / (1 + 8 * y**2),
    "preconditioned, noise like the Hessian": lambda y: 0.5 * np.log(1 + 8 * y**2),
}


def inverse_curvature(potential: Any, position: torch.Tensor) -> torch.Tensor:
    """M = diag(1/g, 1)."""
    x, y = position.unbind(-1)
    return torch.stack([1 / (1 + 8 * y**2), torch.ones_like(x)], dim=-1)


def valley(size: str, seed: int) -> xr.Dataset:
    """Positions y along the valley under each rule, after many relaxation times."""
    chains, steps = by_size(size, quick=(500, 2000), small=(4000, 8000), paper=(100_000, 16_000))
    dt, floor = by_size(size, quick=0.02, small=0.01, paper=0.01), Valley(VALLEY, bounds={"y": (-SIDE, SIDE)})
    thermal, shaped = ls.EulerMaruyama(dt), ls.EulerMaruyama(dt, noise=ls.HessianNoise(["x"], isotropic=1.0))
    rules = [thermal, ls.Preconditioned(thermal, inverse_curvature), ls.Preconditioned(shaped, inverse_curvature)]
    start = np.stack([np.zeros(chains), np.linspace(-SIDE, SIDE, chains)], axis=1)
    runs = [
        ls.simulate(floor, rule, temperature=TEMPERATURE, start=start, steps=steps, record=ls.Record(steps), seed=seed,
                    progress=False)
        for rule in rules
    ]  # fmt: skip
    y = np.stack([run.last_position.values[:, 1] for run in runs])
    return xr.Dataset({"y": (("rule", "chain"), y)}, {"rule": list(LAWS)})


def mean_square(law: Callable[[Any], Any]) -> float:
    """<y^2> of the law exp(-law(y)) between the boundaries."""
    y = np.linspace(-SIDE, SIDE, 20_001)
    weight = np.exp(-law(y))
    return float((weight * y**2).sum() / weight.sum())


# %%
# Networks on a path
# ------------------
# Natural gradients cost dim^3, so this is the smaller network; their matrix is the curvature half-way along the path.
# Shampoo and K-FAC come from `pytorch_optimizer` and `singd`, and are left out where these are not installed.


def optimisers(recipe: Recipe, path: ls.paths.Path, *, everything: bool) -> Rules:
    """Optimisers by name, as functions of the rate; `everything`: also those that take long."""
    rules: Rules = {
        "SGD": lambda lr: ls.SGD(lr),
        "heavy ball": lambda lr: ls.SGD(lr, momentum=0.9),
        "Nesterov": lambda lr: ls.SGD(lr, momentum=0.9, nesterov=True),
        "Adam": lambda lr: ls.Adam(lr),
        "AdamW": lambda lr: ls.AdamW(lr, weight_decay=1e-3),
    }
    if not everything:
        return rules
    values, vectors = np.linalg.eigh(recipe.network(decay=False).hessian(path.at(path.length / 2)))
    inverse = (vectors / (np.maximum(values, 0) + 0.1)) @ vectors.T
    rules["natural gradient"] = lambda lr: ls.Preconditioned(ls.SGD(lr), np.asarray(inverse))
    if importlib.util.find_spec("pytorch_optimizer"):
        shampoo = importlib.import_module("pytorch_optimizer").Shampoo
        rules["Shampoo"] = lambda lr: ls.Optimizer(shampoo, lr=lr, momentum=0.5)
    if importlib.util.find_spec("singd"):
        kfac = importlib.import_module("singd.optim.optimizer").SINGD
        rules["K-FAC"] = lambda lr: ls.Optimizer(
            kfac, lr=lr, of="module", kfac_like=True, alpha1=0.0, damping=0.3, T=1, lr_cov=0.01
        )
    return rules


def on_the_path(
    recipe: Recipe, rule: Any, path: ls.paths.Path, name: str, seed: int, *, steps: int, full: bool = False
) -> xr.Dataset:
    """Drift per step from both sides, and diffusion per step, in parts of the path."""
    steps, chains = (150, 4) if name in SLOW else (steps, 16)
    decay = name != "AdamW"  # which brings its own
    loss = recipe.network(None if full else BATCH, decay=decay, sampling="replacement")
    run = projected(loss, rule, path, SIDES, chains=1 if full else chains, steps=steps, seed=seed, on_nonfinite="drop")
    moved = np.diff(run.arc_length.values, axis=1) / path.length
    velocity = moved.sum(axis=1).reshape(len(SIDES), -1) / steps
    scatter = float(moved.reshape(len(SIDES), -1).var(axis=1).mean())  # of 20 steps
    return xr.Dataset({"velocity": (("side", "chain"), velocity), "diffusion": scatter / 40})


def rate_of_equal_diffusion(moved: Callable[[float, int], xr.Dataset], seed: int, target: float) -> float:
    """The rate with this diffusion, by secants of log diffusion against log rate."""

    def log_diffusion(log_rate: float) -> float:
        return float(np.log(moved(float(np.exp(log_rate)), seed).diffusion))

    rates = np.log([RATE / 3, RATE])
    found = [log_diffusion(x) for x in rates]
    for _ in range(3):
        slope = (found[-1] - found[-2]) / (rates[-1] - rates[-2])
        if not slope > 0.5:  # by noise, or because chains reach the end of the path
            break
        rates = np.append(rates, rates[-1] + np.clip((np.log(target) - found[-1]) / slope, -1.5, 1.5))
        found.append(log_diffusion(rates[-1]))
    best = np.nanargmin(abs(np.array(found) - np.log(target)))
    return float(np.exp(rates[best]))


def compare(recipe: Recipe, path: ls.paths.Path, signs: Any, seed: int, size: str) -> xr.Dataset:
    """Drift along the predicted sign at equal rate and at equal diffusion."""
    steps = by_size(size, quick=100, small=2000, paper=2000)
    rules = optimisers(recipe, path, everything=size == "small")
    target = float(on_the_path(recipe, ls.SGD(0.1), path, "SGD", seed, steps=steps).diffusion)
    rows = []
    for name, make in rules.items():

        def moved(lr: float, own_seed: int, full: bool = False, make: Any = make, name: str = name) -> xr.Dataset:
            return on_the_path(recipe, make(lr), path, name, own_seed, steps=steps, full=full)

        equal = rate_of_equal_diffusion(moved, seed + 1, target)
        for lr in (RATE, equal):
            noisy = moved(lr, seed)
            drift = noisy.velocity
            if name in LINEAR:  # beyond that on all data
                drift = drift - moved(lr, seed, full=True).velocity.isel(chain=0)
            rows.append((lr, float(noisy.diffusion), *on_pairs((drift * signs).values.ravel())))
    table = np.array(rows).reshape(len(rules), 2, 4)
    names = ("lr", "diffusion", "drift", "drift_stderr")
    return xr.Dataset(
        {variable: (("rule", "at"), table[..., i]) for i, variable in enumerate(names)},
        {"rule": list(rules), "at": ["equal rate", "equal diffusion"]}, {"target": target},
    )  # fmt: skip


# %%
# The reproduction
# ----------------


def reproduce(size: str, seed: int) -> Reproduction:
    """Temperature, preconditioning and drift under other optimisers."""
    recipe = Recipe("paper" if size == "paper" else "quick")
    ends = minima(recipe, PAIRS[0]).position.values
    steps = by_size(size, quick=150, small=1500, paper=3000)
    path = ls.paths.string(
        recipe.network(), *ends, pivots=17, steps=steps, lr=0.1, end_tolerance=1.0, progress=False
    ).spline  # fmt: skip
    trace = {"trace": {"method": "hutch++" if size == "paper" else "exact"}}
    profile = confinement.along_path(recipe.network(), path, ["energy", "trace"], settings=trace)
    force = confinement.barriers(profile, 1.0, noise="hessian").entropic_force
    signs = xr.DataArray(np.sign(np.interp(np.array(SIDES) * path.length, force.arc_length, force)), dims="side")
    stored = {"heavy_ball": heavy_ball(size, seed), "valley": valley(size, seed)}
    stored["optimisers"] = compare(recipe, path, signs, seed, size)
    return Reproduction(stored, draw(**stored), claims(**stored))


def claims(heavy_ball: xr.Dataset, valley: xr.Dataset, optimisers: xr.Dataset) -> list[Verdict]:
    """The verdicts."""
    verdicts = [
        judge(f"heavy ball, momentum {mu:g}: variance over the exact one with T_eff", ratio, error, expected=1.0,
              source="closed form", resolve=0.3)
        for mu, ratio, error in zip(heavy_ball.momentum.values, heavy_ball.ratio.values, heavy_ball.ratio_stderr.values,
                                    strict=True)
    ]  # fmt: skip
    for name, law in LAWS.items():
        verdicts.append(
            judge(f"valley, {name}: <y^2>", *on_pairs(valley.y.sel(rule=name) ** 2), expected=mean_square(law),
                  source="closed form", resolve=0.04)
        )  # fmt: skip
    for at in optimisers["at"].values:
        for name in optimisers.rule.values:
            one = optimisers.sel(rule=name, at=at)
            part = "beyond that on all data" if name in LINEAR else "whole drift"
            aim = f", aimed at {optimisers.target:.2g}" if at == "equal diffusion" else ""
            note = (
                f"{part}, per step and length of the path; lr {float(one.lr):.2g}, diffusion {float(one.diffusion):.2g}"
            )
            note += aim
            text = f"{name}, {at}: drift along the predicted sign"
            verdicts.append(judge(text, one.drift, one.drift_stderr, above=0, source="P1 Fig. 4", note=note))
    return verdicts


# %%
# The figure
# ----------


def draw(heavy_ball: xr.Dataset, valley: xr.Dataset, optimisers: xr.Dataset) -> Figure:
    """Exact laws, and the drift under every optimiser."""
    figure, (ball, law, drift) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained", width_ratios=[0.7, 1, 1.3])
    ball.errorbar(
        heavy_ball.momentum, heavy_ball.ratio, 3 * heavy_ball.ratio_stderr, fmt="o", color=COLOURS[1], capsize=2
    )
    ball.axhline(1, color="k", ls="--", lw=1, label="exact")
    ball.set(xlabel="momentum", ylabel="variance / exact, with $T_{eff}$ (3 errors)")
    ball.legend(fontsize=8)
    edges = np.linspace(-SIDE, SIDE, 21)
    centres = (edges[1:] + edges[:-1]) / 2
    fine = np.linspace(-SIDE, SIDE, 201)
    for i, (name, potential) in enumerate(LAWS.items(), 1):
        counts = np.histogram(valley.y.sel(rule=name), edges)[0]
        density = counts / counts.sum() / np.diff(edges)
        law.errorbar(
            centres,
            density,
            density / np.sqrt(np.maximum(counts, 1)),
            fmt=MARKERS[i],
            ms=4,
            color=COLOURS[i],
            label=name,
        )
        weight = np.exp(-potential(fine))
        law.plot(fine, weight / (weight.mean() * 2 * SIDE), color=COLOURS[i], ls=["-", "-", "--"][i - 1])
    law.set(xlabel="$y$ along the valley", ylabel="density; lines: theory")
    law.legend(fontsize=7)
    for i, at in enumerate(optimisers["at"].values):
        one = optimisers.sel(at=at)
        drift.errorbar(
            np.arange(len(one.rule)) + 0.2 * (i - 0.5), one.drift, 3 * one.drift_stderr, fmt=MARKERS[1 + i],
            color=COLOURS[1 + i], capsize=2, label=str(at),
        )  # fmt: skip
    drift.axhline(0, color="k", lw=0.8)
    drift.set_yscale("symlog", linthresh=1e-7)
    drift.set_xticks(np.arange(len(optimisers.rule)), optimisers.rule.values, rotation=40, ha="right")
    drift.set_ylabel("drift along the predicted sign\n[path length / step], 3 errors")
    drift.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
