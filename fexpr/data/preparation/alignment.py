"""Where the face is, and bringing it upright into one frame: from landmarks in a CSV, or from a
detected box.

One transform is found on the onset frame and used for the onset AND the apex: aligning each frame
by itself would take out the very motion that is to be measured.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import cv2
import numpy as np

from fexpr.config import allowed
from fexpr.data.data_config import DataConfig
from fexpr.errors import UserError
from fexpr.storage import bounded, delimited
from fexpr.storage.delimited import BadTable

SIZE = 224  # side of the aligned face in pixels; landmarks of flow maps are given in this frame
# left and right as the image shows them
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")

# Where the five points lie in the published 224x224 apex faces of SAMM and CASME II on average,
# made symmetric: faces aligned here are framed as those behind the published flow maps.
TEMPLATE = np.float64([[59, 72], [165, 72], [112, 123], [66, 168], [158, 168]])

MOST = 100_000  # of a coordinate in pixels: no frame is as wide
LEAST_SPREAD = 4  # pixels: of a smaller face nothing is seen
LEAST_SIDE = 8  # pixels of a frame that a transform shrinks

POLICIES = allowed(DataConfig, "align")
# the cascade's box ends above the chin; 1.2 of its side holds the face from forehead to chin
BOX_MARGIN = 1.2
# a longer frame is shrunk to this for detection alone: the cascade is slow, a face is large
DETECTION_SIDE = 480


def read_landmarks(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Reads `landmarks.csv`.

    Returns:
      What the rows are named by, and name -> float32 [5, 2] (x, y): `flow` (file name of a flow
      map; pixels of its 224x224 aligned apex face) or `clip` (pixels of that clip's onset frame).

    Raises:
      UserError: the file is no such table; lists every bad row.
    """
    fix = f"the columns are flow or clip, then {','.join(COLUMNS)}, all coordinates in pixels"
    try:
        table = delimited.read(path, (), optional=("flow", "clip", *COLUMNS))
    except BadTable as e:
        raise UserError(f"{path} is no table of landmarks", e.problems, fix) from e
    key = next((name for name in ("flow", "clip") if name in table.columns), None)
    missing = [name for name in COLUMNS if name not in table.columns]
    if key is None or missing:
        wanted = ([] if key else ["no column flow or clip"]) + [
            f"no column {name}" for name in missing
        ]
        found = f"found: {', '.join(table.header) or 'nothing'}"
        raise UserError(f"{path} is no table of landmarks", [*wanted, found], fix)
    landmarks: dict[str, np.ndarray] = {}
    problems = []
    for line, row in table.rows():
        name = row[key]
        bad = [f"{c} is {row[c]!r}" for c in COLUMNS if not is_coordinate(row[c])]
        if not name or name in landmarks:
            bad.append(f"{key} {name!r} is there twice" if name else f"no {key}")
        elif problem := bounded.name_problem(name):
            bad.append(f"the name {problem}")
        if not bad:
            points = np.float32([row[c] for c in COLUMNS]).reshape(5, 2)
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
    """Which alignment `auto` comes down to: 'landmarks', 'detect' or 'none'.

    Args:
      policy: one of `POLICIES`.
      landmarks: whether landmarks of the onset frames are at hand.
      normalised: whether the release has aligned and cropped these frames itself.
      where: the release's folder, for the message.

    Raises:
      UserError: unknown policy, or nothing to align with.
    """
    if policy not in POLICIES:
        raise UserError(
            f"config.data.align is {policy!r}", fix=f"set it to one of {', '.join(POLICIES)}"
        )
    ways = [
        f"put {where / 'landmarks.csv'} there, with the columns clip,{','.join(COLUMNS)} in "
        "pixels of each clip's onset frame",
        f"put the release's own aligned frames into {where}, laid out as docs/data.md shows",
        "pip install scikit-image, whose face detector is used then",
    ]
    detector = importlib.util.find_spec("skimage") is not None
    if policy == "auto":
        policy = "landmarks" if landmarks else "none" if normalised else "detect"
        if policy == "detect" and not detector:
            raise UserError(
                "the frames show more than the face, and nothing says where it is",
                ways,
                "do one of these",
            )
    if policy == "landmarks" and not landmarks:
        raise UserError(
            f"config.data.align is 'landmarks' and there are none for the frames in {where}",
            fix=ways[0],
        )
    if policy == "detect" and not detector:
        raise UserError(
            "config.data.align is 'detect' and scikit-image is not installed", fix=ways[2]
        )
    return policy


def similarity(points: np.ndarray, size: int = SIZE) -> np.ndarray:
    """The rotation, scale and shift [2, 3] that bring five points [5, 2] onto the template best
    (least squares).
    """
    x, y = np.asarray(points, np.float64).T
    one, none = np.ones_like(x), np.zeros_like(x)
    equations = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    (a, b, tx, ty), *_ = np.linalg.lstsq(equations, (TEMPLATE * size / SIZE).T.ravel())
    return np.array([[a, -b, tx], [b, a, ty]])


def transform_problem(transform: np.ndarray, shape: tuple[int, ...]) -> str:
    """Why a frame of this shape cannot be aligned by `transform` [2, 3]; '' if it can. Points that
    are no face's (on a line, left and right swapped) have a transform that shrinks it to nothing.
    """
    scale = np.hypot(transform[0, 0], transform[1, 0])
    if not np.isfinite(transform).all() or min(shape[:2]) * scale < LEAST_SIDE:
        return "the landmarks are not those of a face in this frame"
    return ""


def square(box: tuple[int, int, int, int], size: int = SIZE) -> np.ndarray:
    """The scale and shift [2, 3] that bring a square around `box` (x, y, width, height), with a
    margin, to size x size.
    """
    x, y, width, height = box
    scale = size / (BOX_MARGIN * max(width, height))
    return np.array(
        [
            [scale, 0, size / 2 - scale * (x + width / 2)],
            [0, scale, size / 2 - scale * (y + height / 2)],
        ]
    )


def align(frame: np.ndarray, transform: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Samples `frame` [H, W] or [H, W, C] through `transform` [2, 3] (`similarity` or `square`) to
    size x size.

    A frame that shrinks is first shrunk by area, for bilinear sampling alone would alias skin
    texture into false motion.
    """
    scale = np.hypot(transform[0, 0], transform[1, 0])
    if scale < 1:
        height, width = frame.shape[:2]
        small = cv2.resize(
            frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA
        )
        fx, fy = width / small.shape[1], height / small.shape[0]
        # pixel centres lie at whole numbers
        to_frame = np.array([[fx, 0, fx / 2 - 0.5], [0, fy, fy / 2 - 0.5], [0, 0, 1]])
        frame, transform = small, transform @ to_frame
    return cv2.warpAffine(
        frame, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def detect(frame: np.ndarray) -> tuple[int, int, int, int] | None:
    """The largest frontal face that scikit-image's LBP cascade finds in a grey uint8 [H, W]: (x, y,
    width, height), or None.
    """
    from skimage.data import lbp_frontal_face_cascade_filename  # an optional extra
    from skimage.feature import Cascade

    shrink = max(1.0, max(frame.shape) / DETECTION_SIDE)
    small = cv2.resize(frame, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    least, most = min(small.shape) // 8, min(small.shape)
    # holds state while it searches: one for each call
    cascade = Cascade(lbp_frontal_face_cascade_filename())
    found = cascade.detect_multi_scale(
        small, scale_factor=1.1, step_ratio=1, min_size=(least, least), max_size=(most, most)
    )
    if not found:
        return None
    face = max(found, key=lambda f: f["width"])
    return tuple(round(face[k] * shrink) for k in ("c", "r", "width", "height"))
