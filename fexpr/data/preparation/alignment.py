"""Finds the face and aligns it upright in a fixed frame, by landmarks from a CSV or from a
detector.

One transform is found on the onset frame and used for the onset AND the apex: aligning each frame
by itself would remove the very motion that is to be measured.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fexpr.config import allowed
from fexpr.data.data_config import DataConfig
from fexpr.errors import UserError
from fexpr.faces import POINTS, align, find, similarity
from fexpr.faces.framing import FRAMES, SIZE
from fexpr.storage import bounded, delimited
from fexpr.storage.delimited import BadTable

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, Float32, UInt8

COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")

# Where the five points lie in the aligned face of 224x224 pixels, which landmarks of flow maps
# refer to: faces are framed like those from which the published flow maps of SAMM and CASME II were
# made.
TEMPLATE = FRAMES["tight"] * SIZE

# `similarity` and `align` bring a face to this size and place
__all__ = [
    "POINTS",
    "SIZE",
    "TEMPLATE",
    "align",
    "choose",
    "detect",
    "read_landmarks",
    "similarity",
]

MOST = 100_000  # of a coordinate in pixels: no frame is as wide
LEAST_SPREAD = 4  # pixels: of a smaller face nothing is seen
LEAST_SIDE = 8  # pixels of a frame that a transform shrinks

POLICIES = allowed(DataConfig, "align")


def read_landmarks(path: Path) -> tuple[str, dict[str, Float32[np.ndarray, "5 2"]]]:
    """Reads `landmarks.csv`.

    Returns:
      The kind of name in the rows, and name -> float32 [5, 2] (x, y): `flow` (file name of a flow
      map; pixels of its 224x224 aligned apex face) or `clip` (pixels of that clip's onset frame).

    Raises:
      UserError: the file is not such a table; lists every bad row.
    """
    fix = f"the columns are flow or clip, then {','.join(COLUMNS)}, all coordinates in pixels"
    try:
        table = delimited.read(path, (), optional=("flow", "clip", *COLUMNS))
    except BadTable as e:
        raise UserError(f"{path} is not a table of landmarks", e.problems, fix) from e
    key = next((name for name in ("flow", "clip") if name in table.columns), None)
    missing = [name for name in COLUMNS if name not in table.columns]
    if key is None or missing:
        wanted = ([] if key else ["no column flow or clip"]) + [
            f"no column {name}" for name in missing
        ]
        found = f"found: {', '.join(table.header) or 'nothing'}"
        raise UserError(f"{path} is not a table of landmarks", [*wanted, found], fix)
    landmarks: dict[str, np.ndarray] = {}
    problems = []
    for line, row in table.rows():
        name = row[key]
        bad = [f"{c} is {row[c]!r}" for c in COLUMNS if not is_coordinate(row[c])]
        if not name or name in landmarks:
            bad.append(f"{key} {name!r} occurs twice" if name else f"no {key}")
        elif problem := bounded.name_problem(name):
            bad.append(f"the name {problem}")
        if not bad:
            points = np.array([row[c] for c in COLUMNS], np.float32).reshape(5, 2)
            if np.ptp(points, axis=0).max() < LEAST_SPREAD:
                bad.append(f"its points lie within {LEAST_SPREAD} pixels of one another")
            landmarks[name] = points
        if bad:
            problems.append(f"line {line}, {name or 'unnamed'}: {', '.join(bad)}")
    if problems:
        raise UserError(f"{path} has rows that cannot be used", problems, fix)
    return key, landmarks


def is_coordinate(text: str) -> bool:
    """Whether `text` is a decimal number within MOST pixels of 0."""
    number = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text)
    return bool(number) and abs(float(text)) <= MOST


def choose(policy: str, landmarks: bool, normalised: bool, where: Path) -> str:
    """The alignment to use, after resolving 'auto': 'landmarks', 'detect' or 'none'.

    Args:
      policy: one of `POLICIES`.
      landmarks: whether landmarks of the onset frames are at hand.
      normalised: whether the release has aligned and cropped these frames itself.
      where: the release's folder, for the message.

    Raises:
      UserError: unknown policy; landmarks are required and missing.
    """
    if policy not in POLICIES:
        raise UserError(
            f"config.data.align is {policy!r}", fix=f"set it to one of {', '.join(POLICIES)}"
        )
    if policy == "auto":
        policy = "landmarks" if landmarks else "none" if normalised else "detect"
    if policy == "landmarks" and not landmarks:
        raise UserError(
            f"config.data.align is 'landmarks', but there are no landmarks for the frames in "
            f"{where}",
            fix=f"put {where / 'landmarks.csv'} there, with the columns clip,{','.join(COLUMNS)} "
            "in pixels of each clip's onset frame",
        )
    return policy


def transform_problem(transform: Float[np.ndarray, "2 3"], shape: tuple[int, ...]) -> str:
    """Why a frame of this shape cannot be aligned by `transform` [2, 3]; '' if it can. Points that
    cannot be a face's (on a line, left and right swapped) give a transform that shrinks the frame
    to nothing.
    """
    scale = np.hypot(transform[0, 0], transform[1, 0])
    if not np.isfinite(transform).all() or min(shape[:2]) * scale < LEAST_SIDE:
        return "the landmarks are not those of a face in this frame"
    return ""


def detect(frame: UInt8[np.ndarray, "H W"]) -> Float[np.ndarray, "5 2"] | None:
    """The five `POINTS` [5, 2] of the largest face found in a frame uint8 [H, W], or None."""
    faces = find(frame)
    if not faces:
        return None
    return max(faces, key=lambda face: face.box[2] * face.box[3]).points
