"""From the bytes of an image file to an array."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DamagedImageError", "decode"]

# EPS and the like run interpreters; these formats are decoded by Pillow and its libraries alone
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
_LARGEST = 2**26  # pixels


class DamagedImageError(Exception):
    """An image file cannot be decoded; never leaves the package."""


def decode(content: bytes, *, size: int | None, grayscale: bool) -> NDArray[np.float32]:
    """Pixels of an image, from 0 to 1.

    With `size` the largest centred square is cut out and brought to ``size x size``: by averaging over f x f pixels
    where its side is f times `size`, otherwise by an antialiased (triangular) filter.

    Parameters
    ----------
    content : bytes
        A JPEG, PNG, BMP, GIF, PPM, WebP or TIFF file.
    size : int or None
        Side of the result; None = as it is.
    grayscale : bool
        One channel (0.299 R + 0.587 G + 0.114 B) in place of three.

    Returns
    -------
    float32 array ``(channels, height, width)``

    Raises
    ------
    DamagedImageError
        If it is damaged, or has more than 2^26 pixels, or more than 8 bits per colour.

    Examples
    --------
    >>> decode(b"P5 2 2 255 " + bytes([0, 255, 255, 0]), size=1, grayscale=True).tolist()
    [[[0.5]]]
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on odd metadata
            picture = _open(content, grayscale)
    except DamagedImageError:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        raise DamagedImageError(str(error) or type(error).__name__) from error
    if size is not None:
        side = min(picture.size)
        left, upper = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, upper, left + side, upper + side))
        if side % size:
            from PIL.Image import Resampling

            picture = picture.resize((size, size), Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32).reshape(picture.height, picture.width, -1).transpose(2, 0, 1)
    factor = 1 if size is None else picture.width // size
    if factor > 1:
        pixels = _sums(_sums(pixels, factor, axis=1), factor, axis=2) / np.float32(factor**2)
    return np.ascontiguousarray(pixels / np.float32(255))


def _sums(pixels: NDArray[np.float32], factor: int, axis: int) -> NDArray[np.float32]:
    """Sums of `factor` neighbours along an axis; exact, as whole numbers below 2^24 are."""
    before = (slice(None),) * axis
    total = pixels[(*before, slice(0, None, factor))].copy()
    for start in range(1, factor):
        total += pixels[(*before, slice(start, None, factor))]
    return total


def _open(content: bytes, grayscale: bool) -> Any:
    from PIL import Image

    picture = Image.open(io.BytesIO(content), formats=_FORMATS)
    if picture.width * picture.height > _LARGEST:
        raise DamagedImageError(f"{picture.width} x {picture.height} pixels are more than {_LARGEST}")
    if picture.mode.startswith(("I", "F")):
        raise DamagedImageError(f"more than 8 bits per colour (mode {picture.mode})")
    picture.load()
    mode = "L" if grayscale else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)
