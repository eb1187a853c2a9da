"""The task of a Ray worker: runs the command of a program (the same as for SLURM) in a process of
its own on the worker's node.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fexpr import studies
from fexpr.errors import INTERRUPTED, RESUMABLE, Preempted, UserError

if TYPE_CHECKING:
    from ray.actor import ActorProxy

TOKEN = ".ray.json"  # in the run directory: written by launch.py, looked for by the workers
GRACE = 8  # seconds that the command gets to save its state when the task is cancelled
# runs its arguments in a process that Linux kills when the worker dies, as a lost node must not go
# on writing
LEASH = (
    "import ctypes, os, sys; sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclasses.dataclass(frozen=True)
class Task:
    """A program, or a share of its trials.

    Attributes:
      name: for the terminal. words: the command line after launch.py. typed: the whole command as
          the user typed it, for config.json. root: the run directory, or its address; in a folder,
          the file TOKEN must contain `token`. folder: launch.py's working directory, used if the
          node has it. cpus: devices that CPU cores are used as. fraction: of a GPU, 1 for a whole
          one.
    """

    name: str
    words: tuple[str, ...]
    typed: str
    root: str
    token: str
    folder: str
    cpus: int
    fraction: float


class Board:
    """An actor beside launch.py that records on which nodes each task was started."""

    def __init__(self):
        self._nodes: dict[str, list[str]] = {}

    def record_start(self, name: str, node: str) -> None:
        self._nodes.setdefault(name, []).append(node)

    def read(self) -> dict[str, list[str]]:
        return self._nodes


def run_command(task: Task, board: ActorProxy[Board]) -> None:
    """Runs the command to its end; its results are in the run directory.

    Raises:
      UserError: the node does not see the run directory; the command failed; the message contains
          its output. Preempted: it was stopped from outside, and resumes when it is run again.
    """
    node = socket.gethostname()
    # not awaited: a task that waits lends its cores to others
    # (Ray's annotations know a method's `remote` only where it is decorated)
    board.record_start.remote(task.name, node)  # pyright: ignore[reportFunctionMemberAccess]
    token = Path(task.root) / TOKEN
    if "://" not in task.root and not (
        token.exists() and json.loads(token.read_text()) == task.token
    ):
        raise UserError(
            f"the node {node} does not see the run directory {task.root}",
            fix="give a --workdir on a file system that all nodes share, or in a bucket "
            "(docs/recipes.md)",
        )
    shipped, environment = Path.cwd(), os.environ | {"FEXPR_COMMAND": task.typed}
    if "host_platform_device_count" not in (flags := environment.get("XLA_FLAGS", "")):
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={task.cpus}"
    if task.fraction < 1:
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * task.fraction:.3f}"
    command = [sys.executable, "-c", LEASH, sys.executable, str(studies.LAUNCH), *task.words]
    with tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            command,
            cwd=task.folder if Path(task.folder).is_dir() else shipped,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)  # in short turns: Ray cannot interrupt a wait
        finally:
            _stop(process)
        stderr.seek(0)
        text = stderr.read().strip()
    if process.returncode in (RESUMABLE, INTERRUPTED) or process.returncode < 0:
        raise Preempted(text or f"ended by signal {-process.returncode}")
    if process.returncode:
        raise UserError(
            text
            if process.returncode == 2
            else f"exit code {process.returncode}: {text.rpartition(chr(10))[2]}"
        )


def _stop(process: subprocess.Popen) -> None:
    """Sends SIGTERM, on which the command saves its state, then SIGKILL; nothing if it has
    ended.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
