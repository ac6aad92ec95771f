"""Random flips and crops of images as a function of given random words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.checks import true_or_false, whole_number
from landscape.common.arguments import guarded_class
from landscape.errors import ConfigError, ShapeError

__all__ = ["FlipCrop"]


@guarded_class
@dataclass(frozen=True, slots=True)
class FlipCrop:
    """Shift an image by up to `padding` pixels and mirror it half of the time: the usual augmentation of CIFAR.

    With p = `padding` and random words w in [0, 2^32), pixel (i, j) of an image of height H and width W becomes
    x[i + a - p, j' + b - p], where j' = W - 1 - j if the highest bit of w_0 is set and j otherwise,
    a = floor(w_1 (2p + 1) / 2^32), b = floor(w_2 (2p + 1) / 2^32), and pixels outside are `fill`. That is: pad by p
    on every side, cut out a random H x W window, then mirror. Offsets are uniform to one part in 10^8.

    There is no hidden random state: equal words give equal images, on every device, in any batch.

    Parameters
    ----------
    padding : int
        Largest shift in pixels.
    fill : float, or one per channel
        Value of pixels outside. For images that were standardised and padded with black before, that is
        ``(-data.mean / data.deviation).tolist()``.
    flip : bool
        Whether to mirror.

    Raises
    ------
    ConfigError
        If the padding is no whole number, the fill not finite, or flip no flag.

    References
    ----------
    He, Zhang, Ren, Sun (2016), Deep Residual Learning for Image Recognition, section 4.2. Used in Di Carlo, Goddard,
    Schwab (2026), Entropic Confinement and Mode Connectivity in Overparameterized Neural Networks.

    Examples
    --------
    >>> image = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    >>> FlipCrop(padding=0)(image, torch.tensor([[2**31, 0, 0, 0]])).tolist()
    [[[[3.0, 2.0, 1.0]]]]
    """

    padding: int = 4
    fill: float | tuple[float, ...] = 0.0
    flip: bool = True

    def __post_init__(self) -> None:
        whole_number("padding", self.padding, least=0)
        if isinstance(self.fill, Sequence) and not isinstance(self.fill, str):
            object.__setattr__(self, "fill", tuple(self.fill))
        values = self.fill if isinstance(self.fill, tuple) else (self.fill,)
        if not values or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise ConfigError(f"fill = {self.fill!r} is not a finite number: give one, or one for each channel")
        true_or_false("flip", self.flip)

    def __call__(self, inputs: Tensor, random: Tensor) -> Tensor:
        """The augmented images.

        Parameters
        ----------
        inputs : tensor ``(..., channels, height, width)``
        random : int64 tensor ``(..., 4)``
            Words from 0 to 2^32 - 1 for each image; the last one is not used.

        Returns
        -------
        tensor of the shape and dtype of `inputs`

        Raises
        ------
        ShapeError
            If the shapes do not fit together, or the words are not int64.
        """
        self._check(inputs, random)
        height, width = inputs.shape[-2:]
        words = random & 0xFFFFFFFF
        mirrored = (words[..., 0, None] >> 31) == 1
        down, right = (((words[..., i, None] * (2 * self.padding + 1)) >> 32) - self.padding for i in (1, 2))
        row = torch.arange(height, device=inputs.device) + down
        column = torch.arange(width, device=inputs.device).expand(*right.shape[:-1], width)
        if self.flip:
            column = torch.where(mirrored, width - 1 - column, column)
        column = column + right
        inside = ((row >= 0) & (row < height)).unsqueeze(-1) & ((column >= 0) & (column < width)).unsqueeze(-2)
        source = row.clamp(0, height - 1).unsqueeze(-1) * width + column.clamp(0, width - 1).unsqueeze(-2)
        flat = inputs.flatten(-2)
        index = source.flatten(-2).unsqueeze(-2).expand(flat.shape)
        moved = torch.gather(flat, -1, index).reshape(inputs.shape)
        return torch.where(inside.unsqueeze(-3), moved, self._fill_like(inputs))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments as a plain dict, with the key ``kind``.

        Examples
        --------
        >>> FlipCrop(2).spec()
        {'kind': 'FlipCrop', 'padding': 2, 'fill': 0.0, 'flip': True}
        """
        fill = list(self.fill) if isinstance(self.fill, tuple) else float(self.fill)
        return {"kind": "FlipCrop", "padding": int(self.padding), "fill": fill, "flip": self.flip}

    def _fill_like(self, inputs: Tensor) -> Tensor:
        values = torch.tensor(self.fill, dtype=inputs.dtype, device=inputs.device)
        return values.reshape(-1, 1, 1) if values.ndim else values

    def _check(self, inputs: Tensor, random: Tensor) -> None:
        if inputs.ndim < 3:
            raise ShapeError(f"inputs have shape {tuple(inputs.shape)}: give images (..., channels, height, width)")
        if random.dtype != torch.int64 or random.shape != (*inputs.shape[:-3], 4):
            raise ShapeError(
                f"random is {random.dtype} of shape {tuple(random.shape)}: give torch.int64 of shape "
                f"{(*inputs.shape[:-3], 4)}, four words for each image"
            )
        if isinstance(self.fill, tuple) and len(self.fill) not in (1, inputs.shape[-3]):
            raise ShapeError(
                f"fill has {len(self.fill)} values for {inputs.shape[-3]} channels: give one, or one for each channel"
            )
