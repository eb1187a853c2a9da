"""From a face anywhere in a picture to an upright face of a fixed size, by its five landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Num, UInt8

SIZE = 224  # pixels along a side of the aligned face

# Where the five points lie in a square of side 1, left-right symmetric.
# 'tight': the average of the published 224x224 apex faces of SAMM and CASME II; forehead and chin
# are cut off. 'whole': the median of 190 of FER2013's training faces, found by this package: from
# the forehead to the chin.
FRAMES = {
    "tight": np.array([[59, 72], [165, 72], [112, 123], [66, 168], [158, 168]], np.float64) / 224,
    "whole": np.array(
        [[0.323, 0.398], [0.677, 0.398], [0.5, 0.605], [0.364, 0.733], [0.636, 0.733]],
        np.float64,
    ),
}


def similarity(
    points: Num[np.ndarray, "5 2"], size: int = SIZE, frame: str = "tight"
) -> Float[np.ndarray, "2 3"]:
    """The rotation, scale and shift that bring five points (x, y) onto those of a frame of `size`
    pixels best, by least squares.
    """
    x, y = np.asarray(points, np.float64).T
    one, none = np.ones_like(x), np.zeros_like(x)
    equations = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    (a, b, tx, ty), *_ = np.linalg.lstsq(equations, (FRAMES[frame] * size).T.ravel())
    return np.array([[a, -b, tx], [b, a, ty]])


def align(
    frame: UInt8[np.ndarray, "H W *C"], transform: Float[np.ndarray, "2 3"], size: int = SIZE
) -> UInt8[np.ndarray, "{size} {size} *C"]:
    """Samples `frame` [H, W] or [H, W, C] through `transform` to size x size.

    To shrink a frame, it is first resized by area, because bilinear sampling would alias skin
    texture into false motion.
    """
    scale = np.hypot(transform[0, 0], transform[1, 0])
    if scale < 1:
        height, width = frame.shape[:2]
        small = cv2.resize(
            frame,
            (max(1, round(width * scale)), max(1, round(height * scale))),
            interpolation=cv2.INTER_AREA,
        )
        fx, fy = width / small.shape[1], height / small.shape[0]
        # pixel centres lie at whole numbers
        to_frame = np.array([[fx, 0, fx / 2 - 0.5], [0, fy, fy / 2 - 0.5], [0, 0, 1]])
        frame, transform = small, transform @ to_frame
    return cv2.warpAffine(
        frame, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
