"""Wide residual networks."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from landscape.arguments import guarded
from landscape.checks import one_of, whole_number
from landscape.errors import ConfigError
from landscape.potentials.architectures.building import NORMS, build, initialise_relu, normalisation
from landscape.potentials.architectures.residual import quiet_branches

__all__ = ["WideBlock", "WideNetwork", "wide_resnet"]


class WideBlock(nn.Module):
    """Pre-activation block: shortcut(x) + conv(relu(norm(conv(relu(norm(x)))))).

    Where the shape changes the shortcut is a 1x1 convolution of relu(norm(x)).

    Examples
    --------
    >>> WideBlock(4, 8, stride=2, norm="batch")(torch.ones(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, norm: str) -> None:
        super().__init__()
        bias = norm == "none"
        self.norm1 = normalisation(norm, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
        self.norm2 = normalisation(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.changes_shape = stride != 1 or inputs != outputs
        self.projection: nn.Module = nn.Identity()
        if self.changes_shape:
            self.projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Output of the block, ``(batch, outputs, height/stride, width/stride)``."""
        active = torch.relu(self.norm1(inputs))
        branch: Tensor = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        shortcut: Tensor = self.projection(active if self.changes_shape else inputs)
        return shortcut + branch


class WideNetwork(nn.Module):
    """3x3 convolution to 16 channels, three stages of blocks at widths 16k, 32k, 64k, norm, mean, linear classifier.

    Examples
    --------
    >>> WideNetwork(1, widen=1, classes=3, channels=1, norm="none")(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, blocks: int, *, widen: int, classes: int, channels: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=norm == "none")
        stages: list[nn.Module] = []
        inputs = 16
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(WideBlock(inputs, 16 * widen * 2**stage, stride=stride, norm=norm))
                inputs = 16 * widen * 2**stage
        self.blocks = nn.Sequential(*stages)
        self.norm = normalisation(norm, inputs)
        self.classifier = nn.Linear(inputs, classes)

    def unit_names(self) -> dict[str, str]:
        """Names of the groups of channels by the layer that makes them: the stream, and those within blocks."""
        blocks = [f"blocks.{number}" for number in range(len(self.blocks))]
        inside = {f"{name}.conv1": name for name in blocks}
        return {"conv": "stream"} | inside | {f"{name}.conv2": f"{name}.stream" for name in blocks}

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        hidden = torch.relu(self.norm(self.blocks(self.conv(inputs))))
        logits: Tensor = self.classifier(hidden.mean((-2, -1)))
        return logits


@guarded
def wide_resnet(
    depth: int = 16,
    widen: int = 4,
    *,
    classes: int = 10,
    channels: int = 3,
    norm: str = "batch",
    seed: int = 0,
) -> WideNetwork:
    """A wide residual network WRN-depth-widen [1]_: depth 6n + 4, n blocks at each of the widths 16k, 32k, 64k.

    WRN-16-4 has 2,748,890 weights for ten classes. There is no dropout.

    Parameters
    ----------
    depth : int
        6n + 4: 10, 16, 22, 28, 40, ...
    widen : int
        The factor k.
    classes : int
        Number of outputs.
    channels : int
        Channels of the images: 3 for colour, 1 for grey.
    norm : str
        ``"batch"``, ``"group"`` or ``"none"``, as for `resnet_cifar`.
    seed : int
        Seed of the weights; the global random state is not used.

    Returns
    -------
    WideNetwork
        Takes images ``(batch, channels, height, width)`` of any size, gives logits ``(batch, classes)``.

    Raises
    ------
    ConfigError
        If an argument makes no sense.

    References
    ----------
    .. [1] Zagoruyko, Komodakis (2016), Wide Residual Networks.

    Examples
    --------
    >>> sum(p.numel() for p in wide_resnet(16, 4).parameters())
    2748890
    """
    whole_number("depth", depth, least=10)
    if depth % 6 != 4:
        raise ConfigError(f"depth = {depth} is not 6n + 4: choose 10, 16, 22, 28, 40 or another such number")
    options = {
        "widen": whole_number("widen", widen),
        "classes": whole_number("classes", classes),
        "channels": whole_number("channels", channels),
    }
    one_of("norm", norm, NORMS)

    def initialise(module: nn.Module, generator: Generator) -> None:
        initialise_relu(module, generator)
        if norm == "none":
            quiet_branches(module, WideBlock)

    return build(
        lambda: WideNetwork((depth - 4) // 6, norm=norm, **options),
        initialise,
        seed=seed,
        architecture={"kind": "wide_resnet", "depth": int(depth), "norm": norm, **options},
    )
