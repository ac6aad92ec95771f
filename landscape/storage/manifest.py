"""What a run folder holds: a small file that commits the others, with their sizes and checksums."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from landscape.errors import CheckpointError, StorageError
from landscape.notices import warn
from landscape.storage.files import inside

__all__ = [
    "CURRENT", "FORMER", "LOCK", "Entry", "Manifest", "generations", "is_own_name", "is_run_folder", "read_entry",
    "seal", "unseal",
]  # fmt: skip

CURRENT, FORMER = "manifest.json", "manifest-former.json"
LOCK = "lock"
_NAME = re.compile(
    r"(state|checkpoint|certificate|draw|snapshot|projection)-[0-9]{1,20}(-[0-9]{1,20})?\.(nc|safetensors)"
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """A file of the folder: its name, size, checksum, and how many entries of a series it holds."""

    name: str
    size: int = Field(ge=0)
    sha256: str
    entries: int = Field(default=0, ge=0)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a file that a run writes")
        return name

    @classmethod
    def of(cls, name: str, content: bytes, entries: int = 0) -> Entry:
        """The entry of a file with this content."""
        return cls(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest(), entries=entries)


class Manifest(_Strict):
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
    def entries(self) -> list[Entry]:
        """All files that it commits."""
        more = [self.certificate] if self.certificate is not None else []
        return [self.state, self.checkpoint, *more, *(one for parts in self.series.values() for one in parts)]

    def encode(self) -> bytes:
        """As bytes of JSON, with a checksum of itself."""
        return seal(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, content: bytes, path: Path) -> Manifest:
        """The manifest in a file.

        Raises
        ------
        CheckpointError
            If it is damaged, or none.
        """
        try:
            return cls.model_validate(unseal(content, path))
        except ValidationError as error:
            raise CheckpointError(f"{str(path)!r} is no manifest of a run: {error.errors()[0]['msg']}") from None


def seal(content: Mapping[str, Any]) -> bytes:
    """JSON with a checksum of itself."""
    return json.dumps({"sha256": _checksum(content), "content": content}, indent=1, sort_keys=True).encode()


def unseal(content: bytes, path: Path) -> dict[str, Any]:
    """What was sealed.

    Raises
    ------
    CheckpointError
        If it is damaged; the message names the file.
    """
    try:
        table = json.loads(content.decode("utf-8"))
        if _checksum(table["content"]) != table["sha256"]:
            raise ValueError("its checksum does not agree")
        return dict(table["content"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged ({error})") from None


def is_own_name(name: str) -> bool:
    """Whether a run writes files of that name: all others in its folder are somebody else's."""
    unfinished = name.startswith(".") and name.endswith(".part")
    return name in (CURRENT, FORMER, LOCK) or unfinished or _NAME.fullmatch(name) is not None


def is_run_folder(folder: Path) -> bool:
    """Whether a run was written there."""
    return any((folder / name).exists() for name in (CURRENT, FORMER))


def generations(folder: Path) -> Iterator[Manifest]:
    """The last generation, then the one before it; a damaged manifest is reported and passed over.

    Raises
    ------
    CheckpointError
        If there is none that can be read.
    """
    found: list[Manifest] = []
    problems: list[str] = []
    for name in (CURRENT, FORMER):
        path = folder / name
        try:
            manifest = Manifest.decode(path.read_bytes(), path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StorageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
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


def read_entry(folder: Path, entry: Entry) -> bytes:
    """The content of a file that a manifest commits, after checking that it is what was written.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    path = inside(folder, entry.name)
    try:
        content = path.read_bytes() if path.stat().st_size == entry.size else None
    except OSError as error:
        raise CheckpointError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    if content is None:
        raise CheckpointError(f"{str(path)!r} is damaged: it has {path.stat().st_size} bytes, not {entry.size}")
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise CheckpointError(f"{str(path)!r} is damaged: its checksum does not agree with the manifest")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
