"""Somebody else's Gaussians beside RAVDESS' averaged clips."""

import numpy as np
import pytest

from experiments import au_profiles
from experiments.frame_filters import Gaussians
from fexpr.data.dataset import Dataset
from fexpr.data.releases.ravdess_names import EMOTIONS
from fexpr.data.synthetic import ravdess_clips
from tests.data import ravdess_gaussians


def clips(units, labels):
    actors = np.array([f"actor{1 + i % 4:02d}" for i in range(len(labels))])
    return Dataset(
        np.float32(units)[:, None, None],
        np.int32(labels),
        actors,
        np.array([f"c{i}" for i in range(len(labels))]),
        EMOTIONS,
        "synthetic",
        kind="features",
    )


def test_clips_at_their_own_gaussian_are_named_by_it():
    rng = np.random.default_rng(0)
    mean = rng.uniform(1, 4, (8, 17))
    mean[1] = mean[0]  # calm is neutral
    gaussians = Gaussians(mean, np.stack([np.eye(17)] * 8))
    labels = np.arange(320) // 4 % 8  # every actor shows all of them
    units = mean[labels] + 0.1 * rng.normal(size=(320, 17))
    found = au_profiles.compare(clips(units, labels), gaussians, 50)
    assert found["accuracy"] == found["uar"] == {"value": 1, "low": 1, "high": 1}
    assert found["chance"] == pytest.approx(1 / 7)
    assert [row["emotion"] for row in found["emotions"]] == list(EMOTIONS)
    assert all(row["clips"] == 40 and row["correlation"] > 0.99 for row in found["emotions"])
    assert all(
        row["trace"] == pytest.approx(0.17, rel=0.3) and row["their_trace"] == 17
        for row in found["emotions"]
    )

    # a happy clip that looks sad: a seventh of the classes is lost, an eighth of the clips
    units[labels == 2] = mean[3]
    found = au_profiles.compare(clips(units, labels), gaussians, 50)
    assert found["uar"]["value"] == pytest.approx(6 / 7)
    assert found["accuracy"]["value"] == pytest.approx(7 / 8)
    assert found["emotions"][2]["recall"] == 0


def test_the_command_prints_a_row_for_each_emotion(tmp_path, capsys):
    ravdess_clips.write(tmp_path / "ravdess", actors=2, clips=16, frames=5, draw=False)
    ravdess_gaussians.write(tmp_path / "theirs")
    given = [str(tmp_path / "theirs"), f"--root={tmp_path}", "--resamples=20"]
    assert au_profiles.main(given) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in EMOTIONS)
    assert "chance 0.143" in out
    (tmp_path / "theirs" / "GMM_mean.csv").unlink()
    assert au_profiles.main(given) == 2
