"""What is wrong with a SAMM on disk, or in how it is asked for, is one clear message with
everything in it.
"""

import shutil

import cv2
import numpy as np
import pytest

from fexpr.data.preparation import alignment
from tests.data import samm_release as mini

pytestmark = pytest.mark.usefixtures("no_release")


def test_missing_frames_are_all_listed_before_any_flow(tmp_path, counted):
    folder = mini.write_release(tmp_path) / "SAMM_Normalized_TM"
    (folder / "sub006" / "006_1_2" / "006_00010.png").unlink()
    (folder / "sub006" / "006_1_3" / "006_00033.png").unlink()
    shutil.rmtree(folder / "sub007")
    shutil.rmtree(folder / "sub011" / "011_3_1")
    (folder / "sub011" / "011_3_1").mkdir()
    text = mini.message(tmp_path)
    assert "row 15, clip 006_1_2: no onset frame 10" in text
    assert "holds frames 11..18" in text
    assert "row 16, clip 006_1_3: no apex frame 33" in text
    assert "row 17, clip 007_2_1: " in text
    assert f"{folder / '007' / '007_2_1'} does not exist" in text
    assert "contains no frames" in text
    assert "skip_clips" in text
    assert not counted


def test_files_that_are_no_images_are_all_listed(tmp_path, cache):
    folder = mini.write_release(tmp_path) / "SAMM_Normalized_TM"
    (folder / "sub006" / "006_1_2" / "006_00010.png").write_bytes(b"not an image")
    (folder / "sub007" / "007_2_1" / "007_00009.png").write_bytes(b"")
    cv2.imwrite(str(folder / "sub006" / "006_1_3" / "006_00033.png"), np.zeros((40, 48), np.uint8))
    whole = folder / "sub011" / "011_3_1" / "011_00104.png"
    jpeg = cv2.imencode(".jpg", mini.texture(1).astype(np.uint8))[1].tobytes()
    whole.write_bytes(jpeg[: len(jpeg) // 2])  # a copy that broke off
    text = mini.message(tmp_path)
    assert "006_1_2: " in text
    assert "006_00010.png is not an image, or is cut off (12 bytes)" in text
    assert "007_00009.png is not an image, or is cut off (0 bytes)" in text
    assert "006_00033.png has (48, 40) pixels, the onset frame 006_00030.png has (48, 48)" in text
    assert "011_00104.png is cut off" in text
    assert not list(cache.rglob("records"))


def test_maps_of_another_kind_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path, "flow") / "flow"
    cv2.imwrite(str(folder / "006_006_1_2.png"), np.zeros((32, 30, 3), np.uint8))
    cv2.imwrite(str(folder / "006_006_1_3.png"), np.zeros((28, 28), np.uint8))
    cv2.imwrite(str(folder / "007_007_2_1.png"), np.zeros((28, 28, 3), np.uint16))
    cv2.imwrite(str(folder / "011_011_3_1.png"), np.zeros((28, 28, 4), np.uint8))
    text = mini.message(tmp_path)
    assert "007_007_2_1.png has 16 bits per channel" in text
    for found in ("30x32 RGB uint8", "28x28 grey uint8", "28x28 RGBA uint8"):
        assert f"is {found}, expected 28x28 RGB uint8" in text


def test_a_map_of_no_clip_is_an_error(tmp_path):
    folder = mini.write_release(tmp_path, "flow") / "flow"
    (folder / "006_006_1_2.png").rename(folder / "006_006_1_22.png")
    assert "006_006_1_22.png" in mini.message(tmp_path)


def test_bad_frame_numbers_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path)
    mini.rewrite(folder, apex={"006_1_2": 10, "006_1_3": 29}, onset={"007_2_1": None})
    text = mini.message(tmp_path)
    assert "clip 006_1_2: apex frame 10 is not after onset frame 10" in text
    assert "clip 006_1_3: apex frame 29 is not after onset frame 30" in text
    assert "clip 007_2_1: onset frame is missing" in text
    mini.write_maps(folder / "flow")
    assert len(mini.load(tmp_path, layout="flow")) == 4  # maps need no frame numbers


def test_unreadable_codes_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path, "flow")
    mini.rewrite(folder, code={"006_1_2": "4+x7", "011_3_1": "999"})
    text = mini.message(tmp_path)
    assert "SAMM_Micro_FACS_Codes_v2.xlsx row 15, clip 006_1_2: 'x7'" in text
    assert "row 18, clip 011_3_1: '999'" in text


def test_an_empty_release_says_what_it_looked_for(tmp_path):
    folder = tmp_path / "samm"
    folder.mkdir()
    text = mini.message(tmp_path)
    for looked_for in (
        "SAMM (frames)",
        "SAMM_Normalized_TM (frames)",
        "flow (flow)",
        "it holds nothing",
    ):
        assert looked_for in text
    mini.write_maps(folder / "flow")
    assert "no FACS workbook" in mini.message(tmp_path)


def test_an_action_unit_column_without_codes_is_an_error(tmp_path):
    folder = mini.write_release(tmp_path, "flow")
    mini.rewrite(folder, code={clip[1]: None for clip in mini.CLIPS})
    assert "'Action Units'" in mini.message(tmp_path)


def test_landmarks_that_do_not_cover_every_clip(tmp_path):
    folder = mini.write_release(tmp_path)
    mini.write_landmarks(
        folder / "landmarks.csv",
        "clip",
        {"006_1_2": alignment.TEMPLATE, "007_2_1": alignment.TEMPLATE},
    )
    text = mini.message(tmp_path)
    assert "row 16, clip 006_1_3: no row" in text
    assert "row 18, clip 011_3_1: no row" in text


def test_landmarks_of_flow_maps_do_not_align_frames(tmp_path, capsys):
    folder = mini.write_release(tmp_path)
    mini.write_landmarks(folder / "landmarks.csv", "flow", {"006_006_1_2.png": alignment.TEMPLATE})
    assert "landmarks" not in mini.load(tmp_path).extras
    assert "are ignored" in capsys.readouterr().out
    assert "there are no landmarks for the frames" in mini.message(tmp_path, align="landmarks")


def test_frames_without_a_face_are_all_listed(tmp_path):
    pytest.importorskip("skimage")
    mini.write_release(tmp_path)
    text = mini.message(tmp_path, align="detect")
    assert text.count("no face found") == 4


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": "all"},
        {"vocabulary": "4,3"},
        {"vocabulary": "4,4"},
        {"vocabulary": ""},
        {"layout": "video"},
        {"align": "dlib"},
        {"alternatives": "some"},
    ],
)
def test_config_values_that_do_not_exist(change, tmp_path):
    mini.write_release(tmp_path)
    ((field, value),) = change.items()
    text = mini.message(tmp_path, **change)
    assert field in text
    assert repr(value) in text
