"""Prepares a user's frames like those of the training data: finding the face, aligning, motion
between two frames. The only part of the recogniser that needs fexpr.data, imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from fexpr import faces
from fexpr.data.preparation import alignment, face_images, pairs, regions
from fexpr.data.preparation.prepare import BadInput
from fexpr.errors import UserError
from fexpr.faces import Face

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8


def frame_of(content: dict) -> str:
    """The name in `framing.FRAMES` of the run's framing: RAVDESS' faces are framed as fexpr cuts
    them from its videos, all others like FER2013's.
    """
    return "tight" if content["config"]["data"]["name"] == "ravdess" else "whole"


def find(
    pixels: UInt8[np.ndarray, "H W *C"], size: int, frame: str
) -> list[tuple[Face, UInt8[np.ndarray, "{size} {size} *C"]]]:
    """Every face of a picture uint8 [H, W] or [H, W, C], with its upright crop of size x size."""
    return [(face, cut(pixels, face, size, frame)) for face in faces.find(pixels)]


def cut(
    pixels: UInt8[np.ndarray, "H W *C"], face: Face, size: int, frame: str
) -> UInt8[np.ndarray, "{size} {size} *C"]:
    """The upright crop of a face, size x size."""
    return faces.align(pixels, faces.similarity(face.points, size, frame), size)


def with_maps(pixels: UInt8[np.ndarray, "N H W 1"]) -> UInt8[np.ndarray, "N H W 2"]:
    """Grey faces uint8 [N, H, W, 1] with their saliency as a second channel: uint8 [N, H, W, 2]."""
    made = [face_images.with_map(face, "spectral", None) for face in pixels[..., 0]]
    return np.stack(made) if made else np.zeros((0, *pixels.shape[1:3], 2), np.uint8)


def pair(
    onset: UInt8[np.ndarray, "H W"],
    apex: UInt8[np.ndarray, "apex_H apex_W"],
    shape: tuple[int, int, int],
    data: dict,
    align: str,
    landmarks: ArrayLike | None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The flow map uint8 [H, W, 3] of two grey frames uint8 [H, W], computed like the run's data.

    Args:
      shape: of the map. data: `config.data` of the run; its `regions` and `map_scale` are read.
      align, landmarks: as in `Recognizer.predict_pair`.

    Raises:
      UserError: arguments, frames or landmarks that cannot be used; twice the same frame; no face.
    """
    points = _points(align, landmarks, data)
    if align == "detect":
        points = alignment.detect(onset)
    try:
        if align == "detect" and points is None:
            raise BadInput("no face found")
        if np.array_equal(onset, apex):
            raise BadInput("onset and apex are the same picture, which shows no motion")
        return motion_map(onset, apex, points, shape, data)
    except BadInput as e:
        raise UserError(
            f"the pair cannot be used: {e}",
            fix="give two frames of one recording that show the face; if they show nothing else, "
            "give align='none'",
        ) from e


def motion_map(
    onset: UInt8[np.ndarray, "H W"],
    apex: UInt8[np.ndarray, "apex_H apex_W"],
    points: Float[np.ndarray, "5 2"] | None,
    shape: tuple[int, int, int],
    data: dict,
) -> UInt8[np.ndarray, "h w 3"]:
    """The flow map of `pair`, of the face whose landmarks on the onset are `points` [5, 2]; None:
    the frames show only the face.

    Raises:
      BadInput: frames of different sizes, or too small.
    """
    transform = None if points is None else alignment.similarity(points)
    made = pairs.motion_map(onset, apex, transform, shape[0], scale_of(data))
    if data["regions"] == "landmarks":
        if points is None or transform is None:
            raise BadInput("its regions lie at landmarks of the face, and none are known")
        aligned = (points @ transform[:, :2].T + transform[:, 2]).astype(np.float32)
        made = regions.join_regions(made[None], aligned[None])[0]
    return made


def scale_of(data: dict) -> str:
    """The scaling of the maps of a run with this `config.data`; older runs lack the field."""
    return data.get("map_scale", "minmax")


def _points(align: str, landmarks: ArrayLike | None, data: dict) -> Float[np.ndarray, "5 2"] | None:
    wanted = ", ".join(alignment.POINTS)
    problems = []
    if align not in pairs.ALIGNMENTS:
        problems.append(
            f"align: expected one of {', '.join(map(repr, pairs.ALIGNMENTS))}; found {align!r}"
        )
    if (align == "landmarks") != (landmarks is not None):
        problems.append("landmarks: align='landmarks' needs them, and no other value uses them")
    points = None if landmarks is None else np.asarray(landmarks, np.float64)
    if points is not None and not (
        points.shape == (len(alignment.POINTS), 2) and np.isfinite(points).all()
    ):
        problems.append(
            f"landmarks: expected (x, y) of {wanted} in pixels of the onset frame, found "
            f"shape {list(points.shape)}"
        )
    if data["regions"] == "landmarks" and align == "none":
        problems.append(
            "the run reads regions around landmarks: give align='detect', or align='landmarks' and "
            f"the (x, y) of {wanted}"
        )
    if problems:
        raise UserError("the pair cannot be prepared", problems)
    return points
