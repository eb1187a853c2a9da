"""A folder of a user's own faces: `<person>/<class>/*.jpg`, or a CSV of paths, labels and
groups.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict

from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.face_images import BLOCK, Stack, prepared
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited, pictures
from fexpr.storage.bounded import Unreadable
from fexpr.storage.cache import expand_home
from fexpr.storage.delimited import BadTable
from fexpr.storage.run import atomic_path, cache_dir
from fexpr.terminal import say

NAME = "folder"
KINDS = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp")
COLUMNS = ("path", "label", "group")
COLOURS = {"grey": 1, "rgb": 3}  # config.data.colours: channels
VERSION = 1
FIX = (
    "docs/data.md, 'Your own images', shows the layouts; images to leave out on purpose go into "
    "config.data.skip_clips"
)


class Row(NamedTuple):
    """An image: its id (the path below the folder, or as the CSV has it), class, person, file."""

    id: str
    label: str
    group: str
    path: Path


def load(config: ConfigDict) -> Dataset:
    """Reads the images, resized to `config.image_size`; they are prepared once and kept in the
    cache.

    Args:
      config: `config.data`; its path (the folder or CSV; '': `<root>/folder`), root, source,
        image_size, colours, skip_clips, streamed and synthetic_* are read.

    Returns:
      images uint8 [N, S, S, 1 or 3] (RGB), streamed: Records; labels int32 [N], classes by name;
      groups: the persons.

    Raises:
      UserError: nothing is found, or something is faulty: all problems at once.
    """
    colours, side = config.colours, config.image_size
    if colours not in COLOURS:
        raise UserError(
            f"config.data.colours is {colours!r}", fix=f"set it to {' or '.join(COLOURS)}"
        )
    synthetic = config.source == "synthetic"
    place = synthetic_release(config) if synthetic else location(config)
    rows = survey(place, parse_skipped(config.skip_clips))
    root = Path(os.path.commonpath([row.path.parent for row in rows]))
    settings = {
        "version": VERSION,
        "side": side,
        "colours": colours,
        "rows": [row[:3] for row in rows],
    }
    fingerprint = prepare.fingerprint(root, sorted({row.path for row in rows}), settings)
    made, images = prepared(
        NAME, fingerprint, lambda _: _blocks(rows, side, colours), config.streamed
    )
    _report_sizes(Counter(text.partition("\t")[0] for text in made), side)
    names = sorted({row.label for row in rows})
    labels, groups, ids = (
        np.array(column)
        for column in (
            [names.index(row.label) for row in rows],
            [row.group for row in rows],
            [row.id for row in rows],
        )
    )
    return Dataset(
        images,
        labels.astype(np.int32),
        groups,
        ids,
        tuple(names),
        SYNTHETIC if synthetic else f"{NAME}@{fingerprint[:12]}",
    )


def location(config: ConfigDict) -> Path:
    """The folder or CSV that `config.path` names, or `<root>/folder`.

    Raises:
      UserError: it is missing.
    """
    place = expand_home(config.path) if config.path else prepare.data_root(config)[0] / NAME
    if not bounded.is_file(place) and not bounded.is_folder(place):
        above = place.absolute().parent
        raise UserError(
            f"there are no images at {place.absolute()}",
            [f"{above} {prepare.contents(above)}"],
            "name your folder, or CSV, with --config.data.path; to try the program on drawn faces, "
            "give --config.data.source=synthetic instead",
        )
    return place


def survey(place: Path, skipped: set[str]) -> list[Row]:
    """Every image of the folder or CSV, by id; skipped files are counted and printed.

    Raises:
      UserError: images in other places, unreadable images, lines that cannot be used, fewer than
          two persons or classes; all of them.
    """
    problems, ignored = [], Counter()
    rows = (
        _from_folder(place, problems, ignored) if place.is_dir() else _from_table(place, problems)
    )
    unknown = skipped - {row.id for row in rows}
    problems += [
        f"config.data.skip_clips names {name}, which is missing" for name in sorted(unknown)
    ]
    rows = sorted(row for row in rows if row.id not in skipped)
    if ignored:
        say(
            f"{NAME}: skipped, as they are not among the kinds read: "
            + ", ".join(f"{n:,} {kind}" for kind, n in ignored.most_common())
        )
    if not rows and not problems:
        raise UserError(
            f"{place} contains no images",
            [
                f"it {prepare.contents(place)}" if place.is_dir() else "the table has no rows",
                f"looked for <person>/<class>/*{', '.join(KINDS)}",
            ],
            FIX,
        )
    people, classes = (sorted({getattr(row, name) for row in rows}) for name in ("group", "label"))
    if len(people) == 1:
        problems.append(
            f"there is only one person, {people[0]}: nobody is left to test on, at least 3 are "
            "needed"
        )
    if len(classes) == 1:
        problems.append(f"there is only one class, {classes[0]}: at least 2 are needed")
    expressions = {*fer_faces.CLASSES, "anger", "happiness", "sadness", "contempt"}
    if people and {name.lower() for name in people} <= expressions:
        problems.append(
            f"the persons are called {', '.join(people)}: the folders are <person>/<class>, "
            "not <class>/<person>"
        )
    if problems:
        problems += _unreadable(rows)
        raise UserError(f"the images in {place} cannot be used", problems, FIX)
    return rows


def _from_folder(place: Path, problems: list[str], ignored: Counter[str]) -> list[Row]:
    rows, misplaced = [], Counter()
    refuse = lambda folder, why: problems.append(f"{folder} {why}")
    for folder, below, files in bounded.walk(place, refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        parts = folder.relative_to(place).parts
        if len(parts) == 2:
            problems += [
                f"{folder / name} is a folder, expected an image"
                for name in below
                if Path(name).suffix.lower() in KINDS
            ]
        for name in files:
            kind = Path(name).suffix.lower()
            hidden = bounded.is_hidden(folder / name)
            if len(parts) < 2 and not kind and not hidden and name.lower() not in bounded.NOTES:
                problems.append(f"{folder / name} is a file, expected a folder")
            elif kind not in KINDS or hidden:
                ignored["hidden files" if hidden else kind or "files without an ending"] += 1
            elif len(parts) != 2:
                misplaced[folder] += 1
            elif problem := bounded.path_problem(id_ := "/".join((*parts, name))):
                problems.append(f"{id_!r}: the name {problem}")
            else:
                rows.append(Row(id_, parts[1], parts[0], folder / name))
    problems += [
        f"{folder}: {n:,} image{'s' * (n > 1)} in this folder, expected in {place}/<person>/<class>"
        for folder, n in misplaced.items()
    ]
    return rows


def _from_table(place: Path, problems: list[str]) -> list[Row]:
    """Rows of a CSV with the columns path, label, group; paths are relative to its folder."""
    try:
        table = delimited.read(place, COLUMNS, separators=",;\t")
    except BadTable as e:
        raise UserError(
            f"{place} is neither a folder nor a table of images",
            [*e.problems, f"expected {', '.join(COLUMNS)}"],
            FIX,
        ) from e
    rows, seen = [], {}
    for number, line in table.rows():
        path, label, group = (line[name] for name in COLUMNS)
        empty = [
            name for name, value in zip(COLUMNS, (path, label, group), strict=True) if not value
        ]
        file = place.absolute().parent / path
        if empty:
            problems.append(f"line {number}: no {' and no '.join(empty)}")
        elif not path.isprintable():
            problems.append(f"line {number}: the path {path!r} is not printable")
        elif not bounded.is_file(file):
            problems.append(f"line {number}: there is no file {path}")
        elif seen.setdefault(path, number) != number:
            problems.append(f"line {number}: {path} is in line {seen[path]} already")
        else:
            rows.append(Row(path, label, group, file))
    return rows


def _unreadable(rows: list[Row]) -> list[str]:
    """Problems of the images themselves, for the message that lists other problems too."""
    jobs = {row.id: partial(_read, row.path, cv2.IMREAD_GRAYSCALE) for row in rows}
    try:
        prepare.gather(
            {name: lambda job=job: job().shape for name, job in jobs.items()},
            "reading images",
            "",
            "",
        )
    except UserError as e:
        return list(e.problems)
    return []


def _blocks(rows: list[Row], side: int, colours: str) -> Iterator[Stack]:
    """Blocks of images uint8 [n, side, side, C]; an id is preceded by the size of its file."""

    def read(row: Row) -> tuple[str, np.ndarray]:
        return _resized(
            _read(row.path, cv2.IMREAD_GRAYSCALE if colours == "grey" else cv2.IMREAD_COLOR_RGB),
            side,
        )

    faulty, found = [], {}
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        done = f"reading images {start + 1:,} to {start + len(block):,} of {len(rows):,}"
        try:
            found = prepare.gather({row.id: partial(read, row) for row in block}, done, "", "")
        except UserError as e:
            faulty += e.problems
        if not faulty:
            yield (
                [f"{size}\t{id_}" for id_, (size, _) in found.items()],
                np.stack([image for _, image in found.values()]).reshape(
                    -1, side, side, COLOURS[colours]
                ),
            )
    if faulty:
        raise UserError("images cannot be used", faulty, f"replace or remove these; {FIX}")


def _read(path: Path, mode: int) -> np.ndarray:
    """An image uint8 [H, W] or [H, W, 3], upright by its EXIF orientation.

    Raises:
      BadInput: it cannot be read, is cut off, or is not an image.
    """
    try:
        return pictures.read(path, mode)
    except Unreadable as e:
        raise BadInput(str(e)) from e


def _resized(image: np.ndarray, side: int) -> tuple[str, np.ndarray]:
    """The size 'WIDTHxHEIGHT' of an image, and the image resized to the given side."""
    height, width = image.shape[:2]
    if (height, width) != (side, side):
        shrinks = height > side or width > side
        image = cv2.resize(
            image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return f"{width}x{height}", image


def _report_sizes(sizes: Counter[str], side: int) -> None:
    """Prints how many images were resized, from which sizes."""
    other = {size: n for size, n in sizes.most_common() if size != f"{side}x{side}"}
    if other:
        named = ", ".join(f"{n:,} of {size}" for size, n in [*other.items()][:3]) + (
            ", …" if len(other) > 3 else ""
        )
        stretched = sum(n for size, n in other.items() if len(set(size.split("x"))) > 1)
        say(
            f"{NAME}: {sum(other.values()):,} images of {len(other):,} other "
            f"size{'s' * (len(other) > 1)} are resized to "
            f"{side}x{side} (data.image_size): {named}"
            + (f"; {stretched:,} are not square and change their proportions" if stretched else "")
        )


def synthetic_release(config: ConfigDict) -> Path:
    """A folder of `synthetic_clips` drawn faces of `synthetic_subjects` persons, drawn on first
    use.
    """
    count, people, seed = config.synthetic_clips, config.synthetic_subjects, config.synthetic_seed
    code = hashlib.sha256(
        Path(fer_faces.__file__).read_bytes() + Path(__file__).read_bytes()
    ).hexdigest()
    folder = cache_dir() / "synthetic" / f"{NAME}-{count}-{people}-{seed}-{code[:8]}" / NAME
    with prepare.exclusive_lock(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(f".{NAME}.*"))
            labels = np.random.default_rng(seed).permutation(
                np.arange(count, dtype=np.int32) % len(fer_faces.CLASSES)
            )
            with atomic_path(folder) as unfinished:
                for i, (label, face) in enumerate(
                    zip(labels, fer_faces.draw(labels, seed), strict=True)
                ):
                    path = (
                        unfinished
                        / f"person_{i % people + 1:02d}"
                        / fer_faces.CLASSES[label]
                        / f"{i}.png"
                    )
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(cv2.imencode(".png", face)[1].tobytes())
    return folder
