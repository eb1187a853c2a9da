"""The SAMM workbook: found, read, checked; every way in which people break it gives one message
that names the place.
"""

import os
import warnings
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from fexpr import facs
from fexpr.data.releases import workbook_format
from fexpr.data.releases.workbook import find_workbook, frame_problems, places, read_workbook
from fexpr.data.synthetic.samm_workbook import write_samm_workbook
from fexpr.errors import UserError

NAME = "SAMM_Micro_FACS_Codes_v2.xlsx"


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        ("006", "006_1_2", 5562, 5588, 5632, "4+7", "Anger", 3),
        ("006", "006_1_3", 3912, 3948, 3988, 4, "Anger", 3),
        ("007", "007_6_1", 497, 511, 541, "(R6 or R12)+R15", "Happiness", 7),
        ("028", "028_4_1", 1071, 1143, 1134, None, "Contempt", 7),
    ]
    table = pd.DataFrame(rows, columns=list(workbook_format.COLUMNS))
    return table.astype({"code": object, **dict.fromkeys(workbook_format.WHOLE_NUMBERS, "Int64")})


@pytest.fixture
def path(tmp_path, table) -> Path:
    write_samm_workbook(tmp_path / NAME, table)
    return tmp_path / NAME


def edit(path: Path, **cells) -> None:
    """Overwrites cells, given as A15=value."""
    book = openpyxl.load_workbook(path)
    for cell, value in cells.items():
        book.active[cell] = value
    book.save(path)


def failure(path: Path) -> UserError:
    with pytest.raises(UserError) as e:
        read_workbook(path)
    return e.value


def test_written_and_read_back(path, table):
    read = read_workbook(path)
    pd.testing.assert_frame_equal(read.drop(columns="row"), table)
    assert read["row"].tolist() == [15, 16, 17, 18]
    assert read.attrs == {
        "errata": [],
        "notes": ["row 18, clip 028_4_1: apex frame 1143 is after offset frame 1134"],
    }
    assert places(read, path)[2] == f"{NAME} row 17, clip 007_6_1"


def test_written_in_the_layout_of_the_release(path):
    sheet = openpyxl.load_workbook(path)["MICRO_ONLY"]
    assert [cell.value for cell in sheet[14]] == [
        "Subject",
        "Filename",
        "Inducement Code",
        "Onset Frame",
        "Apex Frame",
        "Offset Frame",
        "Duration",
        "Micro",
        "Action Units",
        "Estimated Emotion",
        "Objective Classes",
        "Notes",
    ]
    assert [cell.value for cell in sheet[17]] == [
        "007",
        "007_6_1",
        6,
        497,
        511,
        541,
        45,
        "Micro - 1/2",
        "(R6 or R12)+R15",
        "Happiness",
        7,
        None,
    ]
    assert [sheet.cell(row, 1).value for row in (6, 7, 10)] == [
        "Symbol Key:",
        '"/" = or',
        "AU Help:",
    ]


def test_the_title_can_say_that_it_is_synthetic(tmp_path, table):
    write_samm_workbook(tmp_path / NAME, table, title="SYNTHETIC")
    assert openpyxl.load_workbook(tmp_path / NAME).active["A1"].value == "SYNTHETIC"


@pytest.mark.parametrize("header", [1, 9, 30])
def test_the_header_is_found_by_its_names_wherever_it_is(path, table, header):
    book = openpyxl.load_workbook(path)
    if header < 14:
        book.active.delete_rows(1, 14 - header)
    else:
        book.active.insert_rows(1, header - 14)
    book.active.title = "Sheet1"
    book.create_sheet("Remarks", 0)["A1"] = "Subject"
    book.active.cell(header, 5, " apex  FRAME")
    book.save(path)
    read = read_workbook(path)
    assert read["row"].tolist() == [header + i for i in range(1, 5)]
    assert read["apex"].tolist() == table["apex"].tolist()


def test_the_sheet_micro_only_comes_first(path):
    book = openpyxl.load_workbook(path)
    other = book.copy_worksheet(book.active)
    other.title = "ALL"
    other["B15"] = "006_9_9"
    book.move_sheet(other, -1)
    book.save(path)
    assert read_workbook(path)["clip"][0] == "006_1_2"


def test_numbers_as_excel_and_people_type_them(path):
    edit(
        path, A15=6, A16=6.0, A17=" 7 ", D15="5562", E15=5588.0, F15=None, K15=None, B16="006_1_3 "
    )
    read = read_workbook(path)
    assert read["subject"].tolist() == ["006", "006", "007", "028"]
    assert read["clip"][1] == "006_1_3"
    assert (read["onset"][0], read["apex"][0]) == (5562, 5588)
    assert pd.isna(read["offset"][0])
    assert pd.isna(read["objective_class"][0])


def test_blank_rows_are_skipped_and_clips_need_no_samm_names(path):
    edit(path, A25="sub01", B25="EP02_01f", I25="4", L20="a note alone")
    read = read_workbook(path)
    assert read["row"].tolist() == [15, 16, 17, 18, 25]
    assert read["subject"][4] == "001"


def test_every_bad_row_is_listed_at_once(path):
    edit(path, A15=None, B16=None, B17="006_1_2", D18="abc", E18=12.5, F18=-3, K18="x")
    error = failure(path)
    assert error.problems == (
        "row 15, clip 006_1_2: Subject is missing",
        "row 16, clip (none): Filename is missing",
        "row 17, clip 006_1_2: Subject is 007, but the clip's name says 006",
        "row 17, clip 006_1_2: this clip is already in row 15",
        "row 18, clip 028_4_1: Onset Frame is 'abc', expected a whole number",
        "row 18, clip 028_4_1: Apex Frame is '12.5', expected a whole number",
        "row 18, clip 028_4_1: Offset Frame is '-3', expected a whole number",
        "row 18, clip 028_4_1: Objective Classes is 'x', expected a whole number",
    )
    assert str(path) in error.title


def test_renamed_missing_and_doubled_columns(path):
    edit(path, B14="File Name", D14="Onset", J14=None, L14="Action Units")
    error = failure(path)
    assert error.problems == (
        "column 'Filename' is missing; the nearest is 'File Name'",
        "column 'Onset Frame' is missing; the nearest is 'Onset'",
        "column 'Action Units' occurs more than once",
        "column 'Estimated Emotion' is missing",
        "found the columns Subject, File Name, Inducement Code, Onset, Apex Frame, Offset "
        "Frame, Duration, Micro, Action Units, "
        "Objective Classes, Action Units",
    )
    assert "row 14" in error.title
    assert str(path) in error.title


def test_no_header_at_all(tmp_path):
    book = openpyxl.Workbook()
    book.active["A1"] = "Subject"
    book.save(tmp_path / NAME)
    error = failure(tmp_path / NAME)
    assert "no header row" in error.title
    assert "Onset Frame" in error.problems[0]


def test_no_rows(path):
    book = openpyxl.load_workbook(path)
    book.active.delete_rows(15, 10)
    book.save(path)
    assert "no rows" in failure(path).problems[0]


def test_empty_column_of_codes(path):
    edit(path, I15=None, I16=None, I17="  ")
    assert failure(path).problems == (
        "column 'Action Units' of sheet 'MICRO_ONLY' is empty in all 4 rows",
    )


def test_missing_file_folder_and_files_that_are_no_workbook(path, tmp_path):
    whole = path.read_bytes()
    assert "does not exist" in failure(tmp_path / "none.xlsx").title
    assert "cannot read" in failure(tmp_path).title
    for name, content in {
        "text": b"Subject,Filename\n",
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "head": whole[-900:],
        "hole": whole[:600] + bytes(600) + whole[1200:],
    }.items():
        (tmp_path / f"{name}.xlsx").write_bytes(content)
        assert "is not an Excel workbook" in failure(tmp_path / f"{name}.xlsx").title


def test_no_warning_of_openpyxl_leaks(path, tmp_path):
    # Excel's drop-down lists
    extension = b'<extLst><ext uri="{CCE6A557-97BC-4b89-ADB6-D9C93CAAB3DF}"/></extLst></worksheet>'
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new.xlsx", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"</worksheet>", extension))
    with pytest.warns(UserWarning, match="not supported"):
        openpyxl.load_workbook(tmp_path / "new.xlsx")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_workbook(tmp_path / "new.xlsx")) == 4


def test_apex_that_is_not_after_the_onset_matters_only_where_frames_are_read(path):
    edit(path, E15=5562, E16=10, D17=None)
    assert frame_problems(read_workbook(path)) == [
        "row 15, clip 006_1_2: apex frame 5562 is not after onset frame 5562",
        "row 16, clip 006_1_3: apex frame 10 is not after onset frame 3912",
        "row 17, clip 007_6_1: onset frame is missing",
    ]


def test_only_the_published_slip_is_mended(path):
    edit(path, A15="032", B15="032_3_1", D15=4896, E15=1930, F15=4970)
    read = read_workbook(path)
    assert read["apex"][0] == 4930
    assert read.attrs["errata"] == [
        "row 15, clip 032_3_1: apex frame 1930 is an error of the published workbook, read as 4930"
    ]
    assert frame_problems(read) == []
    edit(path, F15=4971)
    read = read_workbook(path)
    assert read["apex"][0] == 1930
    assert read.attrs["errata"] == []
    assert len(frame_problems(read)) == 1


def test_find_workbook(tmp_path):
    with pytest.raises(UserError, match="no FACS workbook"):
        find_workbook(tmp_path)
    for name in ("~$other.xlsx", "._other.xlsx", "table.csv", "other.xlsx"):
        (tmp_path / name).touch()
    assert find_workbook(tmp_path) == tmp_path / "other.xlsx"
    (tmp_path / "another.xlsx").touch()
    with pytest.raises(UserError) as e:
        find_workbook(tmp_path)
    assert e.value.problems == ("another.xlsx", "other.xlsx")
    (tmp_path / NAME).touch()
    assert find_workbook(tmp_path) == tmp_path / NAME
    (tmp_path / "SAMM_Micro_FACS_Codes_v1.xlsx").touch()
    with pytest.raises(UserError, match="several"):
        find_workbook(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        find_workbook(tmp_path / "none")


@pytest.mark.release
@pytest.mark.skipif(
    "FEXPR_DATA_DIR" not in os.environ, reason="needs the SAMM workbook under $FEXPR_DATA_DIR/samm"
)
def test_the_published_workbook():
    path = find_workbook(Path(os.environ["FEXPR_DATA_DIR"]) / "samm")
    table = read_workbook(path)
    assert (len(table), table["subject"].nunique()) == (159, 29)
    assert len(table.attrs["errata"]) == len(table.attrs["notes"]) == 1
    assert frame_problems(table) == []
    codes = facs.parse_all(table["code"].tolist(), places(table, path))
    assert [code.notes for code in codes if code.notes] == [("soft focus",)]
    assert all(code.units for code in codes)
    rows = [facs.intensities(code) for code in codes]
    assert facs.vocabulary(rows, 10) == (2, 4, 7, 12, 14)
    assert sum(7 in row for row in rows) == 44
