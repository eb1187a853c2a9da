"""The SAMM loader on miniature releases: every layout to a Dataset, and work done once."""

import errno
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fexpr.data.preparation import alignment, flow, prepare
from fexpr.data.releases import samm
from fexpr.errors import UserError
from tests.data import samm_release as mini

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it
pytestmark = pytest.mark.usefixtures("no_release")


def tree(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in Path(folder).rglob("*")}


# --- layouts -------------------------------------------------------------------------------------------------------------


def test_normalised_frames_are_taken_as_they_are(tmp_path):
    folder = mini.write_release(tmp_path)
    before = tree(folder)
    data = mini.load(tmp_path)
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
        expected = flow.flow_map(
            mini.moved(onset, 0).astype(np.uint8), mini.moved(onset, 2).astype(np.uint8)
        )
        # onset and apex, no other frame; u, v, strain in this order
        np.testing.assert_array_equal(image, expected)
    assert tree(folder) == before


def test_labels_follow_policy_and_vocabulary_without_new_flow(tmp_path, counted):
    mini.write_release(tmp_path)
    data = mini.load(tmp_path)
    assert data.class_names == ("AU04", "AU07", "AU12")
    np.testing.assert_allclose(data.labels, [[1, 1, 0], [0.4, 0, 0], [0, 0, 1], [1, 0, 0]])
    everything = mini.load(tmp_path, alternatives="all", references="present", vocabulary="14, 7")
    assert everything.class_names == ("AU14", "AU07")
    np.testing.assert_allclose(everything.labels, [[0, 1], [0, 0], [1, 0], [0, 0.4]])
    assert mini.load(tmp_path, vocabulary="notebook25").labels.shape == (4, 25)
    assert len(counted) == 4


def test_raw_frames_are_aligned_by_the_landmarks_of_the_onset(tmp_path):
    mini.write_release(tmp_path, "frames", mini.CLIPS[:2])
    data = mini.load(tmp_path)
    assert data.images.shape == (2, 28, 28, 3)
    np.testing.assert_allclose(
        data.extras["landmarks"], np.stack([alignment.TEMPLATE] * 2), atol=1e-3
    )
    row, column = np.unravel_index(data.images[0, ..., 0].argmax(), (28, 28))
    # the middle of the frame, where the motion is, as seen in the 224x224 face, in map pixels
    centre = (144 - 20) / 1.1 / 8
    assert abs(row - centre) < 3
    assert abs(column - centre) < 3


def test_frames_are_found_by_number_whatever_they_are_called(tmp_path):
    folder = mini.write_release(tmp_path)
    shutil.move(folder / "SAMM_Normalized_TM" / "sub006", folder / "SAMM_Normalized_TM" / "6")
    clip = folder / "SAMM_Normalized_TM" / "6" / "006_1_2"
    for path in sorted(clip.iterdir()):
        path.rename(clip / f"img{int(path.stem[-5:])}.PNG")
    assert mini.load(tmp_path).source == mini.load(tmp_path).source
    (clip / "x_00014.bmp").write_bytes((clip / "img14.PNG").read_bytes())
    assert "two files are apex frame 14" in mini.message(tmp_path)


def test_flow_maps_with_landmarks(tmp_path, capsys):
    folder = mini.write_release(tmp_path, "flow")
    (folder / "flow" / "007_007_2_1.png").unlink()
    mini.write_landmarks(
        folder / "landmarks.csv",
        "flow",
        {"006_006_1_2.png": alignment.TEMPLATE, "x.png": alignment.TEMPLATE},
    )
    data = mini.load(tmp_path)
    assert data.ids.tolist() == ["006_1_2", "006_1_3", "011_3_1"]
    assert re.search(r"\b1 of 4 clips of the workbook have no flow map", capsys.readouterr().out)
    np.testing.assert_array_equal(data.images, np.stack([mini.ramp()] * 3))
    np.testing.assert_allclose(data.extras["landmarks"][0], alignment.TEMPLATE, rtol=1e-6)
    assert np.isnan(data.extras["landmarks"][1:]).all()


def test_frames_are_preferred_and_flow_can_be_asked_for(tmp_path):
    folder = mini.write_release(tmp_path)
    mini.write_maps(folder / "flow")
    assert not np.array_equal(mini.load(tmp_path).images[0], mini.ramp())
    np.testing.assert_array_equal(mini.load(tmp_path, layout="flow").images[0], mini.ramp())
    shutil.rmtree(folder / "SAMM_Normalized_TM")
    assert "SAMM_Normalized_TM (frames)" in mini.message(tmp_path, layout="frames")


def test_rare_action_units_are_left_out_aloud(tmp_path, capsys):
    mini.write_release(tmp_path, "flow")
    assert mini.load(tmp_path, min_positives=2).class_names == ("AU04",)
    assert "left out, present in fewer than 2 clips: AU07 (1), AU12 (1)" in capsys.readouterr().out
    assert "AU04 (3)" in mini.message(tmp_path, min_positives=5)


def test_clips_are_skipped_on_purpose_only(tmp_path):
    folder = mini.write_release(tmp_path)
    shutil.rmtree(folder / "SAMM_Normalized_TM" / "sub007")
    assert mini.load(tmp_path, skip_clips="007_2_1").ids.tolist() == [
        "006_1_2",
        "006_1_3",
        "011_3_1",
    ]
    assert "007_2_9" in mini.message(tmp_path, skip_clips="007_2_9")
    assert "no clip" in mini.message(tmp_path, skip_clips=",".join(clip[1] for clip in mini.CLIPS))


# --- done once -----------------------------------------------------------------------------------------------------------


def test_the_second_load_only_reads(tmp_path, counted, cache):
    mini.write_release(tmp_path)
    first = mini.load(tmp_path)
    before = tree(cache)
    second = mini.load(tmp_path)
    assert len(counted) == 4
    assert first.source == second.source
    np.testing.assert_array_equal(first.images, second.images)
    assert {p: t for p, t in tree(cache).items() if p.suffix != ".lock"} == {
        p: t for p, t in before.items() if p.suffix != ".lock"
    }
    assert not list(cache.rglob("*.png"))


def test_a_copy_of_the_release_is_the_same_and_any_change_is_not(tmp_path):
    folder = mini.write_release(tmp_path)
    source = mini.load(tmp_path).source
    shutil.copytree(folder, tmp_path / "elsewhere" / "samm")
    assert mini.load(tmp_path / "elsewhere").source == source
    seen = {
        source,
        mini.load(tmp_path, image_size=14).source,
        mini.load(tmp_path, skip_clips="006_1_2").source,
    }
    mini.rewrite(folder, code={"006_1_2": "4"})
    seen.add(mini.load(tmp_path).source)
    apex = folder / "SAMM_Normalized_TM" / "sub006" / "006_1_2" / "006_00014.png"
    cv2.imwrite(str(apex), mini.moved(mini.texture(0), -1).astype(np.uint8))
    seen.add(mini.load(tmp_path).source)
    assert len(seen) == 5
    unused = apex.with_name("006_00012.png")
    last = mini.load(tmp_path).source
    unused.write_bytes(b"")
    assert mini.load(tmp_path).source == last


def test_an_interrupted_preparation_goes_on_where_it_stopped(tmp_path, monkeypatch, cache):
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
        mini.load(tmp_path)
    kept = tree(cache)
    assert sorted(p.name for p in kept if p.suffix == ".png") == ["006_1_2.png", "006_1_3.png"]
    assert not list(cache.rglob("records"))

    monkeypatch.setattr(flow, "flow_map", lambda *a: (calls.append(a), compute(*a))[1])
    resumed = mini.load(tmp_path)
    assert len(calls) == 4
    shutil.rmtree(cache)
    np.testing.assert_array_equal(resumed.images, mini.load(tmp_path).images)


def test_what_a_killed_writer_left_is_swept_away(tmp_path, cache):
    mini.write_release(tmp_path)
    mini.load(tmp_path)
    (records,) = cache.rglob("records")
    records.rename(records.with_name(".records.abc"))
    mini.load(tmp_path)
    assert os.listdir(records.parent) == ["records"]


def test_a_full_disk_is_one_message_and_leaves_no_half_file(tmp_path, monkeypatch, cache):
    mini.write_release(tmp_path)
    write = Path.write_bytes

    def full(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    text = mini.message(tmp_path)
    assert "No space left on device" in text
    assert ".png" in text
    assert "free space" in text
    monkeypatch.undo()
    assert [p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    mini.write_release(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(tmp_path / "file"))
    assert "set $FEXPR_CACHE_DIR to a folder of yours" in mini.message(tmp_path)


# --- synthetic or release ------------------------------------------------------------------------------------------------


def test_the_synthetic_release_is_drawn_once_and_read_like_a_real_one(monkeypatch):
    drawn = []
    draw = samm.samm_clips.write_samm
    monkeypatch.setattr(samm.samm_clips, "write_samm", lambda *a: (drawn.append(a), draw(*a)))
    data = mini.load("")
    assert data.source == "synthetic"
    assert data.synthetic
    assert len(data) == 3
    assert len(set(data.groups)) == 2
    assert np.isfinite(data.extras["landmarks"]).all()
    np.testing.assert_array_equal(mini.load("", source="synthetic").images, data.images)
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
    with pytest.raises(UserError, match=r"casme2(.|\n)*config.data.root(.|\n)*source=synthetic"):
        resolve(root=str(empty))
    monkeypatch.setenv("FEXPR_DATA_DIR", str(empty))
    with pytest.raises(UserError, match=r"\$FEXPR_DATA_DIR"):
        resolve()
    assert resolve(source="synthetic") == "synthetic"
    assert resolve(root=str(tmp_path / "home" / "fexpr_data")) == "release"
    with pytest.raises(UserError, match="does not exist"):
        resolve(root=str(tmp_path / "nowhere"))
    (tmp_path / "samm").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}"):
        resolve(root=str(tmp_path / "samm"))


# --- the real release ----------------------------------------------------------------------------------------------------


@pytest.mark.release
@pytest.mark.skipif(not RELEASE_ROOT, reason="needs FEXPR_DATA_DIR")
def test_the_published_maps():
    data = mini.load(RELEASE_ROOT, layout="flow", min_positives=5)
    assert data.images.shape == (133, 28, 28, 3)
    assert len(set(data.groups)) == 28
    np.testing.assert_array_equal(data.images.max((1, 2)), 255)
    assert {"AU04", "AU07", "AU12", "AU14"} <= set(data.class_names)
    assert np.isfinite(data.extras["landmarks"]).all()
    # Channels are u, v, strain: strain recomputed from the first two goes with the third, and not
    # with either of them.
    u, v, strain = np.moveaxis(data.images.astype(float), -1, 0)
    recomputed = np.stack([flow.optical_strain(np.stack(uv, -1)) for uv in zip(u, v, strict=True)])
    assert np.corrcoef(recomputed.ravel(), strain.ravel())[0, 1] > 0.6
    assert abs(np.corrcoef(recomputed.ravel(), u.ravel())[0, 1]) < 0.4
