"""What the scripts on trained networks share: the networks, their minima, and plain numbers from runs on a path.

At sizes quick and small a perceptron learns scikit-learn's handwritten digits; at size paper a WRN-16-4 learns
CIFAR-10, which is read from the folder ``data``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

import landscape as ls
from landscape.potentials import NetworkLoss, architectures, datasets
from landscape.workflows.reproduction import by_size

__all__ = ["COLOURS", "MARKERS", "PAIRS", "Recipe", "drift_rates", "minima", "on_pairs", "projected"]

Sampling = Literal["epoch", "replacement"]
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))  # of seeds, fixed before anything was measured
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # after Okabe and Ito (2008)
MARKERS = (".", "o", "^", "s", "v", "D", "P")


@dataclass(frozen=True)
class Recipe:
    """How networks of a size are made and trained.

    Parameters
    ----------
    size : {"quick", "small", "paper"}
    """

    size: str

    def network(
        self, batch_size: int | None = None, *, seed: int = 0, decay: bool = True, sampling: Sampling = "epoch"
    ) -> NetworkLoss:
        """The loss of a network with fresh weights; without `decay` the cross-entropy alone."""
        weight_decay = by_size(self.size, quick=1e-3, small=1e-3, paper=5e-4) if decay else 0.0
        if self.size == "paper":
            return NetworkLoss(
                architectures.wide_resnet(16, 4, seed=seed), datasets.cifar10("data", standardize=True),
                batch_size=batch_size, weight_decay=weight_decay, batchnorm="reestimate", chunk_size=1000,
                sampling=sampling,
                augment=datasets.FlipCrop() if batch_size else None,
                device="cuda" if torch.cuda.is_available() else "cpu",
            )  # fmt: skip
        widths = [64, 16, 16, 10] if self.size == "quick" else [64, 32, 32, 10]
        data = datasets.digits(300 if self.size == "quick" else 1400)
        return NetworkLoss(
            architectures.mlp(widths, seed=seed),
            data,
            batch_size=batch_size,
            weight_decay=weight_decay,
            sampling=sampling,
        )

    @property
    def rate(self) -> ls.SGD:
        """The optimiser of the training."""
        return ls.SGD(lr=0.1, momentum=by_size(self.size, quick=0.0, small=0.0, paper=0.9))

    @property
    def schedule(self) -> dict[int, float] | None:
        """Factors on the rate by epoch."""
        paper = {0: 1.0, 60: 0.2, 120: 0.04, 160: 0.008, 180: 0.0016}
        return by_size(self.size, quick=None, small=None, paper=paper)


def minima(recipe: Recipe, seeds: Any) -> xr.Dataset:
    """Networks trained by SGD from the weights of each seed, then moved down the gradient on all data.

    Returns
    -------
    xarray.Dataset
        ``position (seed, coordinate)``, ``gradient_norm (seed)``, and the way there: ``training (seed, epoch,
        coordinate)``.
    """
    size, seeds = recipe.size, [int(seed) for seed in seeds]
    epochs, every = by_size(size, quick=(60, 5), small=(80, 5), paper=(200, 20))
    steps = by_size(size, quick=1000, small=3000, paper=1)
    learning = recipe.network(by_size(size, quick=32, small=32, paper=256))
    starts = torch.stack([recipe.network(seed=seed).position().detach() for seed in seeds])
    sampler: Any = learning.sampler
    record = ls.Record(every * sampler.steps_per_epoch, observables=["energy", "position"])
    trained = ls.train(
        learning, recipe.rate, epochs=epochs, schedule=recipe.schedule, siblings=len(seeds), start=starts, seed=1,
        record=record, progress=False,
    )  # fmt: skip
    settle = ls.SGD(lr=by_size(size, quick=0.1, small=0.1, paper=1e-3), momentum=0.9)
    found = ls.simulate(
        recipe.network(), settle, start=trained, steps=steps, progress=False,
        record=ls.Record(steps, observables=["energy", "gradient_norm"]),
    )  # fmt: skip
    return xr.Dataset(
        {
            "position": (("seed", "coordinate"), found.last_position.values),
            "gradient_norm": ("seed", found.gradient_norm.values[:, -1]),
            "training": (("seed", "epoch", "coordinate"), trained.position.values),
        },
        {"seed": seeds, "epoch": every * np.arange(1, trained.sizes["draw"] + 1)},
    )


def on_pairs(values: Any) -> tuple[float, float]:
    """Mean and standard error over independent pairs, chains or seeds."""
    values = np.asarray(values, dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def projected(
    loss: Any,
    integrator: Any,
    path: ls.paths.Path,
    fractions: Any,
    *,
    chains: int,
    steps: int,
    seed: int,
    **settings: Any,
) -> xr.Dataset:
    """A run of so many chains from each of these fractions of a path, put back on it every 20 steps.

    By the tangent rule, which cannot stick to pivots; momenta are kept.
    """
    starts = np.repeat(np.asarray(fractions, dtype=float), chains)
    return ls.simulate(
        loss, integrator, start=np.float32(path.at(starts * path.length)), steps=steps, seed=seed, progress=False,
        constraint=ls.ProjectOntoPath(path, every=20, update="tangent"), record=ls.Record(steps),
        **settings,
    )  # fmt: skip


def drift_rates(
    loss: Any, integrator: Any, path: ls.paths.Path, fractions: Any, *, chains: int, steps: int, seed: int
) -> np.ndarray:
    """Velocities ``(fraction, chain)`` of a `projected` run, in parts of the path per unit of lr * steps."""
    run = projected(loss, integrator, path, fractions, chains=chains, steps=steps, seed=seed)
    moved = run.arc_length.values[:, -1] - run.arc_length.values[:, 0]
    elapsed = run.projection_time.values[..., -1]
    return np.asarray((moved / elapsed / path.length).reshape(len(fractions), chains))
