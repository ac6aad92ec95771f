"""CIFAR-10 and CIFAR-100 as they are distributed, and other data sets in the same layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import file_path, true_or_false, whole_number
from landscape.errors import DatasetNotFound, StorageError
from landscape.potentials.datasets.data import Data, dataset
from landscape.potentials.datasets.pickled import read_pickled
from landscape.potentials.datasets.selection import balanced_indices

__all__ = ["cifar10", "cifar100", "find_cifar"]

_SHAPE = (3, 32, 32)
_ROW = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where one of the two data sets keeps what."""

    kind: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    rows: int  # images in each published training file

    @property
    def title(self) -> str:
        return self.kind.replace("cifar", "CIFAR-")

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, *self.test)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR10 = _Layout("cifar10", "cifar-10-batches-py", _BATCHES, ("test_batch",), "batches.meta", 10_000)
_CIFAR100 = _Layout("cifar100", "cifar-100-python", ("train",), ("test",), "meta", 50_000)


@dataset
def cifar10(
    root: str | PathLike[str], *, train: bool = True, samples: int | None = None, seed: int = 0,
    verify: bool | None = None, download: bool = False, standardize: bool = False,
) -> Data:  # fmt: skip
    """CIFAR-10 [1]_: 50,000 training and 10,000 test images of 32 x 32 pixels in 10 classes.

    The files are pickles; they are read by a reader that cannot run code, whatever they hold.

    Parameters
    ----------
    root : path
        The folder that has ``cifar-10-batches-py`` in it, as torchvision uses it, or that folder itself.
    train : bool
        True: training images, and the test images for evaluation. False: the test images alone.
    verify : bool or None
        Whether every file must have the published checksum. None: files with the published number of images must,
        so that a damaged original is found; files with another number (one's own, in this layout) need not.

    Returns
    -------
    Data
        Inputs ``(samples, 3, 32, 32)``, float32; 737 MB for all of them.

    Raises
    ------
    DatasetNotFound
        If it is not there.
    StorageError
        If a file is damaged, not the published one, or asks to run code.
    ConfigError
        If an argument makes no sense.

    References
    ----------
    .. [1] Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.

    Examples
    --------
    >>> cifar10("no/such/folder")
    Traceback (most recent call last):
    ...
    landscape.errors.DatasetNotFound: no/such/folder has no cifar-10-batches-py/data_batch_1 ...
    """
    data = _read(
        _CIFAR10, root, "labels", "label_names", 10,
        train=train, samples=samples, seed=seed, verify=verify, download=download,
    )  # fmt: skip
    return data.standardize() if standardize else data


@dataset
def cifar100(
    root: str | PathLike[str], *, coarse: bool = False, train: bool = True, samples: int | None = None, seed: int = 0,
    verify: bool | None = None, download: bool = False, standardize: bool = False,
) -> Data:  # fmt: skip
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels in 100 classes.

    As `cifar10`, in a folder ``cifar-100-python``.

    Parameters
    ----------
    root, train, samples, seed, verify, download, standardize
        As for `cifar10`.
    coarse : bool
        The 20 groups of classes in place of the 100 classes.

    Returns
    -------
    Data
        As from `cifar10`.

    Raises
    ------
    DatasetNotFound, StorageError, ConfigError
        As for `cifar10`.

    Examples
    --------
    >>> cifar100("no/such/folder")
    Traceback (most recent call last):
    ...
    landscape.errors.DatasetNotFound: no/such/folder has no cifar-100-python/train ...
    """
    level, classes = ("coarse", 20) if coarse else ("fine", 100)
    data = _read(
        _CIFAR100, root, f"{level}_labels", f"{level}_label_names", classes,
        coarse=coarse, train=train, samples=samples, seed=seed, verify=verify, download=download,
    )  # fmt: skip
    return data.standardize() if standardize else data


def find_cifar(root: Path) -> list[str]:
    """Which of ``"cifar10"`` and ``"cifar100"`` lie in a folder.

    Examples
    --------
    >>> find_cifar(Path("no/such/folder"))
    []
    """
    return [layout.kind for layout in (_CIFAR10, _CIFAR100) if _home(layout, root) is not None]


def _home(layout: _Layout, root: Path) -> Path | None:
    """The folder of the files, if any of them is there."""
    for folder in (root / layout.folder, root.absolute()):
        if folder.name == layout.folder:
            found = any((folder / name).is_file() for name in layout.files)
        else:  # the names of CIFAR-100 are plain words, so a folder with another name must also have its "meta"
            found = all((folder / name).is_file() for name in (layout.train[0], layout.meta))
        if found:
            return folder
    return None


def _download(layout: _Layout, root: Path) -> None:
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    home = _home(layout, root)
    if home is not None and all((home / name).is_file() for name in layout.files):
        return
    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[layout.kind]
    try:
        # torchvision checks the archive's checksum; its data set class would also unpickle, which is not wanted
        download_and_extract_archive(source.url, str(root), filename=source.filename, md5=source.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise StorageError(f"{source.url} could not be fetched into {root} ({error}): fetch it by hand") from error


class _Reader:
    """Reads the files of one data set."""

    def __init__(self, layout: _Layout, root: Path, key: str, classes: int, verify: bool | None) -> None:
        home = _home(layout, root)
        self.layout, self.key, self.classes, self.verify = layout, key, classes, verify
        self.folder = home if home is not None else root / layout.folder
        self.digest = hashlib.sha256()

    def split(self, names: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images ``(n, 3, 32, 32)`` and labels ``(n,)`` of the named files."""
        parts = [self.part(name) for name in names]
        return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])

    def part(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images and labels of one file."""
        path = self.folder / name
        content = self.content(name)
        self.digest.update(content)
        batch = read_pickled(content, str(path))
        batch = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
        images, labels = batch.get("data"), batch.get(self.key)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (_ROW,):
            raise StorageError(f"{path} has no array 'data' of uint8 numbers (n, {_ROW}): fetch it again")
        try:
            numbers = np.asarray(labels)
        except ValueError:  # rows of unequal length
            numbers = np.empty(0)
        if numbers.dtype.kind not in "iu" or numbers.shape != images.shape[:1] or len(numbers) == 0:
            raise StorageError(f"{path} has no list {self.key!r} of {len(images)} whole numbers: fetch it again")
        if numbers.min() < 0 or numbers.max() >= self.classes:
            raise StorageError(
                f"{path} has labels from {numbers.min()} to {numbers.max()}, not from 0 to {self.classes - 1}: "
                "fetch it again"
            )
        self.check(path, content, len(images))
        return images.reshape(-1, *_SHAPE), numbers.astype(np.int64)

    def content(self, name: str) -> bytes:
        """The bytes of one file."""
        path = self.folder / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise DatasetNotFound(
                f"{self.folder.parent} has no {self.folder.name}/{name} (looked for {', '.join(self.layout.files)}): "
                f"unpack the Python version of the data set there, or pass download=True"
            ) from None
        except OSError as error:
            raise StorageError(f"{path} could not be read ({error}): check it") from error

    def check(self, path: Path, content: bytes, rows: int) -> None:
        """Refuse a file that should be the published one and is not."""
        published = self.layout.rows if path.name in self.layout.train else 10_000
        if self.verify is False or (self.verify is None and rows != published):
            return
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != _checksums(self.layout)[path.name]:
            raise StorageError(
                f"{path} differs from the published file (checksum): fetch it again, or pass verify=False if it "
                "is meant to differ"
            )

    def class_names(self, key: str) -> tuple[str, ...] | None:
        """Names of the classes, where the file that has them is there."""
        if not (self.folder / self.layout.meta).is_file():
            return None
        meta = read_pickled(self.content(self.layout.meta), str(self.folder / self.layout.meta))
        meta = {_text(name): value for name, value in meta.items()} if isinstance(meta, dict) else {}
        names = meta.get(key)
        if not isinstance(names, list) or len(names) != self.classes:
            return None
        return tuple(str(_text(name)) for name in names)


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _checksums(layout: _Layout) -> dict[str, str]:
    from torchvision import datasets

    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[layout.kind]
    return dict((*source.train_list, *source.test_list))


def _read(
    layout: _Layout,
    root: str | PathLike[str],
    key: str,
    names_key: str,
    classes: int,
    *,
    download: bool,
    **options: Any,
) -> Data:
    """Images and labels of one of the two, as its function was asked for them with `options`."""
    train, samples = true_or_false("train", options["train"]), options["samples"]
    seed = whole_number("seed", options["seed"], least=0)
    recipe = {"kind": layout.kind, "root": str(file_path(root).absolute())}
    recipe |= {name: value for name, value in options.items() if value is not None}
    if download:
        _download(layout, Path(root))
    reader = _Reader(layout, Path(root), key, classes, options["verify"])
    images, labels = reader.split(layout.train if train else layout.test)
    names = reader.class_names(names_key)
    if samples is not None:
        chosen = balanced_indices(labels, samples, seed=seed, names=names or range(classes))
        images, labels = images[chosen], labels[chosen]
    held_out = reader.split(layout.test) if train else None
    return Data(
        _scaled(images),
        torch.from_numpy(labels),
        classes=classes,
        name=layout.title,
        evaluation_inputs=None if held_out is None else _scaled(held_out[0]),
        evaluation_targets=None if held_out is None else torch.from_numpy(held_out[1]),
        class_names=names,
        recipe={**recipe, "sha256": reader.digest.hexdigest()},
    )


def _scaled(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images.astype(np.float32)).div_(255)
