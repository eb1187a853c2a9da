"""Checkpoints of a run directory. The only file that imports Orbax.

`checkpoints/resume/trials_<first>-<last>/` holds the whole state of these trials of an unfinished
run, by position, and in `done` the part that is kept once they are trained; `checkpoints/last` and
`checkpoints/best_val` hold the variables (params, batch_stats) of a finished run, with a leading
axis of trials. All are host arrays of the real trials: they can be restored on any number and kind
of devices, and of processes, as one process reads and writes for all. Orbax writes under a
temporary name and renames, so a kill leaves the previous checkpoint intact. Each has a checksum of
every array, which is compared whenever the checkpoint is read; those of an unfinished run also name
their run, trials and position. In a run directory at an address, each is pushed when it is complete
(mirror.py).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from fexpr.arrays import AnyArray
from fexpr.errors import UserError
from fexpr.storage import bounded, mirror, run
from fexpr.train import distributed
from fexpr.train.checksums import checksums, find_damage, flatten
from fexpr.train.save_errors import check_space, disk_errors

RESUME, DONE = run.RESUME, run.DONE
# fields of State -> their names in older checkpoints
RENAMED = {
    "rate": "lr_scale",
    "waited": "epochs_since_plateau",
    "stale": "epochs_without_improvement",
    "sums": "epoch_totals",
}
# keys in the metadata that Orbax saves beside the arrays
CHECKSUMS, OWNER, OF_THESE, POSITION = "checksums", "owner", "trials", "position"


class Checkpoints:
    """Saves and restores the state of one chunk of an unfinished run. Saving happens in the
    background; one save at a time.

    Args:
      saved: the trials of the folder that `restore` reads, if they are more than the chunk's: the
          run was stopped when it trained other numbers of trials at a time.
      owner: identifies the runs whose trials are saved (opening.owner_of).
    """

    def __init__(self, run_dir: Path, trials: range, saved: range | None = None, owner: str = ""):
        self._about = {OWNER: owner, OF_THESE: [trials.start, trials.stop]}
        self._folder = run.resume_folder(run_dir, trials)
        self._source = run.resume_folder(run_dir, saved or trials)
        self._rows = slice(None)
        if saved:
            self._rows = slice(trials.start - saved.start, trials.stop - saved.start)
        self._opened = None
        self._pushing: concurrent.futures.Future | None = None

    @property
    def _manager(self) -> ocp.CheckpointManager:
        """The main process's Orbax manager, opened on first use, as there may be many chunks."""
        if not self._opened:
            with disk_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._opened = ocp.CheckpointManager(
                    self._folder,
                    options=ocp.CheckpointManagerOptions(
                        max_to_keep=2,
                        cleanup_tmp_directories=True,
                        create=False,
                        multiprocessing_options=_single_process(),
                    ),
                )
        return self._opened

    def save(self, step: int, state: PyTree, after: Sequence[Path] = ()) -> None:
        """Saves `state`, a tree of NumPy arrays. Waits for the previous save; returns before its
        own is on disk, and at its address.

        Args:
          after: files of the run that must be at its address before the checkpoint is.

        Raises:
          UserError: the folder cannot be written to or the disk is full, also in the previous save;
              or that save could not be pushed to its address.
        """
        distributed.run_on_main_process(lambda: self._save(step, state, after))

    def _save(self, step: int, state: PyTree, after: Sequence[Path]) -> None:
        self._finish_push()
        check_space(self._folder, state)
        with disk_errors(self._folder):
            self._manager.save(
                step,
                args=ocp.args.PyTreeSave(state),
                custom_metadata={CHECKSUMS: checksums(state), POSITION: step} | self._about,
            )
        self._pushing = mirror.later(self._folder, lambda: self._push(step, after))

    def _push(self, step: int, after: Sequence[Path]) -> None:
        self._manager.wait_until_finished()
        for path in after:
            mirror.push(path)
        mirror.push(self._folder / str(step))
        mirror.forget_others(self._folder)

    def _finish_push(self) -> None:
        job, self._pushing = self._pushing, None
        if job:
            job.result()

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state saved at `step`, as NumPy arrays. `like`: the tree of shapes and types
        expected.

        Raises:
          UserError: the checkpoint is damaged, or of another model or number of trials.
        """
        return self._restore(self._source / str(step), like)

    def save_done(self, state: PyTree) -> None:
        """Replaces the chunk's checkpoints by the part that is kept once it is trained, completely
        or not at all. Errors as in `save`.
        """
        distributed.run_on_main_process(lambda: self._save_done(state))

    def _save_done(self, state: PyTree) -> None:
        _write(self._folder / DONE, state, self._about)
        self._finish_push()
        mirror.push(self._folder / DONE)
        with disk_errors(self._folder):
            # a step that is still being saved in the background must not be deleted
            self._manager.wait_until_finished()
            for step in self._manager.all_steps():
                self._manager.delete(step)
        mirror.forget_others(self._folder)

    def restore_done(self, like: PyTree) -> PyTree:
        """Reads what `save_done` wrote. Arguments and errors as in `restore`."""
        return self._restore(self._source / DONE, like)

    def _restore(self, folder: Path, like: PyTree) -> PyTree:
        def whole():
            found = jax.tree.map(lambda x: x[self._rows], read(folder, retrain(folder)))
            return _match_structure(found, like, folder)

        return distributed.broadcast_arrays(whole, like)

    def check(self, step: int | None, like: PyTree) -> None:
        """Compares the shapes and types that `restore` at `step` (None: `restore_done`) would
        return, without reading arrays. Errors as in `restore`.
        """
        folder = self._source / (DONE if step is None else str(step))

        def rows(array):
            first = [len(range(n)[self._rows]) for n in array.shape[:1]]
            return jax.ShapeDtypeStruct((*first, *array.shape[1:]), array.dtype)

        def compare():
            fix = retrain(folder)
            with reading_errors(folder, fix), _checkpointer() as reader:
                found = jax.tree.map(rows, _read_shapes(reader, folder, fix))
            _match_structure(found, like, folder)

        distributed.run_on_main_process(compare)

    def wait(self) -> None:
        """Waits until everything saved is on disk, and at its address. Errors as in `save`."""
        if self._opened:
            with disk_errors(self._folder):
                self._opened.wait_until_finished()
            self._finish_push()

    def close(self) -> None:
        """Waits until everything is saved, and closes. Errors as in `save`."""
        if self._opened:
            try:
                self._finish_push()
            finally:
                with disk_errors(self._folder):
                    self._opened.close()


def _single_process() -> ocp.options.MultiprocessingOptions:
    """Makes this process save and restore alone, even if there are others."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"writer{index}"
    )


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(multiprocessing_options=_single_process()),
        multiprocessing_options=_single_process(),
    )


def _write(folder: Path, tree: PyTree, about: Mapping[str, Any] | None = None) -> None:
    check_space(folder, tree)
    metadata = {CHECKSUMS: checksums(tree)} | dict(about or {})
    with disk_errors(folder), _checkpointer() as writer:
        writer.save(folder, tree, force=True, custom_metadata=metadata)


def read(folder: Path, fix: str = "") -> PyTree:
    """A checkpoint as it was saved, as NumPy arrays in dicts and lists; every array is compared
    with its checksum (checkpoints of older versions have none).

    Raises:
      UserError: it is damaged (`fix`: what else the user can do).
    """
    with reading_errors(folder, fix):
        expected = read_about(folder).get(CHECKSUMS)
        with _checkpointer() as reader:
            shapes = _read_shapes(reader, folder, fix)
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            tree = reader.restore(_item(folder), ocp.args.PyTreeRestore(restore_args=arguments))
        damage = [] if expected is None else find_damage(tree, expected)
    if damage:
        raise run.damaged(folder, f"{len(damage)} arrays are not as saved", fix, damage)
    return tree


def retrain(folder: Path) -> str:
    """What the user can do if a checkpoint of an unfinished run cannot be used."""
    return f"delete {folder.parent}: only its trials are then trained again"


def _item(folder: Path) -> Path:
    item = folder / "default"  # of a CheckpointManager's
    return item if item.is_dir() else folder


def read_about(folder: Path) -> dict[str, Any]:
    """What was saved beside the arrays. Raises any error if it is damaged."""
    about = json.loads((folder / mirror.WHOLE).read_text(encoding="utf-8"))
    return about.get("custom_metadata") or {}


def _read_shapes(reader: ocp.Checkpointer, folder: Path, fix: str) -> PyTree:
    """The shape and type of each array, in the structure of `read`."""
    content = reader.metadata(_item(folder)).item_metadata
    if content is None:  # Orbax's error for a file that is missing or cannot be read
        raise run.damaged(folder, "its content cannot be read", fix)
    return content.tree


@contextlib.contextmanager
def reading_errors(folder: Path, fix: str = "") -> Iterator[None]:
    """Turns the errors of reading a checkpoint into a UserError. Pipes and devices are refused
    first, as reading them would never end.
    """
    _ignore_late_reads()
    strange: list[str] = []
    for _ in bounded.walk(folder, lambda path, reason: strange.append(f"{path} {reason}")):
        pass
    if strange:
        raise run.damaged(folder, "it contains what no run has written", fix, strange)
    try:
        yield
    except UserError:
        raise
    except PermissionError as e:
        raise UserError(f"cannot read {e.filename}: {e.strerror}", fix="check permissions") from e
    except Exception as e:  # for damaged bytes Orbax and TensorStore may raise any error
        raise run.damaged(folder, (str(e) or repr(e)).splitlines()[0], fix) from e


@functools.cache
def _ignore_late_reads() -> None:
    """Hides errors of reads that end after a failure: if one array is damaged, Orbax closes its
    event loop while TensorStore still reads others, whose threads would print tracebacks beside the
    message.
    """
    before = sys.unraisablehook

    def hook(raised: sys.UnraisableHookArgs) -> None:
        if str(raised.exc_value) != "Event loop is closed":
            before(raised)

    sys.unraisablehook = hook


def save_variables(run_dir: Path, name: str, variables: PyTree) -> None:
    """Writes `checkpoints/<name>`, replacing an existing one.

    Raises:
      UserError: the folder cannot be written to, or the disk is full.
    """
    folder = Path(run_dir).absolute() / run.CHECKPOINTS / name
    _write(folder, variables)
    mirror.push(folder)


def load_variables(run_dir: Path, name: str) -> PyTree:
    """The variables of `checkpoints/<name>` as NumPy arrays with a leading axis of trials.

    Raises:
      UserError: there is no such checkpoint, or files of it are missing or damaged.
    """
    folder = Path(run_dir).absolute() / run.CHECKPOINTS / name
    if not bounded.is_folder(folder):
        raise UserError(
            f"{folder} does not exist",
            fix="the run has not finished, or was copied without its checkpoints",
        )
    return read(folder)


def _match_structure(found: PyTree, like: PyTree, folder: Path) -> PyTree:
    """The arrays of a checkpoint in the structure of `like`.

    Raises:
      UserError: they belong to another model; the message lists the arrays.
    """
    if isinstance(found, dict):
        found = {RENAMED.get(name, name): part for name, part in found.items()}
    have, wanted = flatten(found), flatten(like)
    problems = [
        f"{path}: expected {_words(wanted.get(path))}, found {_words(have.get(path))}"
        for path in sorted({*have, *wanted})
        if _words(wanted.get(path)) != _words(have.get(path))
    ]
    if problems:
        raise UserError(
            f"{folder} does not fit this model", problems, fix="choose another --workdir"
        )
    return jax.tree.unflatten(jax.tree.structure(like), [have[path] for path in wanted])


def _words(array: AnyArray | jax.ShapeDtypeStruct | None) -> str:
    return "none" if array is None else f"{tuple(array.shape)} {array.dtype}"
