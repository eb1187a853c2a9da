"""Running launch.py as a person does: in a process of its own, from an empty folder, without
data.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
QUICK = "--xla_backend_optimization_level=0"  # a third of the compile time; these networks are tiny
FAST = (
    "--config.train.epochs=12",
    "--config.evaluate.resamples=20",
    "--config.log.checkpoint_seconds=0",
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


def launch(cwd, cache, *arguments, devices=1, **changes):
    """The finished process; stdout and stderr as text."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(cache, devices, **changes),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
