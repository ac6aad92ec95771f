"""Architectures by name, from plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from landscape.checks import known_options, one_of
from landscape.common.arguments import guarded
from landscape.potentials.architectures.dense import mlp
from landscape.potentials.architectures.plain import vgg
from landscape.potentials.architectures.residual import resnet_cifar
from landscape.potentials.architectures.transformer import vit
from landscape.potentials.architectures.wide import wide_resnet

__all__ = ["from_spec"]

_KINDS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "resnet_cifar": resnet_cifar,
    "vgg": vgg,
    "vit": vit,
    "wide_resnet": wide_resnet,
}


@guarded
def from_spec(spec: Mapping[str, Any]) -> nn.Module:
    """A network from its arguments as plain data; the way back is the attribute `architecture` of the network.

    Parameters
    ----------
    spec : mapping
        ``kind``, the name of a function of this package, and its arguments.

    Returns
    -------
    torch.nn.Module
        Equal to the first, if its weights have not changed since.

    Raises
    ------
    ConfigError
        If the kind or an argument is unknown or makes no sense.

    Examples
    --------
    >>> network = from_spec({"kind": "mlp", "sizes": [2, 3, 1], "seed": 1})
    >>> network.architecture["sizes"]
    [2, 3, 1]
    """
    options = dict(spec)
    kind = one_of("kind", options.pop("kind", None), _KINDS)
    return _KINDS[kind](**known_options(kind, _KINDS[kind], options))
