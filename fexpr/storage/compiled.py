"""The folder of compiled programs, which JAX fills and reads.

JAX writes an entry in place and never replaces one. An entry that a kill or a full disk cut short
would cost a warning and a compilation at every later start, so such entries are removed here.
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path
from typing import BinaryIO

from fexpr.errors import UserError
from fexpr.storage.cache import cache_dir

SUFFIX = "-cache"  # of JAX's entries
CHECKED = ".checked"  # its time: entries from before were whole
MARGIN = 60.0  # seconds before that which are checked again: clocks of file systems differ
WRITING = 5.0  # seconds since the last change of an entry that may still be being written
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # a zstd frame; JAX uses zlib where no zstd library is installed
RUN_LENGTH = 1  # kind of a block: one byte, repeated
CHUNK = 2**20


def folder() -> Path:
    return cache_dir() / "compiled"


def set_environment() -> None:
    """Keeps the compiled programs of a command in the cache folder, unless the user names another;
    before JAX is imported.
    """
    try:
        kept = str(folder())
    except UserError:  # no home folder: nothing is kept, and what needs a cache folder says so
        return
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", kept) == kept:
        remove_cut_off()


def remove_cut_off() -> None:
    """Removes entries that were cut off. Only those that are new since the last call are read."""
    kept, now = folder(), time.time()
    try:
        since = (kept / CHECKED).stat().st_mtime - MARGIN
    except OSError:
        since = 0.0
    try:
        entries = [entry for entry in os.scandir(kept) if entry.name.endswith(SUFFIX)]
        for entry in entries:
            if since <= entry.stat().st_mtime < now - WRITING and not is_whole(Path(entry)):
                os.unlink(entry)
        if entries:
            (kept / CHECKED).touch()
    except OSError:
        return  # none yet, or a folder of somebody else's: JAX itself reports what it cannot write


def is_whole(path: Path) -> bool:
    """Whether an entry can be decompressed to its end; of one in zstd, for which a library may be
    missing, whether it ends with its last block.
    """
    stream = zlib.decompressobj()
    with path.open("rb") as file:
        if file.read(len(ZSTANDARD)) == ZSTANDARD:
            return _end_of_frame(file) == os.fstat(file.fileno()).st_size
        file.seek(0)
        while chunk := file.read(CHUNK):
            try:
                stream.decompress(chunk)
            except zlib.error:
                return False
    return stream.eof


def _end_of_frame(file: BinaryIO) -> int:
    """Where a zstd frame ends, by the headers of its blocks (RFC 8878, section 3.1.1), read from
    behind its magic number on; -1: a header is missing.
    """
    if not (descriptor := file.read(1)):
        return -1
    flags = descriptor[0]
    one_segment, checksum = flags >> 5 & 1, flags >> 2 & 1
    size_of_content = (one_segment, 2, 4, 8)[flags >> 6]
    at = len(ZSTANDARD) + 1 + (1 - one_segment) + (0, 1, 2, 4)[flags & 3] + size_of_content
    last = 0
    while not last:
        file.seek(at)
        if len(header := file.read(3)) < 3:
            return -1
        block = int.from_bytes(header, "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        at += 3 + (1 if kind == RUN_LENGTH else size)
    return at + 4 * checksum
