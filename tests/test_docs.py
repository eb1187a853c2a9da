"""What the documents tell people to type: the recipes run, every command line is one that its
program takes, every file named exists.
"""

import ast
import contextlib
import functools
import importlib
import os
import re
import shlex
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from benchmarks import accelerator, compare_monitors, front_end, movements
from benchmarks import faces as face_benchmark
from configs import base
from experiments import au_profiles, explain, fuse
from fexpr import cli, export, weights
from fexpr.app import __main__ as app_main
from fexpr.data import __main__ as data_main
from fexpr.data.loaders import LOADERS
from fexpr.data.splits.protocols import PROTOCOLS
from fexpr.evaluate import __main__ as evaluate_main
from fexpr.evaluate.declared import METRICS
from fexpr.evaluate.report.sections import SECTIONS
from fexpr.models import MODELS
from fexpr.recognizer import __main__ as recognizer_main
from fexpr.runs import list_runs, spec, sweep
from fexpr.storage import run
from tests.launching import ROOT, launch_from_scratch

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS = {
    "fexpr.app": app_main.parser,
    "fexpr.evaluate": evaluate_main.parser,
    "fexpr.data": data_main.parser,
    "fexpr.recognizer": recognizer_main.parser,
    "fexpr.export": export.parser,
    "experiments.explain": explain.parser,
    "experiments.fuse": fuse.parser,
    "experiments.au_profiles": au_profiles.parser,
    "experiments.status": list_runs.parser,
    "fexpr.weights": weights.parser,
    "benchmarks.accelerator": accelerator.parser,
    "benchmarks.compare_monitors": compare_monitors.parser,
    "benchmarks.faces": face_benchmark.parser,
    "benchmarks.front_end": front_end.parser,
    "benchmarks.movements": movements.parser,
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
# the modules of the command `fexpr`, but for `train`, which is launch.py
INSTALLED = {
    "app": "fexpr.app",
    "check": "fexpr.data check",
    "evaluate": "fexpr.evaluate",
    "recognize": "fexpr.recognizer",
    "explain": "experiments.explain",
    "export": "fexpr.export",
    "status": "experiments.status",
    "weights": "fexpr.weights",
}
# with an argument: `fexpr status` is also a name
QUOTED = re.compile(r"(?<!`)`((?:python|fexpr \w+) [^`]+)`(?!`)")
PLACEHOLDERS = ("<", "…", "...")


def commands():
    """The words behind `python` of every command in a block or between backticks, once; those of
    `fexpr` in the same form.
    """
    found = {}
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = [re.sub(r"\\\n\s*", "", block) for _, block in BLOCK.findall(text)]
        lines = [line for block in blocks for line in block.splitlines()]
        lines += [" ".join(quoted.split()) for quoted in QUOTED.findall(BLOCK.sub("", text))]
        for line in lines:
            if (typed := re.match(r"(?:\w+=\S* )*(python|fexpr) (.*)", line)) and not any(
                mark in line for mark in PLACEHOLDERS
            ):
                words = shlex.split(typed[2], comments=True)
                words = of_clone(*words) if typed[1] == "fexpr" else words
                found[f"{path.stem}: {' '.join(words)}"] = words
    return [pytest.param(words, id=name) for name, words in found.items()]


def of_clone(name, *rest):
    """The command `fexpr NAME ...` as one of a clone."""
    if name == "train":
        return [
            "launch.py",
            *(re.sub(r"^--config=(\w+)(?=:|$)", r"--config=configs/\1.py", word) for word in rest),
        ]
    return ["-m", *INSTALLED[name].split(), *rest]


def test_the_commands_of_fexpr_are_known():
    assert {*INSTALLED, "train"} == set(cli.COMMANDS)


def commands_of_docstrings():
    """The same of the module docstrings of configs and studies, which people copy from."""
    found = {}
    for path in [*(ROOT / "configs").glob("*.py"), *(ROOT / "experiments").glob("*.py")]:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            if typed := re.match(r"python (\S+\.py|-m [\w.]+) .*", line.strip()):
                found[f"{path.stem}: {typed[0]}"] = shlex.split(typed[0], comments=True)[1:]
    return [pytest.param(words, id=name) for name, words in found.items()]


@pytest.mark.parametrize("words", [*commands(), *commands_of_docstrings()])
def test_every_command_is_one_that_its_program_takes(words, monkeypatch):
    if words[0] == "-c":
        compile(words[1], "<command>", "exec")
        return
    if words[0] == "-m":
        assert words[1] in PARSERS, f"no parser is known for {words[1]}"
        with contextlib.suppress(SystemExit):  # argparse says no by it
            PARSERS[words[1]]().parse_args(words[2:])
            return
        pytest.fail("refused")
    assert (ROOT / words[0]).is_file()
    if words[0] == "launch.py" and "--help" not in words:
        check_launch(words, monkeypatch)


def check_launch(words, monkeypatch):
    """Parses the words as launch.py does, and checks the config and what is swept."""
    typed = [word.replace("=configs/", f"={ROOT}/configs/") for word in words]
    monkeypatch.setattr("sys.argv", typed)  # where ml_collections looks for --config.FIELD
    given = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=given)
    flags.DEFINE_multi_string("sweep", [], "", flag_values=given)
    flags.DEFINE_bool("dry_run", False, "", flag_values=given)
    for name in ("workdir", "hosts", "engine", "slurm", "address", "ray"):
        flags.DEFINE_string(name, None, "", flag_values=given)
    with warnings.catch_warnings():
        # of how ml_collections loads a file
        warnings.simplefilter("ignore", DeprecationWarning)
        assert given(typed) == ["launch.py"]
    base.validate(given.config)
    for text in given.sweep:
        sweep.parse(given.config, text)


def runs():
    """Every launch command of the documents in its config's debug size and seconds long, once, but
    for flags of clusters and files.
    """
    found = {}
    for parameters in commands():
        (words,) = parameters.values
        if words[0] == "launch.py" and "--help" not in words:
            kept = [
                re.sub(r"(configs/\w+\.py)(:\w+)?", r"\1:debug", word).replace(
                    "=configs/", f"={ROOT}/configs/"
                )
                for word in words[1:]
                if not re.match(
                    r"--(workdir|hosts|engine|slurm|address|ray|config\.init"
                    r"|config\.data\.(source|path))",
                    word,
                )
            ]
            found[" ".join(kept)] = in_seconds(kept)
    return [pytest.param(words, id=name.replace(f"{ROOT}/", "")) for name, words in found.items()]


def in_seconds(words):
    """The words of a debug size, with what makes its experiment and its members faster still."""
    name = next(found[1] for word in words if (found := re.search(r"configs/(\w+)\.py", word)))
    config = importlib.import_module(f"configs.{name}").get_config("debug")
    words = [
        re.sub(r"'(\w+)(?=['=])", r"'\1:debug", word) if "config.members=" in word else word
        for word in words
    ]
    if {"train.*", "train.epochs"} & {*spec.EXPERIMENTS[config.experiment]}:
        words.append("--config.train.epochs=1")
    if "--config.split.protocol=holdout" in words:  # the debug size may have folds
        words.append(f"--config.split.folds={base.get_config().split.folds}")
    return [*words, "--config.evaluate.resamples=10", "--config.log.tensorboard=False"]


@pytest.mark.parametrize("words", runs())
def test_every_launch_command_has_a_debug_size(words, monkeypatch):
    check_launch(["launch.py", *words], monkeypatch)


@pytest.mark.skipif("FEXPR_RUN_DOCS" not in os.environ, reason="takes ten minutes: make docs")
@pytest.mark.parametrize("words", runs())
def test_every_launch_command_runs(words, tmp_path, tmp_path_factory):
    shared = tmp_path_factory.getbasetemp() / "docs_cache"
    done = launch_from_scratch(tmp_path, shared, *words)
    assert done.returncode == 0, done.stderr


FOLDERS = ("benchmarks", "configs", "docs", "experiments", "fexpr", "notebooks", "tests")
ROOMS = "|".join(
    sorted(path.name for path in (ROOT / "fexpr").iterdir() if (path / "__init__.py").is_file())
)
NAMED_FILE = re.compile(
    rf"(?<![\w./<>-])((?:{'|'.join(FOLDERS)}|{ROOMS})/[\w./-]*\.(?:py|md|ipynb|j2))\b"
)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")  # to a file of the repository
# working papers that the repository does not hold
ELSEWHERE = re.compile(r"DESIGN\.md|REFERENCE\.md|\b[Ss]eeds? 00\d")
ANY_CONFIG = "configs/x.py"  # a placeholder
COMMENT = re.compile(r"(?:^\s*|  )#.*", re.MULTILINE)  # tokenize takes ten times as long


@functools.cache
def prose():
    """(file, text) of every document, and of every docstring and comment of the code."""
    return list(_prose())


def _prose():
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))):
        yield path, path.read_text(encoding="utf-8")
    for path in (
        ROOT / "launch.py",
        *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))),
    ):
        text = path.read_text(encoding="utf-8")
        comments = COMMENT.findall(text)
        nodes = ast.walk(ast.parse(text))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        yield (
            path,
            "\n".join(
                [
                    *comments,
                    *(
                        ast.get_docstring(node) or ""
                        for node in nodes
                        if isinstance(node, documented)
                    ),
                ]
            ),
        )


def exists(name: str, base: Path) -> bool:
    """Files are named from the repository, from fexpr/, or, in links, from the document."""
    return any((folder / name).exists() for folder in (ROOT, ROOT / "fexpr", base))


def test_every_file_that_is_named_exists():
    missing, count = [], 0
    for path, text in prose():
        names = NAMED_FILE.findall(text) + (
            LINK.findall(BLOCK.sub("", text)) if path.suffix == ".md" else []
        )
        count += len(names)
        missing += [
            f"{path.relative_to(ROOT)}: {name}"
            for name in names
            if name != ANY_CONFIG and not exists(name, path.parent)
        ]
    assert count > 200
    assert not missing


def test_nothing_is_cited_that_the_repository_does_not_hold():
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path, text in prose()
        for word in ELSEWHERE.findall(text)
        if path.resolve() != Path(__file__).resolve()
    ]
    assert not found


def test_every_interval_of_the_readme_is_in_the_results():
    intervals = re.findall(
        r"\d\.\d+ \(\d\.\d+–\d\.\d+\)", (ROOT / "README.md").read_text(encoding="utf-8")
    )
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(intervals) >= 5
    assert not [interval for interval in intervals if interval not in results]


@pytest.fixture
def faces(tmp_path, monkeypatch):
    """Six people with two expressions, as the first recipe wants them."""
    rng = np.random.default_rng(0)
    for place in (
        f"p{person}/{expression}/{i}"
        for person in range(6)
        for expression in ("calm", "glad")
        for i in range(2)
    ):
        path = tmp_path / "faces" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        middle = 60 if "calm" in place else 180
        cv2.imwrite(str(path), rng.integers(middle - 50, middle + 50, (60, 60), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    registries = (LOADERS, MODELS, PROTOCOLS, METRICS, SECTIONS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.mark.long
@pytest.mark.usefixtures("faces")
def test_the_recipes_run():
    names, recipes = {}, (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for language, text in BLOCK.findall(recipes):
        if language == "python":
            exec(compile(text, "docs/recipes.md", "exec"), names)
    for name in ("my_faces", "my_faces_streamed", "my_faces_tiny", "my_folds"):
        assert (Path("runs") / name / run.REPORT).is_file()
    assert run.read_json(Path("runs") / "my_folds" / run.METRICS)["trials"]["folds"] == 2
    assert evaluate_main.main(["runs/my_faces", "runs/my_folds", "--resamples", "20"]) == 0
