"""OpenFace's tables of a clip, a row a frame: action units, landmarks; and masks of landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fexpr.data.preparation.prepare import BadInput

POINTS = 68  # of the face, as iBUG's 300-W numbers them
# pixels of the video that OpenFace was given
LANDMARKS = tuple(f"{axis}_{i}" for axis in "xy" for i in range(POINTS))
SPREAD = 1.5  # pixels of a 48x48 face, deviation of the spot that stands for a landmark


def read(path: Path, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers int64 (ascending, from 1) and these columns float32 [F, len(columns)]. Frames
    without a face are NaN.

    Raises:
      BadInput: it is no such table.
    """
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as e:
        raise BadInput(f"{path}: {e}") from e
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in ("frame", *columns) if c not in table]
    if missing:
        raise BadInput(
            f"{path}: no column {', '.join(missing[:20])}"
            + f" and {len(missing) - 20} more" * (len(missing) > 20)
        )
    table = table[["frame", *columns, *(["success"] if "success" in table else [])]].apply(
        pd.to_numeric, errors="coerce"
    )
    table = table.dropna(subset=["frame"]).drop_duplicates("frame").sort_values("frame")
    values = table[list(columns)].to_numpy(np.float32, copy=True)
    if "success" in table:
        values[table["success"].to_numpy() != 1] = np.nan
    return table["frame"].to_numpy(np.int64), values


def landmark_masks(path: Path, frames: int, transform: np.ndarray, side: int) -> np.ndarray:
    """Masks of the landmarks of a video, uint8 [frames, side, side]; black where OpenFace found no
    face.

    Args:
      path: the table of the whole video, of the size in which it was decoded.
      transform: [2, 3], from pixels of the video to those of the cropped face (faces.square).

    Raises:
      BadInput: no such table; fewer than half of the landmarks lie within the crop, so that they
          must be of other pixels.
    """
    numbers, values = read(path, LANDMARKS)
    x, y = values.reshape(len(values), 2, POINTS).transpose(1, 0, 2).astype(np.float64)
    points = np.full((frames, POINTS, 2), np.nan)
    known = (numbers >= 1) & (numbers <= frames)
    points[numbers[known] - 1] = (np.stack([x, y, np.ones_like(x)], axis=-1) @ transform.T)[known]
    there = np.isfinite(points).all(axis=2)
    inside = ((points > -0.5) & (points < side - 0.5)).all(axis=2)
    if inside.sum() < 0.5 * there.sum():
        raise BadInput(
            f"{path}: {inside.sum():,} of {there.sum():,} landmarks lie within the face that "
            "is cut from the video; "
            "expected those of the video as it is, in its own size"
        )
    return np.stack([landmark_mask(own, side) for own in points])


def landmark_mask(points: np.ndarray, side: int) -> np.ndarray:
    """A soft spot at each of points [P, 2] (x, y): uint8 [side, side], 255 at a point; black if a
    coordinate is NaN.

    The largest of Gaussians of SPREAD, not their sum: where points are close together no brighter.
    """
    if not np.isfinite(points).all():
        return np.zeros((side, side), np.uint8)
    across, down = (
        np.exp(-((np.arange(side) - p[:, None]) ** 2) / (2 * SPREAD**2)) for p in points.T
    )
    return np.round(255 * (down[:, :, None] * across[:, None, :]).max(axis=0)).astype(np.uint8)
