"""What `pip install .` gives, used from an empty folder: one name, and the command `fexpr`."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.installed import build_wheel, install, run_installed
from tests.launching import environment

pytestmark = pytest.mark.long

MINE = """
from configs import aucnn_samm


def get_config(variant=""):
    config = aucnn_samm.get_config(variant)
    config.train.epochs = 2
    return config
"""
SCRIPT = """
import importlib.util, sys
import fexpr

assert not any(importlib.util.find_spec(name) for name in ("configs", "experiments", "launch"))
from fexpr import studies

studies.add_to_path()
from configs import base
from experiments import EXPERIMENTS

print(sorted(EXPERIMENTS)[0], base.get_config().seed)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("site")
    install(build_wheel(tmp_path_factory.mktemp("wheel")), folder)
    return folder


def test_one_name_is_installed(site):
    names = {path.name for path in site.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"fexpr", "bin"}
    assert (site / "bin" / "fexpr").is_file()


def test_plain_python_sees_no_other_name(site, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment(tmp_path, PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "compare_classifiers 0\n"


@pytest.mark.parametrize("config", ["aucnn_samm:debug", "mine.py:debug"])
def test_training_by_name_and_by_file(config, site, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    done = run_installed(site, tmp_path, "train", f"--config={config}", "--config.train.epochs=1")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith(config.partition(".")[0].partition(":")[0])
    command = json.loads((run / "config.json").read_text())["command"]
    assert command.startswith(f"fexpr train --config={config}")
    listed = run_installed(site, tmp_path, "status")
    assert "finished" in listed.stdout


def test_jobs_of_a_cluster_run_the_installed_file(site, tmp_path):
    done = run_installed(
        site, tmp_path, "train", "--config=aucnn_samm:debug", "--engine=slurm", "--dry_run"
    )
    assert done.returncode == 0, done.stderr
    assert f"{site}/fexpr/_clone/launch.py --config=aucnn_samm:debug" in done.stdout


def test_a_table_of_a_photo(site, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), pixels)
    done = run_installed(site, tmp_path, "recognize", "fer2013", "photo.png", "--align=none")
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert "happy" in head
    assert row.startswith("photo.png,")
