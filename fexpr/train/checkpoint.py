"""Checkpoints of a run directory, and the only file that imports Orbax.

`checkpoints/resume/<epoch>/` holds the whole state of an unfinished run; `checkpoints/last` and `checkpoints/best_val` hold the
variables (params, batch_stats) of a finished one, with a leading axis of trials. All are host arrays of the real trials: they restore
on any number and kind of devices. Orbax writes under a temporary name and renames, so a kill leaves the previous checkpoint whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fexpr import run
from fexpr.errors import UserError

RESUME = "resume"


class Checkpoints:
    """Saves and restores the state of an unfinished run. Saving happens in the background; one save at a time."""

    def __init__(self, run_dir: Path):
        self._folder = Path(run_dir).absolute() / run.CHECKPOINTS / RESUME
        try:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as e:
            raise UserError(f"cannot write {self._folder}: {e.strerror or e}", fix="check the folder's permissions and free space") from e

    def save(self, epoch: int, state: Any) -> None:
        """`state`: a tree of NumPy arrays. Waits for the save before this one; returns before its own is on disk."""
        self._manager.save(epoch, args=ocp.args.PyTreeSave(state))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest whole checkpoint as (epoch, state of NumPy arrays), or None. `like`: the tree of shapes and types expected.

        Raises:
          UserError: the checkpoint is of another model or number of trials.
        """
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        return epoch, _restored(self._manager, epoch, like, self._folder / str(epoch))

    def wait(self) -> None:
        """Until everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def save_variables(run_dir: Path, name: str, variables: Any) -> None:
    """Writes `checkpoints/<name>`, replacing one that is there."""
    with ocp.PyTreeCheckpointer() as writer:
        writer.save(Path(run_dir).absolute() / run.CHECKPOINTS / name, variables, force=True)


def load_variables(run_dir: Path, name: str) -> Any:
    """The variables of `checkpoints/<name>` as NumPy arrays with a leading axis of trials.

    Raises:
      UserError: there is no such checkpoint.
    """
    folder = Path(run_dir).absolute() / run.CHECKPOINTS / name
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist", fix="the run has not finished, or was copied without its checkpoints")
    with ocp.PyTreeCheckpointer() as reader:
        shapes = reader.metadata(folder).item_metadata.tree
        arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        return reader.restore(folder, restore_args=arguments)


def _restored(manager: ocp.CheckpointManager, epoch: int, like: Any, folder: Path) -> Any:
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
    try:
        state = manager.restore(epoch, args=ocp.args.PyTreeRestore(like, restore_args=arguments))
    except (ValueError, KeyError, TypeError) as e:
        raise UserError(f"{folder} does not fit this model: {str(e).splitlines()[0]}", fix="choose another --workdir") from e
    wrong = [f"{jax.tree_util.keystr(path)}: expected {a.shape} {a.dtype}, found {b.shape} {b.dtype}"
             for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(state), strict=True)
             if (a.shape, a.dtype) != (b.shape, b.dtype)]
    if wrong:
        raise UserError(f"{folder} does not fit this model", wrong, fix="choose another --workdir")
    return state
