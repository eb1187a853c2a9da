"""Releases in the layouts of MEB's public code: columns, folders, subjects and codes; what is
missing is named.
"""

import re

import numpy as np
import openpyxl
import pytest

from fexpr.data.loaders import LOADERS
from fexpr.data.releases import workbook_format
from fexpr.data.releases.four_dme import mark_kept
from fexpr.errors import UserError
from tests.data import coded_release, samm_release

pytestmark = pytest.mark.usefixtures("no_release")
FOUND = {  # ids, subjects and units of the miniature releases
    "casme": (
        ["sub01_EP01_5", "sub01_EP03_02", "sub07_EP01_5", "sub09_EP07_1"],
        ["sub01", "sub01", "sub07", "sub09"],
        [{4, 10}, {12}, {1, 2}, {4}],
    ),
    "casme3a": (
        ["spNO.12_a_7", "spNO.1_a_20", "spNO.1_a_40", "spNO.1_b_7"],
        ["spNO.12", "spNO.1", "spNO.1", "spNO.1"],
        [{1, 2}, {4}, {12}, {14}],
    ),
    "mmew": (
        ["anger_S1-002", "happiness_S1-001", "others_S30-001", "surprise_S2-001"],
        ["S01", "S01", "S30", "S02"],
        [{4, 7}, {12}, {4}, {5}],
    ),
    "4dme": (
        ["sub03_3_2", "sub03_3_4", "sub14_14_1", "sub14_14_2"],
        ["sub03", "sub03", "sub14", "sub14"],
        [{4}, {12}, {1, 2}, set()],
    ),
}


def load(root, name, **changes):
    return LOADERS[name](samm_release.config(root, name=name, **changes))


def message(root, name, **changes):
    with pytest.raises(UserError) as e:
        load(root, name, **changes)
    return e.value.text()


def edit(folder, cell, value):
    path = next(folder.glob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    book.active[cell] = value
    book.save(path)


@pytest.mark.parametrize("name", FOUND)
def test_clips_subjects_and_units(tmp_path, name):
    coded_release.write(tmp_path, name)
    data = load(tmp_path, name)
    ids, subjects, units = FOUND[name]
    assert data.ids.tolist() == ids
    assert data.groups.tolist() == subjects
    numbers = [int(unit.removeprefix("AU")) for unit in data.class_names]
    assert [{n for n, x in zip(numbers, row, strict=True) if x} for row in data.labels] == units
    assert data.source.startswith(f"{name}@")
    # the middle moves to the right from onset to apex
    u = data.images[..., 0].astype(float)
    assert (u[:, 12:16, 12:16].mean((1, 2)) > u[:, :4].mean((1, 2)) + 40).all()


def test_micro_expressions_copied_out_of_their_videos(tmp_path):
    coded_release.write(tmp_path / "a", "casme3a", folders="part_A")
    coded_release.write(tmp_path / "b", "casme3a", folders="ME_A")
    assert (tmp_path / "b" / "casme3a" / "ME_A" / "spNO.1" / "a2" / "color").is_dir()
    videos, copies = (
        load(tmp_path / "a", "casme3a", align="none"),
        load(tmp_path / "b", "casme3a", align="none"),
    )
    assert videos.ids.tolist() == copies.ids.tolist()
    np.testing.assert_array_equal(videos.images, copies.images)


def test_two_copies_of_a_frame_must_be_the_same(tmp_path):
    folder = coded_release.write(tmp_path, "casme3a", folders="ME_A")
    second = folder / "ME_A" / "spNO.1" / "a2" / "color"
    third = second.parents[1] / "a3" / "color"
    third.mkdir(parents=True)
    for path in second.iterdir():
        (third / path.name).write_bytes(path.read_bytes())
    assert len(load(tmp_path, "casme3a", align="none")) == 4
    (third / "img43.jpg").write_bytes((third / "img40.jpg").read_bytes())
    text = message(tmp_path, "casme3a", align="none")
    assert "row 3, clip a: two files are apex frame 43 in" in text


def test_a_clip_of_mmew_in_a_folder_of_another_name(tmp_path):
    folder = coded_release.write(tmp_path, "mmew") / "Micro_Expression"
    before = load(tmp_path, "mmew")
    (folder / "others").rename(folder / "repression")
    (folder / "happiness").rename(folder / "Happiness")
    np.testing.assert_array_equal(load(tmp_path, "mmew").images, before.images)


def test_an_emotion_is_no_pattern(tmp_path):
    edit(coded_release.write(tmp_path, "mmew"), "G2", "[a-z]*")
    data = load(tmp_path, "mmew")  # found in the folder that holds it
    assert data.ids.tolist()[0] == "[a-z]*_S1-001"


@pytest.mark.parametrize(
    ("name", "cell", "value", "why"),
    [
        ("casme", "E2", "/", "row 2, clip EP01_5: apex frame is missing"),
        ("casme", "B2", "../EP01_5", "would lead to another folder"),
        ("casme", "I2", "4+x", "'x'"),
        ("casme3a", "D3", 39, "row 3, clip a: apex frame 39 is not after onset frame 40"),
        ("casme3a", "C3", 20, "row 3, clip a: this clip is already in row 2"),
        ("mmew", "D2", 9, "row 2, clip S1-001: no apex frame 9"),
        ("mmew", "B3", "S1-009", "Micro_Expression/anger/S1-009 does not exist"),
        ("mmew", "G2", "../mmew", "Estimated Emotion '../mmew' contains a slash"),
        ("mmew", "G2", "/etc", "Estimated Emotion '/etc' contains a slash"),
        ("mmew", "G2", "a\nb", "contains a character that is not printable"),
        ("mmew", "G2", " ", "row 2, clip S1-001: Estimated Emotion is missing"),
        ("4dme", "F1", "Units", "column 'AUs' is missing"),
        ("4dme", "C2", "x", "Onset is 'x', expected a whole number"),
    ],
)
def test_faults_are_named(tmp_path, name, cell, value, why):
    edit(coded_release.write(tmp_path, name), cell, value)
    assert why in message(tmp_path, name)


def test_two_spellings_of_a_subject(tmp_path):
    folder = coded_release.write(tmp_path, "casme3a")
    edit(folder, "A3", "spno.01")
    assert load(tmp_path, "casme3a").groups.tolist() == FOUND["casme3a"][1]
    (folder / "ME_A_cropped" / "spNO.01").mkdir()
    assert "the folders spNO.01 and spNO.1 are of one person" in message(tmp_path, "casme3a")


def test_macro_expressions_are_left_out_aloud(tmp_path, capsys):
    folder = coded_release.write(tmp_path, "casme3a")
    edit(folder, "I1", "Expression type")
    for row, text in enumerate(("Micro-expression", "Macro-expression", "micro", "Micro"), 2):
        edit(folder, f"I{row}", text)
    assert load(tmp_path, "casme3a").ids.tolist() == ["spNO.12_a_7", "spNO.1_a_20", "spNO.1_b_7"]
    assert re.search(
        r"\b1 rows are not micro-expressions", " ".join(capsys.readouterr().out.split())
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AU4+AU7(k)", "AU4+ref(AU7)"),
        ("AU4(k)", "ref(AU4)"),
        ("4 (K) + 7", "ref(4) + 7"),
        ("AU12", "AU12"),
    ],
)
def test_units_of_4dme_that_are_not_counted(code, expected):
    assert mark_kept(code) == expected


@pytest.mark.parametrize("text", ["spNO.6", "SPNO.06", "6", "s6"])
def test_one_name_for_a_subject(text):
    assert workbook_format.canonical_subject(text, "spNO.{}".format) == "spNO.6"
