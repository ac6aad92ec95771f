"""What a network is made of, as plain data: by recipe where it has one, by fingerprint where not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from landscape.potentials import architectures
from landscape.potentials.losses import SampleLoss, named_loss
from landscape.potentials.network_function import NetworkFunction
from landscape.potentials.samples import Samples

__all__ = ["common_facts", "loss_name", "module_recipe"]


def loss_name(loss: SampleLoss) -> str:
    """The short name of a loss, or where to find the callable.

    Examples
    --------
    >>> loss_name(named_loss("mse"))
    'mse'
    """
    return next((name for name in ("cross_entropy", "mse") if named_loss(name) is loss), _name(loss))


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
    for name, values in (("inputs", data.inputs), ("targets", data.targets)):
        facts[name] = f"{values.dtype} of shape (n, {', '.join(map(str, values.shape[1:]))})"
    return facts | {
        "the held-out data": "missing" if data.evaluation is None else "given",
        "the loss": loss_name(network.loss),
        "batchnorm": network.batchnorm,
        "dtype": str(network.dtype),
        "the module with its weights": module_recipe(network.module),
    }


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _fingerprint(module: nn.Module) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return {"kind": "python", "name": _name(type(module)), "sha256": digest.hexdigest()}
