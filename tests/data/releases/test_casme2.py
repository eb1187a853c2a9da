"""CASME II for action units: its workbook's own ways, repeated clip names, frames and maps; and
what is missing is named.
"""

import os

import numpy as np
import pytest

from fexpr.data.loaders import LOADERS
from fexpr.errors import UserError
from tests.data import casme2_release, samm_release

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it
pytestmark = pytest.mark.usefixtures("no_release")


def load(root="", **changes):
    return LOADERS["casme2"](
        samm_release.config(root, name="casme2", **{"skip_clips": "", **changes})
    )


def message(root, **changes):
    with pytest.raises(UserError) as e:
        load(root, **changes)
    return e.value.text()


def test_frames_and_codes(tmp_path, capsys):
    casme2_release.write_casme2(tmp_path)
    data = load(tmp_path)
    assert data.ids.tolist() == [
        "sub01_EP02_01f",
        "sub01_EP19_05f",
        "sub02_EP02_01f",
        "sub02_EP03_02",
        "sub05_EP13_01",
    ]
    assert data.groups.tolist() == ["sub01", "sub01", "sub02", "sub02", "sub05"]
    assert data.class_names == ("AU01", "AU02", "AU04", "AU10", "AU12")
    np.testing.assert_array_equal(
        data.labels, [[0, 0, 0, 0, 1], [0, 0, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5]
    )
    assert data.extras["emotion"].tolist() == [
        "happiness",
        "disgust",
        "surprise",
        "repression",
        "others",
    ]
    assert data.extras["code"].tolist() == ["12", "4+L10", "AU1+2", "4", "?"]
    assert data.source.startswith("casme2@")
    assert data.kind == "flow"
    u = data.images[0, ..., 0]  # the middle moves to the right from onset to apex
    assert u[12:16, 12:16].mean() > u[:4].mean() + 80
    assert (
        "row 6, clip EP12_01f: the workbook gives no apex after the onset; left out"
        in capsys.readouterr().out
    )


def test_only_the_published_gaps_are_left_out_in_silence(tmp_path):
    clips = [
        *casme2_release.CLIPS,
        (5, "EP09_05f", 7, 7, 9, "4", "disgust"),
        (6, "EP01_01", 2, "/", 5, "4", "disgust"),
    ]
    casme2_release.write_casme2(tmp_path, clips)
    text = message(tmp_path)
    assert "clip EP01_01: apex frame is missing" in text
    assert "EP09_05f" not in text
    assert len(load(tmp_path, skip_clips="sub06_EP01_01")) == 5


def test_maps_with_the_workbook(tmp_path):
    folder = casme2_release.write_list(
        tmp_path, "casme2", [("sub02", "EP02_01f", "surprise"), ("sub04", "EP12_01f", "negative")]
    )
    casme2_release.write_workbook(folder)
    data = load(tmp_path)
    assert data.ids.tolist() == ["sub02_EP02_01f", "sub04_EP12_01f"]  # a map needs no apex
    np.testing.assert_array_equal(data.images[0], samm_release.ramp())
    (folder / "flow" / "sub02_EP02_01f.png").rename(folder / "flow" / "sub03_EP02_01f.png")
    assert "sub03_EP02_01f.png" in message(tmp_path)


def test_a_clip_twice_and_a_bad_number_are_both_listed(tmp_path):
    clips = [
        *casme2_release.CLIPS,
        (1, "EP19_05f", 9, 12, 15, "4", "disgust"),
        (7, "EP02_01f", "x", 3, 4, "4", "others"),
    ]
    (tmp_path / "casme2" / "Cropped").mkdir(parents=True)
    casme2_release.write_workbook(tmp_path / "casme2", clips)
    text = message(tmp_path)
    assert "row 8, clip EP19_05f: this clip is already in row 3" in text
    assert "row 9, clip EP02_01f: OnsetFrame is 'x', expected a whole number" in text
    assert text.count("\n  - ") == 2


def test_a_missing_workbook_is_named(tmp_path):
    casme2_release.write_list(tmp_path, "casme2", [("sub02", "EP02_01f", "surprise")])
    assert f"no FACS workbook (CASME2-coding*.xlsx) in {tmp_path / 'casme2'}" in message(tmp_path)


@pytest.mark.long
def test_no_release_is_synthetic_and_other_people_than_samm():
    data, other = load(), LOADERS["samm"](samm_release.config(skip_clips=""))
    assert data.synthetic
    assert len(data) == 3
    assert not np.array_equal(data.images, other.images)


@pytest.mark.release
@pytest.mark.skipif(not RELEASE_ROOT, reason="needs FEXPR_DATA_DIR")
def test_published_maps_without_their_workbook():
    assert "CASME2-coding*.xlsx" in message(RELEASE_ROOT)
