"""The layouts of FER2013 on the disk: its CSV, plain or packed, or folders of images, loose or in
an archive. All are read into the same columns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from fexpr.data.preparation.prepare import BadInput, contents
from fexpr.data.releases.fer2013_rows import IMAGES, LABELS, PARTS, Faces, Rows, letters, read_csv
from fexpr.errors import UserError
from fexpr.storage import bounded, packed
from fexpr.storage.bounded import Unreadable
from fexpr.terminal import progress

# the preferred first
CSVS = ("fer2013.csv", "fer2013.csv.gz", "icml_face_data.csv", "icml_face_data.csv.gz")
Stream = IO[bytes] | io.BufferedIOBase
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")
MOST_IMAGE = 16 * bounded.MIB  # bytes of an image of 48x48 pixels
MOST_MEMBER = 1024 * bounded.MIB  # of an archive's member; the table has 300 MB
FERPLUS = "ferplus"  # folders and archives so called are not FER2013's own


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout that is read.

    Attributes:
      path: the CSV, the archive, or the folder that holds the folders of images.
      files: everything that the rows depend on.
      unused: other layouts that also exist.
    """

    path: Path
    files: list[Path]
    unused: list[str]


def find_layout(folder: Path) -> Layout:
    """The layout in `folder`: the CSV if there is one, else folders of images, else an archive;
    nothing is opened.

    Raises:
      UserError: none of them is found; folders that cannot be listed, or are there twice.
    """
    tables, images, archives, refused = [], [], [], []
    for place, folders, names in bounded.walk(
        folder, lambda place, why: refused.append(f"{place} {why}")
    ):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not name.lower().startswith(FERPLUS)
        ]
        top = place == folder
        # a folder with the name of an image is treated as an image, and refused
        images += [
            place / name for name in folders if not top and Path(name).suffix.lower() in IMAGES
        ]
        for path in (place / name for name in names):
            if letters(path.name) in PARTS or (
                letters(place.name) in PARTS and path.name.strip().lower() in LABELS
            ):
                refused.append(f"{path} is a file, expected a folder")
            elif path.name.lower() in CSVS:
                tables.append(path)
            elif (
                top
                and path.name.lower().endswith(ARCHIVES)
                and not path.name.lower().startswith(FERPLUS)
            ):
                archives.append(path)
            elif (
                not top
                and not bounded.is_hidden(path)
                and (path.suffix.lower() in IMAGES or letters(path.parts[-3]) in PARTS)
            ):
                images.append(path)
    if refused:
        raise UserError(
            f"{folder} cannot be searched", refused, "mend, move or remove these, or their links"
        )
    tables.sort(key=lambda path: (CSVS.index(path.name.lower()), len(path.parts)))
    found = [
        *((path, [path]) for path in tables),
        *([(folder, images)] if images else []),
        *((path, [path]) for path in archives),
    ]
    if not found:
        expected = (
            f"expected {CSVS[0]}, {CSVS[2]}, either also as .gz, folders train/<class>/ and "
            "test/<class>/, or an archive of them"
        )
        raise UserError(
            f"{folder} contains no FER2013",
            [expected, f"it {contents(folder)}"],
            "lay it out as docs/data.md shows",
        )
    (path, files), *others = found
    return Layout(
        path,
        files,
        [
            "folders of images" if other == folder else other.relative_to(folder).as_posix()
            for other, _ in others
        ],
    )


def read(layout: Layout, skipped: set[str]) -> Faces:
    """Reads every image, under a progress bar: the rows of a CSV in its order, images of folders
    sorted by part and id.

    Args:
      skipped: ids that the user leaves out, faulty or not.

    Raises:
      UserError: the file is damaged; or, all at once, everything that is wrong with its rows or
          images.
    """
    rows, name = Rows(layout.path, skipped), layout.path.name.lower()
    if layout.path.is_dir():
        with progress("reading FER2013", len(layout.files)) as advance:
            for path in layout.files:
                rows.add_image(path.relative_to(layout.path).as_posix(), partial(_read_loose, path))
                advance()
        return rows.faces()
    with _opened(layout.path) as (file, tick):
        if name in CSVS:
            read_csv(_unpacked(file, name), rows, tick)
            return rows.faces()
        inner = []
        for member, opened in _members(file, name):
            tick()
            if PurePosixPath(member).name.lower() in CSVS:
                rows = Rows(f"{layout.path}: {member}", skipped)
                read_csv(_unpacked(opened(), member), rows, tick)
                return rows.faces()
            if member.lower().endswith(ARCHIVES) and not bounded.is_hidden(member):
                inner.append(member)
            rows.add_image(member, partial(_read_member, opened))
    if inner and not rows.found:
        raise UserError(
            f"{layout.path} contains archives instead of images",
            inner,
            f"unpack {layout.path.name} in its folder, then remove it",
        )
    return rows.faces()


def _unpacked(stream: Stream, name: str) -> Stream:
    return gzip.GzipFile(fileobj=stream) if name.lower().endswith(".gz") else stream


def _read_loose(path: Path) -> bytes:
    try:
        return bounded.read_bytes(path, MOST_IMAGE)
    except Unreadable as e:
        raise BadInput(str(e)) from e


def _read_member(opened: Callable[[], Stream]) -> bytes:
    try:
        return packed.read_limited(opened(), MOST_IMAGE)
    except packed.DAMAGE as e:
        raise BadInput(str(e)) from e


def _members(file: io.BufferedReader, name: str) -> Iterator[tuple[str, Callable[[], Stream]]]:
    """Yields names and contents of an archive's files, a zip's CSV first; nothing is unpacked to
    the disk. Tar files are read once, in order.
    """
    if name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in sorted(
                members, key=lambda m: PurePosixPath(m.filename).name.lower() not in CSVS
            ):
                if member.flag_bits & 1:
                    raise zipfile.BadZipFile("it is protected by a password: remove it first")
                yield member.filename, partial(archive.open, member)
        return
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if member.issym() or member.islnk():
                raise tarfile.ReadError(f"{member.name} is a link; pack the files themselves")
            if member.isfile() and member.size > MOST_MEMBER:
                raise Unreadable(f"{member.name} in it has {member.size:,} bytes")
            if member.isfile():
                yield member.name.removeprefix("./"), partial(_extracted, archive, member)


def _extracted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return content


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedReader, Callable[[], None]]]:
    """Yields the open file, and a function that moves the progress bar to the position read so far.

    Raises:
      UserError: the file cannot be read, or turns out to be damaged.
    """
    try:
        with (
            bounded.open_file(path) as file,
            progress(f"reading {path.name} (MB)", max(path.stat().st_size // 10**6, 1)) as advance,
        ):
            done = 0

            def tick() -> None:
                nonlocal done
                if file.tell() // 10**6 > done:
                    advance(file.tell() // 10**6 - done)
                    done = file.tell() // 10**6

            yield file, tick
    except packed.DAMAGE as e:
        raise UserError(
            f"{path} is damaged, or cannot be read: {e}", fix="download or copy it again"
        ) from e
