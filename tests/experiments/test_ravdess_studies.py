"""RAVDESS' studies as a user runs them, on drawn actors."""

import numpy as np
import pytest

from experiments import fuse
from fexpr import run
from tests.launching import ROOT, launch

SMALL = ("--config.evaluate.resamples=20", "--config.log.tensorboard=False")


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared_cache")


def test_action_units_by_folds_of_actors_and_their_seeds_fused(shared_cache, tmp_path):
    done = launch(tmp_path, shared_cache, f"--config={ROOT}/configs/aus_mlp_ravdess.py:debug", *SMALL, f"--workdir={tmp_path / 'aus'}")
    assert done.returncode == 0, done.stderr
    found = run.read_arrays(tmp_path / "aus" / run.PREDICTIONS)
    for fold in range(3):  # two turns: every training actor validates once
        mine = found["trial_fold"][found["trial"]] == fold
        of = {split: set(found["groups"][mine & (found["split"] == split)]) for split in ("val", "test")}
        assert not of["val"] & of["test"]
        assert len(of["val"]) + len(of["test"]) == 6
    assert fuse.main([str(tmp_path / "aus"), f"--out={tmp_path / 'fused'}", "--resamples=20"]) == 0
    metrics = run.read_json(tmp_path / "fused" / run.METRICS)
    assert metrics["rows"]["test"] == len(set(found["ids"]))
    assert {row["group"] for row in metrics["per_group"]} == {f"actor{a:02d}" for a in range(1, 7)}
    assert "SYNTHETIC" in (tmp_path / "fused" / run.REPORT).read_text()
    assert np.isclose(metrics["test"]["accuracy"]["value"], np.mean([row["accuracy"] for row in metrics["per_group"]]), atol=0.02)
    assert fuse.main([str(tmp_path), f"--out={tmp_path / 'fused'}"]) == 2
