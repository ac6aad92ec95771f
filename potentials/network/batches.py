"""Which samples a chain sees at a step: a pure function of (data seed, chain, step)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from landscape import random
from landscape.checks import one_of
from landscape.errors import ConfigError

__all__ = ["BatchKeys", "BatchSampler", "Sampling", "check_sampling"]

Sampling = Literal["epoch", "independent", "replacement"]
SAMPLINGS = ("epoch", "independent", "replacement")


def check_sampling(sampling: str) -> None:
    """Refuse what is no way to draw minibatches.

    Raises
    ------
    ConfigError
    """
    one_of("sampling", sampling, SAMPLINGS)


@dataclass(frozen=True, slots=True)
class BatchKeys:
    """What a chain's minibatches are derived from: chains with equal seed and stream see the same batches.

    Attributes
    ----------
    seeds : tuple of int
        Data seed of every chain.
    streams : tuple of int
        Number of the chain within the seed; 0 for all where batches are shared.
    """

    seeds: tuple[int, ...]
    streams: tuple[int, ...]

    def groups(self) -> list[tuple[int, list[int]]]:
        """Chains by seed: ``(seed, positions of its chains)``."""
        found: dict[int, list[int]] = {}
        for position, seed in enumerate(self.seeds):
            found.setdefault(seed, []).append(position)
        return list(found.items())

    @property
    def shared(self) -> bool:
        """Whether all chains see the same batches."""
        return len(set(zip(self.seeds, self.streams, strict=True))) == 1


@dataclass(slots=True)
class BatchSampler:
    """Minibatch indices by step.

    Parameters
    ----------
    samples : int
        Size of the data set.
    batch_size : int
        Samples per step; the last batch of an epoch holds what is left.
    sampling : {"epoch", "independent", "replacement"}
        A new random order of all samples each epoch; a random subset of its own at each step; or single samples drawn
        independently, which may come twice. The covariances of batch gradients differ, see
        `probes.fluctuations.batch_temperature`: those of an epoch sum to zero.
    """

    samples: int
    batch_size: int
    sampling: Sampling = "epoch"
    _orders: dict[tuple[BatchKeys, int, torch.device], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.samples:
            raise ConfigError(f"batch_size must be from 1 to the {self.samples} samples, got {self.batch_size}")
        check_sampling(self.sampling)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that make up one pass over the data."""
        return -(-self.samples // self.batch_size)

    def indices(self, keys: BatchKeys, step: int, device: torch.device) -> Tensor:
        """Sample numbers, int64 ``(chains, batch)``, or ``(1, batch)`` where all chains share them."""
        if keys.shared:
            keys = BatchKeys(keys.seeds[:1], keys.streams[:1])
        if self.sampling == "replacement":
            return self._assemble(keys, device, lambda seed, streams: self._draw(seed, streams, step))
        if self.sampling == "independent":
            return self._assemble(keys, device, lambda seed, streams: self._subset(seed, streams, step))
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = self._orders.get((keys, epoch, device))
        if order is None:
            order = self._assemble(
                keys, device, lambda seed, streams: random.permutation(seed, streams, epoch, self.samples)
            )
            self._orders.clear()  # one epoch at a time
            self._orders[(keys, epoch, device)] = order
        return order[:, batch * self.batch_size : (batch + 1) * self.batch_size]

    def _assemble(self, keys: BatchKeys, device: torch.device, make: object) -> Tensor:
        rows: list[Tensor | None] = [None] * len(keys.seeds)
        for seed, positions in keys.groups():
            streams = torch.tensor([keys.streams[p] for p in positions], device=device)
            for position, row in zip(positions, make(seed, streams), strict=True):  # type: ignore[operator]
                rows[position] = row
        return torch.stack([row for row in rows if row is not None])

    def _subset(self, seed: int, streams: Tensor, step: int) -> Tensor:
        order = random.permutation(seed, streams, step, self.samples, stream=random.SUBSETS)
        return order[:, : self.batch_size]

    def _draw(self, seed: int, streams: Tensor, step: int) -> Tensor:
        calls = torch.arange(-(-self.batch_size // 2), device=streams.device)
        at = torch.full((), step, dtype=torch.int64, device=streams.device)
        words = random.random_words(seed, random.REPLACEMENT, streams[:, None], at, calls[None, :])
        # 53-bit fractions: the bias of the rounding is below 1e-9 for any data set that fits in memory
        fraction = ((words[..., 0::2] << 21) | (words[..., 1::2] >> 11)).to(torch.float64) * 2.0**-53
        return (fraction.reshape(len(streams), -1)[:, : self.batch_size] * self.samples).to(torch.int64)
