"""OpenCV computes what the networks' own runtime does."""

import hashlib
import re

import numpy as np
import pytest

from fexpr.faces import networks
from tests.recognizer.runs import FIXTURES


def blocks(rng, side):
    """A picture of 8x8 coloured squares."""
    return np.kron(
        rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((side // 8, side // 8, 1), np.uint8)
    )


def test_outputs_are_those_of_litert():
    """face_networks.npz holds what ai-edge-litert 2.3.0 computes from these pictures, values scaled
    to [-1, 1] for the detector and to [0, 1] for the mesh.
    """
    expected, rng = np.load(FIXTURES / "face_networks.npz"), np.random.default_rng(0)
    scores, boxes, keypoints = networks.detect(blocks(rng, networks.DETECTOR_SIDE))
    mesh, presence = networks.mesh(blocks(rng, networks.MESH_SIDE))
    logits = expected["detector/classificators"].astype(float).clip(-100, 100)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-4)
    raw = expected["detector/regressors"]
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], raw[:, 2:4], atol=1e-2)
    # the first and the last anchor lie in the middle of their cells of 16 and 32 pixels
    np.testing.assert_allclose(keypoints[0, 0], raw[0, 4:6] + 8, atol=1e-2)
    np.testing.assert_allclose(keypoints[-1, 5], raw[-1, 14:] + 240, atol=1e-2)
    np.testing.assert_allclose(mesh.ravel(), expected["mesh/conv2d_20"], atol=1e-2)
    assert presence == pytest.approx(1 / (1 + np.exp(-expected["mesh/conv2d_30"])), abs=1e-4)


def test_weights_are_those_that_the_readme_names():
    named = re.findall(
        r"`(\w+\.tflite)` .*`([0-9a-f]{64})`", (networks.WEIGHTS / "README.md").read_text()
    )
    assert len(named) == 2
    for name, digest in named:
        assert hashlib.sha256((networks.WEIGHTS / name).read_bytes()).hexdigest() == digest
