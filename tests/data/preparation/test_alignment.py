"""Alignment brings points where they belong and keeps the motion; landmark tables are read or
refused whole.
"""

import cv2
import numpy as np
import pytest

from fexpr.data.preparation import alignment, flow
from fexpr.errors import UserError
from tests.data import samm_release


def rotated(points, degrees, scale, shift):
    a = np.deg2rad(degrees)
    return scale * points @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]).T + shift


def apply(transform, points):
    return points @ transform[:, :2].T + transform[:, 2]


def test_similarity_undoes_rotation_scale_and_shift():
    points = rotated(alignment.TEMPLATE, 17, 2.3, [300, 120])
    np.testing.assert_allclose(
        apply(alignment.similarity(points), points), alignment.TEMPLATE, atol=1e-9
    )
    np.testing.assert_allclose(
        apply(alignment.similarity(points, size=112), points), alignment.TEMPLATE / 2, atol=1e-9
    )


def test_similarity_is_the_best_one_and_neither_mirrors_nor_shears():
    points = rotated(alignment.TEMPLATE, -8, 1.4, [10, 50]) + np.random.default_rng(0).normal(
        0, 3, (5, 2)
    )
    transform = alignment.similarity(points)

    def error(t):
        return np.sum((apply(t, points) - alignment.TEMPLATE) ** 2)

    assert np.linalg.det(transform[:, :2]) > 0
    np.testing.assert_allclose(transform[0, 0], transform[1, 1])
    np.testing.assert_allclose(transform[0, 1], -transform[1, 0])
    best, _ = cv2.estimateAffinePartial2D(points, alignment.TEMPLATE, method=cv2.LMEDS)
    assert error(transform) <= error(best)
    for change in (
        [[1, 0, 0], [0, 1, 0]],
        [[0, -1, 0], [1, 0, 0]],
        [[0, 0, 1], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 1]],
    ):
        # scale, rotation, shift to the right, shift down: any other similarity is worse
        for step in (-1e-3, 1e-3):
            assert error(transform + step * np.array(change)) > error(transform)


def test_align_puts_what_lies_under_a_landmark_under_the_template():
    # shrinks by three: the path through INTER_AREA
    points = rotated(alignment.TEMPLATE, 10, 3.0, [200, 60])
    frame = np.zeros((900, 1100), np.uint8)
    for x, y in points:
        cv2.circle(frame, (round(x), round(y)), 12, 255, -1)
    face = alignment.align(frame, alignment.similarity(points))
    assert face.shape == (224, 224)
    for x, y in alignment.TEMPLATE:
        patch = face[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9].astype(float)
        dy, dx = np.mgrid[-8:9, -8:9]
        # the blob's centre, in pixels of the face
        assert abs((patch * dx).sum() / patch.sum()) < 0.4
        assert abs((patch * dy).sum() / patch.sum()) < 0.4


def test_the_motion_survives_alignment():
    onset = samm_release.texture(0, 300)
    transform = alignment.similarity(alignment.TEMPLATE * 1.2 + 10)
    shift = np.float32([[1, 0, 2.4], [0, 1, 0]])
    apex = cv2.warpAffine(
        onset, shift, (300, 300), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    field = flow.tvl1(
        *(
            alignment.align(frame.clip(0, 255).astype(np.uint8), transform)
            for frame in (onset, apex)
        )
    )
    # 2.4 pixels of the frame, 2.0 of the face
    np.testing.assert_allclose(np.median(field, (0, 1)), [2.0, 0], atol=0.1)


def test_the_detector_finds_the_astronaut_and_no_face_in_noise():
    data = pytest.importorskip("skimage.data")
    grey = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2GRAY)
    points = alignment.detect(cv2.resize(grey, None, fx=1.5, fy=1.5))
    expected = 1.5 * np.array([[203, 102], [246, 104], [223, 128], [199, 139], [247, 141]])
    np.testing.assert_allclose(points, expected, atol=8)  # marked by hand; her eyes lie 65 apart
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    assert alignment.detect(noise) is None


def test_landmarks_by_clip_and_by_flow_map(tmp_path):
    for key, name in (("clip", "006_1_2"), ("flow", "006_006_1_2.png")):
        samm_release.write_landmarks(tmp_path / "l.csv", key, {name: alignment.TEMPLATE})
        found, landmarks = alignment.read_landmarks(tmp_path / "l.csv")
        assert found == key
        np.testing.assert_array_equal(landmarks[name], alignment.TEMPLATE.astype(np.float32))
        assert landmarks[name].dtype == np.float32


def test_all_bad_rows_are_listed(tmp_path):
    path = tmp_path / "landmarks.csv"
    good = "1,2,3,4,5,6,7,8,9,10"
    rows = [f"a,{good}", f"a,{good}", "b,1,x,3,4,5,6,7,8,9,", f",{good}", "c,1,2", f"d,{good}"]
    path.write_text("\n".join([",".join(["clip", *alignment.COLUMNS]), *rows]) + "\n")
    with pytest.raises(UserError) as e:
        alignment.read_landmarks(path)
    assert len(e.value.problems) == 4
    assert "line 3, a: clip 'a' " in e.value.problems[0]
    assert "left_eye_y is 'x', mouth_right_y is ''" in e.value.problems[1]
    assert "line 5, unnamed: no clip" in e.value.problems[2]
    assert "right_eye_x is ''" in e.value.problems[3]


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "landmarks.csv"
    path.write_text("name,left_eye_x\nx,1\n")
    with pytest.raises(
        UserError,
        match=r"no column flow or clip(.|\n)*no column left_eye_y(.|\n)*found: name, left_eye_x",
    ):
        alignment.read_landmarks(path)


@pytest.mark.parametrize(
    ("policy", "landmarks", "normalised", "expected"),
    [
        ("auto", True, True, "landmarks"),
        ("auto", False, True, "none"),
        ("auto", False, False, "detect"),
        ("detect", True, True, "detect"),
        ("landmarks", False, True, "align is 'landmarks'"),
        ("none", True, False, "none"),
        ("mediapipe", True, True, "auto, landmarks, detect, none"),
    ],
)
def test_alignment_policy(policy, landmarks, normalised, expected, tmp_path):
    if expected in alignment.POLICIES:
        assert alignment.choose(policy, landmarks, normalised, tmp_path) == expected
    else:
        with pytest.raises(UserError, match=expected):
            alignment.choose(policy, landmarks, normalised, tmp_path)
