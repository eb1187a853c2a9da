"""FER2013 in every layout: the same rows, the CSV's ids, the official parts by name; counts and
copies are said; the synthetic set.
"""

import csv
import gzip
import os
import re
import shutil
import tarfile

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.linear_model import RidgeClassifier

from configs import base
from fexpr.data.loaders import LOADERS
from fexpr.data.releases import fer2013
from fexpr.data.releases.fer2013_rows import CLASSES, OFFICIAL
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it
pytestmark = pytest.mark.usefixtures("no_release")
COUNT = 150


def load(root="", **changes):
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


@pytest.fixture(scope="module")
def drawn():
    labels, parts = fer_faces.plan(COUNT, 0)
    return fer_faces.draw(labels, 0), labels, parts


def write(root, layout="csv", count=COUNT):
    fer_faces.write_synthetic(root / "fer2013", layout, count)
    return root / "fer2013"


def listing(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("layout", fer_faces.LAYOUTS)
def test_every_layout_gives_the_same_rows_and_leaves_the_release_alone(layout, tmp_path, drawn):
    folder = write(tmp_path, layout)
    before = listing(folder)
    data = load(tmp_path)
    assert listing(folder) == before
    images, labels, parts = drawn
    row = np.array([int(id_.split("_")[1]) for id_ in data.ids])
    assert sorted(row) == list(range(COUNT))
    np.testing.assert_array_equal(data.labels, labels[row])
    np.testing.assert_array_equal(data.split, parts[row])
    assert data.ids.tolist() == [f"{part}_{i}" for part, i in zip(parts[row], row, strict=True)]
    assert data.images.shape == (COUNT, 48, 48, 1)
    away = np.abs(data.images[..., 0].astype(int) - images[row])
    if layout in ("csv", "csv.gz", "icml", "icml.gz", "kaggle"):
        assert away.max() == 0
        assert row.tolist() == list(range(COUNT))  # the table's order
    else:
        assert away.mean() < 3  # JPEG
    assert data.class_names == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert data.groups.tolist() == data.ids.tolist()
    assert data.extras["dataset"].tolist() == data.split.tolist()
    assert data.kind == "face"
    assert data.source.startswith("fer2013@")


def test_the_second_time_only_the_cache_is_read(tmp_path, monkeypatch):
    write(tmp_path)
    first = load(tmp_path)
    monkeypatch.setattr(fer2013, "read", None)
    again = load(tmp_path)
    for name in ("images", "labels", "ids", "split"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.source == again.source
    with pytest.raises(TypeError):
        load(tmp_path, skip_clips="Training_0")  # other rows are prepared anew


def test_more_rows_than_one_record_holds(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(fer2013, "BLOCK", 40)
    write(tmp_path)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.images[..., 0], drawn[0])
    np.testing.assert_array_equal(data.labels, drawn[1])


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def test_names_of_folders_and_files(tmp_path):
    root = tmp_path / "fer2013" / "images"
    grey = np.full((48, 48), 90, np.uint8)
    for i, name in enumerate(
        ("Anger", "DISGUSTED", "fearful", "happiness", "sadness", "Surprised", "neutral")
    ):
        save(root / "Train" / name / f"Training_{i}.png", grey + i)
    for label in range(7):
        save(root / "PrivateTest" / str(label) / "7.png", grey + 10 + label)
    save(root / "public_test" / "happy" / "a b.JPG", grey + 20)
    save(root / "validation" / "sad" / "9.jpeg", grey + 21)
    save(root / "validation" / "sad" / "privatetest_8.png", grey + 22)
    # numbers of public copies repeat from class to class
    save(root / "train" / "fear" / "Training_0.png", grey + 23)
    (root / "Train" / "neutral" / ".DS_Store").write_bytes(b"x")
    (root / "README.md").write_text("no image")
    data = load(tmp_path)
    level = dict(
        zip(data.ids.tolist(), data.images.mean((1, 2, 3)).round().astype(int) - 90, strict=True)
    )
    label = dict(zip(data.ids.tolist(), data.labels.tolist(), strict=True))
    assert level == {
        "Training_angry_0": 0,
        "Training_fear_0": 23,
        **{f"Training_{i}": i for i in range(1, 7)},
        **{f"PrivateTest_{name}_7": 10 + i for i, name in enumerate(CLASSES)},
        "PublicTest_happy_a b": 20,
        "PublicTest_sad_9": 21,
        "PrivateTest_8": 22,
    }
    assert [label[f"Training_{i}"] for i in range(1, 7)] == [1, 2, 3, 4, 5, 6]
    assert label["Training_angry_0"] == 0
    assert (label["Training_fear_0"], label["PublicTest_happy_a b"], label["PrivateTest_8"]) == (
        2,
        3,
        4,
    )
    assert data.split.tolist() == ["Training"] * 8 + ["PublicTest"] * 2 + ["PrivateTest"] * 8


def test_colours_become_grey(tmp_path, drawn):
    grey = drawn[0][0]
    save(
        tmp_path / "fer2013" / "train" / "happy" / "Training_1.png",
        np.repeat(grey[..., None], 3, 2),
    )
    save(
        tmp_path / "fer2013" / "train" / "happy" / "Training_2.png",
        np.dstack([grey] * 3 + [np.full_like(grey, 255)]),
    )
    save(
        tmp_path / "fer2013" / "train" / "happy" / "Training_3.jpg",
        np.repeat(grey[..., None], 3, 2),
    )
    images = load(tmp_path).images[..., 0].astype(int)
    assert np.abs(images[0] - grey).max() <= 1
    assert np.abs(images[1] - grey).max() <= 1
    assert np.abs(images[2] - grey).mean() < 3


def test_of_several_layouts_the_csv_is_read_and_named(tmp_path, capsys):
    folder = write(tmp_path, "zip", 60)
    fer_faces.write_synthetic(tmp_path / "other", "kaggle", 70)
    shutil.move(tmp_path / "other" / "fer2013.tar.gz", folder)
    assert len(load(tmp_path)) == 60
    out = " ".join(capsys.readouterr().out.split())
    assert "read " in out
    assert "archive.zip; also there, and not read: fer2013.tar.gz" in out
    fer_faces.write_synthetic(tmp_path / "third", "icml", 80)
    shutil.move(tmp_path / "third" / "icml_face_data.csv", folder)
    assert len(load(tmp_path)) == 80
    assert "icml_face_data.csv; also there, and not read: archive.zip, fer2013.tar.gz" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_csv_in_a_larger_archive_and_in_a_folder(tmp_path):
    write(tmp_path / "plain", "icml", 60)
    table = tmp_path / "plain" / "fer2013" / "icml_face_data.csv"
    expected = load(tmp_path / "plain").images
    (tmp_path / "packed" / "fer2013").mkdir(parents=True)
    with tarfile.open(tmp_path / "packed" / "fer2013" / "all.tar.xz", "w:xz") as archive:
        save(tmp_path / "x.png", np.zeros((9, 9), np.uint8))
        # the table is preferred, and what else there is does not matter
        archive.add(tmp_path / "x.png", "train/happy/sample.png")
        (tmp_path / "icml_face_data.csv.gz").write_bytes(gzip.compress(table.read_bytes()))
        archive.add(tmp_path / "icml_face_data.csv.gz", "challenge/icml_face_data.csv.gz")
    np.testing.assert_array_equal(load(tmp_path / "packed").images, expected)
    (tmp_path / "deep" / "fer2013" / "fer2013").mkdir(parents=True)
    shutil.copy(table, tmp_path / "deep" / "fer2013" / "fer2013")
    np.testing.assert_array_equal(load(tmp_path / "deep").images, expected)


# --- what is said ------------------------------------------------------------------------------------------------------------


def rows_of(folder):
    with open(folder / "fer2013.csv", newline="") as f:
        return list(csv.reader(f))


def write_rows(folder, rows):
    with open(folder / "fer2013.csv", "w", newline="") as f:
        csv.writer(f).writerows(rows)


def counts(drawn):
    _, labels, parts = drawn
    return {
        part: tuple(np.bincount(labels[parts == part], minlength=7).tolist()) for part in OFFICIAL
    }


def test_official_counts_pass_in_silence_and_deviations_are_said(
    tmp_path, capsys, monkeypatch, drawn
):
    for part, official in counts(drawn).items():
        monkeypatch.setitem(OFFICIAL, part, official)
    folder = write(tmp_path)
    load(tmp_path)
    assert "official" not in capsys.readouterr().out
    header, *rows = rows_of(folder)
    write_rows(
        folder, [header, ["3", *rows[0][1:]], *(row for row in rows[1:] if row[2] != "PrivateTest")]
    )
    load(tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    was, happy = int(rows[0][0]), counts(drawn)["Training"][3]
    assert was != 3
    assert f"{happy + 1} happy (official: {happy})" in out
    assert f"{CLASSES[was]} (official: {counts(drawn)['Training'][was]})" in out
    assert out.count("(official:") == 2
    assert "PrivateTest is missing" in out


def test_swapped_test_parts_are_recognised(tmp_path, capsys, monkeypatch, drawn):
    write(tmp_path)
    found = counts(drawn)
    monkeypatch.setitem(OFFICIAL, "PublicTest", found["PrivateTest"])
    monkeypatch.setitem(OFFICIAL, "PrivateTest", found["PublicTest"])
    assert found["PublicTest"] != found["PrivateTest"]
    load(tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert "these are the counts of PrivateTest: are the two swapped?" in out
    assert "these are the counts of PublicTest: are the two swapped?" in out


def test_copies_across_parts_are_counted(tmp_path, capsys):
    folder = write(tmp_path)
    header, *rows = rows_of(folder)
    pixels = {part: [i for i, row in enumerate(rows) if row[2] == part] for part in OFFICIAL}
    for target, source in (
        (pixels["PublicTest"][0], 0),
        (pixels["PublicTest"][1], 1),
        (pixels["PrivateTest"][0], pixels["PublicTest"][5]),
        (5, 6),
    ):
        rows[target][1] = rows[source][1]
    write_rows(folder, [header, *rows])
    assert len(load(tmp_path)) == COUNT
    assert re.search(
        r"\b2 of PublicTest and 1 of PrivateTest; 1 within Training",
        " ".join(capsys.readouterr().out.split()),
    )


# --- synthetic ---------------------------------------------------------------------------------------------------------------


def test_without_a_release_faces_are_drawn_once(monkeypatch, capsys):
    data = load(synthetic_clips=COUNT)
    assert data.synthetic
    assert "official" not in capsys.readouterr().out
    assert dict(zip(*np.unique(data.split, return_counts=True), strict=True)) == {
        "Training": 120,
        "PublicTest": 15,
        "PrivateTest": 15,
    }
    monkeypatch.setattr(fer_faces, "draw", None)
    np.testing.assert_array_equal(load(synthetic_clips=COUNT).images, data.images)
    with pytest.raises(TypeError):
        load(synthetic_clips=COUNT, synthetic_seed=1)


def test_drawn_faces_have_the_official_shares_and_can_be_told_apart_but_not_by_all():
    labels, parts = fer_faces.plan(1500, 0)
    for part, official in OFFICIAL.items():
        share = np.bincount(labels[parts == part], minlength=7) / (parts == part).sum()
        np.testing.assert_allclose(
            share, np.array(official) / sum(official), atol=1 / (parts == part).sum()
        )
    images = fer_faces.draw(labels, 0)
    np.testing.assert_array_equal(images[:512], fer_faces.draw(labels[:512], 0))
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    small = images.reshape(-1, 24, 2, 24, 2).mean((2, 4)).reshape(len(images), -1)
    small = (small - small.mean(1, keepdims=True)) / small.std(1, keepdims=True)
    train = parts == "Training"
    score = (
        RidgeClassifier(300.0).fit(small[train], labels[train]).score(small[~train], labels[~train])
    )
    assert 0.35 < score < 0.75  # the largest class is a quarter


def test_only_known_layouts_and_labels(tmp_path):
    with pytest.raises(ValueError, match="layout 'rar'"):
        fer_faces.write_synthetic(tmp_path / "x", "rar", 10)
    with pytest.raises(UserError, match=r"labels.*\n.*fer2013, ferplus"):
        load(labels="fer+")


@pytest.mark.release
@pytest.mark.skipif(
    not os.path.isdir(os.path.join(RELEASE_ROOT or "", "fer2013")), reason="no FER2013 there"
)
def test_the_release_has_the_official_counts(capsys):
    data = load(RELEASE_ROOT)
    for part in np.unique(data.split):
        assert tuple(np.bincount(data.labels[data.split == part])) == OFFICIAL[part]
    assert len(data) in (32298, 35887)
    assert "official:" not in capsys.readouterr().out
    assert 0.45 < data.images.mean() / 255 < 0.55
