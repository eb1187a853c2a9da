"""From onset and apex to a flow map: both are aligned by the transform found on the onset, then
their flow is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fexpr.data.preparation import alignment, flow
from fexpr.data.preparation.prepare import BadInput

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8

ALIGNMENTS = ("landmarks", "detect", "none")


def transform_of(
    onset: UInt8[np.ndarray, "H W"], align: str, points: Float[np.ndarray, "5 2"] | None = None
) -> Float[np.ndarray, "2 3"] | None:
    """The transform [2, 3] that brings the face of a grey onset uint8 [H, W] to 224x224; None if
    frames are used as they are.

    Args:
      align: 'landmarks' (points [5, 2], (x, y) in its pixels), 'detect', 'none'.

    Raises:
      BadInput: no face was found; landmarks that cannot be a face's.
    """
    if align == "none":
        return None
    if align == "landmarks":
        if points is None:
            raise ValueError("align='landmarks' needs points")
        transform = alignment.similarity(points)
        if problem := alignment.transform_problem(transform, onset.shape):
            raise BadInput(problem)
        return transform
    if (points := alignment.detect(onset)) is None:
        raise BadInput("no face found")
    return alignment.similarity(points)


def motion_map(
    onset: UInt8[np.ndarray, "H W"],
    apex: UInt8[np.ndarray, "apex_H apex_W"],
    transform: Float[np.ndarray, "2 3"] | None,
    size: int,
    scale: str = "minmax",
    names: tuple[str, str] = ("the onset frame", "the apex frame"),
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The motion between two grey frames uint8 [H, W], each moved by `transform`: uint8 [size,
    size, 3], as `flow.flow_map`.

    `scale`: as in `flow.encode`. `names`: of the two, for messages.

    Raises:
      BadInput: frames of different sizes, or too small.
    """
    if onset.shape != apex.shape:
        raise BadInput(
            f"{names[1]} has {apex.shape[::-1]} pixels, {names[0]} has {onset.shape[::-1]}"
        )
    if min(onset.shape) < size:
        raise BadInput(
            f"{names[0]} has {onset.shape[::-1]} pixels, too few for a map of {size}x{size}"
        )
    if transform is not None:
        onset, apex = (alignment.align(frame, transform) for frame in (onset, apex))
    return flow.flow_map(onset, apex, size, scale)
