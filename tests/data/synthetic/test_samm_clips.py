"""The synthetic release: the real one's layout, the drawn motion as ground truth, honest and
learnable.
"""

import dataclasses
import itertools

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

from fexpr import facs
from fexpr.data.preparation import alignment, flow
from fexpr.data.releases.workbook import frame_problems, read_workbook
from fexpr.data.synthetic import samm_clips
from fexpr.data.synthetic.drawn_face import (
    AMPLITUDE,
    MOTION,
    Face,
    Unit,
    folds,
    lid_closure,
    motion,
    random_face,
)
from fexpr.data.synthetic.drawn_portrait import Portrait
from fexpr.errors import UserError

FRONTAL = Face(center=((320 - 1) / 2, 120), scale=1.0, tilt=0.0)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "samm"
    samm_clips.write_samm(folder, subjects=3, clips=7, seed=5)
    return folder


@pytest.fixture(scope="module")
def plan():
    return samm_clips.plan_clips(subjects=24, clips=160, seed=0)


def files(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_layout(release):
    table = read_workbook(release / "SAMM_Micro_FACS_Codes_v2.xlsx")
    assert len(table) == 7
    assert table["subject"].nunique() == 3
    assert not frame_problems(table)
    expected = {
        f"SAMM/{row.subject}/{row.clip}/{row.subject}_{frame:05d}.jpg"
        for row in table.itertuples()
        for frame in range(row.onset, row.offset + 1)
    }
    found = files(release)
    assert set(found) == expected | {"SAMM_Micro_FACS_Codes_v2.xlsx", "landmarks.csv", "README.txt"}
    for name in expected:
        image = cv2.imread(str(release / name), cv2.IMREAD_UNCHANGED)
        assert (image.shape, image.dtype) == ((288, 320), np.uint8)
    assert all(len(found[name]) < 30_000 for name in expected)
    assert found["README.txt"].startswith(b"SYNTHETIC")


def test_landmarks_lie_on_the_face(release):
    kind, points = alignment.read_landmarks(release / "landmarks.csv")
    assert kind == "clip"
    table = read_workbook(release / "SAMM_Micro_FACS_Codes_v2.xlsx")
    assert set(points) == set(table["clip"])
    for row in table.itertuples():
        face = random_face(np.random.default_rng([5, int(row.subject)]))
        np.testing.assert_allclose(points[row.clip], face.landmarks(), atol=4)
        left_eye, right_eye, nose, mouth_left, mouth_right = points[row.clip]
        assert left_eye[0] < nose[0] < right_eye[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_iris_is_where_the_landmark_says():
    face = dataclasses.replace(FRONTAL, tilt=0.05, center=(150.0, 124.0))
    image = Portrait(face).frame(
        np.zeros((288, 320, 2), np.float32), np.zeros((288, 320), np.float32), np.zeros(2), 0.0
    )
    for x, y in face.landmarks()[:2].round().astype(int):
        window = image[y - 7 : y + 8, x - 7 : x + 8]
        dark = np.argwhere(window < np.percentile(window, 10)).mean(0) - 7
        assert np.hypot(*dark) < 3


def test_same_arguments_same_bytes(release, tmp_path):
    samm_clips.write_samm(tmp_path / "again", subjects=3, clips=7, seed=5)
    first, second = files(release), files(tmp_path / "again")
    workbook = "SAMM_Micro_FACS_Codes_v2.xlsx"
    pd.testing.assert_frame_equal(
        read_workbook(release / workbook), read_workbook(tmp_path / "again" / workbook)
    )
    del first[workbook], second[workbook]
    assert first == second


def test_a_clip_does_not_depend_on_its_neighbours(release):
    plan = samm_clips.plan_clips(3, 7, 5)
    clip, seed = plan[4], [5, int(plan[4].subject)]
    frames = samm_clips.draw_clip(
        clip, Portrait(random_face(np.random.default_rng(seed))), np.random.default_rng([*seed, 4])
    )
    for number, image in zip(range(clip.onset, clip.offset + 1), frames, strict=True):
        name = f"SAMM/{clip.subject}/{clip.name}/{clip.subject}_{number:05d}.jpg"
        written = cv2.imread(str(release / name), cv2.IMREAD_UNCHANGED)
        assert np.abs(written.astype(int) - image).mean() < 2  # the JPEG's loss


def test_seeds_and_subjects_differ(plan):
    assert [c.code for c in plan] != [c.code for c in samm_clips.plan_clips(24, 160, 1)]
    a, b = (Portrait(random_face(np.random.default_rng([0, k]))).skin for k in (6, 7))
    assert np.abs(a - b).mean() > 10


def test_plan_is_long_tailed(plan):
    assert len(plan) == len({clip.name for clip in plan}) == 160
    assert len({clip.subject for clip in plan}) == 24
    positives = pd.Series(
        [au for clip in plan for au in {unit.au for unit in clip.units + clip.resting}]
    ).value_counts()
    assert set(positives.index) == set(MOTION)
    assert set(positives.index[:3]) == {7, 4, 12}
    assert positives.iloc[2] > 20
    assert positives.iloc[-1] in (2, 3)
    assert (positives < 10).sum() >= 10
    clips = pd.Series([clip.subject for clip in plan]).value_counts()
    assert clips.iloc[0] >= 4 * clips.median()
    assert all(
        clip.onset < clip.apex < clip.offset and 7 <= clip.offset - clip.onset + 1 <= 9
        for clip in plan
    )


def test_every_way_of_writing_codes_occurs(plan):
    codes = " ; ".join(clip.code for clip in plan)
    for spelling in ("or", "ref(", "/", "L2", "R14", "A12", "7C", "+"):
        assert spelling in codes, spelling
    assert any(clip.code == "" for clip in plan)


def test_codes_say_what_is_drawn(plan):
    for clip in plan:
        coded = facs.parse(clip.code).units
        drawn = {unit.au: unit for unit in clip.units + clip.resting}
        sure = [unit for unit in coded if unit.alternative is None]
        assert {unit.number for unit in coded} >= set(drawn)
        assert {unit.number for unit in sure} <= set(drawn)
        for unit in sure:
            seen = drawn[unit.number]
            assert unit.already_present == (seen in clip.resting)
            assert unit.side == {(1, 1): None, (1, 0): "L", (0, 1): "R"}.get(
                (seen.left, seen.right), "A"
            )
            if unit.intensity:
                assert seen.intensity == pytest.approx(
                    facs.INTENSITY[unit.intensity_or or unit.intensity]
                )


@pytest.mark.parametrize("au", MOTION)
def test_motion_of_each_unit(au):
    both, left, right, weak = (
        motion(FRONTAL, [unit])
        for unit in (
            Unit(au, 1.0),
            Unit(au, 1.0, right=0.0),
            Unit(au, 1.0, left=0.0),
            Unit(au, 0.2),
        )
    )
    mirrored = left[:, ::-1] * np.float32([-1, 1])
    np.testing.assert_allclose(right, mirrored, atol=1e-4)
    np.testing.assert_allclose(both, left + right, atol=1e-4)
    np.testing.assert_allclose(5 * weak, both, atol=1e-4)  # amplitude is proportional to intensity
    size = np.hypot(both[..., 0], both[..., 1])
    assert 0.7 * AMPLITUDE < size.max() < 1.25 * AMPLITUDE
    # the subject's left is the image's right
    assert np.abs(left[:, 160:]).sum() > 4 * np.abs(left[:, :160]).sum()


def test_units_move_the_face_differently():
    fields = {au: motion(FRONTAL, [Unit(au, 1.0)]).ravel() for au in MOTION}
    for a, b in itertools.combinations(fields, 2):
        cosine = fields[a] @ fields[b] / (np.linalg.norm(fields[a]) * np.linalg.norm(fields[b]))
        assert cosine < 0.9, (a, b, cosine)


def test_motion_follows_the_tilted_head():
    tilted = dataclasses.replace(FRONTAL, tilt=np.pi / 2)
    up = motion(FRONTAL, [Unit(17, 1.0)])
    turned = motion(tilted, [Unit(17, 1.0)])
    peak = np.unravel_index(np.hypot(*np.moveaxis(up, -1, 0)).argmax(), up.shape[:2])
    assert up[peak][1] < -2
    # a quarter turn: up has become right
    assert turned[..., 0].max() == pytest.approx(-up[..., 1].min(), rel=0.02)


def test_unknown_unit_is_an_error():
    with pytest.raises(KeyError):
        motion(FRONTAL, [Unit(99, 1.0)])


@pytest.mark.parametrize("au", [2, 4, 12, 15, 26])
def test_tvl1_recovers_the_drawn_motion(au):
    portrait = Portrait(dataclasses.replace(FRONTAL, noise=0.0))
    truth = motion(portrait.face, [Unit(au, 0.8)])
    still, rest = np.zeros_like(truth), np.zeros(2)
    onset, apex = (
        portrait.frame(field, still[..., 0], rest, 0.0).clip(0, 255).round().astype(np.uint8)
        for field in (still, truth)
    )
    found = flow.tvl1(onset, apex)
    moving = np.hypot(truth[..., 0], truth[..., 1]) > 0.5
    error = np.hypot(*np.moveaxis(found - truth, -1, 0))
    assert error[moving].mean() < 0.25
    assert error[portrait.head > 0.9].mean() < 0.12


def test_lids_close_over_the_eyes():
    portrait = Portrait(FRONTAL)
    still = np.zeros((288, 320, 2), np.float32)
    open_, shut = (portrait.frame(still, still[..., 0], np.full(2, c), 0.0) for c in (0.0, 1.0))
    x, y = FRONTAL.landmarks()[0].round().astype(int)
    assert open_[y, x] < 0.5 * shut[y, x]  # the pupil is gone
    assert np.abs(open_ - shut)[FRONTAL.grid()[1] > 20].max() == 0
    assert (
        lid_closure([Unit(43, 1.0, right=0.0)])[0] == 0 < lid_closure([Unit(43, 1.0, right=0.0)])[1]
    )


def test_folds_darken_and_grow_with_intensity():
    weak, strong = (folds(FRONTAL, [Unit(4, intensity)]) for intensity in (0.4, 1.0))
    assert weak.min() >= 0
    assert 0.1 < weak.max() < strong.max() <= 0.8


def test_motion_peaks_at_the_apex(plan):
    clip = next(c for c in plan if c.code.startswith("4B+9"))
    portrait = Portrait(dataclasses.replace(FRONTAL, noise=0.0))
    frames = np.stack(
        [f.astype(float) for f in samm_clips.draw_clip(clip, portrait, np.random.default_rng(3))]
    )
    x, y = FRONTAL.grid()
    brow = (np.abs(x) < 35) & (y > -35) & (y < -10)
    change = np.abs(frames - frames[0])[:, brow].mean(1)
    assert change[clip.apex - clip.onset] > 2 * change[1]
    assert change[clip.apex - clip.onset] > 1.2 * change[-1]


@pytest.mark.long
def test_learnable_across_subjects(plan):
    """Ridge regression on the maps of unseen subjects ranks the frequent units far better than
    chance, and not perfectly.

    DIS flow stands in for TV-L1, which takes many times as long.
    """
    optical_flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    chosen = [clip for i, clip in enumerate(plan) if i % 3 == 0]
    portraits = {
        s: Portrait(random_face(np.random.default_rng([0, int(s)])))
        for s in {clip.subject for clip in chosen}
    }
    maps = []
    for i, clip in enumerate(chosen):
        face = portraits[clip.subject].face
        drawn = samm_clips.draw_clip(clip, portraits[clip.subject], np.random.default_rng([0, i]))
        onset, *_, apex = itertools.islice(drawn, clip.apex - clip.onset + 1)
        onset, apex = (
            alignment.align(frame, alignment.similarity(face.landmarks()))
            for frame in (onset, apex)
        )
        maps.append(flow.encode(optical_flow.calc(onset, apex, None)).ravel() / 127.5 - 1)
    maps, groups = np.stack(maps), np.array([clip.subject for clip in chosen])
    for au in (4, 7, 12):
        present = np.array([any(unit.au == au for unit in clip.units) for clip in chosen])
        score = np.zeros(len(chosen))
        for train, test in GroupKFold(5).split(maps, groups=groups):
            ridge = RidgeClassifier(300.0, class_weight="balanced").fit(maps[train], present[train])
            score[test] = ridge.decision_function(maps[test])
        precision = average_precision_score(present, score)
        assert 2 * present.mean() < precision < 0.999, (au, present.mean(), precision)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        samm_clips.write_samm(tmp_path, 1, 1)
    assert files(tmp_path) == {"mine.txt": b"mine"}


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(samm_clips, "_jpeg", full)
    with pytest.raises(UserError, match="No space left"):
        samm_clips.write_samm(tmp_path / "samm", 2, 4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("subjects", "clips"), [(0, 5), (6, 5)])
def test_impossible_sizes(tmp_path, subjects, clips):
    with pytest.raises(ValueError, match=f"{subjects} subjects.* {clips} clips"):
        samm_clips.write_samm(tmp_path / "samm", subjects, clips)


def test_shares_are_whole_and_complete():
    assert samm_clips.apportion(10, [1, 1, 1]).tolist() == [4, 3, 3]
    assert samm_clips.apportion(3, [5, 1, 0]).tolist() == [3, 0, 0]
    assert samm_clips.apportion(0, [1, 2]).tolist() == [0, 0]
