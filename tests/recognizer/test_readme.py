"""What the documents say of trained models in Python, run word for word: every line of their
blocks.
"""

import re

import cv2
import numpy as np
import pytest

from tests.launching import ROOT
from tests.recognizer.runs import stored
from tests.recognizer.test_video import film


@pytest.mark.parametrize(
    ("document", "rows"), [("README.md", [1]), ("docs/use.md", [2, 2, 1, 1, 1])]
)
def test_the_lines_of_a_document(document, rows, faces, tmp_path, monkeypatch):
    portrait = pytest.importorskip("skimage.data").astronaut()
    text = (ROOT / document).read_text(encoding="utf-8")
    (block,) = (
        b for b in re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S) if "import Recognizer" in b
    )
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cnn_simple_fer2013").symlink_to(faces[0])
    (tmp_path / "runs" / "htnet_samm").symlink_to(stored(tmp_path))
    for name in ("photo.jpg", "anna.png", "ben.jpg", "onset.png", "apex.png"):
        moved = np.roll(portrait, name == "apex.png", axis=1)
        cv2.imwrite(str(tmp_path / name), moved[..., ::-1])
    film(tmp_path / "clip.avi", [portrait[:300, 80:380]] * 5).rename(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    names = {"images": np.random.default_rng(0).random((2, 3, 60, 60))}
    tables = []
    for line in block.splitlines():
        if line.startswith("r.predict"):
            tables.append(eval(line, names))
        else:
            exec(line, names)
    assert [len(table) for table in tables] == rows
    assert all("no face" not in table["decision"].tolist() for table in tables)
