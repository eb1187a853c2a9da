"""The main job as a user meets it: one command, a run directory, a report; and every mistake
answered in one message.
"""

import json
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.runs import opening
from fexpr.runs.launchers import dispatch
from fexpr.storage import run
from tests.launching import FAST, ROOT, command, environment, launch, launch_from_scratch

AUCNN = f"--config={ROOT}/configs/aucnn_samm.py:debug"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared_cache):
    """A run of the literal command in debug size, in an empty folder."""
    folder = tmp_path_factory.mktemp("cwd")
    done = launch_from_scratch(folder, shared_cache, AUCNN, *FAST)
    assert done.returncode == 0, done.stderr
    (workdir,) = (folder / "runs").iterdir()
    return folder, workdir, done


def test_the_terminal_reads_like_a_notebook(finished):
    _, workdir, done = finished
    for line in (
        "data       synthetic: 20 clips of 6 subj",
        "split      train",
        "model      aucnn",
        "devices    1 x",
        "SYNTHETIC DATA",
    ):
        assert line in done.stdout
    assert f"report     runs/{workdir.name}/report.html" in done.stdout
    assert done.stderr == ""
    assert "WARNING" not in done.stdout


def test_the_run_directory_keeps_its_contract(finished):
    _, workdir, _ = finished
    config = run.read_json(workdir / run.CONFIG)
    metrics = run.read_json(workdir / run.METRICS)
    found = run.read_arrays(workdir / run.PREDICTIONS)
    assert config["data"]["source"] == metrics["source"] == "synthetic"
    assert config["config"]["train"]["epochs"] == 12
    history = run.read_history(workdir)
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert {"train_loss", "val_loss", "seconds", "step_seconds", "host_bytes"} <= history[0].keys()
    # nothing streams; a CPU does not count what its devices take
    assert not {"input_wait", "device_bytes"} & history[0].keys()
    assert config["resources"].keys() == {
        "trials",
        "size",
        "chunks",
        "bytes_needed",
        "bytes_limit",
        "compile_seconds",
        "host_bytes",
    }
    log = [
        json.loads(line) for line in (workdir / run.LOG).read_text(encoding="utf-8").splitlines()
    ]
    ours = [line for line in log if line["logger"] == "fexpr"]
    assert [line["message"] for line in ours] == [
        "opened",
        "compiled",
        *["checkpoint saved"] * (len(ours) - 3),
        "finished",
    ]
    assert [line["epoch"] for line in ours[2:-1] if line["part"] == 0] == list(range(1, 12))
    assert ours[-1]["wall_seconds"] == config["wall_seconds"]
    assert set(found["selection"]) == {"last", "best_val", "oracle"}
    assert set(found["split"]) == {"val", "test"}
    assert (
        found["logits"].shape
        == found["labels"].shape
        == (len(found["ids"]), len(found["class_names"]))
    )
    assert not set(found["groups"][found["split"] == "val"]) & set(
        found["groups"][found["split"] == "test"]
    )
    assert {"value", "low", "high"} <= metrics["test"]["macro_f1"].keys()
    assert set(metrics["selections"]) == {"last", "best_val", "oracle"}
    assert {"always_positive", "prevalence"} <= metrics["baselines"].keys()
    assert (workdir / run.CHECKPOINTS / "best_val").is_dir()
    assert (workdir / run.CHECKPOINTS / "last").is_dir()
    page = (workdir / run.REPORT).read_text()
    assert "SYNTHETIC" in page
    assert "http" not in page.replace("http://www.w3.org", "")  # self-contained
    assert not [p for p in workdir.rglob(".*") if "tmp" in p.name]


def test_a_finished_run_is_only_reported_again(finished, shared_cache):
    folder, workdir, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (workdir / run.PREDICTIONS, workdir / run.HISTORY)}
    (workdir / run.REPORT).unlink()
    (workdir / run.METRICS).unlink()
    again = launch(folder, shared_cache, AUCNN, *FAST)
    assert again.returncode == 0, again.stderr
    assert (workdir / run.REPORT).exists()
    assert (workdir / run.METRICS).exists()
    assert before == {p: p.stat().st_mtime_ns for p in before}
    other = launch(folder, shared_cache, AUCNN, *FAST, "--config.seed=5", f"--workdir={workdir}")
    assert other.returncode == 2
    assert "seed: the run has 0, this command 5" in other.stderr


def test_best_checkpoint_gives_the_predictions(finished, shared_cache, monkeypatch):
    """The variables on disk are those that made the logits on disk."""
    from configs import aucnn_samm
    from fexpr import Recognizer, models
    from fexpr.runs import load_data
    from fexpr.train import checkpoint
    from tests.recognizer.runs import rows_of

    _, workdir, _ = finished
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(shared_cache))
    monkeypatch.setenv("HOME", str(shared_cache))
    monkeypatch.delenv("FEXPR_DATA_DIR", raising=False)
    config = aucnn_samm.get_config("debug")
    config.data.source, config.data.synthetic_clips = "synthetic", 20  # as in FAST
    dataset, _ = load_data.load(config)
    found = run.read_arrays(workdir / run.PREDICTIONS)
    for name in ("last", "best_val"):
        variables = checkpoint.load_variables(workdir, name)
        assert (
            models.count_parameters(variables["params"])
            == run.read_json(workdir / run.CONFIG)["model"]["parameters"]
        )
        images, expected = rows_of(dataset, found, name)
        restored = Recognizer.restore(workdir, name, trial=0)
        np.testing.assert_allclose(restored.logits(images), expected, atol=1e-5)
        assert np.ptp(expected) > 0
    with pytest.raises(Exception, match="does not exist"):
        checkpoint.load_variables(workdir, "oracle")


def killed(process, when, deadline=120):
    """kill -9 as soon as `when()` holds. Whether the process was still alive then."""
    end = time.monotonic() + deadline
    while process.poll() is None and not when():
        assert time.monotonic() < end, "the moment never came"
        time.sleep(0.002)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


@pytest.mark.long
@pytest.mark.nightly
def test_killed_at_several_moments_it_ends_bit_identical(finished, shared_cache, tmp_path):
    """In an epoch, in the middle of a save, just after one: really killed, resumed by the same
    command.
    """
    _, reference, _ = finished
    workdir = tmp_path / "run"
    resume = workdir / run.CHECKPOINTS / "resume" / "trials_0-0"
    arguments = (AUCNN, *FAST, f"--workdir={workdir}")

    def lines():
        return len(run.read_history(workdir))

    def steps():
        return (
            sorted(int(p.name) for p in resume.glob("*") if p.name.isdigit())
            if resume.is_dir()
            else []
        )

    moments = [
        lambda: lines() >= 1,
        lambda: lines() >= 3 and any("tmp" in p.name for p in resume.glob("*")),
        lambda: lines() >= 7 and bool(steps()),
    ]
    survived = []
    for moment in moments:
        process = subprocess.Popen(
            command(*arguments),
            cwd=tmp_path,
            env=environment(shared_cache),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        survived.append(killed(process, moment))
        assert not (workdir / run.PREDICTIONS).exists()
    assert all(survived)
    done = launch(tmp_path, shared_cache, *arguments)
    assert done.returncode == 0, done.stderr
    assert "resumed    from epoch" in done.stdout
    assert (workdir / run.PREDICTIONS).read_bytes() == (reference / run.PREDICTIONS).read_bytes()
    assert [row["epoch"] for row in run.read_history(workdir)] == list(range(1, 13))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--config=nowhere.py",),
            "--config=nowhere.py: there is no such file\nWhat to do: python launch.py --help "
            "(or fexpr train --help) lists commands and configs",
        ),
        (("--config=/",), "--config=/: there is no such file"),
        ((f"--config={ROOT}/README.md",), "README.md: a config is a Python file"),
        (
            ("--config", "configs/htnet_sam.py:debug"),
            "--config=configs/htnet_sam.py: there is no such file",
        ),
        (
            (AUCNN, "--config.train.epoch=3"),
            "there is no field 'train.epoch'. Did you mean 'train.epochs'?\n",
        ),
        ((AUCNN, "--config.foo=3"), "there is no field 'foo'.\n"),
        (
            (AUCNN, "--config.train.epochs=three"),
            "--config.train.epochs=three: expected a whole number: 'three'\n",
        ),
        ((AUCNN.replace("debug", "tiny"),), "unknown config variant 'tiny'"),
        (
            (AUCNN, "--config.model.name=aucn", "--config.train.batch_size=-1"),
            "train.batch_size=-1: expected at least 0",
        ),
        ((AUCNN, "--wrkdir=x"), "Did you mean: workdir"),
        ((AUCNN, "--chunk=0/2"), "--chunk=0/2 needs --program"),
        ((AUCNN, "--program=1"), "--program=1: there are programs 0 to 0"),
        (
            (AUCNN.replace(":debug", ""), "--config.data.source=release"),
            "the release samm is missing",
        ),
        (
            (AUCNN.replace(":debug", ""), "--config.data.root=/"),
            "the root was given by config.data.root",
        ),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments, message, tmp_path, shared_cache):
    done = launch(tmp_path, shared_cache, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"ray": "cpus=2"}, "--ray=cpus=2 needs --engine=ray"),
        ({"address": "auto", "engine": "slurm"}, "--address=auto needs --engine=ray"),
        ({"slurm": "--time=1", "dry_run": True}, "--slurm=--time=1 needs --engine=slurm"),
        ({"chunk": "0/2"}, "--chunk=0/2 needs --program=0"),
    ],
)
def test_an_option_that_would_be_ignored_is_a_mistake(given, needed):
    with pytest.raises(UserError, match=re.escape(needed)):
        dispatch.Options(**given).check()
    dispatch.Options("ray", "auto", "cpus=2").check()
    dispatch.Options("slurm", slurm="--time=1").check()
    dispatch.Options(program=0, chunk="0/2").check()


def test_configs_that_look_alike_are_named(tmp_path, shared_cache):
    (tmp_path / "configs").mkdir()
    for name in ("htnet_samm.py", "vgg16_fer2013.py"):
        (tmp_path / "configs" / name).touch()
    done = launch(tmp_path, shared_cache, "--config=configs/htnet_sam.py:debug")
    assert done.stderr.splitlines()[1:-1] == ["  - perhaps configs/htnet_samm.py"]


def test_a_config_file_with_a_typo_says_so(tmp_path, shared_cache):
    lines = (
        "from configs import base",
        "def get_config(v=''):",
        "  c = base.get_config(v)",
        "  c.train.epoch = 4",
        "  return c",
    )
    (tmp_path / "mine.py").write_text("\n".join(lines))
    done = launch(tmp_path, shared_cache, f"--config={tmp_path}/mine.py")
    assert done.returncode == 2
    assert 'Did you mean "epochs"' in done.stderr


def test_help_is_one_screen_and_the_fields_of_a_section_on_request(tmp_path, shared_cache):
    done = launch(tmp_path, shared_cache, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 60
    configs = [path.stem for path in (ROOT / "configs").glob("[a-z]*_*.py")]
    flags = ("config", "help", "workdir", "sweep", "hosts", "engine", "program", "dry_run")
    for text in (*(f"\n  {name} " for name in configs), *(f"\n--{name}" for name in flags)):
        assert text in done.stdout
    assert launch(tmp_path, shared_cache).stdout == done.stdout
    for arguments in (("--help=data",), ("--help", "data")):
        assert "--config.data.min_positives=" in launch(tmp_path, shared_cache, *arguments).stdout
    assert (
        "--help=dta: there is no such section"
        in launch(tmp_path, shared_cache, "--help=dta").stderr
    )


@pytest.mark.long
def test_one_split_over_two_devices_is_data_parallel(finished, shared_cache, tmp_path):
    _, reference, _ = finished
    done = launch(
        tmp_path,
        shared_cache,
        AUCNN,
        *FAST,
        "--config.log.profile=True",
        f"--workdir={tmp_path / 'run'}",
        devices=2,
    )
    assert done.returncode == 0, done.stderr
    assert "devices    2 x" in done.stdout
    assert list((tmp_path / "run" / "profile").rglob("*.trace.json.gz"))
    one, two = (
        run.read_arrays(folder / run.PREDICTIONS) for folder in (reference, tmp_path / "run")
    )
    last = one["selection"] == "last"  # twelve steps
    np.testing.assert_allclose(one["logits"][last], two["logits"][last], atol=1e-3)


@pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="needs a folder that not even root may write to"
)
def test_an_unwritable_workdir(tmp_path, shared_cache):
    done = launch(tmp_path, shared_cache, AUCNN, "--workdir=/proc/fexpr")
    assert done.returncode == 2
    assert "cannot write to the run directory /proc/fexpr" in done.stderr


def test_somebody_elses_folder_is_left_alone(tmp_path, shared_cache):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    (tmp_path / "thesis" / "log.txt").write_text(
        "of a run by an older version, which would be no hindrance"
    )
    done = launch(tmp_path, shared_cache, AUCNN, "--workdir=thesis")
    assert done.returncode == 2
    assert "not empty and contains no run" in done.stderr
    assert [p.name for p in (tmp_path / "thesis").iterdir() if p.name not in opening.LOGS] == [
        "chapter.tex"
    ]


@pytest.mark.long
def test_divergence_says_where(tmp_path, shared_cache):
    done = launch(tmp_path, shared_cache, AUCNN, *FAST, "--config.optimizer.learning_rate=1e30")
    assert done.returncode == 2
    assert "not finite at epoch 1" in done.stderr or "not finite at epoch 2" in done.stderr
    assert "optimiser step" in done.stderr
    (workdir,) = (tmp_path / "runs").iterdir()
    assert not (workdir / run.PREDICTIONS).exists()


def test_metrics_are_strict_json(finished):
    def refuse(text):
        raise ValueError(text)

    json.loads((finished[1] / run.METRICS).read_text(), parse_constant=refuse)
