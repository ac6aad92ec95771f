"""The image files in a folder, a zip archive or a tar archive, read without writing anything anywhere."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import Protocol

from landscape.errors import DatasetNotFound, StorageError
from landscape.potentials.datasets.tapes import TapeMembers, is_tape, refuse_swelling

__all__ = ["LARGEST_MEMBER", "Members", "image_name", "open_members"]

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".pnm", ".webp", ".tif", ".tiff"})
_LAST_RECORD = 22  # bytes of a zip archive's last record, which a comment of up to 2^16 bytes may follow
LARGEST_MEMBER = 2**26  # bytes of one image file; a larger one in a training set is a mistake or an attack


class Members(Protocol):
    """Image files under one roof, by their paths relative to it, with ``/`` between the parts."""

    def names(self) -> list[str]:
        """Paths of all image files, sorted."""

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Path and content of each wanted file, in the order that is fastest."""


def open_members(path: Path) -> Members:
    """The image files of a folder or of an archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz, told by content).

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    Members

    Raises
    ------
    DatasetNotFound
        If there is nothing at `path`.
    StorageError
        If there is neither a folder nor an archive.

    Examples
    --------
    >>> open_members(Path("no/such/folder"))
    Traceback (most recent call last):
    ...
    landscape.errors.DatasetNotFound: nothing at no/such/folder: give the path of ...
    """
    try:
        if path.is_dir():
            return FolderMembers(path)
        if not path.exists():
            raise DatasetNotFound(f"nothing at {path}: give the path of a folder of images or of an archive of one")
        if zipfile.is_zipfile(path):
            return ZipMembers(path)
        if is_tape(path):
            return TapeMembers(path, image_name, LARGEST_MEMBER)
    except DatasetNotFound:
        raise
    except OSError as error:
        raise StorageError(f"{path} could not be read ({error}): check it") from error
    raise StorageError(f"{path} is neither a folder nor a zip or tar archive, or it is damaged: check it")


def image_name(name: str, where: Path) -> str | None:
    """`name` without leading ``./`` if it is an image's, None if it is another file's or a hidden one's.

    Raises
    ------
    StorageError
        If it points outside of the archive: nothing would be written there, but no honest archive has such names.

    Examples
    --------
    >>> image_name("./train/cat/1.JPG", Path("a.zip")), image_name("train/readme.txt", Path("a.zip"))
    ('train/cat/1.JPG', None)
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or name[1:2] == ":":
        raise StorageError(f"{where} has a member {name!r}, which points outside of it: do not use this archive")
    return "/".join(parts) if _is_image(parts) else None


def _is_image(parts: Sequence[str]) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return not hidden and os.path.splitext(parts[-1] if parts else "")[1].lower() in _SUFFIXES


class FolderMembers:
    """Image files in a folder. Links are followed: what a user's folder points to is the user's choice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Paths of all image files, sorted."""
        found: list[str] = []
        seen: set[str] = set()
        for base, folders, files in os.walk(self.path, followlinks=True, onerror=self._unreadable):
            real = os.path.realpath(base)
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            inside = Path(base).relative_to(self.path).parts
            found += ["/".join((*inside, file)) for file in files if _is_image((*inside, file))]
        return sorted(found)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Path and content of each wanted file, sorted by path."""
        for name in sorted(wanted):
            path = self.path / name
            try:
                if path.stat().st_size > LARGEST_MEMBER:
                    raise StorageError(f"{path} has more than {LARGEST_MEMBER} bytes: it is no image for training")
                content = path.read_bytes()
            except StorageError:
                raise
            except OSError as error:
                raise StorageError(f"{path} could not be read ({error}): check it") from error
            yield name, content

    def _unreadable(self, error: OSError) -> None:
        raise StorageError(f"{error.filename} could not be read ({error.strerror}): check it") from error


class ZipMembers:
    """Image files in a zip archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Paths of all image files, sorted."""
        return sorted(self._index())

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Path and content of each wanted file, sorted by path."""
        index = self._index()
        with self._archive() as archive:
            for name in sorted(wanted):
                yield name, archive.read(index[name])

    def _index(self) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        with self._archive() as archive:
            if not self._complete(len(archive.infolist())):
                raise StorageError(f"{self.path} has a damaged table of contents: fetch it again")
            for entry in archive.infolist():
                # the table of contents has no checksum, but every name is in the file twice, and opening compares
                archive.open(entry).close()
                name = None if entry.is_dir() else image_name(entry.orig_filename, self.path)
                if name is None:
                    continue
                if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise StorageError(f"{name} in {self.path} is a link, not a file: links are not followed")
                if entry.file_size > LARGEST_MEMBER:
                    raise StorageError(f"{name} in {self.path} has more than {LARGEST_MEMBER} bytes: do not use it")
                if name in found:
                    raise StorageError(f"{self.path} has two members {name!r}: pack it again")
                found[name] = entry
        refuse_swelling(self.path, sum(entry.file_size for entry in found.values()))
        return found

    def _complete(self, entries: int) -> bool:
        """Whether the table of contents has as many entries as the last record of the file says.

        zipfile does not ask; a damaged length in the table can swallow the entries that follow.
        """
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _LAST_RECORD - 2**16))
            ending = file.read()
        place = ending.rfind(b"PK\5\6")
        (said,) = struct.unpack_from("<H", ending, place + 10)
        return bool(said in (entries, 0xFFFF))  # the latter in archives with more entries than that

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except StorageError:
            raise
        except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, ValueError, struct.error) as error:
            raise StorageError(f"{self.path} is damaged ({error}): fetch it again") from error
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unusual compression
            raise StorageError(f"{self.path} cannot be read ({error}): pack it again") from error
