"""Reads untrusted files: completely and within size limits, or refused with a reason.

Every reader of such a file opens it here, so that a folder, a pipe, a device or a huge file is
refused at once instead of blocking or being loaded.
"""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import IO

from fexpr.errors import UserError

MIB = 2**20
# without O_NONBLOCK, opening a pipe waits for a writer
FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
IMAGE_BYTES = 256 * MIB
TABLE_BYTES = 1024 * MIB  # AffectNet's training.csv, with its landmarks, has about 450 MB
ANY_BYTES = 64 * 1024 * MIB  # videos, archives, weights
LONGEST_LINE = MIB  # bytes of a line of a table
LONGEST_NAME = 200  # bytes of a name that becomes a file's: file systems allow 255, with a suffix
PICTURES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
)
TABLES = frozenset((".csv", ".xlsx", ".txt", ".json", ".jsonl"))


class Unreadable(OSError):
    """A file cannot be used. The text says why, without naming the file."""


def open_file(path: Path | str, limit: int = ANY_BYTES) -> io.BufferedReader:
    """Opens an ordinary file of at most `limit` bytes for reading.

    Raises:
      Unreadable: it does not exist, is a folder, a pipe or a device, may not be read, or is too
          large.
    """
    try:
        handle = os.open(path, FLAGS)
    except OSError as e:
        raise Unreadable(e.strerror or str(e)) from e
    except ValueError as e:  # a NUL in the name, or a character that no file name can hold
        raise Unreadable(f"no file can have this name ({e})") from e
    about = os.fstat(handle)
    problem = ""
    if stat.S_ISDIR(about.st_mode):
        problem = "is a folder, expected a file"
    elif not stat.S_ISREG(about.st_mode):
        problem = "is a pipe or a device, expected a file"
    elif about.st_size > limit:
        problem = f"has {about.st_size:,} bytes, at most {limit:,} are read"
    if problem:
        os.close(handle)
        raise Unreadable(problem)
    return os.fdopen(handle, "rb")


def read_bytes(path: Path | str, limit: int = ANY_BYTES) -> bytes:
    """The content of an ordinary file of at most `limit` bytes. Errors as in `open_file`."""
    with open_file(path, limit) as file:
        try:
            return file.read()
        except OSError as e:
            raise Unreadable(e.strerror or str(e)) from e


def text_lines(file: IO[bytes] | io.BufferedIOBase) -> Iterator[str]:
    """Yields the lines of a text in UTF-8, with their line ends; a byte-order mark is removed.

    Raises:
      Unreadable: it is UTF-16, contains bytes that are not UTF-8 or a NUL, or a line of more than
        LONGEST_LINE bytes; the text names the line.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Unreadable("is UTF-16: save it as UTF-8")
        if len(line) > LONGEST_LINE:
            raise Unreadable(f"line {number} has more than {LONGEST_LINE:,} bytes")
        if b"\0" in line:
            raise Unreadable(f"line {number} contains a NUL: the file is not text, or is damaged")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as e:
            raise Unreadable(
                f"line {number}: the byte 0x{line[e.start]:02x} is not UTF-8: save it as UTF-8"
            ) from e


def walk(
    folder: Path, refuse: Callable[[Path, str], None]
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yields every folder from `folder` downwards with the sorted names of its folders and files,
    as os.walk does; links to folders are followed. The caller may remove folders from the list.

    Args:
      refuse: called with a folder that cannot be listed, or is reached a second time by a link,
          or a broken link; and the reason.
    """

    def unreadable(error: OSError) -> None:
        refuse(Path(error.filename), f"cannot be listed: {error.strerror or error}")

    seen: dict[tuple[int, int], Path] = {}
    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        about, path = os.stat(place), Path(place)
        first = seen.setdefault((about.st_dev, about.st_ino), path)
        if first != path:
            refuse(path, f"is the same folder as {first}: remove the link")
            folders.clear()
            continue
        lost = [name for name in files if not is_hidden(name) and is_broken_link(path / name)]
        for name in lost:
            refuse(path / name, "is a broken link")
        folders.sort()
        yield path, folders, sorted(set(files) - set(lost))


def limit_of(path: Path) -> int:
    """The size limit, in bytes, of a file with this suffix."""
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return IMAGE_BYTES
    return TABLE_BYTES if suffix in TABLES else ANY_BYTES


def is_folder(path: Path) -> bool:
    """Whether a folder exists; False for names that no folder can have.

    Raises:
      UserError: it is a broken link, or, as in `is_file`, `exists` and `is_there`, a
        folder above it is one.
      PermissionError: a folder above it may not be searched, as in the others.
    """
    found = _about(path, stat.S_ISDIR)
    if not found and not is_hidden(path):  # editors lock files by such links
        _refuse_lost(Path(path))
    return found


def is_file(path: Path) -> bool:
    """Whether an ordinary file exists; False for names that no file can have."""
    return _about(path, stat.S_ISREG)


def exists(path: Path) -> bool:
    """Whether anything exists, behind links too; False for names that none can have."""
    return _about(path, lambda mode: True)


def is_there(path: Path) -> bool:
    """Whether anything has this name. Anything with the name of an optional file is read or
    refused, but never skipped because it is a folder or a broken link.
    """
    return _about(path, lambda mode: True, links=False)


def _about(path: Path, test: Callable[[int], bool], links: bool = True) -> bool:
    try:
        return test(os.stat(path, follow_symlinks=links).st_mode)
    except PermissionError:
        raise  # it may exist: 'no' would leave it out without a word
    except FileNotFoundError:
        for above in Path(path).parents:
            _refuse_lost(above)
        return False
    except (OSError, ValueError):
        return False


def _refuse_lost(path: Path) -> None:
    """Raises a UserError if a link is broken, as where a disk is not mounted: its target would be
    left out without a word.
    """
    if is_broken_link(path):
        raise UserError(
            f"{path} is a broken link", [f"to {os.readlink(path)}"], "mend or remove it"
        )


def is_broken_link(path: Path | str) -> bool:
    """Whether a path is a link to something that does not exist, or to itself."""
    try:
        return os.path.islink(path) and not os.path.exists(path)
    except ValueError:
        return False


def find(folder: Path, pattern: str) -> list[Path]:
    """What `sorted(folder.glob(pattern))` finds, without '**'; hidden files too.

    Raises:
      PermissionError: a folder may not be listed, which `glob` passes over.
    """
    found = [folder]
    for part in pattern.split("/"):
        if glob.has_magic(part):
            above = filter(is_folder, found)
            found = [p for f in above for p in f.iterdir() if fnmatch.fnmatchcase(p.name, part)]
        else:
            found = [f / part for f in found if is_there(f / part)]
    return sorted(found)


def name_problem(name: str) -> str:
    """Why `name`, read from a table or a workbook, cannot be part of a file's name; '' if it can.

    A name with a slash, or of dots only, would lead to another folder; one with a line break or an
    escape would be displayed misleadingly.
    """
    if name in (".", "..") or "/" in name or "\\" in name:
        return "contains a slash, or only dots, and would lead to another folder"
    if any(not c.isprintable() or c in "<>" for c in name):
        return "contains a character that is not printable, or < or >"
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    return ""


def path_problem(text: str) -> str:
    """The same as `name_problem`, for a path of several names, separated by slashes, below a
    folder.
    """
    parts = text.split("/")
    if text.startswith("/"):
        return "begins with a slash, expected a path below the folder"
    return next((problem for part in parts if (problem := name_problem(part))), "")


def is_hidden(path: PurePath | str) -> bool:
    """Whether a file is an operating system's rather than a release's: hidden files, macOS's `._`
    doubles and `__MACOSX` folders, Windows' thumbnails."""
    path = Path(path)
    return (
        path.name.startswith(".")
        or path.name.lower() in ("thumbs.db", "desktop.ini")
        or "__MACOSX" in path.parts
    )
