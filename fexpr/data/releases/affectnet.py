"""AffectNet (Mollahosseini et al., IEEE TAC 2019, doi 10.1109/TAFFC.2017.2740923): 48x48 grey
faces, eight, seven or three classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict

from fexpr.config import allowed
from fexpr.data.data_config import DataConfig
from fexpr.data.dataset import SYNTHETIC, Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.face_images import (
    BLOCK,
    SIDE,
    Stack,
    computed_map,
    prepared,
    spectral_residual,
    stored_strip,
)
from fexpr.data.preparation.prepare import BadInput, read_image
from fexpr.data.records import chosen
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited, npz
from fexpr.storage.bounded import Unreadable
from fexpr.storage.delimited import BadTable
from fexpr.storage.run import atomic_path, cache_dir
from fexpr.terminal import say

NAME = "affectnet"
# ids 0 to 7
CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
OTHERS = {8: "none", 9: "uncertain", 10: "no face"}
POLARITY = ("neutral", "positive", "negative")
NEUTRAL_UP_TO = 0.2  # of |valence|
RAVDESS_IN_AFFECTNET = (0, 0, 1, 2, 6, 4, 5, 3)  # RAVDESS' eight emotions, calm merged into neutral
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
VERSION = 1
MOST_SIDE = 100_000  # pixels: no picture is as wide
LEAST_SIDE = 8  # pixels of a picture that shows the face alone
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


def load(config: ConfigDict) -> Dataset:
    """Reads AffectNet in either layout; faces are cropped once, block by block, and kept in the
    cache.

    Args:
      config: `config.data`; its root, source, classes, map, skip_clips, streamed and synthetic_*
          are read.

    Returns:
      images uint8 [N, 48, 48, 1 or 2], streamed: Records; labels int32 [N]; each image its own
      group; `split` 'Training' or 'Validation'. classes '8', '7' (without contempt), or 'polarity':
      |valence| <= 0.2 is neutral, above positive, below negative.

    Raises:
      UserError: nothing is found, or something is faulty: all problems at once.
    """
    kinds = allowed(DataConfig, "classes")
    if config.classes not in kinds:
        raise UserError(
            f"config.data.classes is {config.classes!r}", fix=f"set it to one of {', '.join(kinds)}"
        )
    how, is_synthetic = computed_map(config.map), prepare.resolve_source(config) == "synthetic"
    folder = (
        synthetic_release(config.synthetic_clips, config.synthetic_seed)
        if is_synthetic
        else prepare.data_root(config)[0] / NAME
    )
    rows = survey(folder, parse_skipped(config.skip_clips))
    annotations = [[r.id, r.part, r.box, r.expression, r.valence] for r in rows]
    fingerprint = prepare.fingerprint(
        folder,
        sorted({r.path for r in rows}),
        {"version": VERSION, "map": how, "rows": annotations},
    )
    _, images = prepared(
        NAME, fingerprint, lambda kept: _make(rows, how, kept), config.get("streamed", False)
    )
    labels, names = _labels(rows, config.classes)
    kept = labels >= 0
    dropped = Counter(
        OTHERS.get(r.expression, "contempt") for r, k in zip(rows, kept, strict=True) if not k
    )
    if dropped:
        say(f"{NAME}: left out: " + ", ".join(f"{n:,} {name}" for name, n in dropped.most_common()))
    ids = np.array([r.id for r in rows])[kept]
    parts = np.array([r.part for r in rows])[kept]
    return Dataset(
        chosen(images, kept),
        labels[kept],
        ids,
        ids,
        names,
        SYNTHETIC if is_synthetic else f"{NAME}@{fingerprint[:12]}",
        split=parts,
        extras={"dataset": parts},
        kind="face",
    )


def _labels(rows: list[Row], kind: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class ids int32 [N], -1 for rows that have none, and the classes' names."""
    expression, valence = (
        np.array([r.expression for r in rows], np.int32),
        np.array([r.valence for r in rows]),
    )
    if kind != "polarity":
        names = CLASSES[: int(kind)]
        return np.where(expression < len(names), expression, -1).astype(np.int32), names
    polarity = np.where(abs(valence) <= NEUTRAL_UP_TO, 0, np.where(valence > 0, 1, 2))
    return np.where(expression < len(CLASSES), polarity, -1).astype(np.int32), POLARITY


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


def _make(rows: list[Row], how: str, kept: Path) -> Iterator[Stack]:
    """Blocks of faces uint8 [n, 48, 48, C], each kept as soon as it is made."""

    def block(start: int) -> np.ndarray:
        return stored_strip(
            kept / "blocks" / f"{start}.png", lambda: _crops(rows[start : start + BLOCK], how)
        )

    starts = range(0, len(rows), BLOCK)
    jobs = {f"{i:,} to {min(i + BLOCK, len(rows)):,}": lambda i=i: len(block(i)) for i in starts}
    prepare.gather(
        jobs, "cropping AffectNet", "images of AffectNet cannot be used", f"repair these; {FIX}"
    )
    for start in starts:
        yield (
            [r.id for r in rows[start : start + BLOCK]],
            block(start)[..., : 1 if how == "none" else 2],
        )


def _crops(rows: list[Row], how: str) -> np.ndarray:
    faces, problems = [], []
    for row in rows:
        try:
            faces.append(_crop(row))
        except BadInput as e:
            problems.append(f"{row.id}: {e}")
    if problems:
        raise BadInput("; ".join(problems))
    return np.stack(
        [
            face[..., None] if how == "none" else np.stack([face, spectral_residual(face)], -1)
            for face in faces
        ]
    )


def _crop(row: Row) -> np.ndarray:
    image = read_image(row.path, cv2.IMREAD_GRAYSCALE)
    if row.box:
        x, y, width, height = row.box
        image = image[max(y, 0) : y + height, max(x, 0) : x + width]
        if not image.size:
            raise BadInput(f"{row.path}: the face at {x},{y} lies outside of the image")
    elif min(image.shape) < LEAST_SIDE:
        raise BadInput(f"{row.path}: has {image.shape[1]}x{image.shape[0]} pixels")
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def synthetic_release(count: int, seed: int) -> Path:
    """The folder of a synthetic AffectNet of `count` drawn faces (nine in ten Training; none shows
    contempt), drawn on first use.
    """
    code = hashlib.sha256(
        Path(fer_faces.__file__).read_bytes() + Path(__file__).read_bytes()
    ).hexdigest()
    folder = cache_dir() / "synthetic" / f"{NAME}-{count}-{seed}-{code[:8]}" / NAME
    with prepare.exclusive_lock(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(f".{NAME}.*"))
            write_synthetic(folder, count, seed)
    return folder


def write_synthetic(folder: Path, count: int, seed: int = 0) -> None:
    """Draws FER2013's seven expressions (fer_faces.py) in AffectNet's folder layout, with valences
    to match.
    """
    # of FER2013's angry, disgust, fear, happy, sad, surprise, neutral
    ids = np.array([6, 5, 4, 1, 2, 3, 0])
    typical = np.array([0.0, 0.7, -0.6, 0.1, -0.5, -0.6, -0.5])  # by AffectNet's id
    labels, _ = fer_faces.plan(count, seed)
    faces, rng = fer_faces.draw(labels, seed), np.random.default_rng([seed, 2])
    order = rng.permutation(count)
    with atomic_path(Path(folder)) as partial:
        for name in ("train_set", "val_set"):
            for kind in ("images", "annotations"):
                (partial / name / kind).mkdir(parents=True)
        for n, i in enumerate(order):
            where, expression = (
                partial / ("train_set" if n < 0.9 * count else "val_set"),
                int(ids[labels[i]]),
            )
            _, data = cv2.imencode(".jpg", faces[i], [cv2.IMWRITE_JPEG_QUALITY, 95])
            (where / "images" / f"{n}.jpg").write_bytes(data.tobytes())
            valence = float(np.clip(typical[expression] + rng.normal(0, 0.1), -1, 1))
            np.save(where / "annotations" / f"{n}_exp.npy", np.array(str(expression)))
            np.save(where / "annotations" / f"{n}_val.npy", np.array(f"{valence:.3f}"))
        (partial / "README.txt").write_text(
            fer_faces.README.format(count=count, seed=seed), encoding="utf-8"
        )
