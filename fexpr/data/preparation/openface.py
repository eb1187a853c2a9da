"""OpenFace's tables of a clip, a row per frame: action units, landmarks; and masks of landmarks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.data.preparation.prepare import BadInput
from fexpr.storage import delimited
from fexpr.storage.delimited import BadTable, Table

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Float32, Int, UInt8

POINTS = 68  # of the face, as iBUG's 300-W numbers them
# pixels of the video that OpenFace was given
LANDMARKS = tuple(f"{axis}_{i}" for axis in "xy" for i in range(POINTS))
MOST, SLACK = 5.0, 0.1  # of an intensity
SPREAD = 1.5  # pixels of a 48x48 face, deviation of the spot that stands for a landmark


def read(
    path: Path, columns: Sequence[str]
) -> tuple[Int[np.ndarray, " F"], Float32[np.ndarray, "F columns"]]:
    """Reads frame numbers int64 (ascending, from 1) and these columns float32 [F, len(columns)].
    Frames without a face are NaN.

    Raises:
      BadInput: it is not such a table, or contains several faces per frame, frames numbered from 0,
          cells that are not numbers, intensities outside 0 to 5.
    """
    try:
        table = delimited.read(path, ("frame", *columns), optional=("success",), separators=",;\t")
    except BadTable as e:
        raise BadInput(f"{path}: {'; '.join(e.problems[:5])}") from e
    numbers = np.array(
        [[_number(cell) for cell in cells] for cells in table.columns.values()], np.float64
    ).reshape(len(table.columns), len(table))
    frames, values = numbers[0], numbers[1 : 1 + len(columns)].T.astype(np.float32)
    problems = _problems(table, numbers, columns)
    if problems:
        raise BadInput(f"{path}: {'; '.join(problems)}")
    if "success" in table.columns:
        values[numbers[-1] != 1] = np.nan
    order = np.argsort(frames)
    return frames[order].astype(np.int64), values[order]


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else np.inf
    except ValueError:
        return np.nan if not text else np.inf  # OpenFace leaves no cell empty, other tools do


def _problems(table: Table, numbers: np.ndarray, columns: Sequence[str]) -> list[str]:
    found = []
    for name, values in zip(table.columns, numbers, strict=True):
        bad = np.isinf(values) | (np.isnan(values) & (name == "frame"))
        if re.fullmatch(r"AU[0-9]+_[rc]", name):
            # OpenFace's regression slightly exceeds its range
            bad |= (values < -SLACK) | (values > MOST + SLACK)
        for row in np.flatnonzero(bad)[:1]:
            text = table.columns[name][row]
            found.append(f"line {table.lines[row]}: {name} is {text!r}")
    found += [f"line {line} is cut off" for line in table.short[:1]]
    found += [] if len(table) else ["it has no rows"]
    if found:
        return found[:5]
    frames = numbers[0]
    unique, counts = np.unique(frames, return_counts=True)
    if (frames != np.round(frames)).any():
        found.append("frames are not whole numbers")
    if (counts > 1).any():
        found.append(
            f"frame {unique[counts > 1][0]:g} has {counts.max()} rows, of several faces: keep only "
            "the rows of the clip's person (column face_id)"
        )
    if len(frames) and frames.min() < 1:
        found.append(
            f"frames begin with {frames.min():g}, OpenFace counts from 1: add {1 - frames.min():g} "
            "to them if they belong to this clip"
        )
    return found


def landmark_masks(
    path: Path, frames: int, transform: Float[np.ndarray, "2 3"], side: int
) -> UInt8[np.ndarray, "{frames} {side} {side}"]:
    """Masks of the landmarks of a video, uint8 [frames, side, side]; black where OpenFace found no
    face.

    Args:
      path: the table of the whole video, in pixels of the decoded video.
      transform: [2, 3], from pixels of the video to those of the cropped face (faces.square).

    Raises:
      BadInput: not such a table; fewer than half of the landmarks lie within the crop, so their
          coordinates must refer to another image size.
    """
    numbers, values = read(path, LANDMARKS)
    x, y = values.reshape(len(values), 2, POINTS).transpose(1, 0, 2).astype(np.float64)
    points = np.full((frames, POINTS, 2), np.nan)
    known = (numbers >= 1) & (numbers <= frames)
    points[numbers[known] - 1] = (np.stack([x, y, np.ones_like(x)], axis=-1) @ transform.T)[known]
    finite = np.isfinite(points).all(axis=2)
    inside = ((points > -0.5) & (points < side - 0.5)).all(axis=2)
    if inside.sum() < 0.5 * finite.sum():
        raise BadInput(
            f"{path}: {inside.sum():,} of {finite.sum():,} landmarks lie within the face that is "
            "cut from the video; expected landmarks in pixels of the original video"
        )
    return np.stack([landmark_mask(own, side) for own in points])


def landmark_mask(
    points: Float[np.ndarray, "P 2"], side: int
) -> UInt8[np.ndarray, "{side} {side}"]:
    """A soft spot at each of the points [P, 2] (x, y): uint8 [side, side], 255 at a point; black if
    a coordinate is NaN.

    The maximum of Gaussians of width SPREAD, not their sum, so that close points are not brighter.
    """
    if not np.isfinite(points).all():
        return np.zeros((side, side), np.uint8)
    across, down = (
        np.exp(-((np.arange(side) - p[:, None]) ** 2) / (2 * SPREAD**2)) for p in points.T
    )
    return np.round(255 * (down[:, :, None] * across[:, None, :]).max(axis=0)).astype(np.uint8)
