"""The composite: any subset, maps or frames, classes by list or by emotion, people who never
collide, regions, and mistakes.
"""

import os
from unittest import mock

import numpy as np
import pytest
from ml_collections import ConfigDict

from fexpr.data.loaders import LOADERS
from fexpr.data.preparation import alignment, regions
from fexpr.data.releases import composite, flow_clips, megc2019, workbook
from fexpr.data.releases.clip_release import Release
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from tests.data import casme2_release as other
from tests.data import samm_release as mini

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it
pytestmark = pytest.mark.usefixtures("no_release")
SAMM = [
    ("006", "006_1_2", "negative"),
    ("007", "007_2_1", "positive"),
    ("011", "011_3_1", "surprise"),
]
CASME2 = [
    ("sub01", "EP02_01f", "positive"),
    ("sub01", "EP19_05f", "negative"),
    ("sub02", "EP02_01f", "surprise"),
]
SMIC = [("s1", "s1_ne_01", "negative"), ("s3", "s3_po_02", "positive")]


def load(root="", **changes):
    fields = {
        "name": "megc2019",
        "subsets": "auto",
        "regions": "whole",
        "skip_clips": "",
        **changes,
    }
    return LOADERS["megc2019"](mini.config(root, **fields))


def message(root="", **changes):
    with pytest.raises(UserError) as e:
        load(root, **changes)
    return e.value.text()


@pytest.fixture
def root(tmp_path):
    """Lists and maps of all three."""
    for name, rows in {"samm": SAMM, "casme2": CASME2, "smic": SMIC}.items():
        other.write_list(tmp_path / "data", name, rows)
    return tmp_path / "data"


# --- what is read ----------------------------------------------------------------------------------------------------------


def test_three_releases_become_one(root, capsys):
    data = load(root)
    assert data.class_names == ("negative", "positive", "surprise")
    assert data.labels.tolist() == [0, 1, 2, 1, 0, 2, 0, 1]
    assert data.groups.tolist() == [
        "samm/006",
        "samm/007",
        "samm/011",
        *["casme2/sub01"] * 2,
        "casme2/sub02",
        "smic/s1",
        "smic/s3",
    ]
    assert data.ids[[0, 3, 6]].tolist() == [
        "samm/006_1_2",
        "casme2/sub01_EP02_01f",
        "smic/s1_s1_ne_01",
    ]
    assert data.extras["dataset"].tolist() == ["samm"] * 3 + ["casme2"] * 3 + ["smic"] * 2
    assert data.extras["file"][3] == "flow/sub01_EP02_01f.png"
    assert "landmarks" not in data.extras
    assert data.source.startswith("samm+casme2+smic@")
    assert data.kind == "flow"
    for i, shift in enumerate([0, 1, 2, 0, 1, 2, 0, 1]):
        np.testing.assert_array_equal(data.images[i], np.roll(mini.ramp(), shift, 0))
    assert (
        "casme2 differs from the challenge: 1 negative (MEGC2019: 88), 1 positive (MEGC2019: 32)"
        in capsys.readouterr().out
    )


def test_the_order_of_a_list_plays_no_part(root):
    before = load(root)
    path = root / "samm" / "megc2019.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]))
    after = load(root)
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.images, before.images)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.source != before.source


def test_subsets(root):
    assert load(root, subsets="casme2, samm").source.startswith("samm+casme2@")
    assert len(load(root, subsets="smic")) == 2
    text = message(root, subsets="samm,casia,samm")
    assert "'casia' is not one of samm, casme2, smic, casme, casme3a, mmew, 4dme" in text
    (root / "smic").rename(root / "elsewhere")
    assert len(load(root)) == 6
    assert f"{root / 'smic'} is missing" in message(root, subsets="samm,smic")


def test_clips_are_left_out_by_data_set(root):
    assert len(load(root, skip_clips="casme2/sub02_EP02_01f")) == 7
    assert "casme2/sub01_EP02_01f" in message(root, skip_clips="EP02_01f")
    assert "sub09_EP02_01f" in message(root, skip_clips="casme2/sub09_EP02_01f")


def test_frames_are_classed_by_the_workbooks_emotion(tmp_path, capsys):
    mini.write_release(tmp_path)  # anger
    other.write_casme2(tmp_path)
    other.write_smic(tmp_path)
    data = load(tmp_path)
    assert data.ids[4:].tolist() == [
        "casme2/sub01_EP02_01f",
        "casme2/sub01_EP19_05f",
        "casme2/sub02_EP02_01f",
        "casme2/sub02_EP03_02",
        "smic/s1_s1_ne_01",
        "smic/s3_s3_sur_02",
    ]  # neither 'others', nor the clip without an apex
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 0, 2, 0, 0, 2]
    assert data.extras["file"][4] == "Cropped/sub01/EP02_01f/reg_img50.jpg"
    # the middle one
    assert (
        data.extras["file"][8]
        == "SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image032759.bmp"
    )
    assert data.images.std((1, 2)).min() > 0
    assert "CASME II: emotions that are left out: others (1)" in capsys.readouterr().out


def test_a_list_decides_over_the_workbook(tmp_path):
    folder = other.write_casme2(tmp_path)
    lines = [
        "dataset,subject,clip,emotion,flow",
        "casme2,sub05,EP13_01,negative,x.png",
        "casme2,sub02,EP03_02,surprise,x.png",
    ]
    (folder / "megc2019.csv").write_text("\n".join(lines))
    data = load(tmp_path)
    assert data.ids.tolist() == ["casme2/sub02_EP03_02", "casme2/sub05_EP13_01"]
    assert data.labels.tolist() == [2, 0]
    (folder / "megc2019.csv").write_text("\n".join([*lines, "casme2,sub09,EP13_01,negative,x.png"]))
    assert "line 4: sub09_EP13_01" in message(tmp_path)


def test_every_emotion_of_the_releases_has_its_class_or_takes_no_part():
    assert set(megc2019.EMOTIONS["samm"]) == {
        "anger",
        "contempt",
        "disgust",
        "fear",
        "sadness",
        "happiness",
        "surprise",
    }
    assert set(megc2019.EMOTIONS["casme2"]) == {"disgust", "repression", "happiness", "surprise"}
    assert {c for emotions in megc2019.EMOTIONS.values() for c in emotions.values()} == set(
        megc2019.CLASSES
    )


# --- regions -----------------------------------------------------------------------------------------------------------------


def test_regions_and_clips_without_landmarks(root, capsys):
    points = {f"{s}_{c}.png": alignment.TEMPLATE + i for i, (s, c, _) in enumerate(SAMM)}
    mini.write_landmarks(root / "samm" / "landmarks.csv", "flow", points)
    known = {
        "sub01_EP02_01f.png": alignment.TEMPLATE + [16, 8],
        "sub02_EP02_01f.png": alignment.TEMPLATE + [0, 24],
    }
    mini.write_landmarks(root / "casme2" / "landmarks.csv", "flow", known)
    text = message(root, regions="landmarks")
    assert "smic: none of its 2 clips has landmarks" in text
    assert "casme2" not in text
    whole = load(root, subsets="samm,casme2")
    cut = load(root, subsets="samm,casme2", regions="landmarks")
    assert "casme2: 1 of 3 clips have no landmarks" in capsys.readouterr().out
    expected = whole.extras["landmarks"].copy()
    assert np.isnan(expected[4]).all()
    expected[4] = alignment.TEMPLATE + [8, 16]  # between the two that its own data set has
    np.testing.assert_array_equal(cut.images, regions.join_regions(whole.images, expected))
    assert np.isnan(cut.extras["landmarks"][4]).all()
    assert message(root, regions="eyes").startswith("config.data.regions is 'eyes'")
    assert "divisible by 4" in message(root, regions="landmarks", image_size=30)


# --- synthetic ---------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_without_any_release_two_synthetic_ones_stand_in():
    data = load(synthetic_subjects=4, synthetic_clips=9, regions="landmarks")
    assert data.synthetic
    assert set(data.extras["dataset"]) == {"samm", "casme2"}
    assert 2 < len(set(data.groups)) <= 4
    assert np.isfinite(data.extras["landmarks"]).all()
    first, second = (data.images[data.extras["dataset"] == name] for name in ("samm", "casme2"))
    assert not any(np.array_equal(a, b) for a in first for b in second)


def test_the_synthetic_ones_share_subjects_and_clips(monkeypatch):
    drawn = []
    monkeypatch.setattr(composite, "synthetic_release", lambda *share: drawn.append(share))
    monkeypatch.setattr(flow_clips, "survey", lambda *_: mock.Mock(spec=Release))
    config = ConfigDict({"synthetic_subjects": 7, "synthetic_clips": 25, "synthetic_seed": 4})
    assert composite.synthetic(config, None).keys() == {"samm", "casme2"}
    assert drawn == [(3, 12, 4), (4, 13, 5)]  # subjects, clips, seed


def test_a_root_without_any_of_them_is_an_error(tmp_path):
    (tmp_path / "fer2013").mkdir()
    text = message(tmp_path)
    assert (
        f"looked for the folder {tmp_path / 'samm'} or {tmp_path / 'casme2'} or {tmp_path / 'smic'}"
        in text
    )


# --- mistakes ----------------------------------------------------------------------------------------------------------------


def test_all_bad_rows_of_a_list_are_named(root):
    path = root / "casme2" / "megc2019.csv"
    path.write_text(
        path.read_text() + "samm,sub03,EP1,negative,a.png\ncasme2,sub03,EP2,angry,a.png\n"
        "casme2,sub01,EP19_05f,negative,a.png\ncasme2,,EP4,negative,\n"
    )
    text = message(root)
    for found in (
        "line 5, sub03 EP1: dataset is 'samm'",
        "line 6, sub03 EP2: emotion is 'angry'",
        "line 7, sub01 EP19_05f: this clip is already in line 3",
        "line 8,  EP4: no subject",
        "line 8,  EP4: no flow",
    ):
        assert found in text
    assert text.count("\n  - ") == 5
    path.write_text("dataset,clip,emotion\n")
    assert "no column subject, flow" in message(root)


def test_missing_maps_and_lists(root):
    (root / "samm" / "flow" / "006_006_1_2.png").unlink()
    (root / "samm" / "flow" / "011_011_3_1.png").unlink()
    text = message(root)
    assert "line 2: " in text
    assert "011_011_3_1.png" in text
    for name in ("samm", "smic"):
        (root / name / "megc2019.csv").unlink()
        assert f"{root / name / 'megc2019.csv'} is missing" in message(root, subsets=name)


def test_short_smic_clips_are_all_listed(tmp_path):
    other.write_smic(tmp_path, frames=2)
    text = message(tmp_path)
    assert "s1_ne_01 holds 2 frames" in text
    assert "s3_sur_02 holds 2 frames" in text


# --- the real releases -------------------------------------------------------------------------------------------------------


@pytest.mark.release
@pytest.mark.skipif(not RELEASE_ROOT, reason="needs FEXPR_DATA_DIR")
def test_the_published_maps(capsys):
    data = load(RELEASE_ROOT, subsets="samm,casme2", regions="landmarks")
    assert len(data) == 278
    assert len(set(data.groups)) == 52
    for name in ("samm", "casme2"):
        assert (
            tuple(np.bincount(data.labels[data.extras["dataset"] == name]))
            == megc2019.OFFICIAL[name]
        )
    out = capsys.readouterr().out
    assert "differs from the challenge" not in out
    assert "casme2: 9 of 145 clips have no landmarks" in out
    split = ConfigDict({"protocol": "loso", "val_fraction": 0.2, "seed": 42})
    folds = make_folds(split, data)
    assert len(folds) == 52
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(278))
    assert all(
        len(np.unique(data.labels[rows])) == 3 for fold in folds for rows in (fold.train, fold.val)
    )


@pytest.mark.release
@pytest.mark.skipif(not RELEASE_ROOT, reason="needs FEXPR_DATA_DIR")
def test_the_workbook_of_samm_gives_the_challenges_classes():
    def release(listed):
        return LOADERS["megc2019"](
            mini.config(listed, name="megc2019", subsets="samm", regions="whole", skip_clips="")
        )

    published = release(RELEASE_ROOT)
    table = workbook.read_workbook(workbook.find_workbook(f"{RELEASE_ROOT}/samm"))
    table = megc2019._select(
        megc2019.SAMM, None, None, table.assign(id=table["clip"]), None
    ).sort_values("id")
    assert ("samm/" + table["id"]).tolist() == published.ids.tolist()
    assert table["emotion"].tolist() == [published.class_names[label] for label in published.labels]
