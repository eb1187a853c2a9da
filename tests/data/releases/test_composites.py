"""MEGC2018 and CD6ME: classes by workbook or by units, whichever releases there are, folds by data
set; and further releases in the classes of MEGC2019.
"""

import os

import pytest

from fexpr import facs
from fexpr.data.loaders import LOADERS
from fexpr.data.releases import megc2018, workbook
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from fexpr.runs.schema import get_config
from tests.data import casme2_release, coded_release, samm_release

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it
pytestmark = pytest.mark.usefixtures("no_release")


def load(root, name, **changes):
    fields = {"name": name, "subsets": "auto", "regions": "whole", **changes}
    return LOADERS[name](samm_release.config(root, **fields))


def message(root, name, **changes):
    with pytest.raises(UserError) as e:
        load(root, name, **changes)
    return e.value.text()


def folds_of(data, protocol):
    config = get_config("").split
    config.protocol = protocol
    return make_folds(config, data)


# --- MEGC2018 ---------------------------------------------------------------------------------------------------------------


def test_classes_by_the_workbook_and_by_units(tmp_path, capsys):
    folder = samm_release.write_release(tmp_path)
    samm_release.rewrite(
        folder, objective_class={"006_1_2": 1, "006_1_3": 7, "007_2_1": 3, "011_3_1": None}
    )
    casme2_release.write_casme2(tmp_path)
    data = load(tmp_path, "megc2018")
    assert dict(zip(data.ids.tolist(), data.labels.tolist(), strict=True)) == {
        "samm/006_1_2": 0,  # the workbook's, whatever its units 4+7 say
        "samm/007_2_1": 2,
        "casme2/sub01_EP02_01f": 0,  # 12; 4+10 is of no class, '?' neither
        "casme2/sub02_EP02_01f": 1,  # 1+2
        "casme2/sub02_EP03_02": 2,  # 4
    }
    out = " ".join(capsys.readouterr().out.split())
    assert "SAMM: 2 of 4 clips" in out
    assert "24)" in out
    holdout = folds_of(data, "leave_one_dataset_out")
    assert [fold.name for fold in holdout] == ["samm", "casme2"]
    assert [fold.name for fold in folds_of(data, "loso")] == [
        "casme2/sub01",
        "casme2/sub02",
        "samm/006",
        "samm/007",
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("AU1+2", "surprise"),
        ("L12C+6", "happiness"),
        ("4D+ref(6)+7C", "anger"),
        ("R12 or R14", None),
        ("4+7+12", None),
        ("?", None),
    ],
)
def test_class_of_units(code, expected):
    assert megc2018.class_of(facs.parse(code)) == expected


def test_no_combination_is_of_two_classes():
    units = [u for combinations in megc2018.COMBINATIONS.values() for u in combinations]
    assert len({frozenset(text.split("+")) for text in units}) == len(units)


@pytest.mark.release
@pytest.mark.skipif(RELEASE_ROOT is None, reason="needs FEXPR_DATA_DIR")
def test_the_table_agrees_with_samms_column():
    path = workbook.find_workbook(f"{RELEASE_ROOT}/samm")
    table = workbook.read_workbook(path)
    codes = facs.parse_all(table["code"].tolist(), workbook.places(table, path))
    found = [megc2018.class_of(code) for code in codes]
    numbers = [megc2018.CLASSES.index(name) + 1 if name else None for name in found]
    pairs = list(zip(numbers, table["objective_class"].tolist(), strict=True))
    assert all(mine == theirs for mine, theirs in pairs if mine)
    assert sum(theirs <= 5 for _, theirs in pairs) == sum(megc2018.OFFICIAL["samm"]) == 68
    assert sum(mine is not None for mine, _ in pairs) == 59


# --- CD6ME ------------------------------------------------------------------------------------------------------------------


def test_every_release_is_tested_by_the_others(tmp_path, capsys):
    samm_release.write_release(tmp_path)
    casme2_release.write_casme2(tmp_path)
    for name in coded_release.BOOKS:
        coded_release.write(tmp_path, name)
    data = load(tmp_path, "cd6me")
    assert data.class_names == facs.names(facs.CD6ME)
    assert data.labels.shape == (25, 12)
    row = data.ids.tolist().index("casme/sub01_EP01_5")
    assert [n for n, x in zip(facs.CD6ME, data.labels[row], strict=True) if x] == [4, 10]
    folds = folds_of(data, "leave_one_dataset_out")
    assert [fold.name for fold in folds] == ["casme", "casme2", "samm", "4dme", "mmew", "casme3a"]
    for fold in folds:
        assert set(data.extras["dataset"][fold.test]) == {fold.name}
    assert "mmew has 4 clips, the benchmark 300" in capsys.readouterr().out


def test_a_release_without_a_workbook_is_left_out_aloud(tmp_path, capsys):
    coded_release.write(tmp_path, "mmew")
    casme2_release.write_list(tmp_path, "casme2", [("sub01", "EP02_01f", "positive")])
    data = load(tmp_path, "cd6me")
    assert set(data.extras["dataset"]) == {"mmew"}
    assert "CASME II: no workbook gives its action units" in capsys.readouterr().out
    with pytest.raises(UserError, match="two data sets, found mmew"):
        folds_of(data, "leave_one_dataset_out")
    assert "no FACS workbook" in message(tmp_path, "cd6me", subsets="casme2,mmew")


def test_a_workbook_may_be_spelt_in_capitals_and_excels_lock_is_none(tmp_path, capsys):
    coded_release.write(tmp_path, "mmew")
    (book,) = (tmp_path / "mmew").glob("*.xlsx")
    book.rename(book.with_suffix(".XLSX"))
    casme2_release.write_list(tmp_path, "casme2", [("sub01", "EP02_01f", "positive")])
    (tmp_path / "casme2" / "~$CASME2-coding.xlsx").touch()
    assert set(load(tmp_path, "cd6me").extras["dataset"]) == {"mmew"}
    assert "CASME II: no workbook gives its action units" in capsys.readouterr().out


def test_a_release_on_a_disk_that_is_not_mounted_is_not_left_out(tmp_path):
    coded_release.write(tmp_path, "mmew")
    (tmp_path / "samm").symlink_to("/unmounted/samm")
    assert "samm is a broken link" in message(tmp_path, "cd6me")


def test_no_release_at_all(tmp_path):
    (tmp_path / "casme2").mkdir()
    assert "contains none of the releases of cd6me" in message(tmp_path, "cd6me")
    assert "looked for the folder samm or casme2" in message(
        tmp_path / "casme2", "megc2018"
    ).replace(f"{tmp_path / 'casme2'}/", "")


# --- MEGC2019 with further releases -----------------------------------------------------------------------------------------


def test_further_releases_take_part_if_they_are_named(tmp_path, capsys):
    samm_release.write_release(tmp_path)
    for name in coded_release.BOOKS:
        coded_release.write(tmp_path, name)
    assert set(load(tmp_path, "megc2019").extras["dataset"]) == {"samm"}
    data = load(tmp_path, "megc2019", subsets="samm,casme,casme3a,mmew,4dme")
    classes = [data.class_names[label] for label in data.labels]
    assert dict(zip(data.ids.tolist(), classes, strict=True)) == {
        **{f"samm/{clip[1]}": "negative" for clip in samm_release.CLIPS},
        "casme/sub01_EP01_5": "negative",
        "casme/sub01_EP03_02": "positive",
        "casme/sub07_EP01_5": "surprise",
        "casme3a/spNO.12_a_7": "surprise",
        "casme3a/spNO.1_a_20": "negative",
        "casme3a/spNO.1_a_40": "positive",
        "mmew/anger_S1-002": "negative",
        "mmew/happiness_S1-001": "positive",
        "mmew/surprise_S2-001": "surprise",
        "4dme/sub03_3_2": "negative",
        "4dme/sub03_3_4": "positive",
        "4dme/sub14_14_1": "surprise",
    }
    assert "CASME: emotions that are left out: tense (1)" in capsys.readouterr().out
    assert "mmew/" in load(tmp_path, "megc2019", subsets="mmew").ids[0]
