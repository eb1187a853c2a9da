"""The programs of a sweep, or shares of a cross-validation's trials, as Ray tasks on one machine or
a cluster.

A task runs the command that SLURM gets too: `launch.py --program=N`, with `--chunk=I/K` where K
tasks share a program. Ray starts tasks as resources allow, and restarts those of a lost node.
Results are written to the run directory; unfinished tasks resume from their checkpoints, finished
ones are not run again, and the whole command, run last, combines the shares and reports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import secrets
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

import fexpr
from fexpr import extensions
from fexpr.errors import INTERRUPTED, RESUMABLE, Preempted, UserError
from fexpr.runs import describe, load_data, opening, sweep
from fexpr.runs.launchers.slurm import task_command
from fexpr.signals import CTRL_C, stop_signals
from fexpr.storage import mirror, run
from fexpr.storage.addresses import is_address
from fexpr.terminal import say

if TYPE_CHECKING:
    from ray.actor import ActorProxy

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

try:
    import ray
    from ray._raylet import (  # ray.init itself reloads by these; compiled, without stubs
        AuthenticationTokenLoader,  # pyright: ignore[reportAttributeAccessIssue]
        Config,  # pyright: ignore[reportAttributeAccessIssue]
    )
    from ray.exceptions import RayError, RayTaskError

    from fexpr.runs.launchers import ray_tasks
except ImportError as e:
    raise UserError(
        "--engine=ray needs Ray, which is not installed",
        fix="pip install ray, or leave out --engine",
    ) from e

PASSED_ON = re.compile("FEXPR_|XLA_|AWS_|GOOGLE_|WANDB_")  # of the environment
# what is copied to the nodes from fexpr's folder
CODE = ("launch.py", "fexpr", "configs", "experiments")
GIB = 2**30
PROCESS = 1 * GIB  # memory of a worker: Python, JAX and their libraries
PATIENCE = 10  # seconds for cancelled tasks to end by themselves


@dataclasses.dataclass(frozen=True)
class Needs:
    """A task's resources: cores, GPUs (or a fraction of one), bytes of memory; and how often it is
    restarted.
    """

    cpus: int = 1
    gpus: float = 0
    memory: int = 0
    retries: int = 3


def needs(text: str, has_gpus: bool, data_bytes: int) -> Needs:
    """Parses 'gpus=1 cpus=4 memory=8GiB retries=5'; by default one GPU if the cluster has any, and
    memory for a process and its data.

    Raises:
      UserError: text of another form.
    """
    found = {"gpus": float(has_gpus), "memory": PROCESS + 2 * data_bytes}
    for word in text.split():
        name, _, value = word.partition("=")
        number = re.fullmatch(r"([\d.]+)(GiB|MiB)?", value)
        if (
            name not in ("cpus", "gpus", "memory", "retries")
            or not number
            or bool(number[2]) != (name == "memory")
        ):
            raise UserError(
                f"--ray={text!r}: {word!r} is not a known resource",
                fix="for example --ray='gpus=1 cpus=4 memory=8GiB retries=5'",
            )
        found[name] = float(number[1]) * {"GiB": GIB, "MiB": 2**20, None: 1}[number[2]]
    return Needs(
        int(found.get("cpus", 1)), found["gpus"], int(found["memory"]), int(found.get("retries", 3))
    )


def run_all(
    config: ConfigDict,
    workdir: Path,
    sweeps: Sequence[str],
    address: str | None,
    asked: str,
    experiment: Callable[[ConfigDict, Path], None],
) -> None:
    """Trains the run, or every point of the sweep, on the cluster at `address` (None: one started
    on this machine); makes the report or the table at the end.

    Args:
      experiment: that of the config; once everything is trained, it only reports.

    Raises:
      UserError: no such cluster; failed tasks, each with its reason, once all others are done.
      Preempted: SIGTERM, SIGHUP or Ctrl-C came.
    """
    groups = sweep.list_programs(config, workdir, sweeps)
    waiting = {
        i: group for i, group in enumerate(groups) if not all(point.finished for point in group)
    }
    if waiting:
        with _cluster(address, extensions.sources(config.extensions)):
            _train(waiting, workdir, asked)
        mirror.pull(workdir)  # fetches what the workers have pushed to its address, if it has one
    if sweeps:
        sweep.sweep(config, workdir, sweeps)
    else:
        experiment(config, workdir)


@contextlib.contextmanager
def _cluster(address: str | None, sources: Sequence[str]) -> Iterator[None]:
    """Connects to a cluster or starts one. `sources`: files and package folders that are copied
    with the job, like fexpr.
    """
    _check_answers(address)
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
    # by default, Ray would join any cluster that it finds
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    started = contextlib.ExitStack()
    local = {}
    if address == "local":
        # Ray makes its folder writable for everybody; the one above it is this user's alone
        private = started.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
        started.enter_context(_own_token(Path(private)))
        local = {
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": os.path.join(private, "ray"),
        }
    kept = [f"!/{name}{below}" for name in CODE for below in ("", "/**")]
    # all but these; '/*' would leave out the folder itself, whose name is '.' here
    code = {
        "working_dir": str(Path(fexpr.__file__).parents[1]),
        "excludes": ["/??*", *kept, "__pycache__"],
    }
    try:
        own = {"py_modules": sources} if sources else {}  # Ray refuses an empty list
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,
            runtime_env={**code, **own, "env_vars": environment},
        )
    except (ConnectionError, RuntimeError, ValueError) as e:
        started.close()
        raise _no_cluster(address, e) from e
    try:
        resources = ray.cluster_resources()
        nodes = sum(node["Alive"] for node in ray.nodes())
        say(
            f"cluster    {describe.number_of(nodes, 'node')}, {resources.get('CPU', 0):.0f} "
            f"cores, {resources.get('GPU', 0):.0f} GPUs"
        )
        yield
    finally:
        ray.shutdown()
        started.close()


@contextlib.contextmanager
def _own_token(folder: Path) -> Iterator[None]:
    """Processes of the cluster that are started in the block only answer to processes with a new
    token, which is kept in a file in `folder` that only this user can read. Ray listens on all
    interfaces.
    """
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    names = (*ours, "RAY_AUTH_TOKEN")  # which takes precedence over the file
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(ours)
    _reload_token()
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
        os.environ.update(before)
        _reload_token()


def _reload_token() -> None:
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _check_answers(address: str | None) -> None:
    """Raises at once if nothing answers at the address; Ray itself would try for a minute."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as e:
            raise _no_cluster(address, e) from e


def _no_cluster(address: str | None, why: Exception) -> UserError:
    return UserError(
        f"--address={address}: no Ray cluster answers ({str(why).splitlines()[0]})",
        fix="start one with `ray start --head`, name it as HOST:PORT, or leave out --address",
    )


def _train(waiting: Mapping[int, Sequence], workdir: Path, asked: str) -> None:
    token, root = uuid.uuid4().hex, mirror.display_path(workdir.absolute())
    if not is_address(root):
        run.write_json(workdir / ray_tasks.TOKEN, token)
    sizes = {}  # by data and split: trials of a point, bytes of images
    for config in (group[0].config for group in waiting.values()):
        if (key := _data_key(config)) not in sizes:
            dataset, folds = load_data.load(config)
            sizes[key] = (
                len(folds) * config.split.seeds,
                0 if dataset.streamed else dataset.images[:].nbytes,
            )
    need = needs(
        asked, ray.cluster_resources().get("GPU", 0) > 0, max(size for _, size in sizes.values())
    )
    slots = _slots(need)
    say(
        f"tasks      {describe.number_of(need.cpus, 'core')}, {need.gpus:g} GPUs, "
        f"{need.memory / GIB:.1f} GiB each: {slots} at a time; "
        f"restarted up to {need.retries} times"
    )
    board = (
        ray.remote(ray_tasks.Board).options(num_cpus=0, scheduling_strategy=_this_node()).remote()
    )
    remote = ray.remote(ray_tasks.run_command).options(
        num_cpus=need.cpus,
        num_gpus=need.gpus,
        memory=need.memory,
        max_retries=need.retries,
        retry_exceptions=[Preempted],
    )
    words, typed, refs = task_command(sys.argv[1:], root)[2:], opening.typed_command(), {}
    try:
        for i, group in waiting.items():
            name = group[0].workdir.name + (f" and {len(group) - 1} more" if len(group) > 1 else "")
            config, trials = group[0].config, sizes[_data_key(group[0].config)][0] * len(group)
            size = min(config.train.chunk or trials, -(-trials // max(1, slots // len(waiting))))
            count = -(-trials // size)
            for k in range(count):
                own, shown = (
                    ([f"--chunk={k}/{count}"], f"{name} [{k}]") if count > 1 else ([], name)
                )
                task = ray_tasks.Task(
                    shown,
                    (*words, f"--program={i}", *own),
                    typed,
                    root,
                    token,
                    os.getcwd(),
                    need.cpus,
                    min(1.0, need.gpus or 1.0),
                )
                refs[shown] = remote.remote(task, board)
        failed = _wait(refs, board)
    except (KeyboardInterrupt, Preempted):
        _cancel(refs)
        raise
    mirror.remove(workdir / ray_tasks.TOKEN)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(refs)} tasks failed",
            [f"{name}: {reason}" for name, reason in failed.items()],
            fix="fix what they report and give the same command: finished tasks are not run again",
        )


def _data_key(config: ConfigDict) -> str:
    return config.data.to_json() + config.split.to_json()


def _slots(need: Needs) -> int:
    """The number of tasks that run at the same time."""
    resources = ray.cluster_resources()
    pairs = (
        (resources.get("CPU", 0), need.cpus),
        (resources.get("GPU", 0), need.gpus),
        (resources.get("memory", 0), need.memory),
    )
    slots = min(int(have / want) for have, want in pairs if want)
    if not slots:
        raise UserError(
            f"no task fits: it needs {need.cpus} cores, {need.gpus:g} GPUs, "
            f"{need.memory / GIB:.1f} GiB, and the cluster has "
            f"{resources.get('CPU', 0):g}, {resources.get('GPU', 0):g}, "
            f"{resources.get('memory', 0) / GIB:.1f}",
            fix="ask for less with --ray='cpus=1 gpus=0 memory=2GiB', or join a larger cluster "
            "with --address",
        )
    return slots


def _this_node() -> object:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _wait(refs: dict[str, ray.ObjectRef], board: ActorProxy[ray_tasks.Board]) -> dict[str, str]:
    """Waits until all have ended, and prints a line whenever one starts, restarts or ends; returns
    why some failed, by name.
    """
    ended: dict[str, str] = {}  # name -> '' or the reason
    started: dict[str, int] = {}
    with stop_signals() as stopped_by:
        while len(ended) < len(refs):
            left = {ref: name for name, ref in refs.items() if name not in ended}
            done = ray.wait(list(left), num_returns=1, timeout=0.5)[0]
            # Ray's ObjectRef is compiled, without stubs: what it is of is lost
            tries = ray.get(board.read.remote())  # pyright: ignore[reportFunctionMemberAccess]
            for name, nodes in tries.items():  # pyright: ignore[reportAttributeAccessIssue]
                if len(nodes) > started.get(name, 0):
                    say(
                        f"training   {name} on {nodes[-1]}"
                        + (f", try {len(nodes)}" if len(nodes) > 1 else "")
                    )
                started[name] = len(nodes)
            for ref in done:
                name = left[ref]
                ended[name] = _reason(ref)
                say(
                    f"{'failed' if ended[name] else 'done':<10} {name}   {len(ended)} of "
                    f"{len(refs)}",
                    "red" if ended[name] else "green",
                )
            if by := stopped_by():
                code = INTERRUPTED if by == CTRL_C else RESUMABLE
                raise Preempted(f"stopped by {by}, and the tasks with it", code)
    return {name: reason for name, reason in ended.items() if reason}


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
    """Cancels the tasks: each saves its state, or is killed."""
    for ref in refs.values():
        with contextlib.suppress(RayError):
            ray.cancel(ref, force=False)
    ray.wait(list(refs.values()), num_returns=len(refs), timeout=PATIENCE)
