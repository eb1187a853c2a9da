"""What is handed on says the same without fexpr, flax and the run directory; the card tells what
metrics.json tells.
"""

import dataclasses
import importlib.util
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy.special import softmax

from fexpr import Recognizer, export
from fexpr import probabilities as calibration_maps
from fexpr.evaluate.report.model_card import model_card
from fexpr.models.weights import files
from fexpr.recognizer import ensemble, programs
from fexpr.storage import run
from fexpr.train.image_changes import mirror
from tests.launching import environment
from tests.recognizer.runs import FIXTURES, stored

RUN = str(FIXTURES / "run_format_1.zip")

ALONE = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fexpr", "flax", "orbax", "optax", "experiments"):
            raise ImportError(f"{name} was to be done without")

sys.meta_path.insert(0, Refused())
import jax.export, numpy as np

program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
images = np.load(sys.argv[1])
np.savez(sys.argv[2], one=program.call(images[:1]), all=program.call(images), devices=jax.device_count())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def handed_on(tmp_path_factory):
    """The stored run, three folds, as its command hands it on."""
    target = tmp_path_factory.mktemp("export") / "handed_on"
    assert export.main([RUN, str(target)]) == 0
    return target


@pytest.mark.long
def test_the_program_in_a_process_without_fexpr_and_flax(handed_on, folder, tmp_path):
    typed = [sys.executable, "-c", ALONE, str(folder / "images.npy"), str(tmp_path / "said.npz")]
    done = subprocess.run(
        typed,
        cwd=handed_on,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, images = run.read_arrays(tmp_path / "said.npz"), np.load(folder / "images.npy")
    expected = Recognizer.restore(folder).probabilities(images, calibrated=True)
    assert np.ptp(expected[:, 0]) > 0.1
    np.testing.assert_allclose(said["all"], expected, atol=1e-6)
    np.testing.assert_allclose(said["one"], expected[:1], atol=1e-6)
    assert said["all"].dtype == np.float32
    assert said["devices"] == 1  # it was trained on four, exported on as many as these tests have


def test_it_runs_on_gpu_and_tpu_as_well(handed_on):
    program = jax.export.deserialize(bytearray((handed_on / export.PROGRAM).read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert program.in_avals[0].dtype == np.uint8
    assert str(program.in_avals[0].shape) == "(batch, 12, 12, 3)"


def test_weights_under_their_own_names(handed_on, folder):
    weights = files.read(handed_on / export.WEIGHTS)
    for t in range(3):
        network = Recognizer.restore(folder, trial=t).network
        np.testing.assert_array_equal(
            weights.arrays[f"trial_{t}/params/head/kernel"],
            network.variables["params"]["head"]["kernel"],
        )
        np.testing.assert_array_equal(weights.arrays[f"trial_{t}/input/std"], network.std)


def test_what_the_outputs_mean(handed_on, folder):
    about, restored = run.read_json(handed_on / export.ABOUT), Recognizer.restore(folder)
    assert about["class_names"] == ["one", "other"]
    assert about["trials"] == [0, 1, 2]
    # a run of an older version: a temperature for each trial, and no sets
    assert about["temperatures"] == list(restored.temperatures)
    assert about["calibrated"]
    assert [one["kind"] for one in about["calibration"]] == ["temperature"] * 3
    assert about["sets"] is None
    assert about["thresholds"] is None
    assert about["image"] == {"dtype": "uint8", "height": 12, "width": 12, "channels": 3}


def test_action_units_of_a_bfloat16_run(units):
    folder, dataset, _ = units
    restored, images = Recognizer.restore(folder), dataset.images[:5]
    program = jax.export.deserialize(bytearray(programs.stablehlo(restored)))
    expected = restored.probabilities(images, calibrated=True)
    # a value has 8 bits, and a program of any batch size rounds it at other places
    np.testing.assert_allclose(program.call(images), expected, atol=1e-3)
    about = export.about(restored)
    np.testing.assert_allclose(about["thresholds"], restored.thresholds)
    assert about["multilabel"]


def test_maps_and_sets_are_handed_on(faces):
    restored = Recognizer.restore(faces[0])
    about = export.about(restored)
    applied = restored.metrics["calibration"]["applied"]
    assert about["calibration"] == applied["maps"]
    assert about["calibrated"] == (applied["names"] != ["none"])
    assert about["sets"]["levels"] == restored.metrics["sets"]["levels"]
    assert about["sets"]["limits"] == restored.metrics["sets"]["limits"]


@pytest.mark.long
def test_views_and_map_are_in_the_program(faces):
    """This run averages each image and its mirror image, and is normalised pixel by pixel."""
    folder, dataset, _ = faces
    base = calibration_maps.Temperature(0.8, 0.02)
    weights = np.eye(7) + np.random.default_rng(0).normal(0, 0.3, (7, 7))
    fitted = calibration_maps.Structured(base, weights, np.linspace(-1, 1, 7))
    restored = dataclasses.replace(Recognizer.restore(folder), maps=(fitted,))
    images = dataset.images[:5]
    said = jax.export.deserialize(bytearray(programs.stablehlo(restored))).call(images)
    np.testing.assert_allclose(said, softmax(fitted(restored.logits(images)), axis=1), atol=1e-6)
    np.testing.assert_allclose(said, programs.program(restored)(images[:, :, ::-1]), atol=1e-6)


def test_centring_and_mirrored_flow_are_in_the_program(folds):
    restored = Recognizer.restore(folds[0], trial=0)
    images = folds[1].images[:6]
    program = jax.export.deserialize(bytearray(programs.stablehlo(restored)))
    found = np.asarray(program.call(images))
    np.testing.assert_allclose(found, restored.probabilities(images, True), atol=1e-6)
    # another level of no motion, and a mirror image
    np.testing.assert_allclose(program.call(images // 2), program.call(images // 2 + 90), atol=1e-6)
    mirrored = mirror(images.astype(np.float32), "flow").astype(np.uint8)
    np.testing.assert_allclose(found, program.call(mirrored), atol=1e-5)


@pytest.mark.long
def test_a_program_for_the_converter_has_no_custom_rules(folder):
    restored, images = (
        Recognizer.restore(folder, trial=1),
        np.load(folder / "images.npy")[:4].astype(np.float32),
    )
    function = programs.program(restored)
    assert "custom_v" in str(jax.make_jaxpr(function)(images))
    assert "custom_" not in str(jax.make_jaxpr(programs.plain(function))(images))
    np.testing.assert_allclose(programs.plain(function)(images), function(images), atol=1e-6)


@pytest.mark.skipif(
    importlib.util.find_spec("jax2onnx") is None, reason="jax2onnx is not installed"
)
@pytest.mark.filterwarnings("ignore")
def test_onnx_says_the_same(tmp_path, folder):
    import onnxruntime

    assert export.main([RUN, str(tmp_path / "out"), "--trial=1", "--onnx"]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / export.ONNX))
    restored, images = Recognizer.restore(folder, trial=1), np.load(folder / "images.npy")
    for n in (1, 7):
        said = session.run(None, {"images": images[:n].astype(np.float32)})[0]
        np.testing.assert_allclose(
            said, restored.probabilities(images[:n], calibrated=True), atol=1e-6
        )


def test_the_card_tells_what_the_run_found(handed_on, folder):
    card, metrics = (handed_on / export.CARD).read_text(), run.read_json(folder / run.METRICS)
    for words in (
        "# ststnet on megc2019",
        "group_k_fold: 3 folds, in which subjects never cross",
        "An ensemble of 3 networks",
        "have no test result",
        "24 rows of 6 subjects",
        "SAMM, CASME II and SMIC",
        "Not for decisions about people",
    ):
        assert words in card
    nll = metrics["test"]["nll"]
    assert (
        f"| negative log likelihood ↓ | {nll['value']:.3f} ({nll['low']:.3f}–{nll['high']:.3f}) |"
        in card
    )
    after = metrics["calibration"]["temperature"]["ece"]
    assert (
        f"{after['value']:.3f} ({after['low']:.3f}–{after['high']:.3f})"
        in card.partition("## Calibration")[2]
    )
    assert "oracle" not in card
    for name in (export.PROGRAM, export.WEIGHTS, export.ABOUT):
        assert f"| {name} |" in card


def test_cards_of_synthetic_data_and_of_action_units(faces, units, tmp_path):
    for (folder, _, _), words in (
        (faces, ("SYNTHETIC DATA", "None: the data were drawn", "a person may be")),
        (units, ("action units", "Thresholds: highest F1", "licence agreement")),
    ):
        restored = Recognizer.restore(folder)
        card = model_card(
            restored.content,
            restored.metrics,
            ensemble.described(restored),
            [("a", "b")],
            export.usage(True),
        )
        for text in words:
            assert text in card
        rows = [line for line in card.splitlines() if line.startswith("|")]
        assert len(rows) > 20


def test_names_are_shown_in_a_card_as_they_are(faces):
    """Markdown passes HTML and links on to whoever shows it."""
    restored = Recognizer.restore(faces[0])
    content = {**restored.content, "command": "python launch.py ```<img src=x>"}
    name = "<img src=x onerror=alert(1)>|[a](javascript:b)`"
    content["data"] = {**content["data"], "classes": [name, "b\n# c"], "source": name}
    card = model_card(content, restored.metrics, [name], [("a", "b")], "use")
    prose = card.partition("## How it was made")[0]
    assert "<img" not in prose
    assert "[a](javascript" not in prose.replace("\\[a\\](javascript", "")
    assert "\n# c" not in card
    assert card.count("```") == 2


def test_the_other_epoch_is_said_to_be_another(folder):
    lines = ensemble.described(Recognizer.restore(folder, "last"))
    assert "The results below belong to the weights of another epoch" in lines
    assert "Probabilities are not calibrated: the run has no map for this epoch" in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trial=7"], "has no trial 7"),
        (
            ["--onnx"],
            "an ensemble is not exported as ONNX"
            if importlib.util.find_spec("jax2onnx")
            else "jax2onnx\n",
        ),
    ],
)
def test_mistakes_leave_nothing(arguments, words, tmp_path, capsys):
    assert export.main([RUN, str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    assert export.main([RUN, str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_program_that_says_something_else_is_not_handed_on(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "difference_of", lambda *_: 0.01)
    with pytest.raises(RuntimeError, match=r"by 0\.01"):
        export.export(Recognizer.restore(RUN), tmp_path / "out", onnx=False)
    assert not list(tmp_path.iterdir())
