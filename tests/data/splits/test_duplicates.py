"""Copies of images: planted ones are found, unlike faces are not, and folds leave them out."""

import os

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from fexpr.data.dataset import Dataset
from fexpr.data.releases import fer2013
from fexpr.data.splits import duplicates
from fexpr.data.splits.fold import Fold
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError

RELEASE_ROOT = os.environ.get("FEXPR_DATA_DIR")  # the tests below see an environment without it


@pytest.fixture(scope="module")
def faces():
    """uint8 [60, 48, 48], of which no two are alike."""
    return fer_faces.draw(fer_faces.plan(60, 3)[0], 3)


def shift(face, y, x):
    return cv2.warpAffine(
        face, np.float32([[1, 0, x], [0, 1, y]]), (48, 48), borderMode=cv2.BORDER_REPLICATE
    )


def compress(face, quality):
    return cv2.imdecode(
        cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
    )


def add(face, grey):
    return np.clip(face.astype(int) + grey, 0, 255).astype(np.uint8)


CHANGES = {
    "compressed": lambda face: compress(face, 50),
    "brighter": lambda face: add(face, 25),
    "less contrast": lambda face: (128 + 0.7 * (face.astype(float) - 128)).astype(np.uint8),
    "shifted": lambda face: shift(face, 1, -1),
    "noisy": lambda face: add(
        face, np.random.default_rng(0).normal(0, 6, face.shape).round().astype(int)
    ),
    "resized": lambda face: cv2.resize(
        cv2.resize(face, (40, 40), interpolation=cv2.INTER_AREA), (48, 48)
    ),
}


def pairs(found):
    return {tuple(pair) for pair in found.tolist()}


def test_unlike_faces_are_no_copies_although_they_share_hashes(faces):
    copies = duplicates.find_copies(faces)
    assert copies.image.tolist() == list(range(60))
    assert copies.near.shape == copies.mirrored.shape == (0, 2)
    bits = np.bitwise_count(np.bitwise_xor.outer(*[duplicates.compute_hashes(faces)] * 2))
    assert (
        bits[np.triu_indices(60, 1)] <= duplicates.MAX_BITS
    ).sum() > 20  # the pixels have decided


@pytest.mark.parametrize("change", CHANGES)
def test_planted_near_copies_are_found(faces, change, monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    changed = np.stack([CHANGES[change](face) for face in faces[:12]])
    copies = duplicates.find_copies(np.concatenate([faces, changed]))
    missed = {(i, 60 + i) for i in range(12)} - pairs(copies.near)
    assert len(copies.near) + len(missed) == 12  # nothing else was found
    assert len(missed) <= (
        2 if change == "shifted" else 0
    )  # a diagonal shift changes more than 12 bits of some


def test_mirrored_copies_are_found_also_where_they_are_near_ones(faces):
    mirrored = faces[:8, :, ::-1]
    noisy = np.stack([CHANGES["noisy"](face[:, ::-1]) for face in faces[8:12]])
    copies = duplicates.find_copies(np.concatenate([faces, mirrored, noisy]))
    assert not len(copies.near)
    assert pairs(copies.mirrored) == {(i, 60 + i) for i in range(12)}


def test_exact_copies_have_one_number_and_flat_images_no_near_copies(faces):
    flat = np.repeat(np.uint8([0, 0, 255, 90]), 48 * 48).reshape(4, 48, 48)
    copies = duplicates.find_copies(np.concatenate([faces[:5], flat, faces[[4, 4]]]))
    assert copies.image.tolist() == [0, 1, 2, 3, 4, 5, 5, 6, 7, 4, 4]
    assert not len(copies.near)
    assert copies.kinds(np.array([4, 6, 7]), np.array([5, 9])).tolist() == ["exact", "exact", ""]


def test_nothing_and_one_image():
    for n in (0, 1):
        copies = duplicates.find_copies(np.zeros((n, 48, 48), np.uint8))
        assert copies.kinds(np.arange(n), np.array([], int)).tolist() == [""] * n


@pytest.fixture
def planted():
    """Of rows 0 to 9: 0 and 1 are exact copies, 2 and 3 near, 4 and 5 mirrored ones, 6 and 7 are
    exact copies of each other and near ones of 2, 8 and 9 of none."""
    image = np.array([0, 0, 1, 2, 3, 4, 5, 5, 6, 7])
    return duplicates.Copies(image, np.array([[1, 2], [1, 5]]), np.array([[3, 4]]))


def test_the_closest_kind_of_copy_counts(planted):
    kinds = planted.kinds(np.arange(0, 10, 2), np.arange(1, 10, 2))
    assert kinds.tolist() == ["exact", "near", "mirrored", "exact", ""]
    assert planted.kinds(np.array([3, 5]), np.array([6, 8])).tolist() == ["", ""]
    assert planted.kinds(np.array([6]), np.array([2])).tolist() == ["near"]


def test_copies_within_a_side_and_labels_that_contradict(planted):
    labels = np.array([0, 0, 0, 1, 2, 2, 0, 3, 0, 0], np.int32)
    assert planted.count_within(np.arange(10), labels) == {
        "exact": {"rows": 4, "other_label": 2},  # 0 and 1 agree, 6 and 7 do not
        "near": {
            "rows": 4,
            "other_label": 3,
        },  # 2 differs from 3 and from 7, 6 has 2 alone, which agrees
        "mirrored": {"rows": 2, "other_label": 0},
    }
    assert planted.count_within(np.array([0, 2, 4, 8]), labels) == {
        kind: {"rows": 0, "other_label": 0} for kind in duplicates.KINDS
    }


def test_a_fold_without_copies(planted):
    groups = np.arange(10).astype(str)
    fold = Fold("f", np.array([1, 3, 5, 7, 9]), np.array([2, 6]), np.array([0, 4, 8]), groups)
    exact = duplicates.leave_out(fold, planted, "drop_exact", groups)
    assert exact.train.tolist() == [3, 5, 9]  # 1 is tested, 7 validates
    assert exact.left_out == {
        "train": {"exact": 2, "near": 0, "mirrored": 0},
        "val": {"exact": 0, "near": 0, "mirrored": 0},
    }
    near = duplicates.leave_out(fold, planted, "drop_near", groups)
    assert (near.train.tolist(), near.val.tolist(), near.test.tolist()) == ([9], [2, 6], [0, 4, 8])
    assert near.left_out["train"] == {"exact": 2, "near": 1, "mirrored": 1}
    kept = duplicates.leave_out(fold, planted, "keep", groups)
    assert kept.train.tolist() == fold.train.tolist()
    tests = Fold("f", np.array([8, 9]), np.array([1, 5]), np.array([0, 4]), groups)
    with pytest.raises(UserError, match=r"drop_near .*no val rows .*fold f"):
        duplicates.leave_out(tests, planted, "drop_near", groups)
    facts = duplicates.describe(planted, exact, "drop_exact", np.zeros(10, np.int32))
    assert facts["test"] == {"exact": 0, "near": 0, "mirrored": 1}
    assert facts["val"] == {"exact": 0, "near": 1, "mirrored": 0}
    assert (facts["rule"], facts["left_out"]) == ("drop_exact", exact.left_out)


def dataset(faces, maps=False, **changes):
    images = np.stack([faces, np.zeros_like(faces)], -1) if maps else faces[..., None]
    ids = np.array([f"i{i}" for i in range(len(faces))])
    parts = np.where(np.arange(len(faces)) % 2, "Training", "PublicTest")
    fields = {
        "images": images,
        "labels": np.zeros(len(ids), np.int32),
        "groups": ids,
        "ids": ids,
        "class_names": ("a", "b"),
        "source": "toy@1",
        "split": parts,
        "kind": "face",
    }
    return Dataset(**{**fields, **changes})


def test_they_are_found_once_for_the_same_faces(faces, monkeypatch):
    doubled = np.concatenate([faces[:6], faces[:2]])
    first = duplicates.copies_of(dataset(doubled))
    monkeypatch.setattr(duplicates, "find_copies", None)
    again = duplicates.copies_of(
        dataset(doubled, maps=True)
    )  # the map beside a face does not matter
    assert first.image.tolist() == again.image.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    with pytest.raises(TypeError):
        duplicates.copies_of(dataset(doubled[:7]))


def test_colours_are_compared_as_grey(faces):
    colours = np.repeat(faces[:3, ..., None], 3, -1)
    assert (
        duplicates.copies_of(
            dataset(np.zeros((0, 48, 48), np.uint8), images=colours[:0])
        ).image.tolist()
        == []
    )
    ids = np.array(["a", "b", "c"])
    data = dataset(faces[:3], images=colours, groups=ids, ids=ids)
    assert duplicates.copies_of(data).image.tolist() == [0, 1, 2]


def test_they_are_sought_unasked_only_where_that_is_cheap_and_means_something(faces):
    assert duplicates.are_sought(dataset(faces))
    assert not duplicates.are_sought(dataset(faces, split=None))
    assert not duplicates.are_sought(dataset(faces, kind="flow"))
    assert not duplicates.are_sought(dataset(faces, source="synthetic"))
    assert not duplicates.are_sought(dataset(faces, extras={"video": np.full(60, "v")}))
    many = np.zeros((duplicates.CHEAP + 1, 1, 1), np.uint8)
    assert not duplicates.are_sought(dataset(many))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.duplicates": "drop"}, "one of 'keep', 'drop_exact', 'drop_near'"),
        (
            {"data.duplicates": "drop_near", "data.name": "ravdess"},
            "data.name='ravdess': expected 'fer2013' or 'affectnet' with data.duplicates",
        ),
        (
            {"data.duplicates": "drop_near", "data.name": "affectnet", "data.streamed": True},
            "all images are compared",
        ),
        ({"data.duplicates": "drop_near", "split.inner": 5}, "validation rows are fixed"),
    ],
)
def test_configs_that_ask_for_something_else(changes, message):
    config = base.fer2013()
    config.model.name = "logistic"
    base.validate(config)
    config.update_from_flattened_dict({**changes})
    with pytest.raises(UserError) as e:
        base.validate(config)
    assert message in e.value.text()


@pytest.mark.release
@pytest.mark.skipif(
    not os.path.isdir(os.path.join(RELEASE_ROOT or "", "fer2013")), reason="no FER2013 there"
)
def test_the_release_has_the_copies_that_docs_report():
    data = fer2013.load(
        ConfigDict({**base.get_config().data, "name": "fer2013", "root": RELEASE_ROOT})
    )
    train, test = (
        np.flatnonzero(data.split == "Training"),
        np.flatnonzero(data.split == "PublicTest"),
    )
    copies = duplicates.copies_of(data)
    found = duplicates.count_kinds(copies.kinds(test, train))
    assert found["exact"] == 280
    assert found["near"] == pytest.approx(313, abs=10)  # versions of OpenCV may round otherwise
    assert found["mirrored"] == pytest.approx(5, abs=2)
