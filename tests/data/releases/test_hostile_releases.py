"""What people's copies of releases hold beside, or instead of, what they should: hidden files, copies,
other spellings, tables of other programs. Read right, or refused with the place named."""

import csv
import gzip
import os
import re
import shutil
import time
import warnings
import zipfile

import cv2
import numpy as np
import openpyxl
import pytest

from configs import base
from fexpr.data import data_sets
from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.data.preparation import openface, prepare
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases import ferplus, megc2019, workbook, workbook_format
from fexpr.data.releases.clip_files import numbered_frames
from fexpr.data.synthetic import fer_faces, ravdess_clips
from fexpr.errors import UserError
from tests.data import casme2_release as other
from tests.data import samm_release as mini

pytestmark = pytest.mark.usefixtures("no_release")
BOOK = "SAMM_Micro_FACS_Codes_v2.xlsx"


def load(name, folder, **fields):
    config = base.get_config().data
    config.update({"name": name, "root": str(folder.parent), "source": "release", **fields})
    return data_sets.load(config)


def message(name, folder, **fields):
    with pytest.raises(UserError) as e:
        load(name, folder, **fields)
    return e.value.text()


def edit(folder, change):
    path = next(folder.glob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    change(book.active)
    book.save(path)


# --- frames and workbooks ------------------------------------------------------------------------


def test_hidden_files_and_copies_are_no_frames(tmp_path):
    folder = mini.write_release(tmp_path)
    whole = mini.load(tmp_path)
    for path in list(folder.rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7Mac OS X")
        for copy in (f"{path.stem} (1).png", f"{path.stem} - Copy.png", f"{path.stem} copy 2.png"):
            path.with_name(copy).write_bytes(b"older")
    (folder / f"._{BOOK}").write_bytes(b"\0\5\26\7Mac OS X")
    found = mini.load(tmp_path)
    np.testing.assert_array_equal(found.images, whole.images)
    assert found.source == whole.source


@pytest.mark.parametrize(
    "text", ["6", "06", "006", "s6", "S06", "sub006", "Sub6", "subject 6", " 6 "]
)
def test_one_person_has_one_name_however_it_is_spelled(text):
    assert workbook_format.canonical_subject(text, workbook_format.SAMM.subject) == "006"
    assert workbook_format.canonical_subject(text, workbook_format.CASME2.subject) == "sub06"


def test_what_is_no_number_stays(tmp_path):
    assert workbook_format.canonical_subject(" anna ", workbook_format.SAMM.subject) == "anna"
    assert workbook_format.canonical_subject("6b", workbook_format.SAMM.subject) == "6b"


def test_spellings_of_a_person_in_one_workbook(tmp_path):
    folder = mini.write_release(tmp_path)
    edit(folder, lambda sheet: (sheet.__setitem__("A15", "s6"), sheet.__setitem__("A16", 6)))
    assert mini.load(tmp_path).groups.tolist() == ["006", "006", "007", "011"]


def test_two_folders_of_one_person(tmp_path):
    frames = mini.write_release(tmp_path) / "SAMM_Normalized_TM"
    shutil.copytree(frames / "sub006", frames / "006")
    assert "the folders 006 and sub006 are of one person" in mini.message(tmp_path)


def test_subjects_that_differ_in_case_or_zeros_alone():
    def data_set(*groups):
        n = len(groups)
        images, ids = np.zeros((n, 8, 8, 1), np.uint8), np.array([f"i{k}" for k in range(n)])
        return Dataset(images, np.zeros(n, np.int32), np.array(groups), ids, ("a", "b"), "test")

    config = base.get_config().data
    config.name = "spelled"
    try:
        for groups in (("sub01", "Sub01"), ("1", "01"), ("s_1", "s1"), ("actor 2", "Actor02")):
            LOADERS["spelled"] = lambda _, groups=groups: data_set(*groups)
            with pytest.raises(UserError, match="case, zeros or blanks"):
                data_sets.load(config)
        LOADERS["spelled"] = lambda _: data_set("s1", "s10", "t1", "s1")
        assert len(data_sets.load(config)) == 4
    finally:
        del LOADERS["spelled"]


@pytest.mark.parametrize(
    ("clip", "why"),
    [
        ("../../x", "another folder"),
        ("a\tb", "not printable"),
        ("x" * 250, "longer than"),
        ("..", ""),
    ],
)
def test_a_clip_name_never_leads_out_of_its_folder(tmp_path, clip, why):
    folder = mini.write_release(tmp_path)
    edit(folder, lambda sheet: sheet.__setitem__("B15", clip))
    before = sorted(tmp_path.parent.rglob("*"))
    text = mini.message(tmp_path)
    assert "row 15" in text
    assert why in text
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("cell", ["A1048576", "XFD15", "XFD1048576", "BXX30000"])
def test_a_stray_blank_cell_costs_nothing(tmp_path, cell):
    folder = mini.write_release(tmp_path)
    edit(folder, lambda sheet: sheet.__setitem__(cell, " "))
    began = time.process_time()
    assert len(workbook.read_workbook(folder / BOOK)) == 4
    assert time.process_time() - began < 8


def test_a_formula_is_not_what_was_typed(tmp_path):
    folder = mini.write_release(tmp_path)
    edit(folder, lambda s: (s.__setitem__("I15", "=4+7"), s.__setitem__("D16", "=30")))
    text = mini.message(tmp_path)
    assert "row 15, clip 006_1_2: Action Units is the formula =4+7" in text
    assert "row 16, clip 006_1_3: Onset Frame is the formula =30" in text


def test_workbooks_that_are_none(tmp_path):
    folder = mini.write_release(tmp_path)
    (folder / BOOK).rename(folder / "SAMM_Micro_FACS_Codes_v2.xls")
    assert "save it as .xlsx" in mini.message(tmp_path)
    (folder / BOOK).mkdir()
    assert "is a folder" in mini.message(tmp_path)
    (folder / BOOK).rmdir()
    with zipfile.ZipFile(folder / BOOK, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(10**8))
    assert "unpacks to 100,000,000 bytes" in mini.message(tmp_path)


def test_a_document_type_is_refused(tmp_path):
    folder = mini.write_release(tmp_path)
    declared = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    shutil.copy(folder / BOOK, tmp_path / "whole.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "whole.xlsx") as whole,
        zipfile.ZipFile(folder / BOOK, "w") as changed,
    ):
        for name in whole.namelist():
            changed.writestr(name, declared * name.endswith("sheet1.xml") + whole.read(name))
    assert "sheet1.xml declares a document type" in mini.message(tmp_path)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([0] * 10, "within 4 pixels"),
        ([100 + 0.001 * (i % 3) for i in range(10)], "within 4 pixels"),
        ([1e308 * (-1) ** i for i in range(10)], "left_eye_x is"),
        ([1e30 * (i + 1) for i in range(10)], "left_eye_x is"),
        (["1_0"] * 10, "left_eye_x is '1_0'"),
        (["nan"] * 10, "left_eye_x is 'nan'"),
        ([-100_000 + 20_000 * i for i in range(10)], "not those of a face|left_eye"),
    ],
)
def test_landmarks_of_no_face(tmp_path, points, why):
    folder = mini.write_release(tmp_path, "frames")
    path = folder / "landmarks.csv"
    lines = path.read_text().splitlines()
    lines[1] = ",".join([lines[1].partition(",")[0], *map(str, points)])
    path.write_text("\n".join(lines) + "\n")
    began = time.process_time()
    with pytest.raises(UserError, match=why):
        mini.load(tmp_path)
    assert time.process_time() - began < 30  # LAPACK iterates over numbers near 1e308 for ever


def test_a_lossy_map_under_a_lossless_name(tmp_path):
    path = mini.write_release(tmp_path, "flow") / "flow" / "006_006_1_2.png"
    path.write_bytes(cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes())
    assert "is a JPEG" in mini.message(tmp_path)


def test_an_apex_between_blanks_is_the_documented_sign(tmp_path):
    folder = other.write_casme2(tmp_path)
    for row in range(2, 8):
        edit(
            folder,
            lambda s, row=row: (
                s.__setitem__(f"E{row}", " / ") if s[f"E{row}"].value == "/" else None
            ),
        )
    table = workbook.read_workbook(next(folder.glob("*.xlsx")), workbook_format.CASME2)
    assert table["apex"].isna().sum() == 1


def test_the_challenges_list_is_applied_to_smics_frames(tmp_path, capsys):
    other.write_smic(
        tmp_path,
        (
            ("s1", "negative", "s1_ne_01"),
            ("s1", "positive", "s1_po_01"),
            ("s3", "surprise", "s3_sur_02"),
        ),
    )
    (tmp_path / "smic" / megc2019.LIST).write_text(
        "dataset,subject,clip,emotion,flow\nsmic,S01,s1_ne_01,negative,a.png\n"
        "smic,s3,s3_sur_02,positive,b.png\nsmic,s9,s9_ne_01,negative,c.png\n"
    )
    found = load("megc2019", tmp_path / "smic")
    assert found.ids.tolist() == ["smic/s1_s1_ne_01", "smic/s3_s3_sur_02"]
    assert found.labels.tolist() == [0, 1]
    out = " ".join(capsys.readouterr().out.split())
    assert "line 3: s3_s3_sur_02 is positive, its folder says surprise" in out
    assert "line 4: there are no frames of s9_s9_ne_01" in out
    assert re.search(r"\b1 clips are not in megc2019\.csv", out)
    assert "smic has 2 subjects, the challenge 16" in out


def test_pipes_devices_and_sparse_files_under_the_names_of_frames(tmp_path):
    folder = mini.write_release(tmp_path) / "SAMM_Normalized_TM"
    pipe = folder / "sub006" / "006_1_2" / "006_00010.png"
    pipe.unlink()
    os.mkfifo(pipe)
    os.truncate(folder / "sub006" / "006_1_3" / "006_00033.png", 10**12)
    text = mini.message(tmp_path)
    assert "006_00010.png: is a pipe" in text
    assert "006_00033.png: has 1,000,000,000,000 bytes" in text


def _put(kind, path):
    """Replaces a folder, or puts something where none is."""
    shutil.rmtree(path, ignore_errors=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/unmounted")
    else:
        path.write_bytes(b"PK")


@pytest.mark.parametrize("kind", ["file", "pipe", "link"])
def test_something_else_in_the_place_of_a_folder_is_named(tmp_path, kind):
    mini.write_release(tmp_path)
    other.write_smic(tmp_path)
    fer_faces.write_synthetic(tmp_path / "fer2013", "folders", 40)
    ravdess_frames = tmp_path / "ravdess" / "frames"
    ravdess_frames.mkdir(parents=True)
    own = tmp_path / "own" / "p1" / "calm"
    own.mkdir(parents=True)
    clip = "smic/SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01"
    for name, fields, place in (
        ("megc2019", {"subsets": "samm,smic"}, clip),
        ("megc2019", {"subsets": "samm,smic"}, clip.rpartition("/")[0]),
        ("megc2019", {"subsets": "samm,smic"}, "smic/SMIC_all_cropped/HS/s1"),
        ("megc2019", {"subsets": "samm,smic"}, "smic"),
        ("samm", {}, "samm/SAMM_Normalized_TM/sub006/006_1_2"),
        ("samm", {}, "samm/SAMM_Normalized_TM/sub006"),
        ("samm", {}, "samm/SAMM_Normalized_TM"),
        ("samm", {}, "samm"),
        ("fer2013", {"labels": "fer2013"}, "fer2013/train/angry"),
        ("fer2013", {"labels": "fer2013"}, "fer2013/test"),
        ("ravdess", {}, "ravdess/frames/01-01-01-01-01-01-01"),
        ("ravdess", {}, "ravdess/frames"),
        ("affectnet", {}, "affectnet/train_set"),
        ("folder", {"path": str(tmp_path / "own")}, "own/p1/calm"),
        ("folder", {"path": str(tmp_path / "own")}, "own/p2"),
    ):
        (tmp_path / "affectnet").mkdir(exist_ok=True)
        _put(kind, tmp_path / place)
        text = message(name, tmp_path / "any", **fields)
        assert str(tmp_path / place) in text, place
        words = {"link": "a broken link", "pipe": "a pipe or a device", "file": "a file"}
        assert f"{place.rpartition('/')[2]} is {words[kind]}" in text, text


# --- RAVDESS and OpenFace ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root") / "ravdess"
    ravdess_clips.write(folder, actors=2, clips=16, frames=6, seed=1)
    return folder


@pytest.fixture
def ravdess(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "root" / "ravdess")


@pytest.mark.long
def test_averages_of_other_modalities_are_left_out_and_counted(ravdess, capsys):
    path = ravdess / "average_action_units.csv"
    lines = path.read_text().splitlines()
    whole = load("ravdess_aus", ravdess)
    silent = [line.replace("01-01-", "02-01-") for line in lines[1:5]]
    sung = [line.replace("01-01-", "01-02-") for line in lines[5:8]]
    path.write_text("\n".join([*lines, *silent, *sung]) + "\n")
    found = load("ravdess_aus", ravdess)
    np.testing.assert_array_equal(found.images, whole.images)
    out = " ".join(capsys.readouterr().out.split())
    assert "left out: 4 of 02-01 (video only, speech), 3 of 01-02 (audio-video, song)" in out
    path.write_text("\n".join(f"{line};" for line in lines) + "\n")
    np.testing.assert_array_equal(load("ravdess_aus", ravdess).images, whole.images)


def test_suffixes_of_any_case_and_hidden_videos(tmp_path):
    from fexpr.data.releases.ravdess_frames import survey

    folder = tmp_path / "ravdess" / "Actor_01"
    folder.mkdir(parents=True)
    for name in (
        "01-01-03-01-01-01-01.MP4",
        "01-01-04-01-01-01-01.mp4",
        "._01-01-04-01-01-01-01.mp4",
    ):
        (folder / name).write_bytes(b"x")
    found = survey(folder.parent, "auto", set())
    assert sorted(found.videos) == ["01-01-03-01-01-01-01", "01-01-04-01-01-01-01"]
    (folder / "01-01-03-01-01-01-01.mkv").write_bytes(b"x")
    with pytest.raises(UserError, match="also in Actor_01"):
        survey(folder.parent, "auto", set())


def test_a_video_that_broke_off_is_named(tmp_path):
    from fexpr.data.releases.ravdess_frames import decode

    path = tmp_path / "01-01-03-01-01-01-01.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 64))
    for i in range(40):
        writer.write(np.full((64, 64, 3), 5 * i, np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"cut off: \d+ .*40|no frame can be decoded|no face"):
        decode(path)
    os.truncate(path, 10**12)
    with pytest.raises(BadInput, match="1,000,000,000,000 bytes"):
        decode(path)


TABLE = "frame, face_id, confidence, success, AU01_r, AU45_r\n"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("1,0,.9,1,.5,.1\n1,1,.9,1,.7,.1\n", "frame 1 has 2 rows"),
        ("0,0,.9,1,.5,.1\n1,0,.9,1,.7,.1\n", "0.* 1"),
        ('1,0,.9,1,"0,5",.1\n', "line 2: AU01_r is '0,5'"),
        ("1,0,.9,1,7.5,.1\n", "line 2: AU01_r is '7.5'"),
        ("1,0,.9,1,-2,.1\n", "line 2: AU01_r is '-2'"),
        ("1,0,.9,1,inf,.1\n", "line 2: AU01_r is 'inf'"),
        ("1.5,0,.9,1,1,.1\n", "whole numbers"),
        ("x,0,.9,1,1,.1\n", "line 2: frame is 'x'"),
        ("1,0,.9,1,.5,.1,9\n", "line 2: 7 cells.* 6"),
        ("1,0,.9,1,.5,.1\n2,0,.9,1\n", "line 3 .*cut off"),
        ("", "no rows"),
    ],
)
def test_tables_of_openface_that_would_shift_or_mix(tmp_path, rows, why):
    path = tmp_path / "a.csv"
    path.write_text(TABLE + rows)
    with pytest.raises(BadInput, match=why):
        openface.read(path, ("AU01_r", "AU45_r"))


def test_a_comma_behind_each_row_shifts_nothing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(TABLE + "2,0,.9,0,0,0,\n1,0,.9,1,.5,.1,\n3,0,.9,1,5.05,,\n")
    numbers, values = openface.read(path, ("AU01_r", "AU45_r"))
    assert numbers.tolist() == [1, 2, 3]
    np.testing.assert_allclose(values, np.float32([[0.5, 0.1], [np.nan, np.nan], [5.05, np.nan]]))


# --- FER2013, FERPlus, AffectNet -----------------------------------------------------------------


@pytest.fixture
def fer2013(tmp_path):
    fer_faces.write_synthetic(tmp_path / "fer2013", "csv", 150)
    return tmp_path / "fer2013"


def test_microsofts_rule_by_hand():
    votes = np.array(
        [
            [6, 4, 0, 0, 0, 0, 0, 0, 0, 0],  # 6 of 10
            [5, 4, 1, 0, 0, 0, 0, 0, 0, 0],  # 5 of 9, once the single vote is gone
            [5, 5, 0, 0, 0, 0, 0, 0, 0, 0],  # half is no majority
            [4, 2, 2, 2, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0, 8, 2],  # unknown
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],  # nothing is left
            [2, 1, 1, 1, 1, 1, 1, 1, 1, 0],  # two votes are all that is left
        ]
    )
    kept, labels = ferplus.majority_over_half(ferplus.without_single_votes(votes))
    assert kept.tolist() == [True, True, False, False, False, False, True]
    assert labels[kept].tolist() == [0, 0, 0]
    assert (
        ferplus.majority(votes, np.zeros(7, int))[0].tolist() == [True] * 4 + [False] + [True] * 2
    )


def test_each_rule_is_named(fer2013, capsys):
    today, published = (
        load("fer2013", fer2013, labels=rule) for rule in ("ferplus", "ferplus_majority")
    )
    assert len(published) <= len(today)
    assert today.source.startswith("fer2013+ferplus@")
    assert published.source.startswith("fer2013+ferplus_majority@")
    np.testing.assert_allclose(published.extras["soft"].sum(1), 1, rtol=1e-6)
    assert "single votes are removed first" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("place", [1000, 20_000, 35_000])
def test_where_rows_begin_to_be_others(place):
    rng = np.random.default_rng(place)
    agree = rng.random(35_887) < np.where(np.arange(35_887) < place, 0.68, 0.2)
    assert abs(ferplus.first_foreign_row(agree) - place) < 40
    assert ferplus.first_foreign_row(rng.random(35_887) < 0.62) is None


def test_16_bits_a_channel_are_refused(fer2013):
    folder = fer2013.parent / "images" / "fer2013"
    for part, name in (("train", "Training_1"), ("test", "PublicTest_2")):
        place = folder / part / "happy"
        place.mkdir(parents=True)
        cv2.imwrite(str(place / f"{name}.png"), np.full((48, 48), 200, np.uint16))
    assert "has 16 bits per channel, with values from 200 to 200" in message("fer2013", folder)


def test_a_table_from_a_spreadsheet(fer2013):
    whole = load("fer2013", fer2013)
    path = next(fer2013.glob("*.csv*"))
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as f:
        rows = list(csv.reader(f))
    path.unlink()
    with open(fer2013 / "fer2013.csv", "w", newline="", encoding="utf-8-sig") as f:
        csv.writer(f, quoting=csv.QUOTE_ALL).writerows(rows)
    np.testing.assert_array_equal(load("fer2013", fer2013).images, whole.images)


def test_archives_that_hold_archives_bombs_and_lines_without_end(tmp_path):
    folder = tmp_path / "fer2013"
    folder.mkdir()
    with zipfile.ZipFile(folder / "download.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive.zip", b"PK\3\4")
        archive.writestr("__MACOSX/._archive.zip", b"x")
    text = message("fer2013", folder)
    assert "contains archives instead of images" in text
    assert "archive.zip" in text
    with zipfile.ZipFile(folder / "download.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/happy/Training_1.jpg", b"\xff\xd8" + bytes(10**8))
    assert "unpacks to more than" in message("fer2013", folder)
    with zipfile.ZipFile(folder / "download.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fer2013.csv", b"emotion,pixels,Usage\n" + b"0" * 10**8)
    assert "line 2 has more than 1,048,576 bytes" in message("fer2013", folder)


def test_names_of_image_files(tmp_path):
    place = tmp_path / "fer2013" / "train" / "happy"
    place.mkdir(parents=True)
    for name in (b"Training_\xff\xfe.jpg", b"Training_<b>.jpg"):
        with open(os.fsencode(place) + b"/" + name, "wb") as f:
            f.write(cv2.imencode(".jpg", np.full((48, 48), 9, np.uint8))[1].tobytes())
    text = message("fer2013", tmp_path / "fer2013")
    assert text.count("not printable") == 2
    shutil.rmtree(place)
    (place / "Training_1.jpg").mkdir(parents=True)
    (place / "Training_1.jpg" / "x").write_text("x")
    assert "is a folder" in message("fer2013", tmp_path / "fer2013")


def test_an_archive_that_holds_a_file_twice(tmp_path):
    (tmp_path / "fer2013").mkdir()
    image = cv2.imencode(".jpg", np.full((48, 48), 9, np.uint8))[1].tobytes()
    with zipfile.ZipFile(tmp_path / "fer2013" / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("train/happy/Training_1.jpg", image)
    assert "was already found" in message("fer2013", tmp_path / "fer2013")


def test_annotations_of_affectnet(tmp_path, capsys):
    folder = tmp_path / "affectnet"
    for part in ("train_set", "val_set"):
        for kind in ("images", "annotations"):
            (folder / part / kind).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(folder / part / "images" / f"{i}.jpg"), np.full((48, 48), 99, np.uint8))
            np.save(folder / part / "annotations" / f"{i}_exp.npy", np.array(str(i)))
            np.save(folder / part / "annotations" / f"{i}_val.npy", np.array("0.5"))
        (folder / part / "images" / "._0.jpg").write_bytes(b"\0\5\26\7")
    assert len(load("affectnet", folder, classes="8")) == 6
    place = folder / "train_set" / "annotations"
    np.save(place / "0_exp.npy", np.array("nan"))
    np.save(place / "1_exp.npy", np.array([1, 2]))
    (place / "2_exp.npy").write_bytes(
        (place / "2_val.npy").read_bytes().replace(b"'shape': ()", b"'shape': (9000000000,)")
    )
    text = message("affectnet", folder, classes="8")
    for name, why in (("0", "holds nan"), ("1", "holds [1 2]"), ("2", "cut off|no array")):
        line = next(line for line in text.splitlines() if f"annotations/{name}_exp.npy" in line)
        assert any(part in line for part in why.split("|"))
    (folder / "training.csv").write_text(
        "../../etc/passwd,1,1,9,9,x,1,0.5,0\n1/a.jpg,1,1,inf,9,x,1,0.5,0\n"
    )
    text = message("affectnet", folder, classes="8")
    assert "line 1, ../../etc/passwd: the path contains a slash" in text
    assert "face_width is 'inf'" in text
    assert "read training.csv; also there, and not read: train_set" in capsys.readouterr().out
    (folder / "training.csv").write_bytes(b"caf\xe9.jpg,1,1,9,9,x,1,0.5,0\n")
    assert "line 1: the byte 0xe9 is not UTF-8" in message("affectnet", folder, classes="8")


# --- the cache -----------------------------------------------------------------------------------


def test_a_lock_that_is_a_link_empties_nothing(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    (tmp_path / "set.lock").symlink_to("thesis.tex")
    with (
        pytest.raises(UserError, match=r"set.lock|cannot write"),
        prepare.exclusive_lock(tmp_path / "set"),
    ):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_prepared_set_names_no_module_to_import(tmp_path):
    from fexpr.data.preparation import builder

    builder.write(tmp_path / "set", "own", [{"a": "x", "n": 1}])
    assert builder.read(tmp_path / "set")["n"].tolist() == [1]
    (path,) = (tmp_path / "set").rglob("features.json")
    text = path.read_text()
    for there, wanted in (
        ("tensorflow_datasets.core.features.scalar.Scalar", "os.system"),
        ("tensorflow_datasets.core.features.text_feature.Text", "antigravity.Text"),
    ):
        path.write_text(text.replace(there, wanted))
        with pytest.raises(UserError, match=f"features.json names {wanted}"):
            builder.read(tmp_path / "set")


def test_folders_that_nobody_can_have(tmp_path, monkeypatch):
    for root in ("/tmp/" + "a" * 5000, "/tmp/a\0b", "/tmp/\udcff"):
        config = base.get_config().data
        config.update({"name": "samm", "root": root, "source": "release"})
        with pytest.raises(UserError, match="samm "):
            data_sets.load(config)
    config.root = "~nosuchuser/x"
    with pytest.raises(UserError, match="nosuchuser"):
        data_sets.load(config)
    assert numbered_frames(tmp_path / ("a" * 5000)) == ({}, set())
