"""Folders of images, one folder for each class, and archives of such folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import true_or_false, whole_number
from landscape.errors import ConfigError, StorageError
from landscape.potentials.datasets.data import Data, dataset
from landscape.potentials.datasets.members import Members, open_members
from landscape.potentials.datasets.pixels import DamagedImageError, decode
from landscape.potentials.datasets.selection import balanced_indices, generator
from landscape.potentials.datasets.shelves import Shelf, arrange

__all__ = ["image_folder"]


@dataset
def image_folder(
    path: str | PathLike[str],
    *,
    size: int | None = None,
    grayscale: bool = False,
    samples: int | None = None,
    evaluation_samples: int | None = None,
    classes: int | Sequence[str] | None = None,
    seed: int = 0,
    skip_damaged: bool = False,
    standardize: bool = False,
    progress: bool = False,
) -> Data:
    """Images from a folder or an archive with ``<split>/<class>/<image>`` or ``<class>/<image>`` in it.

    The split ``train`` is for training; ``test``, or ``val`` if there is no ``test``, for evaluation. Classes are
    numbered in the order of their names. Images come in an order shuffled by `seed`, which does not depend on whether
    they lie in a folder or an archive. An archive is read as a stream: nothing is unpacked to disk, links in it are
    not followed, names that point out of it, and streams that swell a hundredfold beyond 1 GiB, are refused.

    Parameters
    ----------
    path : path
        A folder, or a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file.
    size : int or None
        Side of the images in pixels: the centred square is averaged down (exactly, where its side is a multiple of
        `size`; with an antialiasing filter where not). None = as they are; then all must have one shape.
    grayscale : bool
        One channel in place of three.
    samples : int or None
        So many training images, equally many of each class (one more of the first ones where there is a rest); only
        these are decoded. None = all.
    evaluation_samples : int or None
        The same for evaluation; 0 = no evaluation images.
    classes : int, sequence of str or None
        Only the first so many classes, or those named, numbered in the order given. None = all.
    seed : int
        Which images, and their order.
    skip_damaged : bool
        Leave out images that cannot be decoded and list them in `Data.skipped`, rather than refuse.
    progress : bool
        Show a progress bar.

    Raises
    ------
    DatasetNotFound
        If there is nothing at `path`, or no images in it.
    StorageError
        If an archive or an image is damaged.
    ConfigError
        If an argument makes no sense, or what is asked for does not fit into memory.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, grey in (("black", 0), ("white", 255)):
    ...         file = Path(folder, "train", name, "1.pgm")
    ...         file.parent.mkdir(parents=True)
    ...         _ = file.write_bytes(b"P5 1 1 255 " + bytes([grey]))
    ...     data = image_folder(folder, grayscale=True)
    >>> data.class_names, sorted(zip(data.targets.tolist(), data.inputs.flatten().tolist()))
    (('black', 'white'), [(0, 0.0), (1, 1.0)])
    """
    request = _Request(size, grayscale, skip_damaged, seed)
    where = Path(path)
    members = open_members(where)
    shelf = arrange(members.names(), where, classes=classes)
    if samples is not None:
        whole_number("samples", samples)
    if evaluation_samples is not None:
        whole_number("evaluation_samples", evaluation_samples, least=0)
    train = request.choose(shelf.train, samples, shelf.classes)
    held_out = request.choose(shelf.evaluation, evaluation_samples, shelf.classes)
    batch = _read(members, where, [*train, *held_out], request, progress=progress)
    inputs, targets = batch.part(train, shelf)
    evaluation = batch.part(held_out, shelf) if set(held_out) - set(batch.skipped) else (None, None)
    recipe: dict[str, Any] = {
        "kind": "image_folder",
        "path": str(where.absolute()),
        "size": size,
        "grayscale": grayscale,
    }
    recipe |= {"samples": samples, "evaluation_samples": evaluation_samples, "seed": int(seed)}
    recipe |= {"classes": list(shelf.classes) if classes is not None else None, "skip_damaged": skip_damaged}
    data = Data(
        inputs,
        targets,
        classes=len(shelf.classes),
        name=where.absolute().name.split(".")[0] or "images",
        evaluation_inputs=evaluation[0],
        evaluation_targets=evaluation[1],
        class_names=shelf.classes,
        skipped=batch.skipped,
        recipe={**{key: value for key, value in recipe.items() if value is not None}, "sha256": batch.sha256},
    )
    return data.standardize() if standardize else data


@dataclass(frozen=True, slots=True)
class _Request:
    """How images are chosen and decoded."""

    size: int | None
    grayscale: bool
    skip_damaged: bool
    seed: int

    def __post_init__(self) -> None:
        if self.size is not None:
            whole_number("size", self.size)
        true_or_false("grayscale", self.grayscale)
        true_or_false("skip_damaged", self.skip_damaged)
        whole_number("seed", self.seed, least=0)

    def choose(self, labels: dict[str, int], samples: int | None, classes: tuple[str, ...]) -> list[str]:
        """Names of the images to take, in shuffled order."""
        if samples == 0 or not labels:
            return []
        names = sorted(labels)
        index = np.arange(len(names))
        if samples is not None:
            numbers = np.array([labels[name] for name in names], dtype=np.int64)
            index = balanced_indices(numbers, samples, seed=self.seed, names=classes)
        # sorted by class, a part of the images would have some classes only
        return [names[i] for i in generator(self.seed, len(classes)).permutation(index)]


@dataclass(slots=True)
class _Batch:
    """Decoded images, by name."""

    pixels: NDArray[np.float32]
    slots: dict[str, int]
    skipped: tuple[str, ...]
    sha256: str

    def part(self, names: Sequence[str], shelf: Shelf) -> tuple[Tensor, Tensor]:
        """Images and labels of the given names, without those that were skipped."""
        left_out = set(self.skipped)
        kept = [name for name in names if name not in left_out]
        labels = torch.tensor([shelf.label(name) for name in kept], dtype=torch.int64)
        slots = [self.slots[name] for name in kept]
        # the images of a part lie together: a view, unless some were skipped
        if slots and slots == list(range(slots[0], slots[0] + len(slots))):
            return torch.from_numpy(self.pixels[slots[0] : slots[0] + len(slots)]), labels
        return torch.from_numpy(self.pixels[slots]), labels


def _read(members: Members, where: Path, names: Sequence[str], request: _Request, *, progress: bool) -> _Batch:
    """Decode the named images, each into its place."""
    slots = {name: slot for slot, name in enumerate(names)}
    pixels: NDArray[np.float32] | None = None
    first = ""
    damaged: dict[str, str] = {}
    digests: dict[str, bytes] = {}
    with _bar(members.read(names), len(names), f"Reading {where.name}", progress) as entries:
        for name, content in entries:
            digests[name] = hashlib.sha256(content).digest()
            try:
                image = decode(content, size=request.size, grayscale=request.grayscale)
            except DamagedImageError as error:
                damaged[name] = str(error)
                continue
            if pixels is None:
                first, pixels = name, _room(len(names), image.shape)
            if image.shape != pixels.shape[1:]:
                raise ConfigError(
                    f"{name} in {where} has shape {image.shape}, {first} has {pixels.shape[1:]}: pass size= to bring "
                    "all images to one shape"
                )
            pixels[slots[name]] = image
    if damaged and (pixels is None or not request.skip_damaged):
        name = min(damaged)
        raise StorageError(
            f"{len(damaged)} of {len(names)} images in {where} cannot be decoded, the first is {name} "
            f"({damaged[name]}): replace them, or pass skip_damaged=True to leave them out"
        )
    if pixels is None or len(digests) < len(names):
        raise StorageError(f"{where} changed while it was read: read it again")
    total = hashlib.sha256()
    for name in names:
        total.update(name.encode("utf-8", "surrogateescape") + b"\0" + digests[name])
    return _Batch(pixels, slots, tuple(sorted(damaged)), total.hexdigest())


def _room(count: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Space for the images, if there is enough."""
    needed = 4 * count * int(np.prod(shape))
    free = psutil.virtual_memory().available
    if needed > free // 2:
        raise ConfigError(
            f"{count} images of shape {shape} need {needed / 1e9:.1f} GB, more than half of the "
            f"{free / 1e9:.1f} GB that are free: pass a smaller size= or samples="
        )
    return np.empty((count, *shape), dtype=np.float32)


@contextmanager
def _bar(entries: Iterator[Any], total: int, title: str, show: bool) -> Iterator[Iterator[Any]]:
    """`entries`, with a progress bar on the standard error stream if it is to be shown."""
    if not show:
        yield entries
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        yield iter(bar.track(entries, total=total, description=title))
