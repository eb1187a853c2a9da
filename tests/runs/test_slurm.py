"""SLURM scripts, and their submission to an sbatch that does at once what a cluster would."""

import os
import subprocess
import sys

import pytest

from fexpr.errors import UserError
from fexpr.runs.launchers import slurm
from fexpr.storage import run
from tests.launching import ROOT, command, environment

pytestmark = pytest.mark.long

SWEEP = (
    f"--config={ROOT}/configs/aucnn_samm.py:debug",
    "--config.model.name=logistic",
    "--config.train.epochs=2",
    "--config.evaluate.resamples=10",
    "--config.log.tensorboard=False",
    "--sweep=train.batch_size=8,16",
)

SBATCH = """#!/bin/bash
# runs the script for every task of its array; options on the command line and in #SBATCH lines are noted
script=$(cat)
echo "$@" >> "$FAKE/options"
echo "$script" >> "$FAKE/scripts"
last=$(echo "$script" | sed -n 's/^#SBATCH --array=0-//p')
export SLURM_JOB_ID=7
for i in $(seq 0 ${last:-0}); do
  echo "$script" | SLURM_ARRAY_TASK_ID=$i bash >> "$FAKE/out" 2>&1 || echo "task $i: $?" >> "$FAKE/codes"
done
echo "7;cluster"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder of programs called sbatch, srun and scontrol, first in the path."""
    programs = {
        "sbatch": SBATCH,
        "srun": '#!/bin/bash\nexec "$@"\n',
        "scontrol": '#!/bin/bash\necho "$@" >> "$FAKE/requeued"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_sweep_becomes_an_array_and_a_table(cluster, tmp_path, cache):
    arguments = (
        *SWEEP,
        f"--workdir={tmp_path / 'sweep'}",
        "--engine=slurm",
        "--slurm=--gpus-per-node=1 --time=04:00:00",
    )
    done = subprocess.run(
        command(*arguments),
        cwd=tmp_path,
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (cluster / "codes").exists(), (cluster / "out").read_text()
    script = (cluster / "scripts").read_text()
    for line in (
        "#SBATCH --array=0-1",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --time=04:00:00",
        "#SBATCH --requeue",
    ):
        assert line in script
    options = (cluster / "options").read_text().splitlines()
    assert options[0] == "--parsable"
    assert "--dependency=afterok:7" in options[1]
    assert len(list((tmp_path / "sweep").glob("batch_size=*/predictions.npz"))) == 2
    assert len(run.read_json(tmp_path / "sweep" / "sweep.json")["points"]) == 2
    assert "submitted  job 7" in done.stdout


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (0, False), (2, False)])
def test_a_preempted_task_is_queued_again(cluster, tmp_path, code, requeued):
    script = slurm.job([sys.executable, "-c", f"raise SystemExit({code})"], tmp_path, 0, [])
    done = subprocess.run(
        ["bash"], input=script, text=True, env={**os.environ, "SLURM_JOB_ID": "12"}, check=False
    )
    assert done.returncode == code
    assert (cluster / "requeued").exists() == requeued
    if requeued:
        assert (cluster / "requeued").read_text() == "requeue 12\n"


def test_several_nodes_are_one_program():
    for options in (["--nodes=2"], ["-N", "2"], ["--nodes", "2-4", "--time=1"]):
        script = slurm.job(["python", "launch.py"], run.Path("runs/x"), 0, options)
        assert "srun python launch.py --hosts=auto" in script
        assert "--ntasks-per-node=1" in script
    assert "--hosts" not in slurm.job(["python", "launch.py"], run.Path("runs/x"), 0, ["--nodes=1"])


def test_the_command_line_goes_to_the_tasks_without_what_is_about_submitting(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    typed = (
        "--config=c.py --engine slurm --slurm=--time=1 --dry_run --workdir a -sweep=seed=0,1 "
        "--config.data.name=x"
    )
    kept = slurm.task_command(typed.split(), run.Path("/a"))[2:]
    assert kept == ["--config=c.py", "-sweep=seed=0,1", "--config.data.name=x", "--workdir=/a"]


def test_without_a_cluster_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="sbatch"):
        slurm.submit(["--config=c.py"], tmp_path, 0, "", dry_run=False)
    with pytest.raises(UserError, match="No closing quotation"):
        slurm.submit(["--config=c.py"], tmp_path, 0, "--time='1", dry_run=True)


def test_an_address_goes_to_the_tasks_as_it_stands(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    monkeypatch.chdir(tmp_path)
    slurm.submit(
        ["--config=c.py", "--workdir=s3://bucket/runs/x"], "s3://bucket/runs/x", 2, "", dry_run=True
    )
    script = capsys.readouterr().out
    assert script.count("--workdir=s3://bucket/runs/x") == 2
    assert "--job-name=fexpr-x" in script
    assert f"--output={tmp_path}/slurm-%A_%a.txt" in script
    assert not list(tmp_path.iterdir())
