"""Reads untrusted .npy and .npz files of NumPy: no pickles, and no array is allocated before its
header agrees with the number of bytes in the file.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np

from fexpr.storage import bounded, packed
from fexpr.storage.bounded import Unreadable

LEAST_LIMIT = 256 * bounded.MIB  # bytes to which a small file may unpack


def read(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name.

    Raises:
      Unreadable: it cannot be read, is not an .npz, is damaged, or unpacks to far more than its
          size. Pickled: some arrays could only be unpickled.
    """
    arrays, pickled = {}, []
    with bounded.open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                packed.check_size(members, max(LEAST_LIMIT, 4 * size))
                for member in members:
                    name = member.filename.removesuffix(".npy")
                    try:
                        data = packed.read_member(archive, member.filename, member.file_size)
                        arrays[name] = decode(data)
                    except Pickled:
                        pickled.append(name)
                    except Unreadable as e:
                        raise Unreadable(f"array {name}: {e}") from e
        except Unreadable:
            raise
        except (*packed.DAMAGE, MemoryError) as e:
            raise Unreadable(f"is not an .npz archive, or is damaged: {e}") from e
    if pickled:
        raise Pickled(pickled)
    return arrays


def decode(data: bytes) -> np.ndarray:
    """The array in the bytes of an .npy file. Raises Unreadable if they are not one, and
    Pickled.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = header(stream)
    except Exception as e:  # NumPy's parser raises those of the modules tokenize and ast, too
        raise Unreadable(f"is not an array of NumPy, or is damaged: {e}") from e
    if dtype.hasobject:
        raise Pickled([])
    if dtype.kind == "V":
        raise Unreadable(f"has the type {dtype}, expected numbers or texts")
    found, wanted = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if found != wanted or any(n < 0 for n in shape):
        raise Unreadable(f"is cut off, or damaged: {found:,} bytes, expected {wanted:,}")
    array = np.frombuffer(data, dtype, math.prod(shape), stream.tell()) if wanted else None
    if array is None:
        return np.zeros(shape, dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


class Pickled(Unreadable):
    """Arrays that are stored as pickles, which are never opened; `names`: theirs."""

    def __init__(self, names: list[str]):
        super().__init__(f"contains pickled arrays, which are never opened: {', '.join(names)}")
        self.names = names
