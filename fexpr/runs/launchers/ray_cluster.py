"""The programs of a sweep, or the chunks of a cross-validation, as Ray tasks on one machine or a cluster.

Ray starts what fits, starts again what a lost node took with it, and holds the data set once a node. What is trained lands in the run
directory, by the same functions as without Ray, so both give the same predictions; what is unfinished goes on from its checkpoints, and
what is finished is not run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

import fexpr
from fexpr import extensions
from fexpr.errors import Preempted, UserError
from fexpr.runs import describe, opening, sweep
from fexpr.runs.initialize import load_initialization
from fexpr.runs.launchers import ray_table
from fexpr.runs.spec import RunSpec
from fexpr.storage import mirror, run
from fexpr.terminal import say, terminated

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a run is anybody else's business
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

try:
    import ray
    from ray.exceptions import RayError, RayTaskError

    from fexpr.runs.launchers import ray_tasks
except ImportError as e:
    raise UserError("--engine=ray needs Ray, which is not installed", fix="pip install ray, or leave --engine away") from e

PASSED_ON = re.compile("FEXPR_|XLA_|AWS_|GOOGLE_|WANDB_")  # of the environment
GIB = 2**30
PROCESS = 1 * GIB  # of a worker: Python, JAX and their libraries
WHOLE = " [all]"  # name of the task that puts chunks together
PATIENCE = 10  # seconds that cancelled tasks get to end by themselves


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a task is given: cores, GPUs (or a part of one), bytes of the node's memory; how often it is started again."""

    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    retries: int = 3


def needs(text: str, gpus_there: bool, data_bytes: int) -> Needs:
    """'gpus=1 cpus=4 memory=8GiB retries=5'; by default one GPU if the cluster has any, and memory for a process and its data.

    Raises:
      UserError: text of another form.
    """
    found = {"gpus": float(gpus_there), "memory": PROCESS + 2 * data_bytes}
    for word in text.split():
        name, _, value = word.partition("=")
        number = re.fullmatch(r"([\d.]+)(GiB|MiB)?", value)
        if name not in ("cpus", "gpus", "memory", "retries") or not number or bool(number[2]) != (name == "memory"):
            raise UserError(f"--ray={text!r}: {word!r} is not understood", fix="as in --ray='gpus=1 cpus=4 memory=8GiB retries=5'")
        found[name] = float(number[1]) * {"GiB": GIB, "MiB": 2**20, None: 1}[number[2]]
    return Needs(int(found.get("cpus", 1)), found["gpus"], int(found["memory"]), int(found.get("retries", 3)))


def run_all(config: ConfigDict, workdir: Path, sweeps: Sequence[str], address: str | None, asked: str,
            experiment: Callable[[ConfigDict, Path], None]) -> None:
    """Trains the run, or every point of the sweep, on the cluster at `address` (None: one started on this machine); makes the report
    or the table at the end.

    Args:
      experiment: of the config; once all is trained it only reports.

    Raises:
      UserError: no such cluster; tasks that failed, each with its reason, once all others are done.
      Preempted: SIGTERM came.
    """
    opening.start_log(workdir)
    points = [RunSpec(config, workdir)]
    groups, settings = [points], []
    if sweeps:
        settings, groups = sweep.programs(config, workdir, sweeps)
        say(f"sweep      {len(settings)} points: " + "  ".join(sweeps))
    waiting = [found for group in groups if (found := [p for p in group if not p.finished])]
    if waiting:
        with _cluster(address, extensions.sources(config.extensions)):
            _train(waiting, workdir, bool(sweeps), asked)
        for point in (point for group in groups for point in group):
            mirror.pull(point.workdir)  # what the workers have brought to its address, if it has one
    if sweeps:
        sweep.make_table(settings, config.train.monitor, workdir)
    else:
        experiment(config, workdir)


@contextlib.contextmanager
def _cluster(address: str | None, sources: Sequence[str]) -> Iterator[None]:
    """`sources`: files and package folders that travel with the job, as fexpr does."""
    _check_answers(address)
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
    address = address or os.environ.get("RAY_ADDRESS") or "local"  # without a word, Ray would join whatever cluster it finds
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **local,
                 runtime_env={"py_modules": [fexpr, *sources], "env_vars": environment})
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise _no_cluster(address, e) from e
    try:
        there = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        say(f"cluster    {describe.number_of(nodes, 'node')}, {there.get('CPU', 0):.0f} cores, {there.get('GPU', 0):.0f} GPUs")
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Ray itself would knock for a minute at a door that is not there."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as e:
            raise _no_cluster(address, e) from e


def _no_cluster(address: str | None, why: Exception) -> UserError:
    return UserError(f"--address={address}: no Ray cluster answers there ({str(why).splitlines()[0]})",
                     fix="start one with `ray start --head`, name it as HOST:PORT, or leave --address away")


def _train(waiting: Sequence[Sequence[RunSpec]], workdir: Path, of_sweep: bool, asked: str) -> None:
    token, root = uuid.uuid4().hex, mirror.display_path(workdir.absolute())
    run.write_json(workdir / ray_tasks.TOKEN, token)
    data = _Data()
    prepared = [data.of(group[0].config) for group in waiting]
    need = needs(asked, ray.cluster_resources().get("GPU", 0) > 0, max(size for *_, size in prepared))
    options = {"num_cpus": need.cpus, "num_gpus": need.gpus, "memory": need.memory, "max_retries": need.retries,
               "retry_exceptions": [Preempted]}
    slots = _slots(need)
    say(f"tasks      {describe.number_of(need.cpus, 'core')}, {need.gpus:g} GPUs, {need.memory / GIB:.1f} GiB each: {slots} at a time; "
        f"begun again up to {need.retries} times")
    board = ray.remote(ray_tasks.Board).options(num_cpus=0, scheduling_strategy=_here()).remote()
    remote = {name: ray.remote(getattr(ray_tasks, name)).options(**options) for name in ("train", "plan", "train_chunk")}
    remote["gather"] = ray.remote(ray_tasks.gather).options(**{**options, "num_gpus": 0})
    began, refs = time.time(), {}  # as other nodes count it
    try:
        planned = []
        for group, (dataset, folds, start, trials, _) in zip(waiting, prepared, strict=True):
            folder = sweep.program_dir(Path(), group) if of_sweep else Path()
            own = [RunSpec(p.config, p.workdir.relative_to(workdir), tuple(sys.argv)) for p in group]
            name = group[0].workdir.name + (f" and {len(group) - 1} more" if len(group) > 1 else "")
            trials *= len(group)
            size = _share(group[0].config, trials, max(1, slots // len(waiting)))
            task = ray_tasks.Task(name, own, folder, root, token, min(1.0, need.gpus or 1.0), size)
            if size:
                planned.append((task, trials, (dataset, folds, start), remote["plan"].remote(task, dataset, folds, start)))
            else:
                refs[name] = remote["train"].remote(task, dataset, folds, start, board)
        for task, trials, given, size in planned:
            task = dataclasses.replace(task, size=ray.get(size))
            chunks = {ray_tasks.chunk_name(task, i): remote["train_chunk"].remote(task, i, *given, board)
                      for i in range(-(-trials // task.size))}
            refs |= chunks
            refs[task.name + WHOLE] = remote["gather"].remote(task, began, *given, *chunks.values())
        failed = _wait(refs, board, waiting[0][0].config.train.epochs)
    except (KeyboardInterrupt, Preempted):
        _cancel(refs)
        raise
    except RayTaskError as e:  # of a plan
        raise (e.cause if isinstance(e.cause, UserError) else e) from None
    mirror.remove(workdir / ray_tasks.TOKEN)
    if failed:
        raise UserError(f"{len(failed)} of {len(refs)} tasks failed", [f"{name}: {reason}" for name, reason in failed.items()],
                        fix="mend what they say and give the same command: what is finished is not run again")


class _Data:
    """Data set, folds and start of configs, put into the object store once for all programs that share them."""

    def __init__(self):
        self._known: dict[str, tuple] = {}

    def of(self, config: ConfigDict) -> tuple:
        """References to the data set, the folds and what trials begin with; the number of trials of one point; bytes of the images."""
        key = repr([config.data.to_json(), config.split.to_json(), config.init.to_json(), config.seed if config.init.features else 0,
                    config.model.to_json() if config.init.from_run or config.init.from_file or config.init.features else ""])
        if key not in self._known:
            dataset, folds = describe.prepare(config)
            start = load_initialization(config, dataset, folds)
            size = 0 if dataset.streamed else dataset.images.nbytes
            self._known[key] = ray.put(dataset), ray.put(folds), ray.put(start), len(folds) * config.split.seeds, size
        return self._known[key]


def _share(config: ConfigDict, trials: int, slots: int) -> int:
    """Trials of a chunk, where a program is shared out; 0 where one task has it all."""
    size = min(config.train.chunk or trials, -(-trials // slots))
    return size if size < trials else 0


def _slots(need: Needs) -> int:
    """How many tasks run at a time."""
    there = ray.cluster_resources()
    pairs = ((there.get("CPU", 0), need.cpus), (there.get("GPU", 0), need.gpus), (there.get("memory", 0), need.memory))
    slots = min(int(have / want) for have, want in pairs if want)
    if not slots:
        raise UserError(f"no task fits: it needs {need.cpus} cores, {need.gpus:g} GPUs, {need.memory / GIB:.1f} GiB, and the cluster has "
                        f"{there.get('CPU', 0):g}, {there.get('GPU', 0):g}, {there.get('memory', 0) / GIB:.1f}",
                        fix="ask for less with --ray='cpus=1 gpus=0 memory=2GiB', or join a larger cluster with --address")
    return slots


def _here() -> object:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _wait(refs: dict[str, ray.ObjectRef], board: ray.actor.ActorHandle, epochs: int) -> dict[str, str]:
    """Until all have ended, with one live table; why some failed, by name."""
    ended: dict[str, str] = {}  # name -> '' or the reason
    with terminated() as stop, ray_table.shown(epochs) as show:
        while len(ended) < len(refs):
            left = {ref: name for name, ref in refs.items() if name not in ended}
            for ref in ray.wait(list(left), num_returns=1, timeout=0.5)[0]:
                ended[left[ref]] = _reason(ref)
            show(list(refs), ended, ray.get(board.read.remote()))
            if stop():
                raise Preempted("stopped by SIGTERM; the tasks were told to stop")
    failed = {name: reason for name, reason in ended.items() if reason}
    whole = {name for name in failed if name.endswith(WHOLE)}  # fail with their chunks, which have said why
    return {name: reason for name, reason in failed.items() if name not in whole or len(failed) == len(whole)}


def _reason(ref: ray.ObjectRef) -> str:
    try:
        ray.get(ref)
    except RayTaskError as e:
        if isinstance(e.cause, UserError):
            return e.cause.text()
        return str(e)
    except RayError as e:
        return str(e).splitlines()[0]
    return ""


def _cancel(refs: dict[str, ray.ObjectRef]) -> None:
    """Tells the tasks to end, and ends them if they do not."""
    for ref in refs.values():
        with contextlib.suppress(RayError):
            ray.cancel(ref, force=False)
    ray.wait(list(refs.values()), num_returns=len(refs), timeout=PATIENCE)
