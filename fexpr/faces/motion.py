"""Motion of the parts of a face, without that of the head, from the optical flow of the aligned
face.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.faces import framing
from fexpr.faces.face import five_points

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Bool, Float, UInt8

SIDE = 160  # pixels of the aligned face
RADIUS = 7  # pixels: a region is a disk, whose motion is the median of its flow
# centres by number of the mesh's point. What moves with expressions; the outer ends of the brows
# are too close to hair and background:
REGIONS = {
    "left brow, inner": 107,
    "left brow, middle": 105,
    "right brow, inner": 336,
    "right brow, middle": 334,
    "left cheek": 205,
    "right cheek": 425,
    "left nostril": 64,
    "right nostril": 294,
    "left mouth corner": 61,
    "right mouth corner": 291,
    "upper lip": 0,
    "lower lip": 17,
    "chin": 199,
    "left lid": 159,
    "right lid": 386,
}
LIDS = slice(-2, None)  # they show blinks
# what moves with the head alone: the nose, from root to tip, and the corners of the eyes
RIGID = (168, 6, 197, 195, 5, 4, 122, 351, 133, 362, 114, 343, 33, 263)
KEY_SECONDS = 1.0  # a face is compared with one at most so much earlier
KEY_PIXELS = 8.0  # or with one that has moved less than so far
OVEREXPOSED = 250  # from this grey level on, the true one may be higher
LEAST_VISIBLE = 0.75  # share of a disk that is not overexposed; else its motion is not known
LEAST_RIGID = 6  # rigid regions that must be visible
_FIT_ROUNDS = 5


class MotionMeter:
    """Measures, frame by frame, how far each region has moved since the first frame.

    The flow (DIS, Kroeger et al. 2016) is computed from a key frame, a new one every `KEY_SECONDS`,
    between faces aligned by their own landmarks, with local brightness and contrast normalised. The
    head's motion is the similarity that fits the flow of the rigid regions, with a robust loss
    (Huber); it is subtracted. An affine map would follow a turning head better, but such close
    points do not determine its effect on the mouth.

    The flow of an overexposed region, in the frame or its key frame, follows the edge of the light:
    such a region keeps its last displacement.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._key: np.ndarray | None = None
        self._key_seconds = 0.0
        self._base = np.zeros((len(REGIONS), 2))
        self._last = self._base

    def update(
        self, grey: UInt8[np.ndarray, "H W"], mesh: Float[np.ndarray, "468 3"], seconds: float
    ) -> Float[np.ndarray, "regions 2"]:
        """Displacement [R, 2] of `REGIONS` since the first frame, in percent of the distance
        between the eyes.

        Args:
          grey: uint8 [H, W]. mesh: [468, 3] of the face in it. seconds: when it is shown.
        """
        transform = framing.similarity(five_points(mesh), SIDE, "whole")
        aligned = framing.align(grey, transform, SIDE)
        face, overexposed = _without_light(aligned), aligned >= OVEREXPOSED
        if self._key is None:
            self._set_key(face, overexposed, mesh, transform, seconds)
            return self._base.copy()
        # OpenCV's stubs lack the None that it takes for a flow that is not known
        flow = self._flow.calc(self._key, face, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
        moved = np.array([np.median(flow[mask], axis=0) for mask in self._masks])
        lost = overexposed | self._key_overexposed
        visible = np.array([1 - lost[mask].mean() >= LEAST_VISIBLE for mask in self._masks])
        parts, rigid = visible[: len(REGIONS)], visible[len(REGIONS) :]
        if rigid.sum() < LEAST_RIGID:
            return self._last.copy()
        centres, head = self._centres[len(REGIONS) :][rigid], moved[len(REGIONS) :][rigid]
        own = moved[: len(REGIONS)] - _similar_motion(centres, head, self._centres[: len(REGIONS)])
        eyes = SIDE * float(np.ptp(framing.FRAMES["whole"][:2, 0]))
        self._last = np.where(parts[:, None], self._base + 100 * own / eyes, self._last)
        far = np.linalg.norm(head, axis=1).mean() > KEY_PIXELS
        age = seconds - self._key_seconds
        # a flash soon ends, and makes a bad key; a part that is always too bright does not matter
        if far or age >= (KEY_SECONDS if visible.all() else 2 * KEY_SECONDS):
            self._base = self._last
            self._set_key(face, overexposed, mesh, transform, seconds)
        return self._last.copy()

    def _set_key(
        self,
        face: UInt8[np.ndarray, "side side"],
        overexposed: Bool[np.ndarray, "side side"],
        mesh: Float[np.ndarray, "468 3"],
        transform: Float[np.ndarray, "2 3"],
        seconds: float,
    ) -> None:
        self._key, self._key_overexposed, self._key_seconds = face, overexposed, seconds
        points = mesh[[*REGIONS.values(), *RIGID], :2]
        self._centres = (points @ transform[:, :2].T + transform[:, 2]).clip(0, SIDE - 1)
        y, x = np.mgrid[:SIDE, :SIDE]
        self._masks = [np.hypot(x - cx, y - cy) <= RADIUS for cx, cy in self._centres]


def _without_light(face: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Normalises local mean and contrast: uint8 [H, W]."""
    values = face.astype(np.float32)
    values -= cv2.GaussianBlur(values, (0, 0), 8)
    contrast = np.sqrt(cv2.GaussianBlur(values**2, (0, 0), 16))
    return (128 + 45 * values / (contrast + 2)).clip(0, 255).astype(np.uint8)


def _similar_motion(
    points: Float[np.ndarray, "N 2"],
    moved: Float[np.ndarray, "N 2"],
    others: Float[np.ndarray, "M 2"],
) -> Float[np.ndarray, "M 2"]:
    """The displacements [M, 2] of `others` [M, 2] under the rotation, scale and shift that best fit
    the displacements `moved` [N, 2] of `points` [N, 2]; by iteratively reweighted least squares.
    """
    # as complex numbers a similarity is z -> a z + b
    terms = np.column_stack([_complex(points), np.ones(len(points))])
    goal, weights = _complex(moved), np.ones(len(points))
    found = np.array([1, 0], complex)
    for _ in range(_FIT_ROUNDS):
        root = np.sqrt(weights)
        found, *_ = np.linalg.lstsq(root[:, None] * terms, root * goal)
        error = np.abs(goal - terms @ found)
        weights = 1 / np.maximum(1, error / max(0.1, 1.345 * np.median(error)))
    done = found[0] * _complex(others) + found[1]
    return np.column_stack([done.real, done.imag])


def _complex(points: np.ndarray) -> np.ndarray:
    return points[:, 0] + 1j * points[:, 1]
