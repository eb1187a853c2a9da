"""What the data room does to frames before training, done to a user's: finding the face, aligning,
motion between two frames.

The only part of the recogniser that needs the data room, imported on first use.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import cv2
import numpy as np

from fexpr.data.preparation import alignment, face_images, pairs, regions
from fexpr.data.preparation.prepare import BadInput
from fexpr.errors import UserError

# frames of a video for which a face that was found is taken to stay where it is: the detector takes
# 50 to 100 ms
HOLD = 5


def need_detector() -> None:
    """Raises a UserError where scikit-image, whose face detector is used, is not installed."""
    if importlib.util.find_spec("skimage") is None:
        raise UserError(
            "faces are to be found, and no detector is installed",
            fix="pip install scikit-image, or give pictures that show "
            "the face alone, cropped as in training, and say so (fit='resize'; of pairs "
            "align='none' or landmarks)",
        )


def box_of(pixels: np.ndarray) -> tuple[int, int, int, int] | None:
    """(x, y, width, height) of the largest frontal face in uint8 [H, W], [H, W, 1] or RGB [H, W,
    3], or None.
    """
    if pixels.ndim == 3:
        pixels = (
            cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[2] == 3 else pixels[..., 0]
        )
    return alignment.detect(np.ascontiguousarray(pixels))


def cut(pixels: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The square around a face, size x size."""
    return alignment.align(pixels, alignment.square(box, size), size)


def find(pixels: np.ndarray, size: int) -> np.ndarray | None:
    """The largest face, cut out, or None."""
    box = box_of(pixels)
    return None if box is None else cut(pixels, box, size)


def with_maps(pixels: np.ndarray) -> np.ndarray:
    """Grey faces uint8 [N, H, W, 1] with their saliency as a second channel: uint8 [N, H, W, 2]."""
    made = [face_images.with_map(face, "spectral", None) for face in pixels[..., 0]]
    return np.stack(made) if made else np.zeros((0, *pixels.shape[1:3], 2), np.uint8)


def pair(
    onset: np.ndarray,
    apex: np.ndarray,
    shape: tuple[int, int, int],
    data: dict,
    align: str,
    landmarks: Any,
) -> np.ndarray:
    """The flow map uint8 [H, W, 3] of two grey frames uint8 [H, W], made as the run's data were.

    Args:
      shape: of the map. data: `config.data` of the run; its `regions` and `map_scale` are read.
      align, landmarks: as of `Recognizer.predict_pair`.

    Raises:
      UserError: arguments, frames or landmarks that cannot be used; no face.
    """
    points = _points(align, landmarks, data)
    if align == "detect":
        need_detector()
    try:
        transform = pairs.transform_of(onset, align, points)
        made = pairs.motion_map(onset, apex, transform, shape[0], scale_of(data))
    except BadInput as e:
        raise UserError(
            f"the pair cannot be used: {e}",
            fix="give two frames of one recording that show the face; where they show nothing "
            "else, say align='none'",
        ) from e
    if data["regions"] == "landmarks":
        aligned = np.float32(points @ transform[:, :2].T + transform[:, 2])
        made = regions.join_regions(made[None], aligned[None])[0]
    return made


def scale_of(data: dict) -> str:
    """How the maps of a run with this `config.data` are scaled; older runs lack the field."""
    return data.get("map_scale", "minmax")


def _points(align: str, landmarks: Any, data: dict) -> np.ndarray | None:
    wanted = ", ".join(alignment.POINTS)
    problems = []
    if align not in pairs.ALIGNMENTS:
        problems.append(
            f"align: expected one of {', '.join(map(repr, pairs.ALIGNMENTS))}; found {align!r}"
        )
    if (align == "landmarks") != (landmarks is not None):
        problems.append("landmarks: align='landmarks' needs them, and nothing else does")
    points = None if landmarks is None else np.asarray(landmarks, np.float64)
    if points is not None and not (
        points.shape == (len(alignment.POINTS), 2) and np.isfinite(points).all()
    ):
        problems.append(
            f"landmarks: expected (x, y) of {wanted} in pixels of the onset frame, found "
            f"shape {list(points.shape)}"
        )
    if data["regions"] == "landmarks" and align != "landmarks":
        problems.append(
            "the run reads regions around landmarks: give align='landmarks' and the (x, y) "
            f"of {wanted}"
        )
    if problems:
        raise UserError("the pair cannot be prepared", problems)
    return points
