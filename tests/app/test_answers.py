"""What the page shows, without Gradio: it is what the recogniser answers elsewhere."""

import importlib.util

import cv2
import numpy as np
import pandas as pd
import pytest

from fexpr.app import answers
from fexpr.errors import UserError
from fexpr.recognizer import Recognizer
from tests.recognizer.runs import FIXTURES
from tests.recognizer.test_video import film

needs_portrait = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image, which has it, is missing"
)


@pytest.fixture(scope="module")
def head():
    import skimage.data

    return skimage.data.astronaut()[:256, 100:356]


@pytest.fixture(scope="module")
def expressions():
    return Recognizer.pretrained("fer2013", batch=2)


@needs_portrait
def test_a_photo_is_drawn_beside_the_table_of_predict(expressions, head, tmp_path):
    path = tmp_path / "anna & ben.png"
    cv2.imwrite(str(path), np.hstack([head, head[:, ::-1]])[..., ::-1])
    picture, rows = answers.photo(expressions, path, 0.9)
    expected = expressions.predict([path], fit="face")
    assert rows.index.tolist() == [path.name] * 2
    pd.testing.assert_frame_equal(rows.iloc[:, 1:], expected.set_axis(rows.index).iloc[:, 1:])
    assert picture.shape[0] >= 256
    assert picture.shape[1] > 512  # the panel
    shown, rows = answers.camera(expressions, head, 0.9)
    assert len(rows) == 1
    assert shown.ndim == 3


@needs_portrait
def test_the_coverage_decides_how_sure_it_must_be(expressions, head):
    dim = cv2.GaussianBlur(head, (0, 0), 6)
    sets = {level: answers.camera(expressions, dim, level)[1].iloc[0] for level in (0.5, 0.99)}
    assert sets[0.5]["decision"] == sets[0.5]["set"]
    assert " or " in sets[0.99]["set"]
    assert sets[0.99]["decision"] == "uncertain"
    shown = answers.bars(sets[0.99].to_frame().T, expressions.class_names)
    assert shown.count("class='held'") == sets[0.99]["set"].count(" or ") + 1
    assert shown.count("<tr>") == 7


def test_what_is_no_picture_is_a_message(expressions, tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(UserError, match=r"text\.jpg "):
        answers.photo(expressions, tmp_path / "text.jpg", 0.9)


@needs_portrait
def test_a_video_has_rows_decisions_and_an_example(expressions, head, tmp_path):
    dark = np.zeros_like(head)
    images = [np.hstack([head, head[:, ::-1] if 4 <= i < 8 else dark]) for i in range(12)]
    path = film(tmp_path / "talk.avi", images)
    steps = []
    found = answers.film(expressions, path, 0.9, 1, False, lambda *step: steps.append(step))
    rows = expressions.predict_video(path)
    assert found.rows.index.tolist() == rows.index.tolist()
    assert found.clips["rows"].tolist() == [12, 4]
    assert answers.persons(found.rows) == [0, 1]
    assert found.example.shape[1] > 512
    shares = [share for share, _ in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    line = answers.timeline(found.rows, expressions.class_names, 1)
    assert len(line) == 4 * 7
    np.testing.assert_allclose(line.groupby("seconds")["probability"].sum(), 1, rtol=1e-5)
    assert "mean log odds over 12 rows" in answers.bars(found.clips, expressions.class_names)


def test_long_timelines_are_thinned():
    count = 10 * answers.POINTS
    happy = np.linspace(0, 1, count)
    rows = pd.DataFrame(
        {"seconds": np.arange(count) / 25, "happy": happy, "status": "ok"},
    ).assign(face=pd.array([0] * count, dtype="Int64"))
    line = answers.timeline(rows, ["happy"], 0)
    assert len(line) == answers.POINTS
    np.testing.assert_allclose(line["probability"].mean(), 0.5, atol=1e-6)
    assert answers.timeline(rows, ["happy"], None).empty


def test_movements_of_a_run_on_flow(tmp_path):
    still = np.full((64, 64, 3), 90, np.uint8)
    moving = Recognizer.restore(FIXTURES / "run_format_1.zip")
    found = answers.film(moving, film(tmp_path / "still.avi", [still] * 8), 0.9, None, True)
    assert found.rows["decision"].tolist() == ["no face"]
    assert found.clips is None
    assert answers.coverages(moving) is None
    assert answers.at_coverage(moving, 0.5) is moving
    assert "no face" in answers.bars(found.rows, moving.class_names)


def test_names_from_files_are_shown_as_text():
    row = {"decision": "<script>", "status": "ok", "<b>": 0.75, "set": "<b>"}
    shown = answers.bars(pd.DataFrame([row]), ["<b>"])
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown


def test_a_table_is_saved_as_the_command_writes_it(tmp_path):
    rows = pd.DataFrame({"decision": ["happy"]}, index=pd.Index(["=cmd()"], name="image"))
    path = answers.save(rows, tmp_path / "1", "my.photo.png")
    assert path == str(tmp_path / "1" / "my.photo.csv")
    assert pd.read_csv(path)["image"].tolist() == ["'=cmd()"]
