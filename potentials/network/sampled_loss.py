"""What second derivatives need to know of a loss that is a mean over samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from landscape.potentials.network.batch import Inputs
from landscape.potentials.network.layout import Layout
from landscape.potentials.network.sharding import Shards

__all__ = ["SampledLoss"]


class SampledLoss(Protocol):
    """A mean of per-sample losses of a module's outputs; `NetworkLoss` is one."""

    dim: int
    layout: Layout
    shards: Shards
    inputs: Inputs
    targets: Tensor
    weight_decay: float
    chunk_size: int | None
    batchnorm: str | None
    dtype: torch.dtype
    device: torch.device
    measured: dict[Any, Any]

    @property
    def samples_interact(self) -> bool:
        """Whether the outputs of a sample depend on the others that are evaluated with it."""

    @property
    def samples(self) -> int:
        """Size of the data set, on all ranks together."""

    def forward(self, parameters: Mapping[str, Tensor], inputs: Inputs, buffers: Mapping[str, Tensor]) -> Tensor:
        """Outputs for trainable parameters by name."""

    def losses_at(self, vector: Tensor, inputs: Inputs, targets: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:
        """Loss of every sample ``(samples,)`` at a position ``(dim,)``, with its graph."""

    def snapshot_position(self) -> Tensor:
        """The module's weights, as they were when the loss was made."""

    def losses_of(self, outputs: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
        """Loss of every sample for given outputs."""

    def hessian_product(self, position: Tensor, inputs: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Products with the Hessian of the mean loss over some samples, where they are written out."""

    def statistics_at(self, vector: Tensor) -> Mapping[str, Tensor]:
        """Buffers with which quantities at a position are computed."""
