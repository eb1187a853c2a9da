"""Several processes as one program (SPMD): each runs the same code on the same config; the mesh
spans the devices of all of them.

All processes read the data and compute; one, the main process, owns the terminal and the run
directory. Its results reach the others through `broadcast_from_main` and `run_on_main_process`, so
that no file system needs to be shared. With a single process none of this costs anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from jaxtyping import Array, Float, PyTree, Shaped

from fexpr import terminal
from fexpr.errors import RESUMABLE, UserError
from fexpr.storage import mirror

T = TypeVar("T")
PATIENCE = 20  # seconds without a heartbeat after which a process counts as lost


def join(text: str) -> None:
    """Joins this process to a job; call before JAX is used.

    Args:
      text: 'auto' (SLURM, Open MPI, MPICH, TPU pods and Kubernetes, as JAX finds them), or
          'ADDRESS:PORT,RANK,COUNT' with the address of process 0.

    Raises:
      UserError: the text has another form, no cluster is found, or process 0 does not answer.
    """
    arguments = {}
    if text != "auto":
        address, _, rest = text.partition(",")
        rank, _, count = rest.partition(",")
        if (
            ":" not in address
            or not rank.isdigit()
            or not count.isdigit()
            or int(rank) >= int(count)
        ):
            raise UserError(
                f"--hosts={text}: expected 'auto' or ADDRESS:PORT,RANK,COUNT with RANK from 0 "
                "to COUNT - 1",
                fix="for example --hosts=node1:12345,0,2 on the first of two machines and "
                "--hosts=node1:12345,1,2 on the second",
            )
        arguments = {
            "coordinator_address": address,
            "num_processes": int(count),
            "process_id": int(rank),
        }
    try:
        jax.distributed.initialize(
            **arguments, heartbeat_timeout_seconds=PATIENCE, shutdown_timeout_seconds=PATIENCE
        )
    except (RuntimeError, ValueError) as e:
        raise UserError(
            f"--hosts={text}: {str(e).splitlines()[0]}",
            fix="start it through srun or mpirun, or number the processes: "
            "--hosts=ADDRESS:PORT,RANK,COUNT",
        ) from e
    terminal.console.quiet = not is_main_process()


@contextlib.contextmanager
def exit_if_peer_lost() -> Iterator[None]:
    """Runs a block that needs every process: if one is lost, the others exit too, with code
    RESUMABLE. They exit at once, as an orderly shutdown would wait for the lost one, and abort.
    """
    try:
        yield
    # JAX raises either, depending on where the connection broke
    except (RuntimeError, ValueError) as e:
        if jax.process_count() == 1 or not re.search(
            "gloo|nccl|coordination|connection|heartbeat|unavailable", str(e), re.IGNORECASE
        ):
            raise
        terminal.error(
            f"process {jax.process_index()} of {jax.process_count()} cannot reach another, "
            "which has ended or lost its network "
            f"({str(e).splitlines()[0]}): the same commands resume from the last checkpoint"
        )
        sys.stdout.flush()
        os._exit(RESUMABLE)


@contextlib.contextmanager
def run_directory(path_or_url: Path | str) -> Iterator[Path]:
    """Yields the folder of `mirror.opened` in the main process; in the others a path to which
    nothing is written.

    Raises:
      UserError: what `mirror.opened` raises, in every process.
    """
    with contextlib.ExitStack() as stack:
        yield run_on_main_process(lambda: stack.enter_context(mirror.opened(path_or_url))) or Path(
            path_or_url
        )
        # the others must not exit while the last files are pushed
        run_on_main_process(stack.close)


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def to_global_array(x: Shaped[np.ndarray, "*shape"], sharding: Sharding) -> Shaped[Array, "*shape"]:
    """Puts an array that every process has onto the devices of all of them."""
    if jax.process_count() == 1:
        return jax.device_put(x, sharding)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def to_global_array_of_shares(
    x: Shaped[np.ndarray, "*share"], shape: tuple[int, ...], sharding: Sharding
) -> Shaped[Array, "*whole"]:
    """Puts an array of this shape, of which every process has its own share, onto the devices of
    all of them.
    """
    return jax.make_array_from_process_local_data(sharding, x, shape)


def to_host(tree: PyTree) -> PyTree:
    """Gathers arrays that are spread over the devices of all processes, as NumPy arrays in every
    process.
    """
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def all_gather_scalars(values: list[float]) -> Float[np.ndarray, "processes {len(values)}"]:
    """Each process's numbers, float64 [processes, n], in every process."""
    if jax.process_count() == 1:
        return np.array([values], np.float64)
    return np.asarray(multihost_utils.process_allgather(np.array(values, np.float32))).astype(
        np.float64
    )


def broadcast_from_main(value: T) -> T:
    """Returns the main process's value, which JSON must be able to represent, in every process."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value if is_main_process() else None).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = np.asarray(
        multihost_utils.broadcast_one_to_all(
            text if is_main_process() else np.zeros(size, np.uint8)
        )
    )
    return json.loads(text.tobytes().decode())


def broadcast_arrays(read: Callable[[], PyTree], like: PyTree) -> PyTree:
    """Returns the arrays that `read()` returns in the main process, in every process; `like`: the
    tree of their shapes and types.

    Raises:
      UserError: what `read` raised, in every process.
    """
    tree = run_on_main_process(read)
    if jax.process_count() == 1:
        return tree
    empty = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), like)
    return jax.tree.map(
        np.asarray, multihost_utils.broadcast_one_to_all(tree if is_main_process() else empty)
    )


def run_on_main_process(do: Callable[[], T]) -> T | None:
    """Runs `do` in the main process while the others wait; returns its result there, None
    elsewhere.

    Raises:
      UserError: what `do` raised, in every process.
    """
    if jax.process_count() == 1:
        return do()
    result, failure = None, None
    if is_main_process():
        try:
            result = do()
        except UserError as e:
            failure = e
    report = broadcast_from_main(failure and (failure.title, failure.problems, failure.fix))
    if report:
        title, problems, fix = report
        raise failure or UserError(title, problems, fix)
    return result
