"""The folder of compiled programs, which JAX fills and reads.

JAX writes an entry in place and never replaces one. An entry that a kill or a full disk cut short
would cost a warning and a compilation at every later start, so such entries are removed here.
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

from fexpr.errors import UserError
from fexpr.storage.cache import cache_dir

SUFFIX = "-cache"  # of JAX's entries
CHECKED = ".checked"  # its time: entries from before were whole
MARGIN = 60.0  # seconds before that which are checked again: clocks of file systems differ
WRITING = 5.0  # seconds since the last change of an entry that may still be being written
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # a zstd frame; JAX uses zlib where no zstd library is installed
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
    """Whether an entry can be decompressed to its end. Entries in zstd, whose end is only known to
    a library that may be missing, are whole unless they are empty.
    """
    stream, empty = zlib.decompressobj(), True
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if empty and chunk.startswith(ZSTANDARD):
                return True
            empty = False
            try:
                stream.decompress(chunk)
            except zlib.error:
                return False
    return stream.eof
