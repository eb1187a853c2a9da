"""Several maps of a clip: names, folders of published maps, moments of frames, and mistakes."""

import shutil

import cv2
import numpy as np
import pytest

from configs import base
from fexpr.data.data_config import DataConfig
from fexpr.data.loaders import LOADERS
from fexpr.data.preparation import flow
from fexpr.data.preparation.prepare import read_image
from fexpr.data.releases import map_names
from fexpr.errors import UserError
from tests.data import casme2_release as other
from tests.data import samm_release as mini

pytestmark = pytest.mark.usefixtures("no_release")
SAMM = [("006", "006_1_2", "negative"), ("007", "007_2_1", "positive")]
CASME2 = [("sub01", "EP02_01f", "surprise")]


def load(root, **changes):
    fields = {"name": "megc2019", "subsets": "auto", "regions": "whole", **changes}
    return LOADERS["megc2019"](mini.config(root, **fields))


def message(root, **changes):
    with pytest.raises(UserError) as e:
        load(root, **changes)
    return e.value.text()


@pytest.fixture
def root(tmp_path):
    """Two releases of published maps; a second map of each clip is the first upside down."""
    for name, rows in {"samm": SAMM, "casme2": CASME2}.items():
        folder = other.write_list(tmp_path / "data", name, rows)
        (folder / "flow_late").mkdir()
        for path in (folder / "flow").iterdir():
            image = read_image(path, cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(folder / "flow_late" / path.name), image[::-1])
    return tmp_path / "data"


def test_folders_are_stacked_as_channels_in_the_order_of_their_names(root):
    one, both = load(root), load(root, maps="flow_late, flow")
    assert both.images.shape == (3, 28, 28, 6)
    np.testing.assert_array_equal(both.images[..., 3:], one.images)
    np.testing.assert_array_equal(both.images[..., :3], one.images[:, ::-1])
    assert both.ids.tolist() == one.ids.tolist()
    assert both.source != one.source
    assert load(root, maps="flow").source == one.source
    assert both.picture(0).shape == (28, 28, 3)
    assert one.extras["file"][0].startswith("flow/")
    assert both.extras["file"][0].startswith("flow_late/")


def test_a_clip_that_lacks_a_map_is_named(root):
    (root / "samm" / "flow_late" / "007_007_2_1.png").unlink()
    text = message(root, maps="flow,flow_late")
    assert f"{root / 'samm' / 'megc2019.csv'} lists clips without one of the maps" in text
    assert f"line 3: {root / 'samm' / 'flow_late' / '007_007_2_1.png'}" in text
    assert "006_1_2" not in text
    assert "clips without one of the maps flow, flow_dream" in message(root, maps="flow,flow_dream")


def test_maps_that_a_workbook_lists(tmp_path):
    folder = mini.write_release(tmp_path, "flow")
    shutil.copytree(folder / "flow", folder / "flow_0")
    assert mini.load(tmp_path, maps="flow,flow_0").images.shape[-1] == 6
    first = sorted((folder / "flow_0").iterdir())[0]
    first.unlink()
    assert str(first) in mini.message(tmp_path, maps="flow,flow_0")
    # the folder named first decides which clips have maps
    with_one_less = mini.load(tmp_path, maps="flow_0,flow")
    assert len(with_one_less) == len(mini.load(tmp_path)) - 1
    assert "flow_9 does not exist" in mini.message(tmp_path, maps="flow_9")


def test_moments_of_raw_frames(tmp_path):
    other.write_casme2(tmp_path)
    apex, both = (
        LOADERS["casme2"](
            mini.config(tmp_path, name="casme2", maps=maps, skip_clips="sub05_EP13_01")
        )
        for maps in ("flow", "flow_25,flow")
    )
    np.testing.assert_array_equal(both.images[..., 3:], apex.images)
    row = both.ids.tolist().index("sub01_EP02_01f")  # frames 46, apex 50, 54: a quarter is 48
    onset = mini.texture(0).astype(np.uint8)
    frames = [
        read_image(
            tmp_path / "casme2" / "Cropped" / "sub01" / "EP02_01f" / f"reg_img{number}.jpg",
            cv2.IMREAD_GRAYSCALE,
        )
        for number in (46, 48)
    ]
    assert frames[0].shape == onset.shape
    np.testing.assert_array_equal(both.images[row, ..., :3], flow.flow_map(*frames))


def test_moments_of_smic_and_the_signed_scale(tmp_path):
    other.write_smic(tmp_path, frames=9)
    data = load(tmp_path, maps="flow_50,flow_100", map_scale="signed")
    half, whole = data.images[..., :3], data.images[..., 3:]
    np.testing.assert_array_equal(half, load(tmp_path, map_scale="signed").images)
    assert (half != whole).any()
    # most of the face does not move; v is noise alone, which its own scale makes large
    assert (np.abs(np.median(data.images[..., ::3], (1, 2)) - 128) <= 8).all()
    assert data.source != load(tmp_path, maps="flow_50,flow_100").source


def test_names_that_no_frames_follow_from(tmp_path):
    other.write_smic(tmp_path)
    text = message(tmp_path, maps="flow,flow_late,flow_0")
    assert "flow_late" in text
    assert "flow_0" in text
    assert "layout=flow" in text


@pytest.mark.parametrize("column", [None, 2])
def test_an_offset_that_is_not_known_or_is_the_onset(tmp_path, column):
    folder = other.write_casme2(tmp_path, other.CLIPS[:3])
    clips = [
        (*clip[:4], "/" if column is None else clip[column], *clip[5:])
        if clip[1] == "EP19_05f"
        else clip
        for clip in other.CLIPS
    ]
    other.write_workbook(folder, clips[:3])
    with pytest.raises(UserError) as e:
        LOADERS["casme2"](mini.config(tmp_path, name="casme2", maps="flow,flow_50"))
    assert "clip EP19_05f: no offset frame" in e.value.text()


def test_published_maps_have_no_signed_scale(root):
    text = message(root, map_scale="signed")
    assert "train.normalize=median" in text


@pytest.mark.parametrize("text", ["", "flow,", "flow,flow", "../flow", "flows", "flow_a/b"])
def test_names_that_are_none(text):
    with pytest.raises(ValueError):
        map_names.parse_maps(text)
    config = base.get_config()
    config.data.name, config.data.maps = "megc2019", text
    with pytest.raises(UserError, match=r"data\.maps"):
        base.validate(config)


def test_data_sets_without_maps_refuse_them():
    assert DataConfig().maps == "flow"
    config = base.fer2013()
    config.data.maps = "flow,flow_1"
    with pytest.raises(UserError, match=r"data\.maps"):
        base.validate(config)
