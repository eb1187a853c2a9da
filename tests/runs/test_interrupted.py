"""Ctrl-C, SIGHUP and a second process at the same run directory: real processes, of the smallest
network.
"""

import signal
import time

import pytest

from fexpr.errors import INTERRUPTED, RESUMABLE
from fexpr.storage import run
from tests.launching import TINY, begin, begin_forked, launch, launch_from_scratch

SAVE_ALWAYS = "--config.log.checkpoint_seconds=0"
ENDLESS = (*TINY, "--config.train.epochs=100000")


def epochs(workdir):
    return len(run.read_history(workdir))


def is_alive(process):
    return process.poll() is None if hasattr(process, "poll") else process.is_alive()


def wait_for(condition, process):
    end = time.monotonic() + 200
    while not condition():
        assert is_alive(process), "it ended too early"
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.005)


def last_saved(workdir):
    """The position of the last complete save of an unfinished run; 0: none."""
    saves = (workdir / run.CHECKPOINTS / run.RESUME).glob("trials_*/*")
    return max((int(path.name) for path in saves if path.name.isdigit()), default=0)


def test_ended_by_sigterm_then_killed_it_resumes_bit_identical(tmp_path, shared_cache):
    """Forks, which are real processes: signals, exit codes and what is on disk are those of a
    user's.
    """

    def arguments(name):
        return (*TINY, "--config.train.epochs=6", SAVE_ALWAYS, f"--workdir={tmp_path / name}")

    workdir = tmp_path / "run"
    with begin_forked(tmp_path, shared_cache, *arguments("run")) as (process, finish):
        wait_for(lambda: epochs(workdir) >= 1, process)
        process.terminate()
        done = finish()
    assert done.returncode == RESUMABLE, done.stderr
    assert "stopped by SIGTERM after" in done.stderr
    first, position = epochs(workdir), last_saved(workdir)
    assert 1 <= first < 6
    assert position

    with begin_forked(tmp_path, shared_cache, *arguments("run")) as (process, finish):
        wait_for(lambda: last_saved(workdir) > position, process)
        process.kill()
        done = finish()
    assert done.returncode == -signal.SIGKILL
    assert f"resumed    from epoch {first}" in done.stdout
    assert not (workdir / run.PREDICTIONS).exists()

    done = launch(tmp_path, shared_cache, *arguments("run"))
    assert done.returncode == 0, done.stderr
    assert "resumed    from epoch" in done.stdout
    predictions = tmp_path / "whole" / run.PREDICTIONS
    with begin_forked(tmp_path, shared_cache, *arguments("whole")) as (process, finish):
        wait_for(predictions.exists, process)
        process.kill()  # its report is not needed
        assert "resumed" not in finish().stdout
    same = [(tmp_path / name / run.PREDICTIONS).read_bytes() for name in ("run", "whole")]
    assert same[0] == same[1]
    assert [row["epoch"] for row in run.read_history(workdir)] == [*range(1, 7)]


@pytest.mark.long
def test_signals_save_and_a_second_process_is_refused(tmp_path, shared_cache):
    workdir = tmp_path / "run"
    arguments = (*ENDLESS, f"--workdir={workdir}")

    # Ctrl-C as early as training can be seen: in the first epoch
    process = begin(tmp_path, shared_cache, *arguments)
    wait_for(lambda: (workdir / run.HISTORY).exists(), process)
    other = launch(tmp_path, shared_cache, *arguments)
    assert other.returncode == 2
    assert f"{workdir} is in use by process {process.pid} on " in other.stderr
    assert other.stderr.count("What to do:") == 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == INTERRUPTED == 130, err
    assert "stopping: the state is saved first" in err
    assert "stopped by Ctrl-C after" in err
    assert "the same command resumes from there" in err
    first = epochs(workdir)

    # the terminal is closed
    process = begin(tmp_path, shared_cache, *arguments)
    wait_for(lambda: epochs(workdir) >= first + 3, process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=240)
    assert process.returncode == RESUMABLE, err
    assert "resumed    from epoch" in out
    assert "stopped by SIGHUP after" in err
    assert [row["epoch"] for row in run.read_history(workdir)] == [*range(1, epochs(workdir) + 1)]
    # nothing hidden, nothing half-written
    assert not [p for p in workdir.rglob("*") if p.name.startswith(".")]


@pytest.mark.long
def test_what_killed_processes_left_is_swept(tmp_path, shared_cache):
    arguments = (*TINY, "--config.train.epochs=2", f"--workdir={tmp_path / 'run'}")
    assert launch(tmp_path, shared_cache, *arguments).returncode == 0
    left = [
        tmp_path / "run" / ".metrics.json.ab3_x9k0",
        tmp_path / "run" / "figures" / ".curves.svg.00000000",
        tmp_path / "run" / "checkpoints" / "last.orbax-checkpoint-tmp",
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "part").write_text("half")
    own = tmp_path / "run" / ".notes"
    own.write_text("the user's")
    assert launch(tmp_path, shared_cache, *arguments).returncode == 0
    assert not any(folder.exists() for folder in left)
    assert own.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train.epohcs=4", "more"), "words that are not flags: train.epohcs=4 more"),
        (("train.epohcs=4",), "did you mean --config.train.epochs=4?"),
        (("--config.seed=2147483648",), "seed=2147483648: expected a finite number, at most"),
        (("--config.optimizer.learning_rate=inf",), "learning_rate=inf: expected a finite number"),
        (("--config.optimizer.learning_rate=1e39",), "learning_rate=1e+39: expected a finite"),
        (("--config.optimizer.learning_rate=nan",), "learning_rate=nan: expected a finite number"),
        (("--config.seed=2147483647", "--config.split.seeds=2"), "at most 2147483646"),
    ],
)
def test_what_would_be_ignored_or_could_not_be_saved(arguments, words, tmp_path, shared_cache):
    done = launch(tmp_path, shared_cache, *TINY, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_platforms_that_are_not_there(tmp_path, shared_cache):
    done = launch_from_scratch(tmp_path, shared_cache, *TINY, JAX_PLATFORMS="cuda")
    assert done.returncode == 2, done.stderr
    assert "no device to compute on (JAX_PLATFORMS=cuda)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_something_else_gets_no_file(tmp_path, shared_cache):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("x")
    done = launch(tmp_path, shared_cache, *TINY, f"--workdir={tmp_path / 'etc'}")
    assert done.returncode == 2
    assert "is not empty and contains no run of fexpr" in done.stderr
    assert [p.name for p in (tmp_path / "etc").iterdir()] == ["passwd"]
