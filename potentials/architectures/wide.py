"""Wide residual networks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from landscape.potentials.architectures.building import architecture, normalisation, positive
from landscape.potentials.architectures.residual import Staged, build_staged

__all__ = ["WideBlock", "WideNetwork", "wide_resnet"]


class WideBlock(nn.Module):
    """Pre-activation block: shortcut(x) + conv(relu(norm(conv(relu(norm(x)))))).

    Where the shape changes the shortcut is a 1x1 convolution of relu(norm(x)).

    Examples
    --------
    >>> WideBlock(4, 8, stride=2, norm="batch")(torch.ones(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, norm: str) -> None:
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


class WideNetwork(Staged):
    """3x3 convolution to 16 channels, three stages of blocks at widths 16k, 32k, 64k, norm, mean, linear classifier.

    Examples
    --------
    >>> WideNetwork(1, widen=1, classes=3, channels=1, norm="none")(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, blocks: int, *, widen: int, classes: int, channels: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 3, padding=1, bias=norm == "none")
        self.blocks, outputs = self.stages(partial(WideBlock, norm=norm), blocks, 16, 16 * widen)
        self.norm = normalisation(norm, outputs)
        self.classifier = nn.Linear(outputs, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        hidden = torch.relu(self.norm(self.blocks(self.conv(inputs))))
        logits: Tensor = self.classifier(hidden.mean((-2, -1)))
        return logits


@architecture
def wide_resnet(
    depth: int = 16, widen: int = 4, *, classes: int = 10, channels: int = 3, norm: str = "batch", seed: int = 0
) -> WideNetwork:
    """A wide residual network WRN-depth-widen [1]_: depth 6n + 4, n blocks at each of the widths 16k, 32k, 64k.

    WRN-16-4 has 2,748,890 weights for ten classes. There is no dropout. It takes images of any size.

    Parameters
    ----------
    depth : int
        6n + 4: 10, 16, 22, 28, 40, ...
    widen : int
        The factor k.

    References
    ----------
    .. [1] Zagoruyko, Komodakis (2016), Wide Residual Networks.

    Examples
    --------
    >>> sum(p.numel() for p in wide_resnet(16, 4).parameters())
    2748890
    """
    sizes = positive(widen=widen, classes=classes, channels=channels)
    return build_staged(WideNetwork, WideBlock, depth, 4, kind="wide_resnet", norm=norm, seed=seed, **sizes)
