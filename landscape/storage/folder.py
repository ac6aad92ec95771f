"""The folder of what is written as it goes on: a run, a training, a sweep.

Files are appended under names of their own; then an index, which says by size and checksum which files count, takes the
place of the former one. So a kill at any instant leaves one of the two, and what was committed is never touched again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from numbers import Integral
from pathlib import Path
from typing import IO, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from landscape.errors import CheckpointError, StorageError
from landscape.storage.files import inside, path_of, write_atomically

__all__ = [
    "FORMAT", "INDEXES", "Entry", "Folder", "Kind", "former_of", "kind_of", "locked", "of_today", "read_entry",
    "read_index",
]  # fmt: skip

FORMAT: Final = 1  # of what is stored; one more where `of_today` has to change what was stored before
Kind = Literal["sweep", "training", "run"]
INDEXES: Final[Mapping[Kind, str]] = {"sweep": "sweep.json", "training": "training.json", "run": "manifest.json"}
LOCK: Final = "lock"
_NAME: Final = re.compile(
    r"(state|checkpoint|certificate|draw|snapshot|projection)-[0-9]{1,20}(-[0-9]{1,20})?\.(nc|safetensors)"
)


class Entry(BaseModel):
    """A file of the folder: its name, size, checksum, and how many entries of a series it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class Folder:
    """A folder which no other process writes as long as this object is open.

    Parameters
    ----------
    path : path
    kind : {"sweep", "training", "run"}

    Raises
    ------
    StorageError
        If another process writes there, or the folder holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], kind: Kind) -> None:
        self.path, self.kind, self.index = path_of(path), kind, INDEXES[kind]
        self.former, self._committed = former_of(self.index), frozenset[str]()
        self._lock = self.create()

    def create(self) -> IO[bytes]:
        """Make the folder, or claim one that holds nothing else.

        Raises
        ------
        StorageError
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise StorageError(f"{str(path)!r} is a file; output is a folder: give another name")
        known = path.exists() and kind_of(path) == self.kind
        if path.exists() and not known and not all(self._is_own(one.name) for one in path.iterdir()):
            raise StorageError(f"{str(path)!r} holds other files: give a new folder")
        return locked(path, LOCK)

    def append(self, name: str, content: bytes, entries: int = 0) -> Entry:
        """Write a file, which counts once it is committed.

        Raises
        ------
        StorageError
            If it cannot be written; what was committed before is unchanged.
        """
        write_atomically(self.path / name, content, follow=False)
        return Entry(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest(), entries=entries)

    def commit(
        self, content: Mapping[str, Any], names: Collection[str] = (), *, former: Mapping[str, Any] | None = None
    ) -> None:
        """Put an index with this content and these files in the place of what was committed last.

        Parameters
        ----------
        content : mapping
        names : collection of str
            The files that count.
        former : mapping, optional
            The content that is kept beside it with its files; all other files go.
        """
        if former is not None:
            write_atomically(self.path / self.former, _sealed(former), follow=False)
        write_atomically(self.path / self.index, _sealed(content), follow=False)
        kept = {*names, *(self._committed if former is not None else ())} | ({self.former} if former else set())
        for path in self.needless(kept):
            path.unlink(missing_ok=True)
        self._committed = frozenset(names)

    def read(self) -> dict[str, Any]:
        """What was committed last.

        Raises
        ------
        CheckpointError
        """
        return read_index(self.path / self.index)

    def holds(self, names: Collection[str]) -> None:
        """Take note of the files that were committed before this object was made."""
        self._committed = frozenset(names)

    def needless(self, kept: Collection[str]) -> list[Path]:
        """Own files that nothing commits, such as a killed process leaves."""
        stay = {self.index, LOCK, *kept}
        return [path for path in self.path.iterdir() if self._is_own(path.name) and path.name not in stay]

    def close(self) -> None:
        """Let others write."""
        self._lock.close()

    def _is_own(self, name: str) -> bool:
        """Whether files of that name are written here: all others in the folder are somebody else's."""
        unfinished = name.startswith(".") and name.endswith(".part")
        return name in (self.index, self.former, LOCK) or unfinished or _NAME.fullmatch(name) is not None


def kind_of(folder: Path) -> Kind | None:
    """What is stored in a folder, if anything is."""
    found = (kind for kind, name in INDEXES.items() if any((folder / one).exists() for one in (name, former_of(name))))
    return next(found, None)


def former_of(index: str) -> str:
    """Under which name the index before this one is kept."""
    return index.replace(".", "-former.")


def read_entry(folder: Path, entry: Entry) -> bytes:
    """The content of a file that an index commits, after checking that it is what was written.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    StorageError
        If it is a link out of the folder.
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


def read_index(path: Path) -> dict[str, Any]:
    """The content of an index as this version would have written it.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, or of a later version; the message names the file.
    """
    try:
        table = json.loads(path.read_bytes().decode("utf-8"))
        if _checksum(table["content"]) != table["sha256"]:
            raise ValueError("its checksum does not agree")
        return of_today(dict(table["content"]), path)
    except OSError as error:
        raise CheckpointError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged ({error})") from None


def of_today(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What any version stored, as this one stores it: the one place that knows older formats.

    Trainings, sweeps and bands had no number at first, which is the format 1.

    Raises
    ------
    CheckpointError
        If a later version wrote it.
    """
    number = content.get("format", FORMAT)
    if not isinstance(number, Integral) or int(number) > FORMAT:
        raise CheckpointError(
            f"{str(path)!r} has the format {number!r}, and this version reads up to {FORMAT}: a later one wrote it, "
            "which reads it"
        )
    return {"format": FORMAT, **content}


def locked(folder: Path, name: str) -> IO[bytes]:
    """The folder's lock, made if need be and held until it is closed; the system takes it back when the process ends.

    Raises
    ------
    StorageError
        If another process holds it, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        lock = open(handle, "r+b")  # noqa: SIM115  # held beyond this function
    except OSError as error:
        raise StorageError(f"cannot write to {str(folder)!r}: {error.strerror or error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StorageError(
            f"another process is writing to {str(folder)!r}: wait for it, or give another folder"
        ) from None
    return lock


def _sealed(content: Mapping[str, Any]) -> bytes:
    """JSON with a checksum of itself."""
    return json.dumps({"sha256": _checksum(content), "content": content}, indent=1, sort_keys=True).encode()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
