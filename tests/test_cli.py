"""The command `fexpr`: what it starts, what it says of mistakes, and that it starts nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from fexpr import cli
from fexpr.storage import zoo
from tests.launching import ROOT, environment

HEAVY = ("jax", "flax", "sklearn", "pandas", "cv2", "scipy", "matplotlib")
LOADED = """
import sys
from fexpr import cli
code = cli.run(sys.argv[1:])
print("loaded", [name for name in {heavy} if name in sys.modules])
raise SystemExit(code)
"""


@pytest.fixture
def _as_typed(monkeypatch):
    """What the command changes in its process is put back."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


def test_help_lists_every_command(capsys):
    assert cli.run([]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "}
    assert listed == set(cli.COMMANDS)


@pytest.mark.usefixtures("_as_typed")
@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "train"])
def test_every_command_has_help_under_its_name(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: fexpr {name} ")


@pytest.mark.usefixtures("_as_typed")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recognize", "a", "b.png", "--coverge=0.9"], "'--coverge=0.9'; did you mean --coverage?"),
        (["status", "a", "b"], "'b' is one argument too many"),
        (["evaluate"], "are required: predictions"),
        (["weights", "inspekt"], "did you mean|invalid choice"),
        (["check", "--rot=x"], "did you mean --root?"),
        (["evaluate", "a.csv", f"--resamples={10**25}"], "from 10 to 1,000,000, found '1000"),
        (["evaluate", "a.csv", "--out=~nosuchuser/x"], "~nosuchuser/x"),
        (["export", "run", "s3://bucket/x"], "s3://bucket/x is an address"),
        (["export", "run", "out", "--trial=--"], "argument --trial: expected a value, found '--'"),
    ],
)
def test_a_mistyped_option_is_one_message(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert any(word in shown for word in words.split("|")), shown
    assert "usage" not in shown
    assert shown.count("What to do: fexpr ") == 1


@pytest.mark.usefixtures("_as_typed")
def test_help_on_a_command(capsys):
    with pytest.raises(SystemExit):
        cli.run(["help", "status"])
    assert capsys.readouterr().out.startswith("usage: fexpr status ")


def typed(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", LOADED.format(heavy=HEAVY), *arguments],
        cwd=folder,
        env=environment(folder, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--help",), 0, "usage: fexpr COMMAND"),
        (("trian",), 2, "did you mean 'train'?"),
        (("--verison",), 2, "did you mean '--version'?"),
        (("weights",), 0, "fer2013"),
    ],
)
def test_answers_that_need_no_libraries(arguments, code, message, tmp_path):
    done = typed(tmp_path, *arguments)
    assert done.returncode == code
    assert message in done.stdout + done.stderr
    if arguments != ("weights",):  # reads metrics, by NumPy and SciPy
        assert "loaded []" in done.stdout
    assert "'jax'" not in done.stdout


@pytest.mark.parametrize(
    ("config", "near"),
    [("htnet_sam", "htnet_samm"), ("configs/htnet_samm.py", "htnet_samm")],
)
def test_a_config_that_is_not_there_is_a_mistake(config, near, tmp_path):
    done = typed(tmp_path, "train", f"--config={config}")
    assert done.returncode == 2
    assert f"perhaps {near}" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_model_of_the_zoo_is_described(capsys):
    from fexpr import weights

    assert weights.main([]) == 0
    text = capsys.readouterr().out
    for name in zoo.names():
        assert f"\n{name}\n" in f"\n{text}"
    assert text.count("data: ") == len(zoo.names()) >= 1
    assert sum(path.stat().st_size for path in zoo.FOLDER.rglob("*")) < 8e6
    assert all((Path(zoo.folder(name)) / "MODEL_CARD.md").is_file() for name in zoo.names())
