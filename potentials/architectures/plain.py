"""Convolutional networks without shortcuts."""

from __future__ import annotations

from torch import Tensor, nn

from landscape.checks import whole_number
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.architectures.building import (
    architecture,
    build,
    initialise_relu,
    normalisation,
    positive,
)

__all__ = ["PlainNetwork", "vgg"]

# convolutions of each stage; 11 to 19 are configurations A, B, D, E of Simonyan and Zisserman (2015), table 1
_STAGES = {7: (2, 2, 2), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDEST = 8


class PlainNetwork(nn.Module):
    """Stages of 3x3 convolutions, each with a 2x2 maximum at its end; mean over pixels; linear classifier.

    Examples
    --------
    >>> import torch
    >>> PlainNetwork((1, 1), width=4, classes=3, channels=1, norm="none")(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, stages: tuple[int, ...], *, width: int, classes: int, channels: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for stage, convolutions in enumerate(stages):
            outputs = width * min(2**stage, _WIDEST)
            for _ in range(convolutions):
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none"))
                layers += [normalisation(norm, outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.smallest = 2 ** len(stages)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, height, width)``."""
        if min(inputs.shape[-2:]) < self.smallest:
            raise ShapeError(
                f"images of {inputs.shape[-2]} x {inputs.shape[-1]} pixels vanish in {self.smallest.bit_length() - 1} "
                f"halvings: give at least {self.smallest} x {self.smallest}, or take a network with fewer stages"
            )
        logits: Tensor = self.classifier(self.features(inputs).mean((-2, -1)))
        return logits


@architecture
def vgg(
    depth: int = 7, *, width: int = 64, classes: int = 10, channels: int = 3, norm: str = "batch", seed: int = 0
) -> PlainNetwork:
    """A convolutional network without shortcuts, in the manner of VGG [1]_.

    Stage s has 2^s w channels, 8w at most. Depth 7, the small one, has three stages of two convolutions and takes
    images of 8 x 8 pixels or more. Depths 11, 13, 16 and 19 have the five convolutional stages of [1]_ (32 x 32 pixels
    or more) with one linear layer in place of three: 9.2, 9.4, 14.7 and 20.0 million weights at w = 64.

    Parameters
    ----------
    depth : int
        7, 11, 13, 16 or 19.
    width : int
        Channels w of the first stage.
    norm : str
        ``"batch"``, ``"group"`` or ``"none"`` (convolutions with biases; the initial weights keep the size of signals).

    Raises
    ------
    ConfigError
        If an argument makes no sense.
    ShapeError
        When called, if the images are too small.

    References
    ----------
    .. [1] Simonyan, Zisserman (2015), Very Deep Convolutional Networks for Large-Scale Image Recognition.

    Examples
    --------
    >>> sum(p.numel() for p in vgg(7, width=8, channels=1).parameters())
    18482
    """
    if whole_number("depth", depth) not in _STAGES:
        raise ConfigError(f"depth = {depth} is unknown: choose one of {list(_STAGES)}")
    options = positive(width=width, classes=classes, channels=channels)
    described = {"kind": "vgg", "depth": int(depth), "norm": norm, **options}
    return build(
        lambda: PlainNetwork(_STAGES[depth], norm=norm, **options), initialise_relu, seed=seed, architecture=described
    )
