"""Running launch.py as a person does: in a process of its own, from an empty folder, without
data.
"""

import atexit
import contextlib
import functools
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.reduction
import os
import runpy
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
# a sixth of the compile time; these networks are tiny
QUICK = (
    "--xla_backend_optimization_level=0"
    " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters=true"
)
FAST = (
    "--config.data.synthetic_clips=20",  # as those of TINY: they are drawn once
    "--config.train.epochs=12",
    "--config.evaluate.resamples=20",
    "--config.log.checkpoint_seconds=0",
)
# the head of a picture of 600 x 300 pixels, which is all that a page reads of it
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 600, 300, 8, 2, 0, 0, 0)
# a run of seconds
TINY = (
    f"--config={ROOT}/configs/aucnn_samm.py:debug",
    "--config.model.name=logistic",
    "--config.data.synthetic_clips=20",
    "--config.evaluate.resamples=10",
    "--config.log.tensorboard=False",
)


# becomes the program behind it. A preexec_fn would do this in a fork of JAX's threads, of which JAX
# warns, and warnings are errors
AS_AT_A_TERMINAL = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def begin(cwd, cache, *arguments):
    """The running process, which hears Ctrl-C and SIGHUP also where the tests run behind an & or
    under nohup; stdout and stderr as text.
    """
    return subprocess.Popen(
        [sys.executable, "-c", AS_AT_A_TERMINAL, *command(*arguments)],
        cwd=cwd,
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(*arguments):
    return [
        sys.executable,
        "-W",
        "error::UserWarning",
        str(ROOT / "launch.py"),
        *map(str, arguments),
    ]


def environment(cache, devices=1, **changes):
    """The user's environment without data, with a cache of the test's own but compiled programs
    shared by all tests.
    """
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in ("FEXPR_DATA_DIR", "XLA_FLAGS", "PYTHONPATH")
    }
    env |= {"FEXPR_CACHE_DIR": str(cache), "HOME": str(cache), "COLUMNS": "120"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices} {QUICK}"
    return env | changes


@functools.cache
def _forks():
    """The context whose processes are forks of one that has imported tests.preloaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        multiprocessing.forkserver.ensure_running()
    return context


def _run_forked(argv, cwd, env, out, err):
    """Becomes `python launch.py`, in the fork."""
    for stream, number in ((out, 1), (err, 2)):
        os.dup2(stream.detach(), number)
    assert "tests.preloaded" in sys.modules
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv, sys.path[0] = list(argv), str(ROOT)
    warnings.filterwarnings("error", category=UserWarning)
    try:
        runpy.run_path(argv[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def launch_from_scratch(cwd, cache, *arguments, devices=1, **changes):
    """The finished process of a new interpreter; stdout and stderr as text."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(cache, devices, **changes),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def launch(cwd, cache, *arguments, devices=1, **changes):
    """As `launch_from_scratch`, which takes 5 seconds of CPU time more: the process is a fork of
    one that has imported every module and used no device. What libraries read from the environment
    when they are imported (JAX_PLATFORMS) cannot be changed here.
    """
    with begin_forked(cwd, cache, *arguments, devices=devices, **changes) as (_, finish):
        return finish()


@contextlib.contextmanager
def begin_forked(cwd, cache, *arguments, devices=1, **changes):
    """The running process of `launch` (pid, is_alive, exitcode), and a function that waits for its
    end and returns it as a finished process.
    """
    context, words = _forks(), command(*arguments)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        job = (words[-1 - len(arguments) :], str(cwd), environment(cache, devices, **changes))
        streams = [multiprocessing.reduction.DupFd(file.fileno()) for file in (out, err)]
        process = context.Process(target=_run_forked, args=(*job, *streams))
        process.start()

        def finish():
            process.join(300)
            if process.is_alive():
                raise subprocess.TimeoutExpired(words, 300)
            found = []
            for file in (out, err):
                file.seek(0)
                found.append(file.read().decode())
            return subprocess.CompletedProcess(words, process.exitcode, *found)

        try:
            yield process, finish
        finally:
            if process.is_alive():
                process.kill()
                process.join()
