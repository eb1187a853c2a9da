"""Pictures and videos with what was recognised drawn into them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from fexpr.errors import UserError
from fexpr.storage import run

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import UInt8

SHOWN = 3  # classes with a bar
LEAST = 320  # pixels: smaller pictures are enlarged, or there is no room for words
MOST = 8192  # pixels of a side: larger pictures are drawn smaller
GREEN, WHITE, GREY, DARK = (80, 200, 120), (255, 255, 255), (110, 110, 110), 40


def annotated(
    pixels: UInt8[np.ndarray, "H W 3"], rows: pd.DataFrame, class_names: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """A copy of RGB uint8 [H, W, 3] with a numbered box around each face, and beside it, so that no
    face is covered, the decisions and bars of the most probable classes. Small pictures are
    enlarged, those above MOST pixels reduced. `rows`: the rows of the recogniser's table for this
    picture. Faces for which there is no room beside it only get a box.
    """
    factor = max(1, -(-LEAST // min(pixels.shape[:2])))
    factor = min(factor, MOST / max(pixels.shape[:2]))
    size = [max(1, round(factor * side)) for side in pixels.shape[1::-1]]
    kind = cv2.INTER_NEAREST if factor > 1 else cv2.INTER_AREA
    picture = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=kind))
    line = max(14, picture.shape[0] // 22)
    # even sides: codecs want them
    height, width = picture.shape[:2]
    panel_width = 12 * line + (width + 12 * line) % 2
    panel = np.full((height + height % 2, panel_width, 3), DARK, np.uint8)
    top = 0
    for _, row in rows.iterrows():
        title = str(row["decision"])
        if pd.notna(row.get("face")):
            _draw_box(picture, row, factor, line)
            title = f"{row['face']:.0f}: {title}"
        best = row[list(class_names)].astype(float).dropna().sort_values(ascending=False)[:SHOWN]
        if top + int((1 + len(best)) * 1.4 * line) + line // 2 <= panel.shape[0]:
            top = _draw_bars(panel, title, best, top, line)
    canvas = np.zeros((panel.shape[0], width + panel_width, 3), np.uint8)
    canvas[:height, :width], canvas[:, width:] = picture, panel
    return canvas


def _draw_box(
    picture: UInt8[np.ndarray, "H W 3"], row: pd.Series, factor: float, line: int
) -> None:
    x, y, width, height = (
        round(factor * row[f"face_{name}"]) for name in ("x", "y", "width", "height")
    )
    cv2.rectangle(picture, (x, y), (x + width, y + height), GREEN, max(1, line // 8))
    _write(picture, f"{row['face']:.0f}", (x + line // 4, y + line), line, GREEN)


def _draw_bars(
    panel: UInt8[np.ndarray, "H W 3"], title: str, best: pd.Series, top: int, line: int
) -> int:
    """Draws below `top`, and returns where the next face's lines start."""
    _write(panel, title, (line // 3, top + int(1.1 * line)), line)
    for i, (name, probability) in enumerate(best.items(), 1):
        y = top + int(i * 1.4 * line) + line // 6
        right = round(probability * panel.shape[1])
        cv2.rectangle(panel, (0, y), (right, y + int(1.2 * line)), GREY, cv2.FILLED)
        place = line // 3, top + int((i * 1.4 + 1) * line)
        _write(panel, f"{name} {probability:.2f}", place, line)
    return top + int((1 + len(best)) * 1.4 * line) + line // 2


def _write(
    picture: UInt8[np.ndarray, "H W 3"],
    text: str,
    place: tuple[int, int],
    line: int,
    colour: tuple[int, int, int] = WHITE,
) -> None:
    size, thickness = line / 30, max(1, line // 12)
    cv2.putText(
        picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA
    )


def save(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes RGB uint8 [H, W, 3] as a PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    with run.atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())


class Film:
    """A video that is written picture by picture; `add` takes RGB uint8 [H, W, 3], all of the first
    one's size.
    """

    def __init__(self, path: Path, fps: float):
        self.path, self.fps, self._writer = path, fps, None

    def add(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Writes a picture. Raises a UserError if OpenCV cannot write a video of this name."""
        if self._writer is None:
            self._writer = cv2.VideoWriter(
                str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, picture.shape[1::-1]
            )
            if not self._writer.isOpened():
                raise UserError(
                    f"{self.path.name}: OpenCV cannot write such a video", fix="name it .mp4"
                )
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.release()


@contextlib.contextmanager
def film(path: Path, fps: float) -> Iterator[Film]:
    """Yields a `Film`, which is moved to `path` once it is complete."""
    with run.atomic_path(path) as partial:
        made = Film(partial, fps)
        try:
            yield made
        finally:
            made.close()
