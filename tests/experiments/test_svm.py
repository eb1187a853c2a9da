"""The SVM experiment against scikit-learn called directly, and its run directory."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from configs import base, svm_linear_fer2013, svm_rbf_fer2013
from fexpr.data import loaders
from fexpr.data.dataset import Dataset
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from fexpr.runs import svm_folds
from fexpr.storage import run

# `experiments.svm` itself is the function of that name
experiment = importlib.import_module("experiments.svm")
CLASSES = ("angry", "happy", "sad")


def toy(n=90, seed=0, source="toy@1"):
    """Three overlapping classes of 6x6 images, a third of them each side of an official split's
    kind.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 3).astype(np.int32)
    centres = rng.integers(60, 190, (3, 6, 6, 1))
    images = np.clip(centres[labels] + rng.normal(0, 90, (n, 6, 6, 1)), 0, 255).astype(np.uint8)
    ids = np.array([f"image {i}" for i in range(n)])
    return Dataset(images, labels, ids, ids, CLASSES, source)


def config_of(module, **model):
    config = module.get_config("debug")
    config.unlock()
    config.data.name, config.split.protocol = "toy", "group_k_fold"
    config.split.folds, config.split.val_fraction, config.evaluate.resamples = 2, 0.2, 20
    config.model.update(model)
    return config


@pytest.fixture(autouse=True)
def loader(monkeypatch):
    monkeypatch.setitem(loaders.LOADERS, "toy", lambda _: toy())


@pytest.fixture
def linear():
    return config_of(svm_linear_fer2013, C=(1e-4, 1e-2))


def fold_rows(found, fold, side):
    return (found["trial"] == fold) & (found["split"] == side)


@pytest.mark.parametrize(
    ("module", "model", "peer"),
    [
        (
            svm_linear_fer2013,
            {"C": (1e-3,)},
            lambda: LinearSVC(C=1e-3, dual=False, tol=1e-8, max_iter=10_000),
        ),
        (
            svm_rbf_fer2013,
            {"C": (3.0,), "components": 5},
            lambda: SVC(C=3.0, decision_function_shape="ovo"),
        ),
        pytest.param(
            svm_rbf_fer2013,
            {"C": (1,), "components": 0, "gamma": "0.01"},
            lambda: SVC(C=1.0, gamma=0.01, decision_function_shape="ovo"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_decision_values_are_those_of_scikit_learn(module, model, peer, tmp_path):
    config, dataset = config_of(module, **model), toy()
    experiment.svm(config, tmp_path / "run")
    found = run.read_arrays(tmp_path / "run" / run.PREDICTIONS)
    place = {id_: i for i, id_ in enumerate(dataset.ids)}
    for fold in range(2):
        rows = {
            side: np.array([place[i] for i in found["ids"][fold_rows(found, fold, side)]])
            for side in ("val", "test")
        }
        train = np.setdiff1d(np.arange(len(dataset)), np.concatenate(list(rows.values())))
        steps = [PCA(model["components"])] if model.get("components") else []
        peers = make_pipeline(StandardScaler(), *steps, peer()).fit(
            dataset.images[train].reshape(len(train), -1).astype(float), dataset.labels[train]
        )
        for side, index in rows.items():
            expected = peers.decision_function(
                dataset.images[index].reshape(len(index), -1).astype(float)
            )
            expected = (
                np.log(svm_folds.coupled(expected, 3)) if isinstance(peers[-1], SVC) else expected
            )
            np.testing.assert_allclose(
                found["logits"][fold_rows(found, fold, side)], expected, rtol=2e-3, atol=2e-3
            )


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=7))
def test_pairs_that_agree_are_coupled_to_their_own_probabilities(logits):
    p = np.exp(logits) / np.sum(np.exp(logits))
    first, second = np.triu_indices(len(p), 1)
    margins = np.log(p[first] / p[second]) / 2
    np.testing.assert_allclose(svm_folds.coupled(margins[None], len(p))[0], p, rtol=1e-5, atol=2e-7)


@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 30.0]))
def test_pairs_that_do_not_agree_are_coupled_as_well_as_can_be(seed, spread):
    """No other probabilities have a smaller sum of squares, and swapping two classes swaps
    theirs.
    """
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(4, 1)
    square = np.zeros((4, 4))
    square[first, second] = rng.normal(0, spread, 6)
    square -= square.T

    def loss(p):
        wins = 1 / (1 + np.exp(-2 * square))
        return sum(
            (wins[j, i] * p[i] - wins[i, j] * p[j]) ** 2 for i, j in zip(first, second, strict=True)
        )

    p = svm_folds.coupled(square[first, second][None], 4)[0]
    assert p.min() > 0
    assert p.sum() == pytest.approx(1, abs=1e-6)
    assert all(loss(p) <= loss(other) + 1e-6 for other in rng.dirichlet(np.ones(4), 200))
    order = rng.permutation(4)
    np.testing.assert_allclose(
        svm_folds.coupled(square[np.ix_(order, order)][first, second][None], 4)[0],
        p[order],
        atol=1e-6,
    )


def test_the_run_directory_is_complete_and_a_finished_run_is_not_refitted(
    linear, tmp_path, capsys, monkeypatch, undrawn
):
    workdir = tmp_path / "run"
    experiment.svm(linear, workdir)
    found, metrics = (
        run.read_arrays(workdir / run.PREDICTIONS),
        run.read_json(workdir / run.METRICS),
    )
    config = run.read_json(workdir / run.CONFIG)
    assert set(found["selection"]) == {"last"}
    test = found["split"] == "test"
    assert sorted(found["ids"][test]) == sorted(toy().ids)
    np.testing.assert_array_equal(found["train_positives"].sum(1), found["train_rows"])
    assert metrics["test"]["accuracy"]["value"] == pytest.approx(
        np.mean(found["logits"][test].argmax(1) == found["labels"][test])
    )
    assert metrics["test"]["accuracy"]["value"] > 0.5  # of three equal classes
    assert metrics["selections"].keys() == {"last"}
    assert config["model"]["name"] == "linear svm"
    assert config["model"]["parameters"] == 36 * 3 + 3
    assert config["versions"]["scikit-learn"]
    for fold, fit in enumerate(config["model"]["fits"]):
        assert fit["val_accuracy"].keys() == {"0.0001", "0.01"}
        assert fit["val_accuracy"][f"{fit['C']:g}"] == max(fit["val_accuracy"].values())
        val = fold_rows(found, fold, "val")
        assert fit["val_accuracy"][f"{fit['C']:g}"] == pytest.approx(
            np.mean(found["logits"][val].argmax(1) == found["labels"][val])
        )
    assert (workdir / run.REPORT).exists()
    assert "linear SVM" in capsys.readouterr().out

    before = (workdir / run.PREDICTIONS).stat().st_mtime_ns
    (workdir / run.REPORT).unlink()
    monkeypatch.setattr(experiment, "fit_folds", lambda *_: pytest.fail("fitted again"))
    experiment.svm(linear, workdir)
    assert (workdir / run.REPORT).exists()
    assert (workdir / run.PREDICTIONS).stat().st_mtime_ns == before
    assert run.read_json(workdir / run.CONFIG)["model"] == config["model"]
    linear.model.C = (1e-3, 1e-2)
    with pytest.raises(UserError, match="another config"):
        experiment.svm(linear, workdir)


@pytest.mark.long
def test_interrupted_it_starts_again_and_ends_alike(linear, tmp_path, monkeypatch):
    experiment.svm(linear, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(svm_folds, "decisions", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            experiment.svm(linear, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == [run.CONFIG]
    experiment.svm(linear, tmp_path / "run")
    assert (tmp_path / "run" / run.PREDICTIONS).read_bytes() == (
        tmp_path / "whole" / run.PREDICTIONS
    ).read_bytes()


def test_statistics_come_from_training_rows_alone(linear):
    """Other test images change neither the machine nor what it says of validation rows."""
    dataset, other = toy(), toy()
    fold = make_folds(linear.split, dataset)[0]
    other.images[fold.test] = 255 - other.images[fold.test]
    one, two = (svm_folds.fit_fold(linear, d, fold, [1e-3]) for d in (dataset, other))
    np.testing.assert_array_equal(one.machine.coef_, two.machine.coef_)
    np.testing.assert_allclose(
        one.features[0].mean_, dataset.images[fold.train].reshape(len(fold.train), -1).mean(0)
    )


def test_class_weights_are_scikit_learns_balanced():
    config = config_of(svm_linear_fer2013)
    config.train.class_weights = 1.0
    dataset = toy()
    dataset.labels[:25] = 2
    fold = make_folds(config.split, dataset)[0]
    ours = svm_folds.fit_fold(config, dataset, fold, [1e-3])
    x = StandardScaler().fit_transform(
        dataset.images[fold.train].reshape(len(fold.train), -1).astype(float)
    )
    theirs = LinearSVC(C=1e-3, class_weight="balanced", random_state=0).fit(
        x, dataset.labels[fold.train]
    )
    plain = LinearSVC(C=1e-3, random_state=0).fit(x, dataset.labels[fold.train])
    np.testing.assert_allclose(ours.machine.coef_, theirs.coef_, atol=1e-5)
    assert np.abs(ours.machine.coef_ - plain.coef_).max() > 1e-3


def test_no_convergence_is_said(tmp_path, capsys):
    experiment.svm(config_of(svm_linear_fer2013, C=(100.0,), max_iter=2), tmp_path / "run")
    assert "C=100 did not converge in 2 iterations" in capsys.readouterr().out
    assert not run.read_json(tmp_path / "run" / run.CONFIG)["model"]["fits"][0]["converged"]


def test_a_class_without_training_rows_is_never_the_answer():
    rng = np.random.default_rng(0)
    for labels in (np.arange(30) % 2 * 2, np.array([0, 1, 3] * 10)):
        machine = LinearSVC().fit(rng.normal(size=(30, 4)), labels)
        values = svm_folds.decisions(machine, rng.normal(size=(8, 4)), 4)
        assert values.shape == (8, 4)
        assert np.isfinite(values).all()
        assert set(values.argmax(1)) <= set(labels)


@pytest.mark.parametrize(
    ("module", "model", "message"),
    [
        (svm_linear_fer2013, {"kernel": "poly"}, "model.kernel is 'poly'"),
        (svm_linear_fer2013, {"gamma": "scale"}, "model.gamma: .*linear SVM"),
        (svm_linear_fer2013, {"C": (1.0, -1.0)}, "model.C=-1.0: expected a number above 0"),
        (svm_linear_fer2013, {"C": ()}, r"model.C=\(\): expected a number above 0"),
        (
            svm_linear_fer2013,
            {"max_iter": 0},
            "model.max_iter=0: expected a whole number of at least 1",
        ),
        (
            svm_rbf_fer2013,
            {"gamma": "wide", "components": -1},
            "(?s)model.components=-1.*model.gamma='wide': expected a number",
        ),
        (svm_rbf_fer2013, {"components": 37}, "components=37.* 36 training rows of 36 pixels"),
    ],
)
def test_a_mistake_is_named(module, model, message, tmp_path):
    with pytest.raises(UserError, match=message):
        experiment.svm(config_of(module, **model), tmp_path / "run")
    assert not (tmp_path / "run" / run.PREDICTIONS).exists()


def test_selection_and_labels_must_fit(linear, tmp_path, monkeypatch):
    linear.train.selection = "best_val"
    with pytest.raises(UserError, match=r"'best_val'.*expected 'last'"):
        experiment.svm(linear, tmp_path / "run")
    linear.train.selection = "last"
    units = toy()
    units = Dataset(
        units.images,
        np.eye(3, dtype=np.float32)[units.labels],
        units.groups,
        units.ids,
        CLASSES,
        "toy@1",
    )
    monkeypatch.setitem(loaders.LOADERS, "toy", lambda _: units)
    with pytest.raises(UserError, match=r"'svm' .*one class .*several"):
        experiment.svm(linear, tmp_path / "run")


def test_both_configs_say_what_they_are():
    for module in (svm_linear_fer2013, svm_rbf_fer2013):
        config = module.get_config()
        assert isinstance(config, ConfigDict)
        experiment.check(config)
        assert config.model.components <= 2304
    assert base.fer2013().split.protocol == "official"
