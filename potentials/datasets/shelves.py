"""Which folder is a split and which a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from landscape.checks import whole_number
from landscape.errors import ConfigError, DatasetNotFound, StorageError

__all__ = ["Shelf", "arrange"]

_TRAIN = ("train", "training")
# the first of these that is there is used
_EVALUATION = ("test", "testing", "val", "valid", "validation", "eval", "evaluation")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Images sorted into splits and classes.

    Attributes
    ----------
    classes : tuple of str
        Names of the classes; the label is the position.
    train, evaluation : dict of str to int
        Label of each image.

    Examples
    --------
    >>> Shelf(("cat",), {"train/cat/1.jpg": 0}, {}).label("train/cat/1.jpg")
    0
    """

    classes: tuple[str, ...]
    train: dict[str, int]
    evaluation: dict[str, int]

    def label(self, name: str) -> int:
        """Label of an image of either split."""
        return self.train[name] if name in self.train else self.evaluation[name]


def arrange(names: Sequence[str], where: Path, *, classes: int | Sequence[str] | None = None) -> Shelf:
    """Sort images into splits and classes by their paths.

    Folders that all images share and that are no split are passed over, so that an archive may have one folder at
    its top. Below a class folder there may be more folders. Beside ``train`` and the evaluation split other folders
    are left alone.

    Parameters
    ----------
    names : sequence of str
        Paths of the images.
    where : pathlib.Path
        What the messages call the whole.
    classes : int, sequence of str or None
        The first so many classes, or those named; None = all.

    Returns
    -------
    Shelf

    Raises
    ------
    DatasetNotFound
        If there are no images in class folders.
    StorageError
        If a class has images for evaluation only.
    ConfigError
        If `classes` makes no sense.

    Examples
    --------
    >>> arrange(["pets/train/dog/1.jpg", "pets/train/cat/1.jpg", "pets/test/cat/2.jpg"], Path("pets.zip")).classes
    ('cat', 'dog')
    """
    parts = {name: tuple(name.split("/")) for name in names}
    parts = _without_shared_top(parts)
    train, evaluation = _splits(parts)
    if not train:
        raise DatasetNotFound(
            f"{where} has {len(names)} images, none for training in a folder of a class: expected "
            "train/<class>/<image> and test/<class>/<image>, or <class>/<image>, with .jpg, .png or the like"
        )
    known = tuple(sorted(set(train.values())))
    strange = sorted(set(evaluation.values()) - set(known))
    if strange:
        raise StorageError(f"{where} has classes for evaluation that have no training images: {strange}: add them")
    chosen = _chosen(known, classes)
    number = {label: index for index, label in enumerate(chosen)}
    return Shelf(
        chosen,
        {name: number[label] for name, label in train.items() if label in number},
        {name: number[label] for name, label in evaluation.items() if label in number},
    )


def _without_shared_top(parts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    while parts:
        tops = {path[0] for path in parts.values()}
        shortest = min(len(path) for path in parts.values())
        if len(tops) > 1 or shortest < 3 or next(iter(tops)).lower() in (*_TRAIN, *_EVALUATION):
            break
        parts = {name: path[1:] for name, path in parts.items()}
    return parts


def _splits(parts: dict[str, tuple[str, ...]]) -> tuple[dict[str, str], dict[str, str]]:
    """Class name of each training and each evaluation image."""
    # a folder called "train" with images right in it is the class of trains
    splits: dict[str, dict[str, str]] = {}
    for name, path in parts.items():
        if len(path) > 2:
            splits.setdefault(path[0].lower(), {})[name] = path[1]
    train = next((splits[split] for split in _TRAIN if split in splits), None)
    if train is not None:
        return train, next((splits[split] for split in _EVALUATION if split in splits), {})
    if any(split in splits for split in _EVALUATION):
        return {}, {}
    return {name: path[0] for name, path in parts.items() if len(path) > 1}, {}


def _chosen(known: tuple[str, ...], classes: int | Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        return known
    if isinstance(classes, str):
        raise ConfigError(f"classes = {classes!r} is one name: give a list of names, or a number")
    if not isinstance(classes, Sequence):
        return known[: whole_number("classes", classes, most=len(known))]
    unknown = [name for name in classes if name not in known]
    if unknown or not classes or len(set(classes)) < len(classes):
        raise ConfigError(f"classes = {list(classes)!r} are not different names out of {list(known)}: change them")
    return tuple(classes)
