"""Residual networks for small images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from landscape.checks import one_of, whole_number
from landscape.errors import ConfigError
from landscape.potentials.architectures.building import (
    architecture,
    build,
    initialise_relu,
    normalisation,
    positive,
)

__all__ = ["BasicBlock", "PadShortcut", "ResidualNetwork", "Staged", "build_staged", "resnet_cifar"]

_Staged = TypeVar("_Staged", bound="Staged")


class PadShortcut(nn.Module):
    """A shortcut without parameters: every `stride`-th pixel, and zeros for the channels that are new.

    Examples
    --------
    >>> PadShortcut(2, 3)(torch.ones(1, 2, 4, 4)).shape
    torch.Size([1, 5, 2, 2])
    """

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra = extra

    def forward(self, inputs: Tensor) -> Tensor:
        """The subsampled and padded `inputs`, ``(batch, channels + extra, height/stride, width/stride)``."""
        kept = inputs[..., :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.extra))


class BasicBlock(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))) with two 3x3 convolutions.

    Examples
    --------
    >>> BasicBlock(4, 8, stride=2, norm="batch", shortcut="pad")(torch.ones(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: str, shortcut: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
        self.norm1 = normalisation(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.norm2 = normalisation(norm, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            if shortcut == "pad":
                self.shortcut = PadShortcut(stride, outputs - inputs)
            else:
                project = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=bias)
                self.shortcut = nn.Sequential(project, normalisation(norm, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Output of the block, ``(batch, outputs, height/stride, width/stride)``."""
        hidden = torch.relu(self.norm1(self.conv1(inputs)))
        branch: Tensor = self.norm2(self.conv2(hidden))
        return torch.relu(self.shortcut(inputs) + branch)


class Staged(nn.Module):
    """A network with three stages of residual blocks, `blocks`, at widths w, 2w, 4w, each but the first halving sides.

    Examples
    --------
    >>> _, outputs = Staged.stages(lambda inputs, outputs, stride: nn.Conv2d(inputs, outputs, 1, stride), 2, 3, 4)
    >>> outputs
    16
    """

    blocks: nn.Sequential

    @staticmethod
    def stages(
        block: Callable[[int, int, int], nn.Module], blocks: int, inputs: int, width: int
    ) -> tuple[nn.Sequential, int]:
        """The stages, of blocks made by ``block(inputs, outputs, stride)``, and the channels at their end."""
        found: list[nn.Module] = []
        for stage in range(3):
            for number in range(blocks):
                outputs = width * 2**stage
                found.append(block(inputs, outputs, 2 if stage > 0 and number == 0 else 1))
                inputs = outputs
        return nn.Sequential(*found), inputs

    def unit_names(self) -> dict[str, str]:
        """Names of the groups of channels by the layer that makes them: the stream, and those within blocks."""
        blocks = [f"blocks.{number}" for number in range(len(self.blocks))]
        inside = {f"{name}.conv1": name for name in blocks}
        return {"conv": "stream"} | inside | {f"{name}.conv2": f"{name}.stream" for name in blocks}


class ResidualNetwork(Staged):
    """3x3 convolution, three stages of `blocks` blocks at widths w, 2w, 4w, mean over pixels, linear classifier.

    Examples
    --------
    >>> network = ResidualNetwork(1, width=4, classes=3, channels=1, norm="batch", shortcut="pad")
    >>> network(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, blocks: int, *, width: int, classes: int, channels: int, norm: str, shortcut: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none")
        self.norm = normalisation(norm, width)
        block = partial(BasicBlock, norm=norm, shortcut=shortcut)
        self.blocks, outputs = self.stages(block, blocks, width, width)
        self.classifier = nn.Linear(outputs, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        hidden = self.blocks(torch.relu(self.norm(self.conv(inputs))))
        logits: Tensor = self.classifier(hidden.mean((-2, -1)))
        return logits


def quiet_branches(module: nn.Module, block: type[nn.Module]) -> None:
    """Make every residual branch start at 0, so that a network without normalisation trains at any depth.

    The second convolution of each block is 0 and the first is divided by sqrt(number of blocks): with learning rate
    lr the output of the network then moves by O(lr) in a step, however many blocks there are [1]_.

    References
    ----------
    .. [1] Zhang, Dauphin, Ma (2019), Fixup Initialization, with m = 2 layers in a branch.

    Examples
    --------
    >>> one = BasicBlock(2, 2, stride=1, norm="none", shortcut="pad")
    >>> quiet_branches(one, BasicBlock)
    >>> one(torch.ones(1, 2, 3, 3)).unique().tolist()
    [1.0]
    """
    blocks = [part for part in module.modules() if isinstance(part, block)]
    with torch.no_grad():
        for part in blocks:
            part.get_submodule("conv1").get_parameter("weight").div_(len(blocks) ** 0.5)
            part.get_submodule("conv2").get_parameter("weight").zero_()
            part.get_submodule("conv2").get_parameter("bias").zero_()


def build_staged(
    network: Callable[..., _Staged],
    block: type[nn.Module],
    depth: int,
    rest: int,
    *,
    kind: str,
    norm: str,
    seed: int,
    **options: Any,
) -> _Staged:
    """A network of (depth - rest)/6 blocks a stage; without normalisation its branches start at 0.

    Parameters
    ----------
    network : callable
        ``network(blocks, norm=norm, **options)``.
    block : type
        Class of its blocks.
    depth, rest : int
    kind : str
        Its name as an architecture.
    norm, seed
        As for `resnet_cifar`.
    **options
        What else the architecture is made from.

    Raises
    ------
    ConfigError
        If the depth is not 6n + rest.

    Examples
    --------
    >>> sizes = {"width": 2, "classes": 3, "channels": 1, "shortcut": "pad"}
    >>> len(build_staged(ResidualNetwork, BasicBlock, 14, 2, norm="none", seed=0, kind="any", **sizes).blocks)
    6
    """
    whole_number("depth", depth, least=6 + rest)
    if depth % 6 != rest:
        some = ", ".join(str(6 * n + rest) for n in (1, 2, 3, 5))
        raise ConfigError(f"depth = {depth} is not 6n + {rest}: choose {some} or another such number")

    def initialise(module: nn.Module, generator: Generator) -> None:
        initialise_relu(module, generator)
        if norm == "none":
            quiet_branches(module, block)

    return build(
        lambda: network((depth - rest) // 6, norm=norm, **options),
        initialise,
        seed=seed,
        architecture={"kind": kind, "depth": int(depth), "norm": norm, **options},
    )


@architecture
def resnet_cifar(
    depth: int = 20, *, width: int = 16, classes: int = 10, channels: int = 3, norm: str = "batch",
    shortcut: str = "pad", seed: int = 0,
) -> ResidualNetwork:  # fmt: skip
    """A residual network for small images [1]_: depth 6n + 2, n blocks at each of the widths w, 2w, 4w.

    With w = 16, shortcuts without parameters (option A of [1]_) and batch normalisation: 269,722 weights at depth
    20, 853,018 at 56, 1,727,962 at 110. It takes images of any size.

    Parameters
    ----------
    depth : int
        6n + 2: 8, 14, 20, 32, 44, 56, 110, ...
    norm : str
        ``"batch"``; ``"group"`` (8 groups at 16 channels or a multiple); or ``"none"``, where the convolutions have
        biases and every residual branch starts at 0 (the second convolution is 0, the first divided by the root of
        the number of blocks), so that it trains at any depth.
    shortcut : str
        Where the shape changes: ``"pad"`` (every second pixel, zeros for new channels) or ``"projection"`` (1x1
        convolution, option B of [1]_).

    References
    ----------
    .. [1] He, Zhang, Ren, Sun (2016), Deep Residual Learning for Image Recognition, section 4.2.

    Examples
    --------
    >>> sum(p.numel() for p in resnet_cifar(20).parameters())
    269722
    """
    one_of("shortcut", shortcut, ("pad", "projection"))
    sizes = positive(width=width, classes=classes, channels=channels)
    return build_staged(
        ResidualNetwork, BasicBlock, depth, 2, kind="resnet_cifar", norm=norm, seed=seed, shortcut=shortcut, **sizes
    )
