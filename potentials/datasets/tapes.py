"""Tar archives, plain or compressed, read from front to back without being unpacked."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from landscape.errors import StorageError

__all__ = ["TapeMembers", "is_tape", "refuse_swelling"]

_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_BLOCK = 512
_CHUNK = 2**20
# Archives of photographs shrink by a few per cent, of small drawings by a factor of ten or so, headers included.
_LARGEST_RATIO = 100
_ALWAYS_FINE = 2**30
_HELD = 2**28  # bytes of image files kept from the first pass, so that a small archive is decompressed once


def is_tape(path: Path) -> bool:
    """Whether a file starts like a tar archive, plain or compressed by gzip, bzip2 or xz.

    Examples
    --------
    >>> is_tape(Path(__file__))
    False
    """
    with path.open("rb") as file:
        start = file.read(_BLOCK)
    return start[257:262] == b"ustar" or any(start.startswith(magic) for magic in _OPENERS)


def refuse_swelling(path: Path, unpacked: int) -> None:
    """Refuse an archive that unpacks to more than 2^30 bytes and more than 100 times its size.

    Raises
    ------
    StorageError
        If it does.

    Examples
    --------
    >>> refuse_swelling(Path(__file__), 1000)
    """
    if unpacked <= _ALWAYS_FINE:
        return
    limit = max(_ALWAYS_FINE, _LARGEST_RATIO * path.stat().st_size)
    if unpacked > limit:
        raise StorageError(
            f"{path} unpacks to more than {limit} bytes, over {_LARGEST_RATIO} times its size: do not use it, or "
            "unpack it yourself"
        )


class TapeMembers:
    """Image files in a tar archive.

    A compressed archive can be read only from its beginning. The first pass lists the files and keeps their content
    where that is no more than 2^28 bytes in all; otherwise reading takes a second pass.

    Parameters
    ----------
    path : pathlib.Path
    accept : callable
        ``accept(name, path)`` gives the name of an image, None for other files, and raises on hostile names.
    largest : int
        Bytes of the largest image file that is read.
    """

    def __init__(self, path: Path, accept: Callable[[str, Path], str | None], largest: int) -> None:
        self.path = path
        self.accept = accept
        self.largest = largest
        self.held: dict[str, bytes] | None = None

    def names(self) -> list[str]:
        """Paths of all image files, sorted."""
        found: set[str] = set()
        held: dict[str, bytes] = {}
        room = _HELD
        for name, size, content in self._walk():
            if name in found:
                raise StorageError(f"{self.path} has two members {name!r}: pack it again")
            found.add(name)
            room -= size
            if room >= 0:
                held[name] = content()
            else:
                held.clear()
        self.held = held if room >= 0 else None
        return sorted(found)

    def read(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Path and content of each wanted file, in the order of the archive."""
        chosen = set(wanted)
        if self.held is not None:
            for name, content in self.held.items():
                if name in chosen:
                    yield name, content
        else:
            for name, _, read in self._walk():
                if name in chosen:
                    yield name, read()

    def _walk(self) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
        """Name, size and reader of each image file; the reader works until the next one is asked for."""
        with self._stream() as stream, tarfile.open(fileobj=stream, mode="r:") as tape:  # type: ignore[call-overload]
            for member in tape:
                name = None if member.isdir() else self.accept(member.name, self.path)
                if name is None:
                    continue
                if not member.isreg():
                    raise StorageError(f"{name} in {self.path} is a link, not a file: links are not followed")
                if member.size > self.largest:
                    raise StorageError(f"{name} in {self.path} has more than {self.largest} bytes: do not use it")
                yield name, member.size, partial(self._content, tape, member)
            # a damaged header looks like the end to tarfile; the true end is marked by a block of zeros
            if stream.last != bytes(_BLOCK):
                raise StorageError(f"{self.path} is cut short or damaged in the middle: fetch it again")
            stream.drain()

    def _content(self, tape: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        with _reported(self.path):  # called from outside of `_walk`
            file = tape.extractfile(member)
            return b"" if file is None else file.read()

    @contextmanager
    def _stream(self) -> Iterator[_Stream]:
        with _reported(self.path), self.path.open("rb") as file:
            start = file.read(_BLOCK)
            file.seek(0)
            opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), None)
            plain = file if opener is None else opener(file)
            yield _Stream(plain, self.path, largest=self.largest, compressed=opener is not None)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """What goes wrong inside as an error that names the archive."""
    try:
        yield
    except StorageError:
        raise
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise StorageError(f"{path} is damaged ({error}): fetch it again") from error


class _Stream:
    """A file as tarfile wants it, read forwards only, that refuses to swell beyond all measure."""

    def __init__(self, file: IO[bytes], path: Path, *, largest: int, compressed: bool) -> None:
        self.file = file
        self.path = path
        self.largest = largest
        self.compressed = compressed
        self.position = 0
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes."""
        if not 0 <= size <= self.largest:
            raise StorageError(f"{self.path} has a header of {size} bytes: it is damaged, do not use it")
        self.last = self.file.read(size)
        self.position += len(self.last)
        if self.compressed:
            refuse_swelling(self.path, self.position)
        return self.last

    def seek(self, position: int) -> int:
        """Go forwards to `position`."""
        if position < self.position:
            raise StorageError(f"{self.path} refers back to what is before: it is damaged, do not use it")
        if not self.compressed:
            self.position = self.file.seek(position)
        while self.position < position and self.read(min(_CHUNK, position - self.position)):
            pass
        return self.position

    def tell(self) -> int:
        """Bytes so far."""
        return self.position

    def drain(self) -> None:
        """Read to the end, so that the checksums which compressed files have there are tested."""
        while self.read(_CHUNK):
            pass
