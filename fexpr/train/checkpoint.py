"""Checkpoints of a run directory, and the only file that imports Orbax.

`checkpoints/resume/trials_<first>-<last>/` holds the whole state of these trials of an unfinished
run, by position, and under `done` what is left of it once they are trained; `checkpoints/last` and
`checkpoints/best_val` hold the variables (params, batch_stats) of a finished run, with a leading
axis of trials. All are host arrays of the real trials: they restore on any number and kind of
devices, and of processes: one writes and reads for all. Orbax writes under a temporary name and
renames, so a kill leaves the previous checkpoint whole. Of a run directory at an address each goes
there when it is whole here (mirror.py).
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fexpr.errors import UserError
from fexpr.storage import mirror, run
from fexpr.train import distributed

RESUME = "resume"
DONE = "done"


class Checkpoints:
    """Saves and restores the state of one chunk of an unfinished run. Saving happens in the
    background; one save at a time.
    """

    def __init__(self, run_dir: Path, trials: range):
        self._folder = (
            Path(run_dir).absolute() / run.CHECKPOINTS / RESUME / f"trials_{trials[0]}-{trials[-1]}"
        )
        self._opened = None
        self._pushing: concurrent.futures.Future | None = None

    @property
    def _manager(self) -> ocp.CheckpointManager:
        """The writer's; opened when it is first needed, for there may be many chunks."""
        if not self._opened:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._opened = ocp.CheckpointManager(
                    self._folder,
                    options=ocp.CheckpointManagerOptions(
                        max_to_keep=2,
                        cleanup_tmp_directories=True,
                        create=False,
                        multiprocessing_options=_alone(),
                    ),
                )
            except OSError as e:
                raise UserError(
                    f"cannot write {self._folder}: {e.strerror or e}",
                    fix="check the folder's permissions and free space",
                ) from e
        return self._opened

    def save(self, step: int, state: Any, after: Sequence[Path] = ()) -> None:
        """`state`: a tree of NumPy arrays. Waits for the save before this one; returns before its
        own is on disk, and at its address.

        Args:
          after: files of the run that must be at its address before the checkpoint is.

        Raises:
          UserError: the folder cannot be written to, or the one before could not be brought to its
              address.
        """
        distributed.run_on_main_process(lambda: self._save(step, state, after))

    def _save(self, step: int, state: Any, after: Sequence[Path]) -> None:
        self._pushed()
        self._manager.save(step, args=ocp.args.PyTreeSave(state))
        self._pushing = mirror.later(self._folder, lambda: self._push(step, after))

    def _push(self, step: int, after: Sequence[Path]) -> None:
        self._manager.wait_until_finished()
        for path in after:
            mirror.push(path)
        mirror.push(self._folder / str(step))
        mirror.forget_others(self._folder)

    def _pushed(self) -> None:
        job, self._pushing = self._pushing, None
        if job:
            job.result()

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, or None."""
        steps = (
            [int(p.name) for p in self._folder.glob("*") if p.name.isdigit()]
            if distributed.is_main_process()
            else []
        )
        return distributed.broadcast_from_main(max(steps, default=None))

    def restore(self, step: int, like: Any) -> Any:
        """The state saved at `step`, as NumPy arrays. `like`: the tree of shapes and types
        expected.

        Raises:
          UserError: the checkpoint is of another model or number of trials.
        """

        def read(arguments):
            return self._manager.restore(
                step, args=ocp.args.PyTreeRestore(like, restore_args=arguments)
            )

        return distributed.broadcast_arrays(
            lambda: _restored(read, like, self._folder / str(step)), like
        )

    def save_done(self, state: Any) -> None:
        """Writes what is left of the chunk once it is trained, whole or not at all, in the place of
        its checkpoints.
        """
        distributed.run_on_main_process(lambda: self._save_done(state))

    def _save_done(self, state: Any) -> None:
        with _checkpointer() as writer:
            writer.save(self._folder / DONE, state, force=True)
        self._pushed()
        mirror.push(self._folder / DONE)
        for step in self._manager.all_steps():
            self._manager.delete(step)
        mirror.forget_others(self._folder)

    def done(self) -> bool:
        """Whether the chunk is trained."""
        return distributed.broadcast_from_main(
            (self._folder / DONE).is_dir() if distributed.is_main_process() else None
        )

    def restore_done(self, like: Any) -> Any:
        """What `save_done` wrote. Arguments and errors as of `restore`."""

        def read():
            with _checkpointer() as reader:
                return _restored(
                    lambda a: reader.restore(self._folder / DONE, item=like, restore_args=a),
                    like,
                    self._folder / DONE,
                )

        return distributed.broadcast_arrays(read, like)

    def wait(self) -> None:
        """Until everything saved is on disk, and at its address. Errors as of `save`."""
        if self._opened:
            self._opened.wait_until_finished()
            self._pushed()

    def close(self) -> None:
        """Waits, too. Errors as of `save`."""
        if self._opened:
            try:
                self._pushed()
            finally:
                self._opened.close()


def find_done(run_dir: Path) -> dict[int, range]:
    """The chunks under a run directory that are trained: their trials by the number of the first,
    of several the longest.
    """
    found = (
        [
            [int(n) for n in path.parent.name.removeprefix("trials_").split("-")]
            for path in Path(run_dir).glob(f"{run.CHECKPOINTS}/{RESUME}/trials_*-*/{DONE}")
        ]
        if distributed.is_main_process()
        else []
    )
    return {
        first: range(first, last + 1)
        for first, last in sorted(distributed.broadcast_from_main(found))
    }


def _alone() -> ocp.options.MultiprocessingOptions:
    """This process saves and restores by itself, whatever others there are."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"writer{here}"
    )


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone()),
        multiprocessing_options=_alone(),
    )


def save_variables(run_dir: Path, name: str, variables: Any) -> None:
    """Writes `checkpoints/<name>`, replacing one that is there."""
    folder = Path(run_dir).absolute() / run.CHECKPOINTS / name
    with _checkpointer() as writer:
        writer.save(folder, variables, force=True)
    mirror.push(folder)


def load_variables(run_dir: Path, name: str) -> Any:
    """The variables of `checkpoints/<name>` as NumPy arrays with a leading axis of trials.

    Raises:
      UserError: there is no such checkpoint, or files of it are missing or damaged.
    """
    folder = Path(run_dir).absolute() / run.CHECKPOINTS / name
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist",
            fix="the run has not finished, or was copied without its checkpoints",
        )
    with _checkpointer() as reader:
        content = reader.metadata(folder).item_metadata
        if content is None:  # Orbax's word for a file that is missing or cannot be read
            raise run.damaged(folder, "what it holds cannot be read")
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), content.tree)
        try:
            return reader.restore(folder, restore_args=arguments)
        except ValueError as e:  # of TensorStore: cut off, or another checksum
            raise run.damaged(folder, str(e).splitlines()[0]) from e


def _restored(read: Callable[[Any], Any], like: Any, folder: Path) -> Any:
    try:
        state = read(jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like))
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(
            f"{folder} does not fit this model: {str(e).splitlines()[0]}",
            fix="choose another --workdir",
        ) from e
    wrong = [
        f"{jax.tree_util.keystr(path)}: expected {a.shape} {a.dtype}, found {b.shape} {b.dtype}"
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(state), strict=True
        )
        if (a.shape, a.dtype) != (b.shape, b.dtype)
    ]
    if wrong:
        raise UserError(f"{folder} does not fit this model", wrong, fix="choose another --workdir")
    return state
