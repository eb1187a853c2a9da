"""Machines without epochs leave what networks leave."""

import importlib

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base, machine_megc2019
from fexpr.data import loaders
from fexpr.data.loaders import Loader
from fexpr.errors import UserError
from fexpr.evaluate import fusion
from fexpr.storage import run
from tests.recognizer.runs import toy

experiment = importlib.import_module("experiments.machine")


def labelled(config):
    """The toy maps, whose classes differ in where they move and not in brightness."""
    data = toy(config, multilabel=False)
    data.images[:, 6:] = 128
    data.images[data.labels == 1, :3] = 220
    return data


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(loaders.LOADERS, "toy", labelled)
    config = machine_megc2019.get_config("debug")
    config.data.name, config.split.folds, config.evaluate.resamples = "toy", 3, 20
    return config


@pytest.fixture
def folder(config, tmp_path, undrawn):
    experiment.machine(config, tmp_path / "run")
    return tmp_path / "run"


def test_the_run_directory(folder, config, capsys):
    found = run.read_arrays(folder / run.PREDICTIONS)
    assert set(found["selection"]) == {"last"}
    tested = found["split"] == "test"
    assert sorted(found["ids"][tested]) == sorted(labelled(config).ids)
    for trial in range(3):
        mine = found["trial"] == trial
        assert not set(found["groups"][mine & tested]) & set(found["groups"][mine & ~tested])
        assert mine.sum() == 24
        assert found["train_rows"][trial] == (mine & ~tested).sum()
    np.testing.assert_allclose(np.exp(found["logits"]).sum(1), 1, rtol=1e-5)
    metrics, content = run.read_json(folder / run.METRICS), run.read_json(folder / run.CONFIG)
    assert metrics["test"]["uf1"]["value"] == 1
    assert metrics["selection"] == "last"
    assert content["model"]["fits"][0]["chosen"].keys() == {"C", "gamma"}
    assert (folder / run.REPORT).exists()


@pytest.mark.long
def test_a_finished_run_is_only_reported_again(folder, config, monkeypatch):
    monkeypatch.setattr(experiment, "fit_folds", lambda *_: pytest.fail("fitted again"))
    (folder / run.METRICS).unlink()
    experiment.machine(config, folder)
    assert (folder / run.METRICS).exists()
    config.model.gamma = 0.5
    with pytest.raises(UserError, match="another config"):
        experiment.machine(config, folder)


def test_it_fuses_with_other_members_by_their_validation_rows(folder):
    found = run.read_arrays(folder / run.PREDICTIONS)
    worse = found | {"logits": -found["logits"]}
    fused, chosen = fusion.fuse({"svm": found, "worse": worse}, "last", choose="nll")
    assert set(chosen.values()) == {"svm"}
    assert len(fused["ids"]) == len(found["ids"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": {"name": "svm_rbf", "C": (1.0, -1.0)}}, ("model.C=-1.0", "model.gamma")),
        ({"model": {"name": "svm"}}, ("model.name='svm'", "'boosted_trees'")),
        ({"model": {"name": "svm_linear", "C": 1, "depth": 3}}, ("model.depth=3",)),
        (
            {"model": {"name": "lda", "shrinkage": (0.5, 2.0), "components": 0.5}},
            ("shrinkage=2.0", "components=0.5"),
        ),
        ({"split.inner": 0}, ("split.inner=0",)),
        ({"split.seeds": 2}, ("split.seeds=2",)),
        ({"train.selection": "best_val"}, ("train.selection='best_val'",)),
        ({"train.tta": "flip_crop"}, ("train.tta='flip_crop'",)),
        ({"train.epochs": 7}, ("train.epochs=7",)),
        ({"augment.shift": 1}, ("augment.shift=1",)),
    ],
)
def test_mistakes(fields, words):
    config = machine_megc2019.get_config()
    model = fields.pop("model", None)
    if model:
        with config.unlocked():
            config.model = ConfigDict(model)
    config.update_from_flattened_dict(fields)
    with pytest.raises(UserError) as e:
        base.validate(config)
    for word in words:
        assert word in e.value.text()


def test_the_configs_are_valid():
    for variant in machine_megc2019.VARIANTS:
        base.validate(machine_megc2019.get_config(variant))
    assert isinstance(loaders.LOADERS["megc2019"], Loader)
