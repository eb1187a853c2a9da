"""Movements in a video become rows, recognised by the flow from onset to apex; without any, one row
says so.
"""

import cv2
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.recognizer import Recognizer, spot_video
from fexpr.recognizer import __main__ as command
from tests.faces.test_spotting import photograph
from tests.recognizer.runs import FIXTURES
from tests.recognizer.test_video import film

RUN = FIXTURES / "run_format_1.zip"


@pytest.fixture(scope="module")
def moving():
    return Recognizer.restore(RUN)


@pytest.mark.long
def test_a_movement_is_a_row(moving, tmp_path):
    path = film(tmp_path / "brows.avi", list(photograph(shift=4.0, brows=4.0)), fps=30)
    table = moving.spot(path)
    assert len(table) == 1
    row = table.iloc[0]
    assert row["status"] == "ok"
    assert row["decision"] in moving.class_names
    assert 41 <= row["onset"] <= 49 <= row["apex"] <= 53 <= row["offset"] <= 61
    assert table.index[0] == f"{row['onset']} -> {row['apex']}"
    assert row["seconds"] == pytest.approx(row["onset"] / 30, abs=1e-3)
    assert row["duration"] == pytest.approx((row["offset"] - row["onset"]) / 30, abs=1e-3)
    assert "brow" in row["regions"]


@pytest.mark.long
def test_a_photograph_that_is_moved_about(tmp_path, capsys):
    path = film(tmp_path / "still.avi", list(photograph(shift=8.0, degrees=3.0))[:60], fps=30)
    assert command.main([str(RUN), "--video", str(path), "--spot"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("frame,decision,status,face,onset,apex,offset,seconds,duration,score")
    assert len(rows) == 1
    assert rows[0].startswith(",no facial movement,ok,")


def test_without_a_face(moving, tmp_path):
    path = film(tmp_path / "grey.avi", [np.full((120, 160, 3), 90, np.uint8)] * 8)
    table = moving.spot(path)
    assert table["decision"].tolist() == ["no face"]
    assert table[list(moving.class_names)].isna().all(axis=None)


def test_a_run_of_faces_spots_nothing(faces, tmp_path):
    with pytest.raises(UserError, match=r"'face'(.|\n)*flow"):
        Recognizer.restore(faces[0]).spot(tmp_path / "any.avi")


def test_a_face_that_is_gone_for_long_is_measured_anew():
    data = pytest.importorskip("skimage.data")
    head = cv2.resize(data.astronaut()[:256, 100:356], (200, 200))
    frames = [
        spot_video.Frame(i, i / 20, head if i < 6 or i >= 20 else np.zeros_like(head))
        for i in range(26)
    ]
    first, second = spot_video.measure(iter(frames))
    assert first.face == second.face == 0  # the same person
    assert first.numbers == list(range(6))
    assert second.numbers[-1] == 25
    assert second.seconds[0] - first.seconds[-1] > spot_video.GAP
