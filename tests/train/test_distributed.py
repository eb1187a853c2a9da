"""Several processes as one program, started as on a cluster: the same predictions, deaths that end
the job, resumes by fewer processes.
"""

import re
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from fexpr.errors import RESUMABLE, UserError
from fexpr.storage import run
from fexpr.train import distributed
from tests import launching
from tests.launching import ROOT, command, environment, launch_from_scratch

pytestmark = pytest.mark.long

TINY = (*launching.TINY, "--config.log.checkpoint_seconds=0")
FOLDS = (
    *TINY,
    "--config.experiment=cross_validate",
    "--config.split.protocol=group_k_fold",
    "--config.split.folds=4",
    "--config.train.epochs=2",
)
STREAMED = (
    f"--config={ROOT}/configs/mlp_fer2013.py:debug",
    "--config.data.name=affectnet",
    "--config.data.streamed=True",
    "--config.data.synthetic_clips=300",
    "--config.train.epochs=2",
    "--config.evaluate.resamples=10",
    "--config.log.tensorboard=False",
)
FIT = (*TINY, "--config.train.batch_size=8", "--config.train.epochs=40")


def start(folder, cache, workdir, arguments, processes, devices):
    """One process for each rank. Only the first has `workdir`: nothing is shared but the
    network.
    """
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    jobs = []
    for rank in range(processes):
        own = [f"--workdir={workdir}" if rank == 0 else f"--workdir={workdir}_{rank}"]
        own += [f"--hosts=localhost:{port},{rank},{processes}"] if processes > 1 else []
        jobs.append(
            subprocess.Popen(
                command(*arguments, *own),
                cwd=folder,
                env=environment(cache, devices),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return jobs


def finish(jobs):
    """Exit codes and stderr of all."""
    said = [job.communicate(timeout=200) for job in jobs]
    return [job.returncode for job in jobs], [err for _, err in said]


def predictions(workdir):
    return run.read_arrays(workdir / run.PREDICTIONS)


def assert_identical(a, b):
    a, b = predictions(a), predictions(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def wait_for_epoch(workdir, epoch, jobs):
    while not (run.read_history(workdir) or [{"epoch": 0}])[-1]["epoch"] >= epoch:
        assert all(job.poll() is None for job in jobs), finish(jobs)
        time.sleep(0.05)


def test_four_processes_train_the_folds_of_one_bit_for_bit(tmp_path, cache):
    assert finish(start(tmp_path, cache, tmp_path / "one", FOLDS, 1, devices=4))[0] == [0]
    codes, errors = finish(start(tmp_path, cache, tmp_path / "four", FOLDS, 4, devices=1))
    assert codes == [0] * 4, errors
    assert_identical(tmp_path / "one", tmp_path / "four")
    assert run.read_json(tmp_path / "four" / run.CONFIG)["devices"] == {
        "kind": "cpu",
        "count": 4,
        "platform": "cpu",
        "processes": 4,
    }
    assert not list(tmp_path.glob("four_*"))  # one writes


def test_a_death_and_a_preemption_are_resumed_by_other_numbers_of_processes(tmp_path, cache):
    workdir = tmp_path / "run"
    jobs = start(tmp_path, cache, workdir, FIT, 2, devices=1)
    wait_for_epoch(workdir, 5, jobs)
    jobs[1].kill()
    codes, errors = finish(jobs)
    assert codes == [RESUMABLE, -signal.SIGKILL], errors
    assert "cannot reach another" in errors[0]
    assert "Traceback" not in errors[0]

    jobs = start(tmp_path, cache, workdir, FIT, 2, devices=1)
    wait_for_epoch(workdir, len(run.read_history(workdir)) + 5, jobs)
    jobs[1].send_signal(signal.SIGTERM)
    codes, errors = finish(jobs)
    assert codes == [RESUMABLE] * 2, errors
    assert re.search(r"stopped by (SIGTERM|a signal) after epoch", errors[0])

    assert finish(start(tmp_path, cache, workdir, FIT, 1, devices=2))[0] == [0]
    assert finish(start(tmp_path, cache, tmp_path / "whole", FIT, 1, devices=2))[0] == [0]
    assert_identical(workdir, tmp_path / "whole")


@pytest.mark.nightly
def test_streamed_images_are_read_in_shares(tmp_path, cache):
    assert finish(start(tmp_path, cache, tmp_path / "one", STREAMED, 1, devices=2))[0] == [0]
    codes, errors = finish(start(tmp_path, cache, tmp_path / "two", STREAMED, 2, devices=1))
    assert codes == [0] * 2, errors
    assert_identical(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    "text", ["node1,0,2", "node1:1234", "node1:1234,2,2", "node1:1234,first,2"]
)
def test_hosts_that_cannot_be_read(text):
    with pytest.raises(UserError, match="'auto' or ADDRESS:PORT,RANK,COUNT"):
        distributed.join(text)


def test_laboratories_are_of_one_process(tmp_path, cache):
    done = launch_from_scratch(
        tmp_path, cache, f"--config={ROOT}/configs/lab_circles.py:debug", "--hosts=auto"
    )
    assert (done.returncode, "runs in one process" in done.stderr) == (2, True), done.stderr
