"""Every benchmark runs, tiny: `--quick` ends in seconds and prints what its table is made of."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.quick import add_quick

ROOT = Path(__file__).parents[2]
RATE = r"fexpr +\d+\.\d+ +\d+\.\d+"
# arguments, and what must be in the output; those that start many processes run nightly alone
COMMANDS = {
    "loso": ([], RATE),
    "fer2013": ([], RATE),
    "streaming": ([], r"ratio warm \d+\.\d+"),
    "recognizer": (["fexpr/zoo/fer2013", "--peer=onnxruntime"], RATE),
    "faces": ([], r"drawn +1/1, 0 false"),
    "movements": ([], r"a head that moves alone: no facial movement"),
    "front_end": ([], r"\d+ ms of CPU each"),
    "compare_monitors": (["ststnet_megc2019", "--out={}"], r"refinement: median epoch [12] of 2"),
    "scale": (["--out={}.json"], r"\| batch \| 2 x 1 \|"),
    "engines": ([], r"2 programs of 1 epochs.*ray / local \d"),
    "vggface": ([], r"Keras +\d+\.\d+ images/s"),
}
MANY_PROCESSES = {"fer2013", "front_end", "compare_monitors", "scale", "engines", "vggface"}
NEEDS = {"faces": "skimage", "front_end": "skimage", "vggface": "keras", "engines": "ray"}


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in MANY_PROCESSES else ())
        for name in COMMANDS
    ],
)
def test_runs_tiny(name, tmp_path):
    pytest.importorskip(NEEDS.get(name, "numpy"))
    arguments, expected = COMMANDS[name]
    words = [text.format(tmp_path / "out") for text in arguments]
    env = {key: value for key, value in os.environ.items() if key != "FEXPR_DATA_DIR"}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(expected, done.stdout), done.stdout


def test_every_command_is_in_the_table():
    """A row of benchmarks/README.md and a tiny run for each file that is a command."""
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    makers = {"calibration_peers", "calibration_references", "torch_micro_cnns"}  # of fixtures
    commands = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    commands -= {"accelerator_sides"}
    assert commands - makers - {"accelerator"} == COMMANDS.keys()
    missing = [name for name in commands if f"benchmarks.{name}" not in readme]
    assert not missing


def test_sizes_before_others_and_unknown_ones_refused():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100)
    add_quick(parser, rows=2)
    assert parser.parse_args([]).rows == 100
    assert parser.parse_args(["--quick"]).rows == 2
    assert parser.parse_args(["--quick", "--rows=3"]).rows == 3
    wrong = argparse.ArgumentParser()
    add_quick(wrong, epochs=1)
    with pytest.raises(ValueError, match="epochs"):
        wrong.parse_args(["--quick"])
