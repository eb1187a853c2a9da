"""A restored run says what the run itself said, and answers in words where it cannot be
restored.
"""

import gc
import shutil
import sys
import time

import numpy as np
import pytest
from scipy.special import expit, softmax

from fexpr import probabilities as calibration_maps
from fexpr.errors import UserError
from fexpr.recognizer import BATCH, Recognizer, network
from fexpr.storage import run
from fexpr.train import checkpoint
from tests.recognizer.runs import rows_of


@pytest.mark.parametrize("selection", ["last", "best_val"])
def test_logits_are_those_of_the_run(faces, selection):
    folder, dataset, found = faces
    images, logits = rows_of(dataset, found, selection)
    restored = Recognizer.restore(folder, selection)
    assert np.ptp(logits) > 0.01
    np.testing.assert_allclose(restored.logits(images), logits, atol=2e-6)
    assert restored.class_names == dataset.class_names
    assert restored.selection == selection


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 3, 11])
def test_batches_computed_at_the_same_time_keep_their_order(rows, threads):
    """The last of several batches of 4 is filled up, with what never comes back."""
    given, seen = np.arange(2.0 * rows).reshape(rows, 2), []

    def slow_at_first(batch):
        seen.append(batch.shape)
        time.sleep(0.02 / (1 + batch[0, 0]))
        return batch.sum(1)

    found = network.in_batches(slow_at_first, given, 4, threads)
    np.testing.assert_array_equal(found, given.sum(1))
    assert seen == [(4, 2)] * -(-rows // 4)


def test_the_default_selection_is_the_one_of_the_result(faces):
    folder, _, _ = faces
    assert Recognizer.restore(folder).selection == run.read_json(folder / run.METRICS)["selection"]


def test_action_units_in_bfloat16(units):
    folder, dataset, found = units
    restored = Recognizer.restore(folder)
    images, logits = rows_of(dataset, found, restored.selection)
    np.testing.assert_allclose(restored.logits(images), logits, atol=2e-2)
    assert restored.network.normalized(images.astype(np.float32)).dtype == "bfloat16"
    np.testing.assert_allclose(
        restored.probabilities(images), expit(restored.logits(images)), rtol=1e-6
    )
    moved = restored.maps[0](restored.logits(images))
    np.testing.assert_allclose(
        restored.probabilities(images, calibrated=True), expit(moved), rtol=1e-5
    )


def test_each_trial_of_a_cross_validation(folds):
    folder, dataset, found = folds
    network.predict.clear_cache()
    trials = Recognizer.restore(folder).trials
    assert trials == len(found["trial_fold"]) > 1
    said = []
    for t in range(trials):
        images, logits = rows_of(dataset, found, "best_val", t)
        restored = Recognizer.restore(folder, "best_val", trial=t)
        np.testing.assert_allclose(restored.logits(images), logits, atol=2e-6)
        said.append(restored.logits(dataset.images[:4]))
    assert np.ptp(said, axis=0).min() > 1e-3  # they are different networks
    assert network.predict._cache_size() == 1  # and one program


def test_any_number_of_images_with_one_compilation(faces):
    folder, dataset, _ = faces
    restored = Recognizer.restore(folder)
    network.predict.clear_cache()
    images = dataset.images[: BATCH + 9]
    whole = restored.logits(images)
    for n in (0, 1, 7, BATCH, BATCH + 1):
        np.testing.assert_array_equal(restored.logits(images[:n]), whole[:n])
        assert restored.logits(images[:n]).dtype == np.float32
    assert network.predict._cache_size() == 1


def with_map(folder, to, fitted):
    """A copy of the run whose report has chosen this map."""
    shutil.copytree(folder, to)
    metrics = run.read_json(to / run.METRICS)
    maps = metrics["calibration"]["applied"]["maps"]
    metrics["calibration"]["applied"]["maps"] = [calibration_maps.to_json(fitted)] * len(maps)
    run.write_json(to / run.METRICS, metrics)
    return to


def test_the_map_of_the_report_is_applied(faces, tmp_path):
    folder, dataset, _ = faces
    images = dataset.images[:10]
    rng = np.random.default_rng(0)
    temperature = calibration_maps.Temperature(1.7, 0.01)
    structured = calibration_maps.Structured(temperature, rng.normal(size=(7, 7)), np.arange(7.0))
    for i, fitted in enumerate((calibration_maps.Identity(), temperature, structured)):
        restored = Recognizer.restore(with_map(folder, tmp_path / str(i), fitted))
        logits = restored.logits(images)
        np.testing.assert_allclose(
            restored.probabilities(images), softmax(logits, axis=1), rtol=1e-5
        )
        expected = softmax(fitted(logits), axis=1)
        np.testing.assert_allclose(
            restored.probabilities(images, calibrated=True), expected, rtol=1e-5
        )
        table = restored.predict(images)
        np.testing.assert_allclose(table[list(restored.class_names)], expected, rtol=1e-5)
        assert table.attrs["calibrated"] == restored.calibrated == (i > 0)
        assert restored.temperature == (1.7 if i == 1 else None)


def test_a_run_of_an_older_version_has_its_temperatures(faces, tmp_path):
    folder, dataset, _ = faces
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    metrics = run.read_json(older / run.METRICS)
    del metrics["calibration"]["applied"], metrics["sets"]
    run.write_json(older / run.METRICS, metrics)
    restored, images = Recognizer.restore(older), dataset.images[:10]
    (temperature,) = metrics["calibration"]["temperature"]["parameters"]["temperature"]
    assert restored.temperature == temperature
    np.testing.assert_allclose(
        restored.probabilities(images, calibrated=True),
        softmax(restored.logits(images) / temperature, axis=1),
        rtol=1e-5,
    )
    assert "set" not in restored.predict(images)
    with pytest.raises(UserError, match=r"coverage=.*no prediction sets"):
        Recognizer.restore(older, coverage=0.8)


def test_sets_and_uncertain_rows(faces):
    folder, dataset, _ = faces
    restored, images = Recognizer.restore(folder), dataset.images[:40]
    sets = restored.metrics["sets"]
    for coverage in (None, 0.8, 0.9):
        asking = Recognizer.restore(folder, coverage=coverage)
        table = asking.predict(images)
        p = table[list(asking.class_names)].to_numpy()
        limit = sets["limits"][0][sets["levels"].index(coverage or 0.9)]
        held = 1 - p <= (np.inf if limit is None else limit) + 1e-6
        held[np.arange(40), p.argmax(axis=1)] |= ~held.any(axis=1)
        for said, row, values in zip(table["set"], held, p, strict=True):
            names = said.split(" or ")
            assert set(names) == set(np.array(asking.class_names)[row])
            assert names[0] == asking.class_names[values.argmax()]
        several = held.sum(axis=1) > 1
        assert several.any()
        uncertain = (table["decision"] == "uncertain").to_numpy()
        np.testing.assert_array_equal(uncertain, several & (coverage is not None))
    with pytest.raises(UserError, match=r"coverage=0.2: expected a number from 0.5 to 0.99"):
        Recognizer.restore(folder, coverage=0.2)


def test_thresholds_go_through_the_map_of_their_units(units, tmp_path):
    folder, dataset, _ = units
    base = calibration_maps.Temperature(0.4, 0.05, multilabel=True)
    fitted = calibration_maps.Structured(base, np.diag([0.5, 1.4]), np.array([-1.0, 0.7]))
    plain = Recognizer.restore(with_map(folder, tmp_path / "a", calibration_maps.Identity()))
    moved = Recognizer.restore(with_map(folder, tmp_path / "b", fitted))
    before, after = (r.predict(dataset.images) for r in (plain, moved))
    assert before["decision"].tolist() == after["decision"].tolist()
    assert (
        np.abs(before[list(plain.class_names)] - after[list(plain.class_names)]).to_numpy().max()
        > 0.05
    )
    assert "set" in after


def test_a_map_of_other_logits_is_of_no_use(faces):
    folder, dataset, _ = faces
    metrics, images = run.read_json(folder / run.METRICS), dataset.images[:10]
    other = Recognizer.restore(folder, ({"last", "best_val"} - {metrics["selection"]}).pop())
    with pytest.raises(UserError, match=r"(?s)no calibration map.*calibrated=False"):
        other.probabilities(images, calibrated=True)


def test_large_logits_do_not_overflow(faces, units):
    for folder, _, _ in (faces, units):
        scores = Recognizer.restore(folder).scores(
            np.array([[500.0, -500, 0, 0, 0, 0, 0]], np.float32)
        )
        np.testing.assert_allclose(scores[0, :2], [1, 0], atol=1e-6)


def test_nothing_but_the_run_directory_is_needed(faces, tmp_path, monkeypatch):
    folder, dataset, _ = faces
    expected = Recognizer.restore(folder).logits(dataset.images[:3])
    shutil.copytree(folder, tmp_path / "elsewhere")
    monkeypatch.setattr("fexpr.data.loaders.LOADERS", {})
    np.testing.assert_array_equal(
        Recognizer.restore(str(tmp_path / "elsewhere")).logits(dataset.images[:3]), expected
    )


def test_the_variables_are_arguments_not_constants(faces):
    """Baked into the program they would be compiled with it, and a second trial would need
    another.
    """
    restored = Recognizer.restore(faces[0])
    text = network.predict.lower(restored.network, np.zeros((BATCH, 48, 48, 1), np.uint8)).as_text()
    assert len(text) < 200_000


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            np.zeros((2, 48, 48, 1), np.float32),
            r"expected uint8.* found float32 from 0 to 0",
        ),
        (np.zeros((48, 48, 1), np.uint8), r"expected \[N, 48, 48, 1\] .* found \[48, 48, 1\]"),
        (np.zeros((2, 1, 48, 48), np.uint8), r"found \[2, 1, 48, 48\]"),
        (np.zeros((2, 28, 28, 1), np.int64), r"found \[2, 28, 28, 1\]\n.*found int64 from 0 to 0"),
        ([[1, 2]], "found list"),
    ],
)
def test_wrong_images_are_refused(faces, images, words):
    with pytest.raises(UserError, match=words):
        Recognizer.restore(faces[0]).logits(images)


@pytest.fixture
def copy(faces, tmp_path):
    shutil.copytree(faces[0], tmp_path / "copy")
    return tmp_path / "copy"


def without_input(folder):
    saved = checkpoint.load_variables(folder, "best_val")
    checkpoint.save_variables(folder, "best_val", {"params": saved["params"]})


def edit(name, change):
    def do(folder):
        content = run.read_json(folder / name)
        change(content)
        run.write_json(folder / name, content)

    return do


@pytest.fixture
def orbax_late(monkeypatch):
    """Orbax stops at the first damaged array. The others arrive later, at an event loop that is
    closed, or are thrown away with the tasks that wait for them; both is said through this hook."""

    def hook(left):
        if "Event loop is closed" not in str(left.exc_value):
            before(left)

    before = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", hook)
    yield
    time.sleep(0.3)
    gc.collect()


@pytest.mark.usefixtures("orbax_late")
def test_weights_that_broke_off_on_the_way(copy):
    largest = max(
        (p for p in (copy / run.CHECKPOINTS / "best_val").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(UserError, match=r"checkpoints/best_val is damaged"):
        Recognizer.restore(copy, selection="best_val")


@pytest.mark.parametrize(
    ("damage", "arguments", "words"),
    [
        (shutil.rmtree, {}, "does not exist"),
        (
            lambda f: (f / run.CHECKPOINTS / "last" / "_METADATA").unlink(),
            {"selection": "last"},
            "checkpoints/last is damaged: ",
        ),
        (lambda f: (f / run.METRICS).write_text("{"), {}, "metrics.json is damaged: "),
        (
            lambda f: (f / run.PREDICTIONS).unlink(),
            {},
            r"no finished run\n.*predictions.npz",
        ),
        (lambda f: shutil.rmtree(f / run.CHECKPOINTS), {}, "no weights\n"),
        (
            lambda f: None,
            {"selection": "oracle"},
            "no weights .*'oracle'\n.*best_val, last",
        ),
        (lambda f: None, {"trial": 1}, "no trial 1"),
        (lambda f: None, {"trial": -1}, "no trial -1"),
        (without_input, {"selection": "best_val"}, "(?s)best_val.*mean and deviation"),
        (edit(run.CONFIG, lambda c: c.update(format=99)), {}, "format 99.* 1"),
        (
            edit(run.CONFIG, lambda c: c["config"]["model"].update(hidden=[9])),
            {},
            r"hidden_0/bias: .*\(9,\).*\(8,\)",
        ),
        (
            edit(run.METRICS, lambda m: m["trials"]["failed"].append({"trial": 0})),
            {},
            "every trial of .* failed",
        ),
    ],
)
def test_a_run_that_cannot_be_restored(copy, damage, arguments, words):
    damage(copy)
    with pytest.raises(UserError, match=words):
        Recognizer.restore(copy, **arguments)
