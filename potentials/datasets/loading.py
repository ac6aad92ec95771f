"""Data sets by name or path, and from plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from landscape.checks import known_options, one_of
from landscape.errors import ConfigError, DatasetNotFound, StorageError
from landscape.potentials.datasets.cifar import cifar10, cifar100
from landscape.potentials.datasets.data import Data, dataset
from landscape.potentials.datasets.generated import digits, random_labels
from landscape.potentials.datasets.pictures import image_folder
from landscape.potentials.datasets.vision import find_torchvision, torchvision_dataset

__all__ = ["from_spec", "load"]

_KINDS: dict[str, Callable[..., Data]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "image_folder": image_folder,
    "random_labels": random_labels,
    "torchvision_dataset": torchvision_dataset,
}


@dataset
def load(source: str | PathLike[str], **options: Any) -> Data:
    """A data set by its name or by where it lies.

    Parameters
    ----------
    source : str or path
        ``"random-labels"`` or ``"digits"``; or the path of a folder of images, of an archive of one, or of a folder
        with CIFAR, MNIST, Fashion-MNIST or SVHN as torchvision keeps them, told by what is in it. A path that is
        spelt like a name can be given as ``"./digits"``.
    **options
        Arguments of the function that makes it: `random_labels`, `digits`, `image_folder`, `cifar10`, `cifar100` or
        `torchvision_dataset`.

    Returns
    -------
    Data
        As that function.

    Examples
    --------
    >>> load("random-labels", samples=12)
    Data('random labels', 12 samples of shape (10,), 3 classes, 0 for evaluation)
    """
    if not isinstance(source, str | PathLike):
        raise ConfigError(f"source = {source!r} is neither a name nor a path: give one")
    kind = str(source).replace("-", "_") if isinstance(source, str) else ""
    if kind in ("random_labels", "digits"):
        return _make(kind, options)
    if not Path(source).exists():
        raise DatasetNotFound(
            f"nothing at {source}: give the path of a folder of images, of an archive of one or of a torchvision data "
            "set, or one of the names 'random-labels' and 'digits'"
        )
    found = find_torchvision(Path(source))
    if len(found) > 1:
        raise ConfigError(
            f"{source} has more than one data set, {found}: call torchvision_dataset(name, root) with the one you want"
        )
    if found and found[0] in ("CIFAR10", "CIFAR100"):
        return _make(found[0].lower(), {**options, "root": source})
    if found:
        return _make("torchvision_dataset", {**options, "name": found[0], "root": source})
    return _make("image_folder", {**options, "path": source})


@dataset
def from_spec(spec: Mapping[str, Any]) -> Data:
    """The data that `Data.spec` describes, made or read again.

    Parameters
    ----------
    spec : mapping
        ``kind``, the name of a function of this package, and its arguments; ``then``, a list of later steps; and
        ``sha256``, with which the files must agree if it is there.

    Returns
    -------
    Data
        Equal to the first.

    Raises
    ------
    ConfigError
        If the kind or an argument is unknown or makes no sense.
    DatasetNotFound
        If files are not there.
    StorageError
        If files are damaged, or not those that were described.

    Examples
    --------
    >>> data = from_spec({"kind": "random_labels", "samples": 300, "seed": 0})
    >>> data.inputs.equal(from_spec(data.spec()).inputs)
    True
    """
    options = dict(spec)
    kind = one_of("kind", options.pop("kind", None), _KINDS)
    steps = options.pop("then", [])
    checksum = options.pop("sha256", None)
    data = _make(kind, options)
    if checksum is not None and data.recipe.get("sha256") != checksum:
        raise StorageError(
            f"the files of {data.name!r} are not those that were described (another checksum): restore them, or "
            "remove sha256 from the specification"
        )
    if not isinstance(steps, list | tuple):
        raise ConfigError(f"then = {steps!r} is not a list of steps: give a list")
    for step in steps:
        data = _apply(data, step)
    return data


def _make(kind: str, options: Mapping[str, Any]) -> Data:
    return _KINDS[kind](**known_options(kind, _KINDS[kind], options))


def _apply(data: Data, step: Any) -> Data:
    if not isinstance(step, Mapping):
        raise ConfigError(f"step {step!r} is not a mapping with the key 'kind': give one")
    options = dict(step)
    kind = one_of("kind", options.pop("kind", None), ("standardize", "subset"))
    method: Callable[..., Data] = data.standardize if kind == "standardize" else data.subset
    return method(**known_options(kind, method, options))
