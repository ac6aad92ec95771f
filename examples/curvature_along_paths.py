r"""Curvature along paths between minima
========================================

Networks trained from different weights end in different minima. On the straight line between two of them the loss is
high; but paths exist on which it hardly rises. Di Carlo, Goddard and Schwab (P1, Fig. 2 and 7) find that the
*curvature* rises along such paths: the largest eigenvalue and the trace of the Hessian are larger in the middle than
at both ends. With minibatch noise of covariance 2 T H that is a barrier of entropy, (T/2) tr H, where there is none
of energy.

The rise is measured half-way along the path, where it is not a maximum over noise, above the *higher* of the two
ends, and its error is that of independent pairs of minima. Three things could fake it, and stand beside it:

* a path that is still above its minima: curvature grows with cross-entropy, as tr H = tr F = 0 for a perfect fit. So
  the trace is also compared with that of the same networks while they were trained, when their cross-entropy was as
  high;
* the size of the weights: tr H is also divided by :math:`|\theta|^2`;
* a path that has not relaxed: the same paths are moved on down the gradient, and measured again.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape.examples._digits import COLOURS, MARKERS, PAIRS, Recipe, minima, on_pairs
from landscape.probes import confinement, curvature
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

POINTS = 17  # even in arc length, on every path
KINDS = ("straight line", "string", "AutoNEB", "AutoNEB, relaxed on")
QUIETLY: dict[str, Any] = {"end_tolerance": 1.0, "progress": False}
QUANTITIES = ("energy", "largest_eigenvalue", "trace", "norm", "evaluation_energy")

# %%
# Paths
# -----
# The string method descends with the full gradient. AutoNEB works on minibatches at the rates of P1, so that another
# seed gives another path. Its result is then a start for a long descent with momentum.


def automatic(recipe: Recipe, start: Any, end: Any, seed: int) -> ls.paths.Path:
    """A path by AutoNEB on minibatches, at the rates of P1, with more cycles at the first where networks are small."""
    length = by_size(recipe.size, quick="20 epochs", small="50 epochs", paper="5 epochs")
    digits = [(rate, length) for rate in (0.1, 0.1, 0.1, 0.05, 0.01)]
    paper = [(0.1, "10 epochs"), *((rate, length) for rate in (0.05, 0.01, 0.001))]
    cycles = by_size(recipe.size, quick=digits, small=digits, paper=paper)
    loss = recipe.network(by_size(recipe.size, quick=64, small=128, paper=256))
    return ls.paths.auto_neb(loss, start, end, cycles=cycles, seed=seed, **QUIETLY)


def connect(recipe: Recipe, start: Any, end: Any, seed: int) -> dict[str, ls.paths.Path]:
    """The paths of each method between two minima."""
    full = recipe.network()
    steps, more = by_size(recipe.size, quick=(150, 100), small=(900, 1000), paper=(2000, 2000))
    line, band = ls.paths.straight_line(start, end, POINTS), automatic(recipe, start, end, seed)
    string = ls.paths.string(full, line, steps=steps, lr=0.1, **QUIETLY)
    relaxed = ls.paths.string(full, band, pivots=POINTS, steps=more, lr=0.1, momentum=0.9, **QUIETLY)
    return dict(zip(KINDS, (line, string, band, relaxed), strict=True))


# %%
# What is measured
# ----------------
# All of the bare cross-entropy; weight decay would add the same curvature everywhere.


def measure(recipe: Recipe, path: ls.paths.Path) -> xr.Dataset:
    """Loss, curvature and confounders at even arc lengths, and the barrier in the trained loss."""
    bare = recipe.network(decay=False)
    settings = {"trace": {"method": "hutch++" if recipe.size == "paper" else "exact"}}
    curve = path if len(path) == POINTS else path.spline.resample(POINTS)
    found = confinement.along_path(bare, curve, QUANTITIES, settings=settings)
    found["barrier"] = path.profile(recipe.network()).barrier
    found["arc_length"] = ("pivot", found.arc_length.values, found.arc_length.attrs)
    return found[[*QUANTITIES, "barrier", "arc_length"]].reset_coords(drop=True).drop_attrs(deep=False)


def trace_in_training(recipe: Recipe, networks: xr.Dataset, cross_entropy: float) -> float:
    """Trace when the networks had this cross-entropy in training: a power law through the nearest stages."""
    bare = recipe.network(decay=False)
    energy = np.array([[bare.energy(x) for x in row] for row in networks.training.values])
    method: Any = "hutch++" if recipe.size == "paper" else "exact"
    trace = curvature.trace(bare, networks.training, method=method).trace.values
    near = np.argsort(abs(np.log(energy / cross_entropy)), axis=None)[:12]
    slope, level = np.polyfit(np.log(energy.ravel()[near]), np.log(trace.ravel()[near]), 1)
    return float(np.exp(level + slope * np.log(cross_entropy)))


def rise(profile: xr.DataArray) -> xr.DataArray:
    """Value half-way minus that at the higher end."""
    return profile.isel(pivot=POINTS // 2, drop=True) - profile.isel(pivot=[0, -1]).max("pivot")


# %%
# The reproduction
# ----------------


def reproduce(size: str, seed: int) -> Reproduction:
    """Paths between pairs of minima that were fixed in advance, with what is claimed of them."""
    recipe = Recipe(size)
    pairs = by_size(size, quick=PAIRS[:2], small=PAIRS, paper=PAIRS)
    networks = minima(recipe, [one for pair in pairs for one in pair])
    rows, equal = [], []
    for pair in pairs:
        ends = networks.sel(seed=list(pair))
        paths = connect(recipe, ends.position.values[0], ends.position.values[1], seed)
        found = xr.concat([measure(recipe, path) for path in paths.values()], "kind").assign_coords(kind=list(KINDS))
        rows.append(found)
        equal.append([trace_in_training(recipe, ends, float(row)) for row in found.energy[:, POINTS // 2]])
    profiles = xr.concat(rows, "pair").assign_coords(pair=[f"{a}-{b}" for a, b in pairs])
    profiles["equal"] = (("pair", "kind"), np.array(equal), {"long_name": "trace in training at equal cross-entropy"})
    start, end = networks.position.sel(seed=list(pairs[0])).values
    others, scores = other_paths(recipe, start, end, seed), score_spectrum(recipe, start, end, seed)
    stored = {"profiles": profiles, "other_paths": others, "scores": scores, "minima": networks.drop_vars("training")}
    return Reproduction(stored, draw(profiles, others, scores), claims(profiles, networks))


def other_paths(recipe: Recipe, start: Any, end: Any, seed: int) -> xr.Dataset:
    """The path is not unique: other seeds of AutoNEB, and a Bezier curve, for the first pair."""
    steps = by_size(recipe.size, quick=200, small=1500, paper=4000)
    curve: dict[str, Any] = {"bends": 3, "pivots": POINTS, "steps": steps, "lr": 0.1, "momentum": 0.9, "points": 4}
    paths = {f"AutoNEB, seed {one}": automatic(recipe, start, end, one) for one in (seed + 1, seed + 2)}
    paths["Bezier"] = ls.paths.bezier(recipe.network(), start, end, **curve, **QUIETLY)
    return xr.concat([measure(recipe, path) for path in paths.values()], "kind").assign_coords(kind=list(paths))


def score_spectrum(recipe: Recipe, start: Any, end: Any, seed: int) -> xr.Dataset:
    """Singular values of the score matrix at both ends of the first path and half-way (P1, Fig. 2D)."""
    path = automatic(recipe, start, end, seed)
    places = xr.DataArray(path.at(np.array([0, 0.5, 1]) * path.length), dims=("place", "coordinate"))
    examples = by_size(recipe.size, quick=20, small=100, paper=1024)
    return curvature.score_singular_values(recipe.network(), places, examples=examples)


def claims(profiles: xr.Dataset, networks: xr.Dataset) -> list[Verdict]:
    """The verdicts."""
    left = profiles.barrier / profiles.barrier.sel(kind="straight line")
    line = profiles.barrier.sel(kind="straight line")
    norm = float(networks.gradient_norm.max())
    found = [
        judge(
            "smallest barrier on the straight lines", line.min(), 0, above=0.5, note=f"gradient at ends <= {norm:.1g}"
        )
    ]
    for kind in KINDS[1:]:
        worst = left.sel(kind=kind)
        found.append(judge(f"{kind}: barrier left, in units of that, at worst", worst.max(), 0, below=0.1))
    for kind in KINDS[1:]:
        one = profiles.sel(kind=kind)
        middle, note = one.isel(pivot=POINTS // 2), f"{len(one.pair)} pairs; half-way above the higher end"
        found += [
            judge(f"{kind}: {name} rises", *on_pairs(rise(one[quantity])), above=0, source="P1 Fig. 2", note=note)
            for name, quantity in (("lambda_max", "largest_eigenvalue"), ("trace", "trace"))
        ]
        scaled = rise(one.trace / one.norm**2) / (one.trace / one.norm**2).isel(pivot=[0, -1]).max("pivot")
        found += [
            judge(f"{kind}: relative rise of trace / |theta|^2", *on_pairs(scaled), above=0, source="confounder"),
            judge(
                f"{kind}: log of trace over that in training at equal cross-entropy",
                *on_pairs(np.log(middle.trace / one.equal)), above=0, source="confounder",
            ),
        ]  # fmt: skip
    risen = rise(profiles.trace)
    note = "1 if the rise belongs to the path of lowest loss, 0 if it only shows that the path is above it"
    still = on_pairs(risen.sel(kind=KINDS[3]) / risen.sel(kind=KINDS[2]))
    found.append(
        judge("rise of the trace after relaxing on / before", *still, expected=1.0, source="confounder", note=note)
    )
    sharpest = 0.1 * float(profiles.largest_eigenvalue.sel(kind=list(KINDS[1:])).max())
    return [*found, judge("largest lr * lambda_max on the paths", sharpest, 0, below=2, source="confounder")]


# %%
# The figure
# ----------


def draw(profiles: xr.Dataset, others: xr.Dataset, scores: xr.Dataset) -> Figure:
    """Profiles, and the confounders."""
    figure, axes = plt.subplots(2, 4, figsize=(16, 7.4), layout="constrained")
    fraction = np.linspace(0, 1, POINTS)
    labels = ("cross-entropy", r"$\lambda_{\max}$ of the Hessian", "trace of the Hessian")
    for i, kind in enumerate(KINDS):
        style: Any = {"color": COLOURS[i], "marker": MARKERS[i], "ms": 4, "label": kind}
        one = profiles.sel(kind=kind)
        for ax, quantity, label in zip(axes[0], QUANTITIES, labels, strict=False):
            mean, error = one[quantity].mean("pair"), one[quantity].std("pair", ddof=1) / one.sizes["pair"] ** 0.5
            ax.plot(fraction, mean, **style)
            ax.fill_between(fraction, mean - error, mean + error, color=COLOURS[i], alpha=0.2)
            ax.set(xlabel="arc length / length of the path", ylabel=label, yscale="log")
        if i == 0:
            continue
        middle, ends = one.trace.isel(pivot=POINTS // 2), one.trace.isel(pivot=[0, -1]).max("pivot")
        axes[1, 0].plot(one.equal, middle, ls="", **style)
        axes[1, 1].plot(one.barrier, middle / ends, ls="", **style)
        axes[1, 2].plot(fraction, one.trace[0], **style)
        axes[1, 3].plot(fraction, one.norm.mean("pair"), **style)
    axes[0, 0].legend(fontsize=8, title="mean of the pairs, standard error", title_fontsize=8)
    limits = np.array([profiles.equal[:, 1:].min(), profiles.equal[:, 1:].max()]) * [0.8, 1.2]
    axes[1, 0].plot(limits, limits, "k--", lw=1, label="equal")
    axes[1, 0].set(xlabel="trace in training, at the same cross-entropy", ylabel="trace half-way along the path")
    axes[1, 1].axhline(1, color="k", ls="--", lw=1, label="no rise")
    axes[1, 1].set(xlabel="barrier left in the loss", ylabel="trace half-way / trace at the higher end")
    for k, name in enumerate(others.kind.values):
        axes[1, 2].plot(fraction, others.trace[k], ["--", ":", "-."][k], color=COLOURS[4 + k], label=str(name))
    axes[1, 2].set(xlabel="arc length / length of the path", ylabel=f"trace, pair {profiles.pair.values[0]}")
    axes[1, 1].ticklabel_format(axis="x", scilimits=(0, 0))
    axes[1, 3].set(xlabel="arc length / length of the path", ylabel=r"$|\theta|$, mean of the pairs")
    for i, place in enumerate(("start", "half-way", "end")):
        values = np.sort(scores.singular_value.values[i])[::-1]
        axes[0, 3].loglog(np.arange(1, len(values) + 1), values, ["-", "--", ":"][i], color=COLOURS[1 + i], label=place)
    axes[0, 3].set(xlabel="number", ylabel=f"singular value of the scores, AutoNEB, pair {profiles.pair.values[0]}")
    axes[0, 3].set_ylim(bottom=1e-4 * float(scores.singular_value.max()))
    axes[0, 3].legend(fontsize=8)
    for ax in axes[1]:
        ax.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
