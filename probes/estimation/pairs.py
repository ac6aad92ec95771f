"""Chains that ride opposite noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.errors import ConfigError

__all__ = ["means_of_pairs", "pair_of_chains", "refuse_pairs"]


def pair_of_chains(run: Any, chains: int) -> NDArray[np.int64]:
    """Number of the pair of each chain; of its own where a run has none."""
    if "pair" not in run.coords:
        return np.arange(chains)
    return np.unique(run.coords["pair"].to_numpy(), return_inverse=True)[1].astype(np.int64)


def means_of_pairs(values: NDArray[np.float64], pair: NDArray[np.int64]) -> NDArray[np.float64]:
    """Averages ``(pair, ...)`` of values ``(chain, ...)`` over the chains of each pair.

    Examples
    --------
    >>> means_of_pairs(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 4]))
    array([2., 5.])
    """
    first, number, count = np.unique(pair, return_inverse=True, return_counts=True)
    total = np.zeros((len(first), *values.shape[1:]))
    np.add.at(total, number, values)
    return total / count.reshape(-1, *[1] * (values.ndim - 1))


def refuse_pairs(samples: Any) -> None:
    """Refuse to take both chains of a pair for independent.

    Raises
    ------
    ConfigError
    """
    pair = getattr(samples, "coords", {}).get("pair")
    if pair is not None and len(np.unique(pair)) < pair.size:
        raise ConfigError(
            "this run has pairs of chains with opposite noise, which are not independent: take one chain of each, "
            "such as run.isel(chain=slice(None, None, 2)), or average over pairs yourself"
        )
