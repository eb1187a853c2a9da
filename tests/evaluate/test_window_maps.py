"""Temperatures of means over windows: window by window in plain loops, and on frames whose
dependence is known.
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from fexpr.evaluate.window_maps import (
    FRAMES_PER_SECOND,
    SECONDS,
    window_means,
    window_temperatures,
)
from fexpr.probabilities import Identity, Temperature, to_json

K, CLIPS, FRAMES, SPREAD = 3, 60, 120, 8.0


def frames_of(dependent, seed=0):
    """Validation frames of clips of 4 s, the logits exactly as certain as they should be; those of
    a clip's frames are drawn once for the clip, or by themselves.
    """
    rng = np.random.default_rng(seed)
    clip = np.repeat(np.arange(CLIPS), FRAMES)
    labels = (np.arange(CLIPS) % K)[clip]
    noise = rng.normal(size=(CLIPS, K))[clip] if dependent else rng.normal(size=(len(clip), K))
    # the log likelihood ratios of normals of deviation SPREAD whose mean is 1 for the true class
    logits = (SPREAD * noise + np.eye(K)[labels]) / SPREAD**2
    order = rng.permutation(len(clip))
    return {
        "ids": np.array([f"c{c}/{i % FRAMES}" for i, c in enumerate(clip)])[order],
        "video": np.array([f"c{c}" for c in clip])[order],
        "labels": labels[order],
        "logits": logits[order],
        "trial": np.zeros(len(clip), int),
        "split": np.full(len(clip), "val"),
        "selection": np.full(len(clip), "last"),
        "failed": np.array([False, True]),
        "trial_seed": np.array([0, 0]),
    }


def test_means_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    video = np.array(["b", "a", "a", "b", "a", "b", "a"])
    frame = np.array([9, 0, 3, 2, 1, 4, 40])  # frames may be missing
    values = rng.normal(size=(7, 2))
    for width in (0.0, 2.0, 5.0, 30.0):
        expected = [
            values[(video == v) & (abs(frame - f) <= width / 2)].mean(axis=0)
            for v, f in zip(video, frame, strict=True)
        ]
        np.testing.assert_allclose(window_means(values, video, frame, width), expected)


@pytest.mark.parametrize("applied", [Identity(), Temperature(2.0)])
def test_the_temperature_is_the_most_likely_one(applied):
    p = frames_of(dependent=False)
    table = {"of_trial": [0, None], "maps": [to_json(applied)]}
    found = window_temperatures(p, "last", table)
    assert found["seconds"] == list(SECONDS)
    assert found["temperatures"][1] is None
    assert found["clips"] == [CLIPS, 0]
    frame = np.array([int(name.split("/")[1]) for name in p["ids"]])
    logs = log_softmax(applied(p["logits"]), axis=1)
    for seconds, temperature in zip(SECONDS, found["temperatures"][0], strict=True):
        means = window_means(logs, p["video"], frame, seconds * FRAMES_PER_SECOND)

        def loss(log_t, means=means):
            moved = log_softmax(means / np.exp(log_t), axis=1)
            return -moved[np.arange(len(moved)), p["labels"]].mean()

        best = minimize_scalar(loss, bounds=(-8, 8), method="bounded", options={"xatol": 1e-8})
        np.testing.assert_allclose(np.log(temperature), best.x, atol=1e-3)


def test_neighbours_that_repeat_each_other_add_nothing_and_independent_ones_do():
    table = {"of_trial": [0], "maps": [to_json(Identity())]}
    same = window_temperatures(frames_of(dependent=True), "last", table)["temperatures"][0]
    own = window_temperatures(frames_of(dependent=False), "last", table)["temperatures"][0]
    # one opinion a clip: its mean is worth what a frame is; the mean of many is worth more
    np.testing.assert_allclose(same, same[0], rtol=1e-6)
    assert (np.diff(own) < 0).all()
    assert own[-1] < 0.1


def test_without_maps_of_frames_there_are_none_of_windows():
    assert window_temperatures(frames_of(True), "last", {}) is None
