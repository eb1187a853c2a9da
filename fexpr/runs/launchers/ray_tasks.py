"""What a Ray worker does: a whole program, or a chunk of one that several workers share, in the run directory that `launch.py` names.

Results go to the run directory, as they would without Ray; a task that is started again goes on from the checkpoints there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from fexpr import extensions, terminal
from fexpr.data.dataset import Dataset
from fexpr.data.splits.protocols import Fold
from fexpr.errors import UserError
from fexpr.runs import opening, sweep, train_run
from fexpr.runs.build import build_engine
from fexpr.runs.initialize import Initialization
from fexpr.runs.loop import Loop
from fexpr.runs.spec import RunSpec
from fexpr.storage import mirror, run
from fexpr.train import devices

TOKEN = ".ray.json"  # in the run directory: written by launch.py, looked for by the workers


@dataclasses.dataclass(frozen=True)
class Task:
    """A program as a worker gets it.

    Attributes:
      name: for the table. points, folder: the runs and the program's folder, as seen from `root`.
      root: the run directory, or the sweep's, or its address. token: what the file TOKEN in it holds.
      fraction: of a GPU, 1 if it is whole.
      size: trials of a chunk, where the program is shared out; 0 = it is not.
    """

    name: str
    points: Sequence[RunSpec]
    folder: Path
    root: str
    token: str
    fraction: float = 1.0
    size: int = 0

    @property
    def of_sweep(self) -> bool:
        return self.folder != Path()


class Board:
    """What the workers say of themselves, for one table: an actor beside launch.py."""

    def __init__(self):
        self._said: dict[str, dict] = {}

    def begin(self, name: str, node: str) -> None:
        row = self._said.setdefault(name, {"tries": 0, "epoch": 0, "note": ""})
        row |= {"tries": row["tries"] + 1, "node": node}

    def say(self, name: str, **what: object) -> None:
        self._said[name] |= what

    def read(self) -> dict[str, dict]:
        return self._said


def train(task: Task, dataset: Dataset, folds: Sequence[Fold], start: Initialization | None, board: ray.actor.ActorHandle) -> None:
    """The whole program: trains what is not finished, and reports it."""
    _begin(task.name, board)
    with _opened(task) as (points, folder):
        if not all(p.finished for p in points):
            train_run.train(points, dataset, folds, folder, start=start, watch=functools.partial(_watch, board, task.name))
        _report(task, points, dataset)


def plan(task: Task, dataset: Dataset, folds: Sequence[Fold], start: Initialization | None) -> int:
    """Opens the run directories; how many trials, at most `task.size`, this worker's devices hold at a time."""
    with _opened(task) as (points, _):
        engine = build_engine(points, dataset, folds, start, task.size)
        train_run.open_runs(points, dataset, folds, engine, start)
        return engine.compile().size


def train_chunk(task: Task, chunk: int, dataset: Dataset, folds: Sequence[Fold], start: Initialization | None,
                board: ray.actor.ActorHandle) -> None:
    """One chunk of a program that has been planned."""
    name = chunk_name(task, chunk)
    _begin(name, board)
    with _opened(task) as (points, folder):
        engine = build_engine(points, dataset, folds, start, task.size)
        with terminal.terminated() as stop:
            engine.compile()
            Loop(points, engine, folder, stop, watch=functools.partial(_watch, board, name)).run_chunk(chunk)


def gather(task: Task, began: float, dataset: Dataset, folds: Sequence[Fold], start: Initialization | None, *chunks: None) -> None:
    """Puts the chunks together, once all are trained, and reports the points of a sweep. `began`: when the program was, by time.time()."""
    del chunks  # to be waited for
    with _opened(task) as (points, folder):
        engine = build_engine(points, dataset, folds, start, task.size)
        infos = train_run.open_runs(points, dataset, folds, engine, start)
        state = Loop(points, engine, folder).gathered(task.size)
        train_run.save(points, dataset, folds, engine, state, folder, start)
        train_run.finish_runs(points, infos, (time.time() - began) / len(points), folder)
        _report(task, points, dataset)


def chunk_name(task: Task, chunk: int) -> str:
    return f"{task.name} [{chunk}]"


def _report(task: Task, points: Sequence[RunSpec], dataset: Dataset) -> None:
    if task.of_sweep:  # a run of its own is reported by launch.py, on the terminal too
        sweep.report_points(points, points, dataset)


def _watch(board: ray.actor.ActorHandle, name: str, chunk: int, epoch: int, note: str) -> None:
    board.say.remote(name, epoch=epoch, note=note)


def _begin(name: str, board: ray.actor.ActorHandle) -> None:
    board.begin.remote(name, socket.gethostname())  # not waited for: a task that waits lends its cores to others


@contextlib.contextmanager
def _opened(task: Task) -> Iterator[tuple[list[RunSpec], Path]]:
    """The points and the program's folder on this node, in a process as launch.py would have made it: its log, its cache of programs,
    as many devices as it was given cores.

    Raises:
      UserError: the run directory is not the one that launch.py sees.
    """
    _use_devices(task.fraction)  # before anything asks JAX
    missing = extensions.load_recorded(task.points[0].config.extensions)
    extensions.refuse_missing(missing, f"the node {socket.gethostname()}")
    subpaths = [TOKEN, *(p.workdir.as_posix() for p in task.points), task.folder.as_posix()] if task.of_sweep else []
    with mirror.opened(task.root, subpaths=subpaths) as root:
        token = root / TOKEN
        if not token.exists() or run.read_json(token) != task.token:
            raise UserError(f"the node {socket.gethostname()} does not see the run directory {task.root}",
                            fix="give a --workdir on a file system that all nodes share, or in a bucket (docs/recipes.md)")
        terminal.console.quiet = True
        opening.start_log(root)
        yield [dataclasses.replace(p, workdir=root / p.workdir) for p in task.points], root / task.folder


@functools.cache
def _use_devices(fraction: float) -> None:
    """Before JAX is used; a worker may get several tasks of one kind."""
    if fraction < 1:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * fraction:.3f}"
    devices.keep_compiled()
    devices.use_every_core(int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
