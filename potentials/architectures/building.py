"""What all architectures share: seeded initial weights, normalisation layers, initialisation for ReLU networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Generator, nn

from landscape.checks import one_of, whole_number
from landscape.common.arguments import guarded
from landscape.common.docstrings import completed

__all__ = ["architecture", "build", "initialise_relu", "normalisation", "positive"]

NORMS = ("batch", "group", "none")
_P = ParamSpec("_P")
_Module = TypeVar("_Module", bound=nn.Module)
_USUAL = {
    "width": "width : int\n    Channels of the first stage.",
    "classes": "classes : int\n    Number of outputs.",
    "channels": "channels : int\n    Channels of the images: 3 for colour, 1 for grey.",
    "norm": 'norm : str\n    ``"batch"``, ``"group"`` or ``"none"``, as for `resnet_cifar`.',
    "seed": "seed : int\n    Seed of the weights; the global random state is not used.",
}


def architecture(function: Callable[_P, _Module]) -> Callable[_P, _Module]:
    """A function that makes a network: its arguments are guarded, and its docstring gets what all of them share.

    Examples
    --------
    >>> @architecture
    ... def line(seed: int = 0) -> nn.Linear:
    ...     "A straight line."
    >>> "Seed of the weights" in line.__doc__
    True
    """
    gives = f"{function.__annotations__['return']}\n    Takes images ``(batch, channels, height, width)``"
    sections = {
        "Returns": f"{gives}, gives logits ``(batch, classes)``.",
        "Raises": "ConfigError\n    If an argument makes no sense.",
    }
    function.__doc__ = completed(function, _USUAL, sections)
    return guarded(function)


def positive(**sizes: int) -> dict[str, int]:
    """Sizes of a network as ints, refused unless they are whole numbers of at least 1.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> positive(width=4, classes=10)
    {'width': 4, 'classes': 10}
    """
    return {name: whole_number(name, value) for name, value in sizes.items()}


def build(
    make: Callable[[], _Module],
    initialise: Callable[[nn.Module, Generator], None],
    *,
    seed: int,
    architecture: dict[str, Any],
) -> _Module:
    """A float32 module on the CPU whose weights are a function of `seed` alone.

    Parameters
    ----------
    make : callable
        Returns the module; called on the "meta" device, where the layers' own initialisation draws nothing.
    initialise : callable
        ``initialise(module, generator)`` sets every parameter and buffer.
    seed : int
        Seed of the private generator, from 0 to 2^63 - 1.
    architecture : dict
        The constructor's arguments as plain data; kept as the attribute `architecture` of the module.

    Returns
    -------
    torch.nn.Module
        What `make` returned.

    Raises
    ------
    ConfigError
        If `seed` is not such a number.

    Examples
    --------
    >>> def ones(module, generator):
    ...     _ = torch.nn.init.ones_(module.weight)
    >>> build(lambda: nn.Linear(2, 1, bias=False), ones, seed=0, architecture={}).weight.tolist()
    [[1.0, 1.0]]
    """
    seed = whole_number("seed", seed, least=0, most=2**63 - 1)
    with torch.device("meta"):
        module = make()
    module = module.to(torch.float32).to_empty(device="cpu")
    initialise(module, Generator("cpu").manual_seed(seed))
    # through the instance dictionary: torch would ask whether it is a parameter, a buffer or a module
    vars(module)["architecture"] = {**architecture, "seed": seed}
    return module


def normalisation(kind: str, channels: int) -> nn.Module:
    """A normalisation of `channels` feature maps: ``"batch"``, ``"group"`` or ``"none"``.

    The number of groups is gcd(channels, 16) / 2, at least 1: 8 groups at 16 channels or any multiple of 16, and
    always two channels or more in a group (one alone would be an instance norm, which erases its mean).

    Examples
    --------
    >>> normalisation("group", 64).num_groups
    8
    """
    if one_of("norm", kind, NORMS) == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(max(math.gcd(channels, 16) // 2, 1), channels)
    return nn.Identity()


def initialise_relu(module: nn.Module, generator: Generator) -> None:
    """Weights for ReLU networks: keeps the size of signals through any depth of a network without shortcuts.

    Convolutions: N(0, 2/fan_in) [1]_. Linear layers, which no ReLU follows: N(0, 1/fan_in). Biases 0, scales 1.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun (2015), Delving Deep into Rectifiers, eq. 10.

    Examples
    --------
    >>> layer = nn.Conv2d(4, 4, 3)
    >>> initialise_relu(layer, Generator().manual_seed(0))
    >>> layer.bias.tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            gain = 2.0 if isinstance(part, nn.Conv2d) else 1.0  # a ReLU halves the mean square of its input
            nn.init.normal_(part.weight, std=math.sqrt(gain / part.weight[0].numel()), generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            part.reset_parameters()
