"""RAVDESS' studies as a user runs them, on drawn actors."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from configs import aus_mlp_ravdess, stn_ravdess_iterative
from experiments import filter_frames as module_of_filters
from experiments import filter_stages, filtering, fuse
from experiments.cross_validate import cross_validate
from experiments.iterate_filtering import iterate_filtering
from experiments.study_rows import describe_filter, every_frame
from fexpr.data.dataset import Dataset
from fexpr.data.releases.affectnet import CLASSES
from fexpr.data.releases.ravdess_names import EMOTIONS
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.evaluate import __main__ as evaluate_main
from fexpr.models.deep_emotion import DeepEmotion
from fexpr.probabilities import to_json
from fexpr.recognizer import Network, Recognizer
from fexpr.storage import run
from fexpr.train import checkpoint


def small(module):
    """Its debug config, with what costs time made small."""
    config = module.get_config("debug")
    config.train.epochs, config.evaluate.resamples, config.log.tensorboard, config.data.source = (
        2,
        20,
        False,
        "synthetic",
    )
    return config


@pytest.fixture(scope="module")
def action_units(tmp_path_factory):
    """A finished run on averaged action units of six actors with four clips each."""
    folder = tmp_path_factory.mktemp("aus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEXPR_CACHE_DIR", str(folder / "cache"))
        config = small(aus_mlp_ravdess)
        config.data.synthetic_clips = 24
        cross_validate(config, folder / "aus")
    return folder / "aus"


@pytest.mark.long
def test_action_units_by_folds_of_actors_and_their_seeds_fused(action_units, tmp_path):
    found = run.read_arrays(action_units / run.PREDICTIONS)
    for fold in range(3):  # two turns: every training actor validates once
        mine = found["trial_fold"][found["trial"]] == fold
        of = {
            split: set(found["groups"][mine & (found["split"] == split)])
            for split in ("val", "test")
        }
        assert not of["val"] & of["test"]
        assert len(of["val"]) + len(of["test"]) == 6
    assert fuse.main([str(action_units), f"--out={tmp_path / 'fused'}", "--resamples=20"]) == 0
    metrics = run.read_json(tmp_path / "fused" / run.METRICS)
    assert metrics["rows"]["test"] == len(set(found["ids"]))
    assert {row["group"] for row in metrics["per_group"]} == {f"actor{a:02d}" for a in range(1, 7)}
    assert "SYNTHETIC" in (tmp_path / "fused" / run.REPORT).read_text()
    assert np.isclose(
        metrics["test"]["accuracy"]["value"],
        np.mean([row["accuracy"] for row in metrics["per_group"]]),
        atol=0.02,
    )
    assert fuse.main([str(tmp_path), f"--out={tmp_path / 'fused'}"]) == 2


def frames(seed=0):
    """Six actors with four clips of five frames each, two emotions, and posteriors of a judge."""
    rng = np.random.default_rng(seed)
    n, clip = 120, np.arange(120) // 5
    labels = (clip % 2).astype(np.int32)
    extras = {
        "video": np.array([f"v{c:02d}" for c in clip]),
        "frame": np.arange(n, dtype=np.int32) % 5,
        "action_units": rng.uniform(0, 5, (n, 17)).astype(np.float32),
    }
    dataset = Dataset(
        np.zeros((n, 2, 2, 1), np.uint8),
        labels,
        np.array([f"actor{c // 4 + 1:02d}" for c in clip]),
        np.array([f"v{c:02d}/{i % 5}" for i, c in enumerate(clip)]),
        ("calm", "glad"),
        "synthetic",
        extras=extras,
    )
    fold = Fold("f", np.arange(40, 120), np.arange(20, 40), np.arange(20), dataset.groups)
    return dataset, fold, rng.dirichlet(np.ones(2), n).astype(np.float32)


@pytest.mark.parametrize(
    "name",
    [
        "threshold=0.5",
        "threshold_balanced=0.5",
        "percentile=40",
        "au45=0.75",
        "gaussian=50",
        "gaussian_video=50",
        "every=2",
    ],
)
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
    """A planted leak: the labelled filter instead of the unlabelled one."""
    dataset, fold, posteriors = frames()
    chosen = filtering.FILTERS["percentile"]
    monkeypatch.setitem(
        filtering.FILTERS, "percentile", dataclasses.replace(chosen, test=chosen.train)
    )
    with pytest.raises(ValueError, match=r"20 rows .*no label"):
        filtering.masks("percentile=40", dataset, fold, posteriors)


def test_filters_that_cannot_be_used():
    dataset, fold, posteriors = frames()
    for text, found in (
        ("median=3", "'median=3'.*filter"),
        ("percentile=x", "'x'.*number"),
        ("threshold=2", "from 0 to 1"),
    ):
        with pytest.raises(UserError, match=found):
            filtering.parse(text)
    with pytest.raises(UserError, match=r"fold f .*calm, glad"):
        filtering.filtered("threshold=1", fold, np.zeros(80, bool), dataset)
    bare = dataclasses.replace(
        dataset, extras={k: v for k, v in dataset.extras.items() if k != "action_units"}
    )
    with pytest.raises(UserError, match="needs action units"):
        filtering.masks("gaussian=50", bare, fold, posteriors)


@pytest.mark.long
def test_stages_of_a_study_carry_weights_over_and_are_not_trained_twice(
    action_units, tmp_path, capsys
):
    config = small(stn_ravdess_iterative)
    # compiled in no time
    config.model = {"name": "mlp", "hidden": (32,), "batch_norm": False, "dropout": 0.0}
    iterate_filtering(config, tmp_path)
    study = run.read_json(tmp_path / "study.json")
    assert [s["name"] for s in study["stages"]] == ["all", "1_percentile=50"]
    first, second = study["stages"]
    assert first["kept"] == 1
    assert 0.5 <= second["kept"] < 0.7
    every, halved = study["filters"]
    assert every["train"]["recall"] == every["test"]["recall"] == 1
    assert (halved["name"], halved["train"]["kept"]) == (second["name"], second["kept"])
    assert "What filters keep" in (tmp_path / "study.html").read_text()
    assert 0.5 <= second["test_kept"] < 0.7
    assert set(second["filtered_test"]) == set(second["rules"])
    metrics = run.read_json(tmp_path / "all" / run.METRICS)
    assert metrics["clips"]["rules"] == first["rules"]
    assert "weighted_vote" in (tmp_path / "all" / run.REPORT).read_text()
    assert metrics["rows"]["test"] == 24  # clips, not frames
    assert "SYNTHETIC" in (tmp_path / "study.html").read_text()
    assert {path.stem for path in (tmp_path / run.FIGURES).iterdir()} == {
        "stages",
        "kept",
        "traces",
        "action_units",
    }

    before, after = (
        checkpoint.load_variables(tmp_path / s["run_dir"], "best_val") for s in study["stages"]
    )
    moved = [
        np.abs(a - b).max()
        for a, b in zip(
            jax.tree.leaves(before["params"]), jax.tree.leaves(after["params"]), strict=True
        )
    ]
    # two epochs of a step each at 1e-3 from where the stage before ended; of a new start they would
    # be far
    assert 0 < max(moved) < 0.01

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"*/{run.PREDICTIONS}")}
    assert len(stamps) == 2
    capsys.readouterr()
    iterate_filtering(config, tmp_path)
    assert capsys.readouterr().out.count("finished already") == 2
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    assert run.read_json(tmp_path / "study.json") == study

    with pytest.raises(UserError, match="embeddings: MLP "):
        filter_stages.embeddings(tmp_path / "all", frames()[0], 3)

    # late fusion: clips of averaged action units with clips decided by their frames
    assert (
        fuse.main(
            [
                str(action_units),
                str(tmp_path / "all"),
                f"--out={tmp_path / 'fused'}",
                "--resamples=20",
            ]
        )
        == 0
    )
    clips = sorted(
        {
            id_.partition("/")[0]
            for id_ in run.read_arrays(tmp_path / "all" / filter_stages.FRAMES)["ids"]
        }
    )
    # on clips
    assert (
        evaluate_main.main(
            [
                str(action_units),
                str(tmp_path / "all"),
                f"--out={tmp_path / 'pair'}",
                "--resamples=20",
            ]
        )
        == 0
    )
    applied = metrics["clips"]["frames"]["applied"]
    restored = Recognizer.restore(tmp_path / "all", trial=1)
    assert [to_json(one) for one in restored.maps] == [applied["maps"][applied["of_trial"][1]]]
    assert restored.limits is None  # the sets are those of clips
    fused = run.read_arrays(tmp_path / "fused" / run.PREDICTIONS)
    assert sorted(fused["ids"][fused["split"] == "test"]) == clips


def test_what_a_filter_keeps_is_counted_against_what_the_frames_show():
    dataset, fold, _ = frames()
    extras = dataset.extras | {"shown": np.tile([0.0, 0.2, 0.9, 1.0, 0.4], 24).astype(np.float32)}
    dataset = dataclasses.replace(dataset, class_names=("neutral", "glad"), extras=extras)
    train, test = np.tile([False, False, True, False, True], 16), np.zeros(20, bool)
    row = describe_filter("own", dataset, [fold], [(train, test)])
    # glad clips have two expressive frames of five; one of the two that are kept is such a frame
    assert row["train"] == {"kept": 0.4, "precision": 0.5, "recall": 0.5}
    assert row["test"] == {"kept": 0, "precision": None, "recall": 0}
    assert every_frame(dataset, [fold])["train"] == {
        "kept": 1,
        "precision": pytest.approx(0.4),
        "recall": 1,
    }
    shown = dataclasses.replace(
        dataset,
        class_names=("calm", "glad"),
        extras=extras | {"shown": np.float32(dataset.labels == 0)},
    )
    assert describe_filter("own", shown, [fold], [(train, test)])["train"] == {
        "kept": 0.4,
        "precision": 0.5,
        "recall": 0.4,
    }
    untold = dataclasses.replace(dataset, extras={k: v for k, v in extras.items() if k != "shown"})
    assert describe_filter("own", untold, [fold], [(train, test)])["train"] == {"kept": 0.4}


def test_a_filter_that_leaves_an_emotion_nothing_is_left_out_and_the_others_go_on(monkeypatch):
    dataset, fold, posteriors = frames()
    config = stn_ravdess_iterative.get_config("debug")
    config.filter.stages = ("threshold=1", "percentile=40")
    trained, written = {}, {}
    module = module_of_filters
    monkeypatch.setattr(module.describe, "prepare", lambda _: (dataset, [fold, fold]))

    def stage(config, name, workdir, dataset, folds):
        trained[name] = folds
        return posteriors[None].repeat(2, axis=0)

    monkeypatch.setattr(filter_stages, "stage", stage)
    monkeypatch.setattr(module, "describe_stage", lambda c, name, *rest: {"name": name})
    monkeypatch.setattr(
        module,
        "write_study",
        lambda *arguments: written.update(
            rows=arguments[4], keeps=arguments[6], left_out=arguments[7]
        ),
    )
    module.filter_frames(config, None)
    assert [row["name"] for row in written["rows"]] == ["all", "percentile=40"]
    assert "no frame of calm, glad" in written["left_out"]["threshold=1"]
    assert [(row["name"], row["train"]["kept"] > 0) for row in written["keeps"]] == [
        ("threshold=1", False),
        ("percentile=40", True),
    ]
    wanted = fold.train[filtering.masks("percentile=40", dataset, fold, posteriors)[0]]
    np.testing.assert_array_equal(trained["percentile=40"][0].train, wanted)


@pytest.mark.long
def test_embeddings_of_every_frame(monkeypatch, tmp_path):
    dataset, _, _ = frames()
    images = np.random.default_rng(0).integers(0, 256, (120, 48, 48, 1), dtype=np.uint8)
    dataset = dataclasses.replace(dataset, images=images)
    model = DeepEmotion(2, "baseline")
    variables = jax.jit(model.init)(jax.random.key(0), images[:1].astype(np.float32))
    network = Network(model, "float32", "none", variables, np.float32([127.5]), np.float32([127.5]))
    monkeypatch.setattr(
        filter_stages.Recognizer, "restore", lambda *_: types.SimpleNamespace(network=network)
    )
    found = run.read_arrays(filter_stages.embeddings(tmp_path, dataset, 2))
    assert (found["flat"].shape, found["hidden"].shape) == ((2, 120, 810), (2, 120, 50))
    of = jax.device_get(variables["params"]["hidden"])
    wanted = np.maximum(found["flat"][1].astype(np.float32) @ of["kernel"] + of["bias"], 0)
    np.testing.assert_allclose(found["hidden"][1], wanted, atol=5e-3)
    assert np.ptp(found["hidden"], axis=1).max() > 0.01
    assert found["ids"].tolist() == dataset.ids.tolist()


def test_a_judge_from_elsewhere_speaks_in_these_classes(monkeypatch):
    dataset, _, _ = frames()
    dataset = dataclasses.replace(dataset, class_names=EMOTIONS)
    said = np.random.default_rng(0).dirichlet(np.ones(7), 120)
    config = small(stn_ravdess_iterative)
    assert filter_stages.judge(config, dataset, 3) is None
    config.filter.judge = "runs/stn_affectnet"

    def judge(name, classes, probabilities):
        made = types.SimpleNamespace(
            content={"data": {"name": name}},
            class_names=classes,
            probabilities=lambda _: probabilities,
            seen=None,
        )
        monkeypatch.setattr(filter_stages.Recognizer, "restore", lambda _: made)
        return filter_stages.judge(config, dataset, 3)

    found = judge("affectnet", CLASSES[:7], said)
    assert found.shape == (3, 120, 8)
    for emotion, theirs in (
        ("neutral", "neutral"),
        ("calm", "neutral"),
        ("angry", "anger"),
        ("surprised", "surprise"),
    ):
        np.testing.assert_array_equal(
            found[1][:, EMOTIONS.index(emotion)], said[:, CLASSES.index(theirs)].astype(np.float32)
        )
    with pytest.raises(UserError, match="trained on ravdess"):
        judge("ravdess", EMOTIONS, said)
    with pytest.raises(UserError, match="a, b"):
        judge("affectnet", ("a", "b"), said[:, :2])
