"""Short movements are found in the motion of a face's parts; the head's, blinks and light are not."""

import cv2
import numpy as np
import pytest

from fexpr.faces import Tracker, spotting
from fexpr.faces.motion import LIDS, REGIONS, MotionMeter, _similar_motion
from tests.faces.test_finder import POINTS

RATE = 30.0
PLACES = {name: i for i, name in enumerate(REGIONS)}


def rest(seconds=8.0, noise=0.1, seed=0):
    """Displacements of a face at rest, and stamps."""
    count = round(RATE * seconds)
    shape = count, len(REGIONS), 2
    return np.random.default_rng(seed).normal(0, noise, shape), np.arange(count) / RATE


def with_movement(displacement, onset, apex, offset, regions, percent):
    rows = np.arange(len(displacement))
    course = np.interp(rows, [onset, apex, offset], [0, 1, 0])
    course = 0.5 - 0.5 * np.cos(np.pi * course)
    moved = displacement.copy()
    for name in regions:
        moved[:, PLACES[name], 1] += percent * course
    return moved


BROWS = ("left brow, inner", "left brow, middle", "right brow, inner", "right brow, middle")
MOUTH = ("left mouth corner", "right mouth corner", "upper lip", "left cheek")


def overlap(a, b):
    common = min(a[1], b[1]) - max(a[0], b[0]) + 1
    return max(0, common) / (max(a[1], b[1]) - min(a[0], b[0]) + 1)


def test_onset_apex_and_offset_are_found():
    displacement, seconds = rest()
    displacement = with_movement(displacement, 60, 66, 73, BROWS, 2.0)
    displacement = with_movement(displacement, 150, 155, 162, MOUTH, 1.5)
    found = spotting.spot(displacement, seconds)
    assert len(found) == 2
    for one, (onset, apex, offset) in zip(found, [(60, 66, 73), (150, 155, 162)], strict=True):
        assert overlap((one.onset, one.offset), (onset, offset)) >= 0.5
        assert abs(one.apex - apex) <= 2
        assert one.score > spotting.SCORE
    assert set(found[0].regions) <= set(BROWS)
    assert set(found[1].regions) <= set(MOUTH)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_any_size_is_no_movement(seed):
    for noise in (0.0, 0.05, 0.5, 3.0):
        assert spotting.spot(*rest(20, noise, seed)) == []


def test_the_noise_of_the_video_decides():
    displacement, seconds = rest(noise=1.0)
    assert spotting.spot(with_movement(displacement, 60, 66, 73, BROWS, 1.5), seconds) == []


def test_slow_drift_and_long_movements_are_not_spotted():
    displacement, seconds = rest()
    drift = displacement + np.linspace(0, 10, len(seconds))[:, None, None]
    assert spotting.spot(drift, seconds) == []
    assert spotting.spot(with_movement(displacement, 40, 100, 200, MOUTH, 5.0), seconds) == []


def test_a_blink_is_not_spotted():
    displacement, seconds = rest()
    lids = list(REGIONS)[LIDS]
    blink = with_movement(displacement, 60, 63, 67, lids, 12.0)
    blink = with_movement(blink, 60, 63, 67, BROWS[:3], 1.2)  # what it pulls along
    assert spotting.spot(blink, seconds) == []


def test_too_few_frames():
    displacement, seconds = rest(0.1)
    assert spotting.spot(displacement, seconds) == []


def test_a_similarity_is_recovered_though_some_points_move_by_themselves():
    rng = np.random.default_rng(0)
    points, others = rng.uniform(40, 120, (14, 2)), rng.uniform(0, 160, (5, 2))
    transform = cv2.getRotationMatrix2D((70.0, 90.0), 3, 1.02)

    def moved(p):
        return cv2.transform(p[None], transform)[0] - p

    noisy = moved(points) + rng.normal(0, 0.02, points.shape)
    noisy[:2] += 5
    np.testing.assert_allclose(_similar_motion(points, noisy, others), moved(others), atol=0.2)


def photograph(shift, degrees=0.0, light=1.0, brows=0.0):
    """Frames of astronaut.png, moved as a whole by up to `shift` pixels and `degrees`; `brows`:
    pixels by which the skin around the brows is raised from frame 45 to 57.
    """
    grey = cv2.cvtColor(pytest.importorskip("skimage.data").astronaut(), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey[:256, 96:352], (512, 512), interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512].astype(np.float32)
    eyes = (POINTS[:2].mean(axis=0) - [96, 0]) * 2
    bump = np.exp(-(((x - eyes[0]) / 60) ** 2) - (((y - eyes[1] + 30) / 14) ** 2))
    for i in range(90):
        share = np.interp(i, [45, 51, 57], [0, 1, 0])
        image = cv2.remap(grey, x, (y + brows * share * bump).astype(np.float32), cv2.INTER_CUBIC)
        sway = np.sin(i / 9)
        transform = cv2.getRotationMatrix2D((256, 256), degrees * sway, 1.0)
        transform[:, 2] += shift * sway
        image = cv2.warpAffine(image, transform, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        image = image * (1 + (light - 1) * np.sin(i / 13)) + rng.normal(0, 2, image.shape)
        yield np.clip(image, 0, 255).astype(np.uint8)


def answered(frames):
    tracker, meter = Tracker(), MotionMeter()
    displacement, points = [], []
    for i, frame in enumerate(frames):
        (face,) = tracker.update(frame, i / RATE)
        displacement.append(meter.update(frame, face.mesh, i / RATE))
        points.append(face.points)
    found = spotting.spot(np.array(displacement), np.arange(len(points)) / RATE)
    return found, spotting.answer(found, np.array(points))


@pytest.mark.long
def test_a_still_photograph_that_is_shifted_about_shows_no_facial_movement():
    assert answered(photograph(shift=8.0, degrees=3.0, light=1.2)) == ([], "no facial movement")


@pytest.mark.long
def test_a_still_photograph_shows_no_movement():
    assert answered(photograph(shift=0.0)) == ([], "no movement")


@pytest.mark.long
def test_flashes_that_cut_off_the_light_show_no_movement():
    """Where pixels are cut off, the flow follows the edge of the light."""
    flashing = (
        (1.8 * frame).clip(0, 255).astype(np.uint8) if 20 <= i % 40 < 26 else frame
        for i, frame in enumerate(photograph(shift=0.0))
    )
    assert answered(flashing)[0] == []


@pytest.mark.long
def test_brows_that_are_raised_are_found_while_the_head_moves():
    (one,), words = answered(photograph(shift=8.0, degrees=3.0, brows=4.0))
    assert overlap((one.onset, one.offset), (45, 57)) >= 0.5
    assert words == "facial movement"
    assert any("brow" in region for region in one.regions)
