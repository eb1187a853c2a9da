"""What is wrong with a FER2013 on disk is listed, all of it, with file and row; nothing is
swallowed and nothing prepared.
"""

import csv
import io
import os
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from fexpr.data.loaders import LOADERS
from fexpr.data.releases.fer2013_rows import OFFICIAL
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError

PIXELS = " ".join(["7"] * 2304)
HEADER = ["emotion", "pixels", "Usage"]


def load(root, **changes):
    return LOADERS["fer2013"](
        ConfigDict(
            {
                **base.get_config().data,
                "name": "fer2013",
                "labels": "fer2013",
                "root": str(root),
                **changes,
            }
        )
    )


def error(root, **changes) -> UserError:
    with pytest.raises(UserError) as e:
        load(root, **changes)
    return e.value


def table(root, *rows, header=HEADER):
    (root / "fer2013").mkdir(exist_ok=True)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows] if header else rows)
    (root / "fer2013" / "fer2013.csv").write_text(text.getvalue())


def files(root, changes, layout="folders"):
    """A small release with files added or replaced: name -> bytes."""
    fer_faces.write_synthetic(root / "drawn", "folders", 40)
    for name, data in changes.items():
        path = root / "drawn" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "fer2013").mkdir()
    if layout == "zip":
        shutil.make_archive(str(root / "fer2013" / "archive"), "zip", root / "drawn")
    elif layout == "tar.gz":
        shutil.make_archive(str(root / "fer2013" / "images"), "gztar", root / "drawn")
    else:
        shutil.copytree(root / "drawn", root / "fer2013", dirs_exist_ok=True)


def encoded(shape=(48, 48), suffix=".jpg", value=80):
    noise = np.random.default_rng(0).integers(0, value, shape, dtype=np.uint8)
    return cv2.imencode(suffix, noise)[1].tobytes()


def test_every_bad_row_of_a_csv_is_listed(tmp_path, cache):
    good = ["3", PIXELS, "Training"]
    table(
        tmp_path,
        good,
        ["7", PIXELS, "Training"],
        ["-1", PIXELS, "Training"],
        ["", PIXELS, "Training"],
        ["3", PIXELS, "training"],
        ["3", "7 8 9", "Training"],
        ["3", PIXELS + " 7", "PublicTest"],
        ["3", PIXELS.replace("7", "256", 1), "Training"],
        ["3", PIXELS.replace("7", "-2", 1), "Training"],
        ["3", PIXELS.replace("7", "7.5", 1), "Training"],
        ["3", PIXELS.replace("7", "nan", 2), "Training"],
        ["3", "", "Training"],
        ["3"],
        ["x", "7", "Test"],
        good,
        ["3", PIXELS.replace("7", "99999999999999999999", 1), "Training"],
    )
    e = error(tmp_path)
    parts = "expected one of Training, PublicTest, PrivateTest"
    assert str(tmp_path / "fer2013" / "fer2013.csv") in e.title
    assert e.problems[:-1] == (
        "line 3: emotion is '7', expected 0 to 6",
        "line 4: emotion is '-1', expected 0 to 6",
        "line 5: emotion is '', expected 0 to 6",
        f"line 6: Usage is 'training', {parts}",
        "line 7: 3 pixels, expected 2304 (48x48)",
        "line 8: 2305 pixels, expected 2304 (48x48)",
        "line 9: pixels from 7 to 256, expected 0 to 255",
        "line 10: pixels from -2 to 7, expected 0 to 255",
        "line 11: pixels that are not whole numbers: '7.5'",
        "line 12: pixels that are not whole numbers: 'nan', 'nan'",
        "line 13: 0 pixels, expected 2304 (48x48)",
        "line 14: 1 fields, expected emotion, pixels and Usage",
        "line 15: emotion is 'x', expected 0 to 6",
        f"line 15: Usage is 'Test', {parts}",
        "line 15: 1 pixels, expected 2304 (48x48)",
    )
    assert e.problems[-1].startswith("line 17: ")
    assert not list(cache.rglob("records"))


@pytest.mark.parametrize(
    ("rows", "header", "found"),
    [
        ([], None, "no column emotion"),
        ([], HEADER, "contains no images"),
        ([["3", PIXELS]], ["emotion", "pixels"], "no column Usage"),
        ([["3", PIXELS, "Training"]], None, "no column pixels"),
    ],
)
def test_files_that_are_no_table(rows, header, found, tmp_path):
    table(tmp_path, *rows, header=header)
    assert found in error(tmp_path).text()


def test_a_csv_that_is_cut_off(tmp_path):
    fer_faces.write_synthetic(tmp_path / "fer2013", "csv", 30)
    path = tmp_path / "fer2013" / "fer2013.csv"
    path.write_bytes(path.read_bytes()[:-3000])
    assert [problem.split(":")[0] for problem in error(tmp_path).problems] == ["line 31"]


@pytest.mark.parametrize("layout", ["folders", "zip", "tar.gz"])
def test_every_bad_image_is_listed(layout, tmp_path, capfd):
    jpg, png = encoded(), encoded(suffix=".png")
    faults = {
        "train/happy/Training_900.jpg": (jpg[: len(jpg) // 2], "is cut off"),
        "train/happy/Training_901.jpg": (jpg[:-2], "is cut off"),
        "train/happy/Training_902.png": (png[:-30], "is cut off"),
        "train/happy/Training_903.jpg": (b"", "is not a JPEG or PNG"),
        "train/happy/Training_904.jpg": (b"GIF89a nonsense", "is not a JPEG or PNG"),
        "train/happy/notes.txt": (b"x", "is not a JPEG or PNG"),
        "train/happy/Training_905.jpg": (encoded((48, 47)), "is 47x48, expected 48x48"),
        "train/happy/Training_906.jpg": (encoded((96, 96)), "is 96x96, expected 48x48"),
        "train/contempt/Training_907.jpg": (jpg, "class one of angry, disgust"),
        "samples/a.jpg": (jpg, "expected <part>/<class>/<file>"),
        "train/happy/PublicTest_908.jpg": (jpg, "an image of PublicTest in the folder train"),
        "test/happy/Training_909.jpg": (jpg, "an image of Training in the folder test"),
        "other/train/happy/Training_910.jpg": (jpg, ""),
        "train/happy/Training_910.jpg": (jpg, ""),
    }
    files(tmp_path, {name: data for name, (data, _) in faults.items()}, layout)
    problems = sorted(error(tmp_path).problems)
    copies = [problem for problem in problems if "was already found in" in problem]
    assert len(copies) == 1
    assert "Training_happy_910 was already found" in copies[0]
    for name, (_, found) in faults.items():
        if found:
            (problem,) = (problem for problem in problems if problem.startswith(f"{name}: "))
            assert found in problem
    assert len(problems) == len(faults) - 1
    assert capfd.readouterr().err == ""  # the decoders do not talk


def test_images_of_no_part_are_asked_for_their_part(tmp_path):
    files(
        tmp_path,
        {"test/happy/im0.jpg": encoded(), "test/happy/im1.jpg": encoded(), "test/sad/x.png": b""},
    )
    e = error(tmp_path)
    assert "whether these images belong to PublicTest or PrivateTest" in e.title
    assert e.problems == ("test/happy: 2 images", "test/sad: 1 images")
    assert "PublicTest_*.jpg" in e.fix
    assert "column Usage" in e.fix


def test_a_validation_folder_that_holds_more_than_public_test(tmp_path, monkeypatch):
    monkeypatch.setitem(OFFICIAL, "PublicTest", (1, 0, 0, 1, 0, 0, 0))
    names = [f"validation/happy/{i}.png" for i in range(3)]
    files(tmp_path, dict.fromkeys(names, encoded(suffix=".png")))
    assert error(tmp_path).problems == (
        "3 images without PublicTest in their names are in its folder; the official "
        "PublicTest has 2",
    )


@pytest.mark.parametrize("layout", ["csv.gz", "kaggle", "zip", "tar.xz", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "junk"])
def test_damaged_archives(layout, damage, tmp_path):
    fer_faces.write_synthetic(tmp_path / "fer2013", layout, 40)
    path = max((tmp_path / "fer2013").iterdir(), key=lambda path: path.stat().st_size)
    path.write_bytes(
        path.read_bytes()[: path.stat().st_size * 2 // 3] if damage == "cut" else b"junk" * 999
    )
    assert error(tmp_path).title.startswith(f"{path} is damaged, or cannot be read: ")


def test_damaged_members_of_a_zip_are_all_listed(tmp_path):
    fer_faces.write_synthetic(tmp_path / "fer2013", "zip", 40)
    path = tmp_path / "fer2013" / "archive.zip"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        members = [archive.infolist()[i] for i in (3, 8)]
    for member in members:
        data[member.header_offset + 600] ^= 255
    path.write_bytes(data)
    assert [problem.split(":")[0] for problem in error(tmp_path).problems] == [
        member.filename for member in members
    ]


def test_archives_without_images_and_links(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "README.txt").write_text("nothing")
    (tmp_path / "fer2013").mkdir()
    shutil.make_archive(str(tmp_path / "fer2013" / "a"), "tar", tmp_path / "x")
    assert "contains no images" in error(tmp_path).text()
    os.symlink("README.txt", tmp_path / "x" / "link.jpg")
    shutil.make_archive(str(tmp_path / "fer2013" / "a"), "tar", tmp_path / "x")
    assert "is a link" in error(tmp_path).text()


def test_faulty_images_can_be_left_out(tmp_path):
    bad = {"train/happy/Training_900.jpg": b"", "train/sad/Training_901.jpg": b""}
    files(tmp_path, bad)
    assert len(error(tmp_path, skip_clips="Training_900").problems) == 1
    assert len(load(tmp_path, skip_clips="Training_900, Training_sad_901")) == 40
    e = error(tmp_path, skip_clips="Training_900, Training_901, Training_999")
    assert e.problems == ("Training_999",)


def test_a_folder_without_any_layout(tmp_path):
    (tmp_path / "fer2013").mkdir()
    (tmp_path / "fer2013" / "train.csv").write_text("emotion,pixels\n")
    text = error(tmp_path).text()
    assert "contains no FER2013" in text
    assert "holds train.csv" in text
    assert "fer2013.csv" in text
