"""A face that was found: box, landmarks, pose and quality."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fexpr.faces import framing

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8

# left and right as the image shows them
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
# points of the mesh whose mean each of them is: corners of an eye, tip of the nose, mouth corner
_OF_MESH = ((33, 133), (362, 263), (1,), (61,), (291,))

SMALL = 12  # pixels between the eyes below which a face is 'small': a face of about 25 pixels
TURNED = 35  # degrees of yaw or pitch above which it is 'turned'
# of the line from the forehead to the chin, in degrees: chins are further back than foreheads
FRONTAL_PITCH = 10.6
# below this share of fine detail a face is 'blurred'; see `sharpness`
BLURRED = 0.010
_SHARPNESS_SIDE = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture, all coordinates in its pixels.

    Attributes:
      mesh: [468, 3] (x, y, depth) of the MediaPipe face mesh.
      score: the detector's, 0 to 1; for a face that is followed through a video, the last
          detection's.
      presence: probability of the mesh network that there is a face.
      sharpness: see `sharpness`. track: number of the person in a video, from 0; None in a picture.
    """

    mesh: Float[np.ndarray, "468 3"]
    score: float
    presence: float
    sharpness: float
    track: int | None = None

    @property
    def points(self) -> Float[np.ndarray, "5 2"]:
        """(x, y) of `POINTS`."""
        return five_points(self.mesh)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x, y, width, height), from the forehead to the chin."""
        low, high = self.mesh[:, :2].min(axis=0), self.mesh[:, :2].max(axis=0)
        left, top, width, height = map(float, (*low, *(high - low)))
        return left, top, width, height

    @property
    def roll(self) -> float:
        """Degrees by which the head leans clockwise in the picture."""
        x, y, _ = self._axis(33, 263)
        return float(np.degrees(np.arctan2(y, x)))

    @property
    def yaw(self) -> float:
        """Degrees by which the head turns to the picture's right; 0 is frontal."""
        x, y, depth = self._axis(33, 263)
        return float(np.degrees(np.arctan2(depth, np.hypot(x, y))))

    @property
    def pitch(self) -> float:
        """Degrees by which the head is bent back; 0 is the median of FER2013's faces."""
        x, y, depth = self._axis(10, 152)
        return float(FRONTAL_PITCH - np.degrees(np.arctan2(depth, np.hypot(x, y))))

    @property
    def quality(self) -> str:
        """The quality: 'good', or the faults, joined by '+': 'small', 'blurred', 'turned'."""
        eyes = np.linalg.norm(self.points[1] - self.points[0])
        wrong = [
            name
            for name, holds in (
                ("small", eyes / max(0.3, np.cos(np.radians(self.yaw))) < SMALL),
                ("blurred", self.sharpness < BLURRED),
                ("turned", max(abs(self.yaw), abs(self.pitch)) > TURNED),
            )
            if holds
        ]
        return "+".join(wrong) or "good"

    def _axis(self, start: int, end: int) -> Float[np.ndarray, " 3"]:
        return self.mesh[end] - self.mesh[start]


def five_points(mesh: Float[np.ndarray, "468 3"]) -> Float[np.ndarray, "5 2"]:
    """(x, y) of `POINTS`, from the mesh."""
    return np.stack([mesh[list(indices), :2].mean(axis=0) for indices in _OF_MESH])


def sharpness(pixels: UInt8[np.ndarray, "H W *C"], mesh: Float[np.ndarray, "468 3"]) -> float:
    """Share of fine detail in a face: mean square of the Laplacian over the variance of the grey
    values, of the aligned face at 64x64 pixels. Neither light nor contrast changes it.
    """
    face = framing.align(
        pixels, framing.similarity(five_points(mesh), _SHARPNESS_SIDE), _SHARPNESS_SIDE
    )
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) if face.ndim == 3 else face
    detail = cv2.Laplacian(grey, cv2.CV_64F)[1:-1, 1:-1]
    return float((detail**2).mean() / max(1.0, grey.var()))
