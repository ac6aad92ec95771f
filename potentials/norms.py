"""What batch normalisation does in a landscape: three policies, none of which touches the user's module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.errors import ConfigError

__all__ = ["BatchNormPolicy", "apply_policy", "has_running_statistics", "reestimated_statistics"]

BatchNormPolicy = Literal["batch", "frozen", "reestimate"]


def _batch_norms(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, _BatchNorm)]


def has_running_statistics(module: nn.Module) -> bool:
    """Whether any layer keeps running means and variances."""
    return any(part.running_mean is not None for _, part in _batch_norms(module))


def check_policy(module: nn.Module, policy: str | None) -> str | None:
    """The policy in force (None where there is nothing to decide).

    Raises
    ------
    ConfigError
        If the module keeps running statistics and no policy was chosen, or the choice is unknown.
    """
    if policy is not None and policy not in ("batch", "frozen", "reestimate"):
        raise ConfigError(f'batchnorm must be "batch", "frozen" or "reestimate", got {policy!r}')
    if not has_running_statistics(module):
        return None
    if policy is None:
        raise ConfigError(
            "the module has batch normalisation with running statistics, and what they do is part of the landscape: "
            'choose batchnorm="frozen" (the module\'s statistics as constants), "batch" (those of each batch) or '
            '"reestimate" (recomputed at every position that is evaluated)'
        )
    return policy


def apply_policy(module: nn.Module, *, use_batch_statistics: bool) -> None:
    """Set a private module to evaluation mode, with normalisation by batch or by stored statistics."""
    module.eval()
    for _, part in _batch_norms(module):
        if use_batch_statistics:
            # without running statistics the layer normalises by its batch and records nothing
            part.running_mean = part.running_var = None
            part.num_batches_tracked = None
            part.track_running_stats = False


def reestimated_statistics(
    module: nn.Module, parameters: dict[str, Tensor], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Buffers of a module with running statistics averaged over batches at given parameters.

    The average weighs batches by their size, so a short last batch changes nothing. `module` is private to the caller
    and left in evaluation mode.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    names = [name for name, _ in _batch_norms(module)]
    sums = {f"{name}.{kind}": torch.zeros_like(buffers[f"{name}.{kind}"]) for name in names for kind in _KINDS}
    total = 0
    layers = [part for _, part in _batch_norms(module)]
    momenta = [part.momentum for part in layers]
    try:
        for part in layers:
            part.train()
            part.momentum = 1.0  # each batch replaces the statistics, so that they can be read off
        for batch in batches:
            torch.func.functional_call(module, (parameters, buffers), (batch,))
            total += len(batch)
            for key, value in sums.items():
                value += len(batch) * buffers[key]
    finally:
        for part, momentum in zip(layers, momenta, strict=True):
            part.momentum = momentum
            part.eval()
    return buffers | {key: value / total for key, value in sums.items()}


_KINDS = ("running_mean", "running_var")
