"""Runs that begin with other runs and with files: what is taken, what starts anew, leaks that are
caught, features computed once.
"""

import dataclasses

import jax
import numpy as np
import pytest

from configs import base, cnn_simple_fer2013, resnet50_fer2013, vgg16_fer2013
from experiments.fit import fit
from fexpr import Recognizer
from fexpr.errors import UserError
from fexpr.runs import describe, initialize, load_data, results
from fexpr.runs.spec import RunSpec
from fexpr.runs.train_run import train
from fexpr.storage import run
from fexpr.train import checkpoint
from fexpr.weights import main


def settings(**changes):
    config = cnn_simple_fer2013.get_config("debug")
    (
        config.data.synthetic_clips,
        config.train.epochs,
        config.evaluate.resamples,
        config.log.tensorboard,
    ) = 160, 2, 10, False
    config.augment.update(base.get_config().augment)
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    base.validate(config)
    return config


@pytest.fixture(scope="module")
def cache_of_all(tmp_path_factory):
    return tmp_path_factory.mktemp("cache_of_all")


@pytest.fixture(autouse=True)
def one_cache(cache_of_all, monkeypatch):
    # it takes longer than training
    monkeypatch.setattr(results, "write_page", lambda *_: "no page")
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(cache_of_all))


@pytest.fixture(scope="module")
def source(tmp_path_factory, cache_of_all):
    """A finished run of two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEXPR_CACHE_DIR", str(cache_of_all))
        patch.setattr(results, "write_page", lambda *_: "no page")
        folder = tmp_path_factory.mktemp("source") / "run"
        fit(settings(), folder)
    return folder


def logits(folder, selection="last", split="test"):
    found = run.read_arrays(folder / run.PREDICTIONS)
    return found["logits"][(found["selection"] == selection) & (found["split"] == split)]


def weights(folder, selection="last"):
    return jax.tree.map(lambda x: x[0], checkpoint.load_variables(folder, selection))


@pytest.mark.long
def test_a_run_goes_on_where_another_ended(source, tmp_path, capsys):
    """With next to no learning, the next run's predictions are those of the first."""
    fit(
        settings(
            init__from_run=str(source), train__epochs=1, optimizer__learning_rate=1e-12, seed=5
        ),
        tmp_path / "next",
    )
    assert "6 arrays loaded" in capsys.readouterr().out
    np.testing.assert_allclose(logits(tmp_path / "next"), logits(source, "best_val"), atol=1e-5)
    facts = run.read_json(tmp_path / "next" / run.CONFIG)["init"]
    assert (facts["loaded"], facts["anew"]) == (6, {})


def test_an_export_begins_what_the_run_begins(source, tmp_path, capsys):
    assert main(["export", str(source), str(tmp_path / "w.safetensors")]) == 0
    data = load_data.load(settings())
    one, two = (
        initialize.load_initialization(settings(**start), *data).variables
        for start in (
            {"init__from_run": str(source)},
            {"init__from_file": str(tmp_path / "w.safetensors")},
        )
    )
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert main(["export", str(source), str(tmp_path / "w.pth")]) == 2
    assert main(["export", str(source), str(tmp_path / "w.safetensors"), "--layout=pytorch"]) == 2
    said = capsys.readouterr().err
    assert "exports are safetensors" in said
    assert "PyTorch layout for SimpleFERCNN" in said


@pytest.mark.long
def test_a_last_layer_of_another_width_starts_anew_and_frozen_layers_stay(source, tmp_path, capsys):
    config = settings(
        init__from_run=str(source),
        data__labels="ferplus",
        optimizer__freeze="^conv_",
        train__epochs=1,
    )
    fit(config, tmp_path / "next")
    said = capsys.readouterr().out
    assert "reinitialized: head (7 classes in the file, 8 in the model)" in said
    assert "92,552 parameters, 73,736 of them trained" in said
    before, after = weights(source, "best_val"), weights(tmp_path / "next")
    for name in ("conv_0", "conv_1"):
        jax.tree.map(np.testing.assert_array_equal, before["params"][name], after["params"][name])
    assert after["params"]["head"]["kernel"].shape == (9216, 8)
    content = run.read_json(tmp_path / "next" / run.CONFIG)
    assert set(content["init"]["anew"]) == {"params/head/kernel", "params/head/bias"}
    assert content["model"] == {"name": "fer_cnn_simple", "parameters": 92_552, "trained": 73_736}


@pytest.mark.long
def test_features_are_computed_once_and_the_run_is_that_of_the_whole_network(
    source, tmp_path, capsys
):
    """The trunk's weights are the source's; the restored whole says of the images what the trained
    end said of the features.
    """
    changes = {
        "init__from_run": str(source),
        "init__features": True,
        "train__eval_batch": 48,
        "optimizer__weight_decay": 0.1,
    }
    fit(settings(**changes), tmp_path / "one")
    assert "features   160 x 9216, 160 computed at" in capsys.readouterr().out
    before, after = weights(source, "best_val"), weights(tmp_path / "one")
    jax.tree.map(
        np.testing.assert_array_equal, before["params"]["conv_1"], after["params"]["conv_1"]
    )
    assert not np.array_equal(before["params"]["head"]["kernel"], after["params"]["head"]["kernel"])
    dataset, (fold,) = describe.prepare(settings())
    restored = Recognizer.restore(tmp_path / "one")
    assert restored.selection == "best_val"
    np.testing.assert_allclose(
        restored.logits(dataset.images[fold.test]), logits(tmp_path / "one", "best_val"), atol=2e-5
    )
    again = initialize.load_initialization(settings(**changes, seed=1), dataset, [fold])
    assert "features   160 x 9216, from the cache" in capsys.readouterr().out
    # random weights: another trunk, other features
    other = initialize.load_initialization(settings(init__features=True), dataset, [fold])
    assert not np.allclose(again.features, other.features)


def test_rows_that_the_first_network_saw_must_not_test_the_second(source):
    config = settings(init__from_run=str(source))
    dataset, (fold,) = describe.prepare(config)
    initialize.load_initialization(config, dataset, [fold])
    leaking = dataclasses.replace(
        fold,
        groups=dataset.groups,
        train=fold.train[2:],
        test=np.concatenate([fold.test, fold.train[:2]]),
    )
    with pytest.raises(
        UserError, match=r"2 of \d+ test images .*training or validation rows"
    ) as error:
        initialize.load_initialization(config, dataset, [leaking])
    assert dataset.ids[fold.train[0]] in error.value.text()
    swapped = dataclasses.replace(fold, groups=dataset.groups, test=fold.val[:1], val=fold.val[1:])
    with pytest.raises(UserError, match="1 of"):
        initialize.load_initialization(config, dataset, [swapped])


def test_runs_of_other_networks_and_scalings_are_refused(source):
    for changes, message in (
        ({"train__normalize": "symmetric"}, "train.normalize: 'unit' there, 'symmetric' here"),
        (
            {"model__name": "fer_cnn_thesis"},
            "model.name: 'fer_cnn_simple' there, 'fer_cnn_thesis' here",
        ),
        ({"init__trial": 3}, "has no trial 3"),
    ):
        config = settings(init__from_run=str(source), **changes)
        with pytest.raises(UserError) as error:
            initialize.load_initialization(config, *describe.prepare(config))
        assert message in error.value.text()


def test_weights_that_are_not_there_say_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("FEXPR_DATA_DIR", str(tmp_path))
    for module in (vgg16_fer2013, resnet50_fer2013):
        config = module.get_config()
        base.validate(config)
        with pytest.raises(UserError) as error:
            initialize.weights_file(config)
        text, name = error.value.text(), config.init.from_file
        assert (
            f"download https://github.com/rcmalli/keras-vggface/releases/download/v2.0/{name} "
            f"to {tmp_path}/weights/{name}" in text
        )
        assert "--config.init.from_file= trains" in text
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / name).touch()
        assert initialize.weights_file(config) == tmp_path / "weights" / name


@pytest.mark.parametrize("variant", ["features", "block5"])
def test_variants_of_the_configs(variant):
    config = vgg16_fer2013.get_config(variant)
    base.validate(config)
    assert (config.init.features, config.optimizer.freeze) == {
        "features": (True, ""),
        "block5": (False, "^conv[1-4]_"),
    }[variant]
    with pytest.raises(UserError, match="variant 'blok5'"):
        vgg16_fer2013.get_config("blok5")


def test_settings_that_contradict_each_other_are_all_named(source):
    config = settings()
    config.update_from_flattened_dict(
        {
            "init.from_run": "a",
            "init.from_file": "b",
            "init.features": True,
            "train.tta": "flip",
            "optimizer.freeze": "conv(",
            "optimizer.rates": "conv",
            "augment.flip": 0.5,
        }
    )
    with pytest.raises(UserError) as error:
        base.validate(config)
    fields = [problem.partition("=")[0] for problem in error.value.problems]
    assert sorted(fields) == [
        "augment",
        "init.from_run",
        "optimizer.freeze",
        "optimizer.freeze",
        "optimizer.rates",
        "train.tta",
    ]
    config = vgg16_fer2013.get_config("debug")
    config.train.normalize = "unit"
    with pytest.raises(UserError, match=r"normalize=.*vggface_vgg16"):
        base.validate(config)
    for changes in (
        {"optimizer__freeze": "^conv5_"},
        {"optimizer__rates": "conv5=0.1"},
        {"optimizer__freeze": "."},
    ):
        with pytest.raises(UserError, match=r"optimizer.(freeze|rates)"):
            train(
                [RunSpec(settings(**changes), source.parent / "never")],
                *describe.prepare(settings()),
                source.parent / "never",
            )


def test_classes_left_out_and_shares_of_the_training_rows():
    dataset, _ = load_data.load(settings())
    six, (part,) = load_data.load(settings(data__leave_out="disgust, fear", split__train_share=0.1))
    assert six.class_names == ("angry", "happy", "sad", "surprise", "neutral")
    names = dict(zip(dataset.ids, np.array(dataset.class_names)[dataset.labels], strict=True))
    assert [names[i] for i in six.ids] == np.array(six.class_names)[six.labels].tolist()
    assert len(six) == sum(name not in ("disgust", "fear") for name in names.values())
    _, (all_rows,) = load_data.load(settings(data__leave_out="disgust, fear"))
    whole, share = (np.bincount(six.labels[f.train]) for f in (all_rows, part))
    np.testing.assert_array_equal(share, np.ceil(0.1 * whole))
    assert set(part.train) < set(all_rows.train)
    np.testing.assert_array_equal(part.test, all_rows.test)
    for names, message in (
        ("joy", "joy: expected one of angry"),
        ("angry,disgust,fear,happy,sad,surprise", "1 class"),
    ):
        with pytest.raises(UserError, match=message):
            load_data.load(settings(data__leave_out=names))
