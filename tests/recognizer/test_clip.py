"""A decision of a whole video for each person, by the rule that the run's clips were decided by."""

import dataclasses

import cv2
import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.evaluate.clip_rules import RULES, pooled, posterior_moments
from fexpr.evaluate.recalibration import fit_temperature
from fexpr.probabilities import Identity, Temperature, to_json
from fexpr.recognizer import Recognizer, video
from fexpr.recognizer.calibrated import SetLimits
from fexpr.recognizer.clip import LOG_ODDS, ClipSums
from fexpr.recognizer.restored import Restored, set_limits
from tests.recognizer.runs import FIXTURES
from tests.recognizer.test_video import Film, film, needs_portrait

FRAMES = 7


@pytest.fixture(scope="module")
def frames(faces):
    """Faces run, its own test pictures as frames, and logits as if of validation frames."""
    restored = Recognizer.restore(faces[0])
    pixels = faces[1].images[:FRAMES]
    validation = restored.members_logits(faces[1].images[FRAMES:90])[0]
    return restored, restored.members_logits(pixels), validation, faces[1].labels[FRAMES:90]


def answered(recognizer, logits, face=3):
    sums = ClipSums(recognizer)
    for i in range(logits.shape[1]):
        sums.add(face, logits[:, i : i + 1], i / 25)
    return sums


def probabilities(recognizer, table):
    return table[list(recognizer.class_names)].to_numpy(float)


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_of_the_runs_own_clips(frames, rule):
    """As the evaluation pools frames; through the map and sets of clips, not those of frames."""
    restored, logits, validation, labels = frames
    mean, deviation = posterior_moments(validation)
    fitted = fit_temperature(validation, labels, np.full(len(labels), "val"))
    figures = {
        "maps": [to_json(fitted)],
        "posteriors": [{"mean": mean.tolist(), "deviation": deviation.tolist()}],
    }
    of_clips = {"of_trial": [0], "maps": [to_json(Temperature(2.0))]}
    metrics = {
        "selection": restored.selection,
        "clips": {"rule": rule, "frames": figures},
        "calibration": {"applied": of_clips},
    }
    recognizer = dataclasses.replace(restored, metrics=metrics, maps=(Identity(),), limits=None)
    table = answered(recognizer, logits).table("talk.mp4")
    expected = pooled(logits[0], np.zeros(FRAMES, int), 1, rule, validation, labels) / 2
    expected = np.exp(expected) / np.exp(expected).sum()
    np.testing.assert_allclose(probabilities(restored, table), expected, rtol=1e-5)
    assert table["rule"].tolist() == [rule]
    assert table["decision"].tolist() == [restored.class_names[expected.argmax()]]


def test_without_a_rule_by_the_mean_of_log_odds(frames):
    restored, logits, *_ = frames
    recognizer = dataclasses.replace(restored, maps=(Temperature(3.0),), limits=None)
    sums = answered(recognizer, logits)
    table = sums.table("talk.mp4")
    expected = np.exp(np.log(recognizer.scores(logits[0], True)).mean(axis=0))
    expected /= expected.sum()
    np.testing.assert_allclose(probabilities(restored, table)[0], expected, rtol=1e-5)
    (row,) = table.itertuples()
    assert (row.face, row.rows, row.first, row.last) == (3, FRAMES, 0, (FRAMES - 1) / 25)
    assert (row.rule, row.status, row.Index) == (LOG_ODDS, "ok", "talk.mp4")
    assert sums.in_words()[0].endswith(f"by mean log odds over {FRAMES} rows")


def test_an_older_run_without_the_figures_of_its_rule(frames):
    restored, *_ = frames
    clips = {"rule": "centred", "frames": {"temperature": [1.0]}}
    recognizer = dataclasses.replace(restored, metrics=restored.metrics | {"clips": clips})
    assert ClipSums(recognizer).rule == LOG_ODDS


def test_a_coverage_is_of_clips_or_refused(frames):
    """Sets of single frames say nothing of a clip, nor those of clips of a frame."""
    restored, logits, *_ = frames
    of_frames = SetLimits(np.array([0.5, 0.99]), np.full((1, 2), 1.0))
    recognizer = dataclasses.replace(restored, limits=of_frames, coverage=0.9)
    with pytest.raises(UserError, match="clips of this run have no prediction sets"):
        answered(recognizer, logits).check_coverage()
    with pytest.raises(UserError, match="clips of this run have no prediction sets"):
        recognizer.predict_clip("never_opened.mp4")
    assert "set" not in answered(recognizer, logits).table("talk.mp4")

    maps = {"of_trial": [0], "maps": [to_json(Temperature(2.0))]}
    metrics = {
        "selection": restored.selection,
        "clips": {"rule": "sum", "frames": {"applied": maps}},
        "calibration": {"applied": maps},
        "sets": {"of_trial": [0], "levels": [0.5, 0.99], "limits": [[1.0, 1.0]]},
    }
    found = Restored({}, metrics, restored.selection, restored.networks, (0,), 1, None)
    assert set_limits(found, 0.9) is None  # those of frames: the run has sets of clips
    with pytest.raises(UserError, match=r"expected a number from 0\.5 to 0\.99"):
        set_limits(found, 0.3)
    recognizer = dataclasses.replace(
        restored, metrics=metrics, maps=(Identity(),), limits=None, coverage=0.9
    )
    sums = answered(recognizer, logits)
    sums.check_coverage()
    table = sums.table("talk.mp4")  # every class is in the set
    assert table["decision"].tolist() == ["uncertain"]
    assert len(table["set"].iloc[0].split(" or ")) == len(restored.class_names)
    with pytest.raises(UserError, match="hold for whole clips, not for single frames"):
        recognizer.tabulate_logits(["0"], logits[:, :1])


def test_action_units_have_log_odds_each(units):
    restored = Recognizer.restore(units[0])
    logits = restored.members_logits(units[1].images[:5])
    table = answered(restored, logits, face=None).table("clip.avi")
    moved = restored.maps[0](logits[0]) if restored.maps else logits[0]
    expected = 1 / (1 + np.exp(-moved.mean(axis=0)))
    np.testing.assert_allclose(probabilities(restored, table)[0], expected, rtol=1e-5)
    assert table["face"].isna().all()


def test_every_member_of_an_ensemble_answers_for_the_clip(folds):
    restored = Recognizer.restore(folds[0])
    table = answered(restored, restored.members_logits(folds[1].images[:4])).table("clip.avi")
    assert table["spread"].notna().all()
    assert probabilities(restored, table).sum() == pytest.approx(1)


@needs_portrait
def test_everybody_in_a_video_has_a_decision(faces, tmp_path):
    import skimage.data

    head = skimage.data.astronaut()[:256, 100:356]
    both, one = np.hstack([head, head[:, ::-1]]), np.hstack([head, np.zeros_like(head)])
    restored = Recognizer.restore(faces[0], batch=3)
    path = film(tmp_path / "two.avi", [both] * 4 + [one] * 12)
    table = restored.predict_clip(path)
    assert table["face"].tolist() == [0, 1]
    assert table["rows"].tolist() == [16, 4]
    single = restored.predict_clip(path, every=20)  # one frame: its own decision
    of_frame = restored.predict_video(path, every=20)
    np.testing.assert_allclose(
        probabilities(restored, single)[:2], probabilities(restored, of_frame)[:2], rtol=1e-5
    )


def test_nobody_and_a_file_that_breaks_off(faces, tmp_path, monkeypatch):
    (tmp_path / "cut.mp4").touch()
    dark = np.zeros((48, 48, 3), np.uint8)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Film(dark, 60, 24))
    table = Recognizer.restore(faces[0]).predict_clip(tmp_path / "cut.mp4")
    assert table["decision"].tolist() == ["no face", "unreadable"]
    assert table["status"].iloc[1] == "unreadable: breaks off: 24 of 60 frames can be decoded"
    assert table["rows"].tolist() == [0, 0]


def test_pairs_of_frames_decide_where_the_run_reads_flow(tmp_path):
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(np.float32(rng.uniform(0, 255, (64, 64))), (0, 0), 2)
    images = [np.uint8(np.roll(texture, i // 3, axis=1)) for i in range(12)]
    moving = Recognizer.restore(FIXTURES / "run_format_1.zip")
    path = film(tmp_path / "motion.avi", images)
    pairs = moving.predict_video(path, interval=0.1, align="none")
    table = moving.predict_clip(path, interval=0.1, align="none")
    assert table["rows"].tolist() == [len(pairs)]
