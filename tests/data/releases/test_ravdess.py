"""RAVDESS: names, the published folds, frames against their table, videos, action units, and the
drawn release's own truth.
"""

import csv
import shutil

import cv2
import numpy as np
import pytest
from sklearn.model_selection import KFold

from configs import base
from fexpr.data import __main__ as data_main
from fexpr.data.loaders import LOADERS
from fexpr.data.preparation import alignment
from fexpr.data.preparation.face_images import spectral_residual
from fexpr.data.preparation.prepare import BadInput
from fexpr.data.releases import au_gaussians
from fexpr.data.releases.ravdess_aus import INTENSITIES, per_actor
from fexpr.data.releases.ravdess_frames import decode
from fexpr.data.releases.ravdess_names import FOLDS, parse, published_folds
from fexpr.data.synthetic import ravdess_clips
from fexpr.errors import UserError
from tests.data import ravdess_gaussians


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two actors, eight clips each, six frames a clip."""
    folder = tmp_path_factory.mktemp("root") / "ravdess"
    ravdess_clips.write(folder, actors=2, clips=16, frames=6, seed=1)
    return folder


@pytest.fixture
def release(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "root" / "ravdess")


def load(name, folder, **fields):
    config = base.get_config().data
    config.update({"name": name, "root": str(folder.parent), "source": "release", **fields})
    return LOADERS[name](config)


def test_names():
    clip = parse("01-01-06-02-01-02-12.mp4")
    assert (clip.label, clip.group, clip.used, str(clip)) == (
        5,
        "actor12",
        True,
        "01-01-06-02-01-02-12",
    )
    assert not parse("02-01-06-02-01-02-12").used  # no sound
    for name, fault in (
        ("01-01-09-01-01-01-01", "emotion is 09, expected 01 to 08"),
        ("01-01-01-02-01-01-01", "strong intensity"),
        ("01-01-02-01-01-01-25", "actor is 25"),
        ("1-1-2-1-1-1-2", "'1-1-2-1-1-1-2'.*modality-channel"),
    ):
        with pytest.raises(BadInput, match=fault):
            parse(name)


def test_what_a_name_says_in_words():
    for modality, words in enumerate(("audio-video", "video only", "audio only"), 1):
        for channel, more in enumerate(("speech", "song"), 1):
            clip = parse(f"0{modality}-0{channel}-03-01-02-01-07")
            assert clip.kind == f"0{modality}-0{channel} ({words}, {more})"
            assert clip.used == (modality == channel == 1)
            assert str(clip) == f"0{modality}-0{channel}-03-01-02-01-07"
            assert clip.group == "actor07"


def test_the_published_folds_are_numpys_seed_2020():
    groups = np.array([f"actor{a:02d}" for a in range(1, 25)])
    folds = published_folds(groups)
    made = [tuple(test + 1) for _, test in KFold(5, shuffle=True, random_state=2020).split(groups)]
    assert [tuple(rows + 1) for _, rows in folds] == made == list(FOLDS)
    assert folds[0][0] == "actors 2,5,14,15,16"
    with pytest.raises(UserError, match="sub07"):
        published_folds(np.array(["actor01", "sub07"]))
    with pytest.raises(UserError, match=r"ravdess: .*one fold"):
        published_folds(np.array(["actor02", "actor05"]))


def test_frames_maps_and_action_units(release):
    found = load("ravdess", release, map="saliency")
    assert found.images.shape == (96, 48, 48, 2)
    assert found.ids[1] == f"{found.extras['video'][1]}/1"
    assert set(found.groups) == {"actor01", "actor02"}
    clip = found.extras["video"][40]
    assert found.labels[40] == parse(clip).label
    face = cv2.imread(str(release / "frames" / f"{found.ids[40]}.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(found.images[40, ..., 0], face)
    np.testing.assert_array_equal(found.images[40, ..., 1], spectral_residual(face))
    with open(release / "openface" / f"{clip}.csv", newline="") as f:
        row = list(csv.DictReader(f))[found.extras["frame"][40]]
    np.testing.assert_allclose(
        found.extras["action_units"][40], [float(row[n]) for n in INTENSITIES], atol=1e-6
    )
    assert found.extras["shown"].max() > 0.9
    assert found.extras["shown"].min() == 0

    # a map of somebody's own making is read where it is
    shutil.copytree(release / "frames", release / "saliency")
    own = load("ravdess", release, map="saliency")
    np.testing.assert_array_equal(own.images[..., 0], own.images[..., 1])
    (release / "saliency" / f"{found.ids[3]}.png").unlink()
    with pytest.raises(UserError, match=f"saliency/{found.ids[3]}.png"):
        load("ravdess", release, map="saliency")


def test_what_contradicts_the_table_is_all_named(release):
    path = release / "frames.csv"
    lines = path.read_text().splitlines()
    name, _, clip = lines[1].partition(";")
    emotion, actor = clip.split(";")[:2]
    lines[1] = ";".join([name, "6", "9", *clip.split(";")[2:]])
    lines[2] = lines[3]
    path.write_text("\n".join(lines) + "\n")
    (release / "frames" / "01-01-04-01-01-01-33").mkdir()
    with pytest.raises(UserError) as error:
        load("ravdess", release)
    text = error.value.text()
    for part in (
        f"emotion is '6', the file name says {emotion}",
        f"actor is '9', the file name says {actor}",
        "this frame is listed twice",
        "does not list it",
        "actor is 33, expected 01 to 24",
    ):
        assert part in text


def test_without_frames_it_says_what_it_looked_for(release):
    shutil.rmtree(release / "frames")
    with pytest.raises(UserError, match=r"no frames/<clip>/<frame>.png or Actor_\*"):
        load("ravdess", release)


def test_videos_are_decoded_and_the_face_cropped(tmp_path):
    take = ravdess_clips.plan(1, 3, 8, seed=3)[2]
    portrait = ravdess_clips.Portrait(ravdess_clips.random_face(np.random.default_rng([3, 3, 1])))
    path = tmp_path / f"{take.name}.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (320, 288))
    for frame in ravdess_clips.render(portrait, take, 3):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    found, transform = decode(path)
    assert found.shape == (8, 48, 48)
    placed = cv2.transform(portrait.face.landmarks()[None], transform)[0]
    np.testing.assert_allclose(placed, alignment.TEMPLATE * 48 / 224, atol=3)
    path.write_bytes(b"no video")
    with pytest.raises(BadInput, match="no frame can be decoded"):
        decode(path)


def test_averaged_action_units(release):
    found = load("ravdess_aus", release)
    assert (found.kind, found.images.shape, found.images.dtype) == (
        "features",
        (16, 1, 1, 35),
        np.float32,
    )
    assert load("ravdess_aus", release, features="intensities").images.shape == (16, 1, 1, 17)
    table = release / "average_action_units.csv"
    lines = table.read_text().splitlines()
    lines[1] = "7.5" + lines[1][lines[1].index(";") :]
    lines[3] = lines[2]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        UserError,
        match=r"(?s)line 2, .*AU01_r is '7.5', expected 0 to 5.*line 4, .* in line 3",
    ):
        load("ravdess_aus", release)


def test_per_actor_takes_out_what_an_actor_adds():
    rng = np.random.default_rng(0)
    features, actors = rng.normal(size=(40, 3)), np.repeat(["a", "b"], 20)
    moved = (
        features * np.where(actors == "a", 1, 3)[:, None] + np.where(actors == "a", 0, 5)[:, None]
    )
    np.testing.assert_allclose(
        per_actor(features, actors, "center")[:20], per_actor(moved, actors, "center")[:20]
    )
    assert abs(per_actor(moved, actors, "center")[20:].mean()) < 1e-12
    np.testing.assert_allclose(per_actor(moved, actors, "standardize").std(0), 1, atol=0.05)
    np.testing.assert_array_equal(per_actor(features, actors, "none"), features)


def test_per_actor_by_the_other_clips_alone():
    """A clip's features say nothing of its own level: it may be moved without moving what it is
    compared with.
    """
    rng = np.random.default_rng(0)
    features, actors = rng.normal(size=(12, 3)), np.repeat(["a", "b"], 6)
    found = per_actor(features, actors, "standardize_others")
    for i in (0, 7):
        others = features[(actors == actors[i]) & (np.arange(12) != i)]
        expected = (features[i] - others.mean(0)) / (others.std(0) + 0.05)
        np.testing.assert_allclose(found[i], expected)
    assert not np.allclose(found, per_actor(features, actors, "standardize"))
    with pytest.raises(UserError, match=r"per_actor=.*: a has one clip"):
        per_actor(features[:7], np.array(["a", *"bbbbbb"]), "standardize_others")


def test_every_actor_goes_round_the_emotions():
    takes = ravdess_clips.plan(24, 1440, 5, seed=0)
    assert len({str(t.name) for t in takes}) == 1440
    assert np.bincount([t.name.label for t in takes]).tolist() == [96] + [192] * 7
    with pytest.raises(ValueError, match=r"24 actors.* 60 clips"):
        ravdess_clips.plan(25, 100, 5, seed=0)


def test_gaussians_of_somebody_elses(tmp_path):
    means, matrices = ravdess_gaussians.write(tmp_path)
    mean, covariance = au_gaussians.read(tmp_path)
    np.testing.assert_allclose(mean[[0, 1]], means[[0, 0]])  # calm is neutral
    np.testing.assert_allclose(covariance[4], matrices[ravdess_gaussians.NAMES.index("Anger")])
    (tmp_path / "GMM_covM_Fear.csv").unlink()
    (tmp_path / "GMM_covM_Sad.csv").write_text(
        "\n".join([";".join(INTENSITIES), *(";".join(["1"] * 17) for _ in range(17))]) + "\n"
    )
    with pytest.raises(
        UserError, match=r"(?s)GMM_covM_Sad.csv: no covariance matrix.*GMM_covM_Fear.csv"
    ):
        au_gaussians.read(tmp_path)


def test_check_looks_for_what_the_folder_holds(release, capsys):
    shutil.rmtree(release / "frames")
    # the table of action units alone
    assert data_main.main(["check", "--root", str(release.parent)]) == 0
    out = capsys.readouterr().out
    assert "ravdess_aus" in out
    assert "\nravdess\n" not in out
