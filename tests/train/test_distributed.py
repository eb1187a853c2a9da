"""Several processes as one program, started as on a cluster: the same predictions, deaths that end
the job, resumes by fewer processes.
"""

import contextlib
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from fexpr import terminal
from fexpr.errors import RESUMABLE, UserError
from fexpr.storage import run
from fexpr.train import distributed
from tests import launching
from tests.launching import ROOT, command, environment, launch_from_scratch

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
    """Exit codes and stderr of all; the first alone prints, but for a line of a library."""
    printed = [job.communicate(timeout=200) for job in jobs]
    for out, _ in printed[1:]:
        assert all(line.startswith("[Gloo]") for line in out.splitlines()), out
    return [job.returncode for job in jobs], [err for _, err in printed]


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


@pytest.mark.long
@pytest.mark.nightly
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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.nightly
def test_streamed_images_are_read_in_shares(tmp_path, cache):
    assert finish(start(tmp_path, cache, tmp_path / "one", STREAMED, 1, devices=2))[0] == [0]
    codes, errors = finish(start(tmp_path, cache, tmp_path / "two", STREAMED, 2, devices=1))
    assert codes == [0] * 2, errors
    assert_identical(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    "text", ["node1,0,2", "node1:1234", "node1:1234,2,2", "node1:1234,first,2"]
)
def test_hosts_that_cannot_be_read(text, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("it was used"))
    with pytest.raises(UserError, match="ADDRESS:PORT,RANK,COUNT"):
        distributed.join(text)


@pytest.mark.parametrize("text", ["auto", "node1:1234,1,2"])
@pytest.mark.parametrize("rank", [0, 1])
def test_joining_is_initializing_jax(text, rank, monkeypatch):
    arguments = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **a: arguments.update(a))
    monkeypatch.setattr(jax, "process_index", lambda: rank)
    monkeypatch.setattr(terminal.console, "quiet", None)
    distributed.join(text)
    expected = {"coordinator_address": "node1:1234", "num_processes": 2, "process_id": 1}
    seconds = dict.fromkeys(("heartbeat_timeout_seconds", "shutdown_timeout_seconds"), 20)
    assert arguments == (expected if text != "auto" else {}) | seconds
    assert terminal.console.quiet == (rank == 1)


def test_a_cluster_that_is_not_found_is_reported(monkeypatch):
    def initialize(**_):
        raise ValueError("no address\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError) as e:
        distributed.join("auto")
    assert e.value.title == "--hosts=auto: no address"


@pytest.fixture
def processes(monkeypatch):
    """Calls a function as each of three processes at the same time, in threads; returns their
    results or UserErrors, by rank.
    """
    here, barrier, board = threading.local(), threading.Barrier(3), {}

    def exchange(value):
        board[here.rank] = value
        barrier.wait(20)
        found = [board[rank] for rank in range(3)]
        barrier.wait(20)
        return found

    def gather(tree, tiled=False):
        parts = exchange(tree)
        join = np.concatenate if tiled else np.stack
        return jax.tree.map(lambda *x: join(x), *parts)

    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: here.rank)
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)

    def broadcast(tree):
        parts = exchange(tree)
        shapes = [[np.shape(x) for x in jax.tree.leaves(part)] for part in parts]
        assert shapes[0] == shapes[1] == shapes[2]  # as a real broadcast demands
        return parts[0]

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)

    def run_all(function):
        def at(rank):
            here.rank = rank
            try:
                return function(rank)
            except UserError as e:
                return e

        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(at, range(3)))

    return run_all


def test_values_of_the_main_process_reach_all(processes):
    value = {"a": [1, None, "ä"], "b": True}
    assert (
        processes(lambda rank: distributed.broadcast_from_main(value if rank == 0 else rank))
        == [value] * 3
    )
    assert processes(lambda rank: distributed.is_main_process()) == [True, False, False]
    for found in processes(lambda rank: distributed.all_gather_scalars([rank, 0.5])):
        assert found.dtype == np.float64
        assert found.tolist() == [[0, 0.5], [1, 0.5], [2, 0.5]]
    tree = {"x": np.arange(2.0)}
    for found in processes(lambda rank: distributed.to_host({"x": tree["x"] + rank})):
        assert found["x"].tolist() == [0, 1, 1, 2, 2, 3]


def test_what_the_main_process_does_is_done_once(processes):
    done = []
    results = processes(
        lambda rank: distributed.run_on_main_process(lambda: done.append(rank) or 7)
    )
    assert results == [7, None, None]
    assert done == [0]

    def fail():
        raise UserError("a title", ["a problem"], "a fix")

    errors = processes(lambda rank: distributed.run_on_main_process(fail))
    assert [(e.title, list(e.problems), e.fix) for e in errors] == [
        ("a title", ["a problem"], "a fix")
    ] * 3


def test_arrays_that_the_main_process_reads_reach_all(processes):
    like = {"x": np.zeros((2, 3), np.float32), "y": np.zeros(4, np.int32)}
    read = {"x": np.ones((2, 3), np.float32), "y": np.arange(4, dtype=np.int32)}
    for found in processes(lambda rank: distributed.broadcast_arrays(lambda: read, like)):
        jax.tree.map(np.testing.assert_array_equal, found, read)


def test_a_run_directory_is_opened_once(processes, tmp_path, monkeypatch):
    opened = []

    @contextlib.contextmanager
    def open_once(path):
        opened.append("open")
        yield tmp_path / "here"
        opened.append("close")

    monkeypatch.setattr(distributed.mirror, "opened", open_once)

    def use(rank):
        with distributed.run_directory(tmp_path / "there") as folder:
            return folder.name

    assert processes(use) == ["here", "there", "there"]
    assert opened == ["open", "close"]


@pytest.mark.parametrize(
    ("count", "error", "code"),
    [
        (2, RuntimeError("Gloo all-reduce failed\nmore"), RESUMABLE),
        (2, ValueError("UNAVAILABLE: heartbeat"), RESUMABLE),
        (2, ValueError("a shape is wrong"), None),
        (1, RuntimeError("Gloo all-reduce failed"), None),
        (2, KeyError("connection"), None),
    ],
)
def test_a_lost_process_ends_the_others(count, error, code, monkeypatch, capsys):
    codes = []
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(distributed.os, "_exit", codes.append)
    with contextlib.nullcontext() if code else pytest.raises(type(error)):  # noqa: SIM117
        with distributed.exit_if_peer_lost():
            raise error
    assert codes == [code] * bool(code)
    printed = capsys.readouterr().err
    assert ("process 0 of 2" in printed) == bool(code)
    assert "more" not in printed


@pytest.mark.long
def test_laboratories_are_of_one_process(tmp_path, cache):
    done = launch_from_scratch(
        tmp_path, cache, f"--config={ROOT}/configs/lab_circles.py:debug", "--hosts=auto"
    )
    assert (done.returncode, "runs in one process" in done.stderr) == (2, True), done.stderr
