"""A whole cross-validation and a sweep as a user runs them: pooled results, chunks, kill and
resume, programs.
"""

import subprocess
import time

import numpy as np
import pytest

from fexpr.storage import run
from tests.launching import ROOT, command, environment, launch

pytestmark = pytest.mark.long  # the first run takes twenty seconds
STSTNET = f"--config={ROOT}/configs/ststnet_megc2019.py:debug"
SMALL = (
    "--config.data.synthetic_clips=20",
    "--config.train.epochs=6",
    "--config.evaluate.resamples=20",
    "--config.log.checkpoint_seconds=0",
    "--config.train.chunk=2",
    "--config.log.tensorboard=False",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared_cache):
    workdir = tmp_path_factory.mktemp("cwd") / "run"
    done = launch(workdir.parent, shared_cache, STSTNET, *SMALL, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_every_row_is_tested_once_and_pooled(finished):
    workdir, done = finished
    assert "3 folds" in done.stdout
    found, metrics = (
        run.read_arrays(workdir / run.PREDICTIONS),
        run.read_json(workdir / run.METRICS),
    )
    for name in ("last", "best_val", "oracle"):
        mine = (found["selection"] == name) & (found["split"] == "test")
        assert len(set(found["ids"][mine])) == mine.sum() == metrics_rows(workdir)
    for t in range(3):
        sides = [
            set(found["groups"][(found["trial"] == t) & (found["split"] == side)])
            for side in ("val", "test")
        ]
        assert not sides[0] & sides[1]
    assert {"uf1", "uar", "accuracy"} <= metrics["test"].keys()
    assert set(metrics["per_dataset"]) == {"full", "samm", "casme2"}
    assert len(found["fold_names"]) == 3
    # two chunks
    assert [row["epoch"] for row in run.read_history(workdir)] == [*range(1, 7), *range(1, 7)]


def metrics_rows(workdir):
    return run.read_json(workdir / run.CONFIG)["data"]["rows"]


def test_killed_in_the_second_chunk_it_ends_bit_identical(finished, shared_cache, tmp_path):
    reference, _ = finished
    arguments = (STSTNET, *SMALL, f"--workdir={tmp_path / 'run'}")
    process = subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=environment(shared_cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while process.poll() is None and len(run.read_history(tmp_path / "run")) < 9:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    assert not (tmp_path / "run" / run.PREDICTIONS).exists()
    done = launch(tmp_path, shared_cache, *arguments)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 chunks done" in done.stdout
    assert (tmp_path / "run" / run.PREDICTIONS).read_bytes() == (
        reference / run.PREDICTIONS
    ).read_bytes()
    assert len(run.read_history(tmp_path / "run")) == 12


def test_on_other_devices_the_same_to_float_rounding_at_the_start(shared_cache, tmp_path):
    short = [a for a in SMALL if "epochs" not in a and "chunk" not in a] + [
        "--config.train.epochs=1"
    ]
    logits = []
    for devices in (1, 2):
        done = launch(
            tmp_path,
            shared_cache,
            STSTNET,
            *short,
            f"--workdir={tmp_path / str(devices)}",
            devices=devices,
        )
        assert done.returncode == 0, done.stderr
        assert f"devices    {devices} x" in done.stdout
        logits.append(run.read_arrays(tmp_path / str(devices) / run.PREDICTIONS)["logits"])
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_a_sweep_groups_points_into_programs_and_continues(shared_cache, tmp_path):
    aucnn = (
        f"--config={ROOT}/configs/aucnn_samm.py:debug",
        "--config.model.name=logistic",
        "--config.data.synthetic_clips=20",
        "--config.train.epochs=4",
        "--config.evaluate.resamples=20",
        "--config.log.tensorboard=False",
        f"--workdir={tmp_path / 'sweep'}",
        "--sweep=train.batch_size=8,16",
    )
    dry = launch(tmp_path, shared_cache, *aucnn, "--sweep=seed=0,1", "--dry_run")
    assert dry.returncode == 0, dry.stderr
    assert "program    2 of 2" in dry.stdout
    assert dry.stdout.count("trials     2 points x 1 fold x 1 seed = 2") == 2
    assert "GiB a device" in dry.stdout
    assert (
        dry.stdout.count("time       about ") == dry.stdout.count("predicted from a few steps") == 2
    )
    assert not (tmp_path / "sweep").exists()

    first = launch(tmp_path, shared_cache, *aucnn, "--sweep=seed=0")
    assert first.returncode == 0, first.stderr
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").glob("*/predictions.npz")}
    assert len(before) == 2
    more = launch(tmp_path, shared_cache, *aucnn, "--sweep=seed=0,1")
    assert more.returncode == 0, more.stderr
    assert before == {p: p.stat().st_mtime_ns for p in before}  # finished points are not run again
    table = run.read_json(tmp_path / "sweep" / "sweep.json")
    assert [p["rank"] for p in table["points"]] == [1, 2]  # seeds are no settings
    scores = [p["val"][table["metric"]]["value"] for p in table["points"]]
    assert scores == sorted(scores, reverse=not table["lower_is_better"])
    assert "SYNTHETIC" in (tmp_path / "sweep" / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("optimizer.lr=1,2", "no field 'optimizer.lr'"),
        ("optimizer.learning_rate=1e-4,x", "is a float"),
        ("seed", "expected FIELD=V1,V2"),
        ("train.batch_size=-1,8", "train.batch_size=-1: expected at least 0"),
    ],
)
def test_a_sweep_that_cannot_be_run_says_so(sweep, message, shared_cache, tmp_path):
    done = launch(tmp_path, shared_cache, STSTNET, f"--sweep={sweep}")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()
