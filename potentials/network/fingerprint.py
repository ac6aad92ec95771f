"""What a network is made of, as plain data: by recipe where it has one, by fingerprint where not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from landscape.common.codec import name_of
from landscape.potentials import architectures
from landscape.potentials.losses import NamedLoss, SampleLoss
from landscape.potentials.network.function import NetworkFunction
from landscape.potentials.network.samples import Samples

__all__ = ["common_facts", "loss_name", "module_recipe"]


def loss_name(loss: SampleLoss) -> str | dict[str, Any]:
    """The short name of a loss, a table of its settings, or where to find the callable.

    Examples
    --------
    >>> from landscape.potentials.losses import Huber
    >>> loss_name(Huber(delta=0.5))
    {'kind': 'huber', 'delta': 0.5}
    """
    return loss.spec() if isinstance(loss, NamedLoss) else name_of(loss)


def module_recipe(module: nn.Module) -> dict[str, Any]:
    """How to make the module again, if it still is as it was made; else its fingerprint.

    Examples
    --------
    >>> module_recipe(nn.Linear(2, 1))["name"]
    'torch.nn.modules.linear:Linear'
    """
    fingerprint = _fingerprint(module)
    recipe = getattr(module, "architecture", None)
    if isinstance(recipe, Mapping) and "kind" in recipe:
        fresh = architectures.from_spec(recipe)
        if _fingerprint(fresh)["sha256"] == fingerprint["sha256"]:
            return dict(recipe)
    return fingerprint


def common_facts(network: NetworkFunction, data: Samples) -> dict[str, Any]:
    """What of a network and its data has to be equal where several processes hold parts of the data."""
    facts: dict[str, Any] = {f"parameter {slot.name}": list(slot.shape) for slot in network.layout}
    parts = [("inputs", data.inputs)] if isinstance(data.inputs, torch.Tensor) else list(data.inputs.items())
    for name, values in (*parts, ("targets", data.targets)):
        facts[name] = f"{values.dtype} of shape (n, {', '.join(map(str, values.shape[1:]))})"
    return facts | {
        "the held-out data": "missing" if data.evaluation is None else "given",
        "the loss": loss_name(network.loss),
        "batchnorm": network.batchnorm,
        "dtype": str(network.dtype),
        "the module with its weights": module_recipe(network.snapshot),
    }


def _fingerprint(module: nn.Module) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return {"kind": "python", "name": name_of(type(module)), "sha256": digest.hexdigest()}
