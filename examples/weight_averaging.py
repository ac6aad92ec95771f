r"""Averages of weights
=======================

Networks that share their early training can be averaged: between children (model soups), or along one run at constant
rate (stochastic weight averaging, SWA). Di Carlo, Goddard and Schwab (P1, section 5) suggest that entropy matters
there: noise keeps networks apart in flat regions, and their average may be sharper or flatter than they are. They
claim no number, and none is claimed here; curvature, loss, held-out accuracy and the drift of projected SGD at the
averages are reported as they come.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

import landscape as ls
from landscape.examples._digits import COLOURS, MARKERS, Recipe, drift_rates, on_pairs
from landscape.probes import confinement
from landscape.workflows.reproduction import Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

QUANTITIES = ("energy", "evaluation_energy", "accuracy", "largest_eigenvalue", "trace", "norm")
NAMES = ("cross-entropy", "held-out cross-entropy", "held-out accuracy", r"$\lambda_{\max}$", "trace", r"$|\theta|$")

# %%
# Siblings and their averages
# ---------------------------


def families(recipe: Recipe, seed: int) -> tuple[Any, Any]:
    """Two children for each of several initial weights, and the average over the last third of the run of the first."""
    size = recipe.size
    count, epochs = by_size(size, quick=(3, 15), small=(10, 60), paper=(3, 200))
    learning = recipe.network(by_size(size, quick=32, small=32, paper=256))
    sampler: Any = learning.sampler
    starts = torch.stack([recipe.network(seed=one).position().detach() for one in range(count)])
    run = ls.train(
        learning, recipe.rate, epochs=epochs, split_epoch=epochs // 3, siblings=2 * count, seed=seed, progress=False,
        start=starts.repeat_interleave(2, dim=0),
        record=ls.Record(sampler.steps_per_epoch * (epochs // 15), observables=["energy", "position"]),
    )  # fmt: skip
    last_third = run.position.isel(draw=slice(2 * run.sizes["draw"] // 3, None))
    return run.last_position.values, last_third.mean("draw").values[::2]


def measure(recipe: Recipe, members: Any, swa: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Everything on the line between children, in whose middle their average is, and at members and averages."""
    bare, pairs = recipe.network(decay=False), [(i, i + 1) for i in range(0, len(members), 2)]
    settings = {"trace": {"method": "hutch++" if recipe.size == "paper" else "exact"}}
    line, other = (
        confinement.linear_connectivity(bare, ends, QUANTITIES, points=points, pairs=pairs, settings=settings)
        for ends, points in ((members, 11), (np.stack([members[::2], swa], axis=1).reshape(members.shape), 2))
    )
    places = (line.isel(pivot=0), line.isel(pivot=5), other.isel(pivot=1))
    found = xr.concat([place[list(QUANTITIES)].reset_coords(drop=True) for place in places], "kind")
    kinds = ["member", "average of siblings", "SWA"]
    return line.reset_coords(drop=True).drop_attrs(), found.drop_attrs().assign_coords(kind=kinds)


# %%
# The reproduction
# ----------------


def reproduce(size: str, seed: int) -> Reproduction:
    """Members, the averages of children, and SWA, beside each other."""
    recipe = Recipe(size)
    members, swa = families(recipe, seed)
    line, found = measure(recipe, members, swa)
    drift = outward_drift(recipe, members, seed)
    return Reproduction({"averages": found, "line": line}, draw(found, line), claims(found, drift))


def outward_drift(recipe: Recipe, members: Any, seed: int) -> np.ndarray:
    """How SGD projected onto the line between children drifts from its middle, for every family.

    Towards the nearer member, for chains that start a quarter of the way from either end, on minibatches minus on all
    data, in parts of the line per unit of lr * steps.
    """
    steps, chains = by_size(recipe.size, quick=(200, 4), small=(2000, 8), paper=(2000, 8))
    settings: dict[str, Any] = {"steps": steps, "seed": seed}
    rough, full, rule = recipe.network(4, sampling="replacement"), recipe.network(), ls.SGD(0.1)
    outward = []
    for i in range(0, len(members), 2):
        path = ls.paths.straight_line(members[i], members[i + 1], 5)
        drift = drift_rates(rough, rule, path, (0.25, 0.75), chains=chains, **settings)
        drift = drift - drift_rates(full, rule, path, (0.25, 0.75), chains=1, **settings)
        outward.append((drift.mean(axis=1) * [-1, 1]).mean())
    return np.array(outward)


def claims(found: xr.Dataset, drift: np.ndarray) -> list[Verdict]:
    """Questions, not claims of the paper: each average minus the member, over families."""
    note = f"a question, not a claim of the paper; mean over {found.sizes['pair']} families"
    verdicts = []
    for kind in found.kind.values[1:]:
        for quantity in QUANTITIES:
            change = (found[quantity].sel(kind=kind) - found[quantity].sel(kind="member")).values
            bound: dict[str, Any] = {"above": 0.0} if quantity == "accuracy" else {"below": 0.0}
            word = "higher" if quantity == "accuracy" else "lower"
            text = f"{kind}: {quantity.replace('_', ' ')} is {word} than that of a member"
            verdicts.append(judge(text, *on_pairs(change), note=note, **bound))
    text = "drift on the line from the average to the nearer sibling, beyond that on all data"
    return [*verdicts, judge(text, *on_pairs(drift), above=0, note=note)]


# %%
# The figure
# ----------


def draw(found: xr.Dataset, line: xr.Dataset) -> Figure:
    """Every quantity at members and averages, family by family, and the line between children."""
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.4), layout="constrained")
    kinds = found.kind.values
    for ax, quantity, name in zip(axes.flat, QUANTITIES, NAMES, strict=False):
        values = found[quantity].transpose("kind", "pair")
        ax.plot(np.arange(3), values, color="0.8", lw=0.8)
        for i in range(3):
            mean, error = on_pairs(values[i])
            ax.errorbar(i, mean, error, fmt=MARKERS[1 + i], color=COLOURS[1 + i], capsize=3)
        ax.set_xticks(np.arange(3), [str(kind).replace(" of ", "\nof ") for kind in kinds])
        ax.set_ylabel(name)
        ax.margins(x=0.2)
    fraction = np.linspace(0, 1, line.sizes["pivot"])
    for ax, names in zip(axes.flat[6:], (QUANTITIES[:2], QUANTITIES[2:3]), strict=True):
        for i, quantity in enumerate(names, 1):
            ax.plot(
                fraction,
                line[quantity].mean("pair"),
                color=COLOURS[i],
                marker=MARKERS[i],
                label=NAMES[QUANTITIES.index(quantity)],
            )
        ax.set_xlabel("part of the way between siblings")
        ax.legend(fontsize=8)
    axes.flat[6].set(yscale="log", ylabel="cross-entropy")
    axes.flat[7].set_ylabel("held-out accuracy")
    return figure


if __name__ == "__main__":
    command_line(reproduce)
