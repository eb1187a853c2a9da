"""A packed run says what its run says, to the tolerance that it states; the zoo is made of such."""

import dataclasses
import hashlib
import shutil

import numpy as np
import pytest

from fexpr import Recognizer
from fexpr.data import data_sets
from fexpr.data.splits.protocols import make_folds
from fexpr.errors import UserError
from fexpr.models.weights import files
from fexpr.recognizer import pack
from fexpr.runs import schema
from fexpr.storage import run, zoo
from tests.recognizer.runs import rows_of


@pytest.fixture(scope="module")
def packed_faces(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "faces"
    pack.pack(faces[0], folder)
    return folder


def test_a_packed_run_decides_as_its_run(faces, packed_faces):
    folder, dataset, found = faces
    original, packed = Recognizer.restore(folder), Recognizer.restore(packed_faces)
    images, logits = rows_of(dataset, found, original.selection)
    assert packed.temperatures == original.temperatures
    np.testing.assert_allclose(
        packed.scores(packed.logits(images)), packed.scores(logits), atol=pack.TOLERANCE
    )


@pytest.mark.parametrize("which", ["units", "folds"])
def test_thresholds_and_every_trial_are_kept(which, request, tmp_path):
    folder = request.getfixturevalue(which)[0]
    pack.pack(folder, tmp_path / "packed")
    original, packed = Recognizer.restore(folder), Recognizer.restore(tmp_path / "packed")
    assert packed.members == original.members
    np.testing.assert_array_equal(packed.thresholds, original.thresholds)
    assert 0 < pack.largest_difference(original, packed) <= pack.TOLERANCE


def test_archives_of_it_are_read(packed_faces, tmp_path):
    place = shutil.make_archive(str(tmp_path / "faces"), "zip", packed_faces)
    assert Recognizer.restore(place).members == (0,)


def test_it_holds_no_folder_of_the_machine(faces, packed_faces):
    assert not any(str(faces[0].parent) in p.read_text() for p in packed_faces.glob("*.json"))
    assert "# mlp on fer2013" in (packed_faces / run.CARD).read_text()


def test_a_packed_run_is_replaced_and_nothing_else_is(faces, packed_faces, tmp_path):
    before = (packed_faces / run.PACKED_WEIGHTS).read_bytes()
    pack.pack(faces[0], packed_faces)
    assert (packed_faces / run.PACKED_WEIGHTS).read_bytes() == before
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="no packed run"):
        pack.pack(faces[0], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_network_that_float16_changes_is_refused(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match="float16"):
        pack.pack(faces[0], tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


def test_another_selection_is_not_kept(packed_faces):
    with pytest.raises(UserError, match=r"no weights .*'last'"):
        Recognizer.restore(packed_faces, "last")


def test_any_other_safetensors_is_refused(packed_faces, tmp_path):
    folder = shutil.copytree(packed_faces, tmp_path / "other")
    (folder / run.PACKED_WEIGHTS).unlink()
    files.write_safetensors(
        folder / run.PACKED_WEIGHTS,
        {"params/w": np.array(1, np.float32)},
        {"packed": '{"selection": "last"}'},
    )
    with pytest.raises(UserError, match="no packed run"):
        Recognizer.restore(folder, "last")


def test_a_changed_weight_is_refused(packed_faces, tmp_path):
    folder = shutil.copytree(packed_faces, tmp_path / "changed")
    weights = bytearray((folder / run.PACKED_WEIGHTS).read_bytes())
    weights[-100] ^= 1
    (folder / run.PACKED_WEIGHTS).write_bytes(weights)
    with pytest.raises(UserError, match="not the file that was packed"):
        Recognizer.restore(folder)


def test_its_repr_is_a_few_lines(packed_faces):
    text = repr(Recognizer.restore(packed_faces))
    assert len(text.splitlines()) <= 6
    assert "mlp trained on synthetic" in text
    assert "trials, calibrated by " in text or "trials, not calibrated: " in text


@pytest.mark.parametrize("name", zoo.names())
def test_every_model_of_the_zoo_predicts(name):
    model = Recognizer.pretrained(name)
    weights = (zoo.folder(name) / run.PACKED_WEIGHTS).read_bytes()
    assert model.content["weights"]["sha256"] == hashlib.sha256(weights).hexdigest()
    images = np.random.default_rng(0).integers(0, 256, (3, *model.shape), np.uint8)
    table = model.predict(images)
    assert len(table) == 3
    assert set(model.class_names) <= set(table.columns)
    assert model.content["data"]["source"] != "synthetic"


def test_a_name_that_is_not_there():
    with pytest.raises(UserError, match="'fer2014'"):
        Recognizer.pretrained("fer2014")


@pytest.mark.release
def test_the_faces_model_reaches_its_measured_accuracy():
    """On PublicTest, by what is installed: float16."""
    model = Recognizer.pretrained("fer2013")
    config = schema.upgrade(model.content["config"])
    config.data.source = "release"
    dataset = data_sets.load(config.data)
    (fold,) = make_folds(config.split, dataset)
    model = dataclasses.replace(model, batch=256)
    decided = model.logits(dataset.images[fold.test]).argmax(axis=1)
    accuracy = np.mean(decided == dataset.labels[fold.test])
    assert accuracy == pytest.approx(model.metrics["test"]["accuracy"]["value"], abs=0.002)
