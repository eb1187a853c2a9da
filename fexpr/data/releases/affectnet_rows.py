"""The rows of AffectNet: its tables, or its folders of arrays, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fexpr.data.preparation import prepare
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited, npz
from fexpr.storage.bounded import Unreadable
from fexpr.storage.delimited import BadTable
from fexpr.terminal import say

NAME = "affectnet"
OTHERS = {8: "none", 9: "uncertain", 10: "no face"}
PARTS = {"Training": ("training.csv", "train_set"), "Validation": ("validation.csv", "val_set")}
COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
# folders to which the CSVs' paths may be relative
IMAGES = ("Manually_Annotated_Images", "images", ".")
MOST_SIDE = 100_000  # pixels: no picture is as wide
FIX = (
    "docs/data.md shows the layouts; images to leave out on purpose go into config.data.skip_clips"
)


class Row(NamedTuple):
    id: str
    part: str
    path: Path
    box: tuple[int, int, int, int] | None  # x, y, width, height; None where the image is the face
    expression: int
    valence: float


def survey(folder: Path, skipped: set[str]) -> list[Row]:
    """Every image that is annotated, by part and id; no image is decoded.

    Raises:
      UserError: neither layout is found; rows, annotations or images that are faulty or missing:
          all of them.
    """
    rows, problems = [], []
    for part, (table, images) in PARTS.items():
        if bounded.is_there(folder / table):
            if bounded.is_folder(folder / images / "images"):
                say(f"{NAME}: read {table}; also there, and not read: {images}")
            rows += _from_table(folder, table, part, skipped, problems)
        elif bounded.is_folder(folder / images / "images"):
            rows += _from_arrays(folder / images, part, skipped, problems)
    present = {row.part for row in rows}
    if rows and len(present) < len(PARTS):
        say(f"{NAME}: {' and '.join(PARTS.keys() - present)} is missing", style="yellow")
    if not rows and not problems:
        looked = "looked for training.csv and for train_set/images"
        raise UserError(
            f"{folder} contains no AffectNet", [f"it {prepare.contents(folder)}", looked], FIX
        )
    problems += [
        f"config.data.skip_clips names {name}, which is missing" for name in sorted(skipped)
    ]
    if problems:
        raise UserError(f"AffectNet in {folder} cannot be used", problems, FIX)
    return sorted(rows)


def _from_table(
    folder: Path, name: str, part: str, skipped: set[str], problems: list[str]
) -> list[Row]:
    """Rows of training.csv or validation.csv. Ids that are found are removed from `skipped`."""
    wanted = tuple(c for c in COLUMNS if c not in ("facial_landmarks", "arousal"))
    try:
        table = delimited.read(folder / name, wanted, names=COLUMNS)
    except BadTable as e:
        problems += [f"{name}: {text}" for text in e.problems]
        return []
    paths = table.columns[COLUMNS[0]]
    problems += [f"{name} line {line} is cut off" for line in table.short]
    problems += [] if paths else [f"{name} has no rows"]
    root = next(
        (
            folder / place
            for place in IMAGES
            if paths and bounded.is_file(folder / place / paths[0])
        ),
        folder / IMAGES[0],
    )
    rows, seen = [], {}
    for line, row in table.rows():
        where = row[COLUMNS[0]]
        id_ = f"{part}/{where}"
        if id_ in skipped or seen.setdefault(id_, line) != line:
            if id_ not in skipped:
                problems.append(f"{name} line {line}: {where} is in line {seen[id_]} already")
            continue
        box, expression, valence, bad = _numbers(row)
        if problem := bounded.path_problem(where):
            bad.append(f"the path {problem}")
        elif not bounded.is_file(root / where):
            bad.append(f"no image {root.name}/{where}")
        problems += [f"{name} line {line}, {where}: {text}" for text in bad]
        rows.append(Row(id_, part, root / where, box, expression, valence))
    skipped -= {f"{part}/{path}" for path in paths}
    return rows


def _numbers(row: dict[str, str]) -> tuple[tuple[int, int, int, int], int, float, list[str]]:
    """Box, expression and valence of a row, and what is wrong with them."""
    numbers = {c: _number(row[c]) for c in (*COLUMNS[1:5], "expression", "valence")}
    bad = [f"{c} is {row[c]!r}" for c, value in numbers.items() if not np.isfinite(value)]
    if bad:
        return (0, 0, 0, 0), 0, 0.0, bad
    *box, expression, valence = numbers.values()
    bad = _checked(expression, valence)
    if max(map(abs, box)) > MOST_SIDE or min(box[2:]) < 1:
        bad.append(f"the face's box is {', '.join(f'{n:g}' for n in box)}")
        box = [0, 0, 1, 1]
    left, top, wide, high = map(int, box)
    return (left, top, wide, high), int(expression), valence, bad


def _number(text: str) -> float:
    try:
        return float(text) if text.isascii() and "_" not in text else float("nan")
    except ValueError:
        return float("nan")


def _from_arrays(folder: Path, part: str, skipped: set[str], problems: list[str]) -> list[Row]:
    """Rows of images/<n>.jpg with annotations/<n>_exp.npy and <n>_val.npy. Ids that are found are
    removed from `skipped`.
    """
    rows = []
    for path in sorted((folder / "images").iterdir()):
        id_ = f"{part}/{path.stem}"
        known = path.suffix.lower() in (".jpg", ".jpeg", ".png") and not bounded.is_hidden(path)
        if not known or id_ in skipped:
            skipped.discard(id_)
            continue
        if problem := bounded.name_problem(path.name):
            problems.append(f"{folder.name}/images/{path.name}: the name {problem}")
            continue
        values = []
        for kind in ("exp", "val"):
            file = folder / "annotations" / f"{path.stem}_{kind}.npy"
            try:
                found = npz.decode(bounded.read_bytes(file, bounded.MIB))
                # numbers as text in the release
                values.append(_number(str(found.item())) if found.size == 1 else float("nan"))
                if not np.isfinite(values[-1]):
                    raise Unreadable(f"holds {str(found)[:40]}, expected one number")
            except Unreadable as e:
                problems.append(f"{folder.name}/annotations/{file.name}: {e}")
        if len(values) == 2 and np.isfinite(values).all():
            problems += [f"{id_}: {text}" for text in _checked(*values)]
            rows.append(Row(id_, part, path, None, int(values[0]), values[1]))
    return rows


def _checked(expression: float, valence: float) -> list[str]:
    bad = (
        []
        if 0 <= expression <= 10 and expression == int(expression)
        else [f"expression is {expression:g}, expected 0 to 10"]
    )
    return bad + (
        []
        if expression > 7 or -1 <= valence <= 1
        else [f"valence is {valence:g}, expected -1 to 1"]
    )
