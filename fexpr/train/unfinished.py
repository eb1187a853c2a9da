"""The saved state of an unfinished run's trials, by the folders of its checkpoints."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from fexpr.errors import UserError
from fexpr.storage import bounded, mirror, run
from fexpr.terminal import say
from fexpr.train import distributed

OF_TRIALS = re.compile("trials_([0-9]{1,9})-([0-9]{1,9})")


@dataclasses.dataclass(frozen=True)
class Saved:
    """The saved state of these trials in a folder of an unfinished run: their final part after
    training (`done`), or their state at a position.
    """

    trials: range
    position: int
    done: bool


def saved_trials(run_dir: Path) -> list[range]:
    """The trials of each folder of an unfinished run, by the first; nothing is read."""
    found = _list_folders(run_dir) if distributed.is_main_process() else []
    pairs = distributed.broadcast_from_main([[r.start, r.stop] for r in found])
    return [range(*pair) for pair in pairs]


def _list_folders(run_dir: Path) -> list[range]:
    folder = Path(run_dir) / run.CHECKPOINTS / run.RESUME
    paths = folder.glob("trials_*") if bounded.is_folder(folder) else ()
    found, strange = [], []
    for path in bounded.folders_among(paths):
        match = OF_TRIALS.fullmatch(path.name)
        trials = range(int(match[1]), int(match[2]) + 1) if match else range(0)
        if trials and path.name == run.resume_folder(run_dir, trials).name:
            found.append(trials)
        else:
            strange.append(path.name)
    if strange:
        raise UserError(
            f"{folder} contains folders that no run has written", strange, "rename or remove them"
        )
    return sorted(found, key=lambda trials: (trials[0], trials[-1]))


def find_saved(run_dir: Path, owner: str = "") -> list[Saved]:
    """The saved state of an unfinished run: the newest intact checkpoint of each folder. A damaged
    one is deleted if another beside it is intact, and this is printed.

    Args:
      owner: as in Checkpoints; '': whose the checkpoints are is not compared.

    Raises:
      UserError: the checkpoints of a folder are all damaged, or cannot be read, or were saved by
        another run.
    """
    found = distributed.run_on_main_process(
        lambda: [_newest(run_dir, trials, owner) for trials in _list_folders(run_dir)]
    )
    plain = [(s.trials.start, s.trials.stop, s.position, s.done) for s in found or () if s]
    return [
        Saved(range(first, end), position, done)
        for first, end, position, done in distributed.broadcast_from_main(plain)
    ]


def _newest(run_dir: Path, trials: range, owner: str) -> Saved | None:
    from fexpr.train import checkpoint  # Orbax, which takes a third of a second

    folder, damaged, intact = run.resume_folder(run_dir, trials), [], []
    if bounded.is_folder(folder / run.DONE):
        _check_owner(folder / run.DONE, trials, owner)
        return Saved(trials, 0, True)
    steps = sorted((int(p.name) for p in folder.glob("*") if p.name.isdecimal()), reverse=True)
    for step in steps:
        try:
            checkpoint.read(folder / str(step))
            intact.append(step)
        except UserError as e:
            damaged.append((step, e))
    if intact:
        _check_owner(folder / str(intact[0]), trials, owner)
        for step, error in damaged:  # older ones too, which Orbax would stumble over
            say(f"damaged    {error.title}; another checkpoint is intact and is used")
            mirror.remove(folder / str(step))
        return Saved(trials, intact[0], False)
    if damaged:
        raise UserError(
            f"no checkpoint in {folder} is complete",
            [line for _, e in damaged for line in (e.title, *e.problems[:3])],
            fix="copy the run directory again from an intact copy, or delete "
            f"{folder} to train these trials from the first epoch",
        )
    return None


def find_done(run_dir: Path, owner: str = "") -> dict[int, range]:
    """The finished chunks of a run directory: their trials by the number of the first; of several
    with the same first trial, the longest. `owner` as in `find_saved`.

    Raises:
      UserError: a chunk is damaged, or was saved by another run.
    """
    done = distributed.run_on_main_process(lambda: _done(run_dir, owner)) or []
    return {first: range(first, end) for first, end in distributed.broadcast_from_main(done)}


def _done(run_dir: Path, owner: str) -> list[list[int]]:
    found = []
    for trials in _list_folders(run_dir):
        folder = run.resume_folder(run_dir, trials) / run.DONE
        if bounded.is_folder(folder):
            _check_owner(folder, trials, owner)
            found.append([trials.start, trials.stop])
    return found


def _check_owner(folder: Path, trials: range, owner: str) -> None:
    """Raises a UserError if a checkpoint was saved by another run, for other trials or at another
    position (older versions recorded none of them), or is damaged.
    """
    from fexpr.train import checkpoint

    with checkpoint.reading_errors(folder, checkpoint.retrain(folder)):
        about = checkpoint.read_about(folder)
        first, end = map(int, about.get(checkpoint.OF_THESE, (trials.start, trials.stop)))
        position = about.get(checkpoint.POSITION)
    problems = []
    if owner and about.get(checkpoint.OWNER, owner) != owner:
        problems.append("it was saved by a run of another config or other data")
    if (first, end) != (trials.start, trials.stop):
        problems.append(f"it was saved for the trials {first} to {end - 1}")
    if position is not None and str(position) != folder.name:
        problems.append(f"it was saved at the position {position}")
    if problems:
        raise UserError(
            f"{folder} does not belong to this run, or not in this place",
            problems,
            "copy the run directory again from an intact copy, or " + checkpoint.retrain(folder),
        )
