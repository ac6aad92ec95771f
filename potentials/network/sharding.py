"""A data set in parts, one on each rank of a `torch.distributed` process group, and means over all of them."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, distributed

from landscape.errors import ConfigError

__all__ = ["Shards"]

_BITS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """Who holds which samples: rank r those from ``sum(sizes[:r])`` on, in the order of the ranks.

    All ranks have to make the same calls with the same positions. Without a group there is one rank, and a sum over
    ranks is what was given.

    Attributes
    ----------
    sizes : tuple of int
        Samples on every rank.
    rank : int
        This process's place among them.
    reference : weak reference to a torch.distributed.ProcessGroup, or None
        Weak, because `torch.distributed.destroy_process_group` ends the threads of a group only when nobody holds it:
        one that is still letting go of a tensor while the interpreter ends aborts the process.

    Raises
    ------
    ConfigError
        By everything that is summed or gathered, once the group has been destroyed.

    Examples
    --------
    >>> alone = Shards((3,))
    >>> alone.samples, alone.mean(3, torch.tensor([1.0, 2.0]))
    (3, (tensor([1., 2.]),))
    """

    sizes: tuple[int, ...]
    rank: int = 0
    reference: weakref.ref[Any] | None = None

    @property
    def group(self) -> Any:
        """The process group, or None without one."""
        if self.reference is None:
            return None
        group = self.reference()
        if group is None:
            raise ConfigError(
                "the process group of this loss has been destroyed: ask for energies and curvature before "
                "torch.distributed.destroy_process_group, or make the loss again with a new group"
            )
        return group

    @property
    def samples(self) -> int:
        """Samples on all ranks together."""
        return sum(self.sizes)

    @property
    def own(self) -> slice:
        """Place of this rank's samples among all."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, without a graph."""
        group = self.group
        if group is None:
            return values
        total = values.detach().contiguous().clone()
        distributed.all_reduce(total, group=group)
        return total

    def mean(self, count: int | Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        """Means over all samples, from means over this rank's.

        Parameters
        ----------
        count : int, or tensor of shape ``(rows,)``
            Samples that the values are means over: the weights.
        *values : tensors, shape ``(rows, ...)``
            All of them travel together.
        """
        if self.reference is None:
            return values
        weight = torch.as_tensor(count).to(values[0])
        parts = [weight, *(_scaled(value, weight) for value in values)]
        flat = self.sum(torch.cat([part.reshape(-1) for part in parts]))
        total, *sums = (
            one.view_as(part) for one, part in zip(flat.split([part.numel() for part in parts]), parts, strict=True)
        )
        return tuple(_scaled(value, 1 / total) for value in sums)

    def gathered(self, values: Tensor, dim: int) -> Tensor:
        """Values of all samples, which run along `dim`, from those of this rank's."""
        group = self.group
        if group is None:
            return values
        return torch.cat(_gather(group, values.detach().movedim(dim, 0))).movedim(0, dim)

    def members(self, indices: Tensor) -> list[Tensor]:
        """Of samples ``(rows, batch)`` numbered through all ranks, those of this rank by their place in it."""
        own = self.own
        return [row[(row >= own.start) & (row < own.stop)] - own.start for row in indices]

    def check_same(self, what: str, values: Tensor) -> None:
        """Refuse values that are not the same bits on all ranks: sums over ranks would mean nothing.

        Raises
        ------
        ConfigError
            On every rank.
        """
        group = self.group
        if group is None:
            return
        digest = values.detach().contiguous().view(_BITS[values.element_size()]).sum(dtype=torch.int64)
        extremes = torch.stack([digest, -digest])
        distributed.all_reduce(extremes, op=distributed.ReduceOp.MAX, group=group)
        if int(extremes[0]) != -int(extremes[1]):
            raise ConfigError(
                f"the ranks of the process group have different {what}: give every rank the same start, seed and "
                "settings, and the same kind of processor"
            )

    @classmethod
    def joined(
        cls, process_group: Any, samples: int, facts: Mapping[str, Any], data: Mapping[str, Any], device: torch.device
    ) -> tuple[Shards, dict[str, Any]]:
        """The shards of a group whose ranks agree, and a description of the data of all of them.

        Parameters
        ----------
        process_group : torch.distributed.ProcessGroup or "world"
        samples : int
            On this rank.
        facts : mapping of str to plain data
            What has to be equal on all ranks.
        data : mapping
            Description of this rank's samples.
        device : torch.device
            Where tensors travel from.

        Raises
        ------
        ConfigError
            If it is no group of which this process is a member, or the ranks differ in a fact, which is named.
        """
        group = _checked(process_group)
        told = json.dumps({"samples": samples, "facts": facts, "data": data}).encode()
        try:
            heard = _gather(group, torch.frombuffer(bytearray(told), dtype=torch.uint8).to(device))
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the ranks could not exchange what they have ({distributed.get_backend(group)} on {device}): {error}. "
                "Use gloo for the CPU and nccl for GPUs, and make the loss on every rank"
            ) from error
        ranks = [json.loads(bytes(one.cpu().tolist())) for one in heard]
        _check_equal([rank["facts"] for rank in ranks])
        sizes = tuple(int(rank["samples"]) for rank in ranks)
        shards = cls(sizes, distributed.get_rank(group), weakref.ref(group))
        return shards, {"kind": "shards", "samples": list(sizes), "parts": [rank["data"] for rank in ranks]}


def _scaled(rows: Tensor, weight: Tensor) -> Tensor:
    """Rows times one weight, or one each."""
    return (rows.movedim(0, -1) * weight).movedim(-1, 0)


def _checked(process_group: Any) -> Any:
    if not distributed.is_available() or not distributed.is_initialized():
        raise ConfigError(
            "process_group needs torch.distributed: start with torchrun and call "
            'torch.distributed.init_process_group("gloo") first'
        )
    group = distributed.group.WORLD if isinstance(process_group, str) and process_group == "world" else process_group
    if not isinstance(group, distributed.ProcessGroup):
        raise ConfigError(
            'process_group must be a torch.distributed.ProcessGroup that this process is a member of, or "world", got '
            f"{process_group!r}"
        )
    return group


def _gather(group: Any, rows: Tensor) -> list[Tensor]:
    """Rows ``(n_r, ...)`` of every rank; n_r may differ."""
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(counts, count, group=group)
    lengths = [int(one) for one in counts]
    padded = rows.new_zeros((max(lengths), *rows.shape[1:]))
    padded[: len(rows)] = rows
    found = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(found, padded, group=group)
    return [one[:length] for one, length in zip(found, lengths, strict=True)]


def _check_equal(facts: list[dict[str, Any]]) -> None:
    for name in sorted({name for one in facts for name in one}):
        values = [one.get(name, "none") for one in facts]
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise ConfigError(
                f"the ranks of the process group differ: {name} is {values[0]} on rank 0 and {values[other]} on rank "
                f"{other}; every rank needs the same module and settings, and samples of the same kind"
            )
