"""RAVDESS' studies as a user runs them, on drawn actors."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import stn_ravdess_iterative
from experiments import filtering, fuse, iterate_filtering
from fexpr import run
from fexpr.data.dataset import Dataset
from fexpr.data.splits import Fold
from fexpr.errors import UserError
from fexpr.train import checkpoint
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


def frames(seed=0):
    """Six actors with four clips of five frames each, two emotions, and posteriors of a judge."""
    rng = np.random.default_rng(seed)
    n, clip = 120, np.arange(120) // 5
    labels = (clip % 2).astype(np.int32)
    extras = {"video": np.array([f"v{c:02d}" for c in clip]), "frame": np.arange(n, dtype=np.int32) % 5,
              "action_units": rng.uniform(0, 5, (n, 17)).astype(np.float32)}
    dataset = Dataset(np.zeros((n, 2, 2, 1), np.uint8), labels, np.array([f"actor{c // 4 + 1:02d}" for c in clip]),
                      np.array([f"v{c:02d}/{i % 5}" for i, c in enumerate(clip)]), ("calm", "glad"), "synthetic", extras=extras)
    fold = Fold("f", np.arange(40, 120), np.arange(20, 40), np.arange(20), dataset.groups)
    return dataset, fold, rng.dirichlet(np.ones(2), n).astype(np.float32)


@pytest.mark.parametrize("name", ["threshold=0.5", "threshold_balanced=0.5", "percentile=40", "au45=0.75", "gaussian=50",
                                  "gaussian_video=50", "every=2"])
def test_no_filter_sees_a_label_outside_the_training_rows(name):
    dataset, fold, posteriors = frames()
    train, test = filtering.masks(name, dataset, fold, posteriors)
    assert (train.shape, test.shape) == ((80,), (20,))
    assert set(dataset.extras["video"][fold.test[test]]) == set(dataset.extras["video"][fold.test])
    swapped = dataset.labels.copy()
    outside = np.concatenate([fold.val, fold.test])
    swapped[outside] = 1 - swapped[outside]
    again = filtering.masks(name, dataclasses.replace(dataset, labels=swapped), fold, posteriors)
    np.testing.assert_array_equal(train, again[0])
    np.testing.assert_array_equal(test, again[1])
    less = filtering.filtered(name, fold, train, dataset)
    assert set(less.train) == set(fold.train[train])


def test_a_filter_for_training_cannot_be_put_to_test_rows(monkeypatch):
    """A planted leak: the labelled filter in the place of the unlabelled one."""
    dataset, fold, posteriors = frames()
    chosen = filtering.FILTERS["percentile"]
    monkeypatch.setitem(filtering.FILTERS, "percentile", dataclasses.replace(chosen, test=chosen.train))
    with pytest.raises(ValueError, match="20 rows have no label that a filter may see"):
        filtering.masks("percentile=40", dataset, fold, posteriors)


def test_filters_that_cannot_be_used():
    dataset, fold, posteriors = frames()
    for text, said in (("median=3", "no filter"), ("percentile=x", "no number"), ("threshold=2", "from 0 to 1")):
        with pytest.raises(UserError, match=said):
            filtering.parse(text)
    with pytest.raises(UserError, match="leaves fold f no frame of calm, glad"):
        filtering.filtered("threshold=1", fold, np.zeros(80, bool), dataset)
    bare = dataclasses.replace(dataset, extras={k: v for k, v in dataset.extras.items() if k != "action_units"})
    with pytest.raises(UserError, match="needs action units"):
        filtering.masks("gaussian=50", bare, fold, posteriors)


def test_stages_of_a_study_carry_weights_over_and_are_not_trained_twice(shared_cache, tmp_path, monkeypatch, capsys):
    done = launch(tmp_path, shared_cache, f"--config={ROOT}/configs/stn_ravdess_iterative.py:debug", *SMALL, "--config.train.epochs=2",
                  f"--workdir={tmp_path / 'study'}")
    assert done.returncode == 0, done.stderr
    study = run.read_json(tmp_path / "study" / "study.json")
    assert [s["name"] for s in study["stages"]] == ["all", "1_percentile=50"]
    first, second = study["stages"]
    assert first["kept"] == 1
    assert 0.5 <= second["kept"] < 0.7
    assert first["truth"]["recall"] == 1
    assert set(second["filtered_test"]) == set(second["rules"])
    assert 0.5 <= second["test_kept"] < 0.7
    page = (tmp_path / "study" / "study.html").read_text()
    assert "SYNTHETIC" in page
    for name in ("stages", "kept", "traces", "looks", "action_units"):
        assert (tmp_path / "study" / run.FIGURES / f"{name}.png").is_file()

    before, after = (checkpoint.load_variables(tmp_path / "study" / s["run_dir"], "best_val") for s in study["stages"])
    moved = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(before["params"]), jax.tree.leaves(after["params"]), strict=True)]
    assert 0 < max(moved) < 0.02  # two epochs of a step each at 1e-3 away from where the stage before ended; a new start is 0.3 away

    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").glob(f"*/{run.PREDICTIONS}")}
    assert len(stamps) == 2
    (tmp_path / "study" / "study.json").unlink()
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(shared_cache))
    config = stn_ravdess_iterative.get_config("debug")
    config.train.epochs, config.evaluate.resamples, config.log.tensorboard = 2, 20, False
    iterate_filtering(config, tmp_path / "study")
    assert capsys.readouterr().out.count("finished already") == 2
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    assert run.read_json(tmp_path / "study" / "study.json") == study
