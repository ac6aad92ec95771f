"""What batch normalisation does in a landscape: three policies, none of which touches the user's module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from landscape.checks import one_of
from landscape.errors import ConfigError

__all__ = ["BatchNormPolicy", "apply_policy", "has_running_statistics", "reestimated_statistics", "statistic_names"]

BatchNormPolicy = Literal["batch", "frozen", "reestimate"]


def _batch_norms(module: nn.Module) -> list[tuple[str, _BatchNorm]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, _BatchNorm)]


def has_running_statistics(module: nn.Module) -> bool:
    """Whether any layer keeps running means and variances."""
    return any(part.running_mean is not None for part in module.modules() if isinstance(part, _NormBase))


def statistic_names(module: nn.Module) -> frozenset[str]:
    """Names of the buffers that hold running means and variances."""
    norms = [(name, part) for name, part in module.named_modules() if isinstance(part, _NormBase)]
    return frozenset(
        f"{name}.{kind}".removeprefix(".") for name, _ in norms for kind in ("running_mean", "running_var")
    )


def check_policy(module: nn.Module, policy: str | None) -> str | None:
    """The policy in force (None where there is nothing to decide).

    A layer without running statistics normalises by its batch in either mode: there the policy is "batch".

    Raises
    ------
    ConfigError
        If the module keeps running statistics and no policy was chosen, or the choice is unknown or impossible.
    """
    if policy is not None:
        one_of("batchnorm", policy, ("batch", "frozen", "reestimate"))
    without = [name or "the module" for name, part in _batch_norms(module) if part.running_mean is None]
    if without:
        if policy in ("frozen", "reestimate"):
            raise ConfigError(
                f'batchnorm="{policy}" needs running statistics, and {without[0]!r} keeps none '
                '(track_running_stats=False): it normalises by its batch, batchnorm="batch"'
            )
        if policy is None and not has_running_statistics(module):
            return "batch"
    elif not has_running_statistics(module):
        return None
    if policy is None:
        raise ConfigError(
            "the module has batch normalisation with running statistics, and what they do is part of the landscape: "
            'choose batchnorm="frozen" (the module\'s statistics as constants), "batch" (those of each batch) or '
            '"reestimate" (recomputed at every position that is evaluated)'
        )
    others = [part for part in module.modules() if isinstance(part, _NormBase) and not isinstance(part, _BatchNorm)]
    if policy == "reestimate" and any(part.running_mean is not None for part in others):
        raise ConfigError(
            f"{type(others[0]).__name__} keeps running statistics, and they are re-estimated for BatchNorm only: "
            'choose batchnorm="frozen" or "batch"'
        )
    return policy


def check_gathered(policy: str | None) -> None:
    """Refuse a policy that needs all samples in one place.

    Raises
    ------
    ConfigError
    """
    if policy in ("batch", "reestimate"):
        raise ConfigError(
            f'batchnorm="{policy}" needs the statistics of all samples at once, and those of a process group lie on '
            'different ranks: use batchnorm="frozen", or a network with GroupNorm'
        )


def apply_policy(module: nn.Module, *, use_batch_statistics: bool) -> None:
    """Set a private module to evaluation mode, with normalisation by batch or by stored statistics."""
    module.eval()
    for part in module.modules():
        if use_batch_statistics and isinstance(part, _NormBase):
            # without running statistics the layer normalises by its batch and records nothing
            part.running_mean = part.running_var = None
            part.num_batches_tracked = None
            part.track_running_stats = False


def reestimated_statistics(module: nn.Module, run: Callable[[Mapping[str, Tensor]], None]) -> dict[str, Tensor]:
    """Buffers of a module with the statistics of all data at given parameters, whatever the chunks.

    The same as one forward pass of all data in training mode: layers hand on what they normalised by the biased
    variance, and keep the unbiased one. What a layer sees depends on the statistics of the layers before it, so each
    pass over the chunks makes one more layer exact, in whatever order they run: as many passes as layers at most.

    Parameters
    ----------
    module : torch.nn.Module
        Private to the caller, in evaluation mode.
    run : callable
        Runs the module over all data, with given buffers.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    norms = [(name, part) for name, part in _batch_norms(module) if part.running_mean is not None]
    moments: dict[str, _Moments] = {}
    for _ in norms:
        moments = {name: _Moments() for name, _ in norms}
        hooks = [part.register_forward_pre_hook(moments[name].see) for name, part in norms]
        try:
            run(buffers)
        finally:
            for hook in hooks:
                hook.remove()
        found = {f"{name}.running_mean": seen.mean for name, seen in moments.items()}
        found |= {f"{name}.running_var": seen.squares / seen.count for name, seen in moments.items()}
        found = {key: value.to(buffers[key]) for key, value in found.items()}
        settled = all(torch.equal(value, buffers[key]) for key, value in found.items())
        buffers |= found
        if settled:
            break
    for name, seen in moments.items():
        buffers[f"{name}.running_var"] = (seen.squares / max(seen.count - 1, 1)).to(buffers[f"{name}.running_var"])
    return buffers


class _Moments:
    """Mean and unbiased variance per channel of everything seen, merged chunk by chunk in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(())
        self.squares: Tensor = torch.zeros(())

    def see(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().double().transpose(0, 1).flatten(1)  # (channels, everything else)
        count = values.shape[1]
        mean = values.mean(1)
        squares = (values - mean[:, None]).square().sum(1)
        shift = mean - self.mean
        total = self.count + count
        self.squares = self.squares + squares + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total
