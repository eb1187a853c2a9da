"""Faces of photographs and drawings are found, turned, small, several, cut off; nothing else is."""

import cv2
import numpy as np
import pytest

from fexpr import faces
from fexpr.data.synthetic import ravdess_clips
from fexpr.faces import finder

# of astronaut.png, marked by hand
POINTS = np.array([[203.0, 102], [246, 104], [223, 128], [199, 139], [247, 141]])
EYES = 43.0  # their distance


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


def error(face, points, eyes=EYES):
    """Mean distance of the five points, in distances between the eyes."""
    return np.linalg.norm(face.points - points, axis=1).mean() / eyes


def test_the_astronaut(astronaut):
    (face,) = faces.find(astronaut)
    assert error(face, POINTS) < 0.1
    x, y, width, height = face.box
    assert x < 203 < 246 < x + width
    assert y < 102 < 141 < y + height
    assert 80 < height < 130
    assert face.score > 0.7
    assert face.presence > 0.95
    assert abs(face.yaw) < 10
    assert abs(face.pitch) < 10
    assert face.roll == pytest.approx(3, abs=4)
    assert face.quality == "good"
    assert face.mesh.shape == (468, 3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_pictures_on_their_side_and_upside_down(astronaut, turns):
    (face,) = faces.find(np.rot90(astronaut, turns))
    x, y = POINTS.T
    for _ in range(turns):
        x, y = y, 511 - x
    assert error(face, np.stack([x, y], 1)) < 0.1
    assert np.cos(np.radians(face.roll - 3 + 90 * turns)) > 0.95


@pytest.mark.parametrize("degrees", [-50, 25, 70])
def test_leaning_heads(astronaut, degrees):
    transform = cv2.getRotationMatrix2D((225, 125), degrees, 1.0)
    (face,) = faces.find(cv2.warpAffine(astronaut, transform, (512, 512)))
    assert error(face, cv2.transform(POINTS[None], transform)[0]) < 0.12
    assert face.roll == pytest.approx(3 - degrees, abs=6)


def test_several_faces_of_several_sizes_from_left_to_right(astronaut):
    head = astronaut[:256, 90:346]
    canvas = np.full((720, 1280, 3), 90, np.uint8)
    places = [(20, 400, 256), (500, 100, 120), (800, 300, 400), (1200, 30, 64)]
    for x, y, side in places:
        canvas[y : y + side, x : x + side] = cv2.resize(head, (side, side))
    found = faces.find(canvas)
    assert len(found) == len(places)
    for face, (x, y, side) in zip(found, places, strict=True):
        points = (POINTS - [90, 0]) * side / 256 + [x, y]
        assert error(face, points, EYES * side / 256) < 0.12
    assert "small" in found[-1].quality  # 11 pixels between the eyes
    assert found[0].quality == "good"


def test_a_face_that_fills_the_picture(astronaut):
    found = faces.find(cv2.resize(astronaut[72:172, 175:275], (48, 48)))
    assert len(found) == 1


def test_a_blurred_face_is_marked(astronaut):
    (face,) = faces.find(cv2.GaussianBlur(astronaut, (0, 0), 4))
    assert face.quality == "blurred"


def test_grey_pictures(astronaut):
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    (flat,), (one_channel,) = faces.find(grey), faces.find(grey[..., None])
    np.testing.assert_array_equal(flat.mesh, one_channel.mesh)
    assert error(flat, POINTS) < 0.1


def test_where_there_is_no_face():
    data = pytest.importorskip("skimage.data")
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for pixels in (noise, np.zeros((40, 30), np.uint8), data.coffee(), data.chelsea()):
        assert faces.find(pixels) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300, 3), (300, 2, 3)])
def test_pictures_of_few_pixels(shape):
    assert faces.find(np.full(shape, 7, np.uint8)) == []


def test_a_strip_needs_little_memory():
    """A border as wide as its longer side would need 170 GB."""
    assert finder.find(np.zeros((2, 150_000, 3), np.uint8)) == []


@pytest.mark.long
def test_faces_of_25_pixels_against_other_patches():
    """lfw_subset.npy of scikit-image: 100 faces, then 100 patches of photographs without one."""
    patches = np.uint8(255 * pytest.importorskip("skimage.data").lfw_subset()[::8])
    found = np.array([len(faces.find(patch)) > 0 for patch in patches])
    assert found[:13].mean() > 0.9
    assert found[13:].mean() < 0.1


def test_drawn_faces_with_known_points():
    for seed in range(3):
        face = ravdess_clips.random_face(np.random.default_rng([3, seed, 1]))
        portrait = ravdess_clips.Portrait(face)
        frame = next(
            iter(ravdess_clips.render(portrait, ravdess_clips.plan(1, 3, 8, seed=3)[2], 3))
        )
        points = portrait.face.landmarks()
        (found,) = faces.find(frame)
        assert error(found, points, np.linalg.norm(points[1] - points[0])) < 0.12


def test_a_face_seen_by_two_parts_of_a_picture_is_one():
    box = np.array([10.0, 10, 50, 50])
    whole, cut, other = (
        finder.Candidate(score, corners, np.zeros((6, 2)))
        for score, corners in (
            (0.9, box),
            (0.8, np.array([10.0, 10, 50, 28])),
            (0.6, np.array([60.0, 10, 90, 40])),
        )
    )
    assert finder.suppress([cut, other, whole]) == [whole, other]


def test_overlap():
    a, b = np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])
    assert finder.overlap(a, b) == pytest.approx((1 / 3, 1 / 2))
    assert finder.overlap(a, b + 5) == (0, 0)


def test_parts_cover_every_face_of_half_their_size():
    for shape in ((480, 640), (333, 1000), (600, 600)):
        size = max(shape) // 2
        corners = list(finder._corners(shape, size))
        for x in range(0, shape[1] - size // 2, 37):
            for y in range(0, shape[0] - size // 2, 37):
                assert any(
                    left <= x
                    and x + size // 2 <= left + size + 1
                    and top <= y
                    and y + size // 2 <= top + size + 1
                    for left, top in corners
                )
