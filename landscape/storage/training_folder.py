"""A training on disk: one run folder for each stretch of equal rate, and a file that says what they are parts of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from landscape.common.tables import differences
from landscape.errors import CheckpointError
from landscape.storage.files import path_of
from landscape.storage.folder import FORMAT, INDEXES, Folder, kind_of, read_index
from landscape.storage.manifest import generations
from landscape.storage.run_folder import RunFolder
from landscape.storage.run_reader import open_folder

__all__ = ["Stretch", "TrainingFolder", "as_trained"]

INDEX = INDEXES["training"]


@dataclass(frozen=True)
class Stretch:
    """Epochs of equal rate, by one network for all siblings or by each of them.

    Attributes
    ----------
    first, last : int
        From which epoch to which.
    factor : float
        On the rate.
    together : bool
        Whether the siblings are one network still.
    """

    first: int
    last: int
    factor: float
    together: bool


class TrainingFolder:
    """Where a training goes.

    Parameters
    ----------
    path : path
    resumed : bool
        Whether the start is the one of the stored training, whatever is given.
    """

    def __init__(self, path: str | os.PathLike[str], *, resumed: bool = False) -> None:
        self.path, self.resumed = path_of(path), resumed
        self.folder: Folder | None = None

    def read(self) -> dict[str, Any]:
        """Specification, further settings, siblings and stretches.

        Raises
        ------
        CheckpointError
        """
        return read_index(self.path / INDEX)

    def begin(self, content: Mapping[str, Any]) -> None:
        """Claim the folder, and store what the training is, or compare it with what is stored.

        That may be the first epochs of it.

        Raises
        ------
        StorageError
            If another process writes there, or the folder holds something else.
        CheckpointError
            If the folder holds another training.
        """
        self.folder = Folder(self.path, "training")
        try:
            self._store({"format": FORMAT, **content}, self.folder)
        except BaseException:
            self.close()
            raise

    def _store(self, content: dict[str, Any], folder: Folder) -> None:
        if kind_of(self.path) is None:
            folder.commit(content)
            return
        stored = self.read()
        ignored = {"start"} if self.resumed else set()
        if _first_epochs(stored, content, ignored):
            folder.commit({**content, **{key: stored[key] for key in ignored & set(stored)}})
            return
        changed = differences(stored, content, ignored=ignored)
        if changed:
            raise CheckpointError(f"{str(self.path)!r} holds another training: {'; '.join(changed)}")

    def close(self) -> None:
        """Let others write."""
        if self.folder is not None:
            self.folder.close()

    def stretch(self, number: int) -> RunFolder:
        """The folder of a stretch; one that was begun goes on as it was begun."""
        folder = RunFolder(self.path / f"stretch-{number:04d}")
        folder.spec = {} if folder.manifest is None else folder.manifest.spec
        return folder

    def way_on(self, _: str = "") -> str:
        """What to say where the training is interrupted."""
        content, at = self.read(), 0.0
        for number, (first, last, *_rest) in enumerate(content["stretches"]):
            path = self.path / f"stretch-{number:04d}"
            if kind_of(path) == "run":
                made = next(generations(path))
                at = first + (last - first) * made.done / made.steps
        epochs = content["spec"]["epochs"]
        return f"interrupted at epoch {at:.6g} of {epochs}; go on with `landscape resume {self.path}`"

    def pieces(self) -> Iterator[xr.Dataset]:
        """What each stretch has committed so far."""
        content = self.read()
        for number, row in enumerate(content["stretches"]):
            path = self.path / f"stretch-{number:04d}"
            if kind_of(path) == "run":
                yield as_trained(open_folder(path), Stretch(*row), content["siblings"])


def _first_epochs(stored: Mapping[str, Any], given: Mapping[str, Any], ignored: set[str]) -> bool:
    """Whether a stored training is the beginning of a longer one."""
    if given["spec"]["epochs"] <= stored["spec"]["epochs"]:
        return False
    growing = ("epochs", "schedule")
    same = [
        {**one, "spec": {key: value for key, value in one["spec"].items() if key not in growing}, "stretches": []}
        for one in (stored, given)
    ]
    *whole, (first, last, *kind) = stored["stretches"]
    goes_on = given["stretches"][len(whole) : len(whole) + 1]
    continued = [row for row in goes_on if row[0] == first and row[1] >= last and row[2:] == kind]
    return bool(continued) and whole == given["stretches"][: len(whole)] and not differences(*same, ignored=ignored)


def as_trained(piece: xr.Dataset, stretch: Stretch, siblings: int) -> xr.Dataset:
    """A stretch as all siblings see it, with the factor on the rate."""
    if stretch.together:
        about = piece.chain.attrs
        piece = piece.isel(chain=[0] * siblings).assign_coords(chain=("chain", np.arange(siblings), about))
    about = {"long_name": "factor of the schedule on the rate", "units": "1"}
    return piece.assign(rate_factor=("draw", np.full(piece.sizes["draw"], stretch.factor), about))
