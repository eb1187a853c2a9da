"""OpenFace's tables, and landmarks of a video that go through the same crop as its faces."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import base
from fexpr.data.loaders import LOADERS
from fexpr.data.preparation import openface
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases.ravdess_aus import INTENSITIES
from fexpr.data.synthetic import ravdess_clips
from fexpr.errors import UserError

CLIP = "01-01-03-01-01-01-01"
# of a face in a picture of 320x288
SPOTS = np.array([[120, 110], [190, 120], [160, 150], [140, 190], [185, 200]])


def table(points):
    """As OpenFace writes it: all 68 landmarks of frame i at points[i] (x, y)."""
    columns = {"frame": np.arange(1, len(points) + 1), "success": 1} | dict.fromkeys(
        INTENSITIES, 1.0
    )
    return pd.DataFrame(
        columns
        | {name: points[:, int(name[0] == "y")].astype(float) for name in openface.LANDMARKS}
    )


@pytest.fixture
def release(tmp_path):
    """A video of one still face; in every frame but the first a white square at another of SPOTS,
    where the table has the landmarks.
    """
    portrait = ravdess_clips.Portrait(ravdess_clips.random_face(np.random.default_rng([3, 3, 1])))
    take = ravdess_clips.plan(1, 3, 8, seed=3)[2]
    still = next(iter(ravdess_clips.render(portrait, take, 3)))
    for folder in ("Actor_01", "openface"):
        (tmp_path / "ravdess" / folder).mkdir(parents=True)
    writer = cv2.VideoWriter(
        str(tmp_path / "ravdess" / "Actor_01" / f"{CLIP}.mp4"),
        cv2.VideoWriter_fourcc(*"mp4v"),
        30,
        (320, 288),
    )
    for spot in (None, *SPOTS):
        frame = still.copy()
        if spot is not None:
            x, y = spot
            frame[y - 6 : y + 7, x - 6 : x + 7] = 255
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    save(tmp_path / "ravdess", table(np.vstack([[160, 150], SPOTS])))
    return tmp_path / "ravdess"


def save(folder, made):
    made.to_csv(folder / "openface" / f"{CLIP}.csv", index=False)


def load(folder):
    config = base.get_config().data
    config.update(
        {"name": "ravdess", "root": str(folder.parent), "source": "release", "map": "landmarks"}
    )
    return LOADERS["ravdess"](config)


def centre(weights):
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_landmarks_lie_where_the_face_shows_what_they_mark(release):
    images = load(release).images.astype(float)
    assert images.shape == (6, 48, 48, 2)
    change = np.abs(images[1:, ..., 0] - images[0, ..., 0])
    for seen, mask in zip(
        np.where(change > 0.4 * change.max((1, 2), keepdims=True), change, 0),
        images[1:, ..., 1],
        strict=True,
    ):
        assert mask.max() > 200
        np.testing.assert_allclose(centre(mask), centre(seen), atol=0.7)


def test_a_frame_without_a_face_has_a_black_mask_and_is_counted(release, capsys):
    made = table(np.vstack([[160, 150], SPOTS]))
    made.loc[2, "success"] = 0
    save(release, made.drop(index=4))  # and of one there is no row
    found = load(release)
    assert found.images[..., 1].any(axis=(1, 2)).tolist() == [True, True, False, True, False, True]
    assert re.search(r"\b2 of 6 frames have no landmarks", capsys.readouterr().out)
    assert np.isnan(found.extras["action_units"]).all(axis=1).tolist() == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_landmarks_of_another_size_or_none_at_all(release):
    save(release, table(np.vstack([[160, 150], SPOTS]) // 4))
    with pytest.raises(
        UserError,
        match=r"landmarks .* within the face",
    ):
        load(release)
    save(release, table(np.vstack([[160, 150], SPOTS])).drop(columns=["x_5", "y_60"]))
    with pytest.raises(UserError, match="no column x_5, y_60"):
        load(release)
    (release / "openface" / f"{CLIP}.csv").unlink()
    with pytest.raises(UserError, match=rf"openface/{CLIP}\.csv"):
        load(release)
    (release / "openface").rmdir()
    with pytest.raises(UserError, match="OpenFace's tables"):
        load(release)


def test_a_mask_is_the_brightest_of_its_spots():
    mask = openface.landmark_mask(
        np.array([[10.0, 20.0], [10.0, 20.0], [30.5, 8.0], [-9.0, 4.0]]), 48
    )
    assert (mask[20, 10], mask[8, 30], mask[8, 31]) == (
        255,
        *[round(255 * np.exp(-0.25 / 4.5))] * 2,
    )
    assert mask[20, 13] == round(255 * np.exp(-9 / 4.5))
    assert mask[40, 40] == 0
    assert not openface.landmark_mask(np.array([[10.0, np.nan]]), 48).any()


def test_a_table_that_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("frame, AU01_r\n1, 0.5\n")
    with pytest.raises(BadInput, match=r"no column x_0, x_1, .* 116 more"):
        openface.read(tmp_path / "a.csv", openface.LANDMARKS)
    numbers, values = openface.read(tmp_path / "a.csv", ("AU01_r",))
    assert (numbers.tolist(), values.tolist()) == ([1], [[0.5]])
