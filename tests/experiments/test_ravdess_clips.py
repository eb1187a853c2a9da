"""RAVDESS clip by clip, as a user runs it on drawn actors; and clips that begin with a network of
frames.
"""

import types

import jax
import numpy as np
import pytest

from configs import base, stn_ravdess_clips
from experiments import explain
from experiments.cross_validate import cross_validate
from fexpr import Recognizer
from fexpr.errors import UserError
from fexpr.models import build
from fexpr.recognizer import Network
from fexpr.runs import describe, initialize, load_data, people
from fexpr.storage import run, seen_people


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEXPR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def settings(**changes):
    config = stn_ravdess_clips.get_config("debug")
    config.train.epochs, config.evaluate.resamples, config.log.tensorboard, config.data.source = (
        2,
        20,
        False,
        "synthetic",
    )
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    base.validate(config)
    return config


@pytest.mark.long
@pytest.mark.usefixtures("cache")
def test_clips_are_decided_as_a_whole(tmp_path):
    cross_validate(
        settings(model__variant="baseline", data__map="none", optimizer__learning_rate=0.01),
        tmp_path / "run",
    )
    found, seen = (
        run.read_arrays(tmp_path / "run" / run.PREDICTIONS),
        run.read_arrays(tmp_path / "run" / run.ATTENTION),
    )
    tested = (found["split"] == "test") & (found["selection"] == "best_val")
    assert sorted(found["ids"][tested]) == sorted(seen["ids"]) == sorted(set(seen["ids"]))
    assert seen["weights"].shape == seen["frame"].shape == seen["shown"].shape == (24, 4)
    np.testing.assert_allclose(seen["weights"].sum(axis=1), 1, atol=1e-5)
    assert np.ptp(seen["weights"]) > 1e-6
    assert (tmp_path / "run" / run.FIGURES / "attention.png").exists()
    assert "% of the weight" in (tmp_path / "run" / run.REPORT).read_text()

    dataset, _ = load_data.load(settings(model__variant="baseline", data__map="none"))
    recognizer = Recognizer.restore(tmp_path / "run", trial=0)
    mine = tested & (found["trial"] == 0)
    images = dataset.images[[dataset.ids.tolist().index(id_) for id_ in found["ids"][mine]]]
    np.testing.assert_allclose(recognizer.logits(images), found["logits"][mine], atol=1e-5)
    assert len(recognizer.predict(images)) == len(images)
    with pytest.raises(UserError, match="whole clips"):
        recognizer.predict("face.png")
    assert explain.main([str(tmp_path / "run"), "--trial=0"]) == 2


@pytest.fixture
def of_frames(monkeypatch):
    """A finished run of `config` on frames, as transfer finds it: its network's variables, and the
    content of config.json.
    """

    def finished(config, trained_on, seen=("affectnet/1",)):
        model = build(num_classes=8, **config.model.to_dict())
        images = np.zeros((1, 48, 48, 2), np.float32)
        variables = jax.tree.map(
            lambda x: np.asarray(x) + np.float32(0.5),
            dict(jax.jit(model.init)(jax.random.key(3), images)),
        )
        grey = np.full(2, 127.5, np.float32)
        content = {
            "config": config.to_dict(),
            "data": {"name": config.data.name, "source": trained_on},
        }
        restored = types.SimpleNamespace(
            content=content,
            selection="best_val",
            network=Network(model, "float32", "none", variables, grey, grey),
            seen=seen_people.Seen(np.array(seen)),
        )
        monkeypatch.setattr(initialize.Recognizer, "restore", lambda *_, **__: restored)
        return variables

    return finished


@pytest.mark.long
@pytest.mark.usefixtures("cache")
def test_clips_begin_with_a_network_of_frames(of_frames, tmp_path):
    folder = tmp_path / "frames"
    run.write_arrays(folder / run.PREDICTIONS, {"trial_fold": np.zeros(1, np.int32)})
    config = settings(init__from_run=str(folder))
    theirs = config.copy_and_resolve_references()
    theirs.model = {"name": "deep_emotion", "variant": "saliency", "regularised": False}
    theirs.data.name, theirs.data.clip_frames = "affectnet", 0
    variables = of_frames(theirs, "affectnet@0")
    dataset, folds = describe.prepare(config)
    begun = initialize.load_initialization(config, dataset, folds)
    jax.tree.map(np.testing.assert_array_equal, begun.variables, jax.device_get(variables))
    assert all("attend" in name for name in begun.facts["anew"])
    assert len(begun.facts["anew"]) == 3

    config.model = {
        "name": "deep_emotion_clips",
        "variant": "baseline",
        "regularised": False,
        "attention": 32,
    }
    with pytest.raises(UserError, match="localization"):
        initialize.load_initialization(config, dataset, folds)

    theirs.data.name = "ravdess"  # the same actors, as frames: they must not test here
    of_frames(theirs, dataset.source, people.people_of("ravdess", dataset))
    with pytest.raises(UserError, match=r"test actors .*training or validation"):
        initialize.load_initialization(settings(init__from_run=str(folder)), dataset, folds)


@pytest.mark.usefixtures("cache")
@pytest.mark.long
def test_a_short_clip_is_learned_from_as_it_is():
    dataset, _ = load_data.load(settings(data__clip_frames=9))  # drawn clips have five frames
    assert dataset.images.shape[-1] == 18
    assert (dataset.extras["frame"] >= 0).sum(axis=1).tolist() == [5] * 24
    assert not dataset.images[..., 10:].any()
    assert min(dataset.picture(i).max() for i in range(24)) > 0
    with pytest.raises(UserError, match=r"data\.clip_frames=\d+: expected 0.*'fer2013'"):
        settings(data__name="fer2013")
    with pytest.raises(UserError, match=r"augment\.mixup"):
        settings(augment__mixup=0.2)
