"""Filters of frames by hand on small clips, and that labels of tested rows cannot reach one."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import frame_filters as filters
from experiments.frame_filters import UNKNOWN

VIDEO = np.array(["a"] * 4 + ["b"] * 4)
LABELS = np.array([0] * 4 + [1] * 4)
P = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.6, 0.3, 0.1],
        [0.3, 0.6, 0.1],
        [0.1, 0.1, 0.8],
        [0.5, 0.4, 0.1],
        [0.4, 0.35, 0.25],
        [0.3, 0.3, 0.4],
        [0.45, 0.2, 0.35],
    ]
)


def test_threshold_on_the_clips_emotion_or_on_any():
    # clip b loses all of its frames
    assert filters.threshold(P, LABELS, 0.6).tolist() == [True, True, False, False] + [False] * 4
    # b keeps its best
    assert filters.threshold_unlabelled(P, VIDEO, 0.6).tolist() == [
        True,
        True,
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_percentile_of_each_clip():
    assert filters.percentile(P, LABELS, VIDEO, 50).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    assert filters.percentile(P, LABELS, VIDEO, 0).all()
    # by summed posteriors a is class 0 (1.9), b is class 0 (1.65)
    assert filters.percentile_unlabelled(P, VIDEO, 50).tolist() == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_balanced_leaves_as_many_of_each():
    mask = np.array([True] * 4 + [True, False, True, False])
    kept = filters.balanced(mask, LABELS)
    assert not (kept & ~mask).any()
    assert np.bincount(LABELS[kept]).tolist() == [2, 2]
    np.testing.assert_array_equal(kept, filters.balanced(mask, LABELS))


def test_open_eyes():
    units = np.zeros((8, 17))
    units[:, filters.AU45] = [0, 2, np.nan, 0.75, 3, 2, 4, 5]
    assert filters.eyes_open_unlabelled(units, VIDEO).tolist() == [
        True,
        False,
        True,
        True,
        False,
        True,
        False,
        False,
    ]


def test_every():
    assert filters.every(np.array([0, 1, 2, 3, 4]), 2).tolist() == [True, False, True, False, True]


def test_gaussians_and_distances():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    units = (
        rng.normal(size=(400, 17)) * np.where(labels == 0, 1, 0.5)[:, None] + 3 * labels[:, None]
    )
    units[5] = np.nan
    found = filters.fit_gaussians(units, labels, 2)
    own = np.delete(units[:200], 5, axis=0)
    np.testing.assert_allclose(found.mean[0], own.mean(0))
    np.testing.assert_allclose(found.covariance[0], np.cov(own.T) + 1e-3 * np.eye(17))
    distance = filters.mahalanobis(units, found)
    away = units[7] - found.mean[1]
    np.testing.assert_allclose(
        distance[7, 1], np.sqrt(away @ np.linalg.inv(found.covariance[1]) @ away)
    )
    video = np.array([f"v{i // 20}" for i in range(400)])
    kept = filters.gaussian(distance, labels, video, 50)
    assert not kept[5]
    assert abs(kept.mean() - 0.5) < 0.01
    per_video = filters.gaussian(distance, labels, video, 50, per_video=True)
    assert all(per_video[video == v].sum() == 10 for v in np.unique(video))
    # classes so far apart name themselves
    np.testing.assert_array_equal(filters.gaussian_unlabelled(distance, video, 50), per_video)
    nobody = np.full_like(distance, np.nan)
    # a clip without action units stays whole
    assert filters.gaussian_unlabelled(nobody, video, 50).all()
    with pytest.raises(ValueError, match=r"classes \[2\] .*two frames"):
        filters.fit_gaussians(units, labels, 3)


def test_the_published_percentile_is_one_an_emotion():
    """An emotion of distant frames keeps its share of them; of all frames together it keeps none."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 100)
    distances = rng.random((300, 3)) + 5 * (labels == 2)[:, None] + (labels == 1)[:, None]
    distances[3] = np.nan
    video = np.repeat(np.arange(30).astype(str), 10)
    kept = filters.gaussian_by_emotion(distances, labels, 50)
    assert [int(kept[labels == k].sum()) for k in range(3)] == [50, 50, 50]
    assert not kept[3]
    assert not filters.gaussian(distances, labels, video, 50)[labels == 2].any()
    both = filters.gaussian_by_emotion(distances, labels, 50, [(0, 1)])  # neutral and calm
    assert [int(both[labels == k].sum()) for k in range(3)] == [99, 1, 50]
    own = distances[np.arange(300), labels]
    shared = np.nanpercentile(own[labels < 2], 50)
    np.testing.assert_array_equal(both[labels < 2], own[labels < 2] <= shared)


@pytest.mark.parametrize(
    "use",
    [
        lambda y: filters.threshold(P, y, 0.5),
        lambda y: filters.percentile(P, y, VIDEO, 50),
        lambda y: filters.balanced(np.ones(8, bool), y),
        lambda y: filters.gaussian(P, y, VIDEO, 50),
        lambda y: filters.gaussian_by_emotion(P, y, 50),
        lambda y: filters.fit_gaussians(np.zeros((8, 17)), y, 2),
    ],
)
def test_a_filter_of_labels_refuses_rows_without(use):
    with pytest.raises(ValueError, match=r"3 rows .*no label"):
        use(filters.hidden(LABELS, np.array([0, 5, 6])))
    assert LABELS.min() == 0  # hidden() is a copy


def test_unlabelled_filters_cannot_be_handed_labels():
    for name, function in vars(filters).items():
        if name.endswith("_unlabelled"):
            assert "labels" not in inspect.signature(function).parameters
    assert UNKNOWN < 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 99))
def test_unlabelled_filters_leave_every_clip_a_frame(seed, t, q):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 5, 30).astype(str)
    posteriors = rng.dirichlet(np.ones(4), 30)
    units = np.where(rng.random((30, 1)) < 0.3, np.nan, rng.uniform(0, 5, (30, 17)))
    for mask in (
        filters.threshold_unlabelled(posteriors, video, t),
        filters.percentile_unlabelled(posteriors, video, q),
        filters.eyes_open_unlabelled(units, video, 5 * t),
        filters.gaussian_unlabelled(units[:, :4], video, q),
    ):
        assert set(video[mask]) == set(video)
