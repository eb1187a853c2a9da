"""AffectNet (Mollahosseini et al., IEEE TAC 2019, doi 10.1109/TAFFC.2017.2740923): 48x48 grey
faces, eight, seven or three classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

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
from fexpr.data.releases.affectnet_rows import FIX, NAME, OTHERS, Row, survey
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic.affectnet_faces import synthetic_release
from fexpr.errors import UserError
from fexpr.terminal import say

# ids 0 to 7
CLASSES = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
POLARITY = ("neutral", "positive", "negative")
NEUTRAL_UP_TO = 0.2  # of |valence|
RAVDESS_IN_AFFECTNET = (0, 0, 1, 2, 6, 4, 5, 3)  # RAVDESS' eight emotions, calm merged into neutral
VERSION = 1
LEAST_SIDE = 8  # pixels of a picture that shows the face alone


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


def _make(rows: list[Row], how: str, kept: Path) -> Iterator[Stack]:
    """Yields blocks of faces uint8 [n, 48, 48, C]; each is saved as soon as it is made."""

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
