"""Equal results as equal bytes: without the time of writing, which HDF5 puts into the header of a file.

Of all objects in a netCDF-4 file only the root group carries times (access, modification, change, birth: four 32-bit
numbers of its object header), which are set to zero here, with the checksum that guards the header made anew.

References
----------
The HDF Group, "HDF5 File Format Specification Version 3.0", II.A (superblock), IV.A.1.b (object header, version 2).
B. Jenkins, "Hash functions", Dr. Dobb's Journal (1997), and the function ``lookup3`` that followed it (2006).
"""

from __future__ import annotations

from landscape.errors import StorageError

__all__ = ["clear_times"]

_ROOT_ADDRESS = slice(36, 44)  # in a superblock of version 2 or 3
_TIMES_STORED, _LIMITS_STORED, _SIZE_BYTES = 0x20, 0x10, 0x03  # flags of an object header
_MASK = 0xFFFFFFFF


def clear_times(head: bytearray) -> None:
    """Set the times in the root group of a netCDF-4 file to zero, in place.

    Parameters
    ----------
    head : bytearray
        The file, or as much of its beginning as holds the header of the root group.

    Raises
    ------
    StorageError
        If this is not the beginning of such a file.
    """
    if head[:8] != b"\x89HDF\r\n\x1a\n" or head[8] not in (2, 3):
        raise StorageError("expected a netCDF-4 file to clear the times of")
    start = int.from_bytes(head[_ROOT_ADDRESS], "little")
    flags = head[start + 5]
    if head[start : start + 4] != b"OHDR" or not flags & _TIMES_STORED:
        return
    head[start + 6 : start + 22] = bytes(16)
    size_at = start + 22 + (4 if flags & _LIMITS_STORED else 0)
    width = 1 << (flags & _SIZE_BYTES)
    end = size_at + width + int.from_bytes(head[size_at : size_at + width], "little")
    head[end : end + 4] = _lookup3(bytes(head[start:end])).to_bytes(4, "little")


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _MASK


def _lookup3(data: bytes) -> int:
    """Jenkins' hash of bytes, with the initial value 0."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    blocks = max((len(data) - 1) // 12, 0)
    words = [int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "little") for at in range(0, 12 * blocks + 12, 4)]
    for block in range(blocks):
        a, b, c = ((old + new) & _MASK for old, new in zip((a, b, c), words[3 * block : 3 * block + 3], strict=True))
        for shift_a, shift_b, shift_c in ((4, 6, 8), (16, 19, 4)):
            a = (a - c & _MASK) ^ _rotated(c, shift_a)
            c = c + b & _MASK
            b = (b - a & _MASK) ^ _rotated(a, shift_b)
            a = a + c & _MASK
            c = (c - b & _MASK) ^ _rotated(b, shift_c)
            b = b + a & _MASK
    if not data:
        return c
    a, b, c = ((old + new) & _MASK for old, new in zip((a, b, c), words[-3:], strict=True))
    for shift_c, shift_a, shift_b in ((14, 11, 25), (16, 4, 14)):
        c = (c ^ b) - _rotated(b, shift_c) & _MASK
        a = (a ^ c) - _rotated(c, shift_a) & _MASK
        b = (b ^ a) - _rotated(a, shift_b) & _MASK
    return (c ^ b) - _rotated(b, 24) & _MASK
