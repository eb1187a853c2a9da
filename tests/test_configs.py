"""Every config file loads with values that can be used, the same as ever; every mistake in one is
answered at once.
"""

import dataclasses
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from configs import base
from fexpr import config as sections
from fexpr.errors import UserError
from fexpr.runs import schema
from fexpr.runs.schema import RunConfig

ROOT = Path(__file__).parents[1]
NAMES = sorted(
    p.stem for p in (ROOT / "configs").glob("*.py") if "def get_config(" in p.read_text()
)
NAMES.remove("base")
# resolved values of every config and variant before the fields were declared in dataclasses
BEFORE = json.loads((ROOT / "tests" / "fixtures" / "configs_format_2.json").read_text())
HEAVY = ("jax", "flax", "sklearn", "pandas", "matplotlib", "scipy", "cv2")
CHECK = """
import sys
import launch
from fexpr.errors import UserError
try:
    launch.parse(sys.argv)
    launch.base.validate(launch._CONFIG.value)
except UserError as e:
    print(e.text())
print([name for name in {heavy!r} if name in sys.modules])
"""


def variants(name):
    return getattr(importlib.import_module(f"configs.{name}"), "VARIANTS", base.VARIANTS)


def flat(tree, prefix=""):
    found = {}
    for key, value in tree.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found


def of_before(config):
    """The values of fields that there were before; a field that came later is left out."""
    later = set(sections.paths(RunConfig)) - set(BEFORE["defaults"])
    return {
        name: value
        for name, value in flat(json.loads(config.to_json())).items()
        if name not in later
    }


def problems_of(**fields):
    """What is wrong with the defaults and these fields, by path with '__' for the dot."""
    config = base.get_config()
    config.model = {"name": fields.pop("model", "aucnn")}
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in fields.items()}
    )
    with pytest.raises(UserError) as raised:
        base.validate(config)
    return raised.value.problems


@pytest.mark.parametrize("name", NAMES)
def test_a_config_can_be_used_and_is_what_it_was(name):
    for variant in variants(name):
        config = importlib.import_module(f"configs.{name}").get_config(variant)
        base.validate(config)
        key = f"{name}:{variant}".removesuffix(":")
        if key in BEFORE["configs"]:
            assert of_before(config) == BEFORE["defaults"] | BEFORE["configs"][key]
        assert config.is_locked


def test_no_config_of_before_is_missing():
    names = {f"{name}:{variant}".removesuffix(":") for name in NAMES for variant in variants(name)}
    assert names >= set(BEFORE["configs"])
    assert of_before(base.get_config()) == BEFORE["defaults"]


def test_every_problem_is_named_at_once():
    found = problems_of(
        train__epochs=0,
        train__monitor="uf1",
        data__classes="8",
        split__folds=3,
        optimizer__plateau_patience=3,
        optimizer__freeze="(",
        augment__crop=40,
        seed=-1,
        evaluate__clips="vote",
        members=("x",),
    )
    assert [text.partition("=")[0] for text in found] == [
        "seed",
        "split.folds",
        "train.epochs",
        "train.monitor",
        "optimizer.plateau_patience",
        "optimizer.freeze",
        "augment.crop",
        "members",
        "data.classes",
        "evaluate.clips",
    ]


def test_entries_of_a_tuple_have_its_type():
    (found,) = problems_of(sweep=("seed=0,1", -1))
    assert found == "sweep=('seed=0,1', -1): expected a value of type tuple[str, ...]"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"data__labels": "ferplus"},
            "data.labels='ferplus': expected 'fer2013', as data.name='samm' does not read it",
        ),
        (
            {"train__focal_gamma": 3.0},
            "train.focal_gamma=3.0: expected 2.0: it is read only with train.loss='focal'",
        ),
        (
            {"augment__rotation": 5.0},
            "augment.rotation=5.0: expected 0, as optical-flow maps cannot be rotated",
        ),
        (
            {"data__name": "ravdess_aus", "train__loss": "cross_entropy", "augment__flip": 0.5},
            "augment.flip=0.5: expected 0.0, as a release of feature vectors does not read it",
        ),
        (
            {"data__name": "fer2013", "train__loss": "cross_entropy", "data__image_size": 64},
            "data.image_size=64: expected 28",
        ),
        (
            {"experiment": "svm", "model": "svm", "augment__flip": 0.5},
            "augment.flip=0.5: expected 0.0, as experiment='svm' does not",
        ),
        (
            {"filter__weights": "carry"},
            "filter.weights='carry': expected 'restart', as experiment='fit' does not read it",
        ),
        (
            {"data__source": "synthetic", "data__root": "/data"},
            "data.root='/data': expected '': it is read unless data.source='synthetic', which the "
            "variant :debug sets",
        ),
        (
            {"data__name": "folder", "train__loss": "cross_entropy", "train__normalize": "unit"}
            | {"data__source": "synthetic", "data__path": "photos"},
            "data.path='photos': expected '': it is read unless data.source='synthetic'",
        ),
        (
            {"data__name": "megc2019", "data__source": "synthetic", "data__subsets": "smic"}
            | {"train__loss": "cross_entropy"},
            "data.subsets='smic': expected 'auto': it is read unless data.source='synthetic'",
        ),
        ({"init__trial": 2}, "init.trial=2: expected 0: it is read only with init.from_run"),
        (
            {"model": "vggface_vgg16"},
            "train.normalize='standardize': expected 'none', as vggface_vgg16 prepares images "
            "itself",
        ),
        ({"data__name": "nobody"}, "data.name='nobody': expected one of 'samm'"),
        ({"model": "nothing"}, "model.name='nothing': expected one of 'htnet'"),
    ],
)
def test_what_nothing_reads_is_a_mistake(fields, expected):
    found = problems_of(**fields)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_checked_config_is_its_dataclasses():
    found = base.validate(importlib.import_module("configs.htnet_samm").get_config())
    assert isinstance(found, RunConfig)
    assert found.optimizer.clip_norm == 1.0
    assert found.model["dim"] == 64
    assert not list(sections.find_problems(found))


def test_the_config_of_an_older_run_is_completed():
    stored = json.loads(base.get_config("debug").to_json())
    del stored["augment"]["crop"], stored["filter"], stored["split"]["inner"]
    stored["train"]["no_longer"] = 1
    whole = schema.upgrade(stored)
    assert whole.to_dict() == base.get_config("debug").to_dict()


def test_a_stored_run_of_the_first_format_is_completed():
    with zipfile.ZipFile(ROOT / "tests" / "fixtures" / "run_format_1.zip") as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("config.json"))
        stored = json.loads(archive.read(name))["config"]
    whole, own = flat(json.loads(schema.upgrade(stored).to_json())), flat(stored)
    assert {name: value for name, value in whole.items() if name in own} == {
        n: v for n, v in own.items() if n in whole
    }
    assert set(BEFORE["defaults"]) <= set(whole)


def test_no_field_is_declared_without_words():
    for kind in (
        RunConfig,
        *(k for k, _ in sections.declarations(RunConfig).values() if dataclasses.is_dataclass(k)),
    ):
        for name, (inner, declared) in sections.declarations(kind).items():
            assert dataclasses.is_dataclass(inner) or declared.metadata["help"], name


def test_help_names_every_config_and_fits_one_screen():
    text = base.describe_all("", "python launch.py")
    assert all(f"  {name} " in text for name in NAMES)
    assert "augmentations" not in text
    assert len(text.splitlines()) <= 42  # beside the commands, 20 lines


def test_help_describes_exactly_the_fields():
    known = set(sections.paths(RunConfig))
    assert known == set(flat(json.loads(base.get_config().to_json())))
    lines = base.describe_all("all", "").splitlines()
    assert {
        line.split()[0].removeprefix("--config.").partition("=")[0]
        for line in lines
        if line.startswith("  --config.")
    } == known
    assert max(map(len, lines)) <= sections.WIDTH
    of_section = base.describe_all("optimizer", "")
    assert (
        of_section.count("--config.")
        == of_section.count("--config.optimizer.")
        == len(base.get_config().optimizer)
    )
    with pytest.raises(UserError, match="--help=optimiser"):
        base.describe_all("optimiser", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("--config.train.batch_size=-1", "--config.data.classes=8"),
            "train.batch_size=-1: expected at least 0",
        ),
        (("--epochs=3",), "there is no flag '--epochs'. Did you mean '--config.train.epochs'?"),
        (
            ("--config.optimizer.lr=1",),
            "there is no field 'optimizer.lr'. Did you mean 'optimizer.learning_rate'?",
        ),
        (("--config.epoch=3",), "there is no field 'epoch'. Did you mean 'train.epochs'?"),
        (("--config.model.name=resnt",), "model.name='resnt': expected one of 'htnet'"),
        (("--config.split.protocol=lopo",), "split.protocol='lopo': expected one of 'holdout'"),
    ],
)
def test_a_mistake_is_answered_within_half_a_second_without_libraries(arguments, expected):
    command = [
        sys.executable,
        "-c",
        CHECK.format(heavy=HEAVY),
        f"--config={ROOT}/configs/aucnn_samm.py:debug",
        *arguments,
    ]
    seconds = []
    for _ in range(4):  # a busy machine's caches cost CPU time, too: the best of a few counts
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
        *message, modules = done.stdout.splitlines()
        assert expected in "\n".join(message)
        assert modules == "[]"
        if seconds[-1] < 0.5:
            return
    pytest.fail(f"{min(seconds):.2f} s of CPU to answer a mistake")


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_is_a_ledger(name):
    """The command, and measured values that docs/results.md holds, or that nothing was measured."""
    text = " ".join(importlib.import_module(f"configs.{name}").__doc__.split())
    assert f"python launch.py --config=configs/{name}.py" in text
    assert re.search(
        r"\b[Nn]ot measured|\bMeasured 20\d\d-\d\d-\d\d|Drawn actors .*20\d\d-\d\d-\d\d", text
    )
    results = (Path(__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    ledger = text[re.search(r"Measured 20|[Nn]ot measured|Drawn actors|$", text).start() :]
    figures = re.findall(
        r"20\d\d-\d\d-\d\d|\d+\.\d+(?: \([\d.]+–[\d.]+\)| ± [\d.]+)?|\d+ (?:s|min)\b", ledger
    )
    assert not [figure for figure in figures if figure not in results]


def other_values(section, name):
    """Values that a field may have beside its default."""
    kind, declared = sections.declarations(section)[name]
    if kind is bool:
        return [not declared.default]
    if kind in (int, float):
        return [kind(declared.default + 1), kind(1) / 2 if kind is float else 0]
    return [v for v in (*sections.allowed(section, name), "x") if v != declared.default][:9]


def read_with(section, condition):
    """When a field is read: with the defaults, or by which other value of one field."""
    if condition(section()):
        return "by default"
    changed = [
        f"{name}={value!r}"
        for name, (kind, _) in sections.declarations(section).items()
        if kind is not dict and not sections.is_section(kind)
        for value in other_values(section, name)
        if condition(dataclasses.replace(section(), **{name: value}))
    ]
    return f"with {', '.join(changed)}"


def facts(section, prefix=""):
    """A line for each field: its default, that of debug, bounds, allowed values, when it is read."""
    for name, (kind, declared) in sections.declarations(section).items():
        about = declared.metadata
        if sections.is_section(kind):
            yield from facts(kind, f"{prefix}{name}.")
            continue
        default = declared.default_factory() if kind is dict else declared.default
        words = [f"{prefix}{name} {default!r}"]
        if about["debug"] != default:
            words.append(f"debug {about['debug']!r}")
        words += [f"{bound} {value}" for bound, value in about["bounds"].items()]
        if kind is not dict and (values := sections.allowed(section, name)):
            words.append("one of " + " ".join(map(str, values)))
        if about["read_if"]:
            words.append(f"read {read_with(section, about['read_if'][1])}")
        yield "; ".join(words)


def test_fields_are_what_they_were():
    """Defaults, bounds and conditions: none changes unseen. Write the fixture again with
    FEXPR_WRITE_REFERENCES=1.
    """
    file = ROOT / "tests" / "fixtures" / "config_fields.txt"
    found = "\n".join(facts(RunConfig)) + "\n"
    if os.environ.get("FEXPR_WRITE_REFERENCES"):
        file.write_text(found)
    assert found.splitlines() == file.read_text().splitlines()
