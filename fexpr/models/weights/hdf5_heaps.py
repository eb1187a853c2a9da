"""The global heaps of an HDF5 file, which hold the texts of its attributes: libhdf5 follows the
sizes in them without end if one is 0, so they are checked before it reads any.
"""

from __future__ import annotations

import io
import struct

HEAP = b"GCOL\x01\0\0\0"  # signature, version and three reserved bytes (HDF5 format, III.E)
HEADER = struct.Struct("<Q")  # bytes of the heap, with signature and this
OBJECT = struct.Struct("<HHIQ")  # number (0: free space), references, reserved, bytes
CHUNK = 2**24


def check(file: io.BufferedIOBase) -> None:
    """Raises a ValueError if a global heap is damaged; leaves the file at its start."""
    for at in _places(file):
        _check(file, at)
    file.seek(0)


def _places(file: io.BufferedIOBase) -> list[int]:
    """Where the heaps begin."""
    found, start, kept = [], 0, b""
    file.seek(0)
    while chunk := file.read(CHUNK):
        part = kept + chunk
        at = part.find(HEAP)
        while at >= 0:
            found.append(start - len(kept) + at)
            at = part.find(HEAP, at + 1)
        start += len(chunk)
        kept = part[-len(HEAP) + 1 :]
    return found


def _check(file: io.BufferedIOBase, at: int) -> None:
    file.seek(at + len(HEAP))
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise ValueError("it ends within a heap of texts")
    (size,) = HEADER.unpack(header)
    place, end = at + len(HEAP) + HEADER.size, at + size
    while place + OBJECT.size <= end:
        file.seek(place)
        header = file.read(OBJECT.size)
        if len(header) < OBJECT.size:
            return  # a heap that claims to be longer than the file: libhdf5 refuses it
        number, _, _, held = OBJECT.unpack(header)
        # the size of free space includes its header, that of an object does not
        needed = OBJECT.size + -(-held // 8) * 8 if number else held
        if needed < OBJECT.size:
            raise ValueError("the sizes in a heap of texts are damaged")
        place += needed
