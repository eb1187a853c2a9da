"""The Ray engine through launch.py: the predictions of the local engine, whatever dies, fails or is
interrupted on the way.
"""

import os
import signal
import subprocess
import sys
import time
import warnings

import psutil
import pytest

from fexpr.errors import UserError
from fexpr.runs.launchers import ray_cluster
from fexpr.storage import run
from tests import launching
from tests.launching import ROOT, begin, launch_from_scratch

pytestmark = pytest.mark.long

EPOCHS = 200
TINY = (*launching.TINY, "--config.log.checkpoint_seconds=0")
FOLDS = (
    *TINY,
    "--config.experiment=cross_validate",
    "--config.split.protocol=group_k_fold",
    "--config.split.folds=4",
    f"--config.train.epochs={EPOCHS}",
)
SWEEP = (*TINY, "--sweep=train.batch_size=8,16")
MEMORY = "--ray=memory=100MiB"


@pytest.fixture
def cluster(monkeypatch):
    """A head without cores and two nodes with one each: really three raylets, with object stores of
    their own.
    """
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        made.nodes_of_ours = [made.add_node(num_cpus=1) for _ in range(2)]
        made.wait_for_nodes()
        yield made
        made.shutdown()


def raylet_of(node):
    (raylet,) = node.all_processes["raylet"]
    return raylet.process.pid


def trains(node):
    """Whether a share is being trained on it: a worker is called after its task."""
    return any(
        "ray::run_command" in " ".join(worker.cmdline())
        for worker in psutil.Process(raylet_of(node)).children()
    )


def rows(workdir):
    return [
        sum(1 for row in run.read_history(workdir) if row.get("chunk", 0) == chunk)
        for chunk in (0, 1)
    ]


def wait_for(condition, process, deadline=600):
    end = time.monotonic() + deadline
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@pytest.mark.nightly
def test_folds_over_nodes_one_of_which_dies(tmp_path, cache, cluster, request):
    workdir = tmp_path / "run"
    arguments = (
        *FOLDS,
        f"--workdir={workdir}",
        "--engine=ray",
        f"--address={cluster.address}",
        MEMORY,
    )

    def start():
        process = begin(tmp_path, cache, *arguments)
        # a test that fails leaves nothing running
        request.addfinalizer(lambda: (process.kill(), process.communicate()))
        return process

    process = start()
    wait_for(lambda: min(rows(workdir)) >= 3, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert (
        process.returncode,
        "stopped by Ctrl-C, and the tasks with it: the same command resumes" in err,
    ) == (130, True), err
    before = rows(workdir)
    assert max(before) < EPOCHS

    process = start()
    wait_for(lambda: min(rows(workdir)) >= max(before) + 3, process)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = next(node for node in cluster.nodes_of_ours if trains(node))
        # at once, as a machine that loses its power; removing a node takes a second
        os.kill(raylet_of(node), signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "try 2" in out
    done = launch_from_scratch(tmp_path, cache, *FOLDS, f"--workdir={tmp_path / 'local'}")
    assert done.returncode == 0, done.stderr
    assert (workdir / run.PREDICTIONS).read_bytes() == (
        tmp_path / "local" / run.PREDICTIONS
    ).read_bytes()
    assert rows(workdir) == [EPOCHS, EPOCHS]
    assert not list(workdir.glob("*chunk*"))  # put together
    assert not (workdir / run.CHECKPOINTS / "resume").exists()


def test_a_sweep_some_of_whose_programs_fail(tmp_path, cache):
    arguments = (*SWEEP, "--sweep=optimizer.learning_rate=1e-3,1e-2", "--config.train.epochs=3")
    assert (
        launch_from_scratch(
            tmp_path, cache, *arguments, f"--workdir={tmp_path / 'local'}"
        ).returncode
        == 0
    )
    (broken := tmp_path / "ray" / "batch_size=16,learning_rate=0.001").mkdir(parents=True)
    (broken / "holiday.txt").write_text("somebody else's")
    (tmp_path / "ray" / run.LOG).touch()  # a sweep that was begun
    done = launch_from_scratch(
        tmp_path, cache, *arguments, f"--workdir={tmp_path / 'ray'}", "--engine=ray", MEMORY
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "1 of 2 tasks failed" in done.stderr
    assert "is not empty and contains no run of fexpr" in done.stderr
    (broken / "holiday.txt").unlink()
    # goes on without Ray
    done = launch_from_scratch(tmp_path, cache, *arguments, f"--workdir={tmp_path / 'ray'}")
    # one program had been finished
    assert (done.returncode, done.stdout.count("trials  ")) == (0, 1), done.stderr
    for found in (tmp_path / "local").glob("batch_size=*"):
        assert (found / run.PREDICTIONS).read_bytes() == (
            tmp_path / "ray" / found.name / run.PREDICTIONS
        ).read_bytes()
    assert len(run.read_json(tmp_path / "ray" / "sweep.json")["points"]) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (1, 0, ray_cluster.PROCESS + 200, 3)),
        ("gpus=0.5 cpus=4", (4, 0.5, ray_cluster.PROCESS + 200, 3)),
        ("memory=8GiB retries=0", (1, 0, 8 * 2**30, 0)),
        ("memory=512MiB", (1, 0, 512 * 2**20, 3)),
    ],
)
def test_what_a_task_needs(text, expected):
    need = ray_cluster.needs(text, False, 100)
    assert (need.cpus, need.gpus, need.memory, need.retries) == expected
    assert ray_cluster.needs("cpus=2", True, 0).gpus == 1


@pytest.mark.parametrize("text", ["gpu=1", "gpus=one", "memory=8", "cpus=2GiB", "gpus"])
def test_needs_that_cannot_be_read(text):
    with pytest.raises(UserError, match="--ray="):
        ray_cluster.needs(text, False, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (f"--config={ROOT}/configs/lab_circles.py:debug", "--engine=ray"),
            "--engine=ray: experiment='lab_circles' runs in one process",
        ),
        (
            (*TINY, "--engine=ray", "--address=localhost:1"),
            "--address=localhost:1: no Ray cluster answers",
        ),
    ],
)
def test_mistakes(tmp_path, cache, arguments, message):
    done = launch_from_scratch(tmp_path, cache, *arguments)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (
        2,
        True,
        False,
    ), done.stderr


STRANGER = """
import sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False)
except ConnectionError:
    sys.exit(7)
"""


def test_a_cluster_that_is_started_here_refuses_strangers(monkeypatch):
    """Ray listens on all interfaces; who does not know the token of this start may not join."""
    import ray

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "1" * 64)
    before = dict(os.environ)
    of_ray = {name: value for name, value in before.items() if name.startswith("RAY_")}
    # JAX warns of Ray's forks where another test has used it in this process
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    with ray_cluster._cluster(None, []):
        path = os.environ["RAY_AUTH_TOKEN_PATH"]
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert ray.get(ray.remote(lambda: 42).remote()) == 42
        address = ray.get_runtime_context().gcs_address
        done = subprocess.run([sys.executable, "-c", STRANGER, address], env=before, timeout=300)
        assert done.returncode == 7
    assert not os.path.exists(path)
    after = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    assert after == of_ray
