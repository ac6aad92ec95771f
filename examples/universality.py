r"""Is it so for every network?
===============================

P1 shows its effects on wide residual networks. Here the same three questions are put to a perceptron, a convolutional
network without shortcuts (VGG), two kinds of residual networks and a vision transformer, all tiny, on handwritten
digits:

bump
    is the trace of the Hessian larger half-way along a relaxed path than at the higher of its ends? Over pairs of
    minima.
drift
    does minibatch noise push projected networks along the path with the sign that the trace predicts, beyond the push
    on all data? Over chains on both sides of the path of the first pair.
instability
    is the curvature on the line between late children more unstable than the loss? Over initialisations.

The table at the end has a verdict for each, and "not resolved" where the errors are too large: these networks were
trained for seconds, and their paths relaxed for seconds. A path with more than a tenth of the line's barrier left
answers nothing. None has batch normalisation, whose batch statistics would be noise of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import landscape as ls
from landscape.examples._digits import COLOURS, MARKERS, PAIRS, drift_rates, on_pairs
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.probes import confinement
from landscape.workflows.reproduction import UNRESOLVED, Reproduction, Verdict, by_size, command_line, judge

__all__ = ["reproduce"]

NETWORKS: dict[str, Callable[[int], torch.nn.Module]] = {
    "MLP": lambda seed: architectures.mlp([64, 16, 16, 10], seed=seed),
    "VGG": lambda seed: architectures.vgg(7, width=4, channels=1, norm="none", seed=seed),
    "ResNet": lambda seed: architectures.resnet_cifar(8, width=4, channels=1, norm="group", seed=seed),
    "WRN": lambda seed: architectures.wide_resnet(10, 1, channels=1, norm="none", seed=seed),
    "ViT": lambda seed: architectures.vit(1, width=16, heads=2, patch=2, size=8, channels=1, seed=seed),
}
PAPER: dict[str, Callable[[int], torch.nn.Module]] = {
    "VGG": lambda seed: architectures.vgg(16, norm="group", seed=seed),
    "ResNet": lambda seed: architectures.resnet_cifar(20, norm="group", seed=seed),
    "WRN": lambda seed: architectures.wide_resnet(16, 4, norm="group", seed=seed),
    "ViT": lambda seed: architectures.vit(6, width=192, seed=seed),
}
POINTS = 5
QUESTIONS = ("bump", "drift", "instability")

# %%
# One family of networks
# ----------------------


class Family:
    """Networks of one architecture on the data of a size."""

    def __init__(self, name: str, size: str) -> None:
        self.size, self.make = size, (PAPER if size == "paper" else NETWORKS)[name]
        self.adaptive = name == "ViT"  # transformers hardly learn by plain SGD
        samples = by_size(size, quick=60, small=150, paper=0)
        self.data = (
            datasets.digits(samples, flat=name == "MLP") if samples else datasets.cifar10("data", standardize=True)
        )

    def loss(self, batch_size: int | None = None, *, seed: int = 0, decay: float = 1e-3) -> NetworkLoss:
        """Cross-entropy with weight decay."""
        device = "cuda" if self.size == "paper" and torch.cuda.is_available() else "cpu"
        return NetworkLoss(
            self.make(seed), self.data, batch_size=batch_size, weight_decay=decay, sampling="replacement",
            device=device, chunk_size=1000,
        )  # fmt: skip

    def train(self, starts: torch.Tensor, **settings: Any) -> xr.Dataset:
        """Networks from these weights."""
        epochs = by_size(self.size, quick=6, small=60, paper=200)
        rule = ls.Adam(lr=3e-3) if self.adaptive else ls.SGD(lr=0.05, momentum=0.9)
        loss = self.loss(by_size(self.size, quick=20, small=30, paper=256))
        schedule = {0: 1.0, int(0.6 * epochs): 0.2, int(0.85 * epochs): 0.04}
        return ls.train(
            loss, rule, epochs=epochs, schedule=schedule, siblings=len(starts), start=starts, progress=False, **settings
        )

    def starts(self, seeds: Any) -> torch.Tensor:
        """Fresh weights."""
        return torch.stack([self.loss(seed=int(seed)).position().detach() for seed in seeds])

    def curvature(self, path: ls.paths.Path) -> xr.Dataset:
        """Cross-entropy and trace at the pivots; the trace by Hutch++ with the same twelve products at each."""
        settings = {"trace": {"method": "hutch++", "probes": 12}}
        return confinement.along_path(self.loss(decay=0.0), path, ["energy", "trace"], settings=settings)


# %%
# The three questions
# -------------------


def bump(family: Family) -> tuple[xr.Dataset, ls.paths.Path]:
    """Profiles along the paths of several pairs, and the first path."""
    pairs = by_size(family.size, quick=PAIRS[:2], small=PAIRS[:3], paper=PAIRS)
    ends = family.train(family.starts([one for pair in pairs for one in pair]), seed=1).last_position.values
    steps, lr = by_size(family.size, quick=(10, 0.02), small=(80, 0.02), paper=(2000, 0.05))
    rows, paths = [], []
    for i in range(0, len(ends), 2):
        path = ls.paths.string(family.loss(), ends[i], ends[i + 1], pivots=POINTS, steps=steps, lr=lr, momentum=0.9,
                               end_tolerance=np.inf, progress=False)  # fmt: skip
        line = ls.paths.straight_line(ends[i], ends[i + 1]).profile(family.loss(), between=9).barrier
        found = family.curvature(path)[["energy", "trace"]].reset_coords(drop=True).drop_attrs()
        rows.append(found.assign(line=line, left=path.profile(family.loss(), between=3).barrier))
        paths.append(path)
    return xr.concat(rows, "pair"), paths[0].spline


def drift(family: Family, path: ls.paths.Path, seed: int) -> np.ndarray:
    """Drift of every chain beyond that on all data, along the sign that the trace predicts."""
    sides = (0.25, 0.75)
    steps, chains = by_size(family.size, quick=(40, 2), small=(200, 6), paper=(1000, 8))
    force = confinement.barriers(family.curvature(path), 1.0, noise="hessian").entropic_force
    signs = np.sign(np.interp(np.array(sides) * path.length, force.arc_length, force))
    settings: dict[str, Any] = {"steps": steps, "seed": seed}
    rough = drift_rates(family.loss(4), ls.SGD(0.05), path, sides, chains=chains, **settings)
    full = drift_rates(family.loss(), ls.SGD(0.05), path, sides, chains=1, **settings)
    return np.asarray((rough - full) * signs[:, None]).ravel()


def instability(family: Family, seed: int) -> np.ndarray:
    """Log-ratio of the loss minus that of lambda_max, on the line between children of every initialisation."""
    epochs = by_size(family.size, quick=6, small=60, paper=200)
    starts = family.starts(range(by_size(family.size, quick=2, small=5, paper=3))).repeat_interleave(2, dim=0)
    run = family.train(starts, seed=seed, split_epoch=int(0.6 * epochs))
    found = confinement.linear_connectivity(
        family.loss(decay=0.0), run, ["energy", "largest_eigenvalue"], points=5,
        pairs=[(i, i + 1) for i in range(0, len(starts), 2)], settings={"largest_eigenvalue": {"rtol": 0.02}},
    )  # fmt: skip
    ratios = [np.log(confinement.instability(found[name]).ratio.values) for name in ("energy", "largest_eigenvalue")]
    return np.asarray(ratios[0] - ratios[1])


# %%
# The reproduction
# ----------------


def reproduce(size: str, seed: int) -> Reproduction:
    """Every question put to every architecture."""
    verdicts: list[Verdict] = []
    stored: dict[str, xr.Dataset] = {}
    for name in by_size(size, quick=("MLP", "VGG", "ViT"), small=tuple(NETWORKS), paper=tuple(PAPER)):
        family = Family(name, size)
        profiles, path = bump(family)
        pushed, unstable = drift(family, path, seed), instability(family, seed)
        ends = profiles.trace.isel(pivot=[0, -1]).max("pivot")
        relative = profiles.trace.isel(pivot=profiles.sizes["pivot"] // 2) / ends - 1
        line, left, loss = (float(profiles[one].mean()) for one in ("line", "left", "energy"))
        note = f"barrier {line:.2g} on the line, {left:.2g} on the path; mean cross-entropy {loss:.2g}"
        texts = ("relative rise of the trace", "beyond that on all data, along the sign", "of loss minus of lambda_max")
        claims = [f"{name}, {question}: {text}" for question, text in zip(QUESTIONS, texts, strict=True)]
        verdicts += [
            judge(claims[0], *on_pairs(relative), above=0, source="P1 Fig. 2", note=note),
            judge(claims[1], *on_pairs(pushed), above=0, source="P1 Fig. 3"),
            judge(claims[2], *on_pairs(unstable), below=0, source="P1 Fig. 6"),
        ]
        if left > 0.1 * line:
            verdicts[-3] = replace(verdicts[-3], outcome=UNRESOLVED, note=f"{note}: the paths have not relaxed")
        stored[name.lower()] = profiles.assign(drift=("chain", pushed), instability=("family", unstable))
    return Reproduction(stored, draw(stored, verdicts), verdicts)


# %%
# The figure
# ----------


def draw(stored: dict[str, xr.Dataset], verdicts: list[Verdict]) -> Figure:
    """Profiles of the trace, and the table: number / error and what it says."""
    figure, (profile, table) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=[1, 1.25])
    for i, found in enumerate(stored.values(), 1):
        relative = found.trace / found.trace.isel(pivot=[0, -1]).max("pivot")
        fraction = np.linspace(0, 1, found.sizes["pivot"])
        label = verdicts[3 * (i - 1)].claim.split(",")[0]
        profile.plot(fraction, relative.mean("pair"), color=COLOURS[i], marker=MARKERS[i], label=label)
    profile.axhline(1, color="k", lw=0.8, ls="--")
    profile.set(
        xlabel="arc length / length of the path", ylabel="trace of the Hessian / that at the higher end", yscale="log"
    )
    profile.legend(fontsize=8)
    colours = {"holds": COLOURS[3], "does not hold": COLOURS[2]}
    table.set(xlim=(-0.5, 2.5), ylim=(len(stored) - 0.5, -0.5))
    for k, verdict in enumerate(verdicts):
        row, column = divmod(k, 3)
        colour = colours.get(verdict.outcome, "#999999")
        table.add_patch(Rectangle((column - 0.48, row - 0.45), 0.96, 0.9, color=colour, alpha=0.25))
        word = verdict.outcome.replace(" at this size", "")
        table.text(
            column,
            row,
            f"{word}\n{verdict.value:.2g} $\\pm$ {verdict.stderr:.1g}",
            ha="center",
            va="center",
            fontsize=9,
        )
    table.set_xticks(range(3), QUESTIONS)
    table.set_yticks(range(len(stored)), [verdicts[3 * i].claim.split(",")[0] for i in range(len(stored))])
    table.xaxis.tick_top()
    table.tick_params(length=0)
    return figure


if __name__ == "__main__":
    command_line(reproduce)
