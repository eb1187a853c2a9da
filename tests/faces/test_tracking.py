"""People keep their number through a video: moving, lost, found again."""

import numpy as np
import pytest

from fexpr.faces import Tracker


@pytest.fixture(scope="module")
def head():
    return pytest.importorskip("skimage.data").astronaut()[:200, 125:325]


def scene(head, *places):
    frame = np.full((240, 480, 3), 80, np.uint8)
    for x, y in places:
        frame[y : y + 200, x : x + 200] = head
    return frame


def numbers(tracker, frame, seconds):
    return [face.track for face in tracker.update(frame, seconds)]


def test_two_people_who_move_keep_their_numbers(head):
    tracker = Tracker()
    for i in range(12):
        faces = tracker.update(scene(head, (2 * i, i), (240 + i, 0)), i / 25)
        assert [face.track for face in faces] == [0, 1]
        # her nose is at (98, 128) of the head
        assert np.linalg.norm(faces[0].points[2] - [98 + 2 * i, 128 + i]) < 6
    assert faces[0].score > 0.5


def test_a_lost_face_is_found_again_or_forgotten(head):
    tracker, empty = Tracker(), scene(head)
    assert numbers(tracker, scene(head, (20, 10)), 0.0) == [0]
    assert numbers(tracker, empty, 0.04) == []
    assert numbers(tracker, scene(head, (30, 10)), 0.4) == [0]
    assert numbers(tracker, empty, 0.44) == []
    assert numbers(tracker, scene(head, (30, 10)), 4.0) == [1]


def test_somebody_who_comes_later_gets_the_next_number(head):
    tracker = Tracker()
    assert numbers(tracker, scene(head, (0, 0)), 0.0) == [0]
    assert numbers(tracker, scene(head, (0, 0), (260, 0)), 0.04) == [0]  # not searched again yet
    assert numbers(tracker, scene(head, (0, 0), (260, 0)), 0.4) == [0, 1]


def test_frames_without_a_stamp(head):
    tracker = Tracker()
    for _ in range(8):
        assert numbers(tracker, scene(head, (20, 10)), None) == [0]
