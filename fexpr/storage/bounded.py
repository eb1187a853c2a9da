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
from collections.abc import Callable, Iterable, Iterator
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
NOTES = frozenset(("authors", "citation", "copying", "licence", "license", "notice", "readme"))
MOVE = "put the folder in its place, or move it elsewhere; or give another path"
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
    if not stat.S_ISREG(about.st_mode):
        problem = f"is {_kind(about.st_mode)}, expected a file"
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
          a broken link, a pipe or a device; and the reason.
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
        ordinary = []
        for name in sorted(files):
            reason = "" if is_hidden(name) else _stray_problem(path / name)
            if reason:
                refuse(path / name, reason)
            else:
                ordinary.append(name)
        folders.sort()
        yield path, folders, ordinary


def _stray_problem(path: Path) -> str:
    """Why something found by listing a folder is neither a file nor a folder; '' if it is."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "is a broken link" if is_broken_link(path) else ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else f"is {_kind(mode)}"


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a file" if stat.S_ISREG(mode) else "a pipe or a device"


def limit_of(path: Path) -> int:
    """The size limit, in bytes, of a file with this suffix."""
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return IMAGE_BYTES
    return TABLE_BYTES if suffix in TABLES else ANY_BYTES


def is_folder(path: Path) -> bool:
    """Whether a folder exists that has a fixed name, as in the layout of a release; False if
    nothing has this name, or none can have it.

    Raises:
      UserError: something else has its name, or that of a folder above it: a file, a pipe, a
        broken link. `is_file`, `exists` and `is_there` refuse broken links above it.
      PermissionError: a folder above it may not be searched, as in the others.
    """
    if _about(path, stat.S_ISDIR):
        return True
    _refuse_lost(Path(path))
    for place in (Path(path), *Path(path).parents):
        try:
            mode = os.stat(place).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISDIR(mode):
            break
        raise UserError(f"{place} is {_kind(mode)}, expected a folder", fix=MOVE)
    return False


def folders_among(paths: Iterable[Path]) -> list[Path]:
    """Those of `paths`, which were found by listing folders, that are folders. Hidden ones, and
    files that have an ending or are called like README, are passed over.

    Raises:
      UserError: anything else, as it has the name of a folder: all of them.
    """
    found, refused = [], []
    for path in paths:
        if is_hidden(path.name):
            continue
        if _about(path, stat.S_ISDIR):
            found.append(path)
        elif problem := _stray_problem(path):
            refused.append(f"{path} {problem}")
        elif not path.suffix and path.name.lower() not in NOTES:
            refused.append(f"{path} is a file")
    if refused:
        raise UserError("a folder was expected at each of these places", refused, MOVE)
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
    """What `sorted(folder.glob(pattern))` finds, without '**'; hidden files too, but nothing in
    hidden folders.

    Raises:
      UserError: something that is no folder has the name of one, as in `is_folder` and
        `folders_among`.
      PermissionError: a folder may not be listed, which `glob` passes over.
    """
    found, listed = [folder], False
    for part in pattern.split("/"):
        above = folders_among(found) if listed else filter(is_folder, found)
        listed = glob.has_magic(part)
        if listed:
            found = [p for f in above for p in f.iterdir() if fnmatch.fnmatchcase(p.name, part)]
        else:
            found = [f / part for f in above if is_there(f / part)]
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
