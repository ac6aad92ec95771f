r"""Noise pushes networks along a path
======================================

A network is put on a path of low loss between two minima, takes 20 free steps of SGD, is put back on the path, and so
on (P1, algorithm 1, Fig. 3 and 8). Di Carlo, Goddard and Schwab find that it drifts to where the path is flat, the
faster the smaller the batch, although the loss along the path gives no reason to.

Full batches move it too, down what slope of the loss is left: that part is *energetic*, it is measured without any
error, and subtracted. What is left is compared with a sign fixed before the runs: noise of covariance 2 T H pushes
with the force -(T/2) d tr H / ds, away from the maximum of the curvature, on both its sides. Controls:

* a twin of constant curvature, a linear network with squared error, on a path through its minimum: same minibatches,
  no force expected beyond the energetic one;
* a channel V = g x^2/2 in which everything is known: for constant g no drift, for g = 1 + 4 exp(-y^2) that of the
  closed form.

Minibatches are drawn with replacement. An order of all samples, epoch by epoch, makes the noise of a step depend on
the steps before it, and that by itself is a force, of the same order lr^2/B, towards where gradients vary less
between samples: also where the curvature is constant.

"Smaller batches relax faster" proves no force by itself, since diffusion speeds up as well; the sign on both sides
does. P1 fits the relaxation time by an exponential of the batch size; a temperature T ~ lr/B makes it a straight
line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.optimize import curve_fit

import landscape as ls
from landscape.examples._controls import channel_drift, excess_of_twin, pooled
from landscape.examples._digits import COLOURS, MARKERS, PAIRS, Recipe, drift_rates, minima, projected
from landscape.probes import confinement
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

LR = 0.1
SIDES = (0.2, 0.8)  # where chains start, in parts of the path: on both sides of its middle
FITS: dict[str, Callable[..., Any]] = {
    "line": lambda b, level, slope: level + slope * b,
    "exponential": lambda b, level, slope: level * np.exp(slope * b),
    "power law": lambda b, level, slope: level * b**slope,
}

# %%
# The path
# --------


def smooth_path(recipe: Recipe, seed: int) -> ls.paths.Path:
    """The spline through a string between the minima of the first pair."""
    ends = minima(recipe, PAIRS[0]).position.values
    steps = by_size(recipe.size, quick=150, small=1500, paper=3000)
    settings: dict[str, Any] = {"steps": steps, "end_tolerance": 1.0, "seed": seed, "progress": False}
    first = ls.paths.string(recipe.network(), *ends, pivots=17, lr=0.1, **settings)
    return ls.paths.string(recipe.network(), first, lr=0.2, **settings).spline


# %%
# Drift beyond the energetic part
# -------------------------------


def excess(
    recipe: Recipe, path: ls.paths.Path, batches: Any, seed: int, *, rates: Any = (LR,), sides: Any = SIDES
) -> xr.Dataset:
    """Velocity on minibatches minus that on all data, in parts of the path per unit of lr * steps."""
    steps, chains = by_size(recipe.size, quick=(200, 8), small=(4000, 32), paper=(4000, 32))

    def rate(lr: float, batch_size: int | None, chains: int) -> np.ndarray:
        loss = recipe.network(batch_size, sampling="replacement")
        return drift_rates(loss, ls.SGD(lr), path, sides, chains=chains, steps=steps, seed=seed)

    energetic = np.array([rate(float(lr), None, 1) for lr in rates])[:, None]
    beyond = np.array([[rate(float(lr), int(b), chains) for b in batches] for lr in rates]) - energetic
    dims = ("lr", "batch_size", "side")
    return xr.Dataset(
        {
            "excess": (dims, beyond.mean(-1)), "excess_stderr": (dims, beyond.std(-1, ddof=1) / chains**0.5),
            "energetic": (("lr", "side"), energetic[:, 0, :, 0]),
        },
        {"lr": np.array(rates), "batch_size": list(batches), "side": list(sides)},
    ).squeeze()  # fmt: skip


def relaxation_times(recipe: Recipe, path: ls.paths.Path, batches: Any, seed: int) -> xr.Dataset:
    """Time in which the distance from the start of the path falls by e, for each batch size."""
    steps, chains = by_size(recipe.size, quick=(1000, 8), small=(20_000, 16), paper=(20_000, 16))
    found = []
    for batch_size in batches:
        loss = recipe.network(batch_size, sampling="replacement")
        run = projected(loss, ls.SGD(LR), path, SIDES[:1], chains=chains, steps=steps, seed=seed)
        found.append(confinement.relaxation(run, target="start").squeeze("temperature", drop=True))
    return xr.concat(found, "batch_size").assign_coords(batch_size=list(batches))


def fitted(times: xr.Dataset) -> dict[str, tuple[Any, Any]]:
    """Parameters and residuals, in standard errors, of every law of the relaxation time."""
    good = times.where(times.reached, drop=True)
    b, tau, error = (
        np.asarray(x, dtype=float) for x in (good.batch_size, good.relaxation_time, good.relaxation_time_stderr)
    )
    if len(b) < 3:
        return {}
    found = {}
    for name, law in FITS.items():
        guess = {"line": (0.0, tau[0] / b[0]), "exponential": (tau[0], 0.3), "power law": (tau[0] / b[0], 1.0)}[name]
        parameters, _ = curve_fit(law, b, tau, guess, sigma=error, maxfev=20_000)
        found[name] = parameters, (tau - law(b, *parameters)) / error
    return found


# %%
# The reproduction
# ----------------


def reproduce(size: str, seed: int) -> Reproduction:
    """Drift on a path between two minima, its sign predicted from the curvature beforehand."""
    recipe = Recipe(size)
    path = smooth_path(recipe, seed)
    trace = {"trace": {"method": "hutch++" if size == "paper" else "exact"}}
    profile = confinement.along_path(recipe.network(), path, between=1, settings=trace)
    force = confinement.barriers(profile, 1.0, noise="hessian").entropic_force
    predicted = np.interp(np.array(SIDES) * path.length, force.arc_length, force)
    batches = by_size(size, quick=(4, 8, 16), small=(4, 8, 16, 32), paper=(16, 32, 64, 128))
    smallest = by_size(size, quick=(1, 2, 3), small=(2, 3, 4, 6, 8), paper=(8, 16, 32, 64))
    found = excess(recipe, path, batches, seed).assign(predicted=("side", predicted))
    twin = excess_of_twin(batches[::2], SIDES, LR, size, seed)
    lower = LR * 0.5 ** np.arange(by_size(size, quick=2, small=4, paper=4))
    rates = excess(recipe, path, batches[:1], seed, rates=lower, sides=SIDES[:1])
    times = relaxation_times(recipe, path, smallest, seed)
    fits = fitted(times)
    channels = {g: channel_drift(g, size, seed) for g in ("5", "1 + 4*exp(-y**2)")}
    stored = {"profile": profile, "excess": found, "twin": twin, "rates": rates, "times": times}
    verdicts = claims(found, twin, channels, times, fits)
    return Reproduction(stored, draw(profile, found, twin, rates, times, fits), verdicts)


def claims(
    found: xr.Dataset,
    twin: xr.Dataset,
    channels: dict[str, tuple[float, float, float]],
    times: xr.Dataset,
    fits: dict[str, Any],
) -> list[Verdict]:
    """The verdicts."""
    verdicts = []
    for batch_size in found.batch_size.values[[0, len(found.batch_size) // 2]]:
        for side in SIDES:
            one = found.sel(batch_size=batch_size, side=side)
            sign = float(np.sign(one.predicted))
            verdicts.append(
                judge(
                    f"batch {batch_size}, from {side:g}: drift beyond the energetic part, along the predicted sign",
                    sign * one.excess, one.excess_stderr, above=0, source="P1 Fig. 3",
                    note=f"predicted from tr H: {'to the end' if sign > 0 else 'to the start'}; "
                    f"energetic part {sign * float(one.energetic):.2g}",
                )
            )  # fmt: skip
    z, each = pooled(twin), twin.excess / twin.excess_stderr
    note = f"{each.sizes['repeat']} repeats pooled"
    text = "twin of constant curvature: largest |drift beyond| / error of four"
    verdicts.append(judge(text, abs(z.excess / z.excess_stderr).max(), 0, below=2, source="control", note=note))
    text, error = f"the same, mean square over {each.size} runs", (2 / each.size) ** 0.5
    verdicts.append(judge(text, (each**2).mean(), error, expected=1.0, resolve=0.6, source="control"))
    drift, error, _ = channels["5"]
    verdicts.append(judge("channel of constant g: |drift| / error", abs(drift) / error, 0, below=2, source="control"))
    drift, error, exact = channels["1 + 4*exp(-y**2)"]
    verdicts.append(
        judge("channel narrow at y = 0: drift at y = 1", drift, error, expected=exact, source="closed form")
    )
    reached = int(times.reached.sum())
    if fits:
        line, exponential = fits["line"][1], fits["exponential"][1]
        squares = {name: float((rest**2).sum()) for name, (_, rest) in fits.items()}
        best = min(squares, key=lambda name: squares[name])
        note = "; ".join(f"{name} {value:.3g}" for name, value in squares.items())
        verdicts.append(
            judge(
                "relaxation time: chi-square of the exponential of B minus that of the line",
                squares["exponential"] - squares["line"], 2 * float(((exponential - line) ** 2).sum()) ** 0.5, below=0,
                source="P1 Fig. 3",
                note=f"{reached} batch sizes; chi-square: {note}; best: {best}, power {fits['power law'][0][1]:.2f}",
            )
        )  # fmt: skip
    else:
        verdicts.append(judge("batch sizes at which the distance fell by e", reached, 1, above=2, source="P1 Fig. 3"))
    return verdicts


# %%
# The figure
# ----------


def draw(
    profile: xr.Dataset, found: xr.Dataset, twin: xr.Dataset, rates: xr.Dataset, times: xr.Dataset, fits: dict[str, Any]
) -> Figure:
    """Curvature and prediction; drift against batch size and rate; relaxation times."""
    figure, ((left, drift), (slow, time)) = plt.subplots(2, 2, figsize=(10.5, 7.6), layout="constrained")
    s = profile.arc_length / profile.arc_length[-1]
    left.plot(s, profile.trace, color=COLOURS[1], marker=".")
    left.set(xlabel="arc length / length of the path", ylabel="trace of the Hessian")
    left.yaxis.label.set_color(COLOURS[1])
    energy = left.twinx()
    energy.plot(s, profile.energy, color=COLOURS[2], ls="--")
    energy.set_ylabel("loss", color=COLOURS[2])
    for i, side in enumerate(SIDES, 1):
        one = found.sel(side=side)
        left.annotate(
            "", (side + 0.13 * float(np.sign(one.predicted)), 0.12), (side, 0.12), xycoords=("data", "axes fraction"),
            arrowprops={"arrowstyle": "->", "color": "k", "lw": 1.5},
        )  # fmt: skip
        style: Any = {"color": COLOURS[i], "marker": MARKERS[i], "capsize": 2}
        drift.errorbar(one.batch_size, one.excess, 3 * one.excess_stderr, label=f"from {side:g}", **style)
        other = pooled(twin).sel(side=side)
        drift.errorbar(
            other.batch_size * 1.06, other.excess, 3 * other.excess_stderr, ls=":", mfc="w",
            label=f"constant curvature, from {side:g}", **style,
        )  # fmt: skip
    left.text(0.5, 0.15, "force predicted", transform=left.transAxes, ha="center", fontsize=8)
    drift.axhline(0, color="k", lw=0.8)
    drift.set_yscale("symlog", linthresh=1e-6)
    drift.set_xscale("log")
    drift.set_xticks(found.batch_size.values, [f"{b:g}" for b in found.batch_size.values], minor=False)
    drift.xaxis.set_minor_formatter(NullFormatter())
    drift.set(xlabel="batch size", ylabel="drift beyond that on all data\n[lengths / (lr steps)], 3 errors")
    drift.set_ylim(top=5e-3)
    drift.legend(fontsize=7, loc="upper right", ncols=2)
    slow.errorbar(rates.lr, rates.excess, 3 * rates.excess_stderr, fmt="o", color=COLOURS[1], capsize=2)
    slow.axhline(0, color="k", lw=0.8)
    slow.set_xscale("log")
    slow.set_xticks(rates.lr.values, [f"{lr:g}" for lr in rates.lr.values])
    slow.xaxis.set_minor_formatter(NullFormatter())
    slow.set_yscale("symlog", linthresh=1e-7)
    slow.set_ylim(-3e-3, 3e-6)
    slow.set(xlabel=f"learning rate, batch {found.batch_size.values[0]}", ylabel=f"drift beyond, from {SIDES[0]:g}")
    time.errorbar(
        times.batch_size, times.relaxation_time, times.relaxation_time_stderr, fmt="o", color=COLOURS[0], capsize=2,
        label="measured",
    )  # fmt: skip
    b = np.linspace(float(times.batch_size[0]), float(times.batch_size[-1]), 60)
    for i, (name, (parameters, _)) in enumerate(fits.items(), 1):
        time.plot(b, FITS[name](b, *parameters), ["-", "--", ":"][i - 1], color=COLOURS[i], label=f"{name}, fitted")
    time.set(xlabel="batch size", ylabel="relaxation time [lr steps]", yscale="log")
    time.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
