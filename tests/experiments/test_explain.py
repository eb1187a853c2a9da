"""Maps of networks whose maps are known, and the command on a run directory."""

import contextlib
import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from configs import base
from experiments import explain
from experiments.explained_rows import surest
from fexpr import models
from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.errors import UserError
from fexpr.evaluate.report import drawing, explanation_page
from fexpr.models.convolution import conv2d
from fexpr.models.max_pool import max_pool
from fexpr.recognizer import Network, Recognizer, saliency
from fexpr.recognizer.feature_maps import feature_maps, layer_names
from fexpr.runs import load_data
from fexpr.storage import run
from fexpr.train import checkpoint

CLASSES = ("angry", "happy", "sad")


def recogniser(
    name, shape, variables=None, mean=0.0, std=1.0, tta="none", multilabel=False, **arguments
):
    model = models.build(name, num_classes=3, **arguments)
    initialize = jax.jit(partial(model.init, train=False))
    variables = variables or initialize(jax.random.key(0), jnp.zeros((1, *shape)))
    mean, std = (np.full(shape[-1:], x, np.float32) if np.ndim(x) == 0 else x for x in (mean, std))
    network = Network(model, "float32", tta, variables, mean, std)
    return Recognizer(
        (network,), CLASSES, multilabel, shape, "face", 1, (0,), "last", None, None, {}, {}
    )


def linear(weights, **settings):
    """weights float32 [H, W, C, 3]."""
    head = {"kernel": weights.reshape(-1, 3), "bias": np.zeros(3, np.float32)}
    return recogniser("logistic", weights.shape[:3], {"params": {"head": head}}, **settings)


def test_the_gradient_of_a_linear_model_is_its_weight_over_the_deviation():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(9, 10, 2, 3)).astype(np.float32)
    mean, std = (rng.uniform(20, 90, (9, 10, 2)).astype(np.float32) for _ in range(2))
    image = rng.integers(0, 256, (9, 10, 2), np.uint8)
    for k in range(3):
        slope, smooth = saliency.gradients(linear(weights, mean=mean, std=std).network, image, k)
        np.testing.assert_allclose(slope, np.abs(weights[..., k] / std).max(-1), rtol=1e-5)
        np.testing.assert_allclose(smooth, slope, rtol=1e-5)  # it is the same everywhere


@pytest.mark.long
def test_smoothgrad_is_the_mean_over_noisy_images():
    r, image = (
        recogniser("mlp", (8, 8, 1), hidden=(6,), batch_norm=False),
        np.arange(64, dtype=np.uint8).reshape(8, 8, 1),
    )
    _, smooth = saliency.gradients(r.network, image, 1)
    noise = np.random.default_rng(0).normal(0, 0.15 * 63, (24, 8, 8, 1))
    one_by_one = [
        jax.grad(lambda x: r.network(x[None])[0, 1])(jnp.asarray(image + n, jnp.float32))
        for n in noise
    ]
    np.testing.assert_allclose(smooth, np.abs(one_by_one).max(-1).mean(0), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("multilabel", [False, True])
def test_hiding_what_a_linear_model_ignores_changes_nothing(multilabel):
    rng = np.random.default_rng(1)
    weights = rng.integers(-1, 2, (24, 24, 1, 3)).astype(np.float32)
    weights[:, :12] = 0  # whole numbers: no rounding
    image = rng.integers(0, 9, (24, 24, 1), np.uint8)
    drop = saliency.occlusion(linear(weights, mean=4.0, std=64.0, multilabel=multilabel), image, 2)
    assert (drop[:, :8] == 0).all()  # no patch that hides these reaches column 12
    assert (drop[:, 12:] != 0).any(axis=0).all()


@pytest.mark.parametrize(
    ("shape", "tta"), [((21, 14, 2), "none"), ((16, 16, 1), "flip"), ((8, 8, 1), "none")]
)
def test_occlusion_is_what_the_recogniser_says_of_the_hidden_image(shape, tta):
    """Patches put in by hand, also where the stride does not divide the side."""
    rng = np.random.default_rng(2)
    r = linear(rng.normal(0, 0.01, (*shape, 3)).astype(np.float32), mean=100.0, std=9.0, tta=tta)
    image = rng.integers(0, 256, shape, np.uint8)
    total, count = np.zeros((2, *shape[:2]))
    ends = [sorted({*range(0, side - 7, 4), side - 8}) for side in shape[:2]]
    for y in ends[0]:
        for x in ends[1]:
            hidden = image.copy()
            hidden[y : y + 8, x : x + 8] = 100
            total[y : y + 8, x : x + 8] += (
                r.probabilities(image[None]) - r.probabilities(hidden[None])
            )[0, 1]
            count[y : y + 8, x : x + 8] += 1
    assert count.all()
    np.testing.assert_allclose(saliency.occlusion(r, image, 1), total / count, atol=1e-6)
    assert np.ptp(total / count) > 0 or shape == (8, 8, 1)


def test_feature_maps_are_the_convolutions_outputs():
    r = recogniser("aucnn", (12, 12, 3), mean=120.0, std=60.0)
    image = np.random.default_rng(3).integers(0, 256, (12, 12, 3), np.uint8)
    names = layer_names(r.network, r.shape)
    assert names == ["conv_0", "conv_1"]
    found = feature_maps(r.network, image, names)
    params = r.network.variables["params"]
    x = (image[None].astype(np.float32) - 120) / 60
    for name in names:
        x = conv2d(x, params[name]["kernel"]) + params[name]["bias"].reshape(1, 1, 1, -1)
        np.testing.assert_allclose(found[name], x[0], rtol=1e-4, atol=1e-5)
        x = max_pool(nn.relu(x), 2, 2)
    assert list(feature_maps(r.network, image, ["conv_1"])) == ["conv_1"]


@pytest.mark.parametrize(
    ("model", "shape", "names"),
    [
        # not 0, 1, 10, 11, 2
        (
            ("vgg_fer", {"widths": (2,) * 6, "hidden": ()}),
            (64, 64, 1),
            [f"conv_{i}" for i in range(12)],
        ),
        (
            ("deep_emotion", {}),
            (48, 48, 1),
            ["localization/conv_0", "localization/conv_1", *(f"conv_{i}" for i in range(4))],
        ),
        (("htnet", {"dim": 4, "num_hierarchies": 3}), (28, 28, 3), ["merge_0", "merge_1"]),
        (("ststnet", {}), (28, 28, 3), ["streams"]),
        (("logistic", {}), (8, 8, 1), []),
    ],
)
def test_convolutions_in_the_order_of_the_network(model, shape, names):
    name, arguments = model
    module = models.build(name, num_classes=3, **arguments)
    variables = jax.tree.map(
        lambda s: np.zeros(s.shape, s.dtype),
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)),
    )
    assert (
        layer_names(
            Network(
                module,
                "float32",
                "none",
                variables,
                np.zeros(shape[-1:], np.float32),
                np.ones(shape[-1:], np.float32),
            ),
            shape,
        )
        == names
    )


def test_the_strongest_channels_come_first():
    output = np.zeros((2, 2, 20))
    output[..., 7], output[..., 3], output[0, 0, 11] = -3.0, 2.0, 7.0
    chosen = explanation_page.strongest(output)
    assert chosen.tolist()[:5] == [7, 3, 11, 0, 1]
    assert len(chosen) == explanation_page.CHANNELS_SHOWN == 16


def test_the_number_of_a_channel_is_just_below_its_map(tmp_path, monkeypatch):
    figure = Figure()
    monkeypatch.setattr(drawing, "canvas", lambda *_: contextlib.nullcontext(figure))
    output = np.random.default_rng(0).normal(size=(2, 2, 20))
    chosen = explanation_page.draw_features(tmp_path / "x.svg", "", np.zeros((8, 8)), output, False)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [f"channel {i}" for i in chosen]
    extents = {tuple(image.get_extent()) for image in axes.images}
    assert len(extents) == len(chosen)
    for text in axes.texts:
        x, y = text.get_position()
        above = [
            e for e in extents if np.mean(e[:2]) == pytest.approx(x) and 0 < y - max(e[2:]) < 1
        ]
        assert len(above) == 1


def toy(multilabel, source="toy@1"):
    """20 maps 16x16x3; the last 10 are test rows."""
    rng = np.random.default_rng(4)
    labels = (np.arange(20) % 3).astype(np.int32)
    ids = np.array([f"clip/{i:02}" for i in range(20)])
    return Dataset(
        rng.integers(0, 256, (20, 16, 16, 3), np.uint8),
        np.eye(3, dtype=np.float32)[labels] if multilabel else labels,
        ids,
        ids,
        CLASSES,
        source,
        kind="flow",
    )


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A finished run of untrained networks, two trials; returns its folder."""

    def run_of(multilabel=False, source="toy@1", name="aucnn"):
        monkeypatch.setitem(LOADERS, "samm", lambda config: toy(multilabel, source))
        dataset, folder = toy(multilabel, source), tmp_path / "run"
        config = base.get_config("debug")
        config.data.image_size, config.model = 16, {"name": name}
        config.train.loss = "bce" if multilabel else "cross_entropy"
        trials = [
            recogniser(name, (16, 16, 3), mean=100.0, std=50.0, multilabel=multilabel)
            for _ in range(2)
        ]
        trials[1].network.variables["params"]["head"]["bias"] += jnp.arange(3.0)
        saved = [
            {**t.network.variables, "input": {"mean": t.network.mean, "std": t.network.std}}
            for t in trials
        ]
        checkpoint.save_variables(folder, "best_val", jax.tree.map(lambda *x: np.stack(x), *saved))
        data = {
            "source": source,
            "name": config.data.name,
            "classes": CLASSES,
            "image": [16, 16, 3],
            "kind": "flow",
            "group_name": "subject",
        }
        run.write_json(
            folder / run.CONFIG,
            {
                "format": 1,
                "config": json.loads(config.to_json()),
                "data": data,
                "model": {"name": name},
            },
        )
        metrics = {
            "headline": {"metrics": ["accuracy"]},
            "test": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}},
            "group_name": "subject",
            "task": "multilabel" if multilabel else "classes",
            "source": source,
            "per_class": [],
            "selection": "best_val",
            "rows": {"test": 8},
            "groups": {"test": 4},
            "calibration": {},
            "thresholds": None,
            "trials": {"count": 2, "failed": []},
        }
        run.write_json(folder / run.METRICS, metrics)
        rows = np.tile(np.arange(10, 20), 2)
        run.write_arrays(
            folder / run.PREDICTIONS,
            {
                "ids": dataset.ids[rows],
                "labels": dataset.labels[rows],
                "trial": np.repeat([0, 1], 10),
                "split": np.full(20, "test"),
                "selection": np.full(20, "best_val"),
                "groups": dataset.groups[rows],
                "class_names": np.array(CLASSES),
                "failed": np.zeros(2, bool),
                "train_positives": np.ones((2, len(CLASSES)), np.float32),
                "train_rows": np.full(2, 10, np.int32),
                "trial_fold": np.array([0, 1]),
                "trial_seed": np.array([0, 7]),
                "fold_names": np.array(["first", "second"]),
                "logits": np.concatenate([t.logits(dataset.images[10:]) for t in trials]),
            },
        )
        return folder

    return run_of


@pytest.mark.long
def test_the_page_of_a_run(make, capsys):
    folder = make(source="synthetic")
    assert explain.main([str(folder), "--image", "clip/03", "--image", "clip/12"]) == 0
    page = (folder / "inside" / "inside.html").read_text()
    for text in (
        "SYNTHETIC DATA",
        "clip/03",
        "clip/12",
        "training, or none",
        "conv_1",
        "8 × 8",
        "the 16 strongest",
    ):
        assert text in page
    assert "http" not in page
    figures = [
        f"{name}_{part}.png"
        for name in ("1_clip_03", "2_clip_12")
        for part in ("maps", "conv_0", "conv_1")
    ]
    assert sorted(p.name for p in (folder / "inside").iterdir()) == sorted(
        [*figures, "inside.html"]
    )
    assert str(folder / "inside" / "inside.html") in capsys.readouterr().out.replace("\n", "")


@pytest.mark.long
def test_one_layer_one_class_another_trial_and_folder(make, tmp_path):
    folder = make(multilabel=True)
    out = tmp_path / "elsewhere"
    assert (
        explain.main(
            [
                str(folder),
                "--class",
                "happy",
                "--layer",
                "conv_1",
                "--trial",
                "1",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    page = (out / "inside.html").read_text()
    for text in (
        "1 (of 0 to 1): fold second, seed 7",
        "probability of happy",
        "highest probability of happy in test rows that show it",
    ):
        assert text in page
    assert "SYNTHETIC" not in page
    assert not list(out.glob("*conv_0.png"))
    assert len(list(out.glob("*conv_1.png"))) == 2
    assert not (folder / "inside").exists()


def test_a_network_without_convolutions(make):
    folder = make(name="logistic")
    assert explain.main([str(folder)]) == 0
    assert "logistic has no convolution" in (folder / "inside" / "inside.html").read_text()


def test_the_surest_right_and_the_surest_wrong_row():
    dataset = toy(False)
    r = recogniser("logistic", (16, 16, 3))
    logits = np.zeros((10, 3), np.float32)
    right = dataset.labels[10:]
    for row, k, height in (
        (2, right[2], 3.0),
        (4, right[4], 5.0),
        (6, (right[6] + 1) % 3, 4.0),
        (7, (right[7] + 2) % 3, 2.0),
    ):
        logits[row, k] = height
    logits[8, right[8]] = 9.0  # of another trial
    found = {
        "ids": dataset.ids[10:],
        "labels": right,
        "logits": logits,
        "trial": np.array([0] * 8 + [1] * 2),
        "split": np.full(10, "test"),
        "selection": np.full(10, "last"),
    }
    good, bad = surest(r, dataset, found, None)
    assert (good.row, good.class_id) == (14, right[4])
    assert (bad.row, bad.class_id) == (16, (right[6] + 1) % 3)
    there, not_there = surest(r, dataset, found, 0)
    assert right[there.row - 10] == 0 != right[not_there.row - 10]
    assert there.class_id == not_there.class_id == 0


def test_everything_unknown_is_named_at_once(make, capsys):
    folder = make()
    assert (
        explain.main(
            [
                str(folder),
                "--image",
                "clip/3",
                "--image",
                "clip/04",
                "--class",
                "hapy",
                "--layer",
                "conv1",
            ]
        )
        == 2
    )
    text = capsys.readouterr().err
    for words in (
        "--image clip/3: the data have no such row; did you mean clip/",
        "--class hapy: there is no such class; did you mean happy?",
        "--layer conv1: there is no such convolution; did you mean conv_1 or conv_0?",
    ):
        assert words in text.replace("\n", " ")
    assert "clip/04:" not in text
    assert not (folder / "inside").exists()


def test_action_units_must_be_named(make, capsys):
    assert explain.main([str(make(multilabel=True))]) == 2
    assert "one must be named: angry, happy, sad" in capsys.readouterr().err


def test_data_that_are_gone_or_others(make, monkeypatch):
    folder = make()
    content = run.read_json(folder / run.CONFIG)

    def gone(config):
        raise UserError(f"the release is not in {config.root}", ["looked for samm"], "put it there")

    monkeypatch.setitem(LOADERS, "samm", gone)
    with pytest.raises(
        UserError,
        match=r"/mnt\n  - looked for samm\n.*--root=DIR.* put it",
    ):
        load_data.of_run(folder, content, "/mnt")
    monkeypatch.setitem(LOADERS, "samm", lambda _: toy(False, "toy@2"))
    with pytest.raises(UserError, match=r"toy@1.* found toy@2"):
        load_data.of_run(folder, content)


def test_a_folder_that_holds_no_run(tmp_path, capsys):
    assert explain.main([str(tmp_path)]) == 2
    assert "contains no finished run" in capsys.readouterr().err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        explain.main(["--help"])
    text = capsys.readouterr().out
    for option in (
        "--image ID",
        "--class NAME",
        "--layer NAME",
        "--trial N",
        "--root DIR",
        "--out DIR",
        "examples:",
    ):
        assert option in text
