"""The SAMM loader on miniature releases: every layout to a Dataset, work done once, and each mistake one clear message."""

import errno
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fexpr.data import LOADERS, faces, flow, prepare, samm, workbook
from fexpr.errors import UserError
from tests.data import samm_release as mini

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FEXPR_DATA_DIR", raising=False)


@pytest.fixture
def counted(monkeypatch):
    """The frame pairs that flow was computed for."""
    pairs = []
    compute = flow.flow_map
    monkeypatch.setattr(flow, "flow_map", lambda *a: (pairs.append(a), compute(*a))[1])
    return pairs


def load(root, **changes):
    return LOADERS["samm"](mini.config(root, **changes))


def message(root, **changes):
    with pytest.raises(UserError) as e:
        load(root, **changes)
    return e.value.text()


def tree(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in Path(folder).rglob("*")}


def rewrite(folder, **cells):
    """Writes the workbook anew with one row more or other values: {column: {clip: value}}."""
    table = mini.table().astype(object)
    for column, values in cells.items():
        for clip, value in values.items():
            table.loc[table["clip"] == clip, column] = value
    workbook.write_samm_workbook(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", table)


# --- layouts -------------------------------------------------------------------------------------------------------------


def test_normalised_frames_are_taken_as_they_are(tmp_path):
    folder = mini.write_release(tmp_path)
    before = tree(folder)
    data = load(tmp_path)
    assert data.ids.tolist() == ["006_1_2", "006_1_3", "007_2_1", "011_3_1"]
    assert data.groups.tolist() == ["006", "006", "007", "011"]
    assert data.kind == "flow"
    assert data.source.startswith("samm@")
    assert len(data.source) == 17
    assert data.extras["code"].tolist() == ["4+7", "4B", "L12 or L14", "ref(7B)+4"]
    assert data.extras["emotion"].tolist() == ["Anger"] * 4
    assert "landmarks" not in data.extras
    for seed, image in enumerate(data.images):
        onset = mini.texture(seed)
        expected = flow.flow_map(mini.moved(onset, 0).astype(np.uint8), mini.moved(onset, 2).astype(np.uint8))
        np.testing.assert_array_equal(image, expected)  # onset and apex, no other frame; u, v, strain in this order
    assert tree(folder) == before


def test_labels_follow_policy_and_vocabulary_without_new_flow(tmp_path, counted):
    mini.write_release(tmp_path)
    data = load(tmp_path)
    assert data.class_names == ("AU04", "AU07", "AU12")
    np.testing.assert_allclose(data.labels, [[1, 1, 0], [0.4, 0, 0], [0, 0, 1], [1, 0, 0]])
    everything = load(tmp_path, alternatives="all", references="present", vocabulary="14, 7")
    assert everything.class_names == ("AU14", "AU07")
    np.testing.assert_allclose(everything.labels, [[0, 1], [0, 0], [1, 0], [0, 0.4]])
    assert load(tmp_path, vocabulary="notebook25").labels.shape == (4, 25)
    assert len(counted) == 4


def test_raw_frames_are_aligned_by_the_landmarks_of_the_onset(tmp_path):
    mini.write_release(tmp_path, "frames", mini.CLIPS[:2])
    data = load(tmp_path)
    assert data.images.shape == (2, 28, 28, 3)
    np.testing.assert_allclose(data.extras["landmarks"], np.stack([faces.TEMPLATE] * 2), atol=1e-3)
    row, column = np.unravel_index(data.images[0, ..., 0].argmax(), (28, 28))
    centre = (144 - 20) / 1.1 / 8  # the middle of the frame, where the motion is, as seen in the 224x224 face, in map pixels
    assert abs(row - centre) < 3
    assert abs(column - centre) < 3


def test_frames_are_found_by_number_whatever_they_are_called(tmp_path):
    folder = mini.write_release(tmp_path)
    shutil.move(folder / "SAMM_Normalized_TM" / "sub006", folder / "SAMM_Normalized_TM" / "6")
    clip = folder / "SAMM_Normalized_TM" / "6" / "006_1_2"
    for path in sorted(clip.iterdir()):
        path.rename(clip / f"img{int(path.stem[-5:])}.PNG")
    assert load(tmp_path).source == load(tmp_path).source
    (clip / "x_00014.bmp").write_bytes((clip / "img14.PNG").read_bytes())
    assert "two files are apex frame 14" in message(tmp_path)


def test_flow_maps_with_landmarks(tmp_path, capsys):
    folder = mini.write_release(tmp_path, "flow")
    (folder / "flow" / "007_007_2_1.png").unlink()
    mini.write_landmarks(folder / "landmarks.csv", "flow", {"006_006_1_2.png": faces.TEMPLATE, "x.png": faces.TEMPLATE})
    data = load(tmp_path)
    assert data.ids.tolist() == ["006_1_2", "006_1_3", "011_3_1"]
    assert "1 of 4 clips of the workbook have no flow map" in capsys.readouterr().out
    np.testing.assert_array_equal(data.images, np.stack([mini.ramp()] * 3))
    np.testing.assert_array_equal(data.extras["landmarks"][0], faces.TEMPLATE)
    assert np.isnan(data.extras["landmarks"][1:]).all()


def test_frames_are_preferred_and_flow_can_be_asked_for(tmp_path):
    folder = mini.write_release(tmp_path)
    mini.write_maps(folder / "flow")
    assert not np.array_equal(load(tmp_path).images[0], mini.ramp())
    np.testing.assert_array_equal(load(tmp_path, layout="flow").images[0], mini.ramp())
    shutil.rmtree(folder / "SAMM_Normalized_TM")
    assert "SAMM_Normalized_TM (frames)" in message(tmp_path, layout="frames")


def test_rare_action_units_are_left_out_aloud(tmp_path, capsys):
    mini.write_release(tmp_path, "flow")
    assert load(tmp_path, min_positives=2).class_names == ("AU04",)
    assert "left out, present in fewer than 2 clips: AU07 (1), AU12 (1)" in capsys.readouterr().out
    assert "AU04 (3)" in message(tmp_path, min_positives=5)


def test_clips_are_skipped_on_purpose_only(tmp_path):
    folder = mini.write_release(tmp_path)
    shutil.rmtree(folder / "SAMM_Normalized_TM" / "sub007")
    assert load(tmp_path, skip_clips="007_2_1").ids.tolist() == ["006_1_2", "006_1_3", "011_3_1"]
    assert "007_2_9" in message(tmp_path, skip_clips="007_2_9")
    assert "no clip" in message(tmp_path, skip_clips=",".join(clip[1] for clip in mini.CLIPS))


# --- done once -----------------------------------------------------------------------------------------------------------


def test_the_second_load_only_reads(tmp_path, counted):
    mini.write_release(tmp_path)
    first = load(tmp_path)
    cache = tree(tmp_path / "cache")
    second = load(tmp_path)
    assert len(counted) == 4
    assert first.source == second.source
    np.testing.assert_array_equal(first.images, second.images)
    assert {p: t for p, t in tree(tmp_path / "cache").items() if p.suffix != ".lock"} == {
        p: t for p, t in cache.items() if p.suffix != ".lock"
    }
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_a_copy_of_the_release_is_the_same_and_any_change_is_not(tmp_path):
    folder = mini.write_release(tmp_path)
    source = load(tmp_path).source
    shutil.copytree(folder, tmp_path / "elsewhere" / "samm")
    assert load(tmp_path / "elsewhere").source == source
    seen = {source, load(tmp_path, image_size=14).source, load(tmp_path, skip_clips="006_1_2").source}
    rewrite(folder, code={"006_1_2": "4"})
    seen.add(load(tmp_path).source)
    apex = folder / "SAMM_Normalized_TM" / "sub006" / "006_1_2" / "006_00014.png"
    cv2.imwrite(str(apex), mini.moved(mini.texture(0), -1).astype(np.uint8))
    seen.add(load(tmp_path).source)
    assert len(seen) == 5
    unused = apex.with_name("006_00012.png")
    last = load(tmp_path).source
    unused.write_bytes(b"")
    assert load(tmp_path).source == last


def test_an_interrupted_preparation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    mini.write_release(tmp_path)
    compute = flow.flow_map
    monkeypatch.setattr(prepare, "_workers", lambda: 1)
    calls = []

    def killed(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        return compute(*args)

    monkeypatch.setattr(flow, "flow_map", killed)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path)
    kept = tree(tmp_path / "cache")
    assert sorted(p.name for p in kept if p.suffix == ".png") == ["006_1_2.png", "006_1_3.png"]
    assert not list((tmp_path / "cache").rglob("records"))

    monkeypatch.setattr(flow, "flow_map", lambda *a: (calls.append(a), compute(*a))[1])
    resumed = load(tmp_path)
    assert len(calls) == 4
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(resumed.images, load(tmp_path).images)


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    mini.write_release(tmp_path)
    load(tmp_path)
    (records,) = (tmp_path / "cache").rglob("records")
    records.rename(records.with_name(".records.abc"))
    load(tmp_path)
    assert os.listdir(records.parent) == ["records"]


def test_a_full_disk_is_one_message_and_leaves_no_half_file(tmp_path, monkeypatch):
    mini.write_release(tmp_path)
    write = Path.write_bytes

    def full(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    text = message(tmp_path)
    assert "No space left on device" in text
    assert ".png" in text
    assert "free space" in text
    monkeypatch.undo()
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    mini.write_release(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(tmp_path / "file"))
    assert "set $FEXPR_CACHE_DIR to a folder of yours" in message(tmp_path)


# --- synthetic or release ------------------------------------------------------------------------------------------------


def test_the_synthetic_release_is_drawn_once_and_read_like_a_real_one(monkeypatch):
    drawn = []
    draw = samm.synthetic.write_samm
    monkeypatch.setattr(samm.synthetic, "write_samm", lambda *a: (drawn.append(a), draw(*a)))
    data = load("")
    assert data.source == "synthetic"
    assert data.synthetic
    assert len(data) == 3
    assert len(set(data.groups)) == 2
    assert np.isfinite(data.extras["landmarks"]).all()
    np.testing.assert_array_equal(load("", source="synthetic").images, data.images)
    assert len(drawn) == 1


def test_source(tmp_path, monkeypatch):
    def resolve(**changes):
        return samm.resolve_source(mini.config(**changes))

    assert resolve() == "synthetic"
    with pytest.raises(UserError, match=r"fexpr_data/samm(.|\n)*source=synthetic"):
        resolve(source="release")
    with pytest.raises(UserError, match="auto, release, synthetic"):
        resolve(source="real")
    (tmp_path / "home" / "fexpr_data" / "samm").mkdir(parents=True)
    assert resolve() == "release"
    empty = tmp_path / "empty"
    (empty / "casme2").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds casme2(.|\n)*config.data.root(.|\n)*source=synthetic"):
        resolve(root=str(empty))
    monkeypatch.setenv("FEXPR_DATA_DIR", str(empty))
    with pytest.raises(UserError, match=r"\$FEXPR_DATA_DIR"):
        resolve()
    assert resolve(source="synthetic") == "synthetic"
    assert resolve(root=str(tmp_path / "home" / "fexpr_data")) == "release"
    with pytest.raises(UserError, match="does not exist"):
        resolve(root=str(tmp_path / "nowhere"))
    (tmp_path / "samm").mkdir()
    with pytest.raises(UserError, match=f"perhaps {tmp_path}"):
        resolve(root=str(tmp_path / "samm"))


# --- bad input: one message, everything in it ----------------------------------------------------------------------------


def test_missing_frames_are_all_listed_before_any_flow(tmp_path, counted):
    folder = mini.write_release(tmp_path) / "SAMM_Normalized_TM"
    (folder / "sub006" / "006_1_2" / "006_00010.png").unlink()
    (folder / "sub006" / "006_1_3" / "006_00033.png").unlink()
    shutil.rmtree(folder / "sub007")
    shutil.rmtree(folder / "sub011" / "011_3_1")
    (folder / "sub011" / "011_3_1").mkdir()
    text = message(tmp_path)
    assert "row 15, clip 006_1_2: no onset frame 10" in text
    assert "holds frames 11..18" in text
    assert "row 16, clip 006_1_3: no apex frame 33" in text
    assert "row 17, clip 007_2_1: " in text
    assert f"{folder / '007' / '007_2_1'} does not exist" in text
    assert "holds no frames" in text
    assert "skip_clips" in text
    assert not counted


def test_files_that_are_no_images_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path) / "SAMM_Normalized_TM"
    (folder / "sub006" / "006_1_2" / "006_00010.png").write_bytes(b"not an image")
    (folder / "sub007" / "007_2_1" / "007_00009.png").write_bytes(b"")
    cv2.imwrite(str(folder / "sub006" / "006_1_3" / "006_00033.png"), np.zeros((40, 48), np.uint8))
    whole = folder / "sub011" / "011_3_1" / "011_00104.png"
    jpeg = cv2.imencode(".jpg", mini.texture(1).astype(np.uint8))[1].tobytes()
    whole.write_bytes(jpeg[: len(jpeg) // 2])  # a copy that broke off
    text = message(tmp_path)
    assert "006_1_2: " in text
    assert "006_00010.png is not an image, or is cut off (12 bytes)" in text
    assert "007_00009.png is not an image, or is cut off (0 bytes)" in text
    assert "006_00033.png has (48, 40) pixels, the onset frame 006_00030.png has (48, 48)" in text
    assert "011_00104.png is not an image, or is cut off" in text
    assert not list((tmp_path / "cache").rglob("records"))


def test_maps_of_another_kind_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path, "flow") / "flow"
    cv2.imwrite(str(folder / "006_006_1_2.png"), np.zeros((32, 30, 3), np.uint8))
    cv2.imwrite(str(folder / "006_006_1_3.png"), np.zeros((28, 28), np.uint8))
    cv2.imwrite(str(folder / "007_007_2_1.png"), np.zeros((28, 28, 3), np.uint16))
    cv2.imwrite(str(folder / "011_011_3_1.png"), np.zeros((28, 28, 4), np.uint8))
    text = message(tmp_path)
    for found in ("30x32 RGB uint8", "28x28 grey uint8", "28x28 RGB uint16", "28x28 RGBA uint8"):
        assert f"is {found}, expected 28x28 RGB uint8" in text


def test_a_map_of_no_clip_is_an_error(tmp_path):
    folder = mini.write_release(tmp_path, "flow") / "flow"
    (folder / "006_006_1_2.png").rename(folder / "006_006_1_22.png")
    assert "006_006_1_22.png" in message(tmp_path)


def test_bad_frame_numbers_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path)
    rewrite(folder, apex={"006_1_2": 10, "006_1_3": 29}, onset={"007_2_1": None})
    text = message(tmp_path)
    assert "clip 006_1_2: apex frame 10 is not after onset frame 10" in text
    assert "clip 006_1_3: apex frame 29 is not after onset frame 30" in text
    assert "clip 007_2_1: onset frame is missing" in text
    mini.write_maps(folder / "flow")
    assert len(load(tmp_path, layout="flow")) == 4  # maps need no frame numbers


def test_unreadable_codes_are_all_listed(tmp_path):
    folder = mini.write_release(tmp_path, "flow")
    rewrite(folder, code={"006_1_2": "4+x7", "011_3_1": "999"})
    text = message(tmp_path)
    assert "SAMM_Micro_FACS_Codes_v2.xlsx row 15, clip 006_1_2: 'x7'" in text
    assert "row 18, clip 011_3_1: '999'" in text


def test_an_empty_release_says_what_it_looked_for(tmp_path):
    folder = tmp_path / "samm"
    folder.mkdir()
    text = message(tmp_path)
    for looked_for in ("SAMM (frames)", "SAMM_Normalized_TM (frames)", "flow (flow)", "it holds nothing"):
        assert looked_for in text
    mini.write_maps(folder / "flow")
    assert "no FACS workbook" in message(tmp_path)


def test_an_action_unit_column_without_codes_is_an_error(tmp_path):
    folder = mini.write_release(tmp_path, "flow")
    rewrite(folder, code={clip[1]: None for clip in mini.CLIPS})
    assert "'Action Units'" in message(tmp_path)


def test_landmarks_that_do_not_cover_every_clip(tmp_path):
    folder = mini.write_release(tmp_path)
    mini.write_landmarks(folder / "landmarks.csv", "clip", {"006_1_2": faces.TEMPLATE, "007_2_1": faces.TEMPLATE})
    text = message(tmp_path)
    assert "row 16, clip 006_1_3: no row" in text
    assert "row 18, clip 011_3_1: no row" in text


def test_landmarks_of_flow_maps_do_not_align_frames(tmp_path, capsys):
    folder = mini.write_release(tmp_path)
    mini.write_landmarks(folder / "landmarks.csv", "flow", {"006_006_1_2.png": faces.TEMPLATE})
    assert "landmarks" not in load(tmp_path).extras
    assert "left aside" in capsys.readouterr().out
    assert "there are none for the frames" in message(tmp_path, align="landmarks")


def test_frames_without_a_face_are_all_listed(tmp_path):
    pytest.importorskip("skimage")
    mini.write_release(tmp_path)
    text = message(tmp_path, align="detect")
    assert text.count("no face found") == 4


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": "all"}, {"vocabulary": "4,3"}, {"vocabulary": "4,4"}, {"vocabulary": ""},
        {"layout": "video"}, {"align": "dlib"}, {"alternatives": "some"},
    ],
)  # fmt: skip
def test_config_values_that_do_not_exist(change, tmp_path):
    mini.write_release(tmp_path)
    (field, value), = change.items()
    text = message(tmp_path, **change)
    assert field in text
    assert repr(value) in text


# --- the real release ----------------------------------------------------------------------------------------------------


@pytest.mark.release
@pytest.mark.skipif(not RELEASE_ROOT, reason="needs FEXPR_DATA_DIR")
def test_the_published_maps():
    data = load(RELEASE_ROOT, layout="flow", min_positives=5)
    assert data.images.shape == (133, 28, 28, 3)
    assert len(set(data.groups)) == 28
    np.testing.assert_array_equal(data.images.max((1, 2)), 255)
    assert {"AU04", "AU07", "AU12", "AU14"} <= set(data.class_names)
    assert np.isfinite(data.extras["landmarks"]).all()
    # Channels are u, v, strain: strain recomputed from the first two goes with the third, and not with either of them.
    u, v, strain = np.moveaxis(data.images.astype(float), -1, 0)
    recomputed = np.stack([flow.optical_strain(np.stack(uv, -1)) for uv in zip(u, v, strict=True)])
    assert np.corrcoef(recomputed.ravel(), strain.ravel())[0, 1] > 0.6
    assert abs(np.corrcoef(recomputed.ravel(), u.ravel())[0, 1]) < 0.4
