"""Data sets through torchvision, from files that are already there unless a download is asked for."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checks import one_of, true_or_false, whole_number
from landscape.errors import DatasetNotFound, StorageError
from landscape.potentials.datasets.cifar import cifar10, cifar100, find_cifar
from landscape.potentials.datasets.data import Data, dataset
from landscape.potentials.datasets.selection import balanced_indices

__all__ = ["find_torchvision", "torchvision_dataset"]

_HANDWRITTEN = ("MNIST", "FashionMNIST", "KMNIST")
_NAMES = (*_HANDWRITTEN, "SVHN", "CIFAR10", "CIFAR100")


@dataset
def torchvision_dataset(
    name: str, root: str | PathLike[str], *, train: bool = True, samples: int | None = None, seed: int = 0,
    download: bool = False, standardize: bool = False,
) -> Data:  # fmt: skip
    """A data set of torchvision by name.

    Parameters
    ----------
    name : str
        ``"MNIST"``, ``"FashionMNIST"``, ``"KMNIST"``, ``"SVHN"``, ``"CIFAR10"`` or ``"CIFAR100"``.
    root : path
        torchvision's folder for it: with ``MNIST/raw`` and the like, ``train_32x32.mat``, ``cifar-10-batches-py``.
    train : bool
        True: training images, and the test images for evaluation where they are there. False: test images alone.

    Examples
    --------
    >>> torchvision_dataset("MNIST", "no/such/folder")
    Traceback (most recent call last):
    ...
    landscape.errors.DatasetNotFound: no MNIST in no/such/folder: ...
    """
    one_of("name", name, _NAMES)
    true_or_false("train", train)
    whole_number("seed", seed, least=0)
    if name in ("CIFAR10", "CIFAR100"):
        reader = cifar10 if name == "CIFAR10" else cifar100
        return reader(root, train=train, samples=samples, seed=seed, download=download, standardize=standardize)
    inputs, targets = _read(name, Path(root), train=train, download=download)
    digest = _digest(inputs, targets)
    if samples is not None:
        chosen = torch.from_numpy(balanced_indices(targets.numpy(), samples, seed=seed, names=range(10)))
        inputs, targets = inputs[chosen], targets[chosen]
    held_out = None
    if train:
        try:
            held_out = _read(name, Path(root), train=False, download=download)
        except DatasetNotFound:  # the parts of SVHN are files of their own, and the training part may be all there is
            held_out = None
    recipe = {"kind": "torchvision_dataset", "name": name, "root": str(Path(root).absolute()), "train": train}
    if held_out is not None:
        digest = hashlib.sha256((digest + _digest(*held_out)).encode()).hexdigest()
    recipe |= {"seed": int(seed), "sha256": digest} | ({} if samples is None else {"samples": int(samples)})
    data = Data(
        inputs.to(torch.float32).div_(255),
        targets,
        classes=10,
        name=name,
        evaluation_inputs=None if held_out is None else held_out[0].to(torch.float32).div_(255),
        evaluation_targets=None if held_out is None else held_out[1],
        recipe=recipe,
    )
    return data.standardize() if standardize else data


def find_torchvision(root: Path) -> list[str]:
    """Names of the data sets that lie in a folder, as `torchvision_dataset` takes them.

    Examples
    --------
    >>> find_torchvision(Path("no/such/folder"))
    []
    """
    found = [name for name in _HANDWRITTEN if (root / name / "raw").is_dir()]
    if any((root / f"{part}_32x32.mat").is_file() for part in ("train", "test")):
        found.append("SVHN")
    return found + [kind.upper() for kind in find_cifar(root)]


def _read(name: str, root: Path, *, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    """Images ``(n, channels, height, width)`` as uint8, and labels, of one part."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    part: dict[str, Any] = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
    try:
        made = kind(str(root), download=download, **part)
    except RuntimeError as error:
        if "not found" not in str(error) or _present(name, root, train):
            raise StorageError(f"{name} in {root} is damaged ({error}): fetch it again") from error
        raise DatasetNotFound(
            f"no {name} in {root}: looked for {_where(name, train)}; put the published files there, or pass "
            "download=True"
        ) from error
    except Exception as error:  # the readers of these formats raise whatever the damaged bytes lead to
        raise StorageError(f"{name} in {root} is damaged or could not be fetched ({error}): fetch it again") from error
    if name == "SVHN":
        return torch.from_numpy(np.ascontiguousarray(made.data)), torch.from_numpy(made.labels.astype(np.int64))
    return made.data.unsqueeze(1), made.targets.to(torch.int64)


def _where(name: str, train: bool) -> str:
    return f"{'train' if train else 'test'}_32x32.mat" if name == "SVHN" else f"{name}/raw/*-ubyte"


def _present(name: str, root: Path, train: bool) -> bool:
    # torchvision says "not found or corrupted" for both; only SVHN's files are checked against a checksum
    return name == "SVHN" and (root / _where(name, train)).is_file()


def _digest(inputs: Tensor, targets: Tensor) -> str:
    digest = hashlib.sha256(targets.numpy().tobytes())
    digest.update(np.ascontiguousarray(inputs.numpy()).data)
    return digest.hexdigest()
