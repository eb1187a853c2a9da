"""The house as docs/design.md draws it: no circle of files, no import against the arrows, few calls
from launch.py to the gradient.
"""

import ast
import functools
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from absl import flags

import launch
from experiments import EXPERIMENTS
from fexpr.runs import opening, spec
from fexpr.train import devices, step

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "configs", "experiments", "fexpr")
FILES = [
    ROOT / "launch.py",
    *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))),
]


# each is of one thing: a network, a release, the recogniser, and the benchmark of it
TWINS = {"fer2013.py", "recognizer.py", "vggface.py"}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {module(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """The modules of the house that a file imports anywhere: at its top, inside functions, for type
    checkers alone.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES else node.module for name in whole}
    return found & set(NAMES)


@functools.cache
def graph() -> dict[str, set[str]]:
    """The modules that each module imports. Not computed where tests are only collected."""
    return {name: imported(path) - {name} for name, path in NAMES.items()}


def test_no_circle_of_files():
    """Imports inside functions count too."""
    try:
        tuple(TopologicalSorter(graph()).static_order())
    except CycleError as e:
        pytest.fail(" -> ".join(e.args[1]))


def test_a_circle_would_be_found():
    with pytest.raises(CycleError):
        tuple(TopologicalSorter({**graph(), "fexpr.errors": {"fexpr.runs.sweep"}}).static_order())


def test_configs_import_fexpr_alone():
    outside = {
        name: found
        for name, path in NAMES.items()
        if name.startswith("configs.")
        if (found := {i for i in graph()[name] if not i.startswith(("configs", "fexpr"))})
    }
    assert not outside


def test_no_file_name_stands_twice():
    names = Counter(path.name for path in FILES if path.name not in ("__init__.py", "__main__.py"))
    twice = {name for name, count in names.items() if count > 1}
    assert twice <= TWINS


def test_the_names_of_the_experiments():
    assert set(EXPERIMENTS) == set(spec.EXPERIMENTS)


def test_few_calls_from_launch_to_the_gradient(tmp_path, monkeypatch):
    """At most six calls over five files, counted in the traceback of a step that raises where it
    takes the gradient.
    """

    class Reached(Exception):
        pass

    def gradient(*_, **__):
        raise Reached

    monkeypatch.setattr(
        sys,
        "argv",
        [
            "launch.py",
            f"--config={ROOT / 'configs' / 'mlp_fer2013.py'}:debug",
            f"--workdir={tmp_path}",
            "--config.data.synthetic_clips=150",
        ],
    )
    monkeypatch.setattr(step.jax, "value_and_grad", gradient)
    monkeypatch.setattr(devices, "keep_compiled", lambda: None)
    monkeypatch.setattr(opening, "start_log", lambda _: None)
    try:
        # of how ml_collections loads a file; the next test has its own filters
        warnings.simplefilter("ignore", DeprecationWarning)
        launch.parse(sys.argv)
        with pytest.raises(Reached) as caught:
            launch.main([])
    finally:
        flags.FLAGS.unparse_flags()
    paths = [(Path(frame.filename), frame.name) for frame in traceback.extract_tb(caught.tb)]
    ours = [(path.relative_to(ROOT).as_posix(), name) for path, name in paths if path in FILES]
    assert ours[0] == ("launch.py", "main")
    assert ours[-1] == ("fexpr/train/step.py", "_train_step")
    assert len(ours) - 1 <= 6, ours
    assert len({file for file, _ in ours}) <= 5, ours


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        ("from fexpr import Recognizer", "orbax matplotlib sklearn scipy pandas optax"),
        (
            "import experiments.fit, experiments.cross_validate, fexpr.runs.launchers.dispatch",
            "orbax matplotlib sklearn scipy pandas openpyxl",
        ),
    ],
)
def test_libraries_are_imported_where_they_are_needed(code, unneeded):
    """Together they took longer than JAX: a person waited for them before the first line."""
    shown = f"{code}; import sys; print(*({set(unneeded.split())} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", shown], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
