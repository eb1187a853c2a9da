"""Pictures and videos with what was recognised drawn into them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fexpr.errors import UserError
from fexpr.storage import run

SHOWN = 3  # classes with a bar
LEAST = 320  # pixels: smaller pictures are enlarged, or there is no room for words
GREEN, WHITE, GREY = (80, 200, 120), (255, 255, 255), (110, 110, 110)


def annotated(
    pixels: np.ndarray,
    row: pd.Series,
    class_names: Sequence[str],
    box: tuple[int, int, int, int] | None,
) -> np.ndarray:
    """A copy of RGB uint8 [H, W, 3] with the face's box, the decision, and bars of the most
    probable classes; enlarged where small.

    `row`: of the recogniser's table. Without a face there is only the word.
    """
    factor = max(1, -(-LEAST // min(pixels.shape[:2])))
    picture = np.ascontiguousarray(
        cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    )
    line = max(14, picture.shape[0] // 22)
    if box is not None:
        x, y, width, height = (factor * v for v in box)
        cv2.rectangle(picture, (x, y), (x + width, y + height), GREEN, max(1, line // 8))
    best = row[list(class_names)].astype(float).dropna().sort_values(ascending=False)[:SHOWN]
    wide = picture.shape[1] // 3
    panel = picture[: int((1 + len(best)) * 1.4 * line) + line // 3, :wide]
    panel //= 4  # darker, so that white can be read on any picture
    _write(picture, str(row["decision"]), 0, line)
    for i, (name, probability) in enumerate(best.items(), 1):
        top = int(i * 1.4 * line) + line // 6
        cv2.rectangle(
            picture, (0, top), (round(probability * wide), top + int(1.2 * line)), GREY, cv2.FILLED
        )
        _write(picture, f"{name} {probability:.2f}", i, line)
    return picture


def _write(picture: np.ndarray, text: str, place: int, line: int) -> None:
    where = line // 3, int((place * 1.4 + 1) * line)
    cv2.putText(
        picture,
        text,
        where,
        cv2.FONT_HERSHEY_SIMPLEX,
        line / 30,
        WHITE,
        max(1, line // 12),
        cv2.LINE_AA,
    )


def save(path: Path, picture: np.ndarray) -> None:
    """Writes RGB uint8 [H, W, 3] as a PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with run.atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())


class Film:
    """A video that grows picture by picture; `add` takes RGB uint8 [H, W, 3], all of the first
    one's size.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self.fps, self._writer = path, fps, None

    def add(self, picture: np.ndarray) -> None:
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                str(self.path), cv2.VideoWriter_fourcc(*"mp4v"), self.fps, picture.shape[1::-1]
            )
            if not self._writer.isOpened():
                raise UserError(
                    f"{self.path.name}: OpenCV cannot write such a video", fix="name it .mp4"
                )
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


@contextlib.contextmanager
def film(path: Path, fps: float) -> Iterator[Film]:
    """A `Film` that is at `path` once it is whole."""
    with run.atomic_path(path) as partial:
        made = Film(partial, fps)
        try:
            yield made
        finally:
            made.close()
