"""Unpacks untrusted archives, with limits on their unpacked size."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from fexpr.storage.bounded import MIB, Unreadable

LEAST_LIMIT = 1024 * MIB  # bytes to which a small archive may unpack
MOST_MEMBERS = 10_000  # of a run directory, whose checkpoints are the most
# errors of zipfile, tarfile and their decompressors about damaged archives
DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,  # a password; NotImplementedError (an unknown method) is a subclass
    ValueError,
    LookupError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def unpack(archive: Path, target: Path) -> bool:
    """Unpacks a .zip or .tar into a new folder; returns False if the file is neither.

    Raises:
      Unreadable: it unpacks to much more than its own size, contains too many files, is damaged, or
          one of its files cannot be written.
    """
    limit = max(LEAST_LIMIT, 4 * archive.stat().st_size)
    try:
        # tar first: an uncompressed one that ends with a .npz looks like a .zip
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                members = []
                for member in tar:  # no more than the limit is read
                    members.append(member)
                    limit -= member.size
                    if limit < 0 or len(members) > MOST_MEMBERS:
                        raise Unreadable("contains, or unpacks to, far more than a run directory")
                _read_to_end(tar, limit)
                _extract(tar, members, target)
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                if len(zipped.infolist()) > MOST_MEMBERS:
                    raise Unreadable(f"contains more than {MOST_MEMBERS:,} files")
                check_size(zipped.infolist(), limit)
                zipped.extractall(target)  # removes '..' and absolute paths from names
        else:
            return False
    except Unreadable:
        raise
    except DAMAGE as e:
        raise Unreadable(f"is damaged, or cannot be unpacked: {e}") from e
    return True


def _read_to_end(tar: tarfile.TarFile, limit: int) -> None:
    """Reads what follows the last member: the decompressors only then compare their checksums."""
    while chunk := tar.fileobj.read(MIB) if tar.fileobj else b"":
        limit -= len(chunk)
        if limit < 0:
            raise Unreadable("unpacks to far more than a run directory")


def _extract(tar: tarfile.TarFile, members: list[tarfile.TarInfo], target: Path) -> None:
    """Extracts members that stay inside `target`; any other raises a TarError."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(target, members, filter="data")
        return
    for member in members:  # Python 3.11.0 to 3.11.3 have no filters
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise tarfile.ExtractError(
                f"{member.name!r} is outside the archive, or not a plain file"
            )
    tar.extractall(target, members)


def check_size(members: Iterable[zipfile.ZipInfo | tarfile.TarInfo], limit: int) -> None:
    """Raises Unreadable if the members together unpack to more than `limit` bytes."""
    total = sum(m.file_size if isinstance(m, zipfile.ZipInfo) else m.size for m in members)
    if total > limit:
        raise Unreadable(f"unpacks to {total:,} bytes, at most {limit:,} are read")


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Reads a member of at most `limit` bytes, whatever size the archive claims.

    Raises:
      Unreadable: it is larger, or the archive is damaged, or has a password.
    """
    try:
        with archive.open(name) as member:
            return read_limited(member, limit)
    except Unreadable:
        raise
    except DAMAGE as e:
        raise Unreadable(f"{name} is damaged: {e}") from e


def read_limited(stream: IO[bytes] | io.BufferedIOBase, limit: int) -> bytes:
    """The content of a stream of at most `limit` bytes. Raises Unreadable if it has more."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(f"unpacks to more than {limit:,} bytes")
    return data
