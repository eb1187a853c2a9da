"""What people have becomes what the network takes, as they said; what was not said is asked for."""

import dataclasses

import cv2
import jax
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from fexpr import models
from fexpr.data.preparation import face_images
from fexpr.errors import UserError
from fexpr.faces import find
from fexpr.recognizer import Network, Recognizer, images, programs
from fexpr.recognizer import face_finder as frames


def collect_images(
    given,
    shape=(4, 6, 1),
    flow=False,
    layout="HWC",
    colours=None,
    values=None,
    fit="exact",
    find=None,
):
    return images.collect_images(given, shape, flow, layout, colours, values, fit, find)


GREY = np.arange(24, dtype=np.uint8).reshape(1, 4, 6, 1) * 10
RGB = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        (GREY, {}),
        (list(GREY), {}),
        (GREY[..., 0], {"layout": "HW"}),
        (GREY.transpose(0, 3, 1, 2), {"layout": "CHW"}),
        (GREY / 255, {"values": "0..1"}),
        ((GREY / 255).astype(np.float32), {"values": "0..1"}),
        (GREY.astype(np.float64), {"values": "0..255"}),
        (GREY.astype(np.int64), {"values": "0..255"}),
        (np.repeat(GREY, 3, axis=3), {"colours": "rgb"}),
        (GREY, {"colours": "grey"}),
        (GREY.repeat(3, axis=1).repeat(3, axis=2), {"fit": "resize"}),
    ],
)
def test_the_same_image_said_in_many_ways(given, arguments):
    names, pixels, status, _ = collect_images(given, **arguments)
    np.testing.assert_array_equal(pixels, GREY)
    assert names == ["0"]
    assert status == ["ok"]


def test_colours_are_turned_into_those_of_the_network():
    grey = cv2.cvtColor(RGB[0], cv2.COLOR_RGB2GRAY)
    for given, colours in ((RGB, "rgb"), (RGB[..., ::-1], "bgr")):
        np.testing.assert_array_equal(collect_images(given, colours=colours)[1][0, ..., 0], grey)
        np.testing.assert_array_equal(collect_images(given, (4, 6, 3), colours=colours)[1], RGB)
    np.testing.assert_array_equal(
        collect_images(GREY, (4, 6, 3), colours="grey")[1], GREY.repeat(3, axis=3)
    )


def test_files_are_read_in_the_colours_of_the_network(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), RGB[0, ..., ::-1])
    np.testing.assert_array_equal(collect_images(path, (4, 6, 3))[1], RGB)
    grey = cv2.cvtColor(RGB[0], cv2.COLOR_RGB2GRAY)
    # libpng rounds otherwise
    np.testing.assert_allclose(collect_images([str(path)])[1][0, ..., 0], grey, atol=1)
    np.testing.assert_array_equal(collect_images([path], (4, 6, 3), flow=True)[1], RGB)
    assert collect_images([path])[0] == [str(path)]


@pytest.mark.parametrize(
    ("given", "arguments", "words"),
    [
        (
            GREY / 255,
            {},
            r"image 0: float64 from 0 to 0.9\d*: .*values='0..255' or values='0..1'",
        ),
        (
            GREY.astype(np.float32),
            {"values": "0..1"},
            r"values='0..1', found float32 from 0 to 230",
        ),
        (GREY.astype(np.float32) - 1, {"values": "0..255"}, r"found float32 from -1 to 229"),
        (np.full((1, 4, 6, 1), np.nan), {"values": "0..1"}, "from nan to nan"),
        (GREY.astype(np.int32), {}, "int32 from 0 to 230: .*values="),
        (GREY > 0, {}, "expected numbers, found bool"),
        (RGB, {}, "expected 1 channel, found 3.*colours='grey', 'rgb' or 'bgr'"),
        (RGB, {"colours": "grey"}, r"expected 1 channel \(grey\), found 3"),
        (GREY, {"colours": "rgb"}, r"expected 3 channels \(rgb\), found 1"),
        (GREY.transpose(0, 3, 1, 2), {}, "expected 1 channel, found 6.*layout"),
        (GREY[0], {}, r"expected 4 axes, found \[4, 6, 1\]"),
        (GREY, {"layout": "HW"}, r"expected 3 axes, found \[1, 4, 6, 1\]"),
        ([GREY[0], GREY], {}, r"image 1: .*'HWC'.* 3 axes, found .*\[1, 4, 6, 1\]"),
        (GREY[:, :3], {}, r"expected 4x6 pixels, found 3x6.*fit='resize'.*fit='face'"),
        (
            RGB[:, :3],
            {"shape": (4, 6, 3), "flow": True},
            r"expected 4x6 pixels, found 3x6: .*--pair.*\n.*\(u, v, optical strain\)",
        ),
        (
            RGB,
            {"shape": (4, 6, 3), "flow": True, "fit": "resize"},
            "fit='exact'",
        ),
        (
            GREY,
            {"layout": "HCW", "fit": "crop"},
            r"layout: expected one of 'HWC', 'CHW', 'HW'; found 'HCW'\n  - fit: .* found 'crop'",
        ),
        (["nowhere.png"], {}, "nowhere.png: "),
        (["nowhere.png"], {"shape": (4, 6, 2)}, "no image file .* 2 channels"),
        (GREY, {"shape": (4, 6, 2), "fit": "resize"}, "2 channels"),
    ],
)
def test_what_is_not_said_is_not_guessed(given, arguments, words):
    with pytest.raises(UserError, match=words):
        collect_images(given, **arguments)


def test_every_bad_file_is_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    cv2.imwrite(str(tmp_path / "grey.png"), GREY[0])
    words = (
        r"text.png: .*\(5 bytes\)\n.*empty.png.*\(0 "
        r"bytes\)\n.*grey.png: .*uint8 4 6"
    )
    with pytest.raises(UserError, match=words):
        collect_images(
            [tmp_path / name for name in ("text.png", "empty.png", "grey.png")],
            (4, 6, 3),
            flow=True,
        )


@pytest.fixture
def portrait():
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


def test_a_face_is_found_turned_upright_and_cut_out(faces, portrait, tmp_path):
    restored = Recognizer.restore(faces[0])
    grey = cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY)
    cv2.imwrite(str(tmp_path / "eileen.png"), grey)
    table = restored.predict([tmp_path / "eileen.png"], fit="face")
    (face,) = find(grey)
    cropped = frames.cut(grey, face, 48, "whole")[None, ..., None]
    expected = restored.predict(cropped).set_axis(table.index)
    pd.testing.assert_frame_equal(table[expected.columns], expected, rtol=1e-6)
    assert table["decision"].item() in restored.class_names
    assert table["status"].item() == "ok"
    assert table["face"].item() == 0
    assert table["quality"].item() == "good"
    np.testing.assert_allclose(
        table[["face_x", "face_y", "face_width", "face_height"]].to_numpy(float)[0],
        face.box,
        atol=0.1,
    )
    np.testing.assert_allclose(
        table[["nose_x", "nose_y"]].to_numpy(float)[0], face.points[2], atol=0.1
    )
    probabilities = table[list(restored.class_names)].to_numpy(float)
    np.testing.assert_allclose(
        probabilities, restored.probabilities(cropped, calibrated=True), rtol=1e-6
    )
    entropy = -(probabilities * np.log(probabilities)).sum() / np.log(len(restored.class_names))
    np.testing.assert_allclose(table["entropy"], entropy, rtol=1e-5)


def test_every_face_is_a_row_and_what_cannot_be_read_says_so(faces, portrait, tmp_path):
    restored = Recognizer.restore(faces[0])
    two = np.hstack([portrait[:300, 80:380], portrait[:300, 80:380, :][:, ::-1]])
    cv2.imwrite(str(tmp_path / "two.jpg"), two[..., ::-1])
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "two.jpg").read_bytes()[:9000])
    cv2.imwrite(str(tmp_path / "none.png"), np.full((90, 120, 3), 128, np.uint8))
    paths = [str(tmp_path / name) for name in ("two.jpg", "broken.jpg", "none.png", "gone.png")]
    table = restored.predict(paths, fit="face")
    assert table.index.tolist() == [paths[0], *paths]
    assert table["face"].tolist()[:2] == [0, 1]
    assert table["status"].tolist() == [
        "ok",
        "ok",
        "unreadable: is cut off (9,000 bytes)",
        "no face",
        "unreadable: No such file or directory",
    ]
    assert table["decision"].tolist()[2:] == ["unreadable", "no face", "unreadable"]
    assert set(table["decision"][:2]) <= set(restored.class_names)
    assert table.drop(columns=["decision", "status", "set"])[2:].isna().all(axis=None)
    assert (table["face_x"].iloc[0] < 150) & (table["face_x"].iloc[1] > 300)


def test_action_units_are_decided_by_the_thresholds_of_the_run(units):
    folder, dataset, _ = units
    restored = Recognizer.restore(folder)
    table = restored.predict(dataset.images)
    assert restored.thresholds.tolist() == restored.metrics["thresholds"]["per_trial"][0]
    present = table[list(restored.class_names)].to_numpy() >= restored.thresholds
    assert table["decision"].tolist() == [
        "+".join(n for n, p in zip(restored.class_names, row, strict=True) if p) or "none"
        for row in present
    ]
    assert len(set(table["decision"])) > 1
    assert not table.attrs["calibrated"]
    assert table["entropy"].between(0, 1).all()


def vectors(faces):
    """A recogniser of three features, whose network is a weight for each class and feature."""
    restored, weights = (
        Recognizer.restore(faces[0]),
        np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32),
    )
    variables = {"params": {"head": {"kernel": weights, "bias": np.zeros(7, np.float32)}}}
    scaling = np.zeros(3, np.float32), np.ones(3, np.float32)
    network = Network(
        models.build("logistic", num_classes=7), "float32", "none", variables, *scaling
    )
    return dataclasses.replace(
        restored, networks=(network,), kind="features", shape=(1, 1, 3), maps=None
    ), weights


def test_feature_vectors(faces):
    recogniser, weights = vectors(faces)
    rows = np.random.default_rng(1).normal(size=(4, 3))
    said = recogniser.predict(rows)
    np.testing.assert_allclose(
        said[list(recogniser.class_names)], softmax(rows @ weights, axis=1), rtol=1e-4
    )
    np.testing.assert_allclose(
        jax.export.deserialize(bytearray(programs.stablehlo(recogniser))).call(
            np.float32(rows)[:, None, None]
        ),
        said[list(recogniser.class_names)],
        rtol=1e-5,
    )
    with pytest.raises(
        UserError, match=r"expected finite numbers \[N, 3\], found float64 \[4, 2\]"
    ):
        recogniser.predict(rows[:, :2])
    with pytest.raises(UserError, match="expected float32, found uint8"):
        recogniser.logits(np.zeros((1, 1, 1, 3), np.uint8))


def test_a_saliency_map_is_computed_from_the_face(faces):
    """As FER2013's own second channel is; maps that may have been read from a folder are not made
    up.
    """
    restored = Recognizer.restore(faces[0])
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), np.uint8)
    both = np.stack([face_images.with_map(face, "spectral", None) for face in pictures[..., 0]])
    weights = np.random.default_rng(1).normal(size=(48 * 48 * 2, 7)).astype(np.float32)
    variables = {"params": {"head": {"kernel": weights, "bias": np.zeros(7, np.float32)}}}
    scaling = np.zeros(2, np.float32), np.full(2, 255 * 48, np.float32)
    network = Network(
        models.build("logistic", num_classes=7), "float32", "none", variables, *scaling
    )
    content = {"config": {"data": {"name": "fer2013", "map": "saliency"}}}
    mapped = dataclasses.replace(
        restored, networks=(network,), shape=(48, 48, 2), maps=None, content=content
    )
    np.testing.assert_allclose(
        mapped.predict(pictures)[list(mapped.class_names)], mapped.probabilities(both), rtol=1e-5
    )
    content["config"]["data"]["name"] = "ravdess"
    with pytest.raises(UserError, match="expected 2 channels, found 1"):
        mapped.predict(pictures)


def test_no_images_give_an_empty_table(faces):
    restored = Recognizer.restore(faces[0])
    assert restored.predict([]).columns.tolist() == [
        "decision",
        "status",
        "set",
        "entropy",
        *restored.class_names,
    ]
    assert len(restored.predict(np.zeros((0, 48, 48, 1), np.uint8))) == 0
