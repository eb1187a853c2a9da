"""Archives that anybody may have made: what they unpack to is limited."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO

from fexpr.storage.bounded import Unreadable

# what zipfile, tarfile and the decompressors below them raise about damaged archives
DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,  # a password; a method that is not known is a NotImplementedError, which is one
    ValueError,
    LookupError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def check_size(members: Iterable[zipfile.ZipInfo | tarfile.TarInfo], limit: int) -> None:
    """Raises Unreadable where the members together unpack to more than `limit` bytes."""
    total = sum(m.file_size if isinstance(m, zipfile.ZipInfo) else m.size for m in members)
    if total > limit:
        raise Unreadable(f"unpacks to {total:,} bytes, at most {limit:,} are read")


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member of at most `limit` bytes, whatever the archive says about its size.

    Raises:
      Unreadable: it is larger, or the archive is damaged, or has a password.
    """
    try:
        with archive.open(name) as member:
            return read_limited(member, limit)
    except Unreadable:
        raise
    except DAMAGE as e:
        raise Unreadable(f"{name} in it is damaged: {e}") from e


def read_limited(stream: IO[bytes], limit: int) -> bytes:
    """All of a stream of at most `limit` bytes. Raises Unreadable: it has more."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(f"unpacks to more than {limit:,} bytes")
    return data
