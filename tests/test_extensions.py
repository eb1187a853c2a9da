"""A user's own data set, model, protocol, metric and report section, each in the user's own file:
in every command, in other processes.
"""

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import flax.linen as nn
import numpy as np
import pytest

from configs import base
from fexpr import extensions, models
from fexpr.config import Entry
from fexpr.data import data_sets, loaders
from fexpr.data.loaders import Loader
from fexpr.data.splits.split_config import PROTOCOLS
from fexpr.errors import UserError
from fexpr.evaluate import declared
from fexpr.evaluate.report import sections
from fexpr.recognizer import restored
from fexpr.storage import run
from tests.launching import ROOT, environment, launch

FACES = """
import flax.linen as nn
import numpy as np

from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.data.splits.protocols import PROTOCOLS, with_validation
from fexpr.evaluate.declared import METRICS, Metric
from fexpr.evaluate.report.sections import SECTIONS
from fexpr.models import MODELS


def load(config):
    rng, labels = np.random.default_rng(0), np.arange(32, dtype=np.int32) % 2
    images = np.clip(60 + 90 * labels[:, None, None, None] + rng.normal(0, 20, (32, 12, 12, 1)), 0, 255).astype(np.uint8)
    groups = np.array([f"p{i // 4}" for i in range(32)])
    return Dataset(images, labels, groups, np.array([f"image {i}" for i in range(32)]), ("calm", "glad"), source="my_faces@1")


class MyNet(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.mean(axis=(1, 2)))


LOADERS["my_faces"] = load
MODELS["my_net"] = MyNet
PROTOCOLS["even_odd"] = lambda config, dataset: with_validation(
    [(str(i), np.flatnonzero([int(name[1:]) % 2 == i for name in dataset.groups])) for i in range(2)], config, dataset)
METRICS["rows_wrong"] = Metric("rows decided wrongly", lambda rows, weights: weights @ (rows.presence != rows.decisions).any(axis=1),
                               lower_is_better=True, decimals=1, short="rows wrong")
SECTIONS["Persons"] = lambda config, metrics, predictions: ["who <tests>", [("person",), *((g,) for g in set(predictions["groups"]))]]
"""
CONFIG = """
from configs import base


def get_config(variant=""):
    config = base.get_config()
    config.extensions, config.data.name, config.data.image_size = ({extension!r},), "my_faces", 12
    config.model = {{"name": "my_net"}}
    config.train.loss, config.train.monitor = "cross_entropy", "accuracy"
    config.train.epochs, config.evaluate.resamples, config.log.tensorboard = 2, 10, False
    return config
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A working directory with the package my_lab, the same as a file, and a config of each;
    registries as they were afterwards.
    """
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "faces.py").write_text(FACES)
    (tmp_path / "lab_file.py").write_text(FACES)
    (tmp_path / "mine.py").write_text(CONFIG.format(extension="my_lab.faces"))
    (tmp_path / "mine_file.py").write_text(CONFIG.format(extension="lab_file.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    registries = (loaders.LOADERS, models.MODELS, PROTOCOLS, declared.METRICS, sections.SECTIONS)
    before, known = [dict(registry) for registry in registries], set(sys.modules)
    yield tmp_path
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("my_lab", "lab_file", "broken"):
            del sys.modules[name]


def python(folder, cache, *words, path=""):
    """The finished process of `python words`, started in `folder` with `path` on PYTHONPATH."""
    env = environment(cache, PYTHONPATH=f"{ROOT}:{path}" if path else str(ROOT))
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.long
def test_an_extension_works_in_every_command(lab, cache, tmp_path_factory):
    done = launch(
        lab,
        cache,
        "--config=mine.py",
        "--config.extensions=my_lab.faces",
        FEXPR_DATA_DIR=str(lab / "nothing"),
    )
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" not in done.stdout
    folder = lab / "runs" / "mine"  # neither mine-synthetic nor mine-extensions=…
    content = run.read_json(folder / run.CONFIG)
    assert content["data"]["source"] == "my_faces@1"
    assert content["config"]["extensions"] == ["my_lab.faces"]
    assert content["config"]["data"]["source"] == "release"
    assert re.search(r"rows wrong ↓ +\d\.\d \(", done.stdout)
    page = (folder / run.REPORT).read_text()
    assert "<h2>Persons</h2>" in page
    assert "who &lt;tests&gt;" in page
    assert "rows decided wrongly ↓" in page

    for words in (
        ("-m", "fexpr.data", "check", "my_faces", "--extension", "my_lab.faces"),
        ("-m", "experiments.explain", folder),
        ("-m", "fexpr.weights", "inspect", folder),
        ("-m", "fexpr.export", folder, "handed_on"),
    ):
        done = python(lab, cache, *words)
        assert done.returncode == 0, done.stderr
    predict = (
        "-c",
        "import numpy as np; from fexpr import Recognizer; r = "
        f"Recognizer.restore({str(folder)!r}, trial=0); "
        "print(r.predict(np.zeros((1, 12, 12, 1), np.uint8)).decision.item())",
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert python(elsewhere, cache, *predict, path=lab).stdout == "calm\n"
    missing = python(elsewhere, cache, "-m", "fexpr.weights", "inspect", folder)
    assert missing.returncode == 2
    for part in (
        "the model my_net of",
        "my_lab.faces: no module my_lab was found",
        "install",
        "PYTHONPATH",
    ):
        assert part in missing.stderr


def test_no_code_is_imported_from_a_run_directory(lab, tmp_path):
    folder = tmp_path / "downloaded"
    (folder / "my_lab").mkdir(parents=True)
    for name in ("my_lab/faces.py", "lab_file.py"):
        (folder / name).write_text("raise SystemExit('this was run')")
    shutil.rmtree(lab / "my_lab")
    sys.path.insert(0, str(folder))  # as with `cd downloaded; python -m fexpr.recognizer .`
    missing = extensions.load_recorded(
        ["my_lab.faces", str(folder / "sub" / "evil.py"), "../evil.py", "a;b"], folder
    )
    assert "is in the run directory" in missing["my_lab.faces"]
    assert list(missing.values())[1:] == [
        "no module evil was found",
        "no module evil was found",
        "is no name of a module",
    ]
    with pytest.raises(
        UserError,
        match=r"(?s)extensions .*my_lab.faces: module my_lab ",
    ):
        extensions.refuse_missing(missing, folder)
    (lab / "lab_file.py").unlink()
    assert (
        "is in the run directory"
        in extensions.load_recorded(["lab_file.py"], folder)["lab_file.py"]
    )
    assert extensions.load_recorded([], folder) == {}


def test_a_path_in_a_run_names_a_module_and_no_file(lab, monkeypatch):
    assert extensions.module_names("lab/my_faces.py") == ["lab.my_faces", "my_faces"]
    assert extensions.module_names("/somewhere/my_faces.py") == ["my_faces"]
    assert extensions.module_names("my_lab.faces") == ["my_lab.faces"]
    monkeypatch.chdir("/")
    assert extensions.load_recorded([str(lab / "lab_file.py")]) == {
        str(lab / "lab_file.py"): "no module lab_file was found"
    }
    sys.path.append(str(lab))
    assert extensions.load_recorded([str(lab / "lab_file.py")]) == {}
    assert "my_faces" in loaders.LOADERS


def test_files_are_imported_once_and_shipped_whole(lab):
    (module,) = extensions.load(["lab_file.py"])
    assert extensions.load([str(lab / "lab_file.py")]) == [module]
    assert extensions.sources(["lab_file.py,my_lab.faces"]) == [
        str(lab / "lab_file.py"),
        str(lab / "my_lab"),
    ]
    (lab / "other").mkdir()
    (lab / "other" / "lab_file.py").write_text("")
    with pytest.raises(UserError, match=r"another module .* lab_file"):
        extensions.load(["other/lab_file.py"])


@pytest.mark.usefixtures("lab")
def test_every_extension_that_cannot_be_imported_is_named():
    Path("broken.py").write_text("import numpy\n1 / 0\n")
    with pytest.raises(UserError) as error:
        extensions.load(["my_lab.nothing", "none.py", "broken.py", "no-name", "broken"])
    text = error.value.text()
    for part in (
        "my_lab.nothing: no module my_lab.nothing",
        "none.py: there is no file",
        "broken.py: ZeroDivisionError",
        "line 2)",
        "no-name: expected the name of a module",
        "broken: ZeroDivisionError",
    ):
        assert part in text
    config = base.get_config()
    config.extensions = ("my_lab.nothing",)
    with pytest.raises(UserError, match=r"config\.extensions.*import"):
        base.validate(config)


def test_an_installed_package_is_found_by_its_entry_point(lab, monkeypatch):
    sys.path.append(str(lab))
    found = metadata.EntryPoints([metadata.EntryPoint("mine", "my_lab.faces", extensions.GROUP)])
    monkeypatch.setattr(metadata, "entry_points", lambda group: found.select(group=group))
    extensions._load_installed.cache_clear()
    try:
        extensions.load([])
        assert "my_faces" in loaders.LOADERS
    finally:
        monkeypatch.undo()
        extensions._load_installed.cache_clear()


def test_real_data_are_never_called_synthetic(lab, monkeypatch):
    extensions.load(["my_lab.faces"])
    config = base.get_config().data
    config.name = "my_faces"
    for root in ("", str(lab)):
        monkeypatch.setenv("FEXPR_DATA_DIR", root)
        assert data_sets.resolve_source(config) == "release"
        assert data_sets.load(config).source == "my_faces@1"
    config.source = "synthetic"
    with pytest.raises(UserError, match=r"my_faces .*no synthetic release"):
        data_sets.resolve_source(config)
    loaders.LOADERS["my_faces"] = lambda config: "faces"
    with pytest.raises(UserError, match="returns str"):
        data_sets.load(config)
    config.name = "my_face"
    with pytest.raises(UserError, match="'my_faces'"):
        data_sets.load(config)


@pytest.mark.usefixtures("lab")
def test_names_that_nobody_registered_say_how_it_is_done():
    config = base.get_config()
    config.data.name, config.model.name, config.split.protocol = "mine", "my_net", "mine"
    with pytest.raises(UserError) as error:
        base.validate(config)
    assert (
        error.value.text().count(
            "registered by a module in config.extensions (config.extensions is empty)"
        )
        == 3
    )


@pytest.mark.parametrize(
    "entry",
    [
        Loader("nowhere:load", ("image_size",)),
        Loader("nowhere:load"),
        Entry("nowhere:load"),
        "nowhere:load",
        len,
    ],
)
def test_a_data_set_of_ones_own_may_say_which_fields_it_reads(entry, monkeypatch):
    monkeypatch.setitem(loaders.LOADERS, "mine", entry)
    config = base.get_config()
    config.data.name, config.model.name, config.data.image_size, config.data.classes = (
        "mine",
        "aucnn",
        12,
        "8",
    )
    if getattr(entry, "reads", None) is None:
        assert base.validate(config).data.classes == "8"
    else:
        with pytest.raises(UserError) as error:
            base.validate(config)
        assert error.value.problems == (
            "data.classes='8': expected '7', as data.name='mine' does not read it",
        )


@pytest.mark.parametrize(
    "entry", [Entry("nowhere:folds", ("folds",)), Entry("nowhere:folds"), "nowhere:folds", len]
)
def test_a_protocol_of_ones_own_may_say_which_fields_it_reads(entry, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "mine", entry)
    config = base.get_config()
    config.split.protocol, config.model.name, config.split.folds, config.split.repeats = (
        "mine",
        "aucnn",
        3,
        4,
    )
    if getattr(entry, "reads", None) is None:
        assert base.validate(config).split.repeats == 4
    else:
        with pytest.raises(UserError) as error:
            base.validate(config)
        assert error.value.problems == (
            "split.repeats=4: expected 10, as split.protocol='mine' does not read it",
        )


class Bare(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


class WithTrain(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dropout(0.5, deterministic=not train)(
            nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))
        )


@pytest.mark.parametrize("model", [Bare, WithTrain, "tests.test_extensions:Bare"])
def test_a_model_without_mask_or_train_is_called_without_them(model, monkeypatch):
    import jax

    monkeypatch.setitem(models.MODELS, "mine", model)
    made = models.build("mine", num_classes=2)
    variables = made.init(jax.random.key(0), np.ones((4, 6, 6, 1), np.float32), train=False)
    assert list(variables["params"]) == ["Dense_0"]
    mask = np.ones(4, bool)
    logits, _ = made.apply(
        variables,
        np.ones((4, 6, 6, 1), np.float32),
        train=True,
        mask=mask,
        rngs={"dropout": jax.random.key(1)},
        mutable=[],
    )
    assert logits.shape == (4, 2)
    assert made == models.build("mine", num_classes=2)
    assert type(made).__name__ == ("WithTrain" if model is WithTrain else "Bare")


def test_a_model_that_cannot_be_called_is_refused_in_one_message(monkeypatch):
    class Other(nn.Module):
        width: int = 3

        def __call__(self, x, scale, deterministic=True):
            return x

    monkeypatch.setitem(models.MODELS, "mine", Other)
    with pytest.raises(UserError) as error:
        models.build("mine", num_classes=2)
    for part in (
        "needs scale",
        "has deterministic, and no train",
        "no field num_classes",
        "__call__(self, images, train=False, mask=None)",
    ):
        assert part in error.value.text()
    monkeypatch.setitem(models.MODELS, "mine", lambda: None)
    with pytest.raises(UserError, match="flax"):
        models.build("mine", num_classes=2)
    for text in ("tests.test_extensions:Nobody", "tests.no_such_file:Bare", "Bare", ""):
        monkeypatch.setitem(models.MODELS, "mine", text)
        with pytest.raises(UserError, match="nothing that can be imported"):
            models.build("mine", num_classes=2)
    monkeypatch.setitem(models.MODELS, "mine", Entry("tests.test_extensions:Nobody"))
    with pytest.raises(UserError, match="nothing that can be imported"):
        models.build("mine", num_classes=2)


def test_a_metric_of_another_shape_is_refused(monkeypatch):
    from fexpr.evaluate.scored_rows import ScoredRows

    monkeypatch.setitem(
        declared.METRICS, "mine", declared.Metric("mine", lambda rows, weights: np.zeros(7))
    )
    yes = np.eye(2, dtype=bool)
    rows = ScoredRows(
        yes, yes, yes.astype(float), None, np.array(["a", "b"]), np.zeros(2, int), False
    )
    with pytest.raises(ValueError, match=r"'mine' .*\[7\], expected \[3\]"):
        declared.measures(rows, np.ones((3, 2)))


def test_a_run_of_a_version_without_extensions_is_read(tmp_path):
    from tests.recognizer.runs import stored

    folder = stored(tmp_path)
    assert "extensions" not in json.loads((folder / run.CONFIG).read_text())["config"]
    assert restored.read(folder, None, 0).members == (0,)


# what an addition to the product itself touches: its own file, and the file that names it
NAMED_IN = {
    "data set": ("image_folder", "fexpr/data/loaders.py"),
    "model": ("DeepEmotionClips", "fexpr/models/__init__.py"),
    "protocol": ('"loso":', "fexpr/data/splits/split_config.py"),
    "metric": ("Hamming loss", "fexpr/evaluate/declared.py"),
    "training field": ("early_share", "fexpr/train/train_config.py"),
}
OWN_FILES = (
    "fexpr/data/releases/image_folder.py",
    "fexpr/models/deep_emotion_clips.py",
    "fexpr/train/step.py",
)


@pytest.mark.parametrize("kind", NAMED_IN)
def test_an_addition_to_the_product_touches_at_most_two_files(kind):
    name, place = NAMED_IN[kind]
    assert re.search(rf"(?<!\w){re.escape(name)}", (ROOT / place).read_text())
    named = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fexpr").rglob("*.py")
        if re.search(rf"(?<!\w){re.escape(name)}", path.read_text(encoding="utf-8"))
    }
    assert named - set(OWN_FILES) == {place}, named
    assert len(named) <= 2
