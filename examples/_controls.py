"""Controls of the script `relaxation`: landscapes in which the drift of projected dynamics is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

import landscape as ls
from landscape.examples._digits import drift_rates
from landscape.potentials import NetworkLoss, Valley, architectures, datasets
from landscape.workflows.reproduction import by_size

__all__ = ["channel_drift", "excess_of_twin", "linear_twin", "path_of_twin", "pooled"]


def linear_twin(batch_size: int | None = None) -> NetworkLoss:
    """Squared error of a linear network: one Hessian everywhere."""
    data = datasets.digits()
    labels = torch.nn.functional.one_hot(torch.as_tensor(data.targets).long(), 10).float()
    return NetworkLoss(
        architectures.mlp([64, 10]), data.inputs, labels, loss="mse", batch_size=batch_size, sampling="replacement"
    )


def path_of_twin() -> ls.paths.Path:
    """A straight line through the minimum, in a direction fixed in advance."""
    middle = ls.minimize(linear_twin(), method="lbfgs", tolerance=1e-4).position.values
    away = np.random.default_rng(0).normal(size=len(middle)) / len(middle) ** 0.5
    return ls.paths.straight_line(middle - 5 * away, middle + 5 * away, 5)


def excess_of_twin(batches: Any, sides: Any, lr: float, size: str, seed: int) -> xr.Dataset:
    """Velocity of the twin on minibatches minus that on all data, in parts of the path per unit of lr * steps.

    In independent repeats: of few numbers one or the other is beyond 2 errors by chance.
    """
    repeats, steps, chains = by_size(size, quick=(4, 200, 8), small=(16, 1000, 64), paper=(16, 1000, 64))
    path = path_of_twin()

    def rates(batch_size: int | None, chains: int, own_seed: int) -> np.ndarray:
        return drift_rates(linear_twin(batch_size), ls.SGD(lr), path, sides, chains=chains, steps=steps, seed=own_seed)

    noisy_rates = np.array([[rates(b, chains, seed + 100 + r) for b in batches] for r in range(repeats)])
    beyond = noisy_rates - rates(None, 1, seed)
    dims = ("repeat", "batch_size", "side")
    return xr.Dataset(
        {"excess": (dims, beyond.mean(-1)), "excess_stderr": (dims, beyond.std(-1, ddof=1) / chains**0.5)},
        {"batch_size": list(batches), "side": list(sides)},
    )


def pooled(twin: xr.Dataset) -> xr.Dataset:
    """Mean over the repeats, with its error."""
    error = (twin.excess_stderr**2).sum("repeat") ** 0.5 / twin.sizes["repeat"]
    return xr.Dataset({"excess": twin.excess.mean("repeat"), "excess_stderr": error})


def channel_drift(g: str, size: str, seed: int) -> tuple[float, float, float]:
    """Drift at y = 1 in the channel, its error, and the closed form for blocks of k steps."""
    k, dt, temperature, y = 20, 0.02, 0.05, 1.0
    chains = by_size(size, quick=20_000, small=100_000, paper=1_000_000)
    run = ls.simulate(
        Valley(g), ls.EulerMaruyama(dt), temperature=temperature, start=[0.0, y], chains=chains, steps=k, seed=seed,
        constraint=ls.ProjectOntoPath(ls.paths.straight_line([0.0, -3.0], [0.0, 3.0]), every=k), record=ls.Record(k),
        progress=False,
    )  # fmt: skip
    moved = (run.arc_length.values[:, -1] - run.arc_length.values[:, 0]) / (k * dt)
    value, slope = (1 + 4 * np.exp(-(y**2)), -8 * y * np.exp(-(y**2))) if "exp" in g else (float(g), 0.0)
    rho = 1 - dt * value
    exact = -slope * dt * temperature / (1 - rho**2) * (1 - (1 - rho ** (2 * k)) / (k * (1 - rho**2)))
    return float(moved.mean()), float(moved.std(ddof=1) / chains**0.5), exact
