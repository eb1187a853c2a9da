"""The rows of FER2013, from its CSV or from images whose paths give part and class: each is
checked, and all problems are collected.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np

from fexpr.data.preparation.prepare import BadInput, decode_image
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited
from fexpr.storage.bounded import Unreadable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import UInt8

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SPLITS = ("Training", "PublicTest", "PrivateTest")
OFFICIAL = {  # images of each class
    "Training": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "PublicTest": (467, 56, 496, 895, 653, 415, 607),
    "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
}
SIDE = 48
MOST_ROWS = 200_000  # limit for a table that may unpack endlessly
IMAGES = (".jpg", ".jpeg", ".png")
ALIASES = ("anger", "disgusted", "fearful", "happiness", "sadness", "surprised", "neutral")
LABELS = {
    name: label
    for names in (CLASSES, ALIASES, map(str, range(len(CLASSES))))
    for label, name in enumerate(names)
}
# Name of a folder -> the parts that its files' names may give, and the part of files whose names
# give none.
PARTS = {
    **dict.fromkeys(("train", "training"), (SPLITS[:1], "Training")),
    **dict.fromkeys(("validation", "valid", "val"), (SPLITS, "PublicTest")),
    **dict.fromkeys(("test", "testing"), (SPLITS[1:], "")),
    **{split.lower(): ((split,), split) for split in SPLITS[1:]},
}
NAME_THE_PART = (
    "call the folder PublicTest or PrivateTest, or the files PublicTest_*.jpg and "
    "PrivateTest_*.jpg; or take fer2013.csv, "
    "whose column Usage says it"
)


@dataclasses.dataclass(frozen=True)
class Faces:
    """Images uint8 [N, 48, 48, 1], labels int32 [N], ids [N] ('Training_7'); `numbered`: the number
    is that of the CSV's row, from 0.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    numbered: bool


class Rows:
    """Collects images and their problems until everything is read."""

    def __init__(self, source: Path | str, skipped: set[str]):
        self.source, self.skipped = source, skipped
        self.numbered = False  # see Faces
        self.problems: list[str] = []
        self._rows: dict[str, tuple[str, int, np.ndarray]] = {}
        self._first: dict[str, str] = {}  # id -> where it was found
        self._short: dict[str, str] = {}  # id of an image file -> the same without the class
        # folder -> images of which nothing says to which test part they belong
        self._unsaid: Counter[str] = Counter()
        # part -> images that only their folder assigns to it
        self._guessed: Counter[str] = Counter()

    @property
    def found(self) -> bool:
        """Whether any image was found, faulty or not."""
        return bool(self._first or self._unsaid or self.problems)

    def add(
        self,
        where: str,
        id_: str,
        split: str,
        label: int,
        image: Callable[[], UInt8[np.ndarray, "48 48"]],
    ) -> None:
        if id_ in self._first:
            self.problems.append(f"{where}: {id_} was already found in {self._first[id_]}")
            return
        self._first[id_] = where
        if self.skipped.isdisjoint((id_, self._short.get(id_, id_))):
            try:
                self._rows[id_] = split, label, image()
            except BadInput as e:
                self.problems.append(f"{where}: {e}")

    def add_image(self, name: str, data: Callable[[], bytes]) -> None:
        """Adds the image at '<…>/<part>/<class>/<file>'; other files (a README) are skipped."""
        path = PurePosixPath(name)
        part, folder = ("", "", *path.parts)[-3:-1]
        if bounded.is_hidden(path) or (
            path.suffix.lower() not in IMAGES and letters(part) not in PARTS
        ):
            return
        if problem := bounded.name_problem(path.name):
            self.problems.append(f"{name[:200]}: the name {problem}")
            return
        if letters(part) not in PARTS or folder.strip().lower() not in LABELS:
            self.problems.append(
                f"{name}: expected <part>/<class>/<file> with part train, test, validation or "
                f"one of {', '.join(SPLITS)}, "
                f"and class one of {', '.join(CLASSES)}"
            )
            return
        label, (allowed, split) = LABELS[folder.strip().lower()], PARTS[letters(part)]
        named_split = re.fullmatch(f"({'|'.join(SPLITS)})[_-]?(.+)", path.stem, re.IGNORECASE)
        if named_split:
            split = next(s for s in SPLITS if s.lower() == named_split[1].lower())
            if split not in allowed:
                self.problems.append(f"{name}: an image of {split} in the folder {part}")
                return
        elif not split:
            self._unsaid[str(path.parent)] += 1
            return
        else:
            self._guessed[split] += 1
        id_ = f"{split}_{CLASSES[label]}_{named_split[2] if named_split else path.stem}"
        if named_split:
            self._short[id_] = f"{split}_{named_split[2]}"
        self.add(name, id_, split, label, lambda: decode(data()))

    def faces(self) -> Faces:
        """The collected images: rows of a CSV in its order, others sorted by part and id.

        Raises:
          UserError: any problem (all are listed); no rows; ids to skip that are missing.
        """
        unsaid = [f"{folder}: {n:,} images" for folder, n in self._unsaid.items()]
        unsaid += [
            f"{n:,} images without {split} in their names are in its folder; the official "
            f"{split} has {sum(OFFICIAL[split]):,}"
            for split, n in self._guessed.items()
            if split != SPLITS[0] and n > sum(OFFICIAL[split])
        ]
        if unsaid:
            raise UserError(
                f"{self.source}: it is not stated whether these images belong to PublicTest or "
                "PrivateTest",
                unsaid,
                NAME_THE_PART,
            )
        if self.problems:
            fix = (
                "correct or replace these; images to be left out on purpose go, by id, into "
                "config.data.skip_clips"
            )
            raise UserError(f"{self.source} cannot be used", self.problems, fix)
        unknown = sorted(self.skipped - self._first.keys() - set(self._short.values()))
        if unknown:
            raise UserError(
                "config.data.skip_clips names images that are missing",
                unknown,
                "an id looks like Training_7 (docs/data.md)",
            )
        if not self._rows:
            raise UserError(
                f"{self.source} contains no images",
                fix="expected a CSV or folders as docs/data.md shows",
            )
        # the public copies' numbers are random: two of them occur in two classes
        shared = Counter(self._short.values())
        short = {id_: name for id_, name in self._short.items() if shared[name] == 1}
        rows = [(short.get(id_, id_), row) for id_, row in self._rows.items()]
        if not self.numbered:
            rows.sort(key=lambda row: (SPLITS.index(row[1][0]), row[0]))
        images = np.stack([image for _, (_, _, image) in rows])[..., None]
        return Faces(
            images,
            np.array([label for _, (_, label, _) in rows], np.int32),
            [id_ for id_, _ in rows],
            self.numbered,
        )


def read_csv(stream: IO[bytes] | io.BufferedIOBase, rows: Rows, tick: Callable[[], None]) -> None:
    """Adds the rows of fer2013.csv or icml_face_data.csv (in UTF-8; blanks in the header do not
    matter); calls `tick` after each.

    Raises:
      UserError: a column is missing.
    """
    rows.numbered = True
    reader = csv.reader(bounded.text_lines(stream))
    with warnings.catch_warnings():
        # NumPy's warning that a text is not all numbers
        warnings.simplefilter("error", DeprecationWarning)
        try:
            header = [delimited.bare(name).lower() for name in next(reader, [])]
            missing = [
                f"no column {name}"
                for name in ("emotion", "pixels", "Usage")
                if name.lower() not in header
            ]
            if missing:
                found = f"found: {', '.join(header)[:200] or 'nothing'}"
                raise UserError(
                    f"{rows.source} is not FER2013's table",
                    [*missing, found],
                    "use Kaggle's file unchanged",
                )
            columns = [header.index(name) for name in ("emotion", "usage", "pixels")]
            for number, row in enumerate(row for row in reader if row):
                if number == MOST_ROWS:
                    raise Unreadable(f"has more than {MOST_ROWS:,} rows, FER2013 has 35,887")
                _add_row(rows, f"line {reader.line_num}", number, row, columns)
                tick()
        except csv.Error as e:
            rows.problems.append(f"line {reader.line_num}: {e}")
        except Unreadable as e:
            rows.problems.append(str(e))


def _add_row(rows: Rows, where: str, number: int, row: list[str], columns: list[int]) -> None:
    if len(row) <= max(columns):
        rows.problems.append(f"{where}: {len(row)} fields, expected emotion, pixels and Usage")
        return
    emotion, usage, pixels = (row[column].strip() for column in columns)
    wrong = [] if re.fullmatch("[0-6]", emotion) else [f"emotion is {emotion!r}, expected 0 to 6"]
    wrong += [] if usage in SPLITS else [f"Usage is {usage!r}, expected one of {', '.join(SPLITS)}"]
    if not wrong:
        rows.add(where, f"{usage}_{number}", usage, int(emotion), lambda: parse_pixels(pixels))
        return
    try:
        parse_pixels(pixels)
    except BadInput as e:
        wrong.append(str(e))
    rows.problems += [f"{where}: {text}" for text in wrong]


def parse_pixels(text: str) -> UInt8[np.ndarray, "48 48"]:
    """The image uint8 [48, 48] from a text of 2304 whole numbers from 0 to 255, row by row.
    DeprecationWarnings must be errors here.

    Raises:
      BadInput: other values, or another number of them.
    """
    try:
        values = np.fromstring(text, np.int64, sep=" ")
    except (DeprecationWarning, ValueError) as e:
        strange = [token for token in text.split() if not re.fullmatch(r"-?\d{1,9}", token)]
        found = ", ".join(repr(token[:20]) for token in strange[:3]) + (
            f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        )
        raise BadInput(f"pixels that are not whole numbers: {found}") from e
    if len(values) != SIDE * SIDE:
        raise BadInput(f"{len(values)} pixels, expected {SIDE * SIDE} ({SIDE}x{SIDE})")
    if values.min() < 0 or values.max() > 255:
        raise BadInput(f"pixels from {values.min()} to {values.max()}, expected 0 to 255")
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def decode(data: bytes) -> UInt8[np.ndarray, "48 48"]:
    """The grey image uint8 [48, 48] in a JPEG or PNG; colours become grey.

    Raises:
      BadInput: it is empty, cut off, not an image, or of another size.
    """
    if not data.startswith((b"\xff\xd8", b"\x89PNG")):
        raise BadInput(f"is not a JPEG or PNG ({len(data)} bytes)")
    image = decode_image(data, cv2.IMREAD_GRAYSCALE)
    if image.shape != (SIDE, SIDE):
        raise BadInput(f"is {image.shape[1]}x{image.shape[0]}, expected {SIDE}x{SIDE}")
    return image


def letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())
