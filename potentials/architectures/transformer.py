"""A small vision transformer whose derivatives of every order are exact."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from landscape.checks import whole_number
from landscape.errors import ConfigError, ShapeError
from landscape.potentials.architectures.building import architecture, build, positive

__all__ = ["Attention", "Encoder", "PlainLayerNorm", "VisionTransformer", "vit"]


class PlainLayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis, written out: (x - mean) / sqrt(var + eps) * weight + bias.

    The fused kernel returns wrong second derivatives in forward-over-reverse mode; elementary operations do not.

    Examples
    --------
    >>> PlainLayerNorm(2)(torch.tensor([1.0, 3.0])).tolist()
    [-0.9999949932098389, 0.9999949932098389]
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """The normalised `inputs`, of the same shape."""
        centred = inputs - inputs.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class Attention(nn.Module):
    """Self-attention, softmax(q k^T / sqrt(width per head)) v, in elementary operations.

    Fused attention kernels lack second derivatives.

    Examples
    --------
    >>> Attention(8, 2)(torch.ones(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Attended tokens ``(batch, tokens, width)``."""
        # (batch, tokens, 3 width) -> three of (batch, heads, tokens, width per head)
        split = self.project_in(inputs).reshape(*inputs.shape[:-1], 3, self.heads, -1)
        query, key, value = split.transpose(-4, -2).unbind(-3)
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        mixed = torch.softmax(scores, -1) @ value
        result: Tensor = self.project_out(mixed.transpose(-3, -2).flatten(-2))
        return result


class Encoder(nn.Module):
    """x + attention(norm(x)), then x + W_2 gelu(W_1 norm(x)).

    Examples
    --------
    >>> Encoder(8, 2, 2)(torch.ones(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1 = PlainLayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = PlainLayerNorm(width)
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Encoded tokens ``(batch, tokens, width)``."""
        hidden = inputs + self.attention(self.norm1(inputs))
        result: Tensor = hidden + self.contract(nn.functional.gelu(self.expand(self.norm2(hidden))))
        return result


class VisionTransformer(nn.Module):
    """Patches -> linear embedding + learned position -> encoders -> norm -> mean over tokens -> linear classifier.

    Examples
    --------
    >>> network = VisionTransformer(1, width=8, heads=2, patch=4, size=8, classes=3, channels=1, ratio=2)
    >>> network(torch.ones(5, 1, 8, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, depth: int, *, width: int, heads: int, patch: int, size: int, classes: int, channels: int, ratio: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.image = (channels, size, size)
        self.embed = nn.Linear(channels * patch**2, width)
        self.place = nn.Parameter(torch.zeros((size // patch) ** 2, width))
        self.encoders = nn.Sequential(*(Encoder(width, heads, ratio) for _ in range(depth)))
        self.norm = PlainLayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of images ``(batch, channels, size, size)``."""
        if tuple(inputs.shape[-3:]) != self.image:
            raise ShapeError(
                f"images of shape {tuple(inputs.shape[-3:])} were given, this network was made for {self.image}: "
                "resize them, or make the network with other `size` and `channels`"
            )
        across = self.image[1] // self.patch
        grid = inputs.reshape(*inputs.shape[:-2], across, self.patch, across, self.patch)
        # (batch, channels, across, patch, across, patch) -> (batch, tokens, channels * patch^2)
        tokens = grid.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)
        hidden = self.encoders(self.embed(tokens) + self.place)
        logits: Tensor = self.classifier(self.norm(hidden).mean(-2))
        return logits


@architecture
def vit(
    depth: int = 4, *, width: int = 64, heads: int = 4, patch: int = 4, size: int = 32, classes: int = 10,
    channels: int = 3, ratio: int = 2, seed: int = 0,
) -> VisionTransformer:  # fmt: skip
    """A small vision transformer [1]_ with pre-normalisation and a mean over tokens in place of a class token.

    Weights are N(0, 2/(n_in + n_out)), positions N(0, 0.02^2), biases 0. Attention and normalisation are elementary
    operations, so that Hessians are right in every mode of differentiation.

    Parameters
    ----------
    depth : int
        Number of encoders.
    width : int
        Length of a token; a multiple of `heads`.
    heads : int
        Number of attention heads.
    patch : int
        Side of a patch in pixels.
    size : int
        Side of the images in pixels; a multiple of `patch`.
    ratio : int
        Width of the hidden layer in each encoder, in units of `width`.

    Returns
    -------
    VisionTransformer
        Takes images ``(batch, channels, size, size)``, gives logits ``(batch, classes)``.

    Raises
    ------
    ConfigError
        If an argument makes no sense.
    ShapeError
        When the network is called with images of another shape, which its positions do not fit.

    References
    ----------
    .. [1] Dosovitskiy et al. (2021), An Image is Worth 16x16 Words.

    Examples
    --------
    >>> vit(1, width=8, heads=2, size=8, channels=1)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    number = whole_number("depth", depth)
    options = positive(
        width=width, heads=heads, patch=patch, size=size, classes=classes, channels=channels, ratio=ratio
    )
    if width % heads:
        raise ConfigError(f"width = {width} is not a multiple of heads = {heads}: change one of them")
    if size % patch:
        raise ConfigError(f"size = {size} is not a multiple of patch = {patch}: change one of them")

    def initialise(module: nn.Module, generator: Generator) -> None:
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight, generator=generator)
                nn.init.zeros_(part.bias)
            elif isinstance(part, nn.LayerNorm):
                part.reset_parameters()
            elif isinstance(part, VisionTransformer):
                nn.init.normal_(part.place, std=0.02, generator=generator)

    described = {"kind": "vit", "depth": number, **options}
    return build(lambda: VisionTransformer(number, **options), initialise, seed=seed, architecture=described)
