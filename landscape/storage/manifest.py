"""What the index of a run folder says: one generation of the run, and the files that hold it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from landscape.common.notices import warn
from landscape.errors import CheckpointError
from landscape.storage.folder import INDEXES, Entry, former_of, read_index

__all__ = ["CURRENT", "Manifest", "generations"]

CURRENT = INDEXES["run"]


class Manifest(BaseModel):
    """One generation of a run: all that is needed to read it and to go on from it.

    Attributes
    ----------
    steps, done : int
        How many the run is to make, and has made.
    numbers : dict
        What to go on from, as far as it is whole numbers; arrays are in the checkpoint.
    series : dict of dimension to entries
        The parts in their order; the last may be incomplete.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    spec: dict[str, Any]
    steps: int = Field(ge=0)
    done: int = Field(ge=0)
    status: Literal["running", "interrupted", "diverged", "complete"]
    backend: Literal["compiled", "batched"]
    versions: dict[str, str]
    numbers: dict[str, Any]
    state: Entry
    checkpoint: Entry
    series: dict[str, list[Entry]]
    certificate: Entry | None = None

    @property
    def names(self) -> list[str]:
        """All files that it commits."""
        more = [self.certificate] if self.certificate is not None else []
        parts = [one for entries in self.series.values() for one in entries]
        return [entry.name for entry in (self.state, self.checkpoint, *more, *parts)]

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return self.model_dump(mode="json")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest in a file.

        Raises
        ------
        CheckpointError
            If it is damaged, or none.
        """
        try:
            return cls.model_validate(read_index(path))
        except ValidationError as error:
            raise CheckpointError(f"{str(path)!r} is no manifest of a run: {error.errors()[0]['msg']}") from None


def generations(folder: Path) -> Iterator[Manifest]:
    """The last generation, then the one before it; a damaged manifest is reported and passed over.

    Raises
    ------
    CheckpointError
        If there is none that can be read.
    """
    found: list[Manifest] = []
    problems: list[str] = []
    for name in (CURRENT, former_of(CURRENT)):
        path = folder / name
        if not path.exists():
            continue
        try:
            manifest = Manifest.read(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if manifest not in found:
            found.append(manifest)
            if problems:
                warn(f"{'; '.join(problems)}: going back to {str(path)!r}")
                problems = []
            yield manifest
    if not found:
        raise CheckpointError(
            "; ".join(problems) or f"{str(folder)!r} holds no run: expected a folder written by simulate(output=...)"
        )
